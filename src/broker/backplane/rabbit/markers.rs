//! Messages that nodes write into the stream for each other: markers (see [`lineage`](super::lineage)), and
//! orders to remove a history.

use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::base::clock::UnixTime;

use super::headers::OFFSET;
use super::lineage::{Claim, Marker};
use super::message::{text, whole_number};
use super::pending_publish::PendingPublish;

const NONCE: &str = "x-fanfare-marker";
const NODE: &str = "x-fanfare-node";
const EPOCH: &str = "x-fanfare-epoch";
const GENERATION: &str = "x-fanfare-generation";
const ORIGIN: &str = "x-fanfare-origin";
/// Up to where the stream is settled: see [`coverage`](super::coverage).
const SETTLED: &str = "x-fanfare-settled";
const REMOVE: &str = "x-fanfare-remove";
/// When it was written, in microseconds since 1970.
const TIME: &str = "x-fanfare-time";
/// Bytes of an epoch's name that a claim is believed with: clients are sent it with every position.
const EPOCH_BYTES_MAX: usize = 64;

/// The publish that writes a marker into the stream, and nowhere else: the default exchange routes by the
/// queue's name. It says when it is written, and up to where the stream is settled, if its writer knows. Readers ignore
/// headers of a marker that they do not know.
pub(super) fn publish_of(
    stream: &ShortString,
    marker: &Marker,
    settled: Option<u64>,
    now: UnixTime,
) -> PendingPublish {
    let mut headers = FieldTable::default();
    if let Some(settled) = settled.and_then(|settled| i64::try_from(settled).ok()) {
        headers.insert(SETTLED.into(), AMQPValue::LongLongInt(settled));
    }
    headers.insert(NONCE.into(), hexadecimal(marker.nonce));
    headers.insert(NODE.into(), hexadecimal(marker.node));
    if let Ok(now) = i64::try_from(now.as_micros()) {
        headers.insert(TIME.into(), AMQPValue::LongLongInt(now));
    }
    if let Some(Claim { epoch, generation, origin }) = &marker.claim {
        headers.insert(EPOCH.into(), AMQPValue::LongString((**epoch).into()));
        if *generation > 0 {
            headers.insert(GENERATION.into(), AMQPValue::LongLongInt((*generation).into()));
        }
        if let Some(origin) = origin.and_then(|origin| i64::try_from(origin).ok()) {
            headers.insert(ORIGIN.into(), AMQPValue::LongLongInt(origin));
        }
    }
    to_stream(stream, headers)
}

/// The publish by which all nodes remove the history of a topic.
pub(super) fn removal(stream: &ShortString, topic: &str) -> PendingPublish {
    let mut headers = FieldTable::default();
    headers.insert(REMOVE.into(), AMQPValue::LongString(topic.into()));
    to_stream(stream, headers)
}

fn to_stream(stream: &ShortString, headers: FieldTable) -> PendingPublish {
    PendingPublish {
        exchange: "".into(),
        routing_key: stream.clone(),
        body: Vec::new(),
        properties: BasicProperties::default().with_headers(headers),
    }
}

/// The marker that a delivery is, if it is one: what comes by another exchange is a publication, whatever
/// its headers say.
pub(super) fn read(delivery: &Delivery) -> Option<Marker> {
    let headers = headers(delivery)?;
    let number = |name| u64::from_str_radix(text(headers, name)?, 16).ok();
    Some(Marker { nonce: number(NONCE)?, node: number(NODE)?, claim: claim(headers) })
}

/// What a marker claims, if the claim is valid.
fn claim(headers: &FieldTable) -> Option<Claim> {
    let epoch = text(headers, EPOCH).filter(|epoch| is_epoch(epoch))?;
    let generation = match headers.inner().get(GENERATION) {
        Some(generation) => whole_number(generation)?.try_into().ok()?,
        None => 0,
    };
    let origin = headers.inner().get(ORIGIN).and_then(whole_number);
    Some(Claim { epoch: epoch.into(), generation, origin })
}

/// Up to where the stream is settled, if that is what a marker says.
pub(super) fn settled(delivery: &Delivery) -> Option<u64> {
    headers(delivery)?.inner().get(SETTLED).and_then(whole_number)
}

/// When a marker was written, by the clock of its writer: what stands before it in the stream is as old at least, to the
/// milliseconds that it was under way. None from a node of a release that did not say so.
pub(super) fn time(delivery: &Delivery) -> Option<UnixTime> {
    headers(delivery)?.inner().get(TIME).and_then(whole_number).map(UnixTime::from_micros)
}

/// The topic whose history is to be forgotten, if that is what a delivery says.
pub(super) fn removed(delivery: &Delivery) -> Option<&str> {
    text(headers(delivery)?, REMOVE)
}

/// The headers of what came from a node, and not by another exchange.
fn headers(delivery: &Delivery) -> Option<&FieldTable> {
    let is_direct = delivery.exchange.as_str().is_empty();
    delivery.properties.headers().as_ref().filter(|_| is_direct)
}

/// Where a delivery stands in the stream.
pub(super) fn offset(delivery: &Delivery) -> Option<u64> {
    delivery.properties.headers().as_ref()?.inner().get(OFFSET).and_then(whole_number)
}

fn is_epoch(text: &str) -> bool {
    (1..=EPOCH_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn hexadecimal(number: u64) -> AMQPValue {
    AMQPValue::LongString(format!("{number:016x}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime::from_micros(7);

    fn delivered(publish: PendingPublish) -> Delivery {
        let PendingPublish { exchange, routing_key, body, properties } = publish;
        let mut delivery = Delivery::mock(1, exchange, routing_key, false, body);
        delivery.properties = properties;
        delivery
    }

    fn claim(epoch: &str, generation: u32, origin: Option<u64>) -> Marker {
        let claim = Claim { epoch: epoch.into(), generation, origin };
        Marker { nonce: u64::MAX, node: 3, claim: Some(claim) }
    }

    #[test]
    fn markers_survive_the_way_through_rabbitmq() {
        let stream = "fanfare".into();
        for marker in [
            Marker { nonce: 1, node: 0, claim: None },
            claim("0a", 0, None),
            claim("0a", 1, None),
            claim("0a", u32::MAX, Some(1 << 40)),
        ] {
            assert_eq!(read(&delivered(publish_of(&stream, &marker, None, NOW))), Some(marker));
        }
    }

    #[test]
    fn a_marker_says_what_is_settled() {
        for said in [None, Some(0), Some(1 << 40)] {
            let delivery = delivered(publish_of(&"s".into(), &claim("0a", 0, None), said, NOW));
            assert_eq!((settled(&delivery), read(&delivery)), (said, Some(claim("0a", 0, None))));
        }
        let mut nonsense = publish_of(&"s".into(), &claim("0a", 0, None), Some(1), NOW);
        let mut headers = nonsense.properties.headers().clone().unwrap();
        headers.insert(SETTLED.into(), AMQPValue::LongLongInt(-1));
        nonsense.properties = nonsense.properties.with_headers(headers);
        assert_eq!(settled(&delivered(nonsense)), None);
    }

    /// How the release before `x-fanfare-settled` reads and writes markers. Both releases must understand each other.
    mod earlier {
        use super::*;

        /// Nonce and node, then what is claimed: epoch, generation and origin.
        type Marker = (u64, u64, Option<(String, u64, Option<u64>)>);

        pub(super) fn read(headers: &FieldTable) -> Option<Marker> {
            let text = |name: &str| match headers.inner().get(name) {
                Some(AMQPValue::LongString(text)) => String::from_utf8(text.as_bytes().to_vec()).ok(),
                _ => None,
            };
            let whole = |name: &str| match headers.inner().get(name) {
                Some(AMQPValue::LongLongInt(number)) => u64::try_from(*number).ok(),
                _ => None,
            };
            let number = |name| u64::from_str_radix(&text(name)?, 16).ok();
            let generation = whole("x-fanfare-generation").unwrap_or(0);
            let claim = text("x-fanfare-epoch").map(|epoch| (epoch, generation, whole("x-fanfare-origin")));
            Some((number("x-fanfare-marker")?, number("x-fanfare-node")?, claim))
        }

        pub(super) fn claim() -> PendingPublish {
            let mut headers = FieldTable::default();
            let text = |text: &str| AMQPValue::LongString(text.into());
            headers.insert("x-fanfare-marker".into(), text("ffffffffffffffff"));
            headers.insert("x-fanfare-node".into(), text("0000000000000003"));
            headers.insert("x-fanfare-epoch".into(), text("0a"));
            headers.insert("x-fanfare-generation".into(), AMQPValue::LongLongInt(2));
            headers.insert("x-fanfare-origin".into(), AMQPValue::LongLongInt(7));
            to_stream(&"s".into(), headers)
        }
    }

    #[test]
    fn markers_of_this_and_of_an_earlier_release_are_understood_by_both() {
        let old = delivered(earlier::claim());
        assert_eq!((read(&old), settled(&old)), (Some(claim("0a", 2, Some(7))), None));
        let ping = Marker { claim: None, ..claim("0a", 2, None) };
        for (marker, understood) in [
            (claim("0a", 2, Some(7)), Some(("0a".to_owned(), 2, Some(7)))),
            (claim("0a", 0, None), Some(("0a".to_owned(), 0, None))),
            (ping, None),
        ] {
            let new = publish_of(&"s".into(), &marker, Some(5), NOW).properties.headers().clone().unwrap();
            assert_eq!(
                earlier::read(&new),
                Some((u64::MAX, 3, understood)),
                "who settles does not change which node dead-letters"
            );
        }
    }

    #[test]
    fn a_marker_says_when_it_was_written_and_one_that_does_not_is_one_as_well() {
        let marker = claim("0a", 0, None);
        let mut delivery = delivered(publish_of(&"fanfare".into(), &marker, None, NOW));
        assert_eq!(time(&delivery), Some(NOW));
        let mut older = FieldTable::default();
        let headers = delivery.properties.headers().clone().unwrap();
        for (name, value) in headers.inner().iter().filter(|(name, _)| name.as_str() != TIME) {
            older.insert(name.clone(), value.clone());
        }
        delivery.properties = BasicProperties::default().with_headers(older);
        assert_eq!((time(&delivery), read(&delivery)), (None, Some(marker)));
    }

    #[test]
    fn orders_to_forget_survive_the_way_and_are_no_markers() {
        let delivery = delivered(removal(&"fanfare".into(), "kept:a"));
        assert_eq!((removed(&delivery), read(&delivery)), (Some("kept:a"), None));
        let mut by_an_exchange = removal(&"fanfare".into(), "kept:a");
        by_an_exchange.exchange = "fanfare".into();
        assert_eq!(removed(&delivered(by_an_exchange)), None);
    }

    #[test]
    fn what_is_no_marker_of_ours_is_none() {
        let stream = "fanfare".into();
        let marker = claim("0a", 0, Some(1));
        let mut by_an_exchange = publish_of(&stream, &marker, None, NOW);
        by_an_exchange.exchange = "fanfare".into();
        assert_eq!(read(&delivered(by_an_exchange)), None);
        let mut bare = publish_of(&stream, &marker, None, NOW);
        bare.properties = BasicProperties::default();
        assert_eq!(read(&delivered(bare)), None);
    }

    #[test]
    fn an_epoch_that_could_not_be_sent_to_clients_is_no_claim() {
        for epoch in ["", "a b", "\"", &"x".repeat(65)] {
            let marker =
                read(&delivered(publish_of(&"s".into(), &claim(epoch, 0, None), None, NOW))).unwrap();
            assert_eq!(marker.claim, None, "{epoch}");
        }
    }

    #[test]
    fn a_generation_that_makes_no_sense_is_no_claim() {
        let first = delivered(publish_of(&"s".into(), &claim("0a", 0, None), None, NOW));
        assert_eq!(read(&first).and_then(|marker| marker.claim).map(|claim| claim.generation), Some(0));
        for generation in [
            AMQPValue::LongLongInt(-1),
            AMQPValue::LongLongInt(1 << 32),
            AMQPValue::LongLongInt(i64::MAX),
            AMQPValue::LongString("1".into()),
        ] {
            let mut marker = publish_of(&"s".into(), &claim("0a", 1, None), None, NOW);
            let mut headers = marker.properties.headers().clone().unwrap();
            headers.insert(GENERATION.into(), generation.clone());
            marker.properties = marker.properties.with_headers(headers);
            assert_eq!(read(&delivered(marker)).unwrap().claim, None, "{generation:?}");
        }
    }
}
