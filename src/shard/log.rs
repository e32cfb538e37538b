//! The lines of one topic that some subscriber of this shard has not been sent yet.
//!
//! One stretch of bytes with a running position. Wherever a subscriber's cursor stands, what it lacks is
//! one slice, from there to the end, and that slice is one WebSocket frame: all it needs is a header for
//! its length. The header is written over the bytes in front of the slice, which others may still need, and
//! they are put back after the call: so a frame leaves in one `send` from one place, without a copy, for a
//! cursor at any line.
//!
//! Of a topic whose lines are compressed the log holds segments, which stand side by side as lines do.

use std::collections::VecDeque;

use crate::mail::{Encoding, Lines};
use crate::wire::deflate::TAIL;
use crate::wire::encode::{self, HEADER_MAX, Opcode};

/// Where the end of a batch is, and how many lines there were up to it.
#[derive(Clone, Copy, Debug)]
struct Mark {
    position: u64,
    /// Where it would be if nothing were compressed: what comes out of a frame is limited as well.
    plain: u64,
    lines: u64,
}

/// A stretch of the log that leaves as one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Position of its first byte.
    pub from: u64,
    /// Position after its last byte, what frames are sent without included.
    pub to: u64,
    /// Lines in it.
    pub lines: u64,
}

/// The log.
///
/// Invariants: `buffer` holds [`HEADER_MAX`] bytes of headroom and then the bytes from `start` on; `marks`
/// is in rising order, its first entry is at `start` and its last at the end; every cursor of a subscriber
/// is at a mark.
#[derive(Debug)]
pub struct Log {
    buffer: Vec<u8>,
    start: u64,
    marks: VecDeque<Mark>,
    /// How long it must be before it is searched again for what everybody has: its owner's note.
    pub trim_at: usize,
    /// Before this, no swept subscriber lacks anything: its owner's note.
    pub swept_to: u64,
    encoding: Encoding,
}

impl Log {
    /// An empty log whose first byte will have `position`. `buffer` lends its capacity.
    #[must_use]
    pub fn new(position: u64, encoding: Encoding, mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        buffer.resize(HEADER_MAX, 0);
        let marks = VecDeque::from([Mark { position, plain: 0, lines: 0 }]);
        Self { buffer, start: position, marks, trim_at: 0, swept_to: position, encoding }
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

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the newest batch begins; the end, if there is none.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.marks[self.marks.len().saturating_sub(2)].position
    }

    /// Adds a batch.
    pub fn append(&mut self, batch: &Lines) {
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

    /// Calls `use_frame` with the span as a WebSocket frame, header first. The frame exists only during
    /// the call.
    #[inline]
    pub fn with_frame<R>(&mut self, span: &Span, use_frame: impl FnOnce(&[u8]) -> R) -> R {
        let at = self.index(span.from);
        let end = self.index(span.to);
        let (payload_end, header) = match self.encoding {
            // The last line's end separates it from a next line; in a frame there is none.
            Encoding::Json => (end - 1, encode::header(Opcode::Text, end - 1 - at)),
            Encoding::Deflated => {
                let payload_end = end - TAIL.len();
                (payload_end, encode::header(Opcode::Text, payload_end - at).compressed())
            }
        };
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

    /// Forgets what lies before `position`, which must be at a mark. Moves the bytes that stay: to be called
    /// when at least half of the log goes, so that a byte is moved once on average.
    pub fn drop_before(&mut self, position: u64) {
        let gone = self.index(position) - HEADER_MAX;
        self.buffer.drain(HEADER_MAX..HEADER_MAX + gone);
        let marks_gone = self.mark_at(position);
        self.marks.drain(..marks_gone);
        self.start = position;
    }

    /// The capacity, for the next log that needs one.
    #[must_use]
    pub fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    fn last_mark(&self) -> Mark {
        self.marks[self.marks.len() - 1]
    }

    fn mark_at(&self, cursor: u64) -> usize {
        // Nearly everybody lacks the newest batch and nothing else.
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
mod tests {
    use super::*;

    fn log_of(position: u64, batches: &[&str]) -> Log {
        let mut log = Log::new(position, Encoding::Json, Vec::new());
        for batch in batches {
            let count = u32::try_from(batch.matches('\n').count()).unwrap();
            let plain_bytes = u32::try_from(batch.len()).unwrap();
            log.append(&Lines { bytes: batch.as_bytes().into(), count, plain_bytes, offset: 0 });
        }
        log
    }

    fn frame(log: &mut Log, span: &Span) -> Vec<u8> {
        log.with_frame(span, <[u8]>::to_vec)
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
            log.append(&Lines { bytes, count: 2, plain_bytes, offset: 0 });
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
            stored.append(&Lines { bytes: [0; 20].into(), count: 1, plain_bytes: 10, offset: 0 });
        }
        assert_eq!(stored.span(0, 59).to, 40);
    }

    #[test]
    fn long_frames_have_long_headers() {
        for length in [124, 125, 126, 65_535, 65_536] {
            let line = format!("{}\n", "x".repeat(length));
            let mut log = log_of(7, &["before\n", &line]);
            let span = log.span(14, usize::MAX >> 1);
            let mut expected = encode::header(Opcode::Text, length).as_bytes().to_vec();
            expected.extend_from_slice(&line.as_bytes()[..length]);
            assert!(frame(&mut log, &span) == expected, "{length}");
        }
    }

    #[test]
    fn what_is_dropped_is_gone_and_the_rest_is_where_it_was() {
        let mut log = log_of(0, &["a\n", "b\n", "c\n"]);
        assert_eq!(log.boundary(1), 2);
        log.drop_before(2);
        assert_eq!((log.start(), log.end(), log.len(), log.newest()), (2, 6, 4, 4));
        let span = log.span(2, 100);
        assert_eq!(span.lines, 2);
        assert_eq!(frame(&mut log, &span), b"\x81\x03b\nc");
        log.drop_before(6);
        assert!(log.is_empty());
        assert_eq!(log.newest(), 6);
    }
}
