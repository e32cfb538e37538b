//! Requests of clients that workers behind RabbitMQ answer.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::engine::Engine;
use crate::support::rabbitmq::RabbitNode;
use crate::support::script::Script;
use crate::support::wait::{SOON, wait_until};
use crate::support::websocket::RawClient;

const REQUESTS: &str = "[rpc]\nsend = \"amqp\"\nmethods = { \"*\" = \"amqp\" }\n";
const FAILED: &str = r#""error":{"code":100,"message":"internal server error","temporary":true}"#;

fn worker(url: &str) -> Script {
    let mut worker = Script::python("worker.py", &[url, "requests"]);
    worker.next("the worker to be ready", |event| event["event"] == "ready");
    worker
}

fn ask(client: &mut RawClient, data: &Value) -> String {
    client.command(&format!(r#""rpc":{{"method":"do","data":{data}}}"#))
}

#[test]
fn a_worker_gets_what_the_client_has_sent_and_who_it_is_and_its_answer_counts_once() {
    let url = RabbitNode::shared().new_vhost("calls_answered");
    let engine = Engine::consuming(&url, REQUESTS);
    engine.wait_until_ready();
    let mut client = engine.client();
    let reply = ask(&mut client, &json!({"n": 1}));
    assert!(reply.contains(r#""error":{"code":108,"#), "nobody is bound yet: {reply}");
    let mut worker = worker(&url);
    assert!(ask(&mut client, &json!({"n": 2, "times": 3})).contains(r#""rpc":{"data":{"n": 2,"#));
    let asked = worker.next("the request", |event| event["event"] == "asked");
    assert_eq!((&asked["key"], &asked["data"]), (&json!("rpc.do"), &json!({"n": 2, "times": 3})));
    assert_eq!(asked["headers"]["x-client"].as_str().map(str::len), Some(36), "{asked}");
    for (said, expected) in [
        (json!({"say": "garbage"}), FAILED),
        (json!({"bytes": 10 << 20}), FAILED),
        (
            json!({"say": r#"{"error":{"code":1404,"message":"none"}}"#}),
            r#""error":{"code":1404,"message":"none"}"#,
        ),
        (json!({"n": 3}), r#""rpc":{"data":{"n": 3,"#),
    ] {
        let reply = ask(&mut client, &said);
        assert!(reply.contains(expected), "{said}: {reply}");
    }
    wait_until(SOON, "the second and third answer to be counted", || {
        engine.metric("fanfare_call_answers_unexpected_total", &[]) == 2.0
    });
    client.send(r#"{"send":{"data":{"n":9}}}"#);
    assert!(ask(&mut client, &json!({"n": 4})).contains(r#"{"n": 4"#), "nobody is bound for messages");
    client.send(&format!(
        r#"{{"id":77,"rpc":{{"method":"do","data":{}}}}}"#,
        json!({"say": r#"{"disconnect":{"code":4501,"reason":"go"}}"#})
    ));
    assert_eq!(client.closed(), (4501, "go".to_owned()));
}

#[test]
fn a_worker_that_never_answers_costs_its_client_no_more_than_the_time_limit() {
    let url = RabbitNode::shared().new_vhost("calls_never");
    let engine = Engine::consuming(&url, &format!("{REQUESTS}[backends.amqp]\ntimeout = \"500ms\"\n"));
    engine.wait_until_ready();
    let _worker = worker(&url);
    let mut client = engine.client();
    let began = Instant::now();
    assert!(ask(&mut client, &json!({"never": true})).contains(FAILED));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(ask(&mut client, &json!({"n": 1})).contains(r#"{"n": 1"#));
}

/// Nobody knows whether the worker saw them, so they are not sent again.
#[test]
fn requests_in_flight_fail_when_rabbitmq_is_lost_and_later_ones_are_answered() {
    let mut node = RabbitNode::start();
    let url = node.amqp_url();
    // A stream that was declared a moment before RabbitMQ is killed does not always come back.
    let config = "[amqp]\nsource = \"queue\"\n[backends.amqp]\ntimeout = \"20s\"\nfailures = 0\n";
    let engine = Engine::consuming(&url, &format!("{REQUESTS}{config}"));
    engine.wait_until_ready();
    let first = worker(&url);
    let mut client = engine.client();
    for id in 100..110 {
        client.send(&format!(r#"{{"id":{id},"rpc":{{"method":"do","data":{{"n":{id},"seconds":0.5}}}}}}"#));
    }
    wait_until(SOON, "a request to be at the worker", || {
        first.events().iter().any(|event| event["event"] == "asked")
    });
    node.kill();
    let mut failed: Vec<u64> = (100..110)
        .map(|_| {
            let line: Value = serde_json::from_str(&client.line()).expect("JSON");
            assert!(line["error"]["code"] == 100 || line["rpc"].is_object(), "{line}");
            line["id"].as_u64().expect("an id")
        })
        .collect();
    failed.sort_unstable();
    assert_eq!(failed, (100..110).collect::<Vec<_>>(), "each is answered once");
    assert!(ask(&mut client, &json!({"n": 1})).contains(FAILED), "while RabbitMQ is away");
    node.start_again();
    drop(first);
    let _second = worker(&url);
    wait_until(SOON * 2, "requests to be answered again", || {
        ask(&mut client, &json!({"n": 2})).contains(r#"{"n": 2"#)
    });
}

#[test]
fn an_answer_to_an_engine_that_was_restarted_is_for_nobody() {
    let url = RabbitNode::shared().new_vhost("calls_restart");
    let engine = Engine::with_config(&format!("[amqp]\nurl = \"{url}\"\n{REQUESTS}"));
    engine.wait_until_ready();
    let mut worker = worker(&url);
    let mut client = engine.client();
    client.send(r#"{"id":9,"rpc":{"method":"do","data":{"n":9,"seconds":1}}}"#);
    wait_until(SOON, "the request to be at the worker", || {
        worker.events().iter().any(|event| event["event"] == "asked")
    });
    let engine = engine.kill_for_now().start();
    engine.wait_until_ready();
    let mut client = engine.client();
    worker.next("the first request to be answered", |event| event["event"] == "answered");
    assert!(ask(&mut client, &json!({"n": 10})).contains(r#"{"n": 10"#));
    assert!(client.is_silent_for(Duration::from_millis(100)));
}
