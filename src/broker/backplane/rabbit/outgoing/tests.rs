use super::postponed::RETRY_AFTER;
use super::*;
use crate::base::clock::UnixTime;
use crate::broker::backplane::rabbit::message::{self, Said};
use crate::domain::codec::Codec;
use crate::domain::mail::ClientKey;
use crate::domain::mail::{CommandKey, ReplyAddress, ReplyTo};
use lapin::BasicProperties;
use lapin::types::FieldTable;

mod postponed;
mod suspects;

const LIMIT: Duration = Duration::from_secs(5);

/// Publishes, and a clock that is moved by hand.
struct Harness {
    outgoing: Outgoing,
    begun: Instant,
    now: Instant,
}

impl Harness {
    fn new() -> Self {
        Self::with_room(4, 1000)
    }

    /// For so many publishes, with so many bytes in all.
    fn with_room(pending: usize, bytes: usize) -> Self {
        let begun = Instant::now();
        Self { outgoing: Outgoing::new(LIMIT, pending, bytes, usize::MAX), begun, now: begun }
    }

    fn add(&mut self, purpose: Purpose, topic: &str) {
        let is_dead_letter = matches!(purpose, Purpose::DeadLetter { .. });
        let pending = PendingPublish {
            exchange: if is_dead_letter { "fanfare.dead" } else { "fanfare" }.into(),
            routing_key: topic.into(),
            body: b"1".to_vec(),
            properties: BasicProperties::default(),
        };
        self.outgoing.add(purpose, pending, self.now);
    }

    /// Adds a dead letter with so many bytes in a header.
    fn add_dead_letter_with_header(&mut self, tag: u64, bytes: usize) {
        let mut headers = FieldTable::default();
        headers.insert("h".into(), AMQPValue::LongString("x".repeat(bytes).into()));
        let pending = PendingPublish {
            exchange: "fanfare.dead".into(),
            routing_key: "a".into(),
            body: Vec::new(),
            properties: BasicProperties::default().with_headers(headers),
        };
        self.outgoing.add(Purpose::DeadLetter { tag: Some(tag), ticket: None }, pending, self.now);
    }

    fn publish(&mut self, topic: &str) {
        self.add(Purpose::Publish(ReplyTo::control().0), topic);
    }

    /// Publishes to several topics.
    fn broadcast(&mut self, first: &str, copies: &[&str]) {
        let copies: Vec<_> = copies.iter().map(|&topic| topic.into()).collect();
        let pending = PendingPublish {
            exchange: "fanfare".into(),
            routing_key: first.into(),
            body: b"1".to_vec(),
            properties: message::properties(
                "id".into(),
                &Said { copies: &copies, ..Said::default() },
                UnixTime::default(),
            ),
        };
        self.outgoing.add(Purpose::Publish(ReplyTo::control().0), pending, self.now);
    }

    fn publish_as(&mut self, slot: u32, topic: &str) {
        let client = ClientKey { slot, generation: 0 };
        let to = ReplyAddress { shard: 0, command: CommandKey { client, id: 1 }, codec: Codec::Json };
        self.add(Purpose::Publish(ReplyTo::Client(to)), topic);
    }

    fn add_dead_letter(&mut self, tag: u64, topic: &str) {
        self.add(Purpose::DeadLetter { tag: Some(tag), ticket: None }, topic);
    }

    /// The numbers of all that leave now.
    fn leave(&mut self) -> Vec<u64> {
        let left = iter::from_fn(|| self.outgoing.leave(self.now)).map(|(number, _)| number).collect();
        self.outgoing.assert_invariants();
        left
    }

    /// The numbers of those that are not settled.
    fn open(&self) -> Vec<u64> {
        self.in_stage(|stage| !stage.is_failed())
    }

    fn in_stage(&self, is: impl Fn(PublishStage) -> bool) -> Vec<u64> {
        let all = self.outgoing.publishes.iter();
        all.filter(|(_, publish)| is(publish.stage)).map(|(number, _)| number).collect()
    }

    fn hear(&mut self, number: u64, is_stored: bool) -> Option<Settled> {
        let outcome = if is_stored { ConfirmOutcome::Stored } else { ConfirmOutcome::NotStored };
        let mut settled = self.hear_all(number, outcome);
        assert!(settled.len() <= 1, "{settled:?}");
        settled.pop()
    }

    fn hear_all(&mut self, number: u64, outcome: ConfirmOutcome) -> Vec<Settled> {
        let settled = self.outgoing.hear(Report { number, outcome }, self.now).collect();
        self.outgoing.assert_invariants();
        settled
    }

    /// The channel is gone, because a publish was refused or with the connection.
    fn lose(&mut self, refused: bool) -> Option<Settled> {
        self.outgoing.channel_is_gone(refused.then_some("no"))
    }

    fn wait_for_settled(&mut self, time: Duration) -> Vec<Settled> {
        self.now += time;
        let settled = self.outgoing.pass(self.now);
        self.outgoing.assert_invariants();
        settled
    }

    /// Of how many is told because of it.
    fn wait(&mut self, time: Duration) -> usize {
        self.wait_for_settled(time).len()
    }
}

#[test]
fn there_is_room_for_so_many_bytes_of_headers_as_well_as_of_bodies() {
    let mut harness = Harness::new();
    harness.add_dead_letter_with_header(1, 100);
    assert!(harness.outgoing.has_room(Sender::Operator));
    harness.add_dead_letter_with_header(2, 1000);
    assert!(!harness.outgoing.has_room(Sender::Operator));
    assert_eq!(harness.leave(), [0, 1]);
    harness.hear(1, true);
    assert!(harness.outgoing.has_room(Sender::Operator));
}

/// A dead letter that gave its tag back is kept until it is confirmed, and so are its bytes.
#[test]
fn there_is_room_in_bytes_as_well_as_in_number() {
    let mut harness = Harness::with_room(4, 2);
    harness.add_dead_letter(1, "a");
    assert!(harness.outgoing.has_room(Sender::Operator));
    harness.add_dead_letter(2, "a");
    assert_eq!((harness.outgoing.has_room(Sender::Operator), harness.leave()), (false, vec![0, 1]));
    assert_eq!(
        (harness.wait(LIMIT), harness.outgoing.has_room(Sender::Operator)),
        (2, false),
        "the tags are given back, the bytes not"
    );
    harness.hear(0, true);
    assert!(harness.outgoing.has_room(Sender::Operator));
}

#[test]
fn what_is_confirmed_is_told_once() {
    let mut harness = Harness::new();
    harness.publish("a");
    assert_eq!(harness.leave(), [0]);
    assert!(matches!(harness.hear(0, true), Some(Settled::Publish(_, Ok(())))));
    assert!(harness.hear(0, true).is_none());
    assert!(harness.outgoing.len() == 0 && harness.outgoing.next_change().is_none());
}

#[test]
fn a_refused_publish_leaves_again_before_what_came_later_for_its_topic() {
    let mut harness = Harness::new();
    harness.publish("a");
    assert_eq!(harness.leave(), [0]);
    assert!(harness.hear(0, false).is_none());
    harness.publish("a");
    harness.publish("b");
    assert_eq!(harness.leave(), [2], "another topic does not wait");
    assert_eq!(harness.outgoing.next_change(), Some(harness.now + RETRY_AFTER));
    assert_eq!(harness.wait(RETRY_AFTER), 0);
    assert_eq!(harness.leave(), [0], "to show whether RabbitMQ stores it now");
    assert!(matches!(harness.hear(0, true), Some(Settled::Publish(_, Ok(())))));
    assert_eq!(harness.leave(), [1]);
    assert!(harness.hear(1, true).is_some());
}

#[test]
fn publishes_outlive_the_connection_in_their_order() {
    let mut harness = Harness::new();
    for topic in ["b", "a", "b"] {
        harness.publish(topic);
    }
    assert_eq!(harness.leave(), [0, 1, 2]);
    assert!(harness.hear(1, true).is_some());
    assert!(harness.hear(2, false).is_none());
    assert!(harness.lose(false).is_none());
    harness.publish("c");
    assert_eq!(harness.leave(), [0, 2, 3]);
    assert_eq!(harness.outgoing.len(), 3);
}

#[test]
fn dead_letters_wait_for_the_next_connection_however_long_but_not_their_tags() {
    let mut harness = Harness::new();
    harness.add_dead_letter(7, "a");
    assert_eq!(harness.leave(), [0]);
    assert!(harness.lose(false).is_none());
    harness.outgoing.tags_are_void();
    assert_eq!((harness.wait(2 * LIMIT), harness.outgoing.len()), (0, 1));
    assert_eq!(harness.leave(), [0]);
    assert!(matches!(
        harness.hear(0, true),
        Some(Settled::DeadLetter { tag: None, ticket: None, outcome: Ok(()) })
    ));
    assert!(harness.outgoing.len() == 0);
}

#[test]
fn a_dead_letter_of_which_nothing_is_heard_gives_its_tag_back_and_goes_on() {
    for is_blocked in [false, true] {
        let mut harness = Harness::new();
        harness.add_dead_letter(7, "a");
        let mut left = if is_blocked { Vec::new() } else { harness.leave() };
        assert!(matches!(
            harness.wait_for_settled(LIMIT)[..],
            [Settled::Released { tag: 7, is_unroutable: false }]
        ));
        assert_eq!((harness.wait(2 * LIMIT), harness.outgoing.next_change()), (0, None));
        left.extend(harness.leave());
        assert_eq!(left, [0], "it leaves once");
        assert!(matches!(
            harness.hear(0, true),
            Some(Settled::DeadLetter { tag: None, ticket: None, outcome: Ok(()) })
        ));
        assert!(harness.outgoing.len() == 0);
    }
}

#[test]
fn a_dead_letter_that_cannot_be_stored_has_its_time_from_then_on_however_long_it_waited() {
    for waited in [Duration::ZERO, LIMIT - RETRY_AFTER / 2, 3 * LIMIT] {
        let mut harness = Harness::new();
        harness.add_dead_letter(7, "full");
        assert_eq!(harness.leave(), [0]);
        let released = harness.wait(waited);
        assert_eq!(released, usize::from(waited > LIMIT));
        let mut settled = Vec::new();
        while settled.is_empty() {
            assert!(harness.hear(0, false).is_none());
            settled = harness.wait_for_settled(RETRY_AFTER);
            assert_eq!(harness.leave().len(), usize::from(settled.is_empty()));
        }
        let Settled::DeadLetter { tag, ticket: None, outcome: Err(Unconfirmed::NotStored) } = settled[0]
        else {
            panic!("{settled:?}")
        };
        assert_eq!((tag, harness.now), (Some(7).filter(|_| released == 0), harness.begun + waited + LIMIT));
        assert!(harness.outgoing.len() == 0);
    }
}

#[test]
fn what_counts_is_the_last_word_on_a_dead_letter() {
    for is_blocked in [false, true] {
        let mut harness = Harness::new();
        harness.add_dead_letter(7, "a");
        assert_eq!(harness.leave(), [0]);
        assert!(harness.hear(0, false).is_none());
        assert_eq!(harness.wait(RETRY_AFTER), 0);
        let mut left = if is_blocked { Vec::new() } else { harness.leave() };
        assert!(matches!(
            harness.wait_for_settled(LIMIT - RETRY_AFTER)[..],
            [Settled::Released { tag: 7, is_unroutable: false }]
        ));
        left.extend(harness.leave());
        assert_eq!(left, [0]);
        assert!(harness.hear(0, true).is_some());
    }
}

#[test]
fn dead_letters_take_room_until_they_are_settled_however_long() {
    let mut harness = Harness::new();
    for tag in 1..=4 {
        assert!(harness.outgoing.has_room(Sender::Operator));
        harness.add_dead_letter(tag, "a");
    }
    assert_eq!((harness.leave(), harness.wait(LIMIT)), (vec![0, 1, 2, 3], 4));
    assert!(!harness.outgoing.has_room(Sender::Operator), "they wait on");
    assert!(harness.lose(false).is_none());
    assert_eq!(harness.leave(), [0, 1, 2, 3]);
    assert!(harness.hear(1, true).is_some() && harness.outgoing.has_room(Sender::Operator));
}

#[test]
fn time_ends_in_whatever_state_and_what_is_heard_later_counts_for_nothing() {
    let mut harness = Harness::new();
    for topic in ["a", "b", "c"] {
        harness.publish(topic);
    }
    assert_eq!(harness.leave(), [0, 1, 2]);
    assert_eq!(harness.wait(LIMIT - RETRY_AFTER / 2), 0);
    assert!(harness.hear(1, false).is_none());
    harness.publish("b");
    assert_eq!(harness.wait(RETRY_AFTER / 2), 3, "two under way, one resting");
    assert!(harness.leave().is_empty());
    assert_eq!(harness.wait(RETRY_AFTER / 2), 0);
    assert_eq!(harness.leave(), [3]);
    assert!(harness.hear(0, true).is_none());
    assert!(harness.hear(3, true).is_some());
}

#[test]
fn publishes_that_failed_under_way_take_room_until_the_connection_ends_or_settles_them() {
    let mut harness = Harness::new();
    for topic in ["a", "b", "c", "d"] {
        assert!(harness.outgoing.has_room(Sender::Operator));
        harness.publish(topic);
    }
    assert!(!harness.outgoing.has_room(Sender::Operator));
    harness.outgoing.leave(harness.now);
    harness.outgoing.leave(harness.now);
    assert_eq!(harness.wait(LIMIT), 4);
    harness.publish("e");
    harness.publish("f");
    assert!(!harness.outgoing.has_room(Sender::Operator));
    assert!(harness.hear(0, true).is_none());
    assert!(harness.outgoing.has_room(Sender::Operator));
    harness.publish("g");
    assert!(!harness.outgoing.has_room(Sender::Operator));
    harness.lose(false);
    assert!(harness.outgoing.has_room(Sender::Operator));
}

/// The client library still has them.
#[test]
fn publishes_that_failed_under_way_take_as_many_bytes_as_before_until_the_connection_ends_or_settles_them() {
    for is_settled in [false, true] {
        let mut harness = Harness::with_room(100, 3);
        for topic in ["a", "b", "c"] {
            assert!(harness.outgoing.has_room(Sender::Operator));
            harness.publish(topic);
        }
        assert_eq!((harness.leave().len(), harness.wait(LIMIT), harness.outgoing.len()), (3, 3, 0));
        assert!(!harness.outgoing.has_room(Sender::Operator));
        if is_settled {
            drop(harness.hear(0, false))
        } else {
            drop(harness.lose(false))
        }
        assert!(harness.outgoing.has_room(Sender::Operator));
        harness.publish("a");
        assert_eq!(harness.outgoing.has_room(Sender::Operator), !is_settled);
    }
}

#[test]
fn no_more_are_under_way_than_may_be_whatever_becomes_of_them() {
    let mut harness = Harness::new();
    harness.outgoing = Outgoing::new(LIMIT, 100, 1000, 3);
    for round in 0..6 {
        let first = harness.outgoing.next;
        let all: Vec<_> = (first..first + 5).collect();
        (0..5).for_each(|_| harness.publish("a"));
        assert_eq!(harness.leave(), all[..3], "{round}");
        match round {
            0 => assert_eq!((harness.wait(LIMIT), harness.leave().len()), (5, 0), "their time is over"),
            1 => assert_eq!((harness.lose(false).is_none(), harness.leave()), (true, all[..3].to_vec())),
            2 => {
                assert!(harness.hear(first, false).is_none() && harness.hear(first, false).is_none());
                assert_eq!(
                    (harness.leave(), harness.wait(RETRY_AFTER), harness.leave()),
                    (vec![], 0, vec![first])
                );
            }
            3 => assert!(
                harness.hear_all(first, ConfirmOutcome::Taken).is_empty() && harness.leave().is_empty()
            ),
            4 => assert_eq!(
                (harness.hear_all(first, ConfirmOutcome::TooLarge).len(), harness.leave()),
                (1, vec![all[3]])
            ),
            _ => {}
        }
        for _ in 0..5 {
            all.iter().for_each(|&number| drop(harness.hear(number, true)));
            assert!(harness.leave().len() <= 3);
        }
        assert_eq!((harness.outgoing.len(), harness.outgoing.under_way), (0, 0), "{round}");
    }
}

#[test]
fn a_client_that_publishes_all_it_may_keeps_nobody_waiting_for_its_publishes() {
    let mut harness = Harness::with_room(16_384, 1 << 20);
    (0..127).for_each(|_| harness.publish_as(1, "a"));
    assert_eq!(harness.leave(), [0, 1, 2, 3, 4, 5, 6, 7]);
    harness.publish("b");
    assert_eq!(harness.leave(), [127], "an operator's");
    harness.publish_as(2, "c");
    assert!(harness.hear(0, true).is_some());
    assert_eq!(harness.leave(), [128], "one of a client with nothing under way");
    assert!(harness.hear(1, true).is_some());
    assert_eq!(harness.leave(), [8]);
}

/// Whatever becomes of clients' publishes, the next ones have the whole room, and leave.
#[test]
fn publishes_of_clients_leave_nothing_behind() {
    let mut harness = Harness::with_room(1000, 1 << 20);
    for round in 0..4 {
        let first = harness.outgoing.next;
        (0..40).for_each(|pending| harness.publish_as(pending % 3, "a"));
        assert!((8..40).contains(&harness.leave().len()));
        match round {
            0 => assert_eq!(harness.wait(LIMIT), 40, "8 of them under way"),
            1 => assert!(harness.lose(true).is_none()),
            2 => assert!(harness.hear(first, false).is_none()),
            _ => {}
        }
        for _ in 0..200 {
            let left = harness.leave();
            left.iter().for_each(|&number| _ = harness.hear(number, true));
            harness
                .in_stage(PublishStage::is_unheard)
                .iter()
                .for_each(|&number| _ = harness.hear(number, true));
            harness.wait(RETRY_AFTER / 2);
        }
        assert_eq!(harness.outgoing.len(), 0, "{round}");
        (first..harness.outgoing.next).for_each(|number| _ = harness.hear(number, true));
    }
    harness.publish("b");
    assert_eq!(harness.leave().len(), 1);
}
