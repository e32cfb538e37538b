//! Requests of clients that a worker behind RabbitMQ answers, against a bare request and reply over RabbitMQ beside it, with
//! the same worker, in turns: one request after the other, and a thousand in flight.
//!
//! `--short` asks a tenth as often.

#[path = "../common/mod.rs"]
mod common;

mod bare;

use std::io::Result;
use std::time::{Duration, Instant};

use common::measure::{Summary, Watched};
use common::report::{Report, Target, places};
use common::rounds::Pairs;
use common::support::engine::Engine;
use common::support::rabbitmq::RabbitNode;
use common::support::websocket::RawClient;
use common::{Arguments, on_client_cpu, start_engine};

use bare::{Asker, start_worker};

const ROUNDS: usize = 5;
const BODY: &str = r#"{"order":42,"fields":["status","total"]}"#;
/// Clients that have [`EACH`] requests in flight.
const CLIENTS: usize = 20;
const EACH: usize = 50;

fn main() -> Result<()> {
    let arguments = Arguments::read();
    let (count, rounds) = (if arguments.short() { 100 } else { 1000 }, arguments.rounds(ROUNDS));
    let places = places("shard") + "; RabbitMQ and the worker on both, as is the bare client";
    let mut report = Report::new("rpc", &format!("request and reply over RabbitMQ, {rounds} rounds"), places);
    let node = RabbitNode::start();
    let url = node.amqp_url();
    let engine = start_engine(&format!(
        "[amqp]\nurl = \"{url}\"\nsource = \"queue\"\n[rpc]\nmethods = {{ \"get\" = \"amqp\" }}\n[timeouts]\nping = \"1h\"\n"
    ));
    engine.wait_until_ready();
    let _worker = start_worker(&url)?;
    let mut bare = Asker::connect(&url)?;
    on_client_cpu(|| {
        one_by_one(&engine, &mut bare, count, rounds, &mut report)?;
        in_flight(&engine, &mut bare, rounds, &mut report)
    })?;
    report.finish()
}

fn one_by_one(
    engine: &Engine,
    bare: &mut Asker,
    count: usize,
    rounds: usize,
    report: &mut Report,
) -> Result<()> {
    let mut client = engine.client();
    let watched = Watched::new(engine.pid(), None)?;
    let before = watched.process()?;
    let pairs =
        Pairs::take(rounds, || Ok(ask(&mut client, count)), || bare.one_by_one(count, BODY.as_bytes()))?;
    let process = watched.process()?.since(before);
    let refused: Vec<_> =
        (0..rounds).map(|_| ask_for(&mut client, count, "nobody", r#""code":108"#)).collect();
    report.part("one by one", &format!("{count} requests of one client"));
    let p50 = |times: &Vec<Duration>| percentile(times, 50);
    let p99 = |times: &Vec<Duration>| percentile(times, 99);
    report.row("p50 / bare", pairs.ratio(p50, p50), "", Target::AtMost(1.3));
    report.row("p99 / bare", pairs.ratio(p99, p99), "", Target::None);
    report.row("p50", Summary::of(pairs.first().map(p50)), "us", Target::None);
    report.row("p50, bare", Summary::of(pairs.second().map(p50)), "us", Target::None);
    let refused = Summary::of(refused.iter().map(p50));
    report.row("p50 of what the broker thread refuses itself", refused, "us", Target::None);
    let process = process.microseconds_each((count * rounds) as f64);
    report.row("CPU of all threads of the engine", process, "us per request", Target::None);
    Ok(())
}

/// How long each of so many requests takes that the worker answers, one after the other.
fn ask(client: &mut RawClient, count: usize) -> Vec<Duration> {
    ask_for(client, count, "get", r#""rpc":{"data":"#)
}

/// The same for any method, and what is in each reply.
fn ask_for(client: &mut RawClient, count: usize, method: &str, answer: &str) -> Vec<Duration> {
    let command = format!(r#""rpc":{{"method":"{method}","data":{BODY}}}"#);
    let one = |client: &mut RawClient| {
        let began = Instant::now();
        let reply = client.command(&command);
        assert!(reply.contains(answer), "{reply}");
        began.elapsed()
    };
    (0..count).map(|_| one(client)).collect()
}

fn percentile(times: &[Duration], percent: usize) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)].as_secs_f64() * 1e6
}

fn in_flight(engine: &Engine, bare: &mut Asker, rounds: usize, report: &mut Report) -> Result<()> {
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| engine.client()).collect();
    let all = CLIENTS * EACH;
    let pairs =
        Pairs::take(rounds, || Ok(ask_at_once(&mut clients)), || bare.all_at_once(all, BODY.as_bytes()))?;
    report.part("in flight", &format!("{all} requests of {CLIENTS} clients at once"));
    let wall = |time: &Duration| time.as_secs_f64() * 1e3;
    report.row("until all are answered / bare", pairs.ratio(wall, wall), "", Target::None);
    report.row("until all are answered", Summary::of(pairs.first().map(wall)), "ms", Target::None);
    report.row("until all are answered, bare", Summary::of(pairs.second().map(wall)), "ms", Target::None);
    Ok(())
}

fn ask_at_once(clients: &mut [RawClient]) -> Duration {
    let commands: Vec<_> = (1000..1000 + EACH)
        .map(|id| format!(r#"{{"id":{id},"rpc":{{"method":"get","data":{BODY}}}}}"#))
        .collect();
    let message = commands.join("\n");
    let began = Instant::now();
    clients.iter_mut().for_each(|client| client.send(&message));
    for client in clients {
        for _ in 0..EACH {
            let line = client.line();
            assert!(line.contains(r#""rpc":{"data":"#), "{line}");
        }
    }
    began.elapsed()
}
