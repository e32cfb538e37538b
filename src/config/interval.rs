//! Times, as written in a configuration.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A time, written as a number and a unit: `250ms`, `10s`, `5m`, `1h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Interval(pub Duration);

impl Interval {
    /// So many seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// So many milliseconds.
    #[must_use]
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// Whether it is zero.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

/// What a text would have to be to be a time, with the value that was probably meant: `25s` for `25sec`. Completes a
/// sentence that ends with "expected".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a whole number and `ms`, `s`, `m` or `h`, such as `{number}{unit}`")]
pub struct IntervalError {
    number: u64,
    unit: &'static str,
}

impl TryFrom<String> for Interval {
    type Error = IntervalError;

    fn try_from(text: String) -> Result<Self, IntervalError> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let scale = match unit.trim() {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ if text == "0" => 0,
            _ => return Err(expected_interval(number, unit.trim())),
        };
        let number: u64 = number.parse().map_err(|_| expected_interval(number, unit.trim()))?;
        let milliseconds = number.checked_mul(scale).ok_or_else(|| expected_interval("", ""))?;
        Ok(Self::from_millis(milliseconds))
    }
}

fn expected_interval(number: &str, unit: &str) -> IntervalError {
    let (number, unit) = match (number.parse::<u64>(), unit.to_lowercase()) {
        (Ok(days), unit) if unit.starts_with('d') && days < 100_000 => (days * 24, "h"),
        (Ok(number), unit) if unit.starts_with("mil") || unit.starts_with("ms") => (number, "ms"),
        (Ok(number), unit) if unit.starts_with('m') => (number, "m"),
        (Ok(number), unit) if unit.starts_with('h') => (number, "h"),
        (Ok(number), _) => (number, "s"),
        (Err(_), _) => (250, "ms"),
    };
    IntervalError { number, unit }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            milliseconds if milliseconds % 1000 == 0 => write!(f, "{}s", milliseconds / 1000),
            milliseconds => write!(f, "{milliseconds}ms"),
        }
    }
}

impl From<Interval> for String {
    fn from(interval: Interval) -> Self {
        interval.to_string()
    }
}
