use super::*;
use crate::transport::credential::CredentialPlaces;

const HEAD: &[u8] = b"GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn policy() -> Policy {
    let upgrade = UpgradePolicy {
        path: "/ws".to_owned(),
        head_bytes: 1000,
        allowed_origins: Vec::new(),
        page_port: 0,
        open_on_loopback: false,
        deflate: true,
        credentials: CredentialPlaces::default(),
    };
    Policy { upgrade, message_bytes: 100 }
}

/// A frame of a client's whose mask changes nothing.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, 0x80 | u8::try_from(payload.len()).unwrap(), 0, 0, 0, 0], payload].concat()
}

/// What the first step means, as its debug text, and how many bytes it took.
fn step(connection: &mut WebSocket, input: &[u8]) -> (usize, String) {
    let mut input = input.to_vec();
    let (taken, step) = connection.step(&mut input, &policy(), &mut Inflater::default());
    (taken, format!("{step:?}"))
}

/// An open connection.
fn open() -> WebSocket {
    let mut connection = WebSocket::default();
    let (taken, step) = step(&mut connection, HEAD);
    assert!(taken == HEAD.len() && step.starts_with("Upgraded"), "{step}");
    connection
}

#[test]
fn a_request_opens_the_connection_and_what_follows_it_is_messages() {
    let mut connection = WebSocket::default();
    assert_eq!(step(&mut connection, &HEAD[..40]), (0, "Incomplete".to_owned()));
    assert_eq!(connection.phase(), Phase::Upgrading);
    let input = [HEAD, &frame(0x81, b"{}")].concat();
    let (taken, upgraded) = step(&mut connection, &input);
    assert!(taken == HEAD.len() && upgraded.starts_with("Upgraded"), "{upgraded}");
    assert_eq!(connection.phase(), Phase::Open);
    assert_eq!(step(&mut connection, &input[taken..]), (8, r#"Message(Text("{}"))"#.to_owned()));
}

#[test]
fn a_request_that_is_refused_is_answered_and_our_side_of_the_stream_ends() {
    let mut connection = WebSocket::default();
    let (_, refused) = step(&mut connection, b"GET /other HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(refused.starts_with("Refused { refusal: OtherPath"), "{refused}");
    let mut out = Vec::new();
    connection.refuse(&mut out, Refusal::OtherPath);
    assert!(out.starts_with(b"HTTP/1.1 404"));
    assert_eq!((connection.phase(), connection.ending()), (Phase::Closing, Ending::Shutdown));
}

#[test]
fn the_peers_close_is_answered_with_its_code_and_nothing_is_waited_for() {
    for (payload, answer) in [(&[0x03, 0xe8][..], &[0x88, 2, 0x03, 0xe8][..]), (&[], &[0x88, 0])] {
        let mut connection = open();
        let code = (!payload.is_empty()).then_some(1000);
        let expected = format!("PeerCloses({code:?})");
        assert_eq!(step(&mut connection, &frame(0x88, payload)).1, expected);
        let mut out = Vec::new();
        connection.answer_close(&mut out, code);
        assert_eq!(out, answer);
        assert_eq!((connection.phase(), connection.ending()), (Phase::Closing, Ending::Gone));
    }
}

#[test]
fn after_our_close_only_the_peers_is_looked_at() {
    let mut connection = open();
    let mut out = Vec::new();
    connection.close(&mut out, 3001, "shutdown");
    assert_eq!(out, b"\x88\x0a\x0b\xb9shutdown");
    assert_eq!(connection.ending(), Ending::Wait);
    assert_eq!(step(&mut connection, &frame(0x81, b"{}")).1, "Nothing");
    assert_eq!(step(&mut connection, &frame(0x89, b"")).1, "Nothing");
    assert_eq!(step(&mut connection, &frame(0x88, &[0x0b, 0xb9])).1, "PeerCloses(Some(3001))");
    assert_eq!(connection.ending(), Ending::Gone);
}

#[test]
fn messages_go_out_as_text_until_the_peer_is_answered_in_bytes() {
    let mut connection = open();
    let mut out = Vec::new();
    connection.put_lines(&mut out, b"{}\n");
    connection.answer_in_bytes();
    connection.put_lines(&mut out, b"{}\n{}\n");
    assert_eq!(out, b"\x81\x02{}\x82\x05{}\n{}");
    assert_eq!(connection.framing(Encoding::Deflated), Framing::CompressedBinary);
}
