//! From the head of a client's HTTP request to the answer that makes it a WebSocket.

use std::hint::black_box;

use fanfare::transport::credential::CredentialPlaces;
use fanfare::transport::origin::OriginPattern;
use fanfare::transport::upgrade::{Upgrade, UpgradePolicy, upgrade};

/// What a browser sends.
pub(crate) const BROWSER: &str = "GET /connection/websocket HTTP/1.1\r\n\
    Host: push.example.org\r\n\
    Connection: Upgrade\r\n\
    Pragma: no-cache\r\n\
    Cache-Control: no-cache\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
    Upgrade: websocket\r\n\
    Origin: https://app.example.org\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-US,en;q=0.9\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
    \r\n";

/// As by default, with one page that may connect, and with compression.
pub(crate) fn policy() -> UpgradePolicy {
    UpgradePolicy {
        path: "/connection/websocket".to_owned(),
        head_bytes: 32 << 10,
        allowed_origins: vec![OriginPattern::parse("https://app.example.org").expect("an origin")],
        page_port: 9000,
        open_on_loopback: false,
        deflate: true,
        credentials: CredentialPlaces::default(),
    }
}

/// Whether the request is accepted.
pub(crate) fn accept(head: &str, policy: &UpgradePolicy) -> bool {
    matches!(upgrade(black_box(head.as_bytes()), policy), Upgrade::Accepted { .. })
}
