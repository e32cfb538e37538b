//! Heads of requests that parsers read in different ways.

use std::io::{Read as _, Write as _};

use super::harness::{Answer, Harness, request};
use crate::config::Config;

const HEAD: &str = "POST /api/publish HTTP/1.1\r\nHost: localhost\r\n";
const HEALTH: &str = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn publish(channel: &str) -> String {
    request("/api/publish", "", &format!(r#"{{"channel":"{channel}","data":1}}"#))
}

/// All that is answered until the connection is closed.
fn answers(harness: &Harness, requests: impl AsRef<[u8]>) -> String {
    let mut stream = harness.connect();
    stream.write_all(requests.as_ref()).unwrap();
    let mut answers = Vec::new();
    let _ = stream.read_to_end(&mut answers);
    String::from_utf8_lossy(&answers).into_owned()
}

/// A connection speaks one version of HTTP, from its first byte.
#[test]
fn http_2_behind_a_request_of_http_1_is_refused() {
    let harness = Harness::open(Config::default());
    let all = answers(&harness, publish("a") + PREFACE);
    let statuses = ["HTTP/1.1 200", "HTTP/1.1 400"].map(|status| all.matches(status).count());
    assert!(statuses == [1, 1] && all.contains("HTTP/2 on another one"), "{all}");
    // Also if it comes in pieces.
    let mut stream = harness.connect();
    for piece in [&publish("a"), "PRI * HT", &PREFACE[8..]] {
        stream.write_all(piece.as_bytes()).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!([(); 2].map(|()| Answer::read(&mut stream).status), [200, 400]);
    // hyper closes without an answer.
    let all = answers(&harness, format!("{HEALTH}{PREFACE}"));
    assert!(all.matches("HTTP/1.1 ").count() == 1 && all.ends_with('}'), "{all}");
    // Other words that begin so are requests.
    let all = answers(
        &harness,
        publish("a") + "PROPFIND / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    );
    assert!(all.contains("HTTP/1.1 405"), "{all}");
}

/// RFC 9112, section 2.2: some clients send an empty line behind a body.
#[test]
fn one_empty_line_before_a_request_is_ignored() {
    let harness = Harness::open(Config::default());
    for requests in [
        format!("\r\n{HEALTH}"),
        format!("\r\n{}", publish("a")),
        format!("{}\r\n{}", publish("a"), publish("b")),
    ] {
        let mut stream = harness.connect();
        stream.write_all(requests.as_bytes()).unwrap();
        for _ in 0..requests.matches("HTTP/1.1").count() {
            assert_eq!(Answer::read(&mut stream).status, 200, "{requests}");
        }
    }
    let all = answers(&harness, format!("\r\n\r\n{HEALTH}"));
    assert!(all.starts_with("HTTP/1.1 400 "), "{all}");
}

/// What other parsers might read in another way. A connection in its beginning, and one that is hyper's.
#[test]
fn a_body_is_chunked_once_or_not_at_all() {
    let harness = Harness::open(Config::default());
    let body = b"1b\r\n{\"channel\":\"slow\",\"data\":2}\r\n0\r\n\r\n";
    for fields in [
        &b"Transfer-Encoding: chunked, chunked\r\n"[..],
        b"Transfer-Encoding: Chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: \xff, chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked;a, chunked\r\n",
        b"Transfer-Encoding: \"chunked\", chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n",
    ] {
        for before in ["", HEALTH] {
            let request = [before.as_bytes(), HEAD.as_bytes(), fields, b"\r\n", body].concat();
            let all = answers(&harness, &request);
            let last = all.rsplit_once("HTTP/1.1 ").map(|(_, last)| last).unwrap_or_default();
            assert!(last.starts_with("400 ") && last.contains("`chunked`, once"), "{fields:?}: {all}");
            assert_eq!(harness.all_heard(), [""; 0], "{fields:?}");
        }
    }
    // Where the connection is hyper's, the length is dropped, and the connection closed after the answer.
    for fields in [
        &b"Content-Length: 27\r\nTransfer-Encoding: chunked\r\n"[..],
        b"Transfer-Encoding: x\r\nContent-Length: 27\r\n",
    ] {
        let all = answers(&harness, [HEAD.as_bytes(), fields, b"\r\n", body].concat());
        assert!(
            all.starts_with("HTTP/1.1 400 ") && all.contains("both Content-Length and"),
            "{fields:?}: {all}"
        );
    }
    let request =
        [HEAD.as_bytes(), b"Transfer-Encoding: CHUNKED\r\nConnection: close\r\n\r\n", body].concat();
    assert!(answers(&harness, &request).starts_with("HTTP/1.1 200 "));
    assert_eq!(harness.all_heard(), ["publish slow 2"]);
}

/// It is the length that is too large, or no number, and not the head.
#[test]
fn an_absurd_length_is_refused_as_a_length() {
    let harness = Harness::open(Config::default());
    for (length, status) in [
        ("18446744073709551612", 413),
        ("18446744073709551613", 413),
        ("18446744073709551614", 413),
        ("18446744073709551615", 413),
        ("18446744073709551616", 400),
        ("99999999999999999999", 400),
    ] {
        for before in [String::new(), publish("a")] {
            let all = answers(
                &harness,
                format!("{before}{HEAD}Expect: 100-continue\r\nContent-Length: {length}\r\n\r\n{{}}"),
            );
            let last = all.rsplit_once("HTTP/1.1 ").map(|(_, last)| last).unwrap_or_default();
            assert!(last.starts_with(&status.to_string()), "{length}: {all}");
        }
    }
}
