//! What clients send: from the socket through the session to the application.
//!
//! There is one buffer for all clients. A client keeps only the tail that is no whole frame yet, and it is
//! put in front of what is read next. A client whose command must wait is not read until the command had its
//! turn.

use std::io::ErrorKind;

use crate::protocol::codes::CloseReason;
use crate::session::{Phase, Step};
use crate::shard::{Application, Shard, Socket};
use crate::wire::encode::{self, Opcode};

impl<S: Socket, A: Application> Shard<S, A> {
    /// Reads the clients that have something, as far as the budget goes.
    pub(super) fn read_clients(&mut self) {
        for slot in std::mem::take(&mut self.starved) {
            self.readable(slot);
        }
        for _ in 0..self.budgets.reads {
            let Some(slot) = self.to_read.pop_front() else { return };
            if self.clients.living(slot).is_some() {
                self.clients[slot].to_read = false;
                self.clients[slot].held_up = false;
                self.read(slot);
            }
        }
    }

    fn read(&mut self, slot: u32) {
        self.resume(slot);
        if self.clients[slot].dead || self.must_wait(slot) {
            return;
        }
        let mut input = std::mem::take(&mut self.input);
        let kept = self.take_tail(slot, &mut input);
        match self.clients[slot].socket.read(&mut input[kept..]) {
            Ok(0) => self.finish_reading(slot, &mut input[..kept]),
            Ok(read) => {
                let filled = kept + read;
                // Edges are not repeated. A read that took less than there was room for took everything,
                // but for an end of the stream behind it.
                let more = filled == input.len() || self.clients[slot].hung_up;
                self.digest(slot, &mut input[..filled]);
                if more {
                    self.readable(slot);
                }
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => self.digest(slot, &mut input[..kept]),
                ErrorKind::Interrupted => {
                    self.keep_tail(slot, &input[..kept]);
                    self.readable(slot);
                }
                _ => self.lose_at_end(slot),
            },
        }
        self.input = input;
    }

    /// Whether the client's input must wait: then whatever ends the wait makes it readable again.
    fn must_wait(&mut self, slot: u32) -> bool {
        let client = &mut self.clients[slot];
        let waits =
            client.is_paused() || (client.blocked && client.reply_bytes() > self.limits.replies_bytes);
        client.held_up = waits;
        waits
    }

    fn take_tail(&mut self, slot: u32, input: &mut [u8]) -> usize {
        let Some(tail) = self.clients[slot].tail.take() else { return 0 };
        input[..tail.len()].copy_from_slice(&tail);
        tail.len()
    }

    fn keep_tail(&mut self, slot: u32, tail: &[u8]) {
        self.clients[slot].tail = (!tail.is_empty()).then(|| Box::new(tail.to_vec()));
    }

    /// The peer sends no more. What it sent before may have had to wait, and perhaps has to wait again: then this is
    /// not the end yet.
    fn finish_reading(&mut self, slot: u32, kept: &mut [u8]) {
        self.digest(slot, kept);
        if !self.clients[slot].dead && !self.clients[slot].held_up {
            self.lose_at_end(slot);
        }
    }

    fn lose_at_end(&mut self, slot: u32) {
        let reason = match self.clients[slot].session.phase {
            Phase::Upgrading => CloseReason::UpgradeFailed,
            Phase::Open | Phase::Closing => CloseReason::ConnectionLost,
        };
        self.lose(slot, reason);
    }

    /// Takes whole frames off the input until it is used up, or the client must wait.
    fn digest(&mut self, slot: u32, input: &mut [u8]) {
        let mut at = 0;
        while at < input.len() && !self.clients[slot].dead && !self.must_wait(slot) {
            let (consumed, step) =
                self.clients[slot].session.step(&mut input[at..], &self.policy, &mut self.inflater);
            if matches!(step, Step::Incomplete) {
                break;
            }
            let ends = matches!(step, Step::Broken(_) | Step::Refused { .. });
            self.take(slot, step);
            at = if ends { input.len() } else { at + consumed };
        }
        if !self.clients[slot].dead {
            self.keep_tail(slot, &input[at..]);
            self.visit(slot);
        }
    }

    /// Does what one frame means.
    fn take(&mut self, slot: u32, step: Step<'_>) {
        match step {
            Step::Incomplete | Step::Nothing => {}
            Step::Upgraded(response) => self.upgraded(slot, &response),
            Step::Refused { refusal, head } => self.refuse(slot, refusal, head),
            Step::Text(text) => A::text(self, slot, text),
            Step::Binary(bytes) => A::binary(self, slot, bytes),
            Step::Ping(payload) => self.answer(slot, Opcode::Pong, payload),
            Step::Pong => {
                // RFC 6455, section 5.5.3: a pong that nobody asked for is no offence.
                if self.clients[slot].session.native_pings {
                    self.pong(slot);
                }
            }
            Step::PeerCloses(code) => self.peer_closes(slot, code),
            Step::Broken(violation) => self.close_for(slot, violation.into(), &violation),
        }
    }

    fn upgraded(&mut self, slot: u32, response: &[u8]) {
        // The session is in its next phase already; the counters are not.
        self.clients[slot].session.phase = Phase::Upgrading;
        self.enter(slot, Phase::Open);
        self.append_frames(slot, response);
    }

    /// The peer's close frame: the answer to ours, or to be answered with the same code.
    fn peer_closes(&mut self, slot: u32, code: Option<u16>) {
        self.clients[slot].session.peer_closed = true;
        if self.clients[slot].session.phase == Phase::Closing {
            if self.clients[slot].outgoing.is_none() {
                self.lose(slot, CloseReason::PeerClosed);
            }
            return;
        }
        self.count_close(CloseReason::PeerClosed);
        let mut echo = Vec::new();
        match code {
            Some(code) => encode::close(&mut echo, code, ""),
            None => encode::frame(&mut echo, Opcode::Close, b""),
        }
        self.begin_closing(slot, &echo);
    }

    /// Goes on with the message that had to wait.
    fn resume(&mut self, slot: u32) {
        let backlog = self.clients[slot].waiting.as_mut().and_then(|waiting| waiting.backlog.take());
        if let Some(backlog) = backlog {
            A::text(self, slot, String::from(backlog).into());
            if !self.clients[slot].dead {
                self.visit(slot);
            }
        }
    }
}
