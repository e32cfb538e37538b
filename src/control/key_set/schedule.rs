//! When the key set is fetched.

use std::time::{Duration, Instant};

use crate::auth::JWKS_CURRENT;

/// The pause after a fetch that failed, if none failed before it. It doubles with each further one.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest pause after a fetch that failed.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// When the key set is fetched: at the start, regularly, and when clients wait for a key. After a failure it is tried again
/// soon.
#[derive(Debug)]
pub(super) struct Schedule {
    refresh: Duration,
    /// When it is fetched in any case.
    next: Instant,
    /// When the latest fetch ended.
    ended: Option<Instant>,
    /// Fetches that have failed since one succeeded.
    failures: u32,
    /// How many tokens had waited for a key when the latest fetch began.
    waiting: u64,
}

impl Schedule {
    /// It is due at once, and then at least every `refresh`.
    pub(super) fn new(refresh: Duration, now: Instant) -> Self {
        Self { refresh, next: now, ended: None, failures: 0, waiting: 0 }
    }

    /// Whether it is time. `waiting`: how many tokens have waited for a key until now. They have it fetched at most every
    /// [`JWKS_CURRENT`].
    pub(super) fn is_due(&self, waiting: u64, now: Instant) -> bool {
        let is_current = self.ended.is_some_and(|ended| now < ended + JWKS_CURRENT);
        now >= self.next || (waiting != self.waiting && !is_current)
    }

    /// A fetch begins.
    pub(super) fn begin(&mut self, waiting: u64) {
        self.waiting = waiting;
    }

    /// The fetch has succeeded.
    pub(super) fn succeeded(&mut self, now: Instant) {
        self.failures = 0;
        self.ended = Some(now);
        self.next = now + self.refresh;
    }

    /// The fetch has failed.
    pub(super) fn failed(&mut self, now: Instant) {
        let pause = PAUSE_MIN.saturating_mul(1 << self.failures.min(16)).min(PAUSE_MAX).min(self.refresh);
        self.failures = self.failures.saturating_add(1);
        self.ended = Some(now);
        self.next = now + pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFRESH: Duration = Duration::from_secs(3600);

    /// A fetch that begins and ends at once.
    fn fetched(schedule: &mut Schedule, waiting: u64, now: Instant) {
        schedule.begin(waiting);
        schedule.succeeded(now);
    }

    #[test]
    fn it_is_due_at_the_start_and_regularly() {
        let start = Instant::now();
        let mut schedule = Schedule::new(REFRESH, start);
        assert!(schedule.is_due(0, start));
        fetched(&mut schedule, 0, start);
        assert!(!schedule.is_due(0, start + REFRESH - Duration::from_millis(1)));
        assert!(schedule.is_due(0, start + REFRESH));
    }

    #[test]
    fn tokens_that_wait_have_it_fetched_once_the_set_is_no_longer_current() {
        let start = Instant::now();
        let mut schedule = Schedule::new(REFRESH, start);
        fetched(&mut schedule, 0, start);
        assert!(!schedule.is_due(1, start + JWKS_CURRENT - Duration::from_millis(1)));
        let mut fetches = 0;
        // Another one every tenth of a second for a minute.
        for tenth in 0..600 {
            let now = start + Duration::from_millis(100 * tenth);
            if schedule.is_due(tenth, now) {
                fetches += 1;
                fetched(&mut schedule, tenth, now);
            }
        }
        assert_eq!(fetches, 11);
        let end = start + Duration::from_secs(120);
        assert!(schedule.is_due(599, end), "the last ones waited when the set was current");
        fetched(&mut schedule, 599, end);
        assert!(!schedule.is_due(599, end + REFRESH / 2), "nobody waits any more");
    }

    #[test]
    fn after_failures_it_is_tried_again_later_and_later() {
        let mut now = Instant::now();
        let mut schedule = Schedule::new(REFRESH, now);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            schedule.begin(0);
            schedule.failed(now);
            assert!(!schedule.is_due(0, now));
            let pause = (1..).find(|&second| schedule.is_due(0, now + Duration::from_secs(second))).unwrap();
            pauses.push(pause);
            now += Duration::from_secs(pause);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(!schedule.is_due(1, now - Duration::from_secs(56)));
        assert!(schedule.is_due(1, now - Duration::from_secs(54)), "somebody waits");
        schedule.succeeded(now);
        schedule.failed(now);
        assert!(schedule.is_due(0, now + Duration::from_secs(1)), "failures are forgotten");
        let mut frequent = Schedule::new(Duration::from_secs(10), now);
        (0..10).for_each(|_| frequent.failed(now));
        assert!(frequent.is_due(0, now + Duration::from_secs(10)));
    }
}
