//! One client in a hundred does not read. They pay for it, by the policy of their namespace; nobody else
//! misses anything.

use std::time::Instant;

use crate::churn::{Driver, Plan};
use crate::ledger::{Fate, Ledger};
use crate::publisher::{Progress, publish};
use crate::support::engine::Engine;
use crate::support::rabbitmq::RabbitNode;
use crate::support::swarm::{ClientIndex, Swarm};
use crate::{ARRIVAL, LIMIT, SILENCE, alone, report, two_of};

const CLIENTS: usize = 3000;
/// The last clients stall: ten for each policy.
const STALLED: usize = CLIENTS / 100;
/// Fates of the stalled, with the namespace that brings it.
const FATES: [(Fate, &str); 3] =
    [(Fate::Disconnected, "disconnect"), (Fate::Resynced, "resync"), (Fate::Skipping, "skip")];
const STALLED_PER_FATE: u64 = (STALLED / FATES.len()) as u64;
const TOPICS_PER_NAMESPACE: usize = 4;
const TOPICS: usize = FATES.len() * TOPICS_PER_NAMESPACE;
/// `SO_RCVBUF` of the stalled. The kernel makes 2,304 bytes of anything smaller.
const RECEIVE_BUFFER: usize = 2304;
/// Bytes that fill each publication at least.
const FILL: usize = 1000;

/// The logs hold about a hundred publications: a stalled client's socket is full long before, and the log
/// soon after. Pings would close who does not answer them.
const CONFIGURATION: &str = r#"
[limits]
publication_bytes = 4096
frame_bytes = 65536
log_bytes = 131072

[timeouts]
ping = "1h"

[namespaces.disconnect]
slow = "disconnect"

[namespaces.resync]
slow = "resync"

[namespaces.skip]
slow = "skip"
"#;

/// Publications per topic of each step until everyone who does not read is blocked, and of how many steps
/// at most: fewer than a log holds.
const STEP: u64 = 4;
const STEPS_MAX: u64 = 20;
/// Publications while they are blocked, several times what a log holds, and after they read again.
const WHILE_BLOCKED: u64 = 400 * TOPICS as u64;
const AFTERWARDS: u64 = 50 * TOPICS as u64;

#[test]
fn who_stalls_pays_and_nobody_else_misses_anything() {
    let _alone = alone();
    let start = Instant::now();
    let url = RabbitNode::shared().new_vhost("stalled");
    let engine = Engine::with_config_and(CONFIGURATION, &["--amqp", &url]);
    engine.wait_until_ready();
    let mut driver = connect(&engine);
    let names = (0..TOPICS).map(|topic| driver.ledger.name(topic).to_owned()).collect();
    let total = STEP * STEPS_MAX * TOPICS as u64 + WHILE_BLOCKED + AFTERWARDS;
    let publisher = publish(url, names, total, FILL, driver.progress.clone());

    stall(&mut driver);
    publish_until_blocked(&mut driver, &engine);
    assert_eq!(outcomes(&engine), [0; 3], "nobody may pay before a log is full");
    let publications = WHILE_BLOCKED;
    let plan = Plan { publications, resubscribes: 2000, reconnects: 500, witnesses: TOPICS, window: 40 };
    driver.carry_out(plan, LIMIT).expect("the swarm turns");
    driver.complete(ARRIVAL).expect("the swarm turns");

    read_again(&mut driver);
    let publications = total - driver.progress.begun_total();
    driver.carry_out(Plan { publications, resubscribes: 0, reconnects: 0, ..plan }, LIMIT).expect("turns");
    driver.complete(ARRIVAL).expect("the swarm turns");
    driver.linger(SILENCE).expect("the swarm turns");
    publisher.join().expect("the publisher ends well");
    everybody_paid_what_was_due(&driver.ledger, &engine);
    report(&format!(
        "stalled: {CLIENTS} clients, {STALLED} of them stalled and blocked, {total} publications: {} deliveries \
         checked, {} closed, {} resynced, {} jumps, in {:.0?}",
        driver.ledger.checked,
        driver.ledger.disconnected,
        driver.ledger.resynced,
        driver.ledger.jumps,
        start.elapsed()
    ));
}

/// Everyone is connected: two topics for those who will read on, one for the others.
fn connect(engine: &Engine) -> Driver {
    let names = FATES.iter().flat_map(|(_, namespace)| {
        (0..TOPICS_PER_NAMESPACE).map(move |topic| format!("{namespace}:{topic}"))
    });
    let progress = Progress::new(TOPICS);
    let mut ledger = Ledger::new(names.collect(), FILL, progress.clone(), CLIENTS);
    let mut swarm = Swarm::new(engine.client_address(), CLIENTS).expect("a poll");
    for client in stalled() {
        ledger.set_fate(client, FATES[client % FATES.len()].0);
        swarm.shrink_receive_buffer(client, RECEIVE_BUFFER);
    }
    let mut driver = Driver::new(swarm, ledger, progress, TOPICS);
    let topics_of = |client: ClientIndex| {
        if stalled().contains(&client) {
            vec![client % FATES.len() * TOPICS_PER_NAMESPACE + client / FATES.len() % TOPICS_PER_NAMESPACE]
        } else {
            two_of(TOPICS, client)
        }
    };
    driver.connect_all(topics_of, LIMIT).expect("the swarm turns");
    driver
}

fn stalled() -> std::ops::Range<ClientIndex> {
    CLIENTS - STALLED..CLIENTS
}

fn stall(driver: &mut Driver) {
    for client in stalled() {
        driver.swarm.stall(client);
        driver.ledger.set_reads(client, false);
    }
}

fn read_again(driver: &mut Driver) {
    for client in stalled() {
        driver.ledger.set_reads(client, true);
        driver.swarm.resume(client, &mut driver.ledger);
    }
}

/// Publishes little by little until the engine says of each stalled client that it is blocked, and of
/// nobody else: without that, the rest would test nothing.
fn publish_until_blocked(driver: &mut Driver, engine: &Engine) {
    for step in 1..=STEPS_MAX {
        let total = step * STEP * TOPICS as u64;
        driver.progress.allow(total);
        driver.wait_for_publications(total, ARRIVAL).expect("the swarm turns");
        driver.complete(ARRIVAL).expect("the swarm turns");
        if blocked(engine) == STALLED as u64 {
            return;
        }
    }
    panic!("{} clients are blocked instead of {STALLED}", blocked(engine));
}

fn blocked(engine: &Engine) -> u64 {
    number(engine.metric("fanfare_blocked_clients", &[]))
}

/// How many clients or subscriptions paid, by policy.
fn outcomes(engine: &Engine) -> [u64; 3] {
    FATES.map(|(_, policy)| number(engine.metric("fanfare_slow_outcomes_total", &[("policy", policy)])))
}

/// A count in a page of metrics.
fn number(value: f64) -> u64 {
    format!("{value}").parse().expect("a whole number")
}

fn everybody_paid_what_was_due(ledger: &Ledger, engine: &Engine) {
    let [disconnected, resynced, skipped] = outcomes(engine);
    assert_eq!(
        (disconnected, ledger.disconnected),
        (STALLED_PER_FATE, STALLED_PER_FATE),
        "closed: said, seen"
    );
    assert_eq!((resynced, ledger.resynced), (STALLED_PER_FATE, STALLED_PER_FATE), "resynced: said, seen");
    assert!(ledger.jumps >= STALLED_PER_FATE, "only {} jumps", ledger.jumps);
    assert!(skipped >= ledger.jumps, "{skipped} jumps said, {} seen", ledger.jumps);
    let closed = engine.metric("fanfare_closes_total", &[("reason", "slow")]);
    assert_eq!(number(closed), STALLED_PER_FATE, "closed for being slow");
    assert_eq!(blocked(engine), 0, "everybody reads");
}
