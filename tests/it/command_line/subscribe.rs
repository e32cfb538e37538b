//! `fanfare subscribe` against a scripted endpoint.

use std::io::{Read, Write, pipe};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use super::{DEADLINE, fanfare, refusing, run};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Message, WebSocket};

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
