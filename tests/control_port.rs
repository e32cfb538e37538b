//! The control port as HTTP clients use it: many requests on one connection, by HTTP/2 without TLS and by
//! HTTP/1.1, against the whole engine.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use support::engine::Engine;
use support::wait::SOON;
use support::websocket::RawClient;

/// Requests that are under way at the same time: as many as one HTTP/2 connection may have.
const PARALLEL: usize = 64;

/// Begins with HTTP/2's preface, as a client does that knows what it speaks to (RFC 9113, section 3.3).
async fn connect(engine: &Engine) -> SendRequest<Full<Bytes>> {
    let stream = tokio::net::TcpStream::connect(engine.control_address()).await.expect("it listens");
    let (sender, connection) =
        handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2 is spoken");
    tokio::spawn(connection);
    sender
}

/// The status and the body of an answer by HTTP/2.
async fn ask(mut sender: SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> (u16, String) {
    let answer = sender.send_request(request).await.expect("an answer");
    assert_eq!(answer.version(), Version::HTTP_2);
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.expect("a whole body").to_bytes();
    (status, String::from_utf8(body.to_vec()).expect("text"))
}

fn publish(engine: &Engine, n: usize) -> Request<Full<Bytes>> {
    let body = json!({"channel": "news", "data": n}).to_string();
    let uri = format!("http://{}/api/publish", engine.control_address());
    Request::post(uri).body(Full::new(Bytes::from(body))).expect("a request")
}

fn health(engine: &Engine) -> Request<Full<Bytes>> {
    let uri = format!("http://{}/health", engine.control_address());
    Request::get(uri).body(Full::default()).expect("a request")
}

#[test]
fn http_2_carries_many_requests_at_once_on_one_connection() {
    let engine = Engine::start(&[]);
    let mut client = RawClient::connect(engine.client_address());
    client.subscribe("news");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an event loop");
    runtime.block_on(async {
        let sender = connect(&engine).await;
        let requests = (0..PARALLEL).map(|n| {
            let request = if n % 8 == 7 { health(&engine) } else { publish(&engine, n) };
            tokio::spawn(ask(sender.clone(), request))
        });
        let under_way: Vec<_> = requests.collect();
        for (n, answer) in under_way.into_iter().enumerate() {
            let answer = tokio::time::timeout(SOON, answer).await.expect("in time").expect("no panic");
            let (status, body) = answer;
            assert_eq!(status, 200, "request {n}: {body}");
            let expected = if n % 8 == 7 { r#""ready":true"# } else { r#"{"result":{}}"# };
            assert!(body.contains(expected), "request {n}: {body}");
        }
    });
    let published = (0..PARALLEL).filter(|n| n % 8 != 7);
    let mut arrived: Vec<usize> =
        published.clone().map(|_| client.publication("news").parse().expect("a number")).collect();
    arrived.sort_unstable();
    assert_eq!(arrived, published.collect::<Vec<_>>());
}

/// The next answer on a connection that stays open: its status and its JSON.
fn next_answer(stream: &mut TcpStream) -> (u16, Value) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("text").to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.expect("a length").parse().expect("a number")];
    stream.read_exact(&mut body).expect("the body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, serde_json::from_slice(&body).expect("JSON"))
}

/// Whoever asks without a pause and reads nothing is read no further, and costs no memory.
#[test]
fn requests_whose_answers_nobody_takes_cost_nothing() {
    /// What was written in the end is what the sockets' buffers hold.
    const SILENCE: Duration = Duration::from_millis(300);
    const ALLOWED_KB: u64 = 32 << 10;
    let engine = Engine::start(&[]);
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", engine.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
    };
    let before = resident();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", engine.control_address()).repeat(100);
    let streams: Vec<_> = (0..4)
        .map(|_| {
            let mut stream = TcpStream::connect(engine.control_address()).expect("it listens");
            stream.set_write_timeout(Some(SILENCE)).expect("a timeout that is not zero");
            // Nobody could take more than this; before that, the engine takes no more.
            let written = (0..1_000).take_while(|_| stream.write_all(request.as_bytes()).is_ok()).count();
            assert!(written < 1_000, "all requests were taken");
            stream
        })
        .collect();
    let after = resident();
    assert!(after < before + ALLOWED_KB, "{before} kB became {after} kB");
    drop(streams);
}

/// Two requests in one write, twice on the same connection: the answers come in the order of the requests.
#[test]
fn http_1_1_answers_pipelined_requests_in_order_and_keeps_the_connection() {
    let engine = Engine::start(&[]);
    let mut client = RawClient::connect(engine.client_address());
    client.subscribe("news");
    let address = engine.control_address();
    let request = |path: &str, body: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(SOON)).expect("a timeout that is not zero");
    for n in ["1", "2"] {
        let publish = request("/api/publish", &format!(r#"{{"channel":"news","data":{n}}}"#));
        let info = request("/api/info", "{}");
        stream.write_all((publish + &info).as_bytes()).expect("sent");
        assert_eq!(next_answer(&mut stream), (200, json!({"result": {}})));
        let (status, info) = next_answer(&mut stream);
        assert_eq!((status, &info["result"]["nodes"][0]["num_clients"]), (200, &json!(1)), "{info}");
        assert_eq!(client.publication("news"), n);
    }
}
