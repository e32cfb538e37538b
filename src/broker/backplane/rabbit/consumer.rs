//! Consumes messages by one consumer after the other. Each has room for as many messages as [`Prefetch`]
//! allows.
//!
//! The next consumer begins before the present one ends, so that RabbitMQ tells at least one of them when the
//! queue or stream is deleted. Both are on one channel, where RabbitMQ numbers deliveries 1, 2, 3 in the
//! order in which it sends them; messages are passed on in that order. A stream sends some messages to both
//! consumers; they are passed on once.
//!
//! RabbitMQ 3 does not report that the queue was declared again just when the next consumer began. That
//! consumer is then on the new queue, and its channel does not report the end of the old one. So a classic
//! queue is asked for its number of consumers, which is two unless it is another queue.

use std::collections::VecDeque;

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::message::Delivery;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Consumer};
use tokio::select;

use super::markers;
use super::message_cost;
use super::prefetch::Prefetch;
use super::reply::PendingReply;
use super::topology::SourceKind;

/// The messages of one queue or stream.
pub(super) struct RollingConsumer {
    channel: Channel,
    source: ShortString,
    prefetch: Prefetch,
    /// What the newest consumer was asked for with.
    asked_with: u16,
    present: Front,
    change: Option<Change>,
    /// The delivery tag of the last message that was taken.
    last_tag: u64,
    kind: SourceKind,
    /// Of a stream: the offset after that of the last message that was given.
    next_offset: Option<u64>,
}

/// What comes of a queue or stream.
#[expect(clippy::large_enum_variant, reason = "see `link::Next`")]
pub(super) enum Taken {
    Message(Delivery),
    /// A message that was given before; this is the tag by which it came once more.
    Known(u64),
    /// Some of what RabbitMQ sent did not come: the message with the tag `next` follows the one with the tag `before`. It
    /// must not be acknowledged with what came later.
    Missing {
        before: u64,
        next: u64,
    },
}

/// A consumer, and what it has to give next.
struct Front {
    consumer: Consumer,
    /// In the order in which they came.
    waiting: VecDeque<Delivery>,
    has_ended: bool,
}

/// The way from the present consumer to the next one.
struct Change {
    /// The next one, until it has begun.
    beginning: Option<PendingReply<Beginning>>,
    next: Option<Front>,
    /// The end of the present one, once the next one has begun.
    ending: Option<PendingReply<()>>,
}

/// A consumer that has begun.
struct Beginning {
    consumer: Consumer,
    /// Whether it is on another queue than the one before it.
    is_elsewhere: bool,
}

/// What comes of waiting.
enum ConsumerHappening {
    Begun(lapin::Result<Beginning>),
    Ended(lapin::Result<()>),
    Present(Option<lapin::Result<Delivery>>),
    Next(Option<lapin::Result<Delivery>>),
}

impl RollingConsumer {
    /// Goes on with a consumer that was made with what `prefetch` says.
    pub(super) fn new(
        channel: Channel,
        source: ShortString,
        kind: SourceKind,
        consumer: Consumer,
        prefetch: Prefetch,
    ) -> Self {
        let asked_with = prefetch.current();
        let present = Front::new(consumer);
        let (change, last_tag, next_offset) = (None, 0, None);
        Self { channel, source, prefetch, asked_with, present, change, last_tag, kind, next_offset }
    }

    /// How many messages RabbitMQ sends before some are acknowledged: the newest consumer takes the place of the one before
    /// it whatever is acknowledged.
    pub(super) fn ahead(&self) -> u16 {
        self.asked_with
    }

    /// The next message, or none if RabbitMQ has ended the consumer. Can be dropped at any time without loss.
    pub(super) async fn next(&mut self) -> Option<lapin::Result<Taken>> {
        loop {
            if let Some(delivery) = self.take() {
                let before = std::mem::replace(&mut self.last_tag, delivery.delivery_tag);
                if are_missing_between(before, self.last_tag) {
                    return Some(Ok(Taken::Missing { before, next: self.last_tag }));
                }
                if !self.is_new(&delivery) {
                    return Some(Ok(Taken::Known(self.last_tag)));
                }
                self.note(&delivery);
                return Some(Ok(Taken::Message(delivery)));
            }
            self.finish_change();
            let happening = self.wait().await;
            if let Err(error) = self.happened(happening)? {
                return Some(Err(error));
            }
        }
    }

    /// The message that RabbitMQ sent next, if it is here: by its number, or because nobody else can have an earlier one.
    fn take(&mut self) -> Option<Delivery> {
        let next_tag = self.last_tag + 1;
        let Some(change) = &mut self.change else { return self.present.waiting.pop_front() };
        let Some(next) = &mut change.next else {
            return self.present.take_if(|tag| tag <= next_tag);
        };
        let (first, other) = match (self.present.tag(), next.tag()) {
            (Some(present), Some(tag)) if tag < present => (next, &self.present),
            (None, Some(_)) => (next, &self.present),
            _ => (&mut self.present, &*next),
        };
        let is_known = other.has_ended || !other.waiting.is_empty();
        first.take_if(|tag| is_known || tag <= next_tag)
    }

    /// The next consumer takes the place of the present one when this has ended and given everything.
    fn finish_change(&mut self) {
        let is_over = self.present.has_ended && self.present.waiting.is_empty();
        if is_over && let Some(next) = self.change.take().and_then(|change| change.next) {
            self.present = next;
            self.change_if_wanted();
        }
    }

    async fn wait(&mut self) -> ConsumerHappening {
        let (mut beginning, mut ending, mut next) = (None, None, None);
        if let Some(change) = &mut self.change {
            (beginning, ending, next) =
                (change.beginning.as_mut(), change.ending.as_mut(), change.next.as_mut());
        }
        select! {
            biased;
            begun = answered(beginning) => ConsumerHappening::Begun(begun),
            ended = answered(ending) => ConsumerHappening::Ended(ended),
            delivery = self.present.next() => ConsumerHappening::Present(delivery),
            delivery = next_of(next) => ConsumerHappening::Next(delivery),
        }
    }

    /// Takes note of it. None: RabbitMQ has ended the consumer.
    fn happened(&mut self, happening: ConsumerHappening) -> Option<lapin::Result<()>> {
        match (happening, &mut self.change) {
            (ConsumerHappening::Begun(Ok(Beginning { is_elsewhere: true, .. })), _) => return None,
            (ConsumerHappening::Begun(Ok(Beginning { consumer, .. })), Some(change)) => {
                // If the present one has ended by now, it was not by our order: its queue was deleted, and the next
                // one has begun at another of the same name.
                if let Err(error) = self.present.gather()? {
                    return Some(Err(error));
                }
                change.beginning = None;
                change.next = Some(Front::new(consumer));
                let (channel, tag) = (self.channel.clone(), self.present.consumer.tag());
                let ending = async move { channel.basic_cancel(tag, BasicCancelOptions::default()).await };
                change.ending = Some(Box::pin(ending));
            }
            (ConsumerHappening::Ended(Ok(())), Some(change)) => change.ending = None,
            (ConsumerHappening::Begun(Err(error)) | ConsumerHappening::Ended(Err(error)), _) => {
                return Some(Err(error));
            }
            (ConsumerHappening::Present(Some(delivery)), _) => return Some(self.present.put(delivery)),
            // By our order, if the next one has begun.
            (ConsumerHappening::Present(None), Some(Change { next: Some(_), .. })) => {
                self.present.has_ended = true
            }
            (ConsumerHappening::Next(Some(delivery)), Some(Change { next: Some(next), .. })) => {
                return Some(next.put(delivery));
            }
            _ => return None,
        }
        Some(Ok(()))
    }

    /// Whether a message was not given yet: a stream sends what is under way to both consumers, and may begin earlier than
    /// it was asked to.
    fn is_new(&self, delivery: &Delivery) -> bool {
        let known = self.next_offset.zip(self.offset(delivery));
        known.is_none_or(|(next, offset)| offset >= next)
    }

    /// Where it is in the stream. What a message in a queue says of that is its publisher's.
    fn offset(&self, delivery: &Delivery) -> Option<u64> {
        markers::offset(delivery).filter(|_| self.kind == SourceKind::Stream)
    }

    fn note(&mut self, delivery: &Delivery) {
        if let Some(offset) = self.offset(delivery) {
            self.next_offset = Some(offset + 1);
        }
        if self.prefetch.saw(message_cost::of(&delivery.data, &delivery.properties)) {
            self.change_if_wanted();
        }
    }

    /// Asks for the next consumer, if it is to have other room than the newest one and none is on its way.
    fn change_if_wanted(&mut self) {
        let prefetch = self.prefetch.current();
        if self.change.is_some() || prefetch == self.asked_with {
            return;
        }
        self.asked_with = prefetch;
        let (channel, source, kind) = (self.channel.clone(), self.source.clone(), self.kind);
        let mut arguments = kind.consumer_arguments();
        if let Some(offset) = self.next_offset.and_then(|offset| i64::try_from(offset).ok()) {
            arguments.insert("x-stream-offset".into(), AMQPValue::LongLongInt(offset));
        }
        let beginning: PendingReply<Beginning> = Box::pin(async move {
            channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
            let options = BasicConsumeOptions::default();
            let consumer = channel.basic_consume(source.clone(), "".into(), options, arguments).await?;
            let is_elsewhere = kind == SourceKind::Classic && has_one_consumer(&channel, source).await?;
            Ok(Beginning { consumer, is_elsewhere })
        });
        self.change = Some(Change { beginning: Some(beginning), next: None, ending: None });
    }
}

impl Front {
    fn new(consumer: Consumer) -> Self {
        Self { consumer, waiting: VecDeque::new(), has_ended: false }
    }

    fn tag(&self) -> Option<u64> {
        self.waiting.front().map(|delivery| delivery.delivery_tag)
    }

    fn take_if(&mut self, is_next: impl Fn(u64) -> bool) -> Option<Delivery> {
        self.tag().filter(|tag| is_next(*tag)).and_then(|_| self.waiting.pop_front())
    }

    /// Takes what has come. None: the consumer has ended.
    fn gather(&mut self) -> Option<lapin::Result<()>> {
        while let Some(said) = self.consumer.next().now_or_never() {
            if let Err(error) = self.put(said?) {
                return Some(Err(error));
            }
        }
        Some(Ok(()))
    }

    fn put(&mut self, delivery: lapin::Result<Delivery>) -> lapin::Result<()> {
        delivery.map(|delivery| self.waiting.push_back(delivery))
    }

    /// What the consumer says, or nothing for ever while it has something to give, or has ended.
    async fn next(&mut self) -> Option<lapin::Result<Delivery>> {
        if self.has_ended || !self.waiting.is_empty() {
            return std::future::pending().await;
        }
        self.consumer.next().await
    }
}

/// Whether a queue that has a consumer has no other one: not the one that it had before, if it is the same queue.
async fn has_one_consumer(channel: &Channel, queue: ShortString) -> lapin::Result<bool> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare(queue, options, FieldTable::default()).await?;
    Ok(queue.consumer_count() == 1)
}

/// Whether deliveries are missing between two tags. Those before the first one were taken by [`Seek`](super::attach::Seek).
fn are_missing_between(before: u64, next: u64) -> bool {
    before != 0 && next != before + 1
}

/// The answer, or nothing for ever if none is awaited.
async fn answered<T>(answer: Option<&mut PendingReply<T>>) -> lapin::Result<T> {
    match answer {
        Some(answer) => answer.await,
        None => std::future::pending().await,
    }
}

/// As [`Front::next`], if there is one.
async fn next_of(front: Option<&mut Front>) -> Option<lapin::Result<Delivery>> {
    match front {
        Some(front) => front.next().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_follow_each_other_from_wherever_they_begin() {
        for (before, next, expected) in
            [(0, 1, false), (0, 5, false), (5, 6, false), (5, 7, true), (1, 900, true)]
        {
            assert_eq!(are_missing_between(before, next), expected, "{before} {next}");
        }
    }
}
