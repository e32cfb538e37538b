//! The lines of one topic that some subscriber of this shard has not been sent yet.
//!
//! A log is one piece of memory whose bytes are numbered from the topic's beginning. A subscriber lacks the slice from its
//! cursor to the end, and this slice is one message of the transport: it needs only a header with its length. The header
//! is written over the bytes in front of the slice, which other subscribers may need, and these are put back after the
//! call. So a frame is sent with one `send` from one place, without a copy, whatever the cursor.
//!
//! If a topic's lines are compressed, its log holds segments, which are concatenated as lines are.
//!
//! If slow subscribers get the latest line of each key, the log knows the key of each line, and can drop all older lines
//! (`compact`).

use std::collections::VecDeque;

use crate::codec::deflate::Inflater;
use crate::domain::encoding::Encoding;
use crate::domain::mail::Lines;
use crate::shard::compaction::{Batch, CompactedLines, CompactionLimits, Keyed, Keys, Part};
use crate::transport::framing::{Framing, HEADER_MAX};

/// At so many bytes a log is checked for batches that no subscriber lacks, and then whenever it has doubled.
pub(super) const TRIM_FROM: usize = 64 << 10;

/// The end of a batch, and how many lines there were up to it.
#[derive(Clone, Copy, Debug)]
struct Mark {
    position: u64,
    /// Where it would be if nothing were compressed, as frames are also limited by what is decompressed of them.
    plain: u64,
    lines: u64,
}

/// A slice of the log that is sent as one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Position of its first byte.
    pub from: u64,
    /// Position after its last byte, including the delimiter that frames are sent without.
    pub to: u64,
    /// Lines in it.
    pub lines: u64,
}

/// The log.
///
/// Invariants: `buffer` holds [`HEADER_MAX`] bytes of headroom and then the bytes from `start` on; `marks`
/// is in rising order, its first entry is at `start` and its last at the end; `keys` is in the order of the batches,
/// each of which begins at a mark. Every cursor of a subscriber is at a mark: [`Topic`](super::topic::Topic) keeps that.
#[derive(Debug)]
pub struct Log {
    buffer: Vec<u8>,
    start: u64,
    marks: VecDeque<Mark>,
    /// At how many bytes it is next checked for batches that no subscriber lacks.
    trim_at: usize,
    /// Compaction may have moved the batches before this position.
    compacted_to: u64,
    encoding: Encoding,
    /// The lines with keys, if there are any.
    keys: Option<Box<Keys>>,
}

/// The result of a compaction.
#[derive(Debug)]
pub(super) struct Compacted {
    /// Where batches began, and where their remaining lines begin.
    moved: Vec<(u64, u64)>,
    /// From here on nothing has moved.
    floor: u64,
    /// Bytes of memory that the log has given up.
    pub(super) freed: usize,
    /// Keys whose latest line there was no room for.
    pub(super) dropped: u64,
}

impl Compacted {
    /// The new cursor of a subscriber whose cursor was before the floor.
    pub(super) fn place_of(&self, cursor: u64) -> u64 {
        let index = self.moved.partition_point(|&(was_at, _)| was_at < cursor);
        self.moved.get(index).map_or(self.floor, |&(_, begins)| begins)
    }
}

impl Log {
    /// An empty log whose first byte will have `position`. `buffer` lends its capacity.
    #[must_use]
    pub fn new(position: u64, encoding: Encoding, mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        buffer.resize(HEADER_MAX, 0);
        let marks = VecDeque::from([Mark { position, plain: 0, lines: 0 }]);
        Self {
            buffer,
            start: position,
            marks,
            trim_at: TRIM_FROM,
            compacted_to: position,
            encoding,
            keys: None,
        }
    }

    /// Position of the oldest byte held.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Position after the newest byte.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.start + self.len() as u64
    }

    /// Bytes held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buffer.len() - HEADER_MAX
    }

    /// Bytes of memory in use: those held, and those of the table of keys.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.len() + self.keys.as_ref().map_or(0, |keys| keys.weight())
    }

    /// The same for what lies from `position` on.
    #[must_use]
    pub(super) fn weight_from(&self, position: u64) -> usize {
        let held = self.buffer.len() - self.index(position);
        held + self.keys.as_ref().map_or(0, |keys| keys.weight_from(position))
    }

    /// How many bytes of memory a batch adds to a log.
    #[must_use]
    pub fn weight_of(batch: &Lines) -> usize {
        batch.bytes.len() + batch.keyed.as_ref().map_or(0, |lines| Keys::weight_of(lines.len()))
    }

    /// Whether a line has a key.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        self.keys.as_ref().is_some_and(|keys| !keys.is_empty())
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the newest batch begins, or the end, if there is none.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.marks[self.marks.len().saturating_sub(2)].position
    }

    /// Adds a batch.
    pub fn append(&mut self, batch: &Lines) {
        if let Some(lines) = &batch.keyed {
            let end = self.end();
            self.keys.get_or_insert_default().append(end, lines);
        }
        self.buffer.extend_from_slice(&batch.bytes);
        let last = self.last_mark();
        self.marks.push_back(Mark {
            position: self.end(),
            plain: last.plain + u64::from(batch.plain_bytes),
            lines: last.lines + u64::from(batch.count),
        });
    }

    /// What a subscriber at `cursor` is sent next: everything, or as many whole batches as fit into
    /// `frame_max` bytes of payload, as it is sent and as it is read, but at least one.
    #[must_use]
    #[inline]
    pub fn span(&self, cursor: u64, frame_max: usize) -> Span {
        let at = self.mark_at(cursor);
        let first = self.marks[at];
        let fits = |mark: &Mark| {
            let (sent, read) = (mark.position.saturating_sub(cursor), mark.plain.saturating_sub(first.plain));
            sent.max(read) <= frame_max as u64
        };
        let beyond = if fits(&self.last_mark()) {
            self.marks.len()
        } else {
            self.marks.partition_point(fits).max(at + 2)
        };
        let last = self.marks[beyond - 1];
        Span { from: cursor, to: last.position, lines: last.lines - first.lines }
    }

    /// The encoding of its batches.
    #[must_use]
    #[inline]
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Calls `use_frame` with the span as one message, header first. It exists only during the call.
    #[inline]
    pub fn with_frame<R>(&mut self, span: &Span, framing: Framing, use_frame: impl FnOnce(&[u8]) -> R) -> R {
        let at = self.index(span.from);
        let end = self.index(span.to);
        let payload = framing.payload_len(end - at, self.encoding.delimiter());
        let payload_end = at + payload;
        let header = framing.header(payload);
        let header_at = at - header.len();
        let mut borrowed = [0; HEADER_MAX];
        let borrowed = &mut borrowed[..header.len()];
        borrowed.copy_from_slice(&self.buffer[header_at..at]);
        self.buffer[header_at..at].copy_from_slice(header.as_bytes());
        let result = use_frame(&self.buffer[header_at..payload_end]);
        self.buffer[header_at..at].copy_from_slice(borrowed);
        result
    }

    /// The first mark at or after `position`, to drop up to without cutting a batch.
    #[must_use]
    pub fn boundary(&self, position: u64) -> u64 {
        let index = self.marks.partition_point(|mark| mark.position < position);
        self.marks.get(index).map_or_else(|| self.end(), |mark| mark.position)
    }

    /// The last mark at or before `position`, which is not before the start.
    #[must_use]
    pub fn boundary_before(&self, position: u64) -> u64 {
        self.marks[self.marks.partition_point(|mark| mark.position <= position) - 1].position
    }

    /// Whether it has grown so much that it is worth checking for batches that no subscriber lacks.
    #[must_use]
    pub(super) fn is_to_be_trimmed(&self) -> bool {
        self.len() >= self.trim_at
    }

    /// Drops the batches before `position`, which no subscriber lacks, if they are at least half of it, so that a byte is
    /// moved once on average. Returns how many bytes of memory it gives up.
    pub(super) fn trim(&mut self, position: u64) -> usize {
        // The position may be inside of batches that were compacted since.
        let floor = self.boundary_before(position.max(self.start));
        let is_half = (floor - self.start) * 2 >= self.len() as u64;
        let freed = if is_half { self.drop_before(floor) } else { 0 };
        self.trim_at = TRIM_FROM.max(2 * self.len());
        freed
    }

    /// Drops what lies before `position`, which must be at a mark, and moves all bytes that stay. Returns how many bytes of
    /// memory it gives up.
    pub fn drop_before(&mut self, position: u64) -> usize {
        let before = self.weight();
        let gone = self.index(position) - HEADER_MAX;
        self.buffer.drain(HEADER_MAX..HEADER_MAX + gone);
        let marks_gone = self.mark_at(position);
        self.marks.drain(..marks_gone);
        self.start = position;
        if let Some(keys) = &mut self.keys {
            keys.drop_before(position);
        }
        before - self.weight()
    }

    /// Reduces what lies before `floor`, which must be at a mark, to the latest line of each key, within the limits. The
    /// lines end at `floor`: cursors there or later stay where they are.
    pub(super) fn compact(
        &mut self,
        floor: u64,
        limits: CompactionLimits,
        inflater: &mut Inflater,
    ) -> Compacted {
        let before = self.weight();
        let Some(keys) = &mut self.keys else { unreachable!("only a log with keys is compacted") };
        let (latest, dropped) = keys.take_latest(floor, limits);
        let compacted = self.compact_lines(floor, latest, inflater);
        let start = floor - compacted.bytes.len() as u64;
        let moved = compacted.parts.iter().map(|part| (part.was_at, start + part.from as u64)).collect();
        self.replace_before(floor, start, compacted);
        self.compacted_to = floor;
        Compacted { moved, floor, freed: before - self.weight(), dropped }
    }

    /// The batches before `floor`, reduced to these lines, which come with the latest first.
    fn compact_lines(&self, floor: u64, latest: Vec<Keyed>, inflater: &mut Inflater) -> CompactedLines {
        let mut compacted = CompactedLines::default();
        let latest: Vec<_> = latest.into_iter().rev().collect();
        for lines in latest.chunk_by(|one, next| one.batch == next.batch) {
            let at = self.mark_at(lines[0].batch);
            let (first, last) = (self.marks[at], self.marks[at + 1]);
            debug_assert!(last.position <= floor, "what is not before the floor stays");
            let batch = Batch {
                position: first.position,
                bytes: &self.buffer[self.index(first.position)..self.index(last.position)],
                encoding: self.encoding,
                lines: last.lines - first.lines,
                plain: last.plain - first.plain,
            };
            compacted.add(&batch, lines, inflater);
        }
        compacted
    }

    /// Replaces what lies before `floor` by compacted lines. The log begins at `start` then.
    fn replace_before(&mut self, floor: u64, start: u64, compacted: CompactedLines) {
        let end = self.index(floor);
        let place = end - compacted.bytes.len();
        self.buffer[place..end].copy_from_slice(&compacted.bytes);
        self.buffer.drain(HEADER_MAX..place);
        let mut marks = vec![Mark { position: start, plain: 0, lines: 0 }];
        for Part { to, lines, plain, .. } in compacted.parts {
            let last = marks[marks.len() - 1];
            let position = start + to as u64;
            marks.push(Mark { position, plain: last.plain + plain, lines: last.lines + lines });
        }
        let base = marks[marks.len() - 1];
        let at_floor = self.mark_at(floor);
        let was = self.marks[at_floor];
        marks.extend(self.marks.range(at_floor + 1..).map(|mark| Mark {
            position: mark.position,
            plain: mark.plain - was.plain + base.plain,
            lines: mark.lines - was.lines + base.lines,
        }));
        self.marks = marks.into();
        self.start = start;
        if let Some(keys) = &mut self.keys {
            let keyed = compacted.keyed.into_iter();
            keys.put_first(keyed.map(|keyed| Keyed { batch: start + keyed.batch, ..keyed }));
        }
    }

    /// A position at or after the present end of a batch that ended at `position` when it came. Compaction moves lines to
    /// later positions, but none beyond `compacted_to`.
    pub(super) fn end_of(&self, position: u64) -> u64 {
        position.max(self.compacted_to)
    }

    /// Asserts the invariants.
    ///
    /// # Panics
    /// When one does not hold.
    pub(super) fn check(&self) {
        assert!(self.buffer.len() >= HEADER_MAX, "there is no headroom");
        let (first, last) = (self.marks.front(), self.marks.back());
        assert_eq!(first.map(|mark| mark.position), Some(self.start), "the first mark");
        assert_eq!(last.map(|mark| mark.position), Some(self.end()), "the last mark");
        let rises = |one: &&Mark, next: &&Mark| {
            one.position < next.position && one.plain <= next.plain && one.lines < next.lines
        };
        assert!(self.marks.iter().is_sorted_by(rises), "marks rise: {:?}", self.marks);
        assert!(self.compacted_to <= self.end(), "{} is compacted before it has come", self.compacted_to);
        if let Some(keys) = &self.keys {
            keys.check(|batch| {
                let at = self.marks.binary_search_by_key(&batch, |mark| mark.position).ok()?;
                Some(self.marks.get(at + 1)?.plain - self.marks[at].plain)
            });
        }
    }

    /// The buffer, for another log.
    #[must_use]
    pub fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    fn last_mark(&self) -> Mark {
        self.marks[self.marks.len() - 1]
    }

    fn mark_at(&self, cursor: u64) -> usize {
        // Most subscribers lack the newest batch alone.
        let newest = self.marks.len().saturating_sub(2);
        if self.marks[newest].position == cursor {
            return newest;
        }
        let index = self.marks.partition_point(|mark| mark.position < cursor);
        debug_assert_eq!(self.marks[index].position, cursor, "a cursor stands between batches");
        index
    }

    fn index(&self, position: u64) -> usize {
        debug_assert!((self.start..=self.end()).contains(&position), "the log no longer holds {position}");
        HEADER_MAX + usize::try_from(position - self.start).expect("a log is far smaller than memory")
    }
}

#[cfg(test)]
mod tests;
