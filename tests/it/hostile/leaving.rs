//! Clients that are silent, do not read, or reset their connections.

use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

use super::{CONFIG, Scene};
use crate::support::engine::Engine;
use crate::support::frames::{PING, TEXT, frame};
use crate::support::peer::{Peer, UPGRADE};
use crate::support::wait::{SOON, hold_for, wait_until};

/// A shard with nobody to look after sleeps, and its clock with it.
#[test]
fn who_comes_after_a_long_silence_has_all_its_time() {
    let engine = Engine::with_config(CONFIG);
    let refused = || engine.metric("fanfare_refused_upgrades_total", &[]);
    hold_for(Duration::from_millis(700), "nobody to be refused", || refused() == 0.0);
    for _ in 0..8 {
        let mut late = Peer::connect(engine.client_address());
        hold_for(Duration::from_millis(100), "nobody to be refused", || refused() == 0.0);
        late.send(UPGRADE.as_bytes());
        assert!(late.read_head().starts_with("HTTP/1.1 101 "));
    }
}

#[test]
fn who_says_nothing_is_sent_away() {
    let mut scene = Scene::new();
    let mut silent = scene.upgraded();
    // Pings are not what is waited for.
    silent.send(&frame(PING, b"still here"));
    assert_eq!(silent.close_code(), Some(3502));
    scene.is_unharmed("silence");
}

/// Its replies pile up to their limit, then it is not read any more, then it is closed.
#[test]
fn who_sends_commands_and_never_reads_is_closed_as_slow() {
    let mut scene = Scene::new();
    let mut deaf = scene.connected();
    socket2::SockRef::from(&deaf.0).set_recv_buffer_size(4096).expect("SO_RCVBUF");
    deaf.0.set_write_timeout(Some(Duration::from_millis(50))).expect("a timeout that is not zero");
    let commands: Vec<u8> = (2..2000u32)
        .flat_map(|id| frame(TEXT, format!(r#"{{"id":{id},"unsubscribe":{{"channel":"A"}}}}"#).as_bytes()))
        .collect();
    let count = |name, label| scene.engine.metric(name, &[label]);
    let is_closed = || {
        count("fanfare_closes_total", ("reason", "slow")) == 1.0
            && count("fanfare_clients", ("state", "closing")) == 0.0
    };
    let deadline = Instant::now() + SOON;
    let mut sent = 0;
    loop {
        assert!(Instant::now() < deadline, "still open after {sent} bytes");
        match deaf.0.write(&commands[sent % commands.len()..]) {
            Ok(written) => sent += written,
            // Its kernel may have missed the reset: it has no room to receive, and asks for no other at once.
            Err(error) if error.kind() == ErrorKind::WouldBlock && is_closed() => break,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    wait_until(SOON, "the client to be closed as slow", is_closed);
    scene.is_unharmed("someone who never reads");
}

#[test]
fn two_hundred_that_reset_at_once_leave_nothing_behind() {
    let mut scene = Scene::new();
    for n in 0..200 {
        let mut peer = Peer::connect(scene.engine.client_address());
        match n % 4 {
            0 => {}
            1 => peer.send(&UPGRADE.as_bytes()[..40]),
            2 => peer.send(UPGRADE.as_bytes()),
            _ => peer.send(&[UPGRADE.as_bytes(), &frame(TEXT, br#"{"id":1,"connect":{}}"#)].concat()),
        }
        peer.reset();
    }
    scene.is_unharmed("200 resets");
    wait_until(SOON, "only the healthy client to be left", || {
        scene.engine.metric("fanfare_clients", &[]) == 1.0
    });
}

/// Its commands are read, and the replies to the first of them find nobody: the last one is not done.
#[test]
fn who_resets_in_the_middle_of_its_commands_gets_no_subscription() {
    let mut scene = Scene::with(Engine::with_config_and(CONFIG, &["--shards", "1"]));
    let commands: Vec<_> = (2..800).map(|id| format!(r#"{{"id":{id},"rpc":{{}}}}"#)).collect();
    let and_then = r#"{"id":1000,"subscribe":{"channel":"alive:1"}}"#;
    let message = format!("{}\n{and_then}", commands.join("\n"));
    for n in 0..50 {
        let mut peer = scene.connected();
        peer.command(&message);
        peer.reset();
        scene.is_unharmed(&format!("reset {n}"));
    }
}
