//! One client's protocol state, from upgrade to close. Bytes in, what they mean out; no socket, no clock.
//!
//! ```text
//!             a whole request               close, from either side
//!  Upgrading ─────────────────▶ Open ──────────────────────────────▶ Closing ──▶ gone
//!      │                          │ connect: `connected`                ▲
//!      └── refused ───────────────┴─────────────────────────────────────┘
//! ```

use std::borrow::Cow;

use crate::codec::deflate::Inflater;
use crate::domain::codec::Codec;
use crate::domain::reasons::CloseReason;
use crate::transport::refusal::Refusal;
use crate::transport::upgrade::{self, Upgrade, UpgradePolicy};
use crate::transport::websocket::decode::{self, Assembly, Decoded, Event, Violation};
use crate::transport::websocket::encode::Opcode;
use crate::transport::websocket::extension::Deflate;

/// Where a client is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Its HTTP request is not whole yet.
    #[default]
    Upgrading,
    /// Its WebSocket is open.
    Open,
    /// We have sent a close frame or an HTTP refusal, and wait for the peer to go.
    Closing,
}

/// The state. What is rare is boxed: an idle session is a few bytes.
#[derive(Debug, Default)]
pub struct Session {
    /// Where it is in its life.
    pub phase: Phase,
    /// It has sent its connect command and got its reply.
    pub connected: bool,
    /// A ping is out and its pong is not in.
    pub awaits_pong: bool,
    /// It wants WebSocket pings instead of the protocol's own.
    pub native_pings: bool,
    /// The peer has closed its side of the WebSocket.
    pub peer_closed: bool,
    /// It never became a WebSocket: an HTTP refusal is on its way, or out.
    pub refused: bool,
    /// Its messages come in binary frames, and so do ours: some clients know no others.
    pub binary: bool,
    /// Who may compress messages.
    pub deflate: Deflate,
    assembly: Option<Box<Assembly>>,
}

/// What the beginning of the input meant.
#[derive(Debug)]
pub enum Step<'a> {
    /// It is no whole frame or head yet: come again with more behind it.
    Incomplete,
    /// Nothing to do: a fragment, or something after our close.
    Nothing,
    /// A request that becomes a WebSocket.
    Upgraded {
        /// The answer to send.
        response: Vec<u8>,
        /// What it sent.
        head: &'a [u8],
    },
    /// A request that does not: it is to be answered, and the connection ends.
    Refused {
        /// Why.
        refusal: Refusal,
        /// What it sent.
        head: &'a [u8],
    },
    /// A message in text.
    Text(Cow<'a, str>),
    /// A message in bytes.
    Binary(Cow<'a, [u8]>),
    /// A ping, to be answered with a pong that carries the same.
    Ping(&'a [u8]),
    /// A pong.
    Pong,
    /// The peer closes, with a code or without one.
    PeerCloses(Option<u16>),
    /// The peer broke the rules and is to be closed.
    Broken(Violation),
}

/// What a session must know of the configuration.
#[derive(Debug)]
pub struct Policy {
    /// Which requests become WebSockets.
    pub upgrade: UpgradePolicy,
    /// The largest message in bytes.
    pub message_bytes: usize,
}

impl Session {
    /// What it speaks.
    #[must_use]
    pub fn codec(&self) -> Codec {
        Codec::Json
    }

    /// In which frames it is sent messages.
    #[must_use]
    pub fn opcode(&self) -> Opcode {
        if self.binary { Opcode::Binary } else { Opcode::Text }
    }

    /// Takes the first frame, or the HTTP head, off `input`: how many bytes it took, and what it meant.
    /// `inflater` is anybody's: no message leaves anything in it.
    pub fn step<'a>(
        &mut self,
        input: &'a mut [u8],
        policy: &Policy,
        inflater: &mut Inflater,
    ) -> (usize, Step<'a>) {
        match self.phase {
            Phase::Upgrading => self.upgrade(input, &policy.upgrade),
            Phase::Open => self.frame(input, policy.message_bytes, inflater),
            Phase::Closing => self.last_frames(input, policy.message_bytes),
        }
    }

    /// Whether frames of a message have come, and not its last.
    #[must_use]
    pub fn is_in_message(&self) -> bool {
        self.assembly.is_some()
    }

    /// Bytes of such frames that are kept.
    #[must_use]
    pub fn assembled_bytes(&self) -> usize {
        self.assembly.as_ref().map_or(0, |assembly| assembly.len())
    }

    fn upgrade<'a>(&mut self, input: &'a [u8], policy: &UpgradePolicy) -> (usize, Step<'a>) {
        match upgrade::upgrade(input, policy) {
            Upgrade::Incomplete => (0, Step::Incomplete),
            Upgrade::Accepted { consumed, response, native_pings, deflate } => {
                self.phase = Phase::Open;
                self.native_pings = native_pings;
                self.deflate = deflate;
                (consumed, Step::Upgraded { response, head: &input[..consumed] })
            }
            Upgrade::Refused(refusal) => (input.len(), Step::Refused { refusal, head: input }),
        }
    }

    fn frame<'a>(
        &mut self,
        input: &'a mut [u8],
        message_bytes: usize,
        inflater: &mut Inflater,
    ) -> (usize, Step<'a>) {
        let inflater = self.deflate.inflates().then_some(inflater);
        match decode::decode(input, &mut self.assembly, message_bytes, inflater) {
            Ok(Decoded::Incomplete) => (0, Step::Incomplete),
            Ok(Decoded::Frame { consumed, event }) => (consumed, Step::from(event)),
            Err(violation) => (0, Step::Broken(violation)),
        }
    }

    /// After our close frame, or our refusal, only the peer's close frame matters; of what is no frame
    /// nothing can follow that is worth reading.
    fn last_frames<'a>(&mut self, input: &'a mut [u8], message_bytes: usize) -> (usize, Step<'a>) {
        self.assembly = None;
        let everything = input.len();
        match decode::find_close(input, message_bytes) {
            Ok(Some((consumed, event))) => (consumed, event.map_or(Step::Nothing, Step::from)),
            Ok(None) => (0, Step::Incomplete),
            Err(_) => (everything, Step::Nothing),
        }
    }
}

impl Step<'_> {
    /// Bytes of a message that do not stand in the input: it was inflated, or came in fragments.
    #[must_use]
    pub fn owned_bytes(&self) -> usize {
        match self {
            Self::Text(Cow::Owned(text)) => text.len(),
            Self::Binary(Cow::Owned(bytes)) => bytes.len(),
            _ => 0,
        }
    }
}

impl<'a> From<Event<'a>> for Step<'a> {
    fn from(event: Event<'a>) -> Self {
        match event {
            Event::Text(text) => Self::Text(text),
            Event::Binary(bytes) => Self::Binary(bytes),
            Event::Ping(payload) => Self::Ping(payload),
            Event::Pong(_) => Self::Pong,
            Event::Close(code) => Self::PeerCloses(code),
            Event::Fragment => Self::Nothing,
        }
    }
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
