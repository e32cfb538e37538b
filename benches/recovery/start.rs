//! An engine starts where messages are waiting.

use std::io::{Error, Result};
use std::time::Instant;

use crate::common::amqp::{Amqp, Bare, Source};
use crate::common::measure::{CpuTime, Summary, Watched};
use crate::common::publisher::plain_data;
use crate::common::report::{Report, Target};
use crate::common::rounds::Pairs;
use crate::common::support::engine::Engine;
use crate::common::support::rabbitmq::RabbitNode;
use crate::common::{on_client_cpu, start_engine};

/// The engine's default, `amqp.stream`.
const STREAM: &str = "fanfare";

/// What is in the stream when an engine starts, and how much of it the engine keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content {
    pub(crate) messages: u64,
    /// They take turns.
    pub(crate) topics: u64,
    /// Bytes of a publication as the clients get it.
    pub(crate) line_bytes: usize,
    /// Of each topic.
    pub(crate) kept: u64,
}

/// How long somebody read the stream, and what that cost.
#[derive(Clone, Copy, Debug)]
struct Reading {
    messages: u64,
    /// From the link's beginning to the last message.
    seconds: f64,
    /// The thread that takes the messages.
    thread: CpuTime,
    /// All threads.
    process: CpuTime,
}

impl Reading {
    fn seconds_per_million(&self) -> f64 {
        self.seconds * 1e6 / self.messages as f64
    }

    fn thread_microseconds(&self) -> f64 {
        self.thread.microseconds_each(self.messages as f64)
    }

    fn process_microseconds(&self) -> f64 {
        self.process.microseconds_each(self.messages as f64)
    }
}

/// A start of the engine.
#[derive(Clone, Copy, Debug)]
struct Start {
    reading: Reading,
    /// From the process's beginning until clients may come.
    ready_seconds: f64,
}

/// Starts engines where this is in the stream.
pub(crate) fn measure(name: &str, content: Content, rounds: usize, report: &mut Report) -> Result<()> {
    let Content { messages, topics, line_bytes, kept } = content;
    let node = RabbitNode::start();
    let url = node.amqp_url();
    let configuration = format!(
        "[limits]\nhistory_bytes = 4294967296\n[amqp]\nurl = \"{url}\"\nreplay_max_messages = {}\n\
         [namespaces.kept]\nhistory_size = {kept}\n",
        // There are markers as well.
        2 * messages,
    );
    // The first one declares exchange and stream.
    start_engine(&configuration).wait_until_ready();
    fill(&url, content)?;
    let about = format!(
        "{messages} messages of {line_bytes} bytes in a stream, {topics} topics, at most {kept} kept of each"
    );
    report.part(name, &about);
    let pairs = Pairs::take(
        rounds,
        || start(&configuration, content),
        || on_client_cpu(|| bare_reading(&url, messages)),
    )?;
    show(&pairs, report);
    Ok(())
}

fn fill(url: &str, content: Content) -> Result<()> {
    let topic = |number: u64| format!("kept:{:03}", number % content.topics);
    let data = plain_data(&topic(0), content.line_bytes);
    Amqp::connect(url)?.publish_all((0..content.messages).map(topic), &data)
}

fn start(configuration: &str, content: Content) -> Result<Start> {
    let Content { messages, topics, kept, .. } = content;
    let begin = Instant::now();
    let engine = start_engine(configuration);
    engine.wait_until_ready();
    let ready_seconds = begin.elapsed().as_secs_f64();
    let watched = Watched::new(engine.pid(), Some("broker"))?;
    let (thread, process) = (watched.thread()?, watched.process()?);
    assert_eq!(engine.metric("fanfare_replayed_total", &[]), messages as f64);
    assert_eq!(engine.metric("fanfare_history_publications", &[]), messages.min(topics * kept) as f64);
    let reading = Reading { messages, seconds: seconds_told_by(&engine)?, thread, process };
    Ok(Start { reading, ready_seconds })
}

/// How long the engine says that it has read the stream back.
fn seconds_told_by(engine: &Engine) -> Result<f64> {
    let lines = engine.stderr().so_far();
    let told =
        lines.iter().find_map(|line| line.split_once("read the stream back")?.1.split_once("seconds="));
    let seconds = told.and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
    seconds.ok_or_else(|| Error::other("the engine does not say how long it has read the stream back"))
}

fn bare_reading(url: &str, messages: u64) -> Result<Reading> {
    let mut bytes = 0;
    let mut consumer = Bare::consume(url, Source::WholeStream(STREAM))?;
    let own = Watched::this_thread()?;
    let (begin, thread, process) = (Instant::now(), own.thread()?, own.process()?);
    consumer.messages(messages, |_, body| bytes += body.len())?;
    let seconds = begin.elapsed().as_secs_f64();
    assert!(bytes > 0, "the stream has bodies");
    let (thread, process) = (own.thread()?.since(thread), own.process()?.since(process));
    Ok(Reading { messages, seconds, thread, process })
}

fn show(pairs: &Pairs<Start, Reading>, report: &mut Report) {
    let engine = |of: fn(&Reading) -> f64| Summary::of(pairs.first().map(|start| of(&start.reading)));
    let bare = |of: fn(&Reading) -> f64| Summary::of(pairs.second().map(of));
    let ratio = |of: fn(&Reading) -> f64| pairs.ratio(|start| of(&start.reading), of);
    report.row("engine reads back", engine(Reading::seconds_per_million), "s per million", Target::None);
    report.row("bare consumer", bare(Reading::seconds_per_million), "s per million", Target::None);
    report.row("time, engine / bare consumer", ratio(Reading::seconds_per_million), "", Target::None);
    let cpu = ratio(Reading::process_microseconds);
    report.row("CPU of all threads, engine / bare consumer", cpu, "", Target::None);
    report.row("broker thread", engine(Reading::thread_microseconds), "us per message", Target::None);
    report.row("bare consumer's thread", bare(Reading::thread_microseconds), "us per message", Target::None);
    report.row(
        "all threads of the engine",
        engine(Reading::process_microseconds),
        "us per message",
        Target::None,
    );
    report.row(
        "all threads of the bare consumer",
        bare(Reading::process_microseconds),
        "us per message",
        Target::None,
    );
    let ready = Summary::of(pairs.first().map(|start| start.ready_seconds));
    report.row("from the engine's start until it is ready", ready, "s", Target::None);
}
