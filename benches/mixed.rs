//! Different loads at the same time.
//!
//! * *private*: publications to 9,000 clients with a topic each, while broadcasts to 10,000 others never
//!   pause. Measured at the client, from the time at which a publication was due: that is the way through
//!   API and broker thread as well, and more than the target says.
//! * *stalled*: evenly spaced broadcasts at half the rate that saturates the engine, with 1 % of the clients
//!   taking nothing, against the same without them.
//! * *churn*: broadcasts one after the other while 10 % of the clients per second leave and others join,
//!   against the same while nobody does. Those who stay count; after that they read some more while others come
//!   and go, and each must get each publication once and in order.
//!
//! `--short` does a little of each.

mod common;

use std::io::Result;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::broadcasts::Broadcasts;
use common::churn::Guests;
use common::crowd::{Crowd, Reads};
use common::exact::check_broadcasts;
use common::latency::{Clock, Latencies};
use common::measure::{Summary, Watched, anonymous_bytes};
use common::publisher::{Pace, Publisher, ended, numbered_data, plain_data, publish_evenly};
use common::report::{Report, Target, places};
use common::rounds::{Pairs, Round, Server};
use common::scale::Scale;
use common::support::engine::Engine;
use common::support::swarm::Swarm;
use common::{Arguments, LIMIT, LINE_BYTES, Nobody, counting_clients, with_engine};

const ROUNDS: usize = 5;
const CONFIGURATION: &str = "[timeouts]\nping = \"1h\"\n[namespaces.mixed]\n[namespaces.private]\n";

fn main() -> Result<()> {
    let arguments = Arguments::read();
    if let Some(result) = arguments.help() {
        return result;
    }
    let scale = Scale::of(&arguments, ROUNDS);
    let mut report = Report::new("mixed", &format!("{} rounds", scale.rounds), places("shard"));
    for part in [private, stalled, churn] {
        with_engine(CONFIGURATION, |engine| part(engine, &scale, &mut report))?;
    }
    report.finish()
}

/// Private topics beside broadcasts that never pause.
fn private(engine: &Engine, scale: &Scale, report: &mut Report) -> Result<()> {
    const BROADCAST: &str = "mixed:all";
    const BROADCAST_CLIENTS: usize = 10_000;
    const PRIVATE_CLIENTS: usize = 9000;
    const LENGTH: Duration = Duration::from_secs(2);
    /// A multiple of what one shard can do one at a time, so that there is always one under way.
    const BROADCASTS_EACH: Duration = Duration::from_millis(10);
    const PRIVATE_EACH: Duration = Duration::from_millis(4);
    let (broadcast_clients, private_clients) = (scale.count(BROADCAST_CLIENTS), scale.count(PRIVATE_CLIENTS));
    let _crowd = Crowd::connect(engine.client_address(), broadcast_clients, BROADCAST, Reads::Nothing)?;
    let clock = Clock::start();
    let mut latencies = Latencies::new(clock, private_clients);
    let mut swarm = Swarm::new(engine.client_address(), private_clients)?;
    swarm.connect_all(&mut latencies, LIMIT, |_, client| vec![format!("private:{client}")])?;
    let shard = Watched::new(engine.pid(), Some("shard-0"))?;
    let (mut quantiles, mut busy, mut process) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..scale.rounds {
        let length = scale.length(LENGTH);
        // Broadcasts begin before the private publications and end after them.
        let broadcasts = publish_evenly(
            engine.control_address(),
            Pace::every(clock, BROADCASTS_EACH, length * 3 / 2),
            |_, _| (BROADCAST.to_owned(), plain_data(BROADCAST, LINE_BYTES)),
        )?;
        std::thread::sleep(length / 4);
        let pace = Pace::every(clock, PRIVATE_EACH, length);
        latencies.begin(pace.first);
        let (before, begin) = ((shard.thread()?, shard.process()?), Instant::now());
        let publisher = publish_evenly(engine.control_address(), pace, move |number, due| {
            // A prime, so that neighbours in time are no neighbours in the engine.
            let client = number * 7919 % private_clients as u64;
            let topic = format!("private:{client}");
            let data = numbered_data(&topic, due, LINE_BYTES);
            (topic, data)
        })?;
        let all = |_: &Swarm, latencies: &mut Latencies| latencies.publications() >= pace.count;
        swarm.turn_until("every private publication comes", LIMIT, &mut latencies, all)?;
        let wall = begin.elapsed();
        busy.push(shard.thread()?.since(before.0).percent_of(wall));
        process.push(shard.process()?.since(before.1).percent_of(wall));
        quantiles.push([0.5, 0.99, 1.0].map(|quantile| latencies.milliseconds(quantile)));
        ended(publisher)?;
        ended(broadcasts)?;
    }
    let about = format!("{private_clients} private topics beside broadcasts to {broadcast_clients}");
    report.part("private", &about);
    let summary = |index: usize| Summary::of(quantiles.iter().map(|quantiles: &[f64; 3]| quantiles[index]));
    report.row("private, due to received, p50", summary(0), "ms", Target::None);
    report.row("private, due to received, p99", summary(1), "ms", Target::AtMost(5.0));
    report.row("private, due to received, longest", summary(2), "ms", Target::None);
    report.row("shard was busy", Summary::of(busy), "% of the time", Target::None);
    report.row("CPU of all threads of the engine", Summary::of(process), "% of one CPU", Target::None);
    Ok(())
}

/// What those who take nothing cost the others.
fn stalled(engine: &Engine, scale: &Scale, report: &mut Report) -> Result<()> {
    const TOPIC: &str = "mixed:stalled";
    const CLIENTS: usize = 2000;
    /// Long lines, so that sockets and the topic's log, of 1 MiB, are full before a round ends.
    const LONG_LINE: usize = 16_000;
    const PUBLICATIONS: u32 = 50;
    /// Default of `limits.log_bytes` and of `limits.rest_bytes`, in MB.
    const LOGS_MAX: f64 = 17.0 * 1.048_576;
    let mut broadcasts = Broadcasts::connect(engine, CLIENTS, TOPIC, LONG_LINE)?;
    let interval = broadcasts.saturated()? * 2;
    let length = scale.length(interval * PUBLICATIONS);
    let broadcasts = std::cell::RefCell::new(broadcasts);
    let (mut growth, mut blocked) = (Vec::new(), Vec::new());
    let with_stalled = || {
        let victims = stalled_clients(engine.client_address(), CLIENTS / 100, TOPIC)?;
        let before = anonymous_bytes(engine.pid())?;
        let quantiles = broadcasts.borrow_mut().round(interval, length)?;
        growth.push((anonymous_bytes(engine.pid())? as f64 - before as f64) / 1e6);
        blocked.push(engine.metric("fanfare_blocked_clients", &[]));
        drop(victims);
        Ok(quantiles)
    };
    let without = || broadcasts.borrow_mut().round(interval, length);
    let pairs = Pairs::take(scale.rounds, with_stalled, without)?;
    let about = format!(
        "{CLIENTS} clients and 1 % that take nothing, {LONG_LINE} bytes each {:.1} ms",
        interval.as_secs_f64() * 1000.0
    );
    report.part("stalled", &about);
    let ratio = pairs.ratio(|with| with.p99, |without| without.p99);
    report.row("p99 of the others, with / without", ratio, "", Target::AtMost(1.15));
    report.row("p99 with", Summary::of(pairs.first().map(|with| with.p99)), "ms", Target::None);
    report.row("p99 without", Summary::of(pairs.second().map(|without| without.p99)), "ms", Target::None);
    let process = Summary::of(pairs.first().map(|with| with.process_percent));
    report.row("CPU of all threads with", process, "% of one CPU", Target::None);
    let process = Summary::of(pairs.second().map(|without| without.process_percent));
    report.row("CPU of all threads without", process, "% of one CPU", Target::None);
    report.row("blocked at the end of a round", Summary::of(blocked), "clients", Target::None);
    report.row("growth of the engine's memory", Summary::of(growth), "MB", Target::AtMost(LOGS_MAX));
    Ok(())
}

/// Clients that have subscribed and will never be turned again.
fn stalled_clients(server: SocketAddr, clients: usize, topic: &str) -> Result<Swarm> {
    const RECEIVE_BUFFER: usize = 4096;
    let mut swarm = Swarm::new(server, clients)?;
    (0..clients).for_each(|client| swarm.shrink_receive_buffer(client, RECEIVE_BUFFER));
    swarm.connect_all(&mut Nobody, LIMIT, |_, _| vec![topic])?;
    Ok(swarm)
}

/// What those who come and go cost the rate.
fn churn(engine: &Engine, scale: &Scale, report: &mut Report) -> Result<()> {
    const TOPIC: &str = "mixed:churn";
    const STAYING: usize = 4500;
    /// Each of them lives for a second: a tenth of all per second.
    const CHANGING: usize = 500;
    const FAN_OUTS: usize = 60;
    let mut publisher = Publisher::connect(engine.control_address())?;
    let request = publisher.request(TOPIC, &plain_data(TOPIC, LINE_BYTES));
    let topics = [TOPIC.to_owned()];
    let mut server = Server {
        swarm: counting_clients(engine.client_address(), STAYING, &topics)?,
        watched: Watched::new(engine.pid(), Some("shard-0"))?,
        poke: Box::new(|| publisher.publish(&request, 1)),
    };
    let fan_outs = scale.count(FAN_OUTS);
    let guests = Guests::connect(engine.client_address(), CHANGING, |_| topics.to_vec())?;
    let (pairs, per_second) = guests.beside(|orders| {
        let (accepted, begin) = (engine.metric("fanfare_accepted_total", &[]), Instant::now());
        let server = std::cell::RefCell::new(&mut server);
        let round = |is_changing| {
            orders.change(is_changing);
            server.borrow_mut().round(fan_outs, LINE_BYTES - 1)
        };
        let pairs = Pairs::take(scale.rounds, || round(true), || round(false))?;
        let came = engine.metric("fanfare_accepted_total", &[]) - accepted;
        let per_second = came / begin.elapsed().as_secs_f64() * 2.0;
        orders.change(true);
        check_broadcasts(engine, &mut server.borrow_mut().swarm, &topics, 1, LINE_BYTES)?;
        Ok((pairs, per_second))
    })?;
    report.part("churn", &format!("{STAYING} clients that stay and {CHANGING} that live for a second"));
    let rate = |round: &Round| 1.0 / round.wall_microseconds();
    report.row("rate with churn / without", pairs.ratio(rate, rate), "", Target::AtLeast(0.9));
    let row = |of: fn(&Round) -> f64| Summary::of(pairs.first().map(of));
    report.row("CPU of shard with churn", row(Round::thread_microseconds), "us per frame", Target::None);
    let without = Summary::of(pairs.second().map(Round::thread_microseconds));
    report.row("CPU of shard without", without, "us per frame", Target::None);
    let process = row(Round::process_microseconds);
    report.row("CPU of all threads with churn", process, "us per frame", Target::None);
    let without = Summary::of(pairs.second().map(Round::process_microseconds));
    report.row("CPU of all threads without", without, "us per frame", Target::None);
    report.row("clients were busy with churn", row(Round::clients_busy), "% of the time", Target::None);
    report.row("clients that came, while they did", per_second, "per second", Target::None);
    Ok(())
}
