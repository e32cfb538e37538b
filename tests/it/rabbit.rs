//! The broker thread against a RabbitMQ of its own: fake shards at one end, a real AMQP publisher at the
//! other.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::proxy::Proxy;
use crate::support::publisher::{DURABLE, Publisher, headers, list};
use crate::support::rabbitmq::RabbitNode;
use crate::support::wait::{SOON, hold_for, wait_for, wait_until};
use fanfare::base::mailbox::{Receiver, Sender, Wake, mailbox};
use fanfare::broker::{self, Setup, StartError, publish_once};
use fanfare::config::{Bindings, Config, Interval, Namespace, Source, UnknownNamespace};
use fanfare::domain::mail::{
    Asker, Encoding, History, HistoryAsker, Lane, Mail, Numbered, Publish, PublishFault, Request, TopicName,
    TopicSlot, Variant,
};
use fanfare::domain::namespaces::Namespaces;
use fanfare::domain::reasons::ErrorCode;
use fanfare::stats::{BackplaneState, BrokerStats};
use lapin::options::ExchangeDeclareOptions;
use lapin::types::AMQPValue;
use lapin::{BasicProperties, ExchangeKind};
use tokio::sync::oneshot;

struct Nobody;
impl Wake for Nobody {
    fn wake(&self) {}
}

/// A broker thread with one fake shard.
struct House {
    requests: Sender<Request>,
    shard: Receiver<Mail>,
    stats: Arc<BrokerStats>,
    thread: JoinHandle<()>,
}

impl House {
    fn try_start(url: &str, configure: impl FnOnce(&mut Config)) -> Result<Self, StartError> {
        let mut config = Config::default();
        config.amqp.url = url.into();
        config.amqp.reconnect_max = Interval::from_millis(500);
        configure(&mut config);
        let (doors, inlet) = broker::inlet(&config.limits, 1);
        let requests = doors.operators;
        let (sender, shard) = mailbox(config.limits.mailbox, Box::new(Nobody));
        let stats = Arc::new(BrokerStats::default());
        let namespaces = Arc::new(Namespaces::new(&config));
        let shards = vec![sender];
        let setup = Setup {
            config: Arc::new(config),
            namespaces,
            requests: inlet,
            shards,
            receipts: Vec::new(),
            stats: Arc::clone(&stats),
        };
        let (started, has_started) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let event_loop = broker::EventLoop::new().expect("an event loop");
            broker::run(&event_loop, setup, |outcome| started.send(outcome).expect("waited for"));
        });
        has_started.recv_timeout(SOON).expect("the broker thread to start")?;
        Ok(Self { requests, shard, stats, thread })
    }

    #[track_caller]
    fn start(url: &str, configure: impl FnOnce(&mut Config)) -> Self {
        let house = Self::try_start(url, configure).expect("RabbitMQ takes us");
        house.wait_until_ready();
        house
    }

    #[track_caller]
    fn wait_until_ready(&self) {
        let ready = BackplaneState::Ready as u64;
        wait_until(SOON, "a link", || self.stats.backplane.value() == ready);
    }

    #[track_caller]
    fn mail(&mut self) -> Mail {
        let shard = &mut self.shard;
        wait_for(SOON, "mail", || shard.take())
    }

    #[track_caller]
    fn attach(&mut self, slot: u32, name: &str) {
        self.requests
            .send(Request::Attach {
                shard: 0,
                topic: TopicSlot(slot),
                variant: Variant { encoding: Encoding::Json, lane: Lane::FIRST },
                name: name.into(),
            })
            .expect("room");
        let mail = self.mail();
        assert!(matches!(mail, Mail::Attached { topic, .. } if topic.0 == slot), "{mail:?}");
    }

    fn publish(&self, topics: &[&str], data: &[u8]) -> Result<(), ErrorCode> {
        self.begin_to_publish(topics, data)
            .blocking_recv()
            .expect("an answer")
            .map(drop)
            .map_err(|fault| fault.code)
    }

    fn begin_to_publish(
        &self,
        topics: &[&str],
        data: &[u8],
    ) -> oneshot::Receiver<Result<Numbered, PublishFault>> {
        let (asker, answer) = oneshot::channel();
        let topics = topics.iter().map(|&topic| TopicName::from(topic)).collect();
        let publish =
            Publish { asker: Asker::Control(asker), topics, data: data.into(), id: None, key: None };
        self.requests.send(Request::Publish(publish)).expect("room");
        answer
    }

    /// The next lines of whatever topic.
    #[track_caller]
    fn lines(&mut self) -> (u32, String) {
        let mail = self.mail();
        let Mail::Batch { topic, lines } = mail else { panic!("no batch: {mail:?}") };
        (topic.0, String::from_utf8(lines.bytes.to_vec()).expect("text"))
    }

    /// The same without the epoch, which a stream's first publication carries.
    #[track_caller]
    fn lines_without_epoch(&mut self) -> (u32, String) {
        let (slot, lines) = self.lines();
        let mut parts = lines.split(r#","epoch":""#);
        let first = parts.next().unwrap_or_default().to_owned();
        let rest = parts.map(|part| part.split_once('"').expect("the epoch's end").1);
        (slot, rest.fold(first, |lines, rest| lines + rest))
    }

    #[track_caller]
    fn expect_line(&mut self, slot: u32, topic: &str, data: &str) {
        let line = format!("{{\"push\":{{\"channel\":\"{topic}\",\"pub\":{{\"data\":{data}}}}}}}\n");
        assert_eq!(self.lines(), (slot, line));
    }

    /// The data of what is kept of a topic, with commas between.
    #[track_caller]
    fn history(&self, topic: &str) -> String {
        let (asker, answer) = oneshot::channel();
        let asker = HistoryAsker::Control(asker);
        let question = History { asker, topic: topic.into(), limit: None, since: None, reverse: false };
        self.requests.send(Request::History(Box::new(question))).expect("room");
        let page = answer.blocking_recv().expect("an answer").expect("a topic with history");
        let page = String::from_utf8(page.publications).expect("text");
        let data = page.split("\"data\":").skip(1).map(|rest| &rest[..rest.find([',', '}']).expect("JSON")]);
        data.collect::<Vec<_>>().join(",")
    }

    #[track_caller]
    fn stop(mut self) {
        self.requests.send(Request::Stop).expect("room");
        while !matches!(self.mail(), Mail::Drain) {}
        self.requests.send(Request::Drained { shard: 0 }).expect("room");
        self.thread.join().expect("a good end");
    }
}

/// For what is about queues; the rest is about the default, a stream.
fn by_queue(config: &mut Config) {
    config.amqp.source = Source::Queue;
}

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
    let mut house = House::start(&url, |config| config.amqp.source = source);
    house.attach(1, "a");
    house.attach(2, "b");
    assert_eq!(house.publish(&["a"], b"1e400"), Ok(()));
    house.expect_line(1, "a", "1e400");
    assert_eq!(house.publish(&["a", "b", "c"], b"2"), Ok(()));
    let mut both = [house.lines(), house.lines()];
    both.sort();
    assert_eq!(both.map(|(slot, _)| slot), [1, 2]);
    // Another's message with more topics, a topic named twice, and headers of types that mean nothing.
    let publisher = Publisher::connect(&url);
    let odd = [copies, ("x-key", AMQPValue::Boolean(true)), ("x-timestamp-us", AMQPValue::Float(1.5))];
    publisher.publish("a", b"{\n}", headers(&odd));
    let mut both = [house.lines(), house.lines()];
    both.sort();
    assert_eq!(both[0].1, "{\"push\":{\"channel\":\"a\",\"pub\":{\"data\":{ }}}}\n");
    assert_eq!(both[1].0, 2);
    let (buckets, beyond, _) = house.stats.handover.read();
    let timed: u64 = buckets.iter().map(|(_, count)| count).sum();
    assert_eq!(timed + beyond, 3, "our own publishes carry the time");
    wait_until(SOON, "everything to be acknowledged", || house.stats.unacknowledged.value() == 0);
    assert_eq!(house.stats.dead_lettered.value(), 0);
    house.stop();
}

/// A list where RabbitMQ keeps one; and what is neither text nor a list is told, to somebody who can mend it.
#[test]
fn further_topics_may_be_a_list_and_what_is_neither_is_told() {
    let url = RabbitNode::shared().new_vhost("topics_list");
    let mut house = House::start(&url, by_queue);
    (0..).zip(["a", "b"]).for_each(|(slot, topic)| house.attach(slot, topic));
    let publisher = Publisher::connect(&url);
    publisher.publish("a", b"1", headers(&[("x-topics", list(&["b", "a"]))]));
    house.expect_line(0, "a", "1");
    house.expect_line(1, "b", "1");
    publisher.publish("a", b"2", headers(&[("x-topics", AMQPValue::LongInt(7))]));
    house.expect_line(0, "a", "2");
    let (_, reason, topics) = publisher.dead_letter();
    assert!(reason.contains("x-topics") && reason.contains("LongInt") && topics == "a", "{topics}: {reason}");
    wait_until(SOON, "everything to be acknowledged", || house.stats.unacknowledged.value() == 0);
    house.stop();
}

#[test]
fn undeliverable_messages_are_kept_with_the_reason_and_acknowledged() {
    let url = RabbitNode::shared().new_vhost("dead_letters");
    let mut house = House::start(&url, |_| {});
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
    house.attach(0, "good");
    publisher.publish("good", b"1", headers(&[("x-topics", AMQPValue::LongString("bad\u{7}".into()))]));
    house.expect_line(0, "good", "1");
    assert!(publisher.dead_letter().1.contains("control character"));
    wait_until(SOON, "everything to be acknowledged", || house.stats.unacknowledged.value() == 0);
    assert_eq!(house.stats.dead_lettered.value(), 8);
    house.stop();
}

/// The same as for publishers elsewhere: such topics do not exist. What others send to them costs nothing.
#[test]
fn what_comes_for_namespaces_that_are_refused_is_unheard_and_no_dead_letter() {
    let url = RabbitNode::shared().new_vhost("unknown_namespaces");
    let mut house = House::start(&url, |config| {
        config.server.unknown_namespace = UnknownNamespace::Refuse;
        config.namespaces.insert("known".to_owned(), Namespace::default());
    });
    let publisher = Publisher::connect(&url);
    house.attach(0, "known:a");
    house.attach(1, "plain");
    publisher.publish("strange:a", b"1", BasicProperties::default());
    let both = AMQPValue::LongString("known:a\nstrange:b".into());
    publisher.publish("plain", b"2", headers(&[("x-topics", both)]));
    let mut slots = [house.lines().0, house.lines().0];
    slots.sort_unstable();
    assert_eq!(slots, [0, 1]);
    wait_until(SOON, "everything to be acknowledged", || house.stats.unacknowledged.value() == 0);
    assert_eq!((house.stats.publications.value(), house.stats.unheard.value()), (4, 2));
    assert_eq!(house.stats.dead_lettered.value(), 0);
    house.stop();
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
        let house = House::start(&url, |config| {
            config.amqp.source = source;
            config.amqp.queue = queue.to_owned();
        });
        let queues = node.ctl(&["list_queues", "-p", vhost, "name", "type"]);
        assert!(queues.lines().any(|line| line == "fanfare.dead\tquorum"), "{vhost}: {queues}");
        house.stop();
    }
}

/// What RabbitMQ would act on moves; everything else is there under its name, so that it can be mended and sent again.
#[test]
fn a_dead_letter_has_all_that_its_message_had() {
    for (source, name) in [(Source::Queue, "whole_queue"), (Source::Stream, "whole_stream")] {
        let url = RabbitNode::shared().new_vhost(name);
        let house = House::start(&url, |config| config.amqp.source = source);
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
        house.stop();
    }
}

#[test]
fn a_node_that_stops_costs_a_gap_and_publishes_wait_for_it_in_their_order() {
    let mut node = RabbitNode::start();
    let url = node.amqp_url();
    let mut house = House::start(&url, |config| {
        by_queue(config);
        config.timeouts.publish = Interval::from_secs(90);
    });
    house.attach(0, "a");
    assert_eq!(house.publish(&["a"], b"1"), Ok(()));
    house.expect_line(0, "a", "1");
    node.stop();
    wait_until(SOON, "the loss to be seen", || house.stats.backplane.value() == BackplaneState::Away as u64);
    let answers = [2, 3, 4].map(|n: u8| house.begin_to_publish(&["a"], n.to_string().as_bytes()));
    // Requests go on.
    house.attach(1, "b");
    node.start_again();
    assert!(matches!(house.mail(), Mail::Gap));
    let mut lines = String::new();
    while lines.lines().count() < 3 {
        lines += &house.lines().1;
    }
    let data: Vec<_> = lines.lines().filter_map(|line| line.split("\"data\":").nth(1)).collect();
    assert_eq!(data, ["2}}}", "3}}}", "4}}}"]);
    assert!(answers.into_iter().all(|answer| answer.blocking_recv() == Ok(Ok(Numbered::new()))));
    assert_eq!((house.stats.gaps.value(), house.stats.connects.value()), (1, 2));
    house.stop();
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
    let mut house = House::start(&url, slowly);
    house.attach(0, "slow:1");
    for n in 1..=3 {
        let id = format!("id {n}").as_str().into();
        publisher.publish("slow:1", n.to_string().as_bytes(), persistent().with_message_id(id));
    }
    wait_until(SOON, "three that wait", || house.stats.unacknowledged.value() == 3);
    node.kill();
    let (_, lines) = house.lines();
    let data: Vec<_> = lines.lines().filter_map(|line| line.split("\"data\":").nth(1)).collect();
    assert_eq!(data, ["1}}}", "2}}}", "3}}}"], "nothing more comes to be merged with");
    node.start_again();
    house.wait_until_ready();
    wait_until(SOON, "the second delivery", || house.stats.duplicates.value() == 3);
    assert_eq!(house.stats.publications.value(), 4, "one before, and three once");
    wait_until(SOON, "everything to be acknowledged", || house.stats.unacknowledged.value() == 0);
    let shard = &house.shard;
    hold_for(Duration::from_millis(100), "no gap and nothing twice", || shard.is_empty());
    house.stop();
}

/// Whether it waited to be merged or was out already: what has an id is pushed once and is in the history once. What
/// waited and has none cannot be known.
#[test]
fn what_comes_again_after_a_lost_link_is_known_by_its_id() {
    let node = RabbitNode::shared();
    let url = node.new_vhost("known_ids");
    let proxy = Proxy::to(node.port());
    let publisher = Publisher::connect(&url);
    publisher.declare_exchange(ExchangeKind::Topic, DURABLE);
    publisher.declare_queue("pushes");
    let mut house = House::start(&proxy.instead_of(node.port(), &url), |config| {
        let kept = Namespace { history_size: 10, ..Namespace::default() };
        let slow = Namespace { max_delay: Interval::from_secs(3600), ..kept.clone() };
        config.namespaces = [("kept".to_owned(), kept), ("slow".to_owned(), slow)].into();
        by_queue(config);
        config.amqp.queue = "pushes".to_owned();
        config.amqp.queue_delay.0 = Duration::ZERO;
        // A consumer begins with few messages, as each may be large: with more than wait here.
        config.amqp.prefetch_bytes = 1 << 30;
    });
    house.attach(0, "slow:1");
    house.attach(1, "kept:1");
    let with_id = |id: &str| BasicProperties::default().with_message_id(id.into());
    publisher.publish("slow:1", b"1", with_id("a"));
    publisher.publish("slow:1", b"2", BasicProperties::default());
    publisher.publish("kept:1", b"1", with_id("b"));
    let line = |topic, n| {
        format!("{{\"push\":{{\"channel\":\"{topic}\",\"pub\":{{\"data\":{n},\"offset\":{n}}}}}}}\n")
    };
    assert_eq!(house.lines_without_epoch(), (1, line("kept:1", 1)));
    wait_until(SOON, "three that are held", || house.stats.unacknowledged.value() == 3);
    proxy.cut();
    assert_eq!(house.lines_without_epoch(), (0, line("slow:1", 1) + &line("slow:1", 2)));
    publisher.publish("kept:1", b"2", with_id("c"));
    assert_eq!(house.lines_without_epoch(), (1, line("kept:1", 2)), "this id is not known");
    wait_until(SOON, "the second delivery", || house.stats.duplicates.value() == 2);
    wait_until(SOON, "what has no id", || house.stats.publications.value() == 5);
    assert_eq!(house.history("kept:1"), "1,2");
    assert_eq!(house.history("slow:1"), "1,2,2", "what has no id comes twice");
    let shard = &house.shard;
    hold_for(Duration::from_millis(100), "nothing twice", || shard.is_empty());
    house.stop();
}

/// A publisher that saw no confirm sends again, with the same id.
#[test]
fn a_message_id_that_was_there_is_a_repetition() {
    let url = RabbitNode::shared().new_vhost("message_ids");
    let mut house = House::start(&url, |config| {
        by_queue(config);
        config.amqp.message_ids = 2;
    });
    house.attach(0, "a");
    let publisher = Publisher::connect(&url);
    // A repetition is seen as well: an id is forgotten when it was not there for two messages.
    let messages = [("x", "1"), ("x", "2"), ("y", "3"), ("x", "4"), ("z", "5"), ("y", "6"), ("x", "7")];
    for (id, body) in messages {
        publisher.publish("a", body.as_bytes(), BasicProperties::default().with_message_id(id.into()));
    }
    let mut lines = String::new();
    while lines.lines().count() < 5 {
        lines += &house.lines().1;
    }
    let data: Vec<_> = lines.lines().filter_map(|line| line.split("\"data\":").nth(1)).collect();
    assert_eq!(data, ["1}}}", "3}}}", "5}}}", "6}}}", "7}}}"]);
    wait_until(SOON, "everything to be acknowledged", || house.stats.unacknowledged.value() == 0);
    assert_eq!(house.stats.duplicates.value(), 2);
    house.stop();
}

#[test]
fn more_than_prefetch_arrives_in_order_while_a_namespace_waits() {
    let url = RabbitNode::shared().new_vhost("prefetch");
    let mut house = House::start(&url, |config| {
        config.amqp.prefetch = 8;
        let slow = Namespace { max_delay: Interval::from_secs(3600), ..Namespace::default() };
        config.namespaces = [("slow".to_owned(), slow)].into();
    });
    house.attach(0, "slow:1");
    let publisher = Publisher::connect(&url);
    most_of_sixty_come_in_order(&mut house, &publisher);
    house.stop();
}

/// After a large message RabbitMQ sends few ahead. They must not wait for what can only come when they are acknowledged.
#[test]
fn few_that_are_sent_ahead_after_a_large_one_do_not_wait_out_the_delay() {
    let url = RabbitNode::shared().new_vhost("few_ahead");
    let mut house = House::start(&url, |config| {
        by_queue(config);
        let slow = Namespace { max_delay: Interval::from_secs(3600), ..Namespace::default() };
        config.namespaces = [("slow".to_owned(), slow)].into();
    });
    house.attach(0, "slow:1");
    let publisher = Publisher::connect(&url);
    publisher.publish("slow:1", &vec![b'x'; 15 << 20], BasicProperties::default());
    wait_until(SOON, "the large one", || house.stats.dead_lettered.value() == 1);
    most_of_sixty_come_in_order(&mut house, &publisher);
    house.stop();
}

/// In a topic that would wait for an hour, all but those of the last prefetch come at once.
#[track_caller]
fn most_of_sixty_come_in_order(house: &mut House, publisher: &Publisher) {
    for n in 0..60 {
        publisher.publish("slow:1", n.to_string().as_bytes(), BasicProperties::default());
    }
    let mut got = String::new();
    while got.lines().count() < 54 {
        got.push_str(&house.lines().1);
    }
    for (n, line) in got.lines().enumerate() {
        assert!(line.contains(&format!("\"data\":{n}}}")), "{n}: {line}");
    }
}

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
        let error = House::try_start(url, configure).err().expect("a refusal").to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{words:?} are not all in: {error}");
        assert!(!error.contains("hunter2"), "a secret is told: {error}");
    }
}

#[test]
fn an_exchange_with_other_properties_is_used_as_it_is() {
    let url = RabbitNode::shared().new_vhost("other_properties");
    let publisher = Publisher::connect(&url);
    publisher.declare_exchange(ExchangeKind::Topic, ExchangeDeclareOptions { durable: false, ..DURABLE });
    let mut house = House::start(&url, |config| config.amqp.bindings = Bindings::from(&["a.*", "b"][..]));
    house.attach(0, "a.1");
    house.attach(1, "c");
    publisher.publish("c", b"0", BasicProperties::default());
    publisher.publish("a.1", b"1", BasicProperties::default());
    house.expect_line(0, "a.1", "1");
    assert_eq!(house.stats.publications.value(), 1);
    house.stop();
}

#[test]
fn a_rabbitmq_that_is_not_there_yet_is_waited_for() {
    let mut node = RabbitNode::start();
    node.stop();
    let hasty = |config: &mut Config| config.timeouts.publish = Interval::from_secs(1);
    let mut house = House::try_start(&node.amqp_url(), hasty).expect("it may come later");
    // Nobody took it within its time, and it is not published afterwards.
    assert_eq!(house.publish(&["a"], b"1"), Err(ErrorCode::Internal));
    house.attach(0, "a");
    node.start_again();
    house.wait_until_ready();
    assert!(matches!(house.mail(), Mail::Gap), "who was here before may have missed something");
    assert_eq!(house.publish(&["a"], b"2"), Ok(()));
    house.expect_line(0, "a", "2");
    house.stop();
}

#[test]
fn a_blocked_rabbitmq_lets_publishes_fail_in_time_and_go_on_after() {
    let node = RabbitNode::start();
    let mut house =
        House::start(&node.amqp_url(), |config| config.timeouts.publish = Interval::from_millis(300));
    house.attach(0, "a");
    node.ctl(&["set_vm_memory_high_watermark", "absolute", "1"]);
    wait_until(SOON, "the alarm", || house.publish(&["b"], b"0") == Err(ErrorCode::Internal));
    assert_eq!(house.publish(&["b"], b"0"), Err(ErrorCode::Internal));
    assert_eq!(house.stats.rabbitmq_blocked.value(), 1);
    node.ctl(&["set_vm_memory_high_watermark", "0.4"]);
    wait_until(SOON, "the all-clear", || house.publish(&["a"], b"1") == Ok(()));
    assert_eq!(house.stats.rabbitmq_blocked.value(), 0);
    house.expect_line(0, "a", "1");
    assert_eq!(house.stats.connects.value(), 1, "a blocked connection is no lost one");
    house.stop();
}

/// All headers have to fit into one of AMQP's frames, and a dead letter has some more than the message: one that is larger
/// ends the connection.
#[test]
fn a_dead_letter_whose_headers_do_not_fit_leaves_out_the_largest() {
    let url = RabbitNode::shared().new_vhost("large_headers");
    let publisher = Publisher::connect(&url);
    let house = House::start(&url, by_queue);
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
    assert_eq!(house.stats.connects.value(), 1);
    house.stop();
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
        let house = House::start(&url, |config| {
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
            wait_until(SOON, "the losses", || house.stats.dead_letters_unroutable.value() == 3);
            assert!(publisher.has_no_dead_letter());
        }
        wait_until(SOON, "everything to be acknowledged", || house.stats.unacknowledged.value() == 0);
        assert_eq!((house.stats.dead_letters_refused.value(), house.stats.connects.value()), (0, 1));
        house.stop();
    }
}

/// It costs the link nothing, and nothing is lost: exchange, queue and binding are made again.
#[test]
fn a_dead_letter_exchange_that_is_deleted_is_made_again() {
    let url = RabbitNode::shared().new_vhost("dead_deleted");
    let publisher = Publisher::connect(&url);
    let house = House::start(&url, by_queue);
    for queue_too in [false, true] {
        publisher.delete_exchange("fanfare.dead");
        if queue_too {
            publisher.delete_queue("fanfare.dead");
        }
        let bodies = ["{1", "{2", "{3"];
        bodies.iter().for_each(|body| publisher.publish("a.b", body.as_bytes(), BasicProperties::default()));
        let all = if queue_too { 6 } else { 3 };
        wait_until(SOON, "the dead letters", || house.stats.dead_lettered.value() == all);
        wait_until(SOON, "everything to be acknowledged", || house.stats.unacknowledged.value() == 0);
        assert_eq!(bodies.map(|_| publisher.dead_letter().0), bodies.map(|body| body.as_bytes().to_vec()));
        assert_eq!((house.stats.dead_letters_refused.value(), house.stats.connects.value()), (0, 1));
    }
    house.stop();
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
    let house = House::start(&url, |config| {
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
    wait_until(SOON, "the refusal", || house.stats.dead_letters_refused.value() == 1);
    wait_until(SOON, "the others", || publisher.dead_letter().2 == "well");
    assert_eq!(house.stats.unacknowledged.value(), 3, "what is before others is acknowledged with them");
    tell_queue("resume");
    wait_until(SOON, "everything to be acknowledged", || house.stats.unacknowledged.value() == 0);
    assert_eq!((house.stats.dead_letters_refused.value(), house.stats.connects.value()), (1, 1));
    house.stop();
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
    let house = House::start(&url, |config| {
        by_queue(config);
        config.amqp.queue = "pushed".to_owned();
    });
    wait_until(SOON * 2, "the refusal", || house.stats.dead_letters_refused.value() == 1);
    wait_until(SOON * 2, "the others", || publisher.ready("fanfare.dead") >= 40);
    wait_until(SOON, "everything to be acknowledged", || house.stats.unacknowledged.value() == 0);
    assert!(house.stats.connects.value() <= 2, "{}", house.stats.connects.value());
    house.stop();
}

/// Both go over one connection, of which RabbitMQ reads nothing more while a channel has too many messages that their
/// queue does not take.
#[test]
fn a_dead_letter_queue_that_takes_nothing_does_not_keep_publishes_waiting() {
    let node = RabbitNode::shared();
    let url = node.new_vhost("dead_full");
    let publisher = Publisher::connect(&url);
    let mut house = House::start(&url, by_queue);
    house.attach(0, "a");
    let leader = |order: &str| {
        let find =
            r#"{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"dead_full">>, queue, <<"fanfare.dead">>)),"#;
        node.ctl(&["eval", &format!("{find} {{Leader, _}} = amqqueue:get_pid(Q), ok = sys:{order}(Leader).")])
    };
    publisher.publish("a", b"{", BasicProperties::default());
    assert_eq!(publisher.dead_letter().0, b"{");
    leader("suspend");
    publisher.publish_all("a", (0..600).map(|n| (format!("{{{n}"), BasicProperties::default())));
    wait_until(SOON, "all to be dead letters", || house.stats.dead_lettered.value() == 601);
    for n in 1..=3 {
        assert_eq!(house.publish(&["a"], n.to_string().as_bytes()), Ok(()));
        house.expect_line(0, "a", &n.to_string());
    }
    leader("resume");
    wait_until(SOON, "all to be kept", || publisher.ready("fanfare.dead") == 600);
    wait_until(SOON, "everything to be acknowledged", || house.stats.unacknowledged.value() == 0);
    assert_eq!(house.stats.connects.value(), 1);
    house.stop();
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
        let mut house = House::start(&url.replace("guest:guest", &format!("{name}:secret")), by_queue);
        house.attach(0, "a");
        node.ctl(&["set_permissions", "-p", name, name, ".*", writable, ".*"]);
        let waiting = [1, 2, 3].map(|n| house.begin_to_publish(&["a"], n.to_string().as_bytes()));
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
            wait_until(SOON, "the refusals", || house.stats.dead_letters_refused.value() == 3);
            let line = |n| format!("{{\"push\":{{\"channel\":\"a\",\"pub\":{{\"data\":{n}}}}}}}\n");
            let expected: String = (1..=3).map(line).collect();
            let mut pushed = String::new();
            while pushed.len() < expected.len() {
                pushed += &house.lines().1;
            }
            assert_eq!(pushed, expected);
        } else {
            (1..=3).for_each(|n| assert_eq!(publisher.dead_letter().0, format!("{{{n}").as_bytes()));
        }
        publisher.publish("a", b"4", BasicProperties::default());
        house.expect_line(0, "a", "4");
        wait_until(SOON, "everything to be acknowledged", || house.stats.unacknowledged.value() == 0);
        assert_eq!((house.stats.connects.value(), house.stats.gaps.value()), (1, 0));
        house.stop();
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
    let house = House::start(&url, |config| {
        by_queue(config);
        config.amqp.queue = "pushes".to_owned();
        config.amqp.queue_delay.0 = Duration::from_secs(1);
        config.amqp.prefetch = 2;
        config.timeouts.publish = Interval::from_millis(300);
    });
    // By the first publish RabbitMQ blocks the connection: burials do not even leave.
    assert_eq!(house.publish(&["b"], b"0"), Err(ErrorCode::Internal));
    wait_until(SOON, "the burials", || house.stats.dead_lettered.value() == 2);
    wait_until(SOON, "both to be acknowledged", || house.stats.unacknowledged.value() == 0);
    hold_for(Duration::from_millis(500), "no more", || house.stats.dead_lettered.value() == 2);
    assert!(publisher.has_no_dead_letter());
    node.ctl(&["set_vm_memory_high_watermark", "0.4"]);
    assert_eq!(bodies.map(|_| publisher.dead_letter().0), bodies.map(|body| body.as_bytes().to_vec()));
    assert_eq!(house.stats.connects.value(), 1);
    house.stop();
}

#[test]
fn one_message_can_be_published_without_an_engine() {
    let url = RabbitNode::shared().new_vhost("once");
    let publish = |exchange, url: &str| publish_once(&url.into(), exchange, "a", None, b"1", SOON);
    let error = publish("fanfare", &url).expect_err("there is no exchange").to_string();
    assert!(error.contains("no exchange 'fanfare'"), "{error}");
    let mut house = House::start(&url, |_| {});
    house.attach(0, "a");
    assert_eq!(publish("fanfare", &format!("amqp://127.0.0.1:1,{url}")), Ok(()));
    house.expect_line(0, "a", "1");
    let error =
        publish("fanfare", &url.replace("guest:guest", "guest:hunter2")).expect_err("refused").to_string();
    assert!(error.contains("password") && !error.contains("hunter2"), "{error}");
    house.stop();
}
