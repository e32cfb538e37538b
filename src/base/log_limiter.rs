//! Limits log lines to one per interval, for events whose rate a peer decides.

use std::time::{Duration, Instant};

/// Allows one event per interval, and counts those that it suppresses.
#[derive(Debug)]
pub struct RateLimit {
    interval: Duration,
    last: Option<Instant>,
    unsaid: u64,
}

impl RateLimit {
    /// A limiter that has allowed nothing yet.
    #[must_use]
    pub const fn new(interval: Duration) -> Self {
        Self { interval, last: None, unsaid: 0 }
    }

    /// Whether this event may be logged. If so, how many were suppressed since the last one.
    pub fn allow(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < self.interval) {
            self.unsaid += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }

    /// When [`Self::rest`] has something to report, if events were suppressed.
    fn due(&self) -> Option<Instant> {
        self.last.filter(|_| self.unsaid > 0).map(|last| last + self.interval)
    }

    /// How many events were suppressed since the last one, if there are any and the interval is over.
    fn rest(&mut self, now: Instant) -> Option<u64> {
        self.due().filter(|&due| due <= now)?;
        Some(std::mem::take(&mut self.unsaid))
    }
}

/// One limiter for each kind of event, so that one kind does not hide another. Suppressed events are reported
/// when their interval ends, even if no further event comes.
#[derive(Debug)]
pub struct RateLimits {
    interval: Duration,
    kinds: Vec<(&'static str, RateLimit)>,
    /// When the first limiter has something to report.
    due: Option<Instant>,
}

impl RateLimits {
    /// Limiters that have allowed nothing yet, one for each of `kinds` kinds.
    #[must_use]
    pub const fn new(interval: Duration) -> Self {
        Self { interval, kinds: Vec::new(), due: None }
    }

    /// Whether an event of this kind may be logged. If so, how many were suppressed since the last one.
    pub fn allow(&mut self, kind: &'static str, now: Instant) -> Option<u64> {
        let at = self.kinds.iter().position(|(known, _)| *known == kind).unwrap_or_else(|| {
            self.kinds.push((kind, RateLimit::new(self.interval)));
            self.kinds.len() - 1
        });
        let more = self.kinds[at].1.allow(now);
        self.look_when_due();
        more
    }

    /// When [`Self::pass`] next has something to report.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Lets time pass. Returns each kind whose interval is over, with the number of suppressed events.
    pub fn pass(&mut self, now: Instant) -> Vec<(&'static str, u64)> {
        if self.due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        let rest = |(kind, limit): &mut (&'static str, RateLimit)| Some((*kind, limit.rest(now)?));
        let told = self.kinds.iter_mut().filter_map(rest).collect();
        self.look_when_due();
        told
    }

    fn look_when_due(&mut self) {
        self.due = self.kinds.iter().filter_map(|(_, limit)| limit.due()).min();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_limit_and_what_was_not_said_is_told_once() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut limits = RateLimits::new(Duration::from_secs(10));
        assert_eq!((limits.allow("json", at(0)), limits.due()), (Some(0), None));
        for second in [1, 2, 3] {
            assert_eq!(limits.allow("json", at(second)), None);
        }
        assert_eq!(limits.allow("binary", at(4)), Some(0), "another kind");
        assert_eq!(limits.allow("binary", at(5)), None);
        assert_eq!(limits.due(), Some(at(10)));
        assert_eq!(limits.pass(at(9)), []);
        assert_eq!(limits.pass(at(10)), [("json", 3)]);
        assert_eq!(limits.allow("json", at(11)), Some(0), "told already");
        assert_eq!(limits.due(), Some(at(14)));
        assert_eq!(limits.allow("json", at(12)), None);
        assert_eq!(limits.pass(at(30)), [("json", 1), ("binary", 1)]);
        assert_eq!((limits.pass(at(60)), limits.due()), (Vec::new(), None));
        // What comes after all of it carries what was not told.
        for (second, more) in [(61, Some(0)), (62, None), (75, Some(1))] {
            assert_eq!(limits.allow("json", at(second)), more);
        }
        assert_eq!(limits.due(), None);
    }

    #[test]
    fn one_per_interval_and_the_others_are_counted() {
        let start = Instant::now();
        let mut limit = RateLimit::new(Duration::from_secs(10));
        let said: Vec<_> =
            [0, 1, 9, 10, 11, 25].map(|second| limit.allow(start + Duration::from_secs(second))).into();
        assert_eq!(said, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
