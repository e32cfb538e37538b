//! `/health`: whether to restart this node, and whether to send people and publishers to it.
//!
//! *Live* is whoever can answer at all. *Ready* means that clients are accepted and publications come in
//! and go out: not before everything has started, not once the engine was told to stop, and not while
//! RabbitMQ is away, for then publishes wait and nothing is delivered. A node whose RabbitMQ is away stays
//! live: a restart would throw its clients out and help nobody. So does one whose RabbitMQ has an alarm, and it stays
//! ready: what is in RabbitMQ is delivered, and no other node can publish either.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::envelope::json;
use super::state::{AppState, Mode};
use crate::domain::lifecycle::Phase;
use crate::stats::BackplaneState;

/// What `/health` says.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Health {
    live: bool,
    ready: bool,
    /// `ready`, `loading` while a stream is read back, `blocked` while RabbitMQ takes no publishes because of an alarm,
    /// of which it tells only when something is published,
    /// `refused` where it is there and refuses this engine, `away`, or `embedded` where there is no RabbitMQ.
    rabbitmq: &'static str,
    /// With `refused`: why, with RabbitMQ's own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Box<str>>,
    /// `starting`, `serving` or `draining`.
    phase: &'static str,
    uptime_seconds: u64,
    version: &'static str,
}

impl Health {
    fn of(state: &AppState) -> Self {
        let phase = state.lifecycle.phase();
        let connected = state.backplane() == BackplaneState::Ready;
        Self {
            live: true,
            ready: phase == Phase::Serving && connected,
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

/// `/health/live`: 200, from whoever can say so.
pub(super) async fn live(State(state): State<Arc<AppState>>) -> Response {
    json(StatusCode::OK, &Health::of(&state))
}
