//! The keys of a configuration that differ from their defaults.

use toml::{Table, Value};

use super::keys::quoted;
use super::{Backend, Config, Namespace};

impl Config {
    /// Every key that differs from its default, with its value as TOML; secrets are masked. A namespace or a backend is
    /// shown even if all its options have their defaults, because a configured one is itself a difference.
    #[must_use]
    pub fn differences(&self) -> Vec<(String, String)> {
        let mut own = written(self);
        let defaults = written(&Self::default());
        let named =
            [("backends", written(&Backend::default())), ("namespaces", written(&Namespace::default()))];
        let named = named.map(|(table, defaults)| (table, own.remove(table), defaults));
        let mut found = Vec::new();
        collect("", &own, &defaults, &mut found);
        for (table, own, defaults) in &named {
            for (name, options) in own.iter().filter_map(Value::as_table).flatten() {
                let before = found.len();
                if let Value::Table(options) = options {
                    collect(&format!("{table}.{name}."), options, defaults, &mut found);
                }
                if found.len() == before {
                    found.push((format!("{table}.{name}"), "{}".to_owned()));
                }
            }
        }
        found
    }
}

fn written(value: &impl serde::Serialize) -> Table {
    Table::try_from(value).expect("the configuration can be written as TOML")
}

fn collect(prefix: &str, own: &Table, defaults: &Table, found: &mut Vec<(String, String)>) {
    for (key, value) in own {
        match (value, defaults.get(key)) {
            (Value::Table(own), Some(Value::Table(defaults))) => {
                collect(&format!("{prefix}{key}."), own, defaults, found);
            }
            (value, default) if default != Some(value) => {
                found.push((format!("{prefix}{}", quoted(key)), value.to_string()));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Allowed;
    use super::*;

    #[test]
    fn only_what_differs_is_listed() {
        assert_eq!(Config::default().differences(), []);
        let mut config = Config::default();
        config.limits.clients = 7;
        config.control.api_key = "hunter2".into();
        config.amqp.url = "amqp://a:hunter2@b".into();
        config.rpc.methods.insert("order.*".to_owned(), "shop".to_owned());
        let headers = [("X-Key".to_owned(), "hunter2".into())].into();
        let shop =
            Backend { url: "http://shop/?key=hunter2".into(), static_headers: headers, ..Backend::default() };
        config.backends.insert("shop".to_owned(), shop);
        config.backends.insert("amqp".to_owned(), Backend::default());
        config.namespaces.insert("plain".to_owned(), Namespace::default());
        let chat = Namespace { client_publish: Allowed::EVERYONE, ..Namespace::default() };
        config.namespaces.insert("chat".to_owned(), chat);
        let mut differences = config.differences();
        differences.sort_unstable();
        let expected = [
            ("amqp.url", "\"amqp://b:5672/%2f\""),
            ("backends.amqp", "{}"),
            ("backends.shop.static_headers.X-Key", "\"***\""),
            ("backends.shop.url", "\"http://shop/\""),
            ("control.api_key", "\"***\""),
            ("limits.clients", "7"),
            ("namespaces.chat.client_publish", "true"),
            ("namespaces.plain", "{}"),
            ("rpc.methods.\"order.*\"", "\"shop\""),
        ];
        assert_eq!(differences, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
}
