//! Latency, in an open loop: from the time at which a publication was due to its arrival at the client.
//!
//! * *spaced*: evenly spaced broadcasts at half the rate that saturates the engine, to 5,000 clients. The
//!   last client cannot have it earlier than a raw loop has sent to all: the yardstick is one pass of the
//!   floor over as many clients, at the same spacing, in turns.
//! * *added*, from a queue and from a stream: what an idle engine adds between RabbitMQ and a client, against a
//!   bare consumer of the same publications beside it, publication by publication; each second is a round.
//!
//! `--short` does a little of each.

mod common;

use std::collections::HashMap;
use std::io::Result;
use std::thread::JoinHandle;
use std::time::Duration;

use common::amqp::{Amqp, Bare, Source};
use common::broadcasts::{Broadcasts, Spaced};
use common::floor::Floor;
use common::latency::Clock;
use common::measure::{Summary, Watched};
use common::publisher::{Pace, ended, numbered_data};
use common::report::{Report, Target, places};
use common::rounds::Pairs;
use common::support::engine::Engine;
use common::support::rabbitmq::RabbitNode;
use common::support::swarm::{ClientIndex, Line, Observer, Swarm};
use common::{Arguments, LIMIT, LINE_BYTES, Nobody, counting_clients, on_client_cpu, start_engine};

const TOPIC: &str = "latency:bench";
const ROUNDS: usize = 5;

fn main() -> Result<()> {
    let arguments = Arguments::read();
    if let Some(result) = arguments.help() {
        return result;
    }
    let (divisor, rounds) = (if arguments.short() { 10 } else { 1 }, arguments.rounds(ROUNDS));
    let places =
        places("shard and raw loop") + "; RabbitMQ on both, as are bare consumer and client beside it";
    let mut report = Report::new("latency", &format!("from due to received, {rounds} rounds"), places);
    let engine = start_engine("[timeouts]\nping = \"1h\"\n[namespaces.latency]\n");
    on_client_cpu(|| spaced(&engine, divisor, rounds, &mut report))?;
    drop(engine);
    let node = RabbitNode::start();
    added(&node, "queue", Source::OwnQueue, divisor, rounds, &mut report)?;
    added(&node, "stream", Source::Stream("fanfare"), divisor, rounds, &mut report)?;
    report.finish()
}

/// Evenly spaced broadcasts.
fn spaced(engine: &Engine, divisor: u32, rounds: usize, report: &mut Report) -> Result<()> {
    const CLIENTS: usize = 5000;
    const LENGTH: Duration = Duration::from_secs(2);
    let mut broadcasts = Broadcasts::connect(engine, CLIENTS, TOPIC, LINE_BYTES)?;
    let fan_out = broadcasts.saturated()?;
    let (interval, length) = (fan_out * 2, LENGTH / divisor);
    let mut floor = Floor::start(CLIENTS, LINE_BYTES - 1)?;
    let mut floor_swarm = counting_clients(floor.address(), CLIENTS, &[TOPIC.to_owned()])?;
    let clock = broadcasts.clock;
    let pairs = Pairs::take(
        rounds,
        || broadcasts.round(interval, length),
        || raw_passes(&mut floor, Pace::every(clock, interval, length), &mut floor_swarm),
    )?;
    let about = format!("{CLIENTS} clients, a broadcast each {:.1} ms", interval.as_secs_f64() * 1000.0);
    report.part("spaced", &about);
    let (middle, longest) =
        (|passes: &Vec<f64>| passes[passes.len() / 2], |passes: &Vec<f64>| passes[passes.len() - 1]);
    let over_pass = pairs.ratio(|engine| engine.p99, middle);
    report.row("p99 / one raw pass", over_pass, "", Target::AtMost(1.3));
    let row = |of: fn(&Spaced) -> f64| Summary::of(pairs.first().map(of));
    report.row("p50", row(|engine| engine.p50), "ms", Target::None);
    report.row("p99", row(|engine| engine.p99), "ms", Target::None);
    report.row("p99.9", row(|engine| engine.p999), "ms", Target::None);
    report.row("longest", row(|engine| engine.longest), "ms", Target::None);
    let process = row(|engine| engine.process_percent);
    report.row("CPU of all threads of the engine", process, "% of one CPU", Target::None);
    report.row("one raw pass", Summary::of(pairs.second().map(middle)), "ms", Target::None);
    report.row("one raw pass, longest", Summary::of(pairs.second().map(longest)), "ms", Target::None);
    report.row("one fan-out at saturation", fan_out.as_secs_f64() * 1000.0, "ms", Target::None);
    Ok(())
}

/// The floor's passes at this pace, in milliseconds, while its clients read: the shortest first.
fn raw_passes(floor: &mut Floor, pace: Pace, swarm: &mut Swarm) -> Result<Vec<f64>> {
    let mut passes = Vec::new();
    for number in 0..pace.count {
        pace.clock.sleep_until(pace.due(number));
        let frames = swarm.counted().frames + swarm.len() as u64;
        floor.poke()?;
        let all = |swarm: &Swarm, _: &mut Nobody| swarm.counted().frames >= frames;
        swarm.turn_until("a pass of the floor reaches everyone", LIMIT, &mut Nobody, all)?;
        passes.push(floor.last_pass()?.as_secs_f64() * 1000.0);
    }
    passes.sort_by(f64::total_cmp);
    Ok(passes)
}

/// What an engine with this `amqp.source` adds between RabbitMQ and a client; a bare consumer reads `beside` it.
fn added(
    node: &RabbitNode,
    source: &str,
    beside: Source<'_>,
    divisor: u32,
    rounds: usize,
    report: &mut Report,
) -> Result<()> {
    const LENGTH: Duration = Duration::from_secs(1);
    /// Far enough from each other that nothing is under way when the next one comes.
    const INTERVAL: Duration = Duration::from_millis(5);
    let url = node.amqp_url();
    let config = format!(
        "[amqp]\nurl = \"{url}\"\nsource = \"{source}\"\n[timeouts]\nping = \"1h\"\n[namespaces.latency]\n"
    );
    let engine = start_engine(&config);
    engine.wait_until_ready();
    let watched = Watched::new(engine.pid(), None)?;
    let clock = Clock::start();
    let mut swarm = Swarm::new(engine.client_address(), 1)?;
    let mut arrivals = Arrivals { clock, at: HashMap::new() };
    swarm.connect_all(&mut arrivals, LIMIT, |_, _| vec![TOPIC])?;
    let length = LENGTH * u32::try_from(rounds).expect("few") / divisor;
    let pace = Pace::every(clock, INTERVAL, length);
    let count = usize::try_from(pace.count).expect("small");
    let bare = bare_arrivals(Bare::consume(&url, beside)?, clock, pace.count);
    let before = watched.process()?;
    let publisher = publish_to_rabbitmq(&url, pace)?;
    let all = |_: &Swarm, arrivals: &mut Arrivals| arrivals.at.len() == count;
    swarm.turn_until("all publications come", LIMIT, &mut arrivals, all)?;
    let process = watched.process()?.since(before);
    ended(publisher)?;
    let mut dues: Vec<_> = bare.join().expect("it does not panic")?.into_iter().collect();
    dues.sort_unstable();
    let rounds: Vec<_> = dues.chunks(count / rounds).map(|round| Added::of(round, &arrivals)).collect();
    let about =
        format!("{count} publications through RabbitMQ's {source}, one each {INTERVAL:?}, one client");
    report.part(&format!("added, {source}"), &about);
    let row = |of: fn(&Added) -> f64| Summary::of(rounds.iter().map(of));
    let after_bare = row(|round| round.after_bare[0]);
    report.row("engine's client after bare consumer, p50", after_bare, "us", Target::AtMost(150.0));
    let after_bare = row(|round| round.after_bare[1]);
    report.row("engine's client after bare consumer, p99", after_bare, "us", Target::None);
    report.row("due to received, p50", row(|round| round.after_due[0]), "us", Target::None);
    report.row("due to received, p99", row(|round| round.after_due[1]), "us", Target::None);
    let process = process.microseconds_each(count as f64);
    report.row("CPU of all threads of the engine", process, "us per publication", Target::None);
    Ok(())
}

/// When the engine's client got the publications of one round, in microseconds: p50 and p99.
struct Added {
    after_bare: [f64; 2],
    after_due: [f64; 2],
}

impl Added {
    /// `round` has for each publication when it was due, and when it came to the bare consumer.
    fn of(round: &[(u64, u64)], arrivals: &Arrivals) -> Self {
        let after = |of: fn(&(u64, u64)) -> u64| {
            let came = |publication: &(u64, u64)| arrivals.at[&publication.0] as f64;
            let mut microseconds: Vec<_> = round
                .iter()
                .map(|publication| (came(publication) - of(publication) as f64) / 1000.0)
                .collect();
            microseconds.sort_by(f64::total_cmp);
            [microseconds[round.len() / 2], microseconds[round.len() * 99 / 100]]
        };
        Self { after_bare: after(|(_, bare)| *bare), after_due: after(|(due, _)| *due) }
    }
}

/// Publishes at even intervals on a thread of its own.
fn publish_to_rabbitmq(url: &str, pace: Pace) -> Result<JoinHandle<Result<()>>> {
    let amqp = Amqp::connect(url)?;
    Ok(std::thread::spawn(move || {
        for number in 0..pace.count {
            pace.clock.sleep_until(pace.due(number));
            amqp.publish(TOPIC, &numbered_data(TOPIC, pace.due(number), LINE_BYTES))?;
        }
        Ok(())
    }))
}

/// Consumes on a thread of its own: when each publication came, by the time it was due.
fn bare_arrivals(mut consumer: Bare, clock: Clock, count: u64) -> JoinHandle<Result<HashMap<u64, u64>>> {
    std::thread::spawn(move || {
        let mut arrivals = HashMap::new();
        consumer.messages(count, |_, body| {
            let now = clock.now();
            let digits = body.iter().skip_while(|byte| !byte.is_ascii_digit());
            let digits = digits.take_while(|byte| byte.is_ascii_digit());
            let due = digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
            arrivals.insert(due, now);
        })?;
        Ok(arrivals)
    })
}

/// When each publication came, by the time it was due.
struct Arrivals {
    clock: Clock,
    at: HashMap<u64, u64>,
}

impl Observer for Arrivals {
    fn line(&mut self, client: ClientIndex, line: Line<'_>) {
        match line {
            Line::Publication(publication) => {
                let before = self.at.insert(publication.number, self.clock.now());
                assert_eq!(before, None, "{} came twice", publication.number);
            }
            Line::Reply { error: None, .. } => {}
            other => panic!("client {client} got {other:?}"),
        }
    }
}
