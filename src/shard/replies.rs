//! Adds replies, and all other output that is not a publication, to a client's output.
//!
//! A client with more unread replies than `limits.replies_bytes` has no further commands processed. But a
//! history answer can be as large as a frame of publications, and is requested before its size is known. One
//! such answer per client may always be in flight, others only as far as there is room
//! ([`questions`](super::questions)). The unread replies of all clients together have a bound of their own
//! ([`shedding`](super::shedding)).

use crate::codec::push::Push;
use crate::codec::reply::Reply;
use crate::domain::codec::Codec;
use crate::domain::mail::ClientKey;
use crate::net::stream::Stream;
use crate::shard::Shard;
use crate::shard::client::Client;
use crate::shard::client_list::ClientList;
use crate::shard::clients::Clients;
use crate::transport::Transport;

/// The replies that wait, of all clients together.
#[derive(Debug, Default)]
pub(super) struct PendingReplies {
    bytes: usize,
    /// Clients whose sockets are full while replies wait for them.
    unread: ClientList,
}

/// The replies that the message at hand has brought so far, of one client. They do not wait yet.
#[derive(Debug, Default)]
pub(super) struct ReplyLines(Vec<u8>);

impl ReplyLines {
    /// Their bytes.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Appends a reply.
    pub(super) fn write(&mut self, codec: Codec, id: u32, reply: &Reply<'_>) {
        codec.write_reply(&mut self.0, id, reply);
    }

    /// Drops them, and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl PendingReplies {
    /// How many bytes wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Notes that so many bytes wait besides those in clients' output.
    pub(super) fn keep(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Notes that so many bytes do not wait any more.
    pub(super) fn release(&mut self, bytes: usize) {
        self.bytes -= bytes;
    }

    /// Clients whose sockets are full while replies wait for them, and stale entries.
    pub(super) fn unread(&self) -> &[ClientKey] {
        self.unread.keys()
    }

    /// Removes the stale entries of [`unread`](Self::unread).
    pub(super) fn purge_unread<S, T: Transport>(&mut self, clients: &mut Clients<S, T>) {
        self.unread.purge(clients, Client::still_leaves_replies);
    }
}

impl<S: Stream, T: Transport> Shard<S, T> {
    /// Writes a reply behind those of the message at hand.
    pub(super) fn put_reply(&mut self, slot: u32, id: u32, reply: &Reply<'_>) {
        self.lines.write(self.clients[slot].transport.codec(), id, reply);
    }

    /// Appends a push to the client's output, as a message of its own.
    pub(super) fn queue_push(&mut self, slot: u32, push: &Push<'_>) {
        let codec = self.clients[slot].transport.codec();
        // Replies of the message at hand stay in the same memory.
        let mut lines = std::mem::take(&mut self.lines);
        let start = lines.len();
        codec.write_push(&mut lines.0, push);
        self.queue_lines(slot, &lines.0[start..]);
        lines.0.truncate(start);
        self.lines = lines;
    }

    /// Appends the replies of the message at hand to the client's output, as one frame. The next visit sends it.
    pub(super) fn flush_lines(&mut self, slot: u32) {
        if self.lines.len() > 0 {
            let mut lines = std::mem::take(&mut self.lines);
            self.queue_lines(slot, &lines.0);
            lines.clear();
            self.lines = lines;
        }
    }

    /// Appends lines, each with its end, to a client's output, as one message.
    pub(super) fn queue_lines(&mut self, slot: u32, lines: &[u8]) {
        self.queue_output(slot, |transport, bytes| transport.put_lines(bytes, lines));
    }

    /// Appends whole frames to a client's output.
    pub(super) fn queue_frames(&mut self, slot: u32, frames: &[u8]) {
        self.queue_output(slot, |_, bytes| bytes.extend_from_slice(frames));
    }

    /// Lets `add` append bytes to a client's output. If the socket is full, their time-out begins here, as no visit will
    /// begin it.
    pub(super) fn queue_output(&mut self, slot: u32, add: impl FnOnce(&T, &mut Vec<u8>)) {
        let now = self.timers.now();
        let client = &mut self.clients[slot];
        let is_first = client.reply_bytes() == 0;
        let outgoing = client.outgoing.get_or_insert_default();
        if is_first {
            outgoing.replies_since = now;
            (outgoing.has_moved, outgoing.had_time_anew) = (false, false);
        }
        let transport = &client.transport;
        self.replies.bytes += outgoing.bytes.append(|bytes| add(transport, bytes));
        if client.is_blocked() {
            self.note_unread(slot);
            self.time(slot);
        }
    }

    /// Lists a client if replies wait for it while its socket is full.
    pub(super) fn note_unread(&mut self, slot: u32) {
        let client = &mut self.clients[slot];
        if client.list_for_replies() {
            self.replies.unread.push(self.clients.key(slot));
            self.replies.unread.tidy(&mut self.clients, Client::still_leaves_replies);
        }
    }
}
