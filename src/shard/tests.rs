//! Single histories of a shard that chance seldom writes: what stands in each is what once went wrong.

pub(super) mod answers;
mod call_answers;
mod calls;
mod connecting;
mod ending;
mod harness;
mod late;
mod reloading;
mod tokens;

use super::*;
use crate::config::{Interval, SlowPolicy};
use crate::domain::mail::{Question, Recovery};
use crate::domain::position::Position;
use crate::domain::reasons::{CloseReason, ErrorCode};

use harness::{End, FRAME, LINE, UPGRADE};
pub(super) use harness::{Peer, World, config, policy, readable};

/// Its socket is always in the middle of a frame, and always takes some more.
#[test]
fn a_ping_to_someone_who_reads_slowly_does_not_wait_for_what_was_before_it() {
    let mut world = World::new(config(|config| {
        config.timeouts.replies = Interval::from_millis(900);
        config.timeouts.ping = Interval::from_secs(2);
        config.limits.frame_bytes = 10 * LINE as usize;
    }));
    let slow = world.connect();
    let topic = world.subscribe(&slow, "t");
    slow.pipe().room = FRAME / 2;
    world.publish(topic, 10 * LINE);
    let mut got = String::new();
    for _ in 0..60 {
        world.publish(topic, 10 * LINE);
        world.later(Duration::from_millis(50));
        // A frame takes half a second.
        world.give_room(&slow, FRAME);
        assert_eq!(world.closes(CloseReason::Slow), 0);
        assert!(world.shard.clients[slow.key.slot].outgoing.is_some(), "always in the middle of a frame");
        got += &slow.got();
    }
    assert!(got.contains("{}"), "it is pinged");
}

#[test]
fn a_reply_that_nobody_takes_waits_no_longer_than_it_may() {
    let mut world = World::new(config(|config| {
        config.timeouts.replies = Interval::from_millis(500);
        config.timeouts.close = Interval::from_secs(2);
    }));
    let slow = world.connect();
    let topic = world.subscribe(&slow, "t");
    slow.pipe().room = 10;
    world.publish(topic, LINE);
    world.later(Duration::from_secs(5));
    world.say(&slow, r#"{"id":3,"rpc":{}}"#);
    for closes in [0, 1] {
        world.later(Duration::from_millis(350));
        assert_eq!(world.closes(CloseReason::Slow), closes);
    }
    // The close frame has its own time.
    world.later(Duration::from_secs(1));
    world.give_room(&slow, usize::MAX / 2);
    let closes = |four: &[u8]| four[0] == 0x88 && four[2..] == 3008_u16.to_be_bytes();
    assert!(slow.pipe().from_server.windows(4).any(closes));
}

#[test]
fn replies_to_one_client_do_not_go_with_those_to_another() {
    let mut world = World::new(config(|_| {}));
    let (leaves, comes) = (world.connect(), world.connect());
    let topic = world.subscribe(&leaves, "t");
    let position = Position { epoch: "another".into(), offset: 7 };
    world.tell(Mail::Attached { topic, position: Some(position) });
    world.say(&comes, r#"{"id":5,"subscribe":{"channel":"t"}}"#);
    assert_eq!(comes.got(), "");
    world.say(&leaves, "{\"id\":70,\"rpc\":{}}\n{\"id\":71,\"unsubscribe\":{\"channel\":\"t\"}}");
    let (left, came) = (leaves.got(), comes.got());
    assert!(came.contains(r#""id":5,"#) && !came.contains(r#""id":70,"#), "{came}");
    assert!(left.contains(r#""id":70,"#) && left.contains(r#""id":71,"#), "{left}");
}

#[test]
fn a_batch_is_not_written_while_the_rest_of_its_frame_waits_somewhere_else() {
    let mut world = World::new(config(|config| {
        config.limits.log_bytes = 4 * LINE as usize;
        config.amqp.written_timeout = Interval::from_secs(10);
        config.namespaces.extend([policy(SlowPolicy::Skip)]);
    }));
    let slow = world.connect();
    let topic = world.subscribe(&slow, "n:t");
    slow.pipe().room = 10;
    (0..10).for_each(|_| world.publish(topic, LINE));
    assert!(world.shard.logs.rest_bytes() > 0, "the log has let go of the frame");
    assert_eq!(world.receipt.written(), 0);
    world.give_room(&slow, FRAME - 10);
    assert!(world.receipt.written() > 0);
}

/// The latest lines of both keys end where the older ones ended: behind the place of the first batch.
#[test]
fn a_batch_is_not_written_while_what_was_left_of_it_waits() {
    let mut world = World::new(config(|config| {
        config.limits.log_bytes = 10 * LINE as usize;
        config.amqp.written_timeout = Interval::from_secs(10);
        config.namespaces.extend([policy(SlowPolicy::Skip)]);
    }));
    let slow = world.connect();
    let topic = world.subscribe(&slow, "n:t");
    slow.pipe().room = 0;
    (0..12).for_each(|n| world.publish_latest(topic, LINE, u64::from(n > 0)));
    assert!(world.shard.topics[topic].parked()[0].cursor >= u64::from(LINE), "the first batch has moved");
    assert_eq!(world.receipt.written(), 0);
    world.give_room(&slow, usize::MAX);
    assert_eq!(world.receipt.written(), 12);
}

#[test]
fn a_topic_that_is_not_attached_again_leaves_nothing_behind() {
    let mut world = World::new(config(|config| config.budgets.visits = 0));
    let (leaves, comes) = (world.connect(), world.connect());
    let topic = world.subscribe(&leaves, "t");
    world.publish(topic, LINE);
    world.say(&leaves, r#"{"id":3,"unsubscribe":{"channel":"t"}}"#);
    world.say(&comes, r#"{"id":3,"subscribe":{"channel":"t"}}"#);
    world.tell(Mail::Detached { topic });
    world.tell(Mail::AttachFailed { topic, error: ErrorCode::Internal });
    world.shard.settings.budgets.visits = 10;
    world.tick();
    assert!(comes.got().contains(r#""error""#));
    assert_eq!(
        (world.shard.logs.bytes(), world.shard.topics.len(), world.shard.delivery.is_swept()),
        (0, 0, true)
    );
}

#[test]
fn a_topic_is_pinned_once_however_often_its_log_is_full() {
    let mut world = World::new(config(|config| {
        config.limits.log_bytes = 4 * LINE as usize;
        config.namespaces.extend([policy(SlowPolicy::Skip)]);
    }));
    let slow = world.connect();
    let topic = world.subscribe(&slow, "n:t");
    slow.pipe().room = 10;
    (0..50).for_each(|_| world.publish(topic, LINE));
    assert_eq!(*world.shard.logs.pinned(), [topic]);
}

#[test]
fn topics_that_are_gone_are_not_pinned_for_ever() {
    let mut world = World::new(config(|_| {}));
    for _ in 0..50 {
        let slow = world.connect();
        let topic = world.subscribe(&slow, "t");
        slow.pipe().room = 0;
        world.publish(topic, LINE);
        assert!(world.shard.topics[topic].is_pinned());
        world.say(&slow, r#"{"id":3,"unsubscribe":{"channel":"t"}}"#);
        assert!(matches!(world.requests.take(), Some(Request::Detach { .. })));
        world.tell(Mail::Detached { topic });
    }
    assert!(world.shard.topics.is_empty());
    assert!(world.shard.logs.pinned().len() <= 2, "{:?}", world.shard.logs.pinned());
}

#[test]
fn commands_before_the_end_of_the_input_are_done() {
    let mut world = World::new(config(|config| {
        config.namespaces.extend([policy(SlowPolicy::Skip)]);
        // No room for a second publish beside one that is under way.
        config.limits.message_bytes = 400;
    }));
    let hasty = world.connect();
    for id in 3..6 {
        world.send_later(&hasty, &format!(r#"{{"id":{id},"publish":{{"channel":"n:t","data":{id}}}}}"#));
    }
    hasty.pipe().ended = true;
    let client = world.shard.client_id(hasty.key.slot).to_string();
    world.shard.hung_up(hasty.key.slot);
    for id in 3..6 {
        world.tick();
        let Some(Request::Publish(publish)) = world.requests.take() else { panic!("{id} is not published") };
        assert_eq!(*publish.data, *id.to_string().as_bytes());
        assert_eq!(publish.info.as_ref().map(|info| &*info.client), Some(&*client));
        assert_eq!(world.is_alive(&hasty), id < 5, "whether it has more to say");
        world.tell(hasty.published(id));
    }
    world.tick();
    assert!(!world.is_alive(&hasty));
}

/// The answer is about a numbering that is over, and who is subscribed by it would be passed over by the walk that
/// tells all others, and hold the topic back for ever.
#[test]
fn who_recovers_while_a_topic_is_numbered_anew_is_asked_for_again() {
    let mut world = World::new(config(|config| config.namespaces.extend([readable()])));
    let (back, here) = (world.connect(), world.connect());
    let position = |epoch: &str, offset| Position { epoch: epoch.into(), offset };
    world.say(&here, r#"{"id":2,"subscribe":{"channel":"h:t"}}"#);
    let Some(Request::Attach { topic, .. }) = world.requests.take() else { panic!("it is attached") };
    world.tell(Mail::Attached { topic, position: Some(position("old", 5)) });
    assert!(here.got().contains(r#""subscribe""#));
    world.say(&back, r#"{"id":2,"subscribe":{"channel":"h:t","recover":true,"epoch":"old","offset":5}}"#);
    let Some(Request::Ask { question: Question::Recover(question), budget }) = world.requests.take() else {
        panic!("it is asked for")
    };

    world.tell(Mail::Attached { topic, position: Some(position("new", 0)) });
    let nothing: Arc<[u8]> = Arc::default();
    let answer = Recovery { position: position("old", 5), missed: Some(nothing) };
    world.tell(answers::recovered(*question, budget, Ok(answer)));
    assert_eq!(back.got(), "");
    world.tell(Mail::Gap);
    world.later(Duration::from_secs(1));
    assert!(here.got().contains("2500"));

    let Some(Request::Ask { question: Question::Recover(question), budget }) = world.requests.take() else {
        panic!("it is asked for again")
    };
    assert_eq!((&*question.since.epoch, question.since.offset), ("old", 5));
    let answer = Recovery { position: position("new", 0), missed: None };
    world.tell(answers::recovered(*question, budget, Ok(answer)));
    let reply = back.got();
    assert!(reply.contains(r#""epoch":"new""#) && !reply.contains(r#""recovered""#), "{reply}");
    world.publish(topic, LINE);
    assert!(back.got().contains("ppp"));
}

/// Others wait with it only as long as SDKs do.
#[test]
fn while_it_takes_long_to_tell_all_of_a_gap_who_comes_is_told_to_come_later() {
    let mut world = World::new(config(|config| {
        config.stop.gaps_per_second = 1;
        config.namespaces.extend([readable()]);
    }));
    let crowd: Vec<_> = (0..1000).map(|_| world.connect()).collect();
    let [first, last] = [&crowd[0], &crowd[999]];
    world.say(last, r#"{"id":2,"subscribe":{"channel":"h:t"}}"#);
    let Some(Request::Attach { topic, .. }) = world.requests.take() else { panic!("it is attached") };
    let position = |epoch: &str| Some(Position { epoch: epoch.into(), offset: 0 });
    world.tell(Mail::Attached { topic, position: position("old") });
    for another in &crowd[..999] {
        world.say(another, r#"{"id":2,"subscribe":{"channel":"h:t"}}"#);
    }
    crowd.iter().for_each(|peer| drop(peer.got()));
    world.tell(Mail::Attached { topic, position: position("new") });
    world.tell(Mail::Gap);
    assert!(first.got().contains("2500") && last.got().is_empty());
    world.say(first, r#"{"id":3,"subscribe":{"channel":"h:t"}}"#);
    let refused = first.got();
    assert!(refused.contains(r#""code":111"#) && refused.contains(r#""temporary":true"#), "{refused}");
}
