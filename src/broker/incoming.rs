//! Takes messages from the backplane to the shards' mailboxes.

use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::Instant;

use crate::base::clock::{Clock, UnixTime};
use crate::codec::json::checker::Checker;
use crate::codec::json::client_info;
use crate::codec::push::Published;
use crate::config::{Limits, Namespace};
use crate::domain::client_info::ClientInfo;
use crate::domain::codec::Codec;
use crate::domain::encoding::Encoding;
use crate::domain::mail::{Mail, Publish, Variant};
use crate::domain::namespaces::NamespaceId;
use crate::domain::position::Position;
use crate::domain::publication::Publication;
use crate::domain::topic;

use super::backplane::event::Message;
use super::dedup::Occurrence;
use super::expiration;
use super::history::{Addition, Keep};
use super::merge::{Arrival, Batch, Rules};
use super::payload::{self, Body, Data, Undeliverable};
use super::topics::TopicId;
use super::turn::Broker;

/// A message on its way to its topics.
struct Handling<'a> {
    /// When it was taken.
    now: Clock,
    body: Body<'a>,
    checker: Checker,
    /// If it has an id that counts.
    occurrence: Option<Occurrence<'a>>,
    /// How many of its publications are repetitions.
    repeats: u64,
}

impl Broker {
    /// Takes a message: its publications go on to be merged. If one of them cannot be delivered, the message
    /// goes to the dead-letter exchange as well, heard or not: a bad message is a fault of its publisher's,
    /// whoever listens.
    ///
    /// A publication whose topic and id were taken lately is a repetition, and is not delivered. The publication that it
    /// repeats may have come by an earlier link and may not be written yet. So with `amqp.ack = "written"`, the message is
    /// acknowledged only when the shards have written everything that they were given before it.
    ///
    /// Messages that a stream held before this node could push them are not delivered either. They are remembered for
    /// histories, and by their ids.
    pub(super) fn take_message(&mut self, message: Message, now: Clock) {
        self.acks.take(message.tag, message.weight());
        let (tag, place) = (message.tag, message.place);
        self.progress.read(place.map(|place| place.offset));
        if place.is_some()
            && let Some(published) = message.published
        {
            self.stats.stream_lag.set(now.unix.micros_since(published));
        }
        if place.is_some_and(|place| place.is_replayed) {
            self.stats.replayed.add(1);
            self.remember(&message, now);
            return;
        }
        let (repeats, outcome) = self.deliver(&message, now);
        if repeats > 0 {
            self.stats.duplicates.add(repeats);
            self.acks.follow(tag);
        }
        let Err(reason) = outcome else { return };
        match place.filter(|place| !place.is_ours_to_dead_letter) {
            Some(place) => self.backplane.leave_to_others(place),
            None => {
                self.stats.dead_lettered.add(1);
                self.acks.hold(tag);
                self.backplane.dead_letter(message, &reason);
            }
        }
    }

    /// Looks at a message once more whose dead letter may be missing. Nothing else comes of it.
    pub(super) fn look_again(&mut self, message: Message) {
        if let Err(reason) = self.examine(&message) {
            self.stats.dead_lettered.add(1);
            self.backplane.dead_letter(message, &reason);
        }
    }

    fn examine(&mut self, message: &Message) -> Result<(), Undeliverable> {
        let limits = &self.config.limits;
        let mut body = self.body(message)?;
        let (namespaces, checker) = (&self.namespaces, &mut self.encoder.checker);
        for name in &message.topics {
            topic::check(name, limits.topic_bytes)?;
            if namespaces.is_known(name) {
                let namespace = namespaces.options(namespaces.of(name));
                admitted(name, message, namespace, limits, &mut body, checker)?;
            }
        }
        message.flaw.as_deref().cloned().map_or(Ok(()), Err)
    }

    /// Takes what was in a stream before this node could push it, for those who come back, and for its id. What cannot
    /// be delivered was dead-lettered when it was new.
    fn remember(&mut self, message: &Message, now: Clock) {
        let has_history = |topic: &str| self.namespaces.options(self.namespaces.of(topic)).has_history();
        let has_id = message.id.is_some() && self.dedup.is_on();
        if has_id
            || self.progress.is_known(message.place) && message.topics.iter().any(|topic| has_history(topic))
        {
            drop(self.deliver(message, now));
        }
    }

    /// Returns how many of a message's publications are repetitions, and what is wrong with it.
    fn deliver(&mut self, message: &Message, now: Clock) -> (u64, Result<(), Undeliverable>) {
        let body = match self.body(message) {
            Ok(body) => body,
            Err(reason) => return (0, Err(reason)),
        };
        let mut handling = Handling {
            now,
            body,
            checker: std::mem::take(&mut self.encoder.checker),
            occurrence: self.dedup.begin(message.id.as_deref(), message.place.map(|place| place.offset)),
            repeats: 0,
        };
        let outcomes = message.topics.iter().map(|topic| self.publication(topic, message, &mut handling));
        // The first failure is the one that is told; the other topics get the publication nevertheless.
        let outcome = outcomes.fold(Ok(()), Result::and);
        let outcome = outcome.and_then(|()| message.flaw.as_deref().cloned().map_or(Ok(()), Err));
        self.encoder.checker = handling.checker;
        (handling.repeats, outcome)
    }

    /// A message's body, if some topic of its takes one that is so large.
    fn body<'a>(&self, message: &'a Message) -> Result<Body<'a>, Undeliverable> {
        if let Some(flaw) = message.flaw.as_deref().filter(|flaw| flaw.concerns_all()) {
            return Err(flaw.clone());
        }
        let size_limit = |topic: &str| {
            let namespace = self.namespaces.options(self.namespaces.of(topic));
            payload::size_limit(namespace, &self.config.limits)
        };
        // Before the body is looked at.
        let max = message.topics.iter().map(|topic| size_limit(topic)).max().unwrap_or(0);
        let len = message.body.len();
        if len > max {
            return Err(Undeliverable::TooBig { len, max });
        }
        let Message { body, content, compression, .. } = message;
        Ok(Body::new(body, content.clone(), compression, max, self.config.limits.json_depth))
    }

    /// Encodes a publication of one topic, if anybody wants it, and lets it wait for others.
    fn publication(
        &mut self,
        name: &str,
        message: &Message,
        handling: &mut Handling<'_>,
    ) -> Result<(), Undeliverable> {
        let limits = &self.config.limits;
        topic::check(name, limits.topic_bytes)?;
        let is_new = message.place.is_none_or(|place| !place.is_replayed);
        let found = self.topics.find(name);
        if found.is_none() && !self.namespaces.is_known(name) {
            // Nobody can listen. Who subscribed before the namespace was removed still does.
            self.count(None, is_new, false);
            return Ok(());
        }
        let namespace_id = found.map_or_else(|| self.namespaces.of(name), |id| self.topics[id].namespace);
        let namespace = self.namespaces.options(namespace_id);
        let data = admitted(name, message, namespace, limits, &mut handling.body, &mut handling.checker)?;
        // From here on it is admitted, whoever listens.
        if let Some(occurrence) = handling.occurrence
            && self.dedup.insert(occurrence, name)
        {
            handling.repeats += 1;
            return Ok(());
        }
        let found = found.filter(|_| is_new);
        self.count(Some(namespace_id), is_new, found.is_some());
        let age = self.expiration.age(message, handling.now.unix);
        if expiration::has_expired(message, age) {
            self.stats.expired.add(u64::from(is_new));
            return Ok(());
        }
        let has_history = namespace.has_history() && !message.skips_history;
        let is_kept = has_history && self.progress.is_known(message.place) && self.backplane.follows(name);
        if found.is_none() && !is_kept {
            return Ok(());
        }
        let offset = match message.place {
            _ if !has_history => 0,
            Some(place) => place.offset,
            None => self.history.next_offset(name),
        };
        if offset > 0 {
            let history = &self.history;
            self.backplane.numbered(name, || Position { offset, ..history.position(name, u64::MAX) });
        }
        let publication = Publication { data: &data.json, info: message.info.as_ref(), offset };
        let published = Published { topic: name, publication, epoch: None };
        let data = self.encoder.write_line(&published);
        self.stats.encodings.add(1);
        let line = &mut self.encoder.line;
        let now = handling.now.monotonic;
        if has_history {
            let keep = Keep { size: namespace.history_size, ttl: namespace.history_ttl.0 };
            let publication = Publication { data: &line[data], ..publication };
            let addition = Addition { publication, age, lifetime: message.expires_after };
            let is_first = is_new && self.progress.is_read_back() && self.history.has_never_had(name);
            self.history.add(name, &addition, keep, now);
            if is_first {
                let epoch = self.history.position(name, offset).epoch;
                name_epoch(line, &Published { epoch: Some(&epoch), ..published }, limits.frame_bytes);
            }
        }
        if let Some(topic) = found {
            self.merge_line(topic, message, offset, now);
        }
        Ok(())
    }

    /// Lets the line that was just encoded wait for others of its topic. `offset`: its own, or 0.
    fn merge_line(&mut self, topic: TopicId, message: &Message, offset: u64, now: Instant) {
        let name = &self.topics[topic].name;
        let namespace = self.namespaces.options(self.topics[topic].namespace);
        let key = message.key.as_deref().filter(|_| namespace.has_keys());
        let key = key.map(|key| self.encoder.keys.hash_one(key));
        let (tag, published) = (message.tag, message.published);
        let lanes = self.topics[topic].lanes();
        let is_numbered = offset > 0 || !namespace.has_history();
        // Whoever subscribes behind an unnumbered line begins where the topic stood before.
        let offset = if is_numbered { offset } else { self.history.position(name, u64::MAX).offset };
        let line = &mut self.encoder.line;
        let arrival = Arrival { topic, lanes, line, key, tag, published, offset, is_numbered };
        let begun = self.merge.add(arrival, &rules(namespace), now);
        (0..begun).for_each(|_| self.acks.hold(tag));
    }

    /// Counts a publication, unless it was there before.
    fn count(&self, namespace: Option<NamespaceId>, is_new: bool, is_heard: bool) {
        self.stats.publications.add(u64::from(is_new));
        self.stats.unheard.add(u64::from(is_new && !is_heard));
        if let Some(namespace) = namespace {
            self.stats.namespace_publications.at(namespace.number()).add(u64::from(is_new));
        }
    }

    /// Hands over what need not wait any longer.
    pub(super) fn hand_over(&mut self) {
        let (waiting, bytes) = (self.acks.unacknowledged(), self.acks.bytes());
        // All of a prefetch of 4, with which a consumer begins: three quarters would merge next to nothing.
        let is_near = |prefetch: u64| {
            waiting >= prefetch - prefetch / 8 || bytes >= self.config.amqp.prefetch_bytes / 4 * 3
        };
        if self.backplane.prefetch().is_some_and(is_near) {
            // Before RabbitMQ stops sending because of what waits to be merged.
            self.merge.close_all();
        }
        let now = Clock::now();
        let batches = self.merge.take_ripe(now.monotonic);
        for batch in batches {
            self.hand_over_batch(batch, now.unix);
        }
    }

    fn hand_over_batch(&mut self, mut batch: Batch, now: UnixTime) {
        let keyed = std::mem::take(&mut batch.keyed);
        let keyed = (!keyed.is_empty()).then(|| Arc::new(keyed));
        let topic = &self.topics[batch.topic];
        for encoding in Encoding::ALL {
            let is_theirs =
                |variant: Variant| variant.encoding == encoding && batch.lanes.contains(variant.lane);
            let attachments = topic.attachments().iter();
            let mut attachments = attachments.filter(|attachment| is_theirs(attachment.variant)).peekable();
            if attachments.peek().is_none() {
                continue;
            }
            let min_bytes = self.namespaces.options(topic.namespace).deflate_min_bytes;
            let lines = self.encoder.encode(&batch, keyed.as_ref(), encoding, min_bytes, &self.stats);
            for attachment in attachments {
                let mail = Mail::Batch { topic: attachment.slot, lines: lines.clone() };
                self.outbox.push(attachment.shard, mail);
                self.stats.batches.add(1);
                self.acks.give(attachment.shard, batch.tag);
            }
        }
        for published in batch.published {
            self.stats.handover.observe(now.micros_since(published), 1);
        }
        batch.lanes.iter().for_each(|_| self.acks.release(batch.tag));
    }
}

/// How long publications of a namespace wait for each other.
fn rules(namespace: &Namespace) -> Rules {
    Rules { delay: namespace.max_delay.0, lines: namespace.max_messages, bytes: namespace.max_bytes }
}

/// What a topic's namespace makes of a body, if the publication can be delivered.
fn admitted<'b, 'a>(
    name: &str,
    message: &Message,
    namespace: &Namespace,
    limits: &Limits,
    body: &'b mut Body<'a>,
    checker: &mut Checker,
) -> Result<&'b Data<'a>, Undeliverable> {
    let data = body.in_namespace(namespace, limits, checker)?;
    fits_into_a_frame(name, &data.json, message.info.as_ref(), namespace, limits.frame_bytes)?;
    Ok(data)
}

/// Whether the line of a publication can be sent, wherever it will stand: the same for all nodes.
fn fits_into_a_frame(
    name: &str,
    data: &[u8],
    info: Option<&Arc<ClientInfo>>,
    namespace: &Namespace,
    max: usize,
) -> Result<(), Undeliverable> {
    let offset = if namespace.has_history() { u64::MAX } else { 0 };
    let publication = Publication { data, info, offset };
    let len = Codec::Json.publication_len(&Published { topic: name, publication, epoch: None });
    if len > max { Err(Undeliverable::LineTooLong { len, max }) } else { Ok(()) }
}

/// Writes the line of a topic's first publication anew, with the epoch, if that fits into a frame: who subscribed
/// before there was anything learns what the numbering is called, as from Centrifugo.
fn name_epoch(line: &mut Vec<u8>, published: &Published<'_>, max: usize) {
    if Codec::Json.publication_len(published) <= max {
        line.clear();
        Codec::Json.write_publication(line, published);
    }
}

/// Whether a publish of ours can be delivered to one of its topics when it comes back.
pub(super) fn admissible(name: &str, publish: &Publish, broker: &Broker) -> Result<(), Undeliverable> {
    let limits = &broker.config.limits;
    topic::check(name, limits.topic_bytes)?;
    let Publish { data, info, .. } = publish;
    let namespace = broker.namespaces.options(broker.namespaces.of(name));
    payload::admit(data.len(), namespace, limits)?;
    if let Some(info) = info {
        client_info::check_len(info)?;
    }
    fits_into_a_frame(name, data, info.as_ref(), namespace, limits.frame_bytes)
}
