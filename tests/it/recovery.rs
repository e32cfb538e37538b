//! Clients that were away get what they missed, exactly, byte by byte: through the embedded backplane, and through
//! a stream from another engine, or from the same after it was killed.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::engine::{BINARY, Engine, clear_settings};
use crate::support::process::Lines;
use crate::support::publisher::Publisher;
use crate::support::rabbitmq::RabbitNode;
use crate::support::wait::{SOON, wait_until};
use crate::support::websocket::RawClient;
use lapin::BasicProperties;
use serde_json::{Value, json};

const CONFIG: &str = "[namespaces.kept]\nhistory_size = 5\n\
                      [namespaces.forced]\nhistory_size = 5\nforce_recovery = true\n\
                      [namespaces.told]\nhistory_size = 5\nforce_positioning = true\n\
                      [namespaces.short]\nhistory_size = 5\nhistory_ttl = \"300ms\"\n\
                      [namespaces.latest]\nhistory_size = 1\nrecovery_mode = \"cache\"\n\
                      [namespaces.merged]\nhistory_size = 100\nmax_delay = \"1s\"\n";

/// Where a subscriber stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Position {
    epoch: String,
    offset: u64,
}

/// The `subscribe` of a reply.
fn subscribed(reply: &str) -> Value {
    let reply: Value = serde_json::from_str(reply).expect("JSON");
    reply.get("subscribe").unwrap_or_else(|| panic!("no subscription: {reply}")).clone()
}

fn position(subscribed: &Value) -> Position {
    let epoch = subscribed["epoch"].as_str().unwrap_or_else(|| panic!("no epoch: {subscribed}")).to_owned();
    Position { epoch, offset: subscribed["offset"].as_u64().unwrap_or(0) }
}

/// Subscribes so that it can recover.
fn subscribe(client: &mut RawClient, topic: &str) -> Position {
    let reply = client
        .command(&format!(r#""subscribe":{{"channel":"{topic}","recoverable":true,"positioned":true}}"#));
    let subscribed = subscribed(&reply);
    assert_eq!((&subscribed["recoverable"], &subscribed["recovered"]), (&json!(true), &Value::Null));
    position(&subscribed)
}

/// Comes back: the `subscribe` of the reply.
fn recover(client: &mut RawClient, topic: &str, since: &Position) -> Value {
    let Position { epoch, offset } = since;
    let fields = json!({"channel": topic, "recover": true, "epoch": epoch, "offset": offset});
    let subscribed = subscribed(&client.command(&format!(r#""subscribe":{fields}"#)));
    assert_eq!(subscribed["was_recovering"], json!(true), "{subscribed}");
    subscribed
}

/// The data and offsets of recovered publications.
fn publications(subscribed: &Value) -> Vec<(Value, u64)> {
    let none = Vec::new();
    let all = subscribed["publications"].as_array().unwrap_or(&none);
    all.iter().map(|one| (one["data"].clone(), one["offset"].as_u64().expect("an offset"))).collect()
}

fn numbers(range: std::ops::RangeInclusive<u64>) -> Vec<(Value, u64)> {
    range.map(|n| (json!(n), n)).collect()
}

fn publish(engine: &Engine, topic: &str, range: std::ops::RangeInclusive<u64>) {
    range.for_each(|n| engine.publish(topic, &json!(n)));
}

#[test]
fn who_was_away_gets_what_it_missed_and_then_the_next_one() {
    let engine = Engine::with_config(CONFIG);
    let mut here = RawClient::connect(engine.client_address());
    let start = subscribe(&mut here, "kept:a");
    assert_eq!(start.offset, 0);
    publish(&engine, "kept:a", 1..=2);
    // The first one says in which numbering it is, for who subscribed when there was none.
    let first = format!(
        r#"{{"push":{{"channel":"kept:a","pub":{{"data":1,"offset":1,"epoch":"{}"}}}}}}"#,
        start.epoch
    );
    assert_eq!(here.line(), first);
    assert_eq!(here.line(), r#"{"push":{"channel":"kept:a","pub":{"data":2,"offset":2}}}"#);
    drop(here);
    publish(&engine, "kept:a", 3..=4);
    let mut back = RawClient::connect(engine.client_address());
    for (asked, missed) in [(0, numbers(1..=4)), (2, numbers(3..=4)), (4, Vec::new())] {
        let since = Position { offset: asked, ..start.clone() };
        let reply = recover(&mut back, "kept:a", &since);
        assert_eq!((&reply["recovered"], position(&reply)), (&json!(true), since), "{reply}");
        assert_eq!(publications(&reply), missed);
        assert!(back.command(r#""unsubscribe":{"channel":"kept:a"}"#).contains("unsubscribe"));
    }
    recover(&mut back, "kept:a", &Position { offset: 4, ..start });
    publish(&engine, "kept:a", 5..=5);
    assert_eq!(back.line(), r#"{"push":{"channel":"kept:a","pub":{"data":5,"offset":5}}}"#);
}

#[test]
fn who_was_away_for_too_long_is_told_so() {
    let engine = Engine::with_config(CONFIG);
    let mut client = RawClient::connect(engine.client_address());
    let start = subscribe(&mut client, "kept:a");
    drop(client);
    publish(&engine, "kept:a", 1..=7);
    let mut back = RawClient::connect(engine.client_address());
    // Publications 3 to 7 are kept: who has 2 lacks nothing that is gone.
    let foreign = Position { epoch: "another".to_owned(), offset: 6 };
    let beyond = Position { offset: 8, ..start.clone() };
    for since in [start.clone(), Position { offset: 1, ..start.clone() }, foreign, beyond] {
        let reply = recover(&mut back, "kept:a", &since);
        assert_eq!(reply["recovered"], Value::Null, "{since:?}: {reply}");
        assert_eq!(
            (position(&reply), reply["publications"].clone()),
            (Position { offset: 7, ..start.clone() }, Value::Null)
        );
        back.command(r#""unsubscribe":{"channel":"kept:a"}"#);
    }
    let reply = recover(&mut back, "kept:a", &Position { offset: 2, ..start });
    assert_eq!(publications(&reply), numbers(3..=7));
    back.command(r#""unsubscribe":{"channel":"kept:a"}"#);
    // `flag` 2: rather an error than a subscription.
    let reply = back
        .command(r#""subscribe":{"channel":"kept:a","recover":true,"epoch":"another","offset":1,"flag":3}"#);
    assert!(reply.contains(r#""error":{"code":112"#), "{reply}");
    assert_eq!(engine.metric("fanfare_recovered_total", &[]), 1.0);
    assert_eq!(engine.metric("fanfare_unrecovered_total", &[]), 5.0);
}

#[test]
fn a_namespace_may_want_it_for_all_or_not_at_all() {
    let engine = Engine::with_config(CONFIG);
    let mut client = RawClient::connect(engine.client_address());
    let mut subscribe_plainly =
        |topic: &str| subscribed(&client.command(&format!(r#""subscribe":{{"channel":"{topic}"}}"#)));
    assert_eq!(subscribe_plainly("kept:a"), json!({}));
    let forced = subscribe_plainly("forced:a");
    assert_eq!((&forced["recoverable"], &forced["positioned"]), (&json!(true), &json!(true)));
    let told = subscribe_plainly("told:a");
    assert_eq!((&told["recoverable"], &told["positioned"]), (&Value::Null, &json!(true)));
    // Without history there is nothing to be told, whatever the client asks for, but that it got nothing back.
    let reply = client.command(
        r#""subscribe":{"channel":"plain","recover":true,"recoverable":true,"epoch":"e","offset":7}"#,
    );
    assert_eq!(subscribed(&reply), json!({"was_recovering": true}));
    engine.publish("plain", &json!(1));
    assert_eq!(client.line(), r#"{"push":{"channel":"plain","pub":{"data":1}}}"#);
}

#[test]
fn what_is_too_old_cannot_be_recovered() {
    let engine = Engine::with_config(CONFIG);
    let mut client = RawClient::connect(engine.client_address());
    let start = subscribe(&mut client, "short:a");
    publish(&engine, "short:a", 1..=2);
    wait_until(Duration::from_secs(5), "the publications to be gone", || {
        engine.metric("fanfare_history_publications", &[]) == 0.0
    });
    client.command(r#""unsubscribe":{"channel":"short:a"}"#);
    assert_eq!(recover(&mut client, "short:a", &start)["recovered"], Value::Null);
    client.command(r#""unsubscribe":{"channel":"short:a"}"#);
    // Who has the newest lacks nothing.
    let newest = Position { offset: 2, ..start };
    assert_eq!(recover(&mut client, "short:a", &newest)["recovered"], json!(true));
}

#[test]
fn where_only_the_newest_counts_only_that_comes() {
    let engine = Engine::with_config(CONFIG);
    publish(&engine, "latest:a", 1..=9);
    let mut client = RawClient::connect(engine.client_address());
    let reply = subscribed(&client.command(r#""subscribe":{"channel":"latest:a","recover":true}"#));
    assert_eq!((&reply["recovered"], publications(&reply)), (&json!(true), numbers(9..=9)), "{reply}");
    publish(&engine, "latest:a", 10..=10);
    assert_eq!(client.line(), r#"{"push":{"channel":"latest:a","pub":{"data":10,"offset":10}}}"#);
}

/// Publications that still wait for others are not in the answer, and come after it.
#[test]
fn what_waits_to_be_merged_comes_once() {
    let engine = Engine::with_config(CONFIG);
    let mut here = RawClient::connect(engine.client_address());
    let start = subscribe(&mut here, "merged:a");
    publish(&engine, "merged:a", 1..=3);
    let mut back = RawClient::connect(engine.client_address());
    let reply = recover(&mut back, "merged:a", &start);
    let mut got = publications(&reply);
    while got.len() < 3 {
        let line: Value = serde_json::from_str(&back.line()).expect("JSON");
        let publication = &line["push"]["pub"];
        got.push((publication["data"].clone(), publication["offset"].as_u64().expect("an offset")));
    }
    assert_eq!(got, numbers(1..=3));
    // Everybody else's wait is not shortened by it.
    assert_eq!(here.publication("merged:a"), "1");
    let late = subscribe(&mut RawClient::connect(engine.client_address()), "merged:a");
    assert_eq!(late, Position { offset: 3, ..start });
}

#[test]
fn history_can_be_read_and_removed() {
    let engine = Engine::with_config(CONFIG);
    publish(&engine, "kept:a", 1..=7);
    let mut client = RawClient::connect(engine.client_address());
    let mut read = |fields: &str| -> Value {
        let reply = client.command(&format!(r#""history":{{"channel":"kept:a"{fields}}}"#));
        let reply: Value = serde_json::from_str(&reply).expect("JSON");
        reply.get("history").unwrap_or_else(|| &reply["error"]["code"]).clone()
    };
    let all = read(r#","limit":-1"#);
    assert_eq!((publications(&all), all["offset"].as_u64()), (numbers(3..=7), Some(7)));
    assert_eq!(publications(&read("")), []);
    let epoch = all["epoch"].clone();
    assert_eq!(
        publications(&read(&format!(r#","limit":2,"since":{{"offset":4,"epoch":{epoch}}}"#))),
        numbers(5..=6)
    );
    let backwards: Vec<_> = numbers(6..=7).into_iter().rev().collect();
    assert_eq!(publications(&read(r#","limit":2,"reverse":true"#)), backwards);
    assert_eq!(read(r#","since":{"offset":4,"epoch":"another"}"#), json!(112));

    let by_api = engine.api("history", &json!({"channel": "kept:a", "limit": -1}));
    assert_eq!(by_api["result"], all);
    let none = engine.api("history", &json!({"channel": "plain"}));
    assert_eq!(none["error"]["code"], json!(108), "{none}");
    assert_eq!(engine.api("history_remove", &json!({"channel": "kept:a"})), json!({"result": {}}));
    let removed = engine.api("history", &json!({"channel": "kept:a", "limit": -1}));
    assert_eq!(removed["result"], json!({"publications": [], "epoch": epoch, "offset": 7}));
}

/// What is kept for those who come back need not be there for whoever asks; an operator may still look.
#[test]
fn a_history_may_be_for_those_who_come_back_only() {
    let engine = Engine::with_config("[namespaces.kept]\nhistory_size = 5\nclient_history = false\n");
    let mut client = RawClient::connect(engine.client_address());
    let start = subscribe(&mut client, "kept:a");
    publish(&engine, "kept:a", 1..=3);
    let reply = client.command(r#""history":{"channel":"kept:a","limit":-1}"#);
    assert!(reply.contains(r#""error":{"code":103"#), "{reply}");
    let mut again = RawClient::connect(engine.client_address());
    assert_eq!(publications(&recover(&mut again, "kept:a", &start)), numbers(1..=3));
    let by_api = engine.api("history", &json!({"channel": "kept:a", "limit": -1}));
    assert_eq!(publications(&by_api["result"]), numbers(1..=3));

    let subscriptions =
        |namespace| engine.metric("fanfare_namespace_subscriptions", &[("namespace", namespace)]);
    assert_eq!((subscriptions("kept"), subscriptions("default")), (2.0, 0.0));
    drop(client);
    wait_until(SOON, "the end of one subscription", || subscriptions("kept") == 1.0);
}

/// One of several nodes on this RabbitMQ.
fn start_at(url: &str) -> Engine {
    let engine = Engine::with_config_and(CONFIG, &["--amqp", url]);
    engine.wait_until_ready();
    engine
}

/// Gone for a while, back on another node, which reads the stream or has read it back.
#[test]
fn another_node_and_one_that_was_killed_know_what_was_missed() {
    let url = RabbitNode::shared().new_vhost("recovery");
    let start = || start_at(&url);
    let (first, second) = (start(), start());
    let mut client = RawClient::connect(first.client_address());
    let begin = subscribe(&mut client, "merged:a");
    publish(&first, "merged:a", 1..=2);
    let mut offset = 0;
    for n in 1..=2 {
        let line: Value = serde_json::from_str(&client.line()).expect("JSON");
        assert_eq!(line["push"]["pub"]["data"], json!(n));
        offset = line["push"]["pub"]["offset"].as_u64().expect("an offset");
    }
    drop(client);
    first.kill();
    publish(&second, "merged:a", 3..=5);
    publish(&second, "kept:other", 1..=2);

    let third = start();
    for engine in [&second, &third] {
        let mut back = RawClient::connect(engine.client_address());
        let reply = recover(&mut back, "merged:a", &Position { offset, ..begin.clone() });
        assert_eq!(reply["recovered"], json!(true), "{reply}");
        let mut got: Vec<_> = publications(&reply).into_iter().map(|(data, _)| data).collect();
        while got.len() < 3 {
            let line: Value = serde_json::from_str(&back.line()).expect("JSON");
            got.push(line["push"]["pub"]["data"].clone());
        }
        assert_eq!(got, [json!(3), json!(4), json!(5)]);
        assert!(back.is_silent_for(Duration::from_millis(200)), "nothing comes twice");
    }
}

/// Who has a position of another node is not told of a loss by one that knows less of the stream, but has read it.
#[test]
fn a_position_between_markers_is_as_good_on_every_node() {
    let url = RabbitNode::shared().new_vhost("markers");
    let first = start_at(&url);
    // It reads next to nothing back, so that a topic it does not know may have lost something until there.
    let config = format!("[amqp]\nreplay_max_messages = 1\nmessage_ids = 0\n{CONFIG}");
    let second = Engine::with_config_and(&config, &["--amqp", &url]);
    second.wait_until_ready();
    let mut client = RawClient::connect(second.client_address());
    let position = subscribe(&mut client, "kept:a");
    assert!(position.offset > 0, "{position:?}");
    drop(client);
    for engine in [&second, &first] {
        let reply = recover(&mut RawClient::connect(engine.client_address()), "kept:a", &position);
        assert_eq!(reply["recovered"], json!(true), "{reply}");
    }
}

/// An engine that cannot read the stream says neither that somebody has lost something nor that it has not; who
/// came before the stream is told of the gap when it comes.
#[test]
fn nobody_is_told_of_a_loss_by_an_engine_that_knows_nothing_yet() {
    let mut node = RabbitNode::start();
    let url = node.amqp_url();
    let first = start_at(&url);
    let mut client = RawClient::connect(first.client_address());
    let begin = subscribe(&mut client, "kept:a");
    publish(&first, "kept:a", 1..=2);
    assert!(client.line().contains(r#""data":1"#));
    drop(client);
    node.sync_tables();
    first.stop();
    node.stop();

    // The clients here answer no ping while RabbitMQ starts, which takes its time on a busy machine.
    let patient = format!("{CONFIG}[timeouts]\nping = \"1h\"\n");
    let engine = Engine::with_config_and(&patient, &["--amqp", &url]);
    let [mut new, mut old] = [(); 2].map(|()| RawClient::connect(engine.client_address()));
    subscribe(&mut new, "kept:a");
    let Position { epoch, offset } = &begin;
    let again =
        format!(r#""subscribe":{{"channel":"kept:a","recover":true,"epoch":"{epoch}","offset":{offset}}}"#);
    let refused = old.command(&again);
    assert!(refused.contains(r#""code":100"#) && refused.contains(r#""temporary":true"#), "{refused}");

    node.start_again();
    engine.wait_until_ready();
    let told = new.line();
    assert!(told.contains(r#""unsubscribe":{"code":2500"#), "{told}");
    let position = subscribe(&mut new, "kept:a");
    assert_eq!(position.epoch, begin.epoch);
    let reply = recover(&mut old, "kept:a", &begin);
    assert_eq!(reply["recovered"], json!(true), "{reply}");
    let missed: Vec<_> = publications(&reply).into_iter().map(|(data, _)| data).collect();
    assert_eq!(missed, [json!(1), json!(2)]);
    publish(&engine, "kept:a", 3..=3);
    for client in [&mut new, &mut old] {
        assert!(client.line().contains(r#""data":3"#));
    }
}

#[test]
fn a_history_that_is_removed_is_gone_on_every_node() {
    let url = RabbitNode::shared().new_vhost("removed");
    let start = || start_at(&url);
    let kept = |engine: &Engine, topic: &str| {
        let page = engine.api("history", &json!({"channel": topic, "limit": -1}));
        publications(&page["result"]).into_iter().map(|(data, _)| data).collect::<Vec<_>>()
    };
    let (first, second) = (start(), start());
    let begin = subscribe(&mut RawClient::connect(second.client_address()), "kept:a");
    publish(&first, "kept:a", 1..=3);
    publish(&first, "kept:b", 1..=3);
    assert_eq!(first.api("history_remove", &json!({"channel": "kept:a"})), json!({"result": {}}));
    publish(&first, "kept:a", 4..=4);
    for engine in [&first, &second, &start()] {
        wait_until(SOON, "what came after", || kept(engine, "kept:a").contains(&json!(4)));
        assert_eq!((kept(engine, "kept:a"), kept(engine, "kept:b").len()), (vec![json!(4)], 3));
        let reply = recover(&mut RawClient::connect(engine.client_address()), "kept:a", &begin);
        assert_eq!(reply.get("recovered"), None, "across the hole: {reply}");
    }
}

/// `fanfare subscribe`, and what it prints.
struct CommandLineSubscriber {
    child: Child,
    output: Lines,
    errors: Lines,
}

impl CommandLineSubscriber {
    fn start(engine: &Engine, topic: &str) -> Self {
        let mut command = Command::new(BINARY);
        command.args(["subscribe", topic, "--url", &engine.ws_url()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        clear_settings(&mut command);
        let mut child = command.spawn().expect("it starts");
        let output = Lines::collect(child.stdout.take().expect("piped"));
        let errors = Lines::collect(child.stderr.take().expect("piped"));
        let subscriber = Self { child, output, errors };
        subscriber.wait_to_say("fanfare: subscribed to");
        subscriber
    }

    #[track_caller]
    fn wait_to_say(&self, text: &str) {
        wait_until(SOON, &format!("the subscriber to say {text:?}"), || self.errors.contain(text));
    }

    #[track_caller]
    fn wait_to_print(&self, lines: usize) {
        wait_until(SOON, "the subscriber to print", || self.output.so_far().len() >= lines);
    }
}

impl Drop for CommandLineSubscriber {
    fn drop(&mut self) {
        // Both fail only if it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            self.errors.so_far().iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// Ends a publisher when it is dropped, also by a panic: nobody would wait for it in vain.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// README's show: somebody counts and sends the numbers to RabbitMQ, a subscriber on the command line prints them,
/// and the engine between them is killed and started again.
#[test]
fn an_engine_that_is_killed_is_no_gap_for_a_subscriber_on_the_command_line() {
    const SOME: usize = 20;
    /// Between two numbers: what is missed fits into one frame (`limits.frame_bytes`), however slow the machine.
    const PAUSE: Duration = Duration::from_millis(5);
    let url = RabbitNode::shared().new_vhost("show");
    let engine = Engine::on_fixed_ports(&format!(
        "[amqp]\nurl = \"{url}\"\n[namespaces.default]\nhistory_size = 10_000\n"
    ));
    engine.wait_until_ready();
    let subscriber = CommandLineSubscriber::start(&engine, "count");
    let over = AtomicBool::new(false);
    let count = |publisher: &Publisher| {
        let until_over = (1..).take_while(|_: &usize| !over.load(Ordering::Relaxed));
        let publish = |&n: &usize| {
            publisher.publish("count", n.to_string().as_bytes(), BasicProperties::default());
            std::thread::sleep(PAUSE);
        };
        until_over.inspect(publish).last().expect("it has begun")
    };
    let published = std::thread::scope(|scope| {
        let publisher = Publisher::connect(&url);
        let counting = scope.spawn(move || count(&publisher));
        let over = Over(&over);
        subscriber.wait_to_print(SOME);
        let stopped = engine.kill_for_now();
        subscriber.wait_to_say("connecting again");
        let engine = stopped.start();
        subscriber.wait_to_say("publications recovered");
        let seen = subscriber.output.so_far().len();
        subscriber.wait_to_print(seen + SOME);
        drop(over);
        let published = counting.join().expect("it does not panic");
        subscriber.wait_to_print(published);
        drop(engine);
        published
    });
    let expected: Vec<_> = (1..=published).map(|n| format!("count\t{n}")).collect();
    assert_eq!(subscriber.output.so_far(), expected);
    assert!(subscriber.errors.contain("fanfare: subscribed to count again after "));
}

/// The SDKs come back with one frame: a connect, and a recovery for each topic. The answers are of all sizes, one is
/// larger than what a client may leave waiting, and all together are several times as much.
#[test]
fn a_frame_of_connect_and_127_recoveries_is_answered_exactly_and_in_order() {
    let engine = Engine::with_config(CONFIG);
    let data = |topic: u64, n: u64| {
        let bytes = if topic == 40 { 20_000 } else { 100 * (topic % 13) };
        json!({"topic": topic, "n": n, "filler": "x".repeat(usize::try_from(bytes).expect("few"))})
    };
    let topics = 2..=128_u64;
    let start = {
        let mut client = RawClient::connect(engine.client_address());
        subscribe(&mut client, "kept:2")
    };
    for topic in topics.clone() {
        (1..=5).for_each(|n| engine.publish(&format!("kept:{topic}"), &data(topic, n)));
    }
    let recover = |topic: u64| {
        let fields = json!({
            "channel": format!("kept:{topic}"), "recover": true, "epoch": start.epoch, "offset": topic % 6
        });
        format!(r#"{{"id":{topic},"subscribe":{fields}}}"#)
    };
    let connect = r#"{"id":1,"connect":{}}"#.to_owned();
    let commands = std::iter::once(connect).chain(topics.clone().map(recover));
    let mut back = RawClient::open(engine.client_address());
    back.send(&commands.collect::<Vec<_>>().join("\n"));
    assert!(back.line().starts_with(r#"{"id":1,"connect":"#));
    for topic in topics.clone() {
        let reply = back.line();
        assert!(reply.starts_with(&format!(r#"{{"id":{topic},"#)), "instead of {topic}: {reply}");
        let subscribed = subscribed(&reply);
        assert_eq!(subscribed["recovered"], json!(true), "{reply}");
        let missed = topic % 6 + 1..=5;
        assert_eq!(publications(&subscribed), missed.map(|n| (data(topic, n), n)).collect::<Vec<_>>());
    }
    assert_eq!(engine.metric("fanfare_recovered_total", &[]), 127.0);
    for topic in topics {
        engine.publish(&format!("kept:{topic}"), &json!(6));
        let next = format!(r#"{{"push":{{"channel":"kept:{topic}","pub":{{"data":6,"offset":6}}}}}}"#);
        assert_eq!(back.line(), next);
    }
}
