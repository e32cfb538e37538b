//! Mail that does not fit into a shard's mailbox waits here, in order. While mail waits, the broker thread
//! consumes nothing more, so back-pressure ends in RabbitMQ.

use std::collections::VecDeque;

use crate::base::mailbox::Sender;
use crate::domain::mail::{Mail, ShardId};

use super::inlet::Requester;

/// Capacity for mails that a queue keeps when it is empty.
const KEPT_CAPACITY: usize = 1024;

/// Requests of one shard, or of operators, that are answered while their answers have to wait, until nothing
/// waits.
const ASKED_MAX: usize = 512;

/// All shards' mailboxes and the mail that waits for them.
#[derive(Debug)]
pub(super) struct Outbox {
    outlets: Vec<Outlet>,
    waiting: usize,
    /// Bytes of waiting mail.
    bytes: usize,
    /// Bytes of mail that may wait for one shard before its requests are no longer taken.
    share: usize,
    /// Requests of operators whose answers had to wait, since nothing waited.
    asked_by_operators: usize,
}

/// Which shards get mail because of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recipients {
    Nobody,
    Shard(ShardId),
    All,
}

#[derive(Debug)]
struct Outlet {
    mailbox: Sender<Mail>,
    waiting: VecDeque<Mail>,
    bytes: usize,
    /// Requests whose answers had to wait here, since nothing waited for any shard.
    asked: usize,
    /// Whether mail was put in since the shard was last woken.
    pushed: bool,
    /// Whether the shard has ended.
    closed: bool,
}

impl Outbox {
    /// An empty outbox for these shards. `share`: bytes of mail that may wait for one shard before its
    /// requests are no longer taken.
    pub(super) fn new(mailboxes: Vec<Sender<Mail>>, share: usize) -> Self {
        let outlets = mailboxes.into_iter().map(|mailbox| Outlet {
            mailbox,
            waiting: VecDeque::new(),
            bytes: 0,
            asked: 0,
            pushed: false,
            closed: false,
        });
        Self { outlets: outlets.collect(), waiting: 0, bytes: 0, share, asked_by_operators: 0 }
    }

    /// Sends a mail, or keeps it until there is room. Mail to a shard that does not exist or has ended is
    /// dropped, because operators may name any shard.
    pub(super) fn push(&mut self, shard: ShardId, mail: Mail) {
        let Some(outlet) = self.outlets.get_mut(usize::from(shard)).filter(|outlet| !outlet.closed) else {
            return;
        };
        if let Err(mail) = outlet.put(mail) {
            let weight = mail.weight();
            self.bytes += weight;
            outlet.bytes += weight;
            outlet.waiting.push_back(mail);
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
        let ids = (0..).zip(&self.outlets);
        ids.filter(|(_, outlet)| !outlet.closed).map(|(shard, _)| shard).collect()
    }

    /// Counts a request that is about to be answered, if its answer has to wait behind other mail.
    pub(super) fn count_request(&mut self, requester: Requester, recipients: Recipients) {
        let waits = match recipients {
            Recipients::Nobody => false,
            Recipients::Shard(shard) => {
                self.outlets.get(usize::from(shard)).is_some_and(|outlet| !outlet.waiting.is_empty())
            }
            Recipients::All => self.waiting > 0,
        };
        let asked = match requester {
            Requester::Shard(shard) => {
                self.outlets.get_mut(usize::from(shard)).map(|outlet| &mut outlet.asked)
            }
            Requester::Operators => Some(&mut self.asked_by_operators),
        };
        if let Some(asked) = asked {
            *asked += usize::from(waits);
        }
    }

    /// Whether a requester is answered now.
    ///
    /// While any mail waits, the number of requests whose answers have to wait too is limited for each requester. So the
    /// waiting mail comes to an end however much is asked, and messages are taken again. Each shard has a share of the
    /// bytes, so that none takes the room of others; a single waiting mail may exceed it.
    pub(super) fn may_ask(&self, requester: Requester) -> bool {
        match requester {
            Requester::Shard(shard) => self.outlets.get(usize::from(shard)).is_none_or(|outlet| {
                outlet.asked < ASKED_MAX && (outlet.bytes < self.share || outlet.waiting.len() < 2)
            }),
            Requester::Operators => self.asked_by_operators < ASKED_MAX,
        }
    }

    /// Sends waiting mail, as far as there is room. Mail for a shard that has ended is dropped.
    pub(super) fn retry(&mut self) {
        for outlet in &mut self.outlets {
            if !outlet.waiting.is_empty() && outlet.mailbox.is_abandoned() {
                let (waiting, bytes) = outlet.close();
                self.waiting -= waiting;
                self.bytes -= bytes;
            }
            while let Some(mail) = outlet.waiting.pop_front() {
                let weight = mail.weight();
                if let Err(mail) = outlet.mailbox.push(mail) {
                    outlet.waiting.push_front(mail);
                    break;
                }
                outlet.pushed = true;
                outlet.bytes -= weight;
                self.waiting -= 1;
                self.bytes -= weight;
            }
            // A burst must not leave its capacity behind.
            if outlet.waiting.is_empty() && outlet.waiting.capacity() > KEPT_CAPACITY {
                outlet.waiting = VecDeque::new();
            }
        }
        self.forget_requests();
    }

    fn forget_requests(&mut self) {
        if self.is_empty() {
            self.asked_by_operators = 0;
            self.outlets.iter_mut().for_each(|outlet| outlet.asked = 0);
        }
    }

    /// Wakes every shard that got mail, once.
    pub(super) fn notify(&mut self) {
        for outlet in self.outlets.iter_mut().filter(|outlet| outlet.pushed) {
            outlet.pushed = false;
            outlet.mailbox.notify();
        }
    }

    /// Records that a shard has ended, and drops its waiting mail.
    pub(super) fn close(&mut self, shard: ShardId) {
        if let Some(outlet) = self.outlets.get_mut(usize::from(shard)) {
            let (waiting, bytes) = outlet.close();
            self.waiting -= waiting;
            self.bytes -= bytes;
        }
        self.forget_requests();
    }

    /// Mails that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    /// Bytes of publications and answers in them.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether no mail waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }
}

impl Outlet {
    /// Drops waiting mail, and accepts no more. Returns its number and bytes.
    fn close(&mut self) -> (usize, usize) {
        (self.closed, self.asked) = (true, 0);
        (std::mem::take(&mut self.waiting).len(), std::mem::take(&mut self.bytes))
    }

    /// Puts a mail into the mailbox, unless others wait before it or there is no room.
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
    use crate::base::mailbox::{Receiver, Wake, mailbox};
    use crate::domain::mail::{Lines, TopicSlot};
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
        let mut outbox = Outbox::new(vec![sender], 1000);
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
        let mut outbox = Outbox::new(vec![sender], 1000);
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
        let outlets = [1, 1, 9].map(|room| mailbox(room, Box::new(Count(Arc::default()))));
        let (senders, mut inboxes): (_, Vec<_>) = outlets.into_iter().unzip();
        let mut outbox = Outbox::new(senders, 1000);
        let requesters = [
            Requester::Shard(0),
            Requester::Shard(1),
            Requester::Shard(2),
            Requester::Shard(9),
            Requester::Operators,
        ];
        let ask = |outbox: &mut Outbox| {
            for requester in requesters {
                let recipients = match requester {
                    Requester::Shard(shard) => Recipients::Shard(shard),
                    Requester::Operators => Recipients::All,
                };
                (0..ASKED_MAX).for_each(|_| outbox.count_request(requester, recipients));
            }
            requesters.map(|requester| outbox.may_ask(requester))
        };
        assert_eq!(ask(&mut outbox), [true; 5]);
        (0..2).for_each(|slot| outbox.push(0, attached(slot)));
        assert_eq!(ask(&mut outbox), [false, true, true, true, false]);
        (0..2).for_each(|slot| outbox.push(1, attached(slot)));
        inboxes[0].take();
        outbox.retry();
        assert_eq!(ask(&mut outbox), [false, false, true, true, false], "the other one's mail waits still");
        outbox.close(1);
        assert_eq!((outbox.len(), ask(&mut outbox)), (0, [true; 5]));
        outbox.push(0, attached(2));
        (0..ASKED_MAX).for_each(|_| outbox.count_request(Requester::Shard(2), Recipients::Shard(0)));
        assert_eq!(
            [0, 2].map(|shard| outbox.may_ask(Requester::Shard(shard))),
            [true, false],
            "who asks counts"
        );
        // Nobody takes it any more.
        inboxes.remove(0);
        outbox.retry();
        assert_eq!((outbox.len(), outbox.may_ask(Requester::Shard(2)), outbox.shards()), (0, true, vec![2]));
    }

    #[test]
    fn a_shard_whose_large_mail_waits_asks_nothing_until_it_has_taken_some() {
        let outlets = [1, 1].map(|room| mailbox(room, Box::new(Count(Arc::default()))));
        let (senders, mut inboxes): (_, Vec<_>) = outlets.into_iter().unzip();
        let mut outbox = Outbox::new(senders, 1000);
        let large = || {
            let lines = Lines {
                bytes: Arc::new(vec![b'x'; 600]),
                count: 1,
                plain_bytes: 600,
                offset: 1,
                keyed: None,
            };
            Mail::Batch { topic: TopicSlot(0), lines }
        };
        let may_ask = |outbox: &Outbox| [0, 1].map(|shard| outbox.may_ask(Requester::Shard(shard)));
        (0..3).for_each(|_| outbox.push(0, large()));
        assert_eq!((outbox.bytes(), may_ask(&outbox)), (2 * large().weight(), [false, true]));
        inboxes[0].take();
        outbox.retry();
        assert_eq!((outbox.bytes(), may_ask(&outbox)), (large().weight(), [true, true]));
        outbox.close(0);
        assert_eq!(outbox.bytes(), 0);
    }
}
