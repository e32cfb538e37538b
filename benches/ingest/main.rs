//! Ingest: messages from RabbitMQ, each to one of 5,000 private topics, against a bare lapin consumer that
//! does one raw send per message to as many clients.
//!
//! A durable queue is filled first, and then emptied by one of the two as fast as it can, in turns. The engine
//! is started for each of its rounds, and takes nothing from the queue until its clients are there
//! (`amqp.queue_delay`). RabbitMQ runs beside them, on whichever CPU is free.
//!
//! The engine takes two turns in each round: it acknowledges when messages are handed over, and when they are
//! written (`amqp.ack`). Clients count what they get; in the end, with either, some read some more, and each must get
//! each message once and in order. `--short` sends a quarter, to a tenth of the clients.

#[path = "../common/mod.rs"]
mod common;

mod bare;

use std::io::Result;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::amqp::Amqp;
use common::exact::check;
use common::floor::Helper;
use common::measure::{CpuTime, Summary, Watched};
use common::publisher::{numbered_data, plain_data};
use common::report::{Report, Target, places};
use common::rounds::Pairs;
use common::support::engine::Engine;
use common::support::rabbitmq::RabbitNode;
use common::support::swarm::Swarm;
use common::{Arguments, LIMIT, LINE_BYTES, Nobody, on_client_cpu, start_engine};

const ROUNDS: usize = 5;
const QUEUE: &str = "ingest";
/// The engine takes the first message so many times later as clients take to connect, but not before this
/// many seconds are over.
const PATIENCE: u32 = 6;
const QUEUE_DELAY_LEAST: Duration = Duration::from_secs(3);

/// What each round does.
#[derive(Clone, Copy, Debug)]
struct Task {
    clients: usize,
    messages: u64,
    /// From the engine's start until it takes the first message; meanwhile its clients connect.
    queue_delay: Duration,
}

/// What one round cost.
#[derive(Clone, Copy, Debug)]
struct Cost {
    messages: u64,
    wall: Duration,
    /// The thread that consumes: the engine's broker thread, or all that the bare consumer does.
    consumer: CpuTime,
    process: CpuTime,
}

impl Cost {
    fn messages_per_second(&self) -> f64 {
        self.messages as f64 / self.wall.as_secs_f64()
    }

    fn consumer_microseconds(&self) -> f64 {
        self.consumer.microseconds_each(self.messages as f64)
    }

    fn process_microseconds(&self) -> f64 {
        self.process.microseconds_each(self.messages as f64)
    }
}

/// The engine's rounds, by `amqp.ack`.
#[derive(Clone, Copy, Debug)]
struct Acknowledged {
    handover: Cost,
    written: Cost,
}

fn main() -> Result<()> {
    let arguments = Arguments::read();
    if let Some(result) = arguments.help().or_else(|| bare::run_if_asked(&arguments)) {
        return result;
    }
    let rounds = arguments.rounds(ROUNDS);
    let (clients, messages) = if arguments.short() { (500, 10_000) } else { (5000, 40_000) };
    let about = format!("{messages} messages to {clients} private topics, {rounds} rounds");
    let mut report = Report::new("ingest", &about, places("shard and bare consumer") + "; RabbitMQ on both");
    let node = RabbitNode::start();
    let url = node.amqp_url();
    let amqp = Amqp::connect(&url)?;
    amqp.declare_queue(QUEUE)?;
    let mut bare = Helper::start(&["--bare", &url, QUEUE, &clients.to_string(), &messages.to_string()])?;
    let begin = Instant::now();
    let mut bare_swarm = on_client_cpu(|| connect(bare.address, clients))?;
    let queue_delay = (begin.elapsed() * PATIENCE).max(QUEUE_DELAY_LEAST);
    let task = Task { clients, messages, queue_delay };
    let engine_round = |ack| {
        fill(&amqp, task)?;
        engine_round(&url, ack, task)
    };
    let pairs = Pairs::take(
        rounds,
        || Ok(Acknowledged { handover: engine_round("handover")?, written: engine_round("written")? }),
        || {
            fill(&amqp, task)?;
            on_client_cpu(|| bare_round(&mut bare, &mut bare_swarm, task))
        },
    )?;
    show(&pairs, &mut report);
    for ack in ["handover", "written"] {
        check_exactness(&amqp, &url, ack, clients / 5)?;
    }
    report.finish()
}

fn topic(client: usize) -> String {
    format!("private:{client:04}")
}

/// Puts the messages into the queue, one topic after the other.
fn fill(amqp: &Amqp, task: Task) -> Result<()> {
    let data = plain_data(&topic(0), LINE_BYTES);
    let topics = (0..task.clients).cycle().take(usize::try_from(task.messages).expect("not that many"));
    amqp.publish_all(topics.map(topic), &data)
}

fn connect(server: SocketAddr, clients: usize) -> Result<Swarm> {
    let mut swarm = Swarm::new(server, clients)?;
    swarm.connect_all(&mut Nobody, LIMIT, |_, client| vec![topic(client)])?;
    swarm.count_only();
    Ok(swarm)
}

/// An engine that reads this queue.
fn start(url: &str, queue: &str, ack: &str, queue_delay: Duration) -> Engine {
    let delay = queue_delay.as_millis();
    start_engine(&format!(
        "[amqp]\nurl = \"{url}\"\nsource = \"queue\"\nqueue = \"{queue}\"\nack = \"{ack}\"\n\
         queue_delay = \"{delay}ms\"\n[timeouts]\nping = \"1h\"\n[namespaces.private]\n"
    ))
}

/// Each client gets some numbered messages. Of fewer clients than are measured, so that it takes no second; and from
/// a queue of its own, so that nothing else is in it.
fn check_exactness(amqp: &Amqp, url: &str, ack: &str, clients: usize) -> Result<()> {
    let queue = format!("{QUEUE}-{ack}");
    amqp.declare_queue(&queue)?;
    let engine = start(url, &queue, ack, Duration::ZERO);
    engine.wait_until_ready();
    on_client_cpu(|| {
        let mut swarm = connect(engine.client_address(), clients)?;
        check(&mut swarm, 1, |numbers| {
            amqp.publish_all((0..clients).map(topic), &numbered_data(&topic(0), *numbers.start(), LINE_BYTES))
        })
    })
}

fn engine_round(url: &str, ack: &str, task: Task) -> Result<Cost> {
    let engine = start(url, QUEUE, ack, task.queue_delay);
    let started = Instant::now();
    on_client_cpu(move || {
        let mut swarm = connect(engine.client_address(), task.clients)?;
        assert!(started.elapsed() < task.queue_delay, "the clients came too late: the machine is too busy");
        let watched = Watched::new(engine.pid(), Some("broker"))?;
        let cost = until_all_came(&mut swarm, &watched, task.messages)?;
        // Whatever the clients counted, the engine must agree.
        assert_eq!(engine.metric("fanfare_publications_total", &[]), task.messages as f64);
        assert_eq!(engine.metric("fanfare_unheard_total", &[]), 0.0);
        // Whoever closes first keeps the connection for a minute (RFC 9293, TIME-WAIT). If it were the clients, a few
        // rounds would use up their ports, and connecting would take the kernel seconds of search.
        drop(engine);
        drop(swarm);
        Ok(cost)
    })
}

fn bare_round(bare: &mut Helper, swarm: &mut Swarm, task: Task) -> Result<Cost> {
    let watched = Watched::new(bare.pid(), None)?;
    bare.tell(b".")?;
    until_all_came(swarm, &watched, task.messages)
}

/// From the first to the last message that the clients get. Frames of several lines have line breaks between
/// them, but not at the end.
fn until_all_came(swarm: &mut Swarm, watched: &Watched, messages: u64) -> Result<Cost> {
    let before = swarm.counted();
    let (consumer, process) = (watched.thread()?, watched.process()?);
    let came = |swarm: &Swarm| {
        let now = swarm.counted();
        (now.bytes - before.bytes) + (now.frames - before.frames)
    };
    swarm.turn_until("the first message comes", LIMIT, &mut Nobody, |swarm, _| came(swarm) > 0)?;
    let begin = Instant::now();
    let bytes = messages * LINE_BYTES as u64;
    swarm.turn_until("all messages come", LIMIT, &mut Nobody, |swarm, _| came(swarm) >= bytes)?;
    let wall = begin.elapsed();
    let (consumer, process) = (watched.thread()?.since(consumer), watched.process()?.since(process));
    Ok(Cost { messages, wall, consumer, process })
}

fn show(pairs: &Pairs<Acknowledged, Cost>, report: &mut Report) {
    let engine = |of: fn(&Cost) -> f64| Summary::of(pairs.first().map(|engine| of(&engine.handover)));
    let bare = |of: fn(&Cost) -> f64| Summary::of(pairs.second().map(of));
    let ratio = |of: fn(&Cost) -> f64| pairs.ratio(|engine| of(&engine.handover), of);
    report.row("rate, engine / bare consumer", ratio(Cost::messages_per_second), "", Target::AtLeast(0.9));
    let cpu = ratio(Cost::consumer_microseconds);
    report.row("CPU, broker thread / bare consumer", cpu, "", Target::AtMost(1.5));
    report.row("engine", engine(Cost::messages_per_second), "messages/s", Target::None);
    report.row("bare consumer", bare(Cost::messages_per_second), "messages/s", Target::None);
    report.row("broker thread", engine(Cost::consumer_microseconds), "us per message", Target::None);
    report.row("bare consumer's thread", bare(Cost::consumer_microseconds), "us per message", Target::None);
    report.row(
        "all threads of the engine",
        engine(Cost::process_microseconds),
        "us per message",
        Target::None,
    );
    report.row(
        "all threads of the bare consumer",
        bare(Cost::process_microseconds),
        "us per message",
        Target::None,
    );
    show_written(pairs.first(), report);
}

/// What it costs to acknowledge later.
fn show_written<'a>(rounds: impl Iterator<Item = &'a Acknowledged> + Clone, report: &mut Report) {
    report.part("written", "the engine acknowledges what was written, against what was handed over");
    let written = |of: fn(&Cost) -> f64| Summary::of(rounds.clone().map(|engine| of(&engine.written)));
    let ratio = |of: fn(&Cost) -> f64| {
        Summary::of(rounds.clone().map(|engine| of(&engine.written) / of(&engine.handover)))
    };
    report.row("rate, written / handed over", ratio(Cost::messages_per_second), "", Target::None);
    report.row("CPU of all threads", ratio(Cost::process_microseconds), "", Target::None);
    report.row("CPU of the broker thread", ratio(Cost::consumer_microseconds), "", Target::None);
    report.row("written", written(Cost::messages_per_second), "messages/s", Target::None);
    report.row("broker thread", written(Cost::consumer_microseconds), "us per message", Target::None);
    report.row("all threads", written(Cost::process_microseconds), "us per message", Target::None);
}
