//! `fanfare load`: against an engine, where everything must be right, and against servers that do something
//! wrong on purpose, where it must notice.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use crate::support::engine::{BINARY, Engine, clear_settings, run_to_end};
use crate::support::process::{Lines, signal};
use crate::support::rabbitmq::RabbitNode;
use crate::support::wait::{SOON, wait_until};
use serde_json::Value;
use tungstenite::{Message, WebSocket};

/// `fanfare load` against these addresses.
fn load(server: SocketAddr, control: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    clear_settings(&mut command);
    command.args(["load", "--url", &format!("ws://{server}/connection/websocket")]);
    command.args(["--control", &control.to_string()]).args(arguments);
    command
}

fn load_engine(engine: &Engine, arguments: &[&str]) -> Command {
    load(engine.client_address(), engine.control_address(), arguments)
}

/// Runs it and returns the exit code, its JSON, and what it said.
fn measure(mut command: Command) -> (Option<i32>, Value, String) {
    command.arg("--json");
    let (status, output, errors) = run_to_end(command, SOON * 3);
    let result = serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {output}{errors}"));
    (status.code(), result, errors)
}

/// Runs what cannot measure anything, and returns what it said.
fn complaint(command: Command) -> String {
    let (status, _, errors) = run_to_end(command, SOON * 3);
    assert_eq!(status.code(), Some(1), "{errors}");
    assert!(errors.starts_with("fanfare: "), "{errors}");
    errors
}

#[test]
fn an_engine_delivers_everything_once() {
    let engine = Engine::start(&[]);
    let plan =
        ["--clients", "210", "--topics", "7", "--topics-per-client", "3", "--rate", "500", "--time", "2s"];
    let (code, result, errors) = measure(load_engine(&engine, &plan));
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{result:#}");
    assert_eq!(result["exact"], true, "{result:#}");
    assert_eq!(result["connected"], 210);
    assert_eq!((&result["due"], &result["published"]), (&1000.into(), &1000.into()));
    // Each topic has 210 * 3 / 7 subscribers.
    assert_eq!(result["delivered"], 90_000, "{result:#}");
    let latency = |name| result["latency_ms"][name].as_f64().expect("a number");
    assert!(latency("p50") > 0.0 && latency("p50") <= latency("p99") && latency("p99") <= latency("max"));
    assert!(result["bytes"].as_u64() > Some(90_000 * 100), "{result:#}");
}

/// What is published to nobody is no loss, and is told.
#[test]
fn topics_without_subscribers_are_told() {
    let engine = Engine::start(&[]);
    let plan = ["--clients", "5", "--topics", "20", "--rate", "100", "--time", "2s"];
    let (code, result, errors) = measure(load_engine(&engine, &plan));
    assert_eq!((code, &result["published"]), (Some(0), &200.into()), "{result:#}{errors}");
    let of_them = (&result["published_to_nobody"], &result["delivered"]);
    assert_eq!(of_them, (&150.into(), &50.into()), "{result:#}");
    let (_, table, _) = run_to_end(load_engine(&engine, &plan), SOON * 3);
    assert!(table.contains("200 of 200 that were due; 150 of them to topics without subscribers"), "{table}");
}

#[test]
fn everything_arrives_once_through_rabbitmq_too() {
    let url = RabbitNode::shared().new_vhost("load");
    let engine = Engine::consuming(&url, "");
    // No more than RabbitMQ confirms in time beside the other tests: what is due at the end is not published.
    let plan = ["--clients", "100", "--topics", "10", "--rate", "300", "--time", "2s"];
    let (code, result, errors) = measure(load_engine(&engine, &plan));
    assert_eq!((code, &result["published"]), (Some(0), &600.into()), "{result:#}{errors}");
    assert_eq!(result["delivered"], 6000, "{result:#}");
}

#[test]
fn the_table_says_the_same_in_words() {
    let engine = Engine::start(&[]);
    let plan = ["--clients", "50", "--topics", "1", "--spread", "skewed", "--rate", "100", "--time", "1s"];
    let (status, output, errors) = run_to_end(load_engine(&engine, &plan), SOON);
    assert!(status.success(), "{errors}");
    for line in ["connected  50 clients in", "published  100 of 100", "delivered  5,000,", "lost       0"] {
        assert!(output.contains(line), "{line}: {output}");
    }
    assert_eq!(errors, "", "no progress where there is no terminal");
}

#[test]
fn a_namespace_that_merges_is_seen_to_merge() {
    let engine = Engine::with_config("[namespaces.merged]\nmax_delay = \"200ms\"\n");
    let plan = ["--clients", "20", "--topics", "1", "--rate", "500", "--time", "2s", "--namespace", "merged"];
    let (code, result, _) = measure(load_engine(&engine, &plan));
    assert_eq!((code, &result["delivered"]), (Some(0), &20_000.into()), "{result:#}");
    assert!(result["publications_per_frame"].as_f64() > Some(10.0), "{result:#}");
}

#[test]
fn slow_clients_are_slow_and_nobody_else_is() {
    let engine = Engine::with_config("[limits]\nlog_bytes = 1048576\n[namespaces.x]\nslow = \"skip\"\n");
    let plan = ["--clients", "40", "--slow", "25", "--topics", "1", "--namespace", "x", "--size", "10000"];
    let mut command =
        load_engine(&engine, &[&plan[..], &["--rate", "100", "--time", "4s", "--json"]].concat());
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let output = Lines::collect(child.stdout.take().expect("piped"));
    wait_until(SOON, "the slow ones to be blocked, and only these", || {
        engine.metric("fanfare_blocked_clients", &[]) == 10.0
    });
    let status = child.wait().expect("it ends");
    let result: Value = serde_json::from_str(&output.whole()).expect("JSON");
    assert!(status.success(), "{result:#}");
    assert_eq!((&result["slow"], &result["delivered"]), (&10.into(), &(30 * 400).into()), "{result:#}");
}

/// What it has is told, and is as exact as if no more had been asked for.
#[test]
fn an_interrupted_run_tells_what_it_has() {
    let engine = Engine::start(&[]);
    let plan = ["--clients", "20", "--topics", "2", "--rate", "100", "--time", "10m", "--json"];
    let mut command = load_engine(&engine, &plan);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let output = Lines::collect(child.stdout.take().expect("piped"));
    let errors = Lines::collect(child.stderr.take().expect("piped"));
    wait_until(SOON, "publications", || engine.metric("fanfare_publications_total", &[]) >= 50.0);
    signal(child.id(), "INT");
    let status = child.wait().expect("it ends");
    let result: Value = serde_json::from_str(&output.whole()).expect("JSON");
    assert!(status.success(), "{result:#}");
    assert!(errors.whole().contains("interrupted; this is about the "), "{}", errors.whole());
    assert_eq!((&result["exact"], &result["connected"]), (&true.into(), &20.into()), "{result:#}");
    assert!(result["published"].as_u64() >= Some(50) && result["published"] == result["due"], "{result:#}");
    assert_eq!(result["delivered"].as_u64(), result["published"].as_u64().map(|published| published * 10));
}

#[test]
fn who_is_refused_makes_it_fail() {
    let engine = Engine::with_config("[limits]\ntopics_per_client = 1\n[control]\napi_key = \"hunter2\"\n");
    let plan = ["--clients", "5", "--topics", "2", "--topics-per-client", "2", "--time", "1s"];
    let told = complaint(load_engine(&engine, &plan));
    assert!(told.contains("wants its API key: --api-key"), "{told}");
    let told = complaint(load_engine(&engine, &[&plan[..], &["--api-key", "hunter3"]].concat()));
    assert!(told.contains("refuses this API key") && !told.contains("hunter"), "{told}");
    let told = complaint(load_engine(&engine, &[&plan[..], &["--api-key", "hunter2"]].concat()));
    assert!(told.contains("no client was let in: refused: ") && told.contains("(error 106)"), "{told}");
}

#[test]
fn what_is_wrong_is_told_with_the_remedy() {
    let engine = Engine::start(&[]);
    let (server, control) = (engine.client_address(), engine.control_address());
    let nobody = crate::support::ports::free_port();
    let nobody = SocketAddr::from(([127, 0, 0, 1], nobody));
    let told = complaint(load(nobody, control, &["--short"]));
    assert!(told.contains(&format!("nothing listens at {nobody}: start `fanfare serve`")), "{told}");
    let told = complaint(load(server, nobody, &["--short"]));
    assert!(told.contains(&format!("nothing listens at the control port {nobody}")), "{told}");
    // The control port does not speak WebSocket.
    let told = complaint(load(control, control, &["--short"]));
    assert!(told.contains("no client was let in: the upgrade was refused: 404"), "{told}");

    let mut shell = Command::new("sh");
    clear_settings(&mut shell);
    shell.args(["-c", "ulimit -n 100; exec \"$0\" load --short", BINARY]);
    let told = complaint(shell);
    assert!(told.contains("1,000 clients need 1,064 descriptors, and this process may have 100"), "{told}");
    assert!(told.contains("`LimitNOFILE=1064`"), "{told}");

    let mut shell = Command::new("sh");
    clear_settings(&mut shell);
    let url = format!("ws://{server}/connection/websocket");
    shell.args(["-c", "ulimit -S -n 40; exec \"$0\" load \"$@\"", BINARY, "--url", &url]);
    shell.args(["--control", &control.to_string(), "--clients", "50", "--time", "100ms"]);
    let (status, _, errors) = run_to_end(shell, SOON);
    assert!(status.success(), "the soft limit is raised: {errors}");
}

#[test]
fn a_server_that_is_full_is_named() {
    let engine = Engine::start(&[]);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // The probe comes without a request.
            let _ = read_head(&mut BufReader::new(&stream));
            let _ = stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let told = complaint(load(address, engine.control_address(), &["--clients", "3", "--time", "1s"]));
    assert!(told.contains("the upgrade was refused: 503 Service Unavailable"), "{told}");
}

#[test]
fn an_engine_that_stops_in_between_makes_it_fail() {
    let engine = Engine::start(&[]);
    let mut command = load_engine(&engine, &["--clients", "20", "--topics", "1", "--time", "60s", "--json"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let output = Lines::collect(child.stdout.take().expect("piped"));
    wait_until(SOON, "deliveries", || engine.metric("fanfare_frames_total", &[]) > 100.0);
    engine.stop();
    let status = child.wait().expect("it ends");
    let result: Value = serde_json::from_str(&output.whole()).expect("JSON");
    assert_eq!(status.code(), Some(1), "{result:#}");
    let closed = result["clients_failed"].as_object().expect("an object");
    assert_eq!(closed.values().filter_map(Value::as_u64).sum::<u64>(), 20, "{result:#}");
    assert!(closed.keys().any(|why| why.contains("(3001)")), "{result:#}");
    assert_eq!(result["lost"], 0, "who was told to leave has lost nothing: {result:#}");
}

#[test]
fn a_server_that_loses_and_repeats_is_caught() {
    // Of each topic's 10 publications the second is never sent, the third twice, and the last never.
    let deliver = |number: u64| match number {
        2 | 10 => 0,
        3 => 2,
        _ => 1,
    };
    let (server, control) = careless_server(deliver);
    let plan = ["--clients", "1", "--topics", "1", "--rate", "20", "--time", "500ms"];
    let (code, result, errors) = measure(load(server, control, &plan));
    assert_eq!(code, Some(1), "{result:#}");
    assert_eq!(result["published"], 10, "{result:#}");
    assert_eq!((&result["lost"], &result["repeated"]), (&2.into(), &1.into()), "{result:#}");
    assert_eq!(errors, "fanfare: 2 publications lost, 1 publications repeated");
}

#[test]
fn a_server_that_is_careful_passes_the_same_way() {
    let (server, control) = careless_server(|_| 1);
    let plan = ["--clients", "1", "--topics", "1", "--rate", "20", "--time", "500ms"];
    let (code, result, errors) = measure(load(server, control, &plan));
    assert_eq!((code, &result["delivered"]), (Some(0), &10.into()), "{result:#}{errors}");
    // Less than the time between two of them: latency counts from when each was due.
    assert!(result["latency_ms"]["p50"].as_f64() < Some(45.0), "{result:#}");
}

/// A server for one client with one topic, and its control port. It sends publication `number` as often as
/// `deliver` says.
fn careless_server(deliver: impl Fn(u64) -> usize + Send + 'static) -> (SocketAddr, SocketAddr) {
    let (publications, published) = mpsc::channel();
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    let addresses = [0, 1].map(|index: usize| listeners[index].local_addr().expect("bound"));
    let [clients, control] = listeners;
    thread::spawn(move || take_requests(&control, &publications));
    thread::spawn(move || serve_one_client(&clients, &published, &deliver));
    (addresses[0], addresses[1])
}

/// Answers every request with success, and passes on what is published: topic and data.
fn take_requests(control: &TcpListener, publications: &Sender<(String, Value)>) {
    let (mut stream, _) = control.accept().expect("a publisher");
    let mut requests = BufReader::new(stream.try_clone().expect("a second handle"));
    while let Some(length) = read_head(&mut requests) {
        let mut body = vec![0; length];
        requests.read_exact(&mut body).expect("a whole body");
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        if let Some(topic) = body["channel"].as_str() {
            publications.send((topic.to_owned(), body["data"].clone())).expect("somebody listens");
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"result\":{}}").expect("a reader");
    }
}

/// Reads the head of a request and returns the length of its body; nothing at the end of the connection.
fn read_head(requests: &mut impl BufRead) -> Option<usize> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if requests.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            return Some(length);
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().expect("a number");
        }
    }
}

fn serve_one_client(
    clients: &TcpListener,
    published: &Receiver<(String, Value)>,
    deliver: &impl Fn(u64) -> usize,
) {
    // The first connection only looks whether somebody listens.
    drop(clients.accept().expect("the probe"));
    let (stream, _) = clients.accept().expect("a client");
    stream.set_read_timeout(Some(SOON)).expect("a timeout that is not zero");
    let mut socket: WebSocket<TcpStream> = tungstenite::accept(stream).expect("an upgrade");
    socket.read().expect("connect and subscribe");
    socket.send(Message::text("{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{}}")).expect("a reader");
    while let Ok((topic, data)) = published.recv_timeout(Duration::from_secs(60)) {
        let number = data["n"].as_u64().expect("numbered");
        for _ in 0..deliver(number) {
            let line = serde_json::json!({"push": {"channel": topic, "pub": {"data": data}}});
            if socket.send(Message::text(line.to_string())).is_err() {
                return;
            }
        }
    }
    // Nothing more is published; the client is still there to say what it missed.
    while socket.read().is_ok() {}
}
