//! Maps a topic's name to the options of its namespace. Built once at start-up, shared by all threads, never
//! changed.

use std::collections::BTreeMap;

use crate::config::{Config, Namespace, UnknownNamespace};

/// The number of a namespace: an index into [`Namespaces`]. 0 is the default namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamespaceId(u16);

impl NamespaceId {
    /// As an index, from 0.
    #[must_use]
    pub fn number(self) -> usize {
        usize::from(self.0)
    }
}

/// All namespaces of the configuration.
#[derive(Debug)]
pub struct Namespaces {
    boundary: char,
    refuses_unknown: bool,
    by_name: BTreeMap<String, NamespaceId>,
    options: Vec<Namespace>,
}

impl Namespaces {
    /// The namespaces of `config`. `[namespaces.default]`, if it exists, serves all topics of no other
    /// namespace.
    ///
    /// # Panics
    /// With more than 65,535 namespaces, which the configuration's validation refuses.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let mut options = vec![config.namespaces.get("default").cloned().unwrap_or_default()];
        let mut by_name = BTreeMap::new();
        for (name, namespace) in config.namespaces.iter().filter(|(name, _)| *name != "default") {
            let id = u16::try_from(options.len()).expect("validated: at most 65,535 namespaces");
            by_name.insert(name.clone(), NamespaceId(id));
            options.push(namespace.clone());
        }
        let refuses_unknown = config.server.unknown_namespace == UnknownNamespace::Refuse;
        Self { boundary: config.server.namespace_boundary, refuses_unknown, by_name, options }
    }

    /// Whether a topic of this name is allowed: not if its namespace is not configured and such topics are
    /// refused.
    #[must_use]
    pub fn is_known(&self, topic: &str) -> bool {
        !self.refuses_unknown
            || topic.split_once(self.boundary).is_none_or(|(name, _)| self.by_name.contains_key(name))
    }

    /// The namespace of `topic`: the part before the first boundary, or the default namespace.
    #[must_use]
    pub fn of(&self, topic: &str) -> NamespaceId {
        topic
            .split_once(self.boundary)
            .and_then(|(name, _)| self.by_name.get(name).copied())
            .unwrap_or(NamespaceId(0))
    }

    /// The names of the namespaces, in the order of their numbers.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names = vec!["default".to_owned(); self.options.len()];
        for (name, id) in &self.by_name {
            names[id.number()].clone_from(name);
        }
        names
    }

    /// The options of a namespace.
    #[must_use]
    pub fn options(&self, id: NamespaceId) -> &Namespace {
        &self.options[usize::from(id.0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_belongs_to_what_stands_before_the_first_boundary() {
        let mut config = Config::default();
        config
            .namespaces
            .insert("chat".to_owned(), Namespace { client_publish: true, ..Namespace::default() });
        let namespaces = Namespaces::new(&config);
        for (topic, may_publish) in
            [("chat:1", true), ("chat:1:2", true), ("chat", false), ("chatter:1", false), (":1", false)]
        {
            assert_eq!(namespaces.options(namespaces.of(topic)).client_publish, may_publish, "{topic}");
        }
    }

    #[test]
    fn a_namespace_that_is_not_configured_is_the_default_one_or_unknown() {
        let mut config = Config::default();
        for name in ["chat", "default"] {
            config.namespaces.insert(name.to_owned(), Namespace::default());
        }
        let topics = ["chat:1", "news", "chat", "", "nons:x", "Chat:1", "default:1", ":1"];
        let known = |config: &Config| topics.map(|topic| Namespaces::new(config).is_known(topic));
        assert_eq!(known(&config), [true; 8]);
        config.server.unknown_namespace = UnknownNamespace::Refuse;
        assert_eq!(known(&config), [true, true, true, true, false, false, false, false]);
    }
}
