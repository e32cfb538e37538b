//! What is kept for clients besides publications, of all clients of a shard together: the bounds, and who is closed when
//! one is reached.
//!
//! There is one rule for both bounds:
//!
//! * *What counts.* Against `limits.shard_input_bytes`: each byte of input from when it is read until it has been worked
//!   on. Against `limits.shard_replies_bytes`: each byte of a reply, a pong or any other frame that is no publication,
//!   until the socket has it.
//! * *Who may be read.* Everybody, while less input is kept than its bound; then a little at a time, which is mostly done
//!   at once; and nobody where the bound is exceeded by a sixteenth. Whoever finds no room is read first when there is
//!   some again.
//! * *Who is closed.* At the end of a turn in which a bound was reached, clients are closed until a sixteenth of it is
//!   free. The first are those who take no replies, then those whose message is not whole, then those who wait for the
//!   broker, then those whose message may be whole in the kernel; of each kind, those who have waited longest. Who waits
//!   for nothing but its turn is never closed for it.
//!
//! So a client that lets the shard wait cannot hold up others for longer than a turn, and what is left waits for its turn
//! only: it becomes less with each turn, whoever does what.

use std::fmt;

use crate::mail::ClientKey;
use crate::protocol::codes::CloseReason;
use crate::shard::clients::{Client, Clients};
use crate::shard::deadlines::Moment;
use crate::shard::{Application, Shard, Socket};

/// Entries of a roll beyond two for each client before those that are over are taken out.
const STALE: usize = 1024;

/// Clients for which something may be kept, each once, and some that are gone.
#[derive(Debug, Default)]
pub(super) struct Roll(Vec<ClientKey>);

impl Roll {
    /// Adds a client that is not there yet.
    pub(super) fn push(&mut self, key: ClientKey) {
        self.0.push(key);
    }

    /// Takes out who is gone or does not belong here any more, if there may be many of them.
    pub(super) fn tidy<S>(&mut self, clients: &mut Clients<S>, belongs: impl FnMut(&mut Client<S>) -> bool) {
        if self.0.len() > 2 * clients.len() + STALE {
            self.purge(clients, belongs);
        }
    }

    fn purge<S>(&mut self, clients: &mut Clients<S>, mut belongs: impl FnMut(&mut Client<S>) -> bool) {
        self.0.retain(|&key| clients.find(key).is_some() && belongs(&mut clients[key.slot]));
    }
}

/// What is kept of a client, why, and since when: in the order in which clients are closed.
type Kept = (Cause, Moment, u32);

/// For what something is kept, other than for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    /// The client takes fewer replies than it may leave waiting.
    Replies,
    /// The client is to send the rest of a message.
    Message,
    /// The broker is to answer.
    Broker,
    /// The client takes no replies, and has left few waiting.
    FewReplies,
    /// The rest of a message may have come, and has not been read yet.
    Unread,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Replies | Self::FewReplies => "replies that it did not take",
            Self::Message | Self::Unread => "a message that was not whole",
            Self::Broker => "commands behind one that waits for the broker",
        })
    }
}

/// A cause, and the limit that was reached by all clients together.
struct Fault(Cause, &'static str);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, when all clients of a shard together had {} of such input or replies", self.0, self.1)
    }
}

impl<S: Socket, A: Application> Shard<S, A> {
    /// Makes room where replies that wait have reached their bound.
    pub(super) fn shed_replies(&mut self) {
        let bound = self.limits.shard_replies_bytes;
        if self.reply_bytes >= bound {
            self.owing.purge(&mut self.clients, |client| {
                client.owes_replies = client.blocked && client.reply_bytes() > 0;
                client.owes_replies
            });
            let owing = self.owing.0.iter().map(|key| self.owes(key.slot)).collect();
            self.shed(owing, self.reply_bytes, bound, Client::reply_bytes, "limits.shard_replies_bytes");
        }
    }

    /// Makes room where input that is kept has reached its bound.
    pub(super) fn shed_input(&mut self) {
        let bound = self.limits.shard_input_bytes;
        if self.input_bytes >= bound {
            self.keepers.purge(&mut self.clients, |client| {
                client.keeps_input = client.input_bytes() > 0;
                client.keeps_input
            });
            let waiting = self.keepers.0.iter().filter_map(|key| self.lets_wait(key.slot)).collect();
            self.shed(waiting, self.input_bytes, bound, Client::input_bytes, "limits.shard_input_bytes");
        }
    }

    /// Closes clients in their order until a sixteenth of the bound is free.
    fn shed(
        &mut self,
        mut kept: Vec<Kept>,
        total: usize,
        bound: usize,
        bytes: fn(&Client<S>) -> usize,
        limit: &'static str,
    ) {
        // The memory of the dead is free at the end of the tick.
        let dead: usize = self.dead.iter().map(|&slot| bytes(&self.clients[slot])).sum();
        let mut left = total - dead;
        if left < bound {
            return;
        }
        kept.sort();
        for (cause, _, slot) in kept {
            if left < bound - bound / 16 {
                break;
            }
            left -= bytes(&self.clients[slot]);
            self.cut(slot, CloseReason::Slow, &Fault(cause, limit));
        }
    }

    /// Why replies wait for a client, and since when.
    fn owes(&self, slot: u32) -> Kept {
        let client = &self.clients[slot];
        let cause = if self.takes_no_replies(client) { Cause::Replies } else { Cause::FewReplies };
        let since = client.outgoing.as_ref().map(|outgoing| outgoing.replies_since);
        (cause, since.unwrap_or_default(), slot)
    }

    /// For what a client's input is kept, and since when, if not for its turn only.
    fn lets_wait(&self, slot: u32) -> Option<Kept> {
        let client = &self.clients[slot];
        let cause = if self.takes_no_replies(client) {
            Cause::Replies
        } else if client.is_in_message() {
            if client.to_read { Cause::Unread } else { Cause::Message }
        } else if client.to_read {
            return None;
        } else {
            Cause::Broker
        };
        Some((cause, client.message_since, slot))
    }

    /// Whether a client has left more replies waiting than it may.
    pub(super) fn takes_no_replies(&self, client: &Client<S>) -> bool {
        client.blocked && client.reply_bytes() > self.limits.replies_bytes
    }
}
