//! How long one turn lasts, and who has one.

use super::*;
use crate::mail::{History, HistoryAsker, MESSAGE_TOPICS_MAX};

/// Messages may be dear: the hand-over does not wait until hundreds of them have been taken.
#[test]
fn a_turn_ends_by_time_as_well_as_by_number() {
    const MESSAGES: usize = 400;
    let mut house = House::new(1, |config| {
        let kept = Namespace { history_size: 1, ..Namespace::default() };
        config.namespaces.insert("kept".to_owned(), kept);
    });
    house.attach(0, 0, "kept:0");
    let names: Vec<_> = (0..MESSAGE_TOPICS_MAX).map(|n| format!("kept:{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    (0..MESSAGES).for_each(|n| drop(house.publish(&names, &n.to_string())));
    let (mut came, mut largest) = (0, 0);
    while came < MESSAGES {
        let lines = house.batch(0).1.len();
        (came, largest) = (came + lines, largest.max(lines));
    }
    assert!(largest <= MESSAGES / 4, "{largest} messages were taken in one turn");
    house.stop();
}

/// The clients of one shard ask for more, and for longer, than their shard takes answers. What another shard's subscribers
/// hear does not wait for that.
#[test]
fn what_one_shard_asks_for_keeps_no_messages_from_the_others() {
    let mut house = House::new(2, |config| config.limits.mailbox = 64);
    house.attach(1, 0, "news");
    let question = || {
        let client = ClientKey { slot: 0, generation: 1 };
        let asker = HistoryAsker::Client { shard: 0, client, command: 1, budget: None };
        Request::History(Box::new(History {
            asker,
            topic: "a".into(),
            limit: Some(0),
            since: None,
            reverse: false,
        }))
    };
    let flood = |house: &mut House| {
        (0..40).for_each(|_| drop(house.requests.push(question())));
        house.requests.notify();
        (0..16).for_each(|_| drop(house.shards[0].take()));
        std::thread::sleep(Duration::from_millis(1));
    };
    let begun = Instant::now();
    while house.stats.outbox.value() == 0 {
        flood(&mut house);
        assert!(begun.elapsed() < LONG, "no mail waits");
    }
    for n in 0..5 {
        let answer = house.publish(&["news"], &n.to_string());
        while house.shards[1].is_empty() {
            flood(&mut house);
            assert!(begun.elapsed() < LONG, "message {n} did not come");
        }
        assert_eq!(house.batch(1), (0, vec![n.to_string()]));
        drop(answer);
    }
    house.stop();
}
