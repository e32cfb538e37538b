//! One node dead-letters what cannot be delivered, once, whichever node that is.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{configuration, plain, start, text};
use crate::support::engine::Engine;
use crate::support::publisher::{DURABLE, Publisher, headers};
use crate::support::rabbitmq::RabbitNode;
use crate::support::wait::{SOON, hold_for, wait_until};
use lapin::ExchangeKind;
use lapin::types::AMQPValue;

#[test]
fn of_several_nodes_one_dead_letters_and_never_again() {
    let url = RabbitNode::shared().new_vhost("several-nodes");
    let engines = [(); 3].map(|()| start(&url));
    let publisher = Publisher::connect(&url);
    for _ in 0..3 {
        publisher.publish("news", b"{", plain());
        let (body, reason, topic) = publisher.dead_letter();
        assert_eq!((&body[..], &*topic), (&b"{"[..], "news"), "{reason}");
    }
    let dead_lettered =
        || engines.iter().map(|engine| engine.metric("fanfare_dead_lettered_total", &[])).sum::<f64>();
    wait_until(SOON, "everybody to have read it", || {
        engines.iter().all(|engine| engine.metric("fanfare_unacknowledged", &[]) == 0.0)
    });
    assert_eq!(dead_lettered(), 3.0);
    let another = start(&url);
    assert!(another.metric("fanfare_replayed_total", &[]) >= 3.0);
    hold_for(Duration::from_millis(300), "no second dead letter", || publisher.has_no_dead_letter());
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
    let epoch = engine.epochs();
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
    assert_eq!(engine.epochs(), epoch);
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
    assert_eq!(survivor.epochs().len(), 1, "a node that takes over changes no epoch");
}
