//! Every combination of what a decision depends on, against the rules as a table.

use std::sync::Arc;

use super::super::capability::capabilities;
use super::super::fields;
use super::*;
use crate::config::Config;
use crate::domain::namespaces::Namespaces;

/// The rules. For each combination the first row counts that applies; `-` applies to all. `server` is whether the
/// namespace is `server_only`, `token` whether the client shows a subscription token, `caps` what its capabilities
/// allow with the topic, `flag` whom the namespace's key for the action names: `role` is the client as anonymous or as
/// a user, `subs` the subscribers.
const TABLE: &str = "
action     topic      server  user      subscribed  token  caps  flag   outcome
-          malformed  -       -         -           -      -     -      107

subscribe  -          yes     -         -           -      -     -      103
subscribe  -          -       -         -           yes    -     -      ok
subscribe  private    -       -         -           -      -     -      103
subscribe  limited    -       listed    -           -      -     -      ok
subscribe  limited    -       -         -           -      -     -      103
subscribe  open       -       -         -           -      this  -      ok
subscribe  open       -       -         -           -      -     role   ok

-          private    yes     -         no          -      -     -      103
-          limited    yes     -         no          -      -     -      103
-          private    -       -         no          no     -     -      103
-          limited    -       other     no          no     -     -      103
-          limited    -       anonymous no          no     -     -      103

-          -          -       -         -           -      this  -      ok
presence   -          -       -         -           -      -     role   ok
presence   -          -       -         yes         -      -     subs   ok
publish    -          -       -         -           -      -     role   ok
publish    -          -       -         yes         -      -     subs   ok
history    -          -       -         -           -      -     role   ok
history    -          -       -         yes         -      -     subs   ok
-          -          -       -         -           -      -     -      103
";

const ACTIONS: [(&str, Action, &str); 4] = [
    ("subscribe", Action::Subscribe, "sub"),
    ("publish", Action::Publish, "pub"),
    ("presence", Action::Presence, "prs"),
    ("history", Action::History, "hst"),
];
const TOPICS: [(&str, &str); 4] =
    [("open", "room"), ("private", "$room"), ("limited", "room#1,2"), ("malformed", "ROOM")];
const USERS: [(&str, &str); 3] = [("anonymous", ""), ("listed", "2"), ("other", "12")];
const YES_OR_NO: [(&str, bool); 2] = [("no", false), ("yes", true)];
/// What capabilities a client has: none, for the action and the topic in question, for this and all other actions, for
/// another action only, for another topic only.
const CAPS: [&str; 5] = ["none", "this", "all", "action", "topic"];

/// One combination, in the words of the table but for the flag: the roles that the key names.
#[derive(Debug)]
struct Cell {
    words: [&'static str; 7],
    flag: Vec<Role>,
}

impl Cell {
    fn is_in(&self, row: &[&str]) -> bool {
        let role = if self.words[3] == "anonymous" { Role::Anonymous } else { Role::User };
        let has_flag = match row[self.words.len()] {
            "-" => true,
            "role" => self.flag.contains(&role),
            "subs" => self.flag.contains(&Role::Subscriber),
            other => panic!("a flag {other}"),
        };
        let fits = |word: &str, pattern: &str| match pattern {
            "-" => true,
            "this" => ["this", "all"].contains(&word),
            pattern => word == pattern,
        };
        has_flag && self.words.iter().zip(row).all(|(word, pattern)| fits(word, pattern))
    }
}

/// The rows of the table without its head, and how often each was the first that applied.
fn rows() -> Vec<(Vec<&'static str>, usize)> {
    let rows = TABLE.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| !row.is_empty()).skip(1).map(|row| (row, 0)).collect()
}

/// All sets of roles.
fn flags() -> impl Iterator<Item = Vec<Role>> {
    let roles = [Role::Anonymous, Role::User, Role::Subscriber];
    (0..1 << roles.len()).map(move |bits: u8| {
        roles.into_iter().enumerate().filter(|(bit, _)| bits & 1 << bit != 0).map(|(_, role)| role).collect()
    })
}

/// Namespaces `own` and `server`, of which the second is `server_only`. Each of their keys names these roles.
fn namespaces(flag: &[Role]) -> Namespaces {
    let mut config = Config::default();
    for (name, server_only) in [("own", false), ("server", true)] {
        let allowed = flag.iter().copied().collect();
        let namespace = Namespace {
            client_subscribe: allowed,
            client_publish: allowed,
            client_history: allowed,
            client_presence: allowed,
            topic_pattern: "[a-z0-9$#,]+".to_owned(),
            server_only,
            ..Namespace::default()
        };
        config.namespaces.insert(name.to_owned(), namespace);
    }
    Namespaces::new(&config)
}

/// Capabilities of a kind, for an action by its name in tokens.
fn caps(kind: &str, topic: &str, action: &str) -> Arc<[Capability]> {
    let other = if action == "sub" { "pub" } else { "sub" };
    let (topic, actions) = match kind {
        "this" => (topic, format!("\"{action}\"")),
        "all" => (topic, r#""sub","pub","prs","hst""#.to_owned()),
        "action" => (topic, format!("\"{other}\"")),
        "topic" => ("own:other", format!("\"{action}\"")),
        _ => return Arc::default(),
    };
    let claim = format!(r#"[{{"channels":["{topic}"],"allow":[{actions}]}}]"#);
    capabilities(&claim, &fields::Rules::new(&Config::default())).expect("they are valid")
}

/// One of `all`, by the last digit of `number`, which is removed.
fn pick<T: Copy>(number: &mut usize, all: &[T]) -> T {
    let item = all[*number % all.len()];
    *number /= all.len();
    item
}

/// How many combinations there are for each set of roles.
const COMBINATIONS: usize = ACTIONS.len() * TOPICS.len() * 2 * USERS.len() * 2 * 2 * CAPS.len();

/// What is granted in one of the combinations. With `is_subscribed`, the client is subscribed or not whatever the
/// combination says.
fn granted(
    mut number: usize,
    flag: &[Role],
    namespaces: &Namespaces,
    is_subscribed: Option<bool>,
) -> (Cell, String, bool) {
    let (action_word, action, claim) = pick(&mut number, &ACTIONS);
    let (topic_word, own_part) = pick(&mut number, &TOPICS);
    let (server, namespace) = pick(&mut number, &[("no", "own"), ("yes", "server")]);
    let (user_word, user) = pick(&mut number, &USERS);
    let (subscribed, really) = pick(&mut number, &YES_OR_NO);
    let (token, has_subscription_token) = pick(&mut number, &YES_OR_NO);
    let caps_word = pick(&mut number, &CAPS);
    let topic = format!("{namespace}:{own_part}");
    let caps = &caps(caps_word, &topic, claim)[..];
    let rules = namespaces.rules(&topic).expect("its namespace is configured");
    let subject =
        Subject { user, is_subscribed: is_subscribed.unwrap_or(really), caps, has_subscription_token };
    let outcome = grant(&topic, &rules, &subject, action).map_or_else(
        |error| error.code().to_string(),
        |granted| if granted == Granted::Yes { "ok" } else { "ask" }.to_owned(),
    );
    let words = [action_word, topic_word, server, user_word, subscribed, token, caps_word];
    (Cell { words, flag: flag.to_vec() }, outcome, depends_on_subscription(&rules, action))
}

#[test]
fn every_combination_has_the_outcome_of_the_table() {
    let mut rows = rows();
    for flag in flags() {
        let namespaces = namespaces(&flag);
        for number in 0..COMBINATIONS {
            let (cell, outcome, _) = granted(number, &flag, &namespaces, None);
            let first = rows.iter_mut().find(|(row, _)| cell.is_in(row));
            let (row, uses) = first.unwrap_or_else(|| panic!("{cell:?} is in no row"));
            *uses += 1;
            assert_eq!(Some(&*outcome), row.last().copied(), "{cell:?} by {row:?}");
        }
    }
    let unused: Vec<_> = rows.iter().filter(|(_, uses)| *uses == 0).collect();
    assert!(unused.is_empty(), "{unused:?}");
}

#[test]
fn a_subscription_makes_no_difference_where_it_needs_not_be_known() {
    let mut differences = 0;
    for flag in flags() {
        let namespaces = namespaces(&flag);
        for number in 0..COMBINATIONS {
            let (cell, with, depends) = granted(number, &flag, &namespaces, Some(true));
            let (_, without, _) = granted(number, &flag, &namespaces, Some(false));
            assert!(depends || with == without, "{cell:?}");
            differences += usize::from(with != without);
        }
    }
    assert!(differences > 0, "somewhere it makes one");
}
