//! The broker thread: publications in, mail out; requests in, answers out.
//!
//! It is the single writer of everything that belongs to a topic, and the only one that puts publications
//! into mailboxes. A mailbox is first in, first out: so a shard that was told "attached" through it gets every
//! publication from then on, once, without a lock.
//!
//! It never blocks. Mail for a shard whose mailbox is full waits in that shard's outbox; while any outbox has
//! mail the backplane is not listened to, while requests, answers and timers go on. What RabbitMQ has
//! delivered and was not handed over is not acknowledged, so the wait ends in RabbitMQ's queue.

mod backplane;
mod encode;
mod frontier;
mod memory;
mod merge;
mod outbox;
mod publishing;
mod rabbit;
mod requests;
mod topics;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use thiserror::Error;
use tokio::sync::{Notify, mpsc};

use crate::config::Config;
use crate::mail::{Lines, Mail, Request};
use crate::mailbox::{Receiver, Sender, Wake, mailbox};
use crate::namespaces::Namespaces;
use crate::protocol::push;
use crate::stats::{BackplaneState, BrokerStats};

use backplane::{Content, DeadLetter, Delivery, Event, Outcome};
use encode::{Bodies, Undeliverable};
use frontier::Frontier;
use memory::Memory;
use merge::{Batch, Line, Merger, Rule};
use outbox::Outbox;
use rabbit::Rabbit;
use requests::Surveys;
use topics::Topics;

pub use rabbit::{PublishError, publish_once};

/// Messages taken from the backplane in one turn.
const DELIVERIES: usize = 512;

/// Requests taken in one turn.
const REQUESTS: usize = 1024;

/// How long a full shard is given before its mailbox is tried again.
const OUTBOX_RETRY: Duration = Duration::from_millis(1);

/// Why the broker could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// RabbitMQ refuses us, in a way that trying again will not change.
    #[error("{0}")]
    RabbitMq(String),
    /// The thread's runtime cannot be set up.
    #[error("the broker thread's runtime cannot be set up: {0}")]
    Runtime(#[from] std::io::Error),
}

struct WakeBroker(Arc<Notify>);

impl Wake for WakeBroker {
    fn wake(&self) {
        self.0.notify_one();
    }
}

/// The broker's side of its mailbox.
#[derive(Debug)]
pub struct Inlet {
    requests: Receiver<Request>,
    bell: Arc<Notify>,
}

/// The broker's mailbox, for `capacity` requests.
#[must_use]
pub fn inlet(capacity: usize) -> (Sender<Request>, Inlet) {
    let bell = Arc::new(Notify::new());
    let (sender, requests) = mailbox(capacity, Box::new(WakeBroker(Arc::clone(&bell))));
    (sender, Inlet { requests, bell })
}

/// Everything the broker thread is given.
#[derive(Debug)]
pub struct Setup {
    /// Limits, time-outs, RabbitMQ.
    pub config: Arc<Config>,
    /// The options of topics.
    pub namespaces: Arc<Namespaces>,
    /// Where requests come in.
    pub requests: Inlet,
    /// The shards' mailboxes, in the order of their numbers.
    pub shards: Vec<Sender<Mail>>,
    /// Where it counts.
    pub stats: Arc<BrokerStats>,
}

/// Runs the broker on the calling thread until it was told to stop and every shard has drained. Calls
/// `started` once: when the backplane is ready, or when it is known to be unreachable and is tried again and
/// again, or with what makes it impossible.
pub fn run(setup: Setup, started: impl FnOnce(Result<(), StartError>)) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return started(Err(error.into())),
    };
    runtime.block_on(async {
        let mut broker = Broker::new(setup);
        let outcome = broker.source.started().await;
        let ready = outcome.is_ok();
        started(outcome);
        if ready {
            broker.serve().await;
        }
        broker.source.end().await;
    });
}

/// Where publications come from.
enum Source {
    Memory(Memory),
    Rabbit(Box<Rabbit>),
}

impl Source {
    async fn started(&mut self) -> Result<(), StartError> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Rabbit(rabbit) => rabbit.started().await,
        }
    }

    async fn end(&mut self) {
        if let Self::Rabbit(rabbit) = self {
            rabbit.end().await;
        }
    }
}

/// How far the stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopping {
    No,
    /// Nothing is consumed any more; publishes in flight have until then to be confirmed.
    Settling(Instant),
    /// The shards close their clients; so many have not finished.
    Draining(usize),
    Done,
}

struct Broker {
    config: Arc<Config>,
    namespaces: Arc<Namespaces>,
    stats: Arc<BrokerStats>,
    requests: Receiver<Request>,
    bell: Arc<Notify>,
    source: Source,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
    outcome_sender: mpsc::UnboundedSender<Outcome>,
    buried: mpsc::UnboundedReceiver<frontier::Tag>,
    topics: Topics,
    merger: Merger,
    bodies: Bodies,
    outbox: Outbox,
    frontier: Frontier,
    acknowledge: Option<tokio::sync::watch::Sender<u64>>,
    surveys: Surveys,
    in_flight: usize,
    stopping: Stopping,
    line: Vec<u8>,
    more_to_do: bool,
}

impl Broker {
    fn new(setup: Setup) -> Self {
        let Setup { config, namespaces, requests, shards, stats } = setup;
        let (outcome_sender, outcomes) = mpsc::unbounded_channel();
        let (bury, buried) = mpsc::unbounded_channel();
        let source = if config.amqp.url.is_empty() {
            stats.backplane.set(BackplaneState::Ready as u64);
            Source::Memory(Memory::default())
        } else {
            Source::Rabbit(Box::new(Rabbit::begin(Arc::clone(&config), bury)))
        };
        Self {
            config,
            namespaces,
            stats,
            requests: requests.requests,
            bell: requests.bell,
            source,
            outcomes,
            outcome_sender,
            buried,
            topics: Topics::default(),
            merger: Merger::default(),
            bodies: Bodies::default(),
            outbox: Outbox::new(shards),
            frontier: Frontier::default(),
            acknowledge: None,
            surveys: Surveys::default(),
            in_flight: 0,
            stopping: Stopping::No,
            line: Vec::new(),
            more_to_do: false,
        }
    }

    async fn serve(&mut self) {
        let mut first = None;
        while self.stopping != Stopping::Done {
            self.turn(first.take());
            first = self.wait().await;
        }
    }

    /// One turn: takes a bounded piece of each kind of work, then hands over what is ready.
    fn turn(&mut self, first: Option<Event>) {
        let now = Instant::now();
        self.outbox.retry();
        self.take_requests();
        self.take_outcomes();
        self.take_deliveries(first, now);
        self.hand_over(now);
        self.acknowledge();
        self.go_on_stopping(now);
        self.show_gauges();
    }

    /// Sleeps until there is something to do, with the first event from RabbitMQ if that was it.
    async fn wait(&mut self) -> Option<Event> {
        if self.more_to_do {
            // Others on this thread, such as lapin's tasks, have their turn.
            tokio::task::yield_now().await;
            return None;
        }
        self.requests.rearm();
        if !self.requests.is_empty() {
            return None;
        }
        let listens = self.listens();
        let until = tokio::time::Instant::from_std(self.wakes_at());
        let events = async {
            match &mut self.source {
                Source::Rabbit(rabbit) if listens => rabbit.next().await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            event = events => return Some(event),
            () = self.bell.notified() => {}
            Some(outcome) = self.outcomes.recv() => publishing::answer(outcome, &mut self.outbox, &self.stats, &mut self.in_flight),
            Some(tag) = self.buried.recv() => self.frontier.release(tag),
            () = tokio::time::sleep_until(until) => {}
        }
        None
    }

    /// Whether messages are taken: not while a shard takes no mail.
    fn listens(&self) -> bool {
        self.outbox.is_empty()
    }

    fn wakes_at(&self) -> Instant {
        let now = Instant::now();
        let far = now + Duration::from_secs(3600);
        let outbox = (!self.outbox.is_empty()).then(|| now + OUTBOX_RETRY);
        let waiting = match &self.source {
            Source::Memory(memory) => memory.next_due(),
            Source::Rabbit(_) => None,
        };
        let stopping = match self.stopping {
            Stopping::Settling(until) => Some(until),
            _ => None,
        };
        let all = [self.merger.next_due(), outbox, waiting, stopping];
        all.into_iter().flatten().min().unwrap_or(far)
    }

    fn take_outcomes(&mut self) {
        while let Ok(outcome) = self.outcomes.try_recv() {
            publishing::answer(outcome, &mut self.outbox, &self.stats, &mut self.in_flight);
        }
        while let Ok(tag) = self.buried.try_recv() {
            self.frontier.release(tag);
        }
    }

    /// Takes what the backplane has, as far as the budget and the shards' mailboxes go.
    fn take_deliveries(&mut self, first: Option<Event>, now: Instant) {
        let mut next = first;
        let mut taken = 0;
        while taken < DELIVERIES && self.listens() {
            let event = next.take().or_else(|| match &mut self.source {
                Source::Rabbit(rabbit) => rabbit.try_next(),
                Source::Memory(_) => None,
            });
            let Some(event) = event else { break };
            self.hear(event, now);
            taken += 1;
        }
        if let Some(event) = next {
            // Taken before the shard's mailbox was full: it cannot be put back.
            self.hear(event, now);
        }
        taken += self.publish_from_memory(DELIVERIES, now);
        self.more_to_do |= taken >= DELIVERIES;
    }

    fn hear(&mut self, event: Event, now: Instant) {
        match event {
            Event::Delivery(delivery) => self.publication(delivery, now),
            Event::Away => {
                self.stats.backplane.set(BackplaneState::Away as u64);
                self.acknowledge = None;
            }
            Event::Ready { generation, acknowledge, gap } => {
                self.stats.backplane.set(BackplaneState::Ready as u64);
                self.stats.connects.add(1);
                self.frontier.begin(generation);
                self.acknowledge = Some(acknowledge);
                if gap {
                    self.stats.gaps.add(1);
                    self.outbox.mail_all(|| Mail::Gap);
                }
            }
        }
    }

    /// A message: checked once, and encoded once for each of its topics that somebody wants.
    fn publication(&mut self, delivery: Delivery, now: Instant) {
        if let Some(tag) = delivery.tag {
            self.frontier.take(tag);
        }
        self.stats.publications.add(delivery.topics.len().max(1) as u64);
        match self.encode(&delivery, now) {
            Ok(()) => self.measure(&delivery),
            Err(why) => self.bury(delivery, &why),
        }
    }

    fn encode(&mut self, delivery: &Delivery, now: Instant) -> Result<(), Undeliverable> {
        let limits = &self.config.limits;
        for name in &delivery.topics {
            let namespace = self.namespaces.options(self.namespaces.of(name));
            encode::check(name, &delivery.body, namespace, limits)?;
        }
        let mut checked = None;
        for name in &delivery.topics {
            let namespace = self.namespaces.options(self.namespaces.of(name));
            // What becomes of bytes is each namespace's choice; everything else is the same for all topics.
            let json = match checked.take() {
                Some(json) if delivery.content != Content::Binary => json,
                _ => self.bodies.encode(&delivery.body, delivery.content, namespace, limits)?,
            };
            if let Some(topic) = self.topics.find(name) {
                self.line.clear();
                push::publication(&mut self.line, name, &json);
                if self.line.len() > limits.frame_bytes {
                    return Err(Undeliverable::LineTooLong(self.line.len(), limits.frame_bytes));
                }
                self.stats.encodings.add(1);
                let rule = Rule::of(namespace, limits.frame_bytes);
                let line = Line { bytes: &self.line, key: delivery.key.as_deref(), tag: delivery.tag };
                let begins = self.merger.add(topic, line, &rule, now);
                if let (true, Some(tag)) = (begins, delivery.tag) {
                    self.frontier.hold(tag);
                }
            } else {
                self.stats.unheard.add(1);
            }
            checked = Some(json);
        }
        Ok(())
    }

    /// How long it took from the publisher's time stamp to here.
    fn measure(&self, delivery: &Delivery) {
        let Some(published_at) = delivery.published_at else { return };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        self.stats.handover.observe(now.saturating_sub(published_at), 1);
    }

    fn bury(&mut self, delivery: Delivery, why: &Undeliverable) {
        self.stats.dead_lettered.add(1);
        let letter = DeadLetter {
            topics: delivery.topics,
            body: delivery.body,
            reason: why.to_string(),
            tag: delivery.tag,
        };
        match &mut self.source {
            Source::Rabbit(rabbit) => {
                if let Some(tag) = letter.tag {
                    self.frontier.hold(tag);
                }
                rabbit.bury(letter);
            }
            Source::Memory(memory) => memory.bury(&letter),
        }
    }

    /// Hands over what leaves now. Everything that waits leaves when it takes too much memory, or when so much
    /// of it is unacknowledged that RabbitMQ would soon send nothing more.
    fn hand_over(&mut self, now: Instant) {
        let prefetch = u64::from(self.config.amqp.prefetch);
        let too_much = self.merger.bytes() > self.config.limits.merging_bytes
            || self.frontier.held_back() * 4 > prefetch * 3
            || self.stopping != Stopping::No;
        let batches = if too_much { self.merger.leave_all(now) } else { self.merger.leave(now) };
        for batch in batches {
            self.deliver(batch);
        }
        self.outbox.notify();
    }

    fn deliver(&mut self, batch: Batch) {
        if let Some(first) = batch.first {
            self.frontier.release(first);
        }
        let Some(topic) = self.topics.get(batch.topic) else { return };
        let lines = Lines { bytes: batch.bytes.into(), count: batch.count };
        for &(shard, topic) in topic.interests() {
            self.stats.batches.add(1);
            self.outbox.mail(shard, Mail::Batch { topic, lines: lines.clone() });
        }
    }

    /// Lets RabbitMQ forget what was handed over: not what is still in an outbox.
    fn acknowledge(&self) {
        if let Some(acknowledge) = &self.acknowledge
            && self.outbox.is_empty()
        {
            let reached = self.frontier.reached();
            acknowledge.send_if_modified(|last| {
                let further = reached > *last;
                *last = reached.max(*last);
                further
            });
        }
    }

    fn show_gauges(&self) {
        let stats = &self.stats;
        stats.unacknowledged.set(self.frontier.held_back());
        stats.topics.set(self.topics.len() as u64);
        stats.outbox.set(self.outbox.len() as u64);
        stats.merging_bytes.set(self.merger.bytes() as u64);
        stats.requests_depth.set(self.requests.len() as u64);
    }
}
