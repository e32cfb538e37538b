//! Single publishes, each to a topic that one client has to itself, with everything of the server on one CPU:
//! pipelined, as fast as they are answered and 50,000 a second, and 200 a second to one client. Then 200 a second to a
//! topic of 100 clients. Beside them the floor ([`bare`]).

use std::cell::RefCell;
use std::io::{Error, Result};
use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::bare::{self, topic};
use crate::common::floor::Helper;
use crate::common::latency::{Clock, Latencies};
use crate::common::measure::{CpuTime, Summary, Watched};
use crate::common::publisher::{Pace, Publisher, ended, numbered_data, publish_evenly, request_to};
use crate::common::report::{Report, Target};
use crate::common::rounds::Pairs;
use crate::common::support::engine::Engine;
use crate::common::support::swarm::Swarm;
use crate::common::{Arguments, LIMIT, LINE_BYTES, Nobody, SERVER_CPU, on_client_cpu, pin, start_engine};

const ROUNDS: usize = 5;
/// Clients of the pipelined part.
const CLIENTS: usize = 500;
/// Clients of the topic that they share.
const CROWD: usize = 100;
/// The unit where each topic has one client.
const PUBLICATION: &str = "us per publication";
/// The unit where a topic has several.
const DELIVERY: &str = "us per delivery";
/// Requests that are sent together. As many are on the way while their predecessors are answered.
const TOGETHER: u64 = 64;
/// The engine's threads that a publish goes through.
const THREADS: [&str; 3] = ["control", "broker", "shard-0"];

/// A field that the engine's reader of plain heads leaves to hyper, which carries out one request of a connection at
/// a time.
const IN_TURN: &str = "Connection: keep-alive, keep-alive\r\n";

/// All parts.
pub(super) fn measure(arguments: &Arguments, report: &mut Report) -> Result<()> {
    let (divisor, rounds) = (if arguments.short() { 10 } else { 1 }, arguments.rounds(ROUNDS));
    // The engine's other threads find no other CPU either.
    pin(SERVER_CPU);
    let engine = start_engine("[timeouts]\nping = \"1h\"\n[namespaces.private]\n");
    on_client_cpu(|| pipelined(&engine, divisor, rounds, report))?;
    on_client_cpu(|| spaced(&engine, divisor, rounds, report))?;
    on_client_cpu(|| crowd(&engine, divisor, rounds, report))
}

/// A server with its clients.
struct Rig {
    control: SocketAddr,
    /// Publications go to one after the other; clients are spread over them.
    topics: usize,
    swarm: Swarm,
    latencies: Latencies,
    process: Watched,
    /// [`THREADS`] of an engine.
    threads: Vec<Watched>,
    /// The process of a bare server.
    _bare: Option<Helper>,
}

/// What one round cost.
struct Cost {
    deliveries: f64,
    wall: Duration,
    process: CpuTime,
    threads: Vec<CpuTime>,
    /// Milliseconds from when a publication was due until the client had it.
    p50: f64,
    p99: f64,
}

impl Cost {
    fn per_second(&self) -> f64 {
        self.deliveries / self.wall.as_secs_f64()
    }

    /// All of the server, for each delivery.
    fn microseconds(&self) -> f64 {
        self.process.microseconds_each(self.deliveries)
    }
}

/// A request for a publication to the topic of this number that says when it was due. All have the same length.
fn request(control: SocketAddr, fields: &str, number: usize, due: u64) -> Vec<u8> {
    request_to(control, fields, &topic(number), &data(number, due))
}

fn data(number: usize, due: u64) -> String {
    numbered_data(&topic(number), due, LINE_BYTES)
}

impl Rig {
    fn of_engine(engine: &Engine, topics: usize, clients: usize) -> Result<Self> {
        let watched = |name| Watched::new(engine.pid(), Some(name));
        Ok(Self {
            control: engine.control_address(),
            topics,
            swarm: subscribed(engine.client_address(), topics, clients)?,
            latencies: Latencies::new(Clock::start(), clients),
            process: Watched::new(engine.pid(), None)?,
            threads: THREADS.into_iter().map(watched).collect::<Result<_>>()?,
            _bare: None,
        })
    }

    fn bare(topics: usize, clients: usize) -> Result<Self> {
        let (clock, like_any) = (Clock::start(), SocketAddr::from(([127, 0, 0, 1], 50_000)));
        let (request, data) = (request(like_any, "", 0, clock.now()), data(0, clock.now()));
        let mut bare = bare::start(topics, clients, request.len(), data.len())?;
        let swarm = subscribed(bare.address, topics, clients)?;
        let control = bare.answer()?.parse().map_err(Error::other)?;
        let (process, latencies) = (Watched::new(bare.pid(), None)?, Latencies::new(clock, clients));
        Ok(Self { control, topics, swarm, latencies, process, threads: Vec::new(), _bare: Some(bare) })
    }

    /// Publishes without a pause, many at a time on one connection.
    fn pipelined(&mut self, fields: &'static str, publications: u64) -> Result<Cost> {
        let (control, clock, topics) = (self.control, self.latencies.clock, self.topics);
        self.round(publications, || {
            Ok(std::thread::spawn(move || publish_all(control, fields, clock, topics, publications)))
        })
    }

    /// Publishes once in each interval, whatever becomes of the publications before.
    fn spaced(&mut self, interval: Duration, length: Duration) -> Result<Cost> {
        let (control, topics) = (self.control, self.topics as u64);
        let pace = Pace::every(self.latencies.clock, interval, length);
        let turn = move |number: u64| usize::try_from(number % topics).expect("an index");
        let publication = move |number, due| (topic(turn(number)), data(turn(number), due));
        self.round(pace.count, || publish_evenly(control, pace, publication))
    }

    /// What it costs to have so many publications published, until all clients of their topics have them.
    fn round(
        &mut self,
        publications: u64,
        publish: impl FnOnce() -> Result<JoinHandle<Result<()>>>,
    ) -> Result<Cost> {
        let (process, begin) = (self.process.process()?, Instant::now());
        let before: Vec<_> = self.threads().collect::<Result<_>>()?;
        self.latencies.begin(self.latencies.clock.now());
        let publisher = publish()?;
        let deliveries = publications * (self.swarm.len() / self.topics) as u64;
        let all = |_: &Swarm, latencies: &mut Latencies| latencies.publications() == deliveries;
        self.swarm.turn_until("all publications come", LIMIT, &mut self.latencies, all)?;
        let wall = begin.elapsed();
        ended(publisher)?;
        let process = self.process.process()?.since(process);
        let threads = self.threads().zip(before).map(|(now, before)| Ok(now?.since(before)));
        Ok(Cost {
            deliveries: deliveries as f64,
            wall,
            process,
            threads: threads.collect::<Result<_>>()?,
            p50: self.latencies.milliseconds(0.5),
            p99: self.latencies.milliseconds(0.99),
        })
    }

    fn threads(&self) -> impl Iterator<Item = Result<CpuTime>> {
        self.threads.iter().map(Watched::thread)
    }
}

/// Clients that have subscribed: client `n` to topic `n % topics`.
fn subscribed(address: SocketAddr, topics: usize, clients: usize) -> Result<Swarm> {
    let mut swarm = Swarm::new(address, clients)?;
    swarm.connect_all(&mut Nobody, LIMIT, |_, client| vec![topic(client % topics)])?;
    Ok(swarm)
}

/// Publishes to one topic after the other. Requests leave [`TOGETHER`], and the next ones when those before the
/// last ones are answered, so that the server always has some.
fn publish_all(
    control: SocketAddr,
    fields: &str,
    clock: Clock,
    topics: usize,
    publications: u64,
) -> Result<()> {
    let mut publisher = Publisher::connect(control)?;
    let (mut sent, mut answered) = (0, 0);
    while answered < publications {
        while sent < publications && sent - answered < 2 * TOGETHER {
            let numbers = sent..publications.min(sent + TOGETHER);
            sent = numbers.end;
            let due = clock.now();
            let turn = |number: u64| usize::try_from(number % topics as u64).expect("an index");
            let requests = numbers.map(|number| request(control, fields, turn(number), due));
            publisher.send(&requests.collect::<Vec<_>>().concat())?;
        }
        let next = TOGETHER.min(publications - answered);
        publisher.read_answers(usize::try_from(next).expect("few"))?;
        answered += next;
    }
    Ok(())
}

fn pipelined(engine: &Engine, divisor: u32, rounds: usize, report: &mut Report) -> Result<()> {
    let publications = 100_000 / u64::from(divisor);
    let (engine, mut bare) = (Rig::of_engine(engine, CLIENTS, CLIENTS)?, Rig::bare(CLIENTS, CLIENTS)?);
    let engine = RefCell::new(engine);
    let costs = Pairs::take(
        rounds,
        || engine.borrow_mut().pipelined("", publications),
        || bare.pipelined("", publications),
    )?;
    let in_turn = Pairs::take(
        rounds,
        || engine.borrow_mut().pipelined("", publications / 4),
        || engine.borrow_mut().pipelined(IN_TURN, publications / 4),
    )?;
    let about = format!("{CLIENTS} clients with a topic each, {} requests on the way", 2 * TOGETHER);
    report.part("private, pipelined", &about);
    let per_second = Summary::of(costs.first().map(Cost::per_second));
    report.row("publications", per_second, "per second", Target::AtLeast(50_000.0));
    show(&costs, PUBLICATION, Limits { microseconds: Some(20.0), p50: None }, report);
    let per_second = Summary::of(costs.second().map(Cost::per_second));
    report.row("bare server, publications", per_second, "per second", Target::None);
    let ratio = in_turn.ratio(Cost::microseconds, Cost::microseconds);
    report.row("CPU, overlapping / one at a time", ratio, "", Target::None);
    let ratio = in_turn.ratio(Cost::per_second, Cost::per_second);
    report.row("rate, overlapping / one at a time", ratio, "", Target::None);
    let in_turn = |of: fn(&Cost) -> f64| Summary::of(in_turn.second().map(of));
    report.row("one at a time, CPU", in_turn(Cost::microseconds), "us per publication", Target::None);
    report.row("one at a time, publications", in_turn(Cost::per_second), "per second", Target::None);
    report.row("one at a time, p99", in_turn(|cost| cost.p99), "ms", Target::None);
    paced(&mut engine.borrow_mut(), &mut bare, Duration::from_secs(1) / divisor, rounds, report)
}

/// How late publications are at the rate that is wanted, whether or not there is CPU for it.
fn paced(
    engine: &mut Rig,
    bare: &mut Rig,
    length: Duration,
    rounds: usize,
    report: &mut Report,
) -> Result<()> {
    const INTERVAL: Duration = Duration::from_micros(20);
    let costs = Pairs::take(rounds, || engine.spaced(INTERVAL, length), || bare.spaced(INTERVAL, length))?;
    let about = format!("{CLIENTS} clients with a topic each, 50,000 publications a second");
    report.part("private, paced", &about);
    let row = |of: fn(&Cost) -> f64| Summary::of(costs.first().map(of));
    report.row("due to received, p50", row(|cost| cost.p50), "ms", Target::None);
    report.row("due to received, p99", row(|cost| cost.p99), "ms", Target::AtMost(5.0));
    report.row("CPU of the engine", row(Cost::microseconds), "us per publication", Target::None);
    let bare = |of: fn(&Cost) -> f64| Summary::of(costs.second().map(of));
    report.row("bare server, p50", bare(|cost| cost.p50), "ms", Target::None);
    report.row("bare server, p99", bare(|cost| cost.p99), "ms", Target::None);
    Ok(())
}

fn spaced(engine: &Engine, divisor: u32, rounds: usize, report: &mut Report) -> Result<()> {
    const INTERVAL: Duration = Duration::from_millis(5);
    let length = Duration::from_secs(5) / divisor;
    let (mut engine, mut bare) = (Rig::of_engine(engine, 1, 1)?, Rig::bare(1, 1)?);
    let costs = Pairs::take(rounds, || engine.spaced(INTERVAL, length), || bare.spaced(INTERVAL, length))?;
    report.part("private, spaced", "one client, 200 publications a second, one request on the way");
    show(&costs, PUBLICATION, Limits { microseconds: Some(100.0), p50: Some(0.25) }, report);
    Ok(())
}

/// One topic with few clients: the work before the shard counts as much as the deliveries.
fn crowd(engine: &Engine, divisor: u32, rounds: usize, report: &mut Report) -> Result<()> {
    const INTERVAL: Duration = Duration::from_millis(5);
    let length = Duration::from_secs(5) / divisor;
    let (mut engine, mut bare) = (Rig::of_engine(engine, 1, CROWD)?, Rig::bare(1, CROWD)?);
    let costs = Pairs::take(rounds, || engine.spaced(INTERVAL, length), || bare.spaced(INTERVAL, length))?;
    let about = format!("{CROWD} clients of one topic, 200 publications a second, one request on the way");
    report.part("small crowd", &about);
    show(&costs, DELIVERY, Limits { microseconds: None, p50: None }, report);
    Ok(())
}

/// What a part's figures should be.
struct Limits {
    microseconds: Option<f64>,
    p50: Option<f64>,
}

fn show(costs: &Pairs<Cost, Cost>, each: &'static str, limits: Limits, report: &mut Report) {
    let engine = |of: fn(&Cost) -> f64| Summary::of(costs.first().map(of));
    let bare = |of: fn(&Cost) -> f64| Summary::of(costs.second().map(of));
    let at_most = |limit: Option<f64>| limit.map_or(Target::None, Target::AtMost);
    report.row("CPU of the engine", engine(Cost::microseconds), each, at_most(limits.microseconds));
    for (at, name) in THREADS.into_iter().enumerate() {
        let thread = |cost: &Cost| cost.threads[at].microseconds_each(cost.deliveries);
        report.row(&format!("of it, {name}"), Summary::of(costs.first().map(thread)), each, Target::None);
    }
    report.row("due to received, p50", engine(|cost| cost.p50), "ms", at_most(limits.p50));
    report.row("due to received, p99", engine(|cost| cost.p99), "ms", Target::None);
    report.row("CPU of the bare server", bare(Cost::microseconds), each, Target::None);
    report.row("bare server, p50", bare(|cost| cost.p50), "ms", Target::None);
    report.row("bare server, p99", bare(|cost| cost.p99), "ms", Target::None);
    let ratio = costs.ratio(Cost::microseconds, Cost::microseconds);
    report.row("CPU, engine / bare server", ratio, "", Target::None);
}
