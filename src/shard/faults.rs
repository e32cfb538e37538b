//! What clients do wrong, in the log: one line per interval for each kind, so that nobody is refused without a
//! trace, and nobody can fill a disk.

use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use crate::printable::cut;
use crate::protocol::codes::CloseReason;
use crate::ratelimit::RateLimit;
use crate::shard::{Application, Shard, Socket};
use crate::wire::refusal::Refusal;
use crate::wire::upgrade::describe;

/// How long a shard says nothing more of a kind.
const INTERVAL: Duration = Duration::from_secs(10);

/// Characters of what the client did: some of it are its own.
const FAULT_MAX: usize = 200;

/// Characters of the origin.
const ORIGIN_MAX: usize = 100;

/// When each kind was said last.
#[derive(Debug)]
pub(super) struct FaultLog {
    refusals: [RateLimit; Refusal::ALL.len()],
    closes: [RateLimit; CloseReason::ALL.len()],
}

impl Default for FaultLog {
    fn default() -> Self {
        Self {
            refusals: std::array::from_fn(|_| RateLimit::new(INTERVAL)),
            closes: std::array::from_fn(|_| RateLimit::new(INTERVAL)),
        }
    }
}

impl<S: Socket, A: Application> Shard<S, A> {
    /// Says that a request did not become a client; `head` is what has come of it.
    pub(super) fn log_refusal(&mut self, peer: Option<SocketAddr>, refusal: Refusal, head: &[u8]) {
        // A stop refuses everybody, and says so itself.
        if refusal == Refusal::Stopping {
            return;
        }
        let now = self.deadlines.instant();
        let Some(unsaid) = self.faults.refusals[refusal as usize].allow(now) else { return };
        let request = describe(head);
        tracing::warn!(
            peer = peer.map(tracing::field::display),
            origin = request.origin,
            path = request.path,
            reason = refusal.label(),
            status = refusal.status(),
            told = refusal.text(),
            unsaid,
            "a connection was refused"
        );
    }

    /// Says that a client was closed for what it did.
    pub(super) fn log_close(&mut self, slot: u32, reason: CloseReason, fault: &dyn Display) {
        if !reason.is_clients_fault() {
            return;
        }
        let now = self.deadlines.instant();
        let Some(unsaid) = self.faults.closes[reason as usize].allow(now) else { return };
        let origin = self.clients[slot].origin.map(|id| cut(self.origins.get(id), ORIGIN_MAX));
        let fault = cut(fault.to_string().as_bytes(), FAULT_MAX);
        tracing::warn!(
            peer = self.clients[slot].socket.peer().map(tracing::field::display),
            client = %self.client_id(slot),
            origin,
            path = self.policy.upgrade.path,
            reason = reason.label(),
            fault,
            told = format_args!("{} {}", reason.code(), reason.text()),
            unsaid,
            "a client was closed for what it did"
        );
    }
}
