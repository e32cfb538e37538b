//! What the embedded backplane knows of a publication when it confirms it.

use super::Harness;
use crate::config::Namespace;
use crate::domain::mail::Numbered;

#[test]
fn the_answer_to_a_publish_says_where_it_stands_in_topics_with_history() {
    let harness = Harness::new(1, |config| {
        let kept = Namespace { history_size: 2, ..Namespace::default() };
        config.namespaces.insert("kept".to_owned(), kept);
    });
    let publish = |topics: &[&str]| harness.publish(topics, "1").blocking_recv().unwrap().unwrap();
    let offsets = |numbered: &Numbered| {
        let offsets = numbered.iter().map(|(topic, position)| (topic.to_string(), position.offset));
        offsets.collect::<Vec<_>>()
    };
    let first = publish(&["kept:a"]);
    assert_eq!(offsets(&first), [("kept:a".to_owned(), 1)]);
    assert!(!first[0].1.epoch.is_empty());
    assert_eq!(publish(&["plain"]), []);
    let both = publish(&["kept:b", "plain", "kept:a"]);
    assert_eq!(offsets(&both), [("kept:b".to_owned(), 1), ("kept:a".to_owned(), 2)]);
    harness.stop();
}
