//! The swarm that loads the engine in tests and benches is itself tested: against a scripted server, with
//! the server's bytes cut at every place.

use std::io::{Cursor, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

use crate::support::framed::compressed;
use crate::support::swarm::{ClientIndex, Counted, Line, Observer, Publication, Swarm};
use crate::support::wait::SOON;

/// The answers to upgrade, connect and one subscribe.
const WELCOME: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\
    \x81\x2d{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{}}";

/// Two publications in one frame, a ping, and a frame that is long enough for two bytes of length.
fn news() -> Vec<u8> {
    let line = |number: u32, fill: &str| {
        format!(r#"{{"push":{{"channel":"t","pub":{{"data":{{"n":{number},"fill":"{fill}"}}}}}}}}"#)
    };
    let mut bytes = Vec::new();
    for payload in [format!("{}\n{}\n", line(1, ""), line(2, "")), "{}".into(), line(3, &"x".repeat(200))] {
        bytes.push(0x81);
        match u8::try_from(payload.len()) {
            Ok(length) if length < 126 => bytes.push(length),
            _ => {
                bytes.push(126);
                bytes.extend(u16::try_from(payload.len()).expect("short").to_be_bytes());
            }
        }
        bytes.extend(payload.as_bytes());
    }
    bytes
}

/// A server for one client that sends piece after piece, each when it is told to, and returns what the
/// client sent after its request.
fn scripted_server(pieces: Vec<Vec<u8>>) -> (SocketAddr, Sender<()>, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let (go, told) = channel();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the client comes");
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("the client's request");
            request.push(byte[0]);
        }
        for piece in pieces {
            told.recv().expect("the test goes on");
            stream.write_all(&piece).expect("the client reads");
        }
        // It fails where the client has gone first.
        let _ = stream.shutdown(Shutdown::Write);
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("the client closes");
        rest
    });
    (address, go, server)
}

/// What a server understands of the client's bytes, by an implementation that is not ours.
fn understood(bytes: Vec<u8>) -> Vec<Message> {
    let mut socket = WebSocket::from_raw_socket(Cursor::new(bytes), Role::Server, None);
    std::iter::from_fn(|| socket.read().ok()).collect()
}

/// Writes down what it sees.
#[derive(Default)]
struct Diary {
    frames: usize,
    numbers: Vec<u64>,
    replies: Vec<u32>,
    pings: usize,
    closed: Option<Option<u16>>,
}

impl Observer for Diary {
    fn frame(&mut self, _client: ClientIndex, _payload: &[u8]) {
        self.frames += 1;
    }

    fn line(&mut self, _client: ClientIndex, line: Line<'_>) {
        match line {
            Line::Ping => self.pings += 1,
            Line::Reply { id, error: None } => self.replies.push(id),
            Line::Publication(Publication { topic: "t", number, .. }) => self.numbers.push(number),
            other => panic!("{other:?} was not sent"),
        }
    }

    fn closed(&mut self, _client: ClientIndex, code: Option<u16>) {
        self.closed = Some(code);
    }
}

/// How long the client waits for the first piece; if it came later, the cut would not be tested.
const FIRST_PIECE: Duration = Duration::from_millis(5);

#[test]
fn input_is_read_alike_wherever_it_is_cut() {
    let bytes = [WELCOME, &news(), b"\x88\x02\x0b\xb9"].concat();
    let commands = "{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"t\"}}";
    for cut in 0..=bytes.len() {
        let (address, go, server) = scripted_server(vec![bytes[..cut].to_vec(), bytes[cut..].to_vec()]);
        let mut swarm = Swarm::new(address, 1).expect("a poll");
        let mut diary = Diary::default();
        swarm.connect(0, &["t"]).expect("a socket");
        swarm.turn(FIRST_PIECE, &mut diary).expect("turns");
        go.send(()).expect("the server waits");
        swarm.turn(FIRST_PIECE, &mut diary).expect("turns");
        go.send(()).expect("the server waits");
        // The close frame too: a socket that is closed with something unread resets the connection.
        let all = |_: &Swarm, diary: &mut Diary| diary.frames == 4 && diary.closed.is_some();
        swarm.turn_until("all frames come", SOON, &mut diary, all).expect("turns");
        drop(swarm);
        assert_eq!(
            (diary.numbers, diary.replies, diary.pings),
            (vec![1, 2, 3], vec![1, 2], 1),
            "cut at {cut}"
        );
        let sent = understood(server.join().expect("the server's script ends"));
        assert_eq!(sent[..2], [Message::text(commands), Message::text("{}")], "cut at {cut}");
    }
}

#[test]
fn the_code_of_a_close_frame_is_passed_on_and_answered() {
    let (address, go, server) = scripted_server(vec![[WELCOME, b"\x88\x02\x0b\xb9"].concat()]);
    let mut swarm = Swarm::new(address, 1).expect("a poll");
    let mut diary = Diary::default();
    swarm.connect(0, &["t"]).expect("a socket");
    go.send(()).expect("the server waits");
    swarm.turn_until("the close", SOON, &mut diary, |_, diary| diary.closed.is_some()).expect("turns");
    assert_eq!(diary.closed, Some(Some(3001)));
    let sent = understood(server.join().expect("the server's script ends"));
    assert!(matches!(sent[1..], [Message::Close(Some(_))]), "{sent:?}");
}

#[test]
fn counting_sees_as_many_frames_and_bytes_wherever_they_are_cut() {
    let news = news();
    // Three heads, of 2, 2 and 4 bytes, and the ping's two do not count.
    let expected = Counted { frames: 2, bytes: (news.len() - 2 - 2 - 2 - 4) as u64 };
    for cut in 0..=news.len() {
        let pieces = vec![WELCOME.to_vec(), news[..cut].to_vec(), news[cut..].to_vec()];
        let (address, go, server) = scripted_server(pieces);
        let mut swarm = Swarm::new(address, 1).expect("a poll");
        let mut diary = Diary::default();
        go.send(()).expect("the server waits");
        swarm.connect_all(&mut diary, SOON, |_, _| vec!["t"]).expect("connects");
        swarm.count_only();
        go.send(()).expect("the server waits");
        swarm.turn(FIRST_PIECE, &mut diary).expect("turns");
        go.send(()).expect("the server waits");
        let all = |swarm: &Swarm, _: &mut Diary| swarm.counted() == expected;
        swarm
            .turn_until(&format!("both frames are counted, cut at {cut}"), SOON, &mut diary, all)
            .expect("turns");
        drop(swarm);
        let sent = understood(server.join().expect("the server's script ends"));
        assert_eq!(sent[1..], [Message::text("{}")], "cut at {cut}");
    }
}

#[test]
fn who_counted_reads_again_and_compressed_frames_too() {
    let (status, rest) = WELCOME.split_at(WELCOME.iter().position(|byte| *byte == b'\n').expect("lines") + 1);
    let welcome = [status, b"Sec-WebSocket-Extensions: permessage-deflate\r\n", rest].concat();
    let line = compressed(br#"{"push":{"channel":"t","pub":{"data":{"n":4,"fill":""}}}}"#);
    let frame = [&[0xc1, u8::try_from(line.len()).expect("short")], line.as_slice()].concat();
    let (address, go, _server) = scripted_server(vec![welcome, news(), [news(), frame].concat()]);
    let mut swarm = Swarm::new(address, 1).expect("a poll");
    swarm.deflate();
    let mut diary = Diary::default();
    go.send(()).expect("the server waits");
    swarm.connect_all(&mut diary, SOON, |_, _| vec!["t"]).expect("connects");
    swarm.count_only();
    go.send(()).expect("the server waits");
    let counted = |swarm: &Swarm, _: &mut Diary| swarm.counted().frames == 2;
    swarm.turn_until("the first ones are counted", SOON, &mut diary, counted).expect("turns");
    swarm.read_again();
    go.send(()).expect("the server waits");
    let all = |_: &Swarm, diary: &mut Diary| diary.numbers.len() == 4;
    swarm.turn_until("the others are read", SOON, &mut diary, all).expect("turns");
    assert_eq!(diary.numbers, [1, 2, 3, 4]);
}

#[test]
fn the_usual_and_the_unusual_publication_are_read_alike() {
    let expected = Publication { topic: "t:1", number: 42, data: br#"{"n":42,"fill":"abc"}"# };
    for line in [
        r#"{"push":{"channel":"t:1","pub":{"data":{"n":42,"fill":"abc"}}}}"#,
        r#"{"push":{"channel":"t:1","pub":{"data":{"n":42,"fill":"abc"},"offset":7}}}"#,
        r#"{"push":{"channel":"t:1","pub":{"offset":7,"data":{"n":42,"fill":"abc"}}}}"#,
    ] {
        assert_eq!(Line::parse(line.as_bytes()), Line::Publication(expected), "{line}");
    }
}

#[test]
fn replies_pings_and_unsubscribes_are_told_apart() {
    assert_eq!(Line::parse(b"{}"), Line::Ping);
    assert_eq!(Line::parse(br#"{"id":3,"subscribe":{}}"#), Line::Reply { id: 3, error: None });
    let recovered = br#"{"id":7,"subscribe":{"recovered":true,"publications":[{"data":1,"offset":1}]}}"#;
    assert_eq!(Line::parse(recovered), Line::Reply { id: 7, error: None });
    let refused = br#"{"id":4,"error":{"code":105,"message":"already subscribed"}}"#;
    assert_eq!(Line::parse(refused), Line::Reply { id: 4, error: Some(105) });
    let push = br#"{"push":{"channel":"t","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#;
    assert_eq!(Line::parse(push), Line::Unsubscribed { topic: "t", code: 2500 });
}
