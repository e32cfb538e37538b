use super::*;
use crate::broker::topics::{Attachment, Topics};
use crate::config::Config;
use crate::domain::encoding::Encoding;
use crate::domain::mail::{Lane, TopicSlot, Variant};
use crate::domain::namespaces::Namespaces;
use proptest::prelude::*;
use std::collections::BTreeMap;

const AT_ONCE: Rules = Rules { delay: Duration::ZERO, lines: 0, bytes: 0 };
const SECOND: Rules = Rules { delay: Duration::from_secs(1), ..AT_ONCE };

/// Numbers of that many topics.
fn topics(count: usize) -> Vec<TopicId> {
    let (mut topics, namespaces) = (Topics::new(count), Namespaces::new(&Config::default()));
    let names = (0..count).map(|n| n.to_string());
    let attach = |name: String| {
        let variant = Variant { encoding: Encoding::Json, lane: Lane::FIRST };
        let attachment = Attachment { shard: 0, variant, slot: TopicSlot(0) };
        topics.attach(name.as_str().into(), attachment, |name| namespaces.of(name)).unwrap();
        topics.find(&name).unwrap()
    };
    names.map(attach).collect()
}

/// An [`Arrival`] whose line can be had again.
struct Arriving<'a> {
    topic: TopicId,
    lanes: Lanes,
    line: &'a str,
    key: Option<u64>,
    tag: u64,
}

fn arrival(topic: TopicId, line: &str, key: Option<u64>, tag: u64) -> Arriving<'_> {
    Arriving { topic, lanes: Lanes::from_iter([Lane::FIRST]), line, key, tag }
}

fn add(merge: &mut Merge, arriving: &Arriving<'_>, rules: &Rules, now: Instant) -> usize {
    let &Arriving { topic, lanes, line, key, tag } = arriving;
    let (line, published) = (&mut line.as_bytes().to_vec(), Some(UnixTime::from_micros(tag * 10)));
    merge.add(
        Arrival { topic, lanes, line, key, tag, published, offset: tag * 2, is_numbered: true },
        rules,
        now,
    )
}

fn shown(batches: &[Batch]) -> Vec<(&str, u32, u64)> {
    batches.iter().map(|batch| (std::str::from_utf8(&batch.bytes).unwrap(), batch.lines, batch.tag)).collect()
}

#[test]
fn lines_of_one_turn_leave_together_and_in_order() {
    let (start, ids) = (Instant::now(), topics(2));
    let mut merge = Merge::new(100, 1000);
    assert_eq!(add(&mut merge, &arrival(ids[0], "a\n", None, 1), &AT_ONCE, start), 1);
    assert_eq!(add(&mut merge, &arrival(ids[1], "b\n", None, 2), &AT_ONCE, start), 1);
    assert_eq!(add(&mut merge, &arrival(ids[0], "c\n", None, 3), &AT_ONCE, start), 0);
    let batches = merge.take_ripe(start);
    assert_eq!(shown(&batches), [("a\nc\n", 2, 1), ("b\n", 1, 2)]);
    assert_eq!(batches[0].published, [10, 30].map(UnixTime::from_micros));
    assert_eq!((merge.bytes(), merge.next_deadline()), (0, None));
}

/// Limits count the bytes of a batch, and not the capacity of its buffer.
#[test]
fn a_batch_that_takes_a_large_buffer_gives_most_of_it_back() {
    let (start, ids) = (Instant::now(), topics(1));
    let mut merge = Merge::new(200_000, 200_000);
    let mut line = Vec::with_capacity(100_000);
    line.extend_from_slice(b"small\n");
    let lanes = Lanes::from_iter([Lane::FIRST]);
    let (line_of, is_numbered) = (&mut line, true);
    let arrival = Arrival {
        topic: ids[0],
        lanes,
        line: line_of,
        key: None,
        tag: 1,
        published: None,
        offset: 0,
        is_numbered,
    };
    merge.add(arrival, &SECOND, start);
    assert!(line.is_empty(), "it is taken");
    let waiting = merge.windows.values().map(|window| window.lines.bytes.capacity()).sum::<usize>();
    merge.close_all();
    let batches = merge.take_ripe(start);
    assert!(waiting <= 12 && batches[0].bytes.capacity() <= 12, "{waiting}");
}

#[test]
fn a_window_lasts_from_its_first_line_and_not_longer() {
    let (start, ids) = (Instant::now(), topics(1));
    let mut merge = Merge::new(100, 1000);
    let at = |milliseconds| start + Duration::from_millis(milliseconds);
    add(&mut merge, &arrival(ids[0], "a\n", None, 1), &SECOND, at(0));
    add(&mut merge, &arrival(ids[0], "b\n", None, 2), &SECOND, at(900));
    assert!(merge.take_ripe(at(999)).is_empty());
    assert_eq!(merge.next_deadline(), Some(at(1000)));
    assert_eq!(shown(&merge.take_ripe(at(1000))), [("a\nb\n", 2, 1)]);
    add(&mut merge, &arrival(ids[0], "c\n", None, 3), &SECOND, at(1000));
    assert_eq!(merge.next_deadline(), Some(at(2000)));
}

#[test]
fn each_limit_ends_a_window_early() {
    let (start, ids) = (Instant::now(), topics(2));
    for (rules, frame, total, expected) in [
        (Rules { lines: 2, ..SECOND }, 100, 1000, vec![("aaa\nbbb\n", 2, 1), ("ccc\nddd\n", 2, 3)]),
        (Rules { bytes: 5, ..SECOND }, 100, 1000, vec![("aaa\nbbb\n", 2, 1), ("ccc\nddd\n", 2, 3)]),
        (SECOND, 8, 1000, vec![("aaa\nbbb\n", 2, 1)]),
        (SECOND, 7, 1000, vec![("aaa\n", 1, 1), ("bbb\n", 1, 2), ("ccc\n", 1, 3)]),
        (SECOND, 100, 11, vec![("aaa\nbbb\nccc\n", 3, 1)]),
        (SECOND, 100, 16, vec![]),
    ] {
        let mut merge = Merge::new(frame, total);
        for (tag, line) in (1..).zip(["aaa\n", "bbb\n", "ccc\n", "ddd\n"]) {
            add(&mut merge, &arrival(ids[0], line, None, tag), &rules, start);
        }
        assert_eq!(shown(&merge.take_ripe(start)), expected, "{rules:?} {frame} {total}");
    }
    // Too much in total ends the windows of all topics.
    let mut merge = Merge::new(100, 7);
    add(&mut merge, &arrival(ids[1], "bbb\n", None, 1), &SECOND, start);
    add(&mut merge, &arrival(ids[0], "aaa\n", None, 2), &SECOND, start);
    assert_eq!(merge.take_ripe(start).len(), 2);
}

/// Which lines are of which key is for those who will turn out to be slow: nothing is left out here.
#[test]
fn a_batch_says_where_its_lines_of_each_key_are_and_has_them_all() {
    let (start, ids) = (Instant::now(), topics(1));
    let mut merge = Merge::new(100, 1000);
    for (tag, (line, key)) in
        (1..).zip([("x1\n", Some(7)), ("y\n", Some(8)), ("--\n", None), ("x2\n", Some(7))])
    {
        add(&mut merge, &arrival(ids[0], line, key, tag), &SECOND, start);
    }
    let batches = merge.take_ripe(start + SECOND.delay);
    assert_eq!(shown(&batches), [("x1\ny\n--\nx2\n", 4, 1)]);
    let keyed = [(7, 0, 3), (8, 3, 5), (7, 8, 11)].map(|(key, from, to)| KeyedLine { key, from, to });
    assert_eq!(batches[0].keyed, keyed);
    // The next window begins anew.
    add(&mut merge, &arrival(ids[0], "x3\n", Some(7), 7), &SECOND, start);
    let batches = merge.take_ripe(start + SECOND.delay);
    assert_eq!((shown(&batches), &batches[0].keyed[..]), (vec![("x3\n", 1, 7)], &keyed[..1]));
}

#[test]
fn a_topic_that_is_gone_takes_its_window_along() {
    let (start, ids) = (Instant::now(), topics(2));
    let mut merge = Merge::new(100, 1000);
    add(&mut merge, &arrival(ids[0], "a\n", None, 4), &SECOND, start);
    add(&mut merge, &arrival(ids[1], "b\n", None, 5), &SECOND, start);
    assert_eq!(merge.forget(ids[0]).collect::<Vec<_>>(), [4]);
    assert_eq!(merge.forget(ids[0]).count(), 0);
    assert_eq!(merge.bytes(), 2);
    merge.close_all();
    assert_eq!(shown(&merge.take_ripe(start)), [("b\n", 1, 5)]);
}

/// The lanes with these numbers.
fn lanes(numbers: &[usize]) -> Lanes {
    numbers.iter().map(|&number| Lane::ALL[number]).collect()
}

#[test]
fn lanes_wait_together_after_a_pause_and_then_each_to_its_own_moment() {
    let (start, ids) = (Instant::now(), topics(1));
    let mut merge = Merge::new(100, 1000);
    let at = |milliseconds| start + Duration::from_millis(milliseconds);
    let arrival = |line, tag| Arriving { lanes: lanes(&[0, 2, 4]), ..arrival(ids[0], line, None, tag) };
    assert_eq!(add(&mut merge, &arrival("a\n", 1), &SECOND, at(0)), 3);
    assert_eq!(add(&mut merge, &arrival("b\n", 2), &SECOND, at(900)), 0);
    assert_eq!((merge.bytes(), merge.next_deadline()), (12, Some(at(1000))));
    let batches = merge.take_ripe(at(1000));
    assert_eq!((shown(&batches), batches[0].lanes), (vec![("a\nb\n", 2, 1)], lanes(&[0, 2, 4])));
    assert_eq!(add(&mut merge, &arrival("c\n", 3), &SECOND, at(1100)), 3);
    assert_eq!(add(&mut merge, &arrival("d\n", 4), &SECOND, at(1300)), 0);
    // The third lane's windows end after two eighths of each second, the fifth's after four.
    for (ends, lane, line, next) in [(1250, 2, "e\n", 5), (1500, 4, "f\n", 6), (2000, 0, "g\n", 7)] {
        assert!(merge.take_ripe(at(ends - 1)).is_empty());
        let batches = merge.take_ripe(at(ends));
        assert_eq!((batches.len(), batches[0].lanes, batches[0].tag), (1, lanes(&[lane]), 3), "at {ends} ms");
        assert_eq!(add(&mut merge, &arrival(line, next), &SECOND, at(ends)), 1);
    }
    assert_eq!(merge.next_deadline(), Some(at(2250)));
    merge.close_all();
    let waited = [("e\nf\ng\n", 3, 5), ("f\ng\n", 2, 6), ("g\n", 1, 7)];
    assert_eq!(shown(&merge.take_ripe(at(2000))), waited);
    assert_eq!((merge.bytes(), merge.next_deadline()), (0, None));
}

/// A reload may end the delay of a topic that has lanes.
#[test]
fn lanes_without_a_delay_wait_to_the_end_of_the_turn() {
    let (start, ids) = (Instant::now(), topics(1));
    let mut merge = Merge::new(100, 1000);
    let arrival = |line, tag| Arriving { lanes: lanes(&[0, 3]), ..arrival(ids[0], line, None, tag) };
    for (milliseconds, line, tag) in [(0, "a\n", 1), (1, "b\n", 2), (900, "c\n", 3)] {
        let now = start + Duration::from_millis(milliseconds);
        assert_eq!(add(&mut merge, &arrival(line, tag), &AT_ONCE, now), 2);
        let batches = merge.take_ripe(now);
        assert_eq!((shown(&batches), batches[0].lanes), (vec![(line, 1, tag)], lanes(&[0, 3])));
    }
}

#[test]
fn a_limit_ends_the_windows_of_all_lanes_at_once_and_they_share_a_batch() {
    let (start, ids) = (Instant::now(), topics(1));
    let mut merge = Merge::new(100, 1000);
    let rules = Rules { lines: 1, ..SECOND };
    let arrival = Arriving { lanes: lanes(&[1, 7]), ..arrival(ids[0], "a\n", None, 1) };
    // One message may name a topic twice: then both publications go to both lanes.
    assert_eq!(add(&mut merge, &arrival, &rules, start) + add(&mut merge, &arrival, &rules, start), 4);
    let batches = merge.take_ripe(start);
    assert_eq!(batches.iter().map(|batch| batch.lanes.iter().count()).sum::<usize>(), 4);
    assert_eq!(shown(&batches), [("a\n", 1, 1), ("a\n", 1, 1)]);
}

#[test]
fn who_comes_to_a_new_lane_gets_what_comes_after() {
    let (start, ids) = (Instant::now(), topics(1));
    let mut merge = Merge::new(100, 1000);
    let begin = |merge: &mut Merge| {
        add(merge, &arrival(ids[0], "a\n", None, 1), &SECOND, start);
        let second = Arriving { lanes: lanes(&[0, 3]), ..arrival(ids[0], "b\n", None, 2) };
        assert_eq!(add(merge, &second, &SECOND, start), 1);
    };
    begin(&mut merge);
    assert_eq!(merge.forget(ids[0]).collect::<Vec<_>>(), [1, 2], "each lane holds a tag");
    begin(&mut merge);
    merge.close_all();
    let batches = merge.take_ripe(start);
    assert_eq!(shown(&batches), [("a\nb\n", 2, 1), ("b\n", 1, 2)]);
    assert_eq!((batches[0].lanes, batches[1].lanes), (lanes(&[0]), lanes(&[3])));
}

proptest! {
    /// Whatever the limits and the times: nothing is lost, nothing comes twice, topics keep their order, no
    /// batch exceeds a frame, and nothing waits longer than its window; in each lane.
    #[test]
    fn what_goes_in_comes_out_once_and_in_order(
        lines in prop::collection::vec((0..3_usize, 1..9_usize, 0..300_u64), 0..80),
        (max_lines, max_bytes, delay) in (0..4_u32, 0..12_usize, 0..500_u64),
        total in 20..60_usize,
    ) {
        let (start, ids) = (Instant::now(), topics(3));
        let rules = Rules { delay: Duration::from_millis(delay), lines: max_lines, bytes: max_bytes };
        let mut merge = Merge::new(20, total);
        let lanes_of = [lanes(&[0]), lanes(&[0, 3]), lanes(&[1, 2, 7])];
        let (mut sent, mut got) = (vec![String::new(); 3], BTreeMap::<_, String>::new());
        let mut now = start;
        let mut begun = 0;
        let mut handed = 0;
        let mut collect = |batches: Vec<Batch>, got: &mut BTreeMap<_, String>| {
            for batch in batches {
                assert!(batch.bytes.len() <= 20 && batch.lines > 0);
                assert_eq!(batch.lines as usize, batch.bytes.iter().filter(|&&byte| byte == b'\n').count());
                let topic = ids.iter().position(|&id| id == batch.topic).unwrap();
                for lane in batch.lanes.iter() {
                    got.entry((topic, lane)).or_default().push_str(std::str::from_utf8(&batch.bytes).unwrap());
                    handed += 1;
                }
            }
            handed
        };
        for (tag, (topic, len, pause)) in (1..).zip(lines) {
            now += Duration::from_millis(pause);
            let line = format!("{}\n", char::from(b'a' + u8::try_from(tag % 26).unwrap()).to_string().repeat(len));
            let arrival = Arriving { lanes: lanes_of[topic], ..arrival(ids[topic], &line, None, tag) };
            begun += add(&mut merge, &arrival, &rules, now);
            sent[topic].push_str(&line);
            prop_assert!(merge.bytes() <= total);
            collect(merge.take_ripe(now), &mut got);
            prop_assert!(merge.next_deadline().is_none_or(|deadline| deadline > now && deadline <= now + rules.delay));
        }
        merge.close_all();
        let handed = collect(merge.take_ripe(now), &mut got);
        prop_assert_eq!(handed, begun);
        let wanted = sent.iter().zip(lanes_of).enumerate();
        let wanted = wanted.flat_map(|(topic, (text, lanes))| lanes.iter().map(move |lane| ((topic, lane), text)));
        let wanted: BTreeMap<_, _> = wanted.filter(|(_, text)| !text.is_empty()).collect();
        prop_assert_eq!(got.iter().map(|(&key, text)| (key, text)).collect::<BTreeMap<_, _>>(), wanted);
        prop_assert_eq!((merge.bytes(), merge.next_deadline()), (0, None));
    }
}
