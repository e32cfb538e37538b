//! Decoding: from a client's masked bytes to a frame, and from there to a command.

mod micro;

use std::hint::black_box;

use criterion::{BatchSize, Throughput};
use fanfare::protocol::command;
use fanfare::wire::decode::decode;

/// Bytes of a message, as by default.
const MESSAGE_MAX: usize = 64 << 10;

fn main() {
    let mut criterion = micro::criterion();
    let mut group = criterion.benchmark_group("decode");
    let publish = format!(r#"{{"id":7,"publish":{{"channel":"chat:1","data":"{}"}}}}"#, "x".repeat(1000));
    let messages = [
        ("pong", "{}"),
        ("subscribe", r#"{"id":2,"subscribe":{"channel":"orders:1234"}}"#),
        ("publish of 1,000 bytes", publish.as_str()),
    ];
    for (name, message) in messages {
        let frame = masked(message.as_bytes());
        group.throughput(Throughput::Bytes(frame.len() as u64));
        group.bench_function(format!("frame with {name}"), |bencher| {
            // A frame is unmasked in place: each time another copy.
            bencher.iter_batched_ref(
                || frame.clone(),
                |frame| decode(black_box(frame), &mut None, MESSAGE_MAX, None).is_ok(),
                BatchSize::SmallInput,
            );
        });
        group.bench_function(format!("command: {name}"), |bencher| {
            bencher.iter(|| command::parse(black_box(message)).is_ok());
        });
    }
    group.finish();
}

/// A whole frame of text, as a client sends it.
fn masked(payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [1, 2, 3, 4];
    let mut frame = vec![0x81];
    match u8::try_from(payload.len()) {
        Ok(length) if length < 126 => frame.push(0x80 | length),
        _ => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(payload.len()).expect("under 64 KiB").to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}
