//! A broker thread on the embedded backplane, with fake shards.

use std::collections::BTreeMap;

use super::*;
use crate::http_client::{HttpAnswer, HttpCall, Reader};

/// A broker thread with fake shards.
pub(super) struct Harness {
    pub(super) requests: RequestSenders,
    pub(super) shards: Vec<Receiver<Mail>>,
    pub(super) woken: Vec<Arc<AtomicUsize>>,
    pub(super) calls: mpsc::UnboundedReceiver<HttpCall>,
    /// What reads the answers to the calls that were taken, by their numbers.
    pub(super) readers: BTreeMap<u64, Reader>,
    pub(super) answers: mpsc::UnboundedSender<HttpAnswer>,
    pub(super) stats: Arc<BrokerStats>,
    pub(super) thread: Option<JoinHandle<()>>,
}

impl Harness {
    pub(super) fn new(shards: usize, configure: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        configure(&mut config);
        let (setup, Ends { requests, shards, woken, calls, answers }) =
            setup(config, ShardId::try_from(shards).unwrap());
        let stats = Arc::clone(&setup.stats);
        let (started, has_started) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            run(&EventLoop::new().unwrap(), setup, |outcome| started.send(outcome).unwrap())
        });
        assert!(matches!(has_started.recv_timeout(LONG), Ok(Ok(()))));
        Self {
            requests,
            shards,
            woken,
            calls,
            answers,
            stats,
            thread: Some(thread),
            readers: BTreeMap::new(),
        }
    }

    pub(super) fn ask(&self, request: Request) {
        self.requests.operators.send(request).unwrap();
    }

    #[track_caller]
    pub(super) fn mail(&mut self, shard: usize) -> Mail {
        let deadline = Instant::now() + LONG;
        loop {
            if let Some(mail) = self.shards[shard].take() {
                return mail;
            }
            assert!(Instant::now() < deadline, "no mail for shard {shard}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[track_caller]
    pub(super) fn wait_until(&self, what: &str, condition: impl Fn(&BrokerStats) -> bool) {
        let deadline = Instant::now() + LONG;
        while !condition(&self.stats) {
            assert!(Instant::now() < deadline, "{what} did not come: {:?}", self.stats);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[track_caller]
    pub(super) fn attach(&mut self, shard: ShardId, slot: u32, name: &str) {
        self.attach_in(PLAIN, shard, slot, name);
    }

    #[track_caller]
    pub(super) fn attach_in(&mut self, variant: Variant, shard: ShardId, slot: u32, name: &str) {
        let topic = TopicSlot(slot);
        self.ask(Request::Attach { shard, topic, variant, name: name.into() });
        let mail = self.mail(shard.into());
        assert!(matches!(mail, Mail::Attached { topic, .. } if topic.0 == slot), "{mail:?}");
    }

    pub(super) fn publish(&self, topics: &[&str], data: &str) -> oneshot::Receiver<PublishOutcome> {
        self.publish_of(None, topics, data)
    }

    pub(super) fn publish_of(
        &self,
        key: Option<&str>,
        topics: &[&str],
        data: &str,
    ) -> oneshot::Receiver<PublishOutcome> {
        self.publish_as(None, key, topics, data)
    }

    pub(super) fn publish_as(
        &self,
        id: Option<&str>,
        key: Option<&str>,
        topics: &[&str],
        data: &str,
    ) -> oneshot::Receiver<PublishOutcome> {
        let (reply_to, answer) = ReplyTo::control();
        let topics = topics.iter().map(|&topic| TopicName::from(topic)).collect();
        let data = data.as_bytes().into();
        let (id, key) = (id.map(Box::from), key.map(Box::from));
        self.ask(Request::Publish(Box::new(Publish {
            reply_to,
            topics,
            data,
            id,
            key,
            info: None,
            skips_history: false,
        })));
        answer
    }

    /// The next batch for a shard: its topic and its lines' data.
    #[track_caller]
    pub(super) fn batch(&mut self, shard: usize) -> (u32, Vec<String>) {
        let mail = self.mail(shard);
        let Mail::Batch { topic, lines } = mail else { panic!("no batch: {mail:?}") };
        assert_eq!(lines.plain_bytes as usize, lines.bytes.len());
        let text = std::str::from_utf8(&lines.bytes).unwrap();
        assert!(text.ends_with('\n'));
        let data = text.lines().map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            value["push"]["pub"]["data"].to_string()
        });
        let data: Vec<_> = data.collect();
        assert_eq!(data.len(), lines.count as usize);
        (topic.0, data)
    }

    /// Data of one shard's batches until there are `count`.
    #[track_caller]
    pub(super) fn collect(&mut self, shard: usize, count: usize) -> Vec<String> {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(self.batch(shard).1);
        }
        all
    }

    /// Plays the shards' part of the end, and waits for the thread's.
    pub(super) fn stop(mut self) {
        self.ask(Request::Stop);
        for shard in 0..self.shards.len() {
            while !matches!(self.mail(shard), Mail::Drain) {}
            self.ask(Request::Drained { shard: ShardId::try_from(shard).unwrap() });
        }
        self.thread.take().unwrap().join().unwrap();
    }
}
