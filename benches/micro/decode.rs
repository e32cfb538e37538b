//! Decoding: from a client's masked bytes to a frame, and from there to a command.

use criterion::{BatchSize, Criterion, Throughput};

use crate::operations::decode::{PONG, SUBSCRIBE, decode, masked, parse, publish};

pub(crate) fn run(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    let publish = publish();
    let messages = [("pong", PONG), ("subscribe", SUBSCRIBE), ("publish of 1,000 bytes", publish.as_str())];
    for (name, message) in messages {
        let frame = masked(message);
        group.throughput(Throughput::Bytes(frame.len() as u64));
        group.bench_function(format!("frame with {name}"), |bencher| {
            bencher.iter_batched_ref(|| frame.clone(), |frame| decode(frame), BatchSize::SmallInput);
        });
        group.bench_function(format!("command: {name}"), |bencher| {
            bencher.iter(|| parse(message));
        });
    }
    group.finish();
}
