//! What the configuration says of a topic, by its name. Shared by all threads, and never changed: a reload makes another
//! value, in which each namespace has the number that it had.

use std::collections::BTreeMap;

use crate::config::{Config, NAMESPACES_MAX, Namespace, USER_SEPARATOR, UnknownNamespace};
use crate::domain::topic_pattern::TopicPattern;

/// The number of a namespace: an index into [`Namespaces`]. 0 is the default namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamespaceId(u16);

impl NamespaceId {
    const DEFAULT: Self = Self(0);

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
    private_prefix: String,
    user_boundary: String,
    refuses_unknown: bool,
    by_name: BTreeMap<String, NamespaceId>,
    namespaces: Vec<Compiled>,
}

/// A namespace's options, and its pattern ready for use.
#[derive(Clone, Debug)]
struct Compiled {
    options: Namespace,
    pattern: Option<TopicPattern>,
    /// It is no longer configured. Topics that have subscribers keep its options and its number.
    is_removed: bool,
}

impl Compiled {
    fn new(options: Namespace) -> Self {
        let pattern = Some(&options.topic_pattern).filter(|text| !text.is_empty());
        let pattern = pattern.map(|text| TopicPattern::parse(text).expect("validated: it is a pattern"));
        Self { options, pattern, is_removed: false }
    }
}

/// The engine has had as many different namespaces since its start as there are numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there would be more than {NAMESPACES_MAX} namespaces, with those that were removed since the start: a restart \
     forgets these"
)]
pub struct TooManyNamespaces;

/// What the configuration says of one topic.
#[derive(Clone, Copy, Debug)]
pub struct TopicRules<'a> {
    /// The options of its namespace.
    pub options: &'a Namespace,
    /// For whom it is, by its name.
    pub audience: Audience<'a>,
    pattern: Option<&'a TopicPattern>,
    own_part: &'a str,
}

impl TopicRules<'_> {
    /// Whether the namespace's `topic_pattern` allows the topic's name.
    #[must_use]
    pub fn fits_pattern(&self) -> bool {
        self.pattern.is_none_or(|pattern| pattern.matches(self.own_part))
    }
}

/// For whom a topic is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience<'a> {
    /// For everyone that the namespace's options admit.
    Open,
    /// For clients with a subscription token.
    Private,
    /// For the users of this list, divided by commas.
    Users(&'a str),
}

impl Audience<'_> {
    /// Whether the topic's name lists this user. Anonymous clients, whose user is empty, are never listed.
    #[must_use]
    pub fn lists(self, user: &str) -> bool {
        match self {
            Self::Users(list) => !user.is_empty() && list.split(USER_SEPARATOR).any(|listed| listed == user),
            Self::Open | Self::Private => false,
        }
    }
}

impl Namespaces {
    /// The namespaces of `config`. `[namespaces.default]`, if it exists, has the options of the default namespace.
    ///
    /// # Panics
    /// With more than 65,535 namespaces, or with a `topic_pattern` that is none: the configuration's validation refuses
    /// both.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let none_yet = Self::of_server(config, BTreeMap::new(), Vec::new());
        none_yet.reloaded(config).expect("validated: at most 65,535 namespaces")
    }

    /// The namespaces of `config`, each with the number that it has or had. New ones get new numbers. Those that `config` does
    /// not have are removed: their topics are unknown, and keep the options that they had while they have subscribers.
    ///
    /// # Errors
    /// If there are no numbers left.
    ///
    /// # Panics
    /// With a `topic_pattern` that is none: the configuration's validation refuses it.
    pub fn reloaded(&self, config: &Config) -> Result<Self, TooManyNamespaces> {
        let mut by_name = self.by_name.clone();
        for name in config.namespaces.keys().filter(|name| *name != "default") {
            if !by_name.contains_key(name) {
                let next = u16::try_from(by_name.len() + 1).map_err(|_| TooManyNamespaces)?;
                by_name.insert(name.clone(), NamespaceId(next));
            }
        }
        let default = config.namespaces.get("default").cloned().unwrap_or_default();
        let mut namespaces = vec![Compiled::new(default); by_name.len() + 1];
        for (name, id) in &by_name {
            namespaces[id.number()] = match config.namespaces.get(name) {
                Some(options) => Compiled::new(options.clone()),
                None => Compiled { is_removed: true, ..self.namespaces[id.number()].clone() },
            };
        }
        Ok(Self::of_server(config, by_name, namespaces))
    }

    fn of_server(config: &Config, by_name: BTreeMap<String, NamespaceId>, namespaces: Vec<Compiled>) -> Self {
        let server = &config.server;
        Self {
            boundary: server.namespace_boundary,
            private_prefix: server.private_prefix.clone(),
            user_boundary: server.user_boundary.clone(),
            refuses_unknown: server.unknown_namespace == UnknownNamespace::Refuse,
            by_name,
            namespaces,
        }
    }

    /// Whether a topic of this name is allowed: not if its namespace is not configured and such topics are
    /// refused.
    #[must_use]
    pub fn is_known(&self, topic: &str) -> bool {
        !self.refuses_unknown
            || self.split(topic).0.is_some_and(|id| !self.namespaces[id.number()].is_removed)
    }

    /// The namespaces whose topics have a complete history from now on, and had none `before`: they are new, or come back.
    #[must_use]
    pub fn with_new_history(&self, before: &Self) -> Vec<NamespaceId> {
        let numbers = (0..).zip(&self.namespaces);
        let have_history = |namespaces: &[Compiled], number: u16| {
            let namespace = namespaces.get(usize::from(number));
            namespace.is_some_and(|namespace| !namespace.is_removed && namespace.options.has_history())
        };
        let begin =
            |number| have_history(&self.namespaces, number) && !have_history(&before.namespaces, number);
        numbers.map(|(number, _)| number).filter(|&number| begin(number)).map(NamespaceId).collect()
    }

    /// Whether there is a namespace of this number, removed or not.
    #[must_use]
    pub fn has(&self, id: NamespaceId) -> bool {
        id.number() < self.namespaces.len()
    }

    /// The namespace of `topic`: the part before the first boundary, without the private prefix, or the default
    /// namespace.
    #[must_use]
    pub fn of(&self, topic: &str) -> NamespaceId {
        self.split(topic).0.unwrap_or(NamespaceId::DEFAULT)
    }

    /// What holds for `topic`; `None` if its namespace is not configured and such topics are refused.
    #[must_use]
    pub fn rules<'a>(&'a self, topic: &'a str) -> Option<TopicRules<'a>> {
        let (namespace, own_part) = self.split(topic);
        if namespace.is_none() && self.refuses_unknown {
            return None;
        }
        let id = namespace.unwrap_or(NamespaceId::DEFAULT);
        let Compiled { options, pattern, is_removed } = &self.namespaces[id.number()];
        if *is_removed && self.refuses_unknown {
            return None;
        }
        let audience = self.audience(topic, own_part);
        Some(TopicRules { options, audience, pattern: pattern.as_ref(), own_part })
    }

    /// The namespace that a topic's name names, if it is configured, and the topic's own part behind it: the whole name
    /// if there is none.
    fn split<'n>(&self, topic: &'n str) -> (Option<NamespaceId>, &'n str) {
        let unprefixed = topic.strip_prefix(self.private_prefix.as_str()).unwrap_or(topic);
        let Some((name, own)) = unprefixed.split_once(self.boundary) else {
            return (Some(NamespaceId::DEFAULT), topic);
        };
        match self.by_name.get(name) {
            Some(&id) => (Some(id), own),
            None => (None, topic),
        }
    }

    fn audience<'n>(&self, topic: &str, own: &'n str) -> Audience<'n> {
        let is_private =
            |name: &str| !self.private_prefix.is_empty() && name.starts_with(&self.private_prefix);
        if is_private(topic) || is_private(own) {
            return Audience::Private;
        }
        if self.user_boundary.is_empty() {
            return Audience::Open;
        }
        own.rsplit_once(self.user_boundary.as_str())
            .map_or(Audience::Open, |(_, users)| Audience::Users(users))
    }

    /// The names of the namespaces, in the order of their numbers.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names = vec!["default".to_owned(); self.namespaces.len()];
        for (name, id) in &self.by_name {
            names[id.number()].clone_from(name);
        }
        names
    }

    /// The options of a namespace.
    #[must_use]
    pub fn options(&self, id: NamespaceId) -> &Namespace {
        &self.namespaces[id.number()].options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(names: &[&str]) -> Config {
        let mut config = Config::default();
        for name in names {
            config.namespaces.insert((*name).to_owned(), Namespace::default());
        }
        config
    }

    #[test]
    fn a_topic_belongs_to_what_stands_before_the_first_boundary() {
        let mut config = config(&["chat"]);
        config.server.unknown_namespace = UnknownNamespace::Default;
        let namespaces = Namespaces::new(&config);
        for (topic, namespace) in [
            ("chat:1", "chat"),
            ("chat:1:2", "chat"),
            ("$chat:1", "chat"),
            ("$$chat:1", "default"),
            ("chat", "default"),
            ("chatter:1", "default"),
            (":1", "default"),
        ] {
            assert_eq!(namespaces.names()[namespaces.of(topic).number()], namespace, "{topic}");
        }
    }

    #[test]
    fn a_namespace_that_is_not_configured_is_the_default_one_or_unknown() {
        let mut config = config(&["chat", "default"]);
        let topics = ["chat:1", "$chat:1", "news", "chat", "", "nons:x", "Chat:1", "default:1", ":1"];
        let known = |config: &Config| {
            let namespaces = Namespaces::new(config);
            topics.map(|topic| {
                let is_known = namespaces.is_known(topic);
                assert_eq!(namespaces.rules(topic).is_some(), is_known, "{topic}");
                is_known
            })
        };
        config.server.unknown_namespace = UnknownNamespace::Refuse;
        assert_eq!(known(&config), [true, true, true, true, true, false, false, false, false]);
        config.server.unknown_namespace = UnknownNamespace::Default;
        assert_eq!(known(&config), [true; 9]);
    }

    #[test]
    fn namespaces_keep_their_numbers_when_others_come_and_go() {
        let start = Namespaces::new(&config(&["b", "d"]));
        assert_eq!(start.names(), ["default", "b", "d"]);
        let mut changed = config(&["a", "d"]);
        changed.namespaces.get_mut("d").unwrap().history_size = 7;
        let changed = start.reloaded(&changed).unwrap();
        assert_eq!(changed.names(), ["default", "b", "d", "a"]);
        let numbers =
            |namespaces: &Namespaces| ["x", "b:x", "d:x", "a:x"].map(|topic| namespaces.of(topic).number());
        assert_eq!(numbers(&changed), [0, 1, 2, 3]);
        assert_eq!(changed.options(changed.of("d:x")).history_size, 7);
        for (topic, is_known) in [("x", true), ("b:x", false), ("d:x", true), ("a:x", true), ("c:x", false)] {
            assert_eq!(changed.is_known(topic), is_known, "{topic}");
            assert_eq!(changed.rules(topic).is_some(), is_known, "{topic}");
        }
        let again = changed.reloaded(&config(&["a", "b"])).unwrap();
        assert_eq!((again.names(), numbers(&again)), (changed.names(), [0, 1, 2, 3]));
        assert!(again.is_known("b:x") && !again.is_known("d:x"));
        assert_eq!(again.options(again.of("d:x")).history_size, 7, "topics in use keep what they had");
    }

    #[test]
    fn a_history_begins_when_its_namespace_comes_or_comes_back() {
        let with_history = |names: &[&str]| {
            let mut config = config(names);
            config.namespaces.values_mut().for_each(|options| options.history_size = 1);
            config
        };
        let start = Namespaces::new(&with_history(&["a"]));
        let changed = start.reloaded(&with_history(&["a", "b"])).unwrap();
        let begun = |namespaces: &Namespaces, before| {
            let ids = namespaces.with_new_history(before).into_iter();
            ids.map(|id| (namespaces.names()[id.number()].clone(), before.has(id))).collect::<Vec<_>>()
        };
        assert_eq!(begun(&changed, &start), [("b".to_owned(), false)]);
        let removed = changed.reloaded(&with_history(&["b"])).unwrap();
        assert_eq!(begun(&removed, &changed), []);
        let back = removed.reloaded(&with_history(&["a", "b"])).unwrap();
        assert_eq!(begun(&back, &removed), [("a".to_owned(), true)]);
        assert_eq!(begun(&back.reloaded(&config(&["a", "b"])).unwrap(), &back), []);
    }

    #[test]
    fn numbers_of_namespaces_are_limited() {
        let names: Vec<String> = (0..NAMESPACES_MAX).map(|number| number.to_string()).collect();
        let all = Namespaces::new(&config(&names.iter().map(String::as_str).collect::<Vec<_>>()));
        assert!(all.reloaded(&config(&["7"])).is_ok());
        assert_eq!(all.reloaded(&config(&["new"])).unwrap_err(), TooManyNamespaces);
    }

    #[test]
    fn a_name_says_for_whom_a_topic_is() {
        let mut config = config(&["chat"]);
        config.server.unknown_namespace = UnknownNamespace::Default;
        let usual = Namespaces::new(&config);
        config.server.private_prefix = "priv-".to_owned();
        config.server.user_boundary = "@@".to_owned();
        let other = Namespaces::new(&config);
        config.server.private_prefix.clear();
        config.server.user_boundary.clear();
        let neither = Namespaces::new(&config);
        let users = Audience::Users;
        for (namespaces, topic, audience) in [
            (&usual, "news", Audience::Open),
            (&usual, "chat:room", Audience::Open),
            (&usual, "$news", Audience::Private),
            (&usual, "chat:$room", Audience::Private),
            (&usual, "$chat:room", Audience::Private),
            (&usual, "unknown:$room", Audience::Open),
            (&usual, "a$b", Audience::Open),
            (&usual, "$news#1", Audience::Private),
            (&usual, "#42", users("42")),
            (&usual, "chat:#42", users("42")),
            (&usual, "news#1,2", users("1,2")),
            (&usual, "a#b#1,2", users("1,2")),
            (&usual, "news#", users("")),
            (&usual, "un#known:1", users("known:1")),
            (&other, "priv-chat:1", Audience::Private),
            (&other, "chat:a@@1", users("1")),
            (&other, "chat:a@1", Audience::Open),
            (&other, "$news", Audience::Open),
            (&neither, "$news", Audience::Open),
            (&neither, "news#1", Audience::Open),
        ] {
            assert_eq!(namespaces.rules(topic).unwrap().audience, audience, "{topic}");
        }
    }

    #[test]
    fn a_listed_user_is_listed_exactly() {
        for (list, user, is_listed) in [
            ("1,2", "1", true),
            ("1,2", "2", true),
            ("1,2", "12", false),
            ("1,2", "", false),
            ("", "", false),
            ("1,,2", "", false),
            ("1, 2", "2", false),
            ("1,2", "1,2", false),
        ] {
            assert_eq!(Audience::Users(list).lists(user), is_listed, "{user:?} in {list:?}");
        }
        assert!(!Audience::Open.lists("1") && !Audience::Private.lists("1"));
    }

    #[test]
    fn a_pattern_is_for_the_part_behind_the_namespace() {
        let mut config = config(&["chat", "default"]);
        config.server.unknown_namespace = UnknownNamespace::Default;
        for namespace in config.namespaces.values_mut() {
            namespace.topic_pattern = "[a-z]+(:[a-z]+)?".to_owned();
        }
        let namespaces = Namespaces::new(&config);
        for (topic, fits) in [
            ("chat:room", true),
            ("$chat:room", true),
            ("chat:", false),
            ("chat:7", false),
            ("chat:$room", false),
            ("news", true),
            ("news7", false),
            ("unknown:room", true),
            ("unknown:7", false),
        ] {
            assert_eq!(namespaces.rules(topic).unwrap().fits_pattern(), fits, "{topic}");
        }
    }
}
