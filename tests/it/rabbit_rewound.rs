//! RabbitMQ's disk goes back in time, as after a power cut or when a snapshot of the host is put back: the stream
//! ends earlier than it did, and gives the offsets that were there to other messages. Nobody misses those, and
//! nobody goes on from a position that has another meaning now.

use crate::support::engine::Engine;
use crate::support::process::TempDir;
use crate::support::publisher::Publisher;
use crate::support::rabbitmq::RabbitNode;
use crate::support::wait::{SOON, wait_until};
use crate::support::websocket::{Position, RawClient};
use lapin::BasicProperties;
use serde_json::{Value, json};
use std::ops::Range;
use std::time::Duration;

const TOPIC: &str = "kept:a";

fn start(url: &str) -> Engine {
    // Clients here answer no ping while RabbitMQ starts, which takes its time on a busy machine.
    let engine = Engine::with_config(&format!(
        "[amqp]\nurl = \"{url}\"\nreconnect_max = \"500ms\"\n[timeouts]\nping = \"5m\"\n\
         [namespaces.kept]\nhistory_size = 1000\n"
    ));
    engine.wait_until_ready();
    engine
}

fn publish(url: &str, numbers: Range<u64>) {
    let publisher = Publisher::connect_when_there(url, "fanfare");
    numbers.for_each(|n| publisher.publish(TOPIC, n.to_string().as_bytes(), BasicProperties::default()));
}

/// Subscribes with these further fields: the reply's `subscribe`.
fn subscribe(client: &mut RawClient, fields: &str) -> Value {
    let command =
        format!(r#""subscribe":{{"channel":"{TOPIC}","recoverable":true,"positioned":true{fields}}}"#);
    let reply: Value = serde_json::from_str(&client.command(&command)).expect("JSON");
    reply.get("subscribe").unwrap_or_else(|| panic!("no subscription: {reply}")).clone()
}

/// A RabbitMQ, two engines, and a client of the first of them.
struct Scene {
    node: RabbitNode,
    engines: [Engine; 2],
    client: RawClient,
    /// Where the client stands.
    here: Position,
    /// The next number to be published.
    next: u64,
    /// Where clients stood before the disk went back.
    void: Vec<Position>,
}

impl Scene {
    fn build() -> Self {
        let node = RabbitNode::start();
        node.switch_to_khepri();
        let engines = [(); 2].map(|()| start(&node.amqp_url()));
        let mut client = engines[0].client();
        let here = Position::of(&subscribe(&mut client, ""));
        Self { node, engines, client, here, next: 0, void: Vec::new() }
    }

    /// Publishes so many, which the client gets, each once and nothing else.
    #[track_caller]
    fn go_on(&mut self, count: u64) {
        let numbers = self.next..self.next + count;
        self.next = numbers.end;
        publish(&self.node.amqp_url(), numbers.clone());
        for n in numbers {
            let line: Value = serde_json::from_str(&self.client.line()).expect("JSON");
            let publication = &line["push"]["pub"];
            assert_eq!(publication["data"], json!(n), "{line}");
            self.here.offset = publication["offset"].as_u64().expect("an offset");
        }
        assert!(self.client.is_silent_for(Duration::from_millis(200)), "nothing comes twice");
    }

    /// RabbitMQ's host dies, and comes back with its disk as it was. `meanwhile` the engines see nothing, and so many
    /// are published.
    #[track_caller]
    fn go_back_to(&mut self, snapshot: &TempDir, meanwhile: u64) {
        self.void.push(self.here.clone());
        if meanwhile > 0 {
            self.engines.iter().for_each(|engine| engine.signal("STOP"));
        }
        self.node.kill();
        self.node.put_back(snapshot);
        self.node.start_again();
        if meanwhile > 0 {
            publish(&self.node.amqp_url(), self.next..self.next + meanwhile);
            self.next += meanwhile;
            self.engines.iter().for_each(|engine| engine.signal("CONT"));
        }
    }

    /// The client is told, and subscribes anew; all nodes come to the same new epoch.
    #[track_caller]
    fn is_told(&mut self) {
        let told = self.client.line();
        assert!(told.contains(r#""unsubscribe":{"code":2500"#), "{told}");
        self.here = Position::of(&subscribe(&mut self.client, ""));
        assert!(self.void.iter().all(|void| void.epoch != self.here.epoch), "{:?}", self.here);
        let Self { engines, here, .. } = self;
        wait_until(SOON, "all nodes to be in the new epoch", || {
            engines.iter().all(|engine| engine.epochs().last() == Some(&here.epoch))
        });
    }

    /// Whatever is in the stream by now, no position from before the disk went back is of use, on any node.
    #[track_caller]
    fn nobody_recovers_across_the_hole(&self) {
        assert!(self.void.iter().all(|void| void.offset < self.here.offset), "they are not beyond the end");
        for engine in &self.engines {
            // The nodes read the stream side by side, and the client is told by one of them.
            wait_until(SOON, "the node to have read what the client has", || {
                Position::of(&subscribe(&mut engine.client(), "")) == self.here
            });
            for Position { epoch, offset } in &self.void {
                let mut back = engine.client();
                let fields = format!(r#","recover":true,"epoch":"{epoch}","offset":{offset}"#);
                let reply = subscribe(&mut back, &fields);
                assert_eq!(reply["was_recovering"], json!(true), "{reply}");
                assert_eq!(
                    (&reply["recovered"], Position::of(&reply)),
                    (&Value::Null, self.here.clone()),
                    "{reply}"
                );
            }
        }
    }
}

#[test]
fn a_disk_that_goes_back_in_time_hides_nothing_and_begins_a_new_epoch() {
    let mut scene = Scene::build();
    scene.go_on(20);
    let long_ago = scene.node.snapshot();
    scene.go_on(20);
    // The markers of the engines, which are back at once, come before the offset that they had read.
    scene.go_back_to(&long_ago, 0);
    scene.is_told();
    scene.go_on(60);
    scene.nobody_recovers_across_the_hole();

    // Others were quicker, and the stream is longer than it was.
    let snapshot = scene.node.snapshot();
    scene.go_on(20);
    scene.go_back_to(&snapshot, 60);
    scene.is_told();
    scene.go_on(20);
    scene.nobody_recovers_across_the_hole();

    // So far that the newest markers that they have read are gone: another message is there, or nothing yet.
    for (meanwhile, then) in [(300, 20), (0, 600)] {
        scene.go_back_to(&long_ago, meanwhile);
        scene.is_told();
        scene.go_on(then);
        scene.nobody_recovers_across_the_hole();
    }
    let later = start(&scene.node.amqp_url());
    assert_eq!(later.epochs().last(), Some(&scene.here.epoch), "who starts later knows it");
}
