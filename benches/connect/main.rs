//! Connecting: what the engine spends on 15,000 clients that come, ask for an upgrade, connect and subscribe to one of 100
//! topics, against a raw loop that takes the same connections and answers each with the same short text, which it has ready.
//!
//! Both are on one CPU and are measured in turns, each over the same number of clients. A client sends its request and its
//! commands in one piece. Connections are closed after each round; that is not measured.
//!
//! The second part is the same for clients that show tokens, each its own, against clients that need none.
//! `--short` has a tenth of the clients.

#[path = "../common/mod.rs"]
mod common;

mod raw_loop;
mod tokens;

use std::io::Result;
use std::net::SocketAddr;
use std::ops::RangeFrom;
use std::time::{Duration, Instant};

use common::floor::Helper;
use common::measure::{CpuTime, Summary, Watched};
use common::report::{Report, Target, places};
use common::support::engine::Engine;
use common::support::swarm::{Goodbye, Swarm};
use common::support::wait::wait_until;
use common::{Arguments, LIMIT, Nobody, on_client_cpu, start_engine};

const ROUNDS: usize = 5;
const TOPICS: usize = 100;
const CONFIGURATION: &str = "[timeouts]\nping = \"1h\"\n[namespaces.connect]\n";
/// The CPU of the shard, over that of the raw loop. The target is 18 us per client on a machine where a server that only
/// greets takes 13.
const RATIO_MAX: f64 = 18.0 / 13.0;

/// What a server spent on the clients of one round.
struct Cost {
    thread: CpuTime,
    process: CpuTime,
    wall: Duration,
}

fn main() -> Result<()> {
    let arguments = Arguments::read();
    if let Some(result) = arguments.help().or_else(|| raw_loop::run_if_asked(&arguments)) {
        return result;
    }
    let (clients, rounds) = (if arguments.short() { 1500 } else { 15_000 }, arguments.rounds(ROUNDS));
    let about = format!("{clients} clients connect and subscribe, {rounds} rounds");
    let mut report = Report::new("connect", &about, places("shard and raw loop"));
    let engine = start_engine(CONFIGURATION);
    let raw = Helper::start(&["--raw-loop"])?;
    // Addresses of their own for each: connections that were closed leave ports behind that are not free for a minute.
    let mut networks = 1..;
    let costs = on_client_cpu(|| measure(&engine, &raw, clients, rounds, &mut networks))?;
    show(&costs, clients, &mut report);
    drop((engine, raw));
    tokens::run(clients, rounds, &mut networks, &mut report)?;
    report.finish()
}

fn measure(
    engine: &Engine,
    raw: &Helper,
    clients: usize,
    rounds: usize,
    networks: &mut RangeFrom<u8>,
) -> Result<Vec<(Cost, Cost)>> {
    let shard = Watched::new(engine.pid(), Some("shard-0"))?;
    let raw_thread = Watched::new(raw.pid(), None)?;
    let mut connect = |server, watched: &Watched| {
        let network = networks.next().expect("there are enough for all rounds");
        connect_all(server, network, clients, &[], watched)
    };
    let mut costs = Vec::new();
    for _ in 0..rounds {
        let of_engine = connect(engine.client_address(), &shard)?;
        wait_until_empty(engine);
        costs.push((of_engine, connect(raw.address, &raw_thread)?));
    }
    Ok(costs)
}

fn wait_until_empty(engine: &Engine) {
    let open = || engine.metric("fanfare_clients", &[("state", "open")]);
    wait_until(LIMIT, "the clients of a round to be gone", || open() == 0.0);
}

/// Connects as many new clients, measures what the server spends until all are answered, and lets them go. The clients
/// show these tokens, or none if there are none.
fn connect_all(
    server: SocketAddr,
    network: u8,
    clients: usize,
    tokens: &[String],
    watched: &Watched,
) -> Result<Cost> {
    let topics: Vec<_> = (0..TOPICS).map(|topic| format!("connect:{topic}")).collect();
    let mut swarm = Swarm::new(server, clients)?;
    swarm.come_from(network);
    tokens.iter().enumerate().for_each(|(client, token)| swarm.show_token(client, token));
    let (begin, before) = (Instant::now(), (watched.thread()?, watched.process()?));
    swarm.connect_all(&mut Nobody, LIMIT, |_, client| vec![topics[client % TOPICS].as_str()])?;
    let wall = begin.elapsed();
    let (thread, process) = (watched.thread()?.since(before.0), watched.process()?.since(before.1));
    (0..clients).for_each(|client| swarm.disconnect(client, Goodbye::Abrupt));
    Ok(Cost { thread, process, wall })
}

fn show(costs: &[(Cost, Cost)], clients: usize, report: &mut Report) {
    let clients = clients as f64;
    let summary = |of: &dyn Fn(&(Cost, Cost)) -> f64| Summary::of(costs.iter().map(of));
    let each = |cost: &Cost| cost.thread.microseconds_each(clients);
    let ratio = summary(&|(engine, raw)| each(engine) / each(raw));
    report.row("CPU of shard / of raw loop, per client", ratio, "", Target::AtMost(RATIO_MAX));
    report.row("CPU of shard", summary(&|(engine, _)| each(engine)), "us per client", Target::None);
    report.row("CPU of raw loop", summary(&|(_, raw)| each(raw)), "us per client", Target::None);
    let process = summary(&|(engine, _)| engine.process.microseconds_each(clients));
    report.row("CPU of all threads of the engine", process, "us per client", Target::None);
    let share = summary(&|(engine, _)| 100.0 * engine.thread.user_share());
    report.row("of the shard's, outside of the kernel", share, "%", Target::None);
    let wall = summary(&|(engine, _)| engine.wall.as_secs_f64() * 1000.0);
    report.row("all are subscribed at the engine", wall, "ms", Target::None);
    let wall = summary(&|(_, raw)| raw.wall.as_secs_f64() * 1000.0);
    report.row("all are answered by the raw loop", wall, "ms", Target::None);
}
