//! The decoder against tungstenite's: the same streams, whole and broken, cut at random places, must say
//! the same, or be refused by both after the same messages. The seed is in the failure's text.
//!
//! Differences on purpose, shown by the last test and allowed for in the others:
//! * a length that is not in its shortest form is refused here, and read there;
//! * a frame that its header gives away is refused here at once, and there when all of it has come;
//! * a close frame with a forbidden code is refused here, and there handed on as code 1002;
//! * close code 1014, which IANA's registry has, is allowed here and forbidden there.

use std::io::{self, Read, Write};

use crate::support::random::Random;
use fanfare::transport::websocket::decode::{Decoded, Event, Violation, decode};
use tungstenite::Message;
use tungstenite::error::Error;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

const MESSAGE_MAX: usize = 600;
const STREAMS: u64 = 30_000;

/// What a decoder got out of a stream, before it ended one way or another.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    said: Vec<Said>,
    end: End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It waits for more.
    Open,
    /// A close frame came.
    Closed,
    Refused,
}

/// Our decoder, driven as a session drives it; with the rule that was broken, if one was.
fn ours(pieces: &[&[u8]]) -> (Outcome, Option<Violation>) {
    let (mut kept, mut assembly, mut said) = (Vec::new(), None, Vec::new());
    for piece in pieces {
        kept.extend_from_slice(piece);
        let mut at = 0;
        loop {
            match decode(&mut kept[at..], &mut assembly, MESSAGE_MAX, None) {
                Ok(Decoded::Incomplete) => break,
                Ok(Decoded::Frame { consumed, event }) => {
                    at += consumed;
                    let is_close = matches!(event, Event::Close(_));
                    said.extend(owned(event));
                    if is_close {
                        return (Outcome { said, end: End::Closed }, None);
                    }
                }
                Err(violation) => return (Outcome { said, end: End::Refused }, Some(violation)),
            }
        }
        kept.drain(..at);
    }
    (Outcome { said, end: End::Open }, None)
}

fn owned(event: Event<'_>) -> Option<Said> {
    Some(match event {
        Event::Text(text) => Said::Text(text.into_owned()),
        Event::Binary(bytes) => Said::Binary(bytes.into_owned()),
        Event::Ping(payload) => Said::Ping(payload.to_vec()),
        Event::Pong(payload) => Said::Pong(payload.to_vec()),
        Event::Close(code) => Said::Close(code),
        Event::Fragment => return None,
    })
}

/// tungstenite's.
fn theirs(pieces: &[&[u8]]) -> Outcome {
    let config = WebSocketConfig::default()
        .read_buffer_size(0)
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX));
    let mut context = WebSocketContext::new(Role::Server, Some(config));
    let mut stream = Script { pieces: pieces.iter().copied().collect() };
    let mut said = Vec::new();
    loop {
        match context.read(&mut stream) {
            Ok(Message::Text(text)) => said.push(Said::Text(text.to_string())),
            Ok(Message::Binary(bytes)) => said.push(Said::Binary(bytes.to_vec())),
            Ok(Message::Ping(payload)) => said.push(Said::Ping(payload.to_vec())),
            Ok(Message::Pong(payload)) => said.push(Said::Pong(payload.to_vec())),
            // How it says that the code is forbidden.
            Ok(Message::Close(Some(frame))) if frame.reason.as_str() == "Protocol violation" => {
                return Outcome { said, end: End::Refused };
            }
            Ok(Message::Close(frame)) => said.push(Said::Close(frame.map(|frame| frame.code.into()))),
            Ok(Message::Frame(_)) => unreachable!("is never read"),
            Err(Error::ConnectionClosed) => return Outcome { said, end: End::Closed },
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return Outcome { said, end: End::Open };
            }
            Err(_) => return Outcome { said, end: End::Refused },
        }
    }
}

/// A socket that delivers its pieces one by one, then blocks, and takes whatever is written.
struct Script<'a> {
    pieces: std::collections::VecDeque<&'a [u8]>,
}

impl Read for Script<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.pieces.front().is_some_and(|piece| piece.is_empty()) {
            self.pieces.pop_front();
        }
        let piece = self.pieces.front_mut().ok_or(io::ErrorKind::WouldBlock)?;
        piece.read(buffer)
    }
}

impl Write for Script<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Text with characters of every length.
fn text(random: &mut Random, characters: usize) -> Vec<u8> {
    (0..characters)
        .map(|_| random.pick(&['a', '"', '\n', 'é', '€', '😀', '\u{10ffff}']))
        .collect::<String>()
        .into()
}

/// A frame before it becomes bytes.
#[derive(Clone)]
struct Frame {
    /// FIN, reserved bits and opcode.
    first: u8,
    payload: Vec<u8>,
    mask: Option<[u8; 4]>,
}

impl Frame {
    fn new(random: &mut Random, first: u8, payload: Vec<u8>) -> Self {
        let mask = Some(std::array::from_fn(|_| random.byte()));
        Self { first, payload, mask }
    }

    fn append_to(&self, stream: &mut Vec<u8>) {
        let mask_bit = if self.mask.is_some() { 0x80 } else { 0 };
        stream.push(self.first);
        match self.payload.len() {
            short @ 0..=125 => stream.push(mask_bit | u8::try_from(short).expect("at most 125")),
            medium => {
                stream.push(mask_bit | 126);
                stream.extend(u16::try_from(medium).expect("at most 65,535").to_be_bytes());
            }
        }
        stream.extend(self.mask.iter().flatten());
        let key = self.mask.unwrap_or_default();
        stream.extend(self.payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    }
}

/// The frames of a client that keeps to the rules.
fn valid_frames(random: &mut Random) -> Vec<Frame> {
    let mut frames = Vec::new();
    for _ in 0..random.below(6) {
        match random.below(3) {
            0 => frames.push(control(random)),
            _ => message(random, &mut frames),
        }
    }
    if random.one_in(4) {
        let code = random.pick(&[1000_u16, 1001, 1003, 1007, 1013, 3000, 3501, 4999]).to_be_bytes();
        let characters = random.below(20);
        let reason = text(random, characters);
        let payload = if random.one_in(3) { Vec::new() } else { [&code[..], &reason].concat() };
        frames.push(Frame::new(random, 0x88, payload));
    }
    frames
}

fn control(random: &mut Random) -> Frame {
    let (first, size) = (random.pick(&[0x89, 0x8a]), random.pick(&[0, 1, 7, 125]));
    let payload = random.bytes(size);
    Frame::new(random, first, payload)
}

/// A message in one frame or several, with control frames between.
fn message(random: &mut Random, frames: &mut Vec<Frame>) {
    let size = random.pick(&[0, 1, 5, 30, 140]);
    let (opcode, payload) = if random.one_in(2) { (1, text(random, size)) } else { (2, random.bytes(size)) };
    let mut cuts: Vec<usize> = (0..random.below(4)).map(|_| random.below(payload.len() + 1)).collect();
    cuts.sort_unstable();
    cuts.push(payload.len());
    let last = cuts.len() - 1;
    let mut from = 0;
    for (index, to) in cuts.into_iter().enumerate() {
        let first = if index == 0 { opcode } else { 0 } | if index == last { 0x80 } else { 0 };
        frames.push(Frame::new(random, first, payload[from..to].to_vec()));
        from = to;
        while index < last && random.one_in(4) {
            frames.push(control(random));
        }
    }
}

/// Breaks a rule, most probably.
fn break_frames(random: &mut Random, frames: &mut Vec<Frame>) {
    if frames.is_empty() {
        frames.push(control(random));
    }
    let at = random.below(frames.len());
    let frame = &mut frames[at];
    match random.below(8) {
        0 => frame.first ^= random.pick(&[0x40, 0x20, 0x10]),
        1 => frame.first = (frame.first & 0xf0) | (random.byte() & 0x0f),
        2 => frame.first ^= 0x80,
        3 => frame.mask = None,
        4 => frame.payload = random.bytes(130),
        5 => frame.payload = random.bytes(MESSAGE_MAX + 1),
        6 => {
            frames.remove(at);
        }
        _ => {
            let code = random.pick(&[0_u16, 999, 1004, 1005, 1006, 1015, 2999, 5000]);
            *frame = Frame::new(random, 0x88, code.to_be_bytes().to_vec());
        }
    }
}

/// The stream cut into pieces, many of them small.
fn cut<'a>(random: &mut Random, mut stream: &'a [u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let longest = random.pick(&[1, 3, 20, 2000]);
    while !stream.is_empty() {
        let (piece, rest) = stream.split_at((1 + random.below(longest)).min(stream.len()));
        pieces.push(piece);
        stream = rest;
    }
    pieces
}

fn stream_of(frames: &[Frame]) -> Vec<u8> {
    let mut stream = Vec::new();
    frames.iter().for_each(|frame| frame.append_to(&mut stream));
    stream
}

/// How often what happened: a test of streams in which nothing happens tests nothing.
#[derive(Debug, Default)]
struct Tally {
    messages: usize,
    open: usize,
    closed: usize,
    refused: usize,
}

impl Tally {
    fn count(&mut self, outcome: &Outcome) {
        self.messages += outcome.said.len();
        match outcome.end {
            End::Open => self.open += 1,
            End::Closed => self.closed += 1,
            End::Refused => self.refused += 1,
        }
    }
}

#[test]
fn valid_streams_say_the_same() {
    let mut tally = Tally::default();
    for seed in 0..STREAMS / 3 {
        let random = &mut Random::new(seed);
        let stream = stream_of(&valid_frames(random));
        let (outcome, violation) = ours(&cut(random, &stream));
        assert_eq!(violation, None, "seed {seed}");
        assert_eq!(outcome, theirs(&cut(random, &stream)), "seed {seed}");
        tally.count(&outcome);
    }
    assert!(tally.messages > 15_000 && tally.open > 5_000 && tally.closed > 2_000, "{tally:?}");
}

#[test]
fn streams_with_a_broken_rule_are_refused_at_the_same_place() {
    let mut tally = Tally::default();
    for seed in 0..STREAMS / 3 {
        let random = &mut Random::new(seed);
        let mut frames = valid_frames(random);
        break_frames(random, &mut frames);
        let stream = stream_of(&frames);
        let (outcome, violation) = ours(&cut(random, &stream));
        assert_eq!(outcome, theirs(&cut(random, &stream)), "seed {seed}, {violation:?}");
        tally.count(&outcome);
    }
    assert!(tally.messages > 5_000 && tally.refused > 5_000, "{tally:?}");
    assert!(tally.open > 500 && tally.closed > 100, "{tally:?}");
}

#[test]
fn streams_with_a_flipped_bit_say_the_same() {
    let mut tally = Tally::default();
    for seed in 0..STREAMS / 3 {
        let random = &mut Random::new(seed);
        let mut stream = stream_of(&valid_frames(random));
        if !stream.is_empty() {
            let at = random.below(stream.len());
            stream[at] ^= 1 << random.below(8);
        }
        // Zeros complete whatever frame the flip has made longer, and are refused themselves: otherwise
        // one decoder would have refused a header, and the other be waiting for the rest of its frame.
        stream.resize(stream.len() + MESSAGE_MAX + 14, 0);
        let (outcome, violation) = ours(&cut(random, &stream));
        let expected = theirs(&cut(random, &stream));
        if matches!(violation, Some(Violation::Protocol(rule)) if rule.contains("shortest form")) {
            assert!(expected.said.starts_with(&outcome.said), "seed {seed}");
        } else if outcome.said.last() != Some(&Said::Close(Some(1014))) {
            assert_eq!(outcome, expected, "seed {seed}, {violation:?}");
        }
        tally.count(&outcome);
    }
    assert!(tally.messages > 10_000 && tally.closed > 1_000 && tally.refused > 5_000, "{tally:?}");
}

#[test]
fn differences_on_purpose() {
    let (refused, open) = ((End::Refused, vec![]), (End::Open, vec![]));
    let cases: [(&str, &[u8], _, _); 4] = [
        (
            "a length not in its shortest form",
            b"\x82\xfe\x00\x01\0\0\0\0x",
            refused.clone(),
            (End::Open, vec![Said::Binary(b"x".to_vec())]),
        ),
        ("a header alone", b"\xc2\xff\0\0\0\0\0\0\x01\x01\0\0\0\0", refused.clone(), open.clone()),
        ("close code 1005", b"\x88\x82\0\0\0\0\x03\xed", refused.clone(), refused.clone()),
        (
            "close code 1014",
            b"\x88\x82\0\0\0\0\x03\xf6",
            (End::Closed, vec![Said::Close(Some(1014))]),
            refused.clone(),
        ),
    ];
    for (what, stream, (our_end, our_said), (their_end, their_said)) in cases {
        assert_eq!(ours(&[stream]).0, Outcome { said: our_said, end: our_end }, "{what}");
        assert_eq!(theirs(&[stream]), Outcome { said: their_said, end: their_end }, "{what}");
    }
}
