//! Mail on its way to the shards. While a shard takes it, it goes straight into the mailbox; else it waits
//! here, in order. The broker listens to no backplane while anything waits, so what gathers here is bounded:
//! the batches of one turn, and answers to requests, of which each client has a limited number.

use std::collections::VecDeque;

use crate::mail::{Mail, ShardId};
use crate::mailbox::Sender;

#[derive(Debug)]
struct Road {
    mailbox: Sender<Mail>,
    waiting: VecDeque<Mail>,
    /// Something was put into the mailbox that the shard was not woken for yet.
    unannounced: bool,
}

/// The outbox.
#[derive(Debug)]
pub(super) struct Outbox {
    roads: Vec<Road>,
    waiting: usize,
}

impl Outbox {
    /// An empty one for these mailboxes, by the numbers of their shards.
    pub(super) fn new(mailboxes: Vec<Sender<Mail>>) -> Self {
        let road = |mailbox| Road { mailbox, waiting: VecDeque::new(), unannounced: false };
        Self { roads: mailboxes.into_iter().map(road).collect(), waiting: 0 }
    }

    /// Sends a mail. [`Outbox::notify`] must follow.
    pub(super) fn mail(&mut self, shard: ShardId, mail: Mail) {
        let road = &mut self.roads[usize::from(shard)];
        let refused = if road.waiting.is_empty() { road.mailbox.push(mail).err() } else { Some(mail) };
        road.unannounced = true;
        if let Some(mail) = refused {
            road.waiting.push_back(mail);
            self.waiting += 1;
        }
    }

    /// Sends a mail to every shard.
    pub(super) fn mail_all(&mut self, mut mail: impl FnMut() -> Mail) {
        for shard in 0..self.shards() {
            self.mail(shard, mail());
        }
    }

    /// Wakes the shards that have new mail, each once.
    pub(super) fn notify(&mut self) {
        for road in &mut self.roads {
            if std::mem::take(&mut road.unannounced) {
                road.mailbox.notify();
            }
        }
    }

    /// Puts what waits into the mailboxes that have room again.
    pub(super) fn retry(&mut self) {
        for road in &mut self.roads {
            while let Some(mail) = road.waiting.pop_front() {
                if let Err(mail) = road.mailbox.push(mail) {
                    road.waiting.push_front(mail);
                    break;
                }
                road.unannounced = true;
                self.waiting -= 1;
            }
        }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// How many mails wait.
    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    /// How many shards there are.
    pub(super) fn shards(&self) -> ShardId {
        ShardId::try_from(self.roads.len()).unwrap_or(ShardId::MAX)
    }
}
