//! The ledger: whatever happens to engine, RabbitMQ or network, every publication that RabbitMQ confirmed is
//! seen by every client once and in order.
//!
//! Real binaries, real processes, real signals. Settings by the environment, as `tests/run --faults` makes
//! them: `LEDGER_SECONDS` (how long; without it each kind of fault once), `LEDGER_SEED`, and `LEDGER_ONLY`
//! (kinds of faults, with commas between them).

#![allow(unreachable_pub, reason = "modules of one test program")]

#[path = "../support/mod.rs"]
mod support;

mod clients;
mod faults;
mod ledger;
mod page;
mod publishers;
mod tally;
mod world;

use std::any::Any;
use std::collections::HashMap;
use std::env;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use faults::{FAULTS, Fault, Promise};
use ledger::{Sums, Violation};
use support::proxy::Way;
use support::random::Random;
use tally::{End, Tally};
use world::{Place, World};

/// Publications that are confirmed before a fault, and after it.
const FLOW: u64 = 100;
/// How long everything that is confirmed may take to reach every client.
const ARRIVAL: Duration = Duration::from_secs(60);
/// How long nothing more may come then.
const SILENCE: Duration = Duration::from_millis(300);
/// How many of each kind a long run has to have: one for each of these, and no more than so many.
const TIME_FOR_EACH_KIND: Duration = Duration::from_secs(300);
const LEAST: u64 = 3;
/// Violations that are shown of one fault: what follows from the first is seldom news.
const SHOWN: usize = 3;

#[test]
fn what_rabbitmq_confirmed_is_seen_once_and_in_order_whatever_happens() {
    let settings = Settings::from_environment();
    let Settings { seed, .. } = settings;
    report(&format!("ledger: seed {seed}"));
    let mut run = Run { random: Random::new(seed), seed, worlds: HashMap::new(), tally: Tally::new() };
    let end = settings.length.map(|length| Instant::now() + length);
    loop {
        for kind in run.random.shuffled(settings.kinds.clone()) {
            if end.is_none_or(|end| Instant::now() < end) {
                run.strike(kind);
            }
        }
        if end.is_none_or(|end| Instant::now() >= end) {
            break;
        }
    }
    report(&format!("ledger: seed {seed}\n{}", run.tally));
    let Run { tally, .. } = run;
    assert_eq!(tally.failed(), 0, "of {} faults, with seed {seed}", tally.times());
    assert_eq!(tally.halfway(), 0, "of {} faults could not be carried out, with seed {seed}", tally.times());
    if let Some(length) = settings.length {
        let least = LEAST.min(length.as_secs() / TIME_FOR_EACH_KIND.as_secs());
        let too_few = tally.too_few(&settings.kinds, least);
        assert!(too_few.is_empty(), "fewer than {least} of {too_few:?}: it takes longer");
    }
}

/// As when `rabbitmqctl` fails on a slow machine, while nothing reaches the engine.
#[test]
fn a_fault_that_ends_halfway_is_undone_and_is_no_loss() {
    const FAULT: Fault = Fault {
        name: "given up",
        place: Place::Stream,
        promise: Promise::Exact,
        strike: |world, _| {
            world.link.hold(Way::Back);
            world.flow(FLOW);
            thread::sleep(world::GIVEN_UP);
            panic!("the queue is not found");
        },
    };
    let mut world = World::start(FAULT.place);
    let outcome = suffer(&mut world, &FAULT, &mut Random::new(1));
    assert_eq!(outcome.halfway.as_deref(), Some("the queue is not found"));
    assert_eq!((outcome.end(), outcome.sums.lost), (End::Halfway, 0), "{:?}", outcome.violations);
    assert!(outcome.sums.confirmed >= 2 * FLOW, "{:?}", outcome.sums);
}

/// Prints to the real standard output: what was checked is worth reading although the test has passed.
fn report(text: &str) {
    writeln!(io::stdout(), "{text}").expect("standard output takes it");
}

#[derive(Debug)]
struct Settings {
    seed: u64,
    /// Without it, each kind once.
    length: Option<Duration>,
    /// Indices into [`FAULTS`].
    kinds: Vec<usize>,
}

impl Settings {
    fn from_environment() -> Self {
        let number = |name: &str| {
            let text = env::var(name).ok()?;
            Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
        };
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let only = env::var("LEDGER_ONLY").unwrap_or_default();
        let only: Vec<_> = only.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        let kind = |name: &&str| {
            let found = FAULTS.iter().position(|fault| fault.name == *name);
            found.unwrap_or_else(|| panic!("there is no fault `{name}`"))
        };
        Self {
            seed: number("LEDGER_SEED").unwrap_or_else(now),
            length: number("LEDGER_SECONDS").map(Duration::from_secs),
            kinds: if only.is_empty() {
                (0..FAULTS.len()).collect()
            } else {
                only.iter().map(kind).collect()
            },
        }
    }
}

/// One run of the program.
struct Run {
    random: Random,
    seed: u64,
    worlds: HashMap<Place, World>,
    tally: Tally,
}

impl Run {
    /// One fault, and its entry in the table. A world in which something went wrong is left behind.
    fn strike(&mut self, kind: usize) {
        let start = Instant::now();
        let fault = &FAULTS[kind];
        let mut world = self.worlds.remove(&fault.place).unwrap_or_else(|| World::start(fault.place));
        let outcome = suffer(&mut world, fault, &mut self.random);
        let Outcome { sums, violations, halfway } = &outcome;
        self.tally.add(kind, *sums, outcome.end());
        let Sums { confirmed, received, lost, repeated, announced } = sums;
        report(&format!(
            "{:>3} {}: {confirmed} confirmed, {received} received, {lost} lost, {repeated} repeated, \
             {announced} announced, in {:.1?}{}",
            self.tally.times(),
            fault.name,
            start.elapsed(),
            match outcome.end() {
                End::Clean => "",
                End::Halfway => " NOT CARRIED OUT",
                End::Failed => " FAILED",
            }
        ));
        if let Some(reason) = halfway {
            report(&format!("seed {}, {}: not carried out, and undone: {reason}", self.seed, fault.name));
        }
        if outcome.end() == End::Clean {
            self.worlds.insert(fault.place, world);
        } else {
            show(fault, self.seed, violations, &world);
        }
    }
}

/// What came of a fault.
struct Outcome {
    sums: Sums,
    violations: Vec<Violation>,
    /// Why it could not be carried out, if it could not.
    halfway: Option<String>,
}

impl Outcome {
    fn end(&self) -> End {
        match (&self.violations[..], &self.halfway) {
            ([], None) => End::Clean,
            ([], Some(_)) => End::Halfway,
            _ => End::Failed,
        }
    }
}

/// Lets one fault happen while publications flow, and returns what the ledger says when all is over. A fault that ends
/// halfway is undone first: what is missing while a link is held is not lost.
fn suffer(world: &mut World, fault: &Fault, random: &mut Random) -> Outcome {
    world.ledger.allow_gaps(fault.promise == Promise::Told);
    world.publishers.resume();
    let halfway = attempt(|| {
        world.flow(FLOW);
        (fault.strike)(world, random);
    });
    let halfway = halfway.map(|reason| match attempt(|| world.undo()) {
        None => reason,
        Some(other) => format!("{reason}; nor could it be undone: {other}"),
    });
    let troubles = [attempt(|| world.flow(FLOW)), attempt(|| world.publishers.pause())];
    let deadline = Instant::now() + ARRIVAL;
    while !world.ledger.is_complete() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(SILENCE);
    let (sums, violations) = world.ledger.close();
    let troubles = troubles.into_iter().flatten().map(|text| Violation { text, context: Vec::new() });
    Outcome { sums, violations: troubles.chain(violations).collect(), halfway }
}

/// Does something, and returns what it panicked with, if it did.
fn attempt(something: impl FnOnce()) -> Option<String> {
    catch_unwind(AssertUnwindSafe(something)).err().map(|panic| words(&*panic))
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> String {
    let text =
        panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_owned()
}

/// What went wrong, and what was said around it.
fn show(fault: &Fault, seed: u64, violations: &[Violation], world: &World) {
    report(&format!("seed {seed}, {}: {} violations", fault.name, violations.len()));
    for Violation { text, context } in violations.iter().take(SHOWN) {
        report(&format!("  {text}; the client's last lines:\n    {}", context.join("\n    ")));
    }
    report(&format!("  what engines and clients wrote:\n    {}", world.last_words().join("\n    ")));
}
