//! Lanes: the subscribers of a large topic in eight parts. Each lane's merging windows end at another moment, so that the
//! topic's frames leave evenly over its delay. Pure: time is an argument.

use std::time::{Duration, Instant};

use crate::domain::mail::Lane;

/// A set of lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lanes(u8);

impl Lanes {
    /// Adds one.
    pub(super) fn insert(&mut self, lane: Lane) {
        self.0 |= 1 << lane.number();
    }

    pub(super) fn contains(self, lane: Lane) -> bool {
        self.0 & (1 << lane.number()) != 0
    }

    /// Those in the set, the first one first.
    pub(super) fn iter(self) -> impl Iterator<Item = Lane> {
        Lane::ALL.into_iter().filter(move |&lane| self.contains(lane))
    }

    /// Whether the topic has a crowd of subscribers: those of other topics are all in the first lane.
    pub(super) fn are_several(self) -> bool {
        self.0.count_ones() > 1
    }
}

impl FromIterator<Lane> for Lanes {
    fn from_iter<I: IntoIterator<Item = Lane>>(lanes: I) -> Self {
        let mut set = Self::default();
        lanes.into_iter().for_each(|lane| set.insert(lane));
        set
    }
}

/// When the windows of a crowd's lanes end. The first windows of all lanes last the whole delay, so that publications
/// within the delay after a pause leave in one frame. After that, each lane's windows end a delay apart, and those of
/// neighbouring lanes an eighth of the delay apart. After a pause of two delays this begins anew.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rhythm {
    began: Instant,
    /// When the latest line came.
    latest: Instant,
}

impl Rhythm {
    /// With a line at `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, latest: now }
    }

    /// A line came at `now`.
    pub(super) fn line(&mut self, delay: Duration, now: Instant) {
        if now.saturating_duration_since(self.latest) >= 2 * delay {
            self.began = now;
        }
        self.latest = now;
    }

    /// When a window of `lane` ends that begins at `now`, the time of the latest line: within `delay`.
    pub(super) fn window_end(&self, lane: Lane, delay: Duration, now: Instant) -> Instant {
        let passed = now.saturating_duration_since(self.began);
        if passed.is_zero() {
            return now + delay;
        }
        let offset = delay * u32::from(lane.number()) / u32::from(Lane::COUNT);
        let into_period = (passed + delay - offset).as_nanos() % delay.as_nanos();
        now + delay
            - Duration::from_nanos(u64::try_from(into_period).expect("less than a delay, at most a day"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_millis(800);

    fn ends(rhythm: &Rhythm, start: Instant, now: u64) -> [u128; 8] {
        let now = start + Duration::from_millis(now);
        Lane::ALL.map(|lane| (rhythm.window_end(lane, DELAY, now) - start).as_millis())
    }

    #[test]
    fn after_a_pause_all_lanes_wait_the_whole_delay_and_then_each_has_its_moments() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut rhythm = Rhythm::new(start);
        assert_eq!(ends(&rhythm, start, 0), [800; 8]);
        for (now, expected) in [
            (1, [800, 100, 200, 300, 400, 500, 600, 700]),
            (800, [1600, 900, 1000, 1100, 1200, 1300, 1400, 1500]),
            (1050, [1600, 1700, 1000 + 800, 1100, 1200, 1300, 1400, 1500]),
            (2649, [3200, 3300, 2600 + 800, 2700, 2800, 2900, 3000, 3100]),
        ] {
            rhythm.line(DELAY, at(now));
            assert_eq!(ends(&rhythm, start, now), expected, "at {now} ms");
        }
        rhythm.line(DELAY, at(2649 + 1599));
        assert_ne!(ends(&rhythm, start, 4248), [4248 + 800; 8], "not yet a pause");
        rhythm.line(DELAY, at(4248 + 1600));
        assert_eq!(ends(&rhythm, start, 5848), [5848 + 800; 8]);
    }

    #[test]
    fn a_set_has_what_was_put_in() {
        let set: Lanes = [Lane::ALL[5], Lane::FIRST, Lane::ALL[5]].into_iter().collect();
        assert!(set.are_several() && set.contains(Lane::FIRST) && !set.contains(Lane::ALL[1]));
        assert_eq!(set.iter().collect::<Vec<_>>(), [Lane::FIRST, Lane::ALL[5]]);
        assert!(!Lanes::from_iter([Lane::FIRST]).are_several());
    }
}
