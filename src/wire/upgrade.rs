//! From HTTP to WebSocket: a request's head in, the answer out (RFC 6455, section 4.2).
//!
//! Parsing and the accepting answer are tungstenite's. Added here is what it leaves to others: limits,
//! refusals as proper HTTP answers that say what to do instead, origins, and the choice of a sub-protocol.
//!
//! Nothing is parsed before the blank line that ends the head is there, so a head that comes byte by byte
//! is not parsed again and again. What cannot become HTTP any more is refused at once.

use std::net::IpAddr;

use memchr::memchr_iter;
use tungstenite::error::{CapacityError, Error, ProtocolError};
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server::{Request, create_response, write_response};
use tungstenite::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use tungstenite::http::{Response, StatusCode};

use super::extension::{self, Agreement, Deflate};

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
    /// Origins, such as `https://example.org`, whose pages may connect besides those of the same host; `*`
    /// allows every page.
    pub allowed_origins: Vec<String>,
    /// Whether only programs of this host reach us, and need no key. Then pages without an origin of their
    /// own may connect, which are files opened from disk; and "the same host" means a name of loopback, as
    /// whoever owns another name can make it resolve to this host (DNS rebinding).
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
    Refused {
        /// The status in the answer.
        status: u16,
        /// The answer to send.
        response: Vec<u8>,
    },
}

/// Why a request is refused: the status, and the answer's body, which says what to do.
#[derive(Clone, Copy)]
struct Refusal {
    status: u16,
    text: &'static str,
}

impl Refusal {
    const fn new(status: u16, text: &'static str) -> Self {
        Self { status, text }
    }
}

const NOT_HTTP: Refusal =
    Refusal::new(400, "This is not an HTTP/1.1 request. Connect with ws://, or wss:// through a TLS proxy.");
const BAD_HOST: Refusal = Refusal::new(400, "Send one Host header, as HTTP/1.1 asks.");
const BAD_KEY: Refusal =
    Refusal::new(400, "Send one Sec-WebSocket-Key header: 16 random bytes in base64 (RFC 6455, 4.1).");
const PROTOBUF: Refusal = Refusal::new(
    400,
    "This engine speaks JSON. Offer the sub-protocol centrifuge-json or none, without format=protobuf.",
);
const FOREIGN_ORIGIN: Refusal = Refusal::new(
    403,
    "Pages of this origin may not connect. List the origin in server.allowed_origins to let them in.",
);
const OTHER_PATH: Refusal = Refusal::new(404, "Nothing is here. The WebSocket endpoint has another path.");
const OTHER_METHOD: Refusal = Refusal::new(405, "Use GET, and ask for an upgrade to WebSocket.");
const NO_UPGRADE: Refusal =
    Refusal::new(426, "This is a WebSocket endpoint. Connect with ws:// and a client of the protocol.");
const OTHER_VERSION: Refusal = Refusal::new(426, "Send Sec-WebSocket-Version: 13 (RFC 6455).");
const LONG_HEAD: Refusal =
    Refusal::new(431, "The request's head is too long. Send fewer or shorter headers.");
const OTHER_HTTP: Refusal = Refusal::new(505, "Use HTTP/1.1.");

/// Judges the beginning of a connection, `head`, which may reach beyond the head's end.
#[must_use]
pub fn upgrade(head: &[u8], policy: &UpgradePolicy) -> Upgrade {
    match judge(head, policy) {
        Ok(upgrade) => upgrade,
        Err(refusal) => Upgrade::Refused { status: refusal.status, response: answer(refusal) },
    }
}

/// A complete HTTP answer that refuses whatever was asked, for the reasons that a request's head does not
/// know: 503 while the engine stops or is full.
///
/// # Panics
/// If `status` is no HTTP status: below 100 or above 999.
#[must_use]
pub fn refusal(status: u16) -> Vec<u8> {
    let text = match status {
        503 => "The engine takes no more clients at the moment. Try again in a few seconds.",
        _ => "The request was refused.",
    };
    answer(Refusal::new(status, text))
}

fn judge(head: &[u8], policy: &UpgradePolicy) -> Result<Upgrade, Refusal> {
    if !may_become_http(head) {
        return Err(NOT_HTTP);
    }
    let Some(consumed) = end_of_head(head) else {
        return if head.len() < policy.head_bytes { Ok(Upgrade::Incomplete) } else { Err(LONG_HEAD) };
    };
    if consumed > policy.head_bytes {
        return Err(LONG_HEAD);
    }
    let mut request = parse(&head[..consumed])?;
    check_endpoint(&request, policy)?;
    check_handshake(request.headers())?;
    check_origin(request.headers(), policy)?;
    let protocol = choose_protocol(&request)?;
    let agreement = if policy.deflate { agree(request.headers()) } else { None };
    let deflate = agreement.as_ref().map_or(Deflate::Off, |agreement| agreement.deflate);
    let response = accept(&mut request, protocol, agreement)?;
    let native_pings = asks_for(&request, "cf_ws_frame_ping_pong", "true");
    Ok(Upgrade::Accepted { consumed, response, native_pings, deflate })
}

/// Whether `head`, as far as it has come, is the beginning of an HTTP request: the method a token, the
/// first line without control characters, and a version at its end.
fn may_become_http(head: &[u8]) -> bool {
    let end = memchr::memchr(b'\n', head);
    let line = &head[..end.unwrap_or(head.len())];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let method = line.split(|&byte| byte == b' ').next().unwrap_or_default();
    let method_is_token =
        method.iter().all(|&byte| byte.is_ascii_alphanumeric() || b"-_!#$%&'*+.^`|~".contains(&byte));
    let lacks_version = end.is_some() && memchr::memmem::find(line, b" HTTP/").is_none();
    method_is_token && !lacks_version && !line.iter().any(u8::is_ascii_control)
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
    match Request::try_parse(head) {
        Ok(Some((_, request))) => Ok(request),
        Err(Error::Protocol(ProtocolError::WrongHttpMethod)) => Err(OTHER_METHOD),
        Err(Error::Protocol(ProtocolError::WrongHttpVersion)) => Err(OTHER_HTTP),
        Err(Error::Capacity(CapacityError::TooManyHeaders)) => Err(LONG_HEAD),
        Ok(None) | Err(_) => Err(NOT_HTTP),
    }
}

fn check_endpoint(request: &Request, policy: &UpgradePolicy) -> Result<(), Refusal> {
    if request.uri().path() == policy.path { Ok(()) } else { Err(OTHER_PATH) }
}

/// The headers that make a request an opening handshake (RFC 6455, section 4.2.1).
fn check_handshake(headers: &HeaderMap) -> Result<(), Refusal> {
    if single(headers, header::HOST).is_none() {
        return Err(BAD_HOST);
    }
    let is_upgrade = tokens(headers, header::CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"))
        && tokens(headers, header::UPGRADE).any(|token| token.eq_ignore_ascii_case("websocket"));
    if !is_upgrade {
        return Err(NO_UPGRADE);
    }
    if single(headers, header::SEC_WEBSOCKET_VERSION) != Some("13") {
        return Err(OTHER_VERSION);
    }
    single(headers, header::SEC_WEBSOCKET_KEY).map(|_| ()).ok_or(BAD_KEY)
}

/// Browsers say which page opens a connection; other clients say nothing, and need not (RFC 6455, section
/// 10.2). A page of the same host and port may, by whatever scheme it came: a TLS proxy may stand between.
fn check_origin(headers: &HeaderMap, policy: &UpgradePolicy) -> Result<(), Refusal> {
    if !headers.contains_key(header::ORIGIN) || policy.allowed_origins.iter().any(|allowed| allowed == "*") {
        return Ok(());
    }
    let Some(origin) = single(headers, header::ORIGIN) else { return Err(FOREIGN_ORIGIN) };
    let is_allowed = if origin == "null" {
        policy.open_on_loopback
    } else {
        let host = single(headers, header::HOST).unwrap_or_default();
        policy.allowed_origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
            || is_same_host(origin, host) && (!policy.open_on_loopback || is_loopback(host))
    };
    if is_allowed { Ok(()) } else { Err(FOREIGN_ORIGIN) }
}

fn is_same_host(origin: &str, host: &str) -> bool {
    origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
}

/// Whether the host of `authority` is `localhost` or an address of loopback.
fn is_loopback(authority: &str) -> bool {
    let has_port = |(_, port): &(&str, &str)| port.bytes().all(|byte| byte.is_ascii_digit());
    let host = authority.rsplit_once(':').filter(has_port).map_or(authority, |(host, _)| host);
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The sub-protocol for the answer. None is fine, and so is an offer of strange ones: the client gets none
/// and decides for itself (RFC 6455, section 4.2.2).
fn choose_protocol(request: &Request) -> Result<Option<HeaderValue>, Refusal> {
    if asks_for(request, "format", "protobuf") || asks_for(request, "cf_protocol", "protobuf") {
        return Err(PROTOBUF);
    }
    let offers = |protocol| {
        tokens(request.headers(), header::SEC_WEBSOCKET_PROTOCOL).any(|offered| offered == protocol)
    };
    if offers(JSON_PROTOCOL) {
        Ok(Some(HeaderValue::from_static(JSON_PROTOCOL)))
    } else if offers(PROTOBUF_PROTOCOL) {
        Err(PROTOBUF)
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
    let mut response = create_response(request).map_err(|_| BAD_KEY)?;
    if let Some(protocol) = protocol {
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    if let Some(agreement) = agreement {
        let answer = HeaderValue::from_str(&agreement.answer).expect("names and numbers");
        response.headers_mut().insert(header::SEC_WEBSOCKET_EXTENSIONS, answer);
    }
    Ok(written(&response))
}

/// The whole answer to a request that is refused.
fn answer(refusal: Refusal) -> Vec<u8> {
    let status = StatusCode::from_u16(refusal.status).expect("a refusal's status has three digits");
    let mut response = Response::new(());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value| headers.insert(name, HeaderValue::from_static(value));
    set(header::CONNECTION, "close");
    set(header::CONTENT_TYPE, "text/plain; charset=utf-8");
    match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            set(header::ALLOW, "GET");
        }
        StatusCode::UPGRADE_REQUIRED => {
            set(header::CONNECTION, "close, Upgrade");
            set(header::UPGRADE, "websocket");
            set(header::SEC_WEBSOCKET_VERSION, "13");
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            set(header::RETRY_AFTER, "5");
        }
        _ => {}
    }
    // The body ends with a line end, for terminals.
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(refusal.text.len() + 1));
    let mut bytes = written(&response);
    bytes.extend_from_slice(refusal.text.as_bytes());
    bytes.push(b'\n');
    bytes
}

fn written(response: &Response<()>) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_response(&mut bytes, response).expect("HTTP/1.1 and ASCII headers, written to memory");
    bytes
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
