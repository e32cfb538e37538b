//! A call as a message of AMQP.

use super::request::{body, data};
use crate::domain::mail::{Ask, Call};

/// What a backend is sent by AMQP, besides what says where the answer goes.
#[derive(PartialEq, Eq)]
pub struct AmqpRequest {
    /// `rpc.<method>`, `send`, or `hook.<label>`.
    pub routing_key: Box<str>,
    /// Names and texts.
    pub headers: Vec<(&'static str, Box<str>)>,
    /// JSON.
    pub body: Vec<u8>,
}

/// A call as a message.
///
/// For a client's request or message, the body is what the client has sent, and headers say who it is: `x-client`, `x-user`
/// unless it is anonymous, and `x-meta` with `with_meta`. If these would have more than `headers_max` bytes, the body is
/// that of [`body`] instead, and the header `x-envelope` is `true`. For a hook, the body is always that of [`body`], and the
/// headers `x-client`, `x-user` and `x-topic` are there as far as they fit.
///
/// The routing key has at most 255 bytes if the method has at most 251.
#[must_use]
pub fn amqp_request(call: &Call, with_meta: bool, headers_max: usize) -> AmqpRequest {
    let caller = &call.caller;
    let known = |name, value: &str| (!value.is_empty()).then(|| (name, value.into()));
    let identity = [known("x-client", &caller.client), known("x-user", &caller.user)];
    let routing_key = match &call.ask {
        Ask::Rpc { method, .. } => format!("rpc.{method}"),
        Ask::Send { .. } => "send".to_owned(),
        ask => {
            let topic = known("x-topic", call.ask.topic().unwrap_or_default());
            let headers = fitting(identity.into_iter().flatten().chain(topic), headers_max);
            let routing_key = format!("hook.{}", ask.kind().label()).into();
            return AmqpRequest { routing_key, headers, body: body(call, with_meta) };
        }
    };
    let meta = caller.meta.as_ref().filter(|_| with_meta).map(|meta| ("x-meta", meta.clone()));
    let headers: Vec<_> = identity.into_iter().flatten().chain(meta).collect();
    let (headers, body) = if table_bytes(&headers) <= headers_max {
        (headers, data(&call.ask).unwrap_or_default().to_vec())
    } else {
        (vec![("x-envelope", "true".into())], body(call, with_meta))
    };
    AmqpRequest { routing_key: routing_key.into(), headers, body }
}

/// Those headers that have at most `most` bytes together. One that does not fit makes room for the next one.
fn fitting(
    headers: impl Iterator<Item = (&'static str, Box<str>)>,
    most: usize,
) -> Vec<(&'static str, Box<str>)> {
    let mut fitting = Vec::new();
    for header in headers {
        fitting.push(header);
        if table_bytes(&fitting) > most {
            fitting.pop();
        }
    }
    fitting
}

/// Bytes of headers in AMQP 0.9.1: the table's length, and for each the lengths of name and value, and the value's type.
fn table_bytes(headers: &[(&str, Box<str>)]) -> usize {
    4 + headers.iter().map(|(name, value)| 1 + name.len() + 1 + 4 + value.len()).sum::<usize>()
}

impl std::fmt::Debug for AmqpRequest {
    /// Without what clients have sent, and who they are.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let headers = self.headers.iter().map(|(name, _)| name);
        f.debug_struct("AmqpRequest")
            .field("routing_key", &self.routing_key)
            .field("headers", &headers.collect::<Vec<_>>())
            .field("body", &format_args!("{} bytes", self.body.len()))
            .finish()
    }
}
