//! The way of a message from the backplane to the shards' mailboxes.

use std::time::{Duration, Instant, SystemTime};

use crate::config::{Namespace, SlowPolicy};
use crate::mail::{Encoding, Lines, Mail};
use crate::protocol::json::Checker;
use crate::protocol::{push, topic};
use crate::stats::BrokerStats;
use crate::wire::deflate::Deflater;

use super::backplane::Message;
use super::history::{self, Keep};
use super::memory::microseconds;
use super::merge::{Arrival, Batch, Rules};
use super::payload::{self, Content, Undeliverable};
use super::turn::Broker;

/// What encoding needs, kept between messages.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    checker: Checker,
    line: Vec<u8>,
    deflater: Deflater,
}

impl Broker {
    /// Takes a message: its publications go on to be merged. If one of them cannot be delivered, the message
    /// goes to the dead-letter exchange as well, heard or not: a bad message is a fault of its publisher's,
    /// whoever listens. One with an id that was taken lately is a repetition, and goes nowhere.
    pub(super) fn take_message(&mut self, message: Message) {
        self.acks.take(message.tag);
        self.read_to = message.offset.or(self.read_to);
        if message.id.as_deref().is_some_and(|id| self.seen.has(id, message.tag)) {
            self.stats.duplicates.add(1);
            return;
        }
        if let Err(reason) = self.deliver(&message) {
            self.stats.dead_lettered.add(1);
            self.acks.hold(message.tag);
            self.backplane.bury(message, &reason);
        }
    }

    fn deliver(&mut self, message: &Message) -> Result<(), Undeliverable> {
        let size_limit = |topic: &str| {
            let namespace = self.namespaces.options(self.namespaces.of(topic));
            payload::size_limit(namespace, &self.config.limits)
        };
        // Before the body is looked at: no topic takes one that is larger.
        let max = message.topics.iter().map(|topic| size_limit(topic)).max().unwrap_or(0);
        let len = message.body.len();
        if len > max {
            return Err(Undeliverable::TooBig { len, max });
        }
        let mut checker = std::mem::take(&mut self.encoder.checker);
        let depth_max = self.config.limits.json_depth;
        let data = payload::as_json(&mut checker, &message.body, message.content, depth_max);
        self.encoder.checker = checker;
        let data = data?;
        let outcomes = message.topics.iter().map(|topic| self.publication(topic, message, &data));
        // The first failure is the one that is told; the other topics get the publication nevertheless.
        outcomes.fold(Ok(()), Result::and)
    }

    /// Encodes a publication of one topic, if anybody wants it, and lets it wait for others.
    fn publication(&mut self, name: &str, message: &Message, data: &[u8]) -> Result<(), Undeliverable> {
        let limits = &self.config.limits;
        topic::check(name, limits.topic_bytes)?;
        let found = self.topics.find(name);
        let namespace = found.map_or_else(|| self.namespaces.of(name), |id| self.topics[id].namespace);
        let namespace = self.namespaces.options(namespace);
        payload::admit(message.body.len(), message.content, namespace, limits)?;
        self.stats.publications.add(1);
        self.stats.unheard.add(u64::from(found.is_none()));
        if found.is_none() && !namespace.has_history() {
            return Ok(());
        }
        let offset = match message.offset {
            _ if !namespace.has_history() => 0,
            Some(offset) => offset,
            None => self.history.next_offset(name),
        };
        let line = &mut self.encoder.line;
        line.clear();
        let publication = push::publication(line, name, data, offset);
        self.stats.encodings.add(1);
        if line.len() > limits.frame_bytes {
            return Err(Undeliverable::LineTooLong { len: line.len(), max: limits.frame_bytes });
        }
        let now = Instant::now();
        if namespace.has_history() {
            let keep = Keep { size: namespace.history_size, ttl: namespace.history_ttl.0 };
            let json = &line[publication];
            let publication = history::Publication { offset, json, age: Duration::ZERO, expires: None };
            self.history.add(name, &publication, keep, now);
        }
        let Some(topic) = found else { return Ok(()) };
        let (key, tag, published) = (message.key.as_deref(), message.tag, message.published);
        let arrival = Arrival { topic, line, key, tag, published, offset };
        if self.merge.add(&arrival, &rules(namespace), now) {
            self.acks.hold(tag);
        }
        Ok(())
    }

    /// Hands over what need not wait any longer.
    pub(super) fn hand_over(&mut self) {
        let waiting = self.acks.unacknowledged();
        if self.backplane.prefetch().is_some_and(|prefetch| waiting * 4 >= prefetch * 3) {
            // Before RabbitMQ stops sending because of what waits to be merged.
            self.merge.close_all();
        }
        let batches = self.merge.take_ripe(Instant::now());
        if batches.is_empty() {
            return;
        }
        let now = microseconds(SystemTime::now()).unwrap_or(0);
        for batch in batches {
            self.hand_over_batch(batch, now);
        }
    }

    fn hand_over_batch(&mut self, batch: Batch, now: u64) {
        let topic = &self.topics[batch.topic];
        for encoding in Encoding::ALL {
            let mut places = topic.places().iter().filter(|place| place.encoding == encoding).peekable();
            if places.peek().is_none() {
                continue;
            }
            let min_bytes = self.namespaces.options(topic.namespace).deflate_min_bytes;
            let lines = self.encoder.encode(&batch, encoding, min_bytes, &self.stats);
            for place in places {
                self.outbox.push(place.shard, Mail::Batch { topic: place.slot, lines: lines.clone() });
                self.stats.batches.add(1);
                if self.receipts.give(place.shard, batch.tag) {
                    self.acks.hold(batch.tag);
                }
            }
        }
        for published in batch.published {
            self.stats.handover.observe(now.saturating_sub(published), 1);
        }
        self.acks.release(batch.tag);
    }
}

impl Encoder {
    /// What a batch is to those who want it in this encoding.
    fn encode(&mut self, batch: &Batch, encoding: Encoding, min_bytes: usize, stats: &BrokerStats) -> Lines {
        let bytes = match encoding {
            Encoding::Json => &batch.bytes[..],
            Encoding::Deflated => {
                let segment = self.deflater.segment(&batch.bytes, min_bytes);
                stats.encodings.add(batch.lines.into());
                stats.deflate_in.add(batch.bytes.len() as u64);
                stats.deflate_out.add(segment.len() as u64);
                segment
            }
        };
        // Batches fit into frames, whose limit would have to be beyond 4 GB.
        let plain_bytes = u32::try_from(batch.bytes.len()).unwrap_or(u32::MAX);
        Lines { bytes: bytes.into(), count: batch.lines, plain_bytes, offset: batch.offset }
    }
}

/// How long publications of a namespace wait for each other.
fn rules(namespace: &Namespace) -> Rules {
    let delay = namespace.max_delay.0;
    Rules {
        delay,
        lines: namespace.max_messages,
        bytes: namespace.max_bytes,
        latest_per_key: namespace.slow == SlowPolicy::Skip && !delay.is_zero(),
    }
}

/// Whether a publish of ours can be delivered when it comes back, as far as that can be said before.
pub(super) fn admissible(name: &str, len: usize, broker: &Broker) -> Result<(), Undeliverable> {
    let limits = &broker.config.limits;
    topic::check(name, limits.topic_bytes)?;
    let namespace = broker.namespaces.options(broker.namespaces.of(name));
    payload::admit(len, Content::Json, namespace, limits)
}
