use super::*;
use crate::codec::deflate::{Deflater, TAIL};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FIN: u8 = 0x80;
const COMPRESSED: u8 = 0x40;

/// A masked frame, as a client sends it; `first` is its first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..=125 => bytes.push(0x80 | u8::try_from(short).unwrap()),
        medium @ 126..=65_535 => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(medium).unwrap().to_be_bytes());
        }
        long => {
            bytes.push(0x80 | 127);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// What a client's stream says, for comparisons: an [`Event`] that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
    Fragment,
}

impl From<Event<'_>> for Said {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Text(text) => Self::Text(text.into_owned()),
            Event::Binary(bytes) => Self::Binary(bytes.into_owned()),
            Event::Ping(payload) => Self::Ping(payload.to_vec()),
            Event::Pong(payload) => Self::Pong(payload.to_vec()),
            Event::Close(code) => Self::Close(code),
            Event::Fragment => Self::Fragment,
        }
    }
}

/// Decodes as a session does: what is incomplete is kept, and put in front of the next piece.
fn said_in_pieces(
    pieces: &[&[u8]],
    message_max: usize,
    mut inflater: Option<&mut Inflater>,
) -> Result<Vec<Said>, Violation> {
    let (mut kept, mut assembly, mut said) = (Vec::new(), None, Vec::new());
    for piece in pieces {
        kept.extend_from_slice(piece);
        let mut at = 0;
        while let Decoded::Frame { consumed, event } =
            decode(&mut kept[at..], &mut assembly, message_max, inflater.as_deref_mut())?
        {
            at += consumed;
            said.push(event.into());
        }
        kept.drain(..at);
    }
    assert!(kept.is_empty(), "the streams of these tests end with a frame");
    Ok(said)
}

fn said(stream: &[u8], message_max: usize) -> Result<Vec<Said>, Violation> {
    said_in_pieces(&[stream], message_max, None)
}

/// What a client says that may compress.
fn said_compressed(stream: &[u8], message_max: usize) -> Result<Vec<Said>, Violation> {
    said_in_pieces(&[stream], message_max, Some(&mut Inflater::default()))
}

/// The payload of a compressed message.
fn compressed(plain: &[u8]) -> Vec<u8> {
    let segment = Deflater::default().segment(plain, 0).to_vec();
    segment[..segment.len() - TAIL.len()].to_vec()
}

#[test]
fn every_cut_of_a_stream_says_the_same() {
    let long = "long ".repeat(30);
    let stream = [
        frame(FIN | TEXT, "whole €".as_bytes()),
        frame(TEXT, b"in "),
        frame(FIN | PING, b"p"),
        frame(0, &"€".as_bytes()[..1]),
        frame(FIN | PONG, b""),
        frame(0, b""),
        frame(FIN, &"€".as_bytes()[1..]),
        frame(FIN | BINARY, &[0, 255]),
        frame(BINARY, &[1]),
        frame(FIN, &[2]),
        frame(FIN | TEXT, long.as_bytes()),
        frame(FIN | CLOSE, b"\x03\xe8bye"),
    ]
    .concat();
    let expected = [
        Said::Text("whole €".to_owned()),
        Said::Fragment,
        Said::Ping(b"p".to_vec()),
        Said::Fragment,
        Said::Pong(Vec::new()),
        Said::Fragment,
        Said::Text("in €".to_owned()),
        Said::Binary(vec![0, 255]),
        Said::Fragment,
        Said::Binary(vec![1, 2]),
        Said::Text(long),
        Said::Close(Some(1000)),
    ];
    for first in 0..=stream.len() {
        for second in first..=stream.len() {
            let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
            assert_eq!(
                said_in_pieces(&pieces, 200, None).as_deref(),
                Ok(&expected[..]),
                "cut at {first}, {second}"
            );
        }
    }
}

#[test]
fn a_whole_message_is_borrowed_and_a_fragmented_one_leaves_nothing_behind() {
    let mut assembly = None;
    let mut whole = frame(FIN | TEXT, b"abc");
    let Ok(Decoded::Frame { consumed, event }) = decode(&mut whole, &mut assembly, 10, None) else {
        panic!()
    };
    assert!(matches!(event, Event::Text(Cow::Borrowed("abc"))));
    assert_eq!((consumed, assembly.is_none()), (9, true));

    decode(&mut frame(BINARY, b"ab"), &mut assembly, 10, None).unwrap();
    assert!(assembly.is_some());
    let mut last = frame(FIN, b"c");
    let Ok(Decoded::Frame { event, .. }) = decode(&mut last, &mut assembly, 10, None) else { panic!() };
    assert!(matches!(&event, Event::Binary(Cow::Owned(bytes)) if bytes == b"abc"));
    assert!(assembly.is_none());
}

#[test]
fn incomplete_input_is_left_as_it_was() {
    let whole = frame(FIN | TEXT, b"some text");
    let mut part = whole[..whole.len() - 1].to_vec();
    assert_eq!(decode(&mut part, &mut None, 100, None), Ok(Decoded::Incomplete));
    assert_eq!(part, whole[..whole.len() - 1]);
}

#[test]
fn masks_come_off_at_every_length() {
    for len in 0..200_usize {
        let payload: Vec<u8> = (0..len).map(|index| u8::try_from(index * 7 % 256).unwrap()).collect();
        assert_eq!(said(&frame(FIN | BINARY, &payload), 200), Ok(vec![Said::Binary(payload)]));
    }
}

/// Frames that are refused, each by the rule that is named, after the frames before it.
fn forbidden() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let no_mask = |first: u8| vec![first, 0];
    let length = |code: u8, bytes: &[u8]| [&[FIN | BINARY, 0x80 | code], bytes, &MASK].concat();
    let start = || frame(TEXT, b"a");
    let mut cases = vec![
        ("without mask", vec![], no_mask(FIN | TEXT)),
        ("without mask", vec![], no_mask(FIN | PING)),
        ("fragments", vec![], frame(PING, b"")),
        ("fragments", vec![], frame(CLOSE, b"")),
        ("over 125", vec![], frame(FIN | PING, &[0; 126])),
        ("over 125", vec![], frame(FIN | CLOSE, &[0; 70_000])),
        ("shortest form", vec![], length(126, &125_u16.to_be_bytes())),
        ("shortest form", vec![], length(127, &65_535_u64.to_be_bytes())),
        ("shortest form", vec![], length(127, &0_u64.to_be_bytes())),
        ("64 bits", vec![], length(127, &(1_u64 << 63).to_be_bytes())),
        ("64 bits", vec![], length(127, &u64::MAX.to_be_bytes())),
        ("no message", vec![], frame(0, b"a")),
        ("no message", vec![], frame(FIN, b"a")),
        ("no message", [start(), frame(FIN, b"b")].concat(), frame(FIN, b"c")),
        ("inside of another", start(), frame(FIN | TEXT, b"b")),
        ("inside of another", start(), frame(BINARY, b"b")),
        ("half a code", vec![], frame(FIN | CLOSE, b"\x03")),
    ];
    for rsv in [0x40, 0x20, 0x10, 0x70] {
        cases.push(("reserved bit", vec![], frame(FIN | rsv | TEXT, b"a")));
        cases.push(("reserved bit", vec![], frame(FIN | rsv | PING, b"a")));
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        cases.push(("unknown opcode", vec![], frame(FIN | opcode, b"")));
    }
    cases
}

#[test]
fn every_violation() {
    for (rule, before, broken) in forbidden() {
        match said(&[before, broken].concat(), 1000) {
            Err(Violation::Protocol(text)) => {
                assert!(text.contains(rule), "{text}, not {rule}");
                assert!(text.contains("RFC 6455, section "), "{text} has no source");
            }
            other => panic!("{rule}: {other:?}"),
        }
    }
}

#[test]
fn a_header_is_enough_to_refuse() {
    let header_bytes = |frame: &[u8]| match frame[1] & 0x7f {
        126 => 8,
        127 => 14,
        _ => 6,
    };
    for (rule, before, broken) in forbidden() {
        if rule == "half a code" {
            continue;
        }
        let header = &broken[..broken.len().min(header_bytes(&broken))];
        let mut assembly = (!before.is_empty() && rule != "no message").then(Box::default);
        let refused = decode(&mut header.to_vec(), &mut assembly, 1000, None).map(|_| ());
        assert!(matches!(refused, Err(Violation::Protocol(_))), "{rule}: {refused:?}");
    }
}

#[test]
fn sizes() {
    let (fits, over) = (vec![b'x'; 300], vec![b'x'; 301]);
    assert!(said(&frame(FIN | TEXT, &fits), 300).is_ok());
    assert_eq!(said(&frame(FIN | TEXT, &over), 300), Err(Violation::TooBig));
    assert_eq!(said(&frame(BINARY, &over), 300), Err(Violation::TooBig));
    let sum = |last: usize| [frame(TEXT, &fits[..200]), frame(0, b""), frame(FIN, &fits[..last])].concat();
    assert!(said(&sum(100), 300).is_ok());
    assert_eq!(said(&sum(101), 300), Err(Violation::TooBig));
    // Control frames have a limit of their own.
    assert!(said(&frame(FIN | PING, &[0; 125]), 0).is_ok());
}

#[test]
fn a_claimed_length_is_refused_by_its_header_alone() {
    for claimed in [301, 1 << 20, u64::MAX >> 1] {
        let code: &[u8] =
            if claimed < 65_536 { &[FIN | TEXT, 0x80 | 126] } else { &[FIN | TEXT, 0x80 | 127] };
        let all = claimed.to_be_bytes();
        let length = if claimed < 65_536 { &all[6..] } else { &all[..] };
        let mut header = [code, length, &MASK].concat();
        assert_eq!(decode(&mut header, &mut None, 300, None), Err(Violation::TooBig), "{claimed}");
    }
}

#[test]
fn an_assembly_takes_no_more_memory_than_a_message_may_have() {
    let mut assembly = None;
    for _ in 0..100 {
        decode(&mut frame(if assembly.is_none() { BINARY } else { 0 }, b"abc"), &mut assembly, 300, None)
            .unwrap();
        assert!(assembly.as_ref().unwrap().bytes.capacity() <= 300);
    }
    let refused = decode(&mut frame(0, b"d"), &mut assembly, 300, None).map(|_| ());
    assert_eq!(refused, Err(Violation::TooBig));
}

/// Memory grows to what is needed at first, then doubles: so a message in `n` fragments is moved `log n`
/// times. The last step ends at the limit.
#[test]
fn an_assembly_doubles_its_memory_until_the_limit() {
    let mut assembly = None;
    let mut capacities: Vec<usize> = Vec::new();
    for length in 1..=100 {
        let first = if length == 1 { BINARY } else { 0 };
        decode(&mut frame(first, &[b'x'; 10]), &mut assembly, 1000, None).unwrap();
        let capacity = assembly.as_ref().unwrap().bytes.capacity();
        if capacities.last() != Some(&capacity) {
            capacities.push(capacity);
        }
    }
    assert_eq!(capacities, [10, 20, 40, 80, 160, 320, 640, 1000]);

    // A fragment that needs more than twice the memory gets what it needs.
    let mut assembly = None;
    decode(&mut frame(BINARY, &[b'x'; 10]), &mut assembly, 1000, None).unwrap();
    decode(&mut frame(0, &[b'x'; 90]), &mut assembly, 1000, None).unwrap();
    assert_eq!(assembly.unwrap().bytes.capacity(), 100);
}

#[test]
fn text_is_utf8_and_fails_at_the_earliest_fragment() {
    let bad: [&[u8]; 8] = [
        b"\xff",
        b"\x80",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"ok\xce",
        b"\xe2\x82",
        b"\xf8\x88\x80\x80\x80",
    ];
    for payload in bad {
        assert_eq!(said(&frame(FIN | TEXT, payload), 100), Err(Violation::InvalidUtf8), "{payload:?}");
        let fragments = [frame(TEXT, payload), frame(FIN, b"")].concat();
        assert_eq!(said(&fragments, 100), Err(Violation::InvalidUtf8), "{payload:?}");
    }
    // At once, although the message goes on: nothing can follow that makes these valid.
    for payload in [&b"ok\xff"[..], b"\xf4\x90", b"\xed\xa0", b"\xc0"] {
        let refused = decode(&mut frame(TEXT, payload), &mut None, 100, None).map(|_| ());
        assert_eq!(refused, Err(Violation::InvalidUtf8), "{payload:?}");
    }
    // In a later fragment, after a character that was cut.
    let later = [frame(TEXT, b"\xe2"), frame(0, b"\x82"), frame(0, b"x")].concat();
    assert_eq!(said(&later, 100), Err(Violation::InvalidUtf8));
    assert!(said(&frame(FIN | BINARY, b"\xff"), 100).is_ok());
}

#[test]
fn every_character_may_be_cut_anywhere() {
    let text = "aé€😀z";
    for first in 0..=text.len() {
        for second in first..=text.len() {
            let bytes = text.as_bytes();
            let stream =
                [frame(TEXT, &bytes[..first]), frame(0, &bytes[first..second]), frame(FIN, &bytes[second..])]
                    .concat();
            let expected = vec![Said::Fragment, Said::Fragment, Said::Text(text.to_owned())];
            assert_eq!(said(&stream, 100), Ok(expected), "{first}, {second}");
        }
    }
}

#[test]
fn close_frames() {
    let close = |code: u16, text: &[u8]| said(&frame(FIN | CLOSE, &[&code.to_be_bytes(), text].concat()), 0);
    assert_eq!(said(&frame(FIN | CLOSE, b""), 0), Ok(vec![Said::Close(None)]));
    assert_eq!(close(1001, "going €".as_bytes()), Ok(vec![Said::Close(Some(1001))]));
    assert_eq!(close(1000, &[b'x'; 123]), Ok(vec![Said::Close(Some(1000))]));
    assert_eq!(close(1000, b"\xff"), Err(Violation::InvalidUtf8));

    for code in [1000, 1001, 1002, 1003, 1007, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999] {
        assert_eq!(close(code, b""), Ok(vec![Said::Close(Some(code))]));
    }
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, u16::MAX] {
        assert!(matches!(close(code, b"x"), Err(Violation::Protocol(_))), "{code}");
    }
}

#[test]
fn compressed_messages_say_the_same_whole_in_fragments_and_beside_plain_ones() {
    let long = "long ".repeat(100);
    let payload = compressed(long.as_bytes());
    let stream = [
        frame(FIN | COMPRESSED | TEXT, &payload),
        frame(FIN | TEXT, b"plain"),
        frame(COMPRESSED | TEXT, &payload[..3]),
        frame(FIN | PING, b"p"),
        frame(0, &payload[3..4]),
        frame(0, b""),
        frame(FIN, &payload[4..]),
        frame(FIN | COMPRESSED | BINARY, &compressed(&[0, 255])),
        frame(COMPRESSED | TEXT, b""),
        frame(FIN, &compressed(b"")),
        frame(TEXT, b"pl"),
        frame(FIN, b"ain"),
    ]
    .concat();
    let expected = [
        Said::Text(long.clone()),
        Said::Text("plain".to_owned()),
        Said::Fragment,
        Said::Ping(b"p".to_vec()),
        Said::Fragment,
        Said::Fragment,
        Said::Text(long),
        Said::Binary(vec![0, 255]),
        Said::Fragment,
        Said::Text(String::new()),
        Said::Fragment,
        Said::Text("plain".to_owned()),
    ];
    for cut in 0..=stream.len() {
        let pieces = [&stream[..cut], &stream[cut..]];
        let said = said_in_pieces(&pieces, 500, Some(&mut Inflater::default()));
        assert_eq!(said.as_deref(), Ok(&expected[..]), "cut at {cut}");
    }
}

#[test]
fn the_mark_of_compression_stands_at_the_beginning_of_messages_only() {
    let start = || frame(COMPRESSED | TEXT, &compressed(b"a"));
    for (before, broken) in [
        (vec![], frame(FIN | COMPRESSED | PING, b"")),
        (vec![], frame(FIN | COMPRESSED | CLOSE, b"")),
        (start(), frame(COMPRESSED, b"")),
        (start(), frame(FIN | COMPRESSED, b"")),
        (start(), frame(FIN | COMPRESSED | TEXT, b"")),
        (vec![], frame(FIN | 0x20 | TEXT, b"a")),
        (vec![], frame(FIN | COMPRESSED | 0x10 | TEXT, b"a")),
    ] {
        let said = said_compressed(&[before, broken.clone()].concat(), 100);
        assert!(matches!(said, Err(Violation::Protocol(_))), "{broken:02x?}: {said:?}");
    }
    // Who has not agreed on compression may not even begin.
    assert!(matches!(said(&start(), 100), Err(Violation::Protocol(rule)) if rule.contains("reserved bit")));
}

#[test]
fn bombs_garbage_and_text_that_is_none_are_refused_when_they_are_whole() {
    let bomb = compressed(&[b'x'; 10_000]);
    assert!(bomb.len() < 100);
    let whole = |payload: &[u8]| frame(FIN | COMPRESSED | TEXT, payload);
    let halves = |payload: &[u8]| {
        let (first, second) = payload.split_at(payload.len() / 2);
        [frame(COMPRESSED | TEXT, first), frame(FIN, second)].concat()
    };
    for cut in [whole, halves] {
        assert!(said_compressed(&cut(&bomb), 10_000).is_ok());
        assert_eq!(said_compressed(&cut(&bomb), 9_999), Err(Violation::TooBig));
        // What comes in counts as well.
        assert_eq!(said_compressed(&cut(&bomb), bomb.len() - 1), Err(Violation::TooBig));
        let garbage = said_compressed(&cut(b"\x07garbage"), 100);
        assert!(
            matches!(garbage, Err(Violation::Protocol(rule)) if rule.contains("inflated")),
            "{garbage:?}"
        );
        assert_eq!(said_compressed(&cut(&compressed(b"ok\xff")), 100), Err(Violation::InvalidUtf8));
    }
}
