//! How long publications are kept.

use super::*;

#[test]
fn publications_go_when_their_time_is_over_and_not_earlier() {
    let mut harness = Harness::new();
    let publication = Publication { data: b"1", info: None, offset: 1 };
    let addition = Addition { publication, age: Some(Duration::from_secs(20)), lifetime: None };
    harness.history.add("t", &addition, KEEP, harness.now);
    harness.pass(Duration::from_millis(10_050));
    harness.add("t", 2);
    let start = harness.now - Duration::from_millis(10_050);
    assert_eq!(harness.history.next_expiry(), Some(start + Duration::from_secs(40)));
    harness.now = start + Duration::from_millis(39_999);
    harness.history.expire(harness.now);
    assert_eq!(harness.history.publications(), 2);
    harness.now = start + Duration::from_secs(40);
    assert_eq!(harness.recover("t", "E", 0, NEWEST), (None, 2), "trimmed when asked, too");
    assert_eq!(harness.history.publications(), 1);
    assert_eq!(harness.history.next_expiry(), Some(start + Duration::from_millis(70_100)));
    harness.now = start + Duration::from_millis(70_100);
    harness.history.expire(harness.now);
    assert_eq!(
        (harness.history.publications(), harness.history.bytes(), harness.history.topics()),
        (0, 0, 1)
    );
    assert_eq!(harness.history.next_expiry(), None);
    assert_eq!(harness.recover("t", "E", 1, NEWEST), (None, 2));
    assert_eq!(harness.recover("t", "E", 2, NEWEST), (Some(vec![]), 2));
    harness.add("t", 3);
    assert_eq!(harness.recover("t", "E", 1, NEWEST), (None, 3));
    assert_eq!(harness.recover("t", "E", 2, NEWEST), (Some(vec![3]), 3));
}

#[test]
fn who_asks_for_a_topic_may_be_the_one_who_sees_it_forgotten() {
    let mut harness = Harness::with(AMPLE, 0);
    harness.add("t", 1);
    harness.pass(KEEP.ttl);
    assert_eq!(harness.recover("t", "E", 0, NEWEST), (None, 1));
    assert_eq!(harness.recover("t", "E", 1, NEWEST), (Some(vec![]), 1));
    assert_eq!(harness.history.topics(), 0);
}

#[test]
fn times_to_live_are_rounded_up() {
    let mut harness = Harness::new();
    harness.add_with("t", 1, Keep { size: 1, ttl: STEP / 2 * 3 }, None);
    harness.pass(STEP);
    assert_eq!(harness.recover("t", "E", 0, NEWEST), (Some(vec![1]), 1));
    harness.pass(STEP);
    assert_eq!(harness.recover("t", "E", 0, NEWEST), (None, 1));
}

#[test]
fn what_is_kept_forever_never_expires() {
    let mut harness = Harness::new();
    harness.add_with("t", 1, Keep { size: 1, ttl: Duration::MAX }, None);
    assert_eq!(harness.history.next_expiry(), None);
    harness.pass(Duration::from_secs(400_000_000));
    harness.history.expire(harness.now);
    assert_eq!(harness.recover("t", "E", 0, NEWEST), (Some(vec![1]), 1));
}

#[test]
fn expiring_is_done_in_pieces() {
    let mut harness = Harness::with(AMPLE, 10);
    for offset in 1..=2 * EXPIRING_AT_ONCE as u64 {
        harness.add(&format!("t{offset}"), offset);
    }
    harness.pass(KEEP.ttl);
    harness.history.expire(harness.now);
    assert_eq!(harness.history.publications(), EXPIRING_AT_ONCE);
    assert!(harness.history.next_expiry().unwrap() <= harness.now);
    harness.history.expire(harness.now);
    assert_eq!((harness.history.publications(), harness.history.topics()), (0, 10));
}

#[test]
fn who_has_expired_is_left_out_of_the_middle() {
    let mut harness = Harness::new();
    let soon = harness.now + Duration::from_secs(1);
    harness.add("t", 1);
    harness.add_with("t", 2, KEEP, Some(soon));
    harness.all(&[("t", 3)]);
    harness.add_with("t", 4, KEEP, Some(soon + Duration::from_secs(1)));
    assert_eq!(harness.recover("t", "E", 0, NEWEST), (Some(vec![1, 2, 3, 4]), 4));
    harness.now = soon;
    assert_eq!(harness.recover("t", "E", 0, NEWEST), (Some(vec![1, 3, 4]), 4));
    assert_eq!(harness.recover("t", "E", 1, NEWEST), (Some(vec![3, 4]), 4));
    assert_eq!(harness.read("t", None, 2, false), (vec![1, 3], 4));
    harness.pass(Duration::from_secs(1));
    assert_eq!(harness.recover("t", "E", 1, NEWEST), (Some(vec![3]), 4));
    assert_eq!(harness.recover("t", "E", 3, NEWEST), (Some(vec![]), 4), "expired, but not lost");
    assert_eq!(harness.cached("t", "E", 1, NEWEST), (None, 4), "there is no latest value any more");
    assert_eq!(harness.cached("t", "E", 4, NEWEST), (Some(vec![]), 4));
}

/// Reloads may bring any number of times to live, one after the other.
#[test]
fn classes_without_topics_are_used_again() {
    let mut harness = Harness::new();
    let ttl = |number: u64| Duration::from_secs(number);
    harness.add_with("stays", 1, Keep { size: 1, ttl: ttl(100_000) }, None);
    for number in 1..=70_000 {
        harness.add_with("t", number, Keep { size: 1, ttl: ttl(number) }, None);
        harness.history.remove("t");
    }
    harness.add_with("t", 70_001, Keep { size: 1, ttl: ttl(1) }, None);
    harness.pass(ttl(2));
    assert_eq!(harness.recover("t", "E", 70_000, NEWEST), (None, 70_001));
    assert_eq!(harness.recover("stays", "E", 0, NEWEST), (Some(vec![1]), 1));
}
