//! How long one turn lasts, and who has one.

use super::*;
use crate::auth::{Keys, Verifier};
use crate::broker::turn::REQUESTS_PER_TURN;
use crate::domain::asked::{Asked, HistoryRange};
use crate::domain::codec::Codec;
use crate::domain::mail::{MESSAGE_TOPICS_MAX, Question, TopicQuestion};

/// Messages may be dear: the hand-over does not wait until hundreds of them have been taken.
#[test]
fn a_turn_ends_by_time_as_well_as_by_number() {
    const MESSAGES: usize = 400;
    let mut harness = Harness::new(1, |config| {
        let kept = Namespace { history_size: 1, ..Namespace::default() };
        config.namespaces.insert("kept".to_owned(), kept);
    });
    harness.attach(0, 0, "kept:0");
    let names: Vec<_> = (0..MESSAGE_TOPICS_MAX).map(|n| format!("kept:{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    (0..MESSAGES).for_each(|n| drop(harness.publish(&names, &n.to_string())));
    let (mut came, mut largest) = (0, 0);
    while came < MESSAGES {
        let lines = harness.batch(0).1.len();
        (came, largest) = (came + lines, largest.max(lines));
    }
    assert!(largest <= MESSAGES / 4, "{largest} messages were taken in one turn");
    harness.stop();
}

/// A question of a client of a shard.
fn question(shard: ShardId) -> Request {
    let client = ClientKey { slot: 0, generation: 1 };
    let command = CommandKey { client, id: 1 };
    let reply_to = ReplyAddress { shard, command, codec: Codec::Json };
    let asked = Asked::History(HistoryRange { limit: Some(0), ..HistoryRange::default() });
    let question = TopicQuestion { reply_to, topic: "a".into(), asked };
    Request::Ask { question: Question::Topic(Box::new(question)), budget: None }
}

/// The clients of one shard ask for more, and for longer, than their shard takes answers. What another shard's subscribers
/// hear does not wait for that.
#[test]
fn what_one_shard_asks_for_keeps_no_messages_from_the_others() {
    let mut harness = Harness::new(2, |config| config.limits.mailbox = 64);
    harness.attach(1, 0, "news");
    let flood = |harness: &mut Harness| {
        (0..40).for_each(|_| drop(harness.requests.shards[0].push(question(0))));
        harness.requests.shards[0].notify();
        (0..16).for_each(|_| drop(harness.shards[0].take()));
        std::thread::sleep(Duration::from_millis(1));
    };
    let begun = Instant::now();
    while harness.stats.outbox.value() == 0 {
        flood(&mut harness);
        assert!(begun.elapsed() < LONG, "no mail waits");
    }
    for n in 0..5 {
        let answer = harness.publish(&["news"], &n.to_string());
        while harness.shards[1].is_empty() {
            flood(&mut harness);
            assert!(begun.elapsed() < LONG, "message {n} did not come");
        }
        assert_eq!(harness.batch(1), (0, vec![n.to_string()]));
        drop(answer);
    }
    harness.stop();
}

/// What one shard has to hear is more than it takes, and its clients go on asking. What others ask for does not wait for
/// that.
#[test]
fn what_waits_for_one_shard_keeps_no_answers_from_the_others() {
    let mut harness = Harness::new(2, |config| config.limits.mailbox = 16);
    harness.attach(0, 0, "a");
    // One batch per publication, as each is answered before the next one comes.
    for n in 0..17 {
        harness.publish(&["a"], &n.to_string()).blocking_recv().unwrap().unwrap();
    }
    harness.wait_until("a mail in the outbox", |stats| stats.outbox.value() == 1);
    (0..2 * REQUESTS_PER_TURN).for_each(|_| harness.requests.shards[0].send(question(0)).unwrap());
    for n in 0..2 * REQUESTS_PER_TURN {
        harness.requests.shards[1].send(question(1)).unwrap();
        assert!(matches!(harness.mail(1), Mail::Answer { .. }), "answer {n}");
    }
    assert_eq!(harness.stats.outbox.value(), 1 + 512);
    let is_answer = |mail| matches!(mail, Mail::Answer { .. });
    let answers = (0..17 + 2 * REQUESTS_PER_TURN).filter(|_| is_answer(harness.mail(0))).count();
    assert_eq!(answers, 2 * REQUESTS_PER_TURN);
    harness.stop();
}

/// A shard ends when its last client has gone, whatever it has asked for until then.
#[test]
fn what_waits_for_a_shard_that_has_ended_keeps_nobody_from_ending() {
    let mut harness = Harness::new(1, |config| config.limits.mailbox = 16);
    harness.ask(Request::Stop);
    while !matches!(harness.mail(0), Mail::Drain) {}
    (0..2 * REQUESTS_PER_TURN).for_each(|_| harness.requests.shards[0].send(question(0)).unwrap());
    harness.shards.clear();
    harness.requests.shards[0].send(Request::Drained { shard: 0 }).unwrap();
    let thread = harness.thread.take().unwrap();
    let deadline = Instant::now() + LONG;
    while !thread.is_finished() {
        assert!(Instant::now() < deadline, "it waits for a shard that has ended");
        std::thread::sleep(Duration::from_millis(1));
    }
    thread.join().unwrap();
}

#[test]
fn other_keys_reach_every_shard_even_before_it_runs() {
    let (mut broker, Ends { requests, shards, .. }) = fakes::broker(Config::default(), 2);
    let verifier = Verifier::new(&Config::default(), Keys::default());
    requests.operators.push(Request::Verifier(verifier)).unwrap();
    broker.take_requests();
    for mut shard in shards {
        assert!(matches!(shard.take(), Some(Mail::Verifier(_))));
    }
}

/// There are no clients yet, and the shards take no mail.
#[test]
fn what_operators_ask_for_before_the_shards_run_is_no_mail() {
    let (mut broker, Ends { requests, shards, .. }) = fakes::broker(Config::default(), 1);
    let ask = |broker: &mut Broker| {
        let (answer, parts) = mpsc::unbounded_channel();
        requests.operators.push(Request::Unsubscribe { client: None, topic: "a".into() }).unwrap();
        requests.operators.push(Request::Survey(answer)).unwrap();
        broker.take_requests();
        parts
    };
    assert!(ask(&mut broker).is_closed() && shards[0].is_empty(), "it is answered at once");
    broker.stage.shards_start();
    assert!(!ask(&mut broker).is_closed() && shards[0].len() == 2);
}
