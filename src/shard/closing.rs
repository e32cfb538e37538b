//! Ends connections: with a close frame and a time limit, with an HTTP refusal, or at once.

use std::fmt::Display;

use crate::domain::reasons::CloseReason;
use crate::net::stream::Stream;
use crate::shard::Shard;
use crate::transport::refusal::Refusal;
use crate::transport::{Phase, Transport};

impl<S: Stream, T: Transport> Shard<S, T> {
    /// Ends a connection with a close frame. A frame that was begun is sent first. Then the peer has `timeouts.close` to
    /// answer.
    pub(super) fn close(&mut self, slot: u32, reason: CloseReason) {
        self.close_for(slot, reason, &"");
    }

    /// The same. `fault` says in the log what the client did.
    pub(super) fn close_for(&mut self, slot: u32, reason: CloseReason, fault: &dyn Display) {
        if self.clients[slot].has_ended() {
            return;
        }
        match self.clients[slot].transport.phase() {
            Phase::Closing => return,
            Phase::Upgrading => return self.lose(slot, reason),
            Phase::Open => {}
        }
        self.close_with(slot, reason, reason.code(), reason.text());
        self.log_close(slot, reason, fault, !self.clients[slot].has_ended());
    }

    /// Ends a connection with a code and a text that the application chose.
    pub(super) fn close_for_application(&mut self, slot: u32, code: u16, text: &str) {
        if self.clients[slot].is_open() {
            self.close_with(slot, CloseReason::Application, code, text);
        }
    }

    /// Ends a connection at once, so that its memory is free at the end of the tick. The close frame is sent only if the
    /// socket takes it now.
    pub(super) fn cut(&mut self, slot: u32, reason: CloseReason, fault: &dyn Display) {
        if self.clients[slot].has_ended() || self.clients[slot].transport.phase() == Phase::Closing {
            return self.lose(slot, reason);
        }
        self.end_session(slot);
        self.leave_all_topics(slot);
        if self.clients[slot].has_ended() {
            return;
        }
        if self.clients[slot].is_open() {
            self.close_with(slot, reason, reason.code(), reason.text());
        }
        let client = &self.clients[slot];
        let is_closing = client.transport.phase() == Phase::Closing;
        let is_told = is_closing && !client.has_ended() && client.outgoing.is_none();
        self.log_close(slot, reason, fault, is_told);
        self.lose(slot, reason);
    }

    fn close_with(&mut self, slot: u32, reason: CloseReason, code: u16, text: &str) {
        self.count_close(reason);
        self.begin_closing(slot, |transport, out| transport.close(out, code, text));
    }

    /// Answers an HTTP request that does not become a client. `head` is as much of it as has arrived.
    pub(super) fn refuse(&mut self, slot: u32, refusal: Refusal, head: &[u8]) {
        self.refuse_for(slot, refusal, head, &"");
    }

    /// The same. `fault` says in the log what was wrong, beyond what the client is told.
    pub(super) fn refuse_for(&mut self, slot: u32, refusal: Refusal, head: &[u8], fault: &dyn Display) {
        self.stats.refused_upgrades[refusal as usize].add(1);
        let peer = self.clients[slot].stream.peer();
        self.log_refusal(peer, refusal, head, fault);
        self.count_close(CloseReason::UpgradeFailed);
        self.begin_closing(slot, |transport, out| transport.refuse(out, refusal));
    }

    /// Sends the last bytes of a connection, which `write_last` writes. The close has been counted.
    pub(super) fn begin_closing(&mut self, slot: u32, write_last: impl FnOnce(&mut T, &mut Vec<u8>)) {
        let (before, mut last) = (self.clients[slot].transport.phase(), Vec::new());
        write_last(&mut self.clients[slot].transport, &mut last);
        // First, as leaving the topics may end the connection, which must not be counted twice.
        self.entered(slot, before);
        self.end_session(slot);
        self.leave_all_topics(slot);
        if self.clients[slot].has_ended() {
            return;
        }
        self.drop_unfinished(slot);
        self.queue_frames(slot, &last);
        self.visit(slot);
    }

    /// Drops the commands of a client that are not finished, and what was prepared for their replies.
    pub(super) fn drop_unfinished(&mut self, slot: u32) {
        self.drop_questions(slot);
        let client = &mut self.clients[slot];
        let (input, prepared) = (client.input_bytes(), client.prepared_bytes());
        client.unfinished = None;
        self.input.kept.release(input - client.input_bytes());
        self.replies.release(prepared);
    }

    /// Ends a connection at once: the peer or the socket has gone, or a time-out is over.
    pub(super) fn lose(&mut self, slot: u32, reason: CloseReason) {
        if self.clients[slot].has_ended() {
            return;
        }
        if self.clients[slot].transport.phase() != Phase::Closing {
            self.count_close(reason);
        }
        self.clients.end(slot);
        self.end_session(slot);
        let client = &mut self.clients[slot];
        if let Some(outgoing) = &mut client.outgoing {
            outgoing.rest = None;
        }
        self.leave_all_topics(slot);
    }

    pub(super) fn count_close(&self, reason: CloseReason) {
        self.stats.closes[reason as usize].add(1);
    }

    /// Frees the slots of clients whose connections have ended. Only at the end of the tick: until then lists may name
    /// them.
    pub(super) fn free_ended(&mut self) {
        while let Some(slot) = self.clients.next_ended() {
            self.drop_questions(slot);
            let client = self.clients.remove(slot);
            // A subscription that is left would be served to the slot's next owner.
            assert!(
                client.subscriptions.as_slice().is_empty(),
                "a client leaves all topics before its slot is freed"
            );
            match client.transport.phase() {
                Phase::Upgrading => self.stats.upgrading.sub(1),
                Phase::Open => self.stats.open.sub(1),
                Phase::Closing => self.stats.closing.sub(1),
            }
            self.admission.give_back(client.has_place());
            self.stats.blocked_clients.sub(u64::from(client.is_blocked()));
            self.input.kept.release(client.input_bytes());
            self.replies.release(client.all_reply_bytes());
            self.logs.release_rest(client.outgoing.as_ref().map_or(0, |outgoing| outgoing.orphaned));
            if let Some(origin) = client.origin() {
                self.origins.leave(origin);
            }
        }
    }
}
