//! Clients that were away get what they missed, exactly, byte by byte: through the embedded backplane, and through
//! a stream from another engine, or from the same after it was killed.

mod one_node;
mod several_nodes;
mod subscribe_command;

use crate::support::engine::Engine;
use crate::support::websocket::{Position, RawClient};
use serde_json::{Value, json};

const CONFIG: &str = "[namespaces.kept]\nhistory_size = 5\nclient_history = true\n\
                      [namespaces.forced]\nhistory_size = 5\nforce_recovery = true\n\
                      [namespaces.told]\nhistory_size = 5\nforce_positioning = true\n\
                      [namespaces.short]\nhistory_size = 5\nhistory_ttl = \"300ms\"\n\
                      [namespaces.latest]\nhistory_size = 1\nrecovery_mode = \"cache\"\n\
                      [namespaces.merged]\nhistory_size = 100\nmax_delay = \"1s\"\n";

/// The `subscribe` of a reply.
fn subscribed(reply: &str) -> Value {
    let reply: Value = serde_json::from_str(reply).expect("JSON");
    reply.get("subscribe").unwrap_or_else(|| panic!("no subscription: {reply}")).clone()
}

/// Subscribes so that it can recover.
fn subscribe(client: &mut RawClient, topic: &str) -> Position {
    let reply = client
        .command(&format!(r#""subscribe":{{"channel":"{topic}","recoverable":true,"positioned":true}}"#));
    let subscribed = subscribed(&reply);
    assert_eq!((&subscribed["recoverable"], &subscribed["recovered"]), (&json!(true), &Value::Null));
    Position::of(&subscribed)
}

/// Comes back: the `subscribe` of the reply.
fn recover(client: &mut RawClient, topic: &str, since: &Position) -> Value {
    let Position { epoch, offset } = since;
    let fields = json!({"channel": topic, "recover": true, "epoch": epoch, "offset": offset});
    let subscribed = subscribed(&client.command(&format!(r#""subscribe":{fields}"#)));
    assert_eq!(subscribed["was_recovering"], json!(true), "{subscribed}");
    subscribed
}

/// The data and offsets of recovered publications.
fn publications(subscribed: &Value) -> Vec<(Value, u64)> {
    let none = Vec::new();
    let all = subscribed["publications"].as_array().unwrap_or(&none);
    all.iter().map(|one| (one["data"].clone(), one["offset"].as_u64().expect("an offset"))).collect()
}

fn numbers(range: std::ops::RangeInclusive<u64>) -> Vec<(Value, u64)> {
    range.map(|n| (json!(n), n)).collect()
}

fn publish(engine: &Engine, topic: &str, range: std::ops::RangeInclusive<u64>) {
    range.for_each(|n| engine.publish(topic, &json!(n)));
}
