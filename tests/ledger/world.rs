//! A world to strike: RabbitMQ, engines, publishers and clients, all of them real, and the ledger of what
//! they did.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::clients::{CLIENTS, Clients};
use crate::ledger::Ledger;
use crate::publishers::{PLANS, Publishers};
use crate::support::engine::{Engine, Stopped};
use crate::support::process::TempDir;
use crate::support::proxy::Proxy;
use crate::support::rabbitmq::RabbitNode;
use crate::support::random::Random;
use crate::support::wait::{hold_for, wait_until};

/// Longest wait for clients to be subscribed, and for publications to flow again: RabbitMQ elects, SDKs back
/// off, and machines are busy.
const FLOW_LIMIT: Duration = Duration::from_secs(90);
/// What `heartbeat` is in every URL, in seconds.
const HEARTBEAT: u64 = 2;
/// After this long without a word, either end of a connection has given it up.
pub const GIVEN_UP: Duration = Duration::from_secs(3 * HEARTBEAT);
/// Where Debian puts libfaketime, below the folder of the machine's architecture.
const FAKETIME: &str = "faketime/libfaketimeMT.so.1";

/// How a world is furnished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// One RabbitMQ, one engine that reads a stream.
    Stream,
    /// One RabbitMQ, one engine with a queue of its own.
    Queue,
    /// Three RabbitMQ nodes with a replicated stream, two engines.
    Cluster,
}

/// Everything that runs. It ends with the value.
#[derive(Debug)]
pub struct World {
    // In this order they go: whoever uses something before what it uses.
    /// What publishes.
    pub publishers: Publishers,
    /// What is published to.
    pub clients: Clients,
    /// Between clients and engines: a client goes to the next engine that takes it.
    pub entrance: Proxy,
    engines: Vec<Option<Engine>>,
    /// In place of those that do not run.
    stopped: Vec<Option<Stopped>>,
    /// Between engines and RabbitMQ: an engine goes to the next node that takes it.
    pub link: Proxy,
    /// RabbitMQ's nodes.
    pub nodes: Vec<RabbitNode>,
    /// What happened.
    pub ledger: Arc<Ledger>,
    clock: PathBuf,
    _files: TempDir,
}

impl World {
    /// Starts everything; returns when every client is subscribed to everything. Nothing is published yet.
    ///
    /// # Panics
    /// If something does not start.
    pub fn start(place: Place) -> Self {
        let nodes = match place {
            Place::Stream | Place::Queue => vec![RabbitNode::start()],
            Place::Cluster => RabbitNode::start_cluster(3),
        };
        let link = Proxy::to_any(&nodes.iter().map(RabbitNode::port).collect::<Vec<_>>());
        let engines = if place == Place::Cluster { 2 } else { 1 };
        let toml = configuration(place, link.port());
        let engines: Vec<_> = (0..engines).map(|_| Engine::on_fixed_ports(&toml)).collect();
        engines.iter().for_each(Engine::wait_until_ready);
        nodes.iter().for_each(RabbitNode::sync_tables);

        let entrance =
            Proxy::to_any(&engines.iter().map(|engine| engine.client_address().port()).collect::<Vec<_>>());
        let ledger = Arc::new(Ledger::new(&topics(), CLIENTS));
        let url = format!("ws://127.0.0.1:{}/connection/websocket", entrance.port());
        let clients = Clients::start(&url, &ledger);
        wait_until(FLOW_LIMIT, "every client to be subscribed", || ledger.is_subscribed());
        let urls: Vec<_> = nodes.iter().map(|node| amqp_url(node.port())).collect();
        let desks: Vec<_> = engines.iter().map(Engine::control_address).collect();
        let publishers = Publishers::start(&urls, &desks, &ledger);
        let files = TempDir::new("ledger");
        let clock = files.write("clock", "+0");
        let stopped = engines.iter().map(|_| None).collect();
        let engines = engines.into_iter().map(Some).collect();
        Self { publishers, clients, entrance, engines, stopped, link, nodes, ledger, clock, _files: files }
    }

    /// Waits until `count` more publications are confirmed.
    ///
    /// # Panics
    /// If that does not happen.
    #[track_caller]
    pub fn flow(&self, count: u64) {
        let goal = self.ledger.sums().confirmed + count;
        wait_until(FLOW_LIMIT, "publications to be confirmed", || self.ledger.sums().confirmed >= goal);
    }

    /// Waits until so many more have reached every client, on average: engines are there for their clients.
    ///
    /// # Panics
    /// If that does not happen.
    #[track_caller]
    pub fn reach(&self, count: u64) {
        let goal = self.ledger.sums().received + count * CLIENTS as u64;
        wait_until(FLOW_LIMIT, "publications to reach clients", || self.ledger.sums().received >= goal);
    }

    /// Has everything up again after a fault that ended halfway. What is up already stays as it is.
    ///
    /// # Panics
    /// If something does not start.
    #[track_caller]
    pub fn undo(&mut self) {
        self.link.resume();
        for node in &mut self.nodes {
            if node.runs() {
                node.signal("CONT");
                node.ctl(&["set_vm_memory_high_watermark", "0.4"]);
            } else {
                node.start_again();
            }
        }
        (0..self.engines.len())
            .filter(|&index| self.engines[index].is_none())
            .collect::<Vec<_>>()
            .into_iter()
            .for_each(|index| self.start_engine(index));
    }

    /// Lets everything go on for `length`; somewhere in it some client's connection is cut.
    pub fn hold(&mut self, random: &mut Random, length: Duration) {
        let end = Instant::now() + length;
        thread::sleep(random.millis(0, u64::try_from(length.as_millis()).expect("short")));
        self.clients.cut(random.below(CLIENTS));
        thread::sleep(end.saturating_duration_since(Instant::now()));
    }

    /// Waits until no confirm has come for two seconds, and watches that none comes for `length`.
    ///
    /// # Panics
    /// If one comes.
    #[track_caller]
    pub fn hold_still(&self, length: Duration) {
        // On a busy machine, RabbitMQ has confirmed what it had after two seconds of silence.
        const STILL: Duration = Duration::from_secs(5);
        let mut last = (self.ledger.sums().confirmed, Instant::now());
        wait_until(FLOW_LIMIT, "RabbitMQ to confirm nothing any more", || {
            let confirmed = self.ledger.sums().confirmed;
            if confirmed != last.0 {
                last = (confirmed, Instant::now());
            }
            last.1.elapsed() > STILL
        });
        hold_for(length, "RabbitMQ confirms nothing", || self.ledger.sums().confirmed == last.0);
    }

    /// Waits until a publish by the API is answered with error 100.
    ///
    /// # Panics
    /// If none is.
    #[track_caller]
    pub fn wait_for_refusal(&self) {
        let before = self.publishers.refusals();
        wait_until(FLOW_LIMIT, "error 100", || self.publishers.refusals() > before);
    }

    // Engines -------------------------------------------------------------------------------------------------

    /// How many engines there are.
    pub fn engine_count(&self) -> usize {
        self.engines.len()
    }

    /// Ends an engine by SIGKILL.
    ///
    /// # Panics
    /// If it does not run.
    #[track_caller]
    pub fn kill_engine(&mut self, index: usize) {
        self.stopped[index] = Some(self.engines[index].take().expect("it runs").kill_for_now());
    }

    /// Ends an engine by SIGTERM.
    ///
    /// # Panics
    /// If it does not run, or does not end well.
    #[track_caller]
    pub fn stop_engine(&mut self, index: usize) {
        self.stopped[index] = Some(self.engines[index].take().expect("it runs").stop_for_now());
    }

    /// Starts an engine again, and waits until it is ready.
    ///
    /// # Panics
    /// If it does not start.
    #[track_caller]
    pub fn start_engine(&mut self, index: usize) {
        self.start_engine_with(index, &[]);
    }

    /// The same with a wall clock that [`Self::set_clock`] sets.
    ///
    /// # Panics
    /// If it does not start.
    #[track_caller]
    pub fn start_engine_with_clock(&mut self, index: usize) {
        let clock = self.clock.to_string_lossy().into_owned();
        self.start_engine_with(
            index,
            &[
                ("LD_PRELOAD", &faketime()),
                ("FAKETIME_TIMESTAMP_FILE", &clock),
                ("FAKETIME_NO_CACHE", "1"),
                ("DONT_FAKE_MONOTONIC", "1"),
            ],
        );
    }

    #[track_caller]
    fn start_engine_with(&mut self, index: usize, environment: &[(&str, &str)]) {
        let stopped = self.stopped[index].take().expect("it was stopped, and what starts it again is there");
        let engine = self.engines[index].insert(stopped.start_with(environment));
        engine.wait_until_ready();
    }

    /// Sets the wall clock of engines that were started for it: so many seconds from the host's.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn set_clock(&self, seconds: i64) {
        std::fs::write(&self.clock, format!("{seconds:+}")).expect("own file");
    }

    /// An engine's clock is as it was set: it has written a line at that time, to the minute.
    ///
    /// # Panics
    /// If it has not.
    #[track_caller]
    pub fn expect_clock(&self, index: usize, seconds: i64) {
        let minute = |earlier: i64| {
            let at = format!("{:+} seconds", seconds - earlier);
            let output = Command::new("date").args(["--utc", "--date", &at, "+%Y-%m-%dT%H:%M"]).output();
            String::from_utf8(output.expect("date runs").stdout).expect("digits").trim().to_owned()
        };
        let minutes = [minute(0), minute(60)];
        let lines = self.engines[index].as_ref().expect("it runs").stderr().so_far();
        let is_right = |line: &String| minutes.iter().any(|minute| line.starts_with(minute));
        assert!(lines.iter().any(is_right), "the clock is not {seconds:+} s off: {lines:?}");
    }

    /// The last that engines and clients wrote to standard error.
    pub fn last_words(&self) -> Vec<String> {
        const LINES: usize = 40;
        let mut words = Vec::new();
        for (index, engine) in self.engines.iter().enumerate() {
            let lines = engine.as_ref().map(|engine| engine.stderr().so_far()).unwrap_or_default();
            let last = &lines[lines.len().saturating_sub(LINES)..];
            words.extend(last.iter().map(|line| format!("engine {index}: {line}")));
        }
        words.extend(self.clients.complaints().into_iter().rev().take(LINES).rev());
        words
    }
}

/// Every topic's name, and the size of its batches.
fn topics() -> Vec<(String, u64)> {
    let numbered = |plan: &'static crate::publishers::Plan| {
        (0..plan.topics).map(|number| (format!("ledger:{}.{number}", plan.name), plan.batch))
    };
    PLANS.iter().flat_map(numbered).collect()
}

fn amqp_url(port: u16) -> String {
    format!("amqp://guest:guest@127.0.0.1:{port}/%2f?heartbeat={HEARTBEAT}")
}

/// Nothing expires on an engine whose clock is wrong by hours, and what is read back at the start is more than
/// clients can have missed.
fn configuration(place: Place, port: u16) -> String {
    let source = match place {
        Place::Stream | Place::Cluster => "stream",
        Place::Queue => "queue",
    };
    format!(
        "[namespaces.ledger]\nhistory_size = 20000\nhistory_ttl = \"24h\"\nforce_recovery = true\n\
         [timeouts]\npublish = \"3s\"\n\
         [amqp]\nsource = \"{source}\"\nreplay_max_age = \"24h\"\nreplay_max_messages = 20000\nmessage_ids = 20000\n\
         reconnect_max = \"500ms\"\nurl = \"{}\"\n",
        amqp_url(port)
    )
}

/// # Panics
/// If libfaketime is not installed.
fn faketime() -> String {
    let folders = std::fs::read_dir("/usr/lib").expect("/usr/lib can be read");
    let found = folders.flatten().map(|folder| folder.path().join(FAKETIME)).find(|path| path.exists());
    let found = found.unwrap_or_else(|| panic!("libfaketime is missing: run `tests/run --install`"));
    found.to_string_lossy().into_owned()
}
