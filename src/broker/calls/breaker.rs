//! Leaves a backend alone that has failed too often: a circuit breaker. Pure: time is an argument.
//!
//! After so many failures in a row the backend is *suspended*: calls are refused at once, for a second. Then one call is let
//! through, the *probe*. If it fails too, the backend is left alone for twice as long, for [`PAUSE_MAX`] at most. Any answer
//! of the backend, to the probe or to a call that was sent before, ends the suspension.

use std::time::{Duration, Instant};

use crate::domain::call::Sign;

/// How long a backend is left alone the first time.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// How long it is left alone at most.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The state of one backend.
#[derive(Debug)]
pub(super) struct Breaker {
    /// Failures in a row that suspend it; 0: none do.
    failures_max: u32,
    /// Failures since it answered last.
    failures: u32,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Trusted,
    /// It is left alone until then, which was so long.
    Suspended {
        until: Instant,
        pause: Duration,
    },
    /// The call of this number was let through.
    Probed {
        probe: u64,
        pause: Duration,
    },
}

/// What has become of a backend's suspension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It is suspended, after so many failures in a row.
    Suspended(u32),
    /// It is not suspended any more.
    Resumed,
}

impl Breaker {
    /// A backend that nothing is known of. `failures_max`: failures in a row that suspend it; 0: none do.
    pub(super) fn new(failures_max: u32) -> Self {
        Self { failures_max, failures: 0, state: State::Trusted }
    }

    /// Sets the failures of [`Self::new`]. Returns whether that ends a suspension.
    pub(super) fn set_failures_max(&mut self, failures_max: u32) -> Option<Change> {
        self.failures_max = failures_max;
        if failures_max > 0 { None } else { self.resume() }
    }

    /// Whether calls are refused now, with the exception of a probe.
    pub(super) fn is_suspended(&self) -> bool {
        self.state != State::Trusted
    }

    /// Whether no call may be sent.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Suspended { .. })
    }

    /// Whether a call may begin. During a suspension, the one that may is the probe.
    pub(super) fn admits(&mut self, number: u64, now: Instant) -> bool {
        match self.state {
            State::Trusted => true,
            State::Suspended { until, pause } if until <= now => {
                self.state = State::Probed { probe: number, pause };
                true
            }
            State::Suspended { .. } | State::Probed { .. } => false,
        }
    }

    /// Takes note of the end of a call.
    pub(super) fn take(&mut self, number: u64, sign: Sign, now: Instant) -> Option<Change> {
        match sign {
            Sign::Works => {
                self.failures = 0;
                self.resume()
            }
            Sign::Fails => {
                self.failures = self.failures.saturating_add(1);
                self.fail(number, now)
            }
            Sign::None => {
                // The next call is the probe instead.
                if let State::Probed { probe, pause } = self.state
                    && probe == number
                {
                    self.state = State::Suspended { until: now, pause };
                }
                None
            }
        }
    }

    fn resume(&mut self) -> Option<Change> {
        let before = std::mem::replace(&mut self.state, State::Trusted);
        (before != State::Trusted).then_some(Change::Resumed)
    }

    fn fail(&mut self, number: u64, now: Instant) -> Option<Change> {
        match self.state {
            State::Trusted if self.failures_max > 0 && self.failures >= self.failures_max => {
                self.suspend(PAUSE_MIN, now);
                Some(Change::Suspended(self.failures))
            }
            State::Probed { probe, pause } if probe == number => {
                self.suspend((2 * pause).min(PAUSE_MAX), now);
                None
            }
            _ => None,
        }
    }

    fn suspend(&mut self, pause: Duration, now: Instant) {
        self.state = State::Suspended { until: now + pause, pause };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    /// A breaker that has just been suspended.
    fn suspended(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(2);
        assert_eq!(breaker.take(1, Sign::Fails, now), None);
        assert_eq!(breaker.take(2, Sign::Fails, now), Some(Change::Suspended(2)));
        breaker
    }

    #[test]
    fn failures_count_only_in_a_row() {
        let (mut breaker, now) = (Breaker::new(2), Instant::now());
        for sign in [Sign::Fails, Sign::Works, Sign::Fails, Sign::Works, Sign::Fails] {
            assert_eq!(breaker.take(1, sign, now), None);
        }
        assert_eq!(breaker.take(1, Sign::None, now), None, "this says nothing");
        assert!(breaker.admits(9, now) && !breaker.is_suspended());
        assert_eq!(breaker.take(1, Sign::Fails, now), Some(Change::Suspended(2)));
        assert!(breaker.is_suspended() && breaker.is_open());
    }

    #[test]
    fn a_suspension_ends_with_a_probe_that_is_answered() {
        let now = Instant::now();
        let mut breaker = suspended(now);
        assert!(!breaker.admits(3, now + second(1) / 2));
        assert!(breaker.admits(4, now + second(1)));
        assert!(!breaker.admits(5, now + second(9)), "one at a time");
        assert!(breaker.is_suspended() && !breaker.is_open());
        assert_eq!(breaker.take(4, Sign::Works, now), Some(Change::Resumed));
        assert!(breaker.admits(6, now) && !breaker.is_suspended());
        assert_eq!(breaker.take(7, Sign::Fails, now), None, "counting begins anew");
    }

    #[test]
    fn pauses_double_up_to_a_limit() {
        let mut now = Instant::now();
        let mut breaker = suspended(now);
        for (number, pause) in (10..).zip([1, 2, 4, 8, 16, 30, 30]) {
            assert!(!breaker.admits(number, now + second(pause) - second(1) / 2), "{pause}");
            now += second(pause);
            assert!(breaker.admits(number, now), "{pause}");
            assert_eq!(breaker.take(1, Sign::Fails, now), None, "sent before, and no probe");
            assert!(!breaker.admits(99, now));
            assert_eq!(breaker.take(number, Sign::Fails, now), None);
        }
    }

    #[test]
    fn a_probe_that_says_nothing_is_followed_by_another() {
        let now = Instant::now();
        let mut breaker = suspended(now);
        assert!(breaker.admits(3, now + second(1)));
        assert_eq!(breaker.take(3, Sign::None, now + second(2)), None);
        assert!(breaker.is_open() && breaker.admits(4, now + second(2)));
    }

    #[test]
    fn an_answer_to_a_call_that_was_sent_before_ends_a_suspension() {
        let now = Instant::now();
        assert_eq!(suspended(now).take(1, Sign::Works, now), Some(Change::Resumed));
    }

    #[test]
    fn without_a_number_of_failures_nobody_is_suspended() {
        let (mut breaker, now) = (Breaker::new(0), Instant::now());
        (0..100).for_each(|number| assert_eq!(breaker.take(number, Sign::Fails, now), None));
        let mut breaker = suspended(now);
        assert_eq!(breaker.set_failures_max(0), Some(Change::Resumed));
        assert!(breaker.admits(1, now));
        assert_eq!(breaker.set_failures_max(5), None);
    }
}
