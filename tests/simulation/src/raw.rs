//! A transport beside the shipped one, without frames: commands end with a zero byte, and what the server sends is one
//! stream of lines. Some clients have it, so that a shard that takes WebSocket for granted is found.

use std::borrow::Cow;

use fanfare::codec::deflate::Inflater;
use fanfare::domain::codec::Codec;
use fanfare::domain::encoding::Encoding;
use fanfare::transport::framing::Framing;
use fanfare::transport::refusal::Refusal;
use fanfare::transport::websocket::connection::WebSocket;
use fanfare::transport::websocket::decode::Violation;
use fanfare::transport::{Ending, Message, Phase, Policy, Step, Transport};

/// What a client begins with that wants this transport.
pub const REQUEST: &[u8] = b"RAW\n";
/// The answer to it.
pub const ANSWER: &[u8] = b"raw\n";
/// What ends each message of a client.
pub const END: u8 = 0;

/// Whichever the client's first bytes ask for.
#[derive(Debug, Default)]
pub struct Either {
    websocket: WebSocket,
    /// Where a connection is that is not a WebSocket.
    raw: Option<Phase>,
}

impl Either {
    fn raw_step<'a>(&mut self, phase: Phase, input: &'a [u8], policy: &Policy) -> (usize, Step<'a>) {
        if phase == Phase::Closing {
            return (input.len(), Step::Nothing);
        }
        match input.iter().position(|&byte| byte == END) {
            Some(end) => {
                let text = std::str::from_utf8(&input[..end]).expect("clients send text");
                (end + 1, Step::Message(Message::Text(Cow::Borrowed(text))))
            }
            None if input.len() > policy.message_bytes => (0, Step::Broken(Violation::TooBig)),
            None => (0, Step::Incomplete),
        }
    }
}

impl Transport for Either {
    const NAME: &'static str = "test";

    fn phase(&self) -> Phase {
        self.raw.unwrap_or_else(|| self.websocket.phase())
    }

    fn step<'a>(
        &mut self,
        input: &'a mut [u8],
        policy: &Policy,
        inflater: &mut Inflater,
    ) -> (usize, Step<'a>) {
        if let Some(phase) = self.raw {
            return self.raw_step(phase, input, policy);
        }
        if self.websocket.phase() == Phase::Upgrading && input.starts_with(REQUEST) {
            self.raw = Some(Phase::Open);
            let upgraded = Step::Upgraded { response: ANSWER.to_vec(), head: REQUEST, credential: None };
            return (REQUEST.len(), upgraded);
        }
        self.websocket.step(input, policy, inflater)
    }

    fn is_in_message(&self) -> bool {
        self.websocket.is_in_message()
    }

    fn assembled_bytes(&self) -> usize {
        self.websocket.assembled_bytes()
    }

    fn codec(&self) -> Codec {
        self.websocket.codec()
    }

    fn framing(&self, encoding: Encoding) -> Framing {
        match self.raw {
            Some(_) => Framing::Raw,
            None => self.websocket.framing(encoding),
        }
    }

    fn takes_compressed(&self) -> bool {
        self.raw.is_none() && self.websocket.takes_compressed()
    }

    fn has_pings(&self) -> bool {
        self.raw.is_none() && self.websocket.has_pings()
    }

    fn answer_in_bytes(&mut self) {
        self.websocket.answer_in_bytes();
    }

    fn put_ping(&self, out: &mut Vec<u8>) {
        assert!(self.raw.is_none(), "it has no pings");
        self.websocket.put_ping(out);
    }

    fn put_pong(&self, out: &mut Vec<u8>, payload: &[u8]) {
        assert!(self.raw.is_none(), "it has no pings");
        self.websocket.put_pong(out, payload);
    }

    fn close(&mut self, out: &mut Vec<u8>, code: u16, text: &str) {
        match &mut self.raw {
            Some(phase) => {
                *phase = Phase::Closing;
                out.extend(format!("{{\"push\":{{\"disconnect\":{{\"code\":{code}}}}}}}\n").bytes());
            }
            None => self.websocket.close(out, code, text),
        }
    }

    fn answer_close(&mut self, out: &mut Vec<u8>, code: Option<u16>) {
        assert!(self.raw.is_none(), "its clients just go");
        self.websocket.answer_close(out, code);
    }

    fn refuse(&mut self, out: &mut Vec<u8>, refusal: Refusal) {
        self.websocket.refuse(out, refusal);
    }

    fn ending(&self) -> Ending {
        match self.raw {
            Some(_) => Ending::Shutdown,
            None => self.websocket.ending(),
        }
    }
}
