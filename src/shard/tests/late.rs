//! What is late: nobody is closed for what was in its socket in time, and nobody stays for what it does not send.

use super::*;
use crate::transport::refusal::Refusal;

/// Longer than any time-out: a suspended machine, or a process that was stopped.
const STALL: Duration = Duration::from_secs(60);

/// A little more than a grain.
const SOON: Duration = Duration::from_millis(70);

impl World {
    /// Sends bytes, and the shard hears of it.
    fn send(&mut self, peer: &Peer, bytes: &[u8]) {
        peer.pipe().to_server.extend(bytes);
        self.shard.readable(peer.key.slot);
        self.tick();
    }

    /// The shard stands still, and goes on.
    fn stall(&mut self) {
        self.later(STALL);
        (0..5).for_each(|_| self.later(SOON));
    }

    fn is_open(&self, peer: &Peer) -> bool {
        self.shard.clients.find(peer.key).is_some_and(|client| client.is_open())
    }
}

const CONNECT: &str = r#"{"id":1,"connect":{}}"#;

/// A message whose first half is sent, and its other half.
fn halves() -> [Vec<u8>; 2] {
    let text = r#"{"id":2,"unsubscribe":{"channel":"t"}}"#;
    let header = [0x81, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0];
    let frame: Vec<u8> = header.into_iter().chain(text.bytes()).collect();
    let (first, second) = frame.split_at(20);
    [first.to_vec(), second.to_vec()]
}

fn refused(world: &World, refusal: Refusal) -> u64 {
    world.shard.stats.refused_upgrades[refusal as usize].value()
}

#[test]
fn a_head_that_is_whole_after_a_stall_is_answered_and_another_is_refused() {
    let mut world = World::new(config(|_| {}));
    let peers = [world.arrive(), world.arrive(), world.arrive()];
    let (first, second) = UPGRADE.as_bytes().split_at(50);
    peers[..2].iter().for_each(|peer| world.send(peer, first));
    peers[0].pipe().to_server.extend(second);
    world.stall();
    assert!(peers[0].got().starts_with("HTTP/1.1 101 ") && world.is_open(&peers[0]));
    for peer in &peers[1..] {
        let got = peer.got();
        assert!(got.starts_with("HTTP/1.1 408 ") && got.contains("timeouts.upgrade"), "{got}");
        assert!(!world.is_alive(peer), "its place is free at once");
    }
    assert_eq!((refused(&world, Refusal::LateHead), world.closes(CloseReason::UpgradeFailed)), (2, 2));
}

#[test]
fn a_connect_that_has_come_in_a_stall_is_answered_and_who_sent_none_is_closed() {
    // One at a time is read: it takes some turns.
    let mut world = World::new(config(|config| config.budgets.reads = 1));
    let peers: Vec<_> = (0..20).map(|_| world.arrive()).collect();
    for peer in &peers {
        world.send(peer, UPGRADE.as_bytes());
        world.tick();
        assert!(peer.got().starts_with("HTTP/1.1 101 "));
    }
    let (sent, silent) = peers.split_at(18);
    sent.iter().for_each(|peer| world.send_later(peer, CONNECT));
    world.stall();
    (0..20).for_each(|_| world.later(SOON));
    for peer in sent {
        assert!(peer.got().contains(r#""connect""#) && world.is_open(peer));
    }
    assert_eq!((world.closes(CloseReason::Stale), silent.len()), (2, 2));
}

#[test]
fn a_message_that_is_whole_after_a_stall_is_done_and_half_of_one_is_not_waited_for() {
    let mut world = World::new(config(|config| config.timeouts.ping = Interval::from_secs(3600)));
    let (whole, half) = (world.connect(), world.connect());
    let [first, second] = halves();
    [&whole, &half].into_iter().for_each(|peer| world.send(peer, &first));
    whole.pipe().to_server.extend(second);
    world.stall();
    assert!(whole.got().contains(r#""id":2"#) && world.is_open(&whole));
    assert_eq!(world.closes(CloseReason::Slow), 1);
    assert!(!world.is_open(&half));
}

/// The shard has no room to read it for some time.
#[test]
fn who_finds_no_room_is_not_closed_for_what_it_has_sent() {
    let mut world = World::new(config(|_| {}));
    let peer = world.arrive();
    world.send(&peer, UPGRADE.as_bytes());
    world.send_later(&peer, CONNECT);
    let kept = 2 * world.shard.settings.limits.shard_input_bytes;
    world.shard.input.kept.replace(0, kept);
    world.stall();
    assert!(world.is_open(&peer) && !peer.got().contains(r#""connect""#));
    world.shard.input.kept.release(kept);
    (0..3).for_each(|_| world.later(SOON));
    assert!(world.is_open(&peer) && peer.got().contains(r#""connect""#));
}

#[test]
fn replies_that_are_taken_after_a_stall_are_no_reason_to_close() {
    let mut world = World::new(config(|_| {}));
    let (takes, some, none) = (world.connect(), world.connect(), world.connect());
    for peer in [&takes, &some, &none] {
        peer.pipe().room = 10;
        world.say(peer, r#"{"id":2,"rpc":{}}"#);
    }
    // What they took meanwhile, and the event is to come.
    takes.pipe().room = usize::MAX;
    some.pipe().room = 10;
    world.stall();
    assert!(takes.got().contains(r#""id":2"#) && world.is_open(&takes));
    assert!(world.is_open(&some), "it has its time anew");
    assert_eq!(world.closes(CloseReason::Slow), 1);
    assert!(!world.is_open(&none));
    // But once.
    some.pipe().room = 10;
    world.stall();
    assert!(!world.is_open(&some));
    assert_eq!(world.closes(CloseReason::Slow), 2);
}

/// A byte now and then buys no time, nor does what is no connect.
#[test]
fn who_sends_slowly_or_something_else_is_closed_in_time() {
    let mut world = World::new(config(|config| {
        config.timeouts.upgrade = Interval::from_secs(2);
        config.timeouts.connect = Interval::from_secs(2);
    }));
    let (slow, pings) = (world.arrive(), world.arrive());
    world.send(&pings, UPGRADE.as_bytes());
    let mut bytes = UPGRADE.bytes();
    for turn in 0..230 {
        slow.pipe().to_server.extend(bytes.next().filter(|_| turn < 150));
        pings.pipe().to_server.extend([0x89, 0x80, 0, 0, 0, 0]);
        world.shard.readable(slow.key.slot);
        world.shard.readable(pings.key.slot);
        world.later(Duration::from_millis(10));
    }
    assert_eq!(refused(&world, Refusal::LateHead), 1);
    assert_eq!(world.closes(CloseReason::Stale), 1);
}

/// Its socket is never read to its end.
#[test]
fn who_sends_more_than_is_read_has_as_long_again_at_most() {
    let mut world = World::new(config(|config| {
        config.timeouts.connect = Interval::from_secs(2);
        config.budgets.read_bytes = 1024;
    }));
    let peer = world.arrive();
    world.send(&peer, UPGRADE.as_bytes());
    let mut closed = None;
    for tenth in 0..60 {
        while peer.pipe().to_server.len() < 10_000 {
            peer.pipe().to_server.extend([0x89, 0x80, 0, 0, 0, 0]);
        }
        world.shard.readable(peer.key.slot);
        world.later(Duration::from_millis(100));
        if closed.is_none() && world.closes(CloseReason::Stale) > 0 {
            closed = Some(tenth);
        }
    }
    assert!(closed.is_some_and(|tenth| (20..56).contains(&tenth)), "{closed:?}");
}

/// Nobody has asked for them.
#[test]
fn pongs_of_websocket_buy_no_time() {
    let mut world = World::new(config(|config| {
        config.timeouts.message = Interval::from_secs(2);
        config.timeouts.connect = Interval::from_secs(2);
    }));
    let (half, silent) = (world.connect(), world.arrive());
    world.send(&silent, UPGRADE.as_bytes());
    // The first fragment of a message: pongs may come before the next.
    world.send(&half, &[0x01, 0x81, 0, 0, 0, 0, b'{']);
    for peer in [&half, &silent] {
        world.shard.clients[peer.key.slot].transport.set_native_pings();
    }
    for _ in 0..230 {
        for peer in [&half, &silent] {
            peer.pipe().to_server.extend([0x8a, 0x80, 0, 0, 0, 0]);
            world.shard.readable(peer.key.slot);
        }
        world.later(Duration::from_millis(10));
    }
    assert_eq!((world.closes(CloseReason::Slow), world.closes(CloseReason::Stale)), (1, 1));
}

/// The socket has taken some just before the time is over, and takes nothing at that moment.
#[test]
fn who_takes_some_replies_has_its_time_anew_once() {
    let mut world = World::new(config(|_| {}));
    let (slow, none) = (world.connect(), world.connect());
    for peer in [&slow, &none] {
        peer.pipe().room = 10;
        world.say(peer, r#"{"id":2,"rpc":{}}"#);
    }
    let closed_at = |world: &mut World, peer: &Peer, seconds: std::ops::Range<u64>| {
        seconds.into_iter().find(|_| {
            world.later(Duration::from_secs(1));
            !world.is_open(peer)
        })
    };
    assert_eq!(closed_at(&mut world, &none, 0..9), None);
    world.give_room(&slow, 5);
    assert!(closed_at(&mut world, &none, 9..13).is_some());
    assert!(world.is_open(&slow));
    world.give_room(&slow, 5);
    assert!(closed_at(&mut world, &slow, 13..23).is_some());
    assert_eq!(world.closes(CloseReason::Slow), 2);
}

#[test]
fn what_was_not_told_one_by_one_is_told_when_the_shard_ends() {
    let mut world = World::new(config(|_| {}));
    let peers = [world.arrive(), world.arrive()];
    peers.iter().for_each(|peer| world.send(peer, b"no request\r\n\r\n"));
    assert!(world.shard.faults.due().is_some(), "one of them is to be told");
    peers.iter().for_each(|peer| peer.pipe().ended = true);
    peers.iter().for_each(|peer| world.shard.hung_up(peer.key.slot));
    world.tick();
    world.tell(Mail::Drain);
    world.tick();
    assert!(world.shard.is_drained() && world.shard.faults.due().is_none());
}
