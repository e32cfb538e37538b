//! Says what is wrong with one value alone, in an operator's words instead of the program's.

use toml::{Table, Value};

use super::{Config, grouped};

/// The largest number that TOML's integers hold.
const LARGEST: usize = usize::MAX >> 1;

/// Why a file is not TOML. Quotes nothing of the file but a key's name, because a line may contain a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    /// A key or a table is there twice.
    #[error("`{key}` is there already, further up")]
    Repeated {
        /// Its name.
        key: String,
    },
    /// Anything else. The parser tells it in words, and in no other form.
    #[error("{0}")]
    Parser(String),
}

/// What an operator is shown of a wrong value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShownValue {
    /// The value, as TOML writes it.
    #[error("`{0}`")]
    Written(String),
    /// The type of a secret, or of what stands in the place of a table.
    #[error("of type {0}")]
    OfType(&'static str),
    /// A secret that is a number beyond TOML's.
    #[error("a number")]
    SecretNumber,
    /// Text that is to name some keys and their values, which may be secret.
    #[error("text without `=`")]
    NoPairs,
    /// It is no text.
    #[error("not UTF-8")]
    NotUtf8,
}

/// What would be valid in the place of a wrong value. Completes a sentence that ends with "expected".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Expected {
    /// A table.
    #[error("a table, `[{name}]`")]
    Table {
        /// Its name, with those of the tables that contain it.
        name: String,
    },
    /// A length of time. It was a number, which has no unit.
    #[error("a length of time in quotes, such as `\"{seconds}s\"`")]
    QuotedTime {
        /// That number.
        seconds: u64,
    },
    /// A whole number.
    #[error("a whole number from 0 to {}", grouped(*most))]
    WholeNumber {
        /// The largest that the key's type holds.
        most: usize,
    },
    /// A truth value.
    #[error("`true` or `false`")]
    Boolean,
    /// A list.
    #[error("a list, such as `[\"a\", \"b\"]`")]
    List,
    /// Any text.
    #[error("text in quotes")]
    QuotedText,
    /// One character.
    #[error("one character in quotes")]
    Character,
    /// Keys and their values, in one text.
    #[error("`key=value`, several of them divided by commas")]
    Pairs,
    /// A table lacks a key.
    #[error("{0} as well")]
    Field(String),
    /// Any text, where it came as bytes.
    #[error("text in UTF-8")]
    Utf8,
    /// What the key's own type says, such as [`AddressError`](super::AddressError). serde passes it on as words, and in no other form.
    #[error("{0}")]
    Words(String),
}

impl SyntaxError {
    /// By the parser's message, and what stands where it found the error.
    pub(super) fn new(message: &str, place: &str) -> Self {
        let is_key = !place.is_empty() && !place.contains(['=', '\n']);
        match message {
            "duplicate key" if is_key => Self::Repeated { key: place.to_owned() },
            _ => Self::Parser(message.to_owned()),
        }
    }
}

/// What would be valid for a key, if `value` is not.
pub(super) fn expected(path: &[String], value: &Value) -> Option<Expected> {
    let error = alone(path, value.clone()).err()?;
    Some(match value {
        Value::Integer(number) if is_interval(path) => {
            Expected::QuotedTime { seconds: number.unsigned_abs() }
        }
        _ => plainly(error.message()),
    })
}

/// How a number beyond 64 bits is shown, and what would be valid for its key.
pub(super) fn number_too_large(path: &[String], number: String) -> (ShownValue, Expected) {
    let shown = if is_secret(path) { ShownValue::SecretNumber } else { ShownValue::Written(number) };
    let largest = Value::Integer(i64::MAX);
    let right = expected(path, &largest).unwrap_or(Expected::WholeNumber { most: LARGEST });
    (shown, right)
}

/// A value as it may be shown: secrets are masked.
pub(super) fn shown(path: &[String], value: &Value) -> ShownValue {
    if is_secret(path) {
        ShownValue::OfType(value.type_str())
    } else {
        ShownValue::Written(value.to_string())
    }
}

/// The defaults with one value set.
fn alone(path: &[String], value: Value) -> Result<Config, toml::de::Error> {
    let nest = |value, key: &String| Value::Table(Table::from_iter([(key.clone(), value)]));
    path.iter().rev().fold(value, nest).try_into()
}

/// Whether a key takes times. It is tried, so that no list of names must be kept.
fn is_interval(path: &[String]) -> bool {
    alone(path, Value::from("1s")).is_ok() && alone(path, Value::from("probe")).is_err()
}

/// Whether a key's type hides its value. The type is asked, not a list of names, so that no future secret can
/// be forgotten here.
fn is_secret(path: &[String]) -> bool {
    let probe = Value::from("probe");
    let Ok(config) = alone(path, probe.clone()) else { return false };
    let written = Value::try_from(config).expect("the configuration can be written as TOML");
    path.iter().try_fold(&written, |table, key| table.get(key)) != Some(&probe)
}

/// What was expected. Only the end of serde's message is used: its beginning repeats the value, which may be
/// secret.
fn plainly(message: &str) -> Expected {
    if let Some(field) = message.strip_prefix("missing field ") {
        return Expected::Field(field.to_owned());
    }
    let expected = message.rsplit_once("expected ").map_or(message, |(_, expected)| expected).trim();
    match expected {
        "u16" => Expected::WholeNumber { most: 65_535 },
        "u32" => Expected::WholeNumber { most: 4_294_967_295 },
        "usize" | "u64" => Expected::WholeNumber { most: LARGEST },
        "a boolean" => Expected::Boolean,
        "a sequence" => Expected::List,
        "a string" => Expected::QuotedText,
        "a character" => Expected::Character,
        other => Expected::Words(other.to_owned()),
    }
}
