//! Hooks, asked by HTTP as Centrifugo asks its proxies.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::backend::{Backend, Does};
use crate::support::engine::Engine;
use crate::support::wait::{SOON, wait_until};
use crate::support::websocket::RawClient;

/// An engine that asks this backend about everything, at a path for each kind of call.
pub(super) fn asking(backend: &Backend, more: &str) -> Engine {
    let kinds = ["rpc", "send", "connect", "refresh", "subscribe", "sub_refresh", "publish"];
    let tables: String = kinds
        .iter()
        .map(|kind| {
            let url = backend.url(&format!("/{kind}"));
            format!(
                "[backends.{kind}]\nurl = \"{url}\"\nmeta = true\nheaders = [\"Cookie\"]\ntimeout = \"5s\"\n"
            )
        })
        .collect();
    Engine::with_config(&format!(
        "{tables}\n[rpc]\nsend = \"send\"\nmethods = {{ \"*\" = \"rpc\" }}\n[hooks]\nconnect = \"connect\"\nrefresh = \
         \"refresh\"\n[namespaces.room]\nsubscribe_hook = \"subscribe\"\nsub_refresh_hook = \
         \"sub_refresh\"\npublish_hook = \"publish\"\nhistory_size = 10\nclient_history = true\n{more}"
    ))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// Opens a WebSocket with a cookie.
fn open(engine: &Engine) -> RawClient {
    RawClient::open_with(engine.client_address(), "", &["Cookie: session=1".to_owned()])
}

fn without_client(body: &Value) -> Value {
    let mut body = body.clone();
    let client = body["client"].take();
    assert_eq!(client.as_str().map(str::len), Some(36), "the client's id: {client}");
    body.as_object_mut().expect("an object").remove("client");
    body
}

#[test]
fn a_backend_written_for_centrifugo_hears_and_says_what_it_knows() {
    let backend = Backend::start(|asked| {
        Does::Answers(match &*asked.path {
            "/connect" => json!({"result": {
                "user": "ann", "info": {"name": "Ann"}, "meta": {"plan": 7}, "data": {"motd": "hi"},
                "channels": ["news"], "expire_at": now() + 2,
            }}),
            "/refresh" => json!({"result": {"expire_at": now() + 3600}}),
            "/subscribe" => {
                json!({"result": {"info": {"seat": 3}, "data": {"topic": "x"}, "expire_at": now() + 2}})
            }
            "/sub_refresh" => json!({"result": {"expired": true}}),
            "/publish" => json!({"result": {"data": {"text": "clean"}}}),
            "/rpc" => json!({"result": {"data": {"answer": asked.body["data"]}}}),
            _ => json!({}),
        })
    });
    let engine = asking(&backend, "");
    let mut client = open(&engine);
    let reply = client.command(r#""connect":{"name":"js","version":"5","data":{"from":"page"}}"#);
    let reply: Value = serde_json::from_str(&reply).expect("JSON");
    assert_eq!(reply["connect"]["data"], json!({"motd": "hi"}));
    assert_eq!(reply["connect"]["subs"], json!({"news": {}}));
    assert_eq!(reply["connect"]["ttl"], Value::Null, "the backend prolongs it: {reply}");
    let subscribed = client.command(r#""subscribe":{"channel":"room:1","data":{"why":1}}"#);
    assert!(subscribed.contains(r#""data":{"topic":"x"}"#) && !subscribed.contains("ttl"), "{subscribed}");
    let published = client.command(r#""publish":{"channel":"room:1","data":{"text":"dirty"}}"#);
    assert!(published.contains(r#""publish":{}"#), "{published}");
    let pushed: Value = serde_json::from_str(&client.line()).expect("JSON");
    let publication = &pushed["push"]["pub"];
    assert_eq!(publication["data"], json!({"text": "clean"}));
    let info = &publication["info"];
    assert_eq!((&info["user"], &info["conn_info"]), (&json!("ann"), &json!({"name": "Ann"})));
    assert_eq!(info["chan_info"], json!({"seat": 3}));
    let answer = client.command(r#""rpc":{"method":"what","data":[1,2]}"#);
    assert!(answer.ends_with(r#""rpc":{"data":{"answer":[1,2]}}}"#), "{answer}");
    client.send(r#"{"send":{"data":"a message"}}"#);
    wait_until(SOON, "the connection and the subscription to expire", || {
        let asked = backend.asked();
        ["/send", "/refresh", "/sub_refresh"].iter().all(|path| asked.iter().any(|one| one.path == *path))
    });
    let ended = client.line();
    assert!(ended.contains(r#""unsubscribe":{"code":2501,"#), "{ended}");
    check_bodies(&backend);
    assert!(client.command(r#""rpc":{"method":"still there"}"#).contains("answer"));
}

fn check_bodies(backend: &Backend) {
    let of_client = json!({"transport": "websocket", "protocol": "json", "encoding": "json"});
    let asked = backend.asked();
    for (path, more) in [
        ("/connect", json!({"name": "js", "version": "5", "data": {"from": "page"}})),
        ("/subscribe", json!({"user": "ann", "channel": "room:1", "meta": {"plan": 7}, "data": {"why": 1}})),
        (
            "/publish",
            json!({"user": "ann", "channel": "room:1", "meta": {"plan": 7}, "data": {"text": "dirty"}}),
        ),
        ("/rpc", json!({"user": "ann", "method": "what", "meta": {"plan": 7}, "data": [1, 2]})),
        ("/refresh", json!({"user": "ann", "meta": {"plan": 7}})),
        ("/sub_refresh", json!({"user": "ann", "channel": "room:1", "meta": {"plan": 7}})),
    ] {
        let one = asked.iter().find(|one| one.path == path).unwrap_or_else(|| panic!("{path} was not asked"));
        let mut expected = of_client.clone();
        expected.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        assert_eq!(without_client(&one.body), expected, "{path}");
        assert_eq!(one.header("content-type"), Some("application/json"), "{path}");
        assert_eq!(one.header("cookie"), Some("session=1"), "{path}");
    }
    assert!(backend.connections() <= 7, "connections are kept: {}", backend.connections());
}

#[test]
fn a_backend_refuses_with_its_own_errors_and_closes_with_its_own_codes() {
    let backend = Backend::start(|asked| {
        Does::Answers(match (&*asked.path, asked.body["method"].as_str(), asked.body["channel"].as_str()) {
            ("/connect", ..) => json!({"result": {"user": "ann"}}),
            ("/subscribe", _, Some("room:closed")) => {
                json!({"disconnect": {"code": 4501, "reason": "banned"}})
            }
            ("/subscribe", ..) => json!({"error": {"code": 1403, "message": "not yours"}}),
            ("/rpc", Some("busy"), _) => {
                json!({"error": {"code": 1503, "message": "busy", "temporary": true}})
            }
            ("/publish", ..) => json!({"error": {"code": 1409, "message": "too long"}}),
            _ => json!({"disconnect": {"code": 4000, "reason": "come back"}}),
        })
    });
    let engine = asking(&backend, "");
    let mut client = open(&engine);
    client.command(r#""connect":{}"#);
    for (command, expected) in [
        (r#""subscribe":{"channel":"room:1"}"#, r#""error":{"code":1403,"message":"not yours"}"#),
        (r#""publish":{"channel":"room:1","data":1}"#, r#""error":{"code":1409,"message":"too long"}"#),
        (r#""rpc":{"method":"busy"}"#, r#""error":{"code":1503,"message":"busy","temporary":true}"#),
    ] {
        let reply = client.command(command);
        assert!(reply.contains(expected), "{command}: {reply}");
    }
    client.send(r#"{"id":9,"subscribe":{"channel":"room:closed"}}"#);
    assert_eq!(client.closed(), (4501, "banned".to_owned()));
    let mut client = open(&engine);
    client.command(r#""connect":{}"#);
    client.send(r#"{"send":{"data":1}}"#);
    assert_eq!(client.closed(), (4000, "come back".to_owned()));
}

#[test]
fn what_is_behind_a_connect_waits_for_it_in_order() {
    let backend = Backend::start(|asked| {
        if asked.path == "/connect" {
            thread::sleep(Duration::from_millis(300));
        }
        Does::Answers(match &*asked.path {
            "/rpc" => json!({"result": {"data": asked.body["data"]}}),
            _ => json!({"result": {"user": "ann"}}),
        })
    });
    let engine = asking(&backend, "");
    let mut client = open(&engine);
    let commands = [
        r#"{"id":1,"connect":{}}"#,
        r#"{"id":2,"subscribe":{"channel":"room:1"}}"#,
        r#"{"id":3,"publish":{"channel":"room:1","data":1}}"#,
    ];
    client.send(&commands.join("\n"));
    client.send(r#"{"id":4,"publish":{"channel":"room:1","data":2}}"#);
    let starts = ["{\"id\":1,\"connect\"", "{\"id\":2,\"subscribe\"", "{\"id\":3,\"publish\""];
    for start in starts {
        let line = client.line();
        assert!(line.starts_with(start), "{line} instead of {start}");
    }
    let asked: Vec<_> = backend.asked().into_iter().map(|one| one.path).collect();
    assert_eq!(asked[..3], ["/connect", "/subscribe", "/publish"]);
}

/// The backend takes longest for the first.
#[test]
fn publishes_of_a_client_to_a_topic_keep_their_order_through_their_hook() {
    static FIRST: AtomicUsize = AtomicUsize::new(0);
    let backend = Backend::start(|asked| {
        if asked.path == "/publish" {
            let earlier = FIRST.fetch_add(1, Ordering::Relaxed) as u64;
            thread::sleep(Duration::from_millis(100_u64.saturating_sub(20 * earlier)));
        }
        Does::Answers(json!({"result": {"user": "ann"}}))
    });
    let engine = asking(&backend, "");
    let mut client = open(&engine);
    client.command(r#""connect":{}"#);
    client.subscribe("room:1");
    let commands: Vec<_> =
        (10..20).map(|n| format!(r#"{{"id":{n},"publish":{{"channel":"room:1","data":{n}}}}}"#)).collect();
    client.send(&commands.join("\n"));
    let mut seen = Vec::new();
    while seen.len() < 10 {
        let line: Value = serde_json::from_str(&client.line()).expect("JSON");
        seen.extend(line["push"]["pub"]["data"].as_u64());
    }
    assert_eq!(seen, (10..20).collect::<Vec<_>>());
}

#[test]
fn a_publication_that_skips_the_history_is_pushed_and_not_kept() {
    let backend = Backend::start(|asked| {
        let skips = asked.body["data"] == json!("secret");
        Does::Answers(json!({"result": {"user": "ann", "skip_history": skips}}))
    });
    let engine = asking(&backend, "");
    let mut client = open(&engine);
    client.command(r#""connect":{}"#);
    client.subscribe("room:1");
    for data in [r#""kept""#, r#""secret""#, r#""kept, too""#] {
        client.command(&format!(r#""publish":{{"channel":"room:1","data":{data}}}"#));
        assert_eq!(client.publication("room:1"), data);
    }
    let history = client.command(r#""history":{"channel":"room:1","limit":10}"#);
    assert!(
        history.contains(r#""kept""#) && history.contains("kept, too") && !history.contains("secret"),
        "{history}"
    );
}
