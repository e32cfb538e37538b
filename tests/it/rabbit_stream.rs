//! The stream as the source: nothing is lost or repeated over restarts of either side, all nodes are in one
//! epoch, and a stream that is another one is noticed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::engine::{Engine, run_to_end, serve};
use crate::support::proxy::{Proxy, Way};
use crate::support::publisher::{DURABLE, Publisher, headers};
use crate::support::rabbitmq::RabbitNode;
use crate::support::wait::{SOON, hold_for, wait_for, wait_until};
use crate::support::websocket::RawClient;
use lapin::types::AMQPValue;
use lapin::{BasicProperties, ExchangeKind};
use serde_json::json;

fn configuration(url: &str) -> String {
    // Who waits for RabbitMQ to start need not answer pings.
    format!("[amqp]\nurl = \"{url}\"\nreconnect_max = \"500ms\"\n[timeouts]\nping = \"5m\"\n")
}

fn start(url: &str) -> Engine {
    let engine = Engine::with_config(&configuration(url));
    engine.wait_until_ready();
    engine
}

/// The epochs in which an engine has read its stream back, in order.
fn epochs(engine: &Engine) -> Vec<String> {
    let lines = engine.stderr().so_far();
    let of = |line: &String| {
        let (_, rest) = line.split_once("read the stream back")?.1.split_once("epoch=")?;
        Some(rest.split_whitespace().next()?.to_owned())
    };
    lines.iter().filter_map(of).collect()
}

fn plain() -> BasicProperties {
    BasicProperties::default()
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// A marker as another node would write it.
fn claim(publisher: &Publisher, epoch: &str, origin: i64) {
    let marker = headers(&[
        ("x-fanfare-marker", text("1")),
        ("x-fanfare-node", text("2")),
        ("x-fanfare-epoch", text(epoch)),
        ("x-fanfare-origin", AMQPValue::LongLongInt(origin)),
    ]);
    publisher.publish_to("", "fanfare", b"", marker);
}

#[test]
fn an_engine_that_is_started_again_knows_what_was_there_and_pushes_what_is_new() {
    let url = RabbitNode::shared().new_vhost("restart");
    let engine = Engine::on_fixed_ports(&configuration(&url));
    engine.wait_until_ready();
    let publisher = Publisher::connect(&url);
    let with_id = |id: &str| plain().with_message_id(id.into());
    let mut client = RawClient::connect(engine.client_address());
    client.subscribe("news");
    publisher.publish("news", b"1", with_id("x"));
    publisher.publish("news", b"2", with_id("x"));
    publisher.publish("news", b"3", plain());
    assert_eq!([client.publication("news"), client.publication("news")], ["1", "3"]);
    let before = epochs(&engine);

    let stopped = engine.stop_for_now();
    publisher.publish("news", b"4", plain());
    let engine = stopped.start();
    // It listens when it has read everything back.
    assert_eq!(engine.metric("fanfare_replayed_total", &[]), 4.0);
    assert_eq!((before.len(), epochs(&engine)), (1, before));
    let mut client = RawClient::connect(engine.client_address());
    client.subscribe("news");
    publisher.publish("news", b"5", with_id("x"));
    publisher.publish("news", b"6", plain());
    assert_eq!(client.publication("news"), "6", "an id is known over the restart, and history is not pushed");
    assert_eq!(engine.metric("fanfare_duplicates_total", &[]), 1.0);
    let behind = engine.metric("fanfare_stream_offset", &[]);
    publisher.publish("news", b"7", plain());
    assert_eq!(client.publication("news"), "7");
    wait_until(SOON, "the offset moves", || engine.metric("fanfare_stream_offset", &[]) > behind);
}

/// One event for two topics is two messages of one id, and a mended dead letter keeps its own.
#[test]
fn an_id_counts_for_the_topics_where_it_was_admitted_after_a_restart_as_well() {
    let url = RabbitNode::shared().new_vhost("ids");
    let engine = Engine::on_fixed_ports(&configuration(&url));
    engine.wait_until_ready();
    let publisher = Publisher::connect(&url);
    let with_id = |id: &str| plain().with_message_id(id.into());
    let subscribe = |engine: &Engine| {
        let mut client = RawClient::connect(engine.client_address());
        ["customer.1", "customer.2", "customer.3"].iter().for_each(|topic| client.subscribe(topic));
        client
    };
    let mut client = subscribe(&engine);
    publisher.publish("customer.1", b"1", with_id("event"));
    publisher.publish("customer.2", b"2", with_id("event"));
    assert_eq!([client.publication("customer.1"), client.publication("customer.2")], ["1", "2"]);
    (0..3).for_each(|n: u8| publisher.publish("customer.1", n.to_string().as_bytes(), with_id("")));
    assert_eq!([(); 3].map(|()| client.publication("customer.1")), ["0", "1", "2"], "an empty id is none");
    for id in ["mended at once", "mended later"] {
        publisher.publish("customer.1", b"nope", with_id(id));
        publisher.dead_letter();
    }
    publisher.publish("customer.1", b"3", with_id("mended at once"));
    assert_eq!(client.publication("customer.1"), "3");

    let engine = engine.restart();
    let mut client = subscribe(&engine);
    publisher.publish("customer.1", b"4", with_id("mended later"));
    assert_eq!(client.publication("customer.1"), "4");
    // It repeats two of three.
    let all = headers(&[("x-topics", text("customer.2\ncustomer.3"))]).with_message_id("event".into());
    publisher.publish("customer.1", b"5", all);
    publisher.publish("customer.1", b"6", with_id("mended at once"));
    publisher.publish("customer.1", b"7", plain());
    publisher.publish("customer.2", b"8", plain());
    // Between topics there is no order.
    let mut lines = [(); 3].map(|()| client.line());
    lines.sort();
    for (line, [topic, data]) in
        lines.iter().zip([["customer.1", "7"], ["customer.2", "8"], ["customer.3", "5"]])
    {
        assert!(line.contains(&format!(r#""channel":"{topic}","pub":{{"data":{data}"#)), "{line}");
    }
    assert_eq!(engine.metric("fanfare_duplicates_total", &[]), 3.0);
}

#[test]
fn nothing_is_lost_or_repeated_when_rabbitmq_stops_or_is_killed() {
    let mut node = RabbitNode::start();
    let url = node.amqp_url();
    let engine = start(&url);
    let mut client = RawClient::connect(engine.client_address());
    client.subscribe("load");
    let publish = |range: std::ops::Range<u32>| {
        let publisher = Publisher::connect_when_there(&url, "fanfare");
        range.for_each(|n| publisher.publish("load", n.to_string().as_bytes(), plain()));
    };
    publish(0..300);
    node.stop();
    node.start_again();
    publish(300..600);
    node.kill();
    node.start_again();
    publish(600..900);
    for n in 0..900 {
        assert_eq!(client.publication("load"), n.to_string());
    }
    engine.wait_until_ready();
    assert!(engine.metric("fanfare_rabbitmq_connects_total", &[]) >= 2.0);
    assert_eq!(engine.metric("fanfare_gaps_total", &[]), 0.0);
    assert_eq!(epochs(&engine).len(), 1, "it was read back once");
}

#[test]
fn a_stream_that_is_deleted_is_another_one_even_if_it_is_longer() {
    let url = RabbitNode::shared().new_vhost("deleted");
    let engine = start(&url);
    let publisher = Publisher::connect(&url);
    let mut client = RawClient::connect(engine.client_address());
    let told_of_a_gap = |client: &mut RawClient| {
        let told = client.line();
        assert!(told.contains(r#""unsubscribe":{"code":2500"#), "{told}");
        client.subscribe("news");
    };
    client.subscribe("news");
    publisher.publish("news", b"1", plain());
    assert_eq!(client.publication("news"), "1");
    publisher.delete_queue("fanfare");
    told_of_a_gap(&mut client);
    publisher.publish("news", b"2", plain());
    assert_eq!(client.publication("news"), "2");

    // While the engine sees nothing, a new one takes its place and grows beyond the old one.
    engine.signal("STOP");
    publisher.delete_queue("fanfare");
    publisher.declare_queue_with("fanfare", &[("x-queue-type", text("stream"))]);
    (0..100).for_each(|_| publisher.publish("news", b"3", plain()));
    engine.signal("CONT");
    told_of_a_gap(&mut client);
    publisher.publish("news", b"4", plain());
    assert_eq!(client.publication("news"), "4");
    let mut epochs = epochs(&engine);
    epochs.sort();
    epochs.dedup();
    assert_eq!(epochs.len(), 3, "each has an epoch of its own");
    assert!(engine.stderr().contain("the stream is used as it is"), "it was declared without our limits");
}

#[test]
fn all_nodes_are_in_one_epoch_and_the_oldest_holds() {
    let url = RabbitNode::shared().new_vhost("epochs");
    let engines = [(); 2].map(|()| Engine::with_config(&configuration(&url)));
    engines.iter().for_each(Engine::wait_until_ready);
    let [one, two] = engines.each_ref().map(epochs);
    assert_eq!((one.len(), &one), (1, &two));

    let publisher = Publisher::connect(&url);
    claim(&publisher, "madeup", 1_000_000);
    claim(&publisher, "later", 100);
    claim(&publisher, "older", 0);
    for engine in &engines {
        let renamed = |line: &String| line.contains("is older than ours") && line.contains("epoch=older");
        wait_until(SOON, "the older epoch", || engine.stderr().so_far().iter().any(renamed));
    }
    assert_eq!(epochs(&start(&url)), ["older"]);
}

/// What nobody can use is not read back, and yet always a claim, or the new node would propose an epoch of its own, and
/// all clients would be told of a gap.
#[test]
fn without_a_history_little_is_read_back_and_yet_a_claim_is_met() {
    let url = RabbitNode::shared().new_vhost("little");
    let configuration = configuration(&url).replace("[amqp]\n", "[amqp]\nmessage_ids = 0\n");
    let start = || {
        let engine = Engine::with_config(&configuration);
        engine.wait_until_ready();
        engine
    };
    let first = start();
    let epoch = epochs(&first);
    first.stop();
    let publisher = Publisher::connect(&url);
    let publish = |count| publisher.publish_all("news", (0..count).map(|_| ("1".to_owned(), plain())));
    publish(22_000);

    let second = start();
    assert!(second.stderr().contain("it is read from further back"));
    let replayed = |engine: &Engine| engine.metric("fanfare_replayed_total", &[]);
    assert!((41_900.0..=42_000.0).contains(&replayed(&second)), "20,000 messages, and then all of them");
    let mut client = RawClient::connect(second.client_address());
    client.subscribe("news");
    let third = start();
    assert!((19_900.0..=20_000.0).contains(&replayed(&third)), "it has met the second one's claim");
    assert_eq!([epochs(&second), epochs(&third)], [epoch.clone(), epoch]);
    publish(1);
    assert_eq!(client.publication("news"), "1", "nobody was told of a gap");
}

#[test]
fn of_several_nodes_one_buries_and_never_again() {
    let url = RabbitNode::shared().new_vhost("burials");
    let engines = [(); 3].map(|()| start(&url));
    let publisher = Publisher::connect(&url);
    for _ in 0..3 {
        publisher.publish("news", b"{", plain());
        let (body, reason, topic) = publisher.dead_letter();
        assert_eq!((&body[..], &*topic), (&b"{"[..], "news"), "{reason}");
    }
    let buried =
        || engines.iter().map(|engine| engine.metric("fanfare_dead_lettered_total", &[])).sum::<f64>();
    wait_until(SOON, "everybody to have read it", || {
        engines.iter().all(|engine| engine.metric("fanfare_unacknowledged", &[]) == 0.0)
    });
    assert_eq!(buried(), 3.0);
    let another = start(&url);
    assert!(another.metric("fanfare_replayed_total", &[]) >= 3.0);
    hold_for(Duration::from_millis(300), "no second burial", || publisher.has_no_dead_letter());
}

/// The bodies of dead letters, each once, and that a repetition has the offset of what it repeats.
fn bodies(letters: &[(String, u64)]) -> Vec<String> {
    let offsets: BTreeMap<&str, u64> = letters.iter().map(|(body, offset)| (&**body, *offset)).collect();
    assert!(letters.iter().all(|(body, offset)| offsets[&**body] == *offset), "{letters:?}");
    offsets.into_keys().map(str::to_owned).collect()
}

#[test]
fn what_cannot_be_delivered_and_came_while_no_engine_lived_is_dead_lettered_by_the_next_one() {
    let url = RabbitNode::shared().new_vhost("unsettled");
    let publisher = Publisher::connect(&url);
    publisher.declare_exchange(ExchangeKind::Topic, DURABLE);
    publisher.declare_queue_with("fanfare", &[("x-queue-type", text("stream"))]);
    publisher.publish("news", b"{0", plain());
    let engine = Engine::on_fixed_ports(&configuration(&url));
    engine.wait_until_ready();
    assert_eq!(bodies(&publisher.dead_letters_until(|letters| letters.len() == 1)), ["{0"]);
    let epoch = epochs(&engine);
    publisher.publish("news", b"{1", plain());
    assert_eq!(bodies(&publisher.dead_letters_until(|letters| letters.len() == 1)), ["{1"]);

    let stopped = engine.kill_for_now();
    for body in ["{2", "3", "{4"] {
        publisher.publish("news", body.as_bytes(), plain());
    }
    let engine = stopped.start();
    let is_enough =
        |letters: &[(String, u64)]| ["{2", "{4"].iter().all(|body| bodies(letters).contains(&(*body).into()));
    let letters = publisher.dead_letters_until(is_enough);
    assert!(letters.len() <= 3, "no more than what may not have been said to be settled: {letters:?}");
    assert_eq!(epochs(&engine), epoch);
}

/// It says so when it stops, however short ago the last one was.
#[test]
fn what_an_engine_has_dead_lettered_before_it_stops_is_not_dead_lettered_by_the_next_one() {
    let url = RabbitNode::shared().new_vhost("settled");
    let publisher = Publisher::connect(&url);
    publisher.declare_exchange(ExchangeKind::Topic, DURABLE);
    publisher.declare_queue_with("fanfare", &[("x-queue-type", text("stream"))]);
    let publish = |body: &str| publisher.publish("news", body.as_bytes(), plain());
    publish("{0");
    let engine = Engine::on_fixed_ports(&configuration(&url));
    engine.wait_until_ready();
    // The first one tells that what was there before has been looked at.
    for body in ["{0", "{1", "{2"] {
        if body != "{0" {
            publish(body);
        }
        assert_eq!(bodies(&publisher.dead_letters_until(|letters| letters.len() == 1)), [body]);
    }
    let stopped = engine.stop_for_now();
    let engine = stopped.start();
    engine.wait_until_ready();
    // Within six seconds a node begins to read again what nobody has settled.
    hold_for(Duration::from_secs(8), "no second dead letter", || publisher.has_no_dead_letter());
}

/// So many messages came while no engine was there that nothing which is read back says what is settled.
#[test]
fn what_was_dead_lettered_before_a_long_time_without_engines_is_not_dead_lettered_again() {
    let url = RabbitNode::shared().new_vhost("long_away");
    let publisher = Publisher::connect(&url);
    publisher.declare_exchange(ExchangeKind::Topic, DURABLE);
    publisher.declare_queue_with("fanfare", &[("x-queue-type", text("stream"))]);
    let publish = |body: &str| publisher.publish("news", body.as_bytes(), plain());
    ["{0", "{1"].into_iter().for_each(publish);
    let marker = [
        ("x-fanfare-marker", text("1")),
        ("x-fanfare-node", text("2")),
        ("x-fanfare-settled", AMQPValue::LongLongInt(2)),
    ];
    publisher.publish_to("", "fanfare", b"", headers(&marker));
    (0..30).for_each(|n| publish(&n.to_string()));
    publish("{2");
    (0..30).for_each(|n| publish(&n.to_string()));
    let config =
        configuration(&url).replacen("[amqp]\n", "[amqp]\nreplay_max_messages = 10\nmessage_ids = 1\n", 1);
    let engine = Engine::with_config(&config);
    let minute = Duration::from_secs(60);
    wait_until(minute, "a look for a marker, and one from where that says on", || looks(&engine) == 2);
    assert_eq!(bodies(&publisher.dead_letters_until(|letters| letters.len() == 1)), ["{2"]);
}

/// How often an engine has begun to read a part of the stream again.
fn looks(engine: &Engine) -> usize {
    let lines = engine.stderr().so_far();
    lines.iter().filter(|line| line.contains("reading a part of the stream again")).count()
}

/// Whichever of them is to dead-letter what comes.
#[test]
fn what_cannot_be_delivered_and_was_left_to_a_node_that_was_killed_is_dead_lettered_by_another() {
    let url = RabbitNode::shared().new_vhost("taken_over");
    let survivor = start(&url);
    let victim = start(&url);
    let publisher = Publisher::connect(&url);
    let poison = |n: usize| publisher.publish("news", format!("{{{n:02}").as_bytes(), plain());
    (0..8).for_each(poison);
    victim.signal("STOP");
    (8..16).for_each(poison);
    victim.kill();
    (16..24).for_each(poison);
    let expected: Vec<_> = (0..24).map(|n| format!("{{{n:02}")).collect();
    assert_eq!(bodies(&publisher.dead_letters_until(|letters| bodies(letters).len() == 24)), expected);
    assert_eq!(survivor.metric("fanfare_gaps_total", &[]), 0.0);
    assert_eq!(epochs(&survivor).len(), 1, "a node that takes over changes no epoch");
}

/// Publishers say by `timestamp` when an event was, and RabbitMQ counts `expiration` from when it got the message.
#[test]
fn time_stamps_count_for_expiration_only_where_they_are_trusted() {
    let url = RabbitNode::shared().new_vhost("expired");
    let engine = start(&url);
    let trusting = configuration(&url).replace("[amqp]", "[amqp]\ntrust_timestamps = true");
    let trusting = Engine::with_config(&trusting);
    trusting.wait_until_ready();
    let publisher = Publisher::connect(&url);
    let mut clients = [&engine, &trusting].map(|engine| RawClient::connect(engine.client_address()));
    clients.iter_mut().for_each(|client| client.subscribe("news"));
    let old = || plain().with_timestamp(1_000_000);
    publisher.publish("news", b"1", old().with_expiration("60000".into()));
    publisher.publish("news", b"2", old());
    publisher.publish("news", b"3", plain().with_expiration("60000".into()));
    let [client, trusting_client] = &mut clients;
    assert_eq!([(); 3].map(|()| client.publication("news")), ["1", "2", "3"]);
    assert_eq!([(); 2].map(|()| trusting_client.publication("news")), ["2", "3"]);
    let expired = [&engine, &trusting].map(|engine| engine.metric("fanfare_expired_total", &[]));
    assert_eq!(expired, [0.0, 1.0]);
}

/// How far behind a node is: by the newest time stamp, and in messages.
#[test]
fn the_lag_is_the_age_of_the_newest_time_stamp_and_what_is_left_to_catch_up_with() {
    let node = RabbitNode::shared();
    let url = node.new_vhost("lag");
    let proxy = Proxy::to(node.port());
    let engine = start(&proxy.instead_of(node.port(), &url));
    let publisher = Publisher::connect(&url);
    let mut client = RawClient::connect(engine.client_address());
    client.subscribe("news");
    let mut lag_after = |properties| {
        publisher.publish("news", b"1", properties);
        assert_eq!(client.publication("news"), "1");
        engine.metric("fanfare_stream_lag_seconds", &[])
    };
    let seconds = |ago| SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() - ago;
    let lag = lag_after(plain().with_timestamp(seconds(3600)));
    assert!((3600.0..3700.0).contains(&lag), "{lag}");
    assert_eq!(lag_after(plain()), lag, "it says nothing of its time");
    let lag = lag_after(plain().with_timestamp(seconds(0)));
    assert!((0.0..60.0).contains(&lag), "{lag}");

    let behind = || engine.metric("fanfare_stream_behind", &[]);
    assert_eq!(behind(), 0.0);
    proxy.hold(Way::There);
    proxy.cut();
    wait_until(SOON, "the loss to be seen", || engine.get("/health/ready").status == 503);
    publisher.publish_all("news", (0..100).map(|_| (format!("\"{}\"", "x".repeat(100_000)), plain())));
    proxy.cut_after_going(Way::Back, 3 << 20);
    proxy.resume();
    wait_until(SOON, "a part to be read", || !proxy.is_to_cut());
    proxy.hold(Way::There);
    wait_until(SOON, "the rest to be known", || (50.0..=100.0).contains(&behind()));
    proxy.resume();
    wait_until(SOON, "all to be read", || behind() == 0.0);
}

/// The data of what is kept of a topic.
fn kept(engine: &Engine, topic: &str) -> Vec<String> {
    let answer = engine.api("history", &json!({"channel": topic, "limit": 100}));
    let publications = answer["result"]["publications"].as_array().cloned().unwrap_or_default();
    publications.iter().map(|publication| publication["data"].to_string()).collect()
}

const KEPT: &str = "[namespaces.kept]\nhistory_size = 10\n\
                    [namespaces.short]\nhistory_size = 10\nhistory_ttl = \"1500ms\"\n";

/// The next marker after a message tells how old it is, to every node that reads back.
#[test]
fn what_is_over_does_not_come_back_with_a_restart() {
    let url = RabbitNode::shared().new_vhost("over");
    let engine = Engine::on_fixed_ports(&(configuration(&url) + KEPT));
    engine.wait_until_ready();
    let publisher = Publisher::connect(&url);
    let old = || plain().with_timestamp(1_000_000);
    publisher.publish("kept:a", b"1", old());
    publisher.publish("kept:a", b"2", plain().with_expiration("1500".into()));
    publisher.publish("kept:a", b"3", old().with_expiration("3600000".into()));
    publisher.publish("short:a", b"4", plain());
    // It comes back at once, and writes markers, while all may be there.
    let engine = engine.restart();
    wait_until(SOON, "what ends to end", || {
        kept(&engine, "kept:a") == ["1", "3"] && kept(&engine, "short:a").is_empty()
    });
    let engine = engine.restart();
    assert_eq!(
        (kept(&engine, "kept:a"), kept(&engine, "short:a").len()),
        (vec!["1".to_owned(), "3".to_owned()], 0)
    );
    let another = Engine::with_config(&(configuration(&url) + KEPT));
    another.wait_until_ready();
    assert_eq!(
        (kept(&another, "kept:a"), kept(&another, "short:a").len()),
        (vec!["1".to_owned(), "3".to_owned()], 0)
    );
}

/// An engine whose link can be held up, and a subscriber of `kept:a`, in a virtual host of their own.
fn subscribed_behind_a_proxy(vhost: &str) -> (String, Proxy, Engine, RawClient) {
    let node = RabbitNode::shared();
    let url = node.new_vhost(vhost);
    let proxy = Proxy::to(node.port());
    let engine = Engine::with_config(&(configuration(&proxy.instead_of(node.port(), &url)) + KEPT));
    engine.wait_until_ready();
    let mut client = RawClient::connect(engine.client_address());
    client.subscribe("kept:a");
    (url, proxy, engine, client)
}

/// RabbitMQ may send one message ahead: that is the one by which the engine finds its place again.
#[test]
fn what_comes_after_a_lost_link_is_pushed_with_the_smallest_prefetch() {
    let node = RabbitNode::shared();
    for (vhost, setting) in
        [("prefetch_1", "prefetch = 1"), ("prefetch_bytes", "prefetch_bytes = 16_777_216")]
    {
        let url = node.new_vhost(vhost);
        let proxy = Proxy::to(node.port());
        let url_by_proxy = proxy.instead_of(node.port(), &url);
        let engine = Engine::with_config(&format!("[amqp]\nurl = \"{url_by_proxy}\"\n{setting}\n"));
        engine.wait_until_ready();
        let mut client = RawClient::connect(engine.client_address());
        client.subscribe("a");
        let publisher = Publisher::connect(&url);
        for round in 0..3 {
            for n in 10 * round..10 * round + 5 {
                publisher.publish("a", n.to_string().as_bytes(), plain());
                assert_eq!(client.publication("a"), n.to_string(), "{setting}");
            }
            proxy.cut();
        }
    }
}

/// How long it waited is not known if no marker has come since but the node's own: so it is pushed, and ends when it must
/// have been there for so long.
#[test]
fn what_waited_for_the_link_is_pushed_and_ends_later() {
    let (url, proxy, engine, mut client) = subscribed_behind_a_proxy("waited");
    let publisher = Publisher::connect(&url);
    proxy.hold(Way::Back);
    proxy.cut();
    publisher.publish("kept:a", b"1", plain().with_expiration("1500".into()));
    publisher.publish("kept:a", b"2", plain());
    let begun = Instant::now();
    wait_until(SOON, "the first one's time", || begun.elapsed() > Duration::from_millis(1600));
    proxy.resume();
    assert_eq!([client.publication("kept:a"), client.publication("kept:a")], ["1", "2"]);
    wait_until(SOON, "the first one's end", || kept(&engine, "kept:a") == ["2"]);
}

/// Another node's marker says how long it waited, before anybody is given it.
#[test]
fn what_was_over_while_the_link_was_away_is_not_pushed() {
    let (url, proxy, engine, mut client) = subscribed_behind_a_proxy("over_meanwhile");
    let publisher = Publisher::connect(&url);
    proxy.hold(Way::There);
    proxy.cut();
    wait_until(SOON, "the loss to be seen", || engine.get("/health/ready").status == 503);
    publisher.publish("kept:a", b"1", plain().with_expiration("1000".into()));
    publisher.publish("kept:a", b"2", plain());
    publisher.publish("kept:a", b"3", plain().with_expiration("60000".into()));
    publisher.publish("kept:a", b"{", plain());
    start(&url).stop();
    let begun = Instant::now();
    publisher.publish("kept:a", b"4", plain().with_expiration("60000".into()));
    wait_until(SOON, "the first one's time", || begun.elapsed() > Duration::from_millis(1100));
    proxy.resume();
    assert_eq!([(); 3].map(|()| client.publication("kept:a")), ["2", "3", "4"]);
    assert_eq!(engine.metric("fanfare_expired_total", &[]), 1.0);
    assert_eq!(kept(&engine, "kept:a"), ["2", "3", "4"]);
}

#[test]
fn a_queue_that_is_no_stream_is_refused_with_the_remedy() {
    let url = RabbitNode::shared().new_vhost("no_stream");
    let engine = Engine::start(&["--amqp", &url, "--source", "queue"]);
    engine.wait_until_ready();
    Publisher::connect(&url).declare_queue("fanfare");
    let mut command = serve();
    command.args(["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--amqp", &url]);
    let (status, _, stderr) = run_to_end(command, SOON);
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("is no stream") && stderr.contains("amqp.stream"), "{stderr}");
}

/// RabbitMQ may come later: what was there is not pushed, but whoever was here before is told of it.
#[test]
fn a_stream_that_comes_later_than_the_clients_is_read_back_and_not_pushed() {
    let mut node = RabbitNode::start();
    let url = node.amqp_url();
    let first = start(&url);
    let publisher = Publisher::connect(&url);
    publisher.publish("news", b"1", plain());
    drop(publisher);
    first.stop();
    node.stop();
    let engine = Engine::with_config(&configuration(&url));
    let mut client = RawClient::connect(engine.client_address());
    client.subscribe("news");
    node.start_again();
    engine.wait_until_ready();
    let replayed = wait_for(SOON, "the stream to be read back", || {
        let replayed = engine.metric("fanfare_replayed_total", &[]);
        (replayed > 0.0).then_some(replayed)
    });
    assert_eq!(replayed, 1.0);
    let told = client.line();
    assert!(told.contains(r#""unsubscribe":{"code":2500"#), "{told}");
    client.subscribe("news");
    Publisher::connect_when_there(&url, "fanfare").publish("news", b"2", plain());
    assert_eq!(client.publication("news"), "2");
}
