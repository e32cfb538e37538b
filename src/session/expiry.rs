//! When connections and subscriptions expire, and the present that this is measured from.
//!
//! A token says in Unix time when something expires. That is translated once, when the token is shown, so that a clock that
//! somebody sets later neither closes clients nor keeps them.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::base::clock::UnixTime;
use crate::base::moment::{GRAIN, Moment};

/// The present, on both clocks of a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For time-outs.
    pub moment: Moment,
    /// For times that tokens state.
    pub unix: UnixTime,
}

/// From one question about what has expired to the next, at least: the backend's clock may be behind.
const ASKED_APART: Duration = Duration::from_secs(1);

/// Who prolongs what expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renewal {
    /// The client, by another token.
    Client,
    /// Nobody.
    Nobody,
    /// The application's backend, which is asked when it has expired.
    Backend,
    /// The backend, which has been asked.
    Asked,
}

/// When something expires, and who prolongs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) expires: Moment,
    pub(super) renewal: Renewal,
}

impl End {
    /// That of what a backend has prolonged until `time`: at least for [`ASKED_APART`].
    pub(super) fn prolonged(time: UnixTime, renewal: Renewal, now: Now) -> Self {
        Self { expires: now.moment_of(time).max(now.moment.after(ASKED_APART)), renewal }
    }

    /// When something is to be done about it: `grace` later than it expires, unless the application's backend is to be asked.
    /// `None`: an answer is awaited.
    pub(super) fn due(self, grace: Duration) -> Option<Moment> {
        match self.renewal {
            Renewal::Client | Renewal::Nobody => Some(self.expires.after(grace)),
            Renewal::Backend => Some(self.expires),
            Renewal::Asked => None,
        }
    }

    /// Whether the application's backend is to be asked when it has expired.
    pub(super) fn asks_backend(self) -> bool {
        self.renewal == Renewal::Backend
    }

    /// Whether the application's backend has been asked, and has not answered.
    pub(super) fn is_asked(self) -> bool {
        self.renewal == Renewal::Asked
    }

    /// When the client is to send another token, if it has to.
    pub(super) fn told(self) -> Option<Moment> {
        (self.renewal == Renewal::Client).then_some(self.expires)
    }
}

impl Now {
    /// The moment at which it will be `time`. A time that has passed is the present.
    pub(super) fn moment_of(self, time: UnixTime) -> Moment {
        self.moment.after(Duration::from_micros(time.micros_since(self.unix)))
    }

    /// Whole seconds until a moment, which SDKs plan their next token by. They take 0 for "never", so it is at least 1.
    pub(super) fn seconds_until(self, moment: Moment) -> NonZeroU32 {
        let left = GRAIN * moment.grains().saturating_sub(self.moment.grains());
        let seconds = (left + Duration::from_millis(500)).as_secs();
        u32::try_from(seconds).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_a_token_is_a_moment_and_some_seconds() {
        let now = Now { moment: Moment::from_grains(1000), unix: UnixTime::from_micros(2_000_000_000_000) };
        for (micros, grains, seconds) in [
            (0, 1000, 1),
            (2_000_000_000_000, 1000, 1),
            (2_000_000_001_000, 1001, 1),
            (2_000_001_000_000, 1016, 1),
            (2_000_060_000_000, 1938, 60),
            (2_003_600_000_000, 57_250, 3600),
            (u64::MAX, u32::MAX, 274_877_843),
        ] {
            let moment = now.moment_of(UnixTime::from_micros(micros));
            assert_eq!((moment.grains(), now.seconds_until(moment).get()), (grains, seconds), "{micros}");
        }
    }
}
