//! The way out to the shards. What does not fit into a shard's mailbox waits here, in order; while anything
//! waits, the broker thread consumes nothing more, so that the wait ends in RabbitMQ.

use std::collections::VecDeque;

use crate::mail::{Mail, ShardId};
use crate::mailbox::Sender;

/// Mails whose room a door keeps when none waits any more.
const KEPT_CAPACITY: usize = 1024;

/// All shards' mailboxes and what waits for them.
#[derive(Debug)]
pub(super) struct Outbox {
    doors: Vec<Door>,
    waiting: usize,
    /// Bytes of what waits.
    bytes: usize,
    /// Requests whose answers were to wait, since nothing waited.
    asked: usize,
}

/// Whose mailboxes the answer to a request goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recipients {
    Nobody,
    Shard(ShardId),
    All,
}

#[derive(Debug)]
struct Door {
    mailbox: Sender<Mail>,
    waiting: VecDeque<Mail>,
    /// Whether mail was put in since the shard was woken last.
    pushed: bool,
    /// Whether the shard has ended and reads no more.
    closed: bool,
}

impl Outbox {
    /// An empty outbox for these shards.
    pub(super) fn new(mailboxes: Vec<Sender<Mail>>) -> Self {
        let doors = mailboxes.into_iter().map(|mailbox| Door {
            mailbox,
            waiting: VecDeque::new(),
            pushed: false,
            closed: false,
        });
        Self { doors: doors.collect(), waiting: 0, bytes: 0, asked: 0 }
    }

    /// Sends a mail, or keeps it until there is room. Mail to a shard that does not exist, or has ended, is
    /// dropped: operators may name any.
    pub(super) fn push(&mut self, shard: ShardId, mail: Mail) {
        let Some(door) = self.doors.get_mut(usize::from(shard)).filter(|door| !door.closed) else { return };
        if let Err(mail) = door.put(mail) {
            self.bytes += mail.weight();
            door.waiting.push_back(mail);
            self.waiting += 1;
        }
    }

    /// Sends a mail to every shard.
    pub(super) fn push_to_all(&mut self, mail: impl Fn() -> Mail) {
        for shard in self.shards() {
            self.push(shard, mail());
        }
    }

    /// The shards that have not ended.
    pub(super) fn shards(&self) -> Vec<ShardId> {
        let ids = (0..).zip(&self.doors);
        ids.filter(|(_, door)| !door.closed).map(|(shard, _)| shard).collect()
    }

    /// Counts a request that is about to be answered, if its answer has to wait behind others.
    pub(super) fn count_request(&mut self, recipients: Recipients) {
        let waits = match recipients {
            Recipients::Nobody => false,
            Recipients::Shard(shard) => {
                self.doors.get(usize::from(shard)).is_some_and(|door| !door.waiting.is_empty())
            }
            Recipients::All => self.waiting > 0,
        };
        self.asked += usize::from(waits);
    }

    /// Requests whose answers were to wait, since nothing waited. While that is bounded, the wait ends, however much is
    /// asked.
    pub(super) fn asked(&self) -> usize {
        self.asked
    }

    /// Sends what waits, as far as there is room. What waits for a shard that has ended is dropped.
    pub(super) fn retry(&mut self) {
        for door in &mut self.doors {
            if !door.waiting.is_empty() && door.mailbox.is_abandoned() {
                let (waiting, bytes) = door.close();
                self.waiting -= waiting;
                self.bytes -= bytes;
            }
            while let Some(mail) = door.waiting.pop_front() {
                let weight = mail.weight();
                if let Err(mail) = door.mailbox.push(mail) {
                    door.waiting.push_front(mail);
                    break;
                }
                door.pushed = true;
                self.waiting -= 1;
                self.bytes -= weight;
            }
            // A burst must not leave its capacity behind.
            if door.waiting.is_empty() && door.waiting.capacity() > KEPT_CAPACITY {
                door.waiting = VecDeque::new();
            }
        }
        self.forget_requests();
    }

    fn forget_requests(&mut self) {
        if self.is_empty() {
            self.asked = 0;
        }
    }

    /// Wakes every shard that mail was put in for, once.
    pub(super) fn notify(&mut self) {
        for door in self.doors.iter_mut().filter(|door| door.pushed) {
            door.pushed = false;
            door.mailbox.notify();
        }
    }

    /// A shard has ended: what waits for it is dropped.
    pub(super) fn close(&mut self, shard: ShardId) {
        if let Some(door) = self.doors.get_mut(usize::from(shard)) {
            let (waiting, bytes) = door.close();
            self.waiting -= waiting;
            self.bytes -= bytes;
        }
        self.forget_requests();
    }

    /// Mails that wait for room.
    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    /// Bytes of publications and answers in them.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether everything is handed over.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }
}

impl Door {
    /// Drops what waits, and takes nothing more. Returns how many mails that were, and their bytes.
    fn close(&mut self) -> (usize, usize) {
        self.closed = true;
        let dropped = std::mem::take(&mut self.waiting);
        (dropped.len(), dropped.iter().map(Mail::weight).sum())
    }

    /// Puts a mail into the mailbox, unless others have to go first or there is no room.
    fn put(&mut self, mail: Mail) -> Result<(), Mail> {
        if !self.waiting.is_empty() {
            return Err(mail);
        }
        self.mailbox.push(mail)?;
        self.pushed = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::TopicSlot;
    use crate::mailbox::{Receiver, Wake, mailbox};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Count(Arc<AtomicUsize>);
    impl Wake for Count {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn attached(slot: u32) -> Mail {
        Mail::Attached { topic: TopicSlot(slot), position: None }
    }

    fn slots(inbox: &mut Receiver<Mail>) -> Vec<u32> {
        let slot = |mail| match mail {
            Mail::Attached { topic, .. } => topic.0,
            other => panic!("{other:?}"),
        };
        std::iter::from_fn(|| inbox.take()).map(slot).collect()
    }

    #[test]
    fn what_does_not_fit_waits_in_order_and_wakes_once() {
        let woken = Arc::new(AtomicUsize::new(0));
        let (sender, mut inbox) = mailbox(2, Box::new(Count(Arc::clone(&woken))));
        let mut outbox = Outbox::new(vec![sender]);
        (0..5).for_each(|slot| outbox.push(0, attached(slot)));
        outbox.notify();
        assert_eq!((outbox.len(), woken.load(Ordering::Relaxed)), (3, 1));
        inbox.rearm();
        assert_eq!(slots(&mut inbox), [0, 1]);
        // There is room now, but those who wait go first.
        outbox.push(0, attached(5));
        assert!(inbox.is_empty());
        outbox.retry();
        outbox.notify();
        assert_eq!((slots(&mut inbox), woken.load(Ordering::Relaxed)), (vec![2, 3], 2));
        outbox.retry();
        assert_eq!(slots(&mut inbox), [4, 5]);
        assert!(outbox.is_empty());
    }

    #[test]
    fn nobody_waits_for_a_shard_that_ended_or_never_was() {
        let (sender, mut inbox) = mailbox(1, Box::new(Count(Arc::default())));
        let mut outbox = Outbox::new(vec![sender]);
        outbox.push(7, attached(0));
        assert!(outbox.is_empty());
        (0..3).for_each(|slot| outbox.push(0, attached(slot)));
        outbox.close(0);
        outbox.push(0, attached(3));
        outbox.push_to_all(|| attached(4));
        assert!(outbox.is_empty());
        assert_eq!(slots(&mut inbox), [0]);
    }

    #[test]
    fn requests_count_whose_answers_wait_until_nothing_does() {
        let doors = [1, 1, 9].map(|room| mailbox(room, Box::new(Count(Arc::default()))));
        let (senders, mut inboxes): (_, Vec<_>) = doors.into_iter().unzip();
        let mut outbox = Outbox::new(senders);
        let asked = |outbox: &mut Outbox| {
            let all = [Recipients::Shard(0), Recipients::Shard(2), Recipients::Shard(9), Recipients::Nobody];
            all.into_iter().chain([Recipients::All]).for_each(|recipients| outbox.count_request(recipients));
            outbox.asked()
        };
        assert_eq!(asked(&mut outbox), 0);
        (0..2).for_each(|slot| outbox.push(0, attached(slot)));
        (0..2).for_each(|slot| outbox.push(1, attached(slot)));
        assert_eq!(asked(&mut outbox), 2, "of the first, and of all");
        inboxes[0].take();
        outbox.retry();
        assert_eq!(asked(&mut outbox), 3, "the other one's mail waits still");
        outbox.close(1);
        assert_eq!((outbox.len(), outbox.asked()), (0, 0));
        outbox.push(0, attached(2));
        assert_eq!(asked(&mut outbox), 2);
        // Nobody takes it any more.
        inboxes.remove(0);
        outbox.retry();
        assert_eq!((outbox.len(), outbox.asked(), outbox.shards()), (0, 0, vec![2]));
    }
}
