//! The log of a topic: a batch appended, the span that a subscriber lacks, and that span as a frame.

mod micro;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Throughput};
use fanfare::mail::{Encoding, Lines};
use fanfare::shard::log::Log;

/// Payload bytes of a frame, as by default.
const FRAME_MAX: usize = 512 << 10;
/// Encoded bytes of each line, its line break included.
const LINE_BYTES: usize = 100;

fn main() {
    let mut criterion = micro::criterion();
    let mut group = criterion.benchmark_group("log");
    group.throughput(Throughput::Elements(1));
    for batches in [1, 100, 2000] {
        let log = log_of(batches);
        group.bench_function(format!("span of the newest among {batches} batches"), |bencher| {
            bencher.iter(|| log.span(black_box(log.newest()), FRAME_MAX));
        });
        let mut log = log_of(batches);
        let span = log.span(log.start(), FRAME_MAX);
        group.bench_function(format!("frame of {} lines", span.lines), |bencher| {
            bencher.iter(|| log.with_frame(black_box(&span), |frame| frame.len()));
        });
        let line = line();
        group.bench_function(format!("append to {batches} batches"), |bencher| {
            bencher.iter_batched_ref(
                || log_of(batches),
                |log| log.append(black_box(&line)),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn line() -> Lines {
    let bytes: Arc<[u8]> = format!("{}\n", "x".repeat(LINE_BYTES - 1)).into_bytes().into();
    Lines { bytes, count: 1, plain_bytes: u32::try_from(LINE_BYTES).expect("a short line"), offset: 0 }
}

fn log_of(batches: usize) -> Log {
    let mut log = Log::new(0, Encoding::Json, Vec::new());
    (0..batches).for_each(|_| log.append(&line()));
    log
}
