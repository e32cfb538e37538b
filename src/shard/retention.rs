//! What the logs keep, and which subscribers lose lines when a log is full.
//!
//! A log drops lines that every subscriber has. Beyond its bound it drops lines that only parked subscribers lack, and
//! the topic's policy decides what happens to these subscribers. It never drops a line that a writable client lacks: then
//! the sweep is behind, and the shard takes no mail until it has caught up.
//!
//! If slow subscribers skip and lines have keys, the lines to be dropped are compacted to the latest of each
//! key, once for all of them, and they continue from there.

use std::collections::VecDeque;

use crate::config::SlowPolicy;
use crate::domain::mail::{Lines, TopicSlot};
use crate::domain::reasons::{CloseReason, UnsubscribeCode};
use crate::net::stream::Stream;
use crate::shard::Shard;
use crate::shard::client::Client;
use crate::shard::compaction::CompactionLimits;
use crate::shard::log::{Log, TRIM_FROM};
use crate::shard::output::Outgoing;
use crate::transport::{Phase, Transport};

/// How many bytes stay of a log that only parked subscribers need.
#[derive(Clone, Copy, Debug)]
struct Remains {
    /// Bytes of the newest batches, as they are.
    whole: usize,
    /// Bytes of the batches before them, compacted, if lines have keys.
    compacted: usize,
    /// Bytes of both together.
    in_all: usize,
}

/// Buffers kept for logs to come, each of at most [`TRIM_FROM`] bytes.
const BUFFERS: usize = 64;

/// The memory that all logs of a shard have.
#[derive(Debug, Default)]
pub(super) struct LogMemory {
    /// Bytes in all logs.
    bytes: usize,
    /// Bytes of started frames that clients keep because a log has dropped them.
    rest_bytes: usize,
    /// Topics whose log is kept for parked subscribers alone, the longest kept first, and stale entries.
    pinned: VecDeque<TopicSlot>,
    /// Buffers of logs that were freed, for new ones.
    buffers: Vec<Vec<u8>>,
}

impl LogMemory {
    /// Bytes in all logs.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of started frames that clients keep because a log has dropped them.
    pub(super) fn rest_bytes(&self) -> usize {
        self.rest_bytes
    }

    /// Notes that so many of those bytes are not kept any more.
    pub(super) fn release_rest(&mut self, bytes: usize) {
        self.rest_bytes -= bytes;
    }

    /// Topics whose log is kept for parked subscribers alone.
    #[cfg(test)]
    pub(super) fn pinned(&self) -> &VecDeque<TopicSlot> {
        &self.pinned
    }

    /// Keeps the buffer of a log that was freed, if it is small.
    fn keep_buffer(&mut self, buffer: Vec<u8>) {
        if self.buffers.len() < BUFFERS && buffer.capacity() <= TRIM_FROM {
            self.buffers.push(buffer);
        }
    }
}

impl<S: Stream, T: Transport> Shard<S, T> {
    /// Adds a batch to a topic's log. Returns false if there is no room for it now.
    pub(super) fn append(&mut self, slot: TopicSlot, lines: &Lines) -> bool {
        let length = Log::weight_of(lines);
        if !self.make_room(slot, length) {
            return false;
        }
        let buffers = &mut self.logs.buffers;
        let topic = &mut self.topics[slot];
        topic.append(lines, || buffers.pop().unwrap_or_default());
        self.logs.bytes += length;
        self.enter_rotation(slot);
        // If no subscriber is swept, no sweep settles the log, which is kept for parked ones alone.
        self.pin(slot);
        true
    }

    fn make_room(&mut self, slot: TopicSlot, length: usize) -> bool {
        let held = self.topics[slot].log().map_or(0, |log| log.weight());
        let log_bytes = self.log_bytes_max(slot);
        if held + length > log_bytes {
            if self.topics[slot].behind() > 0 {
                return false;
            }
            let whole = (log_bytes / 2).saturating_sub(length);
            // With keys a quarter, so that the latest lines may have a half. A quarter is free then, and appending that
            // much costs far more than the compaction.
            let whole = if self.has_keys(slot) { whole / 2 } else { whole };
            let in_all = log_bytes.saturating_sub(length);
            self.drop_for_parked(slot, Remains { whole, compacted: log_bytes / 2, in_all });
        }
        // Each pinned log is tried twice: first it gives up a half, then all. One whose subscribers skip keeps its newest
        // batch, and is pinned again.
        let pinned = self.logs.pinned.len();
        for attempt in 0..2 * pinned {
            if self.logs.bytes + length <= self.settings.limits.logs_bytes {
                break;
            }
            if let Some(longest_kept) = self.logs.pinned.pop_front() {
                self.unpin(longest_kept, attempt < pinned);
            }
        }
        self.logs.bytes + length <= self.settings.limits.logs_bytes || self.delivery.is_swept()
    }

    /// Whether this topic's log is compacted before it drops lines. The broker sends keys only if slow subscribers skip.
    fn has_keys(&self, slot: TopicSlot) -> bool {
        self.topics[slot].log().is_some_and(|log| log.has_keys())
    }

    /// How large this topic's log may become.
    fn log_bytes_max(&self, slot: TopicSlot) -> usize {
        let own = self.settings.namespaces.options(self.topics[slot].namespace()).log_bytes;
        if own > 0 { own } else { self.settings.limits.log_bytes }
    }

    /// Gives up a log that is kept for parked subscribers alone; or only half of it, if it can be compacted to the other
    /// half.
    fn unpin(&mut self, slot: TopicSlot, gives_half: bool) {
        if self.topics.get(slot).is_none_or(|topic| !topic.is_pinned()) {
            return;
        }
        self.topics[slot].set_pinned(false);
        let topic = &self.topics[slot];
        if let Some(log) = topic.log()
            && topic.behind() == 0
        {
            let compacted = if gives_half { log.weight() / 2 } else { 0 };
            self.drop_for_parked(slot, Remains { whole: 0, compacted, in_all: usize::MAX });
        }
    }

    fn pin(&mut self, slot: TopicSlot) {
        if self.topics[slot].pin() {
            self.logs.pinned.push_back(slot);
        }
        if self.logs.pinned.len() > 2 * self.topics.len() {
            self.forget_old_pins();
        }
    }

    /// Removes stale entries. A topic that is removed leaves its entry behind, and the next topic of its slot inherits it. It
    /// runs when there are more stale entries than topics, so that each costs little.
    fn forget_old_pins(&mut self) {
        let topics = &mut self.topics;
        // A topic's first entry clears its mark, so that only this entry stays. Afterwards the mark is set again.
        self.logs.pinned.retain(|&slot| {
            let stays = topics.get(slot).is_some_and(|topic| topic.is_pinned());
            if stays {
                topics[slot].set_pinned(false);
            }
            stays
        });
        self.logs.pinned.iter().for_each(|&slot| topics[slot].set_pinned(true));
    }

    /// Called when no swept subscriber lacks anything: frees the log, or the part that no parked subscriber lacks.
    pub(super) fn settle_log(&mut self, slot: TopicSlot) {
        if self.topics[slot].parked().is_empty() {
            self.free_log(slot);
        } else {
            let end = self.topics[slot].end();
            self.trim(slot, end);
            self.pin(slot);
        }
    }

    pub(super) fn free_log(&mut self, slot: TopicSlot) {
        if let Some(log) = self.topics[slot].take_log() {
            self.logs.bytes -= log.weight();
            self.logs.keep_buffer(log.into_buffer());
        }
    }

    /// Called at the end of a lap: drops what all subscribers had when the lap began.
    pub(super) fn finish_lap(&mut self, slot: TopicSlot) {
        if let Some(shown) = self.topics[slot].begin_lap() {
            self.trim(slot, shown);
        }
    }

    /// Drops what lies before `floor` and before all that a parked subscriber lacks, if it is enough to be worth moving the
    /// rest.
    fn trim(&mut self, slot: TopicSlot, floor: u64) {
        let topic = &self.topics[slot];
        if !topic.log().is_some_and(Log::is_to_be_trimmed) {
            return;
        }
        let needed = topic.parked().iter().map(|one| self.needed_by(slot, one.client, one.cursor)).min();
        let floor = needed.map_or(floor, |needed| needed.min(floor));
        self.logs.bytes -= self.topics[slot].trim_log(floor);
    }

    /// The first position that a parked subscriber needs: its cursor, or the start of the frame that it has in part.
    pub(super) fn needed_by(&self, slot: TopicSlot, client: u32, cursor: u64) -> u64 {
        let outgoing = self.clients[client].outgoing.as_ref();
        let rest = outgoing.and_then(|outgoing| outgoing.rest).filter(|rest| rest.topic == slot);
        rest.map_or(cursor, |rest| rest.span.from)
    }

    /// Drops all but what is to remain of a log that only parked subscribers need, and applies the topic's policy to those
    /// that lose lines.
    fn drop_for_parked(&mut self, slot: TopicSlot, remains: Remains) {
        let topic = &self.topics[slot];
        let policy = self.settings.namespaces.options(topic.namespace()).slow;
        let Some(log) = topic.log() else { return };
        let newest = log.newest();
        let wanted = log.boundary(log.start().max(log.end().saturating_sub(remains.whole as u64)));
        // Subscribers that skip get the newest batch, even if no other follows for a long time.
        let floor = if policy == SlowPolicy::Skip { wanted.min(newest) } else { wanted };
        let affected: Vec<_> = topic
            .parked()
            .iter()
            .filter(|one| self.needed_by(slot, one.client, one.cursor) < floor)
            .map(|one| (one.client, one.cursor < floor))
            .collect();
        let has_keys = log.has_keys();
        for (client, loses_lines) in affected {
            self.own_rest(client);
            if loses_lines && !self.clients[client].has_ended() {
                self.apply_policy(policy, slot, client, (!has_keys).then_some(newest));
            }
        }
        if self.topics[slot].parked().is_empty() {
            self.free_log(slot);
        } else {
            if has_keys {
                self.compact(slot, floor, remains);
            } else {
                self.logs.bytes -= self.topics[slot].drop_before(floor);
            }
            self.pin(slot);
        }
    }

    /// Compacts what lies before `floor`.
    fn compact(&mut self, slot: TopicSlot, floor: u64, remains: Remains) {
        let topic = &mut self.topics[slot];
        let keys = self.settings.namespaces.options(topic.namespace()).keys_max;
        let Some(log) = topic.log() else { return };
        let floor = floor.max(log.start());
        let bytes = remains.compacted.min(remains.in_all.saturating_sub(log.weight_from(floor)));
        if let Some(compacted) = topic.compact(floor, CompactionLimits { keys, bytes }, &mut self.inflater) {
            self.logs.bytes -= compacted.freed;
            self.stats.keys_dropped.add(compacted.dropped);
        }
    }

    /// Applies the policy to one client. `newest` is where it skips to; `None`: it continues in the compacted log.
    fn apply_policy(&mut self, policy: SlowPolicy, topic: TopicSlot, client: u32, newest: Option<u64>) {
        match policy {
            // It waits for its connect's reply, and is not slow.
            SlowPolicy::Disconnect | SlowPolicy::Resync if self.clients[client].is_held() => {
                self.end_subscription(client, topic, UnsubscribeCode::InsufficientState);
            }
            SlowPolicy::Disconnect => {
                self.stats.policy_disconnect.add(1);
                self.close_for(client, CloseReason::Slow, &"publications that it did not take");
            }
            SlowPolicy::Resync => {
                self.stats.policy_resync.add(1);
                self.end_subscription(client, topic, UnsubscribeCode::InsufficientState);
            }
            SlowPolicy::Skip => {
                self.stats.policy_skip.add(1);
                if let Some(newest) = newest
                    && let Some(found) = self.clients[client].subscriptions.find(topic)
                {
                    self.topics[topic].advance(found.position, newest);
                }
            }
        }
    }

    /// Copies the rest of a client's started frame out of the log, which is about to drop it.
    pub(super) fn own_rest(&mut self, slot: u32) {
        let Client { transport, outgoing: Some(outgoing), .. } = &mut self.clients[slot] else { return };
        let Some(rest) = outgoing.rest.take() else { return };
        let topic = &mut self.topics[rest.topic];
        let framing = transport.framing(topic.variant().encoding);
        let Outgoing { bytes, orphaned, .. } = &mut **outgoing;
        let owned = topic.with_frame(&rest.span, framing, |frame| {
            bytes.prepend(&frame[rest.sent..]);
            frame.len() - rest.sent
        });
        *orphaned += owned;
        self.logs.rest_bytes += owned;
        if self.logs.rest_bytes > self.settings.limits.rest_bytes {
            if self.clients[slot].transport.phase() != Phase::Closing {
                self.stats.policy_disconnect.add(1);
                let fault = "the rest of a frame, when limits.rest_bytes was reached";
                self.log_close(slot, CloseReason::Slow, &fault, false);
            }
            self.lose(slot, CloseReason::Slow);
        }
    }
}
