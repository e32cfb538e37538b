//! Puts the engine together: mailboxes, pinned threads, start, drain, stop.
//!
//! Threads start in two phases, so that all mailboxes exist before any thread begins. First, every shard's
//! poll is made, and its thread moves to its CPU and, with `server.private_fd_tables`, gets a table of
//! descriptors of its own. Then every thread gets its [`Setup`](shard::Setup) and begins. From then on
//! operators are answered. Listeners for clients are opened last, so a client that connects finds a complete
//! engine.

mod cpus;
mod keys;
mod settings;
mod shard_thread;
mod threads;

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use thiserror::Error;
use tokio::sync::{Notify, oneshot, watch};

use crate::base::capacity::Capacity;
use crate::base::mailbox::{Receiver, Sender, Wake, weighed_mailbox};
use crate::broker::{EventLoop, HttpLink, Inlet};
use crate::config::host::DescriptorLimit;
use crate::config::{Ack, Config, CpuListError, Limits};
use crate::domain::client_id::NodeId;
use crate::domain::lifecycle::{Lifecycle, Phase};
use crate::domain::mail::{Mail, Request, ShardId};
use crate::domain::namespaces::Namespaces;
use crate::domain::receipt::{Receipt, Reporter, receipt};
use crate::domain::settings::EngineSettings;
use crate::http_client::{TargetsError, caller};
use crate::net::event_loop::ShardPoll;
use crate::net::listener::Reservation;
use crate::stats::Stats;
use crate::{broker, control, shard};

use cpus::CpuPlan;
use keys::key_set_updates;
use settings::LoadedKeys;
use shard_thread::{Placement, ShardThread};
use threads::Threads;

pub use keys::{KeysError, key_set_source, keys_note, read_keys};
pub use settings::Program;
pub use threads::ThreadError;

/// How long a thread may take to report that it has started. The broker thread waits for RabbitMQ's first
/// answer; while it reads a stream back, it must make progress within each such time.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Why the engine could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// Listening on an address failed.
    #[error("{what} cannot listen on {address}: {error}{hint}")]
    Listen {
        /// Which listener.
        what: &'static str,
        /// The address.
        address: SocketAddr,
        /// The operating system's error.
        error: std::io::Error,
        /// What to do about it.
        hint: &'static str,
    },
    /// No address is left to listen on.
    #[error("there is no address left for clients (server.listen)")]
    NoAddress,
    /// The broker thread could not start.
    #[error(transparent)]
    Broker(#[from] broker::StartError),
    /// A thread could not be set up.
    #[error("the thread `{name}` cannot be set up: {error}")]
    Thread {
        /// Its name.
        name: String,
        /// Why.
        error: ThreadStartError,
    },
    /// Keys of tokens cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// A backend cannot be asked.
    #[error(transparent)]
    Backends(#[from] TargetsError),
    /// The list of CPUs to pin shards to is malformed.
    #[error("server.cpus: {0}")]
    Cpus(CpuListError),
}

/// Why a thread could not be set up.
#[derive(Debug, Error)]
pub enum ThreadStartError {
    /// The operating system refused what it needs.
    #[error(transparent)]
    System(#[from] std::io::Error),
    /// It cannot have a table of descriptors of its own.
    #[error("no table of descriptors of its own (server.private_fd_tables): {0}")]
    DescriptorTable(Errno),
    /// It did not report in time that it has started, or it has ended.
    #[error("it did not start in time, or has ended")]
    Silent(#[from] mpsc::RecvTimeoutError),
}

/// Why the engine ended without being asked, or what was still open at the end.
#[derive(Clone, Debug, Error)]
pub enum RunError {
    /// A thread ended by itself.
    #[error("the thread `{0}` ended: {1}")]
    Thread(String, ThreadError),
    /// The stop took too long.
    #[error("stopped after {limit:?} (stop.limit) with {clients} clients still connected")]
    TimeIsUp {
        /// The limit.
        limit: Duration,
        /// How many were not closed.
        clients: u64,
    },
}

/// A running engine.
#[derive(Debug)]
pub struct Engine {
    addresses: Vec<SocketAddr>,
    control: SocketAddr,
    notices: Vec<String>,
    requests: Sender<Request>,
    lifecycle: Arc<Lifecycle>,
    reload: Arc<Notify>,
    stop_limit: Duration,
    stats: Stats,
    ended: watch::Receiver<Option<Result<(), RunError>>>,
    stopping: watch::Sender<bool>,
}

impl Engine {
    /// Starts everything. All listeners are open when this returns. `config` is valid; `program` has it again when the engine
    /// is told to reload.
    ///
    /// # Errors
    /// What failed, and where. No running thread keeps a second attempt from succeeding once the process has
    /// ended.
    pub fn start(config: Config, program: Arc<dyn Program>, demo: bool) -> Result<Self, StartError> {
        let plan = CpuPlan::new(&config)?;
        let keys = LoadedKeys::read(&config)?;
        let (key_set, first_fetch) = key_set_updates(&config)?;
        let mut notices = notices(&plan, &config, keys.note());
        let threads = Threads::default();
        let (polls, wakes): (Vec<_>, Vec<_>) = make_polls(plan.shards)?.into_iter().unzip();
        let event_loop = EventLoop::new()?;
        let shards = prepare_shards(&threads, &plan, config.server.private_fd_tables, polls)?;

        let reserved = reserve_addresses(&config, &mut notices)?;
        let addresses: Vec<_> = reserved.iter().map(Reservation::address).collect();
        let (control, control_listener) = listen_for_operators(config.control.listen)?;
        let (clients_max, table_max) = clients_max(&config, plan.shards);
        let (source, settings) = keys.begin(config, program, control)?;
        let config = &settings.config;
        let stats = empty_stats(clients_max, plan.shards, &settings.namespaces);
        let node = NodeId::random();
        let (mailboxes, inboxes) = shard_mailboxes(&config.limits, wakes);
        let (requests, inlet) = broker::inlet(&config.limits, plan.shards);
        let (reporters, receipts) = receipts(config.amqp.ack, plan.shards);

        plan.leave_shards_alone();
        let http = start_http(&threads, &settings)?;
        let setup = broker_setup(&settings, inlet, mailboxes, receipts, http, &stats);
        let (lifecycle, reload) = (Arc::<Lifecycle>::default(), Arc::<Notify>::default());
        let operators = control::Setup {
            settings: Arc::clone(&settings),
            source: Arc::new(source),
            reload: Arc::clone(&reload),
            node,
            requests: requests.operators.clone(),
            stats: stats.clone(),
            clients: endpoints(&addresses, config),
            lifecycle: Arc::clone(&lifecycle),
            key_set,
            demo,
        };
        let stop_control = start_control(&threads, operators, control_listener)?;
        // A stream may take long to be read back: operators can watch, but nobody comes in before.
        start_broker(&threads, event_loop, setup)?;
        first_fetch.wait();

        let shared = SharedByShards {
            settings: &settings,
            capacity: Arc::new(Capacity::new(clients_max)),
            stats: &stats,
            requests: &requests.shards,
            node,
        };
        for (id, ((thread, inbox), reporter)) in (0..).zip(shards.into_iter().zip(inboxes).zip(reporters)) {
            thread.begin(shared.setup(id, plan.shards, inbox, reporter), &addresses, table_max)?;
        }
        drop(reserved);

        lifecycle.enter(Phase::Serving);
        let (stopping, stop_seen) = watch::channel(false);
        Ok(Self {
            addresses,
            control,
            notices,
            requests: requests.operators,
            lifecycle,
            reload,
            stop_limit: config.stop.limit.0,
            stats,
            ended: threads.watch(stop_control, stop_seen),
            stopping,
        })
    }

    /// The addresses for clients.
    #[must_use]
    pub fn client_addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The address for operators.
    #[must_use]
    pub fn control_address(&self) -> SocketAddr {
        self.control
    }

    /// What an operator should know about the start.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Has the configuration read again. Returns at once. All of it takes effect as far as it needs no restart, or nothing;
    /// the log has the outcome. Calls while it is being read count as one.
    pub fn reload(&self) {
        self.reload.notify_one();
    }

    /// Begins the graceful stop: no new clients, no new messages, clients closed at their rate. Returns at
    /// once.
    pub fn stop(&self) {
        self.lifecycle.enter(Phase::Draining);
        if !self.stopping.send_replace(true) {
            let requests = self.requests.clone();
            // A full mailbox empties within milliseconds; whoever stops the engine need not wait for it.
            thread::spawn(move || {
                while requests.send(Request::Stop).is_err() {
                    thread::sleep(Duration::from_millis(1));
                }
            });
        }
    }

    /// Waits until all threads have ended, at most `stop.limit` from the stop on.
    ///
    /// # Errors
    /// What was still open, or what failed.
    pub fn ended(&self) -> impl Future<Output = Result<(), RunError>> + use<> {
        let mut ended = self.ended.clone();
        let mut stopping = self.stopping.subscribe();
        let (limit, stats) = (self.stop_limit, self.stats.clone());
        async move {
            let time_is_up = async {
                let _ = stopping.wait_for(|stopping| *stopping).await;
                tokio::time::sleep(limit).await;
            };
            tokio::select! {
                result = ended.wait_for(Option::is_some) => match result {
                    Ok(result) => result.clone().unwrap_or(Ok(())),
                    Err(_) => Ok(()),
                },
                () = time_is_up => {
                    let clients = stats.sum(|shard| &shard.open) + stats.sum(|shard| &shard.closing);
                    Err(RunError::TimeIsUp { limit, clients })
                }
            }
        }
    }
}

/// What an operator should know before anything has been started.
fn notices(plan: &CpuPlan, config: &Config, of_keys: Option<String>) -> Vec<String> {
    let notes = [plan.notice(), config.anonymous_note().map(str::to_owned), of_keys];
    notes.into_iter().flatten().collect()
}

/// WebSocket URLs of the clients' listeners.
fn endpoints(addresses: &[SocketAddr], config: &Config) -> Vec<String> {
    addresses.iter().map(|address| format!("ws://{address}{}", config.server.path)).collect()
}

fn empty_stats(clients_max: usize, shards: u16, namespaces: &Namespaces) -> Stats {
    let mut stats = Stats::new(usize::from(shards), namespaces.names());
    stats.clients_max = clients_max as u64;
    stats
}

/// The addresses for clients as they will be bound: with real ports, and without those that this host does
/// not have.
fn reserve_addresses(config: &Config, notices: &mut Vec<String>) -> Result<Vec<Reservation>, StartError> {
    let mut reserved = Vec::new();
    for &address in &config.server.listen {
        match Reservation::new(address) {
            Ok(reservation) => reserved.push(reservation),
            Err(error) if address.is_ipv6() && lacks_ipv6(&error) => {
                notices.push(format!("no IPv6 on this host: {address} is skipped"));
            }
            Err(error) => return Err(cannot_listen("clients' listener", address, error)),
        }
    }
    if reserved.is_empty() { Err(StartError::NoAddress) } else { Ok(reserved) }
}

fn lacks_ipv6(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EAFNOSUPPORT as i32)
        || error.kind() == std::io::ErrorKind::AddrNotAvailable
}

fn cannot_listen(what: &'static str, address: SocketAddr, error: std::io::Error) -> StartError {
    let hint = match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            ". Another program, perhaps a second fanfare, listens there: stop it, or choose another port"
        }
        std::io::ErrorKind::AddrNotAvailable => ". This host has no such address",
        std::io::ErrorKind::PermissionDenied => ". Ports below 1024 need CAP_NET_BIND_SERVICE",
        _ => "",
    };
    StartError::Listen { what, address, error, hint }
}

/// The control port, with its real address.
fn listen_for_operators(address: SocketAddr) -> Result<(SocketAddr, std::net::TcpListener), StartError> {
    let bound = control::bind(address);
    let listener = bound.map_err(|error| cannot_listen("the control port", address, error))?;
    Ok((listener.local_addr().unwrap_or(address), listener))
}

/// The shards' mailboxes.
fn shard_mailboxes(limits: &Limits, wakes: Vec<Box<dyn Wake>>) -> (Vec<Sender<Mail>>, Vec<Receiver<Mail>>) {
    let mailbox = |wake| weighed_mailbox(limits.mailbox, limits.mailbox_bytes, Mail::weight, wake);
    wakes.into_iter().map(mailbox).unzip()
}

/// Both ends of what each shard reports, if messages are acknowledged when they are written.
fn receipts(ack: Ack, shards: u16) -> (Vec<Option<Reporter>>, Vec<Receipt>) {
    match ack {
        Ack::Handover => ((0..shards).map(|_| None).collect(), Vec::new()),
        Ack::Written => {
            (0..shards).map(|_| receipt()).map(|(reporter, receipt)| (Some(reporter), receipt)).unzip()
        }
    }
}

fn broker_setup(
    settings: &EngineSettings,
    requests: Inlet,
    shards: Vec<Sender<Mail>>,
    receipts: Vec<Receipt>,
    http: HttpLink,
    stats: &Stats,
) -> broker::Setup {
    let (config, namespaces) = (Arc::clone(&settings.config), Arc::clone(&settings.namespaces));
    broker::Setup { config, namespaces, requests, shards, receipts, http, stats: Arc::clone(&stats.broker) }
}

/// What all shards have in common.
struct SharedByShards<'a> {
    settings: &'a EngineSettings,
    capacity: Arc<Capacity>,
    stats: &'a Stats,
    requests: &'a [Sender<Request>],
    node: NodeId,
}

impl SharedByShards<'_> {
    fn setup(
        &self,
        id: ShardId,
        shards: u16,
        inbox: Receiver<Mail>,
        reporter: Option<Reporter>,
    ) -> shard::Setup {
        shard::Setup {
            id,
            node: self.node,
            config: Arc::clone(&self.settings.config),
            namespaces: Arc::clone(&self.settings.namespaces),
            upgrade: self.settings.upgrade.clone(),
            verifier: self.settings.verifier.clone(),
            capacity: Arc::clone(&self.capacity),
            shards,
            inbox,
            requests: self.requests[usize::from(id)].clone(),
            reporter,
            stats: Arc::clone(&self.stats.shards[usize::from(id)]),
        }
    }
}

/// How many clients the node may have, and how many each shard, which may have a table of descriptors of its
/// own.
fn clients_max(config: &Config, shards: u16) -> (usize, usize) {
    let table = DescriptorLimit::of_this_process().clients_of_table(config);
    let is_private = config.server.private_fd_tables;
    let room = if is_private { table.saturating_mul(shards.into()) } else { table };
    let all = match config.limits.clients {
        0 => room,
        // Beyond, they would take the reserve, and nobody could be refused or answered at the control port.
        clients => clients.min(room),
    };
    (all, if is_private { table } else { usize::MAX })
}

type PollAndWaker = (ShardPoll, Box<dyn Wake>);

/// Each shard's poll, and what wakes it.
fn make_polls(shards: u16) -> Result<Vec<PollAndWaker>, StartError> {
    (0..shards)
        .map(|id| ShardPoll::new().map_err(|error| not_set_up(&shard_thread::name(id), error)))
        .collect()
}

/// Starts the shards' threads, and waits until each has its table. A descriptor that is opened afterwards is
/// open in one table only.
fn prepare_shards(
    threads: &Threads,
    plan: &CpuPlan,
    private_fd_table: bool,
    polls: Vec<ShardPoll>,
) -> Result<Vec<ShardThread>, StartError> {
    let prepare = |(shard, shard_poll)| {
        ShardThread::prepare(
            threads,
            Placement { shard, cpu: plan.cpu_of(shard), private_fd_table },
            shard_poll,
        )
    };
    let shard_threads = (0..).zip(polls).map(prepare).collect::<Result<Vec<_>, _>>()?;
    shard_threads.iter().try_for_each(ShardThread::settled)?;
    Ok(shard_threads)
}

fn not_set_up(name: &str, error: impl Into<ThreadStartError>) -> StartError {
    StartError::Thread { name: name.to_owned(), error: error.into() }
}

/// Name of the control thread.
const CONTROL: &str = "control";

/// Starts the thread that sends calls to backends. It sleeps while none is asked, and ends when the broker thread has ended. A
/// reload may name the first backend, so it is always there.
fn start_http(threads: &Threads, settings: &EngineSettings) -> Result<HttpLink, StartError> {
    let (calls, answers, caller) = caller();
    threads.spawn("http", move || Ok(caller.run()?))?;
    Ok(HttpLink { calls, answers, targets: settings.targets.clone() })
}

fn start_broker(threads: &Threads, event_loop: EventLoop, setup: broker::Setup) -> Result<(), StartError> {
    let (started, wait) = mpsc::channel();
    let stats = Arc::clone(&setup.stats);
    threads.spawn("broker", move || {
        broker::run(&event_loop, setup, move |result| drop(started.send(result)));
        Ok(())
    })?;
    let mut replayed = 0;
    loop {
        match wait.recv_timeout(START_LIMIT) {
            Ok(result) => return Ok(result?),
            // A long stream takes its time, as long as it moves.
            Err(mpsc::RecvTimeoutError::Timeout) if stats.replayed.value() > replayed => {
                replayed = stats.replayed.value();
            }
            Err(error) => return Err(not_set_up("broker", error)),
        }
    }
}

fn start_control(
    threads: &Threads,
    setup: control::Setup,
    listener: std::net::TcpListener,
) -> Result<oneshot::Sender<()>, StartError> {
    let (stop, stopped) = oneshot::channel();
    threads.spawn(CONTROL, move || Ok(control::run(setup, listener, stopped)?))?;
    Ok(stop)
}
