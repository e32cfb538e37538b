//! Reconnect storm: 15,000 clients are cut at once, connect again at once without waiting for each other, and
//! subscribe again, while publications go on. Time until each of them receives.
//!
//! `--short` has a tenth of the clients.

mod common;

use std::fs;
use std::io::Result;
use std::time::{Duration, Instant};

use common::latency::Clock;
use common::measure::{CpuTime, Summary, Watched};
use common::publisher::{Pace, ended, plain_data, publish_evenly};
use common::report::{Report, Target};
use common::support::engine::Engine;
use common::support::swarm::{ClientIndex, Goodbye, Line, Observer, Swarm};
use common::{Arguments, LIMIT, LINE_BYTES, Nobody, on_client_cpu, start_engine};

const ROUNDS: usize = 5;
const TOPIC: &str = "storm:bench";
/// Between two publications.
const PUBLICATION_EACH: Duration = Duration::from_millis(200);
/// How long publications go on after the cut: longer than the target.
const LENGTH: Duration = Duration::from_secs(4);
/// What the kernel counts when it does not take a connection at once (`TcpExt` of `/proc/net/netstat`).
const COUNTERS: [&str; 4] = ["ListenOverflows", "ListenDrops", "TCPReqQFullDrop", "TCPReqQFullDoCookies"];

fn main() -> Result<()> {
    let arguments = Arguments::read();
    let (clients, rounds) = (if arguments.short() { 1500 } else { 15_000 }, arguments.rounds(ROUNDS));
    let about = format!("{clients} clients cut at once and back at once, {rounds} rounds");
    let mut report = Report::new("storm", &about);
    let engine = start_engine("[timeouts]\nping = \"1h\"\n");
    on_client_cpu(|| {
        let mut swarm = Swarm::new(engine.client_address(), clients)?;
        swarm.connect_all(&mut Nobody, LIMIT, |_, _| vec![TOPIC])?;
        let storms: Vec<_> =
            (0..rounds).map(|round| storm(&engine, round, &mut swarm)).collect::<Result<_>>()?;
        show(&storms, &mut report);
        report.finish()
    })
}

/// What one storm was like. Times are from the cut, in milliseconds.
struct Storm {
    connecting: f64,
    half: f64,
    all: f64,
    shard_milliseconds: f64,
    counters: [f64; 4],
}

fn storm(engine: &Engine, round: usize, swarm: &mut Swarm) -> Result<Storm> {
    let clients = swarm.len();
    // Addresses of their own for each round: the cut leaves ports behind that are not free for a minute.
    swarm.come_from(u8::try_from(round + 1).expect("few rounds"));
    let shard = Watched::new(engine.pid(), Some("shard-0"))?;
    let clock = Clock::start();
    let pace = Pace::every(clock, PUBLICATION_EACH, LENGTH);
    let publication = |_, _| (TOPIC.to_owned(), plain_data(TOPIC, LINE_BYTES));
    let publisher = publish_evenly(engine.control_address(), pace, publication)?;
    let (counters, cpu, begin) = (kernel_counters()?, shard.thread()?, Instant::now());
    let mut back = Back { begin, at: vec![None; clients], missing: clients };
    (0..clients).for_each(|client| swarm.disconnect(client, Goodbye::Abrupt));
    (0..clients).try_for_each(|client| swarm.connect(client, &[TOPIC]))?;
    let connecting = begin.elapsed();
    swarm.turn_until("everybody receives again", LIMIT, &mut back, |_, back| back.missing == 0)?;
    let spent: CpuTime = shard.thread()?.since(cpu);
    let mut times: Vec<_> = back.at.iter().flatten().map(|at| at.as_secs_f64() * 1000.0).collect();
    times.sort_by(f64::total_cmp);
    let now = kernel_counters()?;
    // What else was published must not meet the next storm.
    let all = |_: &Swarm, _: &mut Nobody| publisher.is_finished();
    swarm.turn_until("the publisher ends", LIMIT, &mut Nobody, all)?;
    ended(publisher)?;
    Ok(Storm {
        connecting: connecting.as_secs_f64() * 1000.0,
        half: times[clients / 2],
        all: times[clients - 1],
        shard_milliseconds: spent.nanoseconds as f64 / 1e6,
        counters: std::array::from_fn(|index| now[index] - counters[index]),
    })
}

/// When each client received for the first time after the cut. A connection that is refused or closed ends
/// the bench.
struct Back {
    begin: Instant,
    at: Vec<Option<Duration>>,
    missing: usize,
}

impl Observer for Back {
    fn line(&mut self, client: ClientIndex, line: Line<'_>) {
        match line {
            Line::Publication(_) => {
                if self.at[client].is_none() {
                    self.at[client] = Some(self.begin.elapsed());
                    self.missing -= 1;
                }
            }
            Line::Reply { error: None, .. } => {}
            other => panic!("client {client} got {other:?}"),
        }
    }
}

/// [`COUNTERS`], as they stand.
fn kernel_counters() -> Result<[f64; 4]> {
    let netstat = fs::read_to_string("/proc/net/netstat")?;
    let mut lines = netstat.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let counters: Vec<_> = names.split(' ').zip(values.split(' ')).collect();
    let value = |name: &str| {
        let found = counters.iter().find(|(known, _)| *known == name);
        found.and_then(|(_, value)| value.parse().ok()).unwrap_or(0.0)
    };
    Ok(COUNTERS.map(value))
}

fn show(storms: &[Storm], report: &mut Report) {
    let summary = |of: &dyn Fn(&Storm) -> f64| Summary::of(storms.iter().map(of));
    report.row("everybody receives", summary(&|storm| storm.all), "ms after the cut", Target::AtMost(2000.0));
    report.row("half of them receive", summary(&|storm| storm.half), "ms after the cut", Target::None);
    let connecting = summary(&|storm| storm.connecting);
    report.row("the last one begins to connect", connecting, "ms after the cut", Target::None);
    report.row("CPU of shard", summary(&|storm| storm.shard_milliseconds), "ms", Target::None);
    for (index, name) in COUNTERS.iter().enumerate() {
        report.row(name, summary(&|storm| storm.counters[index]), "of the kernel", Target::None);
    }
}
