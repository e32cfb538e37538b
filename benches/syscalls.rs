//! System calls: what a shard's thread asks of the kernel, counted by strace.
//!
//! * *broadcast*: one publication at a time to 2,000 clients, the next one when all have it;
//! * *churn*: the same, while a tenth of the clients per second leave and others join, who have a topic of
//!   their own besides.
//!
//! Each call takes some twenty times as long under strace: the counts hold without it, times do not.
//!
//! `--short` does a little of each.

mod common;

use std::io::Result;

use common::churn::Guests;
use common::measure::{Summary, Watched};
use common::publisher::{Publisher, plain_data};
use common::report::{Report, Target, places};
use common::rounds::Server;
use common::strace::{Calls, Strace};
use common::support::engine::Engine;
use common::{Arguments, LINE_BYTES, counting_clients, on_client_cpu, start_engine};

const ROUNDS: usize = 5;
const FAN_OUTS: usize = 5;
/// Pings stay away.
const CONFIGURATION: &str = "[timeouts]\nping = \"1h\"\n[namespaces.syscalls]\n[namespaces.guest]\n";

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::read();
    let rounds = arguments.rounds(ROUNDS);
    let clients = if arguments.short() { 500 } else { 2000 };
    let about = format!("{rounds} rounds of {FAN_OUTS} publications");
    let mut report = Report::new("syscalls", &about, places("shard"));
    for part in [broadcast, churn] {
        let engine = start_engine(CONFIGURATION);
        on_client_cpu(|| part(&engine, clients, rounds, &mut report))?;
    }
    Ok(report.finish()?)
}

/// What a round's publications took.
struct Round {
    calls: Calls,
    deliveries: f64,
}

impl Round {
    fn per_delivery(&self) -> f64 {
        self.calls.total() as f64 / self.deliveries
    }
}

/// One publication at a time.
fn broadcast(engine: &Engine, clients: usize, rounds: usize, report: &mut Report) -> Result<()> {
    const TOPIC: &str = "syscalls:broadcast";
    let mut publisher = Publisher::connect(engine.control_address())?;
    let request = publisher.request(TOPIC, &plain_data(TOPIC, LINE_BYTES));
    let mut server = server(engine, clients, TOPIC, || publisher.publish(&request, 1))?;
    let rounds = (0..rounds).map(|_| round(engine, &mut server)).collect::<Result<Vec<_>>>()?;
    report.part("broadcast", &format!("{clients} clients"));
    show(&rounds, Target::AtMost(1.02), report);
    Ok(())
}

/// The same with others who come and go.
fn churn(engine: &Engine, clients: usize, rounds: usize, report: &mut Report) -> Result<()> {
    const TOPIC: &str = "syscalls:churn";
    let mut publisher = Publisher::connect(engine.control_address())?;
    let request = publisher.request(TOPIC, &plain_data(TOPIC, LINE_BYTES));
    // Each guest lives for a second.
    let (staying, changing) = (clients * 9 / 10, clients / 10);
    let mut server = server(engine, staying, TOPIC, || publisher.publish(&request, 1))?;
    // With a topic of its own, because the shard calls the broker thread for each.
    let topics_of = |guest| vec![TOPIC.to_owned(), format!("guest:{guest}")];
    let guests = Guests::connect(engine.client_address(), changing, topics_of)?;
    let accepted = engine.metric("fanfare_accepted_total", &[]);
    let rounds = guests.beside(|orders| {
        orders.change(true);
        (0..rounds).map(|_| round(engine, &mut server)).collect::<Result<Vec<_>>>()
    })?;
    let came = engine.metric("fanfare_accepted_total", &[]) - accepted;
    report.part("churn", &format!("{staying} clients that stay and {changing} that live for a second"));
    show(&rounds, Target::None, report);
    report.row("clients that came", came, "", Target::None);
    Ok(())
}

fn server<'a>(
    engine: &Engine,
    clients: usize,
    topic: &str,
    publish: impl FnMut() -> Result<()> + 'a,
) -> Result<Server<'a>> {
    Ok(Server {
        swarm: counting_clients(engine.client_address(), clients, &[topic.to_owned()])?,
        watched: Watched::new(engine.pid(), Some("shard-0"))?,
        poke: Box::new(publish),
    })
}

/// Publishes under strace, after a warm-up without it.
fn round(engine: &Engine, server: &mut Server<'_>) -> Result<Round> {
    const PAYLOAD: usize = LINE_BYTES - 1;
    server.warm_up(PAYLOAD)?;
    let deliveries = || engine.metric("fanfare_deliveries_total", &[]);
    let before = deliveries();
    let strace = Strace::attach(server.watched.thread_id()?)?;
    server.fan_out(FAN_OUTS, PAYLOAD)?;
    let calls = strace.detach()?;
    Ok(Round { calls, deliveries: deliveries() - before })
}

fn show(rounds: &[Round], per_delivery: Target, report: &mut Report) {
    let summary = |of: &dyn Fn(&Round) -> f64| Summary::of(rounds.iter().map(of));
    report.row("system calls", summary(&Round::per_delivery), "per delivery", per_delivery);
    let mut names: Vec<_> = rounds.iter().flat_map(|round| round.calls.names()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let of_name = |round: &Round| round.calls.of(name) as f64 / round.deliveries * 1000.0;
        report.row(&format!("of these {name}"), summary(&of_name), "per 1,000 deliveries", Target::None);
    }
    let futex: u64 = rounds.iter().map(|round| round.calls.of("futex")).sum();
    report.row("futex calls", futex as f64, "in all rounds", Target::AtMost(0.0));
}
