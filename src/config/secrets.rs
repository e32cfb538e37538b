//! Several secrets.

use std::fmt;
use std::ops::Deref;

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::Secret;

/// Several secrets, written as a list of texts, or as one text, which is one secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets(Vec<Secret>);

impl Deref for Secrets {
    type Target = [Secret];

    fn deref(&self) -> &[Secret] {
        &self.0
    }
}

impl From<Vec<Secret>> for Secrets {
    fn from(secrets: Vec<Secret>) -> Self {
        Self(secrets)
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Secrets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Secrets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;

        impl<'de> Visitor<'de> for Texts {
            type Value = Secrets;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of texts in quotes")
            }

            fn visit_str<E>(self, text: &str) -> Result<Secrets, E> {
                Ok(Secrets(vec![text.into()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<Secrets, A::Error> {
                let mut secrets = Vec::new();
                while let Some(secret) = texts.next_element()? {
                    secrets.push(secret);
                }
                Ok(Secrets(secrets))
            }
        }

        deserializer.deserialize_any(Texts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_secrets_are_a_list_or_one_text_and_none_is_shown() {
        let list: Secrets = toml::Value::from(vec!["hunter2", "a,b"]).try_into().unwrap();
        assert_eq!(list.iter().map(|secret| &**secret).collect::<Vec<_>>(), ["hunter2", "a,b"]);
        assert_eq!(format!("{list:?}"), r#"["***", "***"]"#);
        assert_eq!(toml::Value::try_from(&list).unwrap(), toml::Value::from(vec!["***", "***"]));
        let one: Secrets = toml::Value::from("a,b").try_into().unwrap();
        assert_eq!(one, Secrets::from(vec![Secret::from("a,b")]));
        assert!(Secrets::default().is_empty());
    }
}
