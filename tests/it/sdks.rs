//! The SDKs as they come, against the engine: what a single one sees.

use std::time::{Duration, Instant};

use crate::support::engine::Engine;
use crate::support::harness::Harness;
use crate::support::script::Subscriber;
use crate::support::wait::{SOON, wait_until};
use serde_json::json;

/// Clients may publish in `chat:`, and nowhere else.
const CHAT: &str = "[namespaces.chat]\nclient_publish = true\n";

/// Both SDKs, connected.
fn both(engine: &Engine) -> [Subscriber; 2] {
    [Subscriber::node(&engine.ws_url()), Subscriber::python(&engine.ws_url())]
}

#[test]
fn what_a_client_publishes_reaches_everybody_through_rabbitmq() {
    let harness = Harness::start("client_publish", CHAT);
    let mut clients = both(&harness.engine);
    clients.iter_mut().for_each(|client| client.subscribe("chat:1"));
    assert_eq!(clients[0].ask("publish", "chat:1", &json!({"from": "node"})), Ok(()));
    assert_eq!(clients[1].ask("publish", "chat:1", &json!({"from": "python"})), Ok(()));
    for client in &clients {
        client.expect("chat:1", &[json!({"from": "node"}), json!({"from": "python"})]);
    }
    assert_eq!(harness.engine.metric("fanfare_confirmed_total", &[]), 2.0);
}

#[test]
fn what_is_not_allowed_or_not_offered_is_refused_by_number() {
    let engine = Engine::with_config(CHAT);
    for mut client in both(&engine) {
        client.subscribe("news");
        assert_eq!(client.ask("publish", "news", &json!(1)), Err(103));
        for method in ["history", "presence", "rpc"] {
            assert_eq!(client.ask(method, "news", &json!(1)), Err(108), "{method}");
        }
        // The connection has not suffered.
        assert_eq!(client.ask("publish", "chat:1", &json!(1)), Ok(()));
    }
}

/// Python's SDK takes only `{}` for a sign of life, and only each `ping` + 10 s: constant traffic must not
/// keep pings from it, and its pongs must be heard although it is busy.
#[test]
fn python_under_constant_traffic_keeps_its_connection() {
    let engine = Engine::with_config("[timeouts]\nping = \"1s\"\npong = \"900ms\"\n");
    let mut client = Subscriber::python(&engine.ws_url());
    client.subscribe("busy");
    let (start, mut sent) = (Instant::now(), 0);
    // Three intervals, and the ten seconds that this SDK allows a ping to be late.
    while start.elapsed() < Duration::from_secs(14) {
        engine.publish("busy", &json!(sent));
        sent += 1;
    }
    wait_until(SOON, "the last publication", || client.publications("busy").len() >= sent);
    client.expect("busy", &(0..sent).map(|n| json!(n)).collect::<Vec<_>>());
    let events = client.0.events();
    let lost = events.iter().find(|event| event["event"] == "disconnected" || event["code"] == 2);
    assert_eq!(lost, None);
    let reconnects = events.iter().filter(|event| event["event"] == "connected").count();
    assert_eq!(reconnects, 1, "it has lost its connection");
}

/// Publications that waited for each other leave as one frame, up to `frame_bytes`, and both SDKs take it.
#[test]
fn merged_frames_near_the_largest_arrive_whole() {
    let harness = Harness::start("merged", "[namespaces.big]\nmax_delay = \"1s\"\n");
    let mut clients = both(&harness.engine);
    clients.iter_mut().for_each(|client| client.subscribe("big:1"));
    // 500 lines of about 1,010 bytes each: 505,000 of the 524,288 bytes that a frame may have.
    let filler = "x".repeat(950);
    let texts: Vec<String> = (0..500).map(|n| format!("{n:03} {filler}")).collect();
    let bodies: Vec<String> = texts.iter().map(|text| format!("\"{text}\"")).collect();
    harness.service().publish_many("big:1", &bodies);
    let data: Vec<_> = texts.iter().map(|text| json!(text)).collect();
    clients.iter().for_each(|client| client.expect("big:1", &data));
    let frames = harness.engine.metric("fanfare_frames_total", &[]);
    assert!(frames <= 8.0, "{frames} frames for 2 clients: hardly merged");
    assert_eq!(harness.engine.metric("fanfare_encodings_total", &[]), 500.0);
}

/// `CC` is RabbitMQ's own way to send one message to many topics.
#[test]
fn one_message_to_many_topics() {
    let harness = Harness::start("carbon_copy", "");
    let mut client = Subscriber::node(&harness.engine.ws_url());
    ["A", "B", "C", "D"].iter().for_each(|topic| client.subscribe(topic));
    let mut service = harness.service();
    service.publish_with("A", b"1", &json!({ "headers": { "x-topics": "B\nC" } }));
    service.publish("D", b"2");
    ["A", "B", "C"].iter().for_each(|topic| client.expect(topic, &[json!(1)]));
    client.expect("D", &[json!(2)]);
}

/// It comes back with one frame: a connect and a recovery for each topic, whose answers are several times as much as a
/// client may leave waiting.
#[test]
fn a_client_of_127_topics_goes_on_where_it_was_in_all_of_them() {
    let engine = Engine::with_config("[namespaces.kept]\nhistory_size = 10\nforce_recovery = true\n");
    let mut client = Subscriber::node(&engine.ws_url());
    let topics: Vec<_> = (0..127).map(|n| format!("kept:{n}")).collect();
    topics.iter().for_each(|topic| client.0.tell(&json!({ "do": "subscribe", "channel": topic })));
    topics.iter().for_each(|topic| drop(client.event("subscribed", Some(topic))));
    let data = |n: u32| json!({"n": n, "filler": "x".repeat(1000)});
    topics.iter().for_each(|topic| engine.publish(topic, &data(1)));
    topics.iter().for_each(|topic| client.expect(topic, &[data(1)]));

    client.0.tell(&json!({ "do": "disconnect" }));
    client.event("disconnected", None);
    for topic in &topics {
        (2..=4).for_each(|n| engine.publish(topic, &data(n)));
    }
    client.0.tell(&json!({ "do": "connect" }));
    let all: Vec<_> = (1..=4).map(data).collect();
    topics.iter().for_each(|topic| client.expect(topic, &all));
    assert_eq!(engine.metric("fanfare_recovered_total", &[]), 127.0);
    let events = client.0.events();
    let refused = events.iter().find(|event| event["event"] == "subscription_error");
    assert_eq!(refused, None);
}
