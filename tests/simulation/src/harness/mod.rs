//! The world around one shard. It is compiled twice: for the shipped shard, and for the copy that has the deliberate
//! bugs. `super` is whichever it is.

mod asking;
mod backend;
mod broker;
mod clients;
mod connecting;
mod kind;
mod laws;
mod protocol;
mod reading;
mod socket;
mod turns;

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::shard::{Setup, Shard};
use crate::Events;
use crate::random::Random;
use crate::raw::Either;
use backend::Backend;
use broker::Batch;
use clients::{CLIENTS_MAX, Peer};
use fanfare::auth::{KeySet, Keys, Signer, Verifier};
use fanfare::base::capacity::Capacity;
use fanfare::base::clock::Clock;
use fanfare::base::mailbox::{Receiver, Sender, Wake, mailbox};
use fanfare::config::{Config, Limits};
use fanfare::domain::client_id::NodeId;
use fanfare::domain::mail::{Mail, Request, TopicSlot, Variant};
use fanfare::domain::namespaces::Namespaces;
use fanfare::domain::reasons::CloseReason;
use fanfare::domain::receipt::{Receipt, receipt};
use fanfare::domain::settings::EngineSettings;
use fanfare::http_client::HttpTargets;
use fanfare::stats::ShardStats;
use fanfare::transport::credential::CredentialPlaces;
use fanfare::transport::upgrade::UpgradePolicy;
use kind::{Kind, READS, SECRET, STEP_BYTES, config};
use socket::FakeSocket;
use turns::{crowded_reading, fair_reading, fairness};

/// Those that begin with an `h` have a history.
const TOPICS: [&str; 7] = ["d:a", "r:a", "s:a", "r:b", "s:b", "h:a", "h:b"];
const STEPS: usize = 300;

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

struct World {
    random: Random,
    scale: usize,
    tight: bool,
    /// Commands, or other frames, that a client's share of a tick is enough for.
    steps_per_share: u64,
    limits: Limits,
    now: Clock,
    /// Milliseconds; what a turn takes is less.
    tick_time: usize,
    last_tick: Clock,
    shard: Shard<FakeSocket, Either>,
    signer: Signer,
    stats: Arc<ShardStats>,
    settings: Arc<EngineSettings>,
    peers: Vec<Peer>,
    mail: Sender<Mail>,
    outbox: VecDeque<Mail>,
    /// For whom each batch was, its topic, and the number of its last publication.
    batches: Vec<(TopicSlot, &'static str, u64)>,
    /// Through which of them the shard says that it has written.
    receipt: Receipt,
    requests: Receiver<Request>,
    interest: HashMap<(String, Variant), TopicSlot>,
    /// Batches for lanes whose windows have not ended.
    windows: BTreeMap<TopicSlot, Vec<Batch>>,
    late_answers: Vec<Mail>,
    backend: Backend,
    /// Topics that could not be attached, until the shard surely knows it.
    failing: Vec<String>,
    published: HashMap<&'static str, u64>,
    /// Where clients were in topics with history when their subscriptions ended.
    left_at: Vec<(&'static str, u64)>,
    /// What of it the shard has surely taken.
    settled: HashMap<&'static str, u64>,
    ready: Vec<(u32, Edge)>,
    events: Events,
}

#[derive(Clone, Copy, Debug)]
enum Edge {
    Readable,
    HungUp,
    Writable,
}

/// Runs the world of `seed` to its end.
///
/// # Panics
/// When a law is broken.
pub fn run(seed: u64) -> Events {
    let kind = Kind::of(seed);
    let mut world = World::new(seed, config(kind), kind.scale);
    (world.tight, world.backend.hooks) = (kind.tight, kind.hooks);
    for _ in 0..STEPS {
        world.act();
        world.broker_acts();
        world.turn();
    }
    world.become_quiet();
    if kind.hooks.is_some_and(|hooks| hooks.refresh) {
        world.time_passes();
        world.become_quiet();
    }
    world.everybody_leaves();
    if kind.tight {
        let closed = world.stats.closes[CloseReason::Slow as usize].value();
        world.events.shed += closed - world.stats.policy_disconnect.value();
    }
    if seed % 8 == 0 {
        world.events.fair_turns += fairness(seed);
        world.events.fair_reads += fair_reading(seed);
        crowded_reading(seed);
    }
    world.events
}

/// What the threads of an engine with this configuration have.
fn settings(config: Config) -> EngineSettings {
    let upgrade = UpgradePolicy {
        path: "/connection/websocket".to_owned(),
        head_bytes: 400,
        allowed_origins: Vec::new(),
        open_on_loopback: false,
        page_port: 0,
        deflate: true,
        credentials: CredentialPlaces::default(),
    };
    let mut connection = KeySet::default();
    connection.add_secret(SECRET.as_bytes()).expect("it is one");
    EngineSettings {
        verifier: Verifier::new(&config, Keys { connection, ..Keys::default() }),
        namespaces: Arc::new(Namespaces::new(&config)),
        config: Arc::new(config),
        key_files: Vec::new(),
        targets: HttpTargets::default(),
        upgrade,
    }
}

impl World {
    fn new(seed: u64, config: Config, scale: usize) -> Self {
        let limits = config.limits.clone();
        let steps_per_share = (config.budgets.read_bytes / STEP_BYTES) as u64 + 1;
        let (mail, inbox) = mailbox(5, Box::new(NoWake));
        let (sender, requests) = mailbox(4, Box::new(NoWake));
        let (reporter, receipt) = receipt();
        let stats = Arc::new(ShardStats::default());
        let now = Clock::now();
        let settings = Arc::new(settings(config));
        let setup = Setup {
            verifier: settings.verifier.clone(),
            id: 0,
            node: NodeId::random(),
            namespaces: Arc::clone(&settings.namespaces),
            config: Arc::clone(&settings.config),
            upgrade: settings.upgrade.clone(),
            capacity: Arc::new(Capacity::new(usize::MAX)),
            shards: 1,
            inbox,
            requests: sender,
            reporter: Some(reporter),
            stats: Arc::clone(&stats),
        };
        Self {
            random: Random::new(seed),
            scale,
            tight: false,
            steps_per_share,
            limits,
            now,
            tick_time: 15,
            last_tick: now,
            shard: Shard::new(setup, now.monotonic),
            signer: Signer::with_secret(SECRET.as_bytes()).expect("it signs"),
            stats,
            settings,
            peers: Vec::new(),
            mail,
            outbox: VecDeque::new(),
            batches: Vec::new(),
            receipt,
            requests,
            interest: HashMap::new(),
            windows: BTreeMap::new(),
            late_answers: Vec::new(),
            backend: Backend::default(),
            failing: Vec::new(),
            published: HashMap::new(),
            left_at: Vec::new(),
            settled: HashMap::new(),
            ready: Vec::new(),
            events: Events::default(),
        }
    }

    /// Something happens.
    fn act(&mut self) {
        if let Some(refused) = self.peers.iter().position(|peer| peer.said.leaves)
            && self.random.one_in(20)
        {
            self.hang_up(refused);
        }
        let asks = self.backend.hooks.is_some();
        let peer = (!self.peers.is_empty()).then(|| self.random.below(self.peers.len()));
        match (self.random.below(16), peer) {
            (0, _) if self.peers.len() < CLIENTS_MAX && self.random.one_in(2) => self.connect_to_some(),
            (0, _) if self.peers.len() < CLIENTS_MAX && asks => self.connect_by_hook(),
            (0, _) if self.peers.len() < CLIENTS_MAX => self.connect(),
            (1, Some(peer)) if self.random.one_in(6) => self.hang_up(peer),
            (2 | 3, Some(peer)) => self.subscribe(peer),
            (4, Some(peer)) => self.unsubscribe(peer),
            (5, Some(peer)) => self.publish_as(peer),
            (6, Some(peer)) if self.random.one_in(2) => self.stall(peer),
            (7 | 8, Some(peer)) => self.give_room(peer),
            (9, Some(peer)) if self.random.one_in(2) => self.burst(peer),
            (10, Some(peer)) if self.tight => self.half(peer),
            (11, Some(peer)) if self.random.one_in(2) => self.hurry(peer),
            (12, Some(peer)) if self.random.one_in(3) => self.ask_in_vain(peer),
            (12, Some(peer)) if self.random.one_in(12) => self.offend(peer),
            (13, Some(peer)) if asks => self.ask_backend(peer),
            (14, Some(peer)) if asks && self.random.one_in(2) => (0..3).for_each(|_| self.publish_as(peer)),
            (15, _) => (0..12).for_each(|_| self.publish()),
            _ => self.publish(),
        }
        for peer in 0..self.peers.len() {
            if !self.peers[peer].stalled && self.random.one_in(2) {
                self.give_room(peer);
            }
        }
    }

    /// The loop around the shard: ticks it if that loop would.
    fn turn(&mut self) {
        self.now = self.now.after(Duration::from_millis(self.random.below(self.tick_time) as u64));
        self.shard.rearm();
        let poll_timeout = self.shard.poll_timeout();
        let since = self.now.monotonic - self.last_tick.monotonic;
        let woken = poll_timeout.is_some_and(|poll_timeout| since >= poll_timeout);
        if self.ready.is_empty() && !self.shard.has_mail() && !woken {
            return;
        }
        for (slot, edge) in std::mem::take(&mut self.ready) {
            match edge {
                Edge::Readable => self.shard.readable(slot),
                Edge::HungUp => self.shard.hung_up(slot),
                Edge::Writable => self.shard.writable(slot),
            }
        }
        for peer in &self.peers {
            let mut pipe = peer.pipe.borrow_mut();
            (pipe.calls, pipe.reads) = (0, 0);
        }
        let (now, commands) = (self.now, self.stats.commands.value());
        let clients = self.shard.len().min(READS) as u64;
        // Sometimes the time that a tick has for clients, or for answers of backends, is over in its middle.
        let look = Duration::from_micros(if self.random.one_in(3) { 400 } else { 0 });
        let looks = Cell::new(now.monotonic);
        self.shard.tick(now, || {
            looks.set(looks.get() + look);
            looks.get()
        });
        self.shard.check();
        let done = self.stats.commands.value() - commands;
        assert!(done <= clients * self.steps_per_share, "{done} commands of {clients} clients in one tick");
        self.last_tick = self.now;
        self.events.ticks += 1;
        self.check_limits();
        self.peers_read();
        self.check_receipt();
        self.check_expiries();
        if self.is_settled() {
            self.settled.clone_from(&self.published);
            self.failing.clear();
        }
    }
}
