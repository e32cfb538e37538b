//! What backends are asked, and what follows from their answers.

use super::tokens::{connection, subscription_token};
use super::*;
use crate::auth::SubscriptionTerms;
use crate::base::clock::UnixTime;
use crate::domain::call::{ConnectTerms, Header};
use crate::domain::reasons::{CloseReason, ErrorCode};

fn world() -> World {
    World::new(asks_backend)
}

/// Asks the backend about each connect, and about connections that expire.
fn asks_about_connections() -> World {
    World::new(|config| {
        asks_backend(config);
        config.hooks.connect = "amqp".to_owned();
        config.hooks.refresh = "amqp".to_owned();
    })
}

/// A backend's terms, as the claims of a token that says the same.
fn terms(claims: &str, data: Option<&str>) -> ConnectTerms {
    let Verdict::Connection(Ok(claims)) = connection(claims).token else { panic!("{claims}") };
    ConnectTerms { claims, data: data.map(Into::into) }
}

/// Has the backend asked, as a shard does.
fn call(world: &World, session: &mut Session, read: Read, facts: Facts) {
    match world.handle(session, read, facts) {
        Action::Call { id, asking } => session.called(id, asking, 3),
        other => panic!("{other:?}"),
    }
}

/// A client whose connect, which is 1, the backend is asked about.
fn asked_who_it_is(world: &World) -> Session {
    let mut session = Session::new(Moment::default());
    call(world, &mut session, connect(1), ROOM);
    session
}

fn answered(world: &World, session: &mut Session, terms: Option<&ConnectTerms>) -> String {
    session
        .connect_answered(terms, world.rules(), &ROOM)
        .map_or_else(|| "nothing".to_owned(), |action| show(&action))
}

#[test]
fn a_request_goes_to_the_backend_of_its_method() {
    let world = World::new(|config| {
        config.rpc.methods.insert("order.*".to_owned(), "amqp".to_owned());
    });
    let long = Box::leak(format!("order.{}", "x".repeat(246)).into_boxed_str());
    let longest = Box::leak(format!("order.{}", "x".repeat(245)).into_boxed_str());
    for (method, expected) in [
        ("order.get", "7: rpc order.get of 3"),
        ("other", "7: error 108"),
        ("", "7: error 108"),
        (&*long, "7: error 107"),
        (&*longest, &*format!("7: rpc {longest} of 3")),
    ] {
        assert_eq!(world.ask(rpc(7, method, b"123"), ROOM), expected);
    }
    assert_eq!(world.ask(command(0, Method::Send { data: None }), ROOM).split(':').next(), Some("3508"));
    let full = Facts { has_room: false, ..ROOM };
    assert_eq!(world.ask(rpc(7, "order.get", b"1"), full), "wait for room for the request");
}

#[test]
fn many_requests_of_a_client_are_refused_and_large_ones_wait() {
    let world = World::new(|config| {
        asks_backend(config);
        (config.limits.rpcs_per_client, config.limits.message_bytes) = (3, 4096);
    });
    let mut session = connected();
    for id in 1..=3 {
        call(&world, &mut session, rpc(id, "m", b"1"), ROOM);
    }
    assert_eq!(show(&world.handle(&mut session, rpc(4, "m", b"1"), ROOM)), "4: error 111");
    session.answered(2);
    assert_eq!(show(&world.handle(&mut session, rpc(4, "m", b"1"), ROOM)), "4: rpc m of 1");
    assert_eq!(show(&world.handle(&mut session, rpc(3, "m", b"1"), ROOM)), WAITS, "its id is in use");
    let mut session = connected();
    let large: &'static [u8] = Box::leak(vec![b'1'; 3500].into_boxed_slice());
    let Action::Call { id, asking } = world.handle(&mut session, rpc(1, "m", large), ROOM) else { panic!() };
    session.called(id, asking, large.len());
    assert_eq!(show(&world.handle(&mut session, rpc(2, "m", large), ROOM)), WAITS);
    assert_eq!(show(&world.handle(&mut session, publish(2, "open:t", b"1"), ROOM)), "2: publish 1 to open:t");
    session.answered(1);
    assert_eq!(show(&world.handle(&mut session, rpc(2, "m", large), ROOM)), "2: rpc m of 3500");
}

#[test]
fn a_backend_says_who_a_client_without_a_token_is() {
    let world = World { anonymous: false, ..asks_about_connections() };
    let mut session = asked_who_it_is(&world);
    assert!(session.is_connecting() && session.awaits(1) && session.due(&world.timeouts) == Moment::LAST);
    assert_eq!(show(&world.handle(&mut session, publish(2, "open:t", b"1"), ROOM)), WAITS);
    let said = terms(r#"{"sub":"ann","info":[1],"meta":{"a":1}}"#, Some("[2]"));
    let action = session.connect_answered(Some(&said), world.rules(), &ROOM).unwrap();
    let Action::Connect { id: 1, accepted: Accepted { ttl: None, .. }, data } = action else {
        panic!("{action:?}")
    };
    assert_eq!((data.as_deref(), session.user(), session.info()), (Some("[2]"), "ann", Some("[1]")));
    let caller = session.caller("c".into(), "test");
    assert_eq!((&*caller.user, caller.meta.as_deref()), ("ann", Some(r#"{"a":1}"#)));
    assert_eq!(answered(&world, &mut session, Some(&said)), "nothing", "a second answer");
}

#[test]
fn a_client_that_a_backend_does_not_know_is_anonymous_or_closed() {
    let strict = World { anonymous: false, ..asks_about_connections() };
    let open = asks_about_connections();
    let ended = terms(r#"{"sub":"ann","expire_at":1}"#, None);
    for (world, said, expected) in [
        (&strict, None, "3501: a connect without a token (tokens.anonymous)"),
        (&open, None, "1: connected, 25 s, true"),
        (&open, Some(&ended), "1: error 110, and no more"),
    ] {
        assert_eq!(answered(world, &mut asked_who_it_is(world), said), expected);
    }
    let mut refused = asked_who_it_is(&open);
    assert_eq!(refused.fail_connect(CloseReason::ConnectFailed, ROOM.now), Some(1));
    assert!(refused.is_refused());
}

#[test]
fn a_backend_is_not_asked_about_a_client_that_shows_a_token() {
    let world = asks_about_connections();
    let by = |facts| show(&world.handle(&mut Session::new(Moment::default()), connect(1), facts));
    assert_eq!(by(connection(r#"{"sub":"ann"}"#)), "1: connected, 25 s, true");
    assert_eq!(by(Facts { token: Verdict::Undecided, ..ROOM }), "1: error 100, and no more");
    assert_eq!(by(Facts { has_room: false, ..ROOM }), "wait for room for the request");
    let mut session = Session::new(Moment::default());
    let Verdict::Connection(Ok(claims)) = connection(r#"{"sub":"bob"}"#).token else { panic!() };
    session.offer(claims);
    assert_eq!(show(&world.handle(&mut session, connect(1), ROOM)), "1: connected, 25 s, true");
}

#[test]
fn a_backend_brings_subscriptions_in_which_the_client_continues() {
    let world = asks_about_connections();
    let mut session = Session::new(Moment::default());
    let since = Since { epoch: Cow::Borrowed("e"), offset: 7 };
    let resumed = vec![(Cow::Borrowed("h:t"), since)];
    call(&world, &mut session, command(1, Method::Connect(Connect { resumed, ..Connect::default() })), ROOM);
    let said = terms(r#"{"sub":"u","channels":["t"],"subs":{"h:t":{"info":[1]}}}"#, Some("5"));
    let action = session.connect_answered(Some(&said), world.rules(), &ROOM).unwrap();
    let Action::ConnectAndSubscribe { id: 1, subscriptions } = action else { panic!("{action:?}") };
    let recovers: Vec<_> =
        subscriptions.iter().map(|one| (&*one.topic, one.options.recover.is_some())).collect();
    assert_eq!(recovers, [("h:t", true), ("t", false)]);
    session.subscribed_by_server(TopicSlot(3), "h:t");
    session.prepared();
    assert_eq!(session.complete_connect(), None);
    session.prepared();
    assert_eq!(session.complete_connect(), Some((1, Some("5".into()))));
    session.accept(&world.timeouts, false, ROOM.now);
    assert_eq!((session.is_connected(), session.info_in(TopicSlot(3))), (true, Some("[1]")));
}

#[test]
fn a_backend_decides_about_subscribes_without_a_token() {
    let world = world();
    assert_eq!(world.ask(subscribe(2, "asked:t"), ROOM), "2: ask about asked:t");
    assert_eq!(world.ask(subscribe(2, "$asked:t"), ROOM), "2: error 103", "a private topic needs a token");
    let full = Facts { has_room: false, ..ROOM };
    assert_eq!(world.ask(subscribe(2, "asked:t"), full), "wait for room for the request");
    let mut session = connected();
    call(&world, &mut session, recover(2, "asked:t", "e", true), ROOM);
    assert_eq!(show(&world.handle(&mut session, unsubscribe(3, "asked:t"), ROOM)), WAITS);
    let terms = SubscriptionTerms { info: Some("[1]".into()), data: Some("2".into()), ..Default::default() };
    let mut answer = |id| session.subscribe_answered(id, "asked:t", &terms, world.rules(), ROOM.now);
    assert_eq!(answer(9), None);
    let options = answer(2).unwrap().unwrap();
    assert!(options.recoverable && options.recover.is_some_and(|resume| resume.rejects_unrecovered));
    assert_eq!(answer(2), None, "a second answer");
    assert!(!session.has_unanswered());
    session.subscribed(2, TopicSlot(4));
    assert_eq!(session.info_in(TopicSlot(4)), Some("[1]"));
    assert_eq!(session.take_data_of(TopicSlot(4)).as_deref(), Some("2"));
}

/// As Centrifugo answers.
#[test]
fn a_subscription_that_has_expired_by_the_backends_answer_is_not_made() {
    let world = world();
    for (before, expected) in [(1, Some(ErrorCode::Expired)), (0, Some(ErrorCode::Expired)), (-1, None)] {
        let mut session = connected();
        call(&world, &mut session, subscribe(2, "asked:t"), ROOM);
        let expires = ROOM.now.unix.as_micros().checked_add_signed(-before * 1_000_000).unwrap();
        let terms = SubscriptionTerms { expires: Some(UnixTime::from_micros(expires)), ..Default::default() };
        let answer = session.subscribe_answered(2, "asked:t", &terms, world.rules(), ROOM.now).unwrap();
        assert_eq!(answer.err(), expected, "{before} s ago");
        assert!(!session.has_unanswered());
    }
}

#[test]
fn nothing_is_left_of_a_subscribe_that_a_backend_refuses() {
    let world = world();
    let mut session = connected();
    let before = format!("{session:?}");
    call(&world, &mut session, subscribe(2, "asked:t"), ROOM);
    session.answered(2);
    assert_eq!(format!("{session:?}"), before);
}

#[test]
fn publishes_to_a_topic_wait_for_the_one_that_a_backend_is_asked_about() {
    let world = world();
    let mut session = connected();
    assert_eq!(world.ask(publish(1, "asked:t", b"12"), ROOM), "1: ask to publish 2 to asked:t");
    call(&world, &mut session, publish(1, "asked:t", b"12"), ROOM);
    for (read, expected) in [
        (publish(2, "asked:t", b"1"), WAITS),
        (publish(2, "asked:u", b"1"), "2: ask to publish 1 to asked:u"),
        (publish(2, "open:t", b"1"), "2: publish 1 to open:t"),
        (rpc(2, "m", b"1"), "2: rpc m of 1"),
    ] {
        assert_eq!(show(&world.handle(&mut session, read, ROOM)), expected);
    }
    session.answered(1);
    assert_eq!(
        show(&world.handle(&mut session, publish(2, "asked:t", b"1"), ROOM)),
        "2: ask to publish 1 to asked:t"
    );
}

/// The clock of [`ROOM`] shows second 1,000,000, at moment 1000.
fn later(seconds: u64) -> Now {
    Now {
        moment: ROOM.now.moment.after(Duration::from_secs(seconds)),
        unix: UnixTime::from_micros((1_000_000 + seconds) * 1_000_000),
    }
}

#[test]
fn a_backend_is_asked_once_when_a_connection_expires_and_prolongs_it_or_not() {
    let world = asks_about_connections();
    let mut session = Session::new(Moment::default());
    let until = |second: u64| format!(r#"{{"sub":"ann","expire_at":{}}}"#, 1_000_000 + second);
    let action = world.handle(&mut session, connect(1), connection(&until(60)));
    assert_eq!(show(&action), "1: connected, 25 s, true", "the client need not send another token");
    session.ping(later(59).moment);
    let at = |session: &Session, second| session.expiry(later(second).moment, &world.timeouts);
    assert_ne!(at(&session, 59), Expiry::AskAboutConnection);
    assert_eq!(at(&session, 60), Expiry::AskAboutConnection);
    assert_eq!(session.due(&world.timeouts), later(60).moment);
    session.connection_is_asked();
    assert_ne!(at(&session, 60), Expiry::AskAboutConnection, "it is asked once");
    assert!(session.connection_answered(Some(&terms(&until(100), None).claims), world.rules(), later(60)));
    assert_eq!(at(&session, 100), Expiry::AskAboutConnection);
    session.connection_is_asked();
    assert!(!session.connection_answered(Some(&terms(&until(90), None).claims), world.rules(), later(100)));
    assert!(!session.connection_answered(None, world.rules(), later(100)));
    assert!(session.connection_answered(
        Some(&terms(r#"{"sub":"ann"}"#, None).claims),
        world.rules(),
        later(100)
    ));
    assert_eq!(session.user(), "ann");
    assert_ne!(at(&session, 10_000), Expiry::AskAboutConnection, "it does not expire any more");
    assert!(session.connection_answered(None, world.rules(), later(100)), "it is not awaited");
}

#[test]
fn a_backend_is_asked_once_when_a_subscription_expires_and_prolongs_it_or_not() {
    let world = world();
    let mut session = connected();
    let token = subscription_token(r#"{"channel":"asked:t","exp":1000060}"#);
    let action = world.handle(&mut session, subscribe(2, "asked:t"), token);
    assert_eq!(show(&action), "2: subscribe asked:t");
    let topic = TopicSlot(4);
    session.subscribed(2, topic);
    assert_eq!(session.ttl_of(topic, ROOM.now), None, "the client need not send another token");
    session.ping(later(60).moment);
    let at = |session: &Session, second| session.expiry(later(second).moment, &world.timeouts);
    assert_eq!(at(&session, 60), Expiry::AskAboutSubscription(topic));
    session.subscription_is_asked(topic);
    assert_ne!(at(&session, 60), Expiry::AskAboutSubscription(topic), "it is asked once");
    let until = |second: u64| SubscriptionTerms {
        expires: Some(UnixTime::from_micros((1_000_000 + second) * 1_000_000)),
        ..Default::default()
    };
    let answer = |session: &mut Session, terms: Option<&SubscriptionTerms>, second| {
        session.subscription_answered(topic, "asked:t", terms, world.rules(), later(second))
    };
    assert!(answer(&mut session, Some(&until(100)), 60));
    assert!(answer(&mut session, None, 60), "an answer that is not awaited changes nothing");
    assert_eq!(at(&session, 100), Expiry::AskAboutSubscription(topic));
    session.subscription_is_asked(topic);
    assert!(!answer(&mut session, Some(&until(90)), 100) && !answer(&mut session, None, 100));
    let soon = UnixTime::from_micros(1_000_100_010_000);
    let soon = SubscriptionTerms { expires: Some(soon), ..Default::default() };
    assert!(answer(&mut session, Some(&soon), 100));
    assert_ne!(at(&session, 100), Expiry::AskAboutSubscription(topic), "it is not asked again at once");
    assert_eq!(at(&session, 101), Expiry::AskAboutSubscription(topic));
}

#[test]
fn headers_that_backends_may_be_sent_are_kept() {
    let mut session = connected();
    assert!(session.headers().is_empty() && session.caller("c".into(), "test").headers.is_none());
    let header = Header { name: "cookie".into(), value: (*b"a=1").into(), is_emulated: false };
    session.keep_headers([header.clone()].into());
    assert_eq!(session.caller("c".into(), "test").headers.as_deref(), Some(&[header][..]));
}
