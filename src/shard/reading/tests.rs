//! Turns and shares, in single histories.

use super::super::tests::{Peer, World, config, policy, readable};
use super::super::*;
use crate::config::{Interval, SlowPolicy};
use crate::domain::mail::{ANSWER_COST, Question};
use crate::domain::position::Position;
use crate::domain::reasons::{CloseReason, Closing};

mod waiting;

/// Small messages of one client, of which each counts `STEP_COST` for its frame and for its command, and its bytes.
fn noise(world: &World, peer: &Peer, commands: std::ops::Range<u32>) {
    for id in commands {
        world.send_later(peer, &format!(r#"{{"id":{id},"unsubscribe":{{"channel":"t"}}}}"#));
    }
}

#[test]
fn a_client_over_its_share_waits_for_the_next_turn_without_an_event() {
    let mut world = World::new(config(|config| config.budgets.read_bytes = 2000));
    let (noisy, quiet) = (world.connect(), world.connect());
    noise(&world, &noisy, 2..102);
    world.shard.readable(noisy.key.slot);
    world.tick();
    let first = noisy.got().matches("\"id\"").count();
    assert!((2..=8).contains(&first), "{first} of 100 commands in one turn");
    assert_eq!(world.shard.poll_timeout(), Some(Duration::ZERO));
    // Whoever comes now has its turn in the same tick.
    world.say(&quiet, r#"{"id":2,"unsubscribe":{"channel":"t"}}"#);
    assert!(quiet.got().contains("\"id\":2"));
    let mut all = first + noisy.got().matches("\"id\"").count();
    for _ in 0..100 {
        assert!(world.shard.clients[noisy.key.slot].input_bytes() <= 5000);
        world.tick();
        let ids = noisy.got();
        all += ids.matches("\"id\"").count();
        assert!(ids.is_empty() || ids.contains(&format!("\"id\":{}", all + 1)), "in order: {ids}");
    }
    assert_eq!(all, 100);
    assert_ne!(world.shard.poll_timeout(), Some(Duration::ZERO));
}

#[test]
fn commands_of_one_message_are_spread_over_turns_in_their_order() {
    let mut world = World::new(config(|config| config.budgets.read_bytes = 1000));
    let noisy = world.connect();
    let lines: Vec<_> =
        (2..32).map(|id| format!(r#"{{"id":{id},"unsubscribe":{{"channel":"t"}}}}"#)).collect();
    world.say(&noisy, &lines.join("\n"));
    let mut got = Vec::new();
    for turn in 0.. {
        assert!(turn < 30, "{got:?}");
        let replies = noisy.got();
        let ids = replies.split("\"id\":").skip(1).filter_map(|rest| rest.split(',').next()?.parse().ok());
        let ids: Vec<u32> = ids.collect();
        assert!(ids.len() <= 7, "{ids:?} in one turn");
        got.extend(ids);
        if got.len() == 30 {
            break;
        }
        world.tick();
    }
    assert_eq!(got, (2..32).collect::<Vec<_>>());
}

#[test]
fn reading_ends_when_its_time_of_the_turn_is_over() {
    let mut world = World::new(config(|config| config.budgets.read_time = Interval::from_millis(2)));
    let peers: Vec<_> = (0..6).map(|_| world.connect()).collect();
    for peer in &peers {
        noise(&world, peer, 2..3);
        world.shard.readable(peer.key.slot);
    }
    // Each look at the clock is a millisecond after the one before.
    let time = std::cell::Cell::new(world.now.monotonic);
    let mut turns = Vec::new();
    while turns.iter().sum::<usize>() < peers.len() {
        assert!(turns.len() < 10, "{turns:?}");
        world.shard.tick(world.now, || {
            time.set(time.get() + Duration::from_millis(1));
            time.get()
        });
        turns.push(peers.iter().filter(|peer| !peer.got().is_empty()).count());
    }
    assert_eq!(turns, [2, 2, 2]);
}

/// The broker keeps their order: nothing is gained by waiting for each answer.
#[test]
fn publishes_to_one_topic_follow_each_other_and_are_bounded() {
    let mut world = World::new(config(|config| {
        config.namespaces.extend([policy(SlowPolicy::Skip)]);
        config.limits.message_bytes = 4000;
    }));
    let author = world.connect();
    for id in 2..22 {
        world.send_later(&author, &format!(r#"{{"id":{id},"publish":{{"channel":"n:t","data":{id}}}}}"#));
    }
    world.shard.readable(author.key.slot);
    world.tick();
    let take = |world: &mut World| {
        std::iter::from_fn(|| world.requests.take())
            .map(|request| match request {
                Request::Publish(publish) => String::from_utf8(publish.data.into_vec()).expect("a number"),
                other => panic!("{other:?}"),
            })
            .collect::<Vec<_>>()
    };
    let mut taken = take(&mut world);
    assert!((2..=8).contains(&taken.len()), "{taken:?} at once");
    let mut answered = 2;
    while answered < 22 {
        world.tell(author.published(answered));
        world.tick();
        taken.extend(take(&mut world));
        answered += 1;
    }
    assert_eq!(taken, (2..22).map(|id| id.to_string()).collect::<Vec<_>>());
    assert!(!world.shard.clients[author.key.slot].session.has_unanswered());
}

/// Half of a frame, the same with each call.
fn half_a_message(peer: &Peer, bytes: usize) {
    let announced = u16::try_from(bytes + 1).expect("a short message").to_be_bytes();
    let header = [0x81, 0x80 | 126, announced[0], announced[1], 0, 0, 0, 0];
    peer.pipe().to_server.extend(header.into_iter().chain(vec![b' '; bytes]));
}

#[test]
fn a_message_has_a_time_to_become_whole() {
    let mut world = World::new(config(|config| config.timeouts.message = Interval::from_secs(2)));
    let (half, trickling, whole) = (world.connect(), world.connect(), world.connect());
    half_a_message(&half, 300);
    half_a_message(&trickling, 300);
    world.shard.readable(half.key.slot);
    world.shard.readable(trickling.key.slot);
    world.say(&whole, r#"{"id":2,"unsubscribe":{"channel":"t"}}"#);
    for _ in 0..25 {
        trickling.pipe().to_server.extend([0x20]);
        trickling.pipe().to_server.pop_front();
        world.later(Duration::from_millis(100));
    }
    assert!(!half.got().is_empty() && !trickling.got().is_empty(), "both are told");
    assert_eq!(world.closes(CloseReason::Slow), 2);
    assert_eq!(whole.got().matches("id").count(), 1);
    assert!(world.shard.clients.find(whole.key).is_some_and(|client| client.is_open()));
}

#[test]
fn halves_of_messages_are_bounded_in_all_and_of_equal_ones_the_oldest_go_first() {
    let mut world = World::new(config(|config| config.limits.shard_input_bytes = 1000));
    let peers: Vec<_> = (0..5).map(|_| world.connect()).collect();
    for peer in &peers {
        half_a_message(peer, 300);
        world.shard.readable(peer.key.slot);
        world.later(Duration::from_millis(100));
    }
    assert!(world.shard.input.kept.bytes() <= 1000, "{}", world.shard.input.kept.bytes());
    let alive: Vec<_> = peers.iter().map(|peer| world.is_alive(peer)).collect();
    assert_eq!(alive, [false, false, true, true, true]);
    // Whoever stays can go on.
    peers[4].pipe().to_server.extend([b' ']);
    world.shard.readable(peers[4].key.slot);
    world.tick();
    assert_eq!(world.closes(CloseReason::BadRequest), 1, "spaces are no command");
}

#[test]
fn a_pong_that_has_come_is_read_before_its_client_is_closed() {
    let mut world = World::new(config(|config| config.timeouts.ping = Interval::from_secs(20)));
    let (answers, silent) = (world.connect(), world.connect());
    while answers.pipe().from_server.is_empty() || silent.pipe().from_server.is_empty() {
        world.later(Duration::from_secs(1));
    }
    // Its answer is there, and its event is not.
    world.send_later(&answers, "{}");
    for _ in 0..12 {
        world.later(Duration::from_secs(1));
    }
    assert!(world.is_alive(&answers) && world.shard.clients[answers.key.slot].is_open());
    for _ in 0..12 {
        world.later(Duration::from_secs(1));
    }
    assert_eq!(world.closes(CloseReason::NoPong), 1);
    assert!(silent.got().contains("no pong"));
}

/// The namespace `h` has a history.
fn with_history(change: impl FnOnce(&mut Config)) -> World {
    World::new(config(|config| {
        config.namespaces.extend([readable()]);
        change(config);
    }))
}

/// Answers what the shard asks as the broker does, each with so many bytes as its command's id says: the commands that
/// were answered, in their order.
fn answer_all(world: &mut World, peer: &Peer, bytes: impl Fn(u32) -> usize) -> Vec<u32> {
    let mut answered = Vec::new();
    while let Some(request) = world.requests.take() {
        let Request::Ask { question, budget } = request else { panic!("{request:?}") };
        let command = question.reply_to().command.id;
        if budget.as_ref().expect("what clients ask has a budget").take(bytes(command)) {
            answered.push(command);
            world.tell(peer.history(command, bytes(command)));
        } else {
            world.tell(Mail::AskAgain { question, budget });
        }
    }
    answered
}

/// An operator's wish.
fn close(peer: &Peer) -> Mail {
    Mail::Disconnect { client: peer.key, closing: Closing::Known(CloseReason::Slow) }
}

fn ask(ids: std::ops::Range<u32>) -> String {
    let ask = |id: u32| format!(r#"{{"id":{id},"history":{{"channel":"h:{id}","limit":-1}}}}"#);
    ids.map(ask).collect::<Vec<_>>().join("\n")
}

/// How many requests wait for the broker.
fn asked(world: &World) -> usize {
    world.requests.len()
}

#[test]
fn answers_are_asked_for_as_far_as_the_smallest_have_room() {
    let mut world = with_history(|config| config.limits.replies_bytes = 8 * ANSWER_COST);
    let peer = world.connect();
    world.say(&peer, &ask(2..22));
    assert_eq!(asked(&world), 8);
    assert_eq!(answer_all(&mut world, &peer, |_| 0), (2..22).collect::<Vec<_>>());
    assert_eq!(peer.got().matches("history").count(), 20);
    assert_eq!(world.shard.promised_bytes(), 0);
    assert!(world.shard.clients[peer.key.slot].unfinished.is_none());
}

/// One may always be under way, whatever its size; those behind it are asked again, and none overtakes another.
#[test]
fn what_has_no_room_is_asked_again_in_its_order() {
    let mut world = with_history(|config| config.limits.replies_bytes = 8 * ANSWER_COST);
    let peer = world.connect();
    world.say(&peer, &ask(2..22));
    let sizes = |id: u32| [100, 3000, 3000, 0, 100_000, 10][id as usize % 6];
    assert_eq!(answer_all(&mut world, &peer, sizes), (2..22).collect::<Vec<_>>());
    let got = peer.got();
    let ids: Vec<u32> =
        got.split("\"id\":").skip(1).filter_map(|rest| rest.split(',').next()?.parse().ok()).collect();
    assert_eq!(ids, (2..22).collect::<Vec<_>>());
    assert_eq!(world.shard.promised_bytes(), 0);
}

#[test]
fn who_does_not_take_answers_is_asked_for_nothing_more() {
    let mut world = with_history(|config| config.limits.replies_bytes = 8 * ANSWER_COST);
    let peer = world.connect();
    peer.pipe().room = 10;
    world.say(&peer, &ask(2..22));
    let answered = answer_all(&mut world, &peer, |_| 1000);
    assert_eq!(answered, [2, 3, 4, 5], "what has room, and one that has none");
    assert!(world.shard.replies.bytes() <= 9 * ANSWER_COST + 1000, "{}", world.shard.replies.bytes());
    world.give_room(&peer, usize::MAX / 2);
    assert_eq!(answer_all(&mut world, &peer, |_| 1000), (6..22).collect::<Vec<_>>());
}

/// The budgets of all clients together have no more than what all may leave waiting.
#[test]
fn budgets_of_all_clients_are_bounded_together() {
    let mut world = with_history(|config| {
        config.limits.replies_bytes = 8 * ANSWER_COST;
        config.limits.shard_replies_bytes = 12 * ANSWER_COST;
        config.limits.frame_bytes = 3 * ANSWER_COST;
    });
    let peers: Vec<_> = (0..3).map(|_| world.connect()).collect();
    let mut counts = Vec::new();
    for peer in &peers {
        let before = asked(&world);
        world.say(peer, &ask(2..22));
        counts.push(asked(&world) - before);
    }
    assert_eq!(counts, [8, 4, 0], "the last one waits until there is room");
    assert_eq!(world.shard.promised_bytes(), 12 * ANSWER_COST);
    world.tell(close(&peers[0]));
    world.tick();
    assert_eq!((asked(&world), world.shard.promised_bytes()), (20, 12 * ANSWER_COST));
    for peer in &peers[1..] {
        world.tell(close(peer));
    }
    assert_eq!((world.shard.promised_bytes(), world.shard.answers.has_waiting()), (0, false));
}

/// Who asks the broker, in the order in which they are asked for.
fn askers(world: &mut World, peers: &[Peer]) -> Vec<usize> {
    let requests = std::iter::from_fn(|| world.requests.take());
    let clients = requests.map(|request| match request {
        Request::Ask { question, .. } => question.reply_to().command.client,
        other => panic!("{other:?}"),
    });
    clients.filter_map(|client| peers.iter().position(|peer| peer.key == client)).collect()
}

/// With answers of up to 10,000 bytes, of which all clients together may have `shard_replies_bytes` waiting.
fn with_little_room(shard_replies_bytes: usize) -> World {
    with_history(|config| {
        config.limits.frame_bytes = 10_000;
        config.limits.replies_bytes = 2000;
        config.limits.shard_replies_bytes = shard_replies_bytes;
    })
}

/// Each is answered with as much as an answer may have, over a slow link: all together many times the bound.
#[test]
fn questions_wait_for_room_and_nobody_who_reads_is_closed() {
    let mut world = with_little_room(40_000);
    let peers: Vec<_> = (0..30).map(|_| world.connect()).collect();
    for peer in &peers {
        peer.pipe().room = 0;
        world.say(peer, r#"{"id":2,"history":{"channel":"h:t","limit":-1}}"#);
    }
    let (mut order, mut got) = (Vec::new(), 0);
    for _ in 0..2000 {
        for asker in askers(&mut world, &peers) {
            order.push(asker);
            world.tell(peers[asker].history(2, 10_000));
        }
        for peer in &peers {
            world.give_room(peer, 200);
            got += peer.got().len();
        }
        assert!(world.shard.replies.bytes() < 40_000);
        world.later(Duration::from_millis(10));
    }
    assert_eq!((order, world.closes(CloseReason::Slow)), ((0..30).collect(), 0));
    assert!(got > 30 * 10_000, "{got} bytes");
    assert_eq!((world.shard.promised_bytes(), world.shard.replies.bytes()), (0, 0));
    assert!(world.shard.clients[peers[29].key.slot].unfinished.is_none());
}

/// Nobody takes anything of what fills most of the bound.
#[test]
fn the_line_of_questions_does_not_stand_still() {
    let mut world = with_little_room(20_000);
    let peers: Vec<_> = (0..4).map(|_| world.connect()).collect();
    for peer in &peers {
        world.say(peer, r#"{"id":2,"history":{"channel":"h:t","limit":-1}}"#);
    }
    peers[0].pipe().room = 10;
    assert_eq!(askers(&mut world, &peers), [0]);
    world.tell(peers[0].history(2, 11_000));
    world.tell(close(&peers[1]));
    assert!(askers(&mut world, &peers).is_empty(), "what waits leaves too little room");
    assert_ne!(world.shard.poll_timeout(), None);
    world.later(Duration::from_millis(400));
    assert_eq!(askers(&mut world, &peers), [2], "who has gone is passed over");
    world.tell(peers[2].history(2, 8000));
    world.give_room(&peers[0], 20_000);
    assert_eq!(askers(&mut world, &peers), [3]);
    world.tell(peers[3].history(2, 10));
    assert!(peers[2].got().len() > 8000 && peers[3].got().contains("\"id\":2"));
    assert_eq!((world.shard.promised_bytes(), world.shard.answers.has_waiting()), (0, false));
    assert_eq!(world.closes(CloseReason::Slow), 1, "whom the operator closed");
}

/// A topic stays while somebody is to be told what it missed there, and no longer.
#[test]
fn who_goes_while_it_waits_to_be_asked_for_again_leaves_no_topic_behind() {
    let mut world = with_history(|_| {});
    let peer = world.connect();
    let recover = |id: u32| {
        format!(r#"{{"id":{id},"subscribe":{{"channel":"h:{id}","recover":true,"epoch":"e","offset":1}}}}"#)
    };
    world.say(&peer, &(2..6).map(recover).collect::<Vec<_>>().join("\n"));
    while let Some(Request::Attach { topic, .. }) = world.requests.take() {
        let position = Some(Position { epoch: "e".into(), offset: 5 });
        assert!(world.mail.send(Mail::Attached { topic, position }).is_ok());
    }
    world.tick();
    let mut questions: Vec<_> = std::iter::from_fn(|| world.requests.take()).collect();
    assert_eq!(questions.len(), 4);
    let Some(Request::Ask { question: last, budget: of_last }) = questions.pop() else {
        panic!("all of them recover")
    };
    for request in questions {
        let Request::Ask { question, budget } = request else { panic!("{request:?}") };
        world.tell(Mail::AskAgain { question, budget });
    }
    assert_eq!(asked(&world), 0, "one is still under way");
    world.tell(close(&peer));
    world.tell(Mail::AskAgain { question: last, budget: of_last });
    world.later(Duration::from_secs(1));
    let detached = std::iter::from_fn(|| world.requests.take());
    assert_eq!(detached.filter(|request| matches!(request, Request::Detach { .. })).count(), 4);
}

#[test]
fn who_takes_no_answers_goes_when_all_together_have_too_much() {
    let mut world = with_history(|config| {
        config.limits.shard_replies_bytes = 1 << 20;
        config.limits.frame_bytes = 1000;
    });
    let peers: Vec<_> = (0..5).map(|_| world.connect()).collect();
    for peer in &peers {
        world.say(peer, r#"{"id":2,"history":{"channel":"h:t","limit":-1}}"#);
        assert!(world.requests.take().is_some());
        peer.pipe().room = 10;
        world.tell(peer.history(2, 300_000));
        world.tick();
    }
    let alive: Vec<_> = peers.iter().map(|peer| world.is_alive(peer)).collect();
    assert_eq!(alive, [false, false, true, true, true]);
    assert!(world.shard.replies.bytes() <= 1 << 20, "{}", world.shard.replies.bytes());
    assert_eq!(world.closes(CloseReason::Slow), 2);
    peers.iter().for_each(|peer| world.give_room(peer, 1 << 20));
    assert_eq!(world.shard.replies.bytes(), 0);
}
