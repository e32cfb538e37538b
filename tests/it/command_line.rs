//! The real binary, as an operator uses it: exit codes, what goes to which stream, and what it says when
//! something is wrong. Peers are scripted here; nothing needs a running engine.

#![allow(clippy::unwrap_used, reason = "the helpers of tests fail by panicking, as tests do")]

use std::io::{Read, Write, pipe};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Message, WebSocket};

/// Longer than anything here takes on a busy machine; only a test that fails waits for so long.
const DEADLINE: Duration = Duration::from_secs(30);

/// The binary with these arguments, and nothing of the tester's own settings.
fn fanfare(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FANFARE_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end, which must come before the deadline.
fn finish(mut child: Child) -> Output {
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > DEADLINE {
            child.kill().unwrap();
            panic!("still running after {DEADLINE:?}: {:?}", child.wait_with_output());
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let output = finish(command.spawn().unwrap());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A configuration file, gone with the test.
struct File(std::path::PathBuf);

impl File {
    fn new(test: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fanfare-cli-{}-{test}.toml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // What is left of it in a temporary directory harms nobody.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// `check` with ports that are free whatever else runs here.
fn check(arguments: &[&str]) -> Command {
    let mut command = fanfare(&[&["check"], arguments].concat());
    command.env("FANFARE_SERVER_LISTEN", "127.0.0.1:0").env("FANFARE_CONTROL_LISTEN", "127.0.0.1:0");
    command
}

/// An address that refuses connections for as long as the socket lives: bound, but not listening.
fn refusing() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

#[test]
fn the_printed_defaults_can_be_used_as_they_are() {
    let (code, text, errors) = run(&mut fanfare(&["config"]));
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let file = File::new("defaults", &text);
    let (code, report, errors) = run(&mut check(&["--config", file.path()]));
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{report}");
    let differences: Vec<&str> = report.lines().filter(|line| line.contains(" = ")).collect();
    assert_eq!(differences.len(), 2, "only the two ports: {report}");
}

#[test]
fn check_shows_what_differs_and_who_said_so_but_no_secret() {
    let file = File::new("differs", "[limits]\nclients = 90000000\n[control]\napi_key = 'hunter2'\n");
    let mut command = check(&["--config", file.path()]);
    command.env("FANFARE_AMQP_URL", "amqp://shop:hunter2@rabbit");
    let (code, report, _) = run(&mut command);
    assert_eq!(code, Some(0), "{report}");
    assert!(report.contains(&format!("limits.clients = 90000000  # {}, line 2\n", file.path())), "{report}");
    assert!(report.contains("api_key = \"***\""), "{report}");
    assert!(report.contains("url = \"amqp://rabbit:5672/%2f\"  # environment, FANFARE_AMQP_URL"), "{report}");
    assert!(report.contains("warning  limits.clients is 90,000,000"), "{report}");
    assert!(report.contains("90000256"), "the number to set: {report}");
    assert!(!report.contains("hunter2"), "{report}");
}

#[test]
fn several_nodes_of_rabbitmq_are_a_list_or_one_text() {
    let file = File::new("nodes", "[amqp]\nurl = ['amqp://shop:hunter2@one', 'amqps://shop:hunter2@two']\n");
    let shown = "url = [\"amqp://one:5672/%2f\", \"amqps://two:5671/%2f\"]";
    let mut from_file = check(&["--config", file.path()]);
    let mut from_environment = check(&[]);
    from_environment.env("FANFARE_AMQP_URL", "amqp://shop:hunter2@one, amqps://shop:hunter2@two");
    for command in [&mut from_file, &mut from_environment] {
        let (code, report, _) = run(command);
        assert_eq!(code, Some(0), "{report}");
        assert!(report.contains(shown), "{report}");
        assert!(report.contains("ok       amqps://two:5671/%2f is well-formed"), "{report}");
        assert!(!report.contains("hunter2"), "{report}");
    }
    let (code, _, errors) = run(check(&[]).env("FANFARE_AMQP_URL", "amqp://one,shop:hunter2@two"));
    assert_eq!(code, Some(1));
    assert!(errors.contains("amqp.url (number 2 of 2) begins neither"), "{errors}");
    assert!(!errors.contains("hunter2"), "{errors}");
}

#[test]
fn publish_tries_one_node_after_the_other() {
    let nodes = [refusing(), refusing()];
    let urls = nodes.each_ref().map(|(_, address)| format!("amqp://shop:hunter2@{address}")).join(",");
    let (code, report, errors) = run(&mut fanfare(&["publish", "a", "1", "--amqp", &urls]));
    assert_eq!((code, report.as_str()), (Some(1), ""), "{errors}");
    for (_, address) in &nodes {
        assert!(errors.contains(&format!("amqp://{address}/%2f cannot be reached")), "{errors}");
    }
    assert!(!errors.contains("hunter2"), "{errors}");
}

#[test]
fn check_fails_where_the_machine_does_not_fit() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, report, _) = run(check(&[]).env("FANFARE_CONTROL_LISTEN", &address));
    assert_eq!(code, Some(1));
    assert!(report.contains(&format!("problem  {address} is taken")), "{report}");
    let port = taken.local_addr().unwrap().port();
    assert!(report.contains(&format!("`ss -ltnp 'sport = :{port}'`")), "{report}");

    let (code, report, _) = run(check(&[]).env("FANFARE_SERVER_CPUS", "1023"));
    assert_eq!(code, Some(1));
    assert!(report.contains("problem  server.cpus names 1023"), "{report}");
}

/// The password is written where others may see it, so nothing of it is shown, however it was split.
#[test]
fn a_password_that_needs_escapes_is_refused_without_a_piece_of_it() {
    for (password, escapes) in [
        ("hun/ter", "`%2F`"),
        ("hunter@ter/w#rd", "`%2F` `%23` `%40`"),
        ("1/hunter", "`%2F`"),
        ("hunter?1", "`%3F`"),
    ] {
        let url = format!("amqp://shop:{password}@127.0.0.1:1/%2f");
        for command in [&["check"][..], &["serve"], &["publish", "a", "1", "--amqp", &url]] {
            let (code, report, errors) = run(fanfare(command).env("FANFARE_AMQP_URL", &url));
            assert_eq!((code, report.as_str()), (Some(1), ""), "{errors}");
            assert!(errors.contains(escapes), "{password}: {errors}");
            assert!(
                !errors.contains("hun") && !errors.contains("ter@") && !errors.contains("w#rd"),
                "{errors}"
            );
        }
    }
}

/// Which would otherwise wait for the end of a line that never comes.
#[test]
fn an_http_port_in_place_of_rabbitmqs_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || {
                let mut stream = stream.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\n") {
                    let mut byte = [0];
                    if !matches!(stream.read(&mut byte), Ok(1)) {
                        return;
                    }
                    request.extend(byte);
                }
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            });
        }
    });
    let url = format!("amqp://guest:hunter2@{address}/%2f");
    let serve = ["serve", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--amqp", &url];
    for command in [&serve[..], &["publish", "a", "1", "--amqp", &url]] {
        let (code, _, errors) = run(fanfare(command).env("FANFARE_TIMEOUTS_PUBLISH", "10s"));
        assert_eq!(code, Some(1), "{errors}");
        assert!(errors.contains("speaks HTTP and no AMQP") && errors.contains("management page"), "{errors}");
        assert!(!errors.contains("hunter2"), "{errors}");
    }
}

#[test]
fn a_wrong_configuration_is_told_whole_and_fails() {
    let file = File::new("wrong", "[limits]\nclient = 1\n[server]\nshards = 'many'\n");
    for command in ["check", "serve"] {
        let (code, report, errors) = run(&mut fanfare(&[command, "--config", file.path()]));
        assert_eq!((code, report.as_str()), (Some(1), ""));
        let expected = format!(
            "fanfare: the configuration is wrong\n  {path}, line 2: there is no key `limits.client`; the \
             nearest is `limits.clients`\n  {path}, line 4: `server.shards` is `\"many\"`: expected a whole \
             number from 0 to 65,535\n",
            path = file.path()
        );
        assert_eq!(errors, expected);
    }
}

#[test]
fn a_configuration_that_cannot_be_read_is_named_and_fails() {
    let (code, _, errors) = run(fanfare(&["check"]).env("FANFARE_CONFIG", "/nowhere.toml"));
    assert_eq!(code, Some(1));
    assert!(errors.contains("/nowhere.toml: cannot be read: No such file"), "{errors}");
    // A directory fails for everybody; permissions would not fail for root.
    let directory = std::env::temp_dir();
    let directory = directory.to_str().unwrap();
    for command in ["check", "serve"] {
        let (code, report, errors) = run(&mut fanfare(&[command, "--config", directory]));
        assert_eq!((code, report.as_str()), (Some(1), ""));
        assert!(errors.contains(&format!("{directory}: cannot be read: Is a directory")), "{errors}");
    }
}

#[test]
fn flags_go_over_the_environment() {
    let mut command = fanfare(&["serve", "--listen", "192.0.2.1:2", "--listen", "192.0.2.1:3"]);
    let (code, report, errors) = run(command.env("FANFARE_SERVER_LISTEN", "192.0.2.1:1"));
    assert_eq!((code, report.as_str()), (Some(1), ""));
    assert!(!errors.contains("192.0.2.1:1"), "{errors}");
    for address in ["192.0.2.1:2", "192.0.2.1:3"] {
        assert!(errors.contains(&format!("{address} can be reached from other machines")), "{errors}");
    }
    assert!(errors.contains("--insecure"), "{errors}");
}

#[test]
fn a_source_without_a_rabbitmq_is_no_silent_default() {
    let (code, report, errors) = run(&mut fanfare(&["serve", "--source", "queue"]));
    assert_eq!((code, report.as_str()), (Some(1), ""));
    assert!(errors.contains("no RabbitMQ is named") && errors.contains("--amqp"), "{errors}");
    let (code, report, _) = run(check(&[]).env("FANFARE_AMQP_SOURCE", "queue"));
    assert_eq!(code, Some(0), "{report}");
    assert!(report.contains("warning  amqp.source has no effect: amqp.url is empty"), "{report}");
    let (code, _, errors) = run(&mut check(&["--connect"]));
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("--connect: no RabbitMQ is named"), "{errors}");
}

#[test]
fn service_links_of_kubernetes_are_told_in_one_line() {
    let mut command = check(&[]);
    command.env("FANFARE_PORT", "tcp://10.96.12.7:8000").env("FANFARE_SERVICE_HOST", "10.96.12.7");
    let (code, report, errors) = run(&mut command);
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{report}");
    let told: Vec<&str> = report.lines().filter(|line| line.contains("Kubernetes")).collect();
    assert!(
        matches!(told[..], [line] if line.starts_with("note     Kubernetes set FANFARE_PORT, FANFARE_SERVICE_HOST")),
        "{report}"
    );
}

#[test]
fn a_command_line_that_makes_no_sense_has_its_own_exit_code() {
    for arguments in
        [&["serve", "--listen", "nowhere"][..], &["sing"], &["subscribe"], &["publish", "a"], &[]]
    {
        let (code, report, errors) = run(&mut fanfare(arguments));
        assert_eq!((code, report.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(errors.contains("--help"), "{errors}");
    }
    for (arguments, words) in [
        (["serve", "--control", "[::1"], "expected an address with its port"),
        (["serve", "--shards", "x"], "expected a whole number from 0 to 65535"),
        (["load", "--rate", "0"], "expected a whole number from 1 to"),
    ] {
        let (code, _, errors) = run(&mut fanfare(&arguments));
        assert!(code == Some(2) && errors.contains(words), "{arguments:?}: {errors}");
    }
}

#[test]
fn the_port_of_the_management_page_is_recognised_without_connecting() {
    for (url, code, words) in [
        ("http://localhost:15672", 1, "begins with `http://`, as the address of RabbitMQ's management page"),
        ("amqp://localhost:15672", 0, "has the usual port of RabbitMQ's management page; AMQP's is 5672"),
    ] {
        let (status, report, errors) = run(check(&[]).env("FANFARE_AMQP_URL", url));
        assert_eq!(status, Some(code), "{report}{errors}");
        assert!((report.clone() + &errors).contains(words), "{report}{errors}");
    }
}

/// What a person reads is not escaped as for a program.
#[test]
fn messages_hold_no_backslashes_that_nobody_wrote() {
    let answer = |status: &str, body: &str| -> &'static str {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).leak()
    };
    let body = r#"{"error":{"code":107,"message":"the topic's name is \"x\""}}"#;
    let (address, server) = http_once(answer("400 Bad Request", body));
    let (code, _, errors) = run(&mut fanfare(&["publish", "news", "{}", "--control", &address]));
    assert_eq!(code, Some(1));
    assert!(errors.contains("refused it: the topic's name is \"x\"") && !errors.contains('\\'), "{errors}");
    server.join().unwrap();
    let body = r#"{"error":{"code":104,"message":"not found: there are /"}}"#;
    let (address, server) = http_once(answer("404 Not Found", body));
    let url = format!("ws://{address}/x");
    let (code, _, errors) = run(&mut fanfare(&["subscribe", "news", "--url", &url]));
    assert_eq!(code, Some(1));
    assert!(errors.contains("404 Not Found: not found: there are /; no endpoint"), "{errors}");
    server.join().unwrap();
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let (code, _, errors) = run(fanfare(&["config"]).stdout(writer));
    assert_eq!((code, errors.as_str()), (Some(0), ""));
}

#[test]
fn publish_says_what_is_wrong() {
    let (_socket, address) = refusing();
    let address = address.to_string();
    for (arguments, problem) in [
        (&["a", "{}", "--control", &address][..], format!("nothing listens on {address}")),
        (&["a", "{"], "`{` is not JSON".to_owned()),
        (&["a", "{}", "--amqp", "amqp://u:hunter2@[::1]"], "IPv6".to_owned()),
    ] {
        let (code, report, errors) = run(&mut fanfare(&[&["publish"], arguments].concat()));
        assert_eq!((code, report.as_str()), (Some(1), ""), "{errors}");
        assert!(errors.starts_with("fanfare: ") && errors.contains(&problem), "{errors}");
        assert!(!errors.contains("hunter2"), "{errors}");
    }
}

/// An HTTP server that takes one request, answers `answer`, and returns the request.
fn http_once(answer: &'static str) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut request = Vec::new();
        while !(request.ends_with(b"}") || request.starts_with(b"GET") && request.ends_with(b"\r\n\r\n")) {
            let mut buffer = [0; 4096];
            let read = stream.read(&mut buffer).unwrap();
            assert!(read > 0, "{}", String::from_utf8_lossy(&request));
            request.extend_from_slice(&buffer[..read]);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(request).unwrap()
    });
    (address, server)
}

#[test]
fn publish_goes_through_the_control_port() {
    let (address, server) = http_once("HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{\"result\":{}}");
    let mut command = fanfare(&["publish", "news", r#"{"n": 1e400}"#, "--control", &address]);
    let (code, report, errors) = run(command.env("FANFARE_CONTROL_API_KEY", "hunter2"));
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert_eq!(report, "published to news\n");
    let request = server.join().unwrap();
    assert!(request.starts_with("POST /api/publish HTTP/1.1\r\n"), "{request}");
    let request_head = request.to_lowercase();
    assert!(request_head.contains(&format!("host: {address}\r\n")), "{request}");
    assert!(request_head.contains("x-api-key: hunter2\r\n"), "{request}");
    assert!(request.ends_with(r#"{"channel":"news","data":{"n": 1e400}}"#), "byte for byte: {request}");
}

#[test]
fn publish_takes_standard_input() {
    let (address, server) = http_once("HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{\"result\":{}}");
    let mut command = fanfare(&["publish", "news", "-", "--control", &address]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b" {\"n\": 1}\n").unwrap();
    let output = finish(child);
    assert!(output.status.success(), "{output:?}");
    assert!(server.join().unwrap().ends_with(r#"{"channel":"news","data":{"n": 1}}"#));
    // Nothing at all is no message.
    let (code, _, errors) = run(&mut fanfare(&["publish", "news", "-", "--control", &address]));
    assert_eq!(code, Some(1));
    assert!(errors.contains("standard input is empty: expected one JSON value"), "{errors}");
    let mut child = fanfare(&["publish", "news", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    let errors = String::from_utf8(finish(child).stderr).unwrap();
    assert!(errors.contains("is not one JSON value (line 1, column 1; a text is written"), "{errors}");
}

#[test]
fn publish_calls_a_wrong_key_wrong() {
    let (address, server) = http_once("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n");
    let (code, _, errors) =
        run(&mut fanfare(&["publish", "news", "{}", "--control", &address, "--api-key", "hunter2"]));
    assert_eq!(code, Some(1));
    assert!(errors.contains("refuses this API key") && !errors.contains("hunter2"), "{errors}");
    server.join().unwrap();
}

#[test]
fn publish_tells_a_refusal() {
    let refusal = "HTTP/1.1 200 OK\r\ncontent-length: 46\r\n\r\n\
                   {\"error\":{\"code\":107,\"message\":\"bad request\"}}";
    for (answer, problem) in [
        (refusal, "bad request (error 107)"),
        ("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", "FANFARE_CONTROL_API_KEY"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP"),
    ] {
        let (address, server) = http_once(answer);
        let (code, report, errors) = run(&mut fanfare(&["publish", "news", "{}", "--control", &address]));
        assert_eq!((code, report.as_str()), (Some(1), ""));
        assert!(errors.contains(problem), "{errors}");
        server.join().unwrap();
    }
}

/// A WebSocket endpoint; the script gets one connection after the other.
fn endpoint(script: impl FnOnce(&TcpListener) + Send + 'static) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/connection/websocket", listener.local_addr().unwrap());
    (url, thread::spawn(move || script(&listener)))
}

fn accept(listener: &TcpListener) -> WebSocket<TcpStream> {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    tungstenite::accept(stream).unwrap()
}

fn text(socket: &mut WebSocket<TcpStream>) -> String {
    socket.read().unwrap().into_text().unwrap().to_string()
}

/// Answers the first frame, which must ask for these topics.
fn welcome(socket: &mut WebSocket<TcpStream>, topics: &[&str]) {
    let opening = text(socket);
    assert!(opening.contains("\"connect\""), "{opening}");
    assert_eq!(opening.lines().count(), 1 + topics.len(), "one frame: {opening}");
    let mut replies = r#"{"id":1,"connect":{"client":"c","version":"v","ping":25,"pong":true}}"#.to_owned();
    for (topic, id) in topics.iter().zip(2..) {
        assert!(opening.contains(&format!(r#"{{"id":{id},"subscribe":{{"channel":"{topic}","#)), "{opening}");
        replies.push_str(&format!("\n{{\"id\":{id},\"subscribe\":{{}}}}"));
    }
    socket.send(Message::text(replies)).unwrap();
}

fn publication(topic: &str, data: &str) -> String {
    format!(r#"{{"push":{{"channel":"{topic}","pub":{{"data":{data},"offset":1}}}}}}"#)
}

fn close(socket: &mut WebSocket<TcpStream>, code: u16, reason: &'static str) {
    socket.close(Some(CloseFrame { code: code.into(), reason: reason.into() })).unwrap();
    while socket.read().is_ok() {}
}

#[test]
fn subscribe_prints_a_line_per_publication_and_comes_back_when_told_to() {
    let (url, server) = endpoint(|listener| {
        let mut socket = accept(listener);
        welcome(&mut socket, &["a", "b"]);
        let two = format!("{}\n{}\n", publication("a", r#"{"n": 1}"#), publication("b", "\"x\""));
        socket.send(Message::text(two)).unwrap();
        socket.send(Message::text("{}")).unwrap();
        assert_eq!(text(&mut socket), "{}", "the ping is answered");
        close(&mut socket, 3001, "shutdown");
        let mut socket = accept(listener);
        welcome(&mut socket, &["a", "b"]);
        socket.send(Message::text(publication("a", "2"))).unwrap();
        close(&mut socket, 3503, "force disconnect");
    });
    let (code, report, errors) = run(&mut fanfare(&["subscribe", "a", "b", "--url", &url]));
    assert_eq!(report, "a\t{\"n\": 1}\nb\t\"x\"\na\t2\n");
    assert_eq!(code, Some(1), "sent away for good");
    assert!(errors.contains("closed by the engine: shutdown (3001); connecting again in"), "{errors}");
    assert!(errors.ends_with("fanfare: closed by the engine: force disconnect (3503)\n"), "{errors}");
    server.join().unwrap();
}

#[test]
fn subscribe_prints_json_if_it_is_told_to() {
    let (url, server) = endpoint(|listener| {
        let mut socket = accept(listener);
        welcome(&mut socket, &["a"]);
        socket.send(Message::text(publication("a", r#"{"n": 1}"#))).unwrap();
        close(&mut socket, 3503, "force disconnect");
    });
    let (_, report, _) = run(&mut fanfare(&["subscribe", "a", "--json", "--url", &url]));
    assert_eq!(report, "{\"topic\":\"a\",\"offset\":1,\"data\":{\"n\": 1}}\n");
    server.join().unwrap();
}

#[test]
fn subscribe_recovers_what_it_missed_while_it_was_away() {
    let (url, server) = endpoint(|listener| {
        let mut socket = accept(listener);
        text(&mut socket);
        let connected = r#"{"id":1,"connect":{"client":"c","version":"v"}}"#;
        let subscribed = r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"e"}}"#;
        socket.send(Message::text(format!("{connected}\n{subscribed}"))).unwrap();
        socket.send(Message::text(publication("a", "1"))).unwrap();
        drop(socket);
        let mut socket = accept(listener);
        let opening = text(&mut socket);
        assert!(opening.contains(r#""epoch":"e","offset":1,"recover":true"#), "{opening}");
        let missed = r#"{"data":2,"offset":2},{"data":3,"offset":3}"#;
        let subscribed = format!(
            r#"{{"id":2,"subscribe":{{"recoverable":true,"epoch":"e","offset":1,"recovered":true,"publications":[{missed}]}}}}"#
        );
        socket.send(Message::text(format!("{connected}\n{subscribed}"))).unwrap();
        close(&mut socket, 3503, "force disconnect");
    });
    let (_, report, errors) = run(&mut fanfare(&["subscribe", "a", "--url", &url]));
    assert_eq!(report, "a\t1\na\t2\na\t3\n");
    assert!(errors.contains("fanfare: subscribed to a again after "), "{errors}");
    assert!(errors.contains(" s; 2 publications recovered\n"), "{errors}");
    server.join().unwrap();
}

#[test]
fn subscribe_ends_quietly_when_nobody_reads_any_more() {
    let (url, server) = endpoint(|listener| {
        let mut socket = accept(listener);
        welcome(&mut socket, &["a"]);
        socket.send(Message::text(publication("a", "1"))).unwrap();
        while socket.read().is_ok() {}
    });
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let (code, _, errors) = run(fanfare(&["subscribe", "a", "--url", &url]).stdout(writer));
    assert_eq!((code, errors.as_str()), (Some(0), "fanfare: subscribed to a\n"));
    server.join().unwrap();
}

#[test]
fn subscribe_says_what_is_wrong() {
    let (_socket, address) = refusing();
    let nothing = format!("ws://{address}/connection/websocket");
    let (http, server) = http_refusal("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
    for (url, problem) in [
        (nothing.as_str(), "nothing listens at ws://127.0.0.1:"),
        (http.as_str(), "404 Not Found: no endpoint has this path"),
        ("wss://localhost/", "needs TLS"),
        ("http://localhost/", "begins with ws://"),
    ] {
        let (code, report, errors) = run(&mut fanfare(&["subscribe", "a", "--url", url]));
        assert_eq!((code, report.as_str()), (Some(1), ""), "{errors}");
        assert!(errors.contains(problem), "{errors}");
    }
    server.join().unwrap();
}

/// A server that answers one upgrade request with plain HTTP.
fn http_refusal(answer: &'static str) -> (String, JoinHandle<()>) {
    endpoint(move |listener| {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.extend(byte);
        }
        stream.write_all(answer.as_bytes()).unwrap();
    })
}
