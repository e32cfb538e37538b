//! What replies may have, of all clients together.
//!
//! A client that leaves more waiting than `limits.replies_bytes` is asked for no more commands. But an answer about a
//! history can have as many bytes as a frame of publications, and is asked for before its size is known: one per client
//! may always be under way, others as far as they have room ([`crate::shard::questions`]). Where many clients take none
//! of theirs, those who began first are closed.

use crate::mail::ClientKey;
use crate::protocol::codes::CloseReason;
use crate::shard::{Application, Shard, Socket};
use crate::wire::encode::{self, Opcode};

impl<S: Socket, A: Application> Shard<S, A> {
    /// Puts a frame for the client in `slot` behind what waits for it already.
    pub fn answer(&mut self, slot: u32, opcode: Opcode, payload: &[u8]) {
        self.put_behind(slot, |bytes| encode::frame(bytes, opcode, payload));
    }

    /// Puts bytes for the client in `slot` behind what waits for it already: frames that are whole.
    pub fn append_frames(&mut self, slot: u32, frames: &[u8]) {
        self.put_behind(slot, |bytes| bytes.extend_from_slice(frames));
    }

    /// Lets `add` put bytes behind what waits for a client already. What waits for a socket that takes nothing
    /// is timed from here on: no visit will do it.
    fn put_behind(&mut self, slot: u32, add: impl FnOnce(&mut Vec<u8>)) {
        let now = self.deadlines.now();
        let client = &mut self.clients[slot];
        let is_first = client.reply_bytes() == 0;
        let outgoing = client.outgoing.get_or_insert_default();
        if is_first {
            outgoing.replies_since = now;
        }
        let before = outgoing.bytes.len();
        add(&mut outgoing.bytes);
        self.reply_bytes += outgoing.bytes.len() - before;
        if client.blocked {
            self.time(slot);
        }
    }

    /// Notes that the broker has answered a client, which perhaps does not take it.
    pub(super) fn note_owing(&mut self, key: ClientKey) {
        if self.owes(key) {
            // Mostly they take it a moment later, so that the list stays short.
            while self.owing.front().is_some_and(|&first| !self.owes(first)) {
                self.owing.pop_front();
            }
            self.owing.push_back(key);
        }
    }

    /// Whether a client has left more waiting than it may.
    fn owes(&self, key: ClientKey) -> bool {
        let client = self.clients.find(key);
        client.is_some_and(|client| client.blocked && client.reply_bytes() > self.limits.replies_bytes)
    }

    /// Closes those who have left large answers waiting for the longest, while all together have too much.
    pub(super) fn shed_replies(&mut self) {
        let mut shed = 0;
        while self.reply_bytes - shed > self.limits.shard_replies_bytes
            && let Some(first) = self.owing.pop_front()
        {
            if self.owes(first) {
                // Their memory is free at the end of the tick.
                shed += self.clients[first.slot].reply_bytes();
                self.stats.policy_disconnect.add(1);
                self.lose(first.slot, CloseReason::Slow);
            }
        }
    }
}
