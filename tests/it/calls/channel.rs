//! The channel on which calls go to backends: whatever becomes of it, the connection and its publishes stay.

use std::time::{Duration, Instant};

use lapin::message::BasicGetMessage;
use lapin::options::ExchangeDeclareOptions;
use lapin::{BasicProperties, ExchangeKind};

use crate::support::bytes::{BytesPublisher, header, headers, long, property};
use crate::support::engine::Engine;
use crate::support::publisher::Publisher;
use crate::support::rabbitmq::RabbitNode;
use crate::support::wait::{SOON, wait_until};
use crate::support::websocket::RawClient;

/// Every request of a client goes by AMQP, and no failure has the backend left alone.
const REQUESTS: &str = "[rpc.methods]\n\"*\" = \"amqp\"\n[backends.amqp]\nfailures = 0\n";
const FAILED: &str = r#""error":{"code":100,"#;
const NOBODY: &str = r#""error":{"code":108,"#;
const ANSWER: &[u8] = br#"{"result":{"data":{"n":1}}}"#;
const ANSWERED: &str = r#""rpc":{"data":{"n":1}}"#;

fn ask(client: &mut RawClient) -> String {
    client.command(r#""rpc":{"method":"do","data":{}}"#)
}

/// Has requests kept in the queue `requests`.
fn keep_requests(publisher: &Publisher) {
    publisher.declare_queue("requests");
    publisher.bind_queue("requests", "fanfare.rpc", "#");
}

/// Takes the next request, and answers it.
fn answer(publisher: &Publisher) {
    let (to, properties) = reply_to(&publisher.next("requests"));
    publisher.publish_to("", &to, ANSWER, properties);
}

/// Where a request is answered, and what the answer must have.
fn reply_to(request: &BasicGetMessage) -> (String, BasicProperties) {
    let asked = &request.delivery.properties;
    let to = asked.reply_to().clone().expect("an address").to_string();
    let number = asked.correlation_id().clone().expect("a number");
    (to, BasicProperties::default().with_correlation_id(number))
}

/// What RabbitMQ passes on and no client library of AMQP has to read.
#[test]
fn answers_of_any_bytes_cost_the_connection_nothing() {
    let url = RabbitNode::shared().new_vhost("call_channel_bytes");
    // All of them are confirmed within that time, also on a busy machine.
    let engine = Engine::consuming(&url, &format!("{REQUESTS}timeout = \"20s\"\n"));
    let (publisher, mut bytes) = (Publisher::connect(&url), BytesPublisher::connect(&url));
    keep_requests(&publisher);
    let mut client = engine.client();
    client.send(r#"{"id":7,"rpc":{"method":"do","data":{}}}"#);
    let (to, properties) = reply_to(&publisher.next("requests"));
    let nested = (0..2000).fold(Vec::new(), |inner, _| header(b"a", &long(b'F', &inner)));
    for hostile in [
        property(10, b"\xff\xfe"),
        property(10, &[0x80; 255]),
        headers(&[header(b"\xff\xfe", &long(b'S', b"a"))]),
        headers(&[nested]),
        headers(&[header(b"a", &long(b'S', &[b'x'; 100_000]))]),
    ] {
        bytes.publish_to("", to.as_bytes(), &hostile, "{}");
    }
    publisher.publish_to("", &to, ANSWER, properties);
    let reply = client.line();
    assert!(reply.contains(ANSWERED), "{reply}");
    wait_until(SOON, "the other answers to be counted", || {
        engine.metric("fanfare_call_answers_unexpected_total", &[]) == 5.0
    });
    assert_eq!(engine.metric("fanfare_rabbitmq_connects_total", &[]), 1.0);
}

#[test]
fn an_exchange_that_is_deleted_is_declared_again() {
    let url = RabbitNode::shared().new_vhost("call_channel_deleted");
    let engine = Engine::consuming(&url, REQUESTS);
    let publisher = Publisher::connect(&url);
    let mut client = engine.client();
    assert!(ask(&mut client).contains(NOBODY));
    publisher.delete_exchange("fanfare.rpc");
    let reply = ask(&mut client);
    assert!(reply.contains(FAILED), "{reply}");
    wait_until(SOON, "the exchange to be there", || ask(&mut client).contains(NOBODY));
    keep_requests(&publisher);
    client.send(r#"{"id":7,"rpc":{"method":"do","data":{}}}"#);
    answer(&publisher);
    let reply = client.line();
    assert!(reply.contains(ANSWERED), "{reply}");
    assert_eq!(engine.metric("fanfare_rabbitmq_connects_total", &[]), 1.0);
}

/// By a fanout exchange, for one, a worker for requests would be asked for hooks as well.
#[test]
fn an_exchange_of_another_type_takes_no_calls_and_operators_are_told_what_to_do() {
    let url = RabbitNode::shared().new_vhost("call_channel_type");
    let publisher = Publisher::connect(&url);
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    publisher.declare_exchange_named("fanfare.rpc", ExchangeKind::Fanout, durable);
    let engine = Engine::consuming(&url, REQUESTS);
    keep_requests(&publisher);
    let mut client = engine.client();
    let reply = ask(&mut client);
    assert!(reply.contains(FAILED), "{reply}");
    assert_eq!(publisher.ready("requests"), 0);
    let log = engine.stderr().so_far();
    let told: Vec<_> = log.iter().filter(|line| line.contains("no calls go to backends")).collect();
    assert_eq!(told.len(), 1, "{log:?}");
    for words in ["fanfare.rpc", "is not of type topic", "delete it", "amqp.exchange"] {
        assert!(told[0].contains(words), "{words}: {told:?}");
    }
    publisher.delete_exchange("fanfare.rpc");
    wait_until(SOON, "the exchange to be declared", || ask(&mut client).contains(NOBODY));
    assert_eq!(engine.metric("fanfare_rabbitmq_connects_total", &[]), 1.0);
}

#[test]
fn what_rabbitmq_does_not_allow_fails_calls_alone_and_is_told_once() {
    let node = RabbitNode::shared();
    let administrator = node.new_vhost("call_channel_rights");
    Engine::consuming(&administrator, REQUESTS).stop();
    node.new_user("caller", "hunter2");
    let allow = |write: &str| {
        node.ctl(&["set_permissions", "-p", "call_channel_rights", "caller", "^$", write, "^fanfare$"]);
    };
    allow(r"^(fanfare|fanfare\.dead|amq\.default)$");
    let url = format!("amqp://caller:hunter2@127.0.0.1:{}/call_channel_rights", node.port());
    let engine = Engine::consuming(&url, REQUESTS);
    let mut client = engine.subscriber(&["news"]);
    let outcomes = |outcome: &str| {
        let labels = [("backend", "amqp"), ("call", "rpc"), ("outcome", outcome)];
        engine.metric("fanfare_calls_total", &labels)
    };
    let request = |id| format!(r#"{{"id":{id},"rpc":{{"method":"do","data":{{}}}}}}"#);
    let requests: Vec<_> = (100..150).map(request).collect();
    for round in 1..=3 {
        client.send(&requests.join("\n"));
        for _ in &requests {
            let reply = client.line();
            assert!(reply.contains(FAILED), "{round}: {reply}");
        }
        // RabbitMQ closes the channel for a message, and the connection for what lapin goes on writing behind it. So the first
        // message over a channel leaves alone.
        assert!(outcomes("lost") <= f64::from(round), "{round}: {} were lost", outcomes("lost"));
        engine.publish("news", &round.into());
        assert_eq!(client.publication("news"), round.to_string());
    }
    assert_eq!(engine.metric("fanfare_rabbitmq_connects_total", &[]), 1.0);
    assert_eq!(outcomes("lost") + outcomes("unreachable"), 150.0);
    let log = engine.stderr().so_far();
    let told: Vec<_> = log.iter().filter(|line| line.contains("no calls go to backends")).collect();
    assert_eq!(told.len(), 1, "{log:?}");
    assert!(told[0].contains("ACCESS_REFUSED") && told[0].contains("fanfare.rpc"), "{told:?}");
    allow(r"^(fanfare|fanfare\.dead|fanfare\.rpc|amq\.default)$");
    wait_until(SOON, "calls to be sent", || ask(&mut client).contains(NOBODY));
}

#[test]
fn while_rabbitmq_takes_nothing_a_call_fails_at_once() {
    let node = RabbitNode::start();
    let engine = Engine::consuming(&node.amqp_url(), REQUESTS);
    let mut client = engine.client();
    assert!(ask(&mut client).contains(NOBODY));
    node.ctl(&["set_vm_memory_high_watermark", "0.00001"]);
    wait_until(SOON, "RabbitMQ to block what publishes", || {
        // A connection is blocked when it publishes.
        ask(&mut client);
        engine.metric("fanfare_rabbitmq_blocked", &[]) == 1.0
    });
    let begun = Instant::now();
    let reply = ask(&mut client);
    assert!(reply.contains(FAILED), "{reply}");
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    node.ctl(&["set_vm_memory_high_watermark", "0.4"]);
    wait_until(SOON, "calls to be sent", || ask(&mut client).contains(NOBODY));
    assert_eq!(engine.metric("fanfare_rabbitmq_connects_total", &[]), 1.0);
}
