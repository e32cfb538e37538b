//! Why an HTTP request does not become a WebSocket: a closed set. The answer, the counter and the log line
//! are made from the same value.

use tungstenite::handshake::server::write_response;
use tungstenite::http::header::{self, HeaderName, HeaderValue};
use tungstenite::http::{Response, StatusCode};

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Refusal {
    /// The bytes cannot become an HTTP request.
    NotHttp,
    /// The PROXY protocol's preamble stands in front of the request.
    ProxyPreamble,
    /// No Host header, several, or one that is no host and port.
    BadHost,
    /// An upgrade with a body.
    Body,
    /// No usable `Sec-WebSocket-Key`.
    BadKey,
    /// The client insists on Protobuf.
    Protobuf,
    /// A page of an origin that may not connect.
    ForeignOrigin,
    /// A page without an origin of its own, which is not listed.
    OpaqueOrigin,
    /// Another path than the endpoint's.
    OtherPath,
    /// Another method than GET.
    OtherMethod,
    /// No upgrade to WebSocket is asked for.
    NoUpgrade,
    /// Another version of WebSocket than 13.
    OtherVersion,
    /// The head has too many bytes.
    LongHead,
    /// The head has too many headers.
    ManyHeaders,
    /// The node has as many clients as it may have.
    Full,
    /// The engine stops.
    Stopping,
    /// Another version of HTTP than 1.1.
    OtherHttp,
    /// A header's name or value has a character that HTTP does not allow.
    BadHeader,
    /// The head is not whole in time.
    LateHead,
    /// Its token is not valid.
    InvalidToken,
    /// The key that may have signed its token is being fetched.
    UndecidedToken,
}

impl Refusal {
    /// Every reason, in the order of their counters.
    pub const ALL: [Self; 21] = [
        Self::NotHttp,
        Self::ProxyPreamble,
        Self::BadHost,
        Self::Body,
        Self::BadKey,
        Self::Protobuf,
        Self::ForeignOrigin,
        Self::OpaqueOrigin,
        Self::OtherPath,
        Self::OtherMethod,
        Self::NoUpgrade,
        Self::OtherVersion,
        Self::LongHead,
        Self::ManyHeaders,
        Self::Full,
        Self::Stopping,
        Self::OtherHttp,
        Self::BadHeader,
        Self::LateHead,
        Self::InvalidToken,
        Self::UndecidedToken,
    ];

    /// The status of the answer.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::NotHttp
            | Self::ProxyPreamble
            | Self::BadHost
            | Self::Body
            | Self::BadKey
            | Self::BadHeader
            | Self::Protobuf => 400,
            Self::InvalidToken => 401,
            Self::ForeignOrigin | Self::OpaqueOrigin => 403,
            Self::OtherPath => 404,
            Self::OtherMethod => 405,
            Self::LateHead => 408,
            Self::NoUpgrade | Self::OtherVersion => 426,
            Self::LongHead | Self::ManyHeaders => 431,
            Self::Full | Self::Stopping | Self::UndecidedToken => 503,
            Self::OtherHttp => 505,
        }
    }

    /// The answer's body: what to do instead.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::NotHttp => {
                "This is not an HTTP/1.1 request. Connect with ws://, or wss:// through a TLS proxy."
            }
            Self::ProxyPreamble => {
                "A PROXY protocol preamble came before the request, which this engine does not read. Switch it \
                 off in the proxy or load balancer (HAProxy: no send-proxy; AWS: proxy_protocol_v2.enabled)."
            }
            Self::BadHeader => {
                "A header has a character that HTTP does not allow, such as a control character in its value or a \
                 space in its name."
            }
            Self::BadHost => "Send one Host header, as HTTP/1.1 asks: a host, and perhaps a port.",
            Self::Body => "Send no body with an upgrade: neither Content-Length nor Transfer-Encoding.",
            Self::BadKey => "Send one Sec-WebSocket-Key header: 16 random bytes in base64 (RFC 6455, 4.1).",
            Self::Protobuf => {
                "This engine speaks JSON. Offer the sub-protocol centrifuge-json or none, without \
                 format=protobuf."
            }
            Self::ForeignOrigin => {
                "Pages of this origin may not connect. List the origin in server.allowed_origins to let them in."
            }
            Self::OpaqueOrigin => {
                "Pages from disk and sandboxed frames may not connect. Serve the page by HTTP, or list its \
                 origin, `null` or `file://`, in server.allowed_origins: any web page can have `null`."
            }
            Self::OtherPath => {
                "Nothing is here. The WebSocket endpoint has another path (server.path); health, metrics and the \
                 API are on the control port (control.listen)."
            }
            Self::OtherMethod => "Use GET, and ask for an upgrade to WebSocket.",
            Self::NoUpgrade => {
                "This is a WebSocket endpoint. Connect with ws:// and a client of the protocol. A proxy must \
                 pass on the headers Upgrade and Connection."
            }
            Self::OtherVersion => "Send Sec-WebSocket-Version: 13 (RFC 6455).",
            Self::LongHead => {
                "The request's head is longer than limits.head_bytes allows. Send fewer or shorter headers, \
                 such as cookies, or raise it."
            }
            Self::LateHead => {
                "The request's head was not whole in time (timeouts.upgrade). Send all of it, up to the empty line, as \
                 soon as the connection is open."
            }
            Self::InvalidToken => {
                "The token of this request (its header Authorization, a parameter of its query, or a cookie) is not \
                 accepted. The command `fanfare check-token` says why."
            }
            Self::UndecidedToken => {
                "The key that signed the token of this request may be in the key set that is being fetched. Try again in a \
                 few seconds."
            }
            Self::ManyHeaders => "The request has more than 124 headers. Send fewer.",
            Self::Full => {
                "This node has as many clients as it may have (limits.clients, or what ulimit -n leaves room \
                 for). Try again in a few seconds."
            }
            Self::Stopping => "The engine is stopping. Try again in a few seconds.",
            Self::OtherHttp => {
                "Use HTTP/1.1. A proxy must be told to: nginx by proxy_http_version 1.1, and it must pass on the \
                 headers Upgrade and Connection."
            }
        }
    }

    /// The value of the `reason` label in metrics and of the field in logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotHttp => "not_http",
            Self::ProxyPreamble => "proxy_preamble",
            Self::BadHost => "bad_host",
            Self::Body => "body",
            Self::BadKey => "bad_key",
            Self::Protobuf => "protobuf",
            Self::ForeignOrigin => "foreign_origin",
            Self::OpaqueOrigin => "opaque_origin",
            Self::OtherPath => "other_path",
            Self::OtherMethod => "other_method",
            Self::NoUpgrade => "no_upgrade",
            Self::OtherVersion => "other_version",
            Self::LongHead => "long_head",
            Self::ManyHeaders => "many_headers",
            Self::Full => "full",
            Self::Stopping => "stopping",
            Self::OtherHttp => "other_http",
            Self::BadHeader => "bad_header",
            Self::LateHead => "late_head",
            Self::InvalidToken => "invalid_token",
            Self::UndecidedToken => "undecided_token",
        }
    }

    /// The whole HTTP answer, after which the connection ends.
    ///
    /// # Panics
    /// Never: every status is one.
    #[must_use]
    pub fn answer(self) -> Vec<u8> {
        self.answer_saying(self.text())
    }

    /// The same with other words, where clients' do not fit.
    ///
    /// # Panics
    /// Never: every status is one.
    #[must_use]
    pub fn answer_saying(self, text: &str) -> Vec<u8> {
        let status = StatusCode::from_u16(self.status()).expect("a status has three digits");
        let mut response = Response::new(());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let mut set = |name: HeaderName, value| headers.insert(name, HeaderValue::from_static(value));
        set(header::CONNECTION, "close");
        set(header::CONTENT_TYPE, "text/plain; charset=utf-8");
        match status {
            // RFC 6750, section 3.1.
            StatusCode::UNAUTHORIZED => {
                set(header::WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"");
            }
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
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(text.len() + 1));
        let mut bytes = Vec::new();
        write_response(&mut bytes, &response).expect("HTTP/1.1 and ASCII headers, written to memory");
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(b'\n');
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_refusals_is_in_the_order_of_their_counters() {
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, index);
        }
    }
}
