//! The bounds on what is kept, in single histories.

use super::super::tests::{Peer, World, config, readable};
use super::super::*;
use crate::codec::deflate::{Deflater, TAIL};
use crate::config::Interval;
use crate::domain::mail::Question;
use crate::domain::reasons::CloseReason;
use crate::session::timeouts::Expiry;
use crate::transport::websocket::extension::Deflate;

/// A frame of text that announces so many bytes of payload, with its mask, which changes nothing.
pub(in crate::shard) fn header(opcode: u8, announced: usize) -> Vec<u8> {
    let length = u16::try_from(announced).expect("a short message").to_be_bytes();
    [&[opcode, 0x80 | 126][..], &length, &[0; 4]].concat()
}

/// So many bytes of a frame that has one more than was sent.
pub(in crate::shard) fn half(bytes: usize) -> Vec<u8> {
    let mut frame = header(0x81, bytes - 7);
    frame.resize(bytes, b' ');
    frame
}

pub(in crate::shard) fn send(world: &mut World, peer: &Peer, bytes: &[u8]) {
    peer.pipe().to_server.extend(bytes);
    world.shard.readable(peer.key.slot);
    world.tick();
}

pub(in crate::shard) const ASK: &str = r#"{"id":9,"unsubscribe":{"channel":"t"}}"#;

fn is_answered(world: &mut World, peer: &Peer) -> bool {
    world.say(peer, ASK);
    peer.got().contains("\"id\":9")
}

#[test]
fn a_bound_that_is_reached_exactly_stops_nobody() {
    let mut world = World::new(config(|config| config.limits.shard_input_bytes = 4096));
    let innocent = world.connect();
    let halves: Vec<_> = (0..8).map(|_| world.connect()).collect();
    for peer in &halves {
        send(&mut world, peer, &half(1024));
    }
    assert!(world.shard.input.kept.bytes() < 4096, "{}", world.shard.input.kept.bytes());
    for peer in &halves {
        peer.pipe().to_server.extend(b" ");
        world.shard.readable(peer.key.slot);
    }
    assert!(is_answered(&mut world, &innocent));
    // Their ends are noticed.
    for peer in &halves {
        peer.pipe().ended = true;
        world.shard.hung_up(peer.key.slot);
    }
    world.tick();
    assert_eq!((world.shard.len(), world.shard.input.kept.bytes()), (1, 0));
    assert_ne!(world.shard.poll_timeout(), Some(Duration::ZERO));
}

#[test]
fn who_is_closed_for_its_input_is_told() {
    let mut world = World::new(config(|config| config.limits.shard_input_bytes = 2048));
    let peers = [world.connect(), world.connect()];
    for peer in &peers {
        send(&mut world, peer, &half(1024));
    }
    assert!(!world.is_alive(&peers[0]) && world.is_alive(&peers[1]));
    assert_eq!(&peers[0].pipe().from_server[..4], [0x88, 6, 0x0b, 0xc0], "3008");
    assert_eq!(world.closes(CloseReason::Slow), 1);
}

/// A message that came whole is read in parts where others have left little room.
#[test]
fn who_has_sent_the_rest_is_closed_after_those_who_have_not() {
    let mut world = World::new(config(|config| config.limits.shard_input_bytes = 4096));
    let honest = world.connect();
    let halves = [(); 4].map(|()| world.connect());
    let mut whole = header(0x81, 3000);
    whole.extend(ASK.as_bytes());
    whole.resize(whole.len() + 3000 - ASK.len(), b' ');
    for peer in &halves {
        peer.pipe().to_server.extend(half(1024));
        world.shard.readable(peer.key.slot);
    }
    honest.pipe().to_server.extend(whole);
    world.shard.readable(honest.key.slot);
    world.tick();
    assert!(world.shard.clients[honest.key.slot].is_in_message(), "it had little room");
    for _ in 0..4 {
        world.tick();
    }
    assert!(honest.got().contains("\"id\":9"));
    assert_eq!(world.closes(CloseReason::Slow), 2);
}

/// Clients that take no replies have sent much more than one turn; another one uploads slowly.
#[test]
fn input_behind_replies_that_nobody_takes_costs_its_senders() {
    let mut world = World::new(config(|config| {
        config.limits.shard_input_bytes = 200_000;
        config.limits.replies_bytes = 600;
    }));
    let (innocent, honest) = (world.connect(), world.connect());
    send(&mut world, &honest, &half(1000));
    world.later(Duration::from_secs(1));
    let greedy: Vec<_> = (0..50).map(|_| world.connect()).collect();
    for peer in &greedy {
        peer.pipe().room = 10;
        for _ in 0..200 {
            world.send_later(peer, ASK);
        }
        world.shard.readable(peer.key.slot);
    }
    for _ in 0..20 {
        assert!(is_answered(&mut world, &innocent));
        assert!(
            world.shard.input.kept.bytes() < 200_000 + 200 * 50,
            "one read beyond: {}",
            world.shard.input.kept.bytes()
        );
    }
    assert!(world.shard.input.kept.bytes() < 200_000, "{}", world.shard.input.kept.bytes());
    assert!(world.is_alive(&honest) && world.is_alive(&innocent));
    let alive = greedy.iter().filter(|peer| world.is_alive(peer)).count();
    assert!((1..50).contains(&alive), "{alive} of 50 have room for what they left");
}

#[test]
fn input_that_waits_for_its_turn_closes_nobody_and_is_done() {
    let mut world = World::new(config(|config| {
        config.limits.shard_input_bytes = 4000;
        config.budgets.read_bytes = 1024;
    }));
    let peers: Vec<_> = (0..6).map(|_| world.connect()).collect();
    for peer in &peers {
        for _ in 0..60 {
            world.send_later(peer, ASK);
        }
        world.shard.readable(peer.key.slot);
    }
    let mut answers = [0; 6];
    for _ in 0..400 {
        world.tick();
        assert!(
            world.shard.input.kept.bytes() < 4000 + 60 * 50,
            "one read beyond: {}",
            world.shard.input.kept.bytes()
        );
        for (peer, answers) in peers.iter().zip(&mut answers) {
            *answers += peer.got().matches("\"id\"").count();
        }
    }
    assert_eq!(answers, [60; 6]);
    assert_eq!((world.closes(CloseReason::Slow), world.shard.input.kept.bytes()), (0, 0));
    assert_ne!(world.shard.poll_timeout(), Some(Duration::ZERO));
}

/// Commands of one message are put off where the client's share ends. When all are done, it is only its slot again.
#[test]
fn who_was_put_off_leaves_no_memory_behind() {
    let mut world = World::new(config(|config| config.budgets.read_bytes = 1024));
    let peer = world.connect();
    world.say(&peer, &[ASK; 20].join("\n"));
    assert!(world.shard.clients[peer.key.slot].unfinished.is_some(), "some are put off");
    (0..20).for_each(|_| world.tick());
    assert_eq!(peer.got().matches("\"id\":9").count(), 20);
    assert!(world.shard.clients[peer.key.slot].unfinished.is_none());
}

#[test]
fn what_the_broker_lets_wait_is_bounded_as_well() {
    let mut world = World::new(config(|config| {
        config.limits.shard_input_bytes = 4000;
        config.namespaces.extend([readable()]);
    }));
    let innocent = world.connect();
    let peers: Vec<_> = (0..3).map(|_| world.connect()).collect();
    for peer in &peers {
        let ask = |id: u32| format!(r#"{{"id":{id},"history":{{"channel":"h:t","limit":-1}}}}"#);
        (2..42).for_each(|id| world.send_later(peer, &ask(id)));
        world.shard.readable(peer.key.slot);
        world.tick();
    }
    assert!(is_answered(&mut world, &innocent));
    let alive: Vec<_> = peers.iter().map(|peer| world.is_alive(peer)).collect();
    assert_eq!(alive, [false, false, true]);
    assert!(world.shard.input.kept.bytes() < 4000);
}

/// What the dead had is free with the end of the turn: nobody else is closed for it.
#[test]
fn who_has_gone_already_counts_no_more() {
    let mut world = World::new(config(|config| config.limits.shard_input_bytes = 3000));
    let peers = [world.connect(), world.connect(), world.connect()];
    for peer in &peers[..2] {
        send(&mut world, peer, &half(1024));
    }
    peers[0].pipe().ended = true;
    world.shard.hung_up(peers[0].key.slot);
    send(&mut world, &peers[2], &half(1024));
    assert!(world.is_alive(&peers[1]) && world.is_alive(&peers[2]));
    assert_eq!(world.closes(CloseReason::Slow), 0);
}

#[test]
fn pongs_that_nobody_takes_are_bounded_in_all() {
    let mut world = World::new(config(|config| {
        config.limits.shard_replies_bytes = 8000;
        config.limits.replies_bytes = 1000;
    }));
    let peers: Vec<_> = (0..20).map(|_| world.connect()).collect();
    for peer in &peers {
        peer.pipe().room = 10;
    }
    for round in 0..40 {
        for peer in &peers {
            let ping = [&[0x89, 0x80 | 40, 0, 0, 0, 0][..], &[b' '; 40]].concat();
            peer.pipe().to_server.extend(ping.repeat(3));
            world.shard.readable(peer.key.slot);
        }
        world.tick();
        assert!(world.shard.replies.bytes() < 8000, "{round}: {}", world.shard.replies.bytes());
    }
    assert!(world.closes(CloseReason::Slow) > 10);
}

/// An honest client whose pong waits for a moment is not closed before those that leave much waiting.
#[test]
fn who_leaves_more_waiting_than_it_may_goes_first() {
    let mut world = World::new(config(|config| {
        config.limits.shard_replies_bytes = 100_000;
        config.limits.replies_bytes = 1000;
        config.namespaces.extend([readable()]);
    }));
    let (honest, greedy) = (world.connect(), world.connect());
    honest.pipe().room = 0;
    world.say(&honest, ASK);
    world.later(Duration::from_secs(1));
    greedy.pipe().room = 10;
    world.say(&greedy, r#"{"id":2,"history":{"channel":"h:t","limit":-1}}"#);
    world.tell(greedy.history(2, 100_000));
    assert!(world.is_alive(&honest) && !world.is_alive(&greedy));
    assert!(world.shard.replies.bytes() > 0);
}

/// After our close, nothing but the peer's close frame is looked at: what is compressed stays so.
#[test]
fn messages_after_our_close_are_not_inflated() {
    let mut world = World::new(config(|_| {}));
    let peer = world.connect();
    world.say(&peer, "no command");
    assert_eq!(world.closes(CloseReason::BadRequest), 1);
    // A mark of compression, which this client has not agreed on, and bytes that are no deflate stream.
    let message = [&[0xc1, 0x80 | 4, 0, 0, 0, 0][..], &[0xff; 4]].concat();
    let close = [0x88, 0x80 | 2, 0, 0, 0, 0, 0x03, 0xe8];
    send(&mut world, &peer, &[message, close.to_vec()].concat());
    assert!(!world.is_alive(&peer));
    assert_eq!(world.closes(CloseReason::PeerClosed) + world.closes(CloseReason::ConnectionLost), 0);
}

/// Its pong is behind a command whose answer comes late.
#[test]
fn a_late_pong_that_is_not_the_clients_fault_moves_no_ping() {
    let mut world = World::new(config(|config| {
        config.timeouts.ping = Interval::from_secs(20);
        config.namespaces.extend([readable()]);
    }));
    let peer = world.connect();
    let until_ping = |world: &mut World| {
        (0..60).find(|_| {
            world.later(Duration::from_secs(1));
            peer.got().contains("{}")
        })
    };
    assert!(until_ping(&mut world).is_some());
    let ask = |id: u32| format!(r#"{{"id":{id},"history":{{"channel":"h:t","limit":-1}}}}"#);
    world.say(&peer, &format!("{}\n{}\n{{}}", ask(2), ask(3)));
    world.later(Duration::from_secs(16));
    for command in [2, 3] {
        world.tell(peer.history(command, 0));
        world.tick();
    }
    let session = &world.shard.clients[peer.key.slot].session;
    let next = session.expiry(world.shard.timers.now(), &world.shard.settings.timeouts);
    assert_eq!(next, Expiry::Ping, "its pong was read");
    peer.got();
    let waited = until_ping(&mut world).map(|seconds| seconds + 1 + 16);
    assert!(waited.is_some_and(|seconds| (19..=22).contains(&seconds)), "{waited:?} s after the last ping");
}

#[test]
fn who_floods_and_answers_no_ping_is_closed() {
    let mut world = World::new(config(|config| {
        config.timeouts.ping = Interval::from_secs(2);
        config.timeouts.pong = Interval::from_millis(1500);
        config.budgets.read_bytes = 1024;
    }));
    let peer = world.connect();
    for _ in 0..100 {
        while peer.pipe().to_server.len() < 10_000 {
            world.send_later(&peer, ASK);
        }
        world.shard.readable(peer.key.slot);
        world.later(Duration::from_millis(100));
    }
    assert_eq!(world.closes(CloseReason::NoPong), 1);
}

#[test]
fn small_commands_of_one_turn_are_answered_with_one_write() {
    let mut world = World::new(config(|_| {}));
    let peer = world.connect();
    (0..40).for_each(|_| world.send_later(&peer, ASK));
    let before = world.shard.stats.writes.value();
    world.shard.readable(peer.key.slot);
    world.tick();
    assert_eq!(peer.got().matches("\"id\"").count(), 40);
    assert_eq!(world.shard.stats.writes.value() - before, 1);
}

/// The second one waits until the id is free again: otherwise one answer would be taken for both.
#[test]
fn a_command_whose_id_is_in_use_waits_for_the_other_one() {
    let mut world = World::new(config(|config| {
        config.namespaces.extend([readable()]);
    }));
    let peer = world.connect();
    let ask = |topic: &str| format!(r#"{{"id":2,"history":{{"channel":"h:{topic}","limit":-1}}}}"#);
    world.say(&peer, &format!("{}\n{}", ask("a"), ask("b")));
    for topic in ["h:a", "h:b"] {
        let Some(Request::Ask { question: Question::Topic(question), .. }) = world.requests.take() else {
            panic!("{topic} is asked for")
        };
        assert!(&*question.topic == topic && world.requests.is_empty());
        world.tell(peer.history(2, 0));
        world.tick();
        assert_eq!(peer.got().matches("\"id\":2").count(), 1);
    }
    assert_eq!(world.closes(CloseReason::BadRequest), 0);
}

/// A compressed message counts as it came, and as it is, and each of its commands besides.
#[test]
fn a_compressed_message_counts_as_it_is_when_it_is_inflated() {
    let mut world = World::new(config(|config| config.budgets.read_bytes = 3000));
    let peer = world.connect();
    world.shard.clients[peer.key.slot].transport.set_deflate(Deflate::FromClient);
    let mut deflater = Deflater::default();
    let segment = deflater.segment(format!("{ASK:<1400}").as_bytes(), 0);
    let payload = segment.strip_suffix(&TAIL).expect("a segment ends so");
    assert!(payload.len() < 126);
    let header = [0xc1, 0x80 | u8::try_from(payload.len()).expect("few bytes"), 0, 0, 0, 0];
    for _ in 0..4 {
        peer.pipe().to_server.extend(header.iter().chain(payload));
    }
    world.shard.readable(peer.key.slot);
    for _ in 0..4 {
        world.tick();
        assert_eq!(peer.got().matches("\"id\"").count(), 1);
    }
}

/// What inflates to much more than it came as is bounded, too, and is done when there is room.
#[test]
fn few_at_a_time_continue_with_unprocessed_input_that_inflates() {
    let mut world = World::new(config(|config| {
        config.limits.shard_input_bytes = 64_000;
        config.budgets.read_bytes = 2000;
    }));
    let mut deflater = Deflater::default();
    let commands: Vec<_> = (0..300).map(|_| ASK).collect();
    let segment = deflater.segment(commands.join("\n").as_bytes(), 0);
    let payload = segment.strip_suffix(&TAIL).expect("a segment ends so");
    let length = u8::try_from(payload.len()).expect("few bytes").to_be_bytes();
    let frame = [&[0xc1, 0x80 | 126, 0], &length[..], &[0; 4], payload].concat();
    let peers: Vec<_> = (0..40).map(|_| world.connect()).collect();
    for peer in &peers {
        world.shard.clients[peer.key.slot].transport.set_deflate(Deflate::FromClient);
        peer.pipe().to_server.extend(frame.repeat(2));
        world.shard.readable(peer.key.slot);
    }
    let mut answers = 0;
    let mut most = 0;
    for _ in 0..5000 {
        world.tick();
        most = most.max(world.shard.input.kept.bytes());
        answers += peers.iter().map(|peer| peer.got().matches("\"id\"").count()).sum::<usize>();
    }
    assert_eq!((answers, world.shard.input.kept.bytes()), (40 * 600, 0));
    assert!(most < 64_000 + 4000 + 6 * 12_000, "{most} bytes at most");
}

/// Questions are bounded in number: so each is small.
#[test]
fn an_epoch_that_is_none_is_refused() {
    let mut world = World::new(config(|config| {
        config.namespaces.extend([readable()]);
    }));
    let peer = world.connect();
    let epoch = "e".repeat(10_000);
    let questions = [
        format!(r#""subscribe":{{"channel":"h:t","recover":true,"epoch":"{epoch}","offset":5}}"#),
        format!(r#""history":{{"channel":"h:t","limit":1,"since":{{"epoch":"{epoch}","offset":5}}}}"#),
    ];
    for question in questions {
        world.say(&peer, &format!(r#"{{"id":9,{question}}}"#));
        let refused = peer.got();
        assert!(refused.contains(r#"{"id":9,"error":{"code":107"#), "{refused}");
    }
    assert!(world.requests.is_empty());
}

/// A byte now and then buys no time.
#[test]
fn who_sends_a_message_slowly_is_closed_in_time() {
    let mut world = World::new(config(|config| config.timeouts.message = Interval::from_secs(2)));
    let peer = world.connect();
    send(&mut world, &peer, &half(1000)[..100]);
    for _ in 0..500 {
        // In each turn something is read before it is looked at what is due.
        peer.pipe().to_server.extend(b" ");
        world.shard.readable(peer.key.slot);
        world.later(Duration::from_millis(10));
    }
    assert_eq!(world.closes(CloseReason::Slow), 1);
}
