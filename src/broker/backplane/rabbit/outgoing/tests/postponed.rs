//! What rests because one like it could not be stored.

use super::*;

#[test]
fn what_is_due_does_not_overtake_what_rests() {
    let mut harness = Harness::new();
    harness.publish("a");
    assert_eq!(harness.leave(), [0]);
    harness.publish("a");
    assert!(harness.hear(0, false).is_none());
    assert!(harness.leave().is_empty());
    assert_eq!((harness.wait(RETRY_AFTER), harness.leave()), (0, vec![0]));
    harness.publish("a");
    assert!(harness.leave().is_empty());
    assert!(harness.hear(0, true).is_some());
    assert_eq!(harness.leave(), [1, 2]);
}

#[test]
fn a_dead_letter_that_is_routed_nowhere_gives_its_tag_back_is_tried_again_and_fails_as_that() {
    let mut harness = Harness::new();
    harness.add_dead_letter(7, "a");
    let (mut tries, mut released) = (0, Vec::new());
    let failed = loop {
        tries += harness.leave().len();
        released.extend(harness.hear_all(0, ConfirmOutcome::Unroutable));
        if let Some(failed) = harness.wait_for_settled(RETRY_AFTER).pop() {
            break failed;
        }
    };
    assert!(matches!(released[..], [Settled::Released { tag: 7, is_unroutable: true }]), "{released:?}");
    assert!(matches!(
        failed,
        Settled::DeadLetter { tag: None, ticket: None, outcome: Err(Unconfirmed::Unroutable) }
    ));
    assert!(
        tries > 10 && harness.outgoing.len() == 0,
        "for a moment after its start, RabbitMQ routes to no queue"
    );
}

/// Each is returned with all of its body.
#[test]
fn of_many_dead_letters_that_are_routed_nowhere_one_is_tried_again_and_shows_how_it_is_for_all() {
    for is_bound_at_last in [false, true] {
        let mut harness = Harness::with_room(1000, 1 << 20);
        (0..50).for_each(|tag| harness.add_dead_letter(tag, "a"));
        let first = harness.leave();
        assert_eq!(first.len(), 50);
        let is_released =
            |settled: &Settled| matches!(settled, Settled::Released { is_unroutable: true, .. });
        for number in first {
            let settled = harness.hear_all(number, ConfirmOutcome::Unroutable);
            assert!(settled.len() == 1 && settled.iter().all(is_released), "its tag keeps no other waiting");
        }
        harness.add_dead_letter(50, "a");
        assert_eq!(
            harness.leave(),
            [50],
            "each is tried itself: a dead-letter exchange may route by headers"
        );
        let settled = harness.hear_all(50, ConfirmOutcome::Unroutable);
        assert!(matches!(settled[..], [Settled::Released { tag: 50, is_unroutable: true }]), "{settled:?}");
        let (mut tries, mut failed) = (0, 0);
        while harness.now < harness.begun + LIMIT / 2 {
            failed += harness.wait(RETRY_AFTER);
            assert_eq!(harness.leave(), [tries], "each in its turn");
            assert!(harness.hear_all(tries, ConfirmOutcome::Unroutable).is_empty());
            tries += 1;
        }
        assert_eq!((tries, failed), (25, 0));
        assert_eq!((harness.wait(RETRY_AFTER), harness.leave()), (0, vec![25]));
        if is_bound_at_last {
            assert!(harness.hear(25, true).is_some());
            assert_eq!(harness.leave(), (0..51).filter(|&number| number != 25).collect::<Vec<_>>());
        } else {
            harness.hear_all(25, ConfirmOutcome::Unroutable);
            let failed: usize = (0..30)
                .map(|_| {
                    let failed = harness.wait(RETRY_AFTER);
                    harness
                        .leave()
                        .iter()
                        .for_each(|&number| drop(harness.hear_all(number, ConfirmOutcome::Unroutable)));
                    failed
                })
                .sum();
            assert_eq!((failed, harness.outgoing.len()), (51, 0));
            harness.wait(RETRY_AFTER);
            harness.add_dead_letter(1, "a");
            assert_eq!(harness.leave(), [51], "nothing rests any more");
        }
    }
}

/// Those that rest with it have been told of by no word of RabbitMQ's but that it could not store them a while ago.
#[test]
fn dead_letters_that_rest_do_not_fail_while_nothing_is_heard_of_the_one_that_is_to_show_how_it_is() {
    for is_blocked in [false, true] {
        let mut harness = Harness::new();
        (1..=3).for_each(|tag| harness.add_dead_letter(tag, "a"));
        assert_eq!(harness.leave(), [0, 1, 2]);
        (0..3).for_each(|number| assert!(harness.hear(number, false).is_none()));
        assert_eq!(harness.wait(RETRY_AFTER), 0);
        let mut left = if is_blocked { Vec::new() } else { harness.leave() };
        let settled = harness.wait_for_settled(LIMIT);
        let is_released =
            |settled: &Settled| matches!(settled, Settled::Released { is_unroutable: false, .. });
        assert!(settled.len() == 3 && settled.iter().all(is_released), "{settled:?}");
        assert_eq!((harness.wait(3 * LIMIT), harness.outgoing.next_change()), (0, None));
        left.extend(harness.leave());
        assert_eq!(left, [0]);
        // From the next such word on they have their time again.
        assert!(harness.hear(0, false).is_none());
        assert_eq!(harness.outgoing.next_change(), Some(harness.now + RETRY_AFTER));
        let mut failed = 0;
        while harness.outgoing.len() > 0 {
            failed += harness.wait(RETRY_AFTER);
            harness.leave().iter().for_each(|&number| drop(harness.hear(number, false)));
        }
        assert_eq!((failed, harness.now), (3, harness.begun + RETRY_AFTER + 4 * LIMIT + LIMIT));
    }
}

/// A suspect that rests would keep all others leaving one at a time.
#[test]
fn suspects_do_not_rest_before_rabbitmq_has_said_something_of_them() {
    let mut harness = Harness::new();
    ["a", "a", "b"].iter().for_each(|topic| harness.publish(topic));
    assert_eq!(harness.leave(), [0, 1, 2]);
    assert!(harness.lose(true).is_none());
    for number in [0, 1] {
        assert_eq!(harness.leave(), [number]);
        assert!(harness.hear(number, false).is_none());
    }
    assert_eq!(harness.leave(), [2]);
    assert!(harness.hear(2, true).is_some() && !harness.outgoing.has_suspects());
    assert_eq!((harness.wait(RETRY_AFTER), harness.leave()), (0, vec![0]));
    assert!(harness.hear(0, true).is_some());
    assert_eq!(harness.leave(), [1]);
}

/// RabbitMQ could not store it if only one of its queues did not take it, which the others' topics do not concern.
#[test]
fn what_goes_to_several_topics_rests_with_what_goes_to_the_same_ones() {
    let mut harness = Harness::with_room(100, 1 << 20);
    harness.broadcast("a", &["full"]);
    assert_eq!(harness.leave(), [0]);
    assert!(harness.hear(0, false).is_none());
    harness.publish("a");
    harness.broadcast("a", &["b"]);
    harness.broadcast("a", &["full"]);
    harness.broadcast("a", &["full", "b"]);
    harness.broadcast("a", &["fullb"]);
    assert_eq!(harness.leave(), [1, 2, 4, 5]);
    assert_eq!((harness.wait(RETRY_AFTER), harness.leave()), (0, vec![0]));
    assert!(harness.hear(0, true).is_some());
    assert_eq!(harness.leave(), [3]);
}

/// A client's would have to wait for room among those of clients.
#[test]
fn an_operators_publish_is_the_one_that_shows_how_it_is() {
    let mut harness = Harness::with_room(1000, 1 << 20);
    harness.publish_as(1, "a");
    assert_eq!(harness.leave(), [0]);
    assert!(harness.hear(0, false).is_none());
    (1..=8).for_each(|slot| harness.publish_as(slot, "stuck"));
    assert_eq!(harness.leave().len(), 8, "there is no more room for clients'");
    harness.publish("a");
    harness.publish("a");
    assert!(harness.leave().is_empty());
    for _ in 0..3 {
        assert_eq!((harness.wait(RETRY_AFTER), harness.leave()), (0, vec![9]), "in their order");
        assert!(harness.hear(9, false).is_none());
    }
    assert_eq!((harness.wait(RETRY_AFTER), harness.leave()), (0, vec![9]));
    assert!(harness.hear(9, true).is_some());
    assert_eq!(harness.leave(), [10]);
}

/// Whatever becomes of a publish, those that rest with it are tried again, and nothing is left behind.
#[test]
fn there_is_always_one_that_is_tried_or_a_time_for_it() {
    for case in 0..5 {
        let mut harness = Harness::with_room(1000, 1 << 20);
        harness.publish("a");
        assert_eq!(harness.leave(), [0]);
        assert!(harness.hear(0, false).is_none());
        harness.wait(LIMIT / 2);
        harness.publish("a");
        let left = harness.leave();
        assert_eq!(left, [0]);
        match case {
            0 => assert!(harness.hear(0, true).is_some()),
            1 => assert!(harness.hear(0, false).is_none()),
            2 => assert_eq!(harness.hear_all(0, ConfirmOutcome::TooLarge).len(), 1),
            3 => assert_eq!(harness.wait(LIMIT / 2), 1, "its time is over"),
            _ => assert!(harness.lose(true).is_some()),
        }
        harness.wait(RETRY_AFTER);
        for _ in 0..3 {
            harness.leave().iter().for_each(|&number| drop(harness.hear(number, true)));
        }
        assert_eq!(harness.outgoing.len(), 0, "{case}");
        harness.publish("a");
        assert_eq!(harness.leave(), [2], "{case}: nothing rests");
    }
}
