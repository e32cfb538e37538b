//! The clocks of the host. The time of day is read here alone.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A time of day, in microseconds since the beginning of 1970 (UTC).
///
/// It follows the clock of the host, and so may jump in both directions when somebody sets that clock: time-outs are
/// measured with an [`Instant`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixTime(u64);

impl UnixTime {
    /// The clock of the host. Before 1970 it is 1970.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    /// The time so many microseconds after the beginning of 1970.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Whole seconds since 1970.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Seconds since 1970, with the microseconds.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        Duration::from_micros(self.0).as_secs_f64()
    }

    /// Microseconds from `earlier` to this time; 0 if that is later.
    #[must_use]
    pub const fn micros_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The time `length` earlier, if that is not before 1970.
    #[must_use]
    pub fn checked_sub(self, length: Duration) -> Option<Self> {
        let micros = u64::try_from(length.as_micros()).ok()?;
        self.0.checked_sub(micros).map(Self)
    }
}

impl From<UnixTime> for SystemTime {
    fn from(time: UnixTime) -> Self {
        UNIX_EPOCH + Duration::from_micros(time.0)
    }
}

/// One reading of both clocks of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// For time-outs and everything else that is measured from one event to another.
    pub monotonic: Instant,
    /// For times that others have stated, or are told.
    pub unix: UnixTime,
}

impl Clock {
    /// Reads both.
    #[must_use]
    pub fn now() -> Self {
        Self { monotonic: Instant::now(), unix: UnixTime::now() }
    }

    /// The reading that is `length` later on both. Simulated time passes so.
    #[must_use]
    pub fn after(self, length: Duration) -> Self {
        let micros = u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
        Self { monotonic: self.monotonic + length, unix: UnixTime(self.unix.0.saturating_add(micros)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unix_time_counts_from_1970() {
        let before = SystemTime::now();
        let now = Clock::now().unix;
        let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_micros();
        assert!((since(before)..=since(SystemTime::now())).contains(&now.as_micros().into()), "{now:?}");
        assert_eq!(since(now.into()), now.as_micros().into());
        let time = UnixTime::from_micros(2_000_001);
        assert_eq!((time.as_secs(), time.as_micros()), (2, 2_000_001));
        assert!((time.as_secs_f64() - 2.000_001).abs() < 1e-9, "{time:?}");
        assert_eq!(time.micros_since(UnixTime::from_micros(1)), 2_000_000);
        assert_eq!(UnixTime::from_micros(1).micros_since(time), 0);
        assert_eq!(time.checked_sub(Duration::from_secs(2)), Some(UnixTime::from_micros(1)));
        assert_eq!(time.checked_sub(Duration::from_secs(3)), None);
    }

    #[test]
    fn both_clocks_go_on_together() {
        let now = Clock::now();
        let later = now.after(Duration::from_micros(1_500_000));
        assert_eq!(later.monotonic - now.monotonic, Duration::from_millis(1500));
        assert_eq!(later.unix.as_micros() - now.unix.as_micros(), 1_500_000);
    }
}
