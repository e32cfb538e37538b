//! Reads the heads of requests for the API whose framing leaves no doubt, and leaves all others to hyper.
//!
//! Such a request is a POST of HTTP/1.1 with one `Content-Length` of digits alone, and with no
//! `Transfer-Encoding`, `Expect` or `Upgrade`. Both parsers are httparse, so they see the same head. A request that
//! the guard refuses, or whose path is no method of the API, is left to hyper as well: the answer is the same, and
//! is written once.

use std::net::IpAddr;

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use httparse::Status;

use crate::config::Control;
use crate::control::api::method_named;
use crate::control::envelope::ErrorMode;
use crate::control::guard;
use crate::stats::ApiMethod;

/// What every request for the API begins with.
const BEGINNING: &[u8] = b"POST /api/";

/// What a connection of HTTP/2 begins with (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The longest body that hyper refuses for its length; a longer one it refuses as if the head were too large.
const BODY_BYTES_MAX: u64 = u64::MAX - 2;

/// Fields that a head may have. hyper answers those with more.
const FIELDS_MAX: usize = 32;

/// What the input begins with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// Nothing, or a part of a head.
    Partial,
    /// The head of a request that may be carried out.
    Head(Shape),
    /// Something else.
    Foreign,
    /// What hyper would take, or refuse for another reason.
    Refused(Refused),
}

/// What is refused here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// A head whose rest does not come.
    BrokenOff,
    /// HTTP/2, on a connection that has spoken HTTP/1.1.
    LatePreface,
    /// A body longer than [`BODY_BYTES_MAX`].
    TooLarge,
    /// Both `Content-Length` and `Transfer-Encoding`. hyper takes it, drops the length, and closes after the answer.
    TwoFramings,
}

/// What is to know of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) head_bytes: usize,
    pub(super) body_bytes: usize,
    pub(super) method: ApiMethod,
    pub(super) mode: ErrorMode,
}

impl Shape {
    /// Bytes of the whole request.
    pub(super) fn request_bytes(&self) -> usize {
        self.head_bytes.saturating_add(self.body_bytes)
    }
}

#[derive(Debug)]
struct Head {
    bytes: Box<[u8]>,
    /// By which it was admitted. A reload may change the key.
    control: Control,
    shape: Shape,
    parts: Parts,
}

/// The heads of one connection. The latest is kept: in a pipeline, most are equal to the one before.
#[derive(Debug)]
pub(super) struct Heads {
    peer: IpAddr,
    bytes_max: usize,
    latest: Option<Head>,
}

impl Heads {
    /// Of a connection of `peer`, each with at most `bytes_max` bytes.
    pub(super) fn new(peer: IpAddr, bytes_max: usize) -> Self {
        Self { peer, bytes_max, latest: None }
    }

    /// The latest head as axum has it.
    pub(super) fn parts(&self) -> Option<Parts> {
        self.latest.as_ref().map(|latest| latest.parts.clone())
    }

    /// Looks at what `input` begins with.
    pub(super) fn read(&mut self, input: &[u8], control: &Control) -> Beginning {
        let is_latest = |latest: &&Head| input.starts_with(&latest.bytes) && latest.control == *control;
        if let Some(latest) = self.latest.as_ref().filter(is_latest) {
            return Beginning::Head(latest.shape);
        }
        if self.latest.is_some() && input.starts_with(PREFACE) {
            return Beginning::Refused(Refused::LatePreface);
        }
        if self.latest.is_some() && PREFACE.starts_with(input) {
            return Beginning::Partial;
        }
        let compared = BEGINNING.len().min(input.len());
        if input[..compared] != BEGINNING[..compared] {
            return Beginning::Foreign;
        }
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(input) {
            Ok(Status::Complete(len)) if len <= self.bytes_max => {
                if is_too_large(request.headers) {
                    return Beginning::Refused(Refused::TooLarge);
                }
                if has_two_framings(request.headers) {
                    return Beginning::Refused(Refused::TwoFramings);
                }
                match head(&request, &input[..len], self.peer, control) {
                    Some(head) => Beginning::Head(self.latest.insert(head).shape),
                    None => Beginning::Foreign,
                }
            }
            Ok(Status::Partial) if input.len() < self.bytes_max => Beginning::Partial,
            Ok(_) | Err(_) => Beginning::Foreign,
        }
    }
}

/// This head, if it is one of the API whose framing leaves no doubt, and if the guard admits it.
fn head(request: &httparse::Request<'_, '_>, bytes: &[u8], peer: IpAddr, control: &Control) -> Option<Head> {
    if request.method != Some("POST") || request.version != Some(1) {
        return None;
    }
    let uri: Uri = request.path?.parse().ok()?;
    let method = method_named(uri.path().strip_prefix("/api/")?);
    let headers = headers(request.headers)?;
    let body_bytes = body_bytes(&headers)?;
    if method == ApiMethod::Unknown || !guard::admits(control, peer, &uri, &headers) {
        return None;
    }
    let mode = ErrorMode::of(&headers);
    let mut request = Request::new(());
    (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (Method::POST, uri, headers);
    let (parts, ()) = request.into_parts();
    let shape = Shape { head_bytes: bytes.len(), body_bytes, method, mode };
    Some(Head { bytes: bytes.into(), control: control.clone(), shape, parts })
}

/// Whether the body is longer than [`BODY_BYTES_MAX`].
fn is_too_large(fields: &[httparse::Header<'_>]) -> bool {
    let lengths = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length = |field: &httparse::Header<'_>| std::str::from_utf8(field.value).ok()?.parse::<u64>().ok();
    lengths.filter_map(length).any(|length| length > BODY_BYTES_MAX)
}

/// Whether the end of the body can be read in two ways.
fn has_two_framings(fields: &[httparse::Header<'_>]) -> bool {
    let has = |name: HeaderName| fields.iter().any(|field| field.name.eq_ignore_ascii_case(name.as_str()));
    has(header::CONTENT_LENGTH) && has(header::TRANSFER_ENCODING)
}

fn headers(fields: &[httparse::Header<'_>]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_bytes(field.value).ok()?);
    }
    Some(headers)
}

/// The length of the body, if nothing else in the head has a part in the framing, or in what follows the answer.
fn body_bytes(headers: &HeaderMap) -> Option<usize> {
    if [header::TRANSFER_ENCODING, header::EXPECT, header::UPGRADE]
        .iter()
        .any(|name| headers.contains_key(name))
    {
        return None;
    }
    let stays = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"keep-alive");
    if !headers.get_all(header::CONNECTION).iter().all(stays) {
        return None;
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let (Some(length), None) = (lengths.next(), lengths.next()) else { return None };
    let digits = length.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "Host: localhost\r\n";

    fn heads() -> Heads {
        Heads::new(IpAddr::from([127, 0, 0, 1]), 8 << 10)
    }

    fn read(head: &str) -> Beginning {
        heads().read(head.as_bytes(), &Control::default())
    }

    fn publish(fields: &str) -> String {
        format!("POST /api/publish HTTP/1.1\r\n{HOST}{fields}\r\n")
    }

    #[test]
    fn a_plain_request_of_the_api_is_read() {
        let head =
            publish("Content-Length: 5\r\nConnection: Keep-Alive\r\nX-Centrifugo-Error-Mode: transport\r\n");
        let mut heads = heads();
        let pair = format!("{head}12345{head}");
        for at in [0, head.len() + 5] {
            let (method, mode) = (ApiMethod::Publish, ErrorMode::Transport);
            let shape = Shape { head_bytes: head.len(), body_bytes: 5, method, mode };
            assert_eq!(heads.read(&pair.as_bytes()[at..], &Control::default()), Beginning::Head(shape));
            assert_eq!(heads.parts().unwrap().headers.len(), 4);
        }
        for len in 0..head.len() {
            assert_eq!(heads.read(&head.as_bytes()[..len], &Control::default()), Beginning::Partial, "{len}");
        }
    }

    /// Above all, whatever two parsers might read in two ways.
    #[test]
    fn everything_else_is_left_to_hyper() {
        let length = "Content-Length: 5\r\n";
        let cases = [
            publish(""),
            publish("Transfer-Encoding: chunked\r\n"),
            publish(&format!("{length}{length}")),
            publish(&format!("{length}Content-Length: 6\r\n")),
            publish("Content-Length: 5, 5\r\n"),
            publish("Content-Length: +5\r\n"),
            publish("Content-Length: -1\r\n"),
            publish("Content-Length: 0x5\r\n"),
            publish("Content-Length:\r\n"),
            publish("Content-Length: 99999999999999999999999\r\n"),
            publish("Content-Length : 5\r\n"),
            publish("Content-Length: 1\r\n 5\r\n"),
            publish(&format!(" {length}")),
            publish(&format!("{length}Expect: 100-continue\r\n")),
            publish(&format!("{length}Upgrade: h2c\r\nConnection: Upgrade\r\n")),
            publish(&format!("{length}Connection: close\r\n")),
            publish(&format!("{length}Connection: keep-alive, close\r\n")),
            publish(&format!("{length}X: a\0b\r\n")),
            publish(length).replace("HTTP/1.1", "HTTP/1.0"),
            publish(length).replace("HTTP/1.1", "HTTP/2.0"),
            publish(length).replace("POST ", "post "),
            publish(length).replace("/api/publish", "/api/publish/"),
            publish(length).replace("/api/publish", "/api//publish"),
            publish(length).replace("/api/publish", "/api/nothing"),
            publish(length).replace("/api/publish", "/api/publis%68"),
            publish(length).replace("/api/publish", "http://localhost/api/publish"),
            publish(length).replace("localhost", "example.org"),
            publish(&format!("{length}Origin: http://example.org\r\n")),
            publish(&format!("{length}{}", "X: y\r\n".repeat(FIELDS_MAX))),
            publish(&format!("{length}X: {}\r\n", "x".repeat(8 << 10))),
            format!("POST /api/publish HTTP/1.1\r\nX: {}", "x".repeat(8 << 10)),
            "GET /health HTTP/1.1\r\n\r\n".to_owned(),
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        ];
        for head in cases {
            assert_eq!(read(&head), Beginning::Foreign, "{head:.200}");
        }
    }

    #[test]
    fn a_body_with_two_framings_is_refused() {
        let length = "Content-Length: 5\r\n";
        for fields in [
            format!("{length}Transfer-Encoding: chunked\r\n"),
            format!("transfer-encoding: identity\r\n{length}"),
            "Transfer-Encoding:\r\ncontent-length:\r\n".to_owned(),
        ] {
            assert_eq!(read(&publish(&fields)), Beginning::Refused(Refused::TwoFramings), "{fields}");
        }
    }

    #[test]
    fn the_key_counts_for_each_request() {
        let control = Control { api_key: "right".to_owned().into(), ..Control::default() };
        let mut heads = heads();
        let with = |key: &str| publish(&format!("Content-Length: 5\r\nX-API-Key: {key}\r\n"));
        for (key, is_admitted) in [("right", true), ("wrong", false), ("right", true)] {
            let beginning = heads.read(with(key).as_bytes(), &control);
            assert_eq!(matches!(beginning, Beginning::Head(_)), is_admitted, "{key}: {beginning:?}");
        }
    }
}
