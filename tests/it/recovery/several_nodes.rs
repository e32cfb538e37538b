//! Several engines on one stream answer alike.

use std::time::Duration;

use super::{CONFIG, publications, publish, recover, subscribe};
use crate::support::engine::Engine;
use crate::support::rabbitmq::RabbitNode;
use crate::support::wait::{SOON, wait_until};
use crate::support::websocket::Position;
use serde_json::{Value, json};

/// One of several nodes on this RabbitMQ.
fn start_at(url: &str) -> Engine {
    Engine::consuming(url, CONFIG)
}

/// Gone for a while, back on another node, which reads the stream or has read it back.
#[test]
fn another_node_and_one_that_was_killed_know_what_was_missed() {
    let url = RabbitNode::shared().new_vhost("recovery");
    let start = || start_at(&url);
    let (first, second) = (start(), start());
    let mut client = first.client();
    let begin = subscribe(&mut client, "merged:a");
    publish(&first, "merged:a", 1..=2);
    let mut offset = 0;
    for n in 1..=2 {
        let line: Value = serde_json::from_str(&client.line()).expect("JSON");
        assert_eq!(line["push"]["pub"]["data"], json!(n));
        offset = line["push"]["pub"]["offset"].as_u64().expect("an offset");
    }
    drop(client);
    first.kill();
    publish(&second, "merged:a", 3..=5);
    publish(&second, "kept:other", 1..=2);

    let third = start();
    for engine in [&second, &third] {
        let mut back = engine.client();
        let reply = recover(&mut back, "merged:a", &Position { offset, ..begin.clone() });
        assert_eq!(reply["recovered"], json!(true), "{reply}");
        let mut got: Vec<_> = publications(&reply).into_iter().map(|(data, _)| data).collect();
        while got.len() < 3 {
            let line: Value = serde_json::from_str(&back.line()).expect("JSON");
            got.push(line["push"]["pub"]["data"].clone());
        }
        assert_eq!(got, [json!(3), json!(4), json!(5)]);
        assert!(back.is_silent_for(Duration::from_millis(200)), "nothing comes twice");
    }
}

/// Who has a position of another node is not told of a loss by one that knows less of the stream, but has read it.
#[test]
fn a_position_between_markers_is_as_good_on_every_node() {
    let url = RabbitNode::shared().new_vhost("markers");
    let first = start_at(&url);
    // It reads next to nothing back, so that a topic it does not know may have lost something until there.
    let config = format!("[amqp]\nreplay_max_messages = 1\nmessage_ids = 0\n{CONFIG}");
    let second = Engine::consuming(&url, &config);
    let mut client = second.client();
    let position = subscribe(&mut client, "kept:a");
    assert!(position.offset > 0, "{position:?}");
    drop(client);
    for engine in [&second, &first] {
        let reply = recover(&mut engine.client(), "kept:a", &position);
        assert_eq!(reply["recovered"], json!(true), "{reply}");
    }
}

/// An engine that cannot read the stream says neither that somebody has lost something nor that it has not; who
/// came before the stream is told of the gap when it comes.
#[test]
fn nobody_is_told_of_a_loss_by_an_engine_that_knows_nothing_yet() {
    let mut node = RabbitNode::start();
    let url = node.amqp_url();
    let first = start_at(&url);
    let mut client = first.client();
    let begin = subscribe(&mut client, "kept:a");
    publish(&first, "kept:a", 1..=2);
    assert_eq!(client.publication("kept:a"), "1");
    drop(client);
    node.sync_tables();
    first.stop();
    node.stop();

    // The clients here answer no ping while RabbitMQ starts, which takes its time on a busy machine.
    let patient = format!("{CONFIG}[timeouts]\nping = \"1h\"\n");
    let engine = Engine::with_config_and(&patient, &["--amqp", &url]);
    let [mut new, mut old] = [(); 2].map(|()| engine.client());
    subscribe(&mut new, "kept:a");
    let Position { epoch, offset } = &begin;
    let again =
        format!(r#""subscribe":{{"channel":"kept:a","recover":true,"epoch":"{epoch}","offset":{offset}}}"#);
    let refused = old.command(&again);
    assert!(refused.contains(r#""code":100"#) && refused.contains(r#""temporary":true"#), "{refused}");

    node.start_again();
    engine.wait_until_ready();
    let told = new.line();
    assert!(told.contains(r#""unsubscribe":{"code":2500"#), "{told}");
    let position = subscribe(&mut new, "kept:a");
    assert_eq!(position.epoch, begin.epoch);
    let reply = recover(&mut old, "kept:a", &begin);
    assert_eq!(reply["recovered"], json!(true), "{reply}");
    let missed: Vec<_> = publications(&reply).into_iter().map(|(data, _)| data).collect();
    assert_eq!(missed, [json!(1), json!(2)]);
    publish(&engine, "kept:a", 3..=3);
    for client in [&mut new, &mut old] {
        assert_eq!(client.publication("kept:a"), "3");
    }
}

#[test]
fn a_history_that_is_removed_is_gone_on_every_node() {
    let url = RabbitNode::shared().new_vhost("removed");
    let start = || start_at(&url);
    let kept = |engine: &Engine, topic: &str| {
        let page = engine.api("history", &json!({"channel": topic, "limit": -1}));
        publications(&page["result"]).into_iter().map(|(data, _)| data).collect::<Vec<_>>()
    };
    let (first, second) = (start(), start());
    let begin = subscribe(&mut second.client(), "kept:a");
    publish(&first, "kept:a", 1..=3);
    publish(&first, "kept:b", 1..=3);
    assert_eq!(first.api("history_remove", &json!({"channel": "kept:a"})), json!({"result": {}}));
    publish(&first, "kept:a", 4..=4);
    for engine in [&first, &second, &start()] {
        wait_until(SOON, "what came after", || kept(engine, "kept:a").contains(&json!(4)));
        assert_eq!((kept(engine, "kept:a"), kept(engine, "kept:b").len()), (vec![json!(4)], 3));
        let reply = recover(&mut engine.client(), "kept:a", &begin);
        assert_eq!(reply.get("recovered"), None, "across the hole: {reply}");
    }
}
