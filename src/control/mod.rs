//! The control port for operators: server API, metrics, health and the live page, over HTTP on a port of its
//! own.
//!
//! One thread, one tokio runtime. Its tasks share locks that no other thread takes: for the order of requests to the
//! broker thread and for the settings in force (`state`), and for the list of shares that can be revoked (`room`). With
//! the broker thread it shares one, for the reason why RabbitMQ refuses the engine
//! ([`BrokerStats::refusal`](crate::stats::BrokerStats::refusal)). Files of the configuration are read by another thread.
//! Counters are read where the shards write them. Everything else is
//! a [`Request`] to the broker thread, so that nothing an operator does can delay a delivery. Read in this
//! order: `serve` (connections; `places` bounds their number, `pipeline` carries out publishes, `stream` wraps
//! the sockets of hyper, `room` and `answers` bound the memory of requests and answers), `guard` (which requests are allowed), `api`, then
//! `metrics`, `health` with its `watchdog`, `key_set`, `reload`, and `page`.

mod answers;
mod api;
pub mod demo;
mod envelope;
mod exposition;
mod glob;
mod guard;
mod health;
pub mod key_set;
mod metrics;
mod page;
mod pipeline;
mod places;
mod process;
mod purge;
mod reload;
mod room;
mod serve;
mod state;
mod stream;
mod watchdog;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{any, get};
use tokio::sync::{Notify, oneshot};

use crate::base::mailbox::Sender;
use crate::domain::client_id::NodeId;
use crate::domain::lifecycle::Lifecycle;
use crate::domain::mail::Request;
use crate::domain::settings::{EngineSettings, SettingsSource};
use crate::stats::Stats;
use key_set::KeySetUpdates;
use state::{AppState, Mode};

/// What the control thread needs of the engine.
#[derive(Debug)]
pub struct Setup {
    /// What is in force.
    pub settings: Arc<EngineSettings>,
    /// Reads the configuration again.
    pub source: Arc<dyn SettingsSource>,
    /// Notified when the configuration is to be read again.
    pub reload: Arc<Notify>,
    /// This run of this engine, as encoded in clients' ids.
    pub node: NodeId,
    /// The broker thread's mailbox for operators.
    pub requests: Sender<Request>,
    /// The counters of all threads.
    pub stats: Stats,
    /// WebSocket URLs of the client listeners, with their real ports, for the live page.
    pub clients: Vec<String>,
    /// The phase of the engine.
    pub lifecycle: Arc<Lifecycle>,
    /// What keeps the key set of `jwks.url` up to date, if there is one.
    pub key_set: Option<KeySetUpdates>,
    /// Whether to publish moving prices and orders for the live page.
    pub demo: bool,
}

/// Binds the control port, so that the engine knows that it is free before it starts anything.
///
/// # Errors
/// Those of `bind(2)`: the port is taken, or the address is not this machine's.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves `listener` on the calling thread until `stop` is sent or dropped. Then it answers the requests in
/// flight, for at most `stop.limit`, and returns.
///
/// # Errors
/// If the thread's runtime cannot be created because no descriptors are left.
pub fn run(mut setup: Setup, listener: TcpListener, stop: oneshot::Receiver<()>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let served = runtime.block_on(async {
        if setup.demo {
            tokio::spawn(demo::run(setup.requests.clone()));
        }
        tokio::spawn(purge::run());
        let metrics = metrics::registry(&setup.stats, Mode::of(&setup.settings.config));
        let (key_set, reload) = (setup.key_set.take(), Arc::clone(&setup.reload));
        let state = Arc::new(AppState::new(setup, metrics));
        if let Some(updates) = key_set {
            tokio::spawn(key_set::run(updates, Arc::clone(&state)));
        }
        tokio::spawn(reload::run(Arc::clone(&state), reload));
        tokio::spawn(watchdog::run(Arc::clone(&state.watchdog), Arc::clone(&state.lifecycle)));
        let service = serve::Service { router: router(Arc::clone(&state)), state };
        serve::serve(service, listener, stop).await
    });
    // It does not wait for a reload that reads files.
    runtime.shutdown_background();
    served
}

/// Every path of the control port. The guard is the outermost layer: a caller without permission cannot find
/// out which paths exist.
fn router(state: Arc<AppState>) -> Router {
    Router::new()
        .route("/", get(page::document))
        .route("/order.html", get(page::example))
        .route("/page.json", get(page::settings))
        .route("/page/{asset}", get(page::asset))
        .route("/metrics", get(metrics::scrape))
        // HAProxy's checks ask by OPTIONS where nobody says otherwise.
        .route("/health", get(health::ready).options(health::ready))
        .route("/health/ready", get(health::ready).options(health::ready))
        .route("/health/live", get(health::live).options(health::live))
        .route("/api/{method}", any(api::answer))
        .fallback(page::not_found)
        .layer(from_fn(page::headers))
        .layer(from_fn_with_state(Arc::clone(&state), guard::admit))
        .with_state(state)
}
