//! Messages whose routing keys and properties are any bytes, as RabbitMQ lets them through.

use serde_json::json;

use super::script::Script;

/// Publishes them, made of PyPI's pika.
#[derive(Debug)]
pub struct BytesPublisher(Script);

impl BytesPublisher {
    /// Connects, by TLS with whomever it is if the URL says so.
    ///
    /// # Panics
    /// If it cannot.
    #[track_caller]
    pub fn connect(url: &str) -> Self {
        let mut script = Script::python("bytes.py", &[url]);
        script.next("the AMQP connection", |event| event["event"] == "connected");
        Self(script)
    }

    /// Publishes to the exchange `fanfare` and waits for the confirm. `properties` begin with their flags.
    ///
    /// # Panics
    /// If RabbitMQ does not confirm.
    #[track_caller]
    pub fn publish(&mut self, routing_key: &[u8], properties: &[u8], body: &str) {
        self.publish_to("fanfare", routing_key, properties, body);
    }

    /// Publishes to an exchange and waits for the confirm. `properties` begin with their flags.
    ///
    /// # Panics
    /// If RabbitMQ does not confirm.
    #[track_caller]
    pub fn publish_to(&mut self, exchange: &str, routing_key: &[u8], properties: &[u8], body: &str) {
        let (key, properties) = (hex(routing_key), hex(properties));
        self.0.tell(&json!({ "exchange": exchange, "key": key, "properties": properties, "body": body }));
        self.0.next("the confirm", |event| event["event"] == "confirmed");
    }
}

/// Bytes in hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A short string: its length, and its bytes.
pub fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).expect("at most 255 bytes")], text].concat()
}

/// A value with a length: `S` a long string, `x` bytes, `A` a list, `F` a table.
pub fn long(kind: u8, content: &[u8]) -> Vec<u8> {
    let len = u32::try_from(content.len()).expect("it fits into a frame");
    [&[kind], &len.to_be_bytes()[..], content].concat()
}

/// A header: its name and its value.
pub fn header(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&short(name)[..], value].concat()
}

/// Properties that are nothing but these headers.
pub fn headers(headers: &[Vec<u8>]) -> Vec<u8> {
    [&[0x20, 0], &long(b'F', &headers.concat())[1..]].concat()
}

/// Properties that are nothing but this text, by its flag: 15 for `content-type`, 10 for `correlation-id`, 7 for
/// `message-id`.
pub fn property(flag: u16, text: &[u8]) -> Vec<u8> {
    [&(1_u16 << flag).to_be_bytes()[..], &short(text)].concat()
}
