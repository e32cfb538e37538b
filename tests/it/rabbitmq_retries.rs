//! Publishes of clients and operators while RabbitMQ, or the way to it, fails: nothing that was answered with
//! success is missing, and nothing comes twice.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::engine::Engine;
use crate::support::harness::{Harness, ProxiedVhost, start_two_nodes};
use crate::support::proxy::Way;
use crate::support::rabbitmq::RabbitNode;
use crate::support::script::Amqp;
use crate::support::wait::{SOON, hold_for, wait_until};
use crate::support::websocket::RawClient;
use serde_json::{Value, json};

/// Long enough for a RabbitMQ to come back.
const PATIENT: &str = "[timeouts]\nping = \"1h\"\npublish = \"90s\"\n[amqp]\nreconnect_max = \"500ms\"\n";
/// The same with a durable queue, in which everything that RabbitMQ confirmed waits for the engine.
const DURABLE: &str = "[timeouts]\nping = \"1h\"\npublish = \"90s\"\n\
                       [amqp]\nreconnect_max = \"500ms\"\nsource = \"queue\"\nqueue = \"pushes\"\n\
                       queue_delay = \"0s\"\n";

/// Whoever publishes at the same time.
const PUBLISHERS: usize = 8;
/// Bytes that make it likely that a cut falls into a body; few enough that a client need not read meanwhile.
const BALLAST: usize = 1_000;

/// An engine with a durable queue.
fn durable_engine(declare_at: &str, url: &str) -> Engine {
    let mut service = Amqp::connect(declare_at);
    service.declare_exchange("fanfare", "topic", true);
    service.declare_queue("pushes", "fanfare", "#");
    Engine::consuming(url, DURABLE)
}

/// Whether a queue has so many of something: `consumers`, or `messages`, those that are not acknowledged
/// included.
fn has(node: &RabbitNode, vhost: &str, queue: &str, what: &str, count: &str) -> bool {
    let listed = node.ctl(&["list_queues", "-p", vhost, "name", what]);
    listed.lines().any(|line| line.split_whitespace().eq([queue, count]))
}

/// Publishes numbers to `load` from several threads, while `fault` happens; returns how each was answered.
fn publish_while(engine: &Engine, count: usize, fault: impl FnOnce(&AtomicUsize)) -> BTreeMap<usize, Value> {
    let (next, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let publish = || {
        let numbers =
            std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&n| n < count));
        let answer = |n| {
            let answer = engine.api("publish", &json!({"channel": "load", "data": [n, "x".repeat(BALLAST)]}));
            answered.fetch_add(1, Ordering::Relaxed);
            (n, answer)
        };
        numbers.map(answer).collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        let publishers: Vec<_> = (0..PUBLISHERS).map(|_| scope.spawn(publish)).collect();
        fault(&answered);
        publishers.into_iter().flat_map(|publisher| publisher.join().expect("answers")).collect()
    })
}

/// Every one was answered with success, and the client gets each once.
#[track_caller]
fn expect_each_once(client: &mut RawClient, answers: &BTreeMap<usize, Value>) {
    for (n, answer) in answers {
        assert!(answer["error"].is_null(), "{n}: {answer}");
    }
    let mut seen = vec![0; answers.len()];
    for _ in answers {
        let data: Value = serde_json::from_str(&client.publication("load")).expect("JSON");
        seen[usize::try_from(data[0].as_u64().expect("a number")).expect("small")] += 1;
    }
    assert!(seen.iter().all(|&times| times == 1), "{seen:?}");
    assert!(client.is_silent_for(Duration::from_millis(300)), "something came twice");
}

/// What RabbitMQ confirmed outlives it, and what it had not confirmed is sent again when it is back.
#[track_caller]
fn expect_all_over_a_kill(node: &mut RabbitNode, engine: &Engine) {
    let mut client = engine.subscriber(&["load"]);
    node.sync_tables();
    let answers = publish_while(engine, 800, |answered| {
        wait_until(SOON, "some answers", || answered.load(Ordering::Relaxed) > 200);
        node.kill();
        node.start_again();
    });
    assert_eq!(answers.len(), 800);
    assert!(engine.stderr().contain("lost RabbitMQ"), "it was killed too late");
    expect_each_once(&mut client, &answers);
}

#[test]
fn publishes_wait_for_a_rabbitmq_that_was_killed_and_come_once() {
    let mut node = RabbitNode::start();
    let engine = Engine::consuming(&node.amqp_url(), PATIENT);
    expect_all_over_a_kill(&mut node, &engine);
}

#[test]
fn with_a_durable_queue_publishes_come_once_over_a_kill_as_well() {
    let mut node = RabbitNode::start();
    let engine = durable_engine(&node.amqp_url(), &node.amqp_url());
    expect_all_over_a_kill(&mut node, &engine);
}

/// A stream that is not there yet is read back before it is in use, and what was published until then would
/// only be known.
#[test]
fn what_is_published_before_there_is_a_rabbitmq_is_pushed_when_it_comes() {
    let mut node = RabbitNode::start();
    node.stop();
    let engine = Engine::with_config_and(PATIENT, &["--amqp", &node.amqp_url()]);
    let mut client = engine.subscriber(&["news"]);
    thread::scope(|scope| {
        let publisher = scope.spawn(|| engine.publish("news", &json!("early")));
        node.start_again();
        publisher.join().expect("success");
    });
    wait_until(SOON, "it to be pushed", || engine.metric("fanfare_publications_total", &[]) == 1.0);
    assert_eq!(engine.metric("fanfare_replayed_total", &[]), 0.0);
    // Who was here before is told of the gap, and may be back too late for it.
    let told = client.line();
    assert!(told.contains(r#""early""#) || told.contains(r#""unsubscribe":{"code":2500"#), "{told}");
}

#[test]
fn connections_cut_in_the_middle_of_frames_neither_lose_nor_repeat() {
    let ProxiedVhost { url, proxied_url, proxy, .. } = ProxiedVhost::start("cut");
    let engine = durable_engine(&url, &proxied_url);
    let mut client = engine.subscriber(&["load"]);
    let answers = publish_while(&engine, 1000, |_| {
        for cut in 1..=5 {
            proxy.cut_after(cut * 7 * BALLAST + cut);
            wait_until(SOON, "a cut", || !proxy.is_to_cut());
        }
    });
    expect_each_once(&mut client, &answers);
    let connects = engine.metric("fanfare_rabbitmq_connects_total", &[]);
    assert!(connects >= 3.0, "connected {connects} times only");
}

/// The worst moment: RabbitMQ has stored the message, and its confirm is lost.
#[test]
fn a_publish_whose_confirm_was_lost_is_pushed_once() {
    let ProxiedVhost { node, url, proxied_url, proxy } = ProxiedVhost::start("lost_confirm");
    let engine = durable_engine(&url, &proxied_url);
    Amqp::connect(&url).declare_queue("copies", "fanfare", "#");
    let stored = |count| has(node, "lost_confirm", "copies", "messages", count);
    let mut client = engine.subscriber(&["news"]);
    proxy.hold(Way::Back);
    thread::scope(|scope| {
        let publisher = scope.spawn(|| engine.publish("news", &json!("once")));
        wait_until(SOON, "RabbitMQ to store it", || stored("1"));
        assert!(!publisher.is_finished(), "it was answered before the confirm came");
        proxy.cut();
        proxy.resume();
        publisher.join().expect("success");
    });
    assert!(stored("2"), "it was not sent again");
    assert_eq!(client.publication("news"), r#""once""#);
    assert!(client.is_silent_for(Duration::from_millis(300)));
    assert_eq!(engine.metric("fanfare_duplicates_total", &[]), 1.0);
}

/// Nobody says anything any more, and nothing is closed: heartbeats find out.
#[test]
fn publishes_outlive_a_connection_that_is_half_open() {
    let ProxiedVhost { url, proxied_url, proxy, .. } = ProxiedVhost::start("half_open");
    let engine = durable_engine(&url, &format!("{proxied_url}?heartbeat=1"));
    let mut client = engine.subscriber(&["news"]);
    [Way::There, Way::Back].iter().for_each(|&way| proxy.hold(way));
    thread::scope(|scope| {
        let publisher = scope.spawn(|| engine.publish("news", &json!(1)));
        wait_until(SOON, "the loss to be seen", || engine.get("/health/ready").status == 503);
        assert!(!publisher.is_finished());
        proxy.cut();
        proxy.resume();
        publisher.join().expect("success");
    });
    assert_eq!(client.publication("news"), "1");
    assert!(client.is_silent_for(Duration::from_millis(300)));
}

/// A queue of somebody else's that is full makes RabbitMQ refuse messages that reach the engine all the same.
#[test]
fn what_rabbitmq_refuses_is_sent_again_until_it_is_taken_and_pushed_once() {
    let harness = Harness::start("full_queue", PATIENT);
    harness.service().declare_queue("full", "fanfare", "#");
    let full = r#"{"max-length": 1, "overflow": "reject-publish"}"#;
    harness.node.ctl(&["set_policy", "-p", "full_queue", "full", "^full$", full, "--apply-to", "queues"]);
    let mut client = harness.subscriber(&["news"]);
    harness.engine.publish("news", &json!(1));
    assert_eq!(client.publication("news"), "1");
    thread::scope(|scope| {
        let publisher = scope.spawn(|| harness.engine.publish("news", &json!(2)));
        let repeated = || harness.engine.metric("fanfare_duplicates_total", &[]) >= 2.0;
        wait_until(SOON, "it to be sent three times", repeated);
        assert!(!publisher.is_finished(), "it was answered although it was refused");
        harness.node.ctl(&["clear_policy", "-p", "full_queue", "full"]);
        publisher.join().expect("success");
    });
    assert_eq!(client.publication("news"), "2");
    assert!(client.is_silent_for(Duration::from_millis(300)));
}

/// The key, not the node or the request, says what is the same.
#[test]
fn an_idempotency_key_counts_on_all_nodes() {
    let (_, engines) = start_two_nodes("keys", PATIENT);
    let mut clients = engines.each_ref().map(Engine::client);
    clients.iter_mut().for_each(|client| client.subscribe("news"));
    for (n, (engine, key)) in [(0, "k"), (1, "k"), (1, "l"), (0, "l"), (0, "m")].into_iter().enumerate() {
        let publish = json!({"channel": "news", "data": n, "idempotency_key": key});
        assert_eq!(engines[engine].api("publish", &publish), json!({"result": {}}));
    }
    for client in &mut clients {
        assert_eq!(["0", "2", "4"].map(|_| client.publication("news")), ["0", "2", "4"]);
    }
}

/// Who stops gives what was begun its time, over a new connection if need be.
#[test]
fn an_engine_that_stops_brings_its_publishes_home() {
    let ProxiedVhost { node, url, proxied_url, proxy } = ProxiedVhost::start("stopping");
    let mut engine = durable_engine(&url, &proxied_url);
    proxy.hold(Way::Back);
    thread::scope(|scope| {
        let publisher = scope.spawn(|| engine.publish("news", &json!(1)));
        let pushes_has = |what, count| has(node, "stopping", "pushes", what, count);
        wait_until(SOON, "RabbitMQ to store it", || pushes_has("messages", "1"));
        engine.signal("TERM");
        wait_until(SOON, "the engine to consume no more", || pushes_has("consumers", "0"));
        proxy.cut();
        proxy.resume();
        publisher.join().expect("success");
    });
    assert!(engine.wait_for_exit(SOON).success());
    assert_eq!(Amqp::connect(&url).take("pushes").0, b"1");
}

/// Sending again what RabbitMQ closes the channel for would only close the next one. The link stays, and nobody is told of a
/// gap.
#[test]
fn what_rabbitmq_will_never_take_fails_at_once_and_costs_no_connection() {
    let node = RabbitNode::shared();
    let url = node.new_vhost("read_only");
    let by_queue = format!("{PATIENT}source = \"queue\"\n");
    let own_queues_only = "^(amq\\.gen|amq\\.default|fanfare\\.dead).*";
    node.ctl(&["set_permissions", "-p", "read_only", "guest", ".*", own_queues_only, ".*"]);
    let engine = Engine::consuming(&url, &by_queue);
    let answer = engine.api("publish", &json!({"channel": "news", "data": 1}));
    assert_eq!(answer["error"]["code"], 100, "{answer}");
    engine.wait_until_ready();
    let connects = || engine.metric("fanfare_rabbitmq_connects_total", &[]);
    hold_for(Duration::from_millis(500), "the connection", || connects() == 1.0);
    assert!(engine.stderr().contain("ACCESS_REFUSED"), "RabbitMQ's own words are told");
}

/// RabbitMQ would end the connection: all headers have to go into one frame.
#[test]
fn a_broadcast_that_does_not_fit_into_a_frame_fails_alone_and_costs_no_connection() {
    let url = RabbitNode::shared().new_vhost("small_frames");
    let engine = Engine::consuming(&format!("{url}?frame_max=8192"), PATIENT);
    let mut client = engine.subscriber(&["news"]);
    let broadcast = |count: usize| {
        let others = (1..count).map(|n| format!("{n:0>100}"));
        let channels: Vec<_> = std::iter::once("news".to_owned()).chain(others).collect();
        engine.api("broadcast", &json!({"channels": channels, "data": count})).to_string()
    };
    let answer = broadcast(100);
    assert!(answer.contains(r#""code":100"#) && answer.contains("frame_max"), "{answer}");
    assert!(!answer.contains("refused"), "RabbitMQ was not asked: {answer}");
    let answer = broadcast(20);
    assert!(!answer.contains("error"), "{answer}");
    assert_eq!(client.publication("news"), "20");
    assert_eq!(engine.metric("fanfare_rabbitmq_connects_total", &[]), 1.0);
}

/// RabbitMQ closes the channel and does not say for which publish: those that were under way with it are sent again.
#[test]
fn of_those_under_way_together_only_the_one_that_rabbitmq_will_never_take_fails() {
    let ProxiedVhost { node, url, proxied_url, proxy } = ProxiedVhost::start("one_refused");
    node.ctl(&["set_topic_permissions", "-p", "one_refused", "guest", "fanfare", "^good$", ".*"]);
    // Longer than the link is silent, however slow `rabbitmqctl` is.
    let engine = durable_engine(&url, &format!("{proxied_url}?heartbeat=60"));
    let mut client = engine.subscriber(&["good"]);
    let has_refused = || {
        let channels = node.ctl(&["eval", "rabbit_channel:info_all([vhost, state])."]);
        let channels = channels.split_whitespace().collect::<String>();
        channels.contains(r#"{vhost,<<"one_refused">>},{state,closing}"#)
    };
    let publish = |topic: &str, n: usize| engine.api("publish", &json!({"channel": topic, "data": n}));
    proxy.hold(Way::Back);
    thread::scope(|scope| {
        let bad = scope.spawn(|| publish("bad", 0));
        wait_until(SOON, "RabbitMQ to close the channel", has_refused);
        let good = [1, 2].map(|n| scope.spawn(move || publish("good", n)));
        let everybody_waits = || !bad.is_finished() && good.iter().all(|publisher| !publisher.is_finished());
        hold_for(Duration::from_millis(500), "no answer", everybody_waits);
        proxy.resume();
        assert_eq!(bad.join().expect("an answer")["error"]["code"], 100);
        for publisher in good {
            assert_eq!(publisher.join().expect("an answer"), json!({"result": {}}));
        }
    });
    let mut pushed = [client.publication("good"), client.publication("good")];
    pushed.sort();
    assert_eq!(pushed, ["1", "2"]);
    assert!(client.is_silent_for(Duration::from_millis(300)));
    let connects = engine.metric("fanfare_rabbitmq_connects_total", &[]);
    assert_eq!(connects, 1.0, "it cost channels, and no connection");
}

/// A list of nodes: one that is not there, one that goes away, one that takes over.
#[test]
fn the_next_node_of_the_list_is_taken_when_one_is_away() {
    let (mut first, second) = thread::scope(|scope| {
        let second = scope.spawn(RabbitNode::start);
        (RabbitNode::start(), second.join().expect("a node"))
    });
    let dead = "amqp://guest:hunter2@127.0.0.1:1";
    let urls = format!("url = [\"{dead}\", \"{}\", \"{}\"]\n", first.amqp_url(), second.amqp_url());
    let engine = Engine::with_config(&format!("{PATIENT}{urls}"));
    engine.wait_until_ready();
    let connected = |node: &RabbitNode| {
        let line = format!("rabbitmq=amqp://127.0.0.1:{}/%2f", node.port());
        let lines = engine.stderr().so_far();
        lines.iter().any(|log| log.contains("connected to RabbitMQ") && log.contains(&line))
    };
    assert!(connected(&first) && !connected(&second), "{:?}", engine.stderr().so_far());
    first.stop();
    engine.publish("news", &json!("while it is away"));
    assert!(connected(&second), "{:?}", engine.stderr().so_far());
    let mut client = engine.subscriber(&["news"]);
    engine.publish("news", &json!("through the other one"));
    // What was confirmed before the client came may come back from the stream after it.
    let mut data = client.publication("news");
    if data == r#""while it is away""# {
        data = client.publication("news");
    }
    assert_eq!(data, r#""through the other one""#);
    let log = engine.stderr().so_far().join("\n");
    assert!(log.contains("127.0.0.1:1/") && !log.contains("hunter2"), "{log}");
}
