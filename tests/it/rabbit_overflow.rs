//! A queue of the node's own that drops messages: a gap like any other, though the link stands.

use std::time::Duration;

use crate::support::engine::Engine;
use crate::support::publisher::Publisher;
use crate::support::rabbitmq::RabbitNode;
use crate::support::wait::{SOON, wait_until};
use crate::support::websocket::RawClient;
use lapin::BasicProperties;
use serde_json::{Value, json};

/// What the engine's connection takes although it is stopped: with so much room for bytes, from the start.
const PREFETCH: usize = 10;
const PREFETCH_BYTES: usize = 1 << 30;
const ROOM: usize = 20;

/// Its link and its clients are kept while it is stopped, however long a busy machine takes to look at the queue.
fn start(url: &str, room: usize) -> Engine {
    let config = format!(
        "[amqp]\nurl = \"{url}?heartbeat=60\"\nsource = \"queue\"\nprefetch = {PREFETCH}\n\
         prefetch_bytes = {PREFETCH_BYTES}\nqueue_max_messages = {room}\n\
         [timeouts]\nping = \"10m\"\n\
         [namespaces.kept]\nhistory_size = 100\nforce_recovery = true\n"
    );
    let engine = Engine::with_config(&config);
    engine.wait_until_ready();
    engine
}

fn subscribe(client: &mut RawClient, fields: &Value) -> Value {
    let reply: Value =
        serde_json::from_str(&client.command(&format!(r#""subscribe":{fields}"#))).expect("JSON");
    reply["subscribe"].clone()
}

/// Publishes, while the engine is stopped, `count` messages.
fn publish(publisher: &Publisher, count: usize, properties: &BasicProperties) {
    for n in 0..count {
        publisher.publish("kept:1", n.to_string().as_bytes(), properties.clone());
    }
}

/// Lines up to the end of the subscription: how many publications, and that end.
fn until_told(client: &mut RawClient) -> (usize, Value) {
    let lines = (0..).map(|before| (before, client.line()));
    let mut lines = lines.map(|(before, line)| (before, serde_json::from_str::<Value>(&line).expect("JSON")));
    lines.find(|(_, line)| line["push"]["unsubscribe"].is_object()).expect("endless")
}

/// `limit` says who limits the queue: the engine, or a policy.
fn overflow_is_told(vhost: &str, limit: impl FnOnce(&RabbitNode), room: usize) {
    let node = RabbitNode::shared();
    let url = node.new_vhost(vhost);
    limit(node);
    let engine = start(&url, room);
    let publisher = Publisher::connect(&url);
    let mut client = engine.client();
    let first = subscribe(&mut client, &json!({"channel": "kept:1"}));
    engine.signal("STOP");
    publish(&publisher, PREFETCH + ROOM, &BasicProperties::default());
    engine.signal("CONT");
    for n in 0..PREFETCH + ROOM {
        assert_eq!(client.publication("kept:1"), n.to_string(), "what fits in is no overflow");
    }
    assert_eq!(engine.metric("fanfare_overflows_total", &[]), 0.0);

    engine.signal("STOP");
    publish(&publisher, 2 * (PREFETCH + ROOM), &BasicProperties::default());
    engine.signal("CONT");
    let (came, told) = until_told(&mut client);
    assert_eq!(
        (&told["push"]["channel"], &told["push"]["unsubscribe"]["code"]),
        (&json!("kept:1"), &json!(2500))
    );
    let offset = PREFETCH + ROOM + came;
    let since = json!({"channel": "kept:1", "recover": true, "epoch": first["epoch"], "offset": offset});
    let back = subscribe(&mut client, &since);
    assert!(back["epoch"] != first["epoch"] && back["recovered"].is_null(), "{back}");
    engine.publish("kept:1", &json!("after"));
    // What was in the queue still may come after the gap was told.
    while client.publication("kept:1") != "\"after\"" {}
    let counters = ["fanfare_overflows_total", "fanfare_gaps_total", "fanfare_rabbitmq_connects_total"];
    assert_eq!(counters.map(|counter| engine.metric(counter, &[])), [1.0, 1.0, 1.0]);
    assert!(engine.stderr().contain("its queue has overflowed") && engine.stderr().contain("amq.gen-"));
}

#[test]
fn an_overflow_is_a_gap_that_is_told() {
    overflow_is_told("overflow", |_| {}, ROOM);
}

/// Even if it would have publishers wait: they are not to blame for a node that is behind.
#[test]
fn an_overflow_by_a_policy_is_a_gap_that_is_told() {
    let policy = format!(r#"{{"max-length":{ROOM},"overflow":"reject-publish"}}"#);
    let limit = |node: &RabbitNode| {
        node.ctl(&["set_policy", "-p", "policy", "--apply-to", "queues", "short", "^amq.gen", &policy]);
    };
    overflow_is_told("policy", limit, 1_000_000);
}

/// Messages in the queues of a virtual host, by their names: ready and unacknowledged.
fn messages(node: &RabbitNode, vhost: &str) -> Vec<usize> {
    let list = node.ctl(&["list_queues", "-p", vhost, "--no-table-headers", "messages"]);
    list.lines().filter_map(|line| line.trim().parse().ok()).collect()
}

/// A publisher that gives its messages a time limit wants them dropped: nobody is told.
#[test]
fn messages_that_expire_in_the_queue_are_no_overflow() {
    let node = RabbitNode::shared();
    let url = node.new_vhost("expired_in_queue");
    let engine = start(&url, ROOM);
    let publisher = Publisher::connect(&url);
    let mut client = engine.client();
    subscribe(&mut client, &json!({"channel": "kept:1"}));
    engine.signal("STOP");
    // What the engine has been sent ahead does not expire, however long that takes.
    publish(&publisher, PREFETCH, &BasicProperties::default());
    publish(&publisher, ROOM, &BasicProperties::default().with_expiration("50".into()));
    // Dead letters, the node's own queue, and notices: all that expired has become one.
    let (rest, notices) = (PREFETCH, ROOM);
    wait_until(SOON, "messages to expire", || {
        let counts = messages(node, "expired_in_queue");
        counts.contains(&rest) && counts.contains(&notices)
    });
    engine.signal("CONT");
    for n in 0..PREFETCH {
        assert_eq!(client.publication("kept:1"), n.to_string());
    }
    wait_until(SOON, "the notices to be read", || {
        messages(node, "expired_in_queue").iter().all(|&count| count == 0)
    });
    assert!(client.is_silent_for(Duration::from_millis(100)), "nobody is told of anything");
    assert_eq!(engine.metric("fanfare_overflows_total", &[]), 0.0);
}
