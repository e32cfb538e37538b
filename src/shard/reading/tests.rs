//! Turns and shares, in single histories.

use super::super::tests::{Peer, World, config, policy};
use super::super::*;
use crate::config::{Interval, SlowPolicy};

/// Small messages of one client, of which each counts `STEP_COST` for its frame and for its command, and its bytes.
fn noise(world: &World, peer: &Peer, commands: std::ops::Range<u32>) {
    for id in commands {
        world.send_later(peer, &format!(r#"{{"id":{id},"unsubscribe":{{"channel":"t"}}}}"#));
    }
}

#[test]
fn a_client_over_its_share_waits_for_the_next_turn_without_an_event() {
    let mut world = World::new(config(|config| config.budgets.read_bytes = 2000));
    let (noisy, quiet) = (world.connect(), world.connect());
    noise(&world, &noisy, 2..102);
    world.shard.readable(noisy.key.slot);
    world.tick();
    let first = noisy.got().matches("\"id\"").count();
    assert!((2..=8).contains(&first), "{first} of 100 commands in one turn");
    assert_eq!(world.shard.patience(), Some(Duration::ZERO));
    // Whoever comes now has its turn in the same tick.
    world.say(&quiet, r#"{"id":2,"unsubscribe":{"channel":"t"}}"#);
    assert!(quiet.got().contains("\"id\":2"));
    let mut all = first + noisy.got().matches("\"id\"").count();
    for _ in 0..100 {
        assert!(world.shard.clients[noisy.key.slot].tail.as_ref().map_or(0, |tail| tail.len()) <= 2000);
        world.tick();
        let ids = noisy.got();
        all += ids.matches("\"id\"").count();
        assert!(ids.is_empty() || ids.contains(&format!("\"id\":{}", all + 1)), "in order: {ids}");
    }
    assert_eq!(all, 100);
    assert_ne!(world.shard.patience(), Some(Duration::ZERO));
}

#[test]
fn commands_of_one_message_are_spread_over_turns_in_their_order() {
    let mut world = World::new(config(|config| config.budgets.read_bytes = 1000));
    let noisy = world.connect();
    let lines: Vec<_> =
        (2..32).map(|id| format!(r#"{{"id":{id},"unsubscribe":{{"channel":"t"}}}}"#)).collect();
    world.say(&noisy, &lines.join("\n"));
    let mut got = Vec::new();
    for turn in 0.. {
        assert!(turn < 30, "{got:?}");
        let replies = noisy.got();
        let ids = replies.split("\"id\":").skip(1).filter_map(|rest| rest.split(',').next()?.parse().ok());
        let ids: Vec<u32> = ids.collect();
        assert!(ids.len() <= 7, "{ids:?} in one turn");
        got.extend(ids);
        if got.len() == 30 {
            break;
        }
        world.tick();
    }
    assert_eq!(got, (2..32).collect::<Vec<_>>());
}

#[test]
fn reading_ends_when_its_time_of_the_turn_is_over() {
    let mut world = World::new(config(|config| config.budgets.read_time = Interval::from_millis(2)));
    let peers: Vec<_> = (0..6).map(|_| world.connect()).collect();
    for peer in &peers {
        noise(&world, peer, 2..3);
        world.shard.readable(peer.key.slot);
    }
    // Each look at the clock is a millisecond after the one before.
    let time = std::cell::Cell::new(world.now);
    let mut turns = Vec::new();
    while turns.iter().sum::<usize>() < peers.len() {
        assert!(turns.len() < 10, "{turns:?}");
        world.shard.tick(|| {
            time.set(time.get() + Duration::from_millis(1));
            time.get()
        });
        turns.push(peers.iter().filter(|peer| !peer.got().is_empty()).count());
    }
    assert_eq!(turns, [2, 2, 2]);
}

/// The broker keeps their order: nothing is gained by waiting for each answer.
#[test]
fn publishes_to_one_topic_follow_each_other_and_are_bounded() {
    let mut world = World::new(config(|config| {
        config.namespaces.extend([policy(SlowPolicy::Skip)]);
        config.limits.message_bytes = 4000;
    }));
    let author = world.connect();
    for id in 2..22 {
        world.send_later(&author, &format!(r#"{{"id":{id},"publish":{{"channel":"n:t","data":{id}}}}}"#));
    }
    world.shard.readable(author.key.slot);
    world.tick();
    let take = |world: &mut World| {
        std::iter::from_fn(|| world.requests.take())
            .map(|request| match request {
                Request::Publish(publish) => String::from_utf8(publish.data.into_vec()).expect("a number"),
                other => panic!("{other:?}"),
            })
            .collect::<Vec<_>>()
    };
    let mut taken = take(&mut world);
    assert!((2..=8).contains(&taken.len()), "{taken:?} at once");
    let mut answered = 2;
    while answered < 22 {
        world.tell(Mail::Published { client: author.key, command: answered, outcome: Ok(()) });
        world.tick();
        taken.extend(take(&mut world));
        answered += 1;
    }
    assert_eq!(taken, (2..22).map(|id| id.to_string()).collect::<Vec<_>>());
    assert_eq!(world.shard.clients[author.key.slot].unanswered().len(), 0);
}
