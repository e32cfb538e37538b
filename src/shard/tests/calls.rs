//! Calls to backends on their way through a shard: from the bytes of a command to the call, and from its answer to the reply.

use super::*;
use crate::auth::{ConnectionClaims, KeySet, Keys, Signer, SubscriptionTerms, Verifier};
use crate::base::clock::UnixTime;
use crate::config::{Anonymous, Backend, Namespace};
use crate::domain::call::{BackendAnswer, BackendError, ConnectTerms, PublishTerms, Terms};
use crate::domain::mail::{Answer, Ask, Call, Called, TopicName};
use crate::domain::reasons::{Closing, UnsubscribeCode};

const CONNECT: &str = r#"{"id":1,"connect":{}}"#;

/// Backends decide about everything.
pub(super) fn asking(change: impl FnOnce(&mut Config)) -> World {
    World::new(config(|config| {
        let amqp = || "amqp".to_owned();
        config.backends.insert(amqp(), Backend { meta: true, ..Backend::default() });
        config.rpc.methods.insert("*".to_owned(), amqp());
        config.rpc.send = amqp();
        let namespace = Namespace {
            subscribe_hook: amqp(),
            publish_hook: amqp(),
            sub_refresh_hook: amqp(),
            ..Namespace::default()
        };
        config.namespaces.insert("asked".to_owned(), namespace);
        change(config);
    }))
}

fn asks_who_comes(config: &mut Config) {
    config.hooks.connect = "amqp".to_owned();
    config.hooks.refresh = "amqp".to_owned();
}

impl World {
    /// The next request, which is a call.
    pub(super) fn call(&mut self) -> Box<Call> {
        match self.requests.take() {
            Some(Request::Call(call)) => call,
            other => panic!("{other:?}"),
        }
    }

    fn answer(&mut self, call: &Call, outcome: Result<BackendAnswer, ErrorCode>) {
        let topic = call.ask.topic().map(TopicName::from);
        let called = Called { kind: call.ask.kind(), topic, outcome };
        self.tell(Mail::Called { to: call.reply_to.command, called: Box::new(called) });
    }

    /// A client closes its connection, or loses it.
    fn leaves(&mut self, peer: &Peer, is_closed: bool) {
        if is_closed {
            self.tell(Mail::Disconnect {
                client: peer.key,
                closing: Closing::Known(CloseReason::ForceDisconnect),
            });
        }
        peer.pipe().ended = true;
        self.shard.hung_up(peer.key.slot);
        self.tick();
        assert!(!self.is_alive(peer));
    }

    fn grant(&mut self, call: &Call, terms: Terms) {
        self.answer(call, Ok(BackendAnswer::Granted(terms)));
    }

    /// Claims of a connection that expires in so many seconds.
    fn claims(&self, claims: &str, seconds: u64) -> ConnectionClaims {
        let mut keys = KeySet::default();
        keys.add_secret(b"secret").unwrap();
        let verifier = Verifier::new(&Config::default(), Keys { connection: keys, ..Keys::default() });
        let at = (self.now.unix.as_micros() / 1_000_000) + seconds;
        let token = format!(r#"{{"sub":"ann","expire_at":{at}{claims}}}"#);
        verifier.connection(&Signer::with_secret(b"secret").unwrap().sign(&token).unwrap()).unwrap()
    }
}

fn error() -> BackendAnswer {
    BackendAnswer::Error(BackendError { code: 1001, message: "no \"way\"".into(), is_temporary: true })
}

fn closing() -> BackendAnswer {
    BackendAnswer::Close(Closing::Application { code: 4501, text: "banned".into() })
}

const ERROR: &str = r#""error":{"code":1001,"message":"no \"way\"","temporary":true}"#;

#[test]
fn requests_are_answered_in_whatever_order_their_answers_come() {
    let mut world = asking(|_| ());
    let peer = world.connect();
    world.say(
        &peer,
        "{\"id\":2,\"rpc\":{\"method\":\"a\",\"data\":{\"x\": 1}}}\n{\"id\":3,\"rpc\":{\"method\":\"b\"}}",
    );
    let (first, second) = (world.call(), world.call());
    let Ask::Rpc { method, data } = &first.ask else { panic!("{:?}", first.ask) };
    assert_eq!((&**method, &**data), ("a", &br#"{"x": 1}"#[..]));
    assert_eq!(&*first.caller.client, &*world.shard.client_id(peer.key.slot).to_string());
    world.grant(&second, Terms::Rpc { data: (*b"[2]").into() });
    assert!(peer.got().contains(r#"{"id":3,"rpc":{"data":[2]}}"#));
    world.answer(&first, Ok(error()));
    assert!(peer.got().contains(&format!(r#"{{"id":2,{ERROR}}}"#)));
    world.grant(&first, Terms::Rpc { data: (*b"1").into() });
    assert_eq!(peer.got(), "", "a second answer");
}

#[test]
fn a_call_without_an_answer_is_an_error_and_the_end_of_a_client_is_the_backends() {
    let mut world = asking(|_| ());
    let (peer, gone) = (world.connect(), world.connect());
    world.say(&peer, r#"{"id":2,"rpc":{"method":"a"}}"#);
    let call = world.call();
    world.answer(&call, Err(ErrorCode::NotAvailable));
    assert!(peer.got().contains(r#"{"id":2,"error":{"code":108,"#));
    world.say(&gone, r#"{"send":{"data":{"a":1}}}"#);
    let call = world.call();
    assert!(matches!(&call.ask, Ask::Send { data } if **data == *br#"{"a":1}"#));
    world.answer(&call, Ok(closing()));
    assert!(gone.got().contains("banned") && world.is_alive(&peer));
    world.grant(&call, Terms::Send);
}

#[test]
fn a_backend_says_who_comes_and_the_others_wait_for_nothing() {
    let mut world = asking(asks_who_comes);
    let peer = world.said(concat!(
        r#"{"id":1,"connect":{"data":{"a":1},"name":"js","version":"5","subs":{"h":{"recover":true}}}}"#,
        "\n",
        r#"{"id":2,"publish":{"channel":"n:t","data":1}}"#
    ));
    assert!(peer.got().ends_with("\r\n\r\n"), "nothing but the upgrade");
    let call = world.call();
    let Ask::Connect { data, name, version, topics } = &call.ask else { panic!("{:?}", call.ask) };
    assert_eq!((data.as_deref(), &**name, &**version), (Some(&br#"{"a":1}"#[..]), "js", "5"));
    assert_eq!(**topics, [Box::from("h")]);
    assert!(world.requests.take().is_none(), "what is behind the connect waits");
    world.seconds(60);
    assert!(world.is_alive(&peer), "it waits for the backend, and not the backend for it");
    let claims = world.claims(r#","meta":{"m":1}"#, 3600);
    let terms = ConnectTerms { claims: claims.into(), data: Some("[7]".into()) };
    world.grant(&call, Terms::Connect(Some(Box::new(terms))));
    let got = peer.got();
    assert!(got.contains(r#"{"id":1,"connect":{"client":"#) && got.contains(r#""data":[7]"#), "{got}");
    assert!(!got.contains("ttl"), "{got}");
    world.say(&peer, r#"{"id":3,"rpc":{"method":"m"}}"#);
    let call = world.call();
    assert_eq!((&*call.caller.user, call.caller.meta.as_deref()), ("ann", Some(r#"{"m":1}"#)));
}

#[test]
fn a_backend_may_refuse_a_connect_or_close_or_not_answer() {
    for (outcome, said, is_closed) in [
        (Ok(error()), ERROR, false),
        (Err(ErrorCode::Internal), r#""error":{"code":100,"#, false),
        (Ok(closing()), "banned", true),
        (Ok(BackendAnswer::Granted(Terms::Connect(None))), r#"{"id":1,"connect":{"#, false),
    ] {
        let mut world = asking(|config| {
            asks_who_comes(config);
            config.tokens.anonymous = Anonymous::Allow;
        });
        let peer = world.said(CONNECT);
        let call = world.call();
        world.answer(&call, outcome);
        let got = peer.got();
        assert!(got.contains(said), "{got}");
        assert_eq!(got.contains("4501") || got.contains("banned"), is_closed);
        world.answer(&call, Ok(error()));
        assert_eq!(peer.got(), "", "a second answer");
    }
}

#[test]
fn a_client_that_stays_after_its_connect_was_refused_is_told_so() {
    let lasting =
        BackendAnswer::Error(BackendError { code: 4403, message: "no".into(), is_temporary: false });
    for (outcome, reason) in [
        (Ok(error()), CloseReason::ConnectFailed),
        (Err(ErrorCode::Internal), CloseReason::ConnectFailed),
        (Ok(lasting), CloseReason::ConnectRefused),
        (Err(ErrorCode::NotAvailable), CloseReason::ConnectRefused),
        (Err(ErrorCode::Expired), CloseReason::Expired),
    ] {
        let mut world = asking(asks_who_comes);
        let peer = world.said(CONNECT);
        let call = world.call();
        world.answer(&call, outcome);
        assert!(!peer.got().contains(reason.text()));
        world.seconds(20);
        assert_eq!((world.closes(reason), peer.got().contains(reason.text())), (1, true), "{reason:?}");
    }
}

#[test]
fn a_backend_brings_subscriptions_with_a_connect() {
    let mut world = asking(asks_who_comes);
    let peer = world.said(CONNECT);
    let call = world.call();
    let claims = world.claims(r#","channels":["t"]"#, 3600);
    world.grant(
        &call,
        Terms::Connect(Some(Box::new(ConnectTerms { claims: claims.into(), data: Some("1".into()) }))),
    );
    let Some(Request::Attach { topic, .. }) = world.requests.take() else { panic!("it is attached") };
    peer.got();
    world.tell(Mail::Attached { topic, position: None });
    let got = peer.got();
    assert!(got.contains(r#""data":1,"subs":{"t":{}}"#), "{got}");
    world.publish(topic, LINE);
    assert!(peer.got().contains("ppp"));
}

#[test]
fn a_client_that_leaves_while_its_backend_is_asked_is_gone() {
    let mut world = asking(asks_who_comes);
    let peer = world.said(CONNECT);
    let call = world.call();
    peer.pipe().ended = true;
    world.shard.hung_up(peer.key.slot);
    world.tick();
    assert!(!world.is_alive(&peer));
    let claims = world.claims("", 60);
    let another = world.said(CONNECT);
    world.grant(&call, Terms::Connect(Some(Box::new(ConnectTerms { claims: claims.into(), data: None }))));
    assert!(!another.got().contains(r#""connect":"#), "the answer is for nobody else");
}

/// Only what the backend is asked about the client itself is withdrawn, and a client that it is not asked about costs nothing.
#[test]
fn what_is_asked_about_a_client_that_has_left_is_withdrawn() {
    for (command, is_withdrawn) in [
        ("", false),
        (r#"{"id":2,"rpc":{"method":"m"}}"#, false),
        (r#"{"id":2,"publish":{"channel":"asked:t","data":1}}"#, false),
        (r#"{"id":2,"subscribe":{"channel":"asked:t"}}"#, true),
    ] {
        for is_closed in [true, false] {
            let mut world = asking(|_| ());
            let peer = world.connect();
            world.say(&peer, command);
            assert_eq!(world.requests.take().is_some(), !command.is_empty());
            world.leaves(&peer, is_closed);
            let withdrawn = world.requests.take();
            let expected = (peer.key, None);
            let is_meant = matches!(withdrawn, Some(Request::Withdraw { client, command, .. }) if (client, command) == expected);
            assert_eq!(
                (is_meant, withdrawn.is_some()),
                (is_withdrawn, is_withdrawn),
                "{command}: {withdrawn:?}"
            );
            assert!(world.requests.take().is_none(), "once");
        }
    }
}

#[test]
fn a_subscribe_that_an_operator_ends_while_the_backend_is_asked_is_refused() {
    let mut world = asking(|_| ());
    let peer = world.connect();
    let subscribe = r#"{"id":2,"subscribe":{"channel":"asked:t"}}"#;
    world.say(&peer, subscribe);
    let call = world.call();
    for topic in ["asked:u", "asked:t"] {
        assert_eq!(peer.got(), "");
        let client = Some(peer.key);
        world.tell(Mail::Unsubscribe { client, topic: topic.into(), code: UnsubscribeCode::Server });
    }
    let got = peer.got();
    assert!(got.contains(r#"{"id":2,"error":{"code":103,"#), "{got}");
    let withdrawn = world.requests.take();
    assert!(
        matches!(withdrawn, Some(Request::Withdraw { client, command: Some(2), .. }) if client == peer.key)
    );
    world.grant(&call, Terms::Subscribe(Box::default()));
    world.answer(&call, Ok(closing()));
    assert!(
        world.requests.take().is_none() && peer.got().is_empty(),
        "nothing is attached, nobody is closed"
    );
    world.say(&peer, subscribe);
    assert!(matches!(world.call().ask, Ask::Subscribe { .. }));
}

#[test]
fn a_topic_whose_namespace_has_gone_while_the_backend_was_asked_is_refused() {
    let mut world = asking(|_| ());
    let peer = world.connect();
    world.say(&peer, r#"{"id":2,"subscribe":{"channel":"asked:t"}}"#);
    let call = world.call();
    world.reload(Config::default());
    world.grant(&call, Terms::Subscribe(Box::default()));
    let got = peer.got();
    assert!(got.contains(r#"{"id":2,"error":{"code":102,"#), "{got}");
    assert!(world.requests.take().is_none(), "nothing is attached");
}

#[test]
fn a_connect_and_what_expires_are_withdrawn_with_their_client() {
    let mut world = asking(asks_who_comes);
    let peer = world.said(CONNECT);
    world.call();
    world.leaves(&peer, false);
    assert!(matches!(world.requests.take(), Some(Request::Withdraw { client, .. }) if client == peer.key));
    let peer = world.said(CONNECT);
    let call = world.call();
    let claims = world.claims("", 10);
    world.grant(&call, Terms::Connect(Some(Box::new(ConnectTerms { claims: claims.into(), data: None }))));
    world.seconds(11);
    assert!(matches!(world.call().ask, Ask::Refresh));
    world.leaves(&peer, true);
    assert!(matches!(world.requests.take(), Some(Request::Withdraw { client, .. }) if client == peer.key));
}

#[test]
fn a_backend_decides_about_a_subscribe() {
    let mut world = asking(|_| ());
    let peer = world.connect();
    world.say(&peer, r#"{"id":2,"subscribe":{"channel":"asked:t","data":[1]}}"#);
    let call = world.call();
    assert!(
        matches!(&call.ask, Ask::Subscribe { topic, data: Some(data) } if **topic == *"asked:t" && **data == *b"[1]")
    );
    let terms = SubscriptionTerms { data: Some("5".into()), ..SubscriptionTerms::default() };
    world.grant(&call, Terms::Subscribe(Box::new(terms)));
    assert_eq!(peer.got(), "", "the topic is attached first");
    let Some(Request::Attach { topic, .. }) = world.requests.take() else { panic!("it is attached") };
    world.tell(Mail::Attached { topic, position: None });
    assert!(peer.got().contains(r#"{"id":2,"subscribe":{"data":5}}"#));
    let another = world.connect();
    world.say(&another, r#"{"id":2,"subscribe":{"channel":"asked:t"}}"#);
    let call = world.call();
    world.grant(&call, Terms::Subscribe(Box::default()));
    assert!(another.got().contains(r#"{"id":2,"subscribe":{}}"#), "at once");
    let third = world.connect();
    world.say(&third, r#"{"id":2,"subscribe":{"channel":"asked:t"}}"#);
    let call = world.call();
    world.answer(&call, Ok(error()));
    assert!(third.got().contains(&format!(r#"{{"id":2,{ERROR}}}"#)));
    world.publish(topic, LINE);
    let get: Vec<_> = [&peer, &another, &third].map(|peer| peer.got().contains("ppp")).into();
    assert_eq!(get, [true, true, false]);
}

/// The broker thread publishes what a backend has granted, and its answer is the publish's.
#[test]
fn a_publish_that_a_backend_is_asked_about_keeps_its_order() {
    let mut world = asking(|_| ());
    let peer = world.connect();
    for id in 2..5 {
        world.say(&peer, &format!(r#"{{"id":{id},"publish":{{"channel":"asked:t","data":{id}}}}}"#));
    }
    for id in 2..5 {
        let call = world.call();
        let Ask::Publish(publish) = &call.ask else { panic!("{:?}", call.ask) };
        assert_eq!(*publish.data, *id.to_string().as_bytes());
        assert!(world.requests.take().is_none(), "the next one waits");
        if id == 3 {
            world.answer(&call, Ok(error()));
            assert!(peer.got().contains(ERROR));
            continue;
        }
        let answer = Answer::Published;
        world.tell(Mail::Answer { to: call.reply_to, budget: None, answer });
        world.grant(&call, Terms::Publish(PublishTerms::default()));
        assert!(peer.got().contains(&format!(r#"{{"id":{id},"publish":{{}}}}"#)));
    }
}

/// In one message, and in one for each.
#[test]
fn the_time_that_publishes_wait_for_each_other_counts() {
    for separator in ["\n", "|"] {
        let mut world = asking(|_| ());
        let peer = world.connect();
        let publish = |id| format!(r#"{{"id":{id},"publish":{{"channel":"asked:t","data":1}}}}"#);
        let all = [2, 3, 4].map(publish).join(separator);
        all.split('|').for_each(|message| world.send_later(&peer, message));
        world.shard.readable(peer.key.slot);
        world.tick();
        for (waited, lasts) in [(0, 3), (3, 1), (4, 0)] {
            let call = world.call();
            assert_eq!((call.waited + Duration::from_millis(500)).as_secs(), waited, "{separator:?}");
            world.seconds(lasts);
            world.answer(&call, Err(ErrorCode::Internal));
        }
        // One that comes now has not waited.
        world.say(&peer, &publish(5));
        assert_eq!(world.call().waited, Duration::ZERO);
    }
}

#[test]
fn a_backend_prolongs_connections_and_subscriptions_that_expire() {
    let mut world = asking(asks_who_comes);
    let peer = world.said(CONNECT);
    let call = world.call();
    let claims = world.claims("", 10);
    world.grant(&call, Terms::Connect(Some(Box::new(ConnectTerms { claims: claims.into(), data: None }))));
    world.say(&peer, r#"{"id":2,"subscribe":{"channel":"asked:t"}}"#);
    let call = world.call();
    let expires = Some(UnixTime::from_micros(world.now.unix.as_micros() + 20_000_000));
    let terms = SubscriptionTerms { expires, ..SubscriptionTerms::default() };
    world.grant(&call, Terms::Subscribe(Box::new(terms)));
    let Some(Request::Attach { topic, .. }) = world.requests.take() else { panic!("it is attached") };
    world.tell(Mail::Attached { topic, position: None });
    assert!(!peer.got().contains("ttl"));
    world.seconds(11);
    let call = world.call();
    assert!(matches!((&call.ask, call.reply_to.command.id), (Ask::Refresh, 0)), "{:?}", call.ask);
    world.seconds(5);
    assert!(world.requests.take().is_none(), "it is asked once");
    let claims = world.claims("", 100);
    world.grant(&call, Terms::Refresh(Some(Box::new(claims))));
    world.seconds(5);
    let call = world.call();
    assert!(matches!(&call.ask, Ask::RefreshSubscription { topic } if **topic == *"asked:t"));
    world.grant(&call, Terms::RefreshSubscription(None));
    assert!(peer.got().contains(r#""unsubscribe":{"code":2501,"#));
    assert!(matches!(world.requests.take(), Some(Request::Detach { .. })));
    world.seconds(100);
    let call = world.call();
    world.answer(&call, Ok(error()));
    assert!(peer.got().contains("connection expired"));
    assert_eq!(world.closes(CloseReason::Expired), 1);
}

#[test]
fn a_subscription_that_a_backend_lets_expire_is_timed_although_nothing_else_is_due() {
    for (hook, asks) in [("amqp", true), ("", false)] {
        let mut world = asking(|config| {
            config.timeouts.expired = Interval::from_secs(1);
            config.namespaces.get_mut("asked").unwrap().sub_refresh_hook = hook.to_owned();
        });
        let peer = world.connect();
        world.say(&peer, r#"{"id":2,"subscribe":{"channel":"asked:t"}}"#);
        let call = world.call();
        let expires = Some(UnixTime::from_micros(world.now.unix.as_micros() + 5_000_000));
        let terms = SubscriptionTerms { expires, ..SubscriptionTerms::default() };
        world.grant(&call, Terms::Subscribe(Box::new(terms)));
        let Some(Request::Attach { topic, .. }) = world.requests.take() else { panic!("it is attached") };
        world.tell(Mail::Attached { topic, position: None });
        world.seconds(4);
        assert!(world.requests.take().is_none() && !peer.got().contains("unsubscribe"));
        world.seconds(3);
        assert_eq!(peer.got().contains(r#""unsubscribe":{"code":2501,"#), !asks, "{hook}");
        if asks {
            assert!(matches!(world.call().ask, Ask::RefreshSubscription { .. }));
        }
    }
}

#[test]
fn headers_that_are_listed_are_kept_for_backends() {
    let mut world = asking(|config| {
        let listed = Backend {
            headers: vec!["Cookie".to_owned()],
            client_headers: vec!["x-tenant".to_owned()],
            ..Backend::default()
        };
        config.backends.insert("shop".to_owned(), listed);
    });
    let peer = world.asked(
        "COOKIE: a=1\r\nX-Other: 2\r\nX-Tenant: 3",
        r#"{"id":1,"connect":{"headers":{"X-Tenant":"blue","Cookie":"forged"}}}"#,
    );
    world.say(&peer, r#"{"id":2,"rpc":{"method":"m"}}"#);
    let mut call = world.call();
    let weight = call.weight();
    let headers = call.caller.headers.take().unwrap();
    assert_eq!(weight - call.weight(), "cookie".len() + "a=1".len() + "x-tenant".len() + "blue".len());
    let said: Vec<_> = headers
        .iter()
        .map(|header| (&*header.name, std::str::from_utf8(&header.value).unwrap(), header.is_emulated))
        .collect();
    assert_eq!(said, [("cookie", "a=1", false), ("x-tenant", "blue", true)]);
}

#[test]
fn a_call_that_finds_no_room_is_made_when_there_is_some() {
    let mut world = asking(|_| ());
    let peer = world.connect();
    let commands: Vec<_> = (2..40).map(|id| format!(r#"{{"id":{id},"rpc":{{"method":"m"}}}}"#)).collect();
    world.say(&peer, &commands.join("\n"));
    let mut ids = Vec::new();
    for _ in 0..60 {
        while let Some(Request::Call(call)) = world.requests.take() {
            ids.push(call.reply_to.command.id);
        }
        world.tick();
    }
    assert_eq!(ids, (2..40).collect::<Vec<_>>());
}
