//! Logs what clients do wrong: one line per interval for each kind, and one with how many more there were. So every
//! refusal leaves a trace, and no peer can fill a disk.

use std::fmt::Display;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::base::log_limiter::RateLimits;
use crate::base::printable::cut;
use crate::domain::reasons::CloseReason;
use crate::net::stream::Stream;
use crate::shard::Shard;
use crate::transport::Transport;
use crate::transport::refusal::Refusal;
use crate::transport::upgrade::describe;

/// The interval between two lines of a kind.
const INTERVAL: Duration = Duration::from_secs(10);

/// Characters of a fault at most: some of them are the client's.
const FAULT_MAX: usize = 200;

/// Characters of an origin at most.
const ORIGIN_MAX: usize = 100;

/// The limits on lines of each kind.
#[derive(Debug)]
pub(super) struct FaultLog {
    refusals: RateLimits,
    closes: RateLimits,
}

impl Default for FaultLog {
    fn default() -> Self {
        Self { refusals: RateLimits::new(INTERVAL), closes: RateLimits::new(INTERVAL) }
    }
}

impl FaultLog {
    /// When lines that were suppressed are to be counted in the log.
    pub(super) fn due(&self) -> Option<Instant> {
        self.refusals.due().into_iter().chain(self.closes.due()).min()
    }

    /// Logs how many lines were suppressed, for each kind whose interval is over.
    pub(super) fn log_suppressed(&mut self, now: Instant) {
        for (reason, more_since_last) in self.refusals.pass(now) {
            tracing::warn!(reason, more_since_last, "more connections were refused");
        }
        for (reason, more_since_last) in self.closes.pass(now) {
            tracing::warn!(reason, more_since_last, "more clients were closed for what they did");
        }
    }

    /// Logs all that is left, before the shard ends.
    pub(super) fn log_all_suppressed(&mut self) {
        while let Some(due) = self.due() {
            self.log_suppressed(due);
        }
    }
}

impl<S: Stream, T: Transport> Shard<S, T> {
    /// Logs that a request did not become a client. `head` is as much of it as has arrived.
    pub(super) fn log_refusal(
        &mut self,
        peer: Option<SocketAddr>,
        refusal: Refusal,
        head: &[u8],
        fault: &dyn Display,
    ) {
        // On a stop all are refused, and the stop is logged.
        if refusal == Refusal::Stopping {
            return;
        }
        let now = self.timers.instant();
        let Some(more_since_last) = self.faults.refusals.allow(refusal.label(), now) else { return };
        let request = describe(head);
        let fault = cut(fault.to_string().as_bytes(), FAULT_MAX);
        tracing::warn!(
            peer = peer.map(display),
            origin = request.origin,
            path = request.path,
            reason = refusal.label(),
            status = refusal.status(),
            fault = (!fault.is_empty()).then_some(fault),
            told = refusal.text(),
            more_since_last,
            "a connection was refused"
        );
    }

    /// Logs that a client was closed because it broke the protocol or a limit, and whether a close frame tells it.
    pub(super) fn log_close(&mut self, slot: u32, reason: CloseReason, fault: &dyn Display, is_told: bool) {
        if !reason.is_clients_fault() {
            return;
        }
        let now = self.timers.instant();
        let Some(more_since_last) = self.faults.closes.allow(reason.label(), now) else { return };
        let origin = self.clients[slot].origin().map(|id| cut(self.origins.get(id), ORIGIN_MAX));
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
            "a client broke the protocol or a limit, and was closed"
        );
    }
}
