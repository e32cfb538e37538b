//! What clients do wrong, in the log: one line per interval for each kind, and one with how many more there were, so that
//! nobody is refused without a trace, and nobody can fill a disk.

use std::fmt::Display;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::base::log_limiter::RateLimits;
use crate::base::printable::cut;
use crate::domain::reasons::CloseReason;
use crate::net::stream::Stream;
use crate::shard::Shard;
use crate::shard::origins::{OriginId, Origins};
use crate::transport::Transport;
use crate::transport::refusal::Refusal;
use crate::transport::upgrade::describe;

/// How long a shard says nothing more of a kind.
const INTERVAL: Duration = Duration::from_secs(10);

/// Characters of what the client did: some of it are its own.
const FAULT_MAX: usize = 200;

/// Characters of the origin.
const ORIGIN_MAX: usize = 100;

/// When each kind was logged last, and whose page a client is of.
#[derive(Debug)]
pub(super) struct FaultLog {
    refusals: RateLimits,
    closes: RateLimits,
    origins: Origins,
}

impl Default for FaultLog {
    fn default() -> Self {
        Self {
            refusals: RateLimits::new(INTERVAL),
            closes: RateLimits::new(INTERVAL),
            origins: Origins::default(),
        }
    }
}

impl FaultLog {
    /// Keeps the origin of a client's page, as long as the client is there. `None` if there is no place for it.
    pub(super) fn enter_origin(&mut self, origin: &[u8]) -> Option<OriginId> {
        self.origins.enter(origin)
    }

    /// Notes that a client with this origin has gone.
    pub(super) fn leave_origin(&mut self, origin: OriginId) {
        self.origins.leave(origin);
    }

    /// When there is something to tell that was not told one by one.
    pub(super) fn due(&self) -> Option<Instant> {
        self.refusals.due().into_iter().chain(self.closes.due()).min()
    }

    /// Tells it when its time has come.
    pub(super) fn tell_of_more(&mut self, now: Instant) {
        for (reason, more_since_last) in self.refusals.pass(now) {
            tracing::warn!(reason, more_since_last, "more connections were refused");
        }
        for (reason, more_since_last) in self.closes.pass(now) {
            tracing::warn!(reason, more_since_last, "more clients were closed for what they did");
        }
    }

    /// Tells what is left, as its time will not come any more.
    pub(super) fn tell_the_rest(&mut self) {
        while let Some(due) = self.due() {
            self.tell_of_more(due);
        }
    }
}

impl<S: Stream, T: Transport> Shard<S, T> {
    /// Says that a request did not become a client; `head` is what has come of it.
    pub(super) fn log_refusal(&mut self, peer: Option<SocketAddr>, refusal: Refusal, head: &[u8]) {
        // A stop refuses everybody, and says so itself.
        if refusal == Refusal::Stopping {
            return;
        }
        let now = self.timers.instant();
        let Some(more_since_last) = self.faults.refusals.allow(refusal.label(), now) else { return };
        let request = describe(head);
        tracing::warn!(
            peer = peer.map(display),
            origin = request.origin,
            path = request.path,
            reason = refusal.label(),
            status = refusal.status(),
            told = refusal.text(),
            more_since_last,
            "a connection was refused"
        );
    }

    /// Says that a client was closed for what it did, and whether a close frame has told it, or will.
    pub(super) fn log_close(&mut self, slot: u32, reason: CloseReason, fault: &dyn Display, is_told: bool) {
        if !reason.is_clients_fault() {
            return;
        }
        let now = self.timers.instant();
        let Some(more_since_last) = self.faults.closes.allow(reason.label(), now) else { return };
        let origin = self.clients[slot].origin().map(|id| cut(self.faults.origins.get(id), ORIGIN_MAX));
        let fault = cut(fault.to_string().as_bytes(), FAULT_MAX);
        tracing::warn!(
            peer = self.clients[slot].stream.peer().map(display),
            client = %self.client_id(slot),
            origin,
            path = self.settings.policy.upgrade.path,
            reason = reason.label(),
            fault,
            told = is_told.then(|| display(format!("{} {}", reason.code(), reason.text()))),
            more_since_last,
            "a client was closed for what it did"
        );
    }
}
