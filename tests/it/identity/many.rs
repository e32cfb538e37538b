//! Very many tokens that are wrong, each another one.

use std::thread;

use super::{SECRET, signed, token};
use crate::support::engine::Engine;
use crate::support::peer::Peer;
use crate::support::process::resident_bytes;
use crate::support::websocket::RawClient;
use serde_json::json;

const CONFIG: &str = "[tokens]\nhmac_keys = [\"a secret that is long enough for a test\"]\n\
                      [namespaces.alive]\nclient_publish = [\"user\"]\n";
/// Who shows them.
const CLIENTS: usize = 10;
/// Each of them.
const TOKENS: usize = 10_000;
/// In one message.
const AT_ONCE: usize = 50;
/// What the engine may use more memory than before: what it remembers of refused tokens is bounded, and so are buffers.
const GROWTH_MAX: u64 = 16 << 20;

/// A subscribe with a wrong token is answered with 103, and the client may try again.
fn try_many(engine: &Engine, client: usize) {
    let mut peer = Peer::upgraded(engine.client_address());
    peer.command(&json!({"id": 1, "connect": {"token": token(&json!({"sub": "eve"}))}}).to_string());
    peer.reply();
    let right = token(&json!({"sub": "eve", "channel": "$room"}));
    let (message, _) = right.rsplit_once('.').expect("three parts");
    for first in (0..TOKENS).step_by(AT_ONCE) {
        let commands = (first..first + AT_ONCE).map(|number| {
            let wrong = format!("{message}.{:043}", 10 * (client * TOKENS + number));
            format!(r#"{{"id":{},"subscribe":{{"channel":"$room","token":"{wrong}"}}}}"#, number + 2)
        });
        peer.command(&commands.collect::<Vec<_>>().join("\n"));
        let mut answers = 0;
        while answers < AT_ONCE {
            let reply = peer.reply();
            let refused = reply.matches(r#""error":{"code":103"#).count();
            assert!(refused > 0 || reply == "{}", "{reply}");
            answers += refused;
        }
    }
}

#[test]
fn a_hundred_thousand_wrong_tokens_take_little_memory_and_others_are_served() {
    let engine = Engine::with_config(CONFIG);
    let mut healthy = RawClient::open(engine.client_address());
    healthy.send(&json!({"id": 1, "connect": {"token": signed(SECRET, &json!({"sub": "ann"}))}}).to_string());
    healthy.line();
    healthy.subscribe("alive:1");
    let before = resident_bytes(engine.pid()).expect("it runs");
    let mut published = 0;
    thread::scope(|scope| {
        let engine = &engine;
        let peers: Vec<_> =
            (0..CLIENTS).map(|client| scope.spawn(move || try_many(engine, client))).collect();
        while peers.iter().any(|peer| !peer.is_finished()) {
            published += 1;
            healthy.command(&format!(r#""publish":{{"channel":"alive:1","data":{published}}}"#));
            assert_eq!(healthy.publication("alive:1"), published.to_string());
        }
    });
    let growth = resident_bytes(engine.pid()).expect("it runs").saturating_sub(before);
    assert!(growth < GROWTH_MAX, "{growth} bytes more than before");
    let verified = engine.metric("fanfare_tokens_verified_total", &[]);
    assert!(verified >= (CLIENTS * TOKENS) as f64, "{verified}");
    assert!(published > 100, "the healthy client got no more than {published} publications meanwhile");
    assert!(engine.stderr().so_far().len() < 100, "a wrong token is no line in the log");
}
