//! The JSON of a call.

use crate::codec::json::text::{embed, quote};
use crate::domain::codec::Codec;
use crate::domain::mail::{Ask, Call};

/// Bytes of a body besides those that [`Call::weight`] counts.
const NAMES_BYTES: usize = 128;

/// The JSON object that a backend is sent for a call, on one line. What is empty is left out, except the user. `with_meta`:
/// whether the backend is told what is for backends alone, except when a client connects, as nothing is known of it then.
///
/// It does not say of which kind the call is: by HTTP the backend's URL does, and by AMQP the routing key.
#[must_use]
pub fn body(call: &Call, with_meta: bool) -> Vec<u8> {
    let Call { reply_to, caller, ask, .. } = call;
    let mut object = Object::new(call.weight() + NAMES_BYTES);
    object.text("client", &caller.client);
    object.text("transport", caller.transport);
    object.text("protocol", protocol(reply_to.codec));
    object.text("encoding", "json");
    if let Ask::Connect { data, name, version, topics } = ask {
        object.json("data", data.as_deref());
        object.text("name", name);
        object.text("version", version);
        object.texts("channels", topics);
        return object.end();
    }
    object.text_even_if_empty("user", &caller.user);
    object.text("channel", ask.topic().unwrap_or_default());
    if let Ask::Rpc { method, .. } = ask {
        object.text("method", method);
    }
    object.json("data", data(ask));
    object.json("meta", caller.meta.as_deref().filter(|_| with_meta).map(str::as_bytes));
    object.end()
}

/// What the client has sent along.
pub(super) fn data(ask: &Ask) -> Option<&[u8]> {
    match ask {
        Ask::Rpc { data, .. } | Ask::Send { data } => Some(data),
        Ask::Connect { data, .. } | Ask::Subscribe { data, .. } => data.as_deref(),
        Ask::Publish(publish) => Some(&publish.data),
        Ask::Refresh | Ask::RefreshSubscription { .. } => None,
    }
}

/// The name of a client's codec.
fn protocol(codec: Codec) -> &'static str {
    match codec {
        Codec::Json => "json",
    }
}

/// A JSON object that is being written.
struct Object(Vec<u8>);

impl Object {
    fn new(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// A member that is a text, unless it is empty.
    fn text(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.text_even_if_empty(name, value);
        }
    }

    fn text_even_if_empty(&mut self, name: &str, value: &str) {
        self.name(name);
        quote(&mut self.0, value);
    }

    /// A member that is a list of texts, unless it is empty.
    fn texts(&mut self, name: &str, values: &[Box<str>]) {
        if values.is_empty() {
            return;
        }
        self.name(name);
        for (number, value) in values.iter().enumerate() {
            self.0.push(if number == 0 { b'[' } else { b',' });
            quote(&mut self.0, value);
        }
        self.0.push(b']');
    }

    /// A member that is JSON already, unless there is none.
    fn json(&mut self, name: &str, json: Option<&[u8]>) {
        if let Some(json) = json.filter(|json| !json.is_empty()) {
            self.name(name);
            embed(&mut self.0, json);
        }
    }

    fn name(&mut self, name: &str) {
        self.0.push(if self.0.is_empty() { b'{' } else { b',' });
        quote(&mut self.0, name);
        self.0.push(b':');
    }

    fn end(mut self) -> Vec<u8> {
        if self.0.is_empty() {
            self.0.push(b'{');
        }
        self.0.push(b'}');
        self.0
    }
}
