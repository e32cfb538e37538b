//! Points in time of one thread, in a coarse unit that fits into four bytes.

use std::time::Duration;

/// The unit, and so how late a time-out may be noticed.
pub const GRAIN: Duration = Duration::from_millis(64);

/// A moment on a thread's own monotonic clock: whole grains since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u32);

impl Moment {
    /// One that never comes: the clock gets there after eight years.
    pub const LAST: Self = Self(u32::MAX);

    /// The moment that is so many grains after the start.
    #[must_use]
    pub const fn from_grains(grains: u32) -> Self {
        Self(grains)
    }

    /// Grains since the start.
    #[must_use]
    pub const fn grains(self) -> u32 {
        self.0
    }

    /// The moment `length` later, rounded up so that nothing is due too early.
    #[must_use]
    pub fn after(self, length: Duration) -> Self {
        let grains = length.as_millis().div_ceil(GRAIN.as_millis());
        Self(self.0.saturating_add(u32::try_from(grains).unwrap_or(u32::MAX)))
    }

    /// The moment `length` earlier, not before the start.
    #[must_use]
    pub fn before(self, length: Duration) -> Self {
        let grains = length.as_millis() / GRAIN.as_millis();
        Self(self.0.saturating_sub(u32::try_from(grains).unwrap_or(u32::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_never_reached_too_early() {
        let now = Moment::from_grains(1000);
        for (millis, after, before) in [(0, 1000, 1000), (1, 1001, 1000), (64, 1001, 999), (65, 1002, 999)] {
            let length = Duration::from_millis(millis);
            assert_eq!(
                (now.after(length).grains(), now.before(length).grains()),
                (after, before),
                "{millis}"
            );
        }
        assert_eq!(now.after(Duration::MAX).grains(), u32::MAX);
        assert_eq!(now.before(Duration::MAX).grains(), 0);
    }
}
