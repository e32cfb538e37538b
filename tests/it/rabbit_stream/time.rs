//! Time stamps and expiration, over restarts and lost links.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{SETTINGS, configuration, plain, start};
use crate::support::engine::Engine;
use crate::support::harness::ProxiedVhost;
use crate::support::proxy::Way;
use crate::support::publisher::Publisher;
use crate::support::rabbitmq::RabbitNode;
use crate::support::wait::{SOON, wait_until};
use crate::support::websocket::RawClient;
use serde_json::json;

/// Publishers say by `timestamp` when an event was, and RabbitMQ counts `expiration` from when it got the message.
#[test]
fn time_stamps_count_for_expiration_only_where_they_are_trusted() {
    let url = RabbitNode::shared().new_vhost("expired");
    let engine = start(&url);
    let trusting = configuration(&url).replace("[amqp]", "[amqp]\ntrust_timestamps = true");
    let trusting = Engine::with_config(&trusting);
    trusting.wait_until_ready();
    let publisher = Publisher::connect(&url);
    let mut clients = [&engine, &trusting].map(|engine| engine.client());
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
    let ProxiedVhost { url, proxied_url, proxy, .. } = ProxiedVhost::start("lag");
    let engine = start(&proxied_url);
    let publisher = Publisher::connect(&url);
    let mut client = engine.subscriber(&["news"]);
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
fn subscribed_behind_a_proxy(vhost: &str) -> (ProxiedVhost, Engine, RawClient) {
    let vhost = ProxiedVhost::start(vhost);
    let engine = Engine::consuming(&vhost.proxied_url, &format!("{SETTINGS}{KEPT}"));
    let client = engine.subscriber(&["kept:a"]);
    (vhost, engine, client)
}

/// RabbitMQ may send one message ahead: that is the one by which the engine finds its place again.
#[test]
fn what_comes_after_a_lost_link_is_pushed_with_the_smallest_prefetch() {
    for (vhost, setting) in
        [("prefetch_1", "prefetch = 1"), ("prefetch_bytes", "prefetch_bytes = 16_777_216")]
    {
        let ProxiedVhost { url, proxied_url, proxy, .. } = ProxiedVhost::start(vhost);
        let engine = Engine::consuming(&proxied_url, &format!("[amqp]\n{setting}\n"));
        let mut client = engine.subscriber(&["a"]);
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
    let (ProxiedVhost { url, proxy, .. }, engine, mut client) = subscribed_behind_a_proxy("waited");
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
    let (ProxiedVhost { url, proxy, .. }, engine, mut client) = subscribed_behind_a_proxy("over_meanwhile");
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
