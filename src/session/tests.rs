//! The protocol by tables and by enumeration.

mod answers;
mod calls;
mod connecting;
mod permissions;
mod timeouts;
mod tokens;
mod walk;

use std::borrow::Cow;
use std::time::Duration;

use super::action::{Accepted, Action, Asking, ProtocolError, ServerSide, Until};
use super::expiry::Now;
use super::rules::{Facts, Rules, Verdict};
use super::timeouts::{Expiry, Silence};
use super::*;
use crate::base::clock::UnixTime;
use crate::codec::command::{Command, Connect, Malformed, Method, Since, Subscribe, Token};
use crate::config::{Allowed, Config, Hooks, Limits, Namespace, Rpc, Timeouts, UnknownNamespace};
use crate::domain::asked::{Asked, HistoryRange};
use crate::domain::codec::Codec;
use crate::domain::mail::TopicSlot;
use crate::domain::namespaces::Namespaces;
use crate::domain::position;
use crate::domain::reasons::CloseReason;

type Read = Result<Command<'static>, Malformed>;
/// A command about a topic.
type Asks = fn(&'static str) -> Read;

/// What holds for the clients of a test.
struct World {
    limits: Limits,
    timeouts: Timeouts,
    namespaces: Namespaces,
    /// Whether clients need no token.
    anonymous: bool,
    hooks: Hooks,
    rpc: Rpc,
}

impl World {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        let history = Namespace { history_size: 10, client_history: Allowed::NOBODY, ..Namespace::default() };
        let open = Namespace {
            client_publish: Allowed::EVERYONE,
            client_history: Allowed::EVERYONE,
            ..history.clone()
        };
        let forced = Namespace { force_recovery: true, ..history.clone() };
        let positioned = Namespace { force_positioning: true, ..history.clone() };
        let small =
            Namespace { client_publish: Allowed::EVERYONE, publication_bytes: 4, ..Namespace::default() };
        for (name, namespace) in
            [("h", history), ("open", open), ("forced", forced), ("positioned", positioned), ("small", small)]
        {
            config.namespaces.insert(name.to_owned(), namespace);
        }
        change(&mut config);
        Self {
            namespaces: Namespaces::new(&config),
            limits: config.limits,
            timeouts: config.timeouts,
            anonymous: true,
            hooks: config.hooks,
            rpc: config.rpc,
        }
    }

    fn rules(&self) -> Rules<'_> {
        Rules {
            limits: &self.limits,
            timeouts: &self.timeouts,
            namespaces: &self.namespaces,
            anonymous: self.anonymous,
            leeway: Duration::ZERO,
            hooks: &self.hooks,
            rpc: &self.rpc,
            keeps_meta: true,
        }
    }

    fn handle(&self, session: &mut Session, read: Read, facts: Facts) -> Action<'static> {
        session.handle(read, self.rules(), &facts)
    }

    /// A connected client's answer to a command, as [`show`]n.
    fn ask(&self, read: Read, facts: Facts) -> String {
        show(&self.handle(&mut connected(), read, facts))
    }
}

/// There is room for everything.
const ROOM: Facts = Facts {
    now: Now { moment: Moment::from_grains(1000), unix: UnixTime::from_micros(1_000_000_000_000) },
    token: Verdict::None,
    client: None,
    subscribed: None,
    subscriptions: 0,
    may_ask: true,
    has_room: true,
    has_pings: false,
};

fn connected() -> Session {
    let mut session = Session::new(Moment::default());
    session.state = State::Connected;
    session
}

fn command(id: u32, method: Method<'static>) -> Read {
    Ok(Command { id, method })
}

fn connect(id: u32) -> Read {
    command(id, Method::Connect(Connect::default()))
}

fn subscription(topic: &'static str) -> Subscribe<'static> {
    Subscribe {
        topic: Cow::Borrowed(topic),
        token: Token::default(),
        recover: None,
        recoverable: false,
        positioned: false,
        rejects_unrecovered: false,
        data: None,
        unsupported: false,
    }
}

fn subscribe(id: u32, topic: &'static str) -> Read {
    command(id, Method::Subscribe(subscription(topic)))
}

fn recover(id: u32, topic: &'static str, epoch: &'static str, rejects_unrecovered: bool) -> Read {
    let recover = Some(Since { epoch: Cow::Borrowed(epoch), offset: 7 });
    command(id, Method::Subscribe(Subscribe { recover, rejects_unrecovered, ..subscription(topic) }))
}

fn unsubscribe(id: u32, topic: &'static str) -> Read {
    command(id, Method::Unsubscribe { topic: Cow::Borrowed(topic) })
}

fn publish(id: u32, topic: &'static str, data: &'static [u8]) -> Read {
    command(id, Method::Publish { topic: Cow::Borrowed(topic), data: Some(data) })
}

fn rpc(id: u32, method: &'static str, data: &'static [u8]) -> Read {
    command(id, Method::Rpc { method: Cow::Borrowed(method), data: Some(data) })
}

/// Has backends answer rpcs and messages, and decide about the topics of the namespace `asked`.
fn asks_backend(config: &mut Config) {
    let backend = || "amqp".to_owned();
    let asked = Namespace {
        subscribe_hook: backend(),
        publish_hook: backend(),
        sub_refresh_hook: backend(),
        history_size: 10,
        ..Namespace::default()
    };
    config.namespaces.insert("asked".to_owned(), asked);
    config.rpc.methods.insert("*".to_owned(), backend());
    config.rpc.send = backend();
}

fn history(id: u32, topic: &'static str) -> Read {
    ask(id, topic, HistoryRange::default())
}

fn ask(id: u32, topic: &'static str, range: HistoryRange) -> Read {
    command(id, Method::Ask { topic: Cow::Borrowed(topic), asked: Asked::History(range) })
}

fn malformed() -> Read {
    Err(Malformed::Syntax("x".to_owned()))
}

fn unreadable(id: u32, is_connect: bool) -> Read {
    Err(Malformed::Unreadable { id, is_connect, error: "x".to_owned() })
}

fn too_deep(id: u32, is_connect: bool) -> Read {
    Err(Malformed::TooDeep { id, is_connect })
}

/// An action in a few words.
fn show(action: &Action<'_>) -> String {
    match action {
        Action::Pong => "pong".to_owned(),
        Action::Refuse { id, error } => format!("{id}: error {}", error.code()),
        Action::RefuseConnect { id, error } => format!("{id}: error {}, and no more", error.code()),
        Action::Connect { id, accepted: Accepted { ttl: Some(ttl), .. }, .. } => {
            format!("{id}: connected for {ttl} s")
        }
        Action::Connect { id, accepted: Accepted { ping, pong, .. }, .. } => {
            format!("{id}: connected, {ping} s, {pong}")
        }
        Action::ConnectAndSubscribe { id, subscriptions } => {
            let topics: Vec<_> = subscriptions.iter().map(|one| &*one.topic).collect();
            format!("{id}: connect to {}", topics.join(" and "))
        }
        Action::Ignore => "ignored".to_owned(),
        Action::Refresh { id, ttl } => format!("{id}: refreshed for {ttl:?} s"),
        Action::RefreshSubscription { id, ttl } => format!("{id}: subscribed for {ttl:?} s"),
        Action::Subscribe { id, topic, .. } => format!("{id}: subscribe {topic}"),
        Action::Unsubscribe { id, topic } => format!("{id}: unsubscribe {}", topic.is_some()),
        Action::Publish { id, topic, data } => format!("{id}: publish {} to {topic}", data.len()),
        Action::Ask { id, topic, asked: Asked::History(_) } => format!("{id}: history {topic}"),
        Action::Call { id, asking } => match asking {
            Asking::Rpc { method, data } => format!("{id}: rpc {method} of {}", data.len()),
            Asking::Send { data } => format!("send {}", data.len()),
            Asking::Connect(_) => format!("{id}: ask who it is"),
            Asking::Subscribe(command) => format!("{id}: ask about {}", command.topic),
            Asking::Publish { topic, data } => format!("{id}: ask to publish {} to {topic}", data.len()),
        },
        Action::PutOff(Until::Answered) => "wait for an answer".to_owned(),
        Action::PutOff(Until::RequestHasRoom) => "wait for room for the request".to_owned(),
        Action::Close(fault) => format!("{}: {fault}", fault.reason().code()),
    }
}

/// Idle clients are what there are most of.
#[test]
fn a_session_is_small() {
    assert_eq!(size_of::<Session>(), 16);
    // What a client with a token has besides. Allocators give it a block of 96 bytes, or one of 112 if it is larger.
    assert!(size_of::<Rare>() <= 96, "{}", size_of::<Rare>());
}

const NOT_CONNECTED: &str = "3501: a command before connect";
const SECOND_CONNECT: &str = "3501: a second connect";
const WAITS: &str = "wait for an answer";

/// Every command in every state: of a new client, of one that is connected, of one that was pinged, and of one whose
/// command 9 waits for the broker.
#[test]
fn commands_have_their_order() {
    let same =
        |of_new: &'static str, of_connected: &'static str| [of_new, of_connected, of_connected, of_connected];
    let ends = |of_new: &'static str, of_connected: &'static str| [of_new, of_connected, of_connected, WAITS];
    let later = |of_connected: &'static str| same(NOT_CONNECTED, of_connected);
    let repeats = |of_connected: &'static str| ends(NOT_CONNECTED, of_connected);
    let no_id = "3501: a command without id: give it one, from 1 to 4294967295";
    let several = "3501: a command with several methods: send one command for each";
    let syntax = "3501: not a command: x";
    let rows = [
        (connect(1), ends("1: connected, 25 s, true", SECOND_CONNECT)),
        (unreadable(1, true), ends("1: error 107, and no more", SECOND_CONNECT)),
        (too_deep(1, true), ends("1: error 107, and no more", SECOND_CONNECT)),
        (command(0, Method::Pong), [NOT_CONNECTED, "3501: a pong without a ping", "pong", WAITS]),
        (
            command(0, Method::Send { data: None }),
            ends(NOT_CONNECTED, "3508: a `send` command, which no backend takes (rpc.send)"),
        ),
        (malformed(), ends(syntax, syntax)),
        (Err(Malformed::NoId), ends(no_id, no_id)),
        (Err(Malformed::SeveralMethods), ends(several, several)),
        (unreadable(2, false), later("2: error 107")),
        (unreadable(9, false), repeats("9: error 107")),
        (too_deep(2, false), later("2: error 107")),
        (too_deep(9, false), repeats("9: error 107")),
        (subscribe(2, "t"), later("2: subscribe t")),
        (subscribe(9, "t"), repeats("9: subscribe t")),
        (unsubscribe(2, "t"), later("2: unsubscribe false")),
        (unsubscribe(9, "t"), repeats("9: unsubscribe false")),
        (publish(2, "open:t", b"1"), later("2: publish 1 to open:t")),
        (publish(9, "open:t", b"1"), repeats("9: publish 1 to open:t")),
        (history(2, "open:t"), later("2: history open:t")),
        (history(9, "open:t"), repeats("9: history open:t")),
        (command(2, Method::Unavailable), later("2: error 108")),
        (command(9, Method::Unavailable), repeats("9: error 108")),
        (command(2, Method::Unknown), later("2: error 104")),
        (command(9, Method::Unknown), repeats("9: error 104")),
    ];
    let world = World::new(|_| ());
    for (read, expected) in rows {
        let mut pinged = connected();
        pinged.ping(Moment::default());
        let mut waiting = connected();
        waiting.asked(9, "other", Pending::Publish(1));
        let states = [Session::new(Moment::default()), connected(), pinged, waiting];
        for (mut session, expected) in states.into_iter().zip(expected) {
            let before = format!("{session:?}");
            let action = world.handle(&mut session, read.clone(), ROOM);
            assert_eq!(show(&action), expected, "{read:?} in {before}");
            let may_change =
                matches!(action, Action::Connect { .. } | Action::RefuseConnect { .. } | Action::Pong);
            assert_eq!(format!("{session:?}") != before, may_change, "{read:?} in {before}");
        }
        let mut refused = Session::new(Moment::default());
        world.handle(&mut refused, unreadable(1, true), ROOM);
        assert_eq!(show(&world.handle(&mut refused, read, ROOM)), "ignored");
    }
}

/// Which commands wait for which others about the same topic. Those about another topic never do.
#[test]
fn commands_about_a_topic_wait_for_each_other_but_publishes() {
    let world = World::new(|_| ());
    let asked = [Pending::Publish(1), Pending::Question, Pending::Subscribe];
    let next: [(Asks, [bool; 3]); 4] = [
        (|topic| publish(2, topic, b"1"), [false, true, true]),
        (|topic| history(2, topic), [true; 3]),
        (|topic| subscribe(2, topic), [true; 3]),
        (|topic| unsubscribe(2, topic), [true; 3]),
    ];
    for (read, waits) in next {
        for (pending, waits) in asked.into_iter().zip(waits) {
            for (topic, waits) in [("open:t", waits), ("open:u", false)] {
                let mut session = connected();
                session.asked(1, "open:t", pending);
                let action = world.handle(&mut session, read(topic), ROOM);
                let is_put_off = action == Action::PutOff(Until::Answered);
                assert_eq!(is_put_off, waits, "{action:?} behind {pending:?}");
                session.answered(1);
                assert!(!matches!(world.handle(&mut session, read(topic), ROOM), Action::PutOff(_)));
            }
        }
    }
}

#[test]
fn what_needs_room_waits_for_it() {
    let world = World::new(|_| ());
    let (answer, request) = (WAITS, "wait for room for the request");
    let facts = |may_ask, has_room| Facts { may_ask, has_room, ..ROOM };
    for (read, without_answer, without_request) in [
        (subscribe(2, "h:t"), "2: subscribe h:t", "2: subscribe h:t"),
        (recover(2, "h:t", "e", false), answer, "2: subscribe h:t"),
        (recover(2, "t", "e", false), "2: subscribe t", "2: subscribe t"),
        (unsubscribe(2, "t"), "2: unsubscribe false", "2: unsubscribe false"),
        (publish(2, "open:t", b"1"), "2: publish 1 to open:t", request),
        (history(2, "open:t"), answer, request),
        // What is refused needs none.
        (publish(2, "h:t", b"1"), "2: error 103", "2: error 103"),
        (history(2, "h:t"), "2: error 103", "2: error 103"),
        (history(2, "t"), "2: error 108", "2: error 108"),
    ] {
        assert_eq!(world.ask(read.clone(), facts(false, true)), without_answer, "{read:?}");
        assert_eq!(world.ask(read.clone(), facts(true, false)), without_request, "{read:?}");
    }
}

#[test]
fn one_publish_may_be_under_way_and_more_as_far_as_a_message_may_have() {
    let world = World::new(|config| config.limits.message_bytes = 2000);
    let mut session = connected();
    let mut id = 1;
    while let Action::Publish { data, topic, .. } =
        world.handle(&mut session, publish(id, "open:t", b"12345678"), ROOM)
    {
        session.asked(id, &topic, Pending::Publish(u32::try_from(data.len()).expect("it is short")));
        id += 1;
    }
    assert_eq!(id, 5, "a fourth is asked while there are 3 * 520 bytes, and no fifth");
    session.answered(2);
    let next = world.handle(&mut session, publish(id, "open:t", b"1"), ROOM);
    assert_eq!(show(&next), "5: publish 1 to open:t");
    let large: &'static [u8] = &[b'1'; 5000];
    assert_eq!(world.ask(publish(1, "open:t", large), ROOM), "1: publish 5000 to open:t", "alone");
}

#[test]
fn topics_have_names_and_permissions() {
    let world = World::new(|config| {
        config.server.unknown_namespace = UnknownNamespace::Refuse;
        config.limits.topic_bytes = 20;
        config.limits.publication_bytes = 6;
    });
    let kinds: [Asks; 4] = [
        |topic| subscribe(1, topic),
        |topic| unsubscribe(1, topic),
        |topic| publish(1, topic, b"12345"),
        |topic| history(1, topic),
    ];
    let all = |text: &'static str| [text; 4];
    for (topic, expected) in [
        ("", all("1: error 107")),
        ("a\nb", all("1: error 107")),
        ("123456789012345678901", all("1: error 107")),
        ("gone:t", all("1: error 102")),
        ("t", ["1: subscribe t", "1: unsubscribe false", "1: error 103", "1: error 108"]),
        ("h:t", ["1: subscribe h:t", "1: unsubscribe false", "1: error 103", "1: error 103"]),
        ("small:t", ["1: subscribe small:t", "1: unsubscribe false", "1: error 106", "1: error 108"]),
        (
            "open:t",
            ["1: subscribe open:t", "1: unsubscribe false", "1: publish 5 to open:t", "1: history open:t"],
        ),
    ] {
        for (read, expected) in kinds.iter().zip(expected) {
            assert_eq!(world.ask(read(topic), ROOM), expected, "{topic:?}");
        }
    }
    assert_eq!(world.ask(publish(1, "open:t", b"1234567"), ROOM), "1: error 106");
    let nothing = Method::Publish { topic: "open:t".into(), data: None };
    assert_eq!(world.ask(command(1, nothing), ROOM), "1: error 107");
}

#[test]
fn subscriptions_are_refused_for_one_reason_after_the_other() {
    let world = World::new(|config| config.limits.topics_per_client = 3);
    let subscribed = || Facts { subscribed: Some(TopicSlot(4)), subscriptions: 3, ..ROOM };
    let full = || Facts { subscriptions: 3, ..ROOM };
    let unsupported =
        |unsupported| command(1, Method::Subscribe(Subscribe { unsupported, ..subscription("t") }));
    let long: &'static str = Box::leak("e".repeat(129).into_boxed_str());
    for (read, facts, expected) in [
        (unsupported(true), subscribed(), "1: error 105"),
        (unsupported(true), full(), "1: error 108"),
        (recover(1, "t", long, true), full(), "1: error 107"),
        (recover(1, "t", &long[1..], true), full(), "1: error 112"),
        (recover(1, "t", &long[1..], false), full(), "1: error 106"),
        (recover(1, "h:t", &long[1..], true), full(), "1: error 106"),
        (unsupported(false), full(), "1: error 106"),
        (unsupported(false), Facts { subscriptions: 2, ..ROOM }, "1: subscribe t"),
        (unsubscribe(1, "t"), subscribed(), "1: unsubscribe true"),
    ] {
        assert_eq!(world.ask(read.clone(), facts.clone()), expected, "{read:?} with {facts:?}");
    }
    // Those under way count.
    let mut session = connected();
    session.asked(7, "a", Pending::Subscribe);
    let two = Facts { subscriptions: 2, ..ROOM };
    assert_eq!(show(&world.handle(&mut session, subscribe(1, "t"), two)), "1: error 106");
}

#[test]
fn a_namespace_decides_how_a_client_is_subscribed() {
    let world = World::new(|_| ());
    // What the client asks for: its position, to recover later, to recover now. What it gets.
    for (topic, asks, granted) in [
        ("t", (true, true, true), (false, false, false)),
        ("h:t", (false, false, false), (false, false, false)),
        ("h:t", (true, false, false), (true, false, false)),
        ("h:t", (false, true, false), (true, true, false)),
        ("h:t", (false, false, true), (true, true, true)),
        ("positioned:t", (false, false, false), (true, false, false)),
        ("forced:t", (false, false, false), (true, true, false)),
    ] {
        let (positioned, recoverable, recovers) = asks;
        let recover = recovers.then(|| Since { epoch: "e".into(), offset: 7 });
        let wanted = Subscribe { recover, positioned, recoverable, ..subscription(topic) };
        let action = world.handle(&mut connected(), command(1, Method::Subscribe(wanted)), ROOM);
        let Action::Subscribe { options, .. } = action else { panic!("{action:?} for {topic} {asks:?}") };
        let is = (options.positioned, options.recoverable, options.recover.is_some());
        assert_eq!(is, granted, "{topic} {asks:?}");
        assert_eq!(options.was_recovering, recovers && !granted.2, "{topic} {asks:?}");
        if let Some(resume) = options.recover {
            assert_eq!((&*resume.since.epoch, resume.since.offset), ("e", 7));
        }
    }
}

#[test]
fn a_history_is_asked_for_as_the_client_wants_it() {
    let world = World::new(|_| ());
    for limit in [Some(0), Some(5), None] {
        let since = Some(position::Since { epoch: "e".into(), offset: 9 });
        let range = HistoryRange { limit, since, reverse: true };
        let action = world.handle(&mut connected(), ask(1, "open:t", range.clone()), ROOM);
        let Action::Ask { asked, .. } = action else { panic!("{action:?}") };
        assert_eq!(asked, Asked::History(range));
    }
    let since = Some(position::Since { epoch: "e".repeat(129).into(), offset: 9 });
    let range = HistoryRange { since, ..HistoryRange::default() };
    assert_eq!(world.ask(ask(1, "open:t", range), ROOM), "1: error 107");
}

#[test]
fn a_fault_says_what_the_client_did() {
    for (fault, reason, text) in [
        (
            ProtocolError::OtherCodec(Codec::Json),
            CloseReason::InappropriateProtocol,
            "bytes that are no JSON",
        ),
        (ProtocolError::Malformed(Malformed::NoId), CloseReason::BadRequest, "a command without id"),
        (ProtocolError::Send, CloseReason::NotAvailable, "a `send` command"),
    ] {
        assert_eq!(fault.reason(), reason, "{fault:?}");
        assert!(fault.to_string().starts_with(text), "{fault}");
    }
}

#[test]
fn who_is_being_closed_waits_for_no_answer() {
    let mut session = connected();
    session.asked(1, "t", Pending::Question);
    session.end();
    assert!(!session.has_unanswered());
    session.answered(1);
}
