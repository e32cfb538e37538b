//! Messages that cannot be delivered become dead letters, with the reason and all that they had.

use std::time::Duration;

use super::broker_thread::BrokerThread;
use super::by_queue;
use crate::support::publisher::{DURABLE, Publisher, headers, list};
use crate::support::rabbitmq::RabbitNode;
use crate::support::wait::{SOON, hold_for, wait_until};
use fanfare::config::{Interval, Namespace, Source, UnknownNamespace};
use fanfare::domain::reasons::ErrorCode;
use lapin::types::AMQPValue;
use lapin::{BasicProperties, ExchangeKind};

#[test]
fn undeliverable_messages_are_kept_with_the_reason_and_acknowledged() {
    let url = RabbitNode::shared().new_vhost("dead_letters");
    let mut broker = BrokerThread::start(&url, |_| {});
    let publisher = Publisher::connect(&url);
    let ten_megabytes = [&b"\""[..], &vec![b'x'; 10 << 20], b"\""].concat();
    let plain = BasicProperties::default();
    let text = BasicProperties::default().with_content_type("text/plain".into());
    let binary = BasicProperties::default().with_content_type("application/octet-stream".into());
    let cases: [(&str, &[u8], BasicProperties, &str); 7] = [
        ("a", b"", plain.clone(), "empty"),
        ("a", b"{\"a\":", plain.clone(), "not JSON"),
        ("a", &ten_megabytes, plain.clone(), "10485762 bytes"),
        ("a", b"\xff", text, "UTF-8"),
        ("a", b"\x00", binary, "octet-stream"),
        ("a\nb", b"1", plain.clone(), "control character"),
        ("", b"1", plain, "name is empty"),
    ];
    for (topic, body, properties, word) in &cases {
        publisher.publish(topic, body, properties.clone());
        let (kept, reason, kept_topic) = publisher.dead_letter();
        assert!(kept == *body, "{word}: {} bytes were kept", kept.len());
        assert!(reason.contains(word), "{word} is not in: {reason}");
        assert_eq!(kept_topic, *topic);
    }
    broker.attach(0, "good");
    publisher.publish("good", b"1", headers(&[("x-topics", AMQPValue::LongString("bad\u{7}".into()))]));
    broker.expect_line(0, "good", "1");
    assert!(publisher.dead_letter().1.contains("control character"));
    wait_until(SOON, "everything to be acknowledged", || broker.stats.unacknowledged.value() == 0);
    assert_eq!(broker.stats.dead_lettered.value(), 8);
    broker.stop();
}

/// The same as for publishers elsewhere: such topics do not exist. What others send to them costs nothing.
#[test]
fn what_comes_for_namespaces_that_are_refused_is_unheard_and_no_dead_letter() {
    let url = RabbitNode::shared().new_vhost("unknown_namespaces");
    let mut broker = BrokerThread::start(&url, |config| {
        config.server.unknown_namespace = UnknownNamespace::Refuse;
        config.namespaces.insert("known".to_owned(), Namespace::default());
    });
    let publisher = Publisher::connect(&url);
    broker.attach(0, "known:a");
    broker.attach(1, "plain");
    publisher.publish("strange:a", b"1", BasicProperties::default());
    let both = AMQPValue::LongString("known:a\nstrange:b".into());
    publisher.publish("plain", b"2", headers(&[("x-topics", both)]));
    let mut slots = [broker.lines().0, broker.lines().0];
    slots.sort_unstable();
    assert_eq!(slots, [0, 1]);
    wait_until(SOON, "everything to be acknowledged", || broker.stats.unacknowledged.value() == 0);
    assert_eq!((broker.stats.publications.value(), broker.stats.unheard.value()), (4, 2));
    assert_eq!(broker.stats.dead_lettered.value(), 0);
    broker.stop();
}

/// With a cluster's node that holds a classic queue, the queue would be away.
#[test]
fn dead_letters_are_kept_in_a_quorum_queue_beside_any_source() {
    let node = RabbitNode::shared();
    for (vhost, source, queue) in [
        ("quorum_stream", Source::Stream, ""),
        ("quorum_own", Source::Queue, ""),
        ("quorum_named", Source::Queue, "orders"),
    ] {
        let url = node.new_vhost(vhost);
        if !queue.is_empty() {
            let publisher = Publisher::connect(&url);
            publisher.declare_exchange(ExchangeKind::Topic, DURABLE);
            publisher.declare_queue(queue);
        }
        let broker = BrokerThread::start(&url, |config| {
            config.amqp.source = source;
            config.amqp.queue = queue.to_owned();
        });
        let queues = node.ctl(&["list_queues", "-p", vhost, "name", "type"]);
        assert!(queues.lines().any(|line| line == "fanfare.dead\tquorum"), "{vhost}: {queues}");
        broker.stop();
    }
}

/// What RabbitMQ would act on moves; everything else is there under its name, so that it can be mended and sent again.
#[test]
fn a_dead_letter_has_all_that_its_message_had() {
    for (source, name) in [(Source::Queue, "whole_queue"), (Source::Stream, "whole_stream")] {
        let url = RabbitNode::shared().new_vhost(name);
        let broker = BrokerThread::start(&url, |config| config.amqp.source = source);
        let publisher = Publisher::connect(&url);
        let text = |text: &str| AMQPValue::LongString(text.into());
        let theirs = [("x-key", text("k")), ("tenant", text("t")), ("CC", list(&["copy"]))];
        let sent = headers(&theirs)
            .with_content_type("application/json".into())
            .with_content_encoding("identity".into())
            .with_priority(3)
            .with_correlation_id("correlation".into())
            .with_reply_to("replies".into())
            .with_message_id("id".into())
            .with_timestamp(99)
            .with_type("order.created".into())
            .with_app_id("shop".into())
            .with_expiration("60000".into())
            .with_user_id("guest".into());
        publisher.publish("a", b"{", sent.clone());
        let kept = publisher.whole_dead_letter().delivery.properties;
        let properties = |of: &BasicProperties| {
            let texts = [of.content_type(), of.content_encoding(), of.correlation_id(), of.reply_to()];
            let more = [of.message_id(), of.kind(), of.app_id()];
            (texts.map(Clone::clone), more.map(Clone::clone), *of.priority(), *of.timestamp())
        };
        assert_eq!(properties(&kept), properties(&sent));
        assert_eq!((kept.expiration(), kept.user_id()), (&None, &None));
        let headers = kept.headers().clone().expect("headers");
        let expected = [("x-key", "k"), ("tenant", "t"), ("x-fanfare-expiration", "60000")];
        for (name, value) in expected.into_iter().chain([("x-fanfare-user-id", "guest")]) {
            assert_eq!(headers.inner().get(name), Some(&text(value)), "{name}");
        }
        assert!(!headers.contains_key("CC") && !headers.contains_key("x-stream-offset"));
        let is_stream = source == Source::Stream;
        assert_eq!(headers.contains_key("x-fanfare-stream-offset"), is_stream);
        assert!(is_stream || headers.inner()["x-fanfare-cc"] == list(&["copy"]));
        broker.stop();
    }
}

/// They are not held meanwhile, so that others can come, and are nowhere else; but no more are taken than fit.
#[test]
fn undeliverable_messages_outlive_an_alarm_that_is_longer_than_publishes_wait() {
    let node = RabbitNode::start();
    let url = node.amqp_url();
    let publisher = Publisher::connect(&url);
    publisher.declare_exchange(ExchangeKind::Topic, DURABLE);
    publisher.declare_queue("pushes");
    let bodies = ["{1", "{2", "{3", "{4", "{5"];
    bodies.iter().for_each(|body| publisher.publish("a", body.as_bytes(), BasicProperties::default()));
    node.ctl(&["set_vm_memory_high_watermark", "absolute", "1"]);
    let alarms = || node.ctl(&["eval", "rabbit_alarm:get_alarms()."]);
    wait_until(SOON, "the alarm", || alarms().contains("memory"));
    let broker = BrokerThread::start(&url, |config| {
        by_queue(config);
        config.amqp.queue = "pushes".to_owned();
        config.amqp.queue_delay.0 = Duration::from_secs(1);
        config.amqp.prefetch = 2;
        config.timeouts.publish = Interval::from_millis(300);
    });
    // By the first publish RabbitMQ blocks the connection: dead letters do not even leave.
    assert_eq!(broker.publish(&["b"], b"0"), Err(ErrorCode::Internal));
    wait_until(SOON, "the dead letters", || broker.stats.dead_lettered.value() == 2);
    wait_until(SOON, "both to be acknowledged", || broker.stats.unacknowledged.value() == 0);
    hold_for(Duration::from_millis(500), "no more", || broker.stats.dead_lettered.value() == 2);
    assert!(publisher.has_no_dead_letter());
    node.ctl(&["set_vm_memory_high_watermark", "0.4"]);
    assert_eq!(bodies.map(|_| publisher.dead_letter().0), bodies.map(|body| body.as_bytes().to_vec()));
    assert_eq!(broker.stats.connects.value(), 1);
    broker.stop();
}
