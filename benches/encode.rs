//! Encoding: the check of a payload, its line, and a frame's header; per publication, whatever the number of
//! clients (and per frame, for the header).

mod micro;

use std::hint::black_box;

use criterion::Throughput;
use fanfare::protocol::json::Checker;
use fanfare::protocol::push;
use fanfare::wire::encode::{Opcode, header};

/// Levels of nesting, as by default.
const DEPTH_MAX: usize = 128;

fn main() {
    let mut criterion = micro::criterion();
    let mut group = criterion.benchmark_group("encode");
    for bytes in [50, 1000, 100_000] {
        let data = object(bytes);
        let mut line = Vec::new();
        let mut checker = Checker::default();
        group.throughput(Throughput::Bytes(data.len() as u64));
        group.bench_function(format!("check of {bytes} bytes"), |bencher| {
            bencher.iter(|| checker.check(black_box(&data), DEPTH_MAX).is_ok());
        });
        group.bench_function(format!("line of {bytes} bytes"), |bencher| {
            bencher.iter(|| {
                line.clear();
                push::publication(&mut line, black_box("orders:1234"), black_box(&data), 0);
                line.len()
            });
        });
    }
    group.throughput(Throughput::Elements(1));
    for payload in [99, 9999, 99_999] {
        group.bench_function(format!("header for {payload} bytes"), |bencher| {
            bencher.iter(|| header(Opcode::Text, black_box(payload)));
        });
    }
    group.finish();
}

/// An object of about so many bytes, as applications send them.
fn object(bytes: usize) -> Vec<u8> {
    let item = r#"{"id":12345,"name":"fanfare","price":12.5,"tags":["a","b"]}"#;
    let items = vec![item; bytes.div_ceil(item.len())].join(",");
    format!("[{items}]").into_bytes()
}
