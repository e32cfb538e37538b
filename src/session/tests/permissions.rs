//! What a client may do with a topic, as far as the session decides it.

use super::*;
use crate::config::Role;

/// Each kind of permission once: all combinations are tested where the decision is made.
#[test]
fn a_client_may_do_what_it_is_permitted() {
    let world = World::new(|config| {
        let subscribers = [Role::Subscriber].into_iter().collect();
        let members = Namespace {
            client_subscribe: Allowed::NOBODY,
            client_publish: subscribers,
            client_history: subscribers,
            history_size: 10,
            topic_pattern: "[a-z#1$]+".to_owned(),
            ..Namespace::default()
        };
        let server = Namespace { server_only: true, ..Namespace::default() };
        config.namespaces.extend([("members".to_owned(), members), ("server".to_owned(), server)]);
    });
    let kinds: [Asks; 3] =
        [|topic| subscribe(1, topic), |topic| publish(1, topic, b"1"), |topic| history(1, topic)];
    let is_subscribed = || Facts { subscribed: Some(TopicSlot(1)), ..ROOM };
    let [refused, malformed] = ["1: error 103", "1: error 107"];
    for (topic, facts, expected) in [
        ("members:t", ROOM, [refused; 3]),
        ("members:t", is_subscribed(), ["1: error 105", "1: publish 1 to members:t", "1: history members:t"]),
        ("members:T", is_subscribed(), ["1: error 105", malformed, malformed]),
        ("members:T", ROOM, [malformed; 3]),
        ("open:$t", ROOM, [refused; 3]),
        ("$open:t", ROOM, [refused; 3]),
        ("open:t#1", ROOM, [refused; 3]),
        ("open:t#1", is_subscribed(), ["1: error 105", "1: publish 1 to open:t#1", "1: history open:t#1"]),
        ("server:t", ROOM, [refused, refused, "1: error 108"]),
    ] {
        for (read, expected) in kinds.iter().zip(expected) {
            assert_eq!(world.ask(read(topic), facts.clone()), expected, "{topic:?} with {facts:?}");
        }
    }
    // A shard looks for the subscription only where it matters.
    for (topic, matters) in [
        ("open:t", [true, false, false]),
        ("members:t", [true, true, true]),
        ("open:$t", [true, true, true]),
        ("open:t#1", [true, true, true]),
    ] {
        for (read, matters) in kinds.iter().zip(matters) {
            let command = read(topic).expect("it is a command");
            let asked = world.rules().subscription_asked(&command.method);
            assert_eq!(asked, matters.then_some(topic), "{topic:?}: {command:?}");
        }
    }
}
