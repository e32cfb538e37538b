//! The keys of the configuration, derived from the structures themselves: from the defaults, written as a
//! table.

use serde::Serialize;
use toml::{Table, Value};

use super::{Backend, Config, Namespace};

/// A key with the tables that contain it: `["limits", "clients"]`.
pub(super) type Path = Vec<String>;

/// The prefix of the environment's variables.
pub(super) const PREFIX: &str = "FANFARE_";

/// The greatest distance between two names of which one is probably the other with a typing error.
const TYPING_ERRORS_MAX: usize = 3;

/// Every key with its default value. An empty table is one whose keys the operator chooses; each of them holds text.
pub(super) struct Keys {
    tables: Value,
    named: [Named; 2],
    text: Value,
}

/// A table of tables that the operator names, all of which have the same keys.
struct Named {
    table: &'static str,
    /// Each of those keys with its default value.
    keys: Value,
}

impl Named {
    fn new(table: &'static str, defaults: &impl Serialize) -> Self {
        Self { table, keys: as_toml(defaults) }
    }
}

impl Keys {
    pub(super) fn new() -> Self {
        Self {
            tables: as_toml(&Config::default()),
            named: [
                Named::new("namespaces", &Namespace::default()),
                Named::new("backends", &Backend::default()),
            ],
            text: Value::String(String::new()),
        }
    }

    /// The default value of a key, or the table of that name. The keys of a table that the operator names do not depend on
    /// its name.
    pub(super) fn find(&self, path: &[String]) -> Option<&Value> {
        let named = self.named.iter().find(|named| path.len() > 1 && path[0] == named.table);
        let (start, rest) = match named {
            Some(named) => (&named.keys, &path[2..]),
            None => (&self.tables, path),
        };
        rest.iter().try_fold(start, |value, key| match value {
            Value::Table(table) if table.is_empty() => Some(&self.text),
            value => value.get(key),
        })
    }

    /// The keys of all tables but those that the operator names.
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

    /// The key that a variable of the environment sets: `FANFARE_LIMITS_CLIENTS`, or `FANFARE_NAMESPACES_CHAT_SLOW` for
    /// the namespace `chat`. One of `spelled`, the keys that are set elsewhere, may spell that name differently.
    pub(super) fn of_variable(&self, name: &str, spelled: &[Path]) -> Option<Path> {
        let all = self.all().into_iter().find(|path| variable(path) == name);
        all.or_else(|| self.named.iter().find_map(|named| named.of_variable(name, spelled)))
    }

    /// The variable that was probably meant by an unknown one.
    pub(super) fn nearest_variable(&self, unknown: &str) -> Option<String> {
        let own = unknown.strip_prefix(PREFIX)?;
        let known = self.all().into_iter().map(|path| in_variable(&path.join("_")));
        most_similar(known, own).map(|name| format!("{PREFIX}{name}"))
    }
}

impl Named {
    fn of_variable(&self, name: &str, spelled: &[Path]) -> Option<Path> {
        let own = name.strip_prefix(&variable(&[self.table.to_owned()]))?.strip_prefix('_')?;
        let by_length = |key: &&String| key.len();
        let key = names(&self.keys)
            .filter(|key| own.ends_with(&format!("_{}", key.to_uppercase())))
            .max_by_key(by_length)?;
        let upper = own.get(..own.len() - key.len() - 1).filter(|name| !name.is_empty())?;
        let mut names = spelled.iter().filter(|path| path[0] == self.table).filter_map(|path| path.get(1));
        let spelled = names.find(|name| in_variable(name) == upper).cloned();
        Some(vec![self.table.to_owned(), spelled.unwrap_or_else(|| upper.to_lowercase()), key.clone()])
    }
}

fn as_toml(defaults: &impl Serialize) -> Value {
    Value::try_from(defaults).expect("the defaults are a TOML table")
}

/// The names in a table; none if it is a plain value.
fn names(table: &Value) -> impl Iterator<Item = &String> {
    table.as_table().into_iter().flat_map(Table::keys)
}

/// A path as written in sentences. Its last part is quoted if a file has to quote it.
pub(super) fn dotted(path: &[String]) -> String {
    match path {
        [tables @ .., key] => [tables, &[quoted(key)]].concat().join("."),
        [] => String::new(),
    }
}

/// A key as written in a file: in quotes if it has other characters than TOML's bare keys.
pub(super) fn quoted(key: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !key.is_empty() && key.bytes().all(is_bare) {
        key.to_owned()
    } else {
        // What JSON escapes, TOML escapes as well.
        serde_json::Value::from(key).to_string()
    }
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
            ("backends.shop.ulr", "backends.shop.url"),
            ("backend", "backends"),
            ("rpc.method", "rpc.methods"),
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
        for unknown in ["log.zzzzz", "log.l", "x", "redis.address", "limits.zz", "namespaces.chat.zzz"] {
            assert_eq!(keys.nearest(&path(unknown)), None, "{unknown}");
        }
        for unknown in ["FANFARE_REDIS_ADDRESS", "FANFARE_X", "FANFARE_", "FANFARE_HOME", "FANFARE_LOG"] {
            assert_eq!(keys.nearest_variable(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn the_keys_of_some_tables_are_the_operators_and_hold_text() {
        let keys = Keys::new();
        let methods = |method: &str| vec!["rpc".to_owned(), "methods".to_owned(), method.to_owned()];
        for (path, is_table) in [
            (methods("order.*"), Some(false)),
            ([methods("order"), vec!["x".to_owned()]].concat(), None),
            (path("rpc.methods"), Some(true)),
            (path("backends"), Some(true)),
            (path("backends.shop"), Some(true)),
            (path("backends.shop.url"), Some(false)),
            (path("backends.shop.static_headers"), Some(true)),
            (path("backends.shop.static_headers.X-Key"), Some(false)),
            (path("backends.shop.methods"), None),
        ] {
            assert_eq!(keys.find(&path).map(Value::is_table), is_table, "{path:?}");
        }
    }

    #[test]
    fn a_key_is_quoted_where_a_file_must_quote_it() {
        for (key, written) in [
            ("url", "url"),
            ("X-Key_2", "X-Key_2"),
            ("order.*", "\"order.*\""),
            ("", "\"\""),
            ("a\nb", "\"a\\nb\""),
        ] {
            let path = ["rpc", "methods", key].map(str::to_owned);
            assert_eq!(dotted(&path), format!("rpc.methods.{written}"));
            let file = format!("{} = 1", dotted(&path));
            let table: Table = file.parse().unwrap();
            assert!(table["rpc"]["methods"].get(key).is_some(), "{file}");
        }
    }

    #[test]
    fn a_variable_names_a_key() {
        let keys = Keys::new();
        let spelled =
            ["namespaces.Chat-room", "namespaces.Chat-room.slow", "backends.Shop.url", "limits.clients"];
        let spelled = spelled.map(path);
        for (variable, key) in [
            ("FANFARE_SERVER_LISTEN", Some("server.listen")),
            ("FANFARE_CONTROL_API_KEY", Some("control.api_key")),
            ("FANFARE_NAMESPACES_ORDER_MAX_BYTES", Some("namespaces.order.max_bytes")),
            ("FANFARE_NAMESPACES_CHAT_ROOM_SLOW", Some("namespaces.Chat-room.slow")),
            ("FANFARE_BACKENDS_SHOP_URL", Some("backends.Shop.url")),
            ("FANFARE_BACKENDS_CHAT_ROOM_URL", Some("backends.chat_room.url")),
            ("FANFARE_BACKENDS_SHOP_STATIC_HEADERS", Some("backends.Shop.static_headers")),
            ("FANFARE_RPC_METHODS", Some("rpc.methods")),
            ("FANFARE_BACKENDS_URL", None),
            ("FANFARE_NAMESPACES_SLOW", None),
            ("FANFARE_NAMESPACES__SLOW", None),
            ("FANFARE_LISTEN", None),
        ] {
            assert_eq!(keys.of_variable(variable, &spelled), key.map(path), "{variable}");
        }
    }
}
