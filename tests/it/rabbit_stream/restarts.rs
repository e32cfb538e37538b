//! Restarts of the engine and of RabbitMQ: nothing is lost or repeated.

use super::{configuration, plain, start, text};
use crate::support::engine::Engine;
use crate::support::publisher::{Publisher, headers};
use crate::support::rabbitmq::RabbitNode;
use crate::support::wait::{SOON, wait_until};

#[test]
fn an_engine_that_is_started_again_knows_what_was_there_and_pushes_what_is_new() {
    let url = RabbitNode::shared().new_vhost("restart");
    let engine = Engine::on_fixed_ports(&configuration(&url));
    engine.wait_until_ready();
    let publisher = Publisher::connect(&url);
    let with_id = |id: &str| plain().with_message_id(id.into());
    let mut client = engine.subscriber(&["news"]);
    publisher.publish("news", b"1", with_id("x"));
    publisher.publish("news", b"2", with_id("x"));
    publisher.publish("news", b"3", plain());
    assert_eq!([client.publication("news"), client.publication("news")], ["1", "3"]);
    let before = engine.epochs();

    let stopped = engine.stop_for_now();
    publisher.publish("news", b"4", plain());
    let engine = stopped.start();
    // It listens when it has read everything back.
    assert_eq!(engine.metric("fanfare_replayed_total", &[]), 4.0);
    assert_eq!((before.len(), engine.epochs()), (1, before));
    let mut client = engine.subscriber(&["news"]);
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
    let subscribe = |engine: &Engine| engine.subscriber(&["customer.1", "customer.2", "customer.3"]);
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
    let mut client = engine.subscriber(&["load"]);
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
    assert_eq!(engine.epochs().len(), 1, "it was read back once");
}
