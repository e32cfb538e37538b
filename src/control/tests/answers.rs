//! What the API answers, and what it counts.

use std::io::Write as _;
use std::time::{Duration, Instant};

use serde_json::json;

use super::harness::{Answer, Harness, TIMEOUT, request};
use super::{open, with_history};
use crate::config::{Config, Interval, Namespace, UnknownNamespace};
use crate::stats::Suspension;

#[test]
fn an_alarm_of_rabbitmq_is_named() {
    let mut config = Config::default();
    config.amqp.url = "amqp://localhost".to_owned().into();
    let harness = Harness::open(config);
    harness.stats.broker.rabbitmq_blocked.set(1);
    let health = harness.get("/health");
    assert_eq!((health.status, &health.json()["rabbitmq"]), (200, &json!("blocked")));
    assert!(harness.get("/metrics").body.contains("\nfanfare_rabbitmq_blocked 1\n"));
    let error = harness.ask("publish", r#"{"channel":"fails","data":1}"#)["error"].take();
    assert_eq!(error["code"], 100);
    assert!(error["message"].as_str().unwrap().contains("alarm for memory or disk"), "{error}");
}

#[test]
fn the_answer_says_where_a_publication_stands_if_that_is_known() {
    let harness = open();
    let stands = |offset: u64| json!({"result": {"offset": offset, "epoch": "e"}});
    assert_eq!(harness.ask("publish", r#"{"channel":"a#7","data":1}"#), stands(7));
    for key in ["", r#","idempotency_key":"k""#] {
        let body = format!(r##"{{"channels":["a#1","b","c#3"],"data":1{key}}}"##);
        let responses = harness.ask("broadcast", &body)["result"]["responses"].take();
        assert_eq!(responses, json!([stands(1), {"result": {}}, stands(3)]), "{body}");
    }
}

#[test]
fn what_a_method_does_not_have_is_refused_by_every_method() {
    let harness = Harness::open(with_history());
    for (method, body) in [
        ("broadcast", r#"{"channels":["a"],"data":1,"version":1}"#),
        ("info", r#"{"x":1}"#),
        ("channels", r#"{"x":1}"#),
        ("history", r#"{"channel":"kept:a","x":1}"#),
        ("history_remove", r#"{"channel":"kept:a","x":1}"#),
        ("disconnect", r#"{"client":"x","whitelist":["y"]}"#),
        ("unsubscribe", r#"{"channel":"a","x":1}"#),
        ("disconnect", r#"{"client":"x","disconnect":{"code":4501,"reconnect":true}}"#),
        ("history", r#"{"channel":"kept:a","since":{"foo":5}}"#),
    ] {
        assert_eq!(harness.ask(method, body)["error"]["code"], 108, "{method}");
    }
}

#[test]
fn histories_skip_what_says_so() {
    let harness = Harness::open(with_history());
    let body = r#"{"channel":"kept:a","data":1,"skip_history":true}"#;
    assert_eq!(harness.ask("publish", body), json!({"result": {}}));
    assert_eq!(harness.heard(), "publish kept:a 1 and forget it");
    let body = r#"{"channels":["a","kept:a"],"data":1,"skip_history":true}"#;
    harness.ask("broadcast", body);
    assert_eq!(harness.heard(), "publish a,kept:a 1 and forget it");
}

#[test]
fn health_names_backends_that_are_left_alone_and_the_node_stays_ready() {
    let harness = open();
    assert!(harness.get("/health").json().get("suspended_backends").is_none());
    let suspension = Suspension { since: 1_700_000_000, last_fault: "it did not answer in time".into() };
    harness.stats.broker.backends.of("shop").set_suspension(Some(suspension));
    let health = harness.get("/health");
    let expected =
        json!([{"name": "shop", "since": 1_700_000_000, "last_fault": "it did not answer in time"}]);
    assert_eq!((health.status, &health.json()["suspended_backends"]), (200, &expected));
}

#[test]
fn requests_are_counted_by_method() {
    let harness = open();
    harness.ask("publish", r#"{"channel":"a","data":1}"#);
    harness.ask("publish", "{}");
    harness.post("/api/nothing", "", "{}");
    let page = harness.get("/metrics").body;
    for line in [
        r#"fanfare_api_requests_total{method="publish",outcome="done"} 1"#,
        r#"fanfare_api_requests_total{method="publish",outcome="failed"} 1"#,
        r#"fanfare_api_requests_total{method="unknown",outcome="failed"} 1"#,
        r#"fanfare_api_seconds_count{method="publish"} 2"#,
    ] {
        assert!(page.lines().any(|found| found == line), "{line}\n{page}");
    }
}

#[test]
fn a_broadcast_to_more_than_one_message_holds_goes_by_several_which_fail_one_by_one() {
    let harness = open();
    let name = |n: usize| format!("{n:0>200}");
    let mut channels: Vec<String> = (0..400).map(name).collect();
    channels[0] = "fails".to_owned();
    let answer = harness.ask("broadcast", &json!({"channels": channels, "data": 1}).to_string());
    let responses = answer["result"]["responses"].as_array().unwrap();
    let failed = responses.iter().take_while(|response| response["error"]["code"] == 100).count();
    let done = responses.iter().filter(|response| response["result"] == json!({})).count();
    // 161 names of 200 bytes, twice, are 64 KiB.
    assert_eq!((failed, done), (162, 238));
    for (first, last) in [("fails".to_owned(), 161), (name(162), 322), (name(323), 399)] {
        let heard = harness.heard();
        assert!(heard.starts_with(&format!("publish {first},")), "{heard}");
        assert!(heard.ends_with(&format!(",{} 1", name(last))), "{heard}");
    }
}

#[test]
fn the_messages_of_a_broadcast_have_so_many_topics_and_no_more() {
    let harness = open();
    let channels: Vec<String> = (0..2500).map(|n| n.to_string()).collect();
    harness.ask("broadcast", &json!({"channels": channels, "data": 1}).to_string());
    let topics = harness.all_heard().iter().map(|said| said.split(',').count()).collect::<Vec<_>>();
    assert_eq!(topics, [1000, 1000, 500]);
}

/// Each has the data for itself until it is answered.
#[test]
fn so_many_messages_of_a_broadcast_are_under_way_at_once_and_no_more() {
    let harness = open();
    let large = "x".repeat(300_000);
    for (count, data, at_once) in [(100, "x", 32), (10, large.as_str(), 3)] {
        let channels: Vec<String> = (0..count).map(|n| format!("held{n}")).collect();
        let body = json!({"channels": channels, "data": data, "idempotency_key": "k"}).to_string();
        let answer = harness.ask("broadcast", &body);
        let responses = answer["result"]["responses"].as_array().unwrap();
        assert!(responses.iter().all(|response| response["result"] == json!({})), "{answer:.200}");
        let heard = harness.all_heard();
        let counts = heard.iter().filter_map(|said| said.strip_suffix(" at once")?.parse().ok());
        let counts: Vec<usize> = counts.collect();
        assert_eq!((counts.iter().max(), counts.iter().sum()), (Some(&at_once), count), "{counts:?}");
    }
}

#[test]
fn an_idempotency_key_becomes_an_id_for_each_channel() {
    let harness = Harness::open(with_history());
    let done = json!({"result": {}});
    assert_eq!(harness.ask("publish", r#"{"channel":"kept:1","data":1,"idempotency_key":"k"}"#), done);
    assert_eq!(harness.heard(), "publish kept:1 1 as fanfare-key:6:kept:1:k");
    assert_eq!(harness.ask("publish", r#"{"channel":"a","data":1,"idempotency_key":""}"#), done);
    assert_eq!(harness.heard(), "publish a 1", "an empty key is none");

    let answer =
        harness.ask("broadcast", r#"{"channels":["a","","b","fails"],"data":2,"idempotency_key":"k"}"#);
    let responses = answer["result"]["responses"].as_array().unwrap();
    let codes: Vec<_> = responses.iter().map(|response| response["error"]["code"].as_u64()).collect();
    assert_eq!(codes, [None, Some(107), None, Some(100)], "{answer}");
    assert_eq!(harness.heard(), "publish a 2 as fanfare-key:1:a:k");
    assert_eq!(harness.heard(), "publish b 2 as fanfare-key:1:b:k");

    for (bytes, code) in [(239, None), (240, Some(107))] {
        let key = "k".repeat(bytes);
        let body = format!(r#"{{"channel":"a","data":1,"idempotency_key":"{key}"}}"#);
        assert_eq!(harness.ask("publish", &body)["error"]["code"].as_u64(), code);
    }
}

#[test]
fn a_key_goes_along_with_the_publication() {
    let harness = open();
    let key = "k".repeat(255);
    for (method, body, heard) in [
        ("publish", r#"{"channel":"a","data":1,"key":"k"}"#, "publish a 1 of k"),
        ("publish", r#"{"channel":"a","data":1,"key":""}"#, "publish a 1"),
        (
            "publish",
            &format!(r#"{{"channel":"a","data":1,"key":"{key}"}}"#),
            &format!("publish a 1 of {key}"),
        ),
        ("broadcast", r#"{"channels":["a","b"],"data":1,"key":"k"}"#, "publish a,b 1 of k"),
        (
            "broadcast",
            r#"{"channels":["a"],"data":1,"key":"k","idempotency_key":"i"}"#,
            "publish a 1 as fanfare-key:1:a:i of k",
        ),
    ] {
        assert!(harness.ask(method, body).get("result").is_some(), "{body}");
        assert_eq!(harness.heard(), heard);
    }
    let error = harness.ask("publish", &format!(r#"{{"channel":"a","data":1,"key":"{key}k"}}"#));
    assert_eq!(error["error"]["code"], 107, "{error}");
    assert!(error["error"]["message"].as_str().unwrap().contains("256 bytes"), "{error}");
}

#[test]
fn a_broadcast_has_so_many_channels_and_no_more() {
    let harness = open();
    for (count, code) in [(10_000, None), (10_001, Some(107)), (300_000, Some(107))] {
        let body = json!({"channels": vec![""; count], "data": 1}).to_string();
        let answer = harness.ask("broadcast", &body);
        assert_eq!(answer["error"]["code"].as_u64(), code, "{count}");
        let text = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(code.is_none() || text.contains(&format!("has {count} members: at most 10000")), "{text}");
    }
}

/// A whole broadcast has the time that one publication has.
#[test]
fn a_broadcast_ends_in_time() {
    let mut config = Config::default();
    config.timeouts.publish = Interval::from_millis(300);
    let harness = Harness::open(config);
    let begun = Instant::now();
    let body = json!({"channels": vec!["silent"; 200], "data": 1, "idempotency_key": "k"}).to_string();
    let responses = harness.ask("broadcast", &body)["result"]["responses"].take();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let responses = responses.as_array().unwrap();
    assert!(responses.iter().all(|response| response["error"]["code"] == 100));
    let text = responses[199]["error"]["message"].as_str().unwrap();
    assert!(text.contains("was not sent") && text.contains("timeouts.publish"), "{text}");
    assert_eq!(harness.all_heard().len(), 32);
}

#[test]
fn a_channel_that_is_refused_spoils_no_other() {
    let mut config = Config::default();
    config.server.unknown_namespace = UnknownNamespace::Refuse;
    let small = Namespace { publication_bytes: 3, ..Namespace::default() };
    config.namespaces.insert("small".to_owned(), small);
    let harness = Harness::open(config);
    for key in ["", r#","idempotency_key":"k""#] {
        let body = format!(r#"{{"channels":["a","nons:x","small:x"],"data":"long"{key}}}"#);
        let responses = harness.ask("broadcast", &body)["result"]["responses"].take();
        assert_eq!(responses[0], json!({"result": {}}), "{responses}");
        for (at, code, name) in [(1, 102, "nons:x"), (2, 106, "small:x")] {
            let error = &responses[at]["error"];
            assert_eq!(error["code"], code, "{responses}");
            assert!(error["message"].as_str().unwrap().contains(name), "{responses}");
        }
        assert!(harness.heard().starts_with("publish a "));
    }
}

#[test]
fn what_is_no_utf_8_is_malformed_and_what_is_wrong_is_not_echoed_whole() {
    let harness = open();
    let mut stream = harness.connect();
    let body = b"{\"channel\":\"\xff\",\"data\":1}";
    let length = body.len();
    let head = format!("POST /api/publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let answer = Answer::read(&mut stream);
    assert_eq!((answer.status, answer.error_code()), (400, 107), "{}", answer.body);
    let long = format!(r#"{{"channel":"a","limit":"{}"}}"#, "\u{7f}".repeat(100_000));
    let answer = harness.post("/api/history", "", &long);
    assert!(answer.body.len() < 3000, "{}", answer.body.len());
}

/// Whether its caller waits for the answer or not.
#[test]
fn every_request_is_counted() {
    let harness = open();
    let mut stream = harness.connect();
    stream.write_all(request("/api/publish", "", r#"{"channel":"silent","data":1}"#).as_bytes()).unwrap();
    harness.heard();
    let gone = socket2::SockRef::from(&stream);
    gone.set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    let line = r#"fanfare_api_requests_total{method="publish",outcome="failed"} 1"#;
    let deadline = Instant::now() + TIMEOUT;
    while !harness.get("/metrics").body.lines().any(|found| found == line) {
        assert!(Instant::now() < deadline, "it was not counted");
    }
}
