//! What is done to all clients, but not to all at once: closing them on a stop, telling them of a gap, and pinging them. A
//! client that is closed or told comes back at once, so the pace here is the pace of the storm that follows.

use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::config::Stop;
use crate::domain::mail::{Request, ShardId};
use crate::domain::reasons::{CloseReason, UnsubscribeCode};
use crate::net::stream::Stream;
use crate::shard::Shard;
use crate::transport::refusal::Refusal;
use crate::transport::{Phase, Transport};

/// How long a subscribe may wait until a topic's other subscribers have been told of a gap: the SDKs give up after
/// 5 s, and connect anew.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How much earlier a first ping comes at most.
const ADVANCE_MAX: Duration = Duration::from_secs(3600);

/// What is being done to all clients, at a limited rate, and when each is pinged first.
#[derive(Debug)]
pub(super) struct Pacing {
    /// Closes all clients.
    drain: Option<PacedPass>,
    /// The broker has been told that the drain is done.
    is_drained: bool,
    /// Tells all subscribers of a gap.
    gap: Option<PacedPass>,
    clients_per_second: u32,
    gaps_per_second: u32,
    /// Spreads first pings.
    random: SmallRng,
}

impl Pacing {
    /// Nothing is being done. The rates are of the whole engine, and its `shards` share them. The number of this one alone
    /// decides when pings come: a simulation repeats it.
    pub(super) fn new(rates: &Stop, shards: u16, shard: ShardId) -> Self {
        let share = |per_second: u32| (per_second / u32::from(shards.max(1))).max(1);
        Self {
            drain: None,
            is_drained: false,
            gap: None,
            clients_per_second: share(rates.clients_per_second),
            gaps_per_second: share(rates.gaps_per_second),
            random: SmallRng::seed_from_u64(u64::from(shard)),
        }
    }

    /// How much earlier than after `interval` the next client is pinged first: up to half of it, so that clients that came
    /// together are not pinged together.
    pub(super) fn ping_advance(&mut self, interval: Duration) -> Duration {
        interval.mul_f64(self.random.random_range(0.0..0.5)).min(ADVANCE_MAX)
    }

    /// Whether a pass goes on.
    pub(super) fn is_active(&self) -> bool {
        self.drain.is_some() || self.gap.is_some()
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
    /// A pass that begins. Few clients are reached within a second, whatever the rate.
    fn begin(per_second: u32, clients: usize) -> Self {
        let few = u32::try_from(2 * clients.min(100)).unwrap_or(0);
        Self { next: 0, per_second: per_second.max(few), began: None, done: 0 }
    }

    /// How long it takes to reach all that may be left of so many slots.
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
    /// Goes on with what is being done to all clients.
    pub(super) fn go_on_pacing(&mut self, now: Instant) {
        if let Some(mut pass) = self.pacing.drain {
            self.drain_some(&mut pass, now);
            self.pacing.drain = Some(pass);
            self.report_the_end();
        }
        if let Some(mut pass) = self.pacing.gap {
            let has_ended = self.tell_some_of_the_gap(&mut pass, now);
            self.pacing.gap = (!has_ended).then_some(pass);
        }
    }

    /// Begins to close all clients.
    pub(super) fn begin_drain(&mut self) {
        self.pacing.drain = Some(PacedPass::begin(self.pacing.clients_per_second, self.clients.len()));
    }

    /// Publications may be missing: everybody who subscribes to anything is to be told. A gap within a gap
    /// begins again, for those who were told and are back.
    pub(super) fn begin_gap(&mut self) {
        self.pacing.gap = Some(PacedPass::begin(self.pacing.gaps_per_second, self.clients.len()));
    }

    /// Whether it takes long until everybody has been told of a gap, for somebody who waits for that.
    pub(super) fn gap_lasts(&self) -> bool {
        self.pacing.gap.is_some_and(|pass| pass.rest(self.clients.slots()) > TIMEOUT)
    }

    fn drain_some(&mut self, pass: &mut PacedPass, now: Instant) {
        let mut allowance = pass.allowance(now);
        while allowance > 0 && pass.next < self.clients.slots() {
            let slot = pass.next;
            pass.next += 1;
            let Some(client) = self.clients.living(slot) else { continue };
            match client.transport.phase() {
                Phase::Upgrading => self.refuse(slot, Refusal::Stopping, b""),
                Phase::Open => self.close(slot, CloseReason::Shutdown),
                Phase::Closing => continue,
            }
            pass.done += 1;
            allowance -= 1;
        }
    }

    fn report_the_end(&mut self) {
        if self.clients.is_empty() && !self.pacing.is_drained {
            self.pacing.is_drained =
                self.broker.requests.send(Request::Drained { shard: self.identity.shard });
            self.faults.tell_the_rest();
        }
    }

    /// Tells the next subscribers; true when all slots have been reached.
    fn tell_some_of_the_gap(&mut self, pass: &mut PacedPass, now: Instant) -> bool {
        let mut allowance = pass.allowance(now);
        while allowance > 0 && pass.next < self.clients.slots() {
            let slot = pass.next;
            pass.next += 1;
            let Some(client) = self.clients.living(slot) else { continue };
            if !client.subscriptions.as_slice().is_empty() {
                self.tell_of_the_gap(slot);
                pass.done += 1;
                allowance -= 1;
            }
        }
        pass.next >= self.clients.slots()
    }

    fn tell_of_the_gap(&mut self, slot: u32) {
        let topics: Vec<_> =
            self.clients[slot].subscriptions.as_slice().iter().map(|one| one.topic).collect();
        for topic in topics {
            if !self.clients[slot].is_dead() {
                self.stats.gaps_told.add(1);
                self.end_subscription(slot, topic, UnsubscribeCode::InsufficientState);
            }
        }
    }
}
