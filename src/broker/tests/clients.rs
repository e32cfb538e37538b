//! Publications of clients say who made them, wherever they are read.

use serde_json::{Value, json};

use super::*;
use crate::codec::json::client_info;
use crate::domain::asked::{Asked, HistoryRange, Told};
use crate::domain::client_info::ClientInfo;
use crate::domain::mail::{Question, Recover, TopicQuestion};
use crate::domain::position::Since;

const TOPIC: &str = "h:a";

impl Harness {
    /// A publish to a topic by this client, or by an operator.
    fn publish_by(
        &self,
        info: Option<&Arc<ClientInfo>>,
        topic: &str,
        data: &str,
    ) -> oneshot::Receiver<PublishOutcome> {
        let (reply_to, answer) = ReplyTo::control();
        let (topics, data) = ([topic.into()].into(), data.as_bytes().into());
        let info = info.cloned();
        self.ask(Request::Publish(Box::new(Publish {
            reply_to,
            topics,
            data,
            id: None,
            key: None,
            info,
            skips_history: false,
        })));
        answer
    }

    /// What the next mail answers to a client, as the members of an array of publications.
    fn answered(&mut self) -> Vec<Value> {
        let Mail::Answer { answer, .. } = self.mail(0) else { panic!("an answer comes") };
        let members = match answer {
            Answer::Told(told) => {
                let Told::History(page) = *told;
                page.publications
            }
            Answer::Recovered(recovered) => {
                recovered.result.unwrap().missed.expect("it is recovered").to_vec()
            }
            other => panic!("{other:?}"),
        };
        serde_json::from_slice(&[b"[", &members[..], b"]"].concat()).unwrap()
    }
}

fn command(id: u32) -> ReplyAddress {
    let command = CommandKey { client: ClientKey { slot: 0, generation: 0 }, id };
    ReplyAddress { shard: 0, command, codec: Codec::Json }
}

/// A recovery of everything.
fn recovery() -> Question {
    Question::Recover(Box::new(Recover {
        reply_to: command(1),
        topic: TopicSlot(0),
        variant: PLAIN,
        name: TOPIC.into(),
        recoverable: true,
        since: Since { epoch: "".into(), offset: 0 },
        rejects_unrecovered: false,
        has_waited: false,
    }))
}

fn ann() -> Arc<ClientInfo> {
    let (user, client, conn_info) = ("ann".into(), "c-1".into(), br#"{"name":"Ann"}"#[..].into());
    Arc::new(ClientInfo { user, client, conn_info, ..ClientInfo::default() })
}

#[test]
fn what_a_client_publishes_says_so_live_and_merged_and_each_time_it_is_recovered_or_read() {
    let mut harness = Harness::new(1, |config| {
        let max_delay = Interval::from_millis(50);
        let namespace = Namespace { history_size: 10, max_delay, ..Namespace::default() };
        config.namespaces.insert("h".to_owned(), namespace);
    });
    harness.attach(0, 0, TOPIC);
    let (ann, bob) = (ann(), Arc::new(ClientInfo { client: "c-2".into(), ..ClientInfo::default() }));
    let answers = [Some(&ann), None, Some(&bob)].map(|info| harness.publish_by(info, TOPIC, "1"));
    answers.into_iter().for_each(|answer| drop(answer.blocking_recv().unwrap().unwrap()));
    let expected = [
        json!({"data": 1, "offset": 1, "info": {"user": "ann", "client": "c-1", "conn_info": {"name": "Ann"}}}),
        json!({"data": 1, "offset": 2}),
        json!({"data": 1, "offset": 3, "info": {"client": "c-2"}}),
    ];

    let mut live = Vec::new();
    while live.len() < expected.len() {
        let Mail::Batch { lines, .. } = harness.mail(0) else { panic!("a batch comes") };
        let lines = std::str::from_utf8(&lines.bytes).unwrap().lines();
        live.extend(lines.map(|line| serde_json::from_str::<Value>(line).unwrap()["push"]["pub"].take()));
    }
    // Only the first one names the epoch, and only live.
    live[0].as_object_mut().unwrap().remove("epoch");
    assert_eq!(live, expected);
    for _ in 0..2 {
        harness.ask(Request::Ask { question: recovery(), budget: None });
        assert_eq!(harness.answered(), expected);
    }
    let asked = Asked::History(HistoryRange::default());
    let question = TopicQuestion { reply_to: command(2), topic: TOPIC.into(), asked };
    harness.ask(Request::Ask { question: Question::Topic(Box::new(question)), budget: None });
    assert_eq!(harness.answered(), expected);
    harness.stop();
}

/// Else clients whose tokens are accepted could not publish.
#[test]
fn the_most_that_a_token_may_say_fits_into_the_header() {
    let (user_max, info_bytes) = (4096, 16 << 10);
    let is_allowed = |user_max, info_bytes| {
        let mut config = Config::default();
        (config.limits.user_max, config.limits.info_bytes) = (user_max, info_bytes);
        config.validate().is_ok()
    };
    assert!(is_allowed(user_max, info_bytes));
    assert!(
        !is_allowed(user_max + 1, info_bytes) && !is_allowed(user_max, info_bytes + 1),
        "they are the most"
    );
    let info = ClientInfo {
        // No character takes more in JSON.
        user: "\0".repeat(user_max).into(),
        client: "00000000-0000-0000-0000-000000000000".into(),
        conn_info: vec![b'0'; info_bytes].into(),
        chan_info: vec![b'0'; info_bytes].into(),
    };
    assert_eq!(client_info::check_len(&info), Ok(()));
}

#[test]
fn a_client_that_takes_too_many_bytes_is_refused_at_once() {
    let with = |bytes: usize| {
        let client = "c".repeat(bytes - r#"{"client":""}"#.len()).into();
        Arc::new(ClientInfo { client, ..ClientInfo::default() })
    };
    let refused = Ok(Err(ErrorCode::LimitExceeded.into()));
    let allowed = client_info::BYTES_MAX;
    let harness = Harness::new(1, |_| {});
    for (info, outcome) in [(with(allowed), Ok(Ok(Numbered::new()))), (with(allowed + 1), refused.clone())] {
        assert_eq!(harness.publish_by(Some(&info), "a", "1").blocking_recv(), outcome);
    }
    harness.stop();
    // In a frame it stands beside the data.
    let harness = Harness::new(1, |config| config.limits.frame_bytes = 2000);
    let data = format!("\"{}\"", "x".repeat(1000));
    for (bytes, outcome) in [(800, Ok(Ok(Numbered::new()))), (1000, refused)] {
        assert_eq!(harness.publish_by(Some(&with(bytes)), "a", &data).blocking_recv(), outcome);
    }
    harness.stop();
}
