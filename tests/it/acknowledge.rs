//! When RabbitMQ's messages are acknowledged with `amqp.ack = "written"`: when they were written to the clients. And how
//! much RabbitMQ sends ahead.

use std::time::Duration;

use crate::support::engine::Engine;
use crate::support::harness::{Harness, ProxiedVhost};
use crate::support::publisher::{DURABLE, Publisher};
use crate::support::rabbitmq::RabbitNode;
use crate::support::script::Amqp;
use crate::support::swarm::{ClientIndex, Line, Observer, Swarm};
use crate::support::wait::{SOON, hold_for, wait_until};
use lapin::{BasicProperties, ExchangeKind};
use serde_json::{Value, json};

/// `SO_RCVBUF` of who stalls; the kernel makes 2,304 bytes of anything smaller.
const RECEIVE_BUFFER: usize = 2304;
/// Bytes of a publication's data: some of them fill the socket of who does not read.
const FILL: usize = 10_000;
const PREFETCH: u64 = 10;

/// The configuration, with these options of `[amqp]` besides.
fn written(source: &str, written_timeout: &str) -> String {
    format!(
        "[amqp]\n{source}prefetch = {PREFETCH}\nack = \"written\"\n\
         written_timeout = \"{written_timeout}\"\n\
         [timeouts]\nping = \"1h\"\n[limits]\nlog_bytes = 16_777_216\n"
    )
}

/// A subscriber to `topic` that reads nothing.
fn stalled(engine: &Engine, topic: &str) -> Swarm {
    let mut swarm = Swarm::new(engine.client_address(), 1).expect("a poll");
    swarm.shrink_receive_buffer(0, RECEIVE_BUFFER);
    swarm.connect_all(&mut Count::default(), SOON, |_, _| vec![topic.to_owned()]).expect("it connects");
    swarm.stall(0);
    swarm
}

#[derive(Default)]
struct Count {
    publications: usize,
}

impl Observer for Count {
    fn line(&mut self, _: ClientIndex, line: Line<'_>) {
        self.publications += usize::from(matches!(line, Line::Publication(_)));
    }
}

fn unacknowledged(engine: &Engine) -> f64 {
    engine.metric("fanfare_unacknowledged", &[])
}

fn publish_until_blocked(engine: &Engine, topic: &str) -> usize {
    let filler = "x".repeat(FILL);
    let mut published = 0;
    while engine.metric("fanfare_blocked_clients", &[]) == 0.0 {
        assert!(published < 500, "the client's socket takes everything");
        engine.publish(topic, &json!({"n": published + 1, "fill": filler}));
        published += 1;
    }
    published
}

/// Which of those it is.
fn number(data: &str) -> usize {
    let data: Value = serde_json::from_str(data).expect("JSON");
    usize::try_from(data["n"].as_u64().expect("a number")).expect("small")
}

#[test]
fn what_is_not_written_is_not_acknowledged() {
    let Harness { engine, .. } = Harness::start("written", &written("", "1m"));
    let mut client = engine.subscriber(&["everybody reads"]);
    (0..50).for_each(|n| engine.publish("everybody reads", &json!(n)));
    wait_until(SOON, "everything to be acknowledged", || unacknowledged(&engine) == 0.0);

    let mut swarm = stalled(&engine, "somebody stalls");
    let published = publish_until_blocked(&engine, "somebody stalls");
    wait_until(SOON, "the hand-over", || unacknowledged(&engine) > 0.0);
    // Another topic's messages come behind it, and RabbitMQ sends no more than its prefetch.
    for n in 0..2 * PREFETCH {
        engine.publish("everybody reads", &json!(n));
    }
    wait_until(SOON, "the prefetch to be used up", || unacknowledged(&engine) == PREFETCH as f64);

    let mut count = Count::default();
    swarm.resume(0, &mut count);
    let all = |_: &Swarm, count: &mut Count| count.publications == published;
    swarm.turn_until("who stalled has everything", SOON, &mut count, all).expect("the swarm turns");
    wait_until(SOON, "everything to be acknowledged", || unacknowledged(&engine) == 0.0);
    for n in (0..50).chain(0..2 * PREFETCH) {
        assert_eq!(client.publication("everybody reads"), n.to_string());
    }
}

#[test]
fn who_takes_nothing_holds_others_up_for_a_bounded_time_only() {
    let Harness { engine, .. } = Harness::start("bounded", &written("", "200ms"));
    let mut client = engine.subscriber(&["t"]);
    let _stalled = stalled(&engine, "t");
    let published = publish_until_blocked(&engine, "t");
    (0..5 * PREFETCH).for_each(|n| engine.publish("t", &json!(n)));
    (1..=published).for_each(|n| assert_eq!(number(&client.publication("t")), n));
    (0..5 * PREFETCH).for_each(|n| assert_eq!(client.publication("t"), n.to_string()));
    wait_until(SOON, "everything to be acknowledged", || unacknowledged(&engine) == 0.0);
    assert!(client.is_silent_for(Duration::from_millis(100)));
    assert_eq!(engine.metric("fanfare_blocked_clients", &[]), 1.0, "nobody was closed for it");
}

/// What is in the mailboxes is known by its id when a lost link brings it again; and acknowledged, as before, when it is
/// written.
#[test]
fn what_was_not_written_when_the_link_was_lost_comes_again_and_is_written_once() {
    let ProxiedVhost { url, proxied_url, proxy, .. } = ProxiedVhost::start("unwritten");
    let mut service = Amqp::connect(&url);
    service.declare_exchange("fanfare", "topic", true);
    service.declare_queue("pushes", "fanfare", "#");
    let from_queue = "source = \"queue\"\nqueue = \"pushes\"\nqueue_delay = \"0s\"\n";
    let engine = Engine::consuming(&proxied_url, &written(from_queue, "1m"));
    let mut swarm = stalled(&engine, "t");
    let published = publish_until_blocked(&engine, "t");
    wait_until(SOON, "the hand-over", || unacknowledged(&engine) > 0.0);
    proxy.cut();
    let is_held = || unacknowledged(&engine) > 0.0;
    let came_again = || engine.metric("fanfare_duplicates_total", &[]) > 0.0;
    wait_until(SOON, "them to come again", || came_again() && is_held());
    hold_for(Duration::from_millis(300), "the client to have them unread", is_held);

    let mut count = Count::default();
    swarm.resume(0, &mut count);
    let all = |_: &Swarm, count: &mut Count| count.publications >= published;
    swarm.turn_until("who stalled has everything", SOON, &mut count, all).expect("the swarm turns");
    wait_until(SOON, "everything to be acknowledged", || unacknowledged(&engine) == 0.0);
    engine.publish("t", &json!("last"));
    let last = |_: &Swarm, count: &mut Count| count.publications > published;
    swarm.turn_until("the last one", SOON, &mut count, last).expect("the swarm turns");
    assert_eq!(count.publications, published + 1, "something came twice");
}

/// A durable queue keeps what was not acknowledged, and whoever comes next gets it.
#[test]
fn what_a_killed_engine_had_not_written_comes_again() {
    let url = RabbitNode::shared().new_vhost("killed");
    let mut service = Amqp::connect(&url);
    service.declare_exchange("fanfare", "topic", true);
    service.declare_queue("pushes", "fanfare", "#");
    let from_queue = "source = \"queue\"\nqueue = \"pushes\"\n";
    // Nobody is to come back to the first engine: it takes from the queue at once.
    let engine = Engine::consuming(&url, &written(&format!("{from_queue}queue_delay = \"0s\"\n"), "1m"));
    let stalled = stalled(&engine, "t");
    let published = publish_until_blocked(&engine, "t");
    wait_until(SOON, "the hand-over", || unacknowledged(&engine) > 0.0);
    engine.kill();
    drop(stalled);

    let engine = Engine::consuming(&url, &written(from_queue, "1m"));
    let mut client = engine.subscriber(&["t"]);
    let first = number(&client.publication("t"));
    assert!(first > 1, "what was written does not come again");
    for next in first + 1..=published {
        assert_eq!(number(&client.publication("t")), next);
    }
}

/// How much RabbitMQ may send ahead follows the sizes seen, by one consumer after the other: nothing is lost, repeated or
/// out of order when they change.
#[test]
fn consumers_that_follow_each_other_lose_and_repeat_nothing() {
    let url = RabbitNode::shared().new_vhost("sizes");
    let publisher = Publisher::connect(&url);
    let large = "x".repeat(200_000);
    let body = |n: usize| {
        let fill = if n % 1000 > 995 { &large } else { "" };
        (json!({"n": n, "fill": fill}).to_string(), BasicProperties::default())
    };
    publisher.declare_exchange(ExchangeKind::Topic, DURABLE);
    publisher.declare_queue("kept");
    for source in ["queue = \"kept\"\nsource = \"queue\"", "source = \"queue\"", "source = \"stream\""] {
        let config = format!(
            "[amqp]\n{source}\nqueue_delay = \"0s\"\nprefetch_bytes = 1_048_576\n[limits]\nlog_bytes = 33_554_432\n"
        );
        let engine = Engine::consuming(&url, &config);
        let mut client = engine.subscriber(&["news"]);
        publisher.publish_all("news", (1..2500).map(body));
        for n in 1..2500 {
            assert_eq!(number(&client.publication("news")), n, "{source}");
        }
        wait_until(SOON, "everything to be acknowledged", || unacknowledged(&engine) == 0.0);
        publisher.purge("kept");
    }
}

/// What RabbitMQ sends ahead is bounded in bytes, whatever the number of messages is that may be sent.
#[test]
fn large_messages_that_wait_are_not_sent_ahead_all_together() {
    const BODY: usize = 8 << 20;
    let url = RabbitNode::shared().new_vhost("large");
    let publisher = Publisher::connect(&url);
    publisher.declare_exchange(ExchangeKind::Topic, DURABLE);
    publisher.declare_queue("kept");
    let large = "x".repeat(BODY);
    publisher.publish_all("news", (0..16).map(|_| (large.clone(), BasicProperties::default())));
    let config = "[amqp]\nqueue = \"kept\"\nqueue_delay = \"1h\"\nsource = \"queue\"\n";
    let _engine = Engine::consuming(&url, config);
    // It takes nothing yet; RabbitMQ sends what it may.
    let waits = || publisher.ready("kept");
    wait_until(SOON, "some to be sent ahead", || waits() == 12);
    hold_for(Duration::from_millis(500), "no more to be sent", || waits() == 12);
}
