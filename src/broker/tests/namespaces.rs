//! What namespaces say about publishing and history.

use super::*;
use crate::config::UnknownNamespace;

fn history(config: &mut Config) {
    let kept = Namespace { history_size: 10, ..Namespace::default() };
    config.namespaces.insert("h".to_owned(), kept);
}

/// Who subscribed before there was anything learns what the numbering is called.
#[test]
fn the_first_publication_of_a_topic_carries_the_epoch() {
    let mut harness = Harness::new(1, history);
    harness.attach(0, 0, "h:a");
    harness.attach(0, 1, "b");
    let mut line = |topic: &str| {
        let _ = harness.publish(&[topic], "1").blocking_recv();
        let Mail::Batch { lines, .. } = harness.mail(0) else { panic!("a batch comes") };
        let line: serde_json::Value = serde_json::from_slice(&lines.bytes).expect("one line");
        line["push"]["pub"].clone()
    };
    let first = line("h:a");
    assert!(
        first["offset"] == 1 && first["epoch"].as_str().is_some_and(|epoch| !epoch.is_empty()),
        "{first}"
    );
    let second = line("h:a");
    assert!(second["offset"] == 2 && second.get("epoch").is_none(), "{second}");
    assert_eq!(line("b"), serde_json::json!({"data": 1}));
    harness.stop();
}

#[test]
fn history_is_removed_only_where_there_is_one() {
    let harness = Harness::new(1, history);
    let remove = |topic: &str| {
        let (reply_to, answer) = ReplyTo::control();
        harness.ask(Request::RemoveHistory { topic: topic.into(), reply_to });
        answer.blocking_recv().expect("an answer").map(drop)
    };
    assert_eq!(remove("h:a"), Ok(()));
    assert_eq!(remove("a"), Err(ErrorCode::NotAvailable.into()));
    harness.stop();
}

#[test]
fn where_unknown_namespaces_are_refused_nobody_can_publish_to_them() {
    let mut harness = Harness::new(1, |config| {
        history(config);
        config.server.unknown_namespace = UnknownNamespace::Refuse;
    });
    harness.attach(0, 0, "h:a");
    let publish =
        |topics: &[&str]| harness.publish(topics, "1").blocking_recv().expect("an answer").map(drop);
    assert_eq!(publish(&["nons:x"]), Err(ErrorCode::UnknownChannel.into()));
    assert_eq!(publish(&["h:a", "nons:x"]), Err(ErrorCode::UnknownChannel.into()));
    assert_eq!(publish(&["h:a", "news"]), Ok(()));
    harness.stop();
}
