use super::*;
use crate::domain::encoding::Encoding;
use crate::domain::mail::Lane;
use std::collections::BTreeMap;
use std::sync::Arc;

const PLAIN: Variant = Variant { encoding: Encoding::Json, lane: Lane::FIRST };

fn topic() -> Topic {
    let namespaces = crate::domain::namespaces::Namespaces::new(&crate::config::Config::default());
    Topic::new("t".into(), namespaces.of("t"), PLAIN)
}

fn lines(text: &str) -> Lines {
    let plain_bytes = u32::try_from(text.len()).unwrap();
    Lines { bytes: Arc::new(text.as_bytes().to_vec()), count: 1, plain_bytes, offset: 0, keyed: None }
}

/// Plays every sequence of six operations on up to four subscribers and checks after each that the
/// places told are the places taken, and that `behind` is what the cursors say.
#[test]
fn every_short_history_keeps_places_and_counts() {
    const STEPS: u32 = 6;
    const KINDS: u32 = 7;
    for mut history in 0..KINDS.pow(STEPS) {
        let (mut topic, mut places, mut next) = (topic(), BTreeMap::new(), 0_u32);
        for _ in 0..STEPS {
            let kind = history % KINDS;
            history /= KINDS;
            let first = places.iter().next().map(|(&client, &place)| (client, place));
            let last = places.iter().next_back().map(|(&client, &place)| (client, place));
            let mut told = |moved: Moved| {
                places.insert(moved.client, moved.position);
            };
            match (kind, first, last) {
                (0 | 1, ..) => {
                    topic.subscribe(next, told);
                    next += 1;
                }
                (2, Some((_, place)), _) if !topic.is_parked(place) => topic.park(place, told),
                (2, Some((_, place)), _) => topic.unpark(place, told),
                (3, _, Some((_, place))) if !topic.is_parked(place) => topic.park(place, told),
                (4, _, Some((client, place))) => {
                    topic.unsubscribe(place, &mut told);
                    places.remove(&client);
                }
                (5, Some((_, place)), _) => topic.advance(place, topic.end()),
                (6, ..) => topic.append(&lines("x\n"), Vec::new),
                _ => {}
            }
            check(&topic, &places);
        }
    }
}

fn check(topic: &Topic, places: &BTreeMap<u32, u32>) {
    assert_eq!(topic.subscribers().len(), places.len());
    for (&client, &place) in places {
        assert_eq!(topic.subscribers()[place as usize].client, client);
    }
    let behind = topic.awake().iter().filter(|one| one.cursor < topic.end()).count();
    assert_eq!(topic.behind() as usize, behind);
}

/// Three subscribers that have everything, and one line that they lack.
fn three_and_a_line() -> Topic {
    let mut topic = topic();
    (0..3).for_each(|client| topic.subscribe(client, |_| {}));
    topic.append(&lines("x\n"), Vec::new);
    topic
}

/// Gives whoever the sweep is at everything, and goes on.
fn sweep_one(topic: &mut Topic) {
    let (place, _) = topic.at_sweep().unwrap();
    topic.advance(place, topic.end());
    topic.step_sweep();
}

#[test]
fn who_comes_back_lacks_what_was_written_to_the_others() {
    let mut topic = three_and_a_line();
    topic.park(0, |_| {});
    (0..2).for_each(|_| sweep_one(&mut topic));
    topic.begin_lap();
    let shown = topic.begin_lap().expect("nobody was moved");
    assert!(shown == topic.end() && topic.backlog.is_swept_to(shown));
    topic.unpark(2, |_| {});
    assert!(!topic.backlog.is_swept_to(1));
}

#[test]
fn a_lap_that_leaves_out_who_came_back_shows_nothing() {
    let mut topic = three_and_a_line();
    topic.begin_lap();
    topic.park(0, |_| {});
    sweep_one(&mut topic);
    // The last of those who are swept blocks at its turn, and then the other one leaves.
    topic.park(1, |_| {});
    topic.unsubscribe(0, |_| {});
    let parked_first = topic.subscribers().iter().position(|one| one.client == 0).unwrap();
    topic.unpark(u32::try_from(parked_first).unwrap(), |_| {});
    assert!(topic.lacks(0) && topic.at_sweep().is_none(), "the sweep does not meet who came back");
    assert_eq!(topic.begin_lap(), None);
}
