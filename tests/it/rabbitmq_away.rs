//! RabbitMQ goes, comes back, refuses: what clients and operators see of it.

use std::time::Duration;

use crate::support::engine::{Engine, run_to_end, serve};
use crate::support::harness::{Harness, ProxiedVhost, start_two_nodes};
use crate::support::proxy::Way;
use crate::support::publisher::{DURABLE, Publisher};
use crate::support::rabbitmq::RabbitNode;
use crate::support::script::{Amqp, Subscriber};
use crate::support::wait::{SOON, wait_until};
use crate::support::websocket::RawClient;
use lapin::types::AMQPValue;
use lapin::{BasicProperties, ExchangeKind};
use serde_json::json;

/// Clients here answer no ping while RabbitMQ starts, which takes its time on a busy machine.
const CHAT: &str = "[namespaces.chat]\nclient_publish = true\n[timeouts]\npublish = \"1s\"\nping = \"1h\"\n\
                    [amqp]\nreconnect_max = \"500ms\"\n";

/// The same, and a queue of the node's own, which does not outlive its connection.
fn chat_by_queue() -> String {
    format!("{CHAT}source = \"queue\"\n")
}

/// The client is told that it may have missed something, and subscribes again.
#[track_caller]
fn told_of_a_gap(client: &mut RawClient, topic: &str) {
    let told = client.line();
    assert!(told.contains(r#""unsubscribe":{"code":2500"#), "{told}");
    client.subscribe(topic);
}

#[test]
fn clients_stay_while_rabbitmq_is_away_and_are_told_of_the_gap() {
    let mut node = RabbitNode::start();
    let url = node.amqp_url();
    let engine = Engine::consuming(&url, &chat_by_queue());
    let mut clients = [Subscriber::node(&engine.ws_url()), Subscriber::python(&engine.ws_url())];
    clients.iter_mut().for_each(|client| client.subscribe("chat:1"));
    assert_eq!(clients[0].ask("publish", "chat:1", &json!("before")), Ok(()));

    node.stop();
    wait_until(SOON, "the engine to say that it is not ready", || engine.get("/health/ready").status == 503);
    assert_eq!(engine.get("/health/live").status, 200);
    for client in &mut clients {
        // Not at once: it may come back within `timeouts.publish`.
        assert_eq!(client.ask("publish", "chat:1", &json!("lost")), Err(100));
        // New subscriptions are taken meanwhile.
        client.subscribe("news");
    }
    let answer = engine.api("publish", &json!({"channel": "news", "data": 1}));
    assert_eq!(answer["error"]["code"], 100, "{answer}");

    node.start_again();
    engine.wait_until_ready();
    for client in &mut clients {
        assert_eq!(client.event("subscribing", Some("chat:1"))["code"], 2500);
        client.event("subscribed", Some("chat:1"));
    }
    assert_eq!(clients[0].ask("publish", "chat:1", &json!("after")), Ok(()));
    for client in &clients {
        client.expect("chat:1", &[json!("before"), json!("after")]);
        let gone = client.0.events().into_iter().find(|event| event["event"] == "disconnected");
        assert_eq!(gone, None, "a client lost its connection");
    }
    assert!(engine.metric("fanfare_gaps_told_total", &[]) >= 2.0);
}

/// Killed and started again while messages come: whoever is told of no gap has missed nothing.
#[test]
fn a_node_that_is_killed_under_load_costs_a_gap_that_is_told() {
    let mut node = RabbitNode::start();
    let url = node.amqp_url();
    let engine = Engine::consuming(&url, &chat_by_queue());
    let mut client = engine.subscriber(&["load"]);
    let bodies: Vec<String> = (0..2000).map(|n| n.to_string()).collect();
    Amqp::connect(&url).publish_many("load", &bodies);
    node.kill();
    node.start_again();
    engine.wait_until_ready();
    let told = (0..).map_while(|n| match client.line() {
        line if line.contains(r#""unsubscribe":{"code":2500"#) => None,
        line => {
            assert!(line.contains(&format!(r#""data":{n}"#)), "{n} was missed without a word: {line}");
            Some(n)
        }
    });
    let before_the_gap = told.count();
    client.subscribe("load");
    Amqp::connect(&url).publish("load", b"\"after\"");
    assert_eq!(client.publication("load"), "\"after\"", "{before_the_gap} came before the gap");
}

/// A durable queue keeps what is sent while no engine is there.
#[test]
fn what_was_sent_to_a_durable_queue_meanwhile_is_pushed_on_return() {
    let node = RabbitNode::start();
    let url = node.amqp_url();
    let persistent = json!({ "persistent": true });
    let mut service = Amqp::connect(&url);
    service.declare_exchange("fanfare", "topic", true);
    service.declare_queue("pushes", "fanfare", "#");
    let engine = Engine::on_fixed_ports(&format!("{}url = \"{url}\"\nqueue = \"pushes\"\n", chat_by_queue()));
    engine.wait_until_ready();
    let mut client = Subscriber::node(&engine.ws_url());
    client.subscribe("order.42");
    service.publish_with("order.42", b"1", &persistent);
    client.expect("order.42", &[json!(1)]);

    let stopped = engine.stop_for_now();
    service.publish_with("order.42", b"2", &persistent);
    service.publish_with("order.42", b"3", &persistent);
    // RabbitMQ is there all the time: the engine gives the client `queue_delay` to come back.
    let _engine = stopped.start();
    client.expect("order.42", &[json!(1), json!(2), json!(3)]);
}

/// What waited in it is gone with it, and one of the same name that is made anew never had it: whether the engine sees
/// its consumer end, or finds no queue when it comes back.
#[test]
fn a_durable_queue_that_is_deleted_and_made_anew_is_a_gap_that_is_told() {
    let ProxiedVhost { url, proxied_url, proxy, .. } = ProxiedVhost::start("deleted_queue");
    let service = Publisher::connect(&url);
    service.declare_exchange(ExchangeKind::Topic, DURABLE);
    service.declare_queue("pushes");
    let config = format!("{}queue = \"pushes\"\nqueue_delay = \"0s\"\n", chat_by_queue());
    let engine = Engine::consuming(&proxied_url, &config);
    let mut client = engine.subscriber(&["news"]);
    let pushes = |client: &mut RawClient, body: &str| {
        service.publish("news", body.as_bytes(), BasicProperties::default());
        assert_eq!(client.publication("news"), body);
    };
    proxy.cut();
    pushes(&mut client, "1");
    // The first message of a link is a reason for a consumer with more room: the queue goes while that one begins, which
    // not every release of RabbitMQ tells by itself.
    for round in 2..=4 {
        service.delete_queue("pushes");
        service.declare_queue("pushes");
        told_of_a_gap(&mut client, "news");
        pushes(&mut client, &round.to_string());
    }

    proxy.hold(Way::There);
    proxy.cut();
    wait_until(SOON, "the loss to be seen", || engine.get("/health/ready").status == 503);
    service.delete_queue("pushes");
    proxy.resume();
    wait_until(SOON, "the queue to be missed", || engine.stderr().contain("(amqp.queue) is not there"));
    service.declare_queue("pushes");
    told_of_a_gap(&mut client, "news");
    pushes(&mut client, "5");
    assert_eq!(engine.metric("fanfare_gaps_total", &[]), 4.0, "a link that is cut is none");
}

/// What will not get better by waiting ends the start, with the key to look at and without the password.
#[test]
fn what_rabbitmq_refuses_at_the_start_is_said_with_the_remedy() {
    let good = RabbitNode::shared().new_vhost("refusals");
    let wrong_password = good.replace("guest:guest", "guest:hunter2");
    let no_vhost = good.replace("/refusals", "/nowhere");
    for (url, word) in [(&wrong_password, "password"), (&no_vhost, "vhost")] {
        let mut command = serve();
        command.args(["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--amqp", url]);
        let (status, stdout, stderr) = run_to_end(command, SOON);
        assert_eq!(status.code(), Some(1), "{word}");
        assert!(stderr.contains(word) && stderr.contains("amqp.url"), "{word} is not named in:\n{stderr}");
        assert!(!stdout.contains("hunter2") && !stderr.contains("hunter2"), "a secret is told: {stderr}");
    }
}

/// What may get better by waiting is waited for: the engine may be up before RabbitMQ is.
#[test]
fn rabbitmq_may_come_later_than_the_engine() {
    let mut node = RabbitNode::start();
    node.stop();
    let engine = Engine::with_config_and(CHAT, &["--amqp", &node.amqp_url()]);
    assert_eq!(engine.get("/health/ready").status, 503);
    let mut client = engine.subscriber(&["chat:1"]);
    node.start_again();
    engine.wait_until_ready();
    // What others published before the engine had its queue, nobody can know.
    let told = client.line();
    assert!(told.contains(r#""unsubscribe":{"code":2500"#), "{told}");
    client.subscribe("chat:1");
    engine.publish("chat:1", &json!(1));
    assert_eq!(client.publication("chat:1"), "1");
}

/// An exchange that is there already is used as it is, whatever its other properties; but to one of another
/// type, patterns would mean something else.
#[test]
fn an_exchange_that_is_there_is_used_unless_it_is_of_another_type() {
    let transient = RabbitNode::shared().new_vhost("transient");
    let mut service = Amqp::connect(&transient);
    service.declare_exchange("fanfare", "topic", false);
    let engine = Engine::consuming(&transient, "");
    let mut client = engine.subscriber(&["news"]);
    service.publish("news", b"1");
    assert_eq!(client.publication("news"), "1");

    let fanout = RabbitNode::shared().new_vhost("fanout");
    Amqp::connect(&fanout).declare_exchange("fanfare", "fanout", true);
    let mut command = serve();
    command.args(["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--amqp", &fanout]);
    let (status, _, stderr) = run_to_end(command, SOON);
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("amqp.exchange") && stderr.contains("topic"), "{stderr}");
}

/// RabbitMQ answers a publish to an exchange that is gone by closing the channel. That is a lost link like
/// any other: everything is declared anew, subscribers are told that they may have missed something, and the
/// publish goes to the new exchange.
#[test]
fn an_exchange_that_is_deleted_while_it_runs_is_declared_anew() {
    let patient = chat_by_queue().replace("\"1s\"", "\"60s\"");
    let harness = Harness::start("deleted_exchange", &patient);
    let mut client = harness.subscriber(&["news"]);
    let mut service = harness.service();
    service.delete_exchange("fanfare");
    harness.engine.publish("news", &json!("through the next exchange"));
    // Who is told of a gap is told when its turn comes, and may get what is new before.
    let mut told = client.line();
    if told.contains("through the next exchange") {
        told = client.line();
    }
    assert!(told.contains(r#""unsubscribe":{"code":2500"#), "{told}");
    client.subscribe("news");
    harness.engine.wait_until_ready();
    harness.engine.publish("news", &json!("by the engine"));
    // It leaves over the next link, so that who subscribes again at once may be there for the first one.
    let mut data = client.publication("news");
    if data == r#""through the next exchange""# {
        data = client.publication("news");
    }
    assert_eq!(data, r#""by the engine""#);
    service.publish("news", br#""by somebody else""#);
    assert_eq!(client.publication("news"), r#""by somebody else""#);
}

/// Two engines on one RabbitMQ: what one client publishes on one node reaches the clients of the other.
#[test]
fn two_nodes_share_their_topics_through_rabbitmq() {
    let (_, engines) = start_two_nodes("two_nodes", CHAT);
    let mut clients = engines.each_ref().map(|engine| Subscriber::node(&engine.ws_url()));
    clients.iter_mut().for_each(|client| client.subscribe("chat:1"));
    assert_eq!(clients[0].ask("publish", "chat:1", &json!("hello")), Ok(()));
    clients.iter().for_each(|client| client.expect("chat:1", &[json!("hello")]));
    // Nothing comes twice.
    crate::support::wait::hold_for(Duration::from_millis(200), "one publication each", || {
        clients.iter().all(|client| client.publications("chat:1").len() == 1)
    });
}

/// What is on a node of the cluster that is down is not missing, and is waited for; except for what only keeps dead
/// letters, which keeps nobody waiting. A stream whose replicas are on other nodes is found there.
#[test]
fn what_another_node_of_the_cluster_has_is_not_missing() {
    let mut nodes = RabbitNode::start_cluster(2);
    let [here, there] = [0, 1].map(|node: usize| nodes[node].amqp_url());
    let service = Publisher::connect(&there);
    service.declare_exchange(ExchangeKind::Topic, DURABLE);
    service.declare_queue("pushes");
    // As it may have been declared long ago, without replicas.
    service.declare_queue("fanfare.dead");
    let one_replica: [(&str, AMQPValue); 2] = [
        ("x-queue-type", AMQPValue::LongString("stream".into())),
        ("x-initial-cluster-size", AMQPValue::LongInt(1)),
    ];
    service.declare_queue_with("elsewhere", &one_replica);
    let stream = "[amqp]\nstream = \"elsewhere\"\nreconnect_max = \"500ms\"\n";
    let waiting = Engine::with_config_and(stream, &["--amqp", &here]);
    let says = |engine: &Engine, what: &str| {
        wait_until(SOON, &format!("{what:?} to be said"), || engine.stderr().contain(what));
    };
    says(&waiting, "replica on the local node");
    let both = Engine::with_config(&format!("{stream}url = [\"{here}\", \"{there}\"]\n"));
    both.wait_until_ready();

    nodes[1].stop();
    let own = Engine::consuming(&here, "[amqp]\nsource = \"queue\"\n");
    says(&own, "no queue takes dead letters for now");
    let named = "[amqp]\nsource = \"queue\"\nqueue = \"pushes\"\nreconnect_max = \"500ms\"\n";
    let named = Engine::with_config_and(named, &["--amqp", &here]);
    says(&named, "the queue pushes can be neither declared nor used");
    assert_eq!(waiting.get("/health/live").status, 200);
    nodes[1].start_again();
    named.wait_until_ready();
}
