//! Problems of a configuration, each as a sentence that says where it is and what would be valid. They are
//! collected, so that an operator sees all of them at once.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;

use super::origin::{ValueOrigin, named_in};
use super::unusable::UnusableValue;
use super::wrong::{Expected, ShownValue, SyntaxError};

/// One thing that is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file could not be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{origin}: this is not TOML: {error}")]
    Syntax {
        /// Where in the file.
        origin: ValueOrigin,
        /// What is wrong.
        error: SyntaxError,
    },
    /// There is no key of this name.
    #[error("{origin}: there is no key `{key}`{}", suggestion(nearest.as_deref()))]
    UnknownKey {
        /// Where it is set.
        origin: ValueOrigin,
        /// The name, as written there.
        key: String,
        /// The known name that was probably meant.
        nearest: Option<String>,
    },
    /// A value of the wrong type, or out of its range.
    #[error("{origin}: `{key}` is {value}: expected {expected}")]
    WrongValue {
        /// Where it is set.
        origin: ValueOrigin,
        /// The key.
        key: String,
        /// The value, masked if it is secret.
        value: ShownValue,
        /// What would be valid.
        expected: Expected,
    },
    /// A value of the right type that is out of its bounds, does not go together with another one, or is not safe.
    #[error("{}{value}", places(origins))]
    Unusable {
        /// Where the keys that it names are set. Empty if nobody knows, or if they are at their defaults.
        origins: Vec<ValueOrigin>,
        /// What is wrong.
        value: UnusableValue,
    },
}

/// The beginning of a sentence, if there are places to name.
fn places(origins: &[ValueOrigin]) -> String {
    let places: Vec<String> = origins.iter().map(ToString::to_string).collect();
    if places.is_empty() { String::new() } else { format!("{}: ", places.join(" and ")) }
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| format!("; the nearest is `{nearest}`"))
}

/// All problems of a configuration, at least one. Displayed one per line.
#[derive(Debug)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Returns `value` if there are no problems.
    pub(super) fn unless_none<T>(problems: Vec<Problem>, value: T) -> Result<T, Self> {
        if problems.is_empty() { Ok(value) } else { Err(Self(problems)) }
    }

    /// The same problems, each with the places of the keys that it names.
    pub(super) fn located(mut self, places: &BTreeMap<String, ValueOrigin>) -> Self {
        for problem in &mut self.0 {
            if let Problem::Unusable { origins, value } = problem {
                *origins = named_in(&value.to_string(), places);
            }
        }
        self
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.0.iter().enumerate() {
            write!(f, "{}{problem}", if number == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// A number with separators for people: `1,048,576`.
#[must_use]
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::unusable::UnusableKind;
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_048_576, "1,048,576")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn each_problem_stands_on_a_line_of_its_own() {
        let no_name =
            |key| Problem::Unusable { origins: Vec::new(), value: UnusableKind::NoName(key).into() };
        let text = Problems(vec![no_name("a"), no_name("b")]).to_string();
        let lines: Vec<_> = text.lines().map(|line| line.split(' ').next()).collect();
        assert_eq!(lines, [Some("a"), Some("b")], "{text}");
    }
}
