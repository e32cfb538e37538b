//! How long to wait before the next attempt.

use std::time::Duration;

/// Pauses that double from a shortest to a longest, each shortened by chance so that many nodes do not come
/// back in the same moment.
#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, next: min }
    }

    /// The next pause: between half of its nominal length and all of it, as `random` says.
    pub(super) fn pause(&mut self, random: u64) -> Duration {
        let nominal = self.next;
        self.next = (nominal * 2).min(self.max);
        let permille = u32::try_from(random % 501).unwrap_or(0);
        nominal / 1000 * (1000 - permille)
    }

    /// A connection lasted so long: if that was longer than the longest pause, the pauses begin anew.
    /// Otherwise one that is lost at once, over and over, would be made anew without rest.
    pub(super) fn lived(&mut self, long: Duration) {
        if long > self.max {
            self.next = self.min;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew_after_a_good_time() {
        let seconds = Duration::from_secs;
        let mut backoff = Backoff::new(seconds(1), seconds(5));
        assert_eq!([0; 4].map(|random| backoff.pause(random)), [1, 2, 4, 5].map(seconds));
        backoff.lived(seconds(5));
        assert_eq!(backoff.pause(0), seconds(5));
        backoff.lived(seconds(6));
        assert_eq!(backoff.pause(0), seconds(1));
    }

    #[test]
    fn chance_takes_at_most_half() {
        let mut backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(10));
        let pauses: Vec<_> = (0..=500).map(|random| backoff.pause(random).as_millis()).collect();
        assert_eq!((pauses[0], pauses[500]), (10_000, 5_000));
        assert!(pauses.is_sorted_by(|a, b| a > b));
    }
}
