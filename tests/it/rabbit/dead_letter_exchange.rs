//! Dead letters on their way to RabbitMQ: an exchange that is odd, deleted, or takes nothing.

use super::broker_thread::BrokerThread;
use super::by_queue;
use crate::support::publisher::{DURABLE, Publisher, headers};
use crate::support::rabbitmq::RabbitNode;
use crate::support::wait::{SOON, wait_until};
use fanfare::config::Interval;
use lapin::types::AMQPValue;
use lapin::{BasicProperties, ExchangeKind};

/// All headers have to fit into one of AMQP's frames, and a dead letter has some more than the message: one that is larger
/// ends the connection.
#[test]
fn a_dead_letter_whose_headers_do_not_fit_leaves_out_the_largest() {
    let url = RabbitNode::shared().new_vhost("large_headers");
    let publisher = Publisher::connect(&url);
    let broker = BrokerThread::start(&url, by_queue);
    let header = |name, bytes| headers(&[(name, AMQPValue::LongString("x".repeat(bytes).into()))]);
    publisher.publish("a", b"{1", header("x-topics", 100_000));
    let (body, _, topics) = publisher.dead_letter();
    assert_eq!((&body[..], &topics[..]), (&b"{1"[..], "a"), "those that fit");
    let bytes = [129_000, 129_600, 129_800, 130_000, 130_500, 130_950];
    let is_left_out = bytes.map(|bytes| {
        publisher.publish("a", b"{2", header("pad", bytes).with_message_id("id".into()));
        let headers = publisher.whole_dead_letter().delivery.properties.headers().clone().expect("headers");
        assert_ne!(headers.contains_key("pad"), headers.contains_key("x-fanfare-left-out"));
        !headers.contains_key("pad")
    });
    assert!(!is_left_out[0] && is_left_out[5] && is_left_out.is_sorted(), "{is_left_out:?}");
    assert_eq!(broker.stats.connects.value(), 1);
    broker.stop();
}

/// What is there under the names of the dead-letter exchange and queue is used, if dead letters get from one to the other.
#[test]
fn dead_letters_get_from_whatever_exchange_there_is_to_a_queue_or_are_counted_as_lost() {
    for (kind, name) in [(ExchangeKind::Topic, "dead_topic"), (ExchangeKind::Direct, "dead_direct")] {
        let url = RabbitNode::shared().new_vhost(name);
        let publisher = Publisher::connect(&url);
        publisher.declare_exchange(ExchangeKind::Topic, DURABLE);
        publisher.declare_exchange_named("fanfare.dead", kind.clone(), DURABLE);
        let classic = [("x-queue-type", AMQPValue::LongString("classic".into()))];
        publisher.declare_queue_with("fanfare.dead", &classic);
        publisher.publish("nobody", b"0", BasicProperties::default());
        assert_eq!(publisher.whole_dead_letter().delivery.data, b"0");
        publisher.unbind_queue("fanfare.dead");
        let broker = BrokerThread::start(&url, |config| {
            by_queue(config);
            config.timeouts.publish = Interval::from_millis(500);
        });
        let bodies = ["{1", "{2", "{3"];
        bodies.iter().for_each(|body| publisher.publish("a.b", body.as_bytes(), BasicProperties::default()));
        if kind == ExchangeKind::Topic {
            assert_eq!(
                bodies.map(|_| publisher.dead_letter().0),
                bodies.map(|body| body.as_bytes().to_vec())
            );
        } else {
            wait_until(SOON, "the losses", || broker.stats.dead_letters_unroutable.value() == 3);
            assert!(publisher.has_no_dead_letter());
        }
        wait_until(SOON, "everything to be acknowledged", || broker.stats.unacknowledged.value() == 0);
        assert_eq!((broker.stats.dead_letters_refused.value(), broker.stats.connects.value()), (0, 1));
        broker.stop();
    }
}

/// It costs the link nothing, and nothing is lost: exchange, queue and binding are made again.
#[test]
fn a_dead_letter_exchange_that_is_deleted_is_made_again() {
    let url = RabbitNode::shared().new_vhost("dead_deleted");
    let publisher = Publisher::connect(&url);
    let broker = BrokerThread::start(&url, by_queue);
    for queue_too in [false, true] {
        publisher.delete_exchange("fanfare.dead");
        if queue_too {
            publisher.delete_queue("fanfare.dead");
        }
        let bodies = ["{1", "{2", "{3"];
        bodies.iter().for_each(|body| publisher.publish("a.b", body.as_bytes(), BasicProperties::default()));
        let all = if queue_too { 6 } else { 3 };
        wait_until(SOON, "the dead letters", || broker.stats.dead_lettered.value() == all);
        wait_until(SOON, "everything to be acknowledged", || broker.stats.unacknowledged.value() == 0);
        assert_eq!(bodies.map(|_| publisher.dead_letter().0), bodies.map(|body| body.as_bytes().to_vec()));
        assert_eq!((broker.stats.dead_letters_refused.value(), broker.stats.connects.value()), (0, 1));
    }
    broker.stop();
}

/// Both are suspected when the channel is closed. RabbitMQ has taken the one, though it does not confirm it.
#[test]
fn a_dead_letter_that_is_not_confirmed_does_not_hide_the_one_that_is_refused_or_hold_up_others() {
    let node = RabbitNode::shared();
    let url = node.new_vhost("dead_stuck");
    let publisher = Publisher::connect(&url);
    publisher.declare_exchange(ExchangeKind::Topic, DURABLE);
    publisher.declare_exchange_named("fanfare.dead", ExchangeKind::Topic, DURABLE);
    for queue in ["fanfare.dead", "stuck"] {
        publisher.declare_queue_with(queue, &[("x-queue-type", AMQPValue::LongString("classic".into()))]);
        publisher.unbind_queue(queue);
    }
    publisher.bind_queue("stuck", "fanfare.dead", "stuck");
    let topics = "^(stuck|well)$";
    node.ctl(&["set_topic_permissions", "-p", "dead_stuck", "guest", "fanfare.dead", topics, ".*"]);
    let broker = BrokerThread::start(&url, |config| {
        by_queue(config);
        config.timeouts.publish = Interval::from_millis(120_000);
    });
    let tell_queue = |order: &str| {
        node.ctl(&[
            "eval",
            &format!(
                r#"{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"dead_stuck">>, queue, <<"stuck">>)),
                ok = sys:{order}(amqqueue:get_pid(Q))."#
            ),
        ])
    };
    tell_queue("suspend");
    for topic in ["stuck", "refused", "well"] {
        publisher.publish(topic, b"{", BasicProperties::default());
    }
    wait_until(SOON, "the refusal", || broker.stats.dead_letters_refused.value() == 1);
    wait_until(SOON, "the others", || publisher.dead_letter().2 == "well");
    assert_eq!(broker.stats.unacknowledged.value(), 3, "what is before others is acknowledged with them");
    tell_queue("resume");
    wait_until(SOON, "everything to be acknowledged", || broker.stats.unacknowledged.value() == 0);
    assert_eq!((broker.stats.dead_letters_refused.value(), broker.stats.connects.value()), (1, 1));
    broker.stop();
}

/// lapin goes on writing what is behind it when RabbitMQ has closed the channel, and RabbitMQ may end the connection for that.
#[test]
fn megabytes_behind_a_dead_letter_that_is_refused_do_not_hide_it() {
    let node = RabbitNode::shared();
    let url = node.new_vhost("dead_large");
    let publisher = Publisher::connect(&url);
    publisher.declare_exchange_named("fanfare.dead", ExchangeKind::Topic, DURABLE);
    node.ctl(&["set_topic_permissions", "-p", "dead_large", "guest", "fanfare.dead", "^well$", ".*"]);
    publisher.declare_exchange(ExchangeKind::Topic, DURABLE);
    publisher.declare_queue("pushed");
    let large = vec![b'{'; 1 << 20];
    for topic in ["well", "refused"].into_iter().chain([0; 39].map(|_| "well")) {
        publisher.publish(topic, &large, BasicProperties::default());
    }
    let broker = BrokerThread::start(&url, |config| {
        by_queue(config);
        config.amqp.queue = "pushed".to_owned();
    });
    wait_until(SOON * 2, "the refusal", || broker.stats.dead_letters_refused.value() == 1);
    wait_until(SOON * 2, "the others", || publisher.ready("fanfare.dead") >= 40);
    wait_until(SOON, "everything to be acknowledged", || broker.stats.unacknowledged.value() == 0);
    assert!(broker.stats.connects.value() <= 2, "{}", broker.stats.connects.value());
    broker.stop();
}

/// Both go over one connection, of which RabbitMQ reads nothing more while a channel has too many messages that their
/// queue does not take.
#[test]
fn a_dead_letter_queue_that_takes_nothing_does_not_keep_publishes_waiting() {
    let node = RabbitNode::shared();
    let url = node.new_vhost("dead_full");
    let publisher = Publisher::connect(&url);
    let mut broker = BrokerThread::start(&url, by_queue);
    broker.attach(0, "a");
    let leader = |order: &str| {
        let find =
            r#"{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"dead_full">>, queue, <<"fanfare.dead">>)),"#;
        node.ctl(&["eval", &format!("{find} {{Leader, _}} = amqqueue:get_pid(Q), ok = sys:{order}(Leader).")])
    };
    publisher.publish("a", b"{", BasicProperties::default());
    assert_eq!(publisher.dead_letter().0, b"{");
    leader("suspend");
    publisher.publish_all("a", (0..600).map(|n| (format!("{{{n}"), BasicProperties::default())));
    wait_until(SOON, "all to be dead letters", || broker.stats.dead_lettered.value() == 601);
    for n in 1..=3 {
        assert_eq!(broker.publish(&["a"], n.to_string().as_bytes()), Ok(()));
        broker.expect_line(0, "a", &n.to_string());
    }
    leader("resume");
    wait_until(SOON, "all to be kept", || publisher.ready("fanfare.dead") == 600);
    wait_until(SOON, "everything to be acknowledged", || broker.stats.unacknowledged.value() == 0);
    assert_eq!(broker.stats.connects.value(), 1);
    broker.stop();
}
