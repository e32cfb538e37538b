//! A call as a message of AMQP.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

/// AMQP's number for messages that RabbitMQ need not write to a disk.
const TRANSIENT: u8 = 1;

/// The properties of the call of this number, which is of use for so long. `reply_to` is where it is answered.
pub(super) fn properties(
    number: u64,
    headers: Vec<(&'static str, Box<str>)>,
    limit: Duration,
    reply_to: Option<&str>,
) -> BasicProperties {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        table.insert(name.into(), AMQPValue::LongString(String::from(value).into()));
    }
    // With 0, RabbitMQ would drop it unless a consumer takes it at once.
    let millis = limit.as_millis().max(1);
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(TRANSIENT)
        .with_correlation_id(format!("{number:x}").into())
        .with_expiration(millis.to_string().into())
        .with_headers(table);
    match reply_to {
        Some(name) => properties.with_reply_to(name.into()),
        None => properties,
    }
}

/// The number of the call that a message is, or that it answers. None if the engine has not written it.
pub(super) fn number(properties: &BasicProperties) -> Option<u64> {
    let text = properties.correlation_id().as_ref()?.as_str();
    let number = u64::from_str_radix(text, 16).ok()?;
    // There are other ways to write a number.
    (format!("{number:x}") == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_says_where_and_until_when_it_is_answered() {
        let headers = vec![("x-user", "7".into())];
        let properties = properties(0xbeef, headers, Duration::from_millis(1500), Some("replies"));
        assert_eq!(number(&properties), Some(0xbeef));
        assert_eq!(properties.correlation_id().as_ref().map(|id| id.as_str()), Some("beef"));
        assert_eq!(properties.reply_to().as_ref().map(|name| name.as_str()), Some("replies"));
        assert_eq!(properties.expiration().as_ref().map(|time| time.as_str()), Some("1500"));
        assert_eq!(*properties.delivery_mode(), Some(1));
        let user = properties.headers().as_ref().and_then(|headers| headers.inner().get("x-user"));
        assert_eq!(user, Some(&AMQPValue::LongString("7".into())));
        let message = super::properties(1, Vec::new(), Duration::ZERO, None);
        assert_eq!(message.reply_to(), &None);
        assert_eq!(message.expiration().as_ref().map(|time| time.as_str()), Some("1"));
    }

    #[test]
    fn what_the_engine_has_not_written_is_the_number_of_no_call() {
        for text in ["", "+beef", "0beef", "BEEF", "beef ", "-1", "10000000000000000", "fanfare"] {
            let properties = BasicProperties::default().with_correlation_id(text.into());
            assert_eq!(number(&properties), None, "{text}");
        }
        assert_eq!(number(&BasicProperties::default()), None);
        let most = BasicProperties::default().with_correlation_id("ffffffffffffffff".into());
        assert_eq!(number(&most), Some(u64::MAX));
    }
}
