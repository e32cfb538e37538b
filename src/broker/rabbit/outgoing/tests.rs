use super::*;
use lapin::BasicProperties;
use tokio::sync::oneshot;

const LIMIT: Duration = Duration::from_secs(5);

/// Letters, and a clock that is moved by hand.
struct Desk {
    outgoing: Outgoing,
    begun: Instant,
    now: Instant,
}

impl Desk {
    fn new() -> Self {
        let (begun, room) = (Instant::now(), Room { publishes: 4, burials: 2 });
        Self { outgoing: Outgoing::new(LIMIT, room), begun, now: begun }
    }

    fn add(&mut self, purpose: Purpose, topic: &str) {
        let is_burial = matches!(purpose, Purpose::Burial { .. });
        let letter = Letter {
            exchange: if is_burial { "fanfare.dead" } else { "fanfare" }.into(),
            routing_key: topic.into(),
            body: b"1".to_vec(),
            properties: BasicProperties::default(),
        };
        self.outgoing.add(purpose, letter, self.now);
    }

    fn publish(&mut self, topic: &str) {
        self.add(Purpose::Publish(Asker::Control(oneshot::channel().0)), topic);
    }

    fn bury(&mut self, tag: u64, topic: &str) {
        self.add(Purpose::Burial { tag: Some(tag) }, topic);
    }

    /// The numbers of all that leave now.
    fn leave(&mut self) -> Vec<u64> {
        std::iter::from_fn(|| self.outgoing.leave(self.now)).map(|(number, _)| number).collect()
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
fn what_is_due_does_not_overtake_what_rests() {
    let mut desk = Desk::new();
    desk.publish("a");
    assert_eq!(desk.leave(), [0]);
    desk.publish("a");
    assert!(desk.hear(0, false).is_none());
    assert!(desk.leave().is_empty());
    assert_eq!((desk.wait(REST), desk.leave()), (0, vec![0, 1]));
}

#[test]
fn burials_wait_for_the_next_connection_however_long_but_not_their_tags() {
    let mut desk = Desk::new();
    desk.bury(7, "a");
    assert_eq!(desk.leave(), [0]);
    assert!(desk.outgoing.connection_is_gone(false).is_none());
    assert_eq!((desk.wait(2 * LIMIT), desk.outgoing.len()), (0, 1));
    assert_eq!(desk.leave(), [0]);
    assert!(matches!(desk.hear(0, true), Some(Settled::Burial { tag: None, outcome: Ok(()) })));
    assert!(desk.outgoing.is_empty());
}

#[test]
fn a_burial_of_which_nothing_is_heard_gives_its_tag_back_and_goes_on() {
    for is_blocked in [false, true] {
        let mut desk = Desk::new();
        desk.bury(7, "a");
        let mut left = if is_blocked { Vec::new() } else { desk.leave() };
        assert!(matches!(desk.wait_for_settled(LIMIT)[..], [Settled::Released { tag: 7 }]));
        assert_eq!((desk.wait(2 * LIMIT), desk.outgoing.next_change()), (0, None));
        left.extend(desk.leave());
        assert_eq!(left, [0], "it leaves once");
        assert!(matches!(desk.hear(0, true), Some(Settled::Burial { tag: None, outcome: Ok(()) })));
        assert!(desk.outgoing.is_empty());
    }
}

#[test]
fn a_burial_that_cannot_be_stored_has_its_time_from_then_on_however_long_it_waited() {
    for waited in [Duration::ZERO, LIMIT - REST / 2, 3 * LIMIT] {
        let mut desk = Desk::new();
        desk.bury(7, "full");
        assert_eq!(desk.leave(), [0]);
        let released = desk.wait(waited);
        assert_eq!(released, usize::from(waited > LIMIT));
        let mut settled = Vec::new();
        while settled.is_empty() {
            assert!(desk.hear(0, false).is_none());
            settled = desk.wait_for_settled(REST);
            assert_eq!(desk.leave().len(), usize::from(settled.is_empty()));
        }
        let Settled::Burial { tag, outcome: Err(Unconfirmed::NotStored) } = settled[0] else {
            panic!("{settled:?}")
        };
        assert_eq!((tag, desk.now), (Some(7).filter(|_| released == 0), desk.begun + waited + LIMIT));
        assert!(desk.outgoing.is_empty());
    }
}

#[test]
fn what_counts_is_the_last_word_on_a_burial() {
    for is_blocked in [false, true] {
        let mut desk = Desk::new();
        desk.bury(7, "a");
        assert_eq!(desk.leave(), [0]);
        assert!(desk.hear(0, false).is_none());
        assert_eq!(desk.wait(REST), 0);
        let mut left = if is_blocked { Vec::new() } else { desk.leave() };
        assert!(matches!(desk.wait_for_settled(LIMIT - REST)[..], [Settled::Released { tag: 7 }]));
        left.extend(desk.leave());
        assert_eq!(left, [0]);
        assert!(desk.hear(0, true).is_some());
    }
}

#[test]
fn a_topic_does_not_rest_because_its_dead_letters_cannot_be_stored() {
    let mut desk = Desk::new();
    desk.bury(7, "a");
    assert_eq!(desk.leave(), [0]);
    assert!(desk.hear(0, false).is_none());
    desk.publish("a");
    assert_eq!(desk.leave(), [1]);
}

#[test]
fn burials_take_no_room_of_publishes_and_end_theirs() {
    let mut desk = Desk::new();
    desk.bury(1, "a");
    assert!(desk.outgoing.has_room_for_burials());
    desk.bury(2, "a");
    assert!(!desk.outgoing.has_room_for_burials());
    (0..3).for_each(|_| desk.publish("b"));
    assert!(desk.outgoing.has_room_for_publishes());
    desk.leave();
    assert_eq!(desk.wait(LIMIT), 5);
    assert!(!desk.outgoing.has_room_for_burials(), "they wait on");
    assert!(desk.outgoing.connection_is_gone(false).is_none());
    assert_eq!(desk.leave(), [0, 1]);
    assert!(desk.hear(1, true).is_some() && desk.outgoing.has_room_for_burials());
}

#[test]
fn a_burial_that_is_refused_for_good_fails_and_no_other() {
    let mut desk = Desk::new();
    desk.bury(7, "a");
    desk.bury(8, "b");
    assert_eq!((desk.leave(), desk.wait(LIMIT)), (vec![0, 1], 2));
    assert!(desk.outgoing.connection_is_gone(true).is_none());
    assert_eq!(desk.leave(), [0], "suspected, and so alone");
    let refused = desk.outgoing.connection_is_gone(true);
    assert!(matches!(refused, Some(Settled::Burial { tag: None, outcome: Err(_) })), "{refused:?}");
    assert_eq!(desk.leave(), [1]);
    assert!(desk.hear(1, true).is_some() && desk.outgoing.is_empty());
    desk.bury(1, "a");
    desk.bury(2, "a");
    assert_eq!(desk.leave(), [2, 3], "nobody is suspected any more");
}

/// The dead-letter queue may have no majority while what is published is stored.
#[test]
fn suspected_burials_of_which_nothing_is_heard_give_way_and_go_on_when_something_is() {
    for is_stored in [true, false] {
        let mut desk = Desk::new();
        desk.bury(7, "a");
        desk.bury(8, "b");
        assert_eq!(desk.leave(), [0, 1]);
        assert!(desk.outgoing.connection_is_gone(true).is_none());
        desk.publish("c");
        assert_eq!((desk.leave(), desk.wait(ALONE)), (vec![0], 0));
        desk.publish("d");
        assert_eq!(desk.leave(), [2, 3], "nobody is suspected any more, and no burial is due");
        assert!(desk.hear(2, true).is_some() && desk.hear(3, true).is_some());
        assert_eq!(desk.hear(0, is_stored).is_some(), is_stored);
        assert_eq!((desk.wait(REST), desk.leave()), (0, vec![u64::from(is_stored)]));
        assert!(desk.outgoing.connection_is_gone(false).is_none());
        assert_eq!(desk.leave(), if is_stored { vec![1] } else { vec![0, 1] });
        assert!(desk.hear(1, true).is_some());
        assert!(desk.outgoing.has_room_for_burials());
    }
}

#[test]
fn a_publish_that_is_refused_fails_beside_burials_of_which_nothing_is_heard() {
    let mut desk = Desk::new();
    desk.bury(7, "a");
    desk.bury(8, "a");
    desk.publish("forbidden");
    assert_eq!(desk.leave(), [0, 1, 2]);
    assert!(desk.outgoing.connection_is_gone(true).is_none());
    assert_eq!((desk.leave(), desk.wait(ALONE)), (vec![0], 0));
    assert_eq!(desk.leave(), [2]);
    let failed = desk.outgoing.connection_is_gone(true);
    assert!(matches!(failed, Some(Settled::Publish(_, Err(Unconfirmed::Refused)))), "{failed:?}");
    assert_eq!(desk.leave(), [0, 1], "nobody is suspected any more");
}

#[test]
fn a_suspected_burial_that_cannot_be_stored_has_its_time_all_the_same() {
    let mut desk = Desk::new();
    desk.bury(7, "a");
    (0..3).for_each(|_| desk.publish("b"));
    assert_eq!(desk.leave(), [0, 1, 2, 3]);
    assert!(desk.outgoing.connection_is_gone(true).is_none());
    for publish in [1, 2, 3] {
        assert_eq!(desk.leave(), [0]);
        assert!(desk.hear(0, false).is_none());
        assert_eq!(desk.leave(), [publish]);
        assert!(desk.hear(publish, true).is_some());
        assert_eq!(desk.wait(REST), 0);
    }
    assert_eq!(desk.outgoing.next_change(), Some(desk.now - REST + LIMIT), "from the last word on");
}

#[test]
fn a_burial_that_is_refused_after_it_stepped_aside_has_failed_if_nothing_else_was_under_way() {
    let mut desk = Desk::new();
    desk.bury(7, "a");
    desk.bury(8, "b");
    desk.leave();
    assert!(desk.outgoing.connection_is_gone(true).is_none());
    assert_eq!((desk.leave(), desk.wait(ALONE)), (vec![0], 0));
    assert!(desk.outgoing.connection_is_gone(true).is_some());
    assert_eq!(desk.leave(), [1]);
}

#[test]
fn tags_are_those_of_burials_that_are_still_waited_for() {
    let mut desk = Desk::new();
    desk.bury(7, "a");
    desk.wait(LIMIT);
    desk.bury(8, "a");
    desk.publish("a");
    assert_eq!(desk.outgoing.tags().collect::<Vec<_>>(), [8]);
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
                confirmed.extend(came[..taken].iter().filter(|&&number| desk.hear(number, true).is_some()));
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
    assert!(desk.outgoing.connection_is_gone(true).is_none(), "it may have been the one whose time was over");
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
        assert!(desk.outgoing.has_room_for_publishes());
        desk.publish(topic);
    }
    assert!(!desk.outgoing.has_room_for_publishes());
    desk.outgoing.leave(desk.now);
    desk.outgoing.leave(desk.now);
    assert_eq!(desk.wait(LIMIT), 4);
    desk.publish("e");
    desk.publish("f");
    assert!(!desk.outgoing.has_room_for_publishes());
    assert!(desk.hear(0, true).is_none());
    assert!(desk.outgoing.has_room_for_publishes());
    desk.publish("g");
    assert!(!desk.outgoing.has_room_for_publishes());
    desk.outgoing.connection_is_gone(false);
    assert!(desk.outgoing.has_room_for_publishes());
}
