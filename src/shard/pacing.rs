//! What is done to everybody, but not to everybody at once: closing on a stop, and telling of a gap. Whoever
//! is told comes back at once, so the pace here is the pace of the storm that follows.

use std::time::{Duration, Instant};

use crate::domain::mail::Request;
use crate::domain::reasons::{CloseReason, UnsubscribeCode};
use crate::session::Phase;
use crate::shard::{Application, Shard, Socket};
use crate::transport::refusal::Refusal;

/// How long a subscribe may wait until a topic's other subscribers have been told of a gap: the SDKs give up after
/// 5 s, and connect anew.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A walk over all slots at a pace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    next: u32,
    per_second: u32,
    began: Option<Instant>,
    done: u64,
}

impl Walk {
    /// A walk that has met nobody yet. Few clients are met within a second, whatever the pace.
    pub(super) fn begin(per_second: u32, clients: usize) -> Self {
        let few = u32::try_from(2 * clients.min(100)).unwrap_or(0);
        Self { next: 0, per_second: per_second.max(few), began: None, done: 0 }
    }

    /// How long it takes at its pace until it has met all who may be left of so many slots.
    fn rest(&self, slots: u32) -> Duration {
        Duration::from_secs(slots.saturating_sub(self.next).into()) / self.per_second.max(1)
    }

    /// How many clients more may be met by `now`.
    fn allowance(&mut self, now: Instant) -> u64 {
        let began = *self.began.get_or_insert(now);
        let elapsed = now.saturating_duration_since(began).as_millis();
        let due = 1 + u64::try_from(elapsed).unwrap_or(u64::MAX) * u64::from(self.per_second) / 1000;
        due - self.done.min(due)
    }
}

impl<S: Socket, A: Application> Shard<S, A> {
    /// Goes on with the walks that are under way.
    pub(super) fn walk(&mut self, now: Instant) {
        if let Some(mut walk) = self.drain {
            self.drain_some(&mut walk, now);
            self.drain = Some(walk);
            self.report_the_end();
        }
        if let Some(mut walk) = self.gap {
            let ended = self.tell_some_of_the_gap(&mut walk, now);
            self.gap = (!ended).then_some(walk);
        }
    }

    /// Publications may be missing: everybody who subscribes to anything is to be told. A gap within a gap
    /// begins again, for those who were told and are back.
    pub(super) fn begin_gap(&mut self) {
        self.gap = Some(Walk::begin(self.gaps_per_second, self.clients.len()));
    }

    /// Whether it takes long until everybody has been told of a gap, for somebody who waits for that.
    pub(super) fn gap_lasts(&self) -> bool {
        self.gap.is_some_and(|walk| walk.rest(self.clients.slots()) > TIMEOUT)
    }

    fn drain_some(&mut self, walk: &mut Walk, now: Instant) {
        let mut allowance = walk.allowance(now);
        while allowance > 0 && walk.next < self.clients.slots() {
            let slot = walk.next;
            walk.next += 1;
            let Some(client) = self.clients.living(slot) else { continue };
            match client.session.phase {
                Phase::Upgrading => self.refuse(slot, Refusal::Stopping, b""),
                Phase::Open => self.close(slot, CloseReason::Shutdown),
                Phase::Closing => continue,
            }
            walk.done += 1;
            allowance -= 1;
        }
    }

    fn report_the_end(&mut self) {
        if self.clients.is_empty() && !self.drained {
            self.drained = self.requests.send(Request::Drained { shard: self.id }).is_ok();
            self.faults.tell_the_rest();
        }
    }

    /// Tells the next ones; whether it has been round.
    fn tell_some_of_the_gap(&mut self, walk: &mut Walk, now: Instant) -> bool {
        let mut allowance = walk.allowance(now);
        while allowance > 0 && walk.next < self.clients.slots() {
            let slot = walk.next;
            walk.next += 1;
            let Some(client) = self.clients.living(slot) else { continue };
            if !client.subscriptions.as_slice().is_empty() {
                self.tell_of_the_gap(slot);
                walk.done += 1;
                allowance -= 1;
            }
        }
        walk.next >= self.clients.slots()
    }

    fn tell_of_the_gap(&mut self, slot: u32) {
        let topics: Vec<_> =
            self.clients[slot].subscriptions.as_slice().iter().map(|one| one.topic).collect();
        for topic in topics {
            if !self.clients[slot].dead {
                self.stats.gaps_told.add(1);
                self.end_subscription(slot, topic, UnsubscribeCode::InsufficientState);
            }
        }
    }
}
