//! permessage-deflate from end to end: clients that take compressed publications and clients that do not, on the
//! same topics.

use crate::support::engine::Engine;
use crate::support::framed::{Framed, compressed};
use crate::support::frames::{COMPRESSED, TEXT, frame, frame_with};
use crate::support::peer::{Peer, UPGRADE};
use crate::support::random::Random;
use crate::support::script::Subscriber;
use crate::support::wait::{SOON, wait_until};
use serde_json::json;

const CONFIG: &str = "[namespaces.zip]\ndeflate = true\nlog_bytes = 33554432\n\
                      [namespaces.late]\ndeflate = true\nmax_delay = \"300ms\"\n\
                      [namespaces.alive]\nclient_publish = true\n";

/// What is published: text that compresses and text that does not, below and beyond the minimum.
fn payloads() -> Vec<serde_json::Value> {
    vec![
        json!(1),
        json!({"text": "the same again, ".repeat(100)}),
        json!("é€😀 \u{2028}\n\"\\"),
        json!(Random::new(1).digits(8000)),
        json!([]),
        json!("x".repeat(200_000)),
    ]
}

#[test]
fn the_same_bytes_reach_clients_that_compress_and_clients_that_do_not() {
    let engine = Engine::with_config(CONFIG);
    let mut plain = engine.client();
    let mut deflating = Framed::deflating(engine.client_address());
    let mut sdks = [Subscriber::node(&engine.ws_url()), Subscriber::python(&engine.ws_url())];
    let payloads = payloads();
    for topic in ["zip:1", "late:1", "plain"] {
        plain.subscribe(topic);
        deflating.subscribe(topic);
        sdks.iter_mut().for_each(|sdk| sdk.subscribe(topic));
        let (frames, before) =
            (deflating.deflated_frames, engine.metric("fanfare_deflate_in_bytes_total", &[]));
        payloads.iter().for_each(|data| engine.publish(topic, data));
        for _ in &payloads {
            assert_eq!(deflating.line(), plain.line());
        }
        sdks.iter().for_each(|sdk| sdk.expect(topic, &payloads));
        // Both SDKs and a raw client have agreed on compression, and it was done once for all of them.
        let bytes = engine.metric("fanfare_deflate_in_bytes_total", &[]) - before;
        match topic {
            "plain" => assert_eq!((bytes, deflating.deflated_frames - frames), (0.0, 0)),
            _ => assert!((200_000.0..220_000.0).contains(&bytes), "{bytes} bytes were compressed"),
        }
        if topic == "late:1" {
            assert!(deflating.deflated_frames - frames < payloads.len(), "nothing was merged");
        }
    }
}

#[test]
fn the_sdks_offer_compression_and_are_taken_at_their_word() {
    let engine = Engine::with_config(CONFIG);
    let connect: [fn(&str) -> Subscriber; 2] = [Subscriber::node, Subscriber::python];
    for (connect, topic) in connect.into_iter().zip(["zip:node", "zip:python"]) {
        let mut sdk = connect(&engine.ws_url());
        sdk.subscribe(topic);
        let before = engine.metric("fanfare_deflate_in_bytes_total", &[]);
        engine.publish(topic, &json!("x".repeat(1000)));
        sdk.expect(topic, &[json!("x".repeat(1000))]);
        assert!(engine.metric("fanfare_deflate_in_bytes_total", &[]) > before + 1000.0, "{topic}");
    }
}

/// Whoever does not read is behind, and gets what it lacks in frames of many segments.
#[test]
fn who_is_behind_gets_many_segments_in_one_frame() {
    let engine = Engine::with_config(CONFIG);
    let mut behind = Framed::deflating(engine.client_address());
    behind.subscribe("zip:1");
    let mut random = Random::new(1);
    let mut texts = Vec::new();
    while engine.metric("fanfare_blocked_clients", &[]) < 1.0 || texts.len() % 100 != 0 {
        assert!(texts.len() < 2000, "it is never blocked");
        texts.push(random.digits(32_000));
        engine.publish("zip:1", &json!(texts[texts.len() - 1]));
    }
    // More, that is surely behind.
    for n in 0..100 {
        texts.push(format!("{n}"));
        engine.publish("zip:1", &json!(n.to_string()));
    }
    for text in &texts {
        let line = behind.line();
        assert!(line.contains(&format!("\"{text}\"")), "not {}: {}", &text[..text.len().min(20)], line.len());
    }
    assert!(
        behind.deflated_frames + 90 < texts.len(),
        "{} frames for {} lines",
        behind.deflated_frames,
        texts.len()
    );
}

#[test]
fn operators_see_one_topic_and_end_it_for_everybody() {
    let lanes = format!("[budgets]\ncrowd = 1\n{CONFIG}");
    for (config, topic) in [(CONFIG, "zip:1"), (&lanes, "late:1")] {
        let engine = Engine::with_config(config);
        let mut plain = engine.client();
        let mut deflating = Framed::deflating(engine.client_address());
        let mut leaver = Framed::deflating(engine.client_address());
        plain.subscribe(topic);
        deflating.subscribe(topic);
        leaver.subscribe(topic);
        let channels = |engine: &Engine| engine.api("channels", &json!({}))["result"]["channels"].clone();
        assert_eq!(channels(&engine), json!({topic: {"num_clients": 3}}));
        let leave = format!(r#"{{"id":3,"unsubscribe":{{"channel":"{topic}"}}}}"#);
        assert_eq!(leaver.ask(&leave), r#"{"id":3,"unsubscribe":{}}"#);
        assert_eq!(channels(&engine), json!({topic: {"num_clients": 2}}));
        assert_eq!(engine.metric("fanfare_topics", &[]), 1.0);
        engine.publish(topic, &json!(1));
        assert_eq!(deflating.line(), plain.line());
        engine.api("unsubscribe", &json!({"channel": topic, "user": ""}));
        let end = plain.line();
        assert!(end.contains(r#""unsubscribe":{"code":2000"#), "{end}");
        assert_eq!(deflating.line(), end);
        wait_until(SOON, "nobody to be left", || channels(&engine) == json!({}));
    }
}

#[test]
fn bombs_and_garbage_end_their_own_connection_only() {
    let engine = Engine::with_config(CONFIG);
    let mut healthy = engine.subscriber(&["alive:1"]);
    let bomb = compressed(&vec![b' '; 50 << 20]);
    assert!(bomb.len() < 60_000, "{} bytes are no message", bomb.len());
    let marked = |payload: &[u8]| frame_with(0x80 | COMPRESSED | TEXT, payload);
    let (start, end) = bomb.split_at(20_000);
    let halves = [frame_with(COMPRESSED | TEXT, start), frame_with(0x80, end)].concat();
    for (what, bytes, code) in [
        ("a bomb", marked(&bomb), 1009),
        ("a bomb in two parts", halves, 1009),
        ("no deflate stream", marked(b"\x07\x07\x07"), 1002),
        ("a marked continuation", [frame_with(TEXT, b"a"), frame_with(0xc0, b"b")].concat(), 1002),
        ("a marked ping", frame_with(0xc9, b""), 1002),
        ("no UTF-8", marked(&compressed(b"\xff\xfe")), 1007),
    ] {
        let mut peer = Framed::deflating(engine.client_address()).peer;
        peer.send(&bytes);
        assert_eq!(peer.close_code(), Some(code), "{what}");
        let reply = healthy.command(r#""publish":{"channel":"alive:1","data":1}"#);
        assert!(reply.contains(r#""publish":{}"#), "after {what}: {reply}");
        assert_eq!(healthy.publication("alive:1"), "1", "after {what}");
    }
    // Who has not asked for it may not compress.
    let mut peer = Peer::connected(engine.client_address());
    peer.send(&frame(COMPRESSED | TEXT, &compressed(b"{}")));
    assert_eq!(peer.close_code(), Some(1002));
}

#[test]
fn where_no_namespace_wants_it_nothing_is_agreed_on() {
    let engine = Engine::start(&[]);
    let mut peer = Peer::connect(engine.client_address());
    let offer = "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    peer.send(UPGRADE.replace("\r\n\r\n", offer).as_bytes());
    let head = peer.read_head().to_lowercase();
    assert!(head.starts_with("http/1.1 101 ") && !head.contains("extensions"), "{head}");
}
