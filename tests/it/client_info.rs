//! What a client publishes says who made it, on every engine: live, recovered, and read from a history. What a service
//! publishes does not.

use crate::support::engine::Engine;
use crate::support::harness::{Harness, start_two_nodes};
use crate::support::publisher::{Publisher, headers};
use crate::support::script::Subscriber;
use crate::support::wait::{SOON, wait_until};
use crate::support::websocket::{Position, RawClient};
use lapin::BasicProperties;
use lapin::types::AMQPValue;
use serde_json::{Value, json};

const CHAT: &str = "[namespaces.chat]\nclient_publish = true\nclient_history = true\nhistory_size = 10\n\
                    max_delay = \"100ms\"\nforce_recovery = true\n";

/// What an SDK has seen of `chat:1`, each with who made it.
fn seen(client: &Subscriber) -> Vec<(Value, Value)> {
    let events = client.0.events();
    let publications = events.iter().filter(|event| event["event"] == "publication");
    publications.map(|event| (event["data"].clone(), event["info"]["client"].clone())).collect()
}

/// The same of the publications in a reply or in an answer of the API.
fn told(result: &Value) -> Vec<(Value, Value)> {
    let publications =
        result["publications"].as_array().unwrap_or_else(|| panic!("no publications: {result}"));
    publications.iter().map(|one| (one["data"].clone(), one["info"]["client"].clone())).collect()
}

/// The result of a command of this method.
fn ask(client: &mut RawClient, method: &str, fields: &Value) -> Value {
    let reply: Value =
        serde_json::from_str(&client.command(&format!(r#""{method}":{fields}"#))).expect("JSON");
    reply.get(method).unwrap_or_else(|| panic!("no result: {reply}")).clone()
}

/// Where `chat:1` stands.
fn position(engine: &Engine) -> Position {
    Position::of(&ask(&mut engine.client(), "subscribe", &json!({"channel": "chat:1"})))
}

/// Asks in each way for what came after a position, twice.
fn expect_kept(engine: &Engine, since: &Position, expected: &[(Value, Value)]) {
    for _ in 0..2 {
        let Position { epoch, offset } = since;
        let from_there = json!({"channel": "chat:1", "recover": true, "epoch": epoch, "offset": offset});
        let recovered = ask(&mut engine.client(), "subscribe", &from_there);
        assert_eq!(told(&recovered), expected, "{recovered}");
        let all = json!({"channel": "chat:1", "limit": -1});
        assert_eq!(told(&ask(&mut engine.client(), "history", &all)), expected);
        assert_eq!(told(&engine.api("history", &all)["result"]), expected);
    }
}

#[test]
fn who_wrote_is_seen_on_every_engine_live_and_later() {
    let (url, engines) = start_two_nodes("client_info", CHAT);
    let mut ann = Subscriber::node(&engines[0].ws_url());
    let mut bob = Subscriber::python(&engines[1].ws_url());
    let id = |client: &Subscriber| {
        client.0.events()[..]
            .iter()
            .find_map(|event| (event["event"] == "connected").then(|| event["client"].clone()))
    };
    let [ann_id, bob_id] = [&ann, &bob].map(|client| id(client).expect("it is connected"));
    [&mut ann, &mut bob].into_iter().for_each(|client| client.subscribe("chat:1"));

    let start = position(&engines[0]);
    let publisher = Publisher::connect(&url);
    publisher.publish("chat:1", b"\"welcome\"", BasicProperties::default());
    let mut expected = vec![(json!("welcome"), Value::Null)];
    for (client, id, text) in [(&mut ann, &ann_id, "from ann"), (&mut bob, &bob_id, "from bob")] {
        assert_eq!(client.ask("publish", "chat:1", &json!(text)), Ok(()));
        expected.push((json!(text), id.clone()));
    }
    engines[0].publish("chat:1", &json!("goodbye"));
    expected.push((json!("goodbye"), Value::Null));
    for client in [&ann, &bob] {
        wait_until(SOON, "all publications", || seen(client).len() >= expected.len());
        assert_eq!(seen(client), expected);
    }
    engines.iter().for_each(|engine| expect_kept(engine, &start, &expected));
    // It reads the stream back.
    expect_kept(&Engine::consuming(&url, CHAT), &start, &expected);
}

#[test]
fn through_a_queue_and_without_rabbitmq_it_is_the_same() {
    let harness = Harness::start("client_info_queue", &format!("[amqp]\nsource = \"queue\"\n{CHAT}"));
    let embedded = Engine::with_config(CHAT);
    for engine in [&harness.engine, &embedded] {
        let mut ann = Subscriber::node(&engine.ws_url());
        ann.subscribe("chat:1");
        let start = position(engine);
        engine.publish("chat:1", &json!(1));
        assert_eq!(ann.ask("publish", "chat:1", &json!(2)), Ok(()));
        wait_until(SOON, "both publications", || seen(&ann).len() == 2);
        let got = seen(&ann);
        assert!(got[0] == (json!(1), Value::Null) && got[1].0 == json!(2) && got[1].1.is_string(), "{got:?}");
        expect_kept(engine, &start, &got);
    }
}

/// Without it, the publication would look like one of a service.
#[test]
fn a_message_whose_client_cannot_be_read_reaches_nobody_and_is_kept() {
    let harness = Harness::start("client_info_spoilt", CHAT);
    let mut client = harness.subscriber(&["news", "more"]);
    let publisher = harness.publisher();
    let text = |text: &str| AMQPValue::LongString(text.into());
    for (info, word) in [
        (text(r#"{"client":"c-1","user":7}"#), "not an object"),
        (text(r#"{"user":"ann"}"#), "without the client's id"),
        (text(&format!(r#"{{"client":"{}"}}"#, "x".repeat(70_000))), "too long"),
        (AMQPValue::LongInt(7), "not text"),
    ] {
        let properties = headers(&[("x-client-info", info.clone()), ("x-topics", text("more"))]);
        publisher.publish("news", b"1", properties);
        let letter = publisher.whole_dead_letter().delivery;
        let headers = letter.properties.headers().clone().expect("headers");
        assert_eq!(headers.inner().get("x-client-info"), Some(&info), "{word}");
        let Some(AMQPValue::LongString(reason)) = headers.inner().get("x-fanfare-reason") else {
            panic!("no reason: {headers:?}")
        };
        let reason = reason.to_string();
        assert!(reason.contains(word) && reason.contains("x-client-info"), "{reason}");
    }
    // A service may say for whom it publishes.
    let info = text(r#"{"client":"bot","user":"1","conn_info":{"name":"Bot"}}"#);
    publisher.publish("news", b"2", headers(&[("x-client-info", info)]));
    let line: Value = serde_json::from_str(&client.line()).expect("JSON");
    let said = json!({"data": 2, "info": {"client": "bot", "user": "1", "conn_info": {"name": "Bot"}}});
    assert_eq!(line["push"]["pub"], said);
    assert_eq!(harness.engine.metric("fanfare_dead_lettered_total", &[]), 4.0);
}
