//! Another configuration, between two requests.

use super::*;
use crate::domain::settings::EngineSettings;

type Table = (&'static str, Namespace);

fn change(config: &mut Config, namespaces: &[Table]) {
    config.namespaces =
        namespaces.iter().map(|(name, options)| ((*name).to_owned(), options.clone())).collect();
}

/// The settings that follow on `before`, with other namespaces.
fn next(before: &EngineSettings, namespaces: &[Table]) -> Arc<EngineSettings> {
    let mut config = Config::default();
    change(&mut config, namespaces);
    before.next(config)
}

fn first(namespaces: &[Table]) -> (Harness, Arc<EngineSettings>) {
    let mut config = Config::default();
    change(&mut config, namespaces);
    (Harness::new(1, |config| change(config, namespaces)), EngineSettings::of(config))
}

impl Harness {
    fn reload(&mut self, settings: &Arc<EngineSettings>) {
        self.ask(Request::Reload(Arc::clone(settings)));
        let mail = self.mail(0);
        assert!(matches!(&mail, Mail::Reload(got) if Arc::ptr_eq(got, settings)), "{mail:?}");
    }

    fn publishes(&self, topic: &str) -> Result<(), ErrorCode> {
        let outcome = self.publish(&[topic], "1").blocking_recv().expect("an answer");
        outcome.map(drop).map_err(|fault| fault.code)
    }
}

fn kept() -> Namespace {
    Namespace { history_size: 10, ..Namespace::default() }
}

#[test]
fn what_waits_goes_out_before_the_shards_are_told() {
    let slow = Namespace { max_delay: Interval::from_secs(3600), ..Namespace::default() };
    let (mut harness, settings) = first(&[("n", slow)]);
    harness.attach(0, 0, "n:a");
    harness.publish(&["n:a"], "1").blocking_recv().unwrap().unwrap();
    harness.wait_until("the line", |stats| stats.publications.value() == 1);
    harness.ask(Request::Reload(next(&settings, &[("n", Namespace::default())])));
    assert_eq!(harness.batch(0), (0, vec!["1".to_owned()]));
    assert!(matches!(harness.mail(0), Mail::Reload(_)));
    harness.publish(&["n:a"], "2").blocking_recv().unwrap().unwrap();
    assert_eq!(harness.batch(0), (0, vec!["2".to_owned()]), "it does not wait any more");
    harness.stop();
}

#[test]
fn namespaces_come_and_go_and_their_subscribers_stay() {
    let (mut harness, settings) = first(&[("old", Namespace::default())]);
    harness.attach(0, 0, "old:a");
    assert_eq!(harness.publishes("new:a"), Err(ErrorCode::UnknownChannel));
    let settings = next(&settings, &[("new", Namespace::default())]);
    harness.reload(&settings);
    assert_eq!(
        (harness.publishes("new:a"), harness.publishes("old:a")),
        (Ok(()), Err(ErrorCode::UnknownChannel))
    );
    harness.attach(0, 1, "new:a");
    assert_eq!(harness.publishes("new:a"), Ok(()));
    assert_eq!(harness.batch(0), (1, vec!["1".to_owned()]));
    assert_eq!(harness.stats.namespace_publications.value(2), 2, "it has a number of its own");
    harness.stop();
}

/// What is published to a removed namespace comes from RabbitMQ, or was on its way.
#[test]
fn subscribers_of_a_removed_namespace_receive_what_is_published() {
    let (mut harness, settings) = first(&[("old", Namespace::default())]);
    harness.attach(0, 0, "old:a");
    let removed = next(&settings, &[]);
    let (reply_to, _answer) = ReplyTo::control();
    let topics = ["old:a".into()].into();
    let publish = Publish {
        reply_to,
        topics,
        data: (*b"1").into(),
        id: None,
        key: None,
        info: None,
        skips_history: false,
    };
    // Both are mostly taken in one turn, and the publication in the next.
    for request in [Request::Publish(Box::new(publish)), Request::Reload(removed)] {
        assert!(harness.requests.operators.push(request).is_ok());
    }
    harness.requests.operators.notify();
    let mails = [harness.mail(0), harness.mail(0)];
    assert!(mails.iter().any(|mail| matches!(mail, Mail::Batch { .. })), "{mails:?}");
    harness.stop();
}

/// Nothing is known of what was published while a namespace was removed.
#[test]
fn a_namespace_that_comes_back_begins_its_histories_anew() {
    let (mut harness, settings) = first(&[("h", kept())]);
    assert_eq!(harness.publishes("h:a"), Ok(()));
    let position = |harness: &mut Harness, slot| {
        harness.ask(Request::Attach { shard: 0, topic: TopicSlot(slot), variant: PLAIN, name: "h:a".into() });
        let Mail::Attached { position: Some(position), .. } = harness.mail(0) else {
            panic!("it has a history")
        };
        harness.ask(Request::Detach { shard: 0, topic: TopicSlot(slot), variant: PLAIN, name: "h:a".into() });
        assert!(matches!(harness.mail(0), Mail::Detached { .. }));
        position.offset
    };
    assert_eq!(position(&mut harness, 0), 1);
    let removed = next(&settings, &[]);
    harness.reload(&removed);
    assert_eq!(harness.publishes("h:a"), Err(ErrorCode::UnknownChannel));
    harness.reload(&next(&removed, &[("h", kept())]));
    assert_eq!(position(&mut harness, 1), 2, "whoever stands at 1 cannot go on");
    assert_eq!(harness.publishes("h:a"), Ok(()));
    assert_eq!(position(&mut harness, 2), 3);
    harness.stop();
}

#[test]
fn a_new_namespace_leaves_the_histories_of_others_alone() {
    let (mut harness, settings) = first(&[("h", kept())]);
    harness.reload(&next(&settings, &[("h", kept()), ("i", kept())]));
    harness.attach(0, 0, "h:a");
    for topic in ["h:a", "i:a"] {
        assert_eq!(harness.publishes(topic), Ok(()));
    }
    let (reply_to, answer) = ReplyTo::control();
    let range = crate::domain::asked::HistoryRange { limit: None, since: None, reverse: false };
    let ReplyTo::Control(reply_to) = reply_to else { panic!("it is for the control thread") };
    harness.ask(Request::ReadHistory { topic: "i:a".into(), range, reply_to });
    assert_eq!(answer.blocking_recv().expect("an answer").expect("a page").position.offset, 1);
    harness.stop();
}

#[test]
fn limits_follow() {
    let (mut harness, settings) = first(&[]);
    harness.attach(0, 0, "a");
    let mut config = Config::default();
    config.limits.topics = 1;
    config.limits.topic_bytes = 3;
    harness.reload(&settings.next(config));
    harness.ask(Request::Attach { shard: 0, topic: TopicSlot(1), variant: PLAIN, name: "b".into() });
    let mail = harness.mail(0);
    assert!(matches!(mail, Mail::AttachFailed { error: ErrorCode::LimitExceeded, .. }), "{mail:?}");
    assert_eq!(harness.publishes("long"), Err(ErrorCode::BadRequest));
    harness.stop();
}
