//! Frames and commands that break the rules, and those that only look as if they did.

use super::Scene;
use crate::support::frames::{BINARY, CLOSE, PING, TEXT, frame, frame_with};

#[test]
fn frames_that_the_rfc_forbids_are_closed_with_its_codes() {
    let mut scene = Scene::new();
    let unmasked = [0x81, 2, b'{', b'}'].to_vec();
    let announced = |length: u64| [&[0x81, 0x80 | 127][..], &length.to_be_bytes(), &[1, 2, 3, 4]].concat();
    let cases: [(&str, Vec<u8>, u16); 17] = [
        ("an unmasked frame", unmasked, 1002),
        ("RSV1", frame_with(0xc1, b"{}"), 1002),
        ("RSV3", frame_with(0x91, b"{}"), 1002),
        ("a reserved opcode", frame_with(0x83, b"{}"), 1002),
        ("a reserved control opcode", frame_with(0x8b, b""), 1002),
        ("10 MB announced", announced(10 << 20), 1009),
        ("a length with the highest bit", announced(1 << 63), 1002),
        ("a length longer than need be", [&[0x81, 0x80 | 126, 0, 2, 0, 0, 0, 0][..], b"{}"].concat(), 1002),
        (
            "70,000 bytes in fragments",
            [frame_with(1, &[b' '; 35_000]), frame_with(0, &[b' '; 35_000])].concat(),
            1009,
        ),
        ("a ping in fragments", frame_with(PING, b""), 1002),
        ("a ping of 126 bytes", frame(PING, &[0; 126]), 1002),
        ("a continuation of nothing", frame(0, b"{}"), 1002),
        ("a text within a text", [frame_with(TEXT, b"{"), frame(TEXT, b"{}")].concat(), 1002),
        ("text that is not UTF-8", frame(TEXT, b"\"\xc0\xaf\""), 1007),
        ("a close frame of one byte", frame(CLOSE, &[3]), 1002),
        ("a close code that nobody may send", frame(CLOSE, &1006u16.to_be_bytes()), 1002),
        ("a close reason that is not UTF-8", frame(CLOSE, &[3, 232, 0xff]), 1007),
    ];
    for (what, bytes, code) in cases {
        let mut peer = scene.connected();
        peer.send(&bytes);
        assert_eq!(peer.close_code(), Some(code), "{what}");
        scene.is_unharmed(what);
    }
}

#[test]
fn what_is_no_command_is_closed_with_3501() {
    let mut scene = Scene::new();
    let levels = "[".repeat(10_000) + &"]".repeat(10_000);
    let deep_without_id = format!(r#"{{"publish":{{"channel":"alive:2","data":{levels}}}}}"#);
    let deep_and_open = format!(r#"{{"id":2,"rpc":{}"#, "[".repeat(10_000));
    let cases = [
        ("nothing", ""),
        ("a lone line break", "\n"),
        ("no JSON", "hello"),
        ("half an object", r#"{"id":2,"subscribe":{"#),
        ("an array", "[]"),
        ("a number", "1"),
        ("a string for a command", r#"{"id":2,"subscribe":"A"}"#),
        ("10,000 levels without an end", &deep_and_open),
        ("10,000 levels without an id", &deep_without_id),
        ("no id", r#"{"subscribe":{"channel":"A"}}"#),
        ("id 0", r#"{"id":0,"subscribe":{"channel":"A"}}"#),
        ("an id below 0", r#"{"id":-2,"subscribe":{"channel":"A"}}"#),
        ("an id beyond 32 bits", r#"{"id":4294967296,"subscribe":{"channel":"A"}}"#),
        ("an id that is text", r#"{"id":"2","subscribe":{"channel":"A"}}"#),
        ("two ids in one command", r#"{"id":2,"id":3,"subscribe":{"channel":"A"}}"#),
        ("a second connect", r#"{"id":2,"connect":{}}"#),
        ("a pong without a ping", "{}"),
    ];
    for (what, text) in cases {
        let mut peer = scene.connected();
        peer.command(text);
        assert_eq!(peer.close_code(), Some(3501), "{what}");
        scene.is_unharmed(what);
    }
    for (what, text) in [
        ("a command before connect", r#"{"id":1,"subscribe":{"channel":"A"}}"#),
        ("a publish before connect", r#"{"id":1,"publish":{"channel":"alive:1","data":1}}"#),
    ] {
        let mut peer = scene.upgraded();
        peer.command(text);
        assert_eq!(peer.close_code(), Some(3501), "{what}");
        scene.is_unharmed(what);
    }
    let mut peer = scene.connected();
    // As a client sends it that speaks Protobuf.
    peer.send(&frame(BINARY, b"\x0c\x08\x02\x2a\x08\x0a\x06{\"\x01\x02\x03\x04"));
    assert_eq!(peer.close_code(), Some(3506));
    scene.is_unharmed("bytes where JSON is spoken");
}

#[test]
fn commands_that_cannot_be_done_are_refused_by_number() {
    let mut scene = Scene::new();
    let mut peer = scene.connected();
    let levels = |count: usize| "[".repeat(count) + &"]".repeat(count);
    let deep_data = |count| format!(r#""publish":{{"channel":"alive:2","data":{}}}"#, levels(count));
    let (deep, deeper, just) = (deep_data(130), deep_data(10_000), deep_data(128));
    let deep_elsewhere = format!(r#""ping":{}"#, levels(10_000));
    let too_long = format!(r#""subscribe":{{"channel":"{}"}}"#, "x".repeat(256));
    let cases = [
        ("the first subscription", r#""subscribe":{"channel":"A"}"#, r#""subscribe":{"#),
        ("a second one", r#""subscribe":{"channel":"A"}"#, r#""error":{"code":105"#),
        ("an empty topic", r#""subscribe":{"channel":""}"#, r#""error":{"code":107"#),
        ("a topic over 255 bytes", &too_long, r#""error":{"code":107"#),
        ("a line break in a topic", r#""subscribe":{"channel":"a\nb"}"#, r#""error":{"code":107"#),
        ("a NUL in a topic", r#""subscribe":{"channel":"\u0000"}"#, r#""error":{"code":107"#),
        (
            "publishing where it is not allowed",
            r#""publish":{"channel":"A","data":1}"#,
            r#""error":{"code":103"#,
        ),
        ("130 levels of data", &deep, r#""error":{"code":107"#),
        ("10,000 levels of data", &deeper, r#""error":{"code":107"#),
        ("as many levels as other publishers may have", &just, r#""publish":{}"#),
        ("10,000 levels of what is not looked at", &deep_elsewhere, r#""error":{"code":107"#),
        ("half a surrogate pair", r#""subscribe":{"channel":"\ud83d"}"#, r#""error":{"code":107"#),
        ("a filter", r#""subscribe":{"channel":"C","tf":{"key":"k"}}"#, r#""error":{"code":108"#),
        ("a strange delta", r#""subscribe":{"channel":"C","delta":"x"}"#, r#""error":{"code":108"#),
        ("a delta that SDKs offer", r#""subscribe":{"channel":"C","delta":"fossil"}"#, r#""subscribe":{}"#),
        ("an unknown method", r#""dance":{}"#, r#""error":{"code":104"#),
        ("no method", r#""":{}"#, r#""error":{"code":104"#),
        ("history", r#""history":{"channel":"A"}"#, r#""error":{"code":108"#),
        ("leaving what one is not in", r#""unsubscribe":{"channel":"B"}"#, r#""unsubscribe":{}"#),
    ];
    for (id, (what, command, answer)) in (2..).zip(cases) {
        peer.command(&format!(r#"{{"id":{id},{command}}}"#));
        let reply = peer.reply();
        assert!(reply.starts_with(&format!(r#"{{"id":{id},"#)) && reply.contains(answer), "{what}: {reply}");
        scene.is_unharmed(what);
    }
    // Ids are the client's own business: one that was used before gets its reply too.
    peer.command(r#"{"id":2,"unsubscribe":{"channel":"A"}}"#);
    assert_eq!(peer.reply().trim(), r#"{"id":2,"unsubscribe":{}}"#);
}

/// A connect that cannot be read is answered. Whatever comes with it or behind it is dropped, and who stays is closed: an SDK
/// leaves by itself.
#[test]
fn after_a_connect_that_fails_nothing_more_is_carried_out() {
    let scene = Scene::new();
    let mut peer = scene.upgraded();
    let half = r#"{"id":1,"connect":{"name":"\ud83d"}}"#;
    peer.command(&format!("{half}\n{}", r#"{"id":2,"subscribe":{"channel":"A"}}"#));
    assert_eq!(peer.reply(), r#"{"id":1,"error":{"code":107,"message":"bad request"}}"#);
    peer.command(r#"{"id":3,"connect":{}}"#);
    let (opcode, payload) = peer.read_frame().expect("a close frame");
    assert_eq!((opcode, payload), (CLOSE, [&3501_u16.to_be_bytes()[..], b"bad request"].concat()));
}

/// Whose library sends bytes only is answered in bytes.
#[test]
fn json_in_binary_frames_is_answered_in_binary_frames() {
    let mut scene = Scene::new();
    let mut peer = scene.upgraded();
    let mut ask = |json: &str| {
        peer.send(&frame(BINARY, json.as_bytes()));
        let (opcode, payload) = peer.read_frame().expect("an answer");
        assert_eq!(opcode, BINARY);
        String::from_utf8(payload).expect("JSON")
    };
    assert!(ask(r#"{"id":1,"connect":{}}"#).contains(r#""connect""#));
    assert!(ask(r#"{"id":2,"subscribe":{"channel":"alive:1"}}"#).contains(r#""subscribe":{}"#));
    scene.is_unharmed("bytes");
    let (opcode, payload) = peer.read_frame().expect("a publication");
    assert_eq!(opcode, BINARY);
    assert!(String::from_utf8_lossy(&payload).contains(r#""pub""#));
}

/// One command after the other, without an end to wait for, and the connection stays in order.
#[test]
fn many_commands_in_one_frame_are_answered_in_order() {
    let mut scene = Scene::new();
    let mut peer = scene.connected();
    let commands: Vec<String> =
        (2..102).map(|id| format!(r#"{{"id":{id},"subscribe":{{"channel":"T{id}"}}}}"#)).collect();
    peer.command(&commands.join("\n"));
    let mut ids = Vec::new();
    while ids.len() < 100 {
        let frame = peer.reply();
        let replies =
            frame.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        ids.extend(replies.map(|reply| reply["id"].as_u64().expect("an id")));
    }
    assert_eq!(ids, (2..102).collect::<Vec<_>>());
    scene.is_unharmed("many commands");
}
