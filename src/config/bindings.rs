//! What this node receives from the exchange: fixed patterns, or the topics of its subscribers.

use std::fmt;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{Error, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const ALL: &str = "all";
const DYNAMIC: &str = "dynamic";
/// AMQP's pattern that every routing key matches.
const EVERYTHING: &str = "#";

/// How the stream, or the node's own queue, is bound to the exchange.
///
/// Written as `"all"`, `"dynamic"`, or a list of patterns. A list that contains only one of the two words, as
/// it comes from the environment, is that word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bindings {
    /// By these patterns, permanently.
    Patterns(Vec<String>),
    /// The node's own queue, by each topic that has a subscriber on this node.
    Dynamic,
}

impl Bindings {
    /// The patterns; none if they are not fixed.
    #[must_use]
    pub fn patterns(&self) -> &[String] {
        match self {
            Self::Patterns(patterns) => patterns,
            Self::Dynamic => &[],
        }
    }

    /// Whether they follow the subscribers.
    #[must_use]
    pub fn is_dynamic(&self) -> bool {
        *self == Self::Dynamic
    }

    fn of_word(word: &str) -> Option<Self> {
        match word {
            ALL => Some(Self::default()),
            DYNAMIC => Some(Self::Dynamic),
            _ => None,
        }
    }
}

impl Default for Bindings {
    fn default() -> Self {
        Self::Patterns(vec![EVERYTHING.to_owned()])
    }
}

impl Serialize for Bindings {
    /// Patterns as a list, even for a word: the environment is read by the type of the default.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Patterns(patterns) => patterns.serialize(serializer),
            Self::Dynamic => serializer.serialize_str(DYNAMIC),
        }
    }
}

impl<'de> Deserialize<'de> for Bindings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrPatterns;

        impl<'de> Visitor<'de> for WordOrPatterns {
            type Value = Bindings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`all`, `dynamic` or a list of patterns, such as `[\"order.#\"]`")
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Bindings, E> {
                let unknown = || E::invalid_value(Unexpected::Str(word), &self);
                Bindings::of_word(word).ok_or_else(unknown)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, patterns: A) -> Result<Bindings, A::Error> {
                let patterns = Vec::<String>::deserialize(SeqAccessDeserializer::new(patterns))?;
                let word = match &patterns[..] {
                    [word] => Bindings::of_word(word),
                    _ => None,
                };
                Ok(word.unwrap_or(Bindings::Patterns(patterns)))
            }
        }

        deserializer.deserialize_any(WordOrPatterns)
    }
}

impl From<&[&str]> for Bindings {
    fn from(patterns: &[&str]) -> Self {
        Self::Patterns(patterns.iter().map(|&pattern| pattern.to_owned()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize, Serialize)]
    struct Table {
        bindings: Bindings,
    }

    #[test]
    fn a_word_or_a_list_of_patterns() {
        let patterns = |patterns: &[&str]| Some(Bindings::from(patterns));
        for (text, bindings) in [
            (r#""all""#, patterns(&["#"])),
            (r#"["all"]"#, patterns(&["#"])),
            (r##"["#"]"##, patterns(&["#"])),
            (r#""dynamic""#, Some(Bindings::Dynamic)),
            (r#"["dynamic"]"#, Some(Bindings::Dynamic)),
            (r#"["dynamic", "a.*"]"#, patterns(&["dynamic", "a.*"])),
            ("[]", patterns(&[])),
            (r#""dynamc""#, None),
            ("7", None),
        ] {
            let read =
                toml::from_str::<Table>(&format!("bindings = {text}")).ok().map(|table| table.bindings);
            assert_eq!(read, bindings, "{text}");
            if let Some(bindings) = read {
                let table = Table { bindings };
                let again = toml::from_str::<Table>(&toml::to_string(&table).unwrap()).unwrap();
                assert_eq!(again, table, "{text} written and read again");
            }
        }
    }
}
