//! A client of HTTP/1.1 (RFC 9112), every part of whose requests is bounded in time and in bytes.
//!
//! [`Client`] is for the control thread's few requests: one connection for each. The [`Caller`] sends calls to backends, on a
//! thread of its own: connections are kept, and no request is sent twice.
//!
//! Redirects are not followed. Whoever configures a URL trusts that host alone, and an answer from elsewhere, or without
//! TLS, must not take its place. Compressed answers are not asked for.

mod caller;
mod client;
mod connector;
mod error;
mod pool;
mod target;
mod targets;
mod tls;
#[cfg(test)]
mod tests;

use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use url::Url;

pub use caller::{AnswerReceiver, CallSender, Caller, HttpAnswer, HttpCall, Reader, caller};
pub use client::{Client, Limits};
pub use error::{AuthoritiesError, RequestError};
pub use target::{HttpTarget, TargetError};
pub use targets::{HttpTargets, TargetsError};

/// Bytes of an answer's head, at most.
const HEAD_BYTES: usize = 64 << 10;

/// The value of `User-Agent`.
const AGENT: &str = concat!("fanfare/", env!("CARGO_PKG_VERSION"));

/// The value of `Host` (RFC 9110, section 7.2).
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The target of a request, in the form of an origin (RFC 9112, section 3.2.1).
fn path(url: &Url) -> String {
    url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()))
}

/// Takes a body, of at most so many bytes.
async fn body(body: &mut Incoming, most: usize) -> Result<Vec<u8>, RequestError> {
    if body.size_hint().lower() > most as u64 {
        return Err(RequestError::TooLarge(most));
    }
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(RequestError::Http)?;
        let Some(data) = frame.data_ref() else { continue };
        if bytes.len() + data.len() > most {
            return Err(RequestError::TooLarge(most));
        }
        bytes.extend_from_slice(data);
    }
    Ok(bytes)
}
