//! Single requests.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use super::super::{AuthoritiesError, Client, HEAD_BYTES, Limits, RequestError};
use super::{Authority, head, server};
use crate::config::HttpUrl;

const ACCEPT: &str = "application/json";
const LIMITS: Limits =
    Limits { connect: Duration::from_secs(5), whole: Duration::from_secs(5), body_bytes: 1000 };
/// For what ends by time alone.
const SHORT: Limits =
    Limits { connect: Duration::from_millis(300), whole: Duration::from_millis(500), body_bytes: 1000 };

/// A server that takes the head of a request and answers with some bytes.
fn says(answer: impl Into<Vec<u8>>) -> SocketAddr {
    let answer = answer.into();
    server(move |mut stream| {
        head(&mut stream);
        drop(stream.write_all(&answer));
    })
}

fn client(limits: Limits) -> Client {
    Client::new(None, limits).unwrap()
}

fn get(client: &Client, url: &str) -> Result<Vec<u8>, RequestError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(client.get(&HttpUrl::from(url), ACCEPT))
}

/// What comes of a server's answer.
fn answered(answer: impl Into<Vec<u8>>) -> Result<String, String> {
    let address = says(answer);
    let body = get(&client(LIMITS), &format!("http://{address}/"));
    body.map(|body| String::from_utf8(body).unwrap()).map_err(|error| error.to_string())
}

#[test]
fn a_request_says_what_is_wanted_and_a_body_comes_in_every_form() {
    let (asked, question) = std::sync::mpsc::channel();
    let address = server(move |mut stream| {
        asked.send(head(&mut stream)).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").unwrap();
    });
    assert_eq!(get(&client(LIMITS), &format!("http://{address}/a/b?c=d#e")).unwrap(), b"{}");
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!(
        "GET /a/b?c=d HTTP/1.1\r\nhost: {address}\r\nuser-agent: fanfare/{version}\r\naccept: application/json\r\n\
         connection: close\r\n\r\n"
    );
    assert_eq!(question.recv().unwrap(), expected);
    for answer in [
        "HTTP/1.1 200 OK\r\n\r\nuntil the end",
        "HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\nuntil the end",
        "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nuntil the end and no further",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nuntil \r\n7\r\nthe end\r\n0\r\n\r\n",
    ] {
        assert_eq!(answered(answer).as_deref(), Ok("until the end"), "{answer}");
    }
    assert_eq!(answered("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").as_deref(), Ok(""));
}

#[test]
fn an_answer_that_is_none_is_refused() {
    let redirect = |to: &str| format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
    for (answer, error) in [
        (
            redirect("https://other.example:8443/x?key=hunter2"),
            "it redirects to https://other.example:8443 (status 302)",
        ),
        (redirect("http://u:hunter2@other.example/"), "it redirects to http://other.example (status 302)"),
        (redirect("http://["), "it redirects (status 302), and redirects are not followed"),
        ("HTTP/1.1 301 Moved\r\n\r\n".to_owned(), "it redirects (status 301)"),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}".to_owned(), "it answers with status 404"),
        ("HTTP/1.1 204 No Content\r\n\r\n".to_owned(), "it answers with status 204"),
        ("HTTP/1.1 500 Oh\r\n\r\n".to_owned(), "it answers with status 500"),
        ("SSH-2.0-OpenSSH_9.2\r\n".to_owned(), "no HTTP: "),
        (String::new(), "no HTTP: "),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}".to_owned(), "no HTTP: "),
        (format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(4 * HEAD_BYTES)), "no HTTP: "),
    ] {
        let text = answered(answer).unwrap_err();
        assert!(text.starts_with(error) && !text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_body_is_bounded_whether_it_says_its_length_or_not() {
    let said = "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n";
    assert_eq!(
        answered(said),
        Err("its answer has more than 1000 bytes".to_owned()),
        "none of it is waited for"
    );
    for (begin, chunk) in [
        ("HTTP/1.1 200 OK\r\n\r\n", "x".repeat(100)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", format!("64\r\n{}\r\n", "x".repeat(100))),
    ] {
        let address = server(move |mut stream| {
            head(&mut stream);
            stream.write_all(begin.as_bytes()).unwrap();
            // A gigabyte, unless somebody hangs up.
            for _ in 0..10_000_000 {
                if stream.write_all(chunk.as_bytes()).is_err() {
                    return;
                }
            }
        });
        let error = get(&client(LIMITS), &format!("http://{address}/")).unwrap_err();
        assert!(matches!(error, RequestError::TooLarge(1000)), "{error}");
    }
    for (bytes, outcome) in [(1000, Ok(1000)), (1001, Err("its answer has more than 1000 bytes".to_owned()))]
    {
        let answer = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(bytes));
        assert_eq!(answered(answer).map(|body| body.len()), outcome);
    }
}

#[test]
fn a_host_that_takes_its_time_is_given_up() {
    let begun = Instant::now();
    let silent = server(|stream| drop((thread::sleep(Duration::from_secs(10)), stream)));
    let error = get(&client(SHORT), &format!("http://{silent}/")).unwrap_err();
    assert!(matches!(error, RequestError::NoAnswer(time) if time == SHORT.whole), "{error}");
    // Each byte comes in time, and all of them do not.
    let slow = server(|mut stream| {
        head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        while stream.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let error = get(&client(SHORT), &format!("http://{slow}/")).unwrap_err();
    assert!(matches!(error, RequestError::NoAnswer(_)), "{error}");
    // TLS belongs to the connection.
    let silent = server(|stream| drop((thread::sleep(Duration::from_secs(10)), stream)));
    let error = get(&client(SHORT), &format!("https://{silent}/")).unwrap_err();
    assert!(matches!(error, RequestError::NoConnection(time) if time == SHORT.connect), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_host_that_is_not_there_is_told() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = get(&client(LIMITS), &format!("http://{closed}/")).unwrap_err();
    assert!(
        matches!(&error, RequestError::Connect(error) if error.kind() == std::io::ErrorKind::ConnectionRefused),
        "{error}"
    );
    let error = get(&client(LIMITS), "http://issuer.example/").unwrap_err();
    assert!(matches!(error, RequestError::Url(_)), "{error}");
}

/// A client that trusts an authority alone.
fn trusting(authority: &Authority) -> Client {
    authority.in_file(|path| Client::new(Some(&path), LIMITS)).unwrap()
}

#[test]
fn tls_is_of_an_authority_that_is_trusted_and_for_the_host() {
    let (own, other) = (Authority::new(), Authority::new());
    assert_eq!(
        get(&trusting(&own), &format!("https://127.0.0.1:{}/", own.server("127.0.0.1"))).unwrap(),
        b"{}"
    );
    assert_eq!(
        get(&trusting(&own), &format!("https://localhost:{}/", own.server("localhost"))).unwrap(),
        b"{}"
    );
    let plain = server(|mut stream| drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")));
    for (client, url, error) in [
        (
            trusting(&other),
            format!("https://localhost:{}/", own.server("localhost")),
            "invalid peer certificate",
        ),
        (client(LIMITS), format!("https://localhost:{}/", own.server("localhost")), "UnknownIssuer"),
        (
            trusting(&own),
            format!("https://localhost:{}/", own.server("issuer.example")),
            "not valid for name",
        ),
        (trusting(&own), format!("https://localhost:{}/", plain.port()), ""),
    ] {
        let text = get(&client, &url).unwrap_err().to_string();
        assert!(text.starts_with("no TLS: ") && text.contains(error), "{text}");
    }
}

#[test]
fn authorities_must_be_usable() {
    let file = std::env::temp_dir().join(format!("fanfare-authorities-{}.pem", std::process::id()));
    for (pem, error) in [
        ("", "has no certificate"),
        ("-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n", "has a damaged certificate"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "has a certificate that cannot be used",
        ),
    ] {
        std::fs::write(&file, pem).unwrap();
        let text = Client::new(Some(&file), LIMITS).unwrap_err().to_string();
        assert!(text.contains(error), "{text}");
    }
    std::fs::remove_file(&file).unwrap();
    let error = Client::new(Some(&file), LIMITS).unwrap_err();
    assert!(matches!(error, AuthoritiesError::Unreadable { .. }), "{error}");
}
