//! Many clients, few publications: what each client gets, to the frame.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::publisher::{Progress, publish};
use crate::support::engine::Engine;
use crate::support::rabbitmq::RabbitNode;
use crate::support::swarm::{ClientIndex, Line, Observer, Publication, Swarm};
use crate::{ARRIVAL, SILENCE, SMALL, alone, report};

const CLIENTS: usize = 5000;

/// Counts publications, and frames that hold some, by client.
#[derive(Debug)]
struct Counts {
    by_client: Vec<Count>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    frames: u64,
    publications: u64,
    /// Whether the frame that is being read was counted.
    in_counted_frame: bool,
}

impl Counts {
    fn new(clients: usize) -> Self {
        Self { by_client: vec![Count::default(); clients] }
    }

    /// Clients that have seen this many publications.
    fn with_publications(&self, publications: u64) -> usize {
        self.by_client.iter().filter(|count| count.publications == publications).count()
    }
}

impl Observer for Counts {
    fn frame(&mut self, client: ClientIndex, _payload: &[u8]) {
        self.by_client[client].in_counted_frame = false;
    }

    fn line(&mut self, client: ClientIndex, line: Line<'_>) {
        let count = &mut self.by_client[client];
        match line {
            Line::Publication(Publication { number, .. }) => {
                count.publications += 1;
                count.frames += u64::from(!count.in_counted_frame);
                count.in_counted_frame = true;
                assert_eq!(number, count.publications, "client {client} got them out of order");
            }
            Line::Ping | Line::Reply { error: None, .. } => {}
            other => panic!("client {client} got {other:?}"),
        }
    }
}

/// Turns until each client has `publications`, then a little longer, and gives the counts back.
fn collect(swarm: &mut Swarm, mut counts: Counts, publications: u64) -> Counts {
    let all = |swarm: &Swarm, counts: &mut Counts| counts.with_publications(publications) == swarm.len();
    swarm.turn_until("everyone gets everything", ARRIVAL, &mut counts, all).expect("the swarm turns");
    let end = Instant::now() + SILENCE;
    while Instant::now() < end {
        swarm.turn(Duration::from_millis(20), &mut counts).expect("the swarm turns");
    }
    counts
}

#[test]
fn merged_per_second() {
    let _alone = alone();
    let engine = Engine::with_config("[namespaces.ticker]\nmax_delay = \"1s\"\n");
    for clients in [1, CLIENTS] {
        let topic = format!("ticker:{clients}");
        let mut swarm = Swarm::new(engine.client_address(), clients).expect("a poll");
        let mut counts = Counts::new(clients);
        swarm.connect_all(&mut counts, ARRIVAL, |_, _| vec![topic.as_str()]).expect("the swarm turns");
        let encodings = engine.metric("fanfare_encodings_total", &[]);
        let start = Instant::now();
        for number in 1..=10 {
            engine.publish(&topic, &json!({ "n": number }));
        }
        assert!(start.elapsed() < Duration::from_secs(1), "this machine is too busy for this test");
        let counts = collect(&mut swarm, counts, 10);
        let wrong = counts.by_client.iter().find(|count| count.frames != 1);
        assert_eq!(wrong, None, "of {clients} clients");
        assert_eq!(engine.metric("fanfare_encodings_total", &[]) - encodings, 10.0, "with {clients} clients");
    }
    report(&format!(
        "merged_per_second: 10 publications, 10 encodings, 1 frame each for 1 and {CLIENTS} clients"
    ));
}

#[test]
fn lanes_take_turns() {
    const PUBLICATIONS: u32 = 60;
    const EVERY: Duration = Duration::from_millis(50);
    const DELAY: Duration = Duration::from_millis(500);
    let _alone = alone();
    let config = "[budgets]\ncrowd = 10\n[namespaces.ticker]\nmax_delay = \"500ms\"\n";
    let engine = Engine::with_config_and(config, &["--shards", "1"]);
    let mut swarm = Swarm::new(engine.client_address(), CLIENTS).expect("a poll");
    let mut counts = Counts::new(CLIENTS);
    swarm.connect_all(&mut counts, ARRIVAL, |_, _| vec!["ticker:1"]).expect("the swarm turns");
    let start = Instant::now();
    for number in 1..=PUBLICATIONS {
        engine.publish("ticker:1", &json!({ "n": number }));
        let next = start + number * EVERY;
        while Instant::now() < next {
            swarm.turn(Duration::from_millis(5), &mut counts).expect("the swarm turns");
        }
    }
    let delays = start.elapsed().as_millis().div_ceil(DELAY.as_millis());
    let counts = collect(&mut swarm, counts, PUBLICATIONS.into());
    // One frame after the first delay, and then one in each until the last publication has waited for one.
    let most = counts.by_client.iter().map(|count| u128::from(count.frames)).max();
    assert!(most.is_some_and(|most| most <= delays + 1), "{most:?} frames in {delays} delays");
    // Without lanes there would be one batch for each delay.
    let batches = engine.metric("fanfare_batches_total", &[]);
    assert!(batches > 2.0 * delays as f64, "{batches} batches in {delays} delays");
    report(&format!(
        "lanes_take_turns: at most {most:?} frames for each of {CLIENTS} clients, {batches} batches"
    ));
}

#[test]
fn device_wall() {
    let _alone = alone();
    let url = RabbitNode::shared().new_vhost("device-wall");
    let engine = Engine::with_config_and("[namespaces.device]\n", &["--amqp", &url]);
    engine.wait_until_ready();
    let topics: Vec<String> = (0..CLIENTS).map(|device| format!("device:{device}")).collect();
    let mut swarm = Swarm::new(engine.client_address(), CLIENTS).expect("a poll");
    let mut counts = Counts::new(CLIENTS);
    swarm.connect_all(&mut counts, ARRIVAL, |_, client| vec![&topics[client]]).expect("the swarm turns");
    let progress = Progress::new(CLIENTS);
    progress.allow(CLIENTS as u64);
    let start = Instant::now();
    let publisher = publish(url, topics.clone(), CLIENTS as u64, SMALL, progress);
    collect(&mut swarm, counts, 1);
    publisher.join().expect("the publisher ends well");
    report(&format!(
        "device_wall: {CLIENTS} private topics, one message to each, in {:.1?}",
        start.elapsed()
    ));
}
