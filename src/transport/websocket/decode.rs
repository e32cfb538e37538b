//! Decodes frames of clients (RFC 6455, section 5): finds complete frames in the caller's buffer, unmasks
//! them there, and checks them.
//!
//! [`decode`] accepts only complete frames. The caller keeps an incomplete tail and puts it before what it
//! reads next, so a client between two messages needs no buffer and no state here. Only a message in
//! fragments is put together in memory of its own, the [`Assembly`], which lasts until the message ends. The
//! same holds for a compressed message (RFC 7692), if the client may compress; its fragments are inflated
//! together.
//!
//! A frame that cannot become valid is refused as soon as its header is complete: nothing is kept or
//! allocated for a length that a client only claims.

use std::borrow::Cow;
use std::io::Cursor;

use thiserror::Error;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::codec::deflate::{InflateError, Inflater};
use crate::domain::reasons::CloseReason;

/// Bytes that a control frame may carry (RFC 6455, section 5.5).
const CONTROL_MAX: u64 = 125;

/// Why a connection fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// A frame that RFC 6455 or 7692 forbids (close code 1002); says which rule.
    #[error("{0}")]
    Protocol(&'static str),
    /// Text, or the text of a close frame, that is not UTF-8 (close code 1007; section 8.1).
    #[error("text that is not UTF-8")]
    InvalidUtf8,
    /// A message over the limit (close code 1009; section 7.4.1).
    #[error("a message over the size limit")]
    TooBig,
}

impl From<Violation> for CloseReason {
    fn from(violation: Violation) -> Self {
        match violation {
            Violation::Protocol(_) => Self::ProtocolViolation,
            Violation::InvalidUtf8 => Self::InvalidUtf8,
            Violation::TooBig => Self::MessageTooBig,
        }
    }
}

/// The fragments of a message so far.
#[derive(Debug, Default)]
pub struct Assembly {
    /// Whether it is a message of text.
    text: bool,
    /// Whether the payloads are compressed.
    compressed: bool,
    /// The payloads of the fragments, one after the other.
    bytes: Vec<u8>,
    /// How many of `bytes` are known to be whole characters of text; the rest is at most the beginning of
    /// one. Zero in a binary message.
    checked: usize,
}

/// What a frame means to its receiver.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole message of text: borrowed if it came in one frame as it is, else owned.
    Text(Cow<'a, str>),
    /// A whole message of bytes, likewise.
    Binary(Cow<'a, [u8]>),
    /// To be answered by a pong with the same payload, at most 125 bytes.
    Ping(&'a [u8]),
    /// An answer to a ping, or unasked for, which is allowed.
    Pong(&'a [u8]),
    /// The client's last frame, with its code if it gave one. What follows it is to be ignored.
    Close(Option<u16>),
    /// A part of a message, kept in the [`Assembly`].
    Fragment,
}

/// What [`decode`] found at the beginning of its input.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// No whole frame yet: ask again, with the same bytes and more.
    Incomplete,
    /// A frame.
    Frame {
        /// How many bytes of the input it took.
        consumed: usize,
        /// What it means.
        event: Event<'a>,
    },
}

/// The first frame in `input`. `assembly` belongs to the client: none between messages, and kept from call
/// to call while a message comes in fragments. Messages have at most `message_max` bytes, compressed and
/// decompressed. `inflater` is shared by all clients.
///
/// The frame's payload is unmasked in place, so a frame must not be decoded twice; input that was found
/// incomplete is unchanged.
///
/// # Errors
/// What the client did wrong. Nothing more can be decoded for it.
pub fn decode<'a>(
    input: &'a mut [u8],
    assembly: &mut Option<Box<Assembly>>,
    message_max: usize,
    inflater: Option<&mut Inflater>,
) -> Result<Decoded<'a>, Violation> {
    let Some(head) = Head::parse(input, inflater.is_some())? else { return Ok(Decoded::Incomplete) };
    let size = head.admit(assembly.as_deref(), message_max)?;
    let consumed = head.bytes + size;
    let Some(payload) = input.get_mut(head.bytes..consumed) else { return Ok(Decoded::Incomplete) };
    unmask(payload, head.mask);
    let event = match head.opcode {
        OpCode::Control(control) => control_event(control, payload)?,
        OpCode::Data(kind) if head.is_final && assembly.is_none() => match head.is_compressed {
            false => whole_message(kind, payload)?,
            true => owned_message(kind == Data::Text, inflate(inflater, payload, message_max)?)?,
        },
        OpCode::Data(kind) => {
            let begun = || Box::new(Assembly::new(kind, head.is_compressed));
            assembly.get_or_insert_with(begun).append(payload, message_max);
            fragment(assembly, head.is_final, message_max, inflater)?
        }
    };
    Ok(Decoded::Frame { consumed, event })
}

/// The first frame in `input`, of which only a close frame is looked at: how many bytes it has, and what a close frame
/// means. Of another frame nothing but the header is read, so that it costs the same whatever it has. None: there is no
/// whole frame yet.
///
/// # Errors
/// It is no frame that could have been admitted.
pub fn find_close(
    input: &mut [u8],
    message_max: usize,
) -> Result<Option<(usize, Option<Event<'_>>)>, Violation> {
    let Some(head) = Head::parse(input, true)? else { return Ok(None) };
    let size = usize::try_from(head.payload).ok().filter(|&size| size <= message_max);
    let consumed = head.bytes + size.ok_or(Violation::TooBig)?;
    let Some(payload) = input.get_mut(head.bytes..consumed) else { return Ok(None) };
    if head.opcode != OpCode::Control(Control::Close) {
        return Ok(Some((consumed, None)));
    }
    unmask(payload, head.mask);
    Ok(Some((consumed, Some(control_event(Control::Close, payload)?))))
}

/// A frame's header, as far as it can be judged alone.
struct Head {
    is_final: bool,
    is_compressed: bool,
    opcode: OpCode,
    mask: [u8; 4],
    /// Bytes of the header itself.
    bytes: usize,
    /// Bytes of payload that it announces.
    payload: u64,
}

impl Head {
    /// The header at the beginning of `input`, if all of it is there. What
    /// [`FrameHeader::parse`] does not check is checked here.
    fn parse(input: &[u8], may_compress: bool) -> Result<Option<Self>, Violation> {
        let mut cursor = Cursor::new(input);
        // Reading memory does not fail, and the parser has one complaint of its own.
        let parsed = FrameHeader::parse(&mut cursor)
            .map_err(|_| Violation::Protocol("an unknown opcode (RFC 6455, section 5.2)"))?;
        let Some((header, payload)) = parsed else { return Ok(None) };
        if header.rsv1 && !may_compress || header.rsv2 || header.rsv3 {
            return Err(Violation::Protocol("a reserved bit without an extension (RFC 6455, section 5.2)"));
        }
        let Some(mask) = header.mask else {
            return Err(Violation::Protocol("a client's frame without mask (RFC 6455, section 5.1)"));
        };
        if payload >> 63 != 0 {
            return Err(Violation::Protocol("a length of 64 bits (RFC 6455, section 5.2)"));
        }
        let bytes = header.len(payload);
        if bytes as u64 != cursor.position() {
            return Err(Violation::Protocol("a length not in its shortest form (RFC 6455, section 5.2)"));
        }
        let (is_final, is_compressed) = (header.is_final, header.rsv1);
        Ok(Some(Self { is_final, is_compressed, opcode: header.opcode, mask, bytes, payload }))
    }

    /// Whether such a frame may come now; its payload's size if so.
    fn admit(&self, assembly: Option<&Assembly>, message_max: usize) -> Result<usize, Violation> {
        match (self.opcode, assembly) {
            (OpCode::Control(_) | OpCode::Data(Data::Continue), _) if self.is_compressed => {
                return Err(Violation::Protocol(
                    "the mark of a compressed message elsewhere than at its beginning (RFC 7692, section 6.1)",
                ));
            }
            (OpCode::Control(_), _) if !self.is_final => {
                return Err(Violation::Protocol("a control frame in fragments (RFC 6455, section 5.5)"));
            }
            (OpCode::Control(_), _) if self.payload > CONTROL_MAX => {
                return Err(Violation::Protocol("a control frame over 125 bytes (RFC 6455, section 5.5)"));
            }
            (OpCode::Data(Data::Continue), None) => {
                return Err(Violation::Protocol("a continuation of no message (RFC 6455, section 5.4)"));
            }
            (OpCode::Data(Data::Text | Data::Binary), Some(_)) => {
                return Err(Violation::Protocol("a message inside of another (RFC 6455, section 5.4)"));
            }
            _ => {}
        }
        let room = match self.opcode {
            OpCode::Control(_) => usize::MAX,
            OpCode::Data(_) => message_max.saturating_sub(assembly.map_or(0, |message| message.bytes.len())),
        };
        usize::try_from(self.payload).ok().filter(|&size| size <= room).ok_or(Violation::TooBig)
    }
}

/// Takes the mask off: byte `i` was XORed with byte `i` modulo 4 of it (RFC 6455, section 5.3). By words,
/// which the compiler turns into vectors.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let mask_word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ mask_word).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= key;
    }
}

fn control_event(control: Control, payload: &[u8]) -> Result<Event<'_>, Violation> {
    match control {
        Control::Close => Ok(Event::Close(close_code(payload)?)),
        Control::Ping => Ok(Event::Ping(payload)),
        Control::Pong => Ok(Event::Pong(payload)),
        Control::Reserved(_) => unreachable!("refused with its header"),
    }
}

/// The code in a close frame's payload, which is empty or has one (RFC 6455, section 5.5.1).
fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let Some((code, text)) = payload.split_first_chunk() else {
        return match payload {
            [] => Ok(None),
            _ => Err(Violation::Protocol("a close frame with half a code (RFC 6455, section 5.5.1)")),
        };
    };
    let code = u16::from_be_bytes(*code);
    if !may_be_sent(code) {
        return Err(Violation::Protocol("a close code that may not be sent (RFC 6455, section 7.4)"));
    }
    simdutf8::basic::from_utf8(text).map_err(|_| Violation::InvalidUtf8)?;
    Ok(Some(code))
}

/// Whether a close frame may carry `code`: those of RFC 6455, section 7.4.1, and of IANA's registry that
/// are for the wire (1004 is reserved; 1005, 1006 and 1015 are for reports only), those registered by
/// libraries (3000 to 3999) and private ones (4000 to 4999).
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// A message that came in one frame, as it is.
fn whole_message(kind: Data, payload: &[u8]) -> Result<Event<'_>, Violation> {
    match kind {
        Data::Text => match simdutf8::basic::from_utf8(payload) {
            Ok(text) => Ok(Event::Text(Cow::Borrowed(text))),
            Err(_) => Err(Violation::InvalidUtf8),
        },
        Data::Binary => Ok(Event::Binary(Cow::Borrowed(payload))),
        Data::Continue | Data::Reserved(_) => unreachable!("refused with its header"),
    }
}

/// A message that had to be put together, or inflated.
fn owned_message(is_text: bool, bytes: Vec<u8>) -> Result<Event<'static>, Violation> {
    if !is_text {
        return Ok(Event::Binary(Cow::Owned(bytes)));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Event::Text(Cow::Owned(text))),
        Err(_) => Err(Violation::InvalidUtf8),
    }
}

fn inflate(
    inflater: Option<&mut Inflater>,
    payload: &[u8],
    message_max: usize,
) -> Result<Vec<u8>, Violation> {
    let Some(inflater) = inflater else { unreachable!("refused with its header") };
    inflater.message(payload, message_max).map_err(|error| match error {
        InflateError::TooBig => Violation::TooBig,
        InflateError::Corrupt => {
            Violation::Protocol("a message that cannot be inflated (RFC 7692, section 7.2.2)")
        }
    })
}

/// What a fragment means that has been taken in: the whole message, if it was the last one.
fn fragment<'a>(
    assembly: &mut Option<Box<Assembly>>,
    is_final: bool,
    message_max: usize,
    inflater: Option<&mut Inflater>,
) -> Result<Event<'a>, Violation> {
    match assembly.take() {
        Some(message) if is_final => message.finish(message_max, inflater),
        Some(mut message) => {
            message.check_so_far()?;
            *assembly = Some(message);
            Ok(Event::Fragment)
        }
        None => unreachable!("taken in by the caller"),
    }
}

impl Assembly {
    /// Bytes of the fragments so far.
    #[must_use]
    #[allow(
        clippy::len_without_is_empty,
        reason = "fragments may be empty, and the message is there all the same"
    )]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    fn new(kind: Data, compressed: bool) -> Self {
        Self { text: kind == Data::Text, compressed, ..Self::default() }
    }

    /// Adds a fragment that is known to fit into `message_max`. Memory doubles when it is used up, but never
    /// exceeds what a message may have.
    fn append(&mut self, payload: &[u8], message_max: usize) {
        let needed = self.bytes.len() + payload.len();
        debug_assert!(needed <= message_max, "admitted by its header");
        if needed > self.bytes.capacity() {
            let capacity = needed.max(2 * self.bytes.capacity()).min(message_max);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(payload);
    }

    /// Refuses text that no further fragment can make valid (RFC 6455, section 8.1). Looks at each byte
    /// once, but for a character that is not whole yet. What is compressed shows at its end what it is.
    fn check_so_far(&mut self) -> Result<(), Violation> {
        if !self.text || self.compressed {
            return Ok(());
        }
        match simdutf8::compat::from_utf8(&self.bytes[self.checked..]) {
            Ok(_) => self.checked = self.bytes.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(Violation::InvalidUtf8),
        }
        Ok(())
    }

    fn finish(
        self,
        message_max: usize,
        inflater: Option<&mut Inflater>,
    ) -> Result<Event<'static>, Violation> {
        let bytes = if self.compressed { inflate(inflater, &self.bytes, message_max)? } else { self.bytes };
        owned_message(self.text, bytes)
    }
}

#[cfg(test)]
mod tests;
