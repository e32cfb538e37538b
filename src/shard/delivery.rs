//! Fan-out: writes from the logs to the sockets.
//!
//! A *sweep* lets the topics with pending lines take turns. In its turn, a topic goes through its subscribers from where
//! its last turn ended. A *visit* serves one client: everything that is pending for it goes into one write. Usually that
//! is one frame of the topic being swept, written directly from the log. Otherwise the pieces are first copied together.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::ops::Range;

use crate::domain::mail::TopicSlot;
use crate::domain::reasons::CloseReason;
use crate::net::stream::Stream;
use crate::shard::Shard;
use crate::shard::log::Span;
use crate::shard::output::{Outgoing, Rest};
use crate::shard::subscriptions::Subscription;
use crate::transport::{Ending, Phase, Transport};

/// Visits of one topic before it is the next one's turn: half a millisecond of sends.
const TURN: usize = 64;

/// So many subscribers that are up to date cost as much as one visit.
const LOOKS_PER_VISIT: usize = 64;

/// Clients whose memory is fetched together, before the first of them is visited. Each send leaves little of
/// the caches behind: fetched one by one, every visit would wait for main memory, which costs it 150 ns of its
/// 250 in user mode.
const FETCHED_TOGETHER: u32 = 16;

/// Bytes gathered for one write at most, unless the first piece alone is larger.
const GATHER_MAX: usize = 256 << 10;

/// A part of one write, to know what a short write has sent.
#[derive(Clone, Copy, Debug)]
enum Piece {
    /// The rest of a frame that was begun earlier.
    Rest { length: usize },
    /// Replies, pings, close frames.
    Bytes { length: usize },
    /// A frame of publications.
    Frame { topic: TopicSlot, span: Span, length: usize },
}

/// Which topics and clients are to be written to, and the buffers of one visit.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    /// Topics with swept subscribers that are behind, in the order of their turns.
    rotation: VecDeque<TopicSlot>,
    /// Clients whose sockets have become writable.
    unblocked: VecDeque<u32>,
    /// The bytes of one visit, where they are more than one frame.
    gathered: Vec<u8>,
    /// The parts of `gathered`.
    pieces: Vec<Piece>,
}

impl Delivery {
    /// Whether no swept subscriber of any topic is behind.
    pub(super) fn is_swept(&self) -> bool {
        self.rotation.is_empty()
    }

    /// How many topics have swept subscribers that are behind.
    pub(super) fn topics(&self) -> usize {
        self.rotation.len()
    }

    /// Whether something can be written at once.
    pub(super) fn has_work(&self) -> bool {
        !self.rotation.is_empty() || !self.unblocked.is_empty()
    }

    /// Removes a topic from the rotation.
    pub(super) fn forget_topic(&mut self, topic: TopicSlot) {
        self.rotation.retain(|&other| other != topic);
    }

    /// Removes a client that is written to now.
    pub(super) fn forget_unblocked(&mut self, slot: u32) {
        self.unblocked.retain(|&other| other != slot);
    }
}

impl<S: Stream, T: Transport> Shard<S, T> {
    /// Notes that the socket of the client in `slot` has become writable.
    pub fn writable(&mut self, slot: u32) {
        if self.clients.get(slot).is_some_and(|client| client.is_blocked() || client.stream.wants_write()) {
            self.delivery.unblocked.push_back(slot);
        }
    }

    /// Gives turns to the topics that have subscribers behind, as far as the budget goes.
    pub(super) fn sweep(&mut self) {
        let mut budget = self.settings.budgets.visits;
        while let Some(&topic) = self.delivery.rotation.front() {
            if budget == 0 {
                break;
            }
            budget -= self.sweep_topic(topic, budget.min(TURN));
            self.delivery.rotation.pop_front();
            if self.topics[topic].behind() > 0 {
                self.delivery.rotation.push_back(topic);
            } else {
                self.topics[topic].leave_rotation();
                self.settle_log(topic);
            }
        }
    }

    /// Puts a topic into the rotation, if a swept subscriber is behind and it is not there yet.
    pub(super) fn enter_rotation(&mut self, slot: TopicSlot) {
        if self.topics[slot].enter_rotation() {
            self.delivery.rotation.push_back(slot);
        }
    }

    /// Goes through a topic's subscribers from where the last turn ended. Returns how much of the budget that took.
    fn sweep_topic(&mut self, slot: TopicSlot, turn: usize) -> usize {
        let (mut visits, mut looks) = (0, 0);
        let mut fetched = 0..0;
        while visits < turn && looks < turn * LOOKS_PER_VISIT {
            let topic = &mut self.topics[slot];
            if topic.behind() == 0 {
                break;
            }
            let Some((position, subscriber)) = topic.at_sweep() else {
                self.finish_lap(slot);
                // A lap counts as well, so that a turn ends even if there is no subscriber to look at.
                looks += 1;
                continue;
            };
            if topic.lacks(position) {
                if !fetched.contains(&position) {
                    fetched = position..position + FETCHED_TOGETHER;
                    self.fetch(slot, &fetched);
                }
                visits += 1;
                self.serve(slot, position, subscriber.client);
            } else {
                // Not right after a visit: this subscriber may still lack something, or another was moved here.
                topic.step_sweep();
                looks += 1;
            }
        }
        visits.max(looks.div_ceil(LOOKS_PER_VISIT)).max(1).min(turn)
    }

    /// Touches the memory of the clients that come next, all at once, so that the cache misses overlap. It changes nothing.
    fn fetch(&self, slot: TopicSlot, positions: &Range<u32>) {
        let subscribers = self.topics[slot].awake().iter().skip(positions.start as usize);
        for subscriber in subscribers.take(positions.len()) {
            std::hint::black_box(self.clients[subscriber.client].can_take_a_frame());
        }
    }

    /// Sends one subscriber what it lacks.
    fn serve(&mut self, topic: TopicSlot, position: u32, slot: u32) {
        let client = &self.clients[slot];
        let nothing_else = self.delivery.rotation.len() == 1 || client.subscriptions.as_slice().len() == 1;
        if client.takes_no_publications() {
            self.park(topic, position);
        } else if nothing_else && client.outgoing.is_none() {
            self.send_frame(topic, position, slot);
        } else {
            self.visit(slot);
        }
    }

    /// Writes one frame straight from the log.
    fn send_frame(&mut self, slot: TopicSlot, position: u32, client_slot: u32) {
        let topic = &mut self.topics[slot];
        let span = topic.next_span(position, self.settings.limits.frame_bytes);
        let client = &mut self.clients[client_slot];
        let framing = client.transport.framing(topic.variant().encoding);
        let (length, written) =
            topic.with_frame(&span, framing, |frame| (frame.len(), client.stream.write(frame)));
        match written {
            Ok(sent) if sent == length => {
                topic.advance(position, span.to);
                self.count_frame(&span, sent);
            }
            Ok(sent) if sent > 0 => {
                topic.advance(position, span.to);
                let rest = Some(Rest { topic: slot, span, sent });
                client.outgoing = Some(Box::new(Outgoing { rest, ..Outgoing::default() }));
                self.count_frame(&span, sent);
                self.block(client_slot);
            }
            Ok(_) => self.block(client_slot),
            Err(error) => self.not_written(client_slot, &error),
        }
    }

    /// Writes everything that is pending for a client, with one call.
    pub(super) fn visit(&mut self, slot: u32) {
        if self.clients[slot].is_blocked() || self.clients[slot].has_ended() {
            return;
        }
        self.gather(slot);
        if self.delivery.pieces.is_empty() {
            return;
        }
        match self.clients[slot].stream.write(&self.delivery.gathered) {
            Ok(sent) => self.settle(slot, sent),
            Err(error) => self.not_written(slot, &error),
        }
    }

    /// Gathers what is pending for a client: the rest of a frame, replies, and a frame per topic.
    fn gather(&mut self, slot: u32) {
        self.delivery.gathered.clear();
        self.delivery.pieces.clear();
        let client = &self.clients[slot];
        if let Some(outgoing) = &client.outgoing {
            if let Some(rest) = outgoing.rest {
                let topic = &mut self.topics[rest.topic];
                let framing = client.transport.framing(topic.variant().encoding);
                topic.with_frame(&rest.span, framing, |frame| {
                    self.delivery.gathered.extend_from_slice(&frame[rest.sent..])
                });
                self.delivery.pieces.push(Piece::Rest { length: self.delivery.gathered.len() });
            }
            if !outgoing.bytes.is_empty() {
                self.delivery.gathered.extend_from_slice(outgoing.bytes.as_slice());
                self.delivery.pieces.push(Piece::Bytes { length: outgoing.bytes.len() });
            }
        }
        if !client.is_held() {
            self.gather_frames(slot);
        }
    }

    /// A frame for each topic in which the client is behind. Looks at the smaller of two sets: the client's
    /// topics, and the shard's topics with something pending.
    fn gather_frames(&mut self, slot: u32) {
        let subscriptions = self.clients[slot].subscriptions.as_slice();
        let by_client = subscriptions.len() <= self.delivery.rotation.len();
        let candidates = if by_client { subscriptions.len() } else { self.delivery.rotation.len() };
        for index in 0..candidates {
            if self.delivery.gathered.len() >= GATHER_MAX {
                break;
            }
            let subscriptions = &self.clients[slot].subscriptions;
            let found = if by_client {
                Some(subscriptions.as_slice()[index])
            } else {
                subscriptions.find(self.delivery.rotation[index])
            };
            if let Some(subscription) = found {
                self.gather_frame(slot, subscription);
            }
        }
    }

    fn gather_frame(&mut self, slot: u32, subscription: Subscription) {
        let topic = &mut self.topics[subscription.topic];
        if !topic.lacks(subscription.position) {
            return;
        }
        let framing = self.clients[slot].transport.framing(topic.variant().encoding);
        let span = topic.next_span(subscription.position, self.settings.limits.frame_bytes);
        let before = self.delivery.gathered.len();
        topic.with_frame(&span, framing, |frame| self.delivery.gathered.extend_from_slice(frame));
        let length = self.delivery.gathered.len() - before;
        self.delivery.pieces.push(Piece::Frame { topic: subscription.topic, span, length });
    }

    /// Notes for each piece how much of it was sent, when the socket took `sent` bytes in all.
    fn settle(&mut self, slot: u32, sent: usize) {
        let complete = sent == self.delivery.gathered.len();
        self.stats.writes.add(1);
        self.stats.bytes.add(sent as u64);
        let mut left = sent;
        let now = self.timers.now();
        if let Some(outgoing) = &mut self.clients[slot].outgoing {
            outgoing.has_moved |= sent > 0 && outgoing.replies_since < now;
        }
        let pieces = std::mem::take(&mut self.delivery.pieces);
        for &piece in &pieces {
            if left == 0 && !complete {
                break;
            }
            match piece {
                Piece::Rest { length } => self.settle_rest(slot, left.min(length), length),
                Piece::Bytes { length } => self.settle_bytes(slot, left.min(length)),
                Piece::Frame { topic, span, length } => {
                    self.settle_frame(slot, topic, span, left.min(length), length);
                }
            }
            let (Piece::Rest { length } | Piece::Bytes { length } | Piece::Frame { length, .. }) = piece;
            left = left.saturating_sub(length);
        }
        self.delivery.pieces = pieces;
        if !complete {
            self.block(slot);
        }
        self.output_written(slot);
    }

    fn settle_rest(&mut self, slot: u32, sent: usize, length: usize) {
        if let Some(outgoing) = &mut self.clients[slot].outgoing {
            if sent == length {
                outgoing.rest = None;
            } else if let Some(rest) = &mut outgoing.rest {
                rest.sent += sent;
            }
        }
    }

    fn settle_bytes(&mut self, slot: u32, sent: usize) {
        if let Some(outgoing) = &mut self.clients[slot].outgoing {
            outgoing.bytes.drop_first(sent);
            let owned = outgoing.orphaned.min(sent);
            outgoing.orphaned -= owned;
            self.logs.release_rest(owned);
            self.replies.release(sent - owned);
        }
    }

    fn settle_frame(&mut self, slot: u32, topic: TopicSlot, span: Span, sent: usize, length: usize) {
        let found = self.clients[slot].subscriptions.find(topic);
        let position = found.expect("gathered from its subscriptions").position;
        self.topics[topic].advance(position, span.to);
        self.count_lines(&span);
        if sent < length {
            let outgoing = self.clients[slot].outgoing.get_or_insert_default();
            outgoing.rest = Some(Rest { topic, span, sent });
        }
    }

    /// If no output waits any more: frees its memory, lets input be read again, and ends a connection that is closing.
    fn output_written(&mut self, slot: u32) {
        let client = &mut self.clients[slot];
        if client
            .outgoing
            .as_ref()
            .is_some_and(|outgoing| outgoing.rest.is_some() || !outgoing.bytes.is_empty())
        {
            return;
        }
        client.outgoing = None;
        if client.is_stalled() {
            self.readable(slot);
        }
        let transport = &self.clients[slot].transport;
        if transport.phase() == Phase::Closing {
            match transport.ending() {
                Ending::Wait => {}
                Ending::Shutdown => self.clients[slot].stream.shutdown(),
                Ending::Gone => self.drop_if_gone(slot),
            }
        }
    }

    /// Drops a connection that both sides have closed, once everything is written, including what its stream keeps.
    pub(super) fn drop_if_gone(&mut self, slot: u32) {
        let client = &self.clients[slot];
        let is_over = client.transport.phase() == Phase::Closing && client.transport.ending() == Ending::Gone;
        if is_over && client.outgoing.is_none() && !client.stream.wants_write() {
            self.lose(slot, CloseReason::PeerClosed);
        }
    }

    fn not_written(&mut self, slot: u32, error: &io::Error) {
        match error.kind() {
            ErrorKind::WouldBlock => self.block(slot),
            // The sweep or the next reply tries again.
            ErrorKind::Interrupted => {}
            _ => self.lose(slot, CloseReason::ConnectionLost),
        }
    }

    /// Notes that a client's socket is full. The topic of a started frame parks it at once, so that the log keeps that
    /// frame. Other topics park it when their sweep meets it.
    fn block(&mut self, slot: u32) {
        let client = &mut self.clients[slot];
        if client.block() {
            self.stats.blocked_clients.add(1);
        }
        let rest = client.outgoing.as_ref().and_then(|outgoing| outgoing.rest);
        if let Some(found) = rest.and_then(|rest| client.subscriptions.find(rest.topic))
            && !self.topics[found.topic].is_parked(found.position)
        {
            self.park(found.topic, found.position);
        }
        self.note_unread(slot);
        self.time(slot);
    }

    /// Takes a subscriber out of a topic's sweep whose client can be sent no publications.
    fn park(&mut self, topic: TopicSlot, position: u32) {
        let clients = &mut self.clients;
        self.topics[topic].park(position, |moved| {
            clients[moved.client].subscriptions.moved(topic, moved.position);
        });
    }

    /// Writes to the clients whose sockets have become writable.
    pub(super) fn write_unblocked(&mut self) {
        for _ in 0..self.settings.budgets.visits.min(self.delivery.unblocked.len()) {
            let Some(slot) = self.delivery.unblocked.pop_front() else { break };
            if !self.flush_stream(slot) {
                continue;
            }
            if self.clients[slot].is_blocked() {
                self.unblock(slot);
                self.visit(slot);
            }
            // The bytes that the stream kept may have been the last.
            self.drop_if_gone(slot);
        }
    }

    /// Has a client's stream write the bytes that it keeps. Returns whether the client is there, and its stream keeps
    /// nothing any more.
    fn flush_stream(&mut self, slot: u32) -> bool {
        let Some(client) = self.clients.get(slot) else { return false };
        if !client.stream.wants_write() {
            return true;
        }
        match self.clients[slot].stream.flush() {
            Ok(()) => true,
            // The next writable edge tries again.
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                self.delivery.unblocked.push_back(slot);
                false
            }
            Err(_) => {
                self.lose(slot, CloseReason::ConnectionLost);
                false
            }
        }
    }

    pub(super) fn unblock(&mut self, slot: u32) {
        self.clients[slot].unblock();
        self.stats.blocked_clients.sub(1);
        self.unpark(slot);
    }

    /// Has a client sent the publications that waited for the reply to its connect, behind that.
    pub(super) fn release(&mut self, slot: u32) {
        self.clients[slot].set_held(false);
        self.unpark(slot);
    }

    /// Brings a client's subscribers back into the sweep, if it can be sent publications now.
    fn unpark(&mut self, slot: u32) {
        if self.clients[slot].takes_no_publications() {
            return;
        }
        for index in 0..self.clients[slot].subscriptions.as_slice().len() {
            let found = self.clients[slot].subscriptions.as_slice()[index];
            if self.topics[found.topic].is_parked(found.position) {
                let clients = &mut self.clients;
                self.topics[found.topic].unpark(found.position, |moved| {
                    clients[moved.client].subscriptions.moved(found.topic, moved.position);
                });
                self.enter_rotation(found.topic);
            }
        }
    }

    fn count_frame(&self, span: &Span, sent: usize) {
        self.stats.writes.add(1);
        self.stats.bytes.add(sent as u64);
        self.count_lines(span);
    }

    fn count_lines(&self, span: &Span) {
        self.stats.deliveries.add(span.lines);
        self.stats.frames.add(1);
        self.stats.lines_per_frame.observe(span.lines, 1);
    }
}
