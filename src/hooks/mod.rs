//! What calls look like to backends, and what the answers of backends mean: JSON, the same by HTTP and by AMQP.
//!
//! Requests and answers are those of Centrifugo's HTTP proxies, so that a backend written for these works unchanged. Not
//! offered are data in base64 in requests (`binary_encoding` there; answers may have it), and those members of results
//! that are about what this engine does not have: `labels`, `allow`, `server_tags_filter`, `cache_recover`, and of
//! publications `tags`, `idempotency_key`, `delta` and `version`. Members that are not known are passed over.
//!
//! Everything here is a function of its arguments: there is no socket, no clock and no thread. A call becomes bytes by
//! [`body`] and [`http_headers`], or by [`amqp_request`]; the bytes that come back go through [`Answers::read`], or, if it
//! is only a status of HTTP, through [`of_status`].

mod amqp;
mod answers;
mod data;
mod fault;
mod headers;
mod request;
mod status;
#[cfg(test)]
mod tests;

pub use amqp::{AmqpRequest, amqp_request};
pub use answers::Answers;
pub use headers::http_headers;
pub use request::body;
pub use status::of_status;
