//! Letters that RabbitMQ has not confirmed: kept whatever becomes of the connection, and sent again until
//! they are confirmed or their time is over. No clock and no socket.
//!
//! A letter keeps its `message-id`, by which whoever gets it twice knows it. Letters leave in the order in
//! which they came, and over a new connection so again. Of a topic of which a letter could not be stored nothing
//! leaves for a while, so that the order stays; other topics do not wait for it.
//!
//! RabbitMQ refuses for good (no permission, a property that it does not take) by closing the channel, and does not
//! say which letter it meant. So those that were under way are suspects: over the next connections, until each of them
//! is settled, letters leave one at a time, and the one that was alone under way when the channel was closed has
//! failed. It costs two connections, and the others some time.
//!
//! What a burial carries may be nowhere else, so that one of which nothing is heard does not fail: RabbitMQ is away, or
//! takes nothing while it is short of memory. When its time is over its tag need not wait any longer, lest
//! undeliverable messages keep others from coming; the letter itself goes on, over the next connection too. A burial
//! fails when RabbitMQ would not store it until its time was over, and when too many wait.
//!
//! A letter whose time is over may have been stored all the same: its confirm may have been lost, or come
//! later. Nobody can know, so that "failed" means "not known to be safe". Sending it once more with the same
//! `message-id` is harmless.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lapin::types::ShortString;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::mail::Asker;

use super::publisher::{Letter, Report, Unconfirmed};

type Outcome = Result<(), Unconfirmed>;

/// How long a topic rests after one of its letters could not be stored: long enough not to keep a RabbitMQ busy that
/// is out of room, short enough to be tried dozens of times within `timeouts.publish`.
const REST: Duration = Duration::from_millis(100);

/// Why a letter was sent.
#[derive(Debug)]
pub(super) enum Purpose {
    /// Somebody published, and waits for the answer.
    Publish(Asker),
    /// A message could not be delivered; it is acknowledged when it is safe elsewhere. Without a tag, it came by a
    /// link that is gone.
    Burial { tag: Option<u64> },
}

impl Purpose {
    fn settled(self, outcome: Outcome) -> Settled {
        match self {
            Self::Publish(asker) => Settled::Publish(asker, outcome),
            Self::Burial { tag } => Settled::Burial { tag, outcome },
        }
    }
}

/// What has to be told of a letter.
#[derive(Debug)]
pub(super) enum Settled {
    Publish(Asker, Outcome),
    /// Without a tag, nothing waits for it.
    Burial {
        tag: Option<u64>,
        outcome: Outcome,
    },
    /// A burial is not safe yet, and goes on; this must not wait for it any longer.
    Released {
        tag: u64,
    },
}

/// All letters that nobody has been told about.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// From when a letter comes until it fails.
    limit: Duration,
    /// How many there may be, besides [`Self::overdue`].
    room: usize,
    /// How many of those.
    overdue_room: usize,
    next: u64,
    /// By number: in the order in which they came, which is that in which their time ends.
    open: BTreeMap<u64, Open>,
    /// Burials whose time is over, and of which nothing was heard.
    overdue: BTreeMap<u64, Arc<Letter>>,
    /// Those that should leave now.
    due: BTreeSet<u64>,
    /// Burials without a connection, and whether RabbitMQ may have refused them.
    waiting: Vec<(Arc<Letter>, bool)>,
    /// Those that have left, and of which nothing was heard.
    under_way: BTreeSet<u64>,
    /// One of these was refused for good.
    suspects: BTreeSet<u64>,
    /// Those that wait because a letter of their topic could not be stored.
    resting: FxHashMap<ShortString, BTreeSet<u64>>,
    /// When which topic has rested, in that order.
    rests: VecDeque<(Instant, ShortString)>,
    /// Those whose time ended while they were under way: the client library still keeps them.
    late: FxHashSet<u64>,
}

#[derive(Debug)]
struct Open {
    purpose: Purpose,
    letter: Arc<Letter>,
    until: Instant,
    /// RabbitMQ has said that it could not store it (`basic.nack`).
    was_nacked: bool,
}

impl Outgoing {
    /// Each letter has `limit` to be confirmed; publishes fit in while there are fewer than `room`, and of burials
    /// `overdue_room` may wait for longer.
    pub(super) fn new(limit: Duration, room: usize, overdue_room: usize) -> Self {
        Self {
            limit,
            room,
            overdue_room,
            next: 0,
            open: BTreeMap::new(),
            overdue: BTreeMap::new(),
            due: BTreeSet::new(),
            waiting: Vec::new(),
            under_way: BTreeSet::new(),
            suspects: BTreeSet::new(),
            resting: FxHashMap::default(),
            rests: VecDeque::new(),
            late: FxHashSet::default(),
        }
    }

    /// Whether one more publish may come.
    pub(super) fn has_room(&self) -> bool {
        self.open.len() + self.late.len() < self.room
    }

    /// Takes a letter.
    pub(super) fn add(&mut self, purpose: Purpose, letter: Letter, now: Instant) {
        self.enter(purpose, Arc::new(letter), now);
    }

    fn enter(&mut self, purpose: Purpose, letter: Arc<Letter>, now: Instant) -> u64 {
        let number = self.next;
        self.next += 1;
        let open = Open { purpose, letter, until: now + self.limit, was_nacked: false };
        match self.resting.get_mut(&open.letter.routing_key) {
            Some(resting) => resting.insert(number),
            None => self.due.insert(number),
        };
        self.open.insert(number, open);
        number
    }

    /// The letter to send next, with its number. It is under way from then on.
    pub(super) fn leave(&mut self) -> Option<(u64, Arc<Letter>)> {
        if !self.suspects.is_empty() && !self.under_way.is_empty() {
            return None;
        }
        let number = self.due.pop_first()?;
        let open = self.open.get(&number).map(|open| &open.letter);
        let letter = open.or_else(|| self.overdue.get(&number)).expect("what is due is open, or overdue");
        self.under_way.insert(number);
        Some((number, Arc::clone(letter)))
    }

    /// Takes RabbitMQ's word about a letter that was under way. If it could not be stored, it rests and is due again.
    pub(super) fn hear(&mut self, Report { number, is_stored }: Report, now: Instant) -> Option<Settled> {
        if self.late.remove(&number) || !self.under_way.remove(&number) {
            return None;
        }
        self.suspects.remove(&number);
        if self.overdue.remove(&number).is_some() {
            let outcome = if is_stored { Ok(()) } else { Err(Unconfirmed::NotStored) };
            return Some(Settled::Burial { tag: None, outcome });
        }
        if is_stored {
            return self.open.remove(&number).map(|open| open.purpose.settled(Ok(())));
        }
        let open = self.open.get_mut(&number)?;
        open.was_nacked = true;
        let topic = open.letter.routing_key.clone();
        self.rest(topic, number, now);
        None
    }

    fn rest(&mut self, topic: ShortString, number: u64, now: Instant) {
        if !self.resting.contains_key(&topic) {
            self.rests.push_back((now + REST, topic.clone()));
        }
        self.resting.entry(topic).or_default().insert(number);
    }

    /// Time has passed: topics have rested, and the time of letters is over, of which is told.
    pub(super) fn pass(&mut self, now: Instant) -> Vec<Settled> {
        while let Some((until, _)) = self.rests.front()
            && *until <= now
            && let Some((_, topic)) = self.rests.pop_front()
        {
            self.due.extend(self.resting.remove(&topic).into_iter().flatten());
        }
        let mut settled = Vec::new();
        while let Some(first) = self.open.first_entry()
            && first.get().until <= now
        {
            let (number, open) = first.remove_entry();
            match open.purpose {
                Purpose::Burial { tag } if self.may_go_on(number, open.was_nacked) => {
                    self.overdue.insert(number, open.letter);
                    settled.extend(tag.map(|tag| Settled::Released { tag }));
                }
                purpose => {
                    self.forget(number, &open.letter);
                    settled.push(purpose.settled(Err(Unconfirmed::Late)));
                }
            }
        }
        settled
    }

    /// Whether a burial may wait beyond its time: not if RabbitMQ has refused it, nor if other letters wait for the
    /// word on it.
    fn may_go_on(&self, number: u64, was_nacked: bool) -> bool {
        let is_waited_for = !self.suspects.is_empty() && self.under_way.contains(&number);
        self.overdue.len() < self.overdue_room && !was_nacked && !is_waited_for
    }

    /// A letter failed: it must not leave, and what is heard of it is of no interest.
    fn forget(&mut self, number: u64, letter: &Letter) {
        self.suspects.remove(&number);
        if self.under_way.remove(&number) {
            self.late.insert(number);
        } else if let Some(resting) = self.resting.get_mut(&letter.routing_key) {
            resting.remove(&number);
        }
        self.due.remove(&number);
    }

    /// When [`Self::pass`] has something to do next.
    pub(super) fn next_change(&self) -> Option<Instant> {
        let fails = self.open.first_key_value().map(|(_, open)| open.until);
        let rested = self.rests.front().map(|(until, _)| *until);
        fails.into_iter().chain(rested).min()
    }

    /// There is a connection.
    pub(super) fn connection_is_there(&mut self, now: Instant) {
        for (letter, is_suspect) in mem::take(&mut self.waiting) {
            let number = self.enter(Purpose::Burial { tag: None }, letter, now);
            if is_suspect {
                self.suspects.insert(number);
            }
        }
    }

    /// The connection is gone, and with it the tags of all burials. All letters are for the next one; but if it is
    /// gone because RabbitMQ `refused` one, and only one was under way, this has failed, and is returned.
    pub(super) fn connection_is_gone(&mut self, refused: bool) -> Option<Settled> {
        let (mut under_way, late) = (mem::take(&mut self.under_way), mem::take(&mut self.late));
        let guilty = under_way.first().copied().filter(|_| refused && under_way.len() + late.len() == 1);
        let failed = guilty.and_then(|number| {
            self.suspects.remove(&number);
            let overdue = self.overdue.remove(&number).map(|_| Purpose::Burial { tag: None });
            overdue.or_else(|| self.open.remove(&number).map(|open| open.purpose))
        });
        if refused && guilty.is_none() {
            self.suspects.append(&mut under_way);
        }
        for (number, letter) in mem::take(&mut self.overdue) {
            self.waiting.push((letter, self.suspects.remove(&number)));
        }
        for (number, open) in mem::take(&mut self.open) {
            match open.purpose {
                Purpose::Publish(_) => drop(self.open.insert(number, open)),
                Purpose::Burial { .. } => self.waiting.push((open.letter, self.suspects.remove(&number))),
            }
        }
        self.resting.clear();
        self.rests.clear();
        self.due = self.open.keys().copied().collect();
        failed.map(|purpose| purpose.settled(Err(Unconfirmed::Refused)))
    }

    /// Letters that nobody has been told about.
    pub(super) fn len(&self) -> usize {
        self.open.len() + self.overdue.len() + self.waiting.len()
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapin::BasicProperties;
    use tokio::sync::oneshot;

    const LIMIT: Duration = Duration::from_secs(5);

    /// Letters, and a clock that is moved by hand.
    struct Desk {
        outgoing: Outgoing,
        now: Instant,
    }

    impl Desk {
        fn new() -> Self {
            Self { outgoing: Outgoing::new(LIMIT, 4, 4), now: Instant::now() }
        }

        fn add(&mut self, purpose: Purpose, topic: &str) {
            let letter = Letter {
                exchange: "fanfare".into(),
                routing_key: topic.into(),
                body: b"1".to_vec(),
                properties: BasicProperties::default(),
            };
            self.outgoing.add(purpose, letter, self.now);
        }

        fn publish(&mut self, topic: &str) {
            self.add(Purpose::Publish(Asker::Control(oneshot::channel().0)), topic);
        }

        /// The numbers of all that leave now.
        fn leave(&mut self) -> Vec<u64> {
            std::iter::from_fn(|| self.outgoing.leave()).map(|(number, _)| number).collect()
        }

        fn hear(&mut self, number: u64, is_stored: bool) -> Option<Settled> {
            self.outgoing.hear(Report { number, is_stored }, self.now)
        }

        fn wait_for_settled(&mut self, time: Duration) -> Vec<Settled> {
            self.now += time;
            self.outgoing.pass(self.now)
        }

        /// Of how many is told because of it.
        fn wait(&mut self, time: Duration) -> usize {
            self.wait_for_settled(time).len()
        }
    }

    #[test]
    fn what_is_confirmed_is_told_once() {
        let mut desk = Desk::new();
        desk.publish("a");
        assert_eq!(desk.leave(), [0]);
        assert!(matches!(desk.hear(0, true), Some(Settled::Publish(_, Ok(())))));
        assert!(desk.hear(0, true).is_none());
        assert!(desk.outgoing.is_empty() && desk.outgoing.next_change().is_none());
    }

    #[test]
    fn a_refused_letter_leaves_again_before_what_came_later_for_its_topic() {
        let mut desk = Desk::new();
        desk.publish("a");
        assert_eq!(desk.leave(), [0]);
        assert!(desk.hear(0, false).is_none());
        desk.publish("a");
        desk.publish("b");
        assert_eq!(desk.leave(), [2], "another topic does not wait");
        assert_eq!(desk.outgoing.next_change(), Some(desk.now + REST));
        assert_eq!(desk.wait(REST), 0);
        assert_eq!(desk.leave(), [0, 1]);
        assert!(matches!(desk.hear(1, true), Some(Settled::Publish(_, Ok(())))));
        assert!(desk.hear(0, true).is_some());
    }

    #[test]
    fn letters_outlive_the_connection_in_their_order() {
        let mut desk = Desk::new();
        for topic in ["b", "a", "b"] {
            desk.publish(topic);
        }
        assert_eq!(desk.leave(), [0, 1, 2]);
        assert!(desk.hear(1, true).is_some());
        assert!(desk.hear(2, false).is_none());
        assert!(desk.outgoing.connection_is_gone(false).is_none());
        desk.publish("c");
        assert_eq!(desk.leave(), [0, 2, 3]);
        assert_eq!(desk.outgoing.len(), 3);
    }

    #[test]
    fn burials_wait_for_the_next_connection_however_long_but_not_their_tags() {
        let mut desk = Desk::new();
        desk.add(Purpose::Burial { tag: Some(7) }, "a");
        assert_eq!(desk.leave(), [0]);
        assert!(desk.outgoing.connection_is_gone(false).is_none());
        assert_eq!((desk.leave().len(), desk.wait(2 * LIMIT), desk.outgoing.len()), (0, 0, 1));
        desk.outgoing.connection_is_there(desk.now);
        assert_eq!(desk.leave(), [1]);
        assert!(matches!(desk.hear(1, true), Some(Settled::Burial { tag: None, outcome: Ok(()) })));
    }

    #[test]
    fn a_burial_of_which_nothing_is_heard_gives_its_tag_back_and_goes_on() {
        for has_left in [false, true] {
            let mut desk = Desk::new();
            desk.add(Purpose::Burial { tag: Some(7) }, "a");
            let mut left = if has_left { desk.leave() } else { Vec::new() };
            assert!(matches!(desk.wait_for_settled(LIMIT)[..], [Settled::Released { tag: 7 }]));
            assert_eq!((desk.wait(2 * LIMIT), desk.outgoing.next_change()), (0, None));
            left.extend(desk.leave());
            assert_eq!(left, [0], "it leaves once");
            assert!(matches!(desk.hear(0, true), Some(Settled::Burial { tag: None, outcome: Ok(()) })));
            assert!(desk.outgoing.is_empty());
        }
    }

    #[test]
    fn an_overdue_burial_goes_over_the_next_connection_too_and_fails_when_rabbitmq_says_so() {
        let mut desk = Desk::new();
        desk.add(Purpose::Burial { tag: Some(7) }, "a");
        assert_eq!((desk.leave(), desk.wait(LIMIT)), (vec![0], 1));
        assert!(desk.outgoing.connection_is_gone(false).is_none());
        desk.outgoing.connection_is_there(desk.now);
        assert_eq!((desk.leave(), desk.wait(LIMIT)), (vec![1], 0), "it has no tag any more");
        let not_stored = desk.hear(1, false);
        assert!(matches!(not_stored, Some(Settled::Burial { tag: None, outcome: Err(_) })), "{not_stored:?}");
        desk.add(Purpose::Burial { tag: Some(8) }, "a");
        assert_eq!((desk.leave(), desk.wait(LIMIT)), (vec![2], 1));
        let refused = desk.outgoing.connection_is_gone(true);
        assert!(matches!(refused, Some(Settled::Burial { tag: None, outcome: Err(_) })), "{refused:?}");
        assert!(desk.outgoing.is_empty());
    }

    #[test]
    fn burials_fail_in_their_time_if_rabbitmq_cannot_store_them_or_too_many_wait() {
        let mut desk = Desk::new();
        desk.add(Purpose::Burial { tag: Some(7) }, "full");
        assert_eq!((desk.leave(), desk.wait(LIMIT - REST / 2)), (vec![0], 0));
        assert!(desk.hear(0, false).is_none());
        let settled = desk.wait_for_settled(REST / 2);
        assert!(matches!(settled[..], [Settled::Burial { tag: Some(7), outcome: Err(_) }]), "{settled:?}");
        (1..=5).for_each(|tag| desk.add(Purpose::Burial { tag: Some(tag) }, "a"));
        let settled = desk.wait_for_settled(LIMIT);
        let is_released = |settled: &Settled| matches!(settled, Settled::Released { .. });
        assert!(settled[..4].iter().all(is_released), "{settled:?}");
        assert!(matches!(settled[4..], [Settled::Burial { tag: Some(5), outcome: Err(_) }]), "{settled:?}");
        assert_eq!(desk.leave(), [1, 2, 3, 4]);
        assert!(desk.outgoing.has_room(), "they take no room of publishes");
    }

    #[test]
    fn a_burial_that_is_refused_for_good_fails_and_no_other() {
        let mut desk = Desk::new();
        desk.add(Purpose::Burial { tag: Some(7) }, "a");
        desk.add(Purpose::Burial { tag: Some(8) }, "b");
        assert_eq!(desk.leave(), [0, 1]);
        assert!(desk.outgoing.connection_is_gone(true).is_none());
        desk.outgoing.connection_is_there(desk.now);
        assert_eq!(desk.leave(), [2], "suspected, and so alone");
        let refused = desk.outgoing.connection_is_gone(true);
        assert!(matches!(refused, Some(Settled::Burial { outcome: Err(_), .. })), "{refused:?}");
        desk.outgoing.connection_is_there(desk.now);
        assert_eq!(desk.leave(), [4]);
        assert!(desk.hear(4, true).is_some() && desk.outgoing.is_empty());
    }

    /// A RabbitMQ that confirms letters as they come, and closes the channel at those of `refused`; it may be that
    /// the confirms before that are lost. Returns those that it confirmed, how many failed, and the connections.
    fn bring_home(desk: &mut Desk, refused: &[u64], confirms_are_lost: bool) -> (Vec<u64>, usize, usize) {
        let (mut confirmed, mut failed) = (Vec::new(), 0);
        for connection in 1..=20 {
            let is_closed = loop {
                let came = desk.leave();
                if came.is_empty() {
                    break false;
                }
                let taken = came.iter().take_while(|number| !refused.contains(number)).count();
                let is_closed = taken < came.len();
                if !(is_closed && confirms_are_lost) {
                    confirmed
                        .extend(came[..taken].iter().filter(|&&number| desk.hear(number, true).is_some()));
                }
                if is_closed {
                    break true;
                }
            };
            if !is_closed {
                return (confirmed, failed, connection);
            }
            failed += usize::from(desk.outgoing.connection_is_gone(true).is_some());
        }
        panic!("somebody closes the channel for ever");
    }

    #[test]
    fn only_those_fail_that_rabbitmq_closes_the_channel_for_and_each_costs_one_connection_once_suspected() {
        let cases: [(u64, &[u64], usize); 7] = [
            (5, &[], 1),
            (1, &[0], 2),
            (5, &[0], 3),
            (5, &[2], 3),
            (5, &[4], 3),
            (5, &[0, 3], 4),
            (5, &[0, 1, 2, 3, 4], 7),
        ];
        for (letters, refused, connections) in cases {
            for confirms_are_lost in [false, true] {
                let mut desk = Desk::new();
                (0..letters).for_each(|_| desk.publish("a"));
                let came_home = bring_home(&mut desk, refused, confirms_are_lost);
                let innocent = (0..letters).filter(|number| !refused.contains(number)).collect();
                // If the last one is refused and the confirms before it came, it was alone at once.
                let connections = connections - usize::from(refused == [4] && !confirms_are_lost);
                assert_eq!(came_home, (innocent, refused.len(), connections), "{letters} {refused:?}");
                assert!(desk.outgoing.is_empty());
            }
        }
    }

    #[test]
    fn who_is_suspected_leaves_alone_and_who_was_not_alone_has_not_failed() {
        let mut desk = Desk::new();
        ["a", "b"].iter().for_each(|topic| desk.publish(topic));
        assert_eq!(desk.leave(), [0, 1]);
        assert!(desk.outgoing.connection_is_gone(true).is_none());
        desk.publish("c");
        assert_eq!(desk.leave(), [0]);
        assert!(desk.outgoing.connection_is_gone(false).is_none(), "lost for another reason");
        assert_eq!(desk.leave(), [0]);
        assert!(desk.hear(0, false).is_none(), "it was not refused for good");
        assert_eq!(desk.leave(), [1]);
        assert_eq!(desk.wait(LIMIT), 3, "its time is over");
        ["d", "e"].iter().for_each(|topic| desk.publish(topic));
        assert_eq!(desk.leave(), [3, 4], "nobody is suspected");
        assert!(desk.hear(4, true).is_some());
        assert!(
            desk.outgoing.connection_is_gone(true).is_none(),
            "it may have been the one whose time was over"
        );
        assert_eq!(desk.leave(), [3]);
        assert!(desk.outgoing.connection_is_gone(true).is_some());
    }

    #[test]
    fn time_ends_in_whatever_state_and_what_is_heard_later_counts_for_nothing() {
        let mut desk = Desk::new();
        for topic in ["a", "b", "c"] {
            desk.publish(topic);
        }
        assert_eq!(desk.leave(), [0, 1, 2]);
        assert_eq!(desk.wait(LIMIT - REST / 2), 0);
        assert!(desk.hear(1, false).is_none());
        desk.publish("b");
        assert_eq!(desk.wait(REST / 2), 3, "two under way, one resting");
        assert!(desk.leave().is_empty());
        assert_eq!(desk.wait(REST / 2), 0);
        assert_eq!(desk.leave(), [3]);
        assert!(desk.hear(0, true).is_none());
        assert!(desk.hear(3, true).is_some());
    }

    #[test]
    fn letters_that_failed_under_way_take_room_until_the_connection_ends_or_settles_them() {
        let mut desk = Desk::new();
        for topic in ["a", "b", "c", "d"] {
            assert!(desk.outgoing.has_room());
            desk.publish(topic);
        }
        assert!(!desk.outgoing.has_room());
        desk.outgoing.leave();
        desk.outgoing.leave();
        assert_eq!(desk.wait(LIMIT), 4);
        desk.publish("e");
        desk.publish("f");
        assert!(!desk.outgoing.has_room());
        assert!(desk.hear(0, true).is_none());
        assert!(desk.outgoing.has_room());
        desk.publish("g");
        assert!(!desk.outgoing.has_room());
        desk.outgoing.connection_is_gone(false);
        assert!(desk.outgoing.has_room());
    }
}
