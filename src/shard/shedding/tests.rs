//! Who is closed where a bound is reached, and who is not.

use super::super::input::tests::{ASK, half, header, send};
use super::super::tests::{Peer, World, config, policy, readable};
use std::collections::HashMap;
use std::time::Duration;

use crate::base::moment::Moment;
use crate::codec::deflate::{Deflater, TAIL};
use crate::config::SlowPolicy;
use crate::domain::reasons::CloseReason;
use crate::transport::Transport as _;
use crate::transport::websocket::extension::Deflate;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

/// One command, in a message of so many bytes.
fn whole(bytes: usize) -> Vec<u8> {
    let mut message = header(0x81, bytes);
    message.extend(format!("{ASK:<bytes$}").bytes());
    message
}

/// A small message of so many commands.
fn compressed(commands: usize) -> Vec<u8> {
    let mut deflater = Deflater::default();
    let segment = deflater.segment(vec![ASK; commands].join("\n").as_bytes(), 0);
    let payload = segment.strip_suffix(&TAIL).expect("a segment ends so");
    let short = [0xc1, 0x80 | u8::try_from(payload.len()).unwrap_or(0), 0, 0, 0, 0];
    let head = if payload.len() < 126 { short.to_vec() } else { header(0xc1, payload.len()) };
    [&head[..], payload].concat()
}

/// Those who fill the bound wait for their turns only, and others with a message that has come whole for room.
#[test]
fn nobody_is_closed_while_those_who_have_turns_make_room() {
    let mut world = World::new(config(|config| {
        config.limits.shard_input_bytes = 100_000;
        config.budgets.read_bytes = 2000;
        config.budgets.reads = 32;
    }));
    let honest: Vec<_> = (0..3).map(|_| world.connect()).collect();
    let greedy: Vec<_> = (0..40).map(|_| world.connect()).collect();
    let frames = compressed(300).repeat(3);
    let (mut asked, mut answered, mut crowded) = ([0; 3], [0; 3], false);
    for turn in 0..1000 {
        for peer in &greedy {
            if peer.pipe().to_server.is_empty() {
                world.shard.clients[peer.key.slot].transport.set_deflate(Deflate::FromClient);
                peer.pipe().to_server.extend(&frames);
                world.shard.readable(peer.key.slot);
            }
            peer.got();
        }
        for (n, peer) in honest.iter().enumerate() {
            answered[n] += peer.got().matches("\"id\":9").count();
            if turn > 20 && answered[n] == asked[n] {
                asked[n] += 1;
                peer.pipe().to_server.extend(whole(3000));
                world.shard.readable(peer.key.slot);
            }
        }
        world.tick();
        crowded |= world.shard.is_overfull();
    }
    assert_eq!(world.closes(CloseReason::Slow), 0);
    assert!(crowded && answered.iter().all(|&count| count >= 3), "{answered:?}");
}

/// The rest of each message is in the kernel, and nothing can be read.
#[test]
fn where_nobody_else_makes_room_some_of_those_go_who_wait_for_it() {
    for (bound, has_turns, closed) in [(7000, false, 2), (8000, false, 0), (8500, true, 0)] {
        let mut world = World::new(config(|config| config.budgets.read_bytes = 1024));
        let peers: Vec<_> = (0..8).map(|_| world.connect()).collect();
        let busy = world.connect();
        for peer in &peers {
            send(&mut world, peer, &whole(1500)[..1024]);
            peer.pipe().to_server.extend(&whole(1500)[1024..]);
        }
        if has_turns {
            send(&mut world, &busy, &whole(130).repeat(30));
        }
        world.shard.settings.limits.shard_input_bytes = bound;
        let reads = std::mem::replace(&mut world.shard.settings.budgets.reads, 0);
        peers.iter().for_each(|peer| world.shard.readable(peer.key.slot));
        world.tick();
        assert_eq!(world.closes(CloseReason::Slow), closed, "{bound} {has_turns}");
        world.shard.settings.budgets.reads = reads;
        (0..200).for_each(|_| world.tick());
        let answered = peers.iter().filter(|peer| peer.got().contains("\"id\":9")).count();
        assert_eq!(answered as u64, 8 - closed);
        assert!(world.shard.input.kept.bytes() < bound && world.closes(CloseReason::Slow) == closed);
    }
}

/// Some have left over as much as fills the bound, and it becomes more when it is done; others send messages without their
/// ends. Nobody of them can be closed for letting the shard wait.
#[test]
fn who_waits_for_its_turn_holds_nobody_up_for_longer_than_a_moment() {
    let mut world = World::new(config(|config| {
        config.limits.shard_input_bytes = 200_000;
        config.limits.message_bytes = 4000;
        config.limits.head_bytes = 1000;
        config.budgets.read_bytes = 2000;
        config.budgets.reads = 8;
    }));
    let (honest, busy) = (world.connect(), world.connect());
    let greedy: Vec<_> = (0..24).map(|_| world.connect()).collect();
    let halves: Vec<_> = (0..40).map(|_| world.connect()).collect();
    send(&mut world, &busy, &whole(130).repeat(20));
    for peer in &greedy {
        world.shard.clients[peer.key.slot].transport.set_deflate(Deflate::FromClient);
        peer.pipe().to_server.extend(compressed(90).repeat(200));
        world.shard.readable(peer.key.slot);
    }
    for peer in &halves {
        peer.pipe().to_server.extend(half(3900));
        world.shard.readable(peer.key.slot);
    }
    let (mut waited, mut longest, mut answered, mut most) = (0, 0, 0, 0);
    for _ in 0..3000 {
        if honest.got().contains("\"id\":9") {
            (answered, waited) = (answered + 1, 0);
            honest.pipe().to_server.extend(whole(130));
            world.shard.readable(honest.key.slot);
        }
        if answered == 0 && waited == 0 {
            honest.pipe().to_server.extend(whole(130));
            world.shard.readable(honest.key.slot);
        }
        greedy.iter().for_each(|peer| drop(peer.got()));
        world.later(Duration::from_millis(1));
        (waited, longest, most) = (waited + 1, longest.max(waited), most.max(world.shard.input.kept.bytes()));
    }
    assert!(longest < 500 && answered > 5, "{longest} ms, {answered} answers");
    assert!(world.closes(CloseReason::Slow) > 0 && most < 225_000 + 9000 + 4000, "{most} bytes at most");
    assert!(world.is_alive(&honest) && world.is_alive(&busy), "of whom little is kept");
}

/// Nobody sends anything new, so that nobody waits but with something left over; and one of them goes on all the time.
#[test]
fn unprocessed_input_does_not_wait_longer_either() {
    let mut world = World::new(config(|config| {
        config.limits.head_bytes = 600_000;
        config.budgets.read_bytes = 1000;
    }));
    let greedy: Vec<_> = (0..10).map(|_| world.connect()).collect();
    let honest = world.connect();
    for (n, peer) in greedy.iter().enumerate() {
        world.shard.clients[peer.key.slot].transport.set_deflate(Deflate::FromClient);
        let messages = if n == 0 { whole(130).repeat(6000) } else { compressed(300).repeat(8000) };
        peer.pipe().to_server.extend(messages);
        world.shard.readable(peer.key.slot);
    }
    send(&mut world, &honest, &whole(130).repeat(60));
    world.shard.settings.limits.shard_input_bytes = world.shard.input.kept.bytes() * 9 / 10;
    let (mut answered, mut waited) = (0, 0);
    while answered < 60 {
        waited += 1;
        assert!(waited < 400, "{answered} answers");
        greedy.iter().for_each(|peer| drop(peer.got()));
        answered += honest.got().matches("\"id\":9").count();
        assert!(world.shard.input.kept.without_room().is_empty());
        world.later(Duration::from_millis(1));
    }
    assert!((1..=2).contains(&world.closes(CloseReason::Slow)) && world.is_alive(&honest));
}

/// Of those who let the shard wait, less than half the bound is kept; but all together have too much.
#[test]
fn nobody_may_stay_beyond_an_eighth_of_the_bound() {
    let mut world = World::new(config(|config| config.budgets.read_bytes = 1024));
    let (halves, busy) = ([(); 6].map(|()| world.connect()), world.connect());
    for peer in &halves {
        send(&mut world, peer, &half(1000));
    }
    send(&mut world, &busy, &whole(130).repeat(90));
    let bound = world.shard.input.kept.bytes() * 100 / 120;
    assert!(bound / 2 > 6000);
    world.shard.settings.limits.shard_input_bytes = bound;
    world.shard.settings.budgets.reads = 0;
    world.tick();
    assert!(
        world.shard.input.kept.bytes() < bound + bound / 8,
        "{} of {bound}",
        world.shard.input.kept.bytes()
    );
    assert!((1..=3).contains(&world.closes(CloseReason::Slow)) && world.is_alive(&busy));
}

/// It is in the middle of a message, and has left over what comes between its fragments.
#[test]
fn who_goes_on_within_a_message_is_not_closed_for_it() {
    let mut world = World::new(config(|config| config.budgets.read_bytes = 1024));
    let peer = world.connect();
    let mut fragment = header(0x01, 500);
    fragment.resize(fragment.len() + 500, b' ');
    let pings = [&[0x89, 0x80 | 100, 0, 0, 0, 0][..], &[b' '; 100]].concat().repeat(30);
    send(&mut world, &peer, &[fragment, pings].concat());
    assert!(world.shard.clients[peer.key.slot].transport.is_in_message());
    world.shard.settings.limits.shard_input_bytes = world.shard.input.kept.bytes() * 2 / 3;
    let reads = std::mem::replace(&mut world.shard.settings.budgets.reads, 0);
    world.tick();
    assert_eq!(world.closes(CloseReason::Slow), 0);
    world.shard.settings.budgets.reads = reads;
    (0..40).for_each(|_| world.tick());
    assert!(world.is_alive(&peer) && world.shard.clients[peer.key.slot].tail_mut().is_none());
}

#[test]
fn those_of_whom_most_is_kept_go_first() {
    let mut world = World::new(config(|config| config.limits.shard_input_bytes = 8000));
    let small: Vec<_> = (0..10).map(|_| world.connect()).collect();
    let large = world.connect();
    for peer in &small {
        send(&mut world, peer, &half(500));
    }
    send(&mut world, &large, &half(3000));
    assert!(!world.is_alive(&large) && small.iter().all(|peer| world.is_alive(peer)));
}

/// Whatever is kept of whom, and whoever sends on: nobody waits for room for long, and at last the bound is left.
#[test]
fn the_bound_is_held_by_nobody_for_ever() {
    for seed in 0..20_u64 {
        let mut world = World::new(config(|config| {
            config.limits.shard_input_bytes = 16_000;
            config.limits.message_bytes = 8000;
            config.limits.replies_bytes = 1000;
            config.budgets.read_bytes = 1024;
            config.budgets.reads = 1 + usize::try_from(seed % 7).expect("small");
            config.namespaces.extend([policy(SlowPolicy::Skip)]);
        }));
        let mut random = SmallRng::seed_from_u64(seed);
        let peers: Vec<_> = (0..24).map(|_| world.connect()).collect();
        for peer in peers.iter().step_by(3) {
            world.shard.clients[peer.key.slot].transport.set_deflate(Deflate::FromClient);
        }
        let mut waiting = HashMap::new();
        for _ in 0..400 {
            let n = random.random_range(0..24);
            let peer = &peers[n];
            if world.is_alive(peer) && peer.pipe().to_server.len() < 20_000 {
                peer.pipe().to_server.extend(anything(n, &mut random));
                world.shard.readable(peer.key.slot);
            }
            if random.random_ratio(1, 8) {
                peer.pipe().room = random.random_range(0..3000);
                if world.is_alive(peer) {
                    world.shard.writable(peer.key.slot);
                }
            }
            world.later(Duration::from_millis(2));
            let now = world.shard.timers.now();
            let found_before = std::mem::take(&mut waiting);
            for &key in world.shard.input.kept.without_room() {
                let since: Moment = found_before.get(&key).copied().unwrap_or(now);
                let kept = world.shard.input.kept.bytes();
                assert!(since.after(Duration::from_millis(400)) >= now, "{seed}: {kept} bytes are kept");
                waiting.insert(key, since);
            }
        }
        let finds_sleep = (0..20_000).any(|_| {
            world.tick();
            world.shard.poll_timeout() != Some(Duration::ZERO)
        });
        assert!(
            finds_sleep
                && world.shard.input.kept.bytes() < 16_000
                && world.shard.input.kept.without_room().is_empty(),
            "{seed}"
        );
    }
}

/// What the client with this number may send.
fn anything(n: usize, random: &mut SmallRng) -> Vec<u8> {
    match random.random_range(0..5) {
        0 => half(random.random_range(130..4130)),
        1 if n.is_multiple_of(3) => compressed(200).repeat(3),
        2 => whole(130).repeat(60),
        3 => {
            let publish = format!(
                r#"{{"id":{},"publish":{{"channel":"n:t","data":1}}}}"#,
                random.random_range(1..=1000)
            );
            [header(0x81, 150), format!("{publish:<150}").into_bytes()].concat()
        }
        _ => whole(3000),
    }
}

#[test]
fn who_found_no_room_is_read_as_soon_as_anybody_is() {
    let mut world = World::new(config(|config| config.budgets.read_bytes = 1024));
    let (busy, comes) = (world.connect(), world.connect());
    send(&mut world, &busy, &whole(130).repeat(90));
    let kept = world.shard.input.kept.bytes();
    world.shard.settings.limits.shard_input_bytes = kept * 2 / 3;
    send(&mut world, &comes, &whole(130));
    assert_eq!((comes.got().len(), world.shard.input.kept.without_room().len()), (0, 1));
    // There is some room, and not as much as for everybody.
    world.shard.settings.limits.shard_input_bytes = world.shard.input.kept.bytes() - 10;
    world.tick();
    assert!(comes.got().contains("\"id\":9"));
}

/// What publishers send while RabbitMQ stands still, the kernel holds, and holds them back.
#[test]
fn while_the_broker_does_not_answer_little_is_read() {
    let mut world = World::new(config(|config| {
        config.limits.shard_input_bytes = 1_000_000;
        config.namespaces.extend([policy(SlowPolicy::Skip)]);
    }));
    let peers: Vec<_> = (0..30).map(|_| world.connect()).collect();
    let message = |id: u32| {
        let publish = format!(r#"{{"id":{id},"publish":{{"channel":"n:t","data":"{}"}}}}"#, "x".repeat(1900));
        [header(0x81, publish.len()), publish.into_bytes()].concat()
    };
    for id in 2..102 {
        for peer in &peers {
            peer.pipe().to_server.extend(message(id));
            world.shard.readable(peer.key.slot);
        }
        world.tick();
        while world.requests.take().is_some() {}
    }
    (0..200).for_each(|_| world.tick());
    assert_eq!(world.closes(CloseReason::Slow), 0);
    let most = 30 * (world.shard.settings.budgets.read_bytes + 2500);
    assert!(world.shard.input.kept.bytes() < most, "{} bytes are kept", world.shard.input.kept.bytes());
    assert!(peers.iter().all(|peer| peer.pipe().to_server.len() > 50_000), "the kernel has the rest");
}

#[test]
fn who_has_more_than_its_turns_is_read_by_shares() {
    let mut world = World::new(config(|config| config.budgets.read_bytes = 1024));
    let peer = world.connect();
    let messages = whole(130).repeat(3000);
    send(&mut world, &peer, &messages);
    let mut most = 0;
    let first = messages.len() - peer.pipe().to_server.len();
    while peer.pipe().to_server.len() > messages.len() / 4 {
        world.tick();
        let read = messages.len() - peer.pipe().to_server.len();
        if read > first {
            most = most.max(world.shard.input.kept.bytes());
        }
    }
    assert!((1..=1024).contains(&most), "{most}");
}

/// What is left of a large answer has no memory but its own.
#[test]
fn the_memory_of_replies_is_what_is_counted() {
    let mut world = World::new(config(|config| config.namespaces.extend([readable()])));
    let peer = world.connect();
    world.say(&peer, r#"{"id":2,"history":{"channel":"h:t","limit":-1}}"#);
    peer.pipe().room = 1000;
    world.tell(peer.history(2, 500_000));
    world.give_room(&peer, 440_000);
    let outgoing = world.shard.clients[peer.key.slot].outgoing.as_ref().expect("the rest waits");
    assert!((50_000..70_000).contains(&world.shard.replies.bytes()));
    assert!(
        outgoing.bytes.capacity() <= 2 * world.shard.replies.bytes() + 4096,
        "{}",
        outgoing.bytes.capacity()
    );
}

fn begins_a_frame(world: &mut World) -> Peer {
    let slow = world.connect();
    let topic = world.subscribe(&slow, "t");
    slow.pipe().room = 10;
    world.publish(topic, 100);
    slow
}

/// Its close frame would be behind more of a started frame than there is room for.
#[test]
fn who_ends_while_it_is_being_closed_is_counted_once() {
    let mut world = World::new(config(|config| config.limits.rest_bytes = 0));
    let slow = begins_a_frame(&mut world);
    world.say(&slow, "no command");
    assert!(!world.is_alive(&slow));
    let closes: u64 = world.shard.stats.closes.iter().map(|count| count.value()).sum();
    assert_eq!((closes, world.closes(CloseReason::BadRequest)), (1, 1));
    assert_eq!(world.shard.stats.policy_disconnect.value(), 0);
}
