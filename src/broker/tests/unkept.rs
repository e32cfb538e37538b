//! Publications that no history keeps.

use serde_json::{Value, json};

use super::*;
use crate::base::clock::Clock;
use crate::broker::backplane::event::{Message, StreamPlace};
use crate::broker::backplane::rabbit::envelope::Envelope;
use crate::broker::payload::{Compression, Content};
use crate::domain::mail::{Mail, Question, Recover};
use crate::domain::position::Since;

const TOPIC: &str = "h:a";

fn kept(config: &mut Config, max_delay: Duration) {
    let max_delay = Interval(max_delay);
    let namespace = Namespace { history_size: 10, max_delay, ..Namespace::default() };
    config.namespaces.insert("h".to_owned(), namespace);
}

impl Harness {
    /// Publishes, and waits for the confirmation. Returns the offsets that it tells of.
    #[track_caller]
    fn publish_kept_or_not(&self, skips_history: bool, data: &str) -> Vec<u64> {
        let (reply_to, answer) = ReplyTo::control();
        let (topics, data) = ([TOPIC.into()].into(), data.as_bytes().into());
        let publish = Publish { reply_to, topics, data, id: None, key: None, info: None, skips_history };
        self.ask(Request::Publish(Box::new(publish)));
        let numbered = answer.blocking_recv().unwrap().unwrap();
        numbered.into_iter().map(|(_, position)| position.offset).collect()
    }

    /// Data and offsets of the next batch.
    #[track_caller]
    fn live(&mut self) -> (Vec<Value>, u64) {
        let Mail::Batch { lines, .. } = self.mail(0) else { panic!("a batch comes") };
        (numbered(std::str::from_utf8(&lines.bytes).unwrap().lines()), lines.offset)
    }

    /// What is recovered from an offset on, and where that ends.
    #[track_caller]
    fn recover_from(&mut self, offset: u64) -> (Value, u64) {
        self.ask(Request::Ask { question: recovery(offset), budget: None });
        let Mail::Answer { answer: Answer::Recovered(recovered), .. } = self.mail(0) else {
            panic!("an answer comes")
        };
        of_recovery(&recovered.result.unwrap())
    }
}

/// Data and offset of each line.
fn numbered<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Value> {
    let publication = |line| serde_json::from_str::<Value>(line).unwrap()["push"]["pub"].take();
    lines.map(publication).map(|publication| json!([publication["data"], publication["offset"]])).collect()
}

fn of_recovery(recovery: &crate::domain::mail::Recovery) -> (Value, u64) {
    let missed = recovery.missed.as_ref().expect("it is recovered");
    (serde_json::from_slice(&[b"[", &missed[..], b"]"].concat()).unwrap(), recovery.position.offset)
}

fn recovery(offset: u64) -> Question {
    let client = ClientKey { slot: 0, generation: 0 };
    Question::Recover(Box::new(Recover {
        reply_to: ReplyAddress { shard: 0, command: CommandKey { client, id: 1 }, codec: Codec::Json },
        topic: TopicSlot(0),
        variant: PLAIN,
        name: TOPIC.into(),
        recoverable: true,
        since: Since { epoch: "".into(), offset },
        rejects_unrecovered: false,
        has_waited: false,
    }))
}

#[test]
fn they_take_no_offset_and_nobody_recovers_them() {
    let mut harness = Harness::new(1, |config| kept(config, Duration::ZERO));
    harness.attach(0, 0, TOPIC);
    // Before the first one that is kept, and after.
    for (skips_history, data, told, line, stands_at) in [
        (true, "0", &[][..], json!([0, null]), 0),
        (false, "1", &[1], json!([1, 1]), 1),
        (true, "2", &[], json!([2, null]), 1),
        (false, "3", &[2], json!([3, 2]), 2),
    ] {
        assert_eq!(harness.publish_kept_or_not(skips_history, data), told);
        assert_eq!(harness.live(), (vec![line], stands_at));
    }
    let all = json!([{"data": 1, "offset": 1}, {"data": 3, "offset": 2}]);
    assert_eq!(harness.recover_from(0), (all, 2));
    harness.stop();
}

/// What was handed over before an unnumbered publication that waits is recovered, and does not come once more.
#[test]
fn whoever_recovers_while_one_waits_gets_all_before_it() {
    let mut harness = Harness::new(1, |config| kept(config, Duration::from_secs(3600)));
    harness.attach(0, 0, TOPIC);
    harness.publish_kept_or_not(false, "1");
    harness.wait_until("the line", |stats| stats.publications.value() == 1);
    // The client has been told of it by another lane, or another node: the window ends.
    assert_eq!(harness.recover_with_batch(1), (json!([]), 1));
    harness.publish_kept_or_not(true, "2");
    harness.wait_until("the line", |stats| stats.publications.value() == 2);
    assert_eq!(harness.recover_from(0), (json!([{"data": 1, "offset": 1}]), 1));
    harness.ask(Request::Stop);
    assert_eq!(harness.live(), (vec![json!([2, null])], 1));
    harness.stop();
}

impl Harness {
    /// As [`Self::recover_from`], behind the batch that it lets go.
    fn recover_with_batch(&mut self, offset: u64) -> (Value, u64) {
        self.ask(Request::Ask { question: recovery(offset), budget: None });
        assert_eq!(self.live(), (vec![json!([1, 1])], 1));
        let Mail::Answer { answer: Answer::Recovered(recovered), .. } = self.mail(0) else {
            panic!("an answer comes")
        };
        of_recovery(&recovered.result.unwrap())
    }
}

fn message(offset: u64, skips_history: bool) -> Message {
    Message {
        topics: vec![TOPIC.into()],
        flaw: None,
        body: offset.to_string().into_bytes(),
        id: None,
        content: Content::Json,
        compression: Compression::None,
        key: None,
        info: None,
        skips_history,
        published: None,
        expires_after: None,
        place: Some(StreamPlace { offset, is_replayed: false, is_ours_to_dead_letter: false }),
        tag: offset,
        envelope: Envelope::default(),
    }
}

/// A stream numbers all of its messages. Those that no history keeps are passed over, on every node alike.
#[test]
fn in_a_stream_they_show_no_offset_either_and_nobody_lacks_them() {
    let mut config = Config::default();
    kept(&mut config, Duration::ZERO);
    let (mut broker, Ends { requests, mut shards, .. }) = fakes::broker(config, 1);
    broker.stage.shards_start();
    let attach = Request::Attach { shard: 0, topic: TopicSlot(0), variant: PLAIN, name: TOPIC.into() };
    requests.shards[0].push(attach).unwrap();
    broker.take_requests();
    assert!(matches!(shards[0].take(), Some(Mail::Attached { .. })));
    for (offset, skips_history) in [(5, false), (8, true), (9, false), (11, true)] {
        broker.take_message(message(offset, skips_history), Clock::now());
    }
    broker.hand_over();
    let Some(Mail::Batch { lines, .. }) = shards[0].take() else { panic!("a batch comes") };
    let shown = numbered(std::str::from_utf8(&lines.bytes).unwrap().lines());
    assert_eq!((json!(shown), lines.offset), (json!([[5, 5], [8, null], [9, 9], [11, null]]), 9));
    for (since, missed) in [(9, json!([])), (11, json!([])), (5, json!([{"data": 9, "offset": 9}]))] {
        broker.answer_question(recovery(since), None);
        let Some(Mail::Answer { answer: Answer::Recovered(recovered), .. }) = shards[0].take() else {
            panic!("an answer comes")
        };
        assert_eq!(of_recovery(&recovered.result.unwrap()), (missed, 9), "{since}");
    }
}
