//! Passes over all clients at a limited rate: closing them on a stop, and ending their subscriptions after a gap. Such
//! clients come back at once, so this is the pace of the storm that follows.

use std::time::{Duration, Instant};

use crate::config::Stop;
use crate::domain::mail::Request;
use crate::domain::reasons::{CloseReason, UnsubscribeCode};
use crate::net::stream::Stream;
use crate::shard::Shard;
use crate::transport::refusal::Refusal;
use crate::transport::{Phase, Transport};

/// How long a subscribe may wait until all subscribers have been told of a gap. SDKs give up after 5 s.
const SUBSCRIBE_WAIT_MAX: Duration = Duration::from_secs(2);

/// What is being done to all clients, at a limited rate.
#[derive(Debug)]
pub(super) struct Pacing {
    /// Closes all clients.
    drain: Option<PacedPass>,
    /// All clients have been closed, and the broker has been told.
    is_drained: bool,
    /// Ends all subscriptions after a gap, so that the clients subscribe again and recover.
    resync: Option<PacedPass>,
    rates: Stop,
    /// How many shards share the rates.
    shards: u32,
}

impl Pacing {
    /// Nothing is being done. The rates are of the whole engine, and its `shards` share them.
    pub(super) fn new(rates: &Stop, shards: u16) -> Self {
        let (rates, shards) = (rates.clone(), u32::from(shards.max(1)));
        Self { drain: None, is_drained: false, resync: None, rates, shards }
    }

    /// Passes that begin from now on have these rates.
    pub(super) fn set_rates(&mut self, rates: &Stop) {
        self.rates = rates.clone();
    }

    fn clients_per_second(&self) -> u32 {
        (self.rates.clients_per_second / self.shards).max(1)
    }

    fn gaps_per_second(&self) -> u32 {
        (self.rates.gaps_per_second / self.shards).max(1)
    }

    /// Whether a pass is not finished.
    pub(super) fn is_active(&self) -> bool {
        self.drain.is_some() || self.resync.is_some()
    }

    /// Whether all clients are being closed, or have been.
    pub(super) fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// Whether all clients have been closed and the broker knows.
    pub(super) fn is_drained(&self) -> bool {
        self.is_drained
    }
}

/// One pass over all client slots at a limited rate.
#[derive(Clone, Copy, Debug)]
struct PacedPass {
    next: u32,
    per_second: u32,
    began: Option<Instant>,
    done: u64,
}

impl PacedPass {
    /// A pass that begins. A few clients are reached within a second, whatever the rate.
    fn begin(per_second: u32, clients: usize) -> Self {
        let few = u32::try_from(2 * clients.min(100)).unwrap_or(0);
        Self { next: 0, per_second: per_second.max(few), began: None, done: 0 }
    }

    /// How long it takes at most to reach the rest of so many slots.
    fn rest(&self, slots: u32) -> Duration {
        Duration::from_secs(slots.saturating_sub(self.next).into()) / self.per_second.max(1)
    }

    /// How many more clients may be reached by `now`.
    fn allowance(&mut self, now: Instant) -> u64 {
        let began = *self.began.get_or_insert(now);
        let elapsed = now.saturating_duration_since(began).as_millis();
        let due = 1 + u64::try_from(elapsed).unwrap_or(u64::MAX) * u64::from(self.per_second) / 1000;
        due - self.done.min(due)
    }
}

impl<S: Stream, T: Transport> Shard<S, T> {
    /// Continues the passes over all clients.
    pub(super) fn continue_passes(&mut self, now: Instant) {
        if let Some(mut pass) = self.pacing.drain {
            self.drain_some(&mut pass, now);
            self.pacing.drain = Some(pass);
            self.report_drained();
        }
        if let Some(mut pass) = self.pacing.resync {
            let has_ended = self.resync_some(&mut pass, now);
            self.pacing.resync = (!has_ended).then_some(pass);
        }
    }

    /// Begins to close all clients.
    pub(super) fn begin_drain(&mut self) {
        self.pacing.drain = Some(PacedPass::begin(self.pacing.clients_per_second(), self.clients.len()));
    }

    /// Publications may be missing: begins to end all subscriptions, so that clients subscribe again and recover. A gap
    /// during such a pass begins it again, as some clients have already returned.
    pub(super) fn begin_resync(&mut self) {
        self.pacing.resync = Some(PacedPass::begin(self.pacing.gaps_per_second(), self.clients.len()));
    }

    /// Whether that takes longer than a subscribe may wait.
    pub(super) fn resync_takes_long(&self) -> bool {
        self.pacing.resync.is_some_and(|pass| pass.rest(self.clients.slots()) > SUBSCRIBE_WAIT_MAX)
    }

    fn drain_some(&mut self, pass: &mut PacedPass, now: Instant) {
        let mut allowance = pass.allowance(now);
        while allowance > 0 && pass.next < self.clients.slots() {
            let slot = pass.next;
            pass.next += 1;
            let Some(client) = self.clients.get(slot) else { continue };
            match client.transport.phase() {
                Phase::Upgrading => self.refuse(slot, Refusal::Stopping, b""),
                Phase::Open => self.close(slot, CloseReason::Shutdown),
                Phase::Closing => continue,
            }
            pass.done += 1;
            allowance -= 1;
        }
    }

    fn report_drained(&mut self) {
        if self.clients.is_empty() && !self.pacing.is_drained {
            self.pacing.is_drained =
                self.broker.requests.send(Request::Drained { shard: self.identity.shard });
            self.faults.log_all_suppressed();
        }
    }

    /// Ends the subscriptions of the next clients. Returns whether all slots have been reached.
    fn resync_some(&mut self, pass: &mut PacedPass, now: Instant) -> bool {
        let mut allowance = pass.allowance(now);
        while allowance > 0 && pass.next < self.clients.slots() {
            let slot = pass.next;
            pass.next += 1;
            let Some(client) = self.clients.get(slot) else { continue };
            if !client.subscriptions.as_slice().is_empty() {
                self.resync(slot);
                pass.done += 1;
                allowance -= 1;
            }
        }
        pass.next >= self.clients.slots()
    }

    fn resync(&mut self, slot: u32) {
        let topics: Vec<_> =
            self.clients[slot].subscriptions.as_slice().iter().map(|one| one.topic).collect();
        for topic in topics {
            if !self.clients[slot].has_ended() {
                self.stats.gaps_told.add(1);
                self.end_subscription(slot, topic, UnsubscribeCode::InsufficientState);
            }
        }
    }
}
