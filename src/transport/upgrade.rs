//! From HTTP to WebSocket: a request's head in, the answer out (RFC 6455, section 4.2).
//!
//! tungstenite parses the request and writes the accepting answer. This module adds what tungstenite leaves
//! to others: limits, refusals as proper HTTP answers that say what to do instead, origins, and the choice of
//! a sub-protocol.
//!
//! Nothing is parsed before the blank line that ends the head, so a head that comes byte by byte is not
//! parsed again and again. Bytes that cannot become HTTP are refused at once.

use std::borrow::Cow;

use memchr::memchr_iter;
use tungstenite::error::{CapacityError, Error, ProtocolError};
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server::{Request, create_response, write_response};
use tungstenite::http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::origin::{HostPort, Origin, OriginPattern};
use super::preamble::{begins_with_proxy_preamble, may_become_http};
use super::refusal::Refusal;
use super::websocket::extension::{self, Agreement, Deflate};
use crate::base::printable::cut;

/// The sub-protocol that this engine speaks.
const JSON_PROTOCOL: &str = "centrifuge-json";
/// The one that it does not.
const PROTOBUF_PROTOCOL: &str = "centrifuge-protobuf";

/// Whom to let in.
#[derive(Clone, Debug)]
pub struct UpgradePolicy {
    /// The path of the endpoint, such as `/connection/websocket`.
    pub path: String,
    /// Bytes that a request's head may have, its blank line included.
    pub head_bytes: usize,
    /// Origins whose pages may connect besides those of the same host.
    pub allowed_origins: Vec<OriginPattern>,
    /// The port of the live page: a page of the same host and this port may connect, too.
    pub page_port: u16,
    /// Whether only programs of this host reach us, and need no key. Then "the same host" means a name of
    /// loopback, as whoever owns another name can make it resolve to this host (DNS rebinding).
    pub open_on_loopback: bool,
    /// Whether messages may be compressed (RFC 7692), for clients that offer it.
    pub deflate: bool,
}

/// What becomes of a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// The head is not whole: ask again, with the same bytes and more.
    Incomplete,
    /// It is a WebSocket from here on.
    Accepted {
        /// How many bytes of the input were the head. What follows them is frames.
        consumed: usize,
        /// The answer to send.
        response: Vec<u8>,
        /// Whether the client wants ping frames of WebSocket, and none of the client protocol's.
        native_pings: bool,
        /// Who may compress messages.
        deflate: Deflate,
    },
    /// It is not: the answer is to be sent, and the connection to be closed.
    Refused(Refusal),
}

/// What a client's request says of itself, for fields of a log: bounded, and as the client wrote it. The log's format
/// escapes what could look like another line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Described {
    /// Its target without the query, in which there may be a token.
    pub path: Option<String>,
    /// Its `Origin` header.
    pub origin: Option<String>,
}

/// Characters of a path or an origin in a log.
const DESCRIBED_MAX: usize = 100;

/// Judges the beginning of a connection, `head`, which may reach beyond the head's end.
#[must_use]
pub fn upgrade(head: &[u8], policy: &UpgradePolicy) -> Upgrade {
    match judge(head, policy) {
        Ok(upgrade) => upgrade,
        Err(refusal) => Upgrade::Refused(refusal),
    }
}

/// What the request that begins with `head`, whole or not, says of itself.
#[must_use]
pub fn describe(head: &[u8]) -> Described {
    // What stands at a request's path there is something else.
    if begins_with_proxy_preamble(head) {
        return Described::default();
    }
    let head = &head[..end_of_head(head).unwrap_or(head.len())];
    let line = head.split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii();
    let target = line.split(|&byte| byte == b' ').nth(1);
    let path = target.and_then(|target| target.split(|&byte| byte == b'?').next());
    let shown = |bytes| cut(bytes, DESCRIBED_MAX);
    Described { path: path.map(shown), origin: origin(head).map(shown) }
}

/// The `Origin` header of the request that begins with `head`, as it came.
#[must_use]
pub fn origin(head: &[u8]) -> Option<&[u8]> {
    let mut lines = head.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    lines.find_map(|line| {
        let (name, value) = line.split_at_checked("origin:".len())?;
        name.eq_ignore_ascii_case(b"origin:").then_some(value.trim_ascii())
    })
}

fn judge(head: &[u8], policy: &UpgradePolicy) -> Result<Upgrade, Refusal> {
    if begins_with_proxy_preamble(head) {
        return Err(Refusal::ProxyPreamble);
    }
    if !may_become_http(head) {
        return Err(Refusal::NotHttp);
    }
    let Some(consumed) = end_of_head(head) else {
        return if head.len() < policy.head_bytes { Ok(Upgrade::Incomplete) } else { Err(Refusal::LongHead) };
    };
    if consumed > policy.head_bytes {
        return Err(Refusal::LongHead);
    }
    let mut request = parse(&head[..consumed])?;
    check_endpoint(&request, policy)?;
    let host = check_handshake(request.headers())?;
    check_origin(request.headers(), &host, policy)?;
    let protocol = choose_protocol(&request)?;
    let agreement = if policy.deflate { agree(request.headers()) } else { None };
    let deflate = agreement.as_ref().map_or(Deflate::Off, |agreement| agreement.deflate);
    let response = accept(&mut request, protocol, agreement)?;
    let native_pings = asks_for(&request, "cf_ws_frame_ping_pong", "true");
    Ok(Upgrade::Accepted { consumed, response, native_pings, deflate })
}

/// `head` with what its query must not hold written as it must be (RFC 3986, section 3.4). Some clients send JSON
/// there as it is; nobody is harmed by it, as nothing is taken from a query but words.
fn with_query_encoded(head: &[u8]) -> Cow<'_, [u8]> {
    let end_of_line = memchr::memchr(b'\n', head).unwrap_or(head.len());
    let Some(query) = memchr::memchr(b'?', &head[..end_of_line]) else { return Cow::Borrowed(head) };
    let must_encode = |byte: u8| matches!(byte, b'"' | b'<' | b'>');
    if !head[query..end_of_line].iter().any(|&byte| must_encode(byte)) {
        return Cow::Borrowed(head);
    }
    let mut encoded = head[..query].to_vec();
    for &byte in &head[query..end_of_line] {
        match must_encode(byte) {
            true => encoded.extend_from_slice(format!("%{byte:02X}").as_bytes()),
            false => encoded.push(byte),
        }
    }
    encoded.extend_from_slice(&head[end_of_line..]);
    Cow::Owned(encoded)
}

/// Where the head ends, which is after its first blank line. A line may end without carriage return
/// (RFC 9112, section 2.2).
fn end_of_head(head: &[u8]) -> Option<usize> {
    memchr_iter(b'\n', head).find_map(|at| match &head[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

fn parse(head: &[u8]) -> Result<Request, Refusal> {
    match Request::try_parse(&with_query_encoded(head)) {
        Ok(Some((_, request))) => Ok(request),
        Err(Error::Protocol(ProtocolError::WrongHttpMethod)) => Err(Refusal::OtherMethod),
        Err(Error::Protocol(ProtocolError::WrongHttpVersion)) => Err(Refusal::OtherHttp),
        Err(Error::Capacity(CapacityError::TooManyHeaders)) => Err(Refusal::ManyHeaders),
        Ok(None) | Err(_) if has_right_request_line(head) => Err(Refusal::BadHeader),
        Ok(None) | Err(_) => Err(Refusal::NotHttp),
    }
}

/// Whether the request would be one without its headers.
fn has_right_request_line(head: &[u8]) -> bool {
    let line = head.split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii_end();
    let alone = [line, b"\r\n\r\n"].concat();
    matches!(Request::try_parse(&with_query_encoded(&alone)), Ok(Some(_)))
}

fn check_endpoint(request: &Request, policy: &UpgradePolicy) -> Result<(), Refusal> {
    if request.uri().path() == policy.path { Ok(()) } else { Err(Refusal::OtherPath) }
}

/// The headers that make a request an opening handshake (RFC 6455, section 4.2.1). The host that it asks for.
fn check_handshake(headers: &HeaderMap) -> Result<HostPort, Refusal> {
    let host = single(headers, header::HOST).and_then(HostPort::parse).ok_or(Refusal::BadHost)?;
    let is_upgrade = tokens(headers, header::CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"))
        && tokens(headers, header::UPGRADE).any(|token| token.eq_ignore_ascii_case("websocket"));
    if !is_upgrade {
        return Err(Refusal::NoUpgrade);
    }
    // What one side takes for a body, and the other for frames, is how requests are smuggled.
    let has_body = headers.get_all(header::CONTENT_LENGTH).iter().any(|length| length != "0");
    if has_body || headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(Refusal::Body);
    }
    if single(headers, header::SEC_WEBSOCKET_VERSION) != Some("13") {
        return Err(Refusal::OtherVersion);
    }
    single(headers, header::SEC_WEBSOCKET_KEY).map(|_| host).ok_or(Refusal::BadKey)
}

/// Browsers say which page opens a connection; other clients say nothing, and need not (RFC 6455, section
/// 10.2). A page of the same host and port may, by whatever scheme it came: a TLS proxy may stand between.
///
/// Any web page can put another one into a sandbox, where its origin is `null`: so that is let in only if the
/// operator says so, on loopback as well.
fn check_origin(headers: &HeaderMap, host: &HostPort, policy: &UpgradePolicy) -> Result<(), Refusal> {
    if !headers.contains_key(header::ORIGIN) || policy.allowed_origins.iter().any(OriginPattern::is_any) {
        return Ok(());
    }
    let origin = single(headers, header::ORIGIN).and_then(Origin::parse).ok_or(Refusal::ForeignOrigin)?;
    let is_ours = || origin.is_of(host) || origin.is_of(&host.at_port(policy.page_port));
    let is_own = || is_ours() && (!policy.open_on_loopback || host.is_loopback());
    if policy.allowed_origins.iter().any(|allowed| allowed.matches(&origin)) || is_own() {
        return Ok(());
    }
    match origin {
        Origin::Null | Origin::File => Err(Refusal::OpaqueOrigin),
        Origin::Page { .. } => Err(Refusal::ForeignOrigin),
    }
}

/// The sub-protocol for the answer. None is fine, and so is an offer of strange ones: the client gets none
/// and decides for itself (RFC 6455, section 4.2.2).
fn choose_protocol(request: &Request) -> Result<Option<HeaderValue>, Refusal> {
    if asks_for(request, "format", "protobuf") || asks_for(request, "cf_protocol", "protobuf") {
        return Err(Refusal::Protobuf);
    }
    let offers = |protocol| {
        tokens(request.headers(), header::SEC_WEBSOCKET_PROTOCOL).any(|offered| offered == protocol)
    };
    if offers(JSON_PROTOCOL) {
        Ok(Some(HeaderValue::from_static(JSON_PROTOCOL)))
    } else if offers(PROTOBUF_PROTOCOL) {
        Err(Refusal::Protobuf)
    } else {
        Ok(None)
    }
}

/// What the client and we can agree on of what it offers to do with messages.
fn agree(headers: &HeaderMap) -> Option<Agreement> {
    let offers = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS).iter();
    extension::agree(offers.filter_map(|value| value.to_str().ok()))
}

/// The answer that makes it a WebSocket. tungstenite looks at the first Connection header only, and takes
/// one token in Upgrade; both were judged in full before, so it is given what it looks for, and only the key
/// is left to be wrong.
fn accept(
    request: &mut Request,
    protocol: Option<HeaderValue>,
    agreement: Option<Agreement>,
) -> Result<Vec<u8>, Refusal> {
    let headers = request.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let mut response = create_response(request).map_err(|_| Refusal::BadKey)?;
    if let Some(protocol) = protocol {
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    if let Some(agreement) = agreement {
        let answer = HeaderValue::from_str(&agreement.answer).expect("names and numbers");
        response.headers_mut().insert(header::SEC_WEBSOCKET_EXTENSIONS, answer);
    }
    let mut bytes = Vec::new();
    write_response(&mut bytes, &response).expect("HTTP/1.1 and ASCII headers, written to memory");
    Ok(bytes)
}

/// The value of a header that must not be repeated.
fn single(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// The elements of a header that holds a list and may be repeated. Some may be empty (RFC 9110, section
/// 5.6.1), which is no token that anybody looks for.
fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(str::trim)
}

/// Whether the query has `key=value`.
fn asks_for(request: &Request, key: &str, value: &str) -> bool {
    let query = request.uri().query().unwrap_or_default();
    query.split('&').any(|pair| pair.split_once('=') == Some((key, value)))
}

#[cfg(test)]
mod tests;
