//! `amqp.bindings = "dynamic"`: topics are bound as clients come and go, and nobody notices, by anything that is
//! missing or comes twice.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::engine::Engine;
use crate::support::publisher::Publisher;
use crate::support::rabbitmq::RabbitNode;
use crate::support::random::Random;
use crate::support::swarm::{ClientIndex, Line, Observer, Swarm};
use crate::support::wait::{SOON, wait_until};
use crate::support::websocket::RawClient;
use fanfare::domain::reasons::ErrorCode;
use lapin::BasicProperties;
use serde_json::{Value, json};

/// Topics with a binding of their own (`src/broker/backplane/rabbit/bindings.rs`).
const ROOM: usize = 10_000;
/// For RabbitMQ to make that many bindings, or to take them away, beside other tests.
const STORM_LIMIT: Duration = Duration::from_secs(180);

fn start(url: &str, linger: &str, more: &str) -> Engine {
    let config = format!(
        "[amqp]\nurl = \"{url}\"\nsource = \"queue\"\nbindings = \"dynamic\"\nbinding_linger = \"{linger}\"\n\
         reconnect_max = \"500ms\"\n[server]\nshards = 2\n{more}"
    );
    let engine = Engine::with_config(&config);
    engine.wait_until_ready();
    engine
}

/// The keys by which queues of this virtual host are bound to the exchange.
fn bound(node: &RabbitNode, vhost: &str) -> BTreeSet<String> {
    let list = node.ctl(&["list_bindings", "-p", vhost, "--no-table-headers", "source_name", "routing_key"]);
    let keys = list.lines().filter_map(|line| line.strip_prefix("fanfare\t"));
    keys.map(str::to_owned).collect()
}

#[track_caller]
fn wait_until_bound(node: &RabbitNode, vhost: &str, keys: &[&str], limit: Duration) {
    let keys: BTreeSet<_> = keys.iter().map(|&key| key.to_owned()).collect();
    wait_until(limit, &format!("no other bindings than {keys:?}"), || bound(node, vhost) == keys);
}

/// What was published, by its number: the topic, from when on, and when it was confirmed.
#[derive(Default)]
struct Ledger(Mutex<Vec<(usize, Instant, Option<Instant>)>>);

impl Ledger {
    fn begin(&self, topic: usize) -> usize {
        let mut book = self.0.lock().expect("no holder panics");
        book.push((topic, Instant::now(), None));
        book.len() - 1
    }

    fn confirm(&self, number: usize) {
        self.0.lock().expect("no holder panics")[number].2 = Some(Instant::now());
    }

    /// What whoever was subscribed to a topic for all this time must have.
    fn between(&self, topic: usize, from: Instant, until: Instant) -> Vec<usize> {
        let book = self.0.lock().expect("no holder panics");
        let is_within = |&(of, begun, confirmed): &(usize, Instant, Option<Instant>)| {
            of == topic && begun >= from && confirmed.is_some_and(|confirmed| confirmed <= until)
        };
        (0..book.len()).filter(|&number| is_within(&book[number])).collect()
    }

    fn len(&self) -> usize {
        self.0.lock().expect("no holder panics").len()
    }
}

const TOPICS: usize = 12;

fn topic(number: usize) -> String {
    format!("churn.{number}")
}

/// The numbers of publications of `topic` that come within `time`, appended to `got`.
fn read(client: &mut RawClient, topic: &str, time: Duration, got: &mut Vec<usize>) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        if !client.is_silent_for(Duration::from_millis(2)) {
            let data = client.publication(topic);
            got.push(data.parse().unwrap_or_else(|_| panic!("{topic}: {data}")));
        }
    }
}

/// One subscription: all that was surely published meanwhile comes, once and in order. Returns how much that was.
fn subscribe_for_a_while(client: &mut RawClient, ledger: &Ledger, number: usize, stay: Duration) -> usize {
    let topic = topic(number);
    let mut got = Vec::new();
    client.subscribe(&topic);
    let from = Instant::now();
    read(client, &topic, stay, &mut got);
    let expected = ledger.between(number, from, Instant::now());
    let deadline = Instant::now() + SOON;
    while !expected.iter().all(|number| got.contains(number)) {
        assert!(Instant::now() < deadline, "{topic}: of {expected:?} only {got:?} came");
        read(client, &topic, Duration::from_millis(5), &mut got);
    }
    assert!(got.is_sorted_by(|one, next| one < next), "{topic}: twice, or out of order: {got:?}");
    let reply = client.command(&format!(r#""unsubscribe":{{"channel":"{topic}"}}"#));
    assert!(reply.contains(r#""unsubscribe":{"#), "{reply}");
    while !client.is_silent_for(Duration::from_millis(2)) {
        client.publication(&topic);
    }
    expected.len()
}

#[test]
fn subscribers_that_come_and_go_miss_nothing_and_bindings_go_with_them() {
    const SEED: u64 = 0x5eed;
    let node = RabbitNode::shared();
    let url = node.new_vhost("churn");
    let engine = start(&url, "20ms", "");
    let (ledger, stop) = (Ledger::default(), AtomicBool::new(false));
    let came: usize = thread::scope(|scope| {
        let publishers = [(); 2].map(|()| Publisher::connect(&url));
        for (first, publisher) in publishers.into_iter().enumerate() {
            let (ledger, stop) = (&ledger, &stop);
            scope.spawn(move || {
                // Each topic has one publisher: that is what gives its publications an order.
                for at in (first..TOPICS).step_by(2).cycle().take_while(|_| !stop.load(Ordering::Relaxed)) {
                    let number = ledger.begin(at);
                    publisher.publish(&topic(at), number.to_string().as_bytes(), BasicProperties::default());
                    ledger.confirm(number);
                }
            });
        }
        let clients = (1..=6).map(|client| {
            let (ledger, address) = (&ledger, engine.client_address());
            scope.spawn(move || {
                let mut random = Random::new(SEED * client);
                let mut client = RawClient::connect(address);
                let rounds = (0..50).map(|_| {
                    let number = random.below(TOPICS);
                    let came = subscribe_for_a_while(&mut client, ledger, number, random.millis(0, 59));
                    thread::sleep(random.millis(0, 99));
                    came
                });
                rounds.sum::<usize>()
            })
        });
        let clients: Vec<_> = clients.collect();
        let came: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
        stop.store(true, Ordering::Relaxed);
        came.into_iter().map(|came| came.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).sum()
    });
    println!("{came} of {} publications came while somebody was surely there", ledger.len());
    assert!(came > 100, "seed {SEED}: only {came} of {} came while somebody was there", ledger.len());
    wait_until_bound(node, "churn", &[], SOON);
    let none_elsewhere = engine.metric("fanfare_publications_total", &[]) < ledger.len() as f64;
    assert!(none_elsewhere, "nothing was left out: then it was not bound by topic");
    assert_eq!(engine.metric("fanfare_gaps_total", &[]), 0.0);
}

fn recoverably(client: &mut RawClient, topic: &str, fields: &Value) -> Value {
    let mut command = json!({"channel": topic, "recoverable": true, "positioned": true});
    command.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
    let reply: Value =
        serde_json::from_str(&client.command(&format!(r#""subscribe":{command}"#))).expect("JSON");
    reply["subscribe"].clone()
}

/// Who comes back while the topic is bound gets what it missed. Later nobody knows what that is, and it is told so.
#[test]
fn history_lasts_as_long_as_the_binding() {
    let node = RabbitNode::shared();
    for (linger, is_recovered) in [("1h", true), ("0s", false)] {
        let vhost = format!("history{linger}");
        let url = node.new_vhost(&vhost);
        let engine = start(&url, linger, "[namespaces.kept]\nhistory_size = 10\n");
        let publisher = Publisher::connect(&url);
        let mut client = engine.client();
        let start = recoverably(&mut client, "kept:1", &json!({}));
        publisher.publish("kept:1", b"1", BasicProperties::default());
        assert_eq!(client.publication("kept:1"), "1");
        client.command(r#""unsubscribe":{"channel":"kept:1"}"#);
        if !is_recovered {
            wait_until_bound(node, &vhost, &[], SOON);
        }
        publisher.publish("kept:1", b"2", BasicProperties::default());
        let next = start["offset"].as_u64().unwrap_or(0) + 1;
        let since = json!({"recover": true, "epoch": start["epoch"], "offset": next});
        let reply = recoverably(&mut client, "kept:1", &since);
        assert_eq!(reply["recovered"] == json!(true), is_recovered, "{linger}: {reply}");
        // It may have been asked for before it was there, and comes then like any other.
        let missed = if is_recovered && reply["publications"].is_null() {
            client.publication("kept:1")
        } else {
            reply["publications"][0]["data"].to_string()
        };
        assert_eq!(missed, if is_recovered { "2" } else { "null" }, "{linger}: {reply}");
        publisher.publish("kept:1", b"3", BasicProperties::default());
        assert_eq!(client.publication("kept:1"), "3");
    }
}

#[test]
fn topics_that_rabbitmq_does_not_allow_are_refused_and_others_come() {
    let node = RabbitNode::shared();
    let url = node.new_vhost("forbidden");
    node.ctl(&["add_user", "reader", "reader"]);
    node.ctl(&["set_permissions", "-p", "forbidden", "reader", ".*", ".*", ".*"]);
    node.ctl(&["set_topic_permissions", "-p", "forbidden", "reader", "fanfare", ".*", "^open"]);
    let engine = start(&url.replace("guest:guest", "reader:reader"), "1h", "");
    let mut client = engine.client();
    let topics = ["open.1", "secret.1", "open.2", "secret.2", "open.3"];
    for _ in 0..2 {
        let commands = topics
            .iter()
            .enumerate()
            .map(|(at, topic)| format!("{{\"id\":{},\"subscribe\":{{\"channel\":\"{topic}\"}}}}", 1000 + at));
        let commands = commands.collect::<Vec<_>>().join("\n");
        client.send(&commands);
        let denied = format!("\"code\":{}", ErrorCode::PermissionDenied.code());
        let (mut open, mut secret) = (0, 0);
        for _ in topics {
            let line = client.line();
            if line.contains(&denied) {
                secret += 1;
            } else if line.contains("\"subscribe\":{}") {
                open += 1;
            }
        }
        assert_eq!((open, secret), (3, 2));
        for topic in ["open.1", "open.2", "open.3"] {
            engine.publish(topic, &json!(topic));
            assert_eq!(client.publication(topic), format!("\"{topic}\""));
            client.command(&format!(r#""unsubscribe":{{"channel":"{topic}"}}"#));
        }
    }
    assert_eq!(engine.metric("fanfare_gaps_total", &[]), 0.0, "the link stayed");
}

#[test]
fn a_new_link_is_bound_to_all_topics_before_anything_comes_or_goes() {
    const LOUD: u32 = 32;
    let mut node = RabbitNode::start();
    let more = "[timeouts]\nping = \"1h\"\npublish = \"90s\"\n[namespaces.default]\nclient_publish = true\n";
    let engine = start(&node.amqp_url(), "1h", more);
    let mut client = engine.client();
    (0..100).for_each(|n| client.subscribe(&format!("before.{n}")));
    let mut publisher = engine.client();
    (0..LOUD).for_each(|n| publisher.subscribe(&format!("loud.{n}")));
    node.stop();
    wait_until(SOON, "the loss to be seen", || engine.get("/health/ready").status == 503);
    client.subscribe("while.away");
    let publish = |n| format!(r#"{{"id":{},"publish":{{"channel":"loud.{n}","data":{n}}}}}"#, 1000 + n);
    publisher.send(&(0..LOUD).map(publish).collect::<Vec<_>>().join("\n"));
    node.start_again();
    engine.wait_until_ready();
    wait_until(SOON, "publishes that waited to come back", || {
        engine.metric("fanfare_publications_total", &[]) == f64::from(LOUD)
    });
    let mut left: BTreeSet<_> = (0..100).map(|n| format!("before.{n}")).collect();
    left.insert("while.away".to_owned());
    assert!(left.is_subset(&bound(&node, "/")), "ready before it is bound");
    let mut told = left.clone();
    while !told.is_empty() {
        let line: Value = serde_json::from_str(&client.line()).expect("JSON");
        assert_eq!(line["push"]["unsubscribe"]["code"], 2500, "{line}");
        assert!(told.remove(line["push"]["channel"].as_str().expect("a topic")), "{line}");
    }
    for topic in &left {
        client.subscribe(topic);
        engine.publish(topic, &json!(1));
        assert_eq!(client.publication(topic), "1");
    }
}

#[derive(Default)]
struct Count(usize);

impl Observer for Count {
    fn line(&mut self, _: ClientIndex, line: Line<'_>) {
        self.0 += usize::from(matches!(line, Line::Publication(_)));
    }
}

/// As many as have bindings of their own come at once; who comes then has a bucket, and gets a binding of its own
/// when they have gone.
#[test]
fn a_storm_of_topics_is_bound_and_those_beyond_share_buckets() {
    const EACH: usize = 100;
    let node = RabbitNode::shared();
    let url = node.new_vhost("storm");
    let engine = start(&url, "1s", "[timeouts]\nping = \"1h\"\n");
    let mut swarm = Swarm::new(engine.client_address(), ROOM / EACH).expect("a poll");
    let own = |client: ClientIndex| -> Vec<String> {
        (0..EACH).map(|n| format!("own.{}", client * EACH + n)).collect()
    };
    let begun = Instant::now();
    swarm
        .connect_all(&mut Count::default(), STORM_LIMIT, |_, client| own(client))
        .expect("all are subscribed");
    println!("{ROOM} topics are bound after {:?}", begun.elapsed());
    let all = bound(node, "storm");
    assert_eq!((all.len(), all.iter().any(|key| key.contains('#'))), (ROOM, false));

    let mut late = engine.subscriber(&["order.1", "order.2", "plain", "own.late"]);
    let buckets: Vec<_> = bound(node, "storm").difference(&all).cloned().collect();
    assert_eq!(buckets, ["#", "order.#", "own.#"]);
    for topic in ["order.1", "plain", "own.late", "order.2"] {
        engine.publish(topic, &json!(topic));
        assert_eq!(late.publication(topic), format!("\"{topic}\""), "once, by however many bindings");
    }
    assert!(engine.stderr().contain("more than 10000 topics"));
    drop(swarm);
    wait_until_bound(node, "storm", &["order.1", "order.2", "own.late", "plain"], STORM_LIMIT);
    println!("they are unbound after {:?}", begun.elapsed());
    for topic in ["order.1", "plain", "own.late"] {
        engine.publish(topic, &json!(topic));
        assert_eq!(late.publication(topic), format!("\"{topic}\""));
    }
    assert!(late.is_silent_for(Duration::from_millis(100)), "nothing comes twice");
}
