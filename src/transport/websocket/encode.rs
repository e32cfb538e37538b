//! Frames for clients: never masked, never fragmented (RFC 6455, sections 5.1 and 5.2).

/// The longest header of an unmasked frame, in bytes.
pub const HEADER_MAX: usize = 10;

/// Bytes of text that a close frame has room for beside its code (RFC 6455, section 5.5).
const CLOSE_TEXT_MAX: usize = 123;

/// The FIN bit: this frame is a whole message.
const FINAL: u8 = 0x80;

/// The first reserved bit: this message is compressed (RFC 7692, section 6).
const COMPRESSED: u8 = 0x40;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A message of UTF-8 text.
    Text = 1,
    /// A message of bytes.
    Binary = 2,
    /// The end of the connection.
    Close = 8,
    /// A question whether the client is there.
    Ping = 9,
    /// The answer to a client's ping.
    Pong = 10,
}

/// The bytes that stand before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    bytes: [u8; HEADER_MAX],
    /// How many of `bytes` are in use: 0, 2, 4 or 10.
    len: u8,
}

impl Header {
    /// None at all.
    pub const EMPTY: Self = Self { bytes: [0; HEADER_MAX], len: 0 };

    /// What to send.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len()]
    }

    /// The same for a payload that is a compressed message.
    #[must_use]
    pub fn compressed(mut self) -> Self {
        self.bytes[0] |= COMPRESSED;
        self
    }

    /// How many bytes that is, at most [`HEADER_MAX`].
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }
}

/// The header of a frame whose payload has `payload` bytes, in the shortest form.
#[must_use]
pub fn header(opcode: Opcode, payload: usize) -> Header {
    let mut bytes = [0; HEADER_MAX];
    bytes[0] = FINAL | opcode as u8;
    let len = match (u8::try_from(payload), u16::try_from(payload)) {
        (Ok(short @ 0..=125), _) => {
            bytes[1] = short;
            2
        }
        (_, Ok(medium)) => {
            bytes[1] = 126;
            bytes[2..4].copy_from_slice(&medium.to_be_bytes());
            4
        }
        _ => {
            bytes[1] = 127;
            bytes[2..10].copy_from_slice(&(payload as u64).to_be_bytes());
            10
        }
    };
    Header { bytes, len }
}

/// Appends a whole frame.
pub fn frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    out.extend_from_slice(header(opcode, payload.len()).as_bytes());
    out.extend_from_slice(payload);
}

/// Appends a close frame. Of `text` go the first 123 bytes at most, whole characters only.
pub fn close(out: &mut Vec<u8>, code: u16, text: &str) {
    let mut end = text.len().min(CLOSE_TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let code = code.to_be_bytes();
    out.extend_from_slice(header(Opcode::Close, code.len() + end).as_bytes());
    out.extend_from_slice(&code);
    out.extend_from_slice(&text.as_bytes()[..end]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tungstenite::protocol::frame::{FrameHeader, coding};

    #[test]
    fn headers_are_those_of_tungstenite() {
        let opcodes = [
            (Opcode::Text, coding::OpCode::Data(coding::Data::Text)),
            (Opcode::Binary, coding::OpCode::Data(coding::Data::Binary)),
            (Opcode::Close, coding::OpCode::Control(coding::Control::Close)),
            (Opcode::Ping, coding::OpCode::Control(coding::Control::Ping)),
            (Opcode::Pong, coding::OpCode::Control(coding::Control::Pong)),
        ];
        for (ours, theirs) in opcodes {
            for payload in [0, 1, 125, 126, 127, 255, 256, 65_535, 65_536, 1 << 40] {
                let mut expected = Vec::new();
                let reference = FrameHeader { opcode: theirs, ..FrameHeader::default() };
                reference.format(payload as u64, &mut expected).unwrap();
                assert_eq!(header(ours, payload).as_bytes(), expected, "{ours:?}, {payload} bytes");
                assert_eq!(header(ours, payload).len(), expected.len());
            }
        }
    }

    #[test]
    fn a_frame_is_appended_whole() {
        let mut out = b"before".to_vec();
        frame(&mut out, Opcode::Text, b"{}");
        assert_eq!(out, b"before\x81\x02{}");
    }

    /// A control frame carries 125 bytes (RFC 6455, section 5.5), of which the code takes two.
    #[test]
    fn a_close_text_has_at_most_123_bytes() {
        for (given, sent) in [(122, 122), (123, 123), (124, 123), (1000, 123)] {
            let mut out = Vec::new();
            close(&mut out, 3001, &"x".repeat(given));
            assert_eq!(usize::from(out[1]), 2 + sent, "{given} bytes of text");
            assert_eq!(out[4..], *"x".repeat(sent).as_bytes(), "{given} bytes of text");
        }
    }

    #[test]
    fn a_close_text_is_cut_at_a_character() {
        // 122 bytes, then a character of three bytes: only the former fit.
        let text = format!("{}€", "x".repeat(122));
        let mut out = Vec::new();
        close(&mut out, 3001, &text);
        assert_eq!(out[..4], [0x88, 124, 0x0b, 0xb9]);
        assert_eq!(&out[4..], &text.as_bytes()[..122]);

        out.clear();
        close(&mut out, 1000, "");
        assert_eq!(out, [0x88, 2, 0x03, 0xe8]);
    }
}
