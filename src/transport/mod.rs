//! From a connection's bytes to complete messages: the HTTP request that opens it, and the protocol after it.
//! No socket, no clock, no thread, no lock: every parser borrows its input, and returns what it found and how
//! many bytes that took, or that it is incomplete.

pub mod framing;
pub mod origin;
pub mod preamble;
pub mod refusal;
mod request;
pub mod upgrade;
pub mod websocket;

use std::borrow::Cow;
use std::fmt;

use crate::codec::deflate::Inflater;
use crate::domain::codec::Codec;
use crate::domain::encoding::Encoding;

use framing::Framing;
use refusal::Refusal;
use upgrade::UpgradePolicy;
use websocket::decode::Violation;

/// Where a connection is in its life.
///
/// ```text
///             a whole request               close, from either side
///  Upgrading ─────────────────▶ Open ──────────────────────────────▶ Closing ──▶ gone
///      └── refused ──────────────────────────────────────────────────┘
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Its HTTP request is not whole yet.
    #[default]
    Upgrading,
    /// Messages go in both directions.
    Open,
    /// We have sent the last message, or an HTTP refusal, and wait for the peer to go.
    Closing,
}

/// What the beginning of the input meant.
#[derive(Debug)]
pub enum Step<'a> {
    /// It is no whole message or head yet: come again with more behind it.
    Incomplete,
    /// Nothing to do: a fragment, or something after our last message.
    Nothing,
    /// A request that opens the connection: it is [`Phase::Open`] now.
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
    /// A whole message.
    Message(Message<'a>),
    /// A ping, to be answered with a pong that carries the same.
    Ping(&'a [u8]),
    /// A pong.
    Pong,
    /// The peer closes, with a code or without one.
    PeerCloses(Option<u16>),
    /// The peer broke the rules and is to be closed.
    Broken(Violation),
}

/// A whole message: borrowed if it stands in the input as it is.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Of text.
    Text(Cow<'a, str>),
    /// Of bytes.
    Binary(Cow<'a, [u8]>),
}

/// What a transport must know of the configuration.
#[derive(Debug)]
pub struct Policy {
    /// Which requests open a connection.
    pub upgrade: UpgradePolicy,
    /// The largest message in bytes.
    pub message_bytes: usize,
}

/// What follows when the last bytes of a connection that is [`Phase::Closing`] have been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The peer has its time to answer.
    Wait,
    /// Our side of the stream is closed. The peer has its time to go.
    Shutdown,
    /// Both sides have said their last: the connection is dropped.
    Gone,
}

/// One connection's transport: what its bytes mean, and how messages become bytes.
pub trait Transport: fmt::Debug + Default {
    /// Where the connection is in its life.
    fn phase(&self) -> Phase;

    /// Takes the first message, or the HTTP head, off `input`: how many bytes it took, and what it meant.
    /// `inflater` is anybody's: no message leaves anything in it.
    fn step<'a>(
        &mut self,
        input: &'a mut [u8],
        policy: &Policy,
        inflater: &mut Inflater,
    ) -> (usize, Step<'a>);

    /// Whether a message has come in part.
    fn is_in_message(&self) -> bool;

    /// Bytes of such a message that are kept.
    fn assembled_bytes(&self) -> usize;

    /// What the peer speaks, by its request.
    fn codec(&self) -> Codec;

    /// How batches of this encoding become messages.
    fn framing(&self, encoding: Encoding) -> Framing;

    /// Whether it can carry batches that are compressed.
    fn takes_compressed(&self) -> bool;

    /// Whether the peer wants pings of the transport instead of the client protocol's own.
    fn has_pings(&self) -> bool;

    /// From now on messages are sent as bytes, as the peer sent its own.
    fn answer_in_bytes(&mut self);

    /// Appends lines, each with its end, as one message.
    fn put_lines(&self, out: &mut Vec<u8>, lines: &[u8]) {
        let encoding = Encoding::of(self.codec(), false);
        self.framing(encoding).put(out, lines, encoding.delimiter());
    }

    /// Appends a ping of the transport.
    fn put_ping(&self, out: &mut Vec<u8>);

    /// Appends the answer to a ping.
    fn put_pong(&self, out: &mut Vec<u8>, payload: &[u8]);

    /// Appends the last message, and is [`Phase::Closing`] from here on.
    fn close(&mut self, out: &mut Vec<u8>, code: u16, text: &str);

    /// Appends the answer to the peer's last message, which had this code, or none, and is [`Phase::Closing`] from here on.
    fn answer_close(&mut self, out: &mut Vec<u8>, code: Option<u16>);

    /// Appends the answer to a request that does not open the connection, and is [`Phase::Closing`] from here on.
    fn refuse(&mut self, out: &mut Vec<u8>, refusal: Refusal);

    /// What follows when everything has been written.
    fn ending(&self) -> Ending;
}

impl Step<'_> {
    /// Bytes of a message that do not stand in the input: it was inflated, or came in fragments.
    #[must_use]
    pub fn owned_bytes(&self) -> usize {
        match self {
            Self::Message(Message::Text(Cow::Owned(text))) => text.len(),
            Self::Message(Message::Binary(Cow::Owned(bytes))) => bytes.len(),
            _ => 0,
        }
    }
}
