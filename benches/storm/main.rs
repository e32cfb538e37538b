//! Reconnect storm: 15,000 clients are cut at once, connect again at once without waiting for each other, and
//! subscribe again, while publications go on. Time until each of them receives; from then on it must get each
//! publication once and in order, to the last one.
//!
//! The second part is what others notice of it: 500 clients receive publications while 15,000 reconnect, without tokens and
//! with tokens whose signatures the engine has to check. The third part is the same with clients that a slow backend lets in.
//!
//! `--short` has a tenth of the clients.

#[path = "../common/mod.rs"]
mod common;

mod hooked;
mod others;
mod reconnecting;

use std::fs;
use std::io::Result;
use std::time::{Duration, Instant};

use common::latency::Clock;
use common::measure::{CpuTime, Summary, Watched};
use common::publisher::{Pace, ended, numbered_data, publish_evenly};
use common::report::{Report, Target, places};
use common::support::engine::Engine;
use common::support::swarm::{ClientIndex, Goodbye, Line, Observer, Swarm};
use common::{Arguments, LIMIT, LINE_BYTES, Nobody, on_client_cpu, start_engine};

const ROUNDS: usize = 5;
const TOPIC: &str = "storm:bench";
/// Between two publications.
const PUBLICATION_EACH: Duration = Duration::from_millis(200);
/// How long publications go on after the cut: longer than the target, also on a busy machine.
const LENGTH: Duration = Duration::from_secs(8);
/// What the kernel counts when it does not take a connection at once (`TcpExt` of `/proc/net/netstat`).
const COUNTERS: [&str; 4] = ["ListenOverflows", "ListenDrops", "TCPReqQFullDrop", "TCPReqQFullDoCookies"];

fn main() -> Result<()> {
    let arguments = Arguments::read();
    if let Some(result) = reconnecting::run_if_asked(&arguments) {
        return result;
    }
    let (clients, rounds) = (if arguments.short() { 1500 } else { 15_000 }, arguments.rounds(ROUNDS));
    let about = format!("{clients} clients cut at once and back at once, {rounds} rounds");
    let mut report = Report::new("storm", &about, places("shard"));
    let engine = start_engine("[timeouts]\nping = \"1h\"\n[namespaces.storm]\n");
    on_client_cpu(|| {
        let mut swarm = Swarm::new(engine.client_address(), clients)?;
        swarm.connect_all(&mut Nobody, LIMIT, |_, _| vec![TOPIC])?;
        let storms: Vec<_> =
            (0..rounds).map(|round| storm(&engine, round, &mut swarm)).collect::<Result<_>>()?;
        show(&storms, &mut report);
        Ok::<_, std::io::Error>(())
    })?;
    drop(engine);
    others::measure(clients, rounds, &mut report)?;
    hooked::measure(clients, rounds, &mut report)?;
    report.finish()
}

/// What one storm was like. Times are from the cut, in milliseconds.
struct Storm {
    connecting: f64,
    half: f64,
    all: f64,
    shard: CpuTime,
    process: CpuTime,
    counters: [f64; 4],
}

fn storm(engine: &Engine, round: usize, swarm: &mut Swarm) -> Result<Storm> {
    let clients = swarm.len();
    // Addresses of their own for each round: the cut leaves ports behind that are not free for a minute.
    swarm.come_from(u8::try_from(round + 1).expect("few rounds"));
    let shard = Watched::new(engine.pid(), Some("shard-0"))?;
    let clock = Clock::start();
    let pace = Pace::every(clock, PUBLICATION_EACH, LENGTH);
    let publication = |number, _| (TOPIC.to_owned(), numbered_data(TOPIC, number + 1, LINE_BYTES));
    let publisher = publish_evenly(engine.control_address(), pace, publication)?;
    let (counters, before) = (kernel_counters()?, (shard.thread()?, shard.process()?));
    let mut back = Back::new(clients);
    (0..clients).for_each(|client| swarm.disconnect(client, Goodbye::Abrupt));
    (0..clients).try_for_each(|client| swarm.connect(client, &[TOPIC]))?;
    let connecting = back.begin.elapsed();
    swarm.turn_until("everybody receives again", LIMIT, &mut back, |_, back| back.missing == 0)?;
    let spent = (shard.thread()?.since(before.0), shard.process()?.since(before.1));
    let mut times: Vec<_> =
        back.clients.iter().map(|client| client.receives.as_secs_f64() * 1000.0).collect();
    times.sort_by(f64::total_cmp);
    let now = kernel_counters()?;
    // What else was published must not meet the next storm.
    let all = |_: &Swarm, back: &mut Back| back.clients.iter().all(|client| client.newest == pace.count);
    swarm.turn_until("everybody has the last publication", LIMIT, &mut back, all)?;
    ended(publisher)?;
    Ok(Storm {
        connecting: connecting.as_secs_f64() * 1000.0,
        half: times[clients / 2],
        all: times[clients - 1],
        shard: spent.0,
        process: spent.1,
        counters: std::array::from_fn(|index| now[index] - counters[index]),
    })
}

/// What a client got since the cut.
#[derive(Clone, Copy, Default)]
struct Client {
    /// For the first time.
    receives: Duration,
    /// The newest publication; 0: none yet.
    newest: u64,
}

/// Sees everybody come back. A connection that is refused or closed ends the bench, as does a publication that is
/// missing or comes twice.
struct Back {
    begin: Instant,
    clients: Vec<Client>,
    /// Clients that have not received anything yet.
    missing: usize,
}

impl Back {
    /// Begins to count the time.
    fn new(clients: usize) -> Self {
        Self { begin: Instant::now(), clients: vec![Client::default(); clients], missing: clients }
    }
}

impl Observer for Back {
    fn line(&mut self, index: ClientIndex, line: Line<'_>) {
        let client = &mut self.clients[index];
        match line {
            Line::Publication(publication) => {
                let number = publication.number;
                if client.newest == 0 {
                    client.receives = self.begin.elapsed();
                    self.missing -= 1;
                } else {
                    assert_eq!(number, client.newest + 1, "client {index} has {}", client.newest);
                }
                client.newest = number;
            }
            Line::Reply { error: None, .. } => {}
            other => panic!("client {index} got {other:?}"),
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
    let milliseconds = |time: CpuTime| time.nanoseconds as f64 / 1e6;
    report.row("CPU of shard", summary(&|storm| milliseconds(storm.shard)), "ms", Target::None);
    let process = summary(&|storm| milliseconds(storm.process));
    report.row("CPU of all threads of the engine", process, "ms", Target::None);
    for (index, name) in COUNTERS.iter().enumerate() {
        report.row(name, summary(&|storm| storm.counters[index]), "of the kernel", Target::None);
    }
}
