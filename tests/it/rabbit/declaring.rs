//! What RabbitMQ has or refuses when the broker thread declares what it needs.

use super::broker_thread::BrokerThread;
use super::by_queue;
use crate::support::publisher::{DURABLE, Publisher};
use crate::support::rabbitmq::RabbitNode;
use crate::support::wait::{SOON, wait_until};
use fanfare::broker::publish_once;
use fanfare::config::{Bindings, Config};
use fanfare::domain::mail::PublishFault;
use fanfare::domain::reasons::ErrorCode;
use lapin::options::ExchangeDeclareOptions;
use lapin::types::AMQPValue;
use lapin::{BasicProperties, ExchangeKind};

/// A URL, a configuration, and words of what is said about them.
type Refusal<'a> = (&'a str, &'a dyn Fn(&mut Config), &'a [&'a str]);

#[test]
fn what_rabbitmq_refuses_is_said_at_the_start() {
    let node = RabbitNode::shared();
    let url = node.new_vhost("refused");
    let publisher = Publisher::connect(&url);
    publisher.declare_exchange(ExchangeKind::Fanout, DURABLE);
    let named = |config: &mut Config| {
        by_queue(config);
        config.amqp.queue = "nowhere".to_owned();
    };
    let a_stream = |config: &mut Config| {
        by_queue(config);
        config.amqp.queue = "log".to_owned();
    };
    publisher.declare_queue_with("log", &[("x-queue-type", AMQPValue::LongString("stream".into()))]);
    let nothing = |_: &mut Config| {};
    let wrong_password = url.replace("guest:guest", "guest:hunter2");
    let no_vhost = url.replace("/refused", "/hunter");
    let no_tls = url.replace("amqp:", "amqps:");
    let cases: [Refusal<'_>; 7] = [
        (&wrong_password, &nothing, &["user name or password", "amqp.url"]),
        (&no_vhost, &nothing, &["vhost", "amqp.url"]),
        (&no_tls, &nothing, &["TLS", "amqp.url"]),
        (&url, &nothing, &["`fanfare`", "not of type topic", "amqp.exchange"]),
        (&url, &named, &["`nowhere`", "amqp.queue"]),
        (&url, &a_stream, &["`log`", "is a stream", "amqp.stream"]),
        ("amqp://guest:hunter2@127.0.0.1:x", &nothing, &["amqp.url"]),
    ];
    for (url, configure, words) in cases {
        let error = BrokerThread::try_start(url, configure).err().expect("a refusal").to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{words:?} are not all in: {error}");
        assert!(!error.contains("hunter2"), "a secret is told: {error}");
    }
}

#[test]
fn an_exchange_with_other_properties_is_used_as_it_is() {
    let url = RabbitNode::shared().new_vhost("other_properties");
    let publisher = Publisher::connect(&url);
    publisher.declare_exchange(ExchangeKind::Topic, ExchangeDeclareOptions { durable: false, ..DURABLE });
    let mut broker =
        BrokerThread::start(&url, |config| config.amqp.bindings = Bindings::from(&["a.*", "b"][..]));
    broker.attach(0, "a.1");
    broker.attach(1, "c");
    publisher.publish("c", b"0", BasicProperties::default());
    publisher.publish("a.1", b"1", BasicProperties::default());
    broker.expect_line(0, "a.1", "1");
    assert_eq!(broker.stats.publications.value(), 1);
    broker.stop();
}

/// RabbitMQ closes the channel by which it refuses something, and nothing else.
#[test]
fn a_missing_right_costs_what_it_is_missing_for_and_not_the_link() {
    let node = RabbitNode::shared();
    for (name, writable) in
        [("no_dead_letters", "^(fanfare|amq\\.default)$"), ("no_publishes", "^fanfare\\.dead$")]
    {
        let url = node.new_vhost(name);
        node.ctl(&["add_user", name, "secret"]);
        node.ctl(&["set_permissions", "-p", name, name, ".*", ".*", ".*"]);
        let publisher = Publisher::connect(&url);
        let mut broker =
            BrokerThread::start(&url.replace("guest:guest", &format!("{name}:secret")), by_queue);
        broker.attach(0, "a");
        node.ctl(&["set_permissions", "-p", name, name, ".*", writable, ".*"]);
        let waiting = [1, 2, 3].map(|n| broker.begin_to_publish(&["a"], n.to_string().as_bytes()));
        for n in 1..=3 {
            publisher.publish("a", format!("{{{n}").as_bytes(), BasicProperties::default());
        }
        let may_publish = name == "no_dead_letters";
        for answer in waiting {
            match answer.blocking_recv().expect("an answer") {
                Ok(_) => assert!(may_publish),
                Err(PublishFault { code, refusal }) => {
                    let text = refusal.expect("RabbitMQ's words, for operators");
                    assert!(!may_publish && code == ErrorCode::Internal && text.contains("ACCESS_REFUSED"));
                }
            }
        }
        if may_publish {
            wait_until(SOON, "the refusals", || broker.stats.dead_letters_refused.value() == 3);
            let line = |n| format!("{{\"push\":{{\"channel\":\"a\",\"pub\":{{\"data\":{n}}}}}}}\n");
            let expected: String = (1..=3).map(line).collect();
            let mut pushed = String::new();
            while pushed.len() < expected.len() {
                pushed += &broker.lines().1;
            }
            assert_eq!(pushed, expected);
        } else {
            (1..=3).for_each(|n| assert_eq!(publisher.dead_letter().0, format!("{{{n}").as_bytes()));
        }
        publisher.publish("a", b"4", BasicProperties::default());
        broker.expect_line(0, "a", "4");
        wait_until(SOON, "everything to be acknowledged", || broker.stats.unacknowledged.value() == 0);
        assert_eq!((broker.stats.connects.value(), broker.stats.gaps.value()), (1, 0));
        broker.stop();
    }
}

#[test]
fn one_message_can_be_published_without_an_engine() {
    let url = RabbitNode::shared().new_vhost("once");
    let publish = |exchange, url: &str| publish_once(&url.into(), exchange, "a", None, b"1", SOON);
    let error = publish("fanfare", &url).expect_err("there is no exchange").to_string();
    assert!(error.contains("no exchange 'fanfare'"), "{error}");
    let mut broker = BrokerThread::start(&url, |_| {});
    broker.attach(0, "a");
    publish("fanfare", &format!("amqp://127.0.0.1:1,{url}")).expect("the second node takes it");
    broker.expect_line(0, "a", "1");
    let error =
        publish("fanfare", &url.replace("guest:guest", "guest:hunter2")).expect_err("refused").to_string();
    assert!(error.contains("password") && !error.contains("hunter2"), "{error}");
    broker.stop();
}
