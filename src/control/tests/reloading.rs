//! Reloads by the API, and what they change at the control port itself.

use std::io::Write as _;
use std::sync::atomic::Ordering;

use serde_json::json;

use super::harness::{Answer, Harness, request};
use crate::config::{Config, Interval, Namespace};

const KEY: &str = "X-API-Key: old\r\n";

fn guarded() -> Config {
    let mut config = Config::default();
    config.control.api_key = "old".to_owned().into();
    config
}

fn ask(harness: &Harness, method: &str, headers: &str, body: &str) -> serde_json::Value {
    harness.post(&format!("/api/{method}"), headers, body).json()
}

#[test]
fn a_reload_tells_what_changed_and_what_needs_a_restart() {
    let harness = Harness::open(guarded());
    let mut config = guarded();
    config.control.api_key = "new".to_owned().into();
    config.namespaces.insert("added".to_owned(), Namespace { publication_bytes: 3, ..Namespace::default() });
    config.server.shards = 7;
    *harness.files.0.lock() = Some(config);
    let publish = r#"{"channel":"added:x","data":1234}"#;
    assert_eq!(ask(&harness, "publish", KEY, publish)["error"]["code"], 102);
    let told =
        json!({"changed": ["control.api_key", "namespaces.added"], "needs_restart": ["server.shards"]});
    assert_eq!(ask(&harness, "reload", KEY, "{}"), json!({"result": told}));
    assert_eq!(harness.heard(), "reload", "the broker thread is told");
    assert_eq!(harness.post("/api/reload", KEY, "").status, 401);
    let new = "X-API-Key: new\r\n";
    assert_eq!(ask(&harness, "publish", new, publish)["error"]["code"], 106, "the namespace's own limit");
    let page = harness.get("/metrics").body;
    assert!(page.contains("fanfare_namespace_publications_total{namespace=\"added\"} 0"), "{page}");
    assert!(page.contains("fanfare_reloads_total{outcome=\"done\"} 1"), "{page}");
}

#[test]
fn what_cannot_be_used_changes_nothing_and_is_told_as_a_whole() {
    let harness = Harness::open(Config::default());
    let answer = harness.ask("reload", "{}");
    let text = "bad request: line 1: wrong\nline 2: wrong, too";
    assert_eq!(answer, json!({"error": {"code": 107, "message": text}}));
    assert_eq!(harness.ask("reload", r#"{"what":"x"}"#)["error"]["code"], 108);
    let page = harness.get("/metrics").body;
    assert!(page.contains("fanfare_reloads_total{outcome=\"failed\"} 1"), "{page}");
    harness.ask("publish", r#"{"channel":"a","data":1}"#);
    assert_eq!(harness.heard(), "publish a 1", "the broker thread was not asked");
}

#[test]
fn nothing_changes_while_the_broker_thread_cannot_be_told() {
    let mut config = guarded();
    config.timeouts.publish = Interval::from_millis(100);
    let harness = Harness::open(config.clone());
    config.control.api_key = "new".to_owned().into();
    *harness.files.0.lock() = Some(config);
    harness.broker_hangs.store(true, Ordering::Relaxed);
    // The broker may still take what comes within its last turn; after that four fit into the mailbox.
    let outcomes = (0..20).map(|_| harness.post("/api/reload", KEY, "{}"));
    let statuses: Vec<_> = outcomes.map(|answer| (answer.status, answer.body.contains("behind"))).collect();
    assert!(statuses.contains(&(401, false)), "one took effect: {statuses:?}");
}

/// In a pipeline, a head that is equal to the one before it is not parsed again.
#[test]
fn a_key_that_is_gone_is_refused_on_an_open_connection() {
    let harness = Harness::open(guarded());
    let mut stream = harness.connect();
    let publish = request("/api/publish", KEY, r#"{"channel":"a","data":1}"#);
    let mut statuses = || {
        stream.write_all(publish.as_bytes()).unwrap();
        Answer::read(&mut stream).status
    };
    assert_eq!([statuses(), statuses()], [200, 200]);
    let mut config = guarded();
    config.control.api_key = "new".to_owned().into();
    *harness.files.0.lock() = Some(config);
    ask(&harness, "reload", KEY, "{}");
    assert_eq!(statuses(), 401);
}
