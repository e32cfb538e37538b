//! Encoding: the check of a payload, its line, and a frame's header; per publication, whatever the number of
//! clients (and per frame, for the header).

use criterion::{Criterion, Throughput};

use crate::operations::encode::{Publication, header};

pub(crate) fn run(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    for bytes in [50, 1000, 100_000] {
        let mut publication = Publication::new(bytes);
        group.throughput(Throughput::Bytes(publication.bytes() as u64));
        group.bench_function(format!("check of {bytes} bytes"), |bencher| {
            bencher.iter(|| publication.check());
        });
        group.bench_function(format!("line of {bytes} bytes"), |bencher| {
            bencher.iter(|| publication.encode());
        });
    }
    group.throughput(Throughput::Elements(1));
    for payload in [99, 9999, 99_999] {
        group.bench_function(format!("header for {payload} bytes"), |bencher| {
            bencher.iter(|| header(payload));
        });
    }
    group.finish();
}
