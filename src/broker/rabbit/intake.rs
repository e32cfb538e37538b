//! What is consumed, by one consumer after the other: each has room for as many messages as [`Prefetch`] says.
//!
//! All consumers are on one channel, so that delivery tags go on rising. The next one is asked for only when the one
//! before has been cancelled and all that it was sent has been taken: so the order stays. A queue that RabbitMQ
//! deletes without a consumer (`auto-delete`) would be gone then. Engines declare none, and one that is to keep
//! messages for an engine that is away cannot be one.

use std::future::Future;
use std::pin::Pin;

use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Consumer};
use tokio::select;

use super::markers;
use super::prefetch::Prefetch;

/// What RabbitMQ has been asked for, and has not answered.
type Answer<T> = Pin<Box<dyn Future<Output = lapin::Result<T>> + Send>>;

/// The messages of one queue or stream.
pub(super) struct Intake {
    channel: Channel,
    source: ShortString,
    state: State,
    prefetch: Prefetch,
    is_stream: bool,
    /// Of a stream: the offset after that of the last message that was given.
    next_offset: Option<u64>,
}

enum State {
    Consuming(Consumer),
    /// Nothing new comes, and what came is taken first. The answer may be there already.
    Ending(Consumer, Option<Answer<()>>),
    Beginning(Answer<Consumer>),
}

impl Intake {
    /// Goes on with a consumer that was made with what `prefetch` says.
    pub(super) fn new(
        channel: Channel,
        source: ShortString,
        is_stream: bool,
        consumer: Consumer,
        prefetch: Prefetch,
    ) -> Self {
        Self { channel, source, state: State::Consuming(consumer), prefetch, is_stream, next_offset: None }
    }

    /// The next message, or none if RabbitMQ has ended the consumer. Can be dropped at any time without loss.
    pub(super) async fn next(&mut self) -> Option<lapin::Result<Delivery>> {
        loop {
            let delivery = match &mut self.state {
                State::Consuming(consumer) => consumer.next().await?,
                State::Ending(consumer, answer) => select! {
                    biased;
                    ended = ended(answer) => {
                        *answer = None;
                        match ended {
                            Ok(()) => continue,
                            Err(error) => return Some(Err(error)),
                        }
                    }
                    delivery = consumer.next() => match delivery {
                        Some(delivery) => delivery,
                        None => {
                            self.begin();
                            continue;
                        }
                    },
                },
                State::Beginning(answer) => match answer.await {
                    Ok(consumer) => {
                        self.state = State::Consuming(consumer);
                        continue;
                    }
                    Err(error) => return Some(Err(error)),
                },
            };
            let Ok(delivery) = delivery else { return Some(delivery) };
            if self.is_new(&delivery) {
                self.note(&delivery);
                return Some(Ok(delivery));
            }
        }
    }

    /// Whether a message was not given yet: RabbitMQ may begin earlier in a stream than it was asked to.
    fn is_new(&self, delivery: &Delivery) -> bool {
        let known = self.next_offset.zip(self.offset(delivery));
        known.is_none_or(|(next, offset)| offset >= next)
    }

    /// Where it is in the stream. What a message in a queue says of that is its publisher's.
    fn offset(&self, delivery: &Delivery) -> Option<u64> {
        markers::offset(delivery).filter(|_| self.is_stream)
    }

    fn note(&mut self, delivery: &Delivery) {
        if let Some(offset) = self.offset(delivery) {
            self.next_offset = Some(offset + 1);
        }
        if self.prefetch.saw(delivery.data.len()) {
            self.end();
        }
    }

    /// Ends the present consumer, if there is one that has not been ended.
    fn end(&mut self) {
        let State::Consuming(consumer) = &self.state else { return };
        let (channel, consumer) = (self.channel.clone(), consumer.clone());
        let tag = consumer.tag();
        let answer = async move { channel.basic_cancel(tag, BasicCancelOptions::default()).await };
        self.state = State::Ending(consumer, Some(Box::pin(answer)));
    }

    /// Asks for the next consumer.
    fn begin(&mut self) {
        let (channel, source) = (self.channel.clone(), self.source.clone());
        let prefetch = self.prefetch.current();
        let mut arguments = FieldTable::default();
        if let Some(offset) = self.next_offset.and_then(|offset| i64::try_from(offset).ok()) {
            arguments.insert("x-stream-offset".into(), AMQPValue::LongLongInt(offset));
        }
        self.state = State::Beginning(Box::pin(async move {
            channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
            channel.basic_consume(source, "".into(), BasicConsumeOptions::default(), arguments).await
        }));
    }
}

/// The answer to a cancellation, or nothing for ever if it has come.
async fn ended(answer: &mut Option<Answer<()>>) -> lapin::Result<()> {
    match answer {
        Some(answer) => answer.await,
        None => std::future::pending().await,
    }
}
