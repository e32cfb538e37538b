//! What rests because one like it could not be stored.

use super::*;

#[test]
fn what_is_due_does_not_overtake_what_rests() {
    let mut desk = Desk::new();
    desk.publish("a");
    assert_eq!(desk.leave(), [0]);
    desk.publish("a");
    assert!(desk.hear(0, false).is_none());
    assert!(desk.leave().is_empty());
    assert_eq!((desk.wait(REST), desk.leave()), (0, vec![0]));
    desk.publish("a");
    assert!(desk.leave().is_empty());
    assert!(desk.hear(0, true).is_some());
    assert_eq!(desk.leave(), [1, 2]);
}

#[test]
fn a_burial_that_is_routed_nowhere_gives_its_tag_back_is_tried_again_and_fails_as_that() {
    let mut desk = Desk::new();
    desk.bury(7, "a");
    let (mut tries, mut released) = (0, Vec::new());
    let failed = loop {
        tries += desk.leave().len();
        released.extend(desk.hear_all(0, Outcome::Unroutable));
        if let Some(failed) = desk.wait_for_settled(REST).pop() {
            break failed;
        }
    };
    assert!(matches!(released[..], [Settled::Released { tag: 7, is_unroutable: true }]), "{released:?}");
    assert!(matches!(
        failed,
        Settled::Burial { tag: None, ticket: None, outcome: Err(Unconfirmed::Unroutable) }
    ));
    assert!(
        tries > 10 && desk.outgoing.len() == 0,
        "for a moment after its start, RabbitMQ routes to no queue"
    );
}

/// Each is returned with all of its body.
#[test]
fn of_many_burials_that_are_routed_nowhere_one_is_tried_again_and_shows_how_it_is_for_all() {
    for is_bound_at_last in [false, true] {
        let mut desk = Desk::new();
        desk.outgoing = Outgoing::new(LIMIT, 1000, 1 << 20);
        (0..50).for_each(|tag| desk.bury(tag, "a"));
        let first = desk.leave();
        assert_eq!(first.len(), 50);
        let is_released =
            |settled: &Settled| matches!(settled, Settled::Released { is_unroutable: true, .. });
        for number in first {
            let settled = desk.hear_all(number, Outcome::Unroutable);
            assert!(settled.len() == 1 && settled.iter().all(is_released), "its tag keeps no other waiting");
        }
        desk.bury(50, "a");
        assert!(desk.leave().is_empty());
        assert_eq!((desk.wait(REST), desk.leave()), (0, vec![0]));
        let settled = desk.hear_all(0, Outcome::Unroutable);
        assert!(matches!(settled[..], [Settled::Released { tag: 50, is_unroutable: true }]), "{settled:?}");
        let (mut tries, mut failed) = (0, 0);
        while desk.now < desk.begun + LIMIT / 2 {
            failed += desk.wait(REST);
            let left = desk.leave();
            assert_eq!(left, [0]);
            tries += left.len();
            desk.hear_all(0, Outcome::Unroutable);
        }
        assert_eq!((tries, failed), (24, 0));
        assert_eq!(desk.wait(REST), 0);
        assert_eq!(desk.leave(), [0]);
        if is_bound_at_last {
            assert!(desk.hear(0, true).is_some());
            assert_eq!(desk.leave(), (1..51).collect::<Vec<_>>());
        } else {
            desk.hear_all(0, Outcome::Unroutable);
            let failed: usize = (0..30)
                .map(|_| {
                    let failed = desk.wait(REST);
                    desk.leave().iter().for_each(|&number| drop(desk.hear_all(number, Outcome::Unroutable)));
                    failed
                })
                .sum();
            assert_eq!((failed, desk.outgoing.len()), (51, 0));
            desk.wait(REST);
            desk.bury(1, "a");
            assert_eq!(desk.leave(), [51], "nothing rests any more");
        }
    }
}
