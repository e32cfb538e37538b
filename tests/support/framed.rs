//! A client that shows the frames in which lines come, compressed or not.

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::SocketAddr;

use flate2::write::DeflateDecoder;
use flate2::{Compress, Compression, FlushCompress};

use super::frames::{COMPRESSED, TEXT, frame_with};
use super::peer::{Peer, UPGRADE};

/// The bytes that a compressed message is sent without.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// A connected client that reads when it is asked for a line, and answers no pings.
#[derive(Debug)]
pub struct Framed {
    /// Its connection.
    pub peer: Peer,
    /// Compressed frames that came.
    pub deflated_frames: usize,
    deflates: bool,
    lines: VecDeque<String>,
}

impl Framed {
    /// Connects.
    ///
    /// # Panics
    /// If that fails, as everything else here.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        let mut peer = Peer::connect(address);
        peer.send(UPGRADE.as_bytes());
        let head = peer.read_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        Self::begin(peer, false)
    }

    /// Connects and agrees on compression.
    #[track_caller]
    pub fn deflating(address: SocketAddr) -> Self {
        let mut peer = Peer::connect(address);
        let offer = "\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";
        peer.send(UPGRADE.replace("\r\n\r\n", offer).as_bytes());
        let head = peer.read_head().to_lowercase();
        let answer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n";
        assert!(head.contains(&format!("sec-websocket-extensions: {answer}")), "{head}");
        Self::begin(peer, true)
    }

    #[track_caller]
    fn begin(peer: Peer, deflates: bool) -> Self {
        let mut client = Self { peer, deflated_frames: 0, deflates, lines: VecDeque::new() };
        client.ask(r#"{"id":1,"connect":{}}"#);
        client
    }

    /// Sends a command, compressed if that was agreed on, and returns the next line.
    #[track_caller]
    pub fn ask(&mut self, command: &str) -> String {
        let bytes = if self.deflates {
            frame_with(0x80 | COMPRESSED | TEXT, &compressed(command.as_bytes()))
        } else {
            frame_with(0x80 | TEXT, command.as_bytes())
        };
        self.peer.send(&bytes);
        self.line()
    }

    /// Subscribes.
    #[track_caller]
    pub fn subscribe(&mut self, topic: &str) {
        let reply = self.ask(&format!(r#"{{"id":2,"subscribe":{{"channel":"{topic}"}}}}"#));
        assert!(reply.contains(r#""subscribe":{}"#), "{reply}");
    }

    /// The next line.
    #[track_caller]
    pub fn line(&mut self) -> String {
        while self.lines.is_empty() {
            let (first, payload) = self.peer.read_marked_frame().expect("a frame");
            let plain = match first {
                0x81 => payload,
                0xc1 => {
                    self.deflated_frames += 1;
                    inflated(&payload)
                }
                other => panic!("a frame that begins with {other:#04x}"),
            };
            assert!(plain.len() <= 512 << 10, "a message of {} bytes", plain.len());
            let text = String::from_utf8(plain).expect("UTF-8");
            self.lines.extend(text.split('\n').filter(|line| !line.is_empty()).map(str::to_owned));
        }
        self.lines.pop_front().expect("just seen")
    }
}

/// The payload of a compressed message.
pub fn compressed(plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(plain.len() + 1000);
    let mut compress = Compress::new(Compression::best(), false);
    compress.compress_vec(plain, &mut out, FlushCompress::Sync).expect("it can be compressed");
    assert!(out.ends_with(&TAIL));
    out.truncate(out.len() - TAIL.len());
    out
}

/// What a compressed message says.
pub fn inflated(payload: &[u8]) -> Vec<u8> {
    let mut decoder = DeflateDecoder::new(Vec::new());
    decoder.write_all(payload).and_then(|()| decoder.write_all(&TAIL)).expect("it can be inflated");
    // It does not end: that would be said by another block.
    decoder.flush().expect("it can be inflated");
    std::mem::take(decoder.get_mut())
}
