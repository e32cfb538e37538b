//! The limit on clients of a node, counted over all its shards. It is exact, however connections are spread
//! over shards.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Refused connections that are answered with 503 at the same time. Further ones are closed without an
/// answer, because each holds a descriptor.
const REFUSALS_MAX: usize = 32;

/// The places for clients: one value for all shards, changed once when a client connects and once when it
/// leaves.
#[derive(Debug)]
pub struct Capacity {
    limit: usize,
    taken: AtomicUsize,
    refusals: AtomicUsize,
}

impl Capacity {
    /// Places for `limit` clients.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { limit, taken: AtomicUsize::new(0), refusals: AtomicUsize::new(0) }
    }

    /// Takes a place for a client. Returns false if there is none.
    #[must_use]
    pub fn take(&self) -> bool {
        take_below(&self.taken, self.limit)
    }

    /// Gives a client's place back.
    pub fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether all places are taken.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.taken.load(Ordering::Relaxed) >= self.limit
    }

    /// Whether no more than a twentieth of the places is free.
    #[must_use]
    pub fn is_nearly_full(&self) -> bool {
        self.limit.saturating_sub(self.taken.load(Ordering::Relaxed)) <= self.limit.div_ceil(20)
    }

    /// Takes a place for a connection that will be refused. Returns false if there is none.
    #[must_use]
    pub fn take_refusal(&self) -> bool {
        take_below(&self.refusals, REFUSALS_MAX)
    }

    /// Gives the place of a refused connection back.
    pub fn give_refusal_back(&self) {
        self.refusals.fetch_sub(1, Ordering::Relaxed);
    }
}

fn take_below(counter: &AtomicUsize, limit: usize) -> bool {
    let more = |taken| (taken < limit).then_some(taken + 1);
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_come_in_as_there_are_places_from_whatever_thread() {
        let capacity = Capacity::new(500);
        let taken = || (0..400).filter(|_| capacity.take()).count();
        let all: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(taken)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!(all == 500 && capacity.is_full());
        capacity.give_back();
        assert!(!capacity.is_full() && capacity.take() && !capacity.take());
    }

    #[test]
    fn few_are_refused_at_the_same_time() {
        let capacity = Capacity::new(0);
        assert!(capacity.is_full() && !capacity.take());
        assert_eq!((0..100).filter(|_| capacity.take_refusal()).count(), REFUSALS_MAX);
        capacity.give_refusal_back();
        assert!(capacity.take_refusal() && !capacity.take_refusal());
    }
}
