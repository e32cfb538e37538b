//! Memory: what an idle client costs the engine, in its own memory, at 15,000 clients.
//!
//! Counted is what the engine's process allocated (`Anonymous` of `/proc/PID/smaps_rollup`), before any
//! client came and when all are connected, subscribed and silent; not the kernel's sockets. The engine is
//! fresh and its configuration the default one, but for pings that stay away. *Fresh* clients have never got
//! anything; *used* is after every topic has carried a publication and gone idle again. `--short` connects
//! 2,000.

mod common;

use std::io::Result;
use std::time::{Duration, Instant};

use common::measure::{anonymous_bytes, resident_bytes};
use common::publisher::{Publisher, plain_data};
use common::report::{Report, Target};
use common::support::engine::Engine;
use common::support::swarm::{ClientIndex, Line, Observer, Swarm};
use common::{Arguments, LIMIT, LINE_BYTES};

/// Bytes per client that shares its topic with all others, and of one with a topic of its own.
const SHARED_TARGET: Target = Target::AtMost(256.0);
const PRIVATE_TARGET: Target = Target::AtMost(512.0);
/// The engine gives memory back in a sweep once a second, and its allocator some time after that: the
/// least of the readings in this time counts.
const SETTLING: Duration = Duration::from_secs(5);
/// Between two readings.
const PAUSE: Duration = Duration::from_millis(250);
/// Publications in one piece.
const AT_ONCE: usize = 64;

fn main() -> Result<()> {
    let clients = if Arguments::read().short() { 2000 } else { 15_000 };
    let mut report = Report::new("memory", &format!("the engine's own, per idle client, {clients} clients"));
    report.part("shared", "one topic for all");
    measure_clients(clients, |_| "shared".to_owned(), SHARED_TARGET, &mut report)?;
    report.part("private", "a topic for each");
    measure_clients(clients, |client| format!("private:{client}"), PRIVATE_TARGET, &mut report)?;
    report.finish()
}

/// Bytes per client of a fresh engine.
fn measure_clients(
    clients: usize,
    topic_of: impl Fn(ClientIndex) -> String,
    target: Target,
    report: &mut Report,
) -> Result<()> {
    let engine = Engine::with_config("[timeouts]\nping = \"1h\"\n");
    let mut swarm = Swarm::new(engine.client_address(), clients)?;
    let mut silence = Silence::default();
    let before = settled_bytes(&engine, &mut swarm, &mut silence)?;
    let per_client = |bytes: u64| (bytes as f64 - before as f64) / clients as f64;
    swarm.connect_all(&mut silence, LIMIT, |_, client| vec![topic_of(client)])?;
    let fresh = settled_bytes(&engine, &mut swarm, &mut silence)?;
    report.row("fresh clients", per_client(fresh), "bytes per client", target);
    let mut topics: Vec<_> = (0..clients).map(topic_of).collect();
    topics.dedup();
    publish_to_each(&engine, &topics, &mut swarm, &mut silence)?;
    let used = settled_bytes(&engine, &mut swarm, &mut silence)?;
    report.row("after a publication to each topic", per_client(used), "bytes per client", target);
    report.row("resident", resident_bytes(engine.pid())? as f64 / 1e6, "MB", Target::None);
    assert_eq!((0..clients).filter(|&client| swarm.is_connected(client)).count(), clients);
    Ok(())
}

/// One publication to each topic, and nothing more until all clients have it.
fn publish_to_each(
    engine: &Engine,
    topics: &[String],
    swarm: &mut Swarm,
    silence: &mut Silence,
) -> Result<()> {
    let mut publisher = Publisher::connect(engine.control_address())?;
    for some in topics.chunks(AT_ONCE) {
        let requests: Vec<u8> =
            some.iter().flat_map(|topic| publisher.request(topic, &plain_data(topic, LINE_BYTES))).collect();
        publisher.publish(&requests, some.len())?;
        swarm.turn(Duration::ZERO, silence)?;
    }
    let all = |swarm: &Swarm, silence: &mut Silence| silence.publications == swarm.len();
    swarm.turn_until("each client has its publication", LIMIT, silence, all)
}

/// The least memory the engine is seen with while it has nothing to do.
fn settled_bytes(engine: &Engine, swarm: &mut Swarm, silence: &mut Silence) -> Result<u64> {
    let end = Instant::now() + SETTLING;
    let mut least = u64::MAX;
    while Instant::now() < end {
        swarm.turn(PAUSE, silence)?;
        least = least.min(anonymous_bytes(engine.pid())?);
    }
    Ok(least)
}

/// Expects that every subscription succeeds, counts publications, and nothing else.
#[derive(Default)]
struct Silence {
    publications: usize,
}

impl Observer for Silence {
    fn line(&mut self, client: ClientIndex, line: Line<'_>) {
        match line {
            Line::Publication(_) => self.publications += 1,
            Line::Reply { error: None, .. } => {}
            other => panic!("client {client} got {other:?}"),
        }
    }
}
