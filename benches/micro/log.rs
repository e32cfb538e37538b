//! The log of a topic: a batch appended, the span that a subscriber lacks, and that span as a frame.

use criterion::{BatchSize, Criterion, Throughput};

use crate::operations::log::{append, batch, frame, log_of, newest, whole};

pub(crate) fn run(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("log");
    group.throughput(Throughput::Elements(1));
    for batches in [1, 100, 2000] {
        let mut log = log_of(batches);
        group.bench_function(format!("span of the newest among {batches} batches"), |bencher| {
            bencher.iter(|| newest(&log));
        });
        let span = whole(&log);
        group.bench_function(format!("frame of {} lines", span.lines), |bencher| {
            bencher.iter(|| frame(&mut log, &span));
        });
        let batch = batch();
        group.bench_function(format!("append to {batches} batches"), |bencher| {
            bencher.iter_batched_ref(|| log_of(batches), |log| append(log, &batch), BatchSize::SmallInput);
        });
    }
    group.finish();
}
