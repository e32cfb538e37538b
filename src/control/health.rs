//! `/health`: tells a supervisor whether to restart this node, and a proxy whether to send clients and
//! publishers to it.
//!
//! A node is *live* if it can answer. It is *ready* if clients are accepted and publications come in and go
//! out: after everything has started, until the engine is told to stop, not while a shard hangs, not before the key set
//! has come without which nobody can connect (`jwks.url`), and not while RabbitMQ is away, because then publishes wait
//! and nothing is delivered. A node whose RabbitMQ is away stays live: a restart
//! would disconnect its clients and help nobody. A node whose RabbitMQ has an alarm stays ready: messages in
//! RabbitMQ are delivered, and no other node can publish either.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::envelope::json;
use super::state::{AppState, Mode};
use crate::domain::lifecycle::Phase;
use crate::stats::{BackendsStats, BackplaneState, Suspension};

/// The answer of `/health`.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Health {
    live: bool,
    ready: bool,
    /// `ready`; `loading` while a stream is read back; `blocked` while RabbitMQ accepts no publishes because
    /// of an alarm, which it reports only when something is published; `refused` if RabbitMQ answers and
    /// refuses this engine; `away`; or `embedded` without RabbitMQ.
    rabbitmq: &'static str,
    /// With `refused`: the reason, in RabbitMQ's own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Box<str>>,
    /// With `jwks.url`: `fetched`, or `awaited` before the key set has come.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_set: Option<&'static str>,
    /// The backends that are left alone because they fail. The node stays ready: everything else works, and a restart would
    /// not help.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    suspended_backends: Vec<SuspendedBackend>,
    /// The numbers of the shards whose loops have not turned for five seconds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hung_shards: Vec<usize>,
    /// `starting`, `serving` or `draining`.
    phase: &'static str,
    uptime_seconds: u64,
    version: &'static str,
}

/// A backend that is left alone for a while.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct SuspendedBackend {
    name: String,
    /// Since when, in seconds since 1970.
    since: u64,
    /// What failed last, as a sentence.
    last_fault: Box<str>,
}

/// Those of all backends that are left alone now.
fn suspended(backends: &BackendsStats) -> Vec<SuspendedBackend> {
    let suspended = backends.all().into_iter().filter_map(|(name, stats)| {
        let Suspension { since, last_fault } = stats.suspension()?;
        Some(SuspendedBackend { name, since, last_fault })
    });
    suspended.collect()
}

impl Health {
    fn of(state: &AppState) -> Self {
        let phase = state.lifecycle.phase();
        let connected = state.backplane() == BackplaneState::Ready;
        let hung_shards = state.watchdog.hung();
        let has_key_set = state.stats.control.key_set_time.value() > 0;
        let has_keys = has_key_set || !state.config().depends_on_key_set();
        Self {
            live: true,
            ready: phase == Phase::Serving && connected && hung_shards.is_empty() && has_keys,
            rabbitmq: match state.mode() {
                Mode::Embedded => "embedded",
                Mode::RabbitMq => match state.backplane() {
                    BackplaneState::Ready if state.rabbitmq_is_blocked() => "blocked",
                    BackplaneState::Ready => "ready",
                    BackplaneState::Loading => "loading",
                    BackplaneState::Away => "away",
                    BackplaneState::Refused => "refused",
                },
            },
            reason: state.stats.broker.refusal(),
            key_set: (!state.config().jwks.url.is_empty()).then_some(if has_key_set {
                "fetched"
            } else {
                "awaited"
            }),
            suspended_backends: suspended(&state.stats.broker.backends),
            hung_shards,
            phase: match phase {
                Phase::Starting => "starting",
                Phase::Serving => "serving",
                Phase::Draining => "draining",
            },
            uptime_seconds: state.uptime().as_secs(),
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// `/health` and `/health/ready`: 200, or 503 while this node is not ready.
pub(super) async fn ready(State(state): State<Arc<AppState>>) -> Response {
    let health = Health::of(&state);
    let status = if health.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &health)
}

/// `/health/live`: always 200.
pub(super) async fn live(State(state): State<Arc<AppState>>) -> Response {
    json(StatusCode::OK, &Health::of(&state))
}
