//! One client of a swarm: a socket, where its input stands, and what it could not write yet.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;

use mio::net::TcpStream;

use super::super::framed::inflated;
use super::super::frames::{self, Head};
use super::{CONNECT_ID, ClientIndex, Counted, Goodbye, Line, Observer};

/// The key of every upgrade, and the answer that RFC 6455 (section 1.3) demands to it.
const UPGRADE_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const UPGRADE_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What a read of the socket brought.
pub(super) enum Input {
    Bytes(usize),
    Nothing,
    End,
}

/// How input is understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// As the answer to the upgrade.
    #[default]
    Upgrading,
    /// As frames of lines.
    Reading,
    /// As frames whose payload is thrown away; so many bytes of the current one are still to come.
    Counting { payload_left: usize },
}

/// State of one client; small, and mostly empty while it has nothing to do.
#[derive(Debug, Default)]
pub(super) struct Client {
    stream: Option<TcpStream>,
    stage: Stage,
    /// Input that is not a whole frame, or a whole head, yet.
    tail: Vec<u8>,
    /// Output the socket did not take yet.
    unsent: Vec<u8>,
    /// The id of the latest command.
    last_id: u32,
    /// Commands without an answer yet.
    unanswered: u32,
    /// The code of the server's close frame.
    close_code: Option<u16>,
    /// What it counted.
    pub(super) counted: Counted,
    /// Whether it does not read.
    pub(super) stalled: bool,
    /// `SO_RCVBUF` for its connections.
    pub(super) receive_buffer: Option<usize>,
    /// Whether its connections agree on compressed messages.
    pub(super) deflates: bool,
    /// The token that it connects with; empty: none.
    pub(super) token: Box<str>,
}

impl Client {
    /// A new connection takes the place of the old one, if there was one. `subscribes` are JSON objects.
    pub(super) fn start<S: AsRef<str>>(
        &mut self,
        stream: TcpStream,
        server: SocketAddr,
        subscribes: impl IntoIterator<Item = S>,
    ) {
        let Self { receive_buffer, deflates, .. } = *self;
        let token = std::mem::take(&mut self.token);
        *self = Self { stream: Some(stream), receive_buffer, deflates, token, ..Self::default() };
        let offer = if deflates { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
        let request = format!(
            "GET /connection/websocket HTTP/1.1\r\nHost: {server}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {UPGRADE_KEY}\r\n{offer}\r\n"
        );
        self.unsent.extend_from_slice(request.as_bytes());
        self.last_id = CONNECT_ID;
        let token = match &*self.token {
            "" => String::new(),
            token => format!(r#""token":"{token}""#),
        };
        let mut commands = format!(r#"{{"id":{CONNECT_ID},"connect":{{{token}}}}}"#);
        for subscribe in subscribes {
            self.last_id += 1;
            // Writing to a string cannot fail.
            let _ = write!(commands, "\n{{\"id\":{},\"subscribe\":{}}}", self.last_id, subscribe.as_ref());
        }
        self.unanswered = self.last_id;
        frames::write(&mut self.unsent, frames::TEXT, commands.as_bytes());
    }

    /// Sends a command about a topic and returns its id.
    pub(super) fn command(&mut self, method: &str, topic: &str) -> u32 {
        self.last_id += 1;
        self.unanswered += 1;
        let command = format!(r#"{{"id":{},"{method}":{{"channel":"{topic}"}}}}"#, self.last_id);
        self.send(frames::TEXT, command.as_bytes());
        self.last_id
    }

    /// Whether every command has its answer.
    pub(super) fn is_settled(&self) -> bool {
        self.unanswered == 0
    }

    pub(super) fn is_connected(&self) -> bool {
        self.stream.is_some()
    }

    /// From here on payloads are thrown away.
    pub(super) fn count_only(&mut self) {
        assert!(
            self.is_settled() && self.tail.is_empty(),
            "a client counts only when it has all its answers"
        );
        self.stage = Stage::Counting { payload_left: 0 };
        self.counted = Counted::default();
    }

    /// From here on lines are read again.
    pub(super) fn read_again(&mut self) {
        assert!(
            self.stage == Stage::Counting { payload_left: 0 } && self.tail.is_empty(),
            "a client that counts reads again only between two frames"
        );
        self.stage = Stage::Reading;
    }

    /// Ends the connection from this side.
    pub(super) fn leave(&mut self, goodbye: Goodbye) {
        if goodbye == Goodbye::CloseFrame {
            self.send(frames::CLOSE, &1000_u16.to_be_bytes());
        }
        self.forget();
    }

    /// Drops the connection and says with which code the server closed it, if it said so.
    pub(super) fn forget(&mut self) -> Option<u16> {
        self.stream = None;
        self.tail = Vec::new();
        self.unsent = Vec::new();
        self.close_code.take()
    }

    /// Writes what waits, as far as the socket takes it. An error shows up again when reading.
    pub(super) fn flush(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        while !self.unsent.is_empty() {
            match stream.write(&self.unsent) {
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
        self.unsent = Vec::new();
    }

    /// Reads once.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Input {
        let Some(stream) = &mut self.stream else { return Input::Nothing };
        loop {
            return match stream.read(buffer) {
                Ok(0) => Input::End,
                Ok(length) => Input::Bytes(length),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => Input::Nothing,
                Err(_) => Input::End,
            };
        }
    }

    /// Understands `input`, together with what was left of the input before, and keeps what is incomplete.
    pub(super) fn take(&mut self, index: ClientIndex, input: &[u8], observer: &mut impl Observer) {
        if self.tail.is_empty() {
            let used = self.understand(index, input, observer);
            self.tail.extend_from_slice(&input[used..]);
            return;
        }
        let mut whole = std::mem::take(&mut self.tail);
        whole.extend_from_slice(input);
        let used = self.understand(index, &whole, observer);
        whole.drain(..used);
        if !whole.is_empty() {
            self.tail = whole;
        }
    }

    /// Understands what is whole and returns how many bytes that was.
    fn understand(&mut self, index: ClientIndex, input: &[u8], observer: &mut impl Observer) -> usize {
        let mut used = 0;
        if self.stage == Stage::Upgrading {
            let Some(end) = memchr::memmem::find(input, b"\r\n\r\n") else { return 0 };
            used = end + 4;
            let answer = String::from_utf8_lossy(&input[..used]);
            assert!(answer.starts_with("HTTP/1.1 101 "), "client {index} was refused: {answer}");
            assert!(answer.contains(UPGRADE_ACCEPT), "client {index} got a wrong key: {answer}");
            let agreed = answer.contains("permessage-deflate");
            assert_eq!(
                agreed, self.deflates,
                "client {index} got another extension than it offered: {answer}"
            );
            self.stage = Stage::Reading;
        }
        match self.stage {
            Stage::Counting { payload_left } => self.count(input, payload_left),
            _ => used + self.read_frames(index, &input[used..], observer),
        }
    }

    /// Counts frames without looking into them; returns the bytes used.
    fn count(&mut self, input: &[u8], mut payload_left: usize) -> usize {
        let mut used = 0;
        loop {
            let skipped = payload_left.min(input.len() - used);
            used += skipped;
            payload_left -= skipped;
            // A frame is counted with its last byte. Where none is under way, `skipped` is 0.
            self.counted.frames += u64::from(skipped > 0 && payload_left == 0);
            self.counted.bytes += skipped as u64;
            let head = if payload_left == 0 { Head::parse(&input[used..]) } else { None };
            let Some(head) = head else {
                self.stage = Stage::Counting { payload_left };
                return used;
            };
            if head.payload <= 2 {
                if input.len() < used + head.bytes + head.payload {
                    self.stage = Stage::Counting { payload_left };
                    return used;
                }
                self.send(frames::TEXT, b"{}");
                used += head.bytes + head.payload;
            } else {
                used += head.bytes;
                payload_left = head.payload;
            }
        }
    }

    /// Hands whole frames on; returns the bytes used.
    fn read_frames(&mut self, index: ClientIndex, input: &[u8], observer: &mut impl Observer) -> usize {
        let mut used = 0;
        while let Some(head) = Head::parse(&input[used..]) {
            let start = used + head.bytes;
            let Some(payload) = input.get(start..start + head.payload) else { break };
            used = start + head.payload;
            assert!(!head.compressed || self.deflates, "client {index} agreed on no compressed frame");
            let plain;
            let payload = if head.compressed {
                plain = inflated(payload);
                &plain
            } else {
                payload
            };
            match head.opcode {
                frames::TEXT => self.read_lines(index, payload, observer),
                frames::PING => self.send(frames::PONG, payload),
                frames::CLOSE => {
                    self.close_code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                    self.send(frames::CLOSE, payload.get(..2).unwrap_or_default());
                }
                other => panic!("the server sent client {index} a frame of kind {other:#x}"),
            }
        }
        used
    }

    /// Hands the lines of one frame on.
    fn read_lines(&mut self, index: ClientIndex, payload: &[u8], observer: &mut impl Observer) {
        observer.frame(index, payload);
        let payload = payload.strip_suffix(b"\n").unwrap_or(payload);
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', payload).chain([payload.len()]) {
            let line = Line::parse(&payload[start..end]);
            start = end + 1;
            match line {
                Line::Ping => self.send(frames::TEXT, b"{}"),
                Line::Reply { .. } => self.unanswered -= 1,
                _ => {}
            }
            observer.line(index, line);
        }
    }

    /// Queues a frame and writes what the socket takes.
    fn send(&mut self, opcode: u8, payload: &[u8]) {
        frames::write(&mut self.unsent, opcode, payload);
        self.flush();
    }
}
