//! Connects whose tokens bring subscriptions: what is written when, and what is left of one that fails.

use super::harness::PLAIN;
use super::tokens::guarded;
use super::*;
use crate::config::Namespace;
use crate::domain::codec::Codec;
use crate::domain::mail::{
    Answer, CommandKey, Lines, Question, Recovered, Recovery, ReplyAddress, TopicSlot,
};
use crate::domain::position::{Position, Since};
use crate::domain::reasons::{ErrorCode, UnsubscribeCode};

/// Topics `h:...` have a history, and their subscriptions are recoverable.
fn world() -> World {
    guarded(|config| {
        let (name, namespace) = readable();
        config.namespaces.insert(name, Namespace { force_recovery: true, ..namespace });
        config.namespaces.extend([policy(SlowPolicy::Resync)]);
    })
}

fn position(offset: u64) -> Position {
    Position { epoch: "e".into(), offset }
}

impl World {
    /// Somebody who connects with a token that brings these subscriptions, as claims, and who was here before.
    fn connects(&mut self, claims: &str, subs: &str) -> Peer {
        let token = self.token(&format!("{claims},"), 3600);
        let peer = self.said(&format!(r#"{{"id":1,"connect":{{"token":"{token}","subs":{subs}}}}}"#));
        assert!(peer.got().ends_with("\r\n\r\n"), "nothing but the answer to the upgrade");
        peer
    }

    /// The topics that the shard has asked for since, with their slots.
    fn attaches(&mut self) -> Vec<(String, TopicSlot)> {
        let requests = std::iter::from_fn(|| self.requests.take());
        let topics = requests.map(|request| match request {
            Request::Attach { topic, name, .. } => (name.to_string(), topic),
            other => panic!("{other:?}"),
        });
        topics.collect()
    }

    /// The recovery that the shard asks for next.
    fn recovery(&mut self) -> (TopicSlot, Since) {
        match self.requests.take() {
            Some(Request::Ask { question: Question::Recover(recover), .. }) => (recover.topic, recover.since),
            other => panic!("{other:?}"),
        }
    }

    /// Answers it with publications up to an offset, encoded.
    fn recovers(&mut self, peer: &Peer, (topic, since): (TopicSlot, Since), offset: u64, missed: &str) {
        let result = Ok(Recovery { position: position(offset), missed: Some(missed.as_bytes().into()) });
        let recovered = Recovered { topic, recoverable: true, since, rejects_unrecovered: false, result };
        let to =
            ReplyAddress { shard: 0, command: CommandKey { client: peer.key, id: 1 }, codec: Codec::Json };
        self.tell(Mail::Answer { to, budget: None, answer: Answer::Recovered(Box::new(recovered)) });
    }

    fn batch(&mut self, topic: TopicSlot, line: &str, offset: u64) {
        let bytes = format!("{line}\n").into_bytes();
        let plain_bytes = u32::try_from(bytes.len()).expect("a short line");
        let lines = Lines { bytes: bytes.into(), count: 1, plain_bytes, offset, keyed: None };
        self.tell(Mail::Batch { topic, lines });
    }
}

/// The places of some texts in another one, which must all be there.
fn places<const N: usize>(got: &str, texts: [&str; N]) -> [usize; N] {
    texts.map(|text| got.find(text).unwrap_or_else(|| panic!("no {text} in {got}")))
}

#[test]
fn the_reply_comes_when_all_are_attached_and_before_every_publication() {
    let mut world = world();
    let subs = r#""channels":["a","h:b"],"subs":{"n:c":{"data":{"x":1}}}"#;
    let peer = world.connects(subs, "{}");
    world.say(&peer, r#"{"id":2,"subscribe":{"channel":"a"}}"#);
    world.say(&peer, r#"{"id":3,"unsubscribe":{"channel":"n:c"}}"#);
    let topics = world.attaches();
    let names: Vec<_> = topics.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["a", "h:b", "n:c"]);
    let [a, b, c] = [0, 1, 2].map(|index| topics[index].1);
    world.tell(Mail::Attached { topic: b, position: Some(position(7)) });
    world.batch(b, "B8", 8);
    world.tell(Mail::Attached { topic: a, position: None });
    world.batch(a, "A1", 0);
    world.batch(b, "B9", 9);
    assert_eq!(peer.got(), "", "the third is missing");
    world.shard.check();
    world.tell(Mail::Attached { topic: c, position: None });
    world.tick();
    world.batch(c, "C1", 0);
    let got = peer.got();
    assert_eq!(got.matches(r#""id":1"#).count(), 1);
    let at = places(
        &got,
        [
            r#""connect":{"client":""#,
            r#""pong":true,"subs":{"h:b":{"positioned":true,"epoch":"e","offset":7,"recoverable":true},"a":{},"n:c":{"data":{"x":1}}}}}"#,
            r#"{"id":2,"error":{"code":105,"message":"already subscribed"}}"#,
        ],
    );
    assert!(at.is_sorted(), "{got}");
    for publication in ["B8", "B9", "A1"] {
        assert_eq!(got.matches(publication).count(), 1, "{got}");
        assert!(got.find(publication) > Some(at[1]), "{publication} comes after the reply: {got}");
    }
    assert!(places(&got, ["B8", "B9"]).is_sorted());
    assert!(got.contains(r#"{"id":3,"unsubscribe":{}}"#) && !got.contains("C1"), "{got}");
    world.shard.check();
}

#[test]
fn if_nothing_is_to_be_waited_for_the_reply_is_in_one_frame_with_the_next() {
    let mut world = world();
    let first = world.connect_with_topics(&["a", "b"]);
    let token = world.token(r#""channels":["a","b"],"#, 60);
    let peer = world.said(&format!(
        "{{\"id\":1,\"connect\":{{\"token\":\"{token}\"}}}}\n{{\"id\":2,\"unsubscribe\":{{\"channel\":\"a\"}}}}"
    ));
    let got = peer.got();
    assert!(got.contains("\"subs\":{\"a\":{},\"b\":{}}}}\n{\"id\":2,\"unsubscribe\":{}}"), "{got}");
    world.shard.check();
    assert!(world.is_alive(&first) && world.shard.subscribed(peer.key.slot, "b").is_some());
}

impl World {
    /// Somebody who is connected with a token that brings these topics, none of which has a history.
    fn connect_with_topics(&mut self, topics: &[&str]) -> Peer {
        let peer = self.connects(&format!(r#""channels":{topics:?}"#), "{}");
        for (_, topic) in self.attaches() {
            self.tell(Mail::Attached { topic, position: None });
        }
        assert!(peer.got().contains("\"connect\""));
        peer
    }
}

#[test]
fn what_was_missed_is_in_the_reply_and_what_follows_comes_after_it() {
    let mut world = world();
    let resumed =
        r#"{"h:a":{"recover":true,"epoch":"e","offset":3},"h:b":{"recover":true,"epoch":"e","offset":5}}"#;
    let peer = world.connects(r#""channels":["h:a","h:b"]"#, resumed);
    let topics = world.attaches();
    for (_, topic) in &topics {
        world.tell(Mail::Attached { topic: *topic, position: Some(position(5)) });
    }
    let questions = [world.recovery(), world.recovery()];
    assert_eq!([0, 1].map(|index| questions[index].1.offset), [3, 5]);
    let [a, b] = questions;
    let first = a.0;
    world.recovers(&peer, a, 5, r#"{"data":4,"offset":4},{"data":5,"offset":5}"#);
    world.batch(first, "A6", 6);
    assert_eq!(peer.got(), "");
    world.shard.check();
    world.recovers(&peer, b, 5, "");
    world.tick();
    let got = peer.got();
    let reply = r#""subs":{"h:a":{"positioned":true,"epoch":"e","offset":3,"recoverable":true,"was_recovering":true,"recovered":true,"publications":[{"data":4,"offset":4},{"data":5,"offset":5}]},"h:b":{"positioned":true,"epoch":"e","offset":5,"recoverable":true,"was_recovering":true,"recovered":true}}"#;
    assert!(places(&got, [reply, "A6"]).is_sorted() && got.matches("A6").count() == 1, "{got}");
    world.shard.check();
}

/// Whatever is asked, a reply has its bound, and the client learns where the topics are.
#[test]
fn a_reply_has_its_bound() {
    let mut world = guarded(|config| {
        let (name, namespace) = readable();
        config.namespaces.insert(name, Namespace { force_recovery: true, ..namespace });
        (config.limits.frame_bytes, config.limits.replies_bytes) = (1000, 1000);
    });
    let topics: Vec<_> = (0..9).map(|n| format!("h:{n}")).collect();
    let resumed: Vec<_> = topics
        .iter()
        .map(|topic| format!(r#""{topic}":{{"recover":true,"epoch":"e","offset":3}}"#))
        .collect();
    let peer = world.connects(&format!(r#""channels":{topics:?}"#), &format!("{{{}}}", resumed.join(",")));
    for (_, topic) in world.attaches() {
        world.tell(Mail::Attached { topic, position: Some(position(5)) });
    }
    let missed = format!(r#"{{"data":"{}","offset":4}}"#, "x".repeat(600));
    let mut asked = 0;
    while let Some(Request::Ask { question, budget }) = world.requests.take() {
        let Question::Recover(recover) = question else { panic!("it recovers") };
        let result = Ok(Recovery { position: position(5), missed: Some(missed.as_bytes().into()) });
        let (to, answer) = recover.answer(result);
        world.tell(Mail::Answer { to, budget, answer });
        world.tick();
        asked += 1;
    }
    let got = peer.got();
    assert_eq!(got.matches("\"recovered\":true").count(), asked, "{got}");
    assert_eq!(
        got.matches(r#""offset":5,"recoverable":true,"was_recovering":true}"#).count(),
        9 - asked,
        "{got}"
    );
    assert!((2..5).contains(&asked), "{asked} of 9 are answered: {got}");
    world.shard.check();
}

#[test]
fn a_topic_that_cannot_be_attached_fails_the_connect_and_undoes_the_rest() {
    let mut world = world();
    let peer = world.connects(r#""channels":["a","b","h:c"]"#, r#"{"h:c":{"recover":true}}"#);
    world.say(&peer, r#"{"id":2,"subscribe":{"channel":"a"}}"#);
    let topics = world.attaches();
    world.tell(Mail::Attached { topic: topics[0].1, position: None });
    world.tell(Mail::Attached { topic: topics[2].1, position: Some(position(5)) });
    let question = world.recovery();
    world.tell(Mail::AttachFailed { topic: topics[1].1, error: ErrorCode::LimitExceeded });
    let error = r#"{"id":1,"error":{"code":106,"message":"limit exceeded"}}"#;
    let got = peer.got();
    assert!(got.contains(error) && !got.contains("\"id\":2"), "{got}");
    world.shard.check();
    assert!(world.shard.clients[peer.key.slot].subscriptions.as_slice().is_empty());
    // What was under way for it finds nobody.
    world.recovers(&peer, question, 5, "");
    world.say(&peer, r#"{"id":1,"connect":{}}"#);
    assert_eq!(peer.got(), "", "it is not heard any more");
    let detached: Vec<_> = std::iter::from_fn(|| world.requests.take()).collect();
    assert_eq!(detached.len(), 2, "{detached:?}");
    world.seconds(30);
    assert_eq!(world.closes(CloseReason::ConnectRefused), 1);
}

/// Waiting with those who have not been told of the gap would take longer than an SDK does.
#[test]
fn a_connect_to_a_topic_that_has_to_be_told_of_a_gap_is_told_to_come_later() {
    let mut world = guarded(|config| {
        config.stop.gaps_per_second = 1;
        config.namespaces.extend([readable()]);
    });
    let crowd: Vec<_> = (0..900).map(|_| world.connected(3600)).collect();
    let subscribe = r#"{"id":2,"subscribe":{"channel":"h:t"}}"#;
    world.say(&crowd[899], subscribe);
    let topic = world.attaches()[0].1;
    world.tell(Mail::Attached { topic, position: Some(position(0)) });
    crowd[..899].iter().for_each(|peer| world.say(peer, subscribe));
    world.tell(Mail::Attached { topic, position: Some(Position { epoch: "new".into(), offset: 0 }) });
    world.tell(Mail::Gap);
    let token = world.token(r#""channels":["a","h:t"],"#, 60);
    let connect = format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#);
    let peer = world.said(&format!("{connect}\n{}", r#"{"id":2,"unsubscribe":{"channel":"a"}}"#));
    let got = peer.got();
    assert!(got.contains(r#"{"id":1,"error":{"code":111,"#) && !got.contains("\"id\":2"), "{got}");
    // What was asked for before that is given back.
    let a = world.attaches()[0].1;
    world.tell(Mail::Attached { topic: a, position: None });
    assert!(matches!(world.requests.take(), Some(Request::Detach { topic, .. }) if topic == a));
    world.shard.check();
}

#[test]
fn the_broker_has_time_and_who_leaves_meanwhile_leaves_nothing() {
    let mut world = world();
    let stays = world.connects(r#""channels":["a"]"#, "{}");
    let leaves = world.connects(r#""channels":["a","b"]"#, "{}");
    let topics = world.attaches();
    world.seconds(60);
    assert!(world.is_alive(&stays) && world.is_alive(&leaves), "{:?}", world.closes(CloseReason::Stale));
    leaves.pipe().ended = true;
    world.shard.readable(leaves.key.slot);
    world.tick();
    assert!(!world.is_alive(&leaves));
    for (_, topic) in topics {
        world.tell(Mail::Attached { topic, position: None });
    }
    assert!(stays.got().contains("\"subs\":{\"a\":{}}"));
    assert_eq!(world.shard.stats.subscriptions.value(), 1);
    world.shard.check();
}

/// A connect that finds no room for its requests has come in time.
#[test]
fn a_connect_waits_for_room_in_the_queue_of_requests() {
    let mut world = world();
    while world.shard.broker.requests.send(Request::Drained { shard: 0 }) {}
    let peer = world.connects(r#""channels":["a"]"#, "{}");
    world.seconds(60);
    assert!(world.is_alive(&peer));
    while world.requests.take().is_some() {}
    world.tick();
    world.tick();
    let topics = world.attaches();
    world.tell(Mail::Attached { topic: topics[0].1, position: None });
    assert!(peer.got().contains("\"subs\":{\"a\":{}}"));
}

#[test]
fn how_a_subscription_of_the_server_ends() {
    let mut world = world();
    let mut alive = Vec::new();
    let ends: [fn(&mut World, &Peer); 4] = [
        |world, peer| {
            let (client, topic) = (Some(peer.key), "n:a".into());
            world.tell(Mail::Unsubscribe { client, topic, code: UnsubscribeCode::Server });
            let got = peer.got();
            assert!(got.contains(r#"{"push":{"channel":"n:a","unsubscribe":{"code":2000,"#), "{got}");
        },
        |world, peer| world.say(peer, r#"{"id":2,"unsubscribe":{"channel":"n:a"}}"#),
        |world, _| {
            world.tell(Mail::Gap);
            world.seconds(1);
        },
        |world, peer| {
            // Its socket is full, and the log drops what it lacks.
            peer.pipe().room = 0;
            let topic = world.shard.topics.find("n:a", PLAIN).expect("it is subscribed to");
            (0..20).for_each(|_| world.publish(topic, 100_000));
        },
    ];
    for end in ends {
        let peer = world.connect_with_topics(&["n:a", "b"]);
        end(&mut world, &peer);
        alive.push((
            world.is_alive(&peer) && world.shard.clients[peer.key.slot].is_open(),
            world.closes(CloseReason::InsufficientState),
        ));
        world.shard.check();
        peer.pipe().ended = true;
        world.shard.readable(peer.key.slot);
        world.tick();
        while let Some(request) = world.requests.take() {
            if let Request::Detach { topic, .. } = request {
                world.tell(Mail::Detached { topic });
            }
        }
    }
    assert_eq!(alive, [(true, 0), (true, 0), (false, 1), (false, 2)]);
}

/// It would come back at once with the same token, so that it is told to.
#[test]
fn a_subscription_that_ends_while_the_connect_waits_closes_the_client() {
    let mut world = world();
    let peer = world.connects(r#""channels":["a","n:b"]"#, "{}");
    let topics = world.attaches();
    world.tell(Mail::Attached { topic: topics[0].1, position: None });
    world.tell(Mail::Unsubscribe { client: None, topic: "a".into(), code: UnsubscribeCode::Server });
    assert_eq!(world.closes(CloseReason::InsufficientState), 1);
    world.tell(Mail::Attached { topic: topics[1].1, position: None });
    assert!(!peer.got().contains("\"id\":1"));
    world.shard.check();
}

/// It has not been sent anything, so it is not slow.
#[test]
fn a_client_that_waits_for_its_reply_is_not_closed_as_a_slow_one() {
    let mut world = guarded(|config| config.namespaces.extend([policy(SlowPolicy::Disconnect)]));
    world.connects(r#""channels":["n:a","b"]"#, "{}");
    let topics = world.attaches();
    let slot = topics.iter().find(|(name, _)| name == "n:a").expect("it is asked for").1;
    world.tell(Mail::Attached { topic: slot, position: None });
    (0..20).for_each(|_| world.publish(slot, 100_000));
    assert_eq!((world.closes(CloseReason::InsufficientState), world.closes(CloseReason::Slow)), (1, 0));
    world.shard.check();
}

#[test]
fn replies_that_are_prepared_have_their_bound_in_all() {
    let mut world = guarded(|config| {
        let (name, namespace) = readable();
        config.namespaces.insert(name, Namespace { force_recovery: true, ..namespace });
        (config.limits.frame_bytes, config.limits.shard_replies_bytes) = (50_000, 100_000);
    });
    let peers: Vec<_> = (0..3)
        .map(|_| world.connects(r#""channels":["b","h:a"]"#, r#"{"h:a":{"recover":true,"epoch":"e"}}"#))
        .collect();
    let topics = world.attaches();
    world.tell(Mail::Attached { topic: topics[1].1, position: Some(position(5)) });
    let missed = format!(r#"{{"data":"{}","offset":5}}"#, "x".repeat(40_000));
    for peer in &peers {
        let since = Since { epoch: "e".into(), offset: 0 };
        world.shard.topics[topics[1].1].begin_recovery();
        world.recovers(peer, (topics[1].1, since), 5, &missed);
        world.shard.check();
    }
    assert_eq!(world.closes(CloseReason::Slow), 1);
    world.shard.check();
}

#[test]
fn a_publication_says_what_the_token_says_of_a_subscription_that_it_brings() {
    let mut world = world();
    let peer = world.connects(r#""subs":{"n:a":{"info":{"name":"U"}}}"#, "{}");
    let topics = world.attaches();
    world.tell(Mail::Attached { topic: topics[0].1, position: None });
    world.say(&peer, r#"{"id":3,"publish":{"channel":"n:a","data":1}}"#);
    let Some(Request::Publish(publish)) = world.requests.take() else { panic!("it is published") };
    assert_eq!(publish.info.expect("a client publishes").chan_info[..], br#"{"name":"U"}"#[..]);
}
