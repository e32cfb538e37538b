//! Which publications are repetitions, by the `message-id` of their messages.

use super::*;

impl Harness {
    fn send(&self, id: &str, topics: &[&str], data: &str) {
        self.publish_as(Some(id), None, topics, data).blocking_recv().unwrap().unwrap();
    }
}

#[test]
fn an_id_is_a_repetition_for_the_topics_that_it_came_to_and_others_get_theirs() {
    let mut harness = Harness::new(1, |_| {});
    harness.attach(0, 1, "customer.1");
    harness.attach(0, 2, "customer.2");
    harness.send("event-7", &["customer.1"], "1");
    assert_eq!(harness.batch(0), (1, vec!["1".to_owned()]));
    harness.send("event-7", &["customer.2"], "2");
    assert_eq!(harness.batch(0), (2, vec!["2".to_owned()]));
    harness.send("event-7", &["customer.1", "unheard", "customer.2"], "3");
    harness.send("event-7", &["unheard", "customer.2"], "4");
    harness.send("event-8", &["customer.2", "customer.1"], "5");
    let mut both = [harness.batch(0), harness.batch(0)];
    both.sort();
    assert_eq!(both, [(1, vec!["5".to_owned()]), (2, vec!["5".to_owned()])]);
    assert_eq!((harness.stats.duplicates.value(), harness.stats.publications.value()), (4, 5));
    harness.stop();
}

#[test]
fn an_empty_id_is_no_id() {
    let mut harness = Harness::new(1, |_| {});
    harness.attach(0, 0, "a");
    (0..3).for_each(|n| harness.send("", &["a"], &n.to_string()));
    assert_eq!(harness.collect(0, 3), numbers(0..3));
    harness.stop();
}

#[test]
fn an_id_counts_only_where_its_publication_was_admitted() {
    let mut harness = Harness::new(1, |config| {
        config.namespaces =
            [("small".to_owned(), Namespace { publication_bytes: 3, ..Namespace::default() })].into();
    });
    harness.attach(0, 0, "a");
    harness.attach(0, 1, "small:b");
    harness.send("x", &["a"], "nope");
    harness.wait_until("a dead letter", |stats| stats.dead_lettered.value() == 1);
    harness.send("x", &["a"], "\"mended\"");
    assert_eq!(harness.batch(0), (0, vec!["\"mended\"".to_owned()]));
    harness.send("y", &["a"], "[1]");
    assert_eq!(harness.batch(0), (0, vec!["[1]".to_owned()]));
    harness.send("y", &["a"], "nope");
    harness.wait_until("a dead letter, although its id is known", |stats| stats.dead_lettered.value() == 2);
    harness.stop();
}
