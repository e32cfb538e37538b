//! The control port as HTTP clients use it: many requests on one connection, by HTTP/2 without TLS and by
//! HTTP/1.1, against the whole engine.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::engine::Engine;
use crate::support::process::TempDir;
use crate::support::rabbitmq::RabbitNode;
use crate::support::wait::{SOON, wait_until};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};

/// Requests that wait for their answers at the same time: more than HTTP/2 takes at once on one connection.
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
    let mut client = engine.subscriber(&["news"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an event loop");
    runtime.block_on(async {
        let sender = connect(&engine).await;
        // With the first answer the client knows how many it may send at once; the others wait.
        assert_eq!(ask(sender.clone(), health(&engine)).await.0, 200);
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

/// Otherwise an idle shard would count as one that hangs.
#[test]
fn idle_shards_turn_once_per_second() {
    let engine = Engine::start(&[]);
    for shard in ["0", "1"] {
        let turns = || engine.metric("fanfare_ticks_total", &[("shard", shard)]);
        let before = turns();
        wait_until(SOON, "an idle shard to turn", || turns() >= before + 2.0);
    }
}

/// However many connect to the control port, the descriptors that are left for clients are left for them.
#[test]
fn silent_connections_of_operators_keep_no_client_out() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 300; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_fanfare")]);
    command.args(["serve", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--shards", "1"]);
    crate::support::engine::clear_settings(&mut command);
    let engine = Engine::launch(command, None);
    let connect = |_| TcpStream::connect(engine.control_address()).expect("it listens");
    let silent: Vec<_> = (0..400).map(connect).collect();
    let mut clients: Vec<_> = (0..40).map(|_| engine.client()).collect();
    clients.iter_mut().for_each(|client| client.subscribe("news"));
    engine.publish("news", &json!(1));
    assert!(clients.iter_mut().all(|client| client.publication("news") == "1"));
    assert!(engine.get("/health").body.contains("\"ready\":true"));
    drop(silent);
}

/// What `promtool` says to this on its standard input or in its arguments; it fails on any complaint.
fn promtool(arguments: &[&str], input: &str) {
    let mut command = Command::new("/usr/bin/promtool");
    let (input_end, output) = (Stdio::piped(), Stdio::piped());
    let mut child = command.args(arguments).stdin(input_end).stdout(output).stderr(Stdio::piped()).spawn();
    let child = child.as_mut().expect("Debian's package `prometheus` brings promtool");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
    let mut said = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
    let status = child.wait().expect("it ends");
    assert!(status.success() && said.is_empty(), "promtool {arguments:?}: {status}\n{said}");
}

#[test]
fn prometheus_takes_metrics_in_both_formats() {
    let engine = Engine::start(&[]);
    let mut client = engine.subscriber(&["news"]);
    engine.publish("news", &json!(1));
    assert_eq!(client.publication("news"), "1");
    let ask = |accept: &str| {
        let address = engine.control_address();
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(SOON)).expect("a timeout that is not zero");
        let request = format!(
            "GET /metrics HTTP/1.1\r\nHost: {address}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head.to_lowercase(), body.to_owned())
    };
    let (head, text) = ask("text/plain;version=0.0.4");
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    promtool(&["check", "metrics"], &text);
    // A person who asks for a bucket writes it like this.
    for bound in ["0.00005", "0.05", "0.25", "1.0"] {
        let bucket = format!("fanfare_handover_seconds_bucket{{le=\"{bound}\"}}");
        assert!(text.contains(&bucket), "{bucket}\n{text}");
    }
    let (head, open_metrics) = ask("application/openmetrics-text;version=1.0.0,text/plain;q=0.5");
    assert!(head.contains("content-type: application/openmetrics-text"), "{head}");
    // It reads this format where it fills a database, and there each sample has its time.
    let timed = |line: &str| match line.starts_with('#') {
        true => format!("{line}\n"),
        false => format!("{line} 1700000000\n"),
    };
    let folder = TempDir::new("promtool");
    let (file, database) = (folder.path().join("metrics"), folder.path().join("database"));
    std::fs::write(&file, open_metrics.lines().map(timed).collect::<String>()).expect("written");
    let (file, database) = (file.to_str().expect("text"), database.to_str().expect("text"));
    promtool(&["tsdb", "create-blocks-from", "openmetrics", file, database], "");
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

/// A request by HTTP/1.1.
fn post(address: SocketAddr, path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Two requests in one write, twice on the same connection: the answers come in the order of the requests.
#[test]
fn http_1_1_answers_pipelined_requests_in_order_and_keeps_the_connection() {
    let engine = Engine::start(&[]);
    let mut client = engine.subscriber(&["news"]);
    let address = engine.control_address();
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(SOON)).expect("a timeout that is not zero");
    for n in ["1", "2"] {
        let publish = post(address, "/api/publish", &format!(r#"{{"channel":"news","data":{n}}}"#));
        let info = post(address, "/api/info", "{}");
        stream.write_all((publish + &info).as_bytes()).expect("sent");
        assert_eq!(next_answer(&mut stream), (200, json!({"result": {}})));
        let (status, info) = next_answer(&mut stream);
        assert_eq!((status, &info["result"]["nodes"][0]["num_clients"]), (200, &json!(1)), "{info}");
        assert_eq!(client.publication("news"), n);
    }
}

/// Many are with RabbitMQ at the same time. It is one publisher's order all the same.
#[test]
fn publishes_that_are_pipelined_arrive_in_order_through_rabbitmq() {
    const PUBLISHES: usize = 300;
    let engine = Engine::consuming(&RabbitNode::shared().new_vhost("pipelined"), "");
    let mut client = engine.subscriber(&["news"]);
    let address = engine.control_address();
    let publish = |n| post(address, "/api/publish", &format!(r#"{{"channel":"news","data":{n}}}"#));
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(SOON)).expect("a timeout that is not zero");
    stream.write_all((0..PUBLISHES).map(publish).collect::<String>().as_bytes()).expect("sent");
    for n in 0..PUBLISHES {
        assert_eq!(next_answer(&mut stream), (200, json!({"result": {}})), "{n}");
    }
    for n in 0..PUBLISHES {
        assert_eq!(client.publication("news"), n.to_string());
    }
}
