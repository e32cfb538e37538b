//! From a message's body to the JSON that stands in a publication, or the reason why there is none.

use std::borrow::Cow;

use crate::config::{BinaryPayloads, Limits, Namespace};
use crate::protocol::json::{self, Checker, JsonError};
use crate::protocol::topic::TopicError;

/// What a publisher says its body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// JSON: `application/json`, nothing at all, or something this engine does not know, which is taken if
    /// it is JSON.
    Json,
    /// `text/plain`, in UTF-8.
    Text,
    /// `application/octet-stream`.
    Binary,
}

impl Content {
    /// By the content type, without regard to case and parameters (RFC 9110, section 8.3.1).
    pub(super) fn of(content_type: &str) -> Self {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case("text/plain") {
            Self::Text
        } else if essence.eq_ignore_ascii_case("application/octet-stream") {
            Self::Binary
        } else {
            Self::Json
        }
    }
}

/// Why a message cannot be delivered. The text goes to the dead-letter exchange with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Undeliverable {
    #[error("the body is empty: nothing to publish")]
    Empty,
    #[error("the body has {len} bytes: at most {max} are allowed (publication_bytes)")]
    TooBig { len: usize, max: usize },
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error("the body is text/plain and not UTF-8 from byte {0} on")]
    NotUtf8(usize),
    #[error(
        "the body is application/octet-stream, which the topic's namespace refuses (binary = \"refuse\")"
    )]
    Binary,
    #[error(transparent)]
    Topic(#[from] TopicError),
    #[error(
        "the publication has {len} bytes with its topic: at most {max} fit into a frame (limits.frame_bytes)"
    )]
    LineTooLong { len: usize, max: usize },
}

/// Bytes of a publication's data in a namespace.
pub(super) fn size_limit(namespace: &Namespace, limits: &Limits) -> usize {
    if namespace.publication_bytes > 0 { namespace.publication_bytes } else { limits.publication_bytes }
}

/// The body as JSON, for whatever namespace: the look at every byte that each message gets once.
///
/// # Errors
/// Why it is none.
pub(super) fn as_json<'a>(
    checker: &mut Checker,
    body: &'a [u8],
    content: Content,
    depth_max: usize,
) -> Result<Cow<'a, [u8]>, Undeliverable> {
    if body.is_empty() {
        return Err(Undeliverable::Empty);
    }
    let mut data = Vec::new();
    match content {
        Content::Json => {
            checker.check(body, depth_max)?;
            return Ok(Cow::Borrowed(body));
        }
        Content::Text => {
            let text = simdutf8::compat::from_utf8(body);
            let text = text.map_err(|error| Undeliverable::NotUtf8(error.valid_up_to()))?;
            json::quote(&mut data, text);
        }
        Content::Binary => json::base64(&mut data, body),
    }
    Ok(Cow::Owned(data))
}

/// Whether a namespace takes such a body.
///
/// # Errors
/// Why not.
pub(super) fn admit(
    len: usize,
    content: Content,
    namespace: &Namespace,
    limits: &Limits,
) -> Result<(), Undeliverable> {
    let max = size_limit(namespace, limits);
    if len > max {
        return Err(Undeliverable::TooBig { len, max });
    }
    if content == Content::Binary && namespace.binary == BinaryPayloads::Refuse {
        return Err(Undeliverable::Binary);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_are_compared_without_case_and_parameters() {
        for (content_type, content) in [
            ("application/json", Content::Json),
            ("APPLICATION/JSON; x=1", Content::Json),
            ("", Content::Json),
            ("application/x-whatever", Content::Json),
            ("Text/Plain;charset=utf-8", Content::Text),
            ("application/octet-stream ", Content::Binary),
        ] {
            assert_eq!(Content::of(content_type), content, "{content_type}");
        }
    }

    #[test]
    fn every_kind_of_body_becomes_json_or_a_reason() {
        let mut checker = Checker::new();
        for (body, content, outcome) in [
            (&b"{\"a\": 1e400}"[..], Content::Json, Ok("{\"a\": 1e400}")),
            (b"say \"hi\"\n", Content::Text, Ok(r#""say \"hi\"\n""#)),
            (&[0, 255, 10], Content::Binary, Ok("\"AP8K\"")),
            (b"", Content::Json, Err(Undeliverable::Empty)),
            (b"", Content::Text, Err(Undeliverable::Empty)),
            (b"ok\xff", Content::Text, Err(Undeliverable::NotUtf8(2))),
            (b"[[[]]]", Content::Json, Err(Undeliverable::Json(JsonError::TooDeep(2)))),
        ] {
            let json = as_json(&mut checker, body, content, 2);
            let json = json.map(|json| String::from_utf8(json.into_owned()).unwrap());
            assert_eq!(json, outcome.map(str::to_owned), "{body:?}");
        }
        assert!(matches!(as_json(&mut checker, b"nope", Content::Json, 2), Err(Undeliverable::Json(_))));
    }

    #[test]
    fn a_namespace_says_what_it_takes() {
        let limits = Limits { publication_bytes: 10, ..Limits::default() };
        let default = Namespace::default();
        let own = Namespace { publication_bytes: 20, binary: BinaryPayloads::Base64, ..Namespace::default() };
        for (namespace, len, content, outcome) in [
            (&default, 10, Content::Json, Ok(())),
            (&default, 11, Content::Text, Err(Undeliverable::TooBig { len: 11, max: 10 })),
            (&default, 1, Content::Binary, Err(Undeliverable::Binary)),
            (&own, 20, Content::Binary, Ok(())),
            (&own, 21, Content::Json, Err(Undeliverable::TooBig { len: 21, max: 20 })),
        ] {
            assert_eq!(admit(len, content, namespace, &limits), outcome);
        }
    }
}
