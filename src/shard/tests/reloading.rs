//! Another configuration, between two commands.

use super::*;
use crate::config::{Allowed, Anonymous, Namespace, Secret};
use harness::PLAIN;

fn with_namespace(options: Namespace) -> Config {
    config(|config| drop(config.namespaces.insert("n".to_owned(), options)))
}

fn error_of(world: &mut World, peer: &Peer, command: &str) -> Option<u64> {
    world.say(peer, command);
    let got = peer.got();
    let code = got.split_once(r#""error":{"code":"#)?.1;
    code.split(',').next()?.parse().ok()
}

#[test]
fn the_next_command_goes_by_the_new_rules_and_subscriptions_stay() {
    let mut world = World::new(with_namespace(Namespace::default()));
    let (stays, comes) = (world.connect(), world.connect());
    let topic = world.subscribe(&stays, "n:a");
    let publish = r#"{"id":3,"publish":{"channel":"n:a","data":1}}"#;
    assert_eq!(error_of(&mut world, &stays, publish), Some(103));

    let narrow = Namespace { client_subscribe: Allowed::NOBODY, ..Namespace::default() };
    let both = Namespace { client_publish: Allowed::EVERYONE, publication_bytes: 1, ..narrow };
    world.reload(with_namespace(both));
    let subscribe = r#"{"id":4,"subscribe":{"channel":"n:a"}}"#;
    assert_eq!(error_of(&mut world, &comes, subscribe), Some(103), "nobody else subscribes");
    assert_eq!(error_of(&mut world, &stays, publish), None, "and whoever is there may publish");
    let long = r#"{"id":5,"publish":{"channel":"n:a","data":12}}"#;
    assert_eq!(error_of(&mut world, &stays, long), Some(106));
    world.publish(topic, LINE);
    assert!(stays.got().contains("pppp"), "the subscription stays");
}

#[test]
fn topics_of_a_namespace_that_is_removed_stay_until_nobody_subscribes() {
    let mut world = World::new(with_namespace(Namespace { log_bytes: 0, ..Namespace::default() }));
    let stays = world.connect();
    let topic = world.subscribe(&stays, "n:a");
    let counted = |world: &World| world.shard.stats.namespace_subscriptions.value(1);
    assert_eq!(counted(&world), 1);
    world.reload(config(|config| drop(config.namespaces.insert("a".to_owned(), Namespace::default()))));
    let comes = world.connect();
    let subscribe = r#"{"id":4,"subscribe":{"channel":"n:a"}}"#;
    assert_eq!(error_of(&mut world, &comes, subscribe), Some(102));
    world.publish(topic, LINE);
    assert!(stays.got().contains("pppp"));
    let added = world.subscribe(&comes, "a:a");
    assert_eq!(world.shard.topics[added].namespace().number(), 2, "numbers stay");
    world.say(&stays, r#"{"id":5,"unsubscribe":{"channel":"n:a"}}"#);
    assert_eq!(counted(&world), 0);
    assert!(
        world
            .shard
            .topics
            .find("n:a", PLAIN)
            .is_none_or(|slot| world.shard.topics[slot].subscribers().is_empty())
    );
}

#[test]
fn anonymous_clients_are_refused_from_the_reload_on_and_those_who_are_there_stay() {
    let mut world = World::new(config(|_| ()));
    let stays = world.connect();
    world.reload(config(|config| config.tokens.anonymous = Anonymous::Refuse));
    let comes = world.arrive();
    comes.pipe().to_server.extend(UPGRADE.bytes());
    world.say(&comes, r#"{"id":1,"connect":{}}"#);
    assert_eq!(world.closes(CloseReason::BadRequest), 1);
    assert!(world.is_alive(&stays));
    world.subscribe(&stays, "t");
}

#[test]
fn what_tokens_said_is_forgotten_with_another_number_to_remember() {
    let with = |tokens| {
        config(|config| {
            config.tokens.hmac_keys = vec![Secret::from("secret")].into();
            config.limits.tokens = tokens;
        })
    };
    let mut world = World::new(with(10));
    let signer = crate::auth::Signer::with_secret(b"secret").unwrap();
    let token = signer.sign(r#"{"sub":"u"}"#).unwrap();
    for (tokens, verified) in [(10, 1), (20, 2), (0, 4)] {
        if tokens != 10 {
            world.reload(with(tokens));
        }
        for _ in 0..2 {
            let peer = world.arrive();
            peer.pipe().to_server.extend(UPGRADE.bytes());
            world.say(&peer, &format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#));
        }
        assert_eq!(world.shard.stats.tokens_verified.value(), verified, "{tokens} are remembered");
    }
}

#[test]
fn a_shorter_time_out_holds_at_the_latest_when_the_former_one_is_over() {
    let with = |seconds| config(|config| config.timeouts.connect = Interval::from_secs(seconds));
    let mut world = World::new(with(10));
    let open = |world: &mut World| {
        let peer = world.arrive();
        peer.pipe().to_server.extend(UPGRADE.bytes());
        world.shard.readable(peer.key.slot);
        world.tick();
        peer
    };
    let before = open(&mut world);
    world.reload(with(2));
    let after = open(&mut world);
    (0..30).for_each(|_| world.later(Duration::from_millis(100)));
    assert_eq!((world.closes(CloseReason::Stale), world.is_alive(&before)), (1, true));
    (0..80).for_each(|_| world.later(Duration::from_millis(100)));
    assert_eq!(world.closes(CloseReason::Stale), 2);
    drop(after);
}
