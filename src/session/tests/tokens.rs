//! What tokens decide.

use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::auth::{ConnectionClaims, KeySet, Keys, SubscriptionClaims, TokenError, Verifier};
use crate::codec::command::Token;

/// ROOM's present, in seconds since 1970.
const NOW: u64 = 1_000_000;
const SECRET: &[u8] = b"secret";

fn signed(claims: &str) -> String {
    let base64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let message = format!("{}.{}", base64(br#"{"alg":"HS256"}"#), base64(claims.as_bytes()));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), message.as_bytes());
    format!("{message}.{}", base64(signature.as_ref()))
}

fn verifier() -> Verifier {
    let mut connection = KeySet::default();
    connection.add_secret(SECRET).unwrap();
    Verifier::new(&Config::default(), Keys { connection, ..Keys::default() })
}

fn in_time<T>(
    said: Result<T, TokenError>,
    check: impl Fn(&T) -> Result<(), TokenError>,
) -> Result<Arc<T>, TokenError> {
    let claims = said?;
    check(&claims).map(|()| Arc::new(claims))
}

/// What a shard finds out about the token of a connection with these claims.
pub(super) fn connection(claims: &str) -> Facts {
    let check = |claims: &ConnectionClaims| claims.check_time(ROOM.now.unix, Duration::ZERO);
    let said = in_time(verifier().connection(&signed(claims)), check);
    Facts { token: Verdict::Connection(said), ..ROOM }
}

/// The same for the token of a subscription.
pub(super) fn subscription_token(claims: &str) -> Facts {
    let check = |claims: &SubscriptionClaims| claims.check_time(ROOM.now.unix, Duration::ZERO);
    let said = in_time(verifier().subscription(&signed(claims)), check);
    Facts { token: Verdict::Subscription(said), ..ROOM }
}

pub(super) fn refresh(id: u32) -> Read {
    command(id, Method::Refresh { token: Token::default() })
}

pub(super) fn refresh_subscription(id: u32, topic: &'static str) -> Read {
    command(id, Method::RefreshSubscription { topic: topic.into(), token: Token::default() })
}

/// A connected client with a token of these claims.
pub(super) fn client_of(world: &World, claims: &str) -> Session {
    let mut session = Session::new(Moment::default());
    let action = world.handle(&mut session, connect(1), connection(claims));
    assert!(matches!(action, Action::Connect { .. }), "{action:?}");
    session
}

pub(super) fn needs_tokens() -> World {
    World { anonymous: false, ..World::new(|_| ()) }
}

#[test]
fn a_token_decides_who_connects() {
    for (claims, expected, user) in [
        (r#"{"sub":"u"}"#.to_owned(), "1: connected, 25 s, true", "u"),
        (r#"{}"#.to_owned(), "1: connected, 25 s, true", ""),
        (format!(r#"{{"sub":"u","exp":{}}}"#, NOW + 60), "1: connected for 60 s", "u"),
        (format!(r#"{{"sub":"u","exp":{}}}"#, NOW), "1: error 109, and no more", ""),
        (format!(r#"{{"sub":"u","nbf":{}}}"#, NOW + 60), "1: error 109, and no more", ""),
        (format!(r#"{{"sub":"u","exp":{},"expire_at":0}}"#, NOW + 60), "1: connected, 25 s, true", "u"),
        (format!(r#"{{"sub":"u","expire_at":{}}}"#, NOW + 7), "1: connected for 7 s", "u"),
        (format!(r#"{{"sub":"u","expire_at":{NOW}}}"#), "1: error 110, and no more", ""),
        (
            r#"{"channel":"t"}"#.to_owned(),
            "3500: a token that is not accepted: it has the claim `channel`: it is the token of a subscription, and not \
             of a connection",
            "",
        ),
    ] {
        let mut session = Session::new(Moment::default());
        let action = needs_tokens().handle(&mut session, connect(1), connection(&claims));
        assert_eq!((show(&action).as_str(), session.user()), (expected, user), "{claims}");
        assert_eq!(session.is_connected(), matches!(action, Action::Connect { .. }), "{claims}");
    }
    let forged = Facts { token: Verdict::Connection(Err(TokenError::NotThreeParts)), ..ROOM };
    let closed = "3500: a token that is not accepted: it is no JSON Web Token: expected header, claims and signature, \
                  divided by `.`";
    assert_eq!(
        show(&needs_tokens().handle(&mut Session::new(Moment::default()), connect(1), forged)),
        closed
    );
}

#[test]
fn without_a_token_nobody_connects_unless_all_may() {
    let mut session = Session::new(Moment::default());
    let refused = "3501: a connect without a token (tokens.anonymous)";
    assert_eq!(show(&needs_tokens().handle(&mut session, connect(1), ROOM)), refused);
    assert!(!session.is_connected());
    let world = World::new(|_| ());
    assert_eq!(show(&world.handle(&mut session, connect(1), ROOM)), "1: connected, 25 s, true");
}

#[test]
fn another_token_is_of_the_same_user_and_in_time() {
    let world = needs_tokens();
    for (claims, expected) in [
        (format!(r#"{{"sub":"u","exp":{}}}"#, NOW + 60), "2: refreshed for Some(60) s"),
        (r#"{"sub":"u"}"#.to_owned(), "2: refreshed for None s"),
        (r#"{"sub":"v"}"#.to_owned(), "3500: the token of another user in the place of the one before"),
        (r#"{}"#.to_owned(), "3500: the token of another user in the place of the one before"),
        (format!(r#"{{"sub":"u","exp":{NOW}}}"#), "3005: an expired token in the place of the one before"),
        (
            format!(r#"{{"sub":"u","expire_at":{NOW}}}"#),
            "3005: an expired token in the place of the one before",
        ),
        (
            r#"{"sub":7}"#.to_owned(),
            "3500: a token that is not accepted: the claim `sub` has the wrong type: expected text",
        ),
    ] {
        let mut session = client_of(&world, r#"{"sub":"u"}"#);
        assert_eq!(show(&world.handle(&mut session, refresh(2), connection(&claims))), expected, "{claims}");
    }
    let mut session = client_of(&world, r#"{"sub":"u"}"#);
    assert_eq!(show(&world.handle(&mut session, refresh(2), ROOM)), "3501: a refresh without a token");
    session.asked(9, "t", Pending::Question);
    let waits = world.handle(&mut session, refresh(2), connection(r#"{"sub":"v"}"#));
    assert_eq!(show(&waits), WAITS, "what was asked before is answered first");
}

#[test]
fn a_connection_that_expires_is_closed_unless_another_token_comes() {
    let world = needs_tokens();
    let timeouts = Timeouts { ping: crate::config::Interval::from_secs(3600), ..Timeouts::default() };
    let at = |seconds| ROOM.now.moment.after(Duration::from_secs(seconds));
    let mut session = client_of(&world, &format!(r#"{{"sub":"u","exp":{}}}"#, NOW + 60));
    session.time_from(at(0));
    let closes = |session: &Session| {
        let due = session.due(&timeouts);
        (due, session.expiry(due, &timeouts))
    };
    assert_eq!(closes(&session), (at(60).after(timeouts.expired.0), Expiry::Close(Silence::Token)));
    assert_eq!(session.expiry(at(60), &timeouts), Expiry::Ping, "it has time for another token");
    let longer = format!(r#"{{"sub":"u","exp":{}}}"#, NOW + 100);
    world.handle(&mut session, refresh(2), connection(&longer));
    assert_eq!(closes(&session), (at(100).after(timeouts.expired.0), Expiry::Close(Silence::Token)));
    world.handle(&mut session, refresh(3), connection(r#"{"sub":"u"}"#));
    assert_eq!(closes(&session), (at(3600), Expiry::Ping));
}

#[test]
fn the_token_of_a_subscription_is_for_its_user_topic_and_client() {
    let world = needs_tokens();
    let other = "3500: the token of a subscription for another user, client or topic";
    for (claims, client, expected) in [
        (r#"{"sub":"u","channel":"t"}"#.to_owned(), None, "2: subscribe t"),
        (r#"{"sub":"v","channel":"t"}"#.to_owned(), None, other),
        (r#"{"channel":"t"}"#.to_owned(), None, other),
        (r#"{"sub":"u","channel":"s"}"#.to_owned(), None, other),
        (r#"{"sub":"u","channel":"t","client":"c"}"#.to_owned(), Some("c"), "2: subscribe t"),
        (r#"{"sub":"u","channel":"t","client":"c"}"#.to_owned(), Some("d"), other),
        (r#"{"sub":"u","channel":1}"#.to_owned(), None, "2: error 103"),
        (r#"{"sub":"u"}"#.to_owned(), None, "2: error 103"),
        (format!(r#"{{"sub":"u","channel":"t","exp":{NOW}}}"#), None, "2: error 109"),
        (format!(r#"{{"sub":"u","channel":"t","expire_at":{NOW}}}"#), None, "2: error 110"),
        (format!(r#"{{"sub":"u","channel":"t","exp":{}}}"#, NOW + 1), None, "2: subscribe t"),
    ] {
        let mut session = client_of(&world, r#"{"sub":"u"}"#);
        let facts = Facts { client: client.map(Into::into), ..subscription_token(&claims) };
        assert_eq!(show(&world.handle(&mut session, subscribe(2, "t"), facts)), expected, "{claims}");
    }
}

#[test]
fn what_a_subscriptions_token_says_holds_as_long_as_the_subscription() {
    let world = needs_tokens();
    let topic = TopicSlot(4);
    let claims = format!(
        r#"{{"sub":"u","channel":"h:t","exp":{},"info":[1],"data":{{"a":2}},
            "override":{{"force_recovery":{{"value":true}}}}}}"#,
        NOW + 60
    );
    let idle = format!("{:?}", client_of(&world, r#"{"sub":"u"}"#));
    let mut session = client_of(&world, r#"{"sub":"u"}"#);
    let action = world.handle(&mut session, subscribe(2, "h:t"), subscription_token(&claims));
    let Action::Subscribe { options, .. } = action else { panic!("{action:?}") };
    assert!(options.recoverable && options.positioned, "the token overrides the namespace");
    assert_eq!((session.ttl_of(topic, ROOM.now), session.info_in(topic)), (None, None), "not yet");
    session.subscribed(2, topic);
    session.answered(2);
    let ttl = session.ttl_of(topic, ROOM.now).map(std::num::NonZeroU32::get);
    assert_eq!((ttl, session.info_in(topic)), (Some(60), Some("[1]")));
    assert_eq!(session.take_data_of(topic).as_deref(), Some(r#"{"a":2}"#));
    assert_eq!(session.take_data_of(topic), None, "told once");
    session.unsubscribed(topic);
    assert_eq!(format!("{session:?}"), idle, "nothing is left of it");
    // A subscribe that fails leaves nothing either.
    world.handle(&mut session, subscribe(3, "h:t"), subscription_token(&claims));
    session.asked(3, "h:t", Pending::Subscribe);
    session.answered(3);
    assert_eq!(format!("{session:?}"), idle);
}

#[test]
fn a_subscription_that_expires_is_ended_unless_another_token_comes() {
    let world = needs_tokens();
    let timeouts = Timeouts { ping: crate::config::Interval::from_secs(3600), ..Timeouts::default() };
    let at = |seconds| ROOM.now.moment.after(Duration::from_secs(seconds));
    let token = |seconds| {
        let claims = format!(r#"{{"sub":"u","channel":"t","exp":{}}}"#, NOW + seconds);
        Facts { subscribed: Some(TopicSlot(4)), ..subscription_token(&claims) }
    };
    let mut session = client_of(&world, r#"{"sub":"u"}"#);
    session.time_from(at(0));
    world.handle(&mut session, subscribe(2, "t"), Facts { subscribed: None, ..token(60) });
    session.subscribed(2, TopicSlot(4));
    let next = |session: &Session| {
        let due = session.due(&timeouts);
        (due, session.expiry(due, &timeouts))
    };
    let ends = Expiry::EndSubscription(TopicSlot(4));
    assert_eq!(next(&session), (at(60).after(timeouts.expired.0), ends));
    let action = world.handle(&mut session, refresh_subscription(3, "t"), token(90));
    assert_eq!(show(&action), "3: subscribed for Some(90) s");
    assert_eq!(next(&session), (at(90).after(timeouts.expired.0), ends));
    for (facts, expected) in [
        (Facts { subscribed: None, ..token(90) }, "3: error 103"),
        (Facts { subscribed: Some(TopicSlot(4)), ..ROOM }, "3: error 107"),
        (token(0), "3: error 110"),
        (
            Facts { subscribed: Some(TopicSlot(4)), ..subscription_token(r#"{"sub":"u","channel":"s"}"#) },
            "3500: the token of a subscription for another user, client or topic",
        ),
        (
            Facts { subscribed: Some(TopicSlot(4)), ..subscription_token(r#"{"sub":"u"}"#) },
            "3500: a token that is not accepted: the claim `channel` is missing",
        ),
    ] {
        let action = world.handle(&mut session, refresh_subscription(3, "t"), facts);
        assert_eq!(show(&action), expected);
    }
    session.unsubscribed(TopicSlot(4));
    assert_eq!(next(&session), (at(3600), Expiry::Ping));
}

/// Its key may be on its way, so the SDKs are to try again.
#[test]
fn a_token_that_nobody_can_judge_yet_is_refused_for_a_while() {
    let undecided = || Facts { token: Verdict::Undecided, ..ROOM };
    let world = needs_tokens();
    let mut session = Session::new(Moment::default());
    assert_eq!(show(&world.handle(&mut session, connect(1), undecided())), "1: error 100, and no more");
    assert!(!session.is_connected());
    let mut session = client_of(&world, r#"{"sub":"u"}"#);
    for (command, on) in
        [(refresh(2), None), (subscribe(3, "t"), None), (refresh_subscription(4, "t"), Some(TopicSlot(0)))]
    {
        let facts = Facts { subscribed: on, ..undecided() };
        let id = command.as_ref().unwrap().id;
        assert_eq!(show(&world.handle(&mut session, command, facts)), format!("{id}: error 100"));
    }
}
