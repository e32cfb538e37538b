//! What clients' input may have that is kept, of all of them together: messages that have come in part, and what waits
//! for its turn.
//!
//! What waits is done soon, and while there is too much, no more is read. Messages that have come in part may never
//! become whole: their clients have a time for it, and where all together have too much, those who began first are
//! closed.

use crate::mail::ClientKey;
use crate::protocol::codes::CloseReason;
use crate::shard::deadlines::Moment;
use crate::shard::{Application, Shard, Socket};

/// Input of one client that is kept. What is used of it goes from its front.
#[derive(Debug)]
pub struct Tail {
    bytes: Vec<u8>,
    /// How many of them are used.
    used: usize,
}

impl Tail {
    /// Nothing of it is used.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), used: 0 }
    }

    /// How many bytes are kept, those that are used but still there included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.used == self.bytes.len()
    }

    /// What is not used.
    pub fn rest(&mut self) -> &mut [u8] {
        &mut self.bytes[self.used..]
    }

    /// The same, for good.
    #[must_use]
    pub fn into_rest(mut self) -> Vec<u8> {
        self.bytes.drain(..self.used);
        self.bytes
    }

    /// Notes that so much of the rest is used. The memory of what is used is kept only where `more` is used soon, and
    /// while it is the smaller part: so each byte is moved once or twice, however many shares there are.
    pub fn drop_first(&mut self, used: usize, more: bool) {
        self.used += used;
        if !more || self.used > self.bytes.len() / 2 {
            self.bytes = self.bytes[self.used..].to_vec();
            self.used = 0;
        }
    }
}

/// Entries of the list of halves beyond two for each client before those that are over are taken out.
const STALE: usize = 1024;

impl<S: Socket, A: Application> Shard<S, A> {
    /// Whether more input may be taken in.
    pub(super) fn has_room_for_input(&self) -> bool {
        self.input_bytes < self.limits.shard_input_bytes
    }

    /// Notes that what comes next from a client is the beginning of a message.
    pub(super) fn begin_message(&mut self, slot: u32) {
        let client = &mut self.clients[slot];
        client.message_since = self.deadlines.now();
        client.is_listed = false;
    }

    /// Notes that a message has come in part, if so.
    pub(super) fn note_half(&mut self, slot: u32) {
        let client = &mut self.clients[slot];
        if !client.is_in_message() || client.is_listed {
            return;
        }
        client.is_listed = true;
        let entry = (self.clients.key(slot), self.clients[slot].message_since);
        if self.halves.len() > 2 * self.clients.len() + STALE {
            let halves = std::mem::take(&mut self.halves);
            self.halves = halves.into_iter().filter(|&(key, since)| self.is_half(key, since)).collect();
        }
        self.halves.push_back(entry);
        self.time(slot);
    }

    /// Whether the message that this client began then is still not whole.
    fn is_half(&self, key: ClientKey, since: Moment) -> bool {
        let client = self.clients.find(key);
        client.is_some_and(|client| client.is_in_message() && client.message_since == since)
    }

    /// Closes those whose messages are incomplete for the longest, while all together have too much.
    pub(super) fn shed_input(&mut self) {
        let mut shed = 0;
        while self.input_bytes - shed > self.limits.shard_input_bytes
            && let Some((key, since)) = self.halves.pop_front()
        {
            if self.is_half(key, since) {
                // Their memory is free at the end of the tick.
                shed += self.clients[key.slot].input_bytes();
                self.lose(key.slot, CloseReason::Slow);
            }
        }
    }
}
