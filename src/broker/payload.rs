//! Converts a message's body to the JSON of a publication, or says why it cannot.

mod compression;
mod hint;

use std::borrow::Cow;

use crate::base::printable::escaped;
use crate::codec::json::checker::{Checker, JsonError};
use crate::codec::json::client_info;
use crate::codec::json::text;
use crate::config::{BinaryPayloads, Limits, Namespace};
use crate::domain::topic::TopicError;

pub(super) use compression::Compression;
use hint::Hint;

/// What .NET's writers of UTF-8 put first. It is no part of the text (RFC 8259, section 8.1, lets a reader skip it).
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Media types that are never text, whatever a publisher means by them. A closed list, with what begins and what ends
/// others: anything else is taken if it is JSON.
const BINARY_TYPES: &[&str] = &[
    "application/octet-stream",
    "application/protobuf",
    "application/x-protobuf",
    "application/x-google-protobuf",
    "application/vnd.google.protobuf",
    "application/msgpack",
    "application/x-msgpack",
    "application/vnd.msgpack",
    "application/cbor",
    "application/bson",
    "application/avro",
    "application/x-avro",
    "avro/binary",
    "application/x-thrift",
    "application/x-java-serialized-object",
    "application/x-python-serialize",
    "application/gzip",
    "application/x-gzip",
    "application/zip",
    "application/pdf",
    "application/wasm",
];
const BINARY_FAMILIES: &[&str] = &["image/", "audio/", "video/", "font/"];
const BINARY_SUFFIXES: &[&str] = &["+protobuf", "+msgpack", "+cbor", "+avro"];

/// Bytes of a content type that a reason says.
const TYPE_BYTES_MAX: usize = 100;

/// What a publisher says its body is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// JSON: `application/json`, `application/*+json`, nothing at all, or something this engine does not know, which
    /// is taken if it is JSON.
    Json,
    /// `text/plain`, in UTF-8.
    Text,
    /// Of this type, which is never text, or is of such a family or has such a suffix.
    Binary(Box<str>),
}

impl Content {
    /// By the content type, without regard to case and parameters (RFC 9110, section 8.3.1).
    pub(super) fn of(content_type: &str) -> Self {
        let name = content_type.split(';').next().unwrap_or_default().trim();
        let essence = name.as_bytes();
        // What nearly all say.
        if essence.is_empty() || essence.eq_ignore_ascii_case(b"application/json") {
            return Self::Json;
        }
        if essence.eq_ignore_ascii_case(b"text/plain") {
            return Self::Text;
        }
        let is = |name: &&str| essence.eq_ignore_ascii_case(name.as_bytes());
        let begins = |name: &&str| {
            essence.get(..name.len()).is_some_and(|it| it.eq_ignore_ascii_case(name.as_bytes()))
        };
        let ends = |name: &&str| {
            let from = essence.len().saturating_sub(name.len());
            essence[from..].eq_ignore_ascii_case(name.as_bytes())
        };
        let is_binary = BINARY_TYPES.iter().any(is)
            || BINARY_FAMILIES.iter().any(begins)
            || BINARY_SUFFIXES.iter().any(ends);
        if !is_binary {
            return Self::Json;
        }
        let cut = name.char_indices().map(|(at, _)| at).find(|&at| at >= TYPE_BYTES_MAX);
        Self::Binary(name[..cut.unwrap_or(name.len())].into())
    }
}

/// Why a message cannot be delivered. The text goes to the dead-letter exchange with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Undeliverable {
    #[error("the body is empty: nothing to publish")]
    Empty,
    #[error("the body has {len} bytes: at most {max} are allowed (publication_bytes)")]
    TooBig { len: usize, max: usize },
    #[error(
        "the body is compressed ({encoding}) and becomes more than {max} bytes, which is all that is allowed (publication_bytes)"
    )]
    BecomesTooBig { encoding: &'static str, max: usize },
    #[error("the body is not what its content-encoding says, '{encoding}': {error}")]
    Corrupt { encoding: &'static str, error: String },
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error("the body is text/plain and not UTF-8 from byte {0} on")]
    NotUtf8(usize),
    #[error("{reason}; {hint}")]
    Hinted { reason: Box<Self>, hint: Hint },
    #[error(
        "the body is binary by its content-type ({}), which the topic's namespace refuses (binary = \"refuse\"; \
         \"json\" takes it if it is JSON, \"base64\" makes it a string)",
        escaped(.0)
    )]
    Binary(Box<str>),
    #[error(transparent)]
    Topic(#[from] TopicError),
    #[error("the routing key is not UTF-8, and so no topic; its bytes in hex: {0}")]
    RoutingKey(String),
    #[error("a routing key in the header CC is not UTF-8, and so no topic; its bytes in hex: {0}")]
    Copy(String),
    #[error("what came with the body cannot be used: {0}")]
    Lost(String),
    #[error("the header x-topics is {0}: it has to be a text with a topic per line, or a list of such names")]
    TopicsHeader(String),
    #[error("the header x-client-info is {0}")]
    ClientInfo(#[from] client_info::Unusable),
    #[error("the header x-client-info is not text in UTF-8")]
    ClientInfoHeader,
    #[error("the message has more than {max} topics (routing key, x-topics and CC together): send several")]
    TooManyTopics { max: usize },
    #[error(
        "the publication has {len} bytes with its topic: at most {max} fit into a frame (limits.frame_bytes)"
    )]
    LineTooLong { len: usize, max: usize },
}

impl Undeliverable {
    /// What kind of reason it is, for the log: one line per interval for each.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooBig { .. } | Self::BecomesTooBig { .. } | Self::LineTooLong { .. } => "too_big",
            Self::Corrupt { .. } => "content_encoding",
            Self::Json(_) => "not_json",
            Self::NotUtf8(_) => "not_utf8",
            Self::Hinted { reason, .. } => reason.kind(),
            Self::Binary(_) => "binary",
            Self::Topic(_) => "topic",
            Self::RoutingKey(_) | Self::Copy(_) => "routing_key",
            Self::Lost(_) => "unusable",
            Self::TopicsHeader(_) | Self::TooManyTopics { .. } => "topics_header",
            Self::ClientInfo(_) | Self::ClientInfoHeader => "client_info",
        }
    }

    /// Whether no topic gets the message: there is none, nobody knows what was meant, or there are too many of them.
    /// Without the client that published it, a message would look like one of a service.
    pub(super) fn concerns_all(&self) -> bool {
        matches!(
            self,
            Self::RoutingKey(_)
                | Self::Lost(_)
                | Self::TooManyTopics { .. }
                | Self::ClientInfo(_)
                | Self::ClientInfoHeader
        )
    }
}

/// Bytes of a publication's data in a namespace.
pub(super) fn size_limit(namespace: &Namespace, limits: &Limits) -> usize {
    if namespace.publication_bytes > 0 { namespace.publication_bytes } else { limits.publication_bytes }
}

/// A message's body, and what it becomes in its topics' namespaces: each form is made once, when it is asked for.
#[derive(Debug)]
pub(super) struct Body<'a> {
    came: &'a [u8],
    content: Content,
    compression: &'a Compression,
    /// Bytes that it may have once it is decoded.
    max: usize,
    depth_max: usize,
    json: Option<Result<Data<'a>, Undeliverable>>,
    base64: Option<Data<'a>>,
}

/// The JSON that stands in a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Data<'a> {
    pub(super) json: Cow<'a, [u8]>,
    /// What counts for `publication_bytes`: the bytes that it was made from, decoded.
    pub(super) len: usize,
}

impl<'a> Body<'a> {
    /// `max`: bytes that it may have once it is decoded, for whatever topic.
    pub(super) fn new(
        came: &'a [u8],
        content: Content,
        compression: &'a Compression,
        max: usize,
        depth_max: usize,
    ) -> Self {
        Self { came, content, compression, max, depth_max, json: None, base64: None }
    }

    /// As a namespace takes it.
    ///
    /// # Errors
    /// Why it does not.
    pub(super) fn in_namespace(
        &mut self,
        namespace: &Namespace,
        limits: &Limits,
        checker: &mut Checker,
    ) -> Result<&Data<'a>, Undeliverable> {
        let data = match (&self.content, namespace.binary) {
            _ if self.came.is_empty() => return Err(Undeliverable::Empty),
            (Content::Binary(name), BinaryPayloads::Refuse) => {
                return Err(Undeliverable::Binary(name.clone()));
            }
            (Content::Binary(_), BinaryPayloads::Base64) => {
                let came = self.came;
                self.base64.get_or_insert_with(|| base64(came))
            }
            (Content::Binary(_), BinaryPayloads::Json) | (Content::Json | Content::Text, _) => {
                if self.json.is_none() {
                    self.json = Some(self.to_json(checker));
                }
                let json = self.json.as_ref().expect("it was made");
                json.as_ref().map_err(Undeliverable::clone)?
            }
        };
        admit(data.len, namespace, limits)?;
        Ok(data)
    }

    /// The look at every byte that each message gets once.
    fn to_json(&self, checker: &mut Checker) -> Result<Data<'a>, Undeliverable> {
        let decoded = self.compression.decode(self.came, self.max)?;
        let text = without_mark(decoded);
        let checked = match self.content {
            _ if text.is_empty() => return Err(Undeliverable::Empty),
            Content::Text => quoted(&text),
            Content::Json | Content::Binary(_) => {
                checker.check(&text, self.depth_max).map_err(Undeliverable::from).map(|()| None)
            }
        };
        let len = text.len();
        match checked {
            Ok(None) => Ok(Data { json: text, len }),
            Ok(Some(json)) => Ok(Data { json: Cow::Owned(json), len }),
            Err(reason) => Err(match Hint::about(&text, self.compression, &reason) {
                Some(hint) => Undeliverable::Hinted { reason: Box::new(reason), hint },
                None => reason,
            }),
        }
    }
}

fn without_mark(text: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)),
        Cow::Owned(mut text) => {
            if text.starts_with(BYTE_ORDER_MARK) {
                text.drain(..BYTE_ORDER_MARK.len());
            }
            Cow::Owned(text)
        }
    }
}

fn quoted(text: &[u8]) -> Result<Option<Vec<u8>>, Undeliverable> {
    let text = simdutf8::compat::from_utf8(text);
    let text = text.map_err(|error| Undeliverable::NotUtf8(error.valid_up_to()))?;
    let mut json = Vec::new();
    text::quote(&mut json, text);
    Ok(Some(json))
}

fn base64(bytes: &[u8]) -> Data<'static> {
    let mut json = Vec::new();
    text::base64(&mut json, bytes);
    Data { json: Cow::Owned(json), len: bytes.len() }
}

/// Whether a namespace takes a publication of so many bytes.
///
/// # Errors
/// Why not.
pub(super) fn admit(len: usize, namespace: &Namespace, limits: &Limits) -> Result<(), Undeliverable> {
    let max = size_limit(namespace, limits);
    if len > max { Err(Undeliverable::TooBig { len, max }) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
