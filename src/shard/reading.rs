//! Reads clients: from the stream through the transport to the commands.
//!
//! There is one buffer for all clients. Of a client's input only the tail is kept that is not a whole frame yet. The next
//! read continues behind it. A client whose command must wait is not read until the command has had its turn.
//!
//! Clients take turns: in a turn each is read once, and has a *share*, `budgets.read_bytes`. When the share is used, the
//! rest of what was read is kept unprocessed: at most what one read brought. The client goes to the end of the queue, is
//! served again without an event, and is not read until that rest is processed. A client that had more than a share, or
//! waits for the broker, is then read a share at a time: the rest stays in the kernel, so that TCP slows the client down.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::time::Instant;

use crate::base::moment::Moment;
use crate::config::Limits;
use crate::domain::mail::ClientKey;
use crate::domain::reasons::CloseReason;
use crate::net::stream::{Read, Stream};
use crate::shard::Shard;
use crate::shard::input::KeptInput;
use crate::shard::tail::Tail;
use crate::transport::credential::Credential;
use crate::transport::upgrade;
use crate::transport::{Phase, Step, Transport};

/// What each frame and each command costs of a share besides its bytes: an empty one is work, too.
pub(super) const STEP_COST: usize = 128;

/// The queue of clients to be read.
#[derive(Debug, Default)]
pub(super) struct ReadTurns {
    /// Clients that may have something to be read, in the order of their turns.
    ready: VecDeque<ClientKey>,
    /// What the client that is being read has used of its share of the turn, in bytes.
    share_used: usize,
    /// When its input was read that is being processed.
    pub(super) read_at: Moment,
}

/// The input of all clients.
#[derive(Debug)]
pub(super) struct ClientInput {
    pub(super) turns: ReadTurns,
    pub(super) kept: KeptInput,
    /// The read buffer of all clients.
    pub(super) buffer: Vec<u8>,
}

impl ClientInput {
    /// Nothing is to be read yet.
    pub(super) fn new(limits: &Limits) -> Self {
        // A whole frame may have to be kept and still leave room for what comes next. In smaller pieces, a window on
        // loopback would close, whose packets are as large.
        let buffer = vec![0; 2 * limits.message_bytes + limits.head_bytes];
        let (turns, kept) = (ReadTurns::default(), KeptInput::default());
        Self { turns, kept, buffer }
    }
}

impl ReadTurns {
    /// Whether the queue has clients.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The clients in the queue.
    pub(super) fn ready(&self) -> impl Iterator<Item = &ClientKey> {
        self.ready.iter()
    }

    /// Takes out the first client.
    pub(super) fn next_ready(&mut self) -> Option<ClientKey> {
        self.ready.pop_front()
    }
}

impl<S: Stream, T: Transport> Shard<S, T> {
    /// Notes that the peer of the client in `slot` has closed its side.
    pub fn hung_up(&mut self, slot: u32) {
        if self.clients.get(slot).is_some() {
            self.clients[slot].hang_up();
            self.readable(slot);
        }
    }

    /// Notes that the socket of the client in `slot` has something to read.
    pub fn readable(&mut self, slot: u32) {
        if self.clients.get(slot).is_some() && self.clients[slot].enqueue() {
            self.input.turns.ready.push_back(self.clients.key(slot));
        }
    }

    /// Reads the clients in the queue, each once, as far as the budget goes.
    pub(super) fn read_clients(&mut self, clock: impl Fn() -> Instant) {
        for slot in self.broker.requests.take_blocked_clients() {
            self.readable(slot);
        }
        self.note_room();
        self.note_resuming();
        // A client that is to be read again is queued behind all that are there now.
        let (mut waiting, mut queued) = (self.input.kept.without_room().len(), self.input.turns.ready.len());
        if waiting + queued == 0 {
            return;
        }
        let began = clock();
        for _ in 0..self.settings.budgets.reads {
            let Some(key) = self.next_to_read(&mut waiting, &mut queued) else { return };
            if self.clients.find(key).is_none() {
                continue;
            }
            let slot = key.slot;
            self.clients[slot].begin_turn();
            self.input.turns.share_used = 0;
            let before = self.clients[slot].input_bytes();
            self.read(slot);
            let after = self.clients[slot].input_bytes();
            self.input.kept.replace(before, after);
            self.note_input(slot);
            if clock().saturating_duration_since(began) >= self.settings.budgets.read_time.0 {
                return;
            }
        }
    }

    fn read(&mut self, slot: u32) {
        self.resume(slot);
        if self.clients[slot].has_ended() || self.must_wait(slot) {
            return;
        }
        let most = self.may_read(slot);
        if most == 0 {
            return;
        }
        if self.clients[slot].has_unprocessed() {
            self.process_rest(slot);
        } else {
            let mut input = std::mem::take(&mut self.input.buffer);
            let kept = self.take_tail(slot, &mut input);
            let end = input.len().min(kept + most);
            self.read_stream(slot, &mut input[..end], kept);
            self.input.buffer = input;
        }
    }

    /// Processes a share of the unprocessed input in place. A client that sends much has much of it, and copying it for
    /// each share would cost more than the share.
    fn process_rest(&mut self, slot: u32) {
        let Some(mut tail) = self.clients[slot].take_tail() else { return };
        self.input.turns.read_at = tail.since();
        self.clients[slot].set_resumed(true);
        let used = self.process_input(slot, tail.rest());
        if !self.clients[slot].has_ended() {
            // Without room the memory of what is processed is given back at once. Only one client per turn needs that copy.
            tail.drop_first(used, self.clients[slot].has_unprocessed() && !self.is_overfull());
            self.clients[slot].keep_tail(tail);
            self.finish_share(slot);
        }
        // There may be more in the socket, and its event may have come already.
        self.readable(slot);
    }

    /// Reads behind the `kept` bytes of the input, which are not a whole frame.
    fn read_stream(&mut self, slot: u32, input: &mut [u8], kept: usize) {
        self.clients[slot].set_resumed(false);
        self.input.turns.read_at = self.timers.now();
        match self.clients[slot].stream.read(&mut input[kept..]) {
            Ok(Read { bytes: 0, .. }) => self.lose_at_end(slot),
            Ok(read) => {
                if !self.clients[slot].is_in_message() && kept == 0 {
                    self.begin_message(slot);
                }
                let filled = kept + read.bytes;
                // Edges are not repeated, and an end of file may follow what was read.
                let more = !read.drained || self.clients[slot].has_hung_up();
                let used = self.process_input(slot, &mut input[..filled]);
                if !self.clients[slot].has_ended() {
                    self.keep_tail(slot, &input[used..filled]);
                    self.finish_share(slot);
                }
                if more {
                    self.readable(slot);
                }
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => self.keep_tail(slot, &input[..kept]),
                ErrorKind::Interrupted => {
                    self.keep_tail(slot, &input[..kept]);
                    self.readable(slot);
                }
                _ => self.lose_at_end(slot),
            },
        }
    }

    /// Counts so many bytes, and one step, against the share of the client that is being read.
    pub(super) fn use_share(&mut self, bytes: usize) {
        self.input.turns.share_used += STEP_COST + bytes;
    }

    /// Whether the client that is being read has used its share of this turn.
    pub(super) fn share_is_used(&self) -> bool {
        self.input.turns.share_used >= self.settings.budgets.read_bytes
    }

    /// Whether the client's input must wait. The event that ends the wait makes the client readable again.
    fn must_wait(&mut self, slot: u32) -> bool {
        let client = &self.clients[slot];
        let waits = client.is_paused() || self.takes_no_replies(client);
        self.clients[slot].set_stalled(waits);
        waits
    }

    fn take_tail(&mut self, slot: u32, input: &mut [u8]) -> usize {
        let Some(tail) = self.clients[slot].take_tail() else { return 0 };
        let rest = tail.into_rest();
        input[..rest.len()].copy_from_slice(&rest);
        rest.len()
    }

    fn keep_tail(&mut self, slot: u32, tail: &[u8]) {
        if !tail.is_empty() {
            self.clients[slot].keep_tail(Box::new(Tail::new(tail, self.input.turns.read_at)));
        }
    }

    fn lose_at_end(&mut self, slot: u32) {
        let reason = match self.clients[slot].transport.phase() {
            Phase::Upgrading => CloseReason::UpgradeFailed,
            Phase::Open | Phase::Closing => CloseReason::ConnectionLost,
        };
        self.lose(slot, reason);
    }

    /// Processes whole frames of the input until there are none, the client must wait, or its share is used. Returns how
    /// many bytes they had.
    fn process_input(&mut self, slot: u32, input: &mut [u8]) -> usize {
        let mut at = 0;
        self.clients[slot].set_unprocessed(false);
        while at < input.len() && !self.clients[slot].has_ended() {
            if self.must_wait(slot) || self.share_is_used() {
                self.clients[slot].set_unprocessed(true);
                break;
            }
            let (consumed, step) = self.clients[slot].transport.step(
                &mut input[at..],
                &self.settings.policy,
                &mut self.inflater,
            );
            if matches!(step, Step::Incomplete) {
                break;
            }
            let ends = matches!(step, Step::Broken(_) | Step::Refused { .. });
            let work = consumed + step.owned_bytes() + self.inflater.take_cost();
            self.take(slot, step);
            self.use_share(work);
            if !self.clients[slot].transport.is_in_message() {
                self.begin_message(slot);
            }
            at = if ends { input.len() } else { at + consumed };
        }
        at
    }

    /// Ends a client's turn: queues it again if it has more to be processed, and sends its replies.
    fn finish_share(&mut self, slot: u32) {
        if self.clients[slot].has_unprocessed() && !self.clients[slot].is_stalled() {
            self.readable(slot);
        }
        self.visit(slot);
    }

    /// Carries out one frame.
    fn take(&mut self, slot: u32, step: Step<'_>) {
        match step {
            Step::Incomplete | Step::Nothing => {}
            Step::Upgraded { response, head, credential } => {
                self.upgraded(slot, &response, head, credential.as_ref());
            }
            Step::Refused { refusal, head } => self.refuse(slot, refusal, head),
            Step::Message(message) => self.message(slot, message),
            Step::Ping(payload) => {
                self.queue_output(slot, |transport, bytes| transport.put_pong(bytes, payload))
            }
            Step::Pong => {
                // RFC 6455, section 5.5.3, allows pongs without pings.
                let client = &mut self.clients[slot];
                if client.transport.has_pings() && client.session.pong() {
                    client.reset_rechecks();
                }
            }
            Step::PeerCloses(code) => self.peer_closes(slot, code),
            Step::Broken(violation) => self.close_for(slot, violation.into(), &violation),
        }
    }

    fn upgraded(&mut self, slot: u32, response: &[u8], head: &[u8], credential: Option<&Credential>) {
        self.keep_headers_of_request(slot, head);
        let origin = upgrade::origin(head).and_then(|origin| self.origins.enter(origin));
        self.clients[slot].set_origin(origin);
        self.entered(slot, Phase::Upgrading);
        match credential.map_or(Ok(()), |credential| self.take_credential(slot, credential)) {
            Ok(()) => self.queue_frames(slot, response),
            Err((refusal, error)) => self.refuse_for(slot, refusal, head, &error),
        }
    }

    /// Takes the peer's close frame: the answer to ours, or one to be answered with the same code.
    fn peer_closes(&mut self, slot: u32, code: Option<u16>) {
        if self.clients[slot].transport.phase() == Phase::Closing {
            return self.drop_if_gone(slot);
        }
        self.count_close(CloseReason::PeerClosed);
        self.begin_closing(slot, |transport, out| transport.answer_close(out, code));
    }

    /// Continues with the questions, and the message, that had to wait.
    fn resume(&mut self, slot: u32) {
        // Asking can end a connect, which drops what is unfinished. The bytes of the rest are counted by this turn.
        let rest = self.clients[slot].unfinished.as_mut().and_then(|unfinished| unfinished.rest.take());
        self.ask_postponed(slot);
        if self.clients[slot].has_postponed() {
            self.clients[slot].unfinished.get_or_insert_default().rest = rest;
            return;
        }
        if let Some(rest) = rest {
            let unfinished = self.clients[slot].unfinished.as_ref();
            self.input.turns.read_at =
                unfinished.map_or_else(|| self.timers.now(), |unfinished| unfinished.rest_since);
            self.clients[slot].set_resumed(true);
            self.commands(slot, &rest);
            self.clients[slot].free_unfinished();
            if !self.clients[slot].has_ended() {
                self.visit(slot);
            }
        }
    }
}

#[cfg(test)]
mod tests;
