//! Connects whose tokens bring subscriptions.

use super::tokens::{client_of, connection, needs_tokens, refresh, refresh_subscription, subscription_token};
use super::*;

const CLAIMS: &str = r#"{"sub":"u","channels":["t"],"subs":{"h:t":{"info":[1],"data":{"a":2}}}}"#;

/// A connect that says where the client was in some topics.
fn resume(id: u32, resumed: &[(&'static str, &'static str)]) -> Read {
    let since = |epoch| Since { epoch: Cow::Borrowed(epoch), offset: 7 };
    let resumed = resumed.iter().map(|&(topic, epoch)| (Cow::Borrowed(topic), since(epoch))).collect();
    command(id, Method::Connect(Connect { resumed, ..Connect::default() }))
}

/// A client whose connect, which is 1, waits for `t` and `h:t`.
fn connecting(world: &World) -> Session {
    let mut session = Session::new(Moment::default());
    let action = world.handle(&mut session, connect(1), connection(CLAIMS));
    assert_eq!(show(&action), "1: connect to h:t and t");
    session
}

#[test]
fn what_the_server_gives_needs_no_permission_but_a_topic_that_can_be() {
    let world = World {
        anonymous: false,
        ..World::new(|config| {
            config.server.unknown_namespace = UnknownNamespace::Refuse;
            let server_only = Namespace { server_only: true, ..Namespace::default() };
            let pattern = Namespace { topic_pattern: "[0-9]+".to_owned(), ..Namespace::default() };
            let closed = Namespace { client_subscribe: Allowed::NOBODY, ..Namespace::default() };
            config.namespaces.extend(
                [("only", server_only), ("digits", pattern), ("closed", closed)]
                    .map(|(name, namespace)| (name.to_owned(), namespace)),
            );
        })
    };
    for (topics, expected) in [
        (r#""t""#, "1: connect to t"),
        (r#""only:t","closed:t""#, "1: connect to closed:t and only:t"),
        (r##""$t","t#9","#9""##, "1: connect to #9 and $t and t#9"),
        (r#""digits:1""#, "1: connect to digits:1"),
        (r#""t","digits:x""#, "1: error 107, and no more"),
        (r#""t","nowhere:t""#, "1: error 102, and no more"),
        ("", "1: connected, 25 s, true"),
    ] {
        let facts = connection(&format!(r#"{{"sub":"u","channels":[{topics}]}}"#));
        let mut session = Session::new(Moment::default());
        assert_eq!(show(&world.handle(&mut session, connect(1), facts)), expected, "{topics}");
        let has_failed = expected.contains("error");
        assert_eq!(session.user(), if has_failed { "" } else { "u" }, "a connect that failed leaves nothing");
    }
    let many: Vec<String> = (0..129).map(|n| format!(r#""{n}""#)).collect();
    let facts = connection(&format!(r#"{{"sub":"u","channels":[{}]}}"#, many.join(",")));
    let closed = show(&world.handle(&mut Session::new(Moment::default()), connect(1), facts));
    assert!(closed.starts_with("3500: ") && closed.contains("limits.topics_per_client"), "{closed}");
}

#[test]
fn a_connect_that_brings_subscriptions_waits_for_room_and_then_for_all_of_them() {
    let world = needs_tokens();
    let mut session = Session::new(Moment::default());
    let before = format!("{session:?}");
    let full = Facts { has_room: false, ..connection(CLAIMS) };
    let waits = world.handle(&mut session, connect(1), full.clone());
    assert_eq!(show(&waits), "wait for room for the request");
    assert_eq!(format!("{session:?}"), before);
    let without = Facts { has_room: false, ..connection(r#"{"sub":"u"}"#) };
    assert_eq!(
        show(&world.handle(&mut Session::new(Moment::default()), connect(1), without)),
        "1: connected, 25 s, true"
    );

    let mut session = connecting(&world);
    assert!(session.awaits(1) && !session.awaits(2) && !session.is_connected());
    assert!(session.has_unanswered());
    for read in [connect(1), connect(2), subscribe(2, "t"), command(0, Method::Pong), malformed()] {
        let before = format!("{session:?}");
        assert_eq!(show(&world.handle(&mut session, read, ROOM)), WAITS);
        assert_eq!(format!("{session:?}"), before);
    }
    for (topic, name) in [(TopicSlot(4), "t"), (TopicSlot(5), "h:t")] {
        assert_eq!(session.complete_connect(), None, "{name} is missing");
        session.subscribed_by_server(topic, name);
        session.prepared();
    }
    assert_eq!(session.complete_connect(), Some((1, None)));
    let accepted = session.accept(&world.timeouts, false, ROOM.now);
    assert_eq!(accepted, Accepted { ping: 25, pong: true, ttl: None });
    assert!(session.is_connected() && !session.has_unanswered() && session.complete_connect().is_none());
    assert!(session.is_server_side(TopicSlot(4)) && session.is_server_side(TopicSlot(5)));
    assert_eq!(session.take_data_of(TopicSlot(5)).as_deref(), Some(r#"{"a":2}"#));
    assert_eq!((session.info_in(TopicSlot(5)), session.info_in(TopicSlot(4))), (Some("[1]"), None));
    session.unsubscribed(TopicSlot(4));
    assert!(!session.is_server_side(TopicSlot(4)));
}

#[test]
fn a_connect_continues_where_the_client_was_and_as_the_token_overrides() {
    let world = needs_tokens();
    let claims = r#"{"channels":["h:a","h:b","forced:c","t"],
        "subs":{"h:d":{"override":{"force_positioning":{"value":true}}},
                "forced:e":{"override":{"force_recovery":{"value":false}}}}}"#;
    let resumed = resume(1, &[("h:b", "e"), ("h:x", "e"), ("t", "e")]);
    let action = world.handle(&mut Session::new(Moment::default()), resumed, connection(claims));
    let Action::ConnectAndSubscribe { subscriptions, .. } = action else { panic!("{action:?}") };
    let options: Vec<_> = subscriptions
        .iter()
        .map(|ServerSide { topic, options }| {
            let offset = options.recover.as_ref().map(|resume| resume.since.offset);
            (&**topic, options.positioned, options.recoverable, options.was_recovering, offset)
        })
        .collect();
    let expected = [
        ("forced:c", true, true, false, None),
        ("forced:e", false, false, false, None),
        ("h:a", false, false, false, None),
        ("h:b", true, true, false, Some(7)),
        ("h:d", true, false, false, None),
        ("t", false, false, true, None),
    ];
    assert_eq!(options, expected);
    let long: &'static str = "e".repeat(129).leak();
    let action =
        world.handle(&mut Session::new(Moment::default()), resume(1, &[("h:b", long)]), connection(claims));
    assert_eq!(show(&action), "1: error 107, and no more", "an epoch has its bound");
}

#[test]
fn a_connect_that_waits_has_no_time_out_but_that_of_its_token() {
    let world = needs_tokens();
    let session = connecting(&world);
    assert_eq!(session.due(&world.timeouts), Moment::LAST);
    assert_eq!(session.expiry(Moment::LAST, &world.timeouts), Expiry::Nothing);
    let claims = r#"{"channels":["t"],"exp":1000060}"#;
    let mut session = Session::new(Moment::default());
    world.handle(&mut session, connect(1), connection(claims));
    let due = ROOM.now.moment.after(Duration::from_secs(60)).after(world.timeouts.expired.0);
    assert_eq!(session.due(&world.timeouts), due);
    assert_eq!(session.expiry(due, &world.timeouts), Expiry::Close(Silence::Token));
    assert_eq!(session.accept(&world.timeouts, true, ROOM.now).ttl.map(std::num::NonZeroU32::get), Some(60));
}

#[test]
fn a_connect_that_fails_after_it_waited_ends_the_session() {
    let world = needs_tokens();
    let mut session = connecting(&world);
    session.subscribed_by_server(TopicSlot(4), "t");
    assert_eq!(session.fail_connect(CloseReason::ConnectFailed, ROOM.now), Some(1));
    assert_eq!((session.user(), session.awaits(1), session.has_grants()), ("", false, false));
    for read in [connect(1), subscribe(2, "t"), command(0, Method::Pong), malformed()] {
        assert_eq!(show(&world.handle(&mut session, read, ROOM)), "ignored");
    }
    let due = ROOM.now.moment.after(world.timeouts.close.0);
    assert_eq!(session.due(&world.timeouts), due);
    let leaves = Expiry::Close(Silence::Leave(CloseReason::ConnectFailed));
    assert_eq!(session.expiry(due, &world.timeouts), leaves);
    assert_eq!(session.fail_connect(CloseReason::Expired, ROOM.now), None, "it fails once");
}

#[test]
fn another_token_changes_no_subscription_that_the_server_has_made() {
    let world = needs_tokens();
    let mut session = connecting(&world);
    for (topic, name) in [(TopicSlot(4), "t"), (TopicSlot(5), "h:t")] {
        session.subscribed_by_server(topic, name);
        session.prepared();
    }
    session.accept(&world.timeouts, false, ROOM.now);
    let other = connection(r#"{"sub":"u","channels":["other"]}"#);
    assert_eq!(show(&world.handle(&mut session, refresh(2), other)), "2: refreshed for None s");
    assert!(session.is_server_side(TopicSlot(4)));
    let token = subscription_token(r#"{"sub":"u","channel":"t","exp":1000090}"#);
    let facts = Facts { subscribed: Some(TopicSlot(4)), ..token };
    let refused = world.handle(&mut session, refresh_subscription(3, "t"), facts.clone());
    assert_eq!(show(&refused), "3: error 103", "it lasts as long as the connection");
    assert_eq!(show(&world.handle(&mut session, subscribe(4, "t"), facts)), "4: error 105");
    let facts = Facts { subscribed: Some(TopicSlot(4)), ..ROOM };
    assert_eq!(show(&world.handle(&mut session, unsubscribe(5, "t"), facts)), "5: unsubscribe true");
    let mut by_itself = client_of(&world, r#"{"sub":"u"}"#);
    by_itself.subscribed(2, TopicSlot(4));
    assert!(!by_itself.is_server_side(TopicSlot(4)));
}
