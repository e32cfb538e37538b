//! The input that is kept of clients, and which client is read while there is much of it. The rule is in
//! [`shedding`](super::shedding).

use std::collections::VecDeque;

use crate::base::moment::Moment;
use crate::domain::mail::ClientKey;
use crate::net::stream::Stream;
use crate::shard::Shard;
use crate::shard::client::Client;
use crate::shard::client_list::ClientList;
use crate::shard::clients::Clients;
use crate::transport::Transport;

/// Bytes that are read from one client at once when `limits.shard_input_bytes` is reached: enough for usual commands, which
/// are mostly carried out within the same turn.
const SMALL_READ: usize = 1024;

/// The input that is kept of all clients, and the clients that wait until there is room for more.
#[derive(Debug, Default)]
pub(super) struct KeptInput {
    bytes: usize,
    /// Clients whose input is kept.
    owners: ClientList,
    /// Clients that were not read because there was no room, in the order of their turns.
    without_room: VecDeque<ClientKey>,
    /// Since when there has been no room, or a client that found none.
    no_room_since: Option<Moment>,
    /// The one client that may continue with its unprocessed input while the bound is exceeded by far.
    resuming: Option<ClientKey>,
}

impl KeptInput {
    /// How many bytes are kept.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Notes that `after` bytes are kept of a client, instead of `before`.
    pub(super) fn replace(&mut self, before: usize, after: usize) {
        self.bytes += after;
        self.bytes -= before;
    }

    /// Notes that so many bytes are not kept any more.
    pub(super) fn release(&mut self, bytes: usize) {
        self.bytes -= bytes;
    }

    /// Clients whose input is kept, and stale entries.
    pub(super) fn owners(&self) -> &[ClientKey] {
        self.owners.keys()
    }

    /// Removes the stale entries of [`owners`](Self::owners).
    pub(super) fn purge_owners<S, T: Transport>(&mut self, clients: &mut Clients<S, T>) {
        self.owners.purge(clients, Client::still_keeps_input);
    }

    /// Clients that were not read because there was no room.
    pub(super) fn without_room(&self) -> &VecDeque<ClientKey> {
        &self.without_room
    }

    /// Since when there has been no room, or a client that found none.
    pub(super) fn no_room_since(&self) -> Option<Moment> {
        self.no_room_since
    }
}

impl<S: Stream, T: Transport> Shard<S, T> {
    /// How many bytes may be read from the client whose turn it is. Zero: it was queued for a later turn.
    ///
    /// Unprocessed input can become larger when it is decompressed. So without room only one client at a time continues
    /// with its own. The next one begins when that one has processed what it decompressed, or has to wait for the broker or
    /// for its replies to be taken.
    pub(super) fn may_read(&mut self, slot: u32) -> usize {
        if self.input.kept.bytes < self.settings.limits.shard_input_bytes {
            return if self.goes_by_shares(slot) {
                self.settings.budgets.read_bytes
            } else {
                self.input.buffer.len()
            };
        }
        if !self.is_overfull() {
            return SMALL_READ;
        }
        if self.clients[slot].has_unprocessed() {
            if self.input.kept.resuming.is_none() {
                self.input.kept.resuming = Some(self.clients.key(slot));
                return SMALL_READ;
            }
            self.readable(slot);
        } else if self.clients[slot].enqueue() {
            self.input.kept.without_room.push_back(self.clients.key(slot));
        }
        0
    }

    /// Whether at most a share of a client's input is read at once: its commands wait for the broker, or are more than its
    /// turns can take. The rest stays in the kernel, so that TCP slows the client down.
    fn goes_by_shares(&self, slot: u32) -> bool {
        let client = &self.clients[slot];
        client.has_resumed() || client.session.has_unanswered()
    }

    /// Whether the bound is exceeded by so much that no client is read.
    pub(super) fn is_overfull(&self) -> bool {
        let bound = self.settings.limits.shard_input_bytes;
        self.input.kept.bytes >= bound + bound / 16
    }

    /// Notes since when clients have found no room.
    pub(super) fn note_room(&mut self) {
        let is_overfull = self.is_overfull() || !self.input.kept.without_room.is_empty();
        self.input.kept.no_room_since =
            is_overfull.then(|| self.input.kept.no_room_since.unwrap_or_else(|| self.timers.now()));
    }

    /// Lets another client continue with its unprocessed input, unless the present one has commands that are put off to its
    /// next turn.
    pub(super) fn note_resuming(&mut self) {
        let clients = &self.clients;
        self.input.kept.resuming = self.input.kept.resuming.filter(|&key| {
            let client = clients.find(key);
            client.is_some_and(|client| client.is_to_read() && client.is_paused())
        });
    }

    /// The client whose turn it is. While there is room, it is one of the `waiting` clients that found none before; then
    /// one of the `queued` others.
    pub(super) fn next_to_read(&mut self, waiting: &mut usize, queued: &mut usize) -> Option<ClientKey> {
        if *waiting > 0 && !self.is_overfull() {
            *waiting -= 1;
            return self.input.kept.without_room.pop_front();
        }
        *queued = queued.checked_sub(1)?;
        self.input.turns.next_ready()
    }

    /// Notes that the next byte of a client begins a message.
    pub(super) fn begin_message(&mut self, slot: u32) {
        let now = self.timers.now();
        self.clients[slot].begin_message(now);
    }

    /// Lists a client if input of it is kept, and begins the time-out of a message that has arrived in part.
    pub(super) fn note_input(&mut self, slot: u32) {
        let client = &mut self.clients[slot];
        if client.input_bytes() == 0 {
            return;
        }
        if client.list_for_input() {
            self.input.kept.owners.push(self.clients.key(slot));
            self.input.kept.owners.tidy(&mut self.clients, Client::still_keeps_input);
        }
        if self.clients[slot].is_in_message() {
            self.time(slot);
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
