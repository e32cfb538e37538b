//! From a connection's bytes to complete messages: the HTTP request that opens it, and the protocol after it.
//! No socket, no clock, no thread, no lock: every parser borrows its input, and returns what it found and how
//! many bytes that took, or that it is incomplete.

pub mod credential;
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

use credential::Credential;
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

/// What the first message of the input, or its HTTP head, means.
#[derive(Debug)]
pub enum Step<'a> {
    /// It is not whole: call again with the same bytes and more.
    Incomplete,
    /// There is nothing to do: it was a fragment, or came after our last message.
    Nothing,
    /// A request that opens the connection: it is [`Phase::Open`] now.
    Upgraded {
        /// The answer to send.
        response: Vec<u8>,
        /// The head of the request.
        head: &'a [u8],
        /// The token that came with it. Nothing has said yet whether it is valid.
        credential: Option<Credential>,
    },
    /// A request that does not open the connection: it is to be answered, and the connection ends.
    Refused {
        /// Why.
        refusal: Refusal,
        /// As much of the request as has arrived.
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
    /// The peer broke the transport's rules, and the connection is to be closed.
    Broken(Violation),
}

/// A whole message, borrowed from the input if it is there in one piece.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A message of text.
    Text(Cow<'a, str>),
    /// A message of bytes.
    Binary(Cow<'a, [u8]>),
}

/// The part of the configuration that transports need.
#[derive(Debug)]
pub struct Policy {
    /// Which requests open a connection.
    pub upgrade: UpgradePolicy,
    /// Bytes that a message may have, as it is sent and after decompression.
    pub message_bytes: usize,
}

/// What follows when the last bytes of a connection that is [`Phase::Closing`] have been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The peer has its time to answer.
    Wait,
    /// Our side of the stream is to be closed. The peer has its time to close its own.
    Shutdown,
    /// Both sides have closed: the connection is to be dropped.
    Gone,
}

/// One connection's transport: what its bytes mean, and how messages become bytes.
pub trait Transport: fmt::Debug + Default {
    /// Its name, as the application's backend is told it.
    const NAME: &'static str;

    /// Where the connection is in its life.
    fn phase(&self) -> Phase;

    /// Takes the first message, or the HTTP head, off `input`. Returns how many bytes it had, and what it means. `inflater`
    /// is shared by all connections, as no message leaves state in it.
    fn step<'a>(
        &mut self,
        input: &'a mut [u8],
        policy: &Policy,
        inflater: &mut Inflater,
    ) -> (usize, Step<'a>);

    /// Whether some fragments of a message are kept.
    fn is_in_message(&self) -> bool;

    /// Bytes of those fragments.
    fn assembled_bytes(&self) -> usize;

    /// The codec that the peer's request has chosen.
    fn codec(&self) -> Codec;

    /// The framing that makes a message of a batch of this encoding.
    fn framing(&self, encoding: Encoding) -> Framing;

    /// Whether it can carry batches that are compressed.
    fn takes_compressed(&self) -> bool;

    /// Whether the peer wants pings of the transport instead of the client protocol's own.
    fn has_pings(&self) -> bool;

    /// Sends messages as binary ones from now on, as the peer does.
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

    /// Appends the answer to a request that does not open the connection, and is [`Phase::Closing`] from here on. It can be
    /// called when the request has [opened](Step::Upgraded) it as well, as long as nothing was sent.
    fn refuse(&mut self, out: &mut Vec<u8>, refusal: Refusal);

    /// What follows when everything has been written.
    fn ending(&self) -> Ending;
}

impl Step<'_> {
    /// Bytes of a message that are not in the input, because it was decompressed or came in fragments.
    #[must_use]
    pub fn owned_bytes(&self) -> usize {
        match self {
            Self::Message(Message::Text(Cow::Owned(text))) => text.len(),
            Self::Message(Message::Binary(Cow::Owned(bytes))) => bytes.len(),
            _ => 0,
        }
    }
}
