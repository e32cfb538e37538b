//! The shipped shard holds its laws for many seeds, and each deliberate bug is caught.

use std::panic::catch_unwind;

use simulation::{Events, broken, shipped};

/// Seeds that the shipped shard is run with, unless `SIMULATION_SEEDS=FROM..TO` asks for others.
const SEEDS: std::ops::Range<u64> = 0..3000;

/// Seeds within which each bug must be caught.
const BUG_SEEDS: u64 = 30_000;

/// Seeds that the copy of the shard is run with while it has no bug.
const SOUND_SEEDS: u64 = 200;

fn seeds() -> std::ops::Range<u64> {
    let Ok(wanted) = std::env::var("SIMULATION_SEEDS") else { return SEEDS };
    let ends = wanted.split_once("..").and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    let (from, to) = ends.expect("SIMULATION_SEEDS is FROM..TO, such as 17..18");
    from..to
}

#[test]
fn the_shipped_shard_holds_its_laws() {
    let mut events = Events::default();
    let seeds = seeds();
    for seed in seeds.clone() {
        match catch_unwind(|| shipped::harness::run(seed)) {
            Ok(more) => events.add(&more),
            Err(_) => {
                panic!("seed {seed} broke a law (above): SIMULATION_SEEDS={seed}..{} repeats it", seed + 1)
            }
        }
    }
    println!("{events:?}");
    let enough = (seeds.end - seeds.start) / 20;
    for (name, count) in events.fields() {
        assert!(
            *count >= enough,
            "{name} happened {count} times only: the simulation shows nothing about it"
        );
    }
}

#[test]
fn every_deliberate_bug_is_caught() {
    assert!(broken::BUGS.len() >= 12);
    // What is caught then is a bug, and not the copy that has it.
    (0..SOUND_SEEDS).for_each(|seed| _ = broken::harness::run(seed));
    // A caught bug panics; its message is of no interest here.
    std::panic::set_hook(Box::new(|_| {}));
    let mut survivors = Vec::new();
    for (bug, name) in broken::BUGS.iter().enumerate() {
        simulation::break_it(Some(bug));
        let caught = (0..BUG_SEEDS).find(|&seed| catch_unwind(|| broken::harness::run(seed)).is_err());
        match caught {
            Some(seed) => println!("{name}: caught by seed {seed}"),
            None => survivors.push(*name),
        }
    }
    let _ = std::panic::take_hook();
    assert!(survivors.is_empty(), "not caught within {BUG_SEEDS} seeds: {survivors:?}");
}
