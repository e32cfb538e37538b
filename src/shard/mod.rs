//! One core: an event loop that owns its slice of the clients. This is the tick, step by step.
//!
//! The shard knows no poll, no clock and no TCP: the [event loop](crate::net::event_loop) tells it what is ready and
//! what time it is, and a [`Stream`] takes and gives bytes. So a simulation can drive all of it with short writes, stalls,
//! resets and churn, and check it after every tick.
//!
//! A shard never blocks. Its requests to the broker go into a bounded queue; while that is full, the clients that asked are
//! not read. Mail from the broker comes through its mailbox; while a log is full because its sweep is behind, no mail is
//! taken, and the broker waits.
//!
//! # In which order to read
//!
//! * What there is: `clients` (the slab of all clients), `client` (one of them), `topics` (all topics), `topic` (one of
//!   them), `subscribers` (who subscribes to it, each with its cursor), and `subscriptions` (the topics of one client).
//! * Publications, from the mailbox to the sockets: `inbox` (takes mail), `log` (the lines of a topic), `backlog` (what
//!   its subscribers lack), `delivery` (sweep and visit), `lap` (rounds of a sweep), `retention` (what full logs keep),
//!   `compaction` (the latest line of each key), and `write_progress` (which batches are written).
//! * Input, from the socket to the command: `admission` (which connections become clients), `reading` (whose turn it is),
//!   `input` (what is kept of all clients), `tail` (what is kept of one), and `commands` (carries out each command).
//! * Subscribing: `membership` (attaches and detaches topics), `connecting` (connects whose tokens bring subscriptions),
//!   `pending` (commands that wait for the broker), `requests` (the queue to the broker), and `questions` (requests with
//!   large answers).
//! * Replies: `output` (what waits for one client), `replies` (adds to it), and `shedding` (bounds on the input and the
//!   replies of all clients).
//! * Time: `timer_wheel` (the timers of all clients), `timeouts` (what each is for), and `pacing` (passes over all
//!   clients at a limited rate).
//! * Ends: `closing` (close frames, refusals, drops), and `faults` (log lines about clients).
//! * Helpers: `client_list` (a list with stale entries), `origins` (where clients' pages come from), and `invariants`
//!   (what holds between two ticks).

mod admission;
mod backlog;
mod call_answers;
mod calls;
pub mod client;
mod client_list;
pub mod clients;
mod closing;
mod commands;
mod compaction;
mod connecting;
mod delivery;
mod faults;
mod inbox;
mod input;
mod invariants;
mod lap;
pub mod log;
mod membership;
pub mod origins;
pub mod output;
mod pacing;
pub mod pending;
mod questions;
mod reading;
mod replies;
mod requests;
mod retention;
mod shedding;
pub mod subscribers;
pub mod subscriptions;
mod tail;
mod timeouts;
pub mod timer_wheel;
mod tokens;
pub mod topic;
pub mod topics;
mod write_progress;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::auth::Verifier;
use crate::base::capacity::Capacity;
use crate::base::clock::{Clock, UnixTime};
use crate::base::mailbox::{Receiver, Sender};
use crate::base::moment::GRAIN;
use crate::codec::deflate::Inflater;
use crate::config::{Budgets, Config, Hooks, Limits, Rpc, Timeouts};
use crate::domain::client_id::{ClientId, NodeId};
use crate::domain::mail::{ClientKey, Mail, Request, ShardId};
use crate::domain::namespaces::Namespaces;
use crate::domain::receipt::Reporter;
use crate::domain::settings::EngineSettings;
use crate::net::stream::Stream;
use crate::session::rules::Rules;
use crate::stats::ShardStats;
use crate::transport::upgrade::UpgradePolicy;
use crate::transport::{Phase, Policy, Transport};

use admission::Admission;
use call_answers::CallAnswers;
use calls::ForwardedHeaders;
use clients::Clients;
use delivery::Delivery;
use faults::FaultLog;
use inbox::MailIntake;
use origins::Origins;
use pacing::Pacing;
use questions::AnswerBudgets;
use reading::ClientInput;
use replies::{PendingReplies, ReplyLines};
use requests::RequestQueue;
use retention::LogMemory;
use timeouts::FirstPings;
use timer_wheel::TimerWheel;
use tokens::Tokens;
use topics::Topics;
use write_progress::WriteProgress;

/// How long the loop sleeps at most while something is to be tried again that has no event.
const RETRY: Duration = Duration::from_millis(1);

/// Everything a shard is given.
#[derive(Debug)]
pub struct Setup {
    /// Its number.
    pub id: ShardId,
    /// The engine it is part of.
    pub node: NodeId,
    /// Limits, budgets, time-outs.
    pub config: Arc<Config>,
    /// The options of topics.
    pub namespaces: Arc<Namespaces>,
    /// Which HTTP requests become clients.
    pub upgrade: UpgradePolicy,
    /// Verifies clients' tokens.
    pub verifier: Verifier,
    /// The places for clients, which all shards share.
    pub capacity: Arc<Capacity>,
    /// How many shards share limits that count for the whole engine.
    pub shards: u16,
    /// The mailbox.
    pub inbox: Receiver<Mail>,
    /// The queue of requests to the broker thread.
    pub requests: Sender<Request>,
    /// Reports through which batch everything is written, if the broker wants to know.
    pub reporter: Option<Reporter>,
    /// Its counters.
    pub stats: Arc<ShardStats>,
}

/// One shard. Its clients have connections of stream `S` and transport `T`.
#[derive(Debug)]
pub struct Shard<S, T> {
    identity: Identity,
    settings: Settings,
    stats: Arc<ShardStats>,
    broker: BrokerLink,
    admission: Admission,
    faults: FaultLog,
    /// The origins of clients' pages.
    origins: Origins,
    tokens: Tokens,
    /// The time of day at the start of the tick.
    unix: UnixTime,

    clients: Clients<S, T>,
    topics: Topics,
    timers: TimerWheel,

    delivery: Delivery,
    logs: LogMemory,
    input: ClientInput,
    /// Decompresses the messages of all clients, and batches that are compacted.
    inflater: Inflater,
    lines: ReplyLines,
    replies: PendingReplies,
    answers: AnswerBudgets,
    pacing: Pacing,
    first_pings: FirstPings,
}

/// The names by which a shard and its clients are known outside.
#[derive(Clone, Copy, Debug)]
struct Identity {
    node: NodeId,
    shard: ShardId,
}

/// What the shard has of the configuration. A reload replaces it as a whole.
#[derive(Debug)]
struct Settings {
    limits: Limits,
    timeouts: Timeouts,
    budgets: Budgets,
    policy: Policy,
    namespaces: Arc<Namespaces>,
    /// Whether clients without a token may connect.
    anonymous: bool,
    /// By how much the clocks of those who make tokens may differ.
    leeway: Duration,
    /// Which backends are asked about connections.
    hooks: Hooks,
    /// Which backends answer clients' requests.
    rpc: Rpc,
    /// Whether any backend is told what is for backends alone.
    keeps_meta: bool,
    /// Which headers backends are sent.
    headers: ForwardedHeaders,
}

/// A shard's connection with the broker thread: mail comes in, requests and reports go out.
#[derive(Debug)]
struct BrokerLink {
    mail: MailIntake,
    call_answers: CallAnswers,
    requests: RequestQueue,
    /// Through which batch everything was written, if the broker wants to know.
    progress: Option<WriteProgress>,
}

impl Settings {
    fn new(config: &Config, upgrade: UpgradePolicy, namespaces: Arc<Namespaces>) -> Self {
        Self {
            limits: config.limits.clone(),
            timeouts: config.timeouts.clone(),
            budgets: config.budgets.clone(),
            policy: Policy { upgrade, message_bytes: config.limits.message_bytes },
            namespaces,
            anonymous: config.allows_anonymous(),
            leeway: config.tokens.leeway.0,
            hooks: config.hooks.clone(),
            rpc: config.rpc.clone(),
            keeps_meta: config.backends.values().any(|backend| backend.meta),
            headers: ForwardedHeaders::new(config),
        }
    }

    /// What clients' sessions decide by.
    fn rules(&self) -> Rules<'_> {
        Rules {
            limits: &self.limits,
            timeouts: &self.timeouts,
            namespaces: &self.namespaces,
            anonymous: self.anonymous,
            leeway: self.leeway,
            hooks: &self.hooks,
            rpc: &self.rpc,
            keeps_meta: self.keeps_meta,
        }
    }
}

impl<S, T> Shard<S, T> {
    /// Goes by another configuration from here on. What was decided by the former one stays: subscriptions, and time-outs
    /// that run.
    fn reload(&mut self, EngineSettings { config, namespaces, verifier, upgrade, .. }: &EngineSettings) {
        self.settings = Settings::new(config, upgrade.clone(), Arc::clone(namespaces));
        self.tokens.reload(config, verifier.clone());
        self.pacing.set_rates(&config.stop);
    }
}

impl Identity {
    /// The id by which a client is known outside.
    fn client(self, key: ClientKey) -> ClientId {
        ClientId { node: self.node, shard: self.shard, key }
    }
}

impl<S: Stream, T: Transport> Shard<S, T> {
    /// A shard without clients, whose clock starts at `start`.
    #[must_use]
    pub fn new(setup: Setup, start: Instant) -> Self {
        let config = &setup.config;
        Self {
            identity: Identity { node: setup.node, shard: setup.id },
            settings: Settings::new(config, setup.upgrade, setup.namespaces),
            stats: setup.stats,
            broker: BrokerLink {
                mail: MailIntake::new(setup.inbox),
                call_answers: CallAnswers::default(),
                requests: RequestQueue::new(setup.requests),
                progress: setup
                    .reporter
                    .map(|reporter| WriteProgress::new(reporter, config.amqp.written_timeout.0)),
            },
            admission: Admission::new(setup.capacity),
            faults: FaultLog::default(),
            origins: Origins::default(),
            tokens: Tokens::new(config, setup.verifier),
            unix: UnixTime::default(),
            clients: Clients::default(),
            topics: Topics::default(),
            timers: TimerWheel::new(start),
            delivery: Delivery::default(),
            logs: LogMemory::default(),
            input: ClientInput::new(&config.limits),
            inflater: Inflater::default(),
            lines: ReplyLines::default(),
            replies: PendingReplies::default(),
            answers: AnswerBudgets::default(),
            pacing: Pacing::new(&config.stop, setup.shards),
            first_pings: FirstPings::new(setup.id),
        }
    }

    /// One turn: takes a bounded piece of each kind of work, and leaves the rest for the next. `now` is the time at its
    /// start. `later` tells the time while it goes on, which only a budget of time needs.
    pub fn tick(&mut self, now: Clock, later: impl Fn() -> Instant) {
        self.timers.advance(now.monotonic);
        self.unix = now.unix;
        self.take_mail();
        self.write_unblocked();
        self.take_call_answers(&later);
        self.read_clients(later);
        self.sweep();
        self.report_written();
        self.fire_timers();
        self.continue_passes(now.monotonic);
        self.shed_replies();
        self.shed_input();
        self.answer_surveys();
        // Before budgets are opened: the memory that becomes free is room for them.
        self.free_ended();
        self.open_waiting_budgets();
        self.send_requests();
        self.faults.log_suppressed(self.timers.instant());
        self.show_gauges();
    }

    /// How long the loop may sleep before the next tick; `None`: until something happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.has_work() {
            return Some(Duration::ZERO);
        }
        let BrokerLink { mail, requests, progress, .. } = &self.broker;
        let retries = requests.has_pending() || mail.has_surveys() || self.pacing.is_active();
        let checks = progress.as_ref().is_some_and(WriteProgress::is_behind) || self.answers.has_waiting();
        // A grain later, as the wheel knows the time to a grain.
        let faults =
            self.faults.due().map(|due| due.saturating_duration_since(self.timers.instant()) + GRAIN);
        let waits = [self.timers.poll_timeout(), retries.then_some(RETRY), checks.then_some(GRAIN), faults];
        waits.into_iter().flatten().min()
    }

    /// Whether the next tick has work at once.
    fn has_work(&self) -> bool {
        self.broker.mail.has_more()
            || !self.broker.call_answers.is_empty()
            || self.delivery.has_work()
            || self.input.turns.has_ready()
            || !self.input.kept.without_room().is_empty()
            || !self.clients.ended().is_empty()
    }

    /// How many connections may be accepted before the next tick.
    #[must_use]
    pub fn accepts_per_tick(&self) -> usize {
        self.settings.budgets.accepts
    }

    /// The shard's number.
    #[must_use]
    pub fn id(&self) -> ShardId {
        self.identity.shard
    }

    /// The number of clients, in any phase.
    #[must_use]
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there is no client.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Whether all clients have been closed and the broker knows.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.pacing.is_drained()
    }

    /// Whether it is closing all clients.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.pacing.is_draining()
    }

    /// Its counters.
    #[must_use]
    pub fn stats(&self) -> &ShardStats {
        &self.stats
    }

    /// Has the next mail wake the shard. To be called before the last look at [`Self::has_mail`].
    pub fn rearm(&mut self) {
        self.broker.mail.rearm();
    }

    /// Whether there is mail in the mailbox.
    #[must_use]
    pub fn has_mail(&self) -> bool {
        !self.broker.mail.is_empty()
    }

    /// The id by which the client in `slot` is known outside.
    fn client_id(&self, slot: u32) -> ClientId {
        self.identity.client(self.clients.key(slot))
    }

    /// Notes that a client has come into another phase, from `before`.
    fn entered(&mut self, slot: u32, before: Phase) {
        let client = &mut self.clients[slot];
        let gauge = |phase| match phase {
            Phase::Upgrading => &self.stats.upgrading,
            Phase::Open => &self.stats.open,
            Phase::Closing => &self.stats.closing,
        };
        gauge(before).sub(1);
        gauge(client.transport.phase()).add(1);
        client.session.time_from(self.timers.now());
        self.time(slot);
    }

    fn show_gauges(&self) {
        let stats = &self.stats;
        stats.ticks.add(1);
        stats.mailbox_depth.set(self.broker.mail.len() as u64);
        stats.log_bytes.set(self.logs.bytes() as u64);
        stats.rest_bytes.set(self.logs.rest_bytes() as u64);
        stats.reply_bytes.set(self.replies.bytes() as u64);
        stats.input_bytes.set(self.input.kept.bytes() as u64);
        stats.topics.set(self.topics.len() as u64);
    }
}

#[cfg(test)]
mod tests;
