//! Timers of all clients of a shard: coarse, in buckets of one grain, and never a scan of all clients.
//!
//! A client has one entry that counts, at the tick that it remembers as armed. A deadline that moves later,
//! as with every pong, costs nothing: the entry fires, is found early, and is moved to its new tick. A
//! deadline that moves earlier gets a second entry, and the first is ignored when it fires.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::base::moment::{GRAIN, Moment};
use crate::domain::mail::ClientKey;

/// Buckets of the wheel. An entry for a deadline further away than `BUCKETS * GRAIN`, 65 s, fires once on the
/// way.
const BUCKETS: u32 = 1024;

/// An entry that fired.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    /// The client.
    pub client: ClientKey,
    /// The moment it was armed for, to be compared with the one that the client remembers.
    pub armed: Moment,
}

/// The wheel.
#[derive(Debug)]
pub struct TimerWheel {
    start: Instant,
    now: Moment,
    buckets: Vec<Vec<Due>>,
    due: VecDeque<Due>,
    waiting: usize,
}

impl TimerWheel {
    /// An empty wheel whose clock starts at `start`.
    #[must_use]
    pub fn new(start: Instant) -> Self {
        let buckets = (0..BUCKETS).map(|_| Vec::new()).collect();
        Self { start, now: Moment::default(), buckets, due: VecDeque::new(), waiting: 0 }
    }

    /// The present, in grains.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.now
    }

    /// The present on the caller's clock, exact to a grain.
    #[must_use]
    pub fn instant(&self) -> Instant {
        self.start + GRAIN * self.now.grains()
    }

    /// Arms `client` for `at`, and returns the moment to remember. Entries of the past fire with the next
    /// grain, entries beyond the wheel's horizon at the horizon.
    #[must_use]
    pub fn arm(&mut self, client: ClientKey, at: Moment) -> Moment {
        let now = self.now.grains();
        let armed = Moment::from_grains(at.grains().clamp(now + 1, now + BUCKETS - 1));
        self.buckets[(armed.grains() % BUCKETS) as usize].push(Due { client, armed });
        self.waiting += 1;
        armed
    }

    /// Moves the present to `now`. Due entries are then returned by [`TimerWheel::next_due`].
    pub fn advance(&mut self, now: Instant) {
        let grains = now.saturating_duration_since(self.start).as_millis() / GRAIN.as_millis();
        let now = Moment::from_grains(u32::try_from(grains).unwrap_or(u32::MAX));
        while self.now < now {
            self.now = Moment::from_grains(self.now.grains() + 1);
            let bucket = &mut self.buckets[(self.now.grains() % BUCKETS) as usize];
            self.due.extend(bucket.drain(..));
            // A burst of clients must not leave its capacity behind in every bucket it passed through.
            if bucket.capacity() > 64 {
                *bucket = Vec::new();
            }
        }
    }

    /// The next entry that is due.
    pub fn next_due(&mut self) -> Option<Due> {
        let due = self.due.pop_front();
        self.waiting -= usize::from(due.is_some());
        if self.due.is_empty() && self.due.capacity() > 1024 {
            self.due = VecDeque::new();
        }
        due
    }

    /// How long the loop may sleep: not at all while an entry is due, one grain while entries are armed.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        match (self.due.is_empty(), self.waiting) {
            (false, _) => Some(Duration::ZERO),
            (true, 0) => None,
            (true, _) => Some(self.until_next_entry()),
        }
    }

    fn until_next_entry(&self) -> Duration {
        let empty = (1..BUCKETS)
            .take_while(|ahead| self.buckets[((self.now.grains() + ahead) % BUCKETS) as usize].is_empty())
            .count();
        GRAIN * u32::try_from(empty + 1).unwrap_or(BUCKETS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(slot: u32) -> ClientKey {
        ClientKey { slot, generation: 0 }
    }

    #[test]
    fn fires_at_its_moment_and_not_before() {
        let start = Instant::now();
        let mut wheel = TimerWheel::new(start);
        for grains in [1_u32, 2, 500, 1023] {
            let _ = wheel.arm(key(grains), wheel.now().after(GRAIN * grains));
        }
        for grains in [1_u32, 2, 500, 1023] {
            wheel.advance(start + GRAIN * grains - Duration::from_millis(1));
            assert!(wheel.next_due().is_none(), "{grains}");
            wheel.advance(start + GRAIN * grains);
            assert_eq!(wheel.next_due().map(|due| due.client), Some(key(grains)));
        }
        assert_eq!(wheel.poll_timeout(), None);
    }

    #[test]
    fn beyond_the_horizon_it_fires_early_to_be_put_back() {
        let start = Instant::now();
        let mut wheel = TimerWheel::new(start);
        let at = wheel.now().after(GRAIN * 5000);
        let armed = wheel.arm(key(1), at);
        assert!(armed < at);
        wheel.advance(start + GRAIN * 1023);
        assert_eq!(wheel.next_due().map(|due| due.armed), Some(armed));
    }

    #[test]
    fn sleeps_until_the_next_entry() {
        let start = Instant::now();
        let mut wheel = TimerWheel::new(start);
        let _ = wheel.arm(key(1), wheel.now().after(GRAIN * 10));
        assert_eq!(wheel.poll_timeout(), Some(GRAIN * 10));
        wheel.advance(start + GRAIN * 10);
        assert_eq!(wheel.poll_timeout(), Some(Duration::ZERO));
    }
}
