//! What RabbitMQ closes the channel for, without saying which publish it meant.

use std::collections::BTreeMap;

use super::*;

#[test]
fn a_dead_letter_that_is_refused_for_good_fails_and_no_other() {
    for is_released in [false, true] {
        let mut harness = Harness::new();
        harness.add_dead_letter(7, "a");
        harness.add_dead_letter(8, "b");
        assert_eq!(harness.leave(), [0, 1]);
        assert_eq!(
            harness.wait(if is_released { LIMIT } else { Duration::ZERO }),
            2 * usize::from(is_released)
        );
        assert!(harness.lose(true).is_none());
        assert_eq!(harness.leave(), [0], "suspected, and so alone");
        let Some(Settled::DeadLetter { tag, ticket: None, outcome: Err(Unconfirmed::Refused(text)) }) =
            harness.lose(true)
        else {
            panic!("it was alone");
        };
        assert_eq!(
            (tag, &*text),
            (Some(7).filter(|_| !is_released), "no"),
            "messages come by another channel"
        );
        assert_eq!(harness.leave(), [1]);
        assert!(harness.hear(1, true).is_some() && harness.outgoing.len() == 0);
        harness.add_dead_letter(1, "a");
        harness.add_dead_letter(2, "a");
        assert_eq!(harness.leave(), [2, 3], "nobody is suspected any more");
    }
}

#[test]
fn a_suspected_dead_letter_that_cannot_be_stored_has_its_time_all_the_same() {
    let mut harness = Harness::new();
    (7..10).for_each(|tag| harness.add_dead_letter(tag, if tag == 7 { "full" } else { "a" }));
    assert_eq!(harness.leave(), [0, 1, 2]);
    assert!(harness.lose(true).is_none());
    assert_eq!(harness.leave(), [0]);
    assert!(harness.hear(0, false).is_none());
    assert_eq!(harness.leave(), [1]);
    assert!(harness.hear(1, true).is_some());
    assert_eq!(harness.wait(RETRY_AFTER), 0);
    assert_eq!(harness.leave(), [2], "suspects are first");
    assert!(harness.hear(2, true).is_some());
    assert_eq!(harness.leave(), [0]);
    assert_eq!(
        harness.outgoing.next_change(),
        Some(harness.now - RETRY_AFTER + LIMIT),
        "from the first such word on"
    );
}

/// Or others would hold them back: all wait for what RabbitMQ says of suspects.
#[test]
fn suspects_leave_before_all_others_however_many_these_are() {
    let mut harness = Harness::with_room(1000, 1 << 20);
    // As many of clients as are under way at most, and as are taken and never confirmed.
    (0..200).for_each(|client| harness.publish_as(client, "a"));
    let mut suspects = harness.leave();
    assert!(harness.lose(true).is_none());
    while !suspects.is_empty() {
        harness.publish("b");
        harness.publish("b");
        let left = harness.leave();
        assert_eq!(left, suspects[..1]);
        assert!(harness.hear_all(left[0], ConfirmOutcome::Taken).is_empty());
        suspects.remove(0);
    }
    assert!(!harness.outgoing.has_suspects() && harness.leave().len() > 1);
}

/// A RabbitMQ that confirms publishes as they come, and closes the channel at those of `refused`; it may be that
/// the confirms before that are lost. Returns those that it confirmed, how many failed, and the connections.
fn bring_home(harness: &mut Harness, refused: &[u64], confirms_are_lost: bool) -> (Vec<u64>, usize, usize) {
    let (mut confirmed, mut failed) = (Vec::new(), 0);
    for connection in 1..=20 {
        let is_closed = loop {
            let came = harness.leave();
            if came.is_empty() {
                break false;
            }
            let taken = came.iter().take_while(|number| !refused.contains(number)).count();
            let is_closed = taken < came.len();
            if !(is_closed && confirms_are_lost) {
                confirmed
                    .extend(came[..taken].iter().filter(|&&number| harness.hear(number, true).is_some()));
            }
            if is_closed {
                break true;
            }
        };
        if !is_closed {
            return (confirmed, failed, connection);
        }
        failed += usize::from(harness.lose(true).is_some());
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
    for (pending, refused, connections) in cases {
        for confirms_are_lost in [false, true] {
            let mut harness = Harness::new();
            (0..pending).for_each(|_| harness.publish("a"));
            let came_home = bring_home(&mut harness, refused, confirms_are_lost);
            let innocent = (0..pending).filter(|number| !refused.contains(number)).collect();
            // If the last one is refused and the confirms before it came, it was alone at once.
            let connections = connections - usize::from(refused == [4] && !confirms_are_lost);
            assert_eq!(came_home, (innocent, refused.len(), connections), "{pending} {refused:?}");
            assert!(harness.outgoing.len() == 0);
        }
    }
}

#[test]
fn who_is_suspected_leaves_alone_and_who_was_not_alone_has_not_failed() {
    let mut harness = Harness::new();
    ["a", "b"].iter().for_each(|topic| harness.publish(topic));
    assert_eq!(harness.leave(), [0, 1]);
    assert!(harness.lose(true).is_none());
    harness.publish("c");
    assert_eq!(harness.leave(), [0]);
    assert!(harness.lose(false).is_none(), "lost for another reason");
    assert_eq!(harness.leave(), [0]);
    assert!(harness.hear(0, false).is_none(), "it was not refused for good");
    assert_eq!(harness.leave(), [1]);
    assert_eq!(harness.wait(LIMIT), 3, "its time is over");
    ["d", "e"].iter().for_each(|topic| harness.publish(topic));
    assert_eq!(harness.leave(), [3, 4], "nobody is suspected");
    assert!(harness.hear(4, true).is_some());
    assert!(harness.lose(true).is_none(), "it may have been the one whose time was over");
    assert_eq!(harness.leave(), [3]);
    assert!(harness.lose(true).is_some());
}

/// What RabbitMQ does with a publish, however often it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Stored,
    /// It says that it could not store it.
    NotStored,
    /// It takes it, and confirms nothing.
    Silent,
    /// It closes the channel.
    Refused,
}

use Fate::{NotStored, Refused, Silent, Stored};

/// A RabbitMQ that looks at publishes in their order, and at all that were sent before it closes the channel. It may be that what
/// it says of others before that is lost. Returns how each publish ended, if it did, and how many channels were closed.
fn ends(
    fates: &[Fate],
    topic: impl Fn(usize) -> String,
    are_dead_letters: bool,
    words_are_lost: bool,
) -> (BTreeMap<u64, Fate>, usize) {
    let mut harness = Harness::new();
    for (n, slot) in (0..fates.len()).zip(0..) {
        if are_dead_letters {
            harness.add_dead_letter(n as u64, &topic(n))
        } else {
            harness.publish_as(slot, &topic(n))
        }
    }
    let (mut ends, mut closed) = (BTreeMap::new(), 0);
    let fate = |number: u64| fates[usize::try_from(number).unwrap()];
    while harness.now < harness.begun + 3 * LIMIT {
        let is_asked = harness.outgoing.has_suspects();
        let came = harness.leave();
        assert!(!is_asked || came.len() <= 1, "{came:?}");
        let taken = came.iter().take_while(|&&number| fate(number) != Refused).count();
        let is_closed = taken < came.len();
        for &number in came[..taken].iter().filter(|_| !(is_closed && words_are_lost)) {
            if is_asked {
                assert!(harness.hear_all(number, ConfirmOutcome::Taken).is_empty());
            }
            match fate(number) {
                Stored => {
                    assert!(harness.hear(number, true).is_some() && ends.insert(number, Stored).is_none())
                }
                NotStored => assert!(harness.hear_all(number, ConfirmOutcome::NotStored).is_empty()),
                Silent | Refused => {}
            }
        }
        let before = harness.open();
        let (settled, end) = if is_closed {
            closed += 1;
            (harness.lose(true).into_iter().collect(), Refused)
        } else if came.is_empty() {
            (harness.wait_for_settled(RETRY_AFTER), NotStored)
        } else {
            continue;
        };
        for settled in settled {
            let (Settled::Publish(_, outcome) | Settled::DeadLetter { outcome, .. }) = settled else {
                continue;
            };
            let is_refused = matches!(outcome, Err(Unconfirmed::Refused(_)));
            assert!(outcome.is_err() && is_refused == is_closed, "{outcome:?}");
        }
        let gone = before.into_iter().filter(|number| !harness.open().contains(number)).collect::<Vec<_>>();
        gone.into_iter().for_each(|number| assert!(ends.insert(number, end).is_none()));
    }
    (ends, closed)
}

/// Every combination of what RabbitMQ may do with four publishes.
#[test]
fn whatever_becomes_of_the_others_only_those_fail_as_refused_that_are_and_all_of_them() {
    let all = [Stored, NotStored, Silent, Refused];
    for case in 0..256 {
        let fates = [case / 64, case / 16, case / 4, case].map(|n| all[n % 4]);
        for case in 0..8 {
            let [is_one_topic, are_dead_letters, words_are_lost] = [1, 2, 4].map(|bit| case & bit != 0);
            let topic = |n: usize| if is_one_topic { "a".to_owned() } else { n.to_string() };
            let (ends, closed) = ends(&fates, topic, are_dead_letters, words_are_lost);
            let case = format!("{fates:?} {is_one_topic} {are_dead_letters} {words_are_lost}");
            for (number, fate) in (0..).zip(fates) {
                let expected = match fate {
                    // Its time ends; a dead letter has none.
                    Silent => (!are_dead_letters).then_some(NotStored),
                    fate => Some(fate),
                };
                assert_eq!(ends.get(&number).copied(), expected, "{case}: {number}");
            }
            let refused = fates.iter().filter(|&&fate| fate == Refused).count();
            let first = fates.iter().position(|&fate| fate == Refused).unwrap_or(0);
            let is_heard = |fate: &&Fate| !words_are_lost && [Stored, NotStored].contains(*fate);
            let unheard = fates.len() - fates[..first].iter().filter(is_heard).count();
            let expected = refused + usize::from(refused > 0 && unheard > 1);
            assert_eq!(closed, expected, "{case}");
        }
    }
}

/// As of a queue without a majority: so many are under way, and nothing is heard of them.
#[test]
fn however_many_publishes_are_not_confirmed_the_one_to_blame_is_found_without_waiting_for_them() {
    let mut harness = Harness::new();
    (0..1000).for_each(|tag| harness.add_dead_letter(tag, "stuck"));
    harness.add_dead_letter(1000, "refused");
    harness.add_dead_letter(1001, "well");
    assert_eq!(harness.leave().len(), 1002);
    harness.wait(LIMIT);
    assert!(harness.lose(true).is_none());
    for number in 0..1000 {
        assert_eq!(harness.leave(), [number]);
        assert!(harness.hear_all(number, ConfirmOutcome::Taken).is_empty());
    }
    assert_eq!(harness.leave(), [1000]);
    assert!(matches!(
        harness.lose(true),
        Some(Settled::DeadLetter { outcome: Err(Unconfirmed::Refused(_)), .. })
    ));
    assert_eq!(harness.leave(), [1001], "one is a suspect still");
    assert!(harness.hear(1001, true).is_some());
    assert_eq!(harness.leave().len(), 1000);
    harness.add_dead_letter(1, "a");
    harness.add_dead_letter(2, "b");
    assert_eq!(harness.leave(), [1002, 1003], "nobody is suspected");
}

/// It was told that it failed, and RabbitMQ may refuse it still.
#[test]
fn a_suspect_whose_time_ends_keeps_the_next_one_from_leaving_until_rabbitmq_has_taken_it() {
    for is_refused in [false, true] {
        let mut harness = Harness::new();
        harness.publish("a");
        harness.wait(LIMIT / 2);
        harness.publish("b");
        harness.publish("c");
        assert_eq!(harness.leave(), [0, 1, 2]);
        assert!(harness.lose(true).is_none());
        assert_eq!((harness.leave(), harness.wait(LIMIT / 2), harness.leave()), (vec![0], 1, vec![]));
        if is_refused {
            assert!(harness.lose(true).is_none(), "the one that it was is told already");
        } else {
            assert!(harness.hear_all(0, ConfirmOutcome::Taken).is_empty());
        }
        for number in [1, 2] {
            assert_eq!(harness.leave(), [number]);
            assert!(harness.hear_all(number, ConfirmOutcome::Taken).is_empty());
        }
        assert!(harness.hear(1, true).is_some() && harness.hear(2, true).is_some());
        assert!(harness.hear(0, true).is_none() && harness.in_stage(PublishStage::is_failed).is_empty());
    }
}

/// RabbitMQ would end the connection, and with it all that is under way.
#[test]
fn what_is_too_large_for_a_frame_fails_and_takes_no_room() {
    for is_late in [false, true] {
        let mut harness = Harness::with_room(1, 1000);
        harness.publish_as(1, "a");
        assert_eq!((harness.leave(), harness.outgoing.has_room(Sender::Operator)), (vec![0], false));
        assert_eq!(harness.wait(if is_late { LIMIT } else { Duration::ZERO }), usize::from(is_late));
        let settled = harness.hear_all(0, ConfirmOutcome::TooLarge);
        let is_too_large =
            |settled: &Settled| matches!(settled, Settled::Publish(_, Err(Unconfirmed::TooLarge)));
        assert_eq!((settled.len(), settled.iter().all(is_too_large)), (usize::from(!is_late), true));
        assert!(
            harness.outgoing.has_room(Sender::Operator)
                && harness.in_stage(PublishStage::is_unheard).is_empty()
        );
    }
}
