//! What a log knows of a transport: the header that goes before a slice of the log. Nothing goes behind a slice, so it is
//! sent from where it is.

use super::websocket::encode::{self, Header, Opcode};

/// The longest header of any framing, in bytes.
pub const HEADER_MAX: usize = encode::HEADER_MAX;

/// How lines of a log, or replies, become a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// A WebSocket frame of text (RFC 6455).
    Text,
    /// A WebSocket frame of bytes.
    Binary,
    /// A WebSocket frame of text that is compressed (RFC 7692).
    CompressedText,
    /// A WebSocket frame of bytes that is compressed.
    CompressedBinary,
    /// The bytes as they are: one stream until the connection ends, in which delimiters separate messages. Such is the
    /// body of an HTTP answer that has neither length nor chunks (RFC 9112, section 6.3).
    Raw,
}

impl Framing {
    /// The header of a message of so many bytes.
    #[must_use]
    #[inline]
    pub fn header(self, payload: usize) -> Header {
        match self {
            Self::Text => encode::header(Opcode::Text, payload),
            Self::Binary => encode::header(Opcode::Binary, payload),
            Self::CompressedText => encode::header(Opcode::Text, payload).compressed(),
            Self::CompressedBinary => encode::header(Opcode::Binary, payload).compressed(),
            Self::Raw => Header::EMPTY,
        }
    }

    /// How many of `batches` bytes are sent: without the last delimiter if the header has the length of the message,
    /// otherwise all.
    #[must_use]
    #[inline]
    pub fn payload_len(self, batches: usize, delimiter: &[u8]) -> usize {
        match self {
            Self::Raw => batches,
            _ => batches - delimiter.len(),
        }
    }

    /// Appends `batches`, which end with `delimiter`, as one message.
    pub fn put(self, out: &mut Vec<u8>, batches: &[u8], delimiter: &[u8]) {
        let payload = &batches[..self.payload_len(batches.len(), delimiter)];
        out.extend_from_slice(self.header(payload.len()).as_bytes());
        out.extend_from_slice(payload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_its_header_and_ends_before_the_delimiter_unless_it_is_part_of_a_stream() {
        let cases = [
            (Framing::Text, &b"\x81\x04{}\n1"[..]),
            (Framing::Binary, b"\x82\x04{}\n1"),
            (Framing::CompressedText, b"\xc1\x04{}\n1"),
            (Framing::CompressedBinary, b"\xc2\x04{}\n1"),
            (Framing::Raw, b"{}\n1\n"),
        ];
        for (framing, expected) in cases {
            let mut out = Vec::new();
            framing.put(&mut out, b"{}\n1\n", b"\n");
            assert_eq!(out, expected, "{framing:?}");
        }
    }
}
