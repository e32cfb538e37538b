//! The real binary, as an operator uses it: exit codes, what goes to which stream, and what it says when
//! something is wrong. Peers are scripted here; nothing needs a running engine.

#![allow(clippy::unwrap_used, reason = "the helpers of tests fail by panicking, as tests do")]

mod check;
mod publish;
mod subscribe;
mod tokens;

use std::io::{Read, Write, pipe};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Output, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

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

/// An address that refuses connections for as long as the socket lives: bound, but not listening.
fn refusing() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
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
        (["serve", "--shards", "x"], "expected a whole number from 0 to 4096"),
        (["load", "--rate", "0"], "expected a whole number from 1 to"),
    ] {
        let (code, _, errors) = run(&mut fanfare(&arguments));
        assert!(code == Some(2) && errors.contains(words), "{arguments:?}: {errors}");
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
