//! Times in tokens: seconds since 1970, with or without a fraction (NumericDate; RFC 7519, section 2).

use std::time::Duration;

use super::error::TokenError;
use super::fields::wrong_type;
use crate::base::clock::UnixTime;

/// The end of the year 9999. Later times are mistakes, milliseconds for example, and the token would never expire.
const LATEST: Duration = Duration::from_secs(253_402_300_799);

/// The time in a claim, from its JSON text. A time before 1970 is just after its beginning, and so the past, like it. 0
/// itself stays 0, which has a meaning of its own in `expire_at`.
pub(super) fn numeric_date(claim: &'static str, json: &str) -> Result<UnixTime, TokenError> {
    let is_number = json.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    let seconds = json.parse::<f64>().ok().filter(|_| is_number);
    let seconds = seconds.ok_or_else(|| wrong_type(claim, "a number of seconds"))?;
    if seconds == 0.0 {
        return Ok(UnixTime::default());
    }
    // Less than a microsecond is not 0 either.
    let seconds = seconds.max(0.000_001);
    let since = Duration::try_from_secs_f64(seconds).ok().filter(|since| *since <= LATEST);
    let since = since.ok_or_else(|| TokenError::TimeOutOfRange(claim.into()))?;
    Ok(UnixTime::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX)))
}

/// When something ends, by its `expire_at`: 0, or none, means never.
pub(super) fn ending(expire_at: Option<UnixTime>) -> Option<UnixTime> {
    expire_at.filter(|at| *at > UnixTime::default())
}

/// From when until when a token is valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: Option<UnixTime>,
    pub(super) expires: Option<UnixTime>,
}

impl Validity {
    /// Whether it is valid now, by clocks that may differ by `leeway`. It is not valid any more at the very time of
    /// `exp`, and it is valid at the very time of `nbf` (RFC 7519, sections 4.1.4 and 4.1.5).
    pub(super) fn check(self, now: UnixTime, leeway: Duration) -> Result<(), TokenError> {
        if let Some(end) = self.expires
            && has_passed(self.expires, now, leeway)
        {
            return Err(TokenError::Expired { seconds: now.micros_since(end) / 1_000_000 });
        }
        let (now, leeway) = (now.as_micros(), micros(leeway));
        if let Some(start) = self.not_before.map(UnixTime::as_micros)
            && now.saturating_add(leeway) < start
        {
            return Err(TokenError::NotYetValid { seconds: (start - now).div_ceil(1_000_000) });
        }
        Ok(())
    }
}

/// Whether a time has come, by clocks that may differ by `leeway`. `None` never comes.
pub(super) fn has_passed(time: Option<UnixTime>, now: UnixTime, leeway: Duration) -> bool {
    time.is_some_and(|time| now.as_micros() >= time.as_micros().saturating_add(micros(leeway)))
}

fn micros(length: Duration) -> u64 {
    u64::try_from(length.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_of_seconds_with_or_without_a_fraction() {
        let wrong = TokenError::WrongType { claim: "exp".into(), expected: "a number of seconds" };
        let far = TokenError::TimeOutOfRange("exp".into());
        for (json, time) in [
            ("0", Ok(0)),
            ("-1", Ok(1)),
            ("-1e400", Ok(1)),
            ("1e-9", Ok(1)),
            ("1764522720", Ok(1_764_522_720_000_000)),
            ("1764522720.25", Ok(1_764_522_720_250_000)),
            ("1.76452272e9", Ok(1_764_522_720_000_000)),
            ("1e-400", Ok(0)),
            ("253402300799", Ok(253_402_300_799_000_000)),
            ("253402300800", Err(&far)),
            ("1764522720000", Err(&far)),
            ("1e300", Err(&far)),
            ("1e400", Err(&far)),
            ("\"1764522720\"", Err(&wrong)),
            ("null", Err(&wrong)),
            ("true", Err(&wrong)),
            ("[1]", Err(&wrong)),
            ("inf", Err(&wrong)),
        ] {
            let read = numeric_date("exp", json);
            assert_eq!(
                read.as_ref().map(|time| time.as_micros()),
                time.as_ref().map(|time| *time).map_err(|e| *e),
                "{json}"
            );
        }
    }

    #[test]
    fn a_token_is_valid_from_nbf_and_until_exp_by_clocks_that_may_differ() {
        let at = |seconds: u64| UnixTime::from_micros(seconds * 1_000_000);
        let validity = Validity { not_before: Some(at(100)), expires: Some(at(200)) };
        let leeway = Duration::from_secs(60);
        for (now, strict, lenient) in [
            (0, Err(TokenError::NotYetValid { seconds: 100 }), Err(TokenError::NotYetValid { seconds: 100 })),
            (39, Err(TokenError::NotYetValid { seconds: 61 }), Err(TokenError::NotYetValid { seconds: 61 })),
            (40, Err(TokenError::NotYetValid { seconds: 60 }), Ok(())),
            (100, Ok(()), Ok(())),
            (199, Ok(()), Ok(())),
            (200, Err(TokenError::Expired { seconds: 0 }), Ok(())),
            (259, Err(TokenError::Expired { seconds: 59 }), Ok(())),
            (260, Err(TokenError::Expired { seconds: 60 }), Err(TokenError::Expired { seconds: 60 })),
        ] {
            assert_eq!(validity.check(at(now), Duration::ZERO), strict, "{now}");
            assert_eq!(validity.check(at(now), leeway), lenient, "{now}");
        }
        assert_eq!(Validity::default().check(at(u64::MAX / 1_000_000), Duration::MAX), Ok(()));
        let micros = Validity { expires: Some(UnixTime::from_micros(1_500_000)), not_before: None };
        assert_eq!(micros.check(UnixTime::from_micros(1_499_999), Duration::ZERO), Ok(()));
        assert!(micros.check(UnixTime::from_micros(1_500_000), Duration::ZERO).is_err());
    }
}
