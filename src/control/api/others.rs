//! Parameters that a method does not have. Whoever sends one expects something of it, so it is refused by name. What
//! says nothing passes: `null`, `false`, 0 and what is empty, as client libraries send it for what was not asked for.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::control::envelope::Fault;
use crate::protocol::codes::ErrorCode;

/// Characters of a name that are repeated in the answer.
const NAME_CHARS: usize = 64;

/// The names of those that say something; a flattened field of a method's parameters.
#[derive(Debug, Default)]
pub(super) struct Others(Vec<String>);

impl Others {
    /// Whether there is one of this name. It is not refused then: the method says what is wrong with it.
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

impl<'de> Deserialize<'de> for Others {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Others;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Others, A::Error> {
        let mut names = Vec::new();
        while let Some((name, SaysSomething(says_something))) = members.next_entry::<String, _>()? {
            if says_something {
                names.push(name);
            }
        }
        Ok(Others(names))
    }
}

/// Whether a value is more than `null`, `false`, 0, or an empty text, list or object.
struct SaysSomething(bool);

impl<'de> Deserialize<'de> for SaysSomething {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = SaysSomething;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<SaysSomething, E> {
        Ok(SaysSomething(false))
    }

    fn visit_bool<E>(self, value: bool) -> Result<SaysSomething, E> {
        Ok(SaysSomething(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<SaysSomething, E> {
        Ok(SaysSomething(value != 0))
    }

    fn visit_i64<E>(self, value: i64) -> Result<SaysSomething, E> {
        Ok(SaysSomething(value != 0))
    }

    fn visit_f64<E>(self, value: f64) -> Result<SaysSomething, E> {
        Ok(SaysSomething(value != 0.0))
    }

    fn visit_str<E>(self, value: &str) -> Result<SaysSomething, E> {
        Ok(SaysSomething(!value.is_empty()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut members: A) -> Result<SaysSomething, A::Error> {
        let mut any = false;
        while members.next_element::<IgnoredAny>()?.is_some() {
            any = true;
        }
        Ok(SaysSomething(any))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<SaysSomething, A::Error> {
        let mut any = false;
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            any = true;
        }
        Ok(SaysSomething(any))
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
