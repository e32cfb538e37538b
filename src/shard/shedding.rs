//! Bounds on what a shard keeps for all its clients besides publications, and which client is closed when one
//! is reached.
//!
//! One rule holds for both bounds:
//!
//! * *What counts.* Against `limits.shard_input_bytes`: each byte of input from when it is read until it was
//!   processed. Against `limits.shard_replies_bytes`: each byte of a reply, a pong or any other frame that is
//!   not a publication, until the socket has it.
//! * *Which clients are read.* All, while less input is kept than the bound; then a little at a time, which
//!   is usually processed at once; and none if the bound is exceeded by a sixteenth. A client that finds no
//!   room is read first when there is room again.
//! * *Which clients are closed.* At the end of a tick in which a bound was reached, clients are closed until
//!   a sixteenth of it is free. First those that take no replies, then those with incomplete messages, then
//!   those that wait for the broker. Of those with unread replies, the one whose replies have waited longest
//!   goes first; of the others, the one that holds most, so that few are closed. Last of all go clients whose
//!   connect waits for subscriptions that their tokens bring, while much of the reply is prepared.
//! * *Which clients are not closed.* Those that wait only for their turn: to continue with kept input, or to
//!   be read, because the rest of their message may have come. While such clients make progress, the others
//!   stay as long as less than half of the bound is kept for them, and the bound is not exceeded by an
//!   eighth: input that waits for its turn becomes less by itself. If no client is read and none makes
//!   progress, those that wait to be read are closed, last of all.
//! * *For how long.* If more is kept than there is room for, and for a moment ([`WAIT_MAX`]) there was always
//!   a client that waited to be read, no client is exempt: clients are closed as above, whatever they wait
//!   for, and the one that holds most goes first.
//!
//! So no client holds up others for longer than a moment, whatever it waits for. At the end of a tick, the
//! bound is exceeded by an eighth at most, or by what one client was read at once and what that became, if
//! that is more.

use std::cmp::Reverse;
use std::fmt;
use std::time::Duration;

use crate::base::moment::Moment;
use crate::domain::reasons::CloseReason;
use crate::net::stream::Stream;
use crate::shard::Shard;
use crate::shard::client::Client;
use crate::transport::Transport;

/// How long clients may find no room: much less than any time-out of a client.
const WAIT_MAX: Duration = Duration::from_millis(250);

/// Why something is kept of a client, how much if that matters, since when, and the client's slot. Clients are closed in
/// the order of these.
type Kept = (Cause, Reverse<usize>, Moment, u32);

/// Why something is kept.
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
    /// The client waits for its turn, to continue or to be read.
    Turn,
    /// The client waits for the reply to its connect, which is prepared in part.
    Connect,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Replies | Self::FewReplies => "replies that it did not take",
            Self::Message => "a message that was not whole",
            Self::Broker => "commands behind one that waits for the broker",
            Self::Turn => "input that waited for its turn",
            Self::Connect => "the reply to a connect, which waited for subscriptions",
        })
    }
}

/// A cause, and the limit that was reached by all clients together.
struct BoundReached(Cause, &'static str);

impl fmt::Display for BoundReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, when all clients of a shard together had {} of such input or replies", self.0, self.1)
    }
}

impl<S: Stream, T: Transport> Shard<S, T> {
    /// Closes clients if the replies that wait have reached their bound.
    pub(super) fn shed_replies(&mut self) {
        let bound = self.settings.limits.shard_replies_bytes;
        if self.replies.bytes() >= bound {
            self.replies.purge_unread(&mut self.clients);
            let mut unread: Vec<_> =
                self.replies.unread().iter().map(|key| self.unread_of(key.slot)).collect();
            unread.extend(self.prepared());
            unread.sort();
            let (all, bytes) = (self.replies.bytes(), Client::all_reply_bytes);
            self.shed(&unread, all, bound, 0, bytes, "limits.shard_replies_bytes");
        }
    }

    /// Clients whose replies are prepared, and that leave none unread.
    fn prepared(&self) -> impl Iterator<Item = Kept> {
        let waiting = self.clients.iter().filter(|(_, client)| client.prepared_bytes() > 0);
        let others = waiting.filter(|(_, client)| !client.leaves_replies());
        others.map(|(slot, client)| {
            (Cause::Connect, Reverse(client.prepared_bytes()), client.session.since(), slot)
        })
    }

    /// Closes clients if the input that is kept has reached its bound.
    pub(super) fn shed_input(&mut self) {
        let bound = self.settings.limits.shard_input_bytes;
        if self.input.kept.bytes() >= bound {
            self.input.kept.purge_owners(&mut self.clients);
            let mut kept: Vec<_> =
                self.input.kept.owners().iter().map(|key| self.input_of(key.slot)).collect();
            let makes_progress = self.input.kept.owners().iter().any(|key| self.makes_progress(key.slot));
            let mut may_stay = 0;
            if self.has_starved_clients() {
                kept.sort_by_key(|&(_, bytes, since, slot)| (bytes, since, slot));
            } else {
                if makes_progress || !self.is_overfull() {
                    kept.retain(|kept| kept.0 != Cause::Turn);
                }
                may_stay = if makes_progress { bound / 2 } else { 0 };
                kept.sort();
            }
            let all = self.input.kept.bytes();
            self.shed(&kept, all, bound, may_stay, Client::input_bytes, "limits.shard_input_bytes");
        }
    }

    /// Whether no client is read, and some have found no room for longer than [`WAIT_MAX`].
    fn has_starved_clients(&self) -> bool {
        let now = self.timers.now();
        self.is_overfull()
            && self.input.kept.no_room_since().is_some_and(|since| since.after(WAIT_MAX) <= now)
    }

    /// Closes clients in their order until a sixteenth of the bound is free. It stops earlier if less than `may_stay` is
    /// kept of the others, and the bound is not exceeded by an eighth.
    fn shed(
        &mut self,
        kept: &[Kept],
        all: usize,
        bound: usize,
        may_stay: usize,
        bytes: fn(&Client<S, T>) -> usize,
        limit: &'static str,
    ) {
        // The memory of connections that have ended is freed at the end of the tick.
        let ended: usize = self.clients.ended().iter().map(|&slot| bytes(&self.clients[slot])).sum();
        let mut left = all - ended;
        if left < bound {
            return;
        }
        let mut waiting: usize = kept.iter().map(|&(.., slot)| bytes(&self.clients[slot])).sum();
        for &(cause, .., slot) in kept {
            if left < bound - bound / 16 || waiting < may_stay && left < bound + bound / 8 {
                break;
            }
            let bytes = bytes(&self.clients[slot]);
            (left, waiting) = (left - bytes, waiting - bytes);
            self.cut(slot, CloseReason::Slow, &BoundReached(cause, limit));
        }
    }

    /// Why replies wait for a client, and since when.
    fn unread_of(&self, slot: u32) -> Kept {
        let client = &self.clients[slot];
        let cause = if self.takes_no_replies(client) { Cause::Replies } else { Cause::FewReplies };
        let since = client.outgoing.as_ref().map(|outgoing| outgoing.replies_since);
        (cause, Reverse(0), since.unwrap_or_default(), slot)
    }

    /// Why a client's input is kept, how much, and since when.
    fn input_of(&self, slot: u32) -> Kept {
        let client = &self.clients[slot];
        let cause = if self.takes_no_replies(client) {
            Cause::Replies
        } else if client.is_to_read() {
            Cause::Turn
        } else if client.is_in_message() {
            Cause::Message
        } else {
            Cause::Broker
        };
        (cause, Reverse(client.input_bytes()), client.message_since(), slot)
    }

    /// Whether a client's next turn makes room although nothing more is read.
    fn makes_progress(&self, slot: u32) -> bool {
        let client = &self.clients[slot];
        let has_more = client.has_unprocessed() || !client.is_in_message();
        client.is_to_read() && has_more && !self.takes_no_replies(client)
    }

    /// Whether a client has left more replies waiting than it may.
    pub(super) fn takes_no_replies(&self, client: &Client<S, T>) -> bool {
        client.is_blocked() && client.reply_bytes() > self.settings.limits.replies_bytes
    }
}

#[cfg(test)]
mod tests;
