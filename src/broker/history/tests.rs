use super::*;

mod expiry;

use std::sync::Arc;

const AMPLE: usize = 1 << 30;
const KEEP: Keep = Keep { size: 100, ttl: Duration::from_secs(60) };
/// What ages are rounded to.
const STEP: Duration = Duration::from_millis(100);

/// A history with a clock.
struct Harness {
    history: History,
    now: Instant,
}

impl Harness {
    fn new() -> Self {
        Self::with(AMPLE, 100)
    }

    fn with(bytes_max: usize, topics_max: usize) -> Self {
        let now = Instant::now();
        Self { history: History::new("E".into(), bytes_max, topics_max, now), now }
    }

    fn add(&mut self, topic: &str, offset: u64) {
        self.add_with(topic, offset, KEEP, None);
    }

    fn add_with(&mut self, topic: &str, offset: u64, keep: Keep, expires: Option<Instant>) {
        let data = data(offset);
        let publication = Publication { data: data.as_bytes(), info: None, offset };
        let lifetime = expires.map(|end| end.saturating_duration_since(self.now));
        let addition = Addition { publication, age: Some(Duration::ZERO), lifetime };
        self.history.add(topic, &addition, keep, self.now);
    }

    fn all(&mut self, topics: &[(&str, u64)]) -> &mut Self {
        topics.iter().for_each(|(topic, offset)| self.add(topic, *offset));
        self
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn ask(&mut self, topic: &str, since: &Since, up_to: u64, mode: Mode, bytes_max: usize) -> Recovery {
        let query = RecoveryQuery { topic, since, up_to, read_to: 0, mode, codec: Codec::Json, bytes_max };
        self.history.recover(&query, self.now)
    }

    /// Which offsets were recovered in mode `Stream`, and where the client is then.
    fn recover(&mut self, topic: &str, epoch: &str, offset: u64, up_to: u64) -> (Option<Vec<u64>>, u64) {
        told(&self.ask(topic, &since(epoch, offset), up_to, Mode::Stream, AMPLE))
    }

    fn cached(&mut self, topic: &str, epoch: &str, offset: u64, up_to: u64) -> (Option<Vec<u64>>, u64) {
        told(&self.ask(topic, &since(epoch, offset), up_to, Mode::Cache, AMPLE))
    }

    fn read(&mut self, topic: &str, after: Option<u64>, limit: usize, reverse: bool) -> (Vec<u64>, u64) {
        let after = after.map(|offset| since("E", offset));
        let query = Query { topic, since: after.as_ref(), limit, reverse };
        let mut page = Vec::new();
        let position = self.history.read(&query, self.now, |publication| {
            Codec::Json.add_publication(&mut page, publication);
            true
        });
        (offsets(&page), position.unwrap().offset)
    }
}

fn data(offset: u64) -> String {
    format!("\"{}\"", "-".repeat(usize::try_from(offset % 7).unwrap()))
}

/// What a codec makes of a publication.
fn json(offset: u64) -> String {
    format!("{{\"data\":{},\"offset\":{offset}}}", data(offset))
}

/// What was published, out of members of an array that must be byte for byte what was put in.
fn offsets(members: &[u8]) -> Vec<u64> {
    let array = format!("[{}]", std::str::from_utf8(members).unwrap());
    let values: Vec<serde_json::Value> = serde_json::from_str(&array).unwrap();
    let offsets: Vec<_> = values.iter().map(|value| value["offset"].as_u64().unwrap()).collect();
    let texts: Vec<_> = offsets.iter().map(|offset| json(*offset)).collect();
    assert_eq!(texts.join(",").as_bytes(), members);
    offsets
}

fn told(recovery: &Recovery) -> (Option<Vec<u64>>, u64) {
    (recovery.missed.as_deref().map(offsets), recovery.position.offset)
}

fn since(epoch: &str, offset: u64) -> Since {
    Since { epoch: epoch.into(), offset }
}

const NEWEST: u64 = u64::MAX;

/// Positions in histories that begin again, or begin while others read the same stream, lead nowhere.
#[test]
fn histories_begin_without_what_was_before() {
    let kept = |harness: &mut Harness| {
        [("a", 5), ("b", 2)].map(|(topic, offset)| harness.recover(topic, "E", offset, NEWEST).0)
    };
    let mut alone = Harness::new();
    alone.all(&[("a", 4), ("a", 5), ("b", 1), ("b", 2)]).history.begin(|topic| topic == "a", None, false);
    assert_eq!(kept(&mut alone), [Some(vec![]), Some(vec![])], "nobody can have missed anything");
    alone.history.begin(|topic| topic == "a", None, true);
    assert_eq!(kept(&mut alone), [None, Some(vec![])]);
    let next = alone.history.next_offset("a");
    alone.add("a", next);
    assert_eq!(alone.recover("a", "E", next - 1, NEWEST), (Some(vec![next]), next));
    assert_eq!((alone.history.topics(), alone.history.publications()), (2, 3));

    let mut stream = Harness::new();
    stream.all(&[("a", 5), ("b", 6)]).history.begin(|topic| topic == "a", Some(8), false);
    for (topic, offset, missed) in
        [("a", 5, None), ("a", 7, None), ("a", 8, Some(vec![])), ("b", 5, Some(vec![6]))]
    {
        assert_eq!(stream.recover(topic, "E", offset, NEWEST).0, missed, "{topic} {offset}");
    }
    stream.add("a", 9);
    assert_eq!(stream.recover("a", "E", 8, NEWEST), (Some(vec![9]), 9));
}

/// Making one topic idle may make another one be forgotten.
#[test]
fn histories_begin_where_few_idle_topics_are_remembered() {
    let mut harness = Harness::with(AMPLE, 1);
    harness.all(&[("a", 1), ("b", 2), ("c", 3)]).history.begin(|_| true, None, true);
    assert_eq!(
        (harness.history.topics(), harness.history.bytes(), harness.history.next_offset("a")),
        (0, 0, 5)
    );
}

#[test]
fn recovery_is_decided_by_the_epoch_and_by_floor_and_top() {
    const SMALL: Keep = Keep { size: 3, ..KEEP };
    /// What was published, epoch and offset asked from, and what is recovered.
    type Case = (&'static [u64], &'static str, u64, Option<&'static [u64]>);
    // Three are held. Dense, then sparse.
    let cases: [Case; 24] = [
        (&[], "E", 0, Some(&[])),
        (&[], "", 0, Some(&[])),
        (&[], "F", 0, None),
        (&[], "E", 1, None),
        (&[1, 2, 3], "E", 0, Some(&[1, 2, 3])),
        (&[1, 2, 3], "E", 1, Some(&[2, 3])),
        (&[1, 2, 3], "E", 3, Some(&[])),
        (&[1, 2, 3], "", 2, Some(&[3])),
        (&[1, 2, 3], "F", 2, None),
        (&[1, 2, 3], "E1", 2, None),
        (&[1, 2, 3], "E", 4, None),
        // Trimmed before the one asked from, exactly at it, after it.
        (&[1, 2, 3, 4, 5], "E", 3, Some(&[4, 5])),
        (&[1, 2, 3, 4, 5], "E", 2, Some(&[3, 4, 5])),
        (&[1, 2, 3, 4, 5], "E", 1, None),
        (&[1, 2, 3, 4, 5], "E", 0, None),
        (&[1, 2, 3, 4, 5], "", 1, None),
        (&[10, 20, 30], "E", 0, Some(&[10, 20, 30])),
        // All that is between belongs to other topics.
        (&[10, 20, 30], "E", 15, Some(&[20, 30])),
        (&[10, 20, 30], "E", 29, Some(&[30])),
        (&[10, 20, 30], "E", 31, None),
        (&[10, 20, 30, 40], "E", 9, None),
        (&[10, 20, 30, 40], "E", 10, Some(&[20, 30, 40])),
        (&[10, 20, 30, 40], "E", 11, Some(&[20, 30, 40])),
        (&[10, 20, 30, 40], "E", NEWEST, None),
    ];
    for (published, epoch, asked, expected) in cases {
        let mut harness = Harness::new();
        published.iter().for_each(|offset| harness.add_with("t", *offset, SMALL, None));
        let top = published.last().copied().unwrap_or(0);
        let expected = (expected.map(<[u64]>::to_vec), top);
        let case = format!("{asked} of {epoch:?} among {published:?}");
        assert_eq!(harness.recover("t", epoch, asked, NEWEST), expected, "{case}");
        assert_eq!(harness.recover("t", epoch, asked, NEWEST), expected, "{case}, again");
        assert_eq!(
            harness.history.position("t", NEWEST),
            Position { epoch: "E".into(), offset: top },
            "{case}"
        );
    }
}

#[test]
fn nobody_recovers_across_what_was_missed() {
    let mut harness = Harness::with(AMPLE, 1);
    harness.all(&[("t", 1), ("t", 2)]);
    for topic in ["t", "u", "t"] {
        let top = harness.history.position(topic, NEWEST).offset;
        assert!(harness.recover(topic, "E", top, NEWEST).0.is_some());
        harness.history.miss(topic);
        assert_eq!(harness.recover(topic, "E", top, NEWEST), (None, top + 1), "{topic}");
        assert_eq!(harness.recover(topic, "E", top + 1, NEWEST), (Some(vec![]), top + 1), "{topic}");
    }
    assert_eq!((harness.history.publications(), harness.history.bytes()), (0, 0));
    let next = harness.history.next_offset("t");
    harness.add("t", next);
    assert_eq!(harness.recover("t", "E", next - 1, NEWEST), (Some(vec![next]), next));
}

#[test]
fn what_was_not_handed_over_is_not_recovered() {
    let mut harness = Harness::new();
    harness.all(&[("t", 10), ("t", 20), ("t", 30)]);
    assert_eq!(harness.recover("t", "E", 0, 20), (Some(vec![10, 20]), 20));
    assert_eq!(harness.recover("t", "E", 10, 29), (Some(vec![20]), 20), "just before the first that waits");
    assert_eq!(harness.recover("t", "E", 20, 20), (Some(vec![]), 20));
    assert_eq!(harness.recover("t", "E", 30, 20), (None, 20), "not before it is handed over");
    assert_eq!(harness.recover("t", "E", 0, 9), (Some(vec![]), 0), "nothing was handed over");
    assert_eq!(harness.history.position("t", 25).offset, 20);
    // Gone before they were handed over: they were missed by nobody.
    for offset in [40, 50] {
        harness.add_with("t", offset, Keep { size: 1, ..KEEP }, None);
    }
    assert_eq!(harness.recover("t", "E", 20, 20), (Some(vec![]), 20));
    assert_eq!(harness.recover("t", "E", 10, 20), (None, 20));
    harness.history.remove("t");
    assert_eq!(harness.recover("t", "E", 20, 20), (Some(vec![]), 20));
    assert_eq!(harness.recover("t", "E", 10, 20), (None, 20));
}

#[test]
fn who_has_read_a_stream_further_than_the_topic_goes_lacks_nothing() {
    let mut harness = Harness::new();
    harness.all(&[("t", 10), ("t", 20)]);
    let mut ask = |offset, up_to, read_to| {
        let (topic, since) = ("t", &since("E", offset));
        let (mode, codec, bytes_max) = (Mode::Stream, Codec::Json, AMPLE);
        let query = RecoveryQuery { topic, since, up_to, read_to, mode, codec, bytes_max };
        told(&harness.history.recover(&query, harness.now))
    };
    assert_eq!(ask(25, NEWEST, 25), (Some(vec![]), 20));
    assert_eq!(ask(26, NEWEST, 25), (None, 20), "from the future");
    assert_eq!(ask(19, 10, 25), (Some(vec![]), 10));
    assert_eq!(ask(20, 10, 25), (None, 10), "it would get 20 again");
    assert_eq!(ask(25, 10, 25), (None, 10));
}

#[test]
fn in_cache_mode_the_latest_is_enough() {
    let mut harness = Harness::new();
    assert_eq!(harness.cached("t", "", 0, NEWEST), (None, 0));
    harness.all(&[("t", 10), ("t", 20), ("t", 30)]);
    assert_eq!(harness.cached("t", "", 0, NEWEST), (Some(vec![30]), 30));
    assert_eq!(harness.cached("t", "F", 30, NEWEST), (Some(vec![30]), 30), "of another epoch");
    assert_eq!(harness.cached("t", "E", 10, NEWEST), (Some(vec![30]), 30));
    assert_eq!(harness.cached("t", "E", 99, NEWEST), (Some(vec![30]), 30));
    assert_eq!(harness.cached("t", "E", 30, NEWEST), (Some(vec![]), 30));
    assert_eq!(harness.cached("t", "E", 30, 20), (Some(vec![20]), 20));
    assert_eq!(harness.cached("t", "", 0, 9), (None, 0), "nothing was handed over");
    harness.pass(KEEP.ttl);
    assert_eq!(harness.cached("t", "E", 10, NEWEST), (None, 30));
    assert_eq!(harness.cached("t", "E", 30, NEWEST), (Some(vec![]), 30));
}

#[test]
fn what_does_not_fit_into_a_frame_is_not_recovered() {
    let mut harness = Harness::new();
    harness.all(&[("t", 7), ("t", 14)]);
    let both = json(7).len() + 1 + json(14).len();
    let later = harness.now + Duration::from_secs(1);
    for mode in [Mode::Stream, Mode::Cache] {
        let whole = if mode == Mode::Stream { both } else { json(14).len() };
        for _ in 0..2 {
            assert!(harness.ask("t", &since("E", 0), NEWEST, mode, whole - 1).missed.is_none());
            assert_eq!(harness.ask("t", &since("E", 0), NEWEST, mode, whole).missed.unwrap().len(), whole);
        }
    }
    harness.add_with("t", 21, KEEP, Some(later));
    assert!(harness.ask("t", &since("E", 0), NEWEST, Mode::Stream, both).missed.is_none());
    harness.now = later;
    assert_eq!(harness.ask("t", &since("E", 0), NEWEST, Mode::Stream, both).missed.unwrap().len(), both);
    assert!(harness.ask("t", &since("E", 0), NEWEST, Mode::Stream, both - 1).missed.is_none());
}

#[test]
fn the_limit_counts_publications_wherever_they_are_in_memory() {
    let mut harness = Harness::new();
    for offset in 1..200 {
        harness.add_with("t", offset, Keep { size: 4, ..KEEP }, None);
        let floor = since("E", offset.saturating_sub(4));
        let whole: Vec<_> = (floor.offset + 1..=offset).map(json).collect();
        let len = whole.join(",").len();
        assert!(harness.ask("t", &floor, NEWEST, Mode::Stream, len - 1).missed.is_none());
        assert_eq!(harness.ask("t", &floor, NEWEST, Mode::Stream, len).missed.unwrap().len(), len);
    }
}

#[test]
fn those_who_ask_for_the_same_share_it_until_the_topic_changes() {
    let mut harness = Harness::new();
    harness.all(&[("t", 10), ("t", 20), ("u", 25)]);
    let ask = |harness: &mut Harness, offset| {
        harness.ask("t", &since("E", offset), NEWEST, Mode::Stream, AMPLE).missed.unwrap()
    };
    let first = ask(&mut harness, 10);
    assert!(Arc::ptr_eq(&first, &ask(&mut harness, 10)));
    assert!(Arc::ptr_eq(&first, &ask(&mut harness, 19)), "the same publications, from another position");
    harness.add("u", 26);
    assert!(Arc::ptr_eq(&first, &ask(&mut harness, 10)), "another topic has changed");
    harness.add("t", 30);
    assert_eq!(Arc::strong_count(&first), 1, "the history keeps no old answers");
    assert_eq!(offsets(&ask(&mut harness, 10)), [20, 30]);
    assert_eq!(offsets(&first), [20]);
    let last = ask(&mut harness, 10);
    harness.add("t", 40);
    assert_eq!(Arc::strong_count(&last), 1);
    let last = ask(&mut harness, 10);
    harness.history.remove("t");
    assert_eq!(Arc::strong_count(&last), 1);
}

#[test]
fn the_oldest_of_all_go_when_the_node_is_full() {
    let cost = |topic: &str, offset| {
        let data = data(offset);
        let publication = Publication { data: data.as_bytes(), info: None, offset };
        TOPIC_COST + topic.len() + Ring::cost(&publication)
    };
    let max = cost("a", 1) + cost("b", 2);
    let mut harness = Harness::with(max, 100);
    harness.all(&[("a", 1), ("b", 2)]);
    assert_eq!((harness.history.bytes(), harness.history.publications()), (max, 2));
    harness.pass(STEP);
    harness.add("c", 3);
    assert_eq!(harness.recover("a", "E", 0, NEWEST), (None, 1));
    assert_eq!(harness.recover("a", "E", 1, NEWEST), (Some(vec![]), 1));
    assert_eq!(harness.recover("b", "E", 0, NEWEST), (None, 2), "it had to go, too: the next is longer");
    assert_eq!(harness.recover("c", "E", 0, NEWEST), (Some(vec![3]), 3));
    let mut nothing = Harness::with(10, 100);
    nothing.add("a", 5);
    assert_eq!((nothing.history.publications(), nothing.history.bytes()), (0, 0));
    assert_eq!(nothing.recover("a", "E", 4, NEWEST), (None, 5));
}

#[test]
fn a_topic_that_was_forgotten_goes_on_beyond_where_it_was() {
    let mut harness = Harness::with(AMPLE, 1);
    for (topic, count) in [("a", 3), ("b", 5), ("c", 1)] {
        for _ in 0..count {
            let next = harness.history.next_offset(topic);
            harness.add(topic, next);
        }
        harness.history.remove(topic);
    }
    assert_eq!(harness.history.topics(), 1, "the one that went last");
    assert_eq!(
        harness.recover("c", "E", 4, NEWEST),
        (Some(vec![]), 4),
        "it came when `a` had been forgotten"
    );
    for topic in ["a", "b", "new"] {
        assert_eq!(harness.history.next_offset(topic), 6, "{topic}");
        assert_eq!(harness.recover(topic, "E", 3, NEWEST), (None, 5), "{topic}");
    }
    harness.add("a", 6);
    assert_eq!(harness.recover("a", "E", 3, NEWEST), (None, 6));
    assert_eq!(harness.recover("a", "E", 5, NEWEST), (Some(vec![6]), 6));
}

#[test]
fn topics_of_one_message_have_one_offset() {
    // So little is held that the first is forgotten before the second comes.
    let mut harness = Harness::with(0, 0);
    harness.all(&[("a", 7), ("b", 7)]);
    assert_eq!((harness.history.topics(), harness.history.bytes()), (0, 0));
    assert_eq!(harness.recover("b", "E", 6, NEWEST), (None, 7));
    assert_eq!(harness.recover("b", "E", 7, NEWEST), (Some(vec![]), 7));
}

#[test]
fn a_restart_forgets_everything() {
    let mut harness = Harness::new();
    harness.all(&[("a", 10), ("b", 20)]);
    harness.recover("a", "E", 0, NEWEST);
    harness.history.remove("b");
    harness.history.restart("F".into(), 100);
    assert_eq!(
        (harness.history.topics(), harness.history.bytes(), harness.history.publications()),
        (0, 0, 0)
    );
    assert_eq!(harness.history.next_expiry(), None);
    assert_eq!(harness.recover("a", "E", 10, NEWEST), (None, 100));
    assert_eq!(harness.recover("a", "F", 99, NEWEST), (None, 100));
    assert_eq!(harness.recover("a", "", 100, NEWEST), (Some(vec![]), 100));
    harness.add("a", 150);
    assert_eq!(harness.recover("a", "F", 100, NEWEST), (Some(vec![150]), 150));
    assert_eq!(harness.recover("a", "F", 99, NEWEST), (None, 150));
    assert_eq!(&*harness.history.position("a", NEWEST).epoch, "F");
}

#[test]
fn history_is_read_in_pages_both_ways() {
    let mut harness = Harness::new();
    assert_eq!(harness.read("t", None, 10, false), (vec![], 0));
    harness.all(&[("t", 10), ("t", 20), ("t", 30), ("t", 40)]);
    let cases: [(Option<u64>, usize, bool, &[u64]); 10] = [
        (None, 0, false, &[]),
        (None, 2, false, &[10, 20]),
        (None, 9, false, &[10, 20, 30, 40]),
        (None, 3, true, &[40, 30, 20]),
        (Some(20), 1, false, &[30]),
        (Some(25), 9, false, &[30, 40]),
        (Some(40), 9, false, &[]),
        (Some(30), 9, true, &[20, 10]),
        (Some(0), 9, true, &[]),
        (Some(NEWEST), 1, true, &[40]),
    ];
    for (after, limit, reverse, expected) in cases {
        let read = harness.read("t", after, limit, reverse);
        assert_eq!(read, (expected.to_vec(), 40), "{limit} from {after:?}, {reverse}");
    }
    let foreign = since("F", 10);
    let query = Query { topic: "t", since: Some(&foreign), limit: 1, reverse: false };
    assert_eq!(harness.history.read(&query, harness.now, |_| panic!("of another epoch")), Err(Unrecoverable));
    let mut shown = Vec::new();
    let query = Query { since: None, limit: 4, ..query };
    let position = harness.history.read(&query, harness.now, |publication| {
        shown.push(publication.offset);
        publication.offset < 20
    });
    assert_eq!((shown, position.unwrap().offset), (vec![10, 20], 40), "until there is no room");
}

#[test]
fn a_namespace_without_history_leaves_no_trace() {
    let mut harness = Harness::new();
    harness.add_with("t", 1, Keep { size: 0, ..KEEP }, None);
    assert_eq!((harness.history.topics(), harness.history.bytes()), (0, 0));
}

#[test]
#[should_panic(expected = "does not come after 5")]
fn offsets_rise() {
    let mut harness = Harness::new();
    harness.all(&[("t", 5), ("t", 5)]);
}

#[test]
#[should_panic(expected = "is before 100")]
fn offsets_of_an_old_numbering_are_a_mistake() {
    let mut harness = Harness::new();
    harness.history.restart("E".into(), 100);
    harness.add("t", 99);
}
