//! Sessions that are driven at random, as a shard drives them.

use proptest::prelude::*;

use super::*;

/// What happens next.
#[derive(Clone, Debug)]
enum Event {
    /// The client sends a command.
    Sends(Read),
    /// The broker answers one of the commands that it was asked about.
    Answers(usize),
    /// The ping's time has come.
    Pings,
}

/// Few topics and few ids, so that commands meet.
fn events() -> impl Strategy<Value = Event> {
    let topic = || prop::sample::select(vec!["open:a", "open:b", "h:c", "asked:d", "t", ""]);
    let id = || 1..6_u32;
    let read = prop_oneof![
        1 => id().prop_map(connect),
        4 => (id(), topic()).prop_map(|(id, topic)| subscribe(id, topic)),
        4 => (id(), topic(), any::<bool>()).prop_map(|(id, topic, rejects)| recover(id, topic, "e", rejects)),
        4 => (id(), topic()).prop_map(|(id, topic)| unsubscribe(id, topic)),
        8 => (id(), topic()).prop_map(|(id, topic)| publish(id, topic, b"123")),
        4 => (id(), topic()).prop_map(|(id, topic)| history(id, topic)),
        4 => id().prop_map(|id| rpc(id, "m", b"123")),
        2 => id().prop_map(|id| command(id, Method::Unknown)),
        2 => (id(), any::<bool>()).prop_map(|(id, is_connect)| unreadable(id, is_connect)),
        1 => (id(), any::<bool>()).prop_map(|(id, is_connect)| too_deep(id, is_connect)),
        2 => Just(command(0, Method::Pong)),
        1 => Just(command(0, Method::Send { data: None })),
        1 => Just(malformed()),
    ];
    prop_oneof![6 => read.prop_map(Event::Sends), 3 => (0..8_usize).prop_map(Event::Answers), 1 => Just(Event::Pings)]
}

fn facts() -> impl Strategy<Value = Facts> {
    (any::<bool>(), 0..4_usize, any::<bool>(), any::<bool>()).prop_map(
        |(subscribed, subscriptions, may_ask, has_room)| Facts {
            subscribed: subscribed.then_some(TopicSlot(1)),
            subscriptions,
            may_ask,
            has_room,
            ..ROOM
        },
    )
}

/// The id that an action uses, and the question that it has the broker asked, if any.
fn meaning(action: &Action<'_>) -> (Option<u32>, Option<(String, Pending)>) {
    let question = |topic: &str, pending| Some((topic.to_owned(), pending));
    match action {
        Action::Refuse { id, .. }
        | Action::RefuseConnect { id, .. }
        | Action::Connect { id, .. }
        | Action::ConnectAndSubscribe { id, .. }
        | Action::Refresh { id, .. }
        | Action::RefreshSubscription { id, .. }
        | Action::Unsubscribe { id, .. } => (Some(*id), None),
        Action::Subscribe { id, topic, .. } => (Some(*id), question(topic, Pending::Subscribe)),
        Action::Publish { id, topic, .. } => (Some(*id), question(topic, Pending::Publish(3))),
        Action::Ask { id, topic, .. } => (Some(*id), question(topic, Pending::Question)),
        Action::Call { id, asking } => match asking {
            Asking::Rpc { .. } => (Some(*id), question("an rpc", Pending::Rpc(3))),
            Asking::Subscribe(command) => (Some(*id), question(&command.topic, Pending::Subscribe)),
            Asking::Publish { topic, .. } => (Some(*id), question(topic, Pending::PublishHook(3))),
            Asking::Connect(_) | Asking::Send { .. } => (None, None),
        },
        Action::Pong | Action::PutOff(_) | Action::Ignore | Action::Close(_) => (None, None),
    }
}

proptest! {
    /// Whatever comes: an id in use is not used again, only publishes are under way at once about one topic, at most two rpcs
    /// are, a command
    /// that waits changes nothing and has its turn once all is answered and there is room, nothing but a connect or the end
    /// comes first, nothing is done for a client whose connect was refused, and nobody is closed while an answer is to come.
    #[test]
    fn a_session_keeps_its_promises(events in prop::collection::vec((events(), facts(), any::<bool>()), 1..60)) {
        let world = World::new(|config| {
            (config.limits.topics_per_client, config.limits.rpcs_per_client) = (3, 2);
            asks_backend(config);
        });
        let mut session = Session::new(Moment::default());
        let mut unanswered: Vec<(u32, String, Pending)> = Vec::new();
        let mut was_refused = false;
        for (event, facts, at_once) in events {
            let read = match event {
                Event::Answers(which) if !unanswered.is_empty() => {
                    let (id, ..) = unanswered.swap_remove(which % unanswered.len());
                    session.answered(id);
                    continue;
                }
                Event::Pings if session.is_connected() => {
                    session.ping(Moment::default());
                    continue;
                }
                Event::Answers(_) | Event::Pings => continue,
                Event::Sends(read) => read,
            };
            let (before, was_connected) = (format!("{session:?}"), session.is_connected());
            let action = world.handle(&mut session, read.clone(), facts);
            let (id, question) = meaning(&action);
            prop_assert!(unanswered.iter().all(|one| Some(one.0) != id), "{action:?} with {unanswered:?}");
            match &action {
                Action::PutOff(_) => {
                    prop_assert_eq!(&before, &format!("{session:?}"));
                    let mut idle = connected();
                    let action = world.handle(&mut idle, read.clone(), ROOM);
                    prop_assert!(!matches!(action, Action::PutOff(_)), "{:?} waits for nothing", read);
                }
                Action::Close(_) => {
                    prop_assert!(unanswered.is_empty());
                    return Ok(());
                }
                Action::RefuseConnect { .. } => {
                    prop_assert!(!was_connected && !was_refused);
                    was_refused = true;
                }
                Action::Ignore => prop_assert!(was_refused),
                Action::Connect { .. } => prop_assert!(!was_connected && !was_refused),
                _ => prop_assert!(was_connected, "{action:?}"),
            }
            if let (Some(id), Some((topic, pending))) = (id, question)
                && !(at_once && matches!(action, Action::Subscribe { .. }))
            {
                let same = unanswered.iter().filter(|one| one.1 == topic);
                let go_together = |one: &(u32, String, Pending)| {
                    one.2 == pending && matches!(pending, Pending::Publish(_) | Pending::Rpc(_))
                };
                prop_assert!(same.clone().all(go_together), "{pending:?} with {unanswered:?}");
                match action {
                    Action::Call { id, asking } => session.called(id, asking, 3),
                    _ => session.asked(id, &topic, pending),
                }
                unanswered.push((id, topic, pending));
            }
            let subscribes = unanswered.iter().filter(|one| one.2 == Pending::Subscribe).count();
            prop_assert!(subscribes <= 3);
            let rpcs = unanswered.iter().filter(|one| one.2 == Pending::Rpc(3)).count();
            prop_assert!(rpcs <= 2);
            prop_assert_eq!(session.has_unanswered(), !unanswered.is_empty());
        }
    }
}
