//! The load generator behind `fanfare load`: thousands of clients, a publisher with a constant rate, and an
//! exact count of what arrived.
//!
//! * A **crowd** (`poll`, the only file of this module that uses mio) is a thread with its share of the
//!   clients. Its clients do what browsers do: upgrade, connect, subscribe, answer pings, split merged
//!   frames.
//! * The **publisher** (`publisher`) publishes through the control port in an open loop: each publication
//!   carries the time at which it was *due*, so a delay that makes later publications late is counted.
//! * Each publication carries its number within its topic. A subscription must receive 1, 2, 3, ... up to the
//!   last one that the engine accepted. Any other number means that publications were lost or repeated
//!   ([`Tally`]).
//!
//! All clients have subscribed before the first publication is sent, so nothing may be missing at the
//! beginning either. *Deliberately absent: tokio, and locks between threads: they share only counters.*

mod client;
mod dial;
mod frames;
mod lines;
mod poll;
mod publisher;
mod tally;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::config::grouped;
use crate::config::host::DescriptorLimit;

use lines::Topics;
use poll::Crowd;
pub use publisher::{ApiRefusal, ControlError};
use publisher::{Published, Publisher};
pub use tally::Tally;

/// Descriptors of this process that are not for clients: polls, the control port's connection, the terminal.
const DESCRIPTORS_RESERVE: usize = 64;

/// How long to wait for one more connection or one more publication before the missing ones are given up.
/// Longer than an engine merges publications in any sensible namespace.
const QUIET_LIMIT: Duration = Duration::from_secs(5);

/// Pause between two checks of the thread that waits for the others.
const PAUSE: Duration = Duration::from_millis(50);

/// The plan of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where clients connect.
    pub server: SocketAddr,
    /// The `Host` that clients send.
    pub host: String,
    /// The path of the WebSocket endpoint.
    pub path: String,
    /// The control port, to publish through.
    pub control: SocketAddr,
    /// Its key; empty: none.
    pub api_key: String,
    /// The namespace of the topics; empty: the default one.
    pub namespace: String,
    /// How many clients.
    pub clients: usize,
    /// How many of 100 clients never read.
    pub slow_percent: usize,
    /// How many topics, at least one.
    pub topics: usize,
    /// To how many of them each client subscribes, at most all.
    pub topics_per_client: usize,
    /// How clients choose topics.
    pub spread: Spread,
    /// Connections begun per second.
    pub connect_rate: u32,
    /// Publications per second, over all topics together. Topics take turns.
    pub rate: u32,
    /// Bytes of a publication's data, at least [`PAYLOAD_MIN`].
    pub payload: usize,
    /// How long to publish.
    pub length: Duration,
    /// Threads for clients.
    pub threads: usize,
}

/// How clients spread over topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Each topic has as many subscribers.
    Even,
    /// The first topic is the first choice of half the clients, the second of a quarter, and so on.
    Skewed,
}

/// The least data of a publication: room for its number and its time, in bytes.
pub const PAYLOAD_MIN: usize = 64;

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Too few descriptors.
    #[error(
        "{} clients need {} descriptors, and this process may have {}: {remedy}, or ask for fewer with --clients",
        grouped(*clients), grouped(*needed), grouped(*limit)
    )]
    Descriptors {
        /// The planned clients.
        clients: usize,
        /// The descriptors that this needs.
        needed: usize,
        /// The descriptors that are allowed.
        limit: usize,
        /// What to do about it.
        remedy: String,
    },
    /// Nothing listens where clients should connect.
    #[error("nothing listens at {0}: start `fanfare serve`, or name the endpoint with --url")]
    NoServer(SocketAddr),
    /// The address where clients should connect cannot be reached.
    #[error("{address} cannot be reached: {error}")]
    Unreachable {
        /// The address.
        address: SocketAddr,
        /// The operating system's error.
        error: std::io::Error,
    },
    /// Nothing listens at the control port.
    #[error("nothing listens at the control port {0}, which is needed to publish: name it with --control")]
    NoControlPort(SocketAddr),
    /// The control port cannot be reached.
    #[error("the control port {address} cannot be reached: {error}")]
    ControlUnreachable {
        /// Its address.
        address: SocketAddr,
        /// The operating system's error.
        error: std::io::Error,
    },
    /// The control port does not let this process publish.
    #[error("the control port {address}: {error}")]
    Control {
        /// Its address.
        address: SocketAddr,
        /// What it answered, or why it did not.
        error: ControlError,
    },
    /// No client was accepted.
    #[error("no client was let in: {}", reason.as_deref().unwrap_or("nothing was heard"))]
    NobodyConnected {
        /// The most frequent reason, if any is known.
        reason: Option<String>,
    },
    /// The operating system refused what a thread needs.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// The progress of a run.
#[derive(Clone, Copy, Debug)]
pub struct RunProgress {
    /// The phase.
    pub phase: Phase,
    /// Clients that are connected and subscribed.
    pub ready: usize,
    /// How long publishing has lasted.
    pub published_for: Duration,
    /// Publications received, counted once for every client.
    pub deliveries: u64,
}

/// The phase of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Clients connect and subscribe.
    Connecting,
    /// Publications are sent.
    Publishing,
    /// The last publications are in flight.
    Draining,
    /// Everything has arrived, or will not.
    Done,
}

/// The result of a run.
#[derive(Debug)]
pub struct Outcome {
    /// How long it published: less than planned if it was stopped.
    pub published_for: Duration,
    /// How long connecting and subscribing took.
    pub connecting: Duration,
    /// From the first publication to the last delivery.
    pub measured: Duration,
    /// Publications that the engine accepted.
    pub publications: u64,
    /// Those of them whose topics have no subscriber.
    pub unheard: u64,
    /// Publications that were due in that time.
    pub due: u64,
    /// Why the engine refused some, each with their number.
    pub refused: Vec<(String, u64)>,
    /// What all clients received.
    pub clients: Tally,
}

impl Outcome {
    /// Whether all clients were accepted and stayed connected, and everything arrived once.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.refused.is_empty() && self.clients.is_exact()
    }
}

/// What threads share: counters only.
#[derive(Debug)]
struct Shared {
    /// The start. Times are microseconds since then.
    start: Instant,
    phase: AtomicU8,
    /// Clients that are connected and subscribed.
    ready: AtomicUsize,
    /// Clients that have failed.
    failed: AtomicUsize,
    deliveries: AtomicU64,
    /// Threads whose clients have received everything.
    complete: AtomicUsize,
    /// Set when publishing is to stop.
    is_stopped: AtomicBool,
    /// The number of the last publication of each topic that the engine accepted.
    last: Box<[AtomicU64]>,
}

impl Shared {
    fn new(topics: usize) -> Self {
        Self {
            start: Instant::now(),
            phase: AtomicU8::new(Phase::Connecting as u8),
            ready: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            deliveries: AtomicU64::new(0),
            complete: AtomicUsize::new(0),
            is_stopped: AtomicBool::new(false),
            last: (0..topics).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Microseconds since the start.
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn is_in(&self, phase: Phase) -> bool {
        // Acquire: who sees a phase sees the numbers that were counted before it.
        self.phase.load(Ordering::Acquire) == phase as u8
    }

    fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Reports the progress, and stops publishing if the answer is false.
    fn report(&self, watch: &mut impl FnMut(RunProgress) -> bool, phase: Phase, published_for: Duration) {
        let progress = RunProgress {
            phase,
            ready: self.ready.load(Ordering::Relaxed),
            published_for,
            deliveries: self.deliveries.load(Ordering::Relaxed),
        };
        if !watch(progress) {
            self.is_stopped.store(true, Ordering::Relaxed);
        }
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }
}

/// Carries out `plan`, and calls `watch` several times a second. When that returns false, publishing stops;
/// publications in flight are still awaited, and the outcome is about what was published.
///
/// # Errors
/// Why nothing could be measured. Problems during the measurement are part of the outcome.
pub fn run(plan: &Plan, mut watch: impl FnMut(RunProgress) -> bool) -> Result<Outcome, LoadError> {
    enough_descriptors(plan)?;
    dial::probe(plan.server)?;
    let publisher = Publisher::connect(plan)?;
    let topics = Arc::new(Topics::new(plan));
    let shared = Arc::new(Shared::new(plan.topics));
    let crowds = start_crowds(plan, &topics, &shared)?;

    let connecting = Instant::now();
    wait_for_clients(plan, &shared, &mut watch);
    let connecting = connecting.elapsed();
    let measured = Instant::now();
    shared.enter(Phase::Publishing);
    let published = if shared.ready.load(Ordering::Relaxed) > 0 && !shared.is_stopped() {
        publish(plan, publisher, &topics, &shared, &mut watch)?
    } else {
        Published::default()
    };
    shared.enter(Phase::Draining);
    let last_delivery = wait_for_deliveries(plan, &shared, &mut watch);
    shared.enter(Phase::Done);

    let clients = gather(crowds)?;
    if clients.ready == 0 && plan.clients > 0 {
        return Err(LoadError::NobodyConnected { reason: clients.most_frequent_fault() });
    }
    let measured = last_delivery.saturating_duration_since(measured);
    let Published { taken: publications, due, lasted: published_for, refused } = published;
    let refused = refused.into_iter().collect();
    let unheard = unheard(plan, &shared);
    Ok(Outcome { published_for, connecting, measured, publications, unheard, due, refused, clients })
}

/// How many publications went to topics without a subscriber.
fn unheard(plan: &Plan, shared: &Shared) -> u64 {
    let of_topics = shared.last.iter().zip(client::subscribed(plan));
    of_topics.filter(|(_, is_subscribed)| !is_subscribed).map(|(last, _)| last.load(Ordering::Relaxed)).sum()
}

fn enough_descriptors(plan: &Plan) -> Result<(), LoadError> {
    DescriptorLimit::raise();
    let limit = DescriptorLimit::of_this_process();
    let needed = plan.clients.saturating_add(DESCRIPTORS_RESERVE);
    if needed <= limit.soft {
        return Ok(());
    }
    let remedy = limit.remedy(needed);
    Err(LoadError::Descriptors { clients: plan.clients, needed, limit: limit.soft, remedy })
}

type CrowdThread = JoinHandle<Tally>;

fn start_crowds(
    plan: &Plan,
    topics: &Arc<Topics>,
    shared: &Arc<Shared>,
) -> Result<Vec<CrowdThread>, LoadError> {
    let start = |number| {
        let crowd = Crowd::new(plan, number, Arc::clone(topics), Arc::clone(shared))?;
        thread::Builder::new().name(format!("clients-{number}")).spawn(move || crowd.run())
    };
    Ok((0..plan.threads).map(start).collect::<Result<_, _>>()?)
}

/// Waits until every client is ready or has failed, or nothing has happened for too long.
fn wait_for_clients(plan: &Plan, shared: &Shared, watch: &mut impl FnMut(RunProgress) -> bool) {
    let settled = || shared.ready.load(Ordering::Relaxed) + shared.failed.load(Ordering::Relaxed);
    let mut stall = StallWatch::new(settled());
    while settled() < plan.clients && stall.is_left(settled()) && !shared.is_stopped() {
        shared.report(watch, Phase::Connecting, Duration::ZERO);
        thread::sleep(PAUSE);
    }
}

/// Publishes from a thread of its own, so that this one can watch.
fn publish(
    plan: &Plan,
    publisher: Publisher,
    topics: &Topics,
    shared: &Shared,
    watch: &mut impl FnMut(RunProgress) -> bool,
) -> Result<Published, LoadError> {
    let begin = Instant::now();
    thread::scope(|scope| {
        let publishing = scope.spawn(|| publisher.run(plan, topics, shared));
        while !publishing.is_finished() {
            shared.report(watch, Phase::Publishing, begin.elapsed());
            thread::sleep(PAUSE);
        }
        publishing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Waits until every crowd has received everything, or nothing more comes. Returns when the last delivery was
/// seen.
fn wait_for_deliveries(plan: &Plan, shared: &Shared, watch: &mut impl FnMut(RunProgress) -> bool) -> Instant {
    let deliveries = || shared.deliveries.load(Ordering::Relaxed);
    let mut stall = StallWatch::new(deliveries());
    while shared.complete.load(Ordering::Relaxed) < plan.threads && stall.is_left(deliveries()) {
        shared.report(watch, Phase::Draining, plan.length);
        thread::sleep(PAUSE);
    }
    stall.is_left(deliveries());
    stall.changed
}

fn gather(crowds: Vec<CrowdThread>) -> Result<Tally, LoadError> {
    let mut sum = Tally::new();
    for crowd in crowds {
        sum.add(&crowd.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
    }
    Ok(sum)
}

/// Expires when a number has not changed for [`QUIET_LIMIT`].
struct StallWatch<T> {
    value: T,
    changed: Instant,
}

impl<T: PartialEq> StallWatch<T> {
    fn new(value: T) -> Self {
        Self { value, changed: Instant::now() }
    }

    fn is_left(&mut self, value: T) -> bool {
        if self.value != value {
            *self = Self::new(value);
        }
        self.changed.elapsed() < QUIET_LIMIT
    }
}
