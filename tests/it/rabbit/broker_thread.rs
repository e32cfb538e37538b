//! A broker thread in this process, with one fake shard.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use crate::support::wait::{SOON, wait_for, wait_until};
use fanfare::base::mailbox::{Receiver, Sender, Wake, mailbox};
use fanfare::broker::{self, HttpLink, Setup, StartError};
use fanfare::config::{Config, Interval};
use fanfare::domain::asked::HistoryRange;
use fanfare::domain::encoding::Encoding;
use fanfare::domain::mail::{
    ControlReply, Lane, Mail, Publish, PublishOutcome, ReplyTo, Request, TopicName, TopicSlot, Variant,
};
use fanfare::domain::namespaces::Namespaces;
use fanfare::domain::reasons::ErrorCode;
use fanfare::http_client::{self, HttpTargets};
use fanfare::stats::{BackplaneState, BrokerStats};
use tokio::sync::oneshot;

struct Nobody;
impl Wake for Nobody {
    fn wake(&self) {}
}

/// A broker thread with one fake shard.
pub(super) struct BrokerThread {
    pub(super) requests: Sender<Request>,
    pub(super) shard: Receiver<Mail>,
    pub(super) stats: Arc<BrokerStats>,
    pub(super) thread: JoinHandle<()>,
}

impl BrokerThread {
    pub(super) fn try_start(url: &str, configure: impl FnOnce(&mut Config)) -> Result<Self, StartError> {
        let mut config = Config::default();
        config.amqp.url = url.into();
        config.amqp.reconnect_max = Interval::from_millis(500);
        configure(&mut config);
        let (doors, inlet) = broker::inlet(&config.limits, 1);
        let requests = doors.operators;
        let (sender, shard) = mailbox(config.limits.mailbox, Box::new(Nobody));
        let stats = Arc::new(BrokerStats::default());
        let namespaces = Arc::new(Namespaces::new(&config));
        let shards = vec![sender];
        let (calls, answers, _) = http_client::caller();
        let setup = Setup {
            config: Arc::new(config),
            namespaces,
            requests: inlet,
            shards,
            receipts: Vec::new(),
            http: HttpLink { calls, answers, targets: HttpTargets::default() },
            stats: Arc::clone(&stats),
        };
        let (started, has_started) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let event_loop = broker::EventLoop::new().expect("an event loop");
            broker::run(&event_loop, setup, |outcome| started.send(outcome).expect("waited for"));
        });
        has_started.recv_timeout(SOON).expect("the broker thread to start")?;
        Ok(Self { requests, shard, stats, thread })
    }

    #[track_caller]
    pub(super) fn start(url: &str, configure: impl FnOnce(&mut Config)) -> Self {
        let broker = Self::try_start(url, configure).expect("RabbitMQ takes us");
        broker.wait_until_ready();
        broker
    }

    #[track_caller]
    pub(super) fn wait_until_ready(&self) {
        let ready = BackplaneState::Ready as u64;
        wait_until(SOON, "a link", || self.stats.backplane.value() == ready);
    }

    #[track_caller]
    pub(super) fn mail(&mut self) -> Mail {
        let shard = &mut self.shard;
        wait_for(SOON, "mail", || shard.take())
    }

    #[track_caller]
    pub(super) fn attach(&mut self, slot: u32, name: &str) {
        self.requests
            .send(Request::Attach {
                shard: 0,
                topic: TopicSlot(slot),
                variant: Variant { encoding: Encoding::Json, lane: Lane::FIRST },
                name: name.into(),
            })
            .expect("room");
        let mail = self.mail();
        assert!(matches!(mail, Mail::Attached { topic, .. } if topic.0 == slot), "{mail:?}");
    }

    pub(super) fn publish(&self, topics: &[&str], data: &[u8]) -> Result<(), ErrorCode> {
        self.begin_to_publish(topics, data)
            .blocking_recv()
            .expect("an answer")
            .map(drop)
            .map_err(|fault| fault.code)
    }

    pub(super) fn begin_to_publish(&self, topics: &[&str], data: &[u8]) -> oneshot::Receiver<PublishOutcome> {
        let (reply_to, answer) = ReplyTo::control();
        let topics = topics.iter().map(|&topic| TopicName::from(topic)).collect();
        let publish = Publish {
            reply_to,
            topics,
            data: data.into(),
            id: None,
            key: None,
            info: None,
            skips_history: false,
        };
        self.requests.send(Request::Publish(Box::new(publish))).expect("room");
        answer
    }

    /// The next lines of whatever topic.
    #[track_caller]
    pub(super) fn lines(&mut self) -> (u32, String) {
        let mail = self.mail();
        let Mail::Batch { topic, lines } = mail else { panic!("no batch: {mail:?}") };
        (topic.0, String::from_utf8(lines.bytes.to_vec()).expect("text"))
    }

    /// The same without the epoch, which a stream's first publication carries.
    #[track_caller]
    pub(super) fn lines_without_epoch(&mut self) -> (u32, String) {
        let (slot, lines) = self.lines();
        let mut parts = lines.split(r#","epoch":""#);
        let first = parts.next().unwrap_or_default().to_owned();
        let rest = parts.map(|part| part.split_once('"').expect("the epoch's end").1);
        (slot, rest.fold(first, |lines, rest| lines + rest))
    }

    #[track_caller]
    pub(super) fn expect_line(&mut self, slot: u32, topic: &str, data: &str) {
        let line = format!("{{\"push\":{{\"channel\":\"{topic}\",\"pub\":{{\"data\":{data}}}}}}}\n");
        assert_eq!(self.lines(), (slot, line));
    }

    /// The data of what is kept of a topic, with commas between.
    #[track_caller]
    pub(super) fn history(&self, topic: &str) -> String {
        let (reply_to, answer) = ControlReply::new();
        let request = Request::ReadHistory { topic: topic.into(), range: HistoryRange::default(), reply_to };
        self.requests.send(request).expect("room");
        let page = answer.blocking_recv().expect("an answer").expect("a topic with history");
        let data = page
            .publications
            .iter()
            .map(|publication| String::from_utf8(publication.data.to_vec()).expect("text"));
        data.collect::<Vec<_>>().join(",")
    }

    #[track_caller]
    pub(super) fn stop(mut self) {
        self.requests.send(Request::Stop).expect("room");
        while !matches!(self.mail(), Mail::Drain) {}
        self.requests.send(Request::Drained { shard: 0 }).expect("room");
        self.thread.join().expect("a good end");
    }
}
