//! Taking messages, and acknowledging them once they were handed over.

use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, Consumer};
use tokio::sync::{mpsc, watch};

use crate::broker::backplane::{Content, Delivery, Event};
use crate::broker::frontier::Tag;
use crate::broker::rabbit::error::Trouble;
use crate::broker::rabbit::{Stop, publish};
use crate::config::Amqp;

/// A consumer and the channel it came by, which alone can acknowledge.
pub(super) struct Messages {
    channel: Channel,
    consumer: Consumer,
}

/// Begins to consume `queue`.
pub(super) async fn begin(connection: &Connection, amqp: &Amqp, queue: &str) -> Result<Messages, Trouble> {
    let failed = |error| Trouble::doing(&format!("the queue `{queue}` cannot be consumed"), &error);
    let channel = connection.create_channel().await.map_err(failed)?;
    channel.basic_qos(amqp.prefetch, BasicQosOptions::default()).await.map_err(failed)?;
    let options = BasicConsumeOptions::default();
    let consuming = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
    let consumer = consuming.await.map_err(failed)?;
    Ok(Messages { channel, consumer })
}

/// Passes messages on and acknowledges what was handed over, until the channel breaks, or the end is asked
/// for: then `None`.
pub(super) async fn run(
    messages: Messages,
    events: mpsc::Sender<Event>,
    mut reached: watch::Receiver<u64>,
    mut stop: watch::Receiver<Stop>,
    generation: u32,
) -> Option<Trouble> {
    let Messages { channel, mut consumer } = messages;
    let mut consuming = true;
    let mut waiting = None;
    loop {
        tokio::select! {
            changed = reached.changed() => {
                // The broker forgets its end when it is told that the connection is gone.
                if changed.is_err() { return None; }
                let tag = *reached.borrow_and_update();
                if let Err(error) = channel.basic_ack(tag, BasicAckOptions { multiple: true }).await {
                    return Some(Trouble::doing("messages cannot be acknowledged", &error));
                }
            }
            permit = events.reserve(), if waiting.is_some() => {
                let Ok(permit) = permit else { return None };
                if let Some(event) = waiting.take() {
                    permit.send(event);
                }
            }
            message = consumer.next(), if waiting.is_none() && consuming => match message {
                Some(Ok(message)) => waiting = Some(Event::Delivery(delivery(message, generation))),
                Some(Err(error)) => return Some(Trouble::doing("consuming broke off", &error)),
                None => return Some(Trouble::Unreachable("RabbitMQ ended the consumer: its queue was deleted, or moved".to_owned())),
            },
            _ = stop.changed() => {
                let asked = *stop.borrow_and_update();
                if asked == Stop::Everything {
                    if reached.has_changed().unwrap_or(false) {
                        let tag = *reached.borrow();
                        let _ = channel.basic_ack(tag, BasicAckOptions { multiple: true }).await;
                    }
                    return None;
                }
                consuming = false;
                let _ = channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await;
            }
        }
    }
}

fn delivery(message: lapin::message::Delivery, generation: u32) -> Delivery {
    let properties = &message.properties;
    let headers = properties.headers().as_ref();
    Delivery {
        topics: topics(message.routing_key.as_str(), headers),
        content: content(properties),
        key: headers.and_then(|headers| string(headers, "x-key")).map(Into::into),
        published_at: published_at(properties),
        tag: Some(Tag { generation, number: message.delivery_tag }),
        body: message.data,
    }
}

/// The routing key and what `CC` adds: a queue gets one copy of a message, however many of its topics match.
fn topics(routing_key: &str, headers: Option<&FieldTable>) -> Vec<String> {
    let mut topics = vec![routing_key.to_owned()];
    if let Some(AMQPValue::FieldArray(copies)) = headers.and_then(|headers| headers.inner().get("CC")) {
        for copy in copies.as_slice() {
            if let Some(topic) = text(copy)
                && !topics.contains(&topic)
            {
                topics.push(topic);
            }
        }
    }
    topics
}

fn content(properties: &BasicProperties) -> Content {
    let said = properties.content_type().as_ref().map_or("", |said| said.as_str());
    let media_type = said.split(';').next().unwrap_or("").trim();
    if media_type.is_empty() || media_type.eq_ignore_ascii_case("application/json") {
        Content::Json
    } else if media_type.eq_ignore_ascii_case("text/plain") {
        Content::Text
    } else if media_type.eq_ignore_ascii_case("application/octet-stream") {
        Content::Binary
    } else {
        Content::Other
    }
}

/// The publisher's time in microseconds: by our own header, by RabbitMQ's, or by the plain property, which has
/// whole seconds. Headers of other types than numbers are passed over.
fn published_at(properties: &BasicProperties) -> Option<u64> {
    let headers = properties.headers().as_ref();
    let header = |name| headers.and_then(|headers| number(headers.inner().get(name)?));
    header(publish::TIMESTAMP)
        .or_else(|| header("timestamp_in_ms").and_then(|ms| ms.checked_mul(1000)))
        .or_else(|| properties.timestamp().and_then(|seconds| seconds.checked_mul(1_000_000)))
}

fn number(value: &AMQPValue) -> Option<u64> {
    match value {
        AMQPValue::LongLongInt(value) => u64::try_from(*value).ok(),
        AMQPValue::LongInt(value) => u64::try_from(*value).ok(),
        AMQPValue::LongUInt(value) => Some(u64::from(*value)),
        AMQPValue::Timestamp(value) => Some(*value),
        _ => None,
    }
}

fn string(headers: &FieldTable, name: &str) -> Option<String> {
    text(headers.inner().get(name)?)
}

fn text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok().map(str::to_owned),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}
