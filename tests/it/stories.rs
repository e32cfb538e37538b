//! What people do with it, by name: the rows of "Use cases" in `tests/README.md`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use crate::support::engine::Engine;
use crate::support::framed::Framed;
use crate::support::harness::{Harness, start_two_nodes};
use crate::support::proxy::{Proxy, Way};
use crate::support::publisher::{Publisher, headers};
use crate::support::rabbitmq::RabbitNode;
use crate::support::random::Random;
use crate::support::script::{Amqp, Script, Subscriber};
use crate::support::wait::{SOON, wait_until};
use crate::support::websocket::RawClient;
use lapin::BasicProperties;
use lapin::types::AMQPValue;
use serde_json::{Value, json};

/// Two tabs subscribe to A, B and C and get whatever is sent to all. One unsubscribes from A: from then on
/// it gets B and C only, the other still all three.
#[test]
fn topics_a_b_c() {
    let engine = Engine::start(&[]);
    let mut tabs = [Subscriber::node(&engine.ws_url()), Subscriber::python(&engine.ws_url())];
    for tab in &mut tabs {
        ["A", "B", "C"].iter().for_each(|topic| tab.subscribe(topic));
    }
    broadcast(&engine, &json!("to all"));
    for tab in &tabs {
        ["A", "B", "C"].iter().for_each(|topic| tab.expect(topic, &[json!("to all")]));
    }

    tabs[0].unsubscribe("A");
    broadcast(&engine, &json!("again"));
    // One more in a topic that both have is the sign that the broadcast is through.
    engine.publish("C", &json!("end"));
    for tab in &tabs {
        tab.expect("B", &[json!("to all"), json!("again")]);
        tab.expect("C", &[json!("to all"), json!("again"), json!("end")]);
    }
    tabs[0].expect("A", &[json!("to all")]);
    tabs[1].expect("A", &[json!("to all"), json!("again")]);
}

fn broadcast(engine: &Engine, data: &Value) {
    let answer = engine.api("broadcast", &json!({ "channels": ["A", "B", "C"], "data": data }));
    assert_eq!(answer["result"]["responses"].as_array().map(Vec::len), Some(3), "{answer}");
}

/// One connection gets order pushes and asks questions that a worker answers, whichever of two is free. One of them is
/// killed. Each question is answered once, and none waits for longer than it may.
#[test]
fn hybrid() {
    let harness =
        Harness::start("hybrid", "[rpc.methods]\n\"*\" = \"amqp\"\n[backends.amqp]\ntimeout = \"10s\"\n");
    let mut workers = [0, 1].map(|_| {
        let mut worker = Script::python("worker.py", &[&harness.url, "questions"]);
        worker.next("the worker to be ready", |event| event["event"] == "ready");
        worker
    });
    let mut tab = Subscriber::node(&harness.engine.ws_url());
    tab.subscribe("order.42");
    let mut service = Amqp::connect(&harness.url);
    service.publish("order.42", br#"{"status":"packed"}"#);
    for n in 0..40 {
        tab.0.tell(&json!({ "do": "rpc", "data": {"n": n, "seconds": 0.02} }));
    }
    for worker in &mut workers {
        worker.next("a question for each worker", |event| event["event"] == "asked");
    }
    let [killed, _other] = workers;
    drop(killed);
    service.publish("order.42", br#"{"status":"shipped"}"#);
    let mut answered: Vec<_> = (0..40)
        .map(|_| {
            let answer =
                tab.0.next("an answer", |event| event["event"] == "replied" || event["event"] == "refused");
            answer["result"]["data"]["n"].as_u64().unwrap_or_else(|| panic!("not answered: {answer}"))
        })
        .collect();
    answered.sort_unstable();
    assert_eq!(answered, (0..40).collect::<Vec<_>>());
    tab.expect("order.42", &[json!({"status": "packed"}), json!({"status": "shipped"})]);
}

/// Services that know RabbitMQ and nothing else publish the status of orders. The tab that shows order 42
/// hears of it, and no other.
#[test]
fn order_status() {
    let harness = Harness::start("order_status", "");
    let mut tab_of_42 = Subscriber::node(&harness.engine.ws_url());
    let mut tab_of_43 = Subscriber::python(&harness.engine.ws_url());
    tab_of_42.subscribe("order.42");
    tab_of_43.subscribe("order.43");

    let mut shop = harness.service();
    shop.publish("order.42", br#"{"order":42,"status":"paid"}"#);
    let _warehouse =
        Script::python("publish.py", &[&harness.url, "order.42", r#"{"order":42,"status":"shipped"}"#]);
    let statuses = [json!({"order": 42, "status": "paid"}), json!({"order": 42, "status": "shipped"})];
    tab_of_42.expect("order.42", &statuses);

    shop.publish("order.43", br#"{"order":43,"status":"paid"}"#);
    tab_of_43.expect("order.43", &[json!({"order": 43, "status": "paid"})]);
    assert!(tab_of_43.publications("order.42").is_empty());
    assert!(tab_of_42.publications("order.43").is_empty());
}

/// What a client holds goes on from where it was, whichever client asks for it or not.
const RECOVERING: &str = "[namespaces.default]\nhistory_size = 100\nforce_recovery = true\n";

/// The app loses its network in a tunnel, and comes back on another node: the list goes on without a hole and
/// without a repeat.
#[test]
fn back_after_tunnel() {
    let (url, nodes) = start_two_nodes("tunnel", RECOVERING);
    let ports = nodes.each_ref().map(|node| node.client_address().port());
    let network = Proxy::to_any(&ports);
    let address = network.instead_of(ports[0], &nodes[0].ws_url());
    let mut apps = [Subscriber::node(&address), Subscriber::python(&address)];
    apps.iter_mut().for_each(|app| app.subscribe("list"));
    let mut shop = Amqp::connect(&url);
    let mut list = Vec::new();
    let mut add = |count: usize| {
        for item in list.len()..list.len() + count {
            shop.publish("list", item.to_string().as_bytes());
            list.push(json!(item));
        }
        list.clone()
    };
    let before = add(3);
    apps.iter().for_each(|app| app.expect("list", &before));

    let [first, _second] = nodes;
    network.hold(Way::There);
    network.hold(Way::Back);
    first.kill();
    add(5);
    network.cut();
    network.resume();
    for app in &mut apps {
        app.event("connecting", None);
        app.event("subscribed", Some("list"));
    }
    let all = add(2);
    apps.iter().for_each(|app| app.expect("list", &all));
}

/// The operator stops the engine while people are there, and then RabbitMQ is killed. Nobody has to reload the
/// page: the clients are back, and subscribed, as soon as the engine is, and have what was published meanwhile.
#[test]
fn friday_restart() {
    let mut rabbitmq = RabbitNode::start();
    let url = rabbitmq.amqp_url();
    let engine = Engine::on_fixed_ports(&format!("[amqp]\nurl = \"{url}\"\n{RECOVERING}"));
    engine.wait_until_ready();
    let mut tabs = [Subscriber::node(&engine.ws_url()), Subscriber::python(&engine.ws_url())];
    for tab in &mut tabs {
        tab.subscribe("news");
    }
    let publisher = Publisher::connect(&url);
    let publish = |publisher: &Publisher, number: &str| {
        publisher.publish("news", number.as_bytes(), BasicProperties::default());
    };
    publish(&publisher, "1");
    let stopped = engine.stop_for_now();
    publish(&publisher, "2");
    let engine = stopped.start();
    for tab in &mut tabs {
        assert_eq!(tab.event("connecting", None)["code"], 3001);
        tab.event("subscribed", Some("news"));
    }
    drop(publisher);
    rabbitmq.sync_tables();
    rabbitmq.kill();
    rabbitmq.start_again();
    publish(&Publisher::connect_when_there(&url, "fanfare"), "3");
    engine.wait_until_ready();
    tabs.iter().for_each(|tab| tab.expect("news", &[json!(1), json!(2), json!(3)]));
    wait_until(SOON, "both clients to be counted", || {
        engine.metric("fanfare_clients", &[("state", "open")]) == 2.0
    });
}

/// Room for the latest price of each of [`INSTRUMENTS`], about 200 bytes each, and for four rounds of changes. Who
/// reads no longer answers pings.
const TICKER: &str = r#"
[limits]
publication_bytes = 4096
frame_bytes = 65536
log_bytes = 524288

[timeouts]
ping = "1h"

[namespaces.prices]
slow = "skip"
deflate = true
"#;
const INSTRUMENTS: usize = 500;
/// Rounds in which all prices change: several times what a log holds.
const ROUNDS: usize = 30;
/// Rounds until those who do not read are blocked: their kernels take what the logs could hold.
const ROUNDS_MAX: usize = 60;

/// The last publication of the day.
const CLOSED: &str = "the exchange is closed";

/// Prices of many instruments. The fast desk terminal sees every change. Two phones take nothing for a while, one of
/// them with compression; then each gets the newest price of every instrument, in order, and not all of them late.
#[test]
fn ticker() {
    let harness = Harness::start("ticker", TICKER);
    let address = harness.engine.client_address();
    let terminal = Terminal::connect(address);
    let mut phones = [Framed::connect(address), Framed::deflating(address)];
    phones.iter_mut().for_each(|phone| phone.subscribe("prices:all"));

    let exchange = Exchange { publisher: harness.publisher(), terminal: &terminal };
    let blocked = || harness.engine.metric("fanfare_blocked_clients", &[]) == 2.0;
    let began = (0..ROUNDS_MAX).find(|&round| {
        exchange.change_all_prices(round);
        blocked()
    });
    let rounds = began.expect("phones that do not read are blocked") + 1 + ROUNDS;
    (rounds - ROUNDS..rounds).for_each(|round| exchange.change_all_prices(round));
    assert!(blocked(), "the phones take nothing");
    assert_eq!(harness.engine.metric("fanfare_keys_dropped_total", &[]), 0.0);
    assert!(harness.engine.metric("fanfare_slow_outcomes_total", &[("policy", "skip")]) >= 2.0);

    for phone in &mut phones {
        let seen = newest_prices(phone, rounds);
        let all = rounds * INSTRUMENTS;
        assert!(seen + 10 * INSTRUMENTS < all, "{seen} of {all}: the phone did not skip");
    }
    assert!(phones[1].deflated_frames > 0);
    // Now they read, and see every change again.
    exchange.change_all_prices(rounds);
    for phone in &mut phones {
        (0..INSTRUMENTS).for_each(|instrument| assert_eq!(change(&phone.line()), (instrument, rounds)));
    }
    drop(exchange);
    harness.engine.publish("prices:all", &json!(CLOSED));
    terminal.reads.join().expect("the terminal saw every change");
}

/// Somebody who sees every change, on a thread of its own.
struct Terminal {
    seen: Arc<AtomicUsize>,
    reads: JoinHandle<()>,
}

impl Terminal {
    fn connect(address: SocketAddr) -> Self {
        let mut client = RawClient::connect(address);
        client.subscribe("prices:all");
        let seen = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&seen);
        let reads = thread::spawn(move || {
            loop {
                let line = client.line();
                if line.contains(CLOSED) {
                    return;
                }
                let seen = counts.load(Ordering::Relaxed);
                assert_eq!(change(&line), (seen % INSTRUMENTS, seen / INSTRUMENTS));
                counts.store(seen + 1, Ordering::Relaxed);
            }
        });
        Self { seen, reads }
    }
}

/// Where prices come from.
struct Exchange<'a> {
    publisher: Publisher,
    terminal: &'a Terminal,
}

impl Exchange<'_> {
    /// Changes the price of every instrument, and waits until the terminal has seen it.
    fn change_all_prices(&self, round: usize) {
        let message = |instrument: usize| {
            // Prices that do not compress.
            let prices = Random::new((round * INSTRUMENTS + instrument) as u64).digits(80);
            let key = AMQPValue::LongString(format!("I{instrument}").into());
            let body = json!({"instrument": instrument, "round": round, "prices": prices});
            (body.to_string(), headers(&[("x-key", key)]))
        };
        self.publisher.publish_all("prices:all", (0..INSTRUMENTS).map(message));
        wait_until(SOON, "the terminal to see every change", || {
            assert!(!self.terminal.reads.is_finished(), "the terminal has failed");
            self.terminal.seen.load(Ordering::Relaxed) == (round + 1) * INSTRUMENTS
        });
    }
}

/// Instrument and round of a change of price.
fn change(line: &str) -> (usize, usize) {
    let line: Value = serde_json::from_str(line).expect("a line of JSON");
    let number =
        |name: &str| line["push"]["pub"]["data"][name].as_u64().and_then(|n| usize::try_from(n).ok());
    number("instrument").zip(number("round")).unwrap_or_else(|| panic!("no change of price: {line}"))
}

/// Reads until the phone has the latest price of every instrument, which must come in their order: how many changes
/// it saw.
fn newest_prices(phone: &mut Framed, rounds: usize) -> usize {
    let mut latest = vec![None; INSTRUMENTS];
    let mut seen = 0;
    while latest.iter().any(|round| *round != Some(rounds - 1)) {
        let (instrument, round) = change(&phone.line());
        assert!(
            latest[instrument] < Some(round),
            "{instrument} of round {round} after {:?}",
            latest[instrument]
        );
        latest[instrument] = Some(round);
        seen += 1;
    }
    seen
}
