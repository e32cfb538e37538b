//! Backends that hang, answer garbage, answer too much, hang up, or are not there.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::backend::{Backend, Does};
use crate::support::engine::Engine;
use crate::support::wait::{SOON, wait_until};
use crate::support::websocket::RawClient;

/// An engine whose clients' requests this backend answers, with further keys of its table and of the file.
fn answered_by(url: &str, keys: &str, more: &str) -> Engine {
    Engine::with_config(&format!(
        "[backends.shop]\nurl = \"{url}\"\n{keys}\n[rpc]\nmethods = {{ \"*\" = \"shop\" }}\n{more}"
    ))
}

const FAILED: &str = r#""error":{"code":100,"message":"internal server error","temporary":true}"#;

#[test]
fn whatever_a_backend_does_a_client_gets_an_answer_and_only_its_own_request_fails() {
    let backend = Backend::start(|asked| match asked.body["method"].as_str().unwrap_or_default() {
        "hang" => {
            thread::sleep(Duration::from_secs(2));
            Does::Answers(json!({"result": {"data": "late"}}))
        }
        "garbage" => Does::Says(200, b"<html>".to_vec()),
        "cut" => Does::Says(200, br#"{"result":{"data":"#.to_vec()),
        "array" => Does::Says(200, b"[]".to_vec()),
        "utf8" => Does::Says(200, b"{\"result\":{\"data\":\"\xff\"}}".to_vec()),
        "large" => Does::Says(200, format!(r#"{{"result":{{"data":"{}"}}}}"#, "x".repeat(10 << 20)).into()),
        "status" => Does::Says(500, Vec::new()),
        "redirect" => Does::Says(302, Vec::new()),
        "missing" => Does::Says(404, Vec::new()),
        "banned" => Does::Says(403, Vec::new()),
        "end" => Does::HangsUp,
        "empty" => Does::Answers(json!({})),
        _ => Does::Answers(json!({"result": {"data": "well"}})),
    });
    let statuses = r#"timeout = "500ms"
failures = 0
statuses = [
    { status = 404, error = { code = 1404, message = "nothing" } },
    { status = 403, disconnect = { code = 4503, reason = "go" } },
]"#;
    let engine = answered_by(&backend.url("/"), statuses, "");
    let mut client = engine.client();
    for (method, expected) in [
        ("hang", FAILED),
        ("garbage", FAILED),
        ("cut", FAILED),
        ("array", FAILED),
        ("utf8", FAILED),
        ("large", FAILED),
        ("status", FAILED),
        ("redirect", FAILED),
        ("end", FAILED),
        ("missing", r#""error":{"code":1404,"message":"nothing"}"#),
        ("empty", r#""rpc":{"data":null}"#),
        ("well", r#""rpc":{"data":"well"}"#),
    ] {
        let began = Instant::now();
        let reply = client.command(&format!(r#""rpc":{{"method":"{method}","data":1}}"#));
        assert!(reply.contains(expected), "{method}: {reply}");
        assert!(began.elapsed() < Duration::from_secs(5), "{method} took {:?}", began.elapsed());
    }
    client.send(r#"{"id":99,"rpc":{"method":"banned","data":1}}"#);
    assert_eq!(client.closed(), (4503, "go".to_owned()));
    // Operators are told of the first one that cannot be used, and not what it was.
    let log = engine.stderr().so_far();
    let told: Vec<_> = log.iter().filter(|line| line.contains("a backend's answer cannot be used")).collect();
    assert_eq!(told.len(), 1, "{log:?}");
    for words in ["backend=shop", "call=\"rpc\"", "it is not a JSON object", "more_since_last=0"] {
        assert!(told[0].contains(words), "{words}: {told:?}");
    }
    assert!(!log.iter().any(|line| line.contains("html")), "{log:?}");
    for (outcome, count) in [
        ("late", 1),
        ("unreadable", 4),
        ("too_large", 1),
        ("status", 2),
        ("lost", 1),
        ("answered", 2),
        ("error", 1),
    ] {
        let labels = [("backend", "shop"), ("call", "rpc"), ("outcome", outcome)];
        assert_eq!(engine.metric("fanfare_calls_total", &labels), f64::from(count), "{outcome}");
    }
}

#[test]
fn a_dead_backend_costs_little_and_is_seen_and_asked_again() {
    let port = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = port.local_addr().expect("it is bound");
    drop(port);
    let engine = answered_by(&format!("http://{address}/"), "failures = 3", "");
    let mut client = engine.client();
    let mut ask = || client.command(r#""rpc":{"method":"m","data":1}"#);
    for _ in 0..3 {
        assert!(ask().contains(FAILED));
    }
    let suspended = [("backend", "shop")];
    wait_until(SOON, "the backend to be left alone", || {
        engine.metric("fanfare_backend_suspended", &suspended) == 1.0
    });
    let began = Instant::now();
    for _ in 0..20 {
        assert!(ask().contains(FAILED));
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let health = engine.get("/health");
    assert!(health.body.contains("shop"), "{}", health.body);
    assert_eq!(engine.get("/health/ready").status, 200, "the engine itself is well");
    let _backend = Backend::on(TcpListener::bind(address).expect("the port is free"), |_| {
        Does::Answers(json!({"result": {"data": "well"}}))
    });
    wait_until(SOON, "the backend to be asked again", || ask().contains(r#""rpc":{"data":"well"}"#));
    assert_eq!(engine.metric("fanfare_backend_suspended", &suspended), 0.0);
}

#[test]
fn hooks_of_a_dead_backend_deny_unless_the_namespace_says_otherwise() {
    let engine = answered_by(
        "http://127.0.0.1:9/",
        "failures = 0",
        "[namespaces.strict]\nsubscribe_hook = \"shop\"\npublish_hook = \"shop\"\n[namespaces.lax]\nsubscribe_hook = \
         \"shop\"\npublish_hook = \"shop\"\nhook_failure = \"allow\"\n",
    );
    let mut client = engine.client();
    for (command, expected) in [
        (r#""subscribe":{"channel":"strict:1"}"#, FAILED),
        (r#""publish":{"channel":"strict:1","data":1}"#, FAILED),
        (r#""subscribe":{"channel":"lax:1"}"#, r#""subscribe":{}"#),
        (r#""publish":{"channel":"lax:1","data":1}"#, r#""publish":{}"#),
    ] {
        let reply = client.command(command);
        assert!(reply.contains(expected), "{command}: {reply}");
    }
    assert_eq!(client.publication("lax:1"), "1");
}

#[test]
fn a_client_that_floods_is_refused_and_others_have_their_turns() {
    let busy = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (now, peak) = (Arc::clone(&busy), Arc::clone(&most));
    let backend = Backend::start(move |_| {
        peak.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(20));
        now.fetch_sub(1, Ordering::Relaxed);
        Does::Answers(json!({"result": {"data": 1}}))
    });
    let limits = "[limits]\nrpcs_per_client = 16\n";
    let engine = answered_by(&backend.url("/"), "concurrency = 4\ntimeout = \"5s\"", limits);
    let (mut flood, mut other) = (engine.client(), engine.client());
    let commands: Vec<_> =
        (1000..1500).map(|id| format!(r#"{{"id":{id},"rpc":{{"method":"m","data":1}}}}"#)).collect();
    flood.send(&commands.join("\n"));
    let began = Instant::now();
    assert!(other.command(r#""rpc":{"method":"m","data":1}"#).contains(r#""rpc":{"data":1}"#));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let (mut answered, mut refused) = (0, 0);
    for _ in 0..500 {
        let line = flood.line();
        if line.contains(r#""code":111,"#) { refused += 1 } else { answered += 1 }
    }
    assert!(answered >= 16 && refused > 0, "{answered} answered, {refused} refused");
    assert!(most.load(Ordering::Relaxed) <= 4, "{} at once", most.load(Ordering::Relaxed));
}

#[test]
fn an_answer_for_a_client_that_has_left_is_for_nobody() {
    let backend = Backend::start(|_| {
        thread::sleep(Duration::from_millis(300));
        Does::Answers(json!({"result": {"data": "for somebody"}}))
    });
    let engine = answered_by(&backend.url("/"), "", "");
    let mut leaves = engine.client();
    leaves.send(r#"{"id":7,"rpc":{"method":"m","data":1}}"#);
    wait_until(SOON, "the backend to be asked", || !backend.asked().is_empty());
    drop(leaves);
    let mut comes = engine.client();
    assert!(comes.is_silent_for(Duration::from_millis(600)));
    assert!(comes.command(r#""rpc":{"method":"m","data":1}"#).contains("for somebody"));
}

/// A backend that is asked about one client after the other. It is held up while most of them give up.
#[test]
fn a_hook_is_not_asked_about_clients_that_left_while_they_waited() {
    let is_held = Arc::new(AtomicBool::new(true));
    let holds = Arc::clone(&is_held);
    let backend = Backend::start(move |asked| {
        while holds.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(5));
        }
        Does::Answers(json!({"result": {"user": asked.body["name"]}}))
    });
    let waits_long = "concurrency = 1\ntimeout = \"20s\"\nqueue_timeout = \"20s\"";
    let engine = answered_by(&backend.url("/"), waits_long, "[hooks]\nconnect = \"shop\"\n");
    let connect = |name: &str| {
        let mut client = RawClient::open(engine.client_address());
        client.send(&format!(r#"{{"id":1,"connect":{{"name":"{name}"}}}}"#));
        client
    };
    let mut first = connect("first");
    wait_until(SOON, "the backend to be asked", || !backend.asked().is_empty());
    let leave: Vec<_> = (0..50).map(|n| connect(&format!("leaves{n}"))).collect();
    let labels = [("backend", "shop"), ("call", "connect"), ("outcome", "left")];
    let waiting = || engine.metric("fanfare_calls_waiting", &[("backend", "shop")]);
    wait_until(SOON, "the others to wait", || waiting() == 50.0);
    drop(leave);
    wait_until(SOON, "their calls to be dropped", || engine.metric("fanfare_calls_total", &labels) == 50.0);
    let mut last = connect("last");
    is_held.store(false, Ordering::Relaxed);
    assert!(first.line().contains(r#""connect":"#) && last.line().contains(r#""connect":"#));
    let asked: Vec<_> = backend.asked().iter().map(|asked| asked.body["name"].clone()).collect();
    assert_eq!(asked, ["first", "last"]);
}

#[test]
fn a_reload_changes_who_is_asked() {
    let [first, second] = ["first", "second"]
        .map(|name| Backend::start(move |_| Does::Answers(json!({"result": {"data": name}}))));
    let config = |backend: &Backend| {
        format!("[backends.shop]\nurl = \"{}\"\n[rpc]\nmethods = {{ \"*\" = \"shop\" }}\n", backend.url("/"))
    };
    let files = crate::support::process::TempDir::new("calls");
    let path = files.write("fanfare.toml", &config(&first));
    let mut command = crate::support::engine::serve();
    command.arg("--config").arg(&path);
    let engine = Engine::launch(command, None);
    let mut client = engine.client();
    let mut ask = || client.command(r#""rpc":{"method":"m","data":1}"#);
    assert!(ask().contains("first"));
    files.write("fanfare.toml", &config(&second));
    engine.api("reload", &json!({}));
    assert!(ask().contains("second"));
    files.write("fanfare.toml", "");
    engine.api("reload", &json!({}));
    assert!(ask().contains(r#""error":{"code":108,"#));
}
