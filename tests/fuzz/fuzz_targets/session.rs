#![no_main]

use std::time::Duration;

use fanfare::base::moment::Moment;
use fanfare::config::{Allowed, Config, Namespace};
use fanfare::domain::codec::Codec;
use fanfare::domain::mail::TopicSlot;
use fanfare::domain::namespaces::Namespaces;
use fanfare::session::action::Action;
use fanfare::session::rules::{Facts, Rules};
use fanfare::session::{Pending, Session};

/// Topics of the namespace `a` permit everything, and a backend is asked about those of `b`; others permit what they permit
/// by default.
fn config() -> Config {
    let mut config = Config::default();
    let open = Namespace {
        client_publish: Allowed::EVERYONE,
        client_history: Allowed::EVERYONE,
        history_size: 10,
        ..Namespace::default()
    };
    config.namespaces.insert("a".to_owned(), open);
    let backend = || "amqp".to_owned();
    let asked = Namespace { subscribe_hook: backend(), publish_hook: backend(), ..Namespace::default() };
    config.namespaces.insert("b".to_owned(), asked);
    config.rpc.methods.insert("*".to_owned(), backend());
    config.rpc.send = backend();
    config.limits.topics_per_client = 3;
    config
}

/// What only a shard knows, by the bits of a byte.
fn facts(bits: u8) -> Facts {
    Facts {
        subscribed: (bits & 1 > 0).then_some(TopicSlot(1)),
        subscriptions: usize::from(bits >> 1 & 3),
        may_ask: bits & 8 > 0,
        has_room: bits & 16 > 0,
        has_pings: bits & 32 > 0,
        ..Facts::default()
    }
}

/// The command and the topic about which the broker is asked, if it is.
fn asked(action: &Action<'_>) -> Option<(u32, String, Pending)> {
    match action {
        Action::Subscribe { id, topic, .. } => Some((*id, topic.to_string(), Pending::Subscribe)),
        Action::Publish { id, topic, data } => {
            Some((*id, topic.to_string(), Pending::Publish(data.len() as u32)))
        }
        Action::Ask { id, topic, .. } => Some((*id, topic.to_string(), Pending::Question)),
        _ => None,
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let config = config();
    let namespaces = Namespaces::new(&config);
    let rules = Rules {
        limits: &config.limits,
        timeouts: &config.timeouts,
        namespaces: &namespaces,
        anonymous: true,
        leeway: Duration::ZERO,
        hooks: &config.hooks,
        rpc: &config.rpc,
        keeps_meta: true,
    };
    let mut session = Session::new(Moment::default());
    let mut unanswered: Vec<u32> = Vec::new();
    // The first byte of each line says what happens before its command.
    let mut rest = Some(data);
    while let Some(message) = rest {
        let (line, others) = Codec::Json.split(message);
        rest = others;
        let Some((&first, command)) = line.split_first() else { continue };
        if first & 64 > 0
            && let Some(id) = unanswered.pop()
        {
            session.answered(id);
        }
        if first & 128 > 0 && session.is_connected() {
            session.ping(Moment::default());
        }
        let was_connected = session.is_connected();
        let command = Codec::Json.read(command, config.limits.json_depth);
        let action = session.handle(command, rules, &facts(first));
        match &action {
            Action::Close(_) => return assert!(unanswered.is_empty(), "closed before it was answered"),
            Action::Connect { .. } | Action::RefuseConnect { .. } | Action::Ignore => assert!(!was_connected),
            Action::ConnectAndSubscribe { .. } => panic!("no token brings subscriptions"),
            Action::PutOff(_) => assert!(was_connected),
            Action::Pong => assert!(was_connected),
            Action::Refuse { id, .. }
            | Action::Unsubscribe { id, .. }
            | Action::Refresh { id, .. }
            | Action::RefreshSubscription { id, .. } => {
                assert!(was_connected && !unanswered.contains(id), "{id} is in use");
            }
            Action::Subscribe { .. } | Action::Publish { .. } | Action::Ask { .. } | Action::Call { .. } => {
                assert!(was_connected)
            }
        }
        if let Some((id, topic, pending)) = asked(&action) {
            assert!(!unanswered.contains(&id), "{id} is in use");
            session.asked(id, &topic, pending);
            unanswered.push(id);
        }
        if let Action::Call { id, asking } = action {
            assert!(!unanswered.contains(&id), "{id} is in use");
            session.called(id, asking, 3);
            unanswered.extend((id > 0).then_some(id));
        }
        assert_eq!(session.has_unanswered(), !unanswered.is_empty());
    }
});
