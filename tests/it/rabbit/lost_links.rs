//! The connection to RabbitMQ is lost or blocked, and what comes again after it.

use std::time::Duration;

use super::broker_thread::BrokerThread;
use super::by_queue;
use crate::support::harness::ProxiedVhost;
use crate::support::publisher::{DURABLE, Publisher};
use crate::support::rabbitmq::RabbitNode;
use crate::support::wait::{SOON, hold_for, wait_until};
use fanfare::config::{Config, Interval, Namespace};
use fanfare::domain::mail::{Mail, Numbered};
use fanfare::domain::reasons::ErrorCode;
use fanfare::stats::BackplaneState;
use lapin::{BasicProperties, ExchangeKind};

#[test]
fn a_node_that_stops_costs_a_gap_and_publishes_wait_for_it_in_their_order() {
    let mut node = RabbitNode::start();
    let url = node.amqp_url();
    let mut broker = BrokerThread::start(&url, |config| {
        by_queue(config);
        config.timeouts.publish = Interval::from_secs(90);
    });
    broker.attach(0, "a");
    assert_eq!(broker.publish(&["a"], b"1"), Ok(()));
    broker.expect_line(0, "a", "1");
    node.stop();
    wait_until(SOON, "the loss to be seen", || broker.stats.backplane.value() == BackplaneState::Away as u64);
    let answers = [2, 3, 4].map(|n: u8| broker.begin_to_publish(&["a"], n.to_string().as_bytes()));
    // Requests go on.
    broker.attach(1, "b");
    node.start_again();
    assert!(matches!(broker.mail(), Mail::Gap));
    let mut lines = String::new();
    while lines.lines().count() < 3 {
        lines += &broker.lines().1;
    }
    let data: Vec<_> = lines.lines().filter_map(|line| line.split("\"data\":").nth(1)).collect();
    assert_eq!(data, ["2}}}", "3}}}", "4}}}"]);
    assert!(answers.into_iter().all(|answer| answer.blocking_recv() == Ok(Ok(Numbered::new()))));
    assert_eq!((broker.stats.gaps.value(), broker.stats.connects.value()), (1, 2));
    broker.stop();
}

/// What was taken from a named queue and waits to be merged is not acknowledged: after a loss it comes
/// again, and is pushed once.
#[test]
fn a_named_queue_has_no_gap_and_gives_back_what_was_not_acknowledged() {
    let mut node = RabbitNode::start();
    let url = node.amqp_url();
    let publisher = Publisher::connect(&url);
    publisher.declare_exchange(ExchangeKind::Topic, DURABLE);
    publisher.declare_queue("pushes");
    let persistent = || BasicProperties::default().with_delivery_mode(2);
    publisher.publish("early", b"0", persistent());
    let slowly = |config: &mut Config| {
        let slow = Namespace { max_delay: Interval::from_secs(3), ..Namespace::default() };
        config.namespaces = [("slow".to_owned(), slow)].into();
        by_queue(config);
        config.amqp.queue = "pushes".to_owned();
        config.amqp.queue_delay.0 = Duration::ZERO;
    };
    let mut broker = BrokerThread::start(&url, slowly);
    broker.attach(0, "slow:1");
    for n in 1..=3 {
        let id = format!("id {n}").as_str().into();
        publisher.publish("slow:1", n.to_string().as_bytes(), persistent().with_message_id(id));
    }
    wait_until(SOON, "three that wait", || broker.stats.unacknowledged.value() == 3);
    node.kill();
    let (_, lines) = broker.lines();
    let data: Vec<_> = lines.lines().filter_map(|line| line.split("\"data\":").nth(1)).collect();
    assert_eq!(data, ["1}}}", "2}}}", "3}}}"], "nothing more comes to be merged with");
    node.start_again();
    broker.wait_until_ready();
    wait_until(SOON, "the second delivery", || broker.stats.duplicates.value() == 3);
    assert_eq!(broker.stats.publications.value(), 4, "one before, and three once");
    wait_until(SOON, "everything to be acknowledged", || broker.stats.unacknowledged.value() == 0);
    let shard = &broker.shard;
    hold_for(Duration::from_millis(100), "no gap and nothing twice", || shard.is_empty());
    broker.stop();
}

/// Whether it waited to be merged or was out already: what has an id is pushed once and is in the history once. What
/// waited and has none cannot be known.
#[test]
fn what_comes_again_after_a_lost_link_is_known_by_its_id() {
    let ProxiedVhost { url, proxied_url, proxy, .. } = ProxiedVhost::start("known_ids");
    let publisher = Publisher::connect(&url);
    publisher.declare_exchange(ExchangeKind::Topic, DURABLE);
    publisher.declare_queue("pushes");
    let mut broker = BrokerThread::start(&proxied_url, |config| {
        let kept = Namespace { history_size: 10, ..Namespace::default() };
        let slow = Namespace { max_delay: Interval::from_secs(3600), ..kept.clone() };
        config.namespaces = [("kept".to_owned(), kept), ("slow".to_owned(), slow)].into();
        by_queue(config);
        config.amqp.queue = "pushes".to_owned();
        config.amqp.queue_delay.0 = Duration::ZERO;
        // A consumer begins with few messages, as each may be large: with more than wait here.
        config.amqp.prefetch_bytes = 1 << 30;
    });
    broker.attach(0, "slow:1");
    broker.attach(1, "kept:1");
    let with_id = |id: &str| BasicProperties::default().with_message_id(id.into());
    publisher.publish("slow:1", b"1", with_id("a"));
    publisher.publish("slow:1", b"2", BasicProperties::default());
    publisher.publish("kept:1", b"1", with_id("b"));
    let line = |topic, n| {
        format!("{{\"push\":{{\"channel\":\"{topic}\",\"pub\":{{\"data\":{n},\"offset\":{n}}}}}}}\n")
    };
    assert_eq!(broker.lines_without_epoch(), (1, line("kept:1", 1)));
    wait_until(SOON, "three that are held", || broker.stats.unacknowledged.value() == 3);
    proxy.cut();
    assert_eq!(broker.lines_without_epoch(), (0, line("slow:1", 1) + &line("slow:1", 2)));
    publisher.publish("kept:1", b"2", with_id("c"));
    assert_eq!(broker.lines_without_epoch(), (1, line("kept:1", 2)), "this id is not known");
    wait_until(SOON, "the second delivery", || broker.stats.duplicates.value() == 2);
    wait_until(SOON, "what has no id", || broker.stats.publications.value() == 5);
    assert_eq!(broker.history("kept:1"), "1,2");
    assert_eq!(broker.history("slow:1"), "1,2,2", "what has no id comes twice");
    let shard = &broker.shard;
    hold_for(Duration::from_millis(100), "nothing twice", || shard.is_empty());
    broker.stop();
}

/// A publisher that saw no confirm sends again, with the same id.
#[test]
fn a_message_id_that_was_there_is_a_repetition() {
    let url = RabbitNode::shared().new_vhost("message_ids");
    let mut broker = BrokerThread::start(&url, |config| {
        by_queue(config);
        config.amqp.message_ids = 2;
    });
    broker.attach(0, "a");
    let publisher = Publisher::connect(&url);
    // A repetition is seen as well: an id is forgotten when it was not there for two messages.
    let messages = [("x", "1"), ("x", "2"), ("y", "3"), ("x", "4"), ("z", "5"), ("y", "6"), ("x", "7")];
    for (id, body) in messages {
        publisher.publish("a", body.as_bytes(), BasicProperties::default().with_message_id(id.into()));
    }
    let mut lines = String::new();
    while lines.lines().count() < 5 {
        lines += &broker.lines().1;
    }
    let data: Vec<_> = lines.lines().filter_map(|line| line.split("\"data\":").nth(1)).collect();
    assert_eq!(data, ["1}}}", "3}}}", "5}}}", "6}}}", "7}}}"]);
    wait_until(SOON, "everything to be acknowledged", || broker.stats.unacknowledged.value() == 0);
    assert_eq!(broker.stats.duplicates.value(), 2);
    broker.stop();
}

#[test]
fn a_rabbitmq_that_is_not_there_yet_is_waited_for() {
    let mut node = RabbitNode::start();
    node.stop();
    let hasty = |config: &mut Config| config.timeouts.publish = Interval::from_secs(1);
    let mut broker = BrokerThread::try_start(&node.amqp_url(), hasty).expect("it may come later");
    // Nobody took it within its time, and it is not published afterwards.
    assert_eq!(broker.publish(&["a"], b"1"), Err(ErrorCode::Internal));
    broker.attach(0, "a");
    node.start_again();
    broker.wait_until_ready();
    assert!(matches!(broker.mail(), Mail::Gap), "who was here before may have missed something");
    assert_eq!(broker.publish(&["a"], b"2"), Ok(()));
    broker.expect_line(0, "a", "2");
    broker.stop();
}

#[test]
fn a_blocked_rabbitmq_lets_publishes_fail_in_time_and_go_on_after() {
    let node = RabbitNode::start();
    let mut broker =
        BrokerThread::start(&node.amqp_url(), |config| config.timeouts.publish = Interval::from_millis(300));
    broker.attach(0, "a");
    node.ctl(&["set_vm_memory_high_watermark", "absolute", "1"]);
    wait_until(SOON, "the alarm", || broker.publish(&["b"], b"0") == Err(ErrorCode::Internal));
    assert_eq!(broker.publish(&["b"], b"0"), Err(ErrorCode::Internal));
    assert_eq!(broker.stats.rabbitmq_blocked.value(), 1);
    node.ctl(&["set_vm_memory_high_watermark", "0.4"]);
    wait_until(SOON, "the all-clear", || broker.publish(&["a"], b"1") == Ok(()));
    assert_eq!(broker.stats.rabbitmq_blocked.value(), 0);
    broker.expect_line(0, "a", "1");
    assert_eq!(broker.stats.connects.value(), 1, "a blocked connection is no lost one");
    broker.stop();
}
