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
use super::headers::{CLIENT_INFO, COPIES, KEY, MICROSECONDS, MILLISECONDS, OFFSET, PERSISTENT, TOPICS};

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

/// The properties of a publish of our own: `id` tells it from all others, however often it is sent; `copies`
/// are the topics beside the routing key, `key` identifies the item that it updates, `info` is the client that publishes,
/// and `now` is when it is published.
pub(super) fn properties(
    id: ShortString,
    copies: &[TopicName],
    key: Option<&str>,
    info: Option<&ClientInfo>,
    now: UnixTime,
) -> BasicProperties {
    let mut headers = FieldTable::default();
    if let Ok(now) = i64::try_from(now.as_micros()) {
        headers.insert(MICROSECONDS.into(), AMQPValue::LongLongInt(now));
    }
    if let Some(key) = key {
        headers.insert(KEY.into(), AMQPValue::LongString(key.into()));
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
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime::from_micros(1_700_000_000_123_456);

    fn delivery(routing_key: &str, properties: BasicProperties) -> Delivery {
        let mut delivery = Delivery::mock(7, "fanfare".into(), routing_key.into(), false, b"1".to_vec());
        delivery.properties = properties;
        delivery
    }

    fn receive(delivery: Delivery) -> Message {
        super::receive(delivery, None, 10)
    }

    fn headers(pairs: &[(&str, AMQPValue)]) -> FieldTable {
        let mut table = FieldTable::default();
        for (name, value) in pairs {
            table.insert((*name).into(), value.clone());
        }
        table
    }

    #[test]
    fn a_bare_message_has_one_topic_and_is_json() {
        let message = receive(delivery("order.42", BasicProperties::default()));
        assert_eq!((&*message.topics, message.tag), (&[Box::from("order.42")][..], 7));
        assert_eq!((message.content, message.key, message.published), (Content::Json, None, None));
    }

    #[test]
    fn what_the_filter_notes_concerns_the_whole_message_and_a_copy_that_is_no_text_only_itself() {
        let note = |text: &str| AMQPValue::LongString(text.into());
        let copies = AMQPValue::FieldArray(vec![note("b"), AMQPValue::LongString(vec![0xff].into())].into());
        for (pairs, topics, flaw, concerns_all) in [
            (
                &[(amqp_filter::ROUTING_KEY, note("61ff")), (amqp_filter::LOST, note("cut"))][..],
                &["a"][..],
                Undeliverable::RoutingKey("61ff".into()),
                true,
            ),
            (&[(amqp_filter::LOST, note("cut"))], &["a"], Undeliverable::Lost("cut".into()), true),
            (&[(COPIES, copies)], &["a", "b"], Undeliverable::Copy("ff".into()), false),
        ] {
            let properties = BasicProperties::default().with_headers(headers(pairs));
            let message = receive(delivery("a", properties));
            assert_eq!(message.topics.iter().map(|topic| &**topic).collect::<Vec<_>>(), topics);
            assert_eq!(flaw.concerns_all(), concerns_all);
            assert_eq!(message.flaw.as_deref(), Some(&flaw));
        }
    }

    #[test]
    fn an_empty_id_is_none_and_encodings_are_read() {
        let said = |id: &str, encoding: &str| {
            let properties = BasicProperties::default().with_message_id(id.into());
            receive(delivery("a", properties.with_content_encoding(encoding.into())))
        };
        assert_eq!(said("", "").id, None);
        assert_eq!(said("1", "").id.as_deref(), Some("1"));
        assert_eq!(
            [said("", "utf-8"), said("", "gzip")].map(|message| message.compression),
            [Compression::None, Compression::Gzip]
        );
    }

    #[test]
    fn a_fingerprint_is_of_what_is_the_same_each_time_and_tells_one_from_another() {
        let hasher = foldhash::fast::RandomState::default();
        let plain = || delivery("a", BasicProperties::default());
        let of = |delivery: &Delivery| fingerprint(delivery, &hasher);
        let mut again = plain();
        again.delivery_tag += 1;
        again.properties = again.properties.with_headers(headers(&[(OFFSET, AMQPValue::LongLongInt(5))]));
        assert_eq!(of(&plain()), of(&again));
        let with = |properties| of(&delivery("a", properties));
        let (mut exchange, mut body) = (plain(), plain());
        exchange.exchange = "another".into();
        body.data = b"2".to_vec();
        let others = [
            of(&exchange),
            of(&body),
            of(&delivery("b", BasicProperties::default())),
            with(BasicProperties::default().with_message_id("1".into())),
            with(BasicProperties::default().with_timestamp(1)),
        ];
        assert!(others.iter().all(|&other| other != of(&plain())));
    }

    #[test]
    fn several_topics_travel_as_one_message_and_are_found_again() {
        let topics: Vec<TopicName> = vec!["b".into(), "a".into(), "b".into()];
        let message = receive(delivery("a", properties("1".into(), &topics, None, None, NOW)));
        assert_eq!(message.id.as_deref(), Some("1"));
        assert_eq!(message.topics, [Box::from("a"), Box::from("b")]);
        // As a stream gives it back.
        let mut came = delivery("a", properties("1".into(), &topics, None, None, NOW));
        let mut kept = came.properties.headers().clone().unwrap();
        kept = headers(&[(TOPICS, kept.inner()[TOPICS].clone())]);
        came.properties = BasicProperties::default().with_headers(kept);
        assert_eq!(receive(came).topics, message.topics);
        assert_eq!(message.published, Some(NOW));
    }

    #[test]
    fn further_topics_are_text_or_a_list_of_texts_and_anything_else_is_a_flaw() {
        let text = |text: &str| AMQPValue::LongString(text.into());
        let list = |values: Vec<AMQPValue>| AMQPValue::FieldArray(values.into());
        for (value, topics, flaw) in [
            (text("b\nc\r\n"), vec!["a", "b", "c"], None),
            (AMQPValue::ShortString("b".into()), vec!["a", "b"], None),
            (list(vec![text("b"), text("a"), AMQPValue::ShortString("c".into())]), vec!["a", "b", "c"], None),
            (list(vec![]), vec!["a"], None),
            (AMQPValue::Void, vec!["a"], None),
            (list(vec![text("b"), AMQPValue::LongInt(7), text("c")]), vec!["a", "b", "c"], Some("LongInt")),
            (AMQPValue::LongInt(7), vec!["a"], Some("LongInt")),
            (AMQPValue::FieldTable(FieldTable::default()), vec!["a"], Some("FieldTable")),
            (AMQPValue::LongString(vec![b'b', 0xff].into()), vec!["a"], Some("UTF-8 from byte 1 on")),
        ] {
            let properties = BasicProperties::default().with_headers(headers(&[(TOPICS, value.clone())]));
            let message = receive(delivery("a", properties));
            assert_eq!(
                message.topics,
                topics.into_iter().map(Box::from).collect::<Vec<Box<str>>>(),
                "{value:?}"
            );
            let reason = message.flaw.map(|flaw| flaw.to_string());
            let is_right = match (&reason, flaw) {
                (Some(reason), Some(word)) => reason.contains(word) && reason.contains("x-topics"),
                (reason, flaw) => reason.is_none() && flaw.is_none(),
            };
            assert!(is_right, "{value:?}: {reason:?}");
        }
    }

    #[test]
    fn a_message_has_so_many_topics_and_no_more_each_once() {
        let names = |count: usize| (0..count).map(|n| format!("t{n}")).collect::<Vec<_>>();
        let most = MESSAGE_TOPICS_MAX;
        for (count, is_too_many) in [(FEW - 1, false), (FEW + 1, false), (most - 1, false), (30_000, true)] {
            // Each of them twice, the routing key as well; the second time in the other order.
            let mut said = names(count);
            said.extend(names(count).into_iter().rev());
            said.push("a".to_owned());
            let list =
                said.iter().map(|name| AMQPValue::LongString(name.as_str().into())).collect::<Vec<_>>();
            let text = AMQPValue::LongString(said.join("\n").into());
            for (header, value) in [(TOPICS, text), (COPIES, AMQPValue::FieldArray(list.into()))] {
                let properties = BasicProperties::default().with_headers(headers(&[(header, value)]));
                let message = receive(delivery("a", properties));
                let expected = ["a".to_owned()].into_iter().chain(names(count.min(most - 1)));
                assert!(
                    message.topics.iter().map(|topic| topic.to_string()).eq(expected),
                    "{count} {header}"
                );
                let flaw = is_too_many.then_some(Undeliverable::TooManyTopics { max: most });
                assert_eq!(message.flaw.as_deref(), flaw.as_ref(), "{count} {header}");
            }
        }
        assert!(Undeliverable::TooManyTopics { max: most }.concerns_all());
    }

    #[test]
    fn the_client_travels_in_a_header_and_a_message_that_spoils_it_goes_to_no_topic() {
        let conn_info = b"[[]]"[..].into();
        let ann = ClientInfo { user: "ann".into(), client: "c".into(), conn_info, ..ClientInfo::default() };
        let ours = properties("1".into(), &[], None, Some(&ann), NOW);
        assert_eq!(receive(delivery("a", ours)).info.as_deref(), Some(&ann));

        let said = |value: AMQPValue| {
            receive(delivery("a", BasicProperties::default().with_headers(headers(&[(CLIENT_INFO, value)]))))
        };
        let text = |text: &str| AMQPValue::LongString(text.into());
        let deep = format!(r#"{{"client":"c","conn_info":{}{}}}"#, "[".repeat(11), "]".repeat(11));
        for (value, flaw) in [
            (AMQPValue::Void, None),
            (AMQPValue::LongInt(7), Some(Undeliverable::ClientInfoHeader)),
            (AMQPValue::LongString(vec![0xff].into()), Some(Undeliverable::ClientInfoHeader)),
            (text("{}"), Some(client_info::Unusable::NoClient.into())),
            (text(&deep), Some(client_info::Unusable::TooDeep(10).into())),
        ] {
            let message = said(value);
            assert_eq!((message.info, message.flaw.as_deref()), (None, flaw.as_ref()));
            assert!(flaw.is_none_or(|flaw| flaw.concerns_all() && flaw.to_string().contains(CLIENT_INFO)));
        }
    }

    #[test]
    fn of_two_flaws_the_one_that_concerns_all_counts() {
        let spoilt = || (CLIENT_INFO, AMQPValue::LongInt(7));
        let lost = (amqp_filter::LOST, AMQPValue::LongString("cut".into()));
        for (other, flaw) in [
            ((TOPICS, AMQPValue::LongInt(7)), Undeliverable::ClientInfoHeader),
            (lost, Undeliverable::Lost("cut".into())),
        ] {
            let properties = BasicProperties::default().with_headers(headers(&[spoilt(), other]));
            assert_eq!(receive(delivery("a", properties)).flaw.as_deref(), Some(&flaw));
        }
    }

    #[test]
    fn the_finest_time_stamp_counts_and_nonsense_does_not() {
        let long = AMQPValue::LongLongInt;
        for (pairs, timestamp, published_at) in [
            (&[(MICROSECONDS, long(5)), (MILLISECONDS, long(6))][..], Some(7), Some(5)),
            (&[(MILLISECONDS, long(6))], Some(7), Some(6000)),
            (&[(MILLISECONDS, AMQPValue::LongUInt(6))], None, Some(6000)),
            (&[(MICROSECONDS, AMQPValue::LongString("yesterday".into()))], Some(7), Some(7_000_000)),
            (&[(MICROSECONDS, long(-1))], None, None),
            (&[(MILLISECONDS, long(i64::MAX))], None, None),
            (&[], Some(0), None),
            (&[], None, None),
        ] {
            let published_at = published_at.map(UnixTime::from_micros);
            assert_eq!(published(&headers(pairs), timestamp), published_at, "{pairs:?} {timestamp:?}");
        }
    }

    #[test]
    fn an_expiration_is_milliseconds_and_nonsense_is_none() {
        for (text, expires_after) in [
            ("250", Some(Duration::from_millis(250))),
            ("0", Some(Duration::ZERO)),
            ("soon", None),
            ("", None),
        ] {
            let properties = BasicProperties::default().with_expiration(text.into());
            assert_eq!(receive(delivery("a", properties)).expires_after, expires_after, "{text}");
        }
    }

    #[test]
    fn keys_are_text() {
        for (value, key) in [
            (AMQPValue::LongString("k".into()), Some("k")),
            (AMQPValue::LongString(vec![0xff].into()), None),
            (AMQPValue::LongInt(7), None),
        ] {
            let properties = BasicProperties::default().with_headers(headers(&[(KEY, value)]));
            assert_eq!(receive(delivery("a", properties)).key.as_deref(), key);
        }
        let ours = properties("1".into(), &[], Some("k"), None, UnixTime::default());
        assert_eq!(receive(delivery("a", ours)).key.as_deref(), Some("k"));
    }
}
