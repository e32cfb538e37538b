//! Coming back: what it costs that nothing is lost.
//!
//! * *storm*: 15,000 clients are cut at once and come back at once, each with 100 publications to recover, against
//!   the same clients and publications in a topic without history, in turns.
//! * *start*: an engine reads back a stream that has messages already, against a bare lapin consumer that reads the
//!   same from its beginning, in turns.
//! * *start, all kept*: the same with a million messages, each of which is large, has a topic of its own, and is kept:
//!   1 GB of history.
//!
//! `--short` has a tenth of the clients, and 5,000 messages.

#[path = "../common/mod.rs"]
mod common;

mod start;
mod storm;

use std::io::Result;

use common::report::{Report, places};
use common::{Arguments, LINE_BYTES};
use start::Content;

/// Bytes of a large publication as the clients get it.
const LARGE_BYTES: usize = 1000;

const ROUNDS: usize = 5;
/// With the million messages, which take a minute each.
const LARGE_ROUNDS: usize = 2;

fn main() -> Result<()> {
    let arguments = Arguments::read();
    let rounds = arguments.rounds(ROUNDS);
    let places = places("shard") + ", as is the bare consumer; RabbitMQ on both";
    let large_rounds = arguments.rounds(LARGE_ROUNDS);
    let about = format!("{rounds} rounds, {large_rounds} where all is kept");
    let mut report = Report::new("recovery", &about, places);
    let (clients, messages, large) =
        if arguments.short() { (1500, 5000, 5000) } else { (15_000, 100_000, 1_000_000) };
    storm::measure(clients, rounds, &mut report)?;
    let few = Content { messages, topics: 1000, line_bytes: LINE_BYTES, kept: 100 };
    start::measure("start", few, rounds, &mut report)?;
    let all = Content { messages: large, topics: large, line_bytes: LARGE_BYTES, kept: 1 };
    start::measure("start, all kept", all, large_rounds, &mut report)?;
    report.finish()
}
