//! What operators and clients ask for, and the answers.

use super::*;
use crate::broker::turn::REQUESTS_PER_TURN;

#[test]
fn limits_and_wrong_publishes_are_answered() {
    let mut harness = Harness::new(1, |config| {
        config.limits.topics = 1;
        config.limits.publication_bytes = 5;
    });
    harness.attach(0, 0, "a");
    harness.ask(Request::Attach { shard: 0, topic: TopicSlot(1), variant: PLAIN, name: "b".into() });
    let mail = harness.mail(0);
    assert!(
        matches!(mail, Mail::AttachFailed { topic: TopicSlot(1), error: ErrorCode::LimitExceeded }),
        "{mail:?}"
    );
    // A slot that never was is answered for all the same.
    harness.ask(Request::Detach { shard: 0, topic: TopicSlot(7), variant: PLAIN, name: "never".into() });
    assert!(matches!(harness.mail(0), Mail::Detached { topic: TopicSlot(7) }));
    for (topics, data, error) in [
        (&["a"][..], "123456", ErrorCode::LimitExceeded),
        (&["a\n"], "1", ErrorCode::BadRequest),
        (&["a", ""], "1", ErrorCode::BadRequest),
        (&[], "1", ErrorCode::BadRequest),
    ] {
        assert_eq!(harness.publish(topics, data).blocking_recv(), Ok(Err(error.into())), "{topics:?}");
    }
    harness.stop();
}

/// However much it is, and until the last moment.
#[test]
fn what_comes_during_the_stop_is_refused() {
    const WAITING: usize = REQUESTS_PER_TURN + 100;
    let mut harness = Harness::new(1, |_| {});
    harness.ask(Request::Stop);
    while !matches!(harness.mail(0), Mail::Drain) {}
    let refused = Ok(Err(ErrorCode::TooManyRequests.into()));
    assert_eq!(harness.publish(&["a"], "1").blocking_recv(), refused);
    // More than are taken in the turn in which the last shard ends.
    let operators = &harness.requests.operators;
    let publish = |_| {
        let (reply_to, answer) = ReplyTo::control();
        let (topics, data) = (["a".into()].into(), (*b"1").into());
        let publish =
            Publish { reply_to, topics, data, id: None, key: None, info: None, skips_history: false };
        operators.push(Request::Publish(Box::new(publish))).unwrap();
        answer
    };
    let answers: Vec<_> = (0..WAITING).map(publish).collect();
    harness.requests.shards[0].send(Request::Drained { shard: 0 }).unwrap();
    for (n, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.blocking_recv(), refused, "{n}");
    }
    harness.thread.take().unwrap().join().unwrap();
    assert!(operators.is_closed());
}

#[test]
fn answers_to_clients_and_orders_of_operators_go_to_their_shards() {
    let mut harness = Harness::new(2, |_| {});
    let client = ClientKey { slot: 3, generation: 4 };
    let command = CommandKey { client, id: 9 };
    let reply_to = ReplyTo::Client(ReplyAddress { shard: 1, command, codec: Codec::Json });
    let (topics, data) = (["a".into()].into(), (*b"1").into());
    harness.ask(Request::Publish(Box::new(Publish {
        reply_to,
        topics,
        data,
        id: None,
        key: None,
        info: None,
        skips_history: false,
    })));
    let mail = harness.mail(1);
    assert!(
        matches!(&mail, Mail::Answer { to, answer: Answer::Published, .. } if to.command == command),
        "{mail:?}"
    );
    harness.ask(Request::Disconnect {
        shard: 0,
        client,
        closing: Closing::Known(CloseReason::ForceDisconnect),
    });
    assert!(matches!(harness.mail(0), Mail::Disconnect { client: to, .. } if to == client));
    harness.ask(Request::Disconnect {
        shard: 4095,
        client,
        closing: Closing::Known(CloseReason::ForceDisconnect),
    });
    harness.ask(Request::Unsubscribe { client: Some((1, client)), topic: "a".into() });
    assert!(matches!(harness.mail(1), Mail::Unsubscribe { client: Some(to), .. } if to == client));
    harness.ask(Request::Unsubscribe { client: None, topic: "a".into() });
    for shard in [0, 1] {
        let mail = harness.mail(shard);
        assert!(
            matches!(mail, Mail::Unsubscribe { client: None, code: UnsubscribeCode::Server, .. }),
            "{mail:?}"
        );
    }
    harness.stop();
}

#[test]
fn a_survey_asks_all_and_ends_when_all_have_answered() {
    let mut harness = Harness::new(2, |_| {});
    let (sender, mut answer) = mpsc::unbounded_channel();
    harness.ask(Request::Survey(sender));
    for shard in [0, 1] {
        let mail = harness.mail(shard);
        let Mail::Survey { id } = mail else { panic!("{mail:?}") };
        let topics: TopicCounts = vec![(shard.to_string().into(), 1)];
        harness.ask(Request::SurveyPart { id, topics, last: false });
        harness.ask(Request::SurveyPart { id, topics: vec![], last: true });
    }
    let mut all = Vec::new();
    while let Some(part) = answer.blocking_recv() {
        all.extend(part.unwrap());
    }
    assert_eq!(all, [("0".into(), 1), ("1".into(), 1)]);
    harness.stop();
}

#[test]
fn a_survey_that_a_shard_does_not_answer_ends_in_time_and_says_so() {
    let mut harness = Harness::new(2, |config| config.timeouts.publish = Interval::from_millis(50));
    let (sender, mut answer) = mpsc::unbounded_channel();
    harness.ask(Request::Survey(sender));
    let Mail::Survey { id } = harness.mail(0) else { panic!("no survey") };
    let topics: TopicCounts = vec![("a".into(), 1)];
    harness.ask(Request::SurveyPart { id, topics: topics.clone(), last: true });
    assert_eq!(answer.blocking_recv(), Some(Ok(topics)));
    let deadline = Instant::now() + LONG;
    let end = loop {
        match answer.try_recv() {
            Err(mpsc::error::TryRecvError::Empty) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            end => break end,
        }
    };
    assert_eq!(end, Ok(Err(SurveyTimeout)), "shard 1 says nothing");
    assert_eq!(answer.blocking_recv(), None);
    harness.ask(Request::SurveyPart { id, topics: vec![], last: true });
    harness.stop();
}
