//! Reloads by the API, and what they change at the control port itself.

use std::io::Write as _;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;

use super::harness::{Answer, Harness, request};
use crate::config::{Config, Interval, Namespace};

const KEY: &str = "X-API-Key: old\r\n";
/// How long a reload waits for its files.
const READ_LIMIT: Duration = Duration::from_secs(10);

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

/// Each reload changes the key that the next request needs.
#[test]
fn nothing_changes_while_the_broker_thread_cannot_be_told() {
    let with_key = |number: usize| {
        let mut config = guarded();
        config.control.api_key = format!("key{number}").into();
        config.timeouts.publish = Interval::from_millis(100);
        config
    };
    let header = |number: usize| format!("X-API-Key: key{number}\r\n");
    let harness = Harness::open(with_key(0));
    harness.broker_hangs.store(true, Ordering::Relaxed);
    // The broker may still take what comes within its last turn; after that four fit into the mailbox.
    let behind = (0..20).find(|&number| {
        *harness.files.0.lock() = Some(with_key(number + 1));
        let answer = ask(&harness, "reload", &header(number), "{}");
        answer["error"]["message"].as_str().is_some_and(|message| message.contains("behind"))
    });
    let behind = behind.expect("the mailbox becomes full");
    let status = |number: usize| harness.post("/api/none", &header(number), "{}").status;
    assert_eq!((status(behind), status(behind + 1)), (200, 401), "the key is the one before");
    let stats = harness.get("/metrics").body;
    for (outcome, count) in [("done", behind), ("failed", 1)] {
        assert!(
            stats.contains(&format!("fanfare_reloads_total{{outcome=\"{outcome}\"}} {count}")),
            "{stats}"
        );
    }
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

#[test]
fn while_files_do_not_answer_a_reload_gives_up_and_the_next_is_refused_at_once() {
    let harness = Harness::open(Config::default());
    let message = || harness.ask("reload", "{}")["error"]["message"].as_str().map(str::to_owned);
    let hanging = harness.files.0.lock();
    assert!(message().is_some_and(|text| text.contains("could not be read within 10s")));
    let began = Instant::now();
    assert!(message().is_some_and(|text| text.contains("an earlier reload still waits")));
    assert!(began.elapsed() < READ_LIMIT, "it does not wait itself");
    drop(hanging);
    let answers = || message().is_some_and(|text| text.contains("line 1: wrong"));
    while !answers() {
        assert!(began.elapsed() < 2 * READ_LIMIT, "what was read is still awaited");
    }
}
