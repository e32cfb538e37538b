//! The control port as its callers see it.

mod answers;
mod connections;
mod heads;
pub(super) mod harness;
mod reloading;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;

use super::*;
use crate::config::{Config, Interval, Namespace};
use crate::domain::client_id::ClientId;
use crate::domain::lifecycle::Phase;
use crate::domain::mail::ClientKey;
use crate::domain::reasons::{CloseReason, Closing};
use crate::stats::BackplaneState;
use harness::{Answer, Harness, TIMEOUT, request};

fn open() -> Harness {
    Harness::open(Config::default())
}

/// A configuration in which the topics of one namespace have a history.
fn with_history() -> Config {
    let mut config = Config::default();
    let kept = Namespace { history_size: 10, ..Namespace::default() };
    config.namespaces.insert("kept".to_owned(), kept);
    config
}

#[test]
fn publish_passes_the_data_on_byte_for_byte() {
    let harness = open();
    let data = "{ \"n\":123456789012345678901234567890, \"x\":1e400,\n\"u\":\"\\u2028\\ud83d\\ude00é\" }";
    let body = format!(r#"{{"channel":"a","data":{data}}}"#);
    assert_eq!(harness.ask("publish", &body), json!({"result": {}}));
    assert_eq!(harness.heard(), format!("publish a {data}"));
    for data in ["null", "0", "\"\"", "[]", "false"] {
        let body = format!(r#"{{"data":{data},"channel":"a","skip_history":false,"tags":{{}},"version":0}}"#);
        assert_eq!(harness.ask("publish", &body), json!({"result": {}}), "{data}");
        assert_eq!(harness.heard(), format!("publish a {data}"));
    }
}

#[test]
fn publish_says_what_is_wrong() {
    let harness = Harness::open(with_history());
    let long = format!(r#"{{"channel":"{}","data":1}}"#, "x".repeat(256));
    for (body, code, text) in [
        ("", 107, "channel"),
        ("[]", 107, "bad request"),
        (r#"{"data":1}"#, 107, "`channel`"),
        (r#"{"channel":"a"}"#, 107, "`data`"),
        (r#"{"channel":5,"data":1}"#, 107, "string"),
        (r#"{"channel":"","data":1}"#, 107, "empty"),
        (r#"{"channel":"a","data":1,"version":2}"#, 108, "`version`"),
        (r#"{"channel":"a","data":1,"delta":true}"#, 108, "`delta`"),
        (r#"{"channel":"a","data":1,"chanel":"b"}"#, 108, "`chanel`"),
        (r#"{"channel":"a","b64data":"AA=="}"#, 108, "`b64data`"),
        (r#"{"channel":"a","data":1,"tags":{"a":"b"}}"#, 108, "`tags`"),
        (r#"{"channel":"a","data":1,"b64data":"AA=="}"#, 108, "`b64data`"),
        (&long, 107, "256 bytes"),
        (r#"{"channel":"line\u0000","data":1}"#, 107, "control character"),
        (r#"{"channel":"narrow","data":1}"#, 106, "publication_bytes"),
        (r#"{"channel":"fails","data":1}"#, 100, "internal"),
        (r#"{"channel":"busy","data":1}"#, 111, "too many requests"),
        (r#"{"channel":"lost","data":1}"#, 100, "internal"),
    ] {
        let error = harness.ask("publish", body)["error"].take();
        let message = error["message"].as_str().unwrap();
        assert_eq!(error["code"], code, "{body:.60} {message}");
        assert!(message.contains(text), "{body:.60} {message}");
    }
}

#[test]
fn a_failed_publish_names_the_absent_rabbitmq() {
    let harness = open();
    harness.stats.broker.backplane.set(BackplaneState::Away as u64);
    let answer = harness.ask("publish", r#"{"channel":"fails","data":1}"#);
    assert!(answer["error"]["message"].as_str().unwrap().contains("no connection to RabbitMQ"), "{answer}");
    let answer = harness.ask("publish", r#"{"channel":"refused","data":1}"#);
    assert_eq!(answer["error"]["message"], "NO_WAY", "whatever else is known");
}

#[test]
fn a_full_mailbox_is_waited_for() {
    let harness = open();
    // The mailbox has room for four, and the broker takes its time with each.
    let mut streams: Vec<_> = (0..10).map(|_| harness.connect()).collect();
    for stream in &mut streams {
        stream.write_all(request("/api/publish", "", r#"{"channel":"slow","data":1}"#).as_bytes()).unwrap();
    }
    let answers = streams.iter_mut().map(|stream| Answer::read(stream).body);
    assert!(answers.into_iter().all(|answer| answer == r#"{"result":{}}"#));
}

#[test]
fn a_mailbox_that_stays_full_is_reported() {
    let mut config = Config::default();
    config.timeouts.publish = Interval::from_millis(100);
    let harness = Harness::open(config);
    harness.broker_hangs.store(true, Ordering::Relaxed);
    // The broker may still take what comes within its last turn; after that four fit into the mailbox.
    let body = format!(r#"{{"client":"{}"}}"#, harness.id(0));
    let codes = (0..12).map(|_| harness.ask("disconnect", &body)["error"]["code"].as_u64());
    let codes: Vec<_> = codes.collect();
    assert_eq!(codes.last(), Some(&Some(111)), "{codes:?}");
    assert_eq!(codes.first(), Some(&None), "{codes:?}");
}

/// What waits in the mailbox, and what comes after the broker thread has ended, is answered at once.
#[test]
fn who_asks_a_broker_thread_that_has_ended_does_not_wait() {
    let harness = open();
    harness.broker_hangs.store(true, Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(20));
    let mut waiting = harness.connect();
    waiting.write_all(request("/api/publish", "", r#"{"channel":"a","data":1}"#).as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let begun = Instant::now();
    harness.broker_stops.store(true, Ordering::Relaxed);
    assert_eq!(Answer::read(&mut waiting).error_code(), 100, "nobody knows what became of it");
    for (method, body) in [("history_remove", r#"{"channel":"a"}"#), ("channels", "{}")] {
        let error = harness.ask(method, body)["error"].take();
        assert_eq!(error["code"], 111, "{method}: {error}");
        assert!(error["message"].as_str().unwrap().contains("stopping"), "{method}: {error}");
    }
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[test]
fn broadcast_publishes_once_to_all_and_answers_for_each() {
    let harness = open();
    let answer = harness.ask("broadcast", r#"{"channels":["a","","b","a"],"data":{"x":1}}"#);
    let responses = answer["result"]["responses"].as_array().unwrap();
    let codes: Vec<_> = responses.iter().map(|response| response["error"]["code"].as_u64()).collect();
    assert_eq!(codes, [None, Some(107), None, None], "{answer}");
    assert_eq!(responses[0], json!({"result": {}}));
    assert_eq!(harness.heard(), r#"publish a,b {"x":1}"#);
    for (body, code) in [
        (r#"{"channels":[],"data":1}"#, 107),
        (r#"{"data":1}"#, 107),
        (r#"{"channels":["a"]}"#, 107),
        (r#"{"channels":["busy","a"],"data":1}"#, 111),
        (r#"{"channels":["a"],"data":1,"idempotency_key":7}"#, 107),
    ] {
        assert_eq!(harness.ask("broadcast", body)["error"]["code"], code, "{body}");
    }
}

#[test]
fn info_counts_this_node() {
    let harness = open();
    harness.stats.shards[0].open.set(3);
    harness.stats.shards[1].open.set(4);
    harness.stats.shards[1].subscriptions.set(9);
    harness.stats.broker.topics.set(2);
    for body in ["", "{}"] {
        let node = harness.ask("info", body)["result"]["nodes"][0].take();
        assert_eq!(node["uid"], harness.node.to_string());
        let numbers =
            ["num_clients", "num_users", "num_subs", "num_channels"].map(|name| node[name].as_u64());
        assert_eq!(numbers, [Some(7), Some(0), Some(9), Some(2)]);
        assert!(node["uptime"].is_u64() && node["name"].is_string() && node["version"].is_string(), "{node}");
    }
}

#[test]
fn channels_adds_up_the_pieces_and_filters() {
    let harness = open();
    let all = json!({
        "order.42": {"num_clients": 5}, "order.7": {"num_clients": 1}, "prices.BTC": {"num_clients": 1}
    });
    assert_eq!(harness.ask("channels", "{}")["result"]["channels"], all);
    assert_eq!(harness.ask("channels", r#"{"pattern":""}"#)["result"]["channels"], all);
    let some = json!({"order.7": {"num_clients": 1}});
    assert_eq!(harness.ask("channels", r#"{"pattern":"order.?"}"#)["result"]["channels"], some);
    assert_eq!(harness.ask("channels", r#"{"pattern":"["}"#)["error"]["code"], 107);
}

#[test]
fn disconnect_finds_the_client_by_its_id() {
    let harness = open();
    let asked = |reason: CloseReason| {
        let client = ClientKey { slot: 5, generation: 2 };
        format!("{:?}", Request::Disconnect { shard: 1, client, closing: Closing::Known(reason) })
    };
    let id = harness.id(1);
    assert_eq!(
        harness.ask("disconnect", &format!(r#"{{"user":"","client":"{id}"}}"#)),
        json!({"result": {}})
    );
    assert_eq!(harness.heard(), asked(CloseReason::ForceDisconnect));
    let body = format!(r#"{{"user":"","client":"{id}","disconnect":{{"code":3011,"reason":""}}}}"#);
    assert_eq!(harness.ask("disconnect", &body), json!({"result": {}}));
    assert_eq!(harness.heard(), asked(CloseReason::ForceReconnect));
    let body = format!(r#"{{"user":"","client":"{id}","disconnect":{{"code":4001,"reason":"blocked"}}}}"#);
    assert_eq!(harness.ask("disconnect", &body), json!({"result": {}}));
    assert!(harness.heard().contains(r#"Application { code: 4001, text: "blocked" }"#));
    let stranger = ClientId { node: NodeId::random(), shard: 0, key: ClientKey { slot: 0, generation: 0 } };
    for body in [
        r#"{"user":""}"#.to_owned(),
        r#"{"user":"","client":"x"}"#.to_owned(),
        format!(r#"{{"user":"ann","client":"{id}"}}"#),
        format!(r#"{{"client":"{stranger}"}}"#),
        format!(r#"{{"client":"{}"}}"#, harness.id(2)),
        format!(r#"{{"client":"{id}","disconnect":{{"code":2999,"reason":""}}}}"#),
        format!(r#"{{"client":"{id}","session":"x"}}"#),
    ] {
        assert_eq!(harness.ask("disconnect", &body)["error"]["code"], 107, "{body}");
    }
}

#[test]
fn unsubscribe_takes_one_client_or_everybody() {
    let harness = open();
    let id = harness.id(0);
    let body = format!(r#"{{"user":"","channel":"a","client":"{id}"}}"#);
    assert_eq!(harness.ask("unsubscribe", &body), json!({"result": {}}));
    let client = Some((0, ClientKey { slot: 5, generation: 2 }));
    assert_eq!(harness.heard(), format!("{:?}", Request::Unsubscribe { client, topic: "a".into() }));
    assert_eq!(harness.ask("unsubscribe", r#"{"user":"","channel":"a"}"#), json!({"result": {}}));
    assert_eq!(harness.heard(), format!("{:?}", Request::Unsubscribe { client: None, topic: "a".into() }));
    for body in [
        r#"{"user":""}"#,
        r#"{"channel":""}"#,
        r#"{"user":"ann","channel":"a"}"#,
        r#"{"channel":"a","client":"x"}"#,
    ] {
        assert_eq!(harness.ask("unsubscribe", body)["error"]["code"], 107, "{body}");
    }
}

#[test]
fn what_is_no_api_request_gets_an_http_status() {
    let mut config = Config::default();
    config.control.body_bytes = 100;
    let harness = Harness::open(config);
    let unknown = harness.post("/api/presence", "", "{}");
    assert_eq!((unknown.status, unknown.error_code()), (200, 104), "an error of the API, as in Centrifugo");
    let unknown = harness.post("/api/presence", "X-Centrifugo-Error-Mode: transport\r\n", "{}");
    assert_eq!(unknown.status, 404);
    for body in ["{", r#"{"channel":"a","data":{x}}"#, r#"{"channel":"a","data":1} x"#, "\u{feff}{}"] {
        let malformed = harness.post("/api/publish", "", body);
        assert_eq!((malformed.status, malformed.error_code()), (400, 107), "{body}");
        let text = malformed.json()["error"]["message"].take();
        assert!(text.as_str().is_some_and(|text| text.contains("line 1, column")), "{body}: {text}");
    }
    for (body, told) in [
        ("[]", "invalid type: sequence, expected a JSON object with `channel` and `data`"),
        ("not json", "not JSON: unexpected character at line 1, column 2"),
        (r#"{"channel":5}"#, "invalid type: integer `5`, expected a string at line 1, column 12"),
    ] {
        let answer = harness.post("/api/publish", "", body);
        assert_eq!(answer.json()["error"]["message"], format!("bad request: {told}"));
    }
    assert_eq!(harness.post("/api/publish/", "", "{}").status, 404);
    let large = harness.post("/api/publish", "", &"x".repeat(101));
    assert_eq!((large.status, large.error_code()), (413, 107));
    let get = harness.get("/api/info");
    assert_eq!(get.status, 405);
    assert!(get.head.contains("allow: post"), "{}", get.head);
}

#[test]
fn transport_mode_says_it_in_the_status() {
    let harness = open();
    let answer = harness.post("/api/publish", "X-Centrifugo-Error-Mode: transport\r\n", r#"{"channel":"a"}"#);
    assert_eq!((answer.status, answer.json()["code"].as_u64()), (400, Some(107)), "{}", answer.body);
}

#[test]
fn the_api_key_guards_the_api_alone() {
    let mut config = Config::default();
    config.control.api_key = "right".to_owned().into();
    let harness = Harness::open(config);
    for (headers, status) in [
        ("", 401),
        ("X-API-Key: wrong\r\n", 401),
        ("X-API-Key: right\r\n", 200),
        ("Authorization: apikey right\r\n", 200),
        ("X-API-Key: right\r\nOrigin: http://example.org\r\n", 200),
    ] {
        assert_eq!(harness.post("/api/info", headers, "{}").status, status, "{headers}");
    }
    assert_eq!(harness.post("/api/nothing", "", "{}").status, 401);
    for path in ["/", "/health", "/metrics"] {
        assert_eq!(harness.get(path).status, 200, "{path}");
    }
}

/// As HAProxy, Kubernetes, load balancers and monitors send them.
#[test]
fn probes_of_every_kind_are_answered() {
    let harness = open();
    for head in [
        "GET /health HTTP/1.1\r\nHost: 10.0.0.7:9000\r\nUser-Agent: kube-probe/1.31\r\n",
        "GET /health/ready HTTP/1.1\r\nHost: fanfare.example\r\n",
        "GET /health HTTP/1.0\r\n",
        "OPTIONS /health HTTP/1.0\r\n",
        "OPTIONS / HTTP/1.0\r\n",
        "HEAD /health/live HTTP/1.1\r\nHost: lb\r\n",
        "GET /health HTTP/1.1\r\n",
        "GET http://probe.example/health HTTP/1.1\r\nHost: probe.example\r\nOrigin: null\r\n",
    ] {
        let mut stream = harness.connect();
        stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.split(' ').nth(1) == Some("200"), "{head}{answer}");
    }
    for (head, status) in [
        ("GET /health/ HTTP/1.1\r\nHost: 10.0.0.7:9000\r\n\r\n", 404),
        ("OPTIONS / HTTP/1.1\r\nHost: example.org\r\nOrigin: http://example.org\r\n\r\n", 403),
    ] {
        let mut stream = harness.connect();
        stream.write_all(head.as_bytes()).unwrap();
        assert_eq!(Answer::read(&mut stream).status, status, "{head}");
    }
}

#[test]
fn without_a_key_strangers_are_refused() {
    let harness = open();
    let foreign = harness.post("/api/info", "Origin: http://example.org\r\n", "{}");
    assert_eq!((foreign.status, foreign.error_code()), (403, 103));
    assert_eq!(harness.post("/api/info", "Origin: http://localhost\r\n", "{}").status, 200);
    let mut stream = harness.connect();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: example.org\r\n\r\n").unwrap();
    assert_eq!(Answer::read(&mut stream).status, 403);
}

#[test]
fn one_connection_carries_many_requests() {
    let harness = open();
    let mut stream = harness.connect();
    for _ in 0..3 {
        stream.write_all(request("/api/info", "", "{}").as_bytes()).unwrap();
        assert_eq!(Answer::read(&mut stream).status, 200);
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let harness = open();
    let mut stream = harness.connect();
    let both =
        request("/api/publish", "", r#"{"channel":"slow","data":1}"#) + &request("/api/nothing", "", "{}");
    stream.write_all(both.as_bytes()).unwrap();
    assert_eq!(Answer::read(&mut stream).body, r#"{"result":{}}"#);
    assert_eq!(Answer::read(&mut stream).error_code(), 104);
}

#[test]
fn http_2_is_spoken_without_tls() {
    use http_body_util::{BodyExt as _, Full};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let harness = open();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ask = async {
        let stream = tokio::net::TcpStream::connect(harness.address).await.unwrap();
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        let ask = |channel: &str| {
            let body = format!(r#"{{"channel":"{channel}","data":1}}"#);
            let uri = format!("http://{}/api/publish", harness.address);
            let request = hyper::Request::post(uri).body(Full::new(hyper::body::Bytes::from(body)));
            sender.send_request(request.unwrap())
        };
        let both = ["slow", "a"].map(ask);
        for answer in both {
            let answer = answer.await.unwrap();
            assert_eq!((answer.status().as_u16(), answer.version()), (200, hyper::Version::HTTP_2));
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(&*body, br#"{"result":{}}"#);
        }
    };
    runtime.block_on(async { tokio::time::timeout(TIMEOUT, ask).await.unwrap() });
}

#[test]
fn health_tells_live_from_ready() {
    let harness = open();
    let statuses = || ["/health", "/health/ready", "/health/live"].map(|path| harness.get(path).status);
    assert_eq!(statuses(), [200, 200, 200]);
    assert_eq!(harness.get("/health").json()["rabbitmq"], "embedded");
    harness.stats.broker.backplane.set(BackplaneState::Away as u64);
    assert_eq!(statuses(), [503, 503, 200]);
    harness.stats.broker.backplane.set(BackplaneState::Ready as u64);
    assert_eq!(statuses(), [200, 200, 200]);
    harness.lifecycle.enter(Phase::Draining);
    assert_eq!(statuses(), [503, 503, 200]);
    let health = harness.get("/health").json();
    assert_eq!(
        (&health["live"], &health["ready"], &health["phase"]),
        (&json!(true), &json!(false), &json!("draining"))
    );
}

#[test]
fn health_names_a_shard_that_hangs() {
    let harness = open();
    assert_eq!(harness.get("/health").json().get("hung_shards"), None);
    let wait_for = |status| {
        let begun = Instant::now();
        while harness.get("/health").status != status {
            assert!(begun.elapsed() < 2 * TIMEOUT, "it is not {status}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    harness.shard_hangs.store(true, Ordering::Relaxed);
    wait_for(503);
    let health = harness.get("/health/live");
    assert_eq!((health.status, &health.json()["hung_shards"]), (200, &json!([1])));
    harness.shard_hangs.store(false, Ordering::Relaxed);
    wait_for(200);
}

#[test]
fn health_knows_an_absent_rabbitmq_from_one_that_refuses() {
    let mut config = Config::default();
    config.amqp.url = "amqp://localhost".to_owned().into();
    let harness = Harness::open(config);
    assert_eq!(harness.get("/health").json()["rabbitmq"], "ready");
    harness.stats.broker.backplane.set(BackplaneState::Away as u64);
    assert_eq!(harness.get("/health").json()["rabbitmq"], "away");
    harness.stats.broker.backplane.set(BackplaneState::Loading as u64);
    let loading = harness.get("/health");
    assert_eq!((loading.status, &loading.json()["rabbitmq"]), (503, &json!("loading")));
    harness.stats.broker.not_connected(Some("NOT_ALLOWED - no".into()));
    let refused = harness.get("/health");
    assert_eq!((refused.status, &refused.json()["rabbitmq"]), (503, &json!("refused")));
    assert_eq!(refused.json()["reason"], "NOT_ALLOWED - no");
    let answer = harness.ask("publish", r#"{"channel":"fails","data":1}"#);
    assert!(answer["error"]["message"].as_str().unwrap().contains("refuses this engine"), "{answer}");
    harness.stats.broker.not_connected(None);
    let away = harness.get("/health").json();
    assert_eq!((&away["rabbitmq"], away.get("reason")), (&json!("away"), None));
}

#[test]
fn the_page_brings_everything_it_needs() {
    let harness = open();
    let document = harness.get("/");
    assert_eq!(document.status, 200);
    assert!(document.head.contains("script-src 'self';"), "{}", document.head);
    let settings = harness.get("/page.json").json();
    assert_eq!(settings["clients"], json!(["ws://127.0.0.1:8000/connection/websocket"]));
    assert_eq!((&settings["mode"], &settings["key_required"]), (&json!("embedded"), &json!(false)));
    // Whatever the document and the scripts refer to is served, and nothing of it is elsewhere.
    let mut files = vec!["/".to_owned()];
    let mut at = 0;
    while let Some(file) = files.get(at) {
        let text = harness.get(file).body;
        assert!(!text.contains("http://") && !text.contains("https://"), "{file} refers to another place");
        for reference in text.split('"').filter(|part| part.starts_with("/page/") || part.starts_with("./")) {
            let path = reference.replace("./", "/page/");
            if !files.contains(&path) {
                files.push(path);
            }
        }
        at += 1;
    }
    assert_eq!(files.len(), 8, "{files:?}");
    for file in &files[1..] {
        assert_eq!(harness.get(file).status, 200, "{file}");
    }
    assert_eq!(harness.get("/page/nothing.js").status, 404);
}

#[test]
fn stopping_answers_what_is_in_flight() {
    let mut harness = open();
    let mut stream = harness.connect();
    stream.write_all(request("/api/publish", "", r#"{"channel":"slow","data":1}"#).as_bytes()).unwrap();
    assert_eq!(harness.heard(), "publish slow 1");
    drop(harness.stop.take());
    let answer = Answer::read(&mut stream);
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"result":{}}"#));
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the connection is closed after the answer");
    assert!(TcpStream::connect(harness.address).is_err(), "the port is free");
}
