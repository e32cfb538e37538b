//! From a message's body to a line: checked once, encoded once, whoever may be listening.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use crate::broker::backplane::Content;
use crate::config::{BinaryPayloads, Limits, Namespace};
use crate::protocol::json::{self, Checker, JsonError};
use crate::protocol::topic::{self, TopicError};

/// Why a message cannot be delivered: the text of the dead letter's reason.
#[derive(Debug, Error)]
pub(super) enum Undeliverable {
    /// The routing key, or an entry of `CC`, is no topic.
    #[error("{0}")]
    Topic(#[from] TopicError),
    /// The body is too large.
    #[error("the body has {0} bytes; at most {1} are allowed (limits.publication_bytes)")]
    TooLarge(usize, usize),
    /// The body is not what it should be.
    #[error("{0}")]
    Json(#[from] JsonError),
    /// `text/plain` that is no text.
    #[error("the body is text/plain but not UTF-8")]
    NotUtf8,
    /// Bytes where the namespace does not say what becomes of them.
    #[error(
        "the body is application/octet-stream, which this namespace refuses (binary = \"base64\" would send it)"
    )]
    Binary,
    /// Escaped or in base64 it does not fit into a frame.
    #[error("the encoded publication has {0} bytes; a frame has at most {1} (limits.frame_bytes)")]
    LineTooLong(usize, usize),
}

/// Checks bodies, with the memory that takes.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    checker: Checker,
}

impl Bodies {
    /// The body as JSON: byte for byte where it is JSON already.
    ///
    /// # Errors
    /// Why it cannot be delivered.
    pub(super) fn encode<'a>(
        &mut self,
        body: &'a [u8],
        content: Content,
        namespace: &Namespace,
        limits: &Limits,
    ) -> Result<Cow<'a, [u8]>, Undeliverable> {
        match content {
            Content::Json | Content::Other => {
                self.checker.check(body, limits.json_depth)?;
                Ok(Cow::Borrowed(body))
            }
            Content::Text => {
                let text = std::str::from_utf8(body).map_err(|_| Undeliverable::NotUtf8)?;
                let mut quoted = Vec::with_capacity(text.len() + 2);
                json::quote(&mut quoted, text);
                Ok(Cow::Owned(quoted))
            }
            Content::Binary if namespace.binary == BinaryPayloads::Base64 => {
                Ok(Cow::Owned(format!("\"{}\"", STANDARD.encode(body)).into_bytes()))
            }
            Content::Binary => Err(Undeliverable::Binary),
        }
    }
}

/// Whether a body of this size may be published to this topic.
///
/// # Errors
/// What is wrong with the name, or by how much the body is too large.
pub(super) fn check(
    name: &str,
    body: &[u8],
    namespace: &Namespace,
    limits: &Limits,
) -> Result<(), Undeliverable> {
    topic::check(name, limits.topic_bytes)?;
    let own_limit = Some(namespace.publication_bytes).filter(|&own| own > 0);
    let limit = own_limit.unwrap_or(limits.publication_bytes);
    if body.len() > limit { Err(Undeliverable::TooLarge(body.len(), limit)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_become_json_by_what_they_are_said_to_be() {
        let (refuse, limits) = (Namespace::default(), Limits::default());
        let base64 = Namespace { binary: BinaryPayloads::Base64, ..Namespace::default() };
        let mut bodies = Bodies::default();
        type Case<'a> = (&'a [u8], Content, &'a Namespace, Option<&'a [u8]>);
        let cases: [Case<'_>; 8] = [
            (b"{\"a\": 1e400}", Content::Json, &refuse, Some(b"{\"a\": 1e400}")),
            (b"[1]", Content::Other, &refuse, Some(b"[1]")),
            (b"plain", Content::Other, &refuse, None),
            (b"say \"hi\"\n", Content::Text, &refuse, Some(b"\"say \\\"hi\\\"\\n\"")),
            (b"\xff", Content::Text, &refuse, None),
            (b"\xff\x00", Content::Binary, &base64, Some(b"\"/wA=\"")),
            (b"\xff\x00", Content::Binary, &refuse, None),
            (b"", Content::Json, &refuse, None),
        ];
        for (body, content, namespace, expected) in cases {
            let json = bodies.encode(body, content, namespace, &limits);
            assert_eq!(json.as_deref().ok(), expected, "{body:?} {content:?}: {json:?}");
        }
    }

    #[test]
    fn a_namespace_may_allow_less() {
        let small = Namespace { publication_bytes: 4, ..Namespace::default() };
        let result = check("t", b"[1,2]", &small, &Limits::default());
        assert!(matches!(result, Err(Undeliverable::TooLarge(5, 4))));
    }
}
