//! Idle: what 15,000 clients cost that are only pinged, against a raw loop that sends the same bytes to as
//! many clients on the same schedule and reads their pongs.
//!
//! Engine and raw loop share a CPU and are measured over the same time, which begins when the first pings
//! are over: there is far more of it than both need. The engine's default is a ping each 25 s; here it is one
//! each 4 s, because what one ping and its pong cost is the same, and five rounds of 25 s would take two minutes.
//! `--short` has a tenth of the clients, pinged each 2 s.

#[path = "../common/mod.rs"]
mod common;

mod raw_loop;

use std::io::{Error, Result};
use std::time::{Duration, Instant};

use common::crowd::{Crowd, Reads};
use common::floor::Helper;
use common::measure::{CpuTime, Summary, Watched};
use common::report::{Report, Target, places};
use common::support::engine::Engine;
use common::{Arguments, on_client_cpu, start_engine};

const ROUNDS: usize = 5;
const TOPIC: &str = "idle";

/// What a server spent in one interval.
struct Cost {
    thread: CpuTime,
    process: CpuTime,
    pings: f64,
}

impl Cost {
    fn microseconds(&self) -> f64 {
        self.thread.microseconds_each(self.pings)
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::read();
    if let Some(result) = arguments.help().or_else(|| raw_loop::run_if_asked(&arguments)) {
        return result;
    }
    let (clients, interval) = if arguments.short() { (1500, 2) } else { (15_000, 4) };
    let rounds = arguments.rounds(ROUNDS);
    let about = format!("{clients} clients, a ping each {interval} s, {rounds} rounds of that length");
    let mut report = Report::new("idle", &about, places("shard and raw loop"));
    // A pong may take half of the interval.
    let engine = start_engine(&format!("[timeouts]\nping = \"{interval}s\"\npong = \"{}s\"\n", interval / 2));
    let raw = Helper::start(&["--raw-loop", &clients.to_string(), &interval.to_string()])?;
    on_client_cpu(|| measure(&engine, raw, clients, Duration::from_secs(interval), rounds, &mut report))?;
    report.finish()
}

fn measure(
    engine: &Engine,
    mut raw: Helper,
    clients: usize,
    interval: Duration,
    rounds: usize,
    report: &mut Report,
) -> Result<()> {
    let crowds = [
        Crowd::connect(engine.client_address(), clients, TOPIC, Reads::Nothing)?,
        Crowd::connect(raw.address, clients, TOPIC, Reads::Nothing)?,
    ];
    // The first ping comes within an interval.
    std::thread::sleep(interval);
    let shard = Watched::new(engine.pid(), Some("shard-0"))?;
    let raw_thread = Watched::new(raw.pid(), None)?;
    let mut costs = Vec::new();
    for _ in 0..rounds {
        let begin = Instant::now();
        let before = (shard.thread()?, shard.process()?, raw_thread.thread()?, raw_thread.process()?);
        let pings = (pings_of_engine(engine), pings_of_raw_loop(&mut raw)?);
        std::thread::sleep(interval.saturating_sub(begin.elapsed()));
        let of_engine = Cost {
            thread: shard.thread()?.since(before.0),
            process: shard.process()?.since(before.1),
            pings: pings_of_engine(engine) - pings.0,
        };
        let of_raw = Cost {
            thread: raw_thread.thread()?.since(before.2),
            process: raw_thread.process()?.since(before.3),
            pings: pings_of_raw_loop(&mut raw)? - pings.1,
        };
        costs.push((of_engine, of_raw));
    }
    assert_eq!(engine.metric("fanfare_clients", &[("state", "open")]), clients as f64, "nobody is lost");
    // Clients go first: they take it ill if their server does.
    drop(crowds);
    show(&costs, clients, interval, report);
    Ok(())
}

/// Nothing else is written to clients that get no publications.
fn pings_of_engine(engine: &Engine) -> f64 {
    engine.metric("fanfare_writes_total", &[])
}

fn pings_of_raw_loop(raw: &mut Helper) -> Result<f64> {
    raw.tell(b"?")?;
    raw.answer()?.parse().map_err(Error::other)
}

fn show(costs: &[(Cost, Cost)], clients: usize, interval: Duration, report: &mut Report) {
    let summary = |of: &dyn Fn(&(Cost, Cost)) -> f64| Summary::of(costs.iter().map(of));
    let ratio = summary(&|(engine, raw)| engine.microseconds() / raw.microseconds());
    report.row("CPU of shard / of raw loop, per ping", ratio, "", Target::AtMost(1.15));
    let engine = summary(&|(engine, _)| engine.microseconds());
    report.row("CPU of shard", engine, "us per ping and pong", Target::None);
    let raw = summary(&|(_, raw)| raw.microseconds());
    report.row("CPU of raw loop", raw, "us per ping and pong", Target::None);
    let process = summary(&|(engine, _)| engine.process.microseconds_each(engine.pings));
    report.row("CPU of all threads of the engine", process, "us per ping and pong", Target::None);
    let process = summary(&|(_, raw)| raw.process.microseconds_each(raw.pings));
    report.row("CPU of all threads of the raw loop", process, "us per ping and pong", Target::None);
    let busy = summary(&|(engine, _)| engine.thread.percent_of(interval));
    report.row("shard was busy", busy, "% of the time", Target::None);
    let pings = summary(&|(engine, _)| engine.pings / clients as f64);
    report.row("pings of the engine", pings, "per client and round", Target::None);
    let pings = summary(&|(_, raw)| raw.pings / clients as f64);
    report.row("pings of the raw loop", pings, "per client and round", Target::None);
}
