//! Says what is wrong with one value alone, in an operator's words instead of the program's.

use toml::{Table, Value};

use super::Config;

/// The largest number that TOML's integers hold.
const LARGEST: &str = "9,223,372,036,854,775,807";

/// What would be valid for a key, if `value` is not. It completes a sentence that ends with "expected".
pub(super) fn expected(path: &[String], value: &Value) -> Option<String> {
    let error = alone(path, value.clone()).err()?;
    Some(match value {
        Value::Integer(number) if is_interval(path) => {
            format!("a length of time in quotes, such as `\"{}s\"`", number.unsigned_abs())
        }
        _ => plainly(error.message()),
    })
}

/// How a number beyond 64 bits is shown, and what would be valid for its key.
pub(super) fn number_too_large(path: &[String], number: &str) -> (String, String) {
    let shown = if is_secret(path) { "a number".to_owned() } else { format!("`{number}`") };
    let largest = Value::Integer(i64::MAX);
    let right = expected(path, &largest).unwrap_or_else(|| plainly("u64"));
    (shown, right)
}

/// The error for a file that is not TOML, besides the place. It quotes nothing of the file but a key's name,
/// because a line may contain a password.
pub(super) fn syntax(message: &str, place: &str) -> String {
    let is_key = !place.is_empty() && !place.contains(['=', '\n']);
    match message {
        "duplicate key" if is_key => format!("`{place}` is there already, further up"),
        _ => message.to_owned(),
    }
}

/// A value as it may be shown: secrets are masked.
pub(super) fn shown(path: &[String], value: &Value) -> String {
    if is_secret(path) { format!("of type {}", value.type_str()) } else { format!("`{value}`") }
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
fn plainly(message: &str) -> String {
    let expected = message.rsplit_once("expected ").map_or(message, |(_, expected)| expected).trim();
    match expected {
        "u16" => "a whole number from 0 to 65,535".to_owned(),
        "u32" => "a whole number from 0 to 4,294,967,295".to_owned(),
        "usize" | "u64" => format!("a whole number from 0 to {LARGEST}"),
        "a boolean" => "`true` or `false`".to_owned(),
        "a sequence" => "a list, such as `[\"a\", \"b\"]`".to_owned(),
        "a string" => "text in quotes".to_owned(),
        "a character" => "one character in quotes".to_owned(),
        other => other.to_owned(),
    }
}
