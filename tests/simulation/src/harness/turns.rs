//! Whoever is busy takes no more than its turns: worlds made for that.

use super::clients::{Asked, NOTHING, Peer};
use super::kind::{Kind, config};
use super::laws::QUIET_LIMIT;
use super::{TOPICS, World};
use fanfare::config::{Config, Limits};

/// Clients of the giant topic and the small one in [`fairness`]; the last two are the small one's.
const CROWD: usize = 40;
/// Twice what it takes: a tick to take the mail, and for each of the two topics, in each of its encodings, one
/// turn, which fills the tick's budget of visits.
const FAIR_TICKS: u64 = 10;
/// Clients in [`fair_reading`]; all but the last one flood.
const TALKERS: usize = 6;
/// Within how many ticks each of them has had a turn, with one to spare.
const FAIR_READS: u64 = 3;
/// Within how many ticks a whole message is answered in [`crowded_reading`].
const CROWDED_TICKS: u64 = 500;
/// Commands of one message that a share of [`READ_BYTES`] is enough for: a command has at least 38 bytes.
const COMMANDS_PER_SHARE: u64 = 1000 / (128 + 38) + 1;

/// A giant topic is swept all the time, and never to its end. Meanwhile the publications of a small topic
/// must reach its subscribers within [`FAIR_TICKS`]: how often they did.
pub(super) fn fairness(seed: u64) -> u64 {
    let (giant, small) = (TOPICS[1], TOPICS[3]);
    let limits = Limits { message_bytes: 400, head_bytes: 400, ..Limits::default() };
    let config = Config { limits, ..config(Kind::PLAIN) };
    let mut world = World::new(seed, config, 1);
    for peer in 0..CROWD {
        world.connect();
        let mut pipe = world.peers[peer].pipe.borrow_mut();
        (pipe.room, pipe.keeps) = (usize::MAX, false);
        drop(pipe);
        world.subscribe_to(peer, if peer < CROWD - 2 { giant } else { small });
    }
    for _ in 0..QUIET_LIMIT {
        world.broker_acts();
        world.turn();
        if world.peers.iter().all(|peer| peer.runs.len() == 1) {
            break;
        }
    }
    let mut fair = 0;
    for _ in 0..20 {
        // The giant's sweep is under way when the small topic's line comes.
        world.publish_to(giant, 1);
        world.broker_acts();
        world.turn();
        world.publish_to(small, 1);
        let due = world.events.ticks + FAIR_TICKS;
        while world.lacks_any(CROWD - 2..CROWD, small) {
            assert!(world.events.ticks < due, "{small} waits for more than {FAIR_TICKS} ticks for {giant}");
            world.publish_to(giant, 1);
            world.broker_acts();
            world.turn();
        }
        fair += u64::from(world.lacks_any(0..CROWD - 2, giant));
    }
    fair
}

/// A shard with [`TALKERS`] clients that are connected and take whatever they are sent.
fn talkers(seed: u64, config: Config) -> World {
    let mut world = World::new(seed, config, 1);
    for peer in 0..TALKERS {
        world.connect();
        let mut pipe = world.peers[peer].pipe.borrow_mut();
        (pipe.room, pipe.keeps) = (usize::MAX, false);
        drop(pipe);
    }
    for _ in 0..QUIET_LIMIT {
        world.turn();
        if world.peers.iter().all(|peer| peer.asked.is_empty()) {
            break;
        }
    }
    world
}

/// Some clients always have sent more than a turn is enough for. What another one asks must be answered within
/// [`FAIR_READS`] ticks, and none of them may have more of a tick than its share: how often there was a choice.
pub(super) fn fair_reading(seed: u64) -> u64 {
    let config = config(Kind { pings: false, ..Kind::PLAIN });
    let mut world = talkers(seed, config);
    let last = TALKERS - 1;
    let mut fair = 0;
    for _ in 0..20 {
        let due = world.events.ticks + FAIR_READS;
        world.command(last, NOTHING, Asked::Unsubscribe { topic: "r:nobody" });
        while !world.peers[last].asked.is_empty() {
            assert!(
                world.events.ticks < due,
                "a client waits for more than {FAIR_READS} ticks for those who flood"
            );
            (0..last).for_each(|peer| world.flood(peer));
            world.turn();
            for (peer, Peer { replies, inflates, .. }) in world.peers.iter().enumerate() {
                let most = if peer % 4 == 3 && *inflates { 1 } else { COMMANDS_PER_SHARE };
                assert!(*replies <= most, "{replies} commands of one client in one tick");
            }
        }
        fair += u64::from(world.peers[..last].iter().all(|peer| !peer.pipe.borrow().to_server.is_empty()));
    }
    fair
}

/// Some clients fill the bound on input, and wait for their turns. Another one, whose messages are larger than what is read
/// at once where there is little room, sends one whole message after the other: each is answered, and it is not closed.
pub(super) fn crowded_reading(seed: u64) {
    let mut config = config(Kind { pings: false, tight: true, ..Kind::PLAIN });
    (config.limits.message_bytes, config.limits.shard_input_bytes) = (4000, 10_000);
    config.limits.shard_replies_bytes = 64 << 20;
    let mut world = talkers(seed, config);
    // Ticks take no time: after a while, some of those who flood would be closed.
    world.tick_time = 1;
    let last = TALKERS - 1;
    for _ in 0..10 {
        let due = world.events.ticks + CROWDED_TICKS;
        world.command(
            last,
            &format!("{NOTHING}{}", " ".repeat(3000)),
            Asked::Unsubscribe { topic: "r:nobody" },
        );
        while !world.peers[last].asked.is_empty() {
            assert!(
                world.events.ticks < due,
                "a whole message waits for more than {CROWDED_TICKS} ticks for room"
            );
            (0..last).for_each(|peer| world.flood(peer));
            world.turn();
        }
    }
}
