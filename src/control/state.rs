//! The state that all handlers share, and how they send requests to the broker thread.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use prometheus_client::registry::Registry;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout_at};

use super::Setup;
use super::envelope::{Fault, STOPPING};
use super::places::UNREAD_KEPT;
use super::room::Room;
use super::watchdog::Watchdog;
use crate::auth::Verifier;
use crate::base::mailbox::Sender;
use crate::config::Config;
use crate::config::memory::{API_ANSWERS_BYTES, API_BODIES_BYTES};
use crate::domain::client_id::NodeId;
use crate::domain::lifecycle::{Lifecycle, Phase};
use crate::domain::mail::Request;
use crate::domain::reasons::ErrorCode;
use crate::domain::settings::{EngineSettings, SettingsSource};
use crate::stats::{BackplaneState, Stats};

/// Pause between two attempts to put a request into a full mailbox. The broker thread empties a full one in
/// about this time, and nothing wakes a sender.
const RETRY: Duration = Duration::from_millis(5);

/// Estimated size of the first page of metrics, in bytes.
const PAGE_BYTES: usize = 64 << 10;

/// The state of every handler.
#[derive(Debug)]
pub(super) struct AppState {
    pub(super) node: NodeId,
    pub(super) stats: Stats,
    pub(super) clients: Vec<String>,
    pub(super) lifecycle: Arc<Lifecycle>,
    pub(super) demo: bool,
    pub(super) metrics: Registry,
    pub(super) watchdog: Arc<Watchdog>,
    /// Room for bodies of requests.
    pub(super) bodies: Arc<Room>,
    /// Room for large answers.
    pub(super) answers: Arc<Room>,
    /// Bytes of the latest page of metrics.
    pub(super) page_bytes: AtomicUsize,
    /// Reads the configuration again.
    pub(super) source: Arc<dyn SettingsSource>,
    /// Held while settings are replaced, from when those in force are read: by a reload, or by another key set.
    pub(super) reloading: Mutex<()>,
    /// Held while the configuration is read, also after the reload that wanted it has given up.
    pub(super) reading: Arc<Mutex<()>>,
    settings: RwLock<Arc<EngineSettings>>,
    requests: Sender<Request>,
    /// Held while a request for the broker thread is sent.
    next: Mutex<()>,
    started: Instant,
}

impl AppState {
    /// `metrics`: what a scrape shows.
    pub(super) fn new(setup: Setup, metrics: Registry) -> Self {
        Self {
            metrics,
            watchdog: Arc::new(Watchdog::new(&setup.stats)),
            node: setup.node,
            source: setup.source,
            reloading: Mutex::default(),
            reading: Arc::default(),
            settings: RwLock::new(setup.settings),
            stats: setup.stats,
            clients: setup.clients,
            lifecycle: setup.lifecycle,
            demo: setup.demo,
            bodies: Room::new(API_BODIES_BYTES, Duration::ZERO),
            answers: Room::new(API_ANSWERS_BYTES, UNREAD_KEPT),
            page_bytes: AtomicUsize::new(PAGE_BYTES),
            requests: setup.requests,
            next: Mutex::default(),
            started: Instant::now(),
        }
    }

    /// What is in force.
    pub(super) fn settings(&self) -> Arc<EngineSettings> {
        Arc::clone(&self.settings.read())
    }

    /// The configuration that is in force.
    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.settings.read().config)
    }

    /// Puts settings in force on this thread. The other threads have them by mail.
    pub(super) fn adopt(&self, settings: &Arc<EngineSettings>) {
        *self.settings.write() = Arc::clone(settings);
        self.stats.name_namespaces(settings.namespaces.names());
        self.source.adopted(settings);
    }

    /// Tokens are verified by this from now on. The shards have it by mail.
    pub(super) fn verify_by(&self, verifier: Verifier) {
        let mut settings = self.settings.write();
        *settings = Arc::new(EngineSettings { verifier, ..EngineSettings::clone(&settings) });
    }

    /// How long the control port has been open.
    pub(super) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Which backplane is in use.
    pub(super) fn mode(&self) -> Mode {
        Mode::of(&self.config())
    }

    /// The state of the connection to the backplane.
    pub(super) fn backplane(&self) -> BackplaneState {
        self.stats.broker.backplane()
    }

    /// Whether RabbitMQ has reported that it accepts no publishes, for want of memory or disk.
    pub(super) fn rabbitmq_is_blocked(&self) -> bool {
        self.stats.broker.rabbitmq_blocked.value() != 0
    }

    /// Whether the engine was told to stop. Nothing is published any more.
    pub(super) fn is_stopping(&self) -> bool {
        self.lifecycle.phase() == Phase::Draining
    }

    /// Sends `request` to the broker thread. While its mailbox is full, this waits, at most
    /// `timeouts.publish`.
    pub(super) async fn post(&self, request: Request) -> Result<(), Fault> {
        self.post_before(self.deadline(), || request).await
    }

    /// Until when a request that begins now can be sent to the broker thread.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.config().timeouts.publish.0
    }

    /// Puts `request` into the broker thread's mailbox, if there is room and nobody else waits for some. The
    /// broker thread is woken by [`Self::notify`].
    pub(super) fn push(&self, request: Request) -> Result<(), Request> {
        match self.next.try_lock() {
            Ok(_turn) => self.requests.push(request),
            Err(_) => Err(request),
        }
    }

    /// Wakes the broker thread for what was pushed.
    pub(super) fn notify(&self) {
        self.requests.notify();
    }

    /// Sends what `make` returns to the broker thread, as soon as there is room in its mailbox. Senders take
    /// turns, and `make` is called in the sender's turn, so that copies of publications do not wait for room
    /// together.
    pub(super) async fn post_before(
        &self,
        deadline: Instant,
        make: impl FnOnce() -> Request,
    ) -> Result<(), Fault> {
        let behind = || {
            let text = "the engine is behind with its work; try again in a moment";
            Fault::new(ErrorCode::TooManyRequests, text)
        };
        let _turn = timeout_at(deadline.into(), self.next.lock()).await.map_err(|_| behind())?;
        let mut waiting = make();
        while !self.requests.is_closed() {
            let Err(returned) = self.requests.send(waiting) else { return Ok(()) };
            if Instant::now() >= deadline {
                return Err(behind());
            }
            waiting = returned;
            sleep(RETRY).await;
        }
        Err(Fault::new(ErrorCode::TooManyRequests, STOPPING))
    }
}

/// Where publications come from and go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Through this process's memory.
    Embedded,
    /// Through RabbitMQ.
    RabbitMq,
}

impl Mode {
    pub(super) fn of(config: &Config) -> Self {
        if config.amqp.url.is_empty() { Self::Embedded } else { Self::RabbitMq }
    }

    /// Its name in metrics and JSON.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::RabbitMq => "rabbitmq",
        }
    }
}
