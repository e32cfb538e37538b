//! What one engine keeps for those who come back.

use std::time::Duration;

use super::{CONFIG, numbers, publications, publish, recover, subscribe, subscribed};
use crate::support::engine::Engine;
use crate::support::wait::{SOON, wait_until};
use crate::support::websocket::{Position, RawClient};
use serde_json::{Value, json};

#[test]
fn who_was_away_gets_what_it_missed_and_then_the_next_one() {
    let engine = Engine::with_config(CONFIG);
    let mut here = engine.client();
    let start = subscribe(&mut here, "kept:a");
    assert_eq!(start.offset, 0);
    publish(&engine, "kept:a", 1..=2);
    // The first one says in which numbering it is, for who subscribed when there was none.
    let first = format!(
        r#"{{"push":{{"channel":"kept:a","pub":{{"data":1,"offset":1,"epoch":"{}"}}}}}}"#,
        start.epoch
    );
    assert_eq!(here.line(), first);
    assert_eq!(here.line(), r#"{"push":{"channel":"kept:a","pub":{"data":2,"offset":2}}}"#);
    drop(here);
    publish(&engine, "kept:a", 3..=4);
    let mut back = engine.client();
    for (asked, missed) in [(0, numbers(1..=4)), (2, numbers(3..=4)), (4, Vec::new())] {
        let since = Position { offset: asked, ..start.clone() };
        let reply = recover(&mut back, "kept:a", &since);
        assert_eq!((&reply["recovered"], Position::of(&reply)), (&json!(true), since), "{reply}");
        assert_eq!(publications(&reply), missed);
        assert!(back.command(r#""unsubscribe":{"channel":"kept:a"}"#).contains("unsubscribe"));
    }
    recover(&mut back, "kept:a", &Position { offset: 4, ..start });
    publish(&engine, "kept:a", 5..=5);
    assert_eq!(back.line(), r#"{"push":{"channel":"kept:a","pub":{"data":5,"offset":5}}}"#);
}

#[test]
fn who_was_away_for_too_long_is_told_so() {
    let engine = Engine::with_config(CONFIG);
    let mut client = engine.client();
    let start = subscribe(&mut client, "kept:a");
    drop(client);
    publish(&engine, "kept:a", 1..=7);
    let mut back = engine.client();
    // Publications 3 to 7 are kept: who has 2 lacks nothing that is gone.
    let foreign = Position { epoch: "another".to_owned(), offset: 6 };
    let beyond = Position { offset: 8, ..start.clone() };
    for since in [start.clone(), Position { offset: 1, ..start.clone() }, foreign, beyond] {
        let reply = recover(&mut back, "kept:a", &since);
        assert_eq!(reply["recovered"], Value::Null, "{since:?}: {reply}");
        assert_eq!(
            (Position::of(&reply), reply["publications"].clone()),
            (Position { offset: 7, ..start.clone() }, Value::Null)
        );
        back.command(r#""unsubscribe":{"channel":"kept:a"}"#);
    }
    let reply = recover(&mut back, "kept:a", &Position { offset: 2, ..start });
    assert_eq!(publications(&reply), numbers(3..=7));
    back.command(r#""unsubscribe":{"channel":"kept:a"}"#);
    // `flag` 2: rather an error than a subscription.
    let reply = back
        .command(r#""subscribe":{"channel":"kept:a","recover":true,"epoch":"another","offset":1,"flag":3}"#);
    assert!(reply.contains(r#""error":{"code":112"#), "{reply}");
    assert_eq!(engine.metric("fanfare_recovered_total", &[]), 1.0);
    assert_eq!(engine.metric("fanfare_unrecovered_total", &[]), 5.0);
}

#[test]
fn a_namespace_may_want_it_for_all_or_not_at_all() {
    let engine = Engine::with_config(CONFIG);
    let mut client = engine.client();
    let mut subscribe_plainly =
        |topic: &str| subscribed(&client.command(&format!(r#""subscribe":{{"channel":"{topic}"}}"#)));
    assert_eq!(subscribe_plainly("kept:a"), json!({}));
    let forced = subscribe_plainly("forced:a");
    assert_eq!((&forced["recoverable"], &forced["positioned"]), (&json!(true), &json!(true)));
    let told = subscribe_plainly("told:a");
    assert_eq!((&told["recoverable"], &told["positioned"]), (&Value::Null, &json!(true)));
    // Without history there is nothing to be told, whatever the client asks for, but that it got nothing back.
    let reply = client.command(
        r#""subscribe":{"channel":"plain","recover":true,"recoverable":true,"epoch":"e","offset":7}"#,
    );
    assert_eq!(subscribed(&reply), json!({"was_recovering": true}));
    engine.publish("plain", &json!(1));
    assert_eq!(client.line(), r#"{"push":{"channel":"plain","pub":{"data":1}}}"#);
}

#[test]
fn what_is_too_old_cannot_be_recovered() {
    let engine = Engine::with_config(CONFIG);
    let mut client = engine.client();
    let start = subscribe(&mut client, "short:a");
    publish(&engine, "short:a", 1..=2);
    wait_until(Duration::from_secs(5), "the publications to be gone", || {
        engine.metric("fanfare_history_publications", &[]) == 0.0
    });
    client.command(r#""unsubscribe":{"channel":"short:a"}"#);
    assert_eq!(recover(&mut client, "short:a", &start)["recovered"], Value::Null);
    client.command(r#""unsubscribe":{"channel":"short:a"}"#);
    // Who has the newest lacks nothing.
    let newest = Position { offset: 2, ..start };
    assert_eq!(recover(&mut client, "short:a", &newest)["recovered"], json!(true));
}

#[test]
fn where_only_the_newest_counts_only_that_comes() {
    let engine = Engine::with_config(CONFIG);
    publish(&engine, "latest:a", 1..=9);
    let mut client = engine.client();
    let reply = subscribed(&client.command(r#""subscribe":{"channel":"latest:a","recover":true}"#));
    assert_eq!((&reply["recovered"], publications(&reply)), (&json!(true), numbers(9..=9)), "{reply}");
    publish(&engine, "latest:a", 10..=10);
    assert_eq!(client.line(), r#"{"push":{"channel":"latest:a","pub":{"data":10,"offset":10}}}"#);
}

/// Publications that still wait for others are not in the answer, and come after it.
#[test]
fn what_waits_to_be_merged_comes_once() {
    let engine = Engine::with_config(CONFIG);
    let mut here = engine.client();
    let start = subscribe(&mut here, "merged:a");
    publish(&engine, "merged:a", 1..=3);
    let mut back = engine.client();
    let reply = recover(&mut back, "merged:a", &start);
    let mut got = publications(&reply);
    while got.len() < 3 {
        let line: Value = serde_json::from_str(&back.line()).expect("JSON");
        let publication = &line["push"]["pub"];
        got.push((publication["data"].clone(), publication["offset"].as_u64().expect("an offset")));
    }
    assert_eq!(got, numbers(1..=3));
    // Everybody else's wait is not shortened by it.
    assert_eq!(here.publication("merged:a"), "1");
    let late = subscribe(&mut engine.client(), "merged:a");
    assert_eq!(late, Position { offset: 3, ..start });
}

#[test]
fn history_can_be_read_and_removed() {
    let engine = Engine::with_config(CONFIG);
    publish(&engine, "kept:a", 1..=7);
    let mut client = engine.client();
    let mut read = |fields: &str| -> Value {
        let reply = client.command(&format!(r#""history":{{"channel":"kept:a"{fields}}}"#));
        let reply: Value = serde_json::from_str(&reply).expect("JSON");
        reply.get("history").unwrap_or_else(|| &reply["error"]["code"]).clone()
    };
    let all = read(r#","limit":-1"#);
    assert_eq!((publications(&all), all["offset"].as_u64()), (numbers(3..=7), Some(7)));
    assert_eq!(publications(&read("")), []);
    let epoch = all["epoch"].clone();
    assert_eq!(
        publications(&read(&format!(r#","limit":2,"since":{{"offset":4,"epoch":{epoch}}}"#))),
        numbers(5..=6)
    );
    let backwards: Vec<_> = numbers(6..=7).into_iter().rev().collect();
    assert_eq!(publications(&read(r#","limit":2,"reverse":true"#)), backwards);
    assert_eq!(read(r#","since":{"offset":4,"epoch":"another"}"#), json!(112));

    let by_api = engine.api("history", &json!({"channel": "kept:a", "limit": -1}));
    assert_eq!(by_api["result"], all);
    let none = engine.api("history", &json!({"channel": "plain"}));
    assert_eq!(none["error"]["code"], json!(108), "{none}");
    assert_eq!(engine.api("history_remove", &json!({"channel": "kept:a"})), json!({"result": {}}));
    let removed = engine.api("history", &json!({"channel": "kept:a", "limit": -1}));
    assert_eq!(removed["result"], json!({"publications": [], "epoch": epoch, "offset": 7}));
}

/// What is kept for those who come back need not be there for whoever asks; an operator may still look.
#[test]
fn a_history_may_be_for_those_who_come_back_only() {
    let engine = Engine::with_config("[namespaces.kept]\nhistory_size = 5\nclient_history = false\n");
    let mut client = engine.client();
    let start = subscribe(&mut client, "kept:a");
    publish(&engine, "kept:a", 1..=3);
    let reply = client.command(r#""history":{"channel":"kept:a","limit":-1}"#);
    assert!(reply.contains(r#""error":{"code":103"#), "{reply}");
    let mut again = engine.client();
    assert_eq!(publications(&recover(&mut again, "kept:a", &start)), numbers(1..=3));
    let by_api = engine.api("history", &json!({"channel": "kept:a", "limit": -1}));
    assert_eq!(publications(&by_api["result"]), numbers(1..=3));

    let subscriptions =
        |namespace| engine.metric("fanfare_namespace_subscriptions", &[("namespace", namespace)]);
    assert_eq!((subscriptions("kept"), subscriptions("default")), (2.0, 0.0));
    drop(client);
    wait_until(SOON, "the end of one subscription", || subscriptions("kept") == 1.0);
}

/// The SDKs come back with one frame: a connect, and a recovery for each topic. The answers are of all sizes, one is
/// larger than what a client may leave waiting, and all together are several times as much.
#[test]
fn a_frame_of_connect_and_127_recoveries_is_answered_exactly_and_in_order() {
    let engine = Engine::with_config(CONFIG);
    let data = |topic: u64, n: u64| {
        let bytes = if topic == 40 { 20_000 } else { 100 * (topic % 13) };
        json!({"topic": topic, "n": n, "filler": "x".repeat(usize::try_from(bytes).expect("few"))})
    };
    let topics = 2..=128_u64;
    let start = {
        let mut client = engine.client();
        subscribe(&mut client, "kept:2")
    };
    for topic in topics.clone() {
        (1..=5).for_each(|n| engine.publish(&format!("kept:{topic}"), &data(topic, n)));
    }
    let recover = |topic: u64| {
        let fields = json!({
            "channel": format!("kept:{topic}"), "recover": true, "epoch": start.epoch, "offset": topic % 6
        });
        format!(r#"{{"id":{topic},"subscribe":{fields}}}"#)
    };
    let connect = r#"{"id":1,"connect":{}}"#.to_owned();
    let commands = std::iter::once(connect).chain(topics.clone().map(recover));
    let mut back = RawClient::open(engine.client_address());
    back.send(&commands.collect::<Vec<_>>().join("\n"));
    assert!(back.line().starts_with(r#"{"id":1,"connect":"#));
    for topic in topics.clone() {
        let reply = back.line();
        assert!(reply.starts_with(&format!(r#"{{"id":{topic},"#)), "instead of {topic}: {reply}");
        let subscribed = subscribed(&reply);
        assert_eq!(subscribed["recovered"], json!(true), "{reply}");
        let missed = topic % 6 + 1..=5;
        assert_eq!(publications(&subscribed), missed.map(|n| (data(topic, n), n)).collect::<Vec<_>>());
    }
    assert_eq!(engine.metric("fanfare_recovered_total", &[]), 127.0);
    for topic in topics {
        engine.publish(&format!("kept:{topic}"), &json!(6));
        let next = format!(r#"{{"push":{{"channel":"kept:{topic}","pub":{{"data":6,"offset":6}}}}}}"#);
        assert_eq!(back.line(), next);
    }
}
