//! Markers as AMQP messages: see [`trail`](super::trail).

use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::message::{OFFSET, text, whole_number};
use super::publisher::Letter;
use super::trail::{Claim, Marker};

const NONCE: &str = "x-fanfare-marker";
const NODE: &str = "x-fanfare-node";
const EPOCH: &str = "x-fanfare-epoch";
const ORIGIN: &str = "x-fanfare-origin";
/// Bytes of an epoch's name that a claim is believed with: clients are sent it with every position.
const EPOCH_BYTES_MAX: usize = 64;

/// A letter that puts a marker into the stream, and nowhere else: the default exchange routes by the
/// queue's name.
pub(super) fn letter(stream: &ShortString, marker: &Marker) -> Letter {
    let mut headers = FieldTable::default();
    headers.insert(NONCE.into(), hexadecimal(marker.nonce));
    headers.insert(NODE.into(), hexadecimal(marker.node));
    if let Some(Claim { epoch, origin }) = &marker.claim {
        headers.insert(EPOCH.into(), AMQPValue::LongString((**epoch).into()));
        if let Some(origin) = origin.and_then(|origin| i64::try_from(origin).ok()) {
            headers.insert(ORIGIN.into(), AMQPValue::LongLongInt(origin));
        }
    }
    Letter {
        exchange: "".into(),
        routing_key: stream.clone(),
        body: Vec::new(),
        properties: BasicProperties::default().with_headers(headers),
    }
}

/// The marker that a delivery is, if it is one: what comes by another exchange is a publication, whatever
/// its headers say.
pub(super) fn read(delivery: &Delivery) -> Option<Marker> {
    if !delivery.exchange.as_str().is_empty() {
        return None;
    }
    let headers = delivery.properties.headers().as_ref()?;
    let number = |name| u64::from_str_radix(text(headers, name)?, 16).ok();
    let epoch = text(headers, EPOCH).filter(|epoch| is_epoch(epoch));
    let origin = headers.inner().get(ORIGIN).and_then(whole_number);
    Some(Marker {
        nonce: number(NONCE)?,
        node: number(NODE)?,
        claim: epoch.map(|epoch| Claim { epoch: epoch.into(), origin }),
    })
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

    fn delivered(letter: Letter) -> Delivery {
        let Letter { exchange, routing_key, body, properties } = letter;
        let mut delivery = Delivery::mock(1, exchange, routing_key, false, body);
        delivery.properties = properties;
        delivery
    }

    fn claim(epoch: &str, origin: Option<u64>) -> Marker {
        Marker { nonce: u64::MAX, node: 3, claim: Some(Claim { epoch: epoch.into(), origin }) }
    }

    #[test]
    fn markers_survive_the_way_through_rabbitmq() {
        let stream = "fanfare".into();
        for marker in
            [Marker { nonce: 1, node: 0, claim: None }, claim("0a", None), claim("0a", Some(1 << 40))]
        {
            assert_eq!(read(&delivered(letter(&stream, &marker))), Some(marker));
        }
    }

    #[test]
    fn what_is_no_marker_of_ours_is_none() {
        let stream = "fanfare".into();
        let marker = claim("0a", Some(1));
        let mut by_an_exchange = letter(&stream, &marker);
        by_an_exchange.exchange = "fanfare".into();
        assert_eq!(read(&delivered(by_an_exchange)), None);
        let mut bare = letter(&stream, &marker);
        bare.properties = BasicProperties::default();
        assert_eq!(read(&delivered(bare)), None);
    }

    #[test]
    fn an_epoch_that_could_not_be_sent_to_clients_is_no_claim() {
        for epoch in ["", "a b", "\"", &"x".repeat(65)] {
            let marker = read(&delivered(letter(&"s".into(), &claim(epoch, None)))).unwrap();
            assert_eq!(marker.claim, None, "{epoch}");
        }
    }
}
