//! The keys of the configuration, derived from the structures themselves: from the defaults, written as a
//! table.

use toml::{Table, Value};

use super::{Config, Namespace};

/// A key with the tables that contain it: `["limits", "clients"]`.
pub(super) type Path = Vec<String>;

/// The table whose keys are names that the operator chooses.
const NAMESPACES: &str = "namespaces";
/// The prefix of the environment's variables.
pub(super) const PREFIX: &str = "FANFARE_";

/// The greatest distance between two names of which one is probably the other with a typing error.
const TYPING_ERRORS_MAX: usize = 3;

/// Every key with its default value.
pub(super) struct Keys {
    tables: Value,
    namespace: Value,
}

impl Keys {
    pub(super) fn new() -> Self {
        let table = "the defaults are a TOML table";
        Self {
            tables: Value::try_from(Config::default()).expect(table),
            namespace: Value::try_from(Namespace::default()).expect(table),
        }
    }

    /// The default value of a key, or the table of that name. The keys of a namespace do not depend on its
    /// name.
    pub(super) fn find(&self, path: &[String]) -> Option<&Value> {
        let (start, rest) = match path {
            [table, _name, rest @ ..] if table == NAMESPACES => (&self.namespace, rest),
            rest => (&self.tables, rest),
        };
        rest.iter().try_fold(start, |value, key| value.get(key))
    }

    /// The keys that hold values, of all tables but the namespaces.
    pub(super) fn all(&self) -> Vec<Path> {
        let tables = self.tables.as_table().into_iter().flatten();
        tables.flat_map(|(table, keys)| names(keys).map(|key| vec![table.clone(), key.clone()])).collect()
    }

    /// The known key that was probably meant by an unknown one: a similar one of the same table, else one of
    /// the same name in another table, else a similar one anywhere.
    pub(super) fn nearest(&self, unknown: &[String]) -> Option<String> {
        let (last, table) = unknown.split_last()?;
        let siblings: Vec<Path> = self
            .find(table)
            .into_iter()
            .flat_map(names)
            .map(|name| [table, std::slice::from_ref(name)].concat())
            .collect();
        let similar = |path: &&Path| path.last().is_some_and(|name| is_similar(name, last));
        let homonym = |path: &&Path| path.last() == Some(last);
        let everywhere: Vec<Path> = self.all().into_iter().chain(siblings.iter().cloned()).collect();
        best(siblings.iter().filter(similar), unknown)
            .or_else(|| best(everywhere.iter().filter(homonym), unknown))
            .or_else(|| {
                best(everywhere.iter().filter(|path| is_similar(&dotted(path), &dotted(unknown))), unknown)
            })
    }

    /// The key that a variable of the environment sets: `FANFARE_LIMITS_CLIENTS`, or
    /// `FANFARE_NAMESPACES_CHAT_SLOW` for the namespace `chat`, which `namespaces` may spell differently.
    pub(super) fn of_variable(&self, name: &str, namespaces: &[String]) -> Option<Path> {
        if let Some(path) = self.all().into_iter().find(|path| variable(path) == name) {
            return Some(path);
        }
        let own = name.strip_prefix(&variable(&[NAMESPACES.to_owned()]))?.strip_prefix('_')?;
        let by_length = |key: &&String| key.len();
        let key = names(&self.namespace)
            .filter(|key| own.ends_with(&format!("_{}", key.to_uppercase())))
            .max_by_key(by_length)?;
        let upper = own.get(..own.len() - key.len() - 1).filter(|name| !name.is_empty())?;
        let spelled = namespaces.iter().find(|namespace| in_variable(namespace) == upper).cloned();
        let namespace = spelled.unwrap_or_else(|| upper.to_lowercase());
        Some(vec![NAMESPACES.to_owned(), namespace, key.clone()])
    }

    /// The variable that was probably meant by an unknown one.
    pub(super) fn nearest_variable(&self, unknown: &str) -> Option<String> {
        let own = unknown.strip_prefix(PREFIX)?;
        let known = self.all().into_iter().map(|path| in_variable(&path.join("_")));
        most_similar(known, own).map(|name| format!("{PREFIX}{name}"))
    }
}

/// The names in a table; none if it is a plain value.
fn names(table: &Value) -> impl Iterator<Item = &String> {
    table.as_table().into_iter().flat_map(Table::keys)
}

/// A path as written in sentences.
pub(super) fn dotted(path: &[String]) -> String {
    path.join(".")
}

/// The variable of the environment that sets a key.
fn variable(path: &[String]) -> String {
    format!("{PREFIX}{}", in_variable(&path.join("_")))
}

/// A name as written in a variable: shells allow no other characters there.
fn in_variable(name: &str) -> String {
    name.to_uppercase().replace(['-', '.'], "_")
}

/// How many letters differ between two names: each is missing, too many, wrong, or swapped with the next one.
fn distance(a: &str, b: &str) -> usize {
    strsim::damerau_levenshtein(a, b)
}

/// Whether a typing error may have made `unknown` of `name`. A suggestion of anything else would mislead.
fn is_similar(name: &str, unknown: &str) -> bool {
    distance(name, unknown) <= (unknown.chars().count() / 3).min(TYPING_ERRORS_MAX)
}

/// The name of which `unknown` probably is a misspelling.
pub(super) fn most_similar<T: AsRef<str>>(known: impl IntoIterator<Item = T>, unknown: &str) -> Option<T> {
    let similar = known.into_iter().filter(|name| is_similar(name.as_ref(), unknown));
    similar.min_by_key(|name| distance(name.as_ref(), unknown))
}

/// The path most like `unknown`, dotted.
fn best<'a>(paths: impl Iterator<Item = &'a Path>, unknown: &[String]) -> Option<String> {
    let unknown = dotted(unknown);
    paths.map(|path| dotted(path)).min_by_key(|path| distance(path, &unknown))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(dotted: &str) -> Path {
        dotted.split('.').map(str::to_owned).collect()
    }

    #[test]
    fn an_unknown_key_has_a_nearest_one() {
        let keys = Keys::new();
        for (unknown, nearest) in [
            ("server.lisen", "server.listen"),
            ("sever", "server"),
            ("limts.clients", "limits.clients"),
            ("limits.client", "limits.clients"),
            ("listen", "server.listen"),
            ("server.frame_bytes", "limits.frame_bytes"),
            ("frame_bytes", "limits.frame_bytes"),
            ("namespaces.chat.slwo", "namespaces.chat.slow"),
        ] {
            assert_eq!(keys.nearest(&path(unknown)).as_deref(), Some(nearest), "{unknown}");
        }
        for (unknown, nearest) in [
            ("FANFARE_LIMITS_CLIENT", "FANFARE_LIMITS_CLIENTS"),
            ("FANFARE_LOG_LEVLE", "FANFARE_LOG_LEVEL"),
            ("FANFARE_SERVER_SHRD", "FANFARE_SERVER_SHARDS"),
        ] {
            assert_eq!(keys.nearest_variable(unknown).as_deref(), Some(nearest), "{unknown}");
        }
    }

    /// What no typing error explains was something else: a key of another program, or of another version.
    #[test]
    fn what_is_far_from_all_keys_has_no_nearest_one() {
        let keys = Keys::new();
        for unknown in ["log.zzzzz", "log.l", "x", "redis.address", "limits.cl", "namespaces.chat.zzz"] {
            assert_eq!(keys.nearest(&path(unknown)), None, "{unknown}");
        }
        for unknown in ["FANFARE_REDIS_ADDRESS", "FANFARE_X", "FANFARE_", "FANFARE_HOME", "FANFARE_LOG"] {
            assert_eq!(keys.nearest_variable(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn a_variable_names_a_key() {
        let keys = Keys::new();
        let namespaces = [path("Chat-room").concat()];
        for (variable, key) in [
            ("FANFARE_SERVER_LISTEN", Some("server.listen")),
            ("FANFARE_CONTROL_API_KEY", Some("control.api_key")),
            ("FANFARE_NAMESPACES_ORDER_MAX_BYTES", Some("namespaces.order.max_bytes")),
            ("FANFARE_NAMESPACES_CHAT_ROOM_SLOW", Some("namespaces.Chat-room.slow")),
            ("FANFARE_NAMESPACES_SLOW", None),
            ("FANFARE_NAMESPACES__SLOW", None),
            ("FANFARE_LISTEN", None),
        ] {
            assert_eq!(keys.of_variable(variable, &namespaces), key.map(path), "{variable}");
        }
    }
}
