//! Reads JSON strictly, one level at a time. Values stay text until somebody knows what they must be, so that an error
//! names the member, and values that nobody asks for cost one pass and no memory.
//!
//! serde_json skips values without recursion: nesting costs no stack, however deep it is.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Why a value could not be read.
#[derive(Debug)]
pub enum ReadError<E> {
    /// It is of another type, or no JSON.
    Type,
    /// What the receiver of a member said of it.
    Member(E),
}

/// Hands each member of an object to `each`, in their order: the name, and the value as JSON text.
///
/// # Errors
/// The text is no object, or the first error of `each`, after which no more members are handed over.
pub fn members<'a, E>(
    object: &'a str,
    each: impl FnMut(Cow<'a, str>, &'a str) -> Result<(), E>,
) -> Result<(), ReadError<E>> {
    let mut error = None;
    let mut deserializer = serde_json::Deserializer::from_str(object);
    let read =
        deserializer.deserialize_map(Members { each, error: &mut error }).and_then(|()| deserializer.end());
    outcome(read, error)
}

/// Hands each item of a list to `each`, in their order, as JSON text.
///
/// # Errors
/// The text is no list, or the first error of `each`, after which no more items are handed over.
pub fn items<'a, E>(list: &'a str, each: impl FnMut(&'a str) -> Result<(), E>) -> Result<(), ReadError<E>> {
    let mut error = None;
    let mut deserializer = serde_json::Deserializer::from_str(list);
    let read =
        deserializer.deserialize_seq(Items { each, error: &mut error }).and_then(|()| deserializer.end());
    outcome(read, error)
}

fn outcome<E>(read: serde_json::Result<()>, error: Option<E>) -> Result<(), ReadError<E>> {
    match (read, error) {
        (_, Some(error)) => Err(ReadError::Member(error)),
        (Err(_), None) => Err(ReadError::Type),
        (Ok(()), None) => Ok(()),
    }
}

/// A text, borrowed where it has no escapes. `None`: the value is something else.
#[must_use]
pub fn text(json: &str) -> Option<Cow<'_, str>> {
    serde_json::from_str(json).ok().map(|Text(text)| text)
}

/// A truth value. `None`: the value is something else.
#[must_use]
pub fn truth(json: &str) -> Option<bool> {
    match json {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// Whether a text is one JSON value.
#[must_use]
pub fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}

/// serde borrows a [`Cow`] only if it is a field.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

struct Members<'e, F, E> {
    each: F,
    error: &'e mut Option<E>,
}

impl<'a, F, E> Visitor<'a> for Members<'_, F, E>
where
    F: FnMut(Cow<'a, str>, &'a str) -> Result<(), E>,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some((Text(name), value)) = map.next_entry::<Text<'a>, &'a RawValue>()? {
            if let Err(error) = (self.each)(name, value.get()) {
                *self.error = Some(error);
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

struct Items<'e, F, E> {
    each: F,
    error: &'e mut Option<E>,
}

impl<'a, F, E> Visitor<'a> for Items<'_, F, E>
where
    F: FnMut(&'a str) -> Result<(), E>,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'a>>(mut self, mut list: A) -> Result<(), A::Error> {
        while let Some(item) = list.next_element::<&'a RawValue>()? {
            if let Err(error) = (self.each)(item.get()) {
                *self.error = Some(error);
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_handed_over_one_by_one_until_one_is_refused() {
        let mut seen = Vec::new();
        let read = members(r#" {"a": [1, {"b":2}] , "\u00e9":null} "#, |name, value| {
            seen.push(format!("{name}={value}"));
            Ok::<_, ()>(())
        });
        assert!(read.is_ok());
        assert_eq!(seen, [r#"a=[1, {"b":2}]"#, "é=null"]);
        let stopped = members(r#"{"a":1,"b":2,"#, |name, _| if name == "b" { Err("b") } else { Ok(()) });
        assert!(matches!(stopped, Err(ReadError::Member("b"))));
        for wrong in ["", "[]", "1", "{", r#"{"a":1}x"#, r#"{"a"}"#, "{1:2}"] {
            assert!(matches!(members(wrong, |_, _| Ok::<_, ()>(())), Err(ReadError::Type)), "{wrong}");
        }
    }

    #[test]
    fn items_are_handed_over_one_by_one() {
        let mut seen = Vec::new();
        let read = items(r#"["a", {} ]"#, |item| {
            seen.push(item);
            Ok::<_, ()>(())
        });
        assert!(read.is_ok());
        assert_eq!(seen, ["\"a\"", "{}"]);
        assert!(matches!(items("{}", |_| Ok::<_, ()>(())), Err(ReadError::Type)));
    }

    #[test]
    fn nesting_costs_no_stack() {
        let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert!(members(&deep, |_, _| Ok::<_, ()>(())).is_ok());
    }

    #[test]
    fn texts_and_truths_are_nothing_else() {
        assert_eq!(text(r#""a\nb""#).as_deref(), Some("a\nb"));
        assert!(matches!(text("\"ab\""), Some(Cow::Borrowed("ab"))));
        for wrong in ["1", "null", "[\"a\"]", r#""\ud800""#] {
            assert_eq!(text(wrong), None, "{wrong}");
        }
        assert_eq!(["true", "false", "1", "\"true\""].map(truth), [Some(true), Some(false), None, None]);
    }
}
