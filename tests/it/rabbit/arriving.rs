//! Messages become lines for the shards: once for each topic, in order, and in time.

use super::broker_thread::BrokerThread;
use super::by_queue;
use crate::support::publisher::{Publisher, headers, list};
use crate::support::rabbitmq::RabbitNode;
use crate::support::wait::{SOON, wait_until};
use fanfare::config::{Interval, Namespace, Source};
use lapin::BasicProperties;
use lapin::types::AMQPValue;

#[test]
fn what_is_published_comes_back_as_lines_once_for_each_topic() {
    let by_list = ("CC", list(&["a", "b", "b"]));
    let by_text = ("x-topics", AMQPValue::LongString("a\nb\nb".into()));
    for (source, copies) in [(Source::Queue, by_list), (Source::Stream, by_text)] {
        come_back_as_lines(source, copies);
    }
}

fn come_back_as_lines(source: Source, copies: (&str, AMQPValue)) {
    let url = RabbitNode::shared().new_vhost(&format!("round_{source:?}"));
    let mut broker = BrokerThread::start(&url, |config| config.amqp.source = source);
    broker.attach(1, "a");
    broker.attach(2, "b");
    assert_eq!(broker.publish(&["a"], b"1e400"), Ok(()));
    broker.expect_line(1, "a", "1e400");
    assert_eq!(broker.publish(&["a", "b", "c"], b"2"), Ok(()));
    let mut both = [broker.lines(), broker.lines()];
    both.sort();
    assert_eq!(both.map(|(slot, _)| slot), [1, 2]);
    // Another's message with more topics, a topic named twice, and headers of types that mean nothing.
    let publisher = Publisher::connect(&url);
    let odd = [copies, ("x-key", AMQPValue::Boolean(true)), ("x-timestamp-us", AMQPValue::Float(1.5))];
    publisher.publish("a", b"{\n}", headers(&odd));
    let mut both = [broker.lines(), broker.lines()];
    both.sort();
    assert_eq!(both[0].1, "{\"push\":{\"channel\":\"a\",\"pub\":{\"data\":{ }}}}\n");
    assert_eq!(both[1].0, 2);
    let (buckets, beyond, _) = broker.stats.handover.read();
    let timed: u64 = buckets.iter().map(|(_, count)| count).sum();
    assert_eq!(timed + beyond, 3, "our own publishes carry the time");
    wait_until(SOON, "everything to be acknowledged", || broker.stats.unacknowledged.value() == 0);
    assert_eq!(broker.stats.dead_lettered.value(), 0);
    broker.stop();
}

/// A list where RabbitMQ keeps one; and what is neither text nor a list is told, to somebody who can mend it.
#[test]
fn further_topics_may_be_a_list_and_what_is_neither_is_told() {
    let url = RabbitNode::shared().new_vhost("topics_list");
    let mut broker = BrokerThread::start(&url, by_queue);
    (0..).zip(["a", "b"]).for_each(|(slot, topic)| broker.attach(slot, topic));
    let publisher = Publisher::connect(&url);
    publisher.publish("a", b"1", headers(&[("x-topics", list(&["b", "a"]))]));
    broker.expect_line(0, "a", "1");
    broker.expect_line(1, "b", "1");
    publisher.publish("a", b"2", headers(&[("x-topics", AMQPValue::LongInt(7))]));
    broker.expect_line(0, "a", "2");
    let (_, reason, topics) = publisher.dead_letter();
    assert!(reason.contains("x-topics") && reason.contains("LongInt") && topics == "a", "{topics}: {reason}");
    wait_until(SOON, "everything to be acknowledged", || broker.stats.unacknowledged.value() == 0);
    broker.stop();
}

#[test]
fn more_than_prefetch_arrives_in_order_while_a_namespace_waits() {
    let url = RabbitNode::shared().new_vhost("prefetch");
    let mut broker = BrokerThread::start(&url, |config| {
        config.amqp.prefetch = 8;
        let slow = Namespace { max_delay: Interval::from_secs(3600), ..Namespace::default() };
        config.namespaces = [("slow".to_owned(), slow)].into();
    });
    broker.attach(0, "slow:1");
    let publisher = Publisher::connect(&url);
    most_of_sixty_come_in_order(&mut broker, &publisher);
    broker.stop();
}

/// After a large message RabbitMQ sends few ahead. They must not wait for what can only come when they are acknowledged.
#[test]
fn few_that_are_sent_ahead_after_a_large_one_do_not_wait_out_the_delay() {
    let url = RabbitNode::shared().new_vhost("few_ahead");
    let mut broker = BrokerThread::start(&url, |config| {
        by_queue(config);
        let slow = Namespace { max_delay: Interval::from_secs(3600), ..Namespace::default() };
        config.namespaces = [("slow".to_owned(), slow)].into();
    });
    broker.attach(0, "slow:1");
    let publisher = Publisher::connect(&url);
    publisher.publish("slow:1", &vec![b'x'; 15 << 20], BasicProperties::default());
    wait_until(SOON, "the large one", || broker.stats.dead_lettered.value() == 1);
    most_of_sixty_come_in_order(&mut broker, &publisher);
    broker.stop();
}

/// In a topic that would wait for an hour, all but those of the last prefetch come at once.
#[track_caller]
fn most_of_sixty_come_in_order(broker: &mut BrokerThread, publisher: &Publisher) {
    for n in 0..60 {
        publisher.publish("slow:1", n.to_string().as_bytes(), BasicProperties::default());
    }
    let mut got = String::new();
    while got.lines().count() < 54 {
        got.push_str(&broker.lines().1);
    }
    for (n, line) in got.lines().enumerate() {
        assert!(line.contains(&format!("\"data\":{n}}}")), "{n}: {line}");
    }
}
