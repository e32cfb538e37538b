//! The whole broker thread on the embedded backplane, with fake shards: real mailboxes, and nobody behind them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::base::mailbox::Receiver;
use crate::config::{Interval, Namespace, SlowPolicy};
use crate::domain::codec::Codec;
use crate::domain::encoding::Encoding;
use crate::domain::mail::{
    Answer, ClientKey, CommandKey, KeyedLine, Lane, Numbered, Publish, PublishOutcome, ReplyAddress, ReplyTo,
    Request, ShardId, SurveyTimeout, TopicCounts, TopicName, TopicSlot, Variant,
};
use crate::domain::reasons::{CloseReason, Closing, ErrorCode, UnsubscribeCode};
use crate::stats::BackplaneState;
use fakes::{Ends, setup};
use harness::Harness;

mod calls;
mod clients;
pub(in crate::broker) mod fakes;
mod harness;
mod ids;
mod namespaces;
mod operators;
mod positions;
mod reloading;
mod turns;
mod unkept;

const LONG: Duration = Duration::from_secs(20);
const PLAIN: Variant = Variant { encoding: Encoding::Json, lane: Lane::FIRST };
const DEFLATED: Variant = Variant { encoding: Encoding::Deflated, ..PLAIN };

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[test]
fn a_publication_is_encoded_once_and_goes_to_whom_it_concerns() {
    let mut harness = Harness::new(3, |_| {});
    harness.attach(0, 5, "news");
    harness.attach(2, 9, "news");
    harness.attach(1, 0, "other");
    assert_eq!(harness.publish(&["news"], "[1, 2]").blocking_recv(), Ok(Ok(Numbered::new())));
    assert_eq!(harness.batch(0), (5, vec!["[1,2]".to_owned()]));
    assert_eq!(harness.batch(2), (9, vec!["[1,2]".to_owned()]));
    assert_eq!(harness.publish(&["nobody", "other"], "3").blocking_recv(), Ok(Ok(Numbered::new())));
    assert_eq!(harness.batch(1), (0, vec!["3".to_owned()]));
    let stats = &harness.stats;
    let counted = [&stats.publications, &stats.encodings, &stats.unheard, &stats.batches, &stats.confirmed];
    assert_eq!(counted.map(crate::stats::Number::value), [3, 2, 1, 3, 2]);
    assert_eq!(stats.backplane.value(), BackplaneState::Ready as u64);
    assert!(harness.shards.iter().all(Receiver::is_empty));
    harness.stop();
}

#[test]
fn what_waits_is_handed_over_to_each_lane_that_somebody_is_in() {
    let mut harness = Harness::new(2, |config| {
        let slow = Namespace { max_delay: Interval::from_secs(3600), ..Namespace::default() };
        config.namespaces = [("default".to_owned(), slow)].into();
    });
    let lane = |number: usize| Variant { lane: Lane::ALL[number], ..PLAIN };
    harness.attach_in(lane(0), 0, 0, "a");
    harness.attach_in(lane(3), 0, 1, "a");
    harness.publish(&["a"], "1").blocking_recv().unwrap().unwrap();
    harness.wait_until("the first line", |stats| stats.publications.value() == 1);
    harness.attach_in(lane(3), 1, 5, "a");
    harness.attach_in(lane(6), 1, 6, "a");
    harness.publish(&["a"], "2").blocking_recv().unwrap().unwrap();
    harness.wait_until("the second line", |stats| stats.publications.value() == 2);
    // Whoever stops ends all windows.
    harness.ask(Request::Stop);
    let both = vec!["1".to_owned(), "2".to_owned()];
    let mut got = [harness.batch(0), harness.batch(0), harness.batch(1), harness.batch(1)];
    got.sort();
    let wanted = [(0, both.clone()), (1, both.clone()), (5, both), (6, vec!["2".to_owned()])];
    assert_eq!(got, wanted, "a lane that was new has only what came after");
    assert_eq!(harness.stats.merging_bytes.value(), 0);
    harness.stop();
}

#[test]
fn a_batch_is_compressed_once_and_only_for_those_who_want_it_so() {
    let mut harness = Harness::new(2, |config| {
        let deflate = Namespace { deflate: true, deflate_min_bytes: 200, ..Namespace::default() };
        config.namespaces = [("default".to_owned(), deflate)].into();
    });
    harness.attach(0, 0, "a");
    harness.publish(&["a"], "1").blocking_recv().unwrap().unwrap();
    assert_eq!(harness.batch(0), (0, vec!["1".to_owned()]));
    assert_eq!((harness.stats.encodings.value(), harness.stats.deflate_in.value()), (1, 0));

    harness.attach_in(DEFLATED, 0, 1, "a");
    harness.attach_in(DEFLATED, 1, 0, "a");
    let mut inflater = crate::codec::deflate::Inflater::default();
    let (mut stored, mut plain_bytes) = (Vec::new(), 0);
    for data in ["2".to_owned(), format!("\"{}\"", "x".repeat(300))] {
        harness.publish(&["a"], &data).blocking_recv().unwrap().unwrap();
        assert_eq!(harness.batch(0), (0, vec![data.clone()]));
        let [mine, other] = [0, 1].map(|shard| match harness.mail(shard) {
            Mail::Batch { topic, lines } => (topic.0, lines),
            mail => panic!("no batch: {mail:?}"),
        });
        assert_eq!((mine.0, other.0), (1, 0));
        assert!(Arc::ptr_eq(&mine.1.bytes, &other.1.bytes), "compressed twice");
        let plain = inflater.message(&mine.1.bytes, 1000).unwrap();
        let line = format!("{{\"push\":{{\"channel\":\"a\",\"pub\":{{\"data\":{data}}}}}}}\n");
        assert_eq!(String::from_utf8(plain).unwrap(), line);
        assert_eq!((mine.1.count, mine.1.plain_bytes as usize), (1, line.len()));
        stored.push(mine.1.bytes.len() > line.len());
        plain_bytes += line.len() as u64;
    }
    assert_eq!(stored, [true, false], "below the minimum it is stored");
    assert_eq!((harness.stats.encodings.value(), harness.stats.deflate_in.value()), (5, plain_bytes));

    // Who wants it as it is may go: the topic stays, with those who want it compressed.
    harness.ask(Request::Detach { shard: 0, topic: TopicSlot(0), variant: PLAIN, name: "a".into() });
    assert!(matches!(harness.mail(0), Mail::Detached { topic: TopicSlot(0) }));
    harness.publish(&["a"], "3").blocking_recv().unwrap().unwrap();
    assert!(matches!(harness.mail(0), Mail::Batch { topic: TopicSlot(1), .. }));
    assert!(matches!(harness.mail(1), Mail::Batch { topic: TopicSlot(0), .. }));
    assert!(harness.shards.iter().all(Receiver::is_empty));
    harness.stop();
}

#[test]
fn a_full_mailbox_delays_and_loses_nothing_and_requests_go_on() {
    let mut harness = Harness::new(2, |config| config.limits.mailbox = 4);
    harness.attach(0, 0, "a");
    harness.attach(1, 0, "b");
    // One batch per publication, as each is answered before the next one comes. Four fit.
    let sent = 5;
    for n in 0..sent {
        harness.publish(&["a"], &n.to_string()).blocking_recv().unwrap().unwrap();
    }
    harness.wait_until("a mail in the outbox", |stats| stats.outbox.value() == 1);
    // Shard 0 takes nothing. Publications wait, for shard 1 as well; requests and their answers do not.
    let mut late: Vec<_> = (sent..sent + 50).map(|n| harness.publish(&["a"], &n.to_string())).collect();
    late.push(harness.publish(&["b"], "1"));
    harness.attach(1, 1, "c");
    assert!(late.iter_mut().all(|answer| answer.try_recv() == Err(oneshot::error::TryRecvError::Empty)));
    assert_eq!(harness.collect(0, sent + 50), numbers(0..sent + 50));
    assert_eq!(harness.batch(1), (0, vec!["1".to_owned()]));
    for answer in late {
        assert_eq!(answer.blocking_recv(), Ok(Ok(Numbered::new())));
    }
    harness.wait_until("an empty outbox", |stats| stats.outbox.value() == 0);
    harness.stop();
}

#[test]
fn who_publishes_to_an_engine_that_stays_behind_is_told_in_time() {
    let mut harness = Harness::new(1, |config| {
        config.limits.mailbox = 2;
        config.limits.publishes = 3;
        config.timeouts.publish = Interval::from_millis(50);
    });
    harness.attach(0, 0, "a");
    for _ in 0..3 {
        harness.publish(&["a"], "0").blocking_recv().unwrap().unwrap();
    }
    harness.wait_until("a mail in the outbox", |stats| stats.outbox.value() == 1);
    let answers: Vec<_> = (0..5).map(|_| harness.publish(&["a"], "1")).collect();
    for answer in answers {
        assert_eq!(answer.blocking_recv(), Ok(Err(ErrorCode::TooManyRequests.into())));
    }
    assert_eq!(harness.stats.publish_failures.value(), 5);
    assert_eq!(harness.collect(0, 3).len(), 3);
    harness.stop();
}

#[test]
fn a_shard_is_woken_once_for_what_comes_in_one_turn() {
    let mut harness = Harness::new(1, |_| {});
    for slot in 0..100 {
        harness
            .requests
            .operators
            .push(Request::Attach {
                shard: 0,
                topic: TopicSlot(slot),
                variant: PLAIN,
                name: slot.to_string().into(),
            })
            .unwrap();
    }
    harness.requests.operators.notify();
    for _ in 0..100 {
        assert!(matches!(harness.mail(0), Mail::Attached { .. }));
    }
    assert_eq!(harness.woken[0].load(Ordering::Relaxed), 1);
    harness.stop();
}

#[test]
fn a_namespace_that_waits_gets_its_publications_in_one_batch() {
    let mut harness = Harness::new(1, |config| {
        let slow =
            Namespace { max_delay: Interval::from_millis(300), max_messages: 10, ..Namespace::default() };
        let latest = Namespace { slow: SlowPolicy::Skip, ..slow.clone() };
        config.namespaces = [("slow".to_owned(), slow), ("latest".to_owned(), latest)].into();
    });
    harness.attach(0, 0, "slow:1");
    for n in 0..13 {
        harness.publish(&["slow:1"], &n.to_string()).blocking_recv().unwrap().unwrap();
    }
    assert_eq!(harness.batch(0), (0, numbers(0..10)));
    harness.wait_until("bytes that wait", |stats| stats.merging_bytes.value() > 0);
    // Who leaves meanwhile takes it along, and the slot is not heard of again.
    harness.ask(Request::Detach { shard: 0, topic: TopicSlot(0), variant: PLAIN, name: "slow:1".into() });
    assert!(matches!(harness.mail(0), Mail::Detached { topic: TopicSlot(0) }));
    harness.wait_until("nothing that waits", |stats| stats.merging_bytes.value() == 0);
    harness.attach(0, 0, "slow:2");
    harness.publish(&["slow:2"], "\"x\"").blocking_recv().unwrap().unwrap();
    assert_eq!(harness.batch(0), (0, vec!["\"x\"".to_owned()]));
    harness.stop();
}

/// Whoever keeps up gets all: which lines are of which key is for shards with somebody who does not.
#[test]
fn keys_go_along_where_slow_clients_skip_and_nothing_is_left_out() {
    let mut harness = Harness::new(1, |config| {
        let waits =
            Namespace { max_delay: Interval::from_secs(3600), max_messages: 4, ..Namespace::default() };
        let skip = Namespace { slow: SlowPolicy::Skip, deflate: true, ..waits.clone() };
        let no_keys = Namespace { keys_max: 0, ..skip.clone() };
        let namespaces = [("default", waits), ("skip", skip), ("none", no_keys)];
        config.namespaces = namespaces.map(|(name, options)| (name.to_owned(), options)).into();
    });
    let topics = ["skip:a", "none:a", "a"];
    (0..).zip(topics).for_each(|(slot, topic)| harness.attach(0, slot, topic));
    harness.attach_in(DEFLATED, 0, 3, "skip:a");
    for (data, key) in [("1", Some("x")), ("2", None), ("3", Some("x")), ("4", Some("y"))] {
        harness.publish_of(key, &topics, data).blocking_recv().unwrap().unwrap();
    }
    let mut batches: Vec<_> = (0..4)
        .map(|_| match harness.mail(0) {
            Mail::Batch { topic, lines } => (topic.0, lines),
            mail => panic!("no batch: {mail:?}"),
        })
        .collect();
    batches.sort_by_key(|&(slot, _)| slot);
    assert!(batches.iter().all(|(_, lines)| lines.count == 4), "{batches:?}");
    let [skip, no_keys, other, deflated] = [0, 1, 2, 3].map(|slot| batches[slot].1.keyed.clone());
    assert_eq!((no_keys, other), (None, None));
    let skip = skip.unwrap();
    assert!(Arc::ptr_eq(&skip, &deflated.unwrap()), "made twice");
    let line = |place: &KeyedLine| &batches[0].1.bytes[place.from as usize..place.to as usize];
    let expected =
        |n| format!("{{\"push\":{{\"channel\":\"skip:a\",\"pub\":{{\"data\":{n}}}}}}}\n").into_bytes();
    assert_eq!(skip.iter().map(|place| line(place).to_vec()).collect::<Vec<_>>(), [1, 3, 4].map(expected));
    assert!(skip[0].key == skip[1].key && skip[1].key != skip[2].key, "{skip:?}");
    harness.stop();
}

#[test]
fn what_waits_to_be_merged_is_handed_over_before_the_end() {
    let mut harness = Harness::new(1, |config| {
        let slow = Namespace { max_delay: Interval::from_secs(3600), ..Namespace::default() };
        config.namespaces = [("default".to_owned(), slow)].into();
    });
    harness.attach(0, 3, "a");
    harness.publish(&["a"], "1").blocking_recv().unwrap().unwrap();
    harness.ask(Request::Stop);
    assert_eq!(harness.batch(0), (3, vec!["1".to_owned()]));
    assert!(matches!(harness.mail(0), Mail::Drain));
    // Requests are served to the end; publishes fail.
    harness.attach(0, 4, "b");
    assert_eq!(harness.publish(&["a"], "2").blocking_recv(), Ok(Err(ErrorCode::TooManyRequests.into())));
    harness.ask(Request::Drained { shard: 0 });
    harness.thread.take().unwrap().join().unwrap();
}
