//! How connections end.

use super::*;

/// A close frame, as a client must mask it: with 1000, and without a reason.
const CLOSE: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];

#[test]
fn who_dies_in_mid_message_does_no_more() {
    let mut world = World::new(config(|config| config.limits.replies_bytes = 200));
    let (healthy, reset) = (world.connect(), world.connect());
    let topic = world.subscribe(&healthy, "t");
    reset.pipe().reset = true;
    // The replies to two are sent before the third is looked at.
    let commands =
        [r#"{"id":2,"rpc":{}}"#, r#"{"id":3,"rpc":{}}"#, r#"{"id":4,"subscribe":{"channel":"t"}}"#];
    world.say(&reset, &commands.join("\n"));
    assert!(!world.is_alive(&reset));
    assert_eq!(world.closes(CloseReason::ConnectionLost), 1);
    let stranger = world.connect();
    assert_eq!(stranger.key.slot, reset.key.slot);
    world.publish(topic, LINE);
    assert_eq!((healthy.pipe().from_server.len(), stranger.pipe().from_server.len()), (FRAME, 0));
}

#[test]
fn who_dies_of_what_it_leaves_does_no_more() {
    let mut world = World::new(config(|config| config.limits.rest_bytes = 0));
    let (healthy, slow) = (world.connect(), world.connect());
    let topic = world.subscribe(&healthy, "t");
    let left = world.subscribe(&slow, "u");
    slow.pipe().room = 10;
    world.publish(left, LINE);
    let commands = [r#"{"id":3,"unsubscribe":{"channel":"u"}}"#, r#"{"id":4,"subscribe":{"channel":"t"}}"#];
    world.say(&slow, &commands.join("\n"));
    assert!(!world.is_alive(&slow));
    let stranger = world.connect();
    world.publish(topic, LINE);
    assert_eq!((healthy.pipe().from_server.len(), stranger.pipe().from_server.len()), (FRAME, 0));
}

/// As a stream for TLS does with a record that the socket takes in part.
#[test]
fn a_connection_is_not_dropped_before_its_stream_has_written_the_answer_to_the_peers_close() {
    let mut world = World::new(config(|_| {}));
    let peer = world.connect();
    (peer.pipe().keeps, peer.pipe().room) = (true, 1);
    peer.pipe().to_server.extend(CLOSE);
    world.shard.readable(peer.key.slot);
    world.tick();
    assert!(world.is_alive(&peer) && peer.pipe().from_server.len() == 1);
    for room in [1, 0, 1, 1] {
        assert!(world.is_alive(&peer), "a part of the answer is missing");
        world.give_room(&peer, room);
    }
    assert_eq!(std::mem::take(&mut peer.pipe().from_server), [0x88, 2, 0x03, 0xe8]);
    assert!(!world.is_alive(&peer));
    assert_eq!(world.closes(CloseReason::PeerClosed), 1);
}
