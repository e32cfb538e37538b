//! Converts between AMQP messages and the broker's.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::base::clock::UnixTime;
use crate::broker::backplane::event::{Message, StreamPlace};
use crate::broker::payload::{Compression, Content, Undeliverable};
use crate::codec::json::client_info;
use crate::domain::client_info::ClientInfo;
use crate::domain::mail::{MESSAGE_TOPICS_MAX, TopicName};

use super::amqp_filter;
use super::envelope::Envelope;
use super::headers::{
    CLIENT_INFO, COPIES, KEY, MICROSECONDS, MILLISECONDS, OFFSET, PERSISTENT, SKIP_HISTORY, TOPICS,
};

/// A message as it was delivered, and where it stands in the stream, if it comes from one. What it says of its client has at
/// most so many levels of nesting.
pub(super) fn receive(delivery: Delivery, place: Option<StreamPlace>, depth_max: usize) -> Message {
    let Delivery { delivery_tag, routing_key, properties, data, .. } = delivery;
    let none = FieldTable::default();
    let headers = properties.headers().as_ref().unwrap_or(&none);
    let content_type = properties.content_type().as_ref().map_or("", ShortString::as_str);
    let content_encoding = properties.content_encoding().as_ref().map_or("", ShortString::as_str);
    let (topics, flaw) = topics(routing_key, headers);
    let (info, flaw) = match client(headers, depth_max) {
        Ok(info) => (info, flaw),
        Err(reason) => (None, flaw.filter(Undeliverable::concerns_all).or(Some(reason))),
    };
    Message {
        topics,
        flaw: flaw.map(Box::new),
        body: data,
        // Some client libraries send every property, empty where there is nothing to say.
        id: properties
            .message_id()
            .as_ref()
            .map(ShortString::as_str)
            .filter(|id| !id.is_empty())
            .map(Box::from),
        content: Content::of(content_type),
        compression: Compression::of(content_encoding),
        key: text(headers, KEY).map(Box::from),
        info,
        skips_history: is_true(headers, SKIP_HISTORY),
        published: published(headers, *properties.timestamp()),
        expires_after: properties.expiration().as_ref().and_then(expiration),
        place,
        tag: delivery_tag,
        envelope: Envelope(Some(Box::new(properties))),
    }
}

/// A message of the stream that came without its offset, at a place that follows from the message before it. It cannot be
/// delivered: where it stands is told in its dead letter only.
pub(super) fn receive_unplaced(mut delivery: Delivery, place: StreamPlace, depth_max: usize) -> Message {
    let mut headers = delivery.properties.headers().clone().unwrap_or_default();
    if let Ok(offset) = i64::try_from(place.offset - 1) {
        headers.insert(OFFSET.into(), AMQPValue::LongLongInt(offset));
    }
    delivery.properties = delivery.properties.with_headers(headers);
    let mut message = receive(delivery, Some(place), depth_max);
    if message.flaw.as_ref().is_none_or(|flaw| !flaw.concerns_all()) {
        let reason = "it came without its offset in the stream".to_owned();
        message.flaw = Some(Box::new(Undeliverable::Lost(reason)));
    }
    message
}

/// What tells a delivery from others, and is the same whenever it comes from its stream.
pub(super) fn fingerprint(delivery: &Delivery, hasher: &impl BuildHasher) -> u64 {
    let Delivery { exchange, routing_key, properties, data, .. } = delivery;
    let id = properties.message_id().as_ref().map(ShortString::as_str);
    hasher.hash_one((exchange.as_str(), routing_key.as_str(), id, properties.timestamp(), data))
}

/// Names that are compared one by one; with more, a set knows them.
const FEW: usize = 16;

/// The topics of a message beside its routing key, each once.
struct Further<'a> {
    routing_key: &'a str,
    names: Vec<&'a str>,
    /// The same from [`FEW`] on.
    many: HashSet<&'a str>,
    are_too_many: bool,
}

impl<'a> Further<'a> {
    fn add(&mut self, topic: &'a str) {
        let has_few = self.names.len() < FEW;
        let is_known = if has_few { self.names.contains(&topic) } else { self.many.contains(topic) };
        if is_known || topic == self.routing_key {
            return;
        }
        if self.names.len() + 1 >= MESSAGE_TOPICS_MAX {
            self.are_too_many = true;
            return;
        }
        self.names.push(topic);
        match self.names.len().cmp(&FEW) {
            Ordering::Less => {}
            Ordering::Equal => self.many.extend(&self.names),
            Ordering::Greater => drop(self.many.insert(topic)),
        }
    }
}

/// The routing key and those that the headers add, each once, as many as there may be; and what is wrong with them.
fn topics(routing_key: ShortString, headers: &FieldTable) -> (Vec<Box<str>>, Option<Undeliverable>) {
    let (names, many) = (Vec::new(), HashSet::new());
    let mut further = Further { routing_key: routing_key.as_str(), names, many, are_too_many: false };
    let mut flaw = None;
    if let Some(AMQPValue::FieldArray(copies)) = headers.inner().get(COPIES) {
        for copy in copies.as_slice() {
            // RabbitMQ refuses anything but strings here.
            let AMQPValue::LongString(copy) = copy else { continue };
            match std::str::from_utf8(copy.as_bytes()) {
                Ok(copy) => further.add(copy),
                Err(_) => flaw = Some(Undeliverable::Copy(amqp_filter::hex(copy.as_bytes()))),
            }
        }
    }
    match headers.inner().get(TOPICS) {
        None | Some(AMQPValue::Void) => {}
        Some(AMQPValue::FieldArray(names)) => {
            for name in names.as_slice() {
                as_text(name).map_or_else(|reason| flaw = Some(reason), |name| further.add(name));
            }
        }
        Some(value) => match as_text(value) {
            Ok(names) => names.lines().for_each(|name| further.add(name)),
            Err(reason) => flaw = Some(reason),
        },
    }
    if further.are_too_many {
        flaw = Some(Undeliverable::TooManyTopics { max: MESSAGE_TOPICS_MAX });
    }
    let names: Vec<_> = further.names.into_iter().map(Box::from).collect();
    let mut topics = Vec::with_capacity(names.len() + 1);
    topics.push(String::from(routing_key).into_boxed_str());
    topics.extend(names);
    (topics, damage(headers).or(flaw))
}

/// What the filter has found that concerns the whole message.
fn damage(headers: &FieldTable) -> Option<Undeliverable> {
    let noted = |name| text(headers, name).map(str::to_owned);
    let routing_key = noted(amqp_filter::ROUTING_KEY).map(Undeliverable::RoutingKey);
    routing_key.or_else(|| noted(amqp_filter::LOST).map(Undeliverable::Lost))
}

/// The client that published a message, if one did.
fn client(headers: &FieldTable, depth_max: usize) -> Result<Option<Arc<ClientInfo>>, Undeliverable> {
    match headers.inner().get(CLIENT_INFO) {
        None | Some(AMQPValue::Void) => Ok(None),
        Some(_) => {
            let object = text(headers, CLIENT_INFO).ok_or(Undeliverable::ClientInfoHeader)?;
            Ok(Some(Arc::new(client_info::read(object, depth_max)?)))
        }
    }
}

/// A value of `x-topics`, or of a list in it.
fn as_text(value: &AMQPValue) -> Result<&str, Undeliverable> {
    match value {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).map_err(|error| {
            Undeliverable::TopicsHeader(format!("not UTF-8 from byte {} on", error.valid_up_to()))
        }),
        AMQPValue::ShortString(text) => Ok(text.as_str()),
        other => Err(Undeliverable::TopicsHeader(format!("of type {:?}", other.get_type()))),
    }
}

/// A header that is text.
pub(super) fn text<'a>(headers: &'a FieldTable, name: &str) -> Option<&'a str> {
    match headers.inner().get(name)? {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        AMQPValue::ShortString(text) => Some(text.as_str()),
        _ => None,
    }
}

/// Whether a header is true: as AMQP's boolean, or as text, for tools that know no other values.
fn is_true(headers: &FieldTable, name: &str) -> bool {
    matches!(headers.inner().get(name), Some(AMQPValue::Boolean(true))) || text(headers, name) == Some("true")
}

/// When a message was published, by the finest of its time stamps: `timestamp` is in seconds since 1970. Nonsense is
/// passed over.
fn published(headers: &FieldTable, timestamp: Option<u64>) -> Option<UnixTime> {
    let number = |name| headers.inner().get(name).and_then(whole_number);
    number(MICROSECONDS)
        .or_else(|| number(MILLISECONDS)?.checked_mul(1000))
        .or_else(|| timestamp?.checked_mul(1_000_000))
        .filter(|&micros| micros > 0)
        .map(UnixTime::from_micros)
}

/// AMQP's `expiration`: milliseconds, as text. RabbitMQ lets nothing else through.
fn expiration(text: &ShortString) -> Option<Duration> {
    text.as_str().parse().ok().map(Duration::from_millis)
}

/// A number of any of AMQP's types for whole ones, as each client library chooses another.
pub(super) fn whole_number(value: &AMQPValue) -> Option<u64> {
    match *value {
        AMQPValue::LongLongInt(number) => u64::try_from(number).ok(),
        AMQPValue::LongInt(number) => u64::try_from(number).ok(),
        AMQPValue::LongUInt(number) => Some(number.into()),
        AMQPValue::Timestamp(number) => Some(number),
        _ => None,
    }
}

/// What the headers of a publish of our own say.
#[derive(Debug, Default)]
pub(super) struct Said<'a> {
    /// The topics beside the routing key.
    pub(super) copies: &'a [TopicName],
    /// Identifies the item that it updates.
    pub(super) key: Option<&'a str>,
    /// The client that publishes.
    pub(super) info: Option<&'a ClientInfo>,
    /// Whether no history keeps it.
    pub(super) skips_history: bool,
}

/// The properties of a publish of our own: `id` tells it from all others, however often it is sent, and `now` is when it is
/// published.
pub(super) fn properties(id: ShortString, said: &Said<'_>, now: UnixTime) -> BasicProperties {
    let &Said { copies, key, info, skips_history } = said;
    let mut headers = FieldTable::default();
    if let Ok(now) = i64::try_from(now.as_micros()) {
        headers.insert(MICROSECONDS.into(), AMQPValue::LongLongInt(now));
    }
    if let Some(key) = key {
        headers.insert(KEY.into(), AMQPValue::LongString(key.into()));
    }
    if skips_history {
        headers.insert(SKIP_HISTORY.into(), AMQPValue::Boolean(true));
    }
    if let Some(info) = info {
        let mut object = Vec::with_capacity(client_info::len(info));
        client_info::write(&mut object, info);
        headers.insert(CLIENT_INFO.into(), AMQPValue::LongString(object.into()));
    }
    if !copies.is_empty() {
        headers.insert(TOPICS.into(), AMQPValue::LongString(copies.join("\n").into()));
        let copies = copies.iter().map(|topic| AMQPValue::LongString(topic.as_bytes().into()));
        headers.insert(COPIES.into(), AMQPValue::FieldArray(copies.collect::<Vec<_>>().into()));
    }
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(PERSISTENT)
        .with_message_id(id)
        .with_headers(headers)
}

#[cfg(test)]
mod tests;
