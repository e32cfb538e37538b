//! The pause before the next attempt to connect.

use std::time::Duration;

/// Pauses that double from a shortest to a longest, each shortened by chance so that many nodes do not come
/// back in the same moment.
#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
    /// The first pause after the next loss.
    after_loss: Duration,
}

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, next: min, after_loss: min }
    }

    /// The next pause: between half of its nominal length and all of it, as `random` says.
    pub(super) fn pause(&mut self, random: u64) -> Duration {
        let nominal = self.next;
        self.next = self.doubled(nominal);
        let permille = u32::try_from(random % 501).unwrap_or(0);
        nominal / 1000 * (1000 - permille)
    }

    /// A connection was lost that lasted so long. However many attempts it took to make it, the pauses begin anew: at
    /// the shortest, unless connections were lost soon before as well. For one that is lost at once, over and over,
    /// would be made anew without rest.
    pub(super) fn lived(&mut self, long: Duration) {
        if long > self.max {
            self.after_loss = self.min;
        }
        self.next = self.after_loss;
        self.after_loss = self.doubled(self.after_loss);
    }

    fn doubled(&self, pause: Duration) -> Duration {
        (pause * 2).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_secs(1);
    const MAX: Duration = Duration::from_secs(5);

    fn pauses(backoff: &mut Backoff, count: usize) -> Vec<u64> {
        (0..count).map(|_| backoff.pause(0).as_secs()).collect()
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew_after_a_good_time() {
        let mut backoff = Backoff::new(MIN, MAX);
        assert_eq!(pauses(&mut backoff, 4), [1, 2, 4, 5]);
        backoff.lived(MAX * 2);
        assert_eq!(pauses(&mut backoff, 2), [1, 2]);
    }

    /// RabbitMQ that is back after a long time and loses its connections once more, as when it is restarted twice, is
    /// not waited for longer than one that was away for a moment.
    #[test]
    fn a_second_loss_soon_after_a_reconnect_is_not_waited_for_as_long_as_the_first_took() {
        let mut backoff = Backoff::new(MIN, MAX);
        backoff.lived(MAX * 2);
        assert_eq!(pauses(&mut backoff, 5), [1, 2, 4, 5, 5]);
        backoff.lived(MIN);
        assert_eq!(pauses(&mut backoff, 2), [2, 4]);
    }

    #[test]
    fn connections_that_are_lost_at_once_are_made_ever_more_slowly() {
        let mut backoff = Backoff::new(MIN, MAX);
        let mut lose = || {
            backoff.lived(Duration::ZERO);
            backoff.pause(0).as_secs()
        };
        assert_eq!([lose(), lose(), lose(), lose(), lose()], [1, 2, 4, 5, 5]);
        backoff.lived(MAX * 2);
        assert_eq!(pauses(&mut backoff, 1), [1]);
    }

    #[test]
    fn chance_takes_at_most_half() {
        let mut backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(10));
        let pauses: Vec<_> = (0..=500).map(|random| backoff.pause(random).as_millis()).collect();
        assert_eq!((pauses[0], pauses[500]), (10_000, 5_000));
        assert!(pauses.is_sorted_by(|a, b| a > b));
    }
}
