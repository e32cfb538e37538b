//! Requests to the broker thread: a mailbox for each shard and one for operators, and one waker for all of
//! them.
//!
//! The mailboxes take turns, one request each. So nobody's requests wait behind those of others, however many
//! these are, and one mailbox can be left alone while the others go on.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::base::mailbox::{Receiver, Sender, Wake, weighed_mailbox};
use crate::config::Limits;
use crate::domain::mail::{Request, ShardId};

/// The least room of each mailbox, in requests.
const ROOM_MIN: usize = 16;

/// The broker thread's end of its mailboxes.
#[derive(Debug)]
pub struct Inlet {
    /// Those of the shards, in the order of their numbers, then that of operators.
    mailboxes: Vec<Receiver<Request>>,
    /// Which mailbox has its turn.
    next: usize,
    wake: Arc<Notify>,
}

/// The sending ends.
#[derive(Debug)]
pub struct RequestSenders {
    /// In the order of the shards' numbers.
    pub shards: Vec<Sender<Request>>,
    /// For the control thread, and other senders that are not shards.
    pub operators: Sender<Request>,
}

/// The sender of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Requester {
    Shard(ShardId),
    Operators,
}

struct InletWaker(Arc<Notify>);

impl Wake for InletWaker {
    fn wake(&self) {
        // A permit is kept if nobody sleeps, so that no wake-up is lost.
        self.0.notify_one();
    }
}

/// The broker thread's mailboxes. Each has an equal part of what `limits` allow for requests, and room for at
/// least one that is as large as a frame.
#[must_use]
pub fn inlet(limits: &Limits, shards: ShardId) -> (RequestSenders, Inlet) {
    let wake = Arc::new(Notify::new());
    let parts = usize::from(shards) + 1;
    let mailbox = || {
        let waker = Box::new(InletWaker(Arc::clone(&wake)));
        let room = (limits.requests / parts).max(ROOM_MIN);
        let bytes = (limits.requests_bytes / parts).max(limits.frame_bytes);
        weighed_mailbox(room, bytes, Request::weight, waker)
    };
    let (operators, last) = mailbox();
    let (shards, mut mailboxes): (_, Vec<_>) = (0..shards).map(|_| mailbox()).unzip();
    mailboxes.push(last);
    (RequestSenders { shards, operators }, Inlet { mailboxes, next: 0, wake })
}

impl Inlet {
    /// Announces that the broker thread is about to look: the next request wakes it again.
    pub(super) fn rearm(&mut self) {
        self.mailboxes.iter_mut().for_each(Receiver::rearm);
    }

    /// Returns when a request has come since the last call of `rearm`.
    pub(super) async fn rung(&self) {
        self.wake.notified().await;
    }

    /// Number of waiting requests.
    pub(super) fn len(&self) -> usize {
        self.mailboxes.iter().map(Receiver::len).sum()
    }

    /// Whether a request waits from a requester that may ask.
    pub(super) fn has(&self, may_ask: impl Fn(Requester) -> bool) -> bool {
        let mut all = self.mailboxes.iter().enumerate();
        all.any(|(at, mailbox)| !mailbox.is_empty() && may_ask(self.requester(at)))
    }

    /// The next request from a requester that may ask.
    pub(super) fn take(&mut self, may_ask: impl Fn(Requester) -> bool) -> Option<(Requester, Request)> {
        for _ in 0..self.mailboxes.len() {
            let at = self.next;
            self.next = (at + 1) % self.mailboxes.len();
            let requester = self.requester(at);
            if may_ask(requester)
                && let Some(request) = self.mailboxes[at].take()
            {
                return Some((requester, request));
            }
        }
        None
    }

    fn requester(&self, at: usize) -> Requester {
        let is_last = at + 1 == self.mailboxes.len();
        ShardId::try_from(at).ok().filter(|_| !is_last).map_or(Requester::Operators, Requester::Shard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(inlet: &mut Inlet, may_ask: impl Fn(Requester) -> bool) -> Vec<Requester> {
        std::iter::from_fn(|| inlet.take(&may_ask)).map(|(requester, _)| requester).collect()
    }

    #[test]
    fn all_take_turns_and_one_may_be_left_alone() {
        let (senders, mut inlet) = inlet(&Limits::default(), 2);
        assert!(!inlet.has(|_| true));
        for _ in 0..3 {
            senders.shards[0].push(Request::Stop).unwrap();
        }
        senders.shards[1].push(Request::Stop).unwrap();
        senders.operators.push(Request::Stop).unwrap();
        assert_eq!(inlet.len(), 5);
        let [first, second] = [0, 1].map(Requester::Shard);
        assert!(
            inlet.has(|requester| requester == first)
                && inlet.has(|requester| requester == Requester::Operators)
        );
        let all = taken(&mut inlet, |requester| requester != second);
        assert_eq!(all, [first, Requester::Operators, first, first]);
        assert!(inlet.has(|_| true) && !inlet.has(|requester| requester != second));
        assert_eq!(taken(&mut inlet, |_| true), [second]);
    }

    #[test]
    fn nobody_takes_the_room_of_another() {
        let limits = Limits { requests: 100, ..Limits::default() };
        let (senders, inlet) = inlet(&limits, 3);
        while senders.shards[1].push(Request::Stop).is_ok() {}
        assert_eq!((inlet.len(), senders.shards[0].room(), senders.operators.room()), (25, 25, 25));
        let (senders, _) = super::inlet(&limits, 50);
        assert_eq!(senders.operators.room(), ROOM_MIN);
    }
}
