//! Exactness: thousands of clients of the real binary, publications over a real RabbitMQ, and every single
//! delivery compared with what had to come.
//!
//! Each subscription must see a run of its topic's numbers, without gap or repeat, that begins no later
//! than the first publication begun after its subscribe reply was read and, where it lasts to the end,
//! ends with the last one.

#![allow(unreachable_pub, reason = "modules of one test program")]

#[path = "../support/mod.rs"]
mod support;

mod churn;
mod crowds;
mod ledger;
mod publisher;
mod stalled;

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use churn::{Driver, Plan};
use ledger::Ledger;
use publisher::{Progress, publish};
use support::engine::Engine;
use support::rabbitmq::RabbitNode;
use support::swarm::{ClientIndex, Swarm};

/// How long a scenario may take altogether before it counts as stuck.
const LIMIT: Duration = Duration::from_secs(240);
/// How long everything already published may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(60);
/// How long nothing more may come after the last publication.
const SILENCE: Duration = Duration::from_millis(300);
/// Bytes that fill a publication at least, where its size does not matter.
const SMALL: usize = 8;

/// Each of these tests takes the whole machine: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Prints to the real standard output: what was checked is worth reading although the test has passed.
fn report(text: &str) {
    writeln!(io::stdout(), "{text}").expect("standard output takes it");
}

/// Two different topics for each client; each topic gets as many clients as any other.
fn two_of(topics: usize, client: ClientIndex) -> Vec<usize> {
    let first = client % topics;
    let distance = 1 + client / topics % (topics - 1);
    vec![first, (first + distance) % topics]
}

#[test]
fn five_thousand_clients_see_every_publication_once_and_in_order() {
    const TOPICS: usize = 20;
    const CLIENTS: usize = 5000;
    // The window, over all topics, is wider than the engine's prefetch: RabbitMQ has to wait now and then.
    let plan = Plan {
        publications: 100_000,
        resubscribes: 20_000,
        reconnects: 5000,
        witnesses: TOPICS,
        window: 250,
    };
    exact_under_churn("exactness", TOPICS, CLIENTS, plan);
}

/// With so few clients topics are attached to shards and detached from them all the time.
#[test]
fn topics_that_come_and_go_are_exact_too() {
    const TOPICS: usize = 20;
    const CLIENTS: usize = 16;
    let plan =
        Plan { publications: 100_000, resubscribes: 30_000, reconnects: 7500, witnesses: 0, window: 50 };
    exact_under_churn("lonely", TOPICS, CLIENTS, plan);
}

/// Publishes and churns as planned, with `name` for virtual host and topics, and checks every delivery.
fn exact_under_churn(name: &str, topics: usize, clients: usize, plan: Plan) {
    let _alone = alone();
    let start = Instant::now();
    let url = RabbitNode::shared().new_vhost(name);
    let engine = Engine::start(&["--amqp", &url]);
    engine.wait_until_ready();
    let names: Vec<String> = (0..topics).map(|topic| format!("{name}.{topic}")).collect();
    let progress = Progress::new(topics);
    let ledger = Ledger::new(names.clone(), SMALL, progress.clone(), clients);
    let swarm = Swarm::new(engine.client_address(), clients).expect("a poll");
    let mut driver = Driver::new(swarm, ledger, progress.clone(), topics);
    driver.connect_all(|client| two_of(topics, client), LIMIT).expect("the swarm turns");
    let publisher = publish(url, names, plan.publications, SMALL, progress.clone());
    driver.carry_out(plan, LIMIT).expect("the swarm turns");
    driver.complete(ARRIVAL).expect("the swarm turns");
    driver.linger(SILENCE).expect("the swarm turns");
    publisher.join().expect("the publisher ends well");

    let ledger = &driver.ledger;
    assert_eq!(progress.confirmed(), plan.publications);
    assert!(ledger.resubscribed >= plan.resubscribes, "only {} resubscribes", ledger.resubscribed);
    assert!(ledger.reconnected >= plan.reconnects, "only {} reconnects", ledger.reconnected);
    let frames = engine.metric("fanfare_frames_total", &[]);
    report(&format!(
        "{name}: {clients} clients, {} publications, {} resubscribes, {} reconnects: \
         {} deliveries checked, {:.1} to a frame, in {:.0?}",
        plan.publications,
        ledger.resubscribed,
        ledger.reconnected,
        ledger.checked,
        ledger.checked as f64 / frames,
        start.elapsed()
    ));
}
