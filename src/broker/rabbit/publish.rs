//! Publishing: on a connection of its own, each publish with its own time limit, answered when RabbitMQ has
//! confirmed.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldArray, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::mpsc;

use crate::broker::backplane::{DeadLetter, Outcome};
use crate::broker::frontier::Tag;
use crate::broker::rabbit::error::{Trouble, text};
use crate::config::{AmqpUrl, Config};
use crate::mail::{Publish, TopicName};
use crate::protocol::codes::ErrorCode;
use crate::ratelimit::RateLimit;

/// The header with the publisher's time in microseconds since 1970; the AMQP property has whole seconds.
pub(super) const TIMESTAMP: &str = "x-timestamp-us";

/// How often the connection and its channel are asked whether they are still there.
const PULSE: Duration = Duration::from_millis(100);

/// Persistent messages survive a restart of RabbitMQ in durable queues (AMQP 0-9-1, basic.delivery-mode).
const PERSISTENT: u8 = 2;

/// Publishes on whatever connection there is. Cheap to clone.
#[derive(Clone)]
pub(super) struct Publisher {
    shared: Arc<Shared>,
}

struct Shared {
    config: Arc<Config>,
    channel: Mutex<Option<Channel>>,
    bury: mpsc::UnboundedSender<Tag>,
    burial_log: Mutex<RateLimit>,
}

impl Publisher {
    /// A publisher without a connection.
    pub(super) fn new(config: &Arc<Config>, bury: mpsc::UnboundedSender<Tag>) -> Self {
        let burial_log = Mutex::new(RateLimit::new(Duration::from_secs(10)));
        let config = Arc::clone(config);
        Self { shared: Arc::new(Shared { config, channel: Mutex::new(None), bury, burial_log }) }
    }

    /// Publishes on `connection` from now on.
    pub(super) async fn connected(&self, connection: &Connection) -> Result<(), Trouble> {
        let failed = |error| Trouble::doing("a channel to publish by cannot be opened", &error);
        let channel = connection.create_channel().await.map_err(failed)?;
        channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(failed)?;
        *self.shared.channel.lock() = Some(channel);
        Ok(())
    }

    /// Waits until nothing can be published any more: the connection broke, or RabbitMQ closed the channel, as
    /// it does when the exchange is gone.
    pub(super) async fn broken(&self, connection: &Connection) -> Trouble {
        let is_open =
            || self.shared.channel.lock().as_ref().is_some_and(|channel| channel.status().connected());
        while connection.status().connected() && is_open() {
            tokio::time::sleep(PULSE).await;
        }
        Trouble::Unreachable("the connection for publishing, or its channel, was closed".to_owned())
    }

    /// There is no connection any more.
    pub(super) fn lost(&self) {
        *self.shared.channel.lock() = None;
    }

    /// Publishes, and says by `outcomes` how it went. Messages go out in the order of the calls.
    pub(super) fn publish(&self, publish: Publish, outcomes: mpsc::UnboundedSender<Outcome>) {
        let Publish { asker, topics, data } = publish;
        let channel = self.shared.channel.lock().clone();
        let config = Arc::clone(&self.shared.config);
        tokio::spawn(async move {
            let confirmed = match channel {
                Some(channel) => {
                    let properties = properties(&topics).with_content_type("application/json".into());
                    let exchange = &config.amqp.exchange;
                    let sent =
                        send(&channel, exchange, &topics[0], &data, properties, config.timeouts.publish.0);
                    sent.await.is_ok()
                }
                None => false,
            };
            let result = if confirmed { Ok(()) } else { Err(ErrorCode::Internal) };
            // The broker is gone only when nobody waits any more.
            let _ = outcomes.send(Outcome { asker, result });
        });
    }

    /// Sends a message to the dead letters; the message may be acknowledged when that is done. When it fails,
    /// it is said in the log: the message itself has nowhere else to go.
    pub(super) fn bury(&self, letter: DeadLetter) {
        let channel = self.shared.channel.lock().clone();
        let publisher = self.clone();
        tokio::spawn(async move {
            let shared = &publisher.shared;
            let sent = match channel {
                Some(channel) => {
                    let exchange = &shared.config.amqp.dead_letter_exchange;
                    let topic = letter.topics.first().map_or("", String::as_str);
                    let limit = shared.config.timeouts.publish.0;
                    send(&channel, exchange, topic, &letter.body, epitaph(&letter), limit).await
                }
                None => Err("RabbitMQ is away".to_owned()),
            };
            publisher.note_burial(&letter, sent);
            if let Some(tag) = letter.tag {
                let _ = shared.bury.send(tag);
            }
        });
    }

    fn note_burial(&self, letter: &DeadLetter, sent: Result<(), String>) {
        let Some(unsaid) = self.shared.burial_log.lock().allow(Instant::now()) else { return };
        let (topics, reason) = (&letter.topics, &letter.reason);
        match sent {
            Ok(()) => tracing::warn!(
                ?topics,
                reason,
                unsaid,
                "a message cannot be delivered and is with the dead letters"
            ),
            Err(error) => tracing::error!(
                ?topics,
                reason,
                error,
                unsaid,
                "a message can neither be delivered nor put to the dead letters: it is lost"
            ),
        }
    }
}

/// Publishes one message and waits for RabbitMQ's confirm.
async fn send(
    channel: &Channel,
    exchange: &str,
    topic: &str,
    body: &[u8],
    properties: BasicProperties,
    limit: Duration,
) -> Result<(), String> {
    let confirmed = async {
        let options = BasicPublishOptions::default();
        let published =
            channel.basic_publish(exchange.into(), topic.into(), options, body, properties).await?;
        published.await
    };
    match tokio::time::timeout(limit, confirmed).await {
        Ok(Ok(Confirmation::Ack(_))) => Ok(()),
        Ok(Ok(_)) => Err("RabbitMQ did not take the message".to_owned()),
        Ok(Err(error)) => Err(text(&error)),
        Err(_) => Err(format!("RabbitMQ did not confirm within {limit:?}")),
    }
}

/// The properties of a publication: persistent, with its time, and with the topics after the first in `CC`.
fn properties(topics: &[TopicName]) -> BasicProperties {
    let mut headers = FieldTable::default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    headers
        .insert(TIMESTAMP.into(), AMQPValue::LongLongInt(i64::try_from(now.as_micros()).unwrap_or(i64::MAX)));
    if topics.len() > 1 {
        let copies = topics[1..].iter().map(|topic| AMQPValue::LongString(topic.as_bytes().into()));
        headers.insert("CC".into(), AMQPValue::FieldArray(FieldArray::from(copies.collect::<Vec<_>>())));
    }
    BasicProperties::default().with_delivery_mode(PERSISTENT).with_headers(headers)
}

/// The properties of a dead letter: why, and for which topics it was.
fn epitaph(letter: &DeadLetter) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert("x-fanfare-reason".into(), AMQPValue::LongString(letter.reason.as_bytes().into()));
    headers
        .insert("x-fanfare-topic".into(), AMQPValue::LongString(letter.topics.join(" ").into_bytes().into()));
    BasicProperties::default().with_delivery_mode(PERSISTENT).with_headers(headers)
}

/// Why a single publish failed. No text has a password in it.
#[derive(Debug, Error)]
pub enum PublishError {
    /// RabbitMQ cannot be reached, or refuses us.
    #[error("{0}")]
    Connect(String),
    /// RabbitMQ did not take the message.
    #[error("{0}")]
    NotTaken(String),
    /// No runtime could be set up.
    #[error("no runtime can be set up: {0}")]
    Runtime(#[from] std::io::Error),
}

/// Publishes one message to `exchange`, which must be there, on a connection of its own, and waits at most
/// `limit` for each of connecting and RabbitMQ's confirm. Blocks the calling thread.
///
/// # Errors
/// What went wrong, in words.
pub fn publish_once(
    url: &AmqpUrl,
    exchange: &str,
    topic: &str,
    body: &[u8],
    limit: Duration,
) -> Result<(), PublishError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let connecting = Connection::connect(url, ConnectionProperties::default());
        let connection = match tokio::time::timeout(limit, connecting).await {
            Ok(connected) => connected.map_err(|error| Trouble::connecting(url, &error)),
            Err(_) => {
                Err(Trouble::Unreachable(format!("RabbitMQ at {}: no answer within {limit:?}", url.public())))
            }
        };
        let connection = connection.map_err(|trouble| PublishError::Connect(trouble.to_string()))?;
        let opened = async {
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok::<_, lapin::Error>(channel)
        };
        let channel = opened.await.map_err(|error| PublishError::Connect(text(&error)))?;
        let properties = properties(&[topic.into()]).with_content_type("application/json".into());
        let sent = send(&channel, exchange, topic, body, properties, limit).await;
        let _ = tokio::time::timeout(Duration::from_secs(1), connection.close(200, "goodbye".into())).await;
        sent.map_err(PublishError::NotTaken)
    })
}
