//! From HTTP to WebSocket: a request's head in, the answer out (RFC 6455, section 4.2).
//!
//! Limits, refusals as proper HTTP answers that say what to do instead, origins, and the choice of a sub-protocol. The
//! request is parsed in place and its answer written at once: connecting is what every client does after an outage, and
//! tungstenite's own handshake makes a map of the headers on the way, and took twice as many instructions.
//!
//! Nothing is parsed before the blank line that ends the head, so a head that comes byte by byte is not
//! parsed again and again. Bytes that cannot become HTTP are refused at once.

use std::borrow::Cow;
use std::mem::MaybeUninit;

use tungstenite::handshake::derive_accept_key;

use super::credential::{Credential, CredentialPlaces};
use super::origin::{HostPort, Origin, OriginPattern};
use super::preamble::{begins_with_proxy_preamble, may_become_http};
use super::refusal::Refusal;
use super::request::{HEADERS_MAX, HeadError, RequestHead, end_of_head};
use super::websocket::extension::{self, Agreement, Deflate};
use crate::base::printable::cut;
use crate::domain::codec::Codec;

/// The sub-protocols of the codecs that this engine speaks, the preferred one first.
const PROTOCOLS: [(&str, Codec); Codec::ALL.len()] = [("centrifuge-json", Codec::Json)];
/// The sub-protocol of a codec that it does not speak.
const PROTOBUF_PROTOCOL: &str = "centrifuge-protobuf";

/// The header in which both sides name extensions.
const EXTENSIONS: &str = "sec-websocket-extensions";
/// Bytes of an answer without extensions, and some more.
const ANSWER_BYTES: usize = 192;

/// Which requests become WebSockets.
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
    /// Whether only programs of this host can connect, and need no key. Then only names of loopback count as the same host,
    /// as the owner of any other name can make it resolve to this host (DNS rebinding).
    pub open_on_loopback: bool,
    /// Whether messages may be compressed (RFC 7692), for clients that offer it.
    pub deflate: bool,
    /// Where a request may have a token.
    pub credentials: CredentialPlaces,
}

/// What a request's head makes of its connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// The head is not whole: call again with the same bytes and more.
    Incomplete,
    /// It is a WebSocket from here on.
    Accepted {
        /// Bytes of the head. Frames follow it.
        consumed: usize,
        /// The answer to send.
        response: Vec<u8>,
        /// The client's codec.
        codec: Codec,
        /// Whether the client wants ping frames of WebSocket, and none of the client protocol's.
        native_pings: bool,
        /// Who may compress messages.
        deflate: Deflate,
        /// The token that came with the request.
        credential: Option<Credential>,
    },
    /// It is refused: the answer is to be sent, and the connection to be closed.
    Refused(Refusal),
}

/// Parts of a request for a log: of bounded length, and as the client wrote them. The log's format escapes them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Described {
    /// Its target without the query, in which there may be a token.
    pub path: Option<String>,
    /// Its `Origin` header.
    pub origin: Option<String>,
}

/// Characters of a path or an origin in a log.
const DESCRIBED_MAX: usize = 100;

/// Decides about the request that `head` begins with. `head` may have bytes beyond the request's head.
#[must_use]
pub fn upgrade(head: &[u8], policy: &UpgradePolicy) -> Upgrade {
    match judge(head, policy) {
        Ok(upgrade) => upgrade,
        Err(refusal) => Upgrade::Refused(refusal),
    }
}

/// Describes the request that `head` begins with, whole or not.
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
    header_lines(head).find(|(name, _)| name.eq_ignore_ascii_case(b"origin")).map(|(_, value)| value)
}

/// The names and values of the headers of the request that begins with `head`, which was accepted.
pub fn header_lines(head: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let lines = head.split(|&byte| byte == b'\n').skip(1).map(<[u8]>::trim_ascii);
    lines.take_while(|line| !line.is_empty()).filter_map(|line| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        Some((&line[..colon], line[colon + 1..].trim_ascii()))
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
    let (head, mut room) =
        (with_query_encoded(&head[..consumed]), [const { MaybeUninit::uninit() }; HEADERS_MAX]);
    let request = RequestHead::parse(&head, &mut room).map_err(|error| refusal(error, &head))?;
    check_endpoint(&request, policy)?;
    let (host, key) = check_handshake(&request)?;
    check_origin(&request, &host, policy)?;
    let (protocol, codec) = choose_protocol(&request)?;
    let agreement = if policy.deflate { extension::agree(request.texts(EXTENSIONS)) } else { None };
    let deflate = agreement.as_ref().map_or(Deflate::Off, |agreement| agreement.deflate);
    check_key(key)?;
    let credential = Credential::of(&request, &policy.credentials);
    let response = accept(key, protocol, agreement.as_ref());
    let native_pings = request.asks_for("cf_ws_frame_ping_pong", "true");
    Ok(Upgrade::Accepted { consumed, response, codec, native_pings, deflate, credential })
}

/// `head` with what its query must not hold written as it must be (RFC 3986, section 3.4). Some clients send JSON
/// there as it is. That does no harm, as only words are taken from a query.
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

/// Why a request that cannot be parsed is refused.
fn refusal(error: HeadError, head: &[u8]) -> Refusal {
    match error {
        HeadError::Method => Refusal::OtherMethod,
        HeadError::Version => Refusal::OtherHttp,
        HeadError::ManyHeaders => Refusal::ManyHeaders,
        HeadError::Malformed if has_right_request_line(head) => Refusal::BadHeader,
        HeadError::Malformed => Refusal::NotHttp,
    }
}

/// Whether the request would be one without its headers.
fn has_right_request_line(head: &[u8]) -> bool {
    let line = head.split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii_end();
    let alone = [line, b"\r\n\r\n"].concat();
    RequestHead::parse(&alone, &mut [const { MaybeUninit::uninit() }; HEADERS_MAX]).is_ok()
}

fn check_endpoint(request: &RequestHead<'_, '_>, policy: &UpgradePolicy) -> Result<(), Refusal> {
    if request.path() == policy.path { Ok(()) } else { Err(Refusal::OtherPath) }
}

/// The headers that make a request an opening handshake (RFC 6455, section 4.2.1). The host that it asks for, and its key.
fn check_handshake<'b>(request: &RequestHead<'_, 'b>) -> Result<(HostPort, &'b str), Refusal> {
    let host = request.single("host").and_then(HostPort::parse).ok_or(Refusal::BadHost)?;
    let is_upgrade = request.tokens("connection").any(|token| token.eq_ignore_ascii_case("upgrade"))
        && request.tokens("upgrade").any(|token| token.eq_ignore_ascii_case("websocket"));
    if !is_upgrade {
        return Err(Refusal::NoUpgrade);
    }
    // What one side takes for a body, and the other for frames, is how requests are smuggled.
    if request.all("content-length").any(|length| length != b"0") || request.has("transfer-encoding") {
        return Err(Refusal::Body);
    }
    if request.single("sec-websocket-version") != Some("13") {
        return Err(Refusal::OtherVersion);
    }
    let key = request.single("sec-websocket-key").ok_or(Refusal::BadKey)?;
    Ok((host, key))
}

/// Browsers say which page opens a connection; other clients say nothing, and need not (RFC 6455, section
/// 10.2). A page of the same host and port may, by whatever scheme it came: a TLS proxy may stand between.
///
/// Any web page can put another one into a sandbox, where its origin is `null`: so that is let in only if the
/// operator says so, on loopback as well.
fn check_origin(
    request: &RequestHead<'_, '_>,
    host: &HostPort,
    policy: &UpgradePolicy,
) -> Result<(), Refusal> {
    if !request.has("origin") || policy.allowed_origins.iter().any(OriginPattern::is_any) {
        return Ok(());
    }
    let origin = request.single("origin").and_then(Origin::parse).ok_or(Refusal::ForeignOrigin)?;
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

/// The sub-protocol for the answer, and its codec. A client that offers none, or only unknown ones, is answered without
/// one, decides for itself (RFC 6455, section 4.2.2), and is spoken to in the default codec.
fn choose_protocol(request: &RequestHead<'_, '_>) -> Result<(Option<&'static str>, Codec), Refusal> {
    if request.asks_for("format", "protobuf") || request.asks_for("cf_protocol", "protobuf") {
        return Err(Refusal::Protobuf);
    }
    let offers = |protocol: &str| request.tokens("sec-websocket-protocol").any(|offered| offered == protocol);
    if let Some(&(protocol, codec)) = PROTOCOLS.iter().find(|(protocol, _)| offers(protocol)) {
        Ok((Some(protocol), codec))
    } else if offers(PROTOBUF_PROTOCOL) {
        Err(Refusal::Protobuf)
    } else {
        Ok((None, Codec::default()))
    }
}

/// A key is 16 octets in base64 (RFC 6455, section 4.1), so it ends with `==`, and four bits before that are zero
/// (RFC 4648, section 3.5).
fn check_key(key: &str) -> Result<(), Refusal> {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    match key.as_bytes() {
        [digits @ .., b'A' | b'Q' | b'g' | b'w', b'=', b'=']
            if digits.len() == 21 && digits.iter().all(is_digit) =>
        {
            Ok(())
        }
        _ => Err(Refusal::BadKey),
    }
}

/// The answer that makes it a WebSocket (RFC 6455, section 4.2.2).
fn accept(key: &str, protocol: Option<&str>, agreement: Option<&Agreement>) -> Vec<u8> {
    let accepted = derive_accept_key(key.as_bytes());
    let protocol = protocol.map(|name| ("sec-websocket-protocol", name));
    let extensions = agreement.map(|agreement| (EXTENSIONS, agreement.answer.as_str()));
    let mut answer = Vec::with_capacity(ANSWER_BYTES);
    answer.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n",
    );
    for (name, value) in
        [Some(("sec-websocket-accept", accepted.as_str())), protocol, extensions].into_iter().flatten()
    {
        for part in [name, ": ", value, "\r\n"] {
            answer.extend_from_slice(part.as_bytes());
        }
    }
    answer.extend_from_slice(b"\r\n");
    answer
}

#[cfg(test)]
mod tests;
