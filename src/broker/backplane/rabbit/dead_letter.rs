//! Makes the dead letter of a message that cannot be delivered.
//!
//! A dead letter can be corrected and sent again: it has the body, every property and all headers of its
//! message, under their names. What RabbitMQ would act on, or refuse, moves to a header that begins with
//! `x-fanfare-`: `expiration`, `user-id`, `CC`, `BCC` and `x-stream-offset`.

use std::collections::BTreeMap;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::broker::backplane::event::Message;
use crate::broker::payload::Undeliverable;

use super::envelope::Envelope;
use super::headers::{COPIES, OFFSET, PERSISTENT};
use super::message::whole_number;
use super::message_cost;
use super::pending_publish::PendingPublish;

/// Why the message could not be delivered.
const REASON: &str = "x-fanfare-reason";
/// The topics of the message.
const TOPIC: &str = "x-fanfare-topic";
/// Bytes of each of these two, and of [`LEFT_OUT`]: all headers of a message have to fit into a frame. The message's own
/// headers still have all topics.
const TEXT_BYTES_MAX: usize = 1024;
/// RabbitMQ would drop the dead letter after that time.
const EXPIRATION: &str = "x-fanfare-expiration";
/// RabbitMQ takes no other user's name than that of the connection.
const USER_ID: &str = "x-fanfare-user-id";
/// Headers that move, and where to. RabbitMQ would route by the first two; the third is the message's place in its
/// stream, by which a dead letter that comes twice is known.
const MOVED: [(&str, &str); 3] = [(COPIES, "x-fanfare-cc"), ("BCC", "x-fanfare-bcc"), (OFFSET, MOVED_OFFSET)];
const MOVED_OFFSET: &str = "x-fanfare-stream-offset";

/// The number of a dead letter, by which it is recognised when RabbitMQ returns it.
const NUMBER: &str = "x-fanfare-letter";
/// The names of headers that were left out because all of them have to fit into a frame.
const LEFT_OUT: &str = "x-fanfare-left-out";
/// Left for headers that RabbitMQ adds when it gives a dead letter to somebody (`x-delivery-count`, `x-death`): whoever
/// reads it has no larger frames either.
const SPARE_BYTES: usize = 1024;

/// The dead letter of a message, for this exchange.
pub(super) fn of(message: Message, reason: &Undeliverable, exchange: ShortString) -> PendingPublish {
    let Message { topics, body, envelope: Envelope(properties), .. } = message;
    let properties = properties.map_or_else(BasicProperties::default, |properties| *properties);
    let headers = headers(&properties, &topics, reason);
    let routing_key = topics.into_iter().next().unwrap_or_default();
    PendingPublish {
        exchange,
        routing_key: ShortString::from(String::from(routing_key)),
        body,
        properties: kept(&properties).with_delivery_mode(PERSISTENT).with_headers(headers),
    }
}

fn headers(properties: &BasicProperties, topics: &[Box<str>], reason: &Undeliverable) -> FieldTable {
    let mut headers = FieldTable::default();
    let theirs = || properties.headers().iter().flatten();
    let new_name =
        |name: &ShortString| MOVED.iter().find(|(from, _)| *from == name.as_str()).map(|(_, to)| *to);
    for (name, value) in theirs().filter(|(name, _)| new_name(name).is_none()) {
        headers.insert(name.clone(), value.clone());
    }
    // Last: a dead letter that was mended and sent again has those of its first time under the new names.
    for (name, value) in theirs() {
        new_name(name).map(|name| headers.insert(name.into(), value.clone()));
    }
    let moved = [(EXPIRATION, properties.expiration()), (USER_ID, properties.user_id())];
    for (name, value) in moved {
        let value = value.as_ref().map(|value| AMQPValue::LongString(value.as_str().into()));
        value.map(|value| headers.insert(name.into(), value));
    }
    let reason = bounded(reason.to_string());
    headers.insert(REASON.into(), AMQPValue::LongString(reason.into()));
    headers.insert(TOPIC.into(), AMQPValue::LongString(names(topics).into()));
    headers
}

/// A text, or its beginning, in as many bytes as a header may have.
fn bounded(mut text: String) -> String {
    const CUT: &str = "...";
    if text.len() > TEXT_BYTES_MAX {
        let at = (0..=TEXT_BYTES_MAX - CUT.len()).rev().find(|&at| text.is_char_boundary(at));
        text.truncate(at.unwrap_or(0));
        text.push_str(CUT);
    }
    text
}

/// The first topics, as many as fit. One always does: a routing key has 255 bytes at most.
fn names(topics: &[Box<str>]) -> String {
    let mut bytes = 0;
    let fits = |topic: &&str| {
        bytes += topic.len() + 1;
        bytes <= TEXT_BYTES_MAX
    };
    topics.iter().map(Box::as_ref).take_while(fits).collect::<Vec<_>>().join(" ")
}

/// The properties with the number of the dead letter, cut so that they fit into a frame: else RabbitMQ would end the
/// connection. The largest of the message's headers are left out as far as need be, and where frames are small its
/// properties, too.
pub(super) fn numbered(properties: &BasicProperties, number: u64, frame_max: usize) -> BasicProperties {
    let mut headers = properties.headers().clone().unwrap_or_default();
    let number = AMQPValue::LongLongInt(i64::try_from(number).unwrap_or(i64::MAX));
    headers.insert(NUMBER.into(), number);
    let numbered = properties.clone().with_headers(headers);
    let (size, room) = (message_cost::of_frame(&numbered), frame_max.saturating_sub(SPARE_BYTES));
    if size <= room {
        return numbered;
    }
    let fitted = without_the_largest(numbered, size, room);
    if message_cost::of_frame(&fitted) <= room { fitted } else { bare(&fitted) }
}

/// The least that a dead letter needs, in less than 3 KiB: the smallest frame of AMQP has 4.
fn bare(properties: &BasicProperties) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in properties.headers().iter().flatten() {
        let is_number = whole_number(value).is_some();
        if [REASON, TOPIC].contains(&name.as_str())
            || is_number && [NUMBER, MOVED_OFFSET].contains(&name.as_str())
        {
            headers.insert(name.clone(), value.clone());
        }
    }
    headers.insert(LEFT_OUT.into(), AMQPValue::LongString("all other headers and properties".into()));
    let bare = BasicProperties::default().with_delivery_mode(PERSISTENT).with_headers(headers);
    match properties.message_id() {
        Some(id) => bare.with_message_id(id.clone()),
        None => bare,
    }
}

/// The number of the dead letter that has these properties.
pub(super) fn number(properties: &BasicProperties) -> Option<u64> {
    properties.headers().as_ref()?.inner().get(NUMBER).and_then(whole_number)
}

fn without_the_largest(properties: BasicProperties, mut size: usize, room: usize) -> BasicProperties {
    let mut kept = properties.headers().as_ref().map_or_else(BTreeMap::default, |all| all.inner().clone());
    let is_theirs = |name: &&ShortString| ![NUMBER, REASON, TOPIC].contains(&name.as_str());
    let sized = |(name, value): (&ShortString, &AMQPValue)| (bytes_of_header(name, value), name.clone());
    let mut theirs: Vec<_> = kept.iter().filter(|(name, _)| is_theirs(name)).map(sized).collect();
    theirs.sort();
    let mut names = String::new();
    while size + LEFT_OUT.len() + 6 + names.len() > room
        && let Some((bytes, name)) = theirs.pop()
    {
        kept.remove(&name);
        size -= bytes;
        if names.len() + name.as_str().len() < TEXT_BYTES_MAX {
            names.push_str(if names.is_empty() { "" } else { " " });
            names.push_str(name.as_str());
        }
    }
    kept.insert(LEFT_OUT.into(), AMQPValue::LongString(names.into()));
    properties.with_headers(kept.into())
}

fn bytes_of_header(name: &ShortString, value: &AMQPValue) -> usize {
    let with =
        |headers: FieldTable| message_cost::of_frame(&BasicProperties::default().with_headers(headers));
    let mut headers = FieldTable::default();
    headers.insert(name.clone(), value.clone());
    with(headers) - with(FieldTable::default())
}

type WithText = fn(BasicProperties, ShortString) -> BasicProperties;

/// The properties that are text, and how to set them.
fn texts(properties: &BasicProperties) -> [(&Option<ShortString>, WithText); 8] {
    [
        (properties.content_type(), BasicProperties::with_content_type),
        (properties.content_encoding(), BasicProperties::with_content_encoding),
        (properties.correlation_id(), BasicProperties::with_correlation_id),
        (properties.reply_to(), BasicProperties::with_reply_to),
        (properties.message_id(), BasicProperties::with_message_id),
        (properties.kind(), BasicProperties::with_type),
        (properties.app_id(), BasicProperties::with_app_id),
        (properties.cluster_id(), BasicProperties::with_cluster_id),
    ]
}

/// All properties but headers, and but those that move. A property cannot be taken away again.
fn kept(properties: &BasicProperties) -> BasicProperties {
    let mut kept = BasicProperties::default();
    for (value, with) in texts(properties) {
        if let Some(value) = value {
            kept = with(kept, value.clone());
        }
    }
    if let Some(priority) = *properties.priority() {
        kept = kept.with_priority(priority);
    }
    if let Some(timestamp) = *properties.timestamp() {
        kept = kept.with_timestamp(timestamp);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::UnixTime;
    use crate::broker::backplane::rabbit::headers::TOPICS;
    use crate::broker::backplane::rabbit::message::{self, Said, text};
    use crate::domain::mail::TopicName;
    use lapin::message::Delivery;
    use proptest::prelude::*;

    fn dead(routing_key: &str, properties: BasicProperties) -> PendingPublish {
        let mut delivery = Delivery::mock(7, "fanfare".into(), routing_key.into(), false, b"1".to_vec());
        delivery.properties = properties;
        of(message::receive(delivery, None, 10), &Undeliverable::NotUtf8(3), "fanfare.dead".into())
    }

    /// The properties of a publish with further topics.
    fn said(copies: &[TopicName]) -> BasicProperties {
        message::properties("1".into(), &Said { copies, ..Said::default() }, UnixTime::default())
    }

    fn string(text: &str) -> AMQPValue {
        AMQPValue::LongString(text.into())
    }

    #[test]
    fn a_dead_letter_keeps_the_body_and_says_why() {
        let PendingPublish { exchange, routing_key, body, properties } = dead("a", said(&["b".into()]));
        assert_eq!((exchange.as_str(), routing_key.as_str(), &body[..]), ("fanfare.dead", "a", &b"1"[..]));
        let headers = properties.headers().clone().unwrap();
        assert!(text(&headers, REASON).unwrap().contains("byte 3"));
        assert_eq!(text(&headers, TOPIC), Some("a b"));
        assert_eq!(text(&headers, TOPICS), Some("b"));
    }

    #[test]
    fn a_dead_letter_keeps_every_property_but_what_rabbitmq_would_act_on() {
        let all = BasicProperties::default()
            .with_content_type("text/plain".into())
            .with_content_encoding("gzip".into())
            .with_delivery_mode(1)
            .with_priority(7)
            .with_correlation_id("correlation".into())
            .with_reply_to("reply".into())
            .with_message_id("id".into())
            .with_timestamp(99)
            .with_type("type".into())
            .with_app_id("app".into())
            .with_cluster_id("cluster".into());
        let expected = all.clone().with_delivery_mode(PERSISTENT);
        let came = all.with_expiration("1".into()).with_user_id("guest".into());
        let dead_letter = dead("a", came);
        let headers = dead_letter.properties.headers().clone().unwrap();
        assert_eq!(dead_letter.properties, expected.with_headers(headers.clone()));
        assert_eq!((text(&headers, EXPIRATION), text(&headers, USER_ID)), (Some("1"), Some("guest")));
    }

    #[test]
    fn a_dead_letter_keeps_all_headers_and_moves_those_that_would_route_it() {
        let list = || AMQPValue::FieldArray(vec![string("c")].into());
        let table = || AMQPValue::FieldTable(FieldTable::default());
        let mut came = FieldTable::default();
        let pairs: [(&str, &str, AMQPValue); 7] = [
            ("CC", "x-fanfare-cc", list()),
            ("BCC", "x-fanfare-bcc", list()),
            ("x-stream-offset", "x-fanfare-stream-offset", AMQPValue::LongLongInt(5)),
            ("x-key", "x-key", string("k")),
            ("theirs", "theirs", table()),
            ("nothing", "nothing", AMQPValue::Void),
            ("x-death", "x-death", list()),
        ];
        for (name, _, value) in &pairs {
            came.insert((*name).into(), value.clone());
        }
        let dead_letter = dead("a", BasicProperties::default().with_headers(came));
        let headers = dead_letter.properties.headers().clone().unwrap();
        for (_, name, value) in &pairs {
            assert_eq!(headers.inner().get(*name), Some(value), "{name}");
        }
        assert_eq!(headers.inner().len(), pairs.len() + 2, "{headers:?}");
    }

    /// Mended and sent again, it failed again.
    #[test]
    fn what_moves_takes_the_place_of_what_moved_when_it_failed_before() {
        let mut came = FieldTable::default();
        for (from, to) in MOVED {
            came.insert(from.into(), AMQPValue::LongLongInt(2));
            came.insert(to.into(), AMQPValue::LongLongInt(1));
        }
        let dead_letter = dead("a", BasicProperties::default().with_headers(came));
        let headers = dead_letter.properties.headers().clone().unwrap();
        for (from, to) in MOVED {
            assert_eq!(headers.inner().get(to), Some(&AMQPValue::LongLongInt(2)), "{to}");
            assert!(!headers.contains_key(from), "{from}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Whatever its message had. RabbitMQ would end the connection, and it would leave again over the next one.
        #[test]
        fn a_dead_letter_fits_into_a_frame_and_has_its_body_its_reason_and_its_topic(
            copies in prop::collection::vec(prop::sample::select(vec![1_usize, 40, 255, 3000, 131_000]), 0..4),
            headers in prop::collection::vec(prop::sample::select(vec![1_usize, 200, 4000, 131_000]), 0..20),
            names in prop::sample::select(vec![1_usize, 60, 251]),
            flaw in prop::sample::select(vec![1_usize, 66_000, 300_000]),
            text in prop::sample::select(vec![0_usize, 20, 255]),
            frame_max in prop::sample::select(vec![4096_usize, 8192, 131_072]),
        ) {
            let mut came = FieldTable::default();
            let copies: Vec<_> = copies.iter().map(|&len| string(&"ü".repeat(len.div_ceil(2)))).collect();
            for name in [COPIES, "BCC", OFFSET, MOVED_OFFSET, NUMBER, LEFT_OUT, REASON, TOPIC] {
                came.insert(name.into(), AMQPValue::FieldArray(copies.clone().into()));
            }
            for (n, len) in headers.into_iter().enumerate() {
                came.insert(format!("{n}{}", "h".repeat(names)).into(), string(&"z".repeat(len)));
            }
            let short = || ShortString::from("x".repeat(text));
            let sent = texts(&BasicProperties::default()).into_iter().fold(BasicProperties::default(), |sent, (_, with)| with(sent, short()));
            let sent = sent.with_expiration(short()).with_user_id(short()).with_priority(1).with_timestamp(1);
            let mut delivery = Delivery::mock(7, "fanfare".into(), short(), false, vec![b'1'; 9]);
            delivery.properties = sent.with_headers(came);
            let reason = Undeliverable::Copy("f".repeat(flaw));
            let dead_letter = of(message::receive(delivery, None, 10), &reason, "fanfare.dead".into());
            let fitted = numbered(&dead_letter.properties, 7, frame_max);
            let size = SPARE_BYTES + message_cost::of_frame(&fitted);
            prop_assert!(size <= frame_max, "{size}");
            prop_assert_eq!((&dead_letter.body[..], number(&fitted)), (&[b'1'; 9][..], Some(7)));
            let told = fitted.headers().clone().unwrap();
            for name in [REASON, TOPIC] {
                let said = message::text(&told, name);
                prop_assert!(said.is_some_and(|said| said.len() <= TEXT_BYTES_MAX), "{name}: {said:?}");
            }
        }
    }

    #[test]
    fn the_names_of_many_topics_are_said_once() {
        let many: Vec<_> = (0..1000).map(|n| format!("topic-{n}").into()).collect();
        let dead_letter = dead("topic-0", said(&many));
        let headers = dead_letter.properties.headers().clone().unwrap();
        assert!(text(&headers, TOPIC).unwrap().len() <= TEXT_BYTES_MAX);
        assert!(text(&headers, TOPICS).unwrap().ends_with("topic-999"));
    }

    #[test]
    fn headers_fit_into_the_frame_and_no_more_is_left_out_than_need_be() {
        let written = |properties: &BasicProperties| SPARE_BYTES + message_cost::of_frame(properties);
        let mut came = FieldTable::default();
        let others: [(&str, AMQPValue); 6] = [
            ("a", AMQPValue::Void),
            ("b", AMQPValue::Double(1.0)),
            ("c", AMQPValue::FieldArray(vec![string("c"), AMQPValue::ShortInt(1)].into())),
            ("d", AMQPValue::FieldTable(FieldTable::default())),
            ("e", AMQPValue::ByteArray(vec![1, 2].into())),
            ("f", AMQPValue::Boolean(true)),
        ];
        for (name, value) in &others {
            came.insert((*name).into(), value.clone());
        }
        for pad in (2000..2900).step_by(7) {
            came.insert("pad".into(), string(&"x".repeat(pad)));
            let sent = BasicProperties::default()
                .with_headers(came.clone())
                .with_message_id("id".into())
                .with_priority(1)
                .with_timestamp(1);
            let dead_letter = dead("a", sent).properties;
            let fitted = numbered(&dead_letter, 7, 4096);
            let (size, whole) = (written(&fitted), written(&numbered(&dead_letter, 7, usize::MAX)));
            assert!(size <= 4096, "{pad}: {size}");
            let headers = fitted.headers().clone().unwrap();
            let is_cut = headers.contains_key(LEFT_OUT);
            assert_eq!((headers.contains_key("pad"), is_cut), (whole <= 4096, whole > 4096), "{pad}");
            assert!(others.iter().all(|(name, value)| headers.inner().get(*name) == Some(value)));
            assert_eq!((number(&fitted), text(&headers, LEFT_OUT)), (Some(7), is_cut.then_some("pad")));
        }
    }
}
