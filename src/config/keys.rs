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
    /// the same name in another table, else the most similar of all.
    pub(super) fn nearest(&self, unknown: &[String]) -> String {
        let Some((last, table)) = unknown.split_last() else { return String::new() };
        let siblings: Vec<Path> = self
            .find(table)
            .into_iter()
            .flat_map(names)
            .map(|name| [table, std::slice::from_ref(name)].concat())
            .collect();
        let similar = |path: &&Path| path.last().is_some_and(|name| similarity(name, last) > 0.7);
        let homonym = |path: &&Path| path.last() == Some(last);
        let everywhere: Vec<Path> = self.all().into_iter().chain(siblings.iter().cloned()).collect();
        best(siblings.iter().filter(similar), unknown)
            .or_else(|| best(everywhere.iter().filter(homonym), unknown))
            .or_else(|| best(everywhere.iter(), unknown))
            .unwrap_or_default()
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
    pub(super) fn nearest_variable(&self, unknown: &str) -> String {
        let known = self.all().into_iter().map(|path| variable(&path));
        known.max_by(|a, b| similarity(a, unknown).total_cmp(&similarity(b, unknown))).unwrap_or_default()
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

/// The similarity of two names, from 0 to 1.
fn similarity(a: &str, b: &str) -> f64 {
    strsim::normalized_damerau_levenshtein(a, b)
}

/// The path most like `unknown`, dotted.
fn best<'a>(paths: impl Iterator<Item = &'a Path>, unknown: &[String]) -> Option<String> {
    let unknown = dotted(unknown);
    paths.map(|path| dotted(path)).max_by(|a, b| similarity(a, &unknown).total_cmp(&similarity(b, &unknown)))
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
            ("limits.client", "limits.clients"),
            ("listen", "server.listen"),
            ("server.frame_bytes", "limits.frame_bytes"),
            ("frame_bytes", "limits.frame_bytes"),
            ("namespaces.chat.slwo", "namespaces.chat.slow"),
            ("log.zzzzz", "log.level"),
        ] {
            assert_eq!(keys.nearest(&path(unknown)), nearest, "{unknown}");
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
