//! Detects that the node's own queue has dropped messages. Its limit is `amqp.queue_max_messages`, or an
//! operator's policy. The node numbers a queue's publications itself, so its numbers do not show what was
//! dropped.
//!
//! RabbitMQ reports drops if it is told to: a dropped message becomes a *notice*, a dead letter in a second
//! queue, with the reason in its header `x-death`. A notice only has to be seen, not delivered: the second
//! queue keeps few of them, one at a time is taken, and after a loss the rest is ignored for a while.
//!
//! A message whose own `expiration` has passed becomes a notice too, and is no loss. Such notices could push
//! others out, so when the second queue is full, messages may have been lost as well.

use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, Consumer};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::message::text;

/// Notices that are kept.
const NOTICES_MAX: u32 = 100;
/// Pause after a loss was reported: a queue that overflows mostly goes on overflowing.
const PAUSE: Duration = Duration::from_secs(5);
/// The header in which RabbitMQ says why, where and how often a message was dead-lettered, the latest first.
const DEATHS: &str = "x-death";
/// What RabbitMQ adds to it for a message that had an expiration of its own.
const OWN_EXPIRATION: &str = "original-expiration";

/// Arguments for the queue that is watched: how many messages it keeps, and the queue for its notices, by the default
/// exchange. `x-overflow` is among them so that no policy makes the queue refuse publishes instead: publishers need not wait
/// because a node is behind.
pub(super) fn limits(messages: u32, notices: &ShortString) -> FieldTable {
    arguments(&[
        ("x-max-length", AMQPValue::LongLongInt(messages.into())),
        ("x-overflow", AMQPValue::LongString("drop-head".into())),
        ("x-dead-letter-exchange", AMQPValue::LongString("".into())),
        ("x-dead-letter-routing-key", AMQPValue::LongString(notices.as_str().into())),
    ])
}

/// Declares the queue for the notices, which ends with the connection, and returns its name.
///
/// # Errors
/// What RabbitMQ says.
pub(super) async fn declare_notices(channel: &Channel) -> lapin::Result<ShortString> {
    let options =
        QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let arguments = arguments(&[
        ("x-max-length", AMQPValue::LongLongInt(NOTICES_MAX.into())),
        ("x-overflow", AMQPValue::LongString("drop-head".into())),
    ]);
    Ok(channel.queue_declare("".into(), options, arguments).await?.name().clone())
}

fn arguments(pairs: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in pairs {
        table.insert((*name).into(), value.clone());
    }
    table
}

/// Watches a queue until it is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    losses: mpsc::Receiver<()>,
    /// Ends with it.
    _task: JoinSet<()>,
}

impl Watch {
    /// Begins, over a channel of its own.
    ///
    /// # Errors
    /// What RabbitMQ says.
    pub(super) async fn begin(
        connection: &Connection,
        queue: ShortString,
        notices: ShortString,
    ) -> lapin::Result<Self> {
        let channel = connection.create_channel().await?;
        channel.basic_qos(1, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let consumer = channel.basic_consume(notices.clone(), "".into(), options, FieldTable::default());
        let consumer = consumer.await?;
        let (told, losses) = mpsc::channel(1);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let reading = NoticeReader { channel, consumer, queue, notices };
            // That the watch is over shows as the end of `losses`.
            if let Err(error) = reading.watch(&told).await {
                tracing::debug!(%error, "the watch over the queue has ended");
            }
        });
        Ok(Self { losses, _task: task })
    }

    /// Waits until messages were lost; `None`: nobody can say any more. Can be dropped at any time without loss.
    pub(super) async fn next(&mut self) -> Option<()> {
        self.losses.recv().await
    }
}

struct NoticeReader {
    channel: Channel,
    consumer: Consumer,
    queue: ShortString,
    notices: ShortString,
}

impl NoticeReader {
    async fn watch(mut self, told: &mpsc::Sender<()>) -> lapin::Result<()> {
        while let Some(notice) = self.consumer.next().await {
            let notice = notice?;
            // This one is not among them, and none leaves before it is acknowledged: so a queue that was full since
            // the last look lacks one at most now.
            let is_full = self.waiting().await? + 1 >= NOTICES_MAX;
            if is_full || is_loss(&notice.properties, self.queue.as_str()) {
                self.channel.queue_purge(self.notices.clone(), QueuePurgeOptions::default()).await?;
                if told.send(()).await.is_err() {
                    return Ok(());
                }
                tokio::time::sleep(PAUSE).await;
            }
            self.acknowledge(&notice).await?;
        }
        Ok(())
    }

    /// How many notices wait.
    async fn waiting(&self) -> lapin::Result<u32> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let notices = self.channel.queue_declare(self.notices.clone(), options, FieldTable::default());
        Ok(notices.await?.message_count())
    }

    async fn acknowledge(&self, notice: &Delivery) -> lapin::Result<()> {
        self.channel.basic_ack(notice.delivery_tag, BasicAckOptions::default()).await
    }
}

/// Whether a message of `queue` was lost, by its notice: always, unless it was dropped because of its own `expiration`.
fn is_loss(properties: &BasicProperties, queue: &str) -> bool {
    let headers = properties.headers().as_ref();
    let Some(AMQPValue::FieldArray(deaths)) = headers.and_then(|headers| headers.inner().get(DEATHS)) else {
        return true;
    };
    let has_expired = |death: &AMQPValue| match death {
        AMQPValue::FieldTable(death) => {
            text(death, "queue") == Some(queue)
                && text(death, "reason") == Some("expired")
                && death.contains_key(OWN_EXPIRATION)
        }
        _ => false,
    };
    !deaths.as_slice().first().is_some_and(has_expired)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn death(queue: &str, reason: &str, own_expiration: bool) -> AMQPValue {
        let text = |text: &str| AMQPValue::LongString(text.into());
        let mut pairs = vec![("queue", text(queue)), ("reason", text(reason))];
        if own_expiration {
            pairs.push((OWN_EXPIRATION, text("100")));
        }
        AMQPValue::FieldTable(arguments(&pairs))
    }

    #[test]
    fn only_a_message_that_wanted_to_be_let_go_is_no_loss() {
        let cases = [
            (vec![death("q", "maxlen", false)], true),
            (vec![death("q", "expired", true)], false),
            // A policy's message-ttl.
            (vec![death("q", "expired", false)], true),
            // One that came late already, as delayed messages do; the latest comes first.
            (vec![death("q", "maxlen", false), death("delay", "expired", true)], true),
            (vec![death("q", "expired", true), death("delay", "expired", true)], false),
            (vec![death("delay", "expired", true)], true),
            (vec![], true),
        ];
        for (deaths, expected) in cases {
            let headers = arguments(&[(DEATHS, AMQPValue::FieldArray(deaths.clone().into()))]);
            let properties = BasicProperties::default().with_headers(headers);
            assert_eq!(is_loss(&properties, "q"), expected, "{deaths:?}");
        }
        assert!(is_loss(&BasicProperties::default(), "q"), "nothing is said");
    }
}
