//! Which clients may do something with the topics of a namespace.

use std::fmt;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{Error, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a client can be to a topic. A client has exactly one of the first two roles, and possibly the third.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It has no user id: it showed no token, or one whose `sub` is empty.
    Anonymous,
    /// It has a user id.
    User,
    /// It is subscribed to the topic.
    Subscriber,
}

impl Role {
    const ALL: [Self; 3] = [Self::Anonymous, Self::User, Self::Subscriber];

    fn name(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::User => "user",
            Self::Subscriber => "subscriber",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// A set of roles: a client with one of them may do what the key is about.
///
/// Written as `true` (everyone), `false` (nobody), or a list of roles, such as `["user", "subscriber"]`. The environment
/// has no lists here: one text with commas is a list as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed(u8);

impl Allowed {
    /// No role.
    pub const NOBODY: Self = Self(0);
    /// All roles.
    pub const EVERYONE: Self = Self((1 << Role::ALL.len()) - 1);

    /// Whether a client may do it that has this role.
    #[must_use]
    pub const fn contains(self, role: Role) -> bool {
        self.0 & 1 << role as u8 != 0
    }

    /// Whether it can make a difference that a client is subscribed.
    #[must_use]
    pub fn depends_on_subscription(self) -> bool {
        self != Self::EVERYONE && self.contains(Role::Subscriber)
    }
}

impl FromIterator<Role> for Allowed {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        Self(roles.into_iter().fold(0, |bits, role| bits | 1 << role as u8))
    }
}

impl Serialize for Allowed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::NOBODY => serializer.serialize_bool(false),
            Self::EVERYONE => serializer.serialize_bool(true),
            some => {
                let roles = Role::ALL.into_iter().filter(|&role| some.contains(role));
                serializer.collect_seq(roles.map(Role::name))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Allowed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BoolOrRoles;

        impl BoolOrRoles {
            fn roles<'n, E: Error>(&self, names: impl Iterator<Item = &'n str>) -> Result<Allowed, E> {
                let unknown = |name| E::invalid_value(Unexpected::Str(name), self);
                names.map(|name| Role::named(name).ok_or_else(|| unknown(name))).collect()
            }
        }

        impl<'de> Visitor<'de> for BoolOrRoles {
            type Value = Allowed;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`true`, `false`, or a list of `\"anonymous\"`, `\"user\"` and `\"subscriber\"`")
            }

            fn visit_bool<E>(self, all: bool) -> Result<Allowed, E> {
                Ok(if all { Allowed::EVERYONE } else { Allowed::NOBODY })
            }

            fn visit_str<E: Error>(self, names: &str) -> Result<Allowed, E> {
                self.roles(names.split(',').map(str::trim))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, names: A) -> Result<Allowed, A::Error> {
                let names = Vec::<String>::deserialize(SeqAccessDeserializer::new(names))?;
                self.roles(names.iter().map(String::as_str))
            }
        }

        deserializer.deserialize_any(BoolOrRoles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize, Serialize)]
    struct Table {
        allowed: Allowed,
    }

    #[test]
    fn true_or_false_or_a_list_of_roles() {
        use Role::{Anonymous, Subscriber, User};
        for (text, roles) in [
            ("true", Some(&[Anonymous, User, Subscriber][..])),
            ("false", Some(&[])),
            ("[]", Some(&[])),
            (r#"["user"]"#, Some(&[User])),
            (r#"["subscriber", "user", "user"]"#, Some(&[User, Subscriber])),
            (r#"["anonymous", "user", "subscriber"]"#, Some(&[Anonymous, User, Subscriber])),
            (r#""user, subscriber""#, Some(&[User, Subscriber])),
            (r#""user,""#, None),
            (r#""true""#, None),
            (r#""""#, None),
            (r#"["users"]"#, None),
            ("[1]", None),
            ("1", None),
        ] {
            let read = toml::from_str::<Table>(&format!("allowed = {text}")).ok();
            let expected = roles.map(|roles| roles.iter().copied().collect());
            assert_eq!(read.as_ref().map(|table| table.allowed), expected, "{text}");
            if let Some(table) = read {
                let again: Table = toml::from_str(&toml::to_string(&table).unwrap()).unwrap();
                assert_eq!(again, table, "{text} written and read again");
                for role in Role::ALL {
                    assert_eq!(
                        table.allowed.contains(role),
                        roles.unwrap().contains(&role),
                        "{text}: {role:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn subscriptions_matter_where_they_are_a_condition() {
        for (allowed, depends) in [
            (Allowed::NOBODY, false),
            (Allowed::EVERYONE, false),
            (Allowed::from_iter([Role::User]), false),
            (Allowed::from_iter([Role::User, Role::Subscriber]), true),
        ] {
            assert_eq!(allowed.depends_on_subscription(), depends, "{allowed:?}");
        }
    }
}
