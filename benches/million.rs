//! A million clients, each subscribed, in one process of the engine on this machine, the clients beside it:
//! what they cost in memory, and how long a hundred publications take to reach all of them. Clients count what they
//! get; after that they read ten more, and each must get each of them once and in order.
//!
//! `cargo bench --bench million [-- --clients N]`: minutes, and some 10 GB of the kernel's memory, so that
//! plain `cargo bench` leaves it out. Each shard and each process of clients has a table of descriptors of
//! its own; no limit has to be raised. `--short` has 2,000 clients.

mod common;

use std::io::{Error, Result};
use std::time::{Duration, Instant};

use common::crowd::{Crowd, Got, Reads};
use common::measure;
use common::publisher::{Publisher, numbered_data};
use common::report::{SHARDS_EVERYWHERE, write_json};
use common::support::engine::Engine;
use common::support::process::resident_bytes;
use common::{Arguments, CLIENTS_PER_SHARD, LINE_BYTES};
use serde_json::json;

/// The topic of everybody: its namespace merges what comes within a second.
const TOPIC: &str = "million:all";
const CONFIGURATION: &str = r#"
[server]
private_fd_tables = true
[timeouts]
ping = "10m"
[namespaces.million]
max_delay = "1s"
"#;
const PUBLICATIONS: usize = 100;
const PUBLISH_EVERY: Duration = Duration::from_millis(100);
/// Publications that are not measured but read.
const READ: u64 = 10;
/// How long the allocator may take to give memory back.
const SETTLING: Duration = Duration::from_secs(5);

fn main() -> Result<()> {
    let arguments = Arguments::read();
    if let Some(result) = arguments.help() {
        return result;
    }
    let usual = if arguments.short() { 2000 } else { 1_000_000 };
    let clients = option(arguments.all(), "--clients", usual)?;
    let shards = clients.div_ceil(CLIENTS_PER_SHARD);
    let config = format!("{CONFIGURATION}[limits]\nclients = {}\n", shards * CLIENTS_PER_SHARD * 11 / 10);
    let engine = Engine::with_config_and(&config, &["--shards", &shards.to_string()]);
    let fresh = measure::anonymous_bytes(engine.pid())?;

    let begin = Instant::now();
    let mut crowd = Crowd::connect(engine.client_address(), clients, TOPIC, Reads::Nothing)?;
    let connecting = begin.elapsed();
    std::thread::sleep(SETTLING);
    let idle = Memory::of(&engine, fresh)?;
    println!("{clients} clients on {shards} shards, connected in {:.0} s", connecting.as_secs_f64());
    idle.print("idle", clients);

    let (got, seconds) = push(&engine, &mut crowd)?;
    let after = Memory::of(&engine, fresh)?;
    after.print("after the publications", clients);
    let bytes_per_second = got.bytes_least as f64 * clients as f64 / seconds;
    println!(
        "{PUBLICATIONS} publications, one each {} ms, reached all of them {seconds:.1} s after the first was sent: \
         {} to {} frames per client, {:.0} MB/s",
        PUBLISH_EVERY.as_millis(),
        got.frames_least,
        got.frames_most,
        bytes_per_second / 1e6
    );
    check(&engine, &mut crowd)?;
    println!("{READ} more were read: each client got each of them once and in order");
    write_json(
        "million",
        SHARDS_EVERYWHERE,
        json!({
            "clients": clients, "shards": shards, "connecting_seconds": connecting.as_secs_f64(),
            "resident_bytes_idle": idle.resident, "bytes_per_client_idle": idle.own as f64 / clients as f64,
            "resident_bytes_after": after.resident, "publications": PUBLICATIONS, "seconds": seconds,
            "got": got, "bytes_per_second": bytes_per_second,
        }),
    )
}

fn option(arguments: &[String], name: &str, default: usize) -> Result<usize> {
    match arguments.iter().position(|argument| argument == name) {
        Some(at) => arguments
            .get(at + 1)
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| Error::other(format!("{name} wants a number"))),
        None => Ok(default),
    }
}

/// Publishes everything at its time, and waits until everybody has it: what each got, and the seconds from
/// the first publication on.
fn push(engine: &Engine, crowd: &mut Crowd) -> Result<(Got, f64)> {
    let around = format!(r#"{{"push":{{"channel":"{TOPIC}","pub":{{"data":""}}}}}}"#).len() + 1;
    let data = json!("x".repeat(LINE_BYTES - around));
    // A frame's last line has no line break: however they are merged, at least so many bytes come.
    let bytes = (PUBLICATIONS * LINE_BYTES - PUBLICATIONS) as u64;
    crowd.expect(bytes)?;
    let begin = Instant::now();
    for number in 0..PUBLICATIONS {
        let due = begin + PUBLISH_EVERY * u32::try_from(number).map_err(Error::other)?;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        engine.publish(TOPIC, &data);
    }
    let got = crowd.got()?;
    let seconds = begin.elapsed().as_secs_f64();
    // The most bytes are in the fewest frames.
    for (bytes, frames) in [(got.bytes_least, got.frames_most), (got.bytes_most, got.frames_least)] {
        assert_eq!(bytes + frames, (PUBLICATIONS * LINE_BYTES) as u64, "{got:?}");
    }
    Ok((got, seconds))
}

/// Publishes some more, which everybody reads.
fn check(engine: &Engine, crowd: &mut Crowd) -> Result<()> {
    let mut publisher = Publisher::connect(engine.control_address())?;
    crowd.check(READ, || {
        for number in 1..=READ {
            publisher.publish(&publisher.request(TOPIC, &numbered_data(TOPIC, number, LINE_BYTES)), 1)?;
            std::thread::sleep(PUBLISH_EVERY);
        }
        Ok(())
    })
}

/// What the engine's process holds.
struct Memory {
    resident: u64,
    /// Allocated since it was fresh.
    own: u64,
}

impl Memory {
    fn of(engine: &Engine, fresh: u64) -> Result<Self> {
        let own = measure::anonymous_bytes(engine.pid())?.saturating_sub(fresh);
        Ok(Self { resident: resident_bytes(engine.pid())?, own })
    }

    fn print(&self, when: &str, clients: usize) {
        println!(
            "{when}: {:.0} MB resident, {:.0} bytes per client",
            self.resident as f64 / 1e6,
            self.own as f64 / clients as f64
        );
    }
}
