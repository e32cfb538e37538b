//! Compaction: keeps the latest line of each key for slow subscribers, when a log must drop lines with keys.
//!
//! Compacted lines keep their order, and what stays of a batch is a batch. So what a subscriber lacks is one slice of the
//! compacted log, as it is of any log. A line that stays is the latest of its key, so no line comes twice or out of order.

use std::collections::VecDeque;

use rustc_hash::FxHashSet;

use crate::codec::deflate::Inflater;
use crate::domain::encoding::Encoding;
use crate::domain::mail::KeyedLine;

/// A line with a key, in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Keyed {
    /// Where its batch begins.
    pub(super) batch: u64,
    /// The line's place in the batch, and its key.
    pub(super) line: KeyedLine,
}

/// How much compaction may keep.
#[derive(Clone, Copy, Debug)]
pub(super) struct CompactionLimits {
    /// Keys, including those of lines that stay anyway.
    pub(super) keys: usize,
    /// Bytes of the lines before compression, and of the memory that is kept here for them.
    pub(super) bytes: usize,
}

/// The lines of a log that have keys, in their order.
#[derive(Debug, Default)]
pub(super) struct Keys(VecDeque<Keyed>);

impl Keys {
    /// Adds those of a batch that begins at `batch`.
    pub(super) fn append(&mut self, batch: u64, lines: &[KeyedLine]) {
        self.0.extend(lines.iter().map(|&line| Keyed { batch, line }));
    }

    /// Bytes of memory in use.
    pub(super) fn weight(&self) -> usize {
        Self::weight_of(self.0.len())
    }

    /// The same for the lines of batches from `position` on.
    pub(super) fn weight_from(&self, position: u64) -> usize {
        Self::weight_of(self.0.len() - self.before(position))
    }

    /// The same for so many lines.
    pub(super) fn weight_of(lines: usize) -> usize {
        lines * size_of::<Keyed>()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets the lines of batches before `position`.
    pub(super) fn drop_before(&mut self, position: u64) {
        self.0.drain(..self.before(position));
    }

    /// Removes the lines of batches before `floor`. Returns the latest line of each key, within the limits and with the
    /// latest lines first, and how many keys were dropped.
    pub(super) fn take_latest(&mut self, floor: u64, limits: CompactionLimits) -> (Vec<Keyed>, u64) {
        let old = self.before(floor);
        let mut seen: FxHashSet<u64> = self.0.range(old..).map(|keyed| keyed.line.key).collect();
        let (mut latest, mut bytes, mut dropped) = (Vec::new(), 0, 0);
        for keyed in self.0.drain(..old).rev() {
            if seen.insert(keyed.line.key) {
                bytes += keyed.line.len() + size_of::<Keyed>();
                // Once a line exceeds the limits, all older ones are dropped, even if they would fit.
                if dropped == 0 && seen.len() <= limits.keys && bytes <= limits.bytes {
                    latest.push(keyed);
                } else {
                    dropped += 1;
                }
            }
        }
        (latest, dropped)
    }

    /// Puts lines before all others.
    pub(super) fn put_first(&mut self, lines: impl DoubleEndedIterator<Item = Keyed>) {
        lines.rev().for_each(|line| self.0.push_front(line));
    }

    /// Asserts that the lines are in the order of the batches, and within them. `plain_bytes` returns the bytes of the batch
    /// that begins at a position, before compression, if one begins there.
    ///
    /// # Panics
    /// When that does not hold.
    pub(super) fn check(&self, plain_bytes: impl Fn(u64) -> Option<u64>) {
        let place = |keyed: &Keyed| (keyed.batch, keyed.line.from);
        assert!(self.0.iter().is_sorted_by_key(place), "keyed lines are not in their order: {:?}", self.0);
        for Keyed { batch, line } in &self.0 {
            let is_there = plain_bytes(*batch).is_some_and(|plain| u64::from(line.to) <= plain);
            assert!(is_there && line.from < line.to, "no batch at {batch} has a line at {line:?}");
        }
    }

    fn before(&self, position: u64) -> usize {
        self.0.partition_point(|keyed| keyed.batch < position)
    }
}

/// A batch in a log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch<'a> {
    /// Where it begins.
    pub(super) position: u64,
    pub(super) bytes: &'a [u8],
    pub(super) encoding: Encoding,
    pub(super) lines: u64,
    /// Bytes of the lines before compression.
    pub(super) plain: u64,
}

/// What stays of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Where the batch began in the log.
    pub(super) was_at: u64,
    /// Where its lines begin among the compacted ones.
    pub(super) from: usize,
    /// Where they end there.
    pub(super) to: usize,
    pub(super) lines: u64,
    /// Bytes of its lines before compression.
    pub(super) plain: u64,
}

/// What stays of a log's older batches. It never has more bytes than they had.
#[derive(Debug, Default)]
pub(super) struct CompactedLines {
    pub(super) bytes: Vec<u8>,
    pub(super) parts: Vec<Part>,
    /// The lines with keys. Their batches are named by positions in `bytes`.
    pub(super) keyed: Vec<Keyed>,
}

impl CompactedLines {
    /// Adds a batch of which only the lines `latest` stay, at least one.
    ///
    /// In a segment they are stored uncompressed, as only the broker thread compresses. If the segment is no larger than
    /// that, it stays as it is; the other lines in it do no harm.
    pub(super) fn add(&mut self, batch: &Batch<'_>, latest: &[Keyed], inflater: &mut Inflater) {
        let from = self.bytes.len();
        let cut_len = latest.iter().map(|keyed| keyed.line.len()).sum();
        let stays_whole = batch.encoding.stored_len(cut_len) >= batch.bytes.len();
        if stays_whole {
            self.bytes.extend_from_slice(batch.bytes);
            self.keyed.extend(latest.iter().map(|keyed| Keyed { batch: from as u64, ..*keyed }));
        } else {
            self.cut(batch, latest, inflater);
        }
        let (lines, plain) =
            if stays_whole { (batch.lines, batch.plain) } else { (latest.len() as u64, cut_len as u64) };
        self.parts.push(Part { was_at: batch.position, from, to: self.bytes.len(), lines, plain });
    }

    /// Adds the lines alone.
    fn cut(&mut self, batch: &Batch<'_>, latest: &[Keyed], inflater: &mut Inflater) {
        let from = self.bytes.len() as u64;
        let max = usize::try_from(batch.plain).expect("a batch fits into memory");
        let plain = batch.encoding.lines(batch.bytes, max, inflater);
        let mut lines = Vec::new();
        for &Keyed { line, .. } in latest {
            let at = end_of(&lines);
            lines.extend_from_slice(&plain[line.from as usize..line.to as usize]);
            let line = KeyedLine { from: at, to: end_of(&lines), ..line };
            self.keyed.push(Keyed { batch: from, line });
        }
        batch.encoding.store(&mut self.bytes, &lines);
    }
}

fn end_of(lines: &[u8]) -> u32 {
    u32::try_from(lines.len()).expect("no longer than the batch, whose places are such numbers")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::deflate::Deflater;
    use rand::rngs::SmallRng;
    use rand::{RngExt as _, SeedableRng as _};

    const PLENTY: CompactionLimits = CompactionLimits { keys: 100, bytes: 10_000 };

    /// Keys by their letters and lines by their batches' places: `a` at 3 is a line of 10 bytes.
    fn keys(lines: &[(char, u64)]) -> Keys {
        let keyed = |&(key, batch): &(char, u64)| Keyed {
            batch,
            line: KeyedLine { key: u64::from(u32::from(key)), from: 0, to: 10 },
        };
        Keys(lines.iter().map(keyed).collect())
    }

    fn shown<'a>(lines: impl IntoIterator<Item = &'a Keyed>) -> String {
        let letter = |keyed: &Keyed| char::from(u8::try_from(keyed.line.key).unwrap());
        lines.into_iter().map(|keyed| format!("{}{}", letter(keyed), keyed.batch)).collect()
    }

    #[test]
    fn of_each_key_the_latest_line_stays_unless_a_later_one_is_whole() {
        let all = [('a', 0), ('b', 0), ('a', 1), ('c', 2), ('a', 2), ('b', 3), ('d', 3)];
        for (floor, limits, taken, dropped, left) in [
            (4, PLENTY, "d3b3a2c2", 0, ""),
            (3, PLENTY, "a2c2", 0, "b3d3"),
            (2, PLENTY, "", 0, "c2a2b3d3"),
            (0, PLENTY, "", 0, "a0b0a1c2a2b3d3"),
            // Beyond the keys, those go that were not published for the longest; whole ones count.
            (4, CompactionLimits { keys: 3, ..PLENTY }, "d3b3a2", 1, ""),
            (3, CompactionLimits { keys: 3, ..PLENTY }, "a2", 1, "b3d3"),
            (3, CompactionLimits { keys: 1, ..PLENTY }, "", 2, "b3d3"),
            // Beyond the bytes as well: a line takes 10, and what is known of it 24.
            (4, CompactionLimits { bytes: 3 * 34, ..PLENTY }, "d3b3a2", 1, ""),
            (4, CompactionLimits { bytes: 3 * 34 - 1, ..PLENTY }, "d3b3", 2, ""),
            (4, CompactionLimits { bytes: 0, ..PLENTY }, "", 4, ""),
        ] {
            let mut keys = keys(&all);
            let (latest, gone) = keys.take_latest(floor, limits);
            assert_eq!(
                (&*shown(&latest), gone, &*shown(&keys.0)),
                (taken, dropped, left),
                "{floor} {limits:?}"
            );
            keys.put_first(latest.into_iter().rev());
            assert_eq!(keys.weight(), 24 * (taken.len() + left.len()) / 2);
        }
    }

    #[test]
    fn what_is_older_than_what_did_not_fit_goes_even_if_it_would_fit() {
        let mut keys = keys(&[('a', 0), ('b', 1), ('c', 2)]);
        keys.0[1].line.to = 1000;
        let (latest, dropped) = keys.take_latest(3, CompactionLimits { keys: 3, bytes: 200 });
        assert_eq!((&*shown(&latest), dropped), ("c2", 2));
    }

    /// A batch of lines with one-letter keys, their places, and what is left when only `latest` matter.
    fn compacted(encoding: Encoding, lines: &[String], latest: &[usize]) -> (CompactedLines, Vec<u8>) {
        let mut places = Vec::new();
        let mut plain = Vec::new();
        for (key, line) in (0..).zip(lines) {
            let from = end_of(&plain);
            plain.extend_from_slice(line.as_bytes());
            places.push(Keyed { batch: 70, line: KeyedLine { key, from, to: end_of(&plain) } });
        }
        let bytes = match encoding {
            Encoding::Json => plain.clone(),
            Encoding::Deflated => Deflater::default().segment(&plain, 0).to_vec(),
        };
        let (lines, plain) = (lines.len() as u64, plain.len() as u64);
        let batch = Batch { position: 70, bytes: &bytes, encoding, lines, plain };
        let latest: Vec<_> = latest.iter().map(|&index| places[index]).collect();
        let mut compacted = CompactedLines { bytes: b"before".to_vec(), ..CompactedLines::default() };
        compacted.add(&batch, &latest, &mut Inflater::default());
        (compacted, bytes)
    }

    #[test]
    fn a_batch_is_cut_to_its_latest_lines_and_they_can_be_cut_again() {
        // Hard to compress, so that storing a part of them is shorter.
        let random = SmallRng::seed_from_u64(1).random_iter::<u64>();
        let lines: Vec<_> = random.take(8).map(|bits| format!("{bits:x}\n")).collect();
        for encoding in Encoding::ALL {
            let (compacted, bytes) = compacted(encoding, &lines, &[1, 6]);
            let kept = format!("{}{}", lines[1], lines[6]);
            let left = &compacted.bytes[6..];
            let plain = match encoding {
                Encoding::Json => left.to_vec(),
                Encoding::Deflated => Inflater::default().message(left, 1000).unwrap(),
            };
            assert_eq!(String::from_utf8(plain).unwrap(), kept);
            assert!(left.len() < bytes.len());
            let (to, plain) = (compacted.bytes.len(), kept.len() as u64);
            assert_eq!(compacted.parts, [Part { was_at: 70, from: 6, to, lines: 2, plain }]);
            let places =
                [(1, 0, lines[1].len()), (6, lines[1].len(), kept.len())].map(|(key, from, to)| Keyed {
                    batch: 6,
                    line: KeyedLine {
                        key,
                        from: u32::try_from(from).unwrap(),
                        to: u32::try_from(to).unwrap(),
                    },
                });
            assert_eq!(compacted.keyed, places);

            // The second line alone, as a later compaction takes it.
            let Part { lines: count, plain, .. } = compacted.parts[0];
            let batch = Batch { position: 9, bytes: left, encoding, lines: count, plain };
            let mut again = CompactedLines::default();
            again.add(&batch, &compacted.keyed[1..], &mut Inflater::default());
            let plain = match encoding {
                Encoding::Json => again.bytes,
                Encoding::Deflated => Inflater::default().message(&again.bytes, 1000).unwrap(),
            };
            assert_eq!(String::from_utf8(plain).unwrap(), lines[6]);
        }
    }

    #[test]
    fn a_batch_that_would_not_become_shorter_stays_as_it_is() {
        let lines: Vec<_> = (0..9).map(|n| format!("the same again, the same again {n}\n")).collect();
        for (encoding, latest) in [
            (Encoding::Json, &[0, 1, 2, 3, 4, 5, 6, 7, 8][..]),
            (Encoding::Deflated, &[0, 1, 2, 3, 4, 5, 6, 7, 8]),
            (Encoding::Deflated, &[2, 5]),
        ] {
            let (compacted, bytes) = compacted(encoding, &lines, latest);
            assert_eq!(compacted.bytes[6..], bytes);
            let plain = lines.iter().map(|line| line.len() as u64).sum();
            assert_eq!(compacted.parts, [Part { was_at: 70, from: 6, to: 6 + bytes.len(), lines: 9, plain }]);
            assert_eq!(compacted.keyed.len(), latest.len());
            assert!(compacted.keyed.iter().all(|keyed| keyed.batch == 6));
        }
    }
}
