//! Unknown parameters of a method. Whoever sends one expects an effect, so it is refused by name. Empty
//! values are accepted (`null`, `false`, 0, and empty texts, lists and objects), because client libraries
//! send them for parameters that are not set.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::control::envelope::Fault;
use crate::domain::reasons::ErrorCode;

/// Characters of a name that are repeated in the error.
const NAME_CHARS: usize = 64;

/// The names of unknown parameters with a value; a flattened field of a method's parameters.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "Map<String, Value>")]
pub(super) struct Others(Vec<String>);

impl Others {
    /// Whether there is one of this name. It is not refused then: the method reports what is wrong with it.
    pub(super) fn take(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|other| other != name);
        self.0.len() < before
    }

    /// Refuses the first of them.
    pub(super) fn refuse(&self) -> Result<(), Fault> {
        let Some(name) = self.0.first() else { return Ok(()) };
        let name: String = name.chars().take(NAME_CHARS).collect();
        let text = format_args!("`{name}` is not offered by this engine; leave it out");
        Err(Fault::new(ErrorCode::NotAvailable, text))
    }
}

impl From<Map<String, Value>> for Others {
    fn from(members: Map<String, Value>) -> Self {
        Self(members.into_iter().filter(|(_, value)| says_something(value)).map(|(name, _)| name).collect())
    }
}

/// Whether a value is more than `null`, `false`, 0, or an empty text, list or object.
fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is_true) => *is_true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(members) => !members.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Params {
        #[serde(flatten)]
        others: Others,
    }

    #[test]
    fn what_says_nothing_passes_and_the_rest_is_refused_by_name() {
        for (value, passes) in [
            ("null", true),
            ("false", true),
            ("0", true),
            ("-0", true),
            ("0.0", true),
            (r#""""#, true),
            ("[]", true),
            ("{}", true),
            ("true", false),
            ("1", false),
            ("-1", false),
            ("0.5", false),
            (r#""x""#, false),
            ("[null]", false),
            (r#"{"a":null}"#, false),
        ] {
            let params: Params = serde_json::from_str(&format!(r#"{{"extra":{value}}}"#)).unwrap();
            let refused = params.others.refuse().map_err(|fault| (fault.code.code(), fault.message));
            assert_eq!(refused.is_ok(), passes, "{value}");
            if let Err((code, text)) = refused {
                assert!(code == 108 && text.contains("`extra`"), "{value}: {code} {text}");
            }
        }
        let long = format!(r#"{{"{}":1}}"#, "é".repeat(1000));
        let params: Params = serde_json::from_str(&long).unwrap();
        assert!(params.others.refuse().unwrap_err().message.len() < 250);
    }
}
