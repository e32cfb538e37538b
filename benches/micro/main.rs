//! What one operation costs, a second for each: decoding and encoding, the opening handshake, a topic's log, the mailbox,
//! tokens.

mod decode;
mod encode;
mod handshake;
mod log;
mod mailbox;
#[path = "../operations/mod.rs"]
mod operations;
mod token;

use std::time::Duration;

use criterion::Criterion;

fn main() {
    let mut criterion = criterion();
    decode::run(&mut criterion);
    encode::run(&mut criterion);
    handshake::run(&mut criterion);
    log::run(&mut criterion);
    mailbox::run(&mut criterion);
    token::run(&mut criterion);
}

/// With `--short` each function runs just long enough to see that it works. Criterion's own options are not
/// read: `cargo bench -- --short` is for all suites.
fn criterion() -> Criterion {
    let is_short = std::env::args().any(|argument| argument == "--short");
    let (warm_up, measure) = if is_short { (5, 20) } else { (300, 700) };
    Criterion::default()
        .sample_size(if is_short { 10 } else { 50 })
        .warm_up_time(Duration::from_millis(warm_up))
        .measurement_time(Duration::from_millis(measure))
}
