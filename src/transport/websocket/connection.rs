//! One WebSocket connection without its socket: the HTTP request that opens it, frames, and the close handshake.

use crate::codec::deflate::Inflater;
use crate::domain::codec::Codec;
use crate::domain::encoding::Encoding;
use crate::transport::framing::Framing;
use crate::transport::refusal::Refusal;
use crate::transport::upgrade::{self, Upgrade, UpgradePolicy};
use crate::transport::websocket::decode::{self, Assembly, Decoded, Event};
use crate::transport::websocket::encode::{self, Opcode};
use crate::transport::websocket::extension::Deflate;
use crate::transport::{Ending, Message, Phase, Policy, Step, Transport};

/// The state of a connection. Rare state is boxed: an idle connection has a few bytes.
#[derive(Debug, Default)]
pub struct WebSocket {
    phase: Phase,
    codec: Codec,
    /// The peer wants ping frames, and none of the client protocol's.
    native_pings: bool,
    /// The peer has sent its close frame.
    peer_closed: bool,
    /// It was refused, and did not become a WebSocket.
    refused: bool,
    /// Messages come in binary frames, and so do ours: some clients know no others.
    binary: bool,
    /// Who may compress messages.
    deflate: Deflate,
    assembly: Option<Box<Assembly>>,
}

impl Transport for WebSocket {
    const NAME: &'static str = "websocket";

    fn phase(&self) -> Phase {
        self.phase
    }

    fn step<'a>(
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

    fn is_in_message(&self) -> bool {
        self.assembly.is_some()
    }

    fn assembled_bytes(&self) -> usize {
        self.assembly.as_ref().map_or(0, |assembly| assembly.len())
    }

    #[inline]
    fn codec(&self) -> Codec {
        self.codec
    }

    #[inline]
    fn framing(&self, encoding: Encoding) -> Framing {
        match (encoding.is_compressed(), self.binary) {
            (false, false) => Framing::Text,
            (false, true) => Framing::Binary,
            (true, false) => Framing::CompressedText,
            (true, true) => Framing::CompressedBinary,
        }
    }

    fn takes_compressed(&self) -> bool {
        self.deflate.deflates()
    }

    fn has_pings(&self) -> bool {
        self.native_pings
    }

    fn answer_in_bytes(&mut self) {
        self.binary = true;
    }

    fn put_ping(&self, out: &mut Vec<u8>) {
        encode::frame(out, Opcode::Ping, b"");
    }

    fn put_pong(&self, out: &mut Vec<u8>, payload: &[u8]) {
        encode::frame(out, Opcode::Pong, payload);
    }

    fn close(&mut self, out: &mut Vec<u8>, code: u16, text: &str) {
        self.phase = Phase::Closing;
        encode::close(out, code, text);
    }

    fn answer_close(&mut self, out: &mut Vec<u8>, code: Option<u16>) {
        self.phase = Phase::Closing;
        match code {
            Some(code) => encode::close(out, code, ""),
            None => encode::frame(out, Opcode::Close, b""),
        }
    }

    fn refuse(&mut self, out: &mut Vec<u8>, refusal: Refusal) {
        (self.phase, self.refused) = (Phase::Closing, true);
        out.extend_from_slice(&refusal.answer());
    }

    fn ending(&self) -> Ending {
        match (self.peer_closed, self.refused) {
            (true, _) => Ending::Gone,
            (false, true) => Ending::Shutdown,
            (false, false) => Ending::Wait,
        }
    }
}

impl WebSocket {
    /// Who may compress messages.
    #[must_use]
    pub fn deflate(&self) -> Deflate {
        self.deflate
    }

    fn upgrade<'a>(&mut self, input: &'a [u8], policy: &UpgradePolicy) -> (usize, Step<'a>) {
        match upgrade::upgrade(input, policy) {
            Upgrade::Incomplete => (0, Step::Incomplete),
            Upgrade::Accepted { consumed, response, codec, native_pings, deflate, credential } => {
                (self.phase, self.codec) = (Phase::Open, codec);
                (self.native_pings, self.deflate) = (native_pings, deflate);
                (consumed, Step::Upgraded { response, head: &input[..consumed], credential })
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
            Ok(Decoded::Frame { consumed, event }) => (consumed, self.event(event)),
            Err(violation) => (0, Step::Broken(violation)),
        }
    }

    /// After our close frame, or our refusal, only the peer's close frame matters. After bytes that are not a frame, no
    /// close frame can follow.
    fn last_frames<'a>(&mut self, input: &'a mut [u8], message_bytes: usize) -> (usize, Step<'a>) {
        self.assembly = None;
        let everything = input.len();
        match decode::find_close(input, message_bytes) {
            Ok(Some((consumed, event))) => (consumed, event.map_or(Step::Nothing, |event| self.event(event))),
            Ok(None) => (0, Step::Incomplete),
            Err(_) => (everything, Step::Nothing),
        }
    }

    fn event<'a>(&mut self, event: Event<'a>) -> Step<'a> {
        match event {
            Event::Text(text) => Step::Message(Message::Text(text)),
            Event::Binary(bytes) => Step::Message(Message::Binary(bytes)),
            Event::Ping(payload) => Step::Ping(payload),
            Event::Pong(_) => Step::Pong,
            Event::Close(code) => {
                self.peer_closed = true;
                Step::PeerCloses(code)
            }
            Event::Fragment => Step::Nothing,
        }
    }
}

/// What a request agrees on, without one: for tests of the shard.
#[cfg(test)]
impl WebSocket {
    pub(crate) fn set_deflate(&mut self, deflate: Deflate) {
        self.deflate = deflate;
    }

    pub(crate) fn set_native_pings(&mut self) {
        self.native_pings = true;
    }
}

#[cfg(test)]
mod tests;
