use super::*;
use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use crate::codec::deflate::{Deflater, TAIL};
use crate::domain::mail::KeyedLine;

fn log_of(position: u64, batches: &[&str]) -> Log {
    let mut log = Log::new(position, Encoding::Json, Vec::new());
    batches.iter().for_each(|batch| log.append(&lines_of(batch)));
    log
}

fn lines_of(batch: &str) -> Lines {
    let count = u32::try_from(batch.matches('\n').count()).unwrap();
    let plain_bytes = u32::try_from(batch.len()).unwrap();
    Lines { bytes: Arc::new(batch.as_bytes().to_vec()), count, plain_bytes, offset: 0, keyed: None }
}

fn frame(log: &mut Log, span: &Span) -> Vec<u8> {
    let framing = match log.encoding() {
        Encoding::Json => Framing::Text,
        Encoding::Deflated => Framing::CompressedText,
    };
    log.with_frame(span, framing, <[u8]>::to_vec)
}

#[test]
fn whoever_is_behind_gets_everything_in_one_frame() {
    let mut log = log_of(1000, &["a\n", "bb\nc\n", "d\n"]);
    let span = log.span(1002, 100);
    assert_eq!(span, Span { from: 1002, to: 1009, lines: 3 });
    assert_eq!(frame(&mut log, &span), b"\x81\x06bb\nc\nd");
    let all = log.span(1000, 100);
    assert_eq!(frame(&mut log, &all), b"\x81\x08a\nbb\nc\nd", "the borrowed bytes are back in place");
}

#[test]
fn a_frame_ends_between_batches_within_its_limit() {
    let log = log_of(0, &["aaaa\n", "bbbb\n", "cccc\n"]);
    for (limit, to) in [(15, 15), (14, 10), (10, 10), (9, 5), (5, 5), (1, 5)] {
        assert_eq!(log.span(0, limit).to, to, "limit {limit}");
    }
    assert_eq!(log.span(5, 5), Span { from: 5, to: 10, lines: 1 });
}

#[test]
fn a_compressed_frame_is_marked_ends_before_its_tail_and_is_limited_by_what_comes_out_of_it() {
    let mut log = Log::new(100, Encoding::Deflated, Vec::new());
    for (segment, plain_bytes) in [("aa", 50), ("b", 60), ("", 70), ("cccc", 7)] {
        let bytes = [segment.as_bytes(), &TAIL].concat().into();
        log.append(&Lines { bytes, count: 2, plain_bytes, offset: 0, keyed: None });
    }
    let all = log.span(100, 187);
    assert_eq!(all, Span { from: 100, to: 123, lines: 8 });
    assert_eq!(frame(&mut log, &all), [&b"\xc1\x13aa"[..], &TAIL, b"b", &TAIL, &TAIL, b"cccc"].concat());
    for (limit, to) in [(186, 115), (180, 115), (179, 111), (110, 111), (109, 106), (1, 106)] {
        assert_eq!(log.span(100, limit).to, to, "limit {limit}");
    }
    // What has gone before counts no more.
    log.drop_before(106);
    let rest = log.span(106, 137);
    assert_eq!(rest, Span { from: 106, to: 123, lines: 6 });
    assert_eq!(frame(&mut log, &rest), [&b"\xc1\x0db"[..], &TAIL, &TAIL, b"cccc"].concat());
    // Segments may also be larger than what they are made of.
    let mut stored = Log::new(0, Encoding::Deflated, Vec::new());
    for _ in 0..3 {
        stored.append(&Lines {
            bytes: Arc::new(vec![0; 20]),
            count: 1,
            plain_bytes: 10,
            offset: 0,
            keyed: None,
        });
    }
    assert_eq!(stored.span(0, 59).to, 40);
}

#[test]
fn long_frames_have_long_headers() {
    for length in [124, 125, 126, 65_535, 65_536] {
        let line = format!("{}\n", "x".repeat(length));
        let mut log = log_of(7, &["before\n", &line]);
        let span = log.span(14, usize::MAX >> 1);
        let mut expected = Framing::Text.header(length).as_bytes().to_vec();
        expected.extend_from_slice(&line.as_bytes()[..length]);
        assert!(frame(&mut log, &span) == expected, "{length}");
    }
}

#[test]
fn what_is_dropped_is_gone_and_the_rest_is_where_it_was() {
    let mut log = log_of(0, &["a\n", "b\n", "c\n"]);
    assert_eq!(log.boundary(1), 2);
    assert_eq!(log.drop_before(2), 2);
    log.check();
    assert_eq!((log.start(), log.end(), log.len(), log.newest()), (2, 6, 4, 4));
    let span = log.span(2, 100);
    assert_eq!(span.lines, 2);
    assert_eq!(frame(&mut log, &span), b"\x81\x03b\nc");
    log.drop_before(6);
    assert!(log.is_empty());
    assert_eq!(log.newest(), 6);
}

#[test]
fn a_log_is_trimmed_by_halves_and_looked_through_again_when_it_has_doubled() {
    let batch = format!("{}\n", "x".repeat(TRIM_FROM / 4 - 1));
    let mut log = log_of(0, &[&*batch; 3]);
    assert!(!log.is_to_be_trimmed());
    log.append(&lines_of(&batch));
    assert!(log.is_to_be_trimmed());
    let quarter = TRIM_FROM as u64 / 4;
    // Less than a half, though it is more than a half up to the end of the batch that somebody is in the middle of.
    assert_eq!((log.trim(2 * quarter - 1), log.start()), (0, 0));
    assert!(!log.is_to_be_trimmed());
    (0..4).for_each(|_| log.append(&lines_of(&batch)));
    assert!(log.is_to_be_trimmed());
    assert_eq!((log.trim(7 * quarter), log.start()), (TRIM_FROM / 4 * 7, 7 * quarter));
    log.check();
    // A short one has time.
    (0..2).for_each(|_| log.append(&lines_of(&batch)));
    assert!(!log.is_to_be_trimmed());
}

/// A subscriber that has not been sent anything since it came. Lines are told apart by their numbers.
struct Waiting {
    cursor: u64,
    /// What it lacks, less what may be left out since the log was compacted.
    must: Vec<usize>,
    /// What it lacks.
    may: Vec<usize>,
}

/// A log beside what was put into it.
struct Model {
    log: Log,
    encoding: Encoding,
    /// Texts and keys.
    lines: Vec<(String, Option<u64>)>,
    /// The first line of each batch in the log, by the batch's position.
    batches: BTreeMap<u64, usize>,
    waiting: Vec<Waiting>,
}

impl Model {
    fn new(encoding: Encoding) -> Self {
        let log = Log::new(1000, encoding, Vec::new());
        Self { log, encoding, lines: Vec::new(), batches: BTreeMap::new(), waiting: Vec::new() }
    }

    /// Somebody comes, and then a batch of lines with these keys.
    fn append(&mut self, keys: &[Option<u64>]) {
        self.waiting.push(Waiting { cursor: self.log.end(), must: Vec::new(), may: Vec::new() });
        self.batches.insert(self.log.end(), self.lines.len());
        let (mut plain, mut keyed) = (String::new(), Vec::new());
        for &key in keys {
            let number = self.lines.len();
            let noise = format!("{:016x}", SmallRng::seed_from_u64(number as u64).random::<u64>());
            let text = format!("{number} {}\n", &noise[..number % 16]);
            let from = u32::try_from(plain.len()).unwrap();
            plain.push_str(&text);
            let to = u32::try_from(plain.len()).unwrap();
            keyed.extend(key.map(|key| KeyedLine { key, from, to }));
            self.lines.push((text, key));
            self.waiting.iter_mut().for_each(|one| one.must.push(number));
            self.waiting.iter_mut().for_each(|one| one.may.push(number));
        }
        let bytes = match self.encoding {
            Encoding::Json => plain.as_bytes().to_vec().into(),
            Encoding::Deflated => Deflater::default().segment(plain.as_bytes(), 0).to_vec().into(),
        };
        let (count, plain_bytes) = (u32::try_from(keys.len()).unwrap(), u32::try_from(plain.len()).unwrap());
        let keyed = (!keyed.is_empty()).then(|| Arc::new(keyed));
        self.log.append(&Lines { bytes, count, plain_bytes, offset: 0, keyed });
    }

    fn is_latest(&self, number: usize) -> bool {
        let key = self.lines[number].1;
        key.is_some() && self.lines[number + 1..].iter().all(|(_, later)| *later != key)
    }

    /// Compacts what lies before one of the marks.
    fn compact(&mut self, which: usize) {
        let marks: Vec<_> = self.log.marks.iter().map(|mark| mark.position).collect();
        let floor = marks[which];
        if !self.log.has_keys() {
            return;
        }
        let before = (self.log.len(), self.log.weight());
        let limits = CompactionLimits { keys: usize::MAX, bytes: usize::MAX };
        let compacted = self.log.compact(floor, limits, &mut Inflater::default());
        assert_eq!(compacted.dropped, 0);
        assert!(self.log.len() <= before.0 && self.log.weight() <= before.1, "it became larger");
        let whole_from = self.batches.get(&floor).copied().unwrap_or(self.lines.len());
        for index in 0..self.waiting.len() {
            let must = std::mem::take(&mut self.waiting[index].must);
            let stays = |number: &usize| *number >= whole_from || self.is_latest(*number);
            let must = must.into_iter().filter(stays).collect();
            let one = &mut self.waiting[index];
            one.must = must;
            if one.cursor < floor {
                one.cursor = compacted.place_of(one.cursor);
            }
        }
        let moved = compacted.moved.iter().map(|(was_at, begins)| (*begins, self.batches[was_at]));
        self.batches = moved.chain(self.batches.range(floor..).map(|(&at, &first)| (at, first))).collect();
    }

    /// What comes out for somebody at `cursor`, in frames as small as they can be, or as large.
    fn read(&mut self, mut cursor: u64, frame_max: usize) -> String {
        let mut text = String::new();
        while cursor < self.log.end() {
            let span = self.log.span(cursor, frame_max);
            let frame = frame(&mut self.log, &span);
            let payload = &frame[if frame[1] < 126 { 2 } else { 4 }..];
            let plain = match self.encoding {
                Encoding::Json => [payload, b"\n"].concat(),
                Encoding::Deflated => Inflater::default().segments(payload, 100_000).unwrap(),
            };
            let plain = String::from_utf8(plain).unwrap();
            assert_eq!(plain.matches('\n').count() as u64, span.lines);
            text.push_str(&plain);
            cursor = span.to;
        }
        text
    }

    fn check(&mut self) {
        self.log.check();
        for index in 0..self.waiting.len() {
            let cursor = self.waiting[index].cursor;
            let text = self.read(cursor, 1);
            assert_eq!(self.read(cursor, 60_000), text, "however it is cut into frames");
            let number = |line: &str| line.split(' ').next().unwrap().parse::<usize>().unwrap();
            let got: Vec<_> = text.lines().map(number).collect();
            assert_eq!(text, got.iter().map(|&number| &*self.lines[number].0).collect::<String>());
            let Waiting { must, may, .. } = &self.waiting[index];
            match self.encoding {
                Encoding::Json => assert_eq!(&got, must),
                // A segment may have stayed for the sake of some of its lines.
                Encoding::Deflated => {
                    assert!(got.is_sorted_by(|one, next| one < next), "{got:?}");
                    assert!(got.iter().all(|number| may.contains(number)), "{got:?} of {may:?}");
                    assert!(must.iter().all(|number| got.contains(number)), "{got:?}, not all of {must:?}");
                }
            }
        }
    }
}

#[test]
fn who_lacks_some_of_what_is_compacted_gets_the_latest_of_each_key_that_it_lacks() {
    let mut log = Model::new(Encoding::Json);
    for keys in [&[Some(1), Some(2)][..], &[Some(1), None], &[Some(3)], &[Some(2), Some(2)]] {
        log.append(keys);
    }
    log.compact(3);
    assert_eq!(
        log.waiting.iter().map(|one| one.must.clone()).collect::<Vec<_>>(),
        [vec![2, 4, 5, 6], vec![2, 4, 5, 6], vec![4, 5, 6], vec![5, 6],]
    );
    log.check();
}

#[test]
fn what_there_is_no_room_for_is_gone_and_whoever_lacked_it_goes_on_behind() {
    let mut model = Model::new(Encoding::Json);
    (0..4).for_each(|key| model.append(&[Some(key)]));
    let floor = model.log.newest();
    let compacted =
        model.log.compact(floor, CompactionLimits { keys: 2, bytes: 1000 }, &mut Inflater::default());
    assert_eq!(compacted.dropped, 2);
    let places: Vec<_> = model.waiting[..3].iter().map(|one| compacted.place_of(one.cursor)).collect();
    assert_eq!(places, [model.log.start(); 3]);
    let compacted =
        model.log.compact(floor, CompactionLimits { keys: 0, bytes: 0 }, &mut Inflater::default());
    assert_eq!((compacted.dropped, compacted.place_of(places[0]), model.log.start()), (1, floor, floor));
    assert_eq!(model.read(floor, 100), model.lines[3].0);
}

proptest! {
    /// Whatever comes, wherever the floor is, however often: nobody misses the latest of a key, nothing comes
    /// twice or in disorder, and what is not before the floor is untouched.
    #[test]
    fn compacting_leaves_out_what_is_superfluous_and_nothing_else(
        deflated in any::<bool>(),
        steps in prop::collection::vec(
            (prop::collection::vec(prop::option::weighted(0.9, 0..6_u64), 1..6), prop::option::of(any::<prop::sample::Index>())),
            1..24,
        ),
    ) {
        let mut model = Model::new(if deflated { Encoding::Deflated } else { Encoding::Json });
        for (keys, compact) in steps {
            model.append(&keys);
            if let Some(which) = compact {
                model.compact(which.index(model.log.marks.len()));
                model.check();
            }
        }
        model.check();
    }
}
