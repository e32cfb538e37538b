use super::*;

/// A request as a browser on the same host sends it.
const GOOD: &str = "GET /connection/websocket HTTP/1.1\r\n\
    Host: push.example.org:8000\r\n\
    Connection: keep-alive, Upgrade\r\n\
    Upgrade: websocket\r\n\
    Origin: http://push.example.org:8000\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    \r\n";

const ORIGIN: &str = "Origin: http://push.example.org:8000\r\n";
const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn allowed(origins: &[&str]) -> Vec<OriginPattern> {
    origins.iter().map(|origin| OriginPattern::parse(origin).unwrap()).collect()
}

fn policy() -> UpgradePolicy {
    UpgradePolicy {
        path: "/connection/websocket".to_owned(),
        head_bytes: 8192,
        allowed_origins: allowed(&["https://app.example.net"]),
        page_port: 9000,
        open_on_loopback: false,
        deflate: false,
        credentials: CredentialPlaces::default(),
    }
}

/// [`GOOD`] with one thing changed.
fn with(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from:?} is not there to be changed");
    GOOD.replace(from, to)
}

fn accepted(head: &str) -> (String, bool) {
    match upgrade(head.as_bytes(), &policy()) {
        Upgrade::Accepted { consumed, response, codec, native_pings, deflate, credential } => {
            assert_eq!((consumed, codec, deflate), (head.len(), Codec::Json, Deflate::Off));
            assert_eq!(credential, None);
            (String::from_utf8(response).unwrap(), native_pings)
        }
        other => panic!("not accepted: {other:?}\n{head}"),
    }
}

/// The head of the refusal, in lower case, after a look at what all of them have in common.
fn refused(head: &[u8], policy: &UpgradePolicy, expected: u16) -> String {
    match upgrade(head, policy) {
        Upgrade::Refused(refusal) => {
            assert_eq!(refusal.status(), expected, "{}", String::from_utf8_lossy(head));
            checked_refusal(refusal)
        }
        other => panic!("not refused: {other:?}\n{}", String::from_utf8_lossy(head)),
    }
}

fn checked_refusal(refusal: Refusal) -> String {
    let status = refusal.status();
    let response = String::from_utf8(refusal.answer()).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    // Each line with its end, so that a value is compared to its end too.
    let head = format!("{head}\r\n");
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    assert!(head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())), "{response}");
    assert!(head.contains("\r\nconnection: close"), "{response}");
    assert!(head.contains("\r\ncontent-type: text/plain; charset=utf-8\r\n"), "{response}");
    assert!(body.ends_with(".\n") && body.len() > 10, "{response}");
    head.to_lowercase()
}

#[test]
fn a_good_request_is_accepted() {
    let (response, native_pings) = accepted(GOOD);
    let expected = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    assert_eq!(response, expected);
    assert!(!native_pings);
}

#[test]
fn every_beginning_is_incomplete_and_what_follows_is_left() {
    for end in 0..GOOD.len() {
        assert_eq!(upgrade(&GOOD.as_bytes()[..end], &policy()), Upgrade::Incomplete, "{end}");
    }
    let followed = format!("{GOOD}\r\n\r\nframes");
    match upgrade(followed.as_bytes(), &policy()) {
        Upgrade::Accepted { consumed, .. } => assert_eq!(consumed, GOOD.len()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn variations_that_are_allowed() {
    let cases = [
        ("lower case everywhere", "Connection: keep-alive, Upgrade", "connection: upgrade"),
        ("token of the second header", "Connection: keep-alive", "Connection: keep-alive\r\nConnection: x"),
        ("no spaces in the list", "keep-alive, Upgrade", "keep-alive,UPGRADE,x"),
        ("upgrade in other letters", "Upgrade: websocket", "Upgrade: WebSocket"),
        ("several upgrades", "Upgrade: websocket", "Upgrade: h2c, websocket"),
        ("no origin", ORIGIN, ""),
        ("bare line feeds", "\r\n", "\n"),
        ("a query", "/websocket HTTP", "/websocket?a=b&format=json HTTP"),
        ("an absolute target", "GET /", "GET http://push.example.org:8000/"),
        ("a body of nothing", ORIGIN, "Content-Length: 0\r\n"),
        ("a key with other digits of base64", "dGhlIHNhbXBsZSBub25jZQ==", "+/hlIHNhbXBsZSBub25jZg=="),
        ("an unknown extension", ORIGIN, "Sec-WebSocket-Extensions: permessage-deflate\r\n"),
    ];
    for (what, from, to) in cases {
        let (response, _) = accepted(&with(from, to));
        assert!(!response.contains("extensions"), "{what}: {response}");
    }
}

#[test]
fn every_refusal() {
    let cases = [
        (404, "another path", "/websocket HTTP", "/websockets HTTP", ""),
        (404, "the root", "/connection/websocket", "/", ""),
        (405, "another method", "GET ", "POST ", "\r\nallow: get"),
        (405, "a method in lower case", "GET ", "get ", "\r\nallow: get"),
        (426, "no connection header", "Connection: keep-alive, Upgrade\r\n", "", "\r\nupgrade: websocket"),
        (426, "no upgrade in it", "keep-alive, Upgrade", "keep-alive", "\r\nupgrade: websocket"),
        (
            426,
            "a token that only contains it",
            "Upgrade\r\n",
            "Upgrades\r\n",
            "\r\nconnection: close, upgrade",
        ),
        (426, "no upgrade header", "Upgrade: websocket\r\n", "", "\r\nupgrade: websocket"),
        (426, "an upgrade to something else", "Upgrade: websocket", "Upgrade: h2c", "\r\nupgrade: websocket"),
        (400, "a host with a user name", "push.example.org:8000\r\nConn", "evil@localhost\r\nConn", ""),
        (400, "a host that is none", "push.example.org:8000\r\nConn", "a/b\r\nConn", ""),
        (400, "a body", ORIGIN, "Content-Length: 5\r\n", ""),
        (400, "two lengths", ORIGIN, "Content-Length: 0\r\nContent-Length: 5\r\n", ""),
        (400, "a body in chunks", ORIGIN, "Transfer-Encoding: chunked\r\n", ""),
        (426, "an old version", "Version: 13", "Version: 8", "\r\nsec-websocket-version: 13"),
        (426, "no version", "Sec-WebSocket-Version: 13\r\n", "", "\r\nsec-websocket-version: 13"),
        (426, "two versions", "Version: 13", "Version: 13, 8", "\r\nsec-websocket-version: 13"),
        (400, "no key", KEY, "", ""),
        (400, "an empty key", "dGhlIHNhbXBsZSBub25jZQ==", "", ""),
        (400, "a short key", "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ==", ""),
        (400, "a key that is not base64", "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ!!", ""),
        (400, "a key of base64 for URLs", "dGhlIHNhbXBsZSBub25jZQ==", "dGhl-HNhbXBsZSBub25jZQ==", ""),
        (400, "a key with bits beyond 16 octets", "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZR==", ""),
        (400, "a key padded in its middle", "dGhlIHNhbXBsZSBub25jZQ==", "AAA=AAA=AAAAAAAAAAAAAA==", ""),
        (400, "two keys", KEY, &KEY.repeat(2), ""),
        (400, "no host", "Host: push.example.org:8000\r\n", "", ""),
        (400, "two hosts", "Host: ", "Host: a\r\nHost: ", ""),
        (400, "a header without colon", "Upgrade: websocket", "Upgrade websocket", ""),
        (400, "a control character in a header", "Upgrade: websocket", "Upgrade: web\u{1}socket", ""),
        (400, "a target that is none", "/connection/websocket", "/\"<>", ""),
        (403, "a foreign origin", ORIGIN, "Origin: https://evil.example\r\n", ""),
        (505, "an old HTTP", "HTTP/1.1", "HTTP/1.0", ""),
        (400, "an HTTP that does not exist", "HTTP/1.1", "HTTP/9.9", ""),
    ];
    for (status, what, from, to, header) in cases {
        let answer = refused(with(from, to).as_bytes(), &policy(), status);
        assert!(answer.contains(header), "{what}: {header:?} in {answer}");
    }
}

#[test]
fn a_plain_get_is_told_to_upgrade() {
    let answer = refused(b"GET /connection/websocket HTTP/1.1\r\nHost: a\r\n\r\n", &policy(), 426);
    assert!(answer.contains("\r\nupgrade: websocket\r\n"), "{answer}");
}

#[test]
fn what_cannot_become_http_is_refused_at_once() {
    let cases: [&[u8]; 9] = [
        b"\x16\x03\x01\x02\x00\x01",
        b"\x00",
        b"\r\n",
        b"\n",
        b"hello, is anybody there?\n",
        b"GET /connection/websocket\r\n",
        b"GET /conn\0",
        b"G\xc3\xa4T / HTTP/1.1",
        b"{\"connect\":{}}",
    ];
    for head in cases {
        refused(head, &policy(), 400);
    }
}

#[test]
fn the_limit_of_the_head() {
    let at = |bytes| UpgradePolicy { head_bytes: bytes, ..policy() };
    let head = GOOD.as_bytes();
    assert!(matches!(upgrade(head, &at(head.len())), Upgrade::Accepted { .. }));
    assert!(matches!(upgrade(&[head, b"frames"].concat(), &at(head.len())), Upgrade::Accepted { .. }));
    refused(head, &at(head.len() - 1), 431);
    assert_eq!(upgrade(&head[..head.len() - 1], &at(head.len())), Upgrade::Incomplete);
    refused(&head[..100], &at(100), 431);
    let endless = format!("GET /connection/websocket HTTP/1.1\r\n{}", "a: b\r\n".repeat(2000));
    refused(endless.as_bytes(), &policy(), 431);
    let many = with("Upgrade: websocket\r\n", &format!("Upgrade: websocket\r\n{}", "a: b\r\n".repeat(130)));
    refused(many.as_bytes(), &policy(), 431);
}

#[test]
fn origins() {
    let strict = policy();
    let file = UpgradePolicy { open_on_loopback: true, ..policy() };
    let listed = UpgradePolicy {
        allowed_origins: allowed(&["null", "file://", "https://*.example.com", "http://localhost:*"]),
        ..file.clone()
    };
    let open = UpgradePolicy { allowed_origins: allowed(&["*"]), ..policy() };
    let cases = [
        ("https://push.example.org:8000", &strict, true),
        ("http://PUSH.example.org:8000", &strict, true),
        ("http://push.example.org", &strict, false),
        ("http://push.example.org:8001", &strict, false),
        ("http://push.example.org:9000", &strict, true),
        ("http://other.example.org:9000", &strict, false),
        ("http://push.example.org:9000", &file, false),
        ("http://notpush.example.org:8000", &strict, false),
        ("http://push.example.org:8000.evil.example", &strict, false),
        ("https://app.example.net", &strict, true),
        ("HTTPS://APP.example.net", &strict, true),
        ("http://app.example.net", &strict, false),
        ("push.example.org:8000", &strict, false),
        ("", &strict, false),
        ("null", &strict, false),
        ("null", &file, false),
        ("file://", &file, false),
        ("http://evil.example", &file, false),
        ("null", &listed, true),
        ("file://", &listed, true),
        ("https://a.b.example.com", &listed, true),
        ("https://example.com", &listed, false),
        ("https://evilexample.com", &listed, false),
        ("http://localhost:5173", &listed, true),
        ("https://app.example.net:443", &strict, true),
        ("https://app.example.net/", &strict, false),
        ("https://me@app.example.net", &strict, false),
        ("null", &open, true),
        ("http://evil.example", &open, true),
    ];
    for (origin, policy, is_allowed) in cases {
        let head = with(ORIGIN, &format!("Origin: {origin}\r\n"));
        if is_allowed {
            let upgrade = upgrade(head.as_bytes(), policy);
            assert!(matches!(upgrade, Upgrade::Accepted { .. }), "{origin}: {upgrade:?}");
        } else {
            refused(head.as_bytes(), policy, 403);
        }
    }
    refused(with(ORIGIN, &ORIGIN.repeat(2)).as_bytes(), &strict, 403);
}

/// On loopback without a key, a name that anybody can make resolve to this host proves nothing.
#[test]
fn the_same_host_on_loopback() {
    let loopback = UpgradePolicy { open_on_loopback: true, ..policy() };
    for (host, is_allowed) in [
        ("localhost:8000", true),
        ("LOCALHOST", true),
        ("127.0.0.1:8000", true),
        ("127.9.9.9", true),
        ("[::1]:8000", true),
        ("[::1]", true),
        ("push.example.org:8000", false),
        ("localhost.evil.example:8000", false),
        ("127.0.0.1.evil.example", false),
        ("192.0.2.1:8000", false),
        ("[2001:db8::1]:8000", false),
    ] {
        let head = with("Host: push.example.org:8000\r\n", &format!("Host: {host}\r\n"));
        let head = head.replace(ORIGIN, &format!("Origin: http://{host}\r\n"));
        if is_allowed {
            let upgrade = upgrade(head.as_bytes(), &loopback);
            assert!(matches!(upgrade, Upgrade::Accepted { .. }), "{host}: {upgrade:?}");
        } else {
            refused(head.as_bytes(), &loopback, 403);
        }
    }
    let host = "Host: push.example.org:8000\r\n";
    refused(with(host, "Host: evil@localhost\r\n").replace(ORIGIN, "").as_bytes(), &loopback, 400);
}

/// A port that the scheme implies may be written or not, on either side (nginx: `Host $host:$server_port`).
#[test]
fn the_same_host_with_a_port_that_goes_without_saying() {
    for (host, origin, is_allowed) in [
        ("shop.example:443", "https://shop.example", true),
        ("shop.example", "https://shop.example:443", true),
        ("shop.example:80", "http://shop.example", true),
        ("shop.example:443", "http://shop.example", false),
        ("shop.example:8443", "https://shop.example", false),
    ] {
        let head = with("Host: push.example.org:8000\r\n", &format!("Host: {host}\r\n"));
        let head = head.replace(ORIGIN, &format!("Origin: {origin}\r\n"));
        let is_accepted = matches!(upgrade(head.as_bytes(), &policy()), Upgrade::Accepted { .. });
        assert_eq!(is_accepted, is_allowed, "{host} {origin}");
    }
}

#[test]
fn a_query_may_hold_what_clients_do_not_encode() {
    for byte in b'!'..=b'~' {
        let head = with("/websocket HTTP", &format!("/websocket?a={}b HTTP", char::from(byte)));
        accepted(&head);
    }
    let head = with("/websocket HTTP", "/websocket?filter={\"a\":\"<1>\"}&cf_ws_frame_ping_pong=true HTTP");
    assert!(accepted(&head).1, "what stands beside it is read");
    accepted(&with("/websocket HTTP", "/websocket?a=é HTTP"));
}

/// The text is all that somebody has who set up a proxy wrongly.
#[test]
fn the_answer_names_what_is_wrong_with_a_proxy() {
    let told = |head: &[u8]| match upgrade(head, &policy()) {
        Upgrade::Refused(refusal) => refusal.text(),
        other => panic!("{other:?}"),
    };
    assert!(told(with("HTTP/1.1", "HTTP/1.0").as_bytes()).contains("proxy_http_version 1.1"));
    assert!(told(with("Upgrade: websocket\r\n", "").as_bytes()).contains("pass on the headers Upgrade"));
    let preamble = format!("PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\n{GOOD}");
    assert!(told(preamble.as_bytes()).contains("PROXY protocol"));
    let second = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x13\x88\x01\xbb";
    assert!(told(second).contains("PROXY protocol"));
    assert!(told(&second[..6]).contains("PROXY protocol"));
    let long = UpgradePolicy { head_bytes: 100, ..policy() };
    assert!(matches!(upgrade(GOOD.as_bytes(), &long), Upgrade::Refused(Refusal::LongHead)));
    assert!(Refusal::LongHead.text().contains("limits.head_bytes"));
    // A method of this name is none of the preamble's business.
    refused(with("GET ", "PROXY ").as_bytes(), &policy(), 405);
}

#[test]
fn a_request_is_described_for_a_log_that_nobody_can_forge() {
    let of = |head: &str| {
        let Described { path, origin } = describe(head.as_bytes());
        (path.unwrap_or_default(), origin.unwrap_or_default())
    };
    let known = ("/connection/websocket".to_owned(), "http://push.example.org:8000".to_owned());
    assert_eq!(of(GOOD), known);
    assert_eq!(of(&with("/websocket HTTP", "/websocket?token=secret HTTP")), known);
    assert_eq!(of(&with("Origin: ", "origin:")), known);
    let (path, origin) = of(&format!("GET /{} HTTP/1.1\r\nOrigin: a\u{1b}[2J\rb\r\n\r\n", "x".repeat(5000)));
    // As it came: the log's format escapes it, once.
    assert_eq!((path.len(), origin.as_str()), (103, "a\u{1b}[2J\rb"));
    assert_eq!(describe(b"\x16\x03"), Described::default());
    let proxied = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\n";
    assert_eq!(describe(proxied), Described::default(), "TCP4 is no path");
    assert_eq!(of("GET /a HTTP/1.1\r\n\r\nOrigin: https://in.the.body\r\n").1, "");
}

#[test]
fn a_header_that_http_does_not_allow_is_told_from_what_is_no_http() {
    for header in ["X-Name: a\u{1}b\r\n", "X-Name: a\u{7f}\r\n", "X Name: a\r\n", "X-Name a\r\n"] {
        let head = with(ORIGIN, header);
        assert_eq!(upgrade(head.as_bytes(), &policy()), Upgrade::Refused(Refusal::BadHeader), "{header:?}");
    }
    refused(with(ORIGIN, "X: \u{1}\r\n").as_bytes(), &policy(), 400);
    let odd_target = with("/websocket HTTP", "/web\u{7f}socket HTTP");
    assert_eq!(upgrade(odd_target.as_bytes(), &policy()), Upgrade::Refused(Refusal::NotHttp));
}

#[test]
fn sub_protocols() {
    let offer = |lines: &str| with(ORIGIN, lines);
    let json = "\r\nsec-websocket-protocol: centrifuge-json\r\n";
    for chosen in [
        "Sec-WebSocket-Protocol: centrifuge-json\r\n",
        "Sec-WebSocket-Protocol: centrifuge-protobuf, centrifuge-json\r\n",
        "Sec-WebSocket-Protocol: x\r\nSec-WebSocket-Protocol: ,centrifuge-json\r\n",
    ] {
        let (response, _) = accepted(&offer(chosen));
        assert!(response.ends_with(&format!("{json}\r\n")), "{chosen}{response}");
    }
    for ignored in ["", "Sec-WebSocket-Protocol: \r\n", "Sec-WebSocket-Protocol: mqtt, centrifuge\r\n"] {
        let (response, _) = accepted(&offer(ignored));
        assert!(!response.contains("sec-websocket-protocol"), "{ignored}{response}");
    }
    let protobuf = offer("Sec-WebSocket-Protocol: centrifuge-protobuf\r\n");
    refused(protobuf.as_bytes(), &policy(), 400);
    for query in ["format=protobuf", "a=b&cf_protocol=protobuf"] {
        let head = with("/websocket HTTP", &format!("/websocket?{query} HTTP"));
        assert_eq!(upgrade(head.as_bytes(), &policy()), Upgrade::Refused(Refusal::Protobuf), "{query}");
    }
}

#[test]
fn native_pings_are_asked_for_in_the_query() {
    let asked = |query: &str| accepted(&with("/websocket HTTP", &format!("/websocket{query} HTTP"))).1;
    assert!(asked("?cf_ws_frame_ping_pong=true"));
    assert!(asked("?a=b&cf_ws_frame_ping_pong=true&c"));
    assert!(!asked("?cf_ws_frame_ping_pong=false"));
    assert!(!asked("?xcf_ws_frame_ping_pong=true"));
    assert!(!asked("?"));
}

#[test]
fn every_refusal_is_a_whole_answer() {
    for refusal in Refusal::ALL {
        let answer = checked_refusal(refusal);
        assert_eq!(answer.contains("\r\nretry-after: "), refusal.status() == 503, "{answer}");
    }
}

#[test]
fn compression_is_agreed_on_if_it_is_offered_and_wanted() {
    let accepted = |head: &str, policy: &UpgradePolicy| match upgrade(head.as_bytes(), policy) {
        Upgrade::Accepted { response, deflate, .. } => {
            let response = String::from_utf8(response).unwrap().to_lowercase();
            let answer = response.lines().find_map(|line| line.strip_prefix("sec-websocket-extensions: "));
            (deflate, answer.map(str::to_owned))
        }
        other => panic!("not accepted: {other:?}\n{head}"),
    };
    let wanted = UpgradePolicy { deflate: true, ..policy() };
    // In two headers, the first of which has nothing for us.
    let offer = with(
        KEY,
        &format!(
            "{KEY}Sec-WebSocket-Extensions: permessage-deflate; strange\r\n\
             Sec-WebSocket-Extensions: x, permessage-deflate; client_max_window_bits\r\n"
        ),
    );
    let answer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    assert_eq!(accepted(&offer, &wanted), (Deflate::Both, Some(answer.to_owned())));
    assert_eq!(accepted(&offer, &policy()), (Deflate::Off, None));
    assert_eq!(accepted(GOOD, &wanted), (Deflate::Off, None));
    let strange = offer.replace("client_max_window_bits", "client_max_window_bits=3");
    assert_eq!(accepted(&strange, &wanted), (Deflate::Off, None));
}
