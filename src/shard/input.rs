//! Input of clients that is kept, and which client is read while there is much of it.
//! [`shedding`](super::shedding) has the rule.

use std::collections::VecDeque;

use crate::base::moment::Moment;
use crate::domain::mail::ClientKey;
use crate::net::stream::Stream;
use crate::shard::Shard;
use crate::shard::client::Client;
use crate::shard::client_list::ClientList;
use crate::shard::clients::Clients;
use crate::transport::Transport;

/// Bytes that are read from one client at once where the bound has been reached: enough for commands as most clients
/// send them, and mostly done within the same turn.
const SIP: usize = 1024;

/// Input that is kept, of all clients together, and which of them wait until there is room for more.
#[derive(Debug, Default)]
pub(super) struct KeptInput {
    bytes: usize,
    /// Clients of which input is kept.
    owners: ClientList,
    /// Clients that could not be read for want of room, in the order of their turns.
    without_room: VecDeque<ClientKey>,
    /// Since when there has been no room, or a client that found none.
    no_room_since: Option<Moment>,
    /// The client that goes on with what was left over of its input while the bound is exceeded by far.
    going_on: Option<ClientKey>,
}

impl KeptInput {
    /// How many bytes are kept.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Notes that of a client `after` bytes are kept, and were `before`.
    pub(super) fn replace(&mut self, before: usize, after: usize) {
        self.bytes += after;
        self.bytes -= before;
    }

    /// Notes that so many bytes are not kept any more.
    pub(super) fn release(&mut self, bytes: usize) {
        self.bytes -= bytes;
    }

    /// Clients of which input is kept, and some of which it was.
    pub(super) fn owners(&self) -> &[ClientKey] {
        self.owners.keys()
    }

    /// Takes out of [`owners`](Self::owners) the clients of which nothing is kept any more.
    pub(super) fn purge_owners<S, T: Transport>(&mut self, clients: &mut Clients<S, T>) {
        self.owners.purge(clients, Client::still_keeps_input);
    }

    /// Clients that could not be read for want of room.
    pub(super) fn without_room(&self) -> &VecDeque<ClientKey> {
        &self.without_room
    }

    /// Since when there has been no room, or a client that found none.
    pub(super) fn no_room_since(&self) -> Option<Moment> {
        self.no_room_since
    }
}

impl<S: Stream, T: Transport> Shard<S, T> {
    /// How many bytes may be read from the client whose turn it is: none if it must wait, and is queued for a later turn.
    /// What is left over of its input is not read again, but can become more when it is inflated. So without room, one client
    /// at a time goes on with it: the next one begins when the one before has worked off what that became, or has to wait for
    /// the broker or for its replies to be taken.
    pub(super) fn may_read(&mut self, slot: u32) -> usize {
        if self.input.kept.bytes < self.settings.limits.shard_input_bytes {
            return if self.goes_by_shares(slot) {
                self.settings.budgets.read_bytes
            } else {
                self.input.buffer.len()
            };
        }
        if !self.is_overfull() {
            return SIP;
        }
        if self.clients[slot].has_left_over() {
            if self.input.kept.going_on.is_none() {
                self.input.kept.going_on = Some(self.clients.key(slot));
                return SIP;
            }
            self.readable(slot);
        } else if self.clients[slot].enqueue() {
            self.input.kept.without_room.push_back(self.clients.key(slot));
        }
        0
    }

    /// Whether a client is read no more than a share at once: its commands wait for the broker, or are more than it has
    /// turns for. What it sends meanwhile stays with the kernel, which holds it back.
    fn goes_by_shares(&self, slot: u32) -> bool {
        let client = &self.clients[slot];
        client.went_on() || client.session.has_unanswered()
    }

    /// Whether the bound is exceeded by so much that nobody is read.
    pub(super) fn is_overfull(&self) -> bool {
        let bound = self.settings.limits.shard_input_bytes;
        self.input.kept.bytes >= bound + bound / 16
    }

    /// Notes since when clients have found no room. Who has something left over waits among those who are to be read, and
    /// counts as long as nobody is read.
    pub(super) fn note_room(&mut self) {
        let is_overfull = self.is_overfull() || !self.input.kept.without_room.is_empty();
        self.input.kept.no_room_since =
            is_overfull.then(|| self.input.kept.no_room_since.unwrap_or_else(|| self.timers.now()));
    }

    /// Notes whether the client that went on with what was left over still has some of what that became, and a turn to
    /// come for it. One that waits for something else keeps nobody from going on.
    pub(super) fn note_who_goes_on(&mut self) {
        let clients = &self.clients;
        self.input.kept.going_on = self.input.kept.going_on.filter(|&key| {
            let client = clients.find(key);
            client.is_some_and(|client| client.is_to_read() && client.is_paused())
        });
    }

    /// The client whose turn it is: as long as there is room, the first of those who found none before, `waiting` of them;
    /// then one of `queued` others.
    pub(super) fn next_to_read(&mut self, waiting: &mut usize, queued: &mut usize) -> Option<ClientKey> {
        if *waiting > 0 && !self.is_overfull() {
            *waiting -= 1;
            return self.input.kept.without_room.pop_front();
        }
        *queued = queued.checked_sub(1)?;
        self.input.turns.next_ready()
    }

    /// Notes that what comes next from a client is the beginning of a message.
    pub(super) fn begin_message(&mut self, slot: u32) {
        let now = self.timers.now();
        self.clients[slot].begin_message(now);
    }

    /// Notes that input of a client is kept, if so. A message that has come in part is timed.
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
