//! Which stream it is: all nodes agree on it, and notice another one.

use super::{SETTINGS, claim, configuration, plain, start, text};
use crate::support::engine::{Engine, run_to_end, serve};
use crate::support::harness::start_two_nodes;
use crate::support::publisher::Publisher;
use crate::support::rabbitmq::RabbitNode;
use crate::support::wait::{SOON, wait_for, wait_until};
use crate::support::websocket::RawClient;

#[test]
fn a_stream_that_is_deleted_is_another_one_even_if_it_is_longer() {
    let url = RabbitNode::shared().new_vhost("deleted");
    let engine = start(&url);
    let publisher = Publisher::connect(&url);
    let mut client = engine.client();
    let told_of_a_gap = |client: &mut RawClient| {
        let told = client.line();
        assert!(told.contains(r#""unsubscribe":{"code":2500"#), "{told}");
        client.subscribe("news");
    };
    client.subscribe("news");
    publisher.publish("news", b"1", plain());
    assert_eq!(client.publication("news"), "1");
    publisher.delete_queue("fanfare");
    told_of_a_gap(&mut client);
    publisher.publish("news", b"2", plain());
    assert_eq!(client.publication("news"), "2");

    // While the engine sees nothing, a new one takes its place and grows beyond the old one.
    engine.signal("STOP");
    publisher.delete_queue("fanfare");
    publisher.declare_queue_with("fanfare", &[("x-queue-type", text("stream"))]);
    (0..100).for_each(|_| publisher.publish("news", b"3", plain()));
    engine.signal("CONT");
    told_of_a_gap(&mut client);
    publisher.publish("news", b"4", plain());
    assert_eq!(client.publication("news"), "4");
    let mut epochs = engine.epochs();
    epochs.sort();
    epochs.dedup();
    assert_eq!(epochs.len(), 3, "each has an epoch of its own");
    assert!(engine.stderr().contain("the stream is used as it is"), "it was declared without our limits");
}

#[test]
fn all_nodes_are_in_one_epoch_and_the_oldest_holds() {
    let (url, engines) = start_two_nodes("epochs", SETTINGS);
    let [one, two] = engines.each_ref().map(Engine::epochs);
    assert_eq!((one.len(), &one), (1, &two));

    let publisher = Publisher::connect(&url);
    claim(&publisher, "madeup", 1_000_000);
    claim(&publisher, "later", 100);
    claim(&publisher, "older", 0);
    for engine in &engines {
        let renamed = |line: &String| line.contains("is older than ours") && line.contains("epoch=older");
        wait_until(SOON, "the older epoch", || engine.stderr().so_far().iter().any(renamed));
    }
    assert_eq!(start(&url).epochs(), ["older"]);
}

/// What nobody can use is not read back, and yet always a claim, or the new node would propose an epoch of its own, and
/// all clients would be told of a gap.
#[test]
fn without_a_history_little_is_read_back_and_yet_a_claim_is_met() {
    let url = RabbitNode::shared().new_vhost("little");
    let configuration = configuration(&url).replace("[amqp]\n", "[amqp]\nmessage_ids = 0\n");
    let start = || {
        let engine = Engine::with_config(&configuration);
        engine.wait_until_ready();
        engine
    };
    let first = start();
    let epoch = first.epochs();
    first.stop();
    let publisher = Publisher::connect(&url);
    let publish = |count| publisher.publish_all("news", (0..count).map(|_| ("1".to_owned(), plain())));
    publish(22_000);

    let second = start();
    assert!(second.stderr().contain("it is read from further back"));
    let replayed = |engine: &Engine| engine.metric("fanfare_replayed_total", &[]);
    assert!((41_900.0..=42_000.0).contains(&replayed(&second)), "20,000 messages, and then all of them");
    let mut client = second.subscriber(&["news"]);
    let third = start();
    assert!((19_900.0..=20_000.0).contains(&replayed(&third)), "it has met the second one's claim");
    assert_eq!([second.epochs(), third.epochs()], [epoch.clone(), epoch]);
    publish(1);
    assert_eq!(client.publication("news"), "1", "nobody was told of a gap");
}

#[test]
fn a_queue_that_is_no_stream_is_refused_with_the_remedy() {
    let url = RabbitNode::shared().new_vhost("no_stream");
    let engine = Engine::start(&["--amqp", &url, "--source", "queue"]);
    engine.wait_until_ready();
    Publisher::connect(&url).declare_queue("fanfare");
    let mut command = serve();
    command.args(["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--amqp", &url]);
    let (status, _, stderr) = run_to_end(command, SOON);
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("is no stream") && stderr.contains("amqp.stream"), "{stderr}");
}

/// RabbitMQ may come later: what was there is not pushed, but whoever was here before is told of it.
#[test]
fn a_stream_that_comes_later_than_the_clients_is_read_back_and_not_pushed() {
    let mut node = RabbitNode::start();
    let url = node.amqp_url();
    let first = start(&url);
    let publisher = Publisher::connect(&url);
    publisher.publish("news", b"1", plain());
    drop(publisher);
    first.stop();
    node.stop();
    let engine = Engine::with_config(&configuration(&url));
    let mut client = engine.subscriber(&["news"]);
    node.start_again();
    engine.wait_until_ready();
    let replayed = wait_for(SOON, "the stream to be read back", || {
        let replayed = engine.metric("fanfare_replayed_total", &[]);
        (replayed > 0.0).then_some(replayed)
    });
    assert_eq!(replayed, 1.0);
    let told = client.line();
    assert!(told.contains(r#""unsubscribe":{"code":2500"#), "{told}");
    client.subscribe("news");
    Publisher::connect_when_there(&url, "fanfare").publish("news", b"2", plain());
    assert_eq!(client.publication("news"), "2");
}
