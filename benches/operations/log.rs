//! A topic's log: a batch appended, the span that a subscriber lacks, and that span as a frame.

use std::hint::black_box;
use std::sync::Arc;

use fanfare::domain::encoding::Encoding;
use fanfare::domain::mail::Lines;
use fanfare::shard::log::{Log, Span};
use fanfare::transport::framing::Framing;

/// Payload bytes of a frame, as by default.
const FRAME_MAX: usize = 512 << 10;
/// Encoded bytes of each line, its line break included.
const LINE_BYTES: usize = 100;

/// A batch of one line.
pub(crate) fn batch() -> Lines {
    let bytes = Arc::new(format!("{}\n", "x".repeat(LINE_BYTES - 1)).into_bytes());
    Lines {
        bytes,
        count: 1,
        plain_bytes: u32::try_from(LINE_BYTES).expect("a short line"),
        offset: 0,
        keyed: None,
    }
}

/// A log of so many batches.
pub(crate) fn log_of(batches: usize) -> Log {
    let mut log = Log::new(0, Encoding::Json, Vec::new());
    (0..batches).for_each(|_| log.append(&batch()));
    log
}

/// Everything that fits into a frame.
pub(crate) fn whole(log: &Log) -> Span {
    log.span(log.start(), FRAME_MAX)
}

/// What somebody lacks who lacks only the newest batch.
pub(crate) fn newest(log: &Log) -> Span {
    log.span(black_box(log.newest()), FRAME_MAX)
}

/// The span's frame; returns its length.
pub(crate) fn frame(log: &mut Log, span: &Span) -> usize {
    log.with_frame(black_box(span), Framing::Text, |frame| frame.len())
}

/// One more batch.
pub(crate) fn append(log: &mut Log, batch: &Lines) {
    log.append(black_box(batch));
}
