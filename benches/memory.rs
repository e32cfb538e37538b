//! Memory: what an idle client costs the engine, in its own memory, at 10,000 clients.
//!
//! Counted is what the engine's process allocated (`Anonymous` of `/proc/PID/smaps_rollup`), before any
//! client came and when all are connected, subscribed and silent; not the kernel's sockets. With one
//! topic for all the target is 512 bytes, and the bench fails above it. `--short` connects 2,000.

mod measure;
#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{Error, Result};
use std::time::{Duration, Instant};

use serde_json::json;
use support::engine::Engine;
use support::swarm::{ClientIndex, Line, Observer, Swarm};

/// Bytes per client that shares its topic with all others.
const SHARED_TARGET: f64 = 512.0;
/// How long all clients may take to connect.
const LIMIT: Duration = Duration::from_secs(120);
/// The engine gives memory back in a sweep once a second, and its allocator some time after that: the
/// least of the readings in this time counts.
const SETTLING: Duration = Duration::from_secs(5);
/// Between two readings.
const PAUSE: Duration = Duration::from_millis(250);

fn main() -> Result<()> {
    let clients = if std::env::args().any(|argument| argument == "--short") { 2000 } else { 10_000 };
    println!("memory of the engine per idle client, {clients} clients");
    let shared = measure_clients(clients, |_| "shared".to_owned())?;
    println!("  one shared topic  {shared:>6.0} bytes (target {SHARED_TARGET})");
    let private = measure_clients(clients, |client| format!("private:{client}"))?;
    println!("  private topics    {private:>6.0} bytes");
    let result = json!({
        "clients": clients,
        "shared_topic_bytes_per_client": shared,
        "private_topic_bytes_per_client": private,
    });
    measure::write_json("memory", &result)?;
    if shared > SHARED_TARGET {
        return Err(Error::other(format!("{shared:.0} bytes per client are more than {SHARED_TARGET}")));
    }
    Ok(())
}

/// Bytes per client of a fresh engine.
fn measure_clients(clients: usize, topic_of: impl Fn(ClientIndex) -> String) -> Result<f64> {
    let engine = Engine::with_config("[timeouts]\nping = \"1h\"\n");
    let mut swarm = Swarm::new(engine.client_address(), clients)?;
    let before = settled_bytes(&engine, &mut swarm)?;
    swarm.connect_all(&mut Silence, LIMIT, |_, client| vec![topic_of(client)])?;
    let after = settled_bytes(&engine, &mut swarm)?;
    assert_eq!((0..clients).filter(|&client| swarm.is_connected(client)).count(), clients);
    Ok((after as f64 - before as f64) / clients as f64)
}

/// The least memory the engine is seen with while it has nothing to do.
fn settled_bytes(engine: &Engine, swarm: &mut Swarm) -> Result<u64> {
    let end = Instant::now() + SETTLING;
    let mut least = u64::MAX;
    while Instant::now() < end {
        swarm.turn(PAUSE, &mut Silence)?;
        least = least.min(measure::anonymous_bytes(engine.pid())?);
    }
    Ok(least)
}

/// Expects that every subscription succeeds, and nothing else.
struct Silence;

impl Observer for Silence {
    fn line(&mut self, client: ClientIndex, line: Line<'_>) {
        let is_fine = matches!(line, Line::Reply { error: None, .. } | Line::Ping);
        assert!(is_fine, "client {client} got {line:?}");
    }
}
