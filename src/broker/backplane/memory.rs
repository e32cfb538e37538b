//! The embedded backplane: publications stay in this process. It has the same interface as RabbitMQ's, a
//! bounded queue in its place, and keeps nothing when the process ends.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::base::clock::UnixTime;
use crate::config::Config;
use crate::domain::call::CallFault;
use crate::domain::mail::{Numbered, Publish};
use crate::domain::position::Position;
use crate::domain::reasons::ErrorCode;

use super::event::{Event, Message};
use super::rabbit::envelope::Envelope;
use crate::broker::payload::{Compression, Content, Undeliverable};
use crate::broker::shares::Shares;

/// The queue, and the answers that are due.
#[derive(Debug)]
pub(in crate::broker) struct Memory {
    /// In the order of their deadlines: all have the same time limit.
    waiting: VecDeque<Waiting>,
    events: VecDeque<Event>,
    /// How many wait, and may, in number and in bytes of what they carry.
    shares: Shares,
    limit: Duration,
    next_tag: u64,
    winding_down: bool,
}

#[derive(Debug)]
struct Waiting {
    deadline: Instant,
    published: UnixTime,
    publish: Publish,
}

impl Memory {
    pub(in crate::broker) fn new(config: &Config) -> Self {
        Self {
            waiting: VecDeque::new(),
            events: VecDeque::from([Event::Connected { has_missed: false }]),
            shares: Shares::new(config.limits.publishes, config.limits.publishes_bytes),
            limit: config.timeouts.publish.0,
            next_tag: 1,
            winding_down: false,
        }
    }

    /// Publications are taken in order. Those that are not taken in time fail with 111: this engine is the
    /// one that is behind.
    pub(in crate::broker) async fn next(&mut self, take: bool) -> Event {
        if let Some(event) = self.events.pop_front() {
            return event;
        }
        if take && let Some(waiting) = self.pop() {
            return self.deliver(waiting);
        }
        let Some(first) = self.waiting.front() else { return std::future::pending().await };
        sleep_until(first.deadline).await;
        match self.pop() {
            Some(late) => Event::Published {
                reply_to: late.publish.reply_to,
                outcome: Err(ErrorCode::TooManyRequests.into()),
            },
            None => std::future::pending().await,
        }
    }

    fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        self.shares.remove((&waiting.publish.reply_to).into(), waiting.publish.weight());
        Some(waiting)
    }

    fn deliver(&mut self, waiting: Waiting) -> Event {
        let Waiting { published, publish, .. } = waiting;
        let Publish { reply_to, topics, data, id, key, info, skips_history } = publish;
        self.events.push_back(Event::Published { reply_to, outcome: Ok(Numbered::new()) });
        let tag = self.next_tag;
        self.next_tag += 1;
        Event::Message(Message {
            topics: topics.iter().map(|topic| Box::from(&**topic)).collect(),
            flaw: None,
            body: data.into_vec(),
            id: id.filter(|id| !id.is_empty()),
            content: Content::Json,
            compression: Compression::None,
            key,
            info,
            skips_history,
            published: Some(published),
            expires_after: None,
            place: None,
            tag,
            envelope: Envelope::default(),
        })
    }

    pub(in crate::broker) fn publish(&mut self, publish: Publish) -> Result<(), (Publish, ErrorCode)> {
        if self.winding_down {
            return Err((publish, ErrorCode::Internal));
        }
        let sender = (&publish.reply_to).into();
        if !self.shares.has_room(sender) {
            return Err((publish, ErrorCode::TooManyRequests));
        }
        let deadline = Instant::now() + self.limit;
        self.shares.add(sender, publish.weight());
        self.waiting.push_back(Waiting { deadline, published: UnixTime::now(), publish });
        Ok(())
    }

    /// There is nobody whom a call could go to. The configuration names no such backend without a RabbitMQ.
    pub(in crate::broker) fn call(&mut self, number: u64) {
        let outcome = Err(CallFault::Unreachable("there is no RabbitMQ".into()));
        self.events.push_back(Event::Called { number, outcome });
    }

    /// The message that was taken last is at this position in the history of one of its topics: its publisher is told.
    pub(in crate::broker) fn numbered(&mut self, topic: &str, position: Position) {
        let answer = self.events.iter_mut().find_map(|event| match event {
            Event::Published { outcome: Ok(numbered), .. } => Some(numbered),
            _ => None,
        });
        answer.into_iter().for_each(|numbered| numbered.push((topic.into(), position.clone())));
    }

    /// There is no exchange for dead letters here, and the publisher is told nothing that RabbitMQ would not
    /// tell it. Publishes are checked before they get here, so that this is rare.
    pub(in crate::broker) fn dead_letter(&mut self, message: &Message, reason: &Undeliverable) {
        tracing::warn!(topics = ?message.topics, %reason, "a publication cannot be delivered");
        self.events.push_back(Event::DeadLettered { tag: message.tag });
    }

    pub(in crate::broker) fn wind_down(&mut self) {
        self.winding_down = true;
    }

    pub(in crate::broker) fn in_flight(&self) -> usize {
        self.waiting.len() + self.events.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::client_info::ClientInfo;
    use crate::domain::mail::ReplyTo;
    use futures_util::FutureExt as _;
    use std::sync::Arc;

    fn publish(data: &[u8]) -> Publish {
        let (topics, data) = (["a".into()].into(), data.into());
        let (id, key) = (Some("x".into()), Some("k".into()));
        let info = Some(Arc::new(ClientInfo { client: "c".into(), ..ClientInfo::default() }));
        Publish { reply_to: ReplyTo::control().0, topics, data, id, key, info, skips_history: true }
    }

    fn memory(room: usize, limit: Duration) -> Memory {
        let mut config = Config::default();
        config.limits.publishes = room;
        config.timeouts.publish.0 = limit;
        let mut memory = Memory::new(&config);
        assert!(matches!(memory.next(true).now_or_never(), Some(Event::Connected { has_missed: false })));
        memory
    }

    #[tokio::test]
    async fn publications_come_back_in_order_each_with_its_answer() {
        let mut memory = memory(10, Duration::from_secs(60));
        memory.publish(publish(b"1")).unwrap();
        memory.publish(publish(b"2")).unwrap();
        for (expected, offset) in [(b"1", 1), (b"2", 2)] {
            let Event::Message(message) = memory.next(true).await else { panic!("no message") };
            assert_eq!((&message.body[..], &*message.topics[0]), (&expected[..], "a"));
            assert_eq!((message.id.as_deref(), message.key.as_deref()), (Some("x"), Some("k")));
            assert_eq!(message.info.as_ref().map(|info| &*info.client), Some("c"));
            assert!(message.skips_history);
            assert!(message.weight() > size_of::<ClientInfo>());
            let at = Position { offset, epoch: "e".into() };
            memory.numbered("a", at.clone());
            let Event::Published { outcome, .. } = memory.next(true).await else { panic!("no answer") };
            assert_eq!(outcome, Ok(vec![("a".into(), at.clone())]));
        }
        assert_eq!(memory.in_flight(), 0);
        assert!(memory.next(true).now_or_never().is_none());
    }

    #[tokio::test]
    async fn what_is_not_taken_fails_in_time_and_the_queue_is_bounded() {
        let mut memory = memory(1, Duration::from_millis(20));
        memory.publish(publish(b"1")).unwrap();
        let (_, error) = memory.publish(publish(b"2")).unwrap_err();
        assert_eq!(error, ErrorCode::TooManyRequests);
        assert!(memory.next(false).now_or_never().is_none());
        let Event::Published { outcome, .. } = memory.next(false).await else { panic!("no answer") };
        assert_eq!(outcome, Err(ErrorCode::TooManyRequests.into()));
        // The client counts as well as the data.
        memory.shares = Shares::new(10, publish(b"12").weight());
        memory.publish(publish(b"12")).unwrap();
        assert_eq!(memory.publish(publish(b"3")).unwrap_err().1, ErrorCode::TooManyRequests);
        assert!(matches!(memory.next(true).await, Event::Message(_)));
        memory.publish(publish(b"4")).unwrap();
        memory.wind_down();
        assert_eq!(memory.publish(publish(b"3")).unwrap_err().1, ErrorCode::Internal);
    }
}
