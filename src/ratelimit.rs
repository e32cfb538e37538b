//! At most one log line per interval where somebody else decides how often there is something to say.

use std::time::{Duration, Instant};

/// Lets one pass per interval, and counts the others.
#[derive(Debug)]
pub struct RateLimit {
    interval: Duration,
    last: Option<Instant>,
    unsaid: u64,
}

impl RateLimit {
    /// A limit that has let nobody pass yet.
    #[must_use]
    pub const fn new(interval: Duration) -> Self {
        Self { interval, last: None, unsaid: 0 }
    }

    /// Whether it may be said now; then, how many times it was not said since the last time.
    pub fn allow(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < self.interval) {
            self.unsaid += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_per_interval_and_the_others_are_counted() {
        let start = Instant::now();
        let mut limit = RateLimit::new(Duration::from_secs(10));
        let said: Vec<_> =
            [0, 1, 9, 10, 11, 25].map(|second| limit.allow(start + Duration::from_secs(second))).into();
        assert_eq!(said, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
