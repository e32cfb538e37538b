//! Publishes of clients and operators, and dead letters. All of them go through [`super::outgoing`]. Here they come in, are
//! sent over the link, and their outcomes are reported.

use std::time::{Duration, Instant};

use lapin::types::ShortString;

use crate::base::clock::UnixTime;
use crate::base::log_limiter::RateLimits;
use crate::broker::backplane::event::{Event, Message, Removal};
use crate::broker::payload::Undeliverable;
use crate::broker::shares::Sender;
use crate::config::Config;
use crate::domain::mail::{Numbered, Publish, PublishFault, PublishReply};
use crate::domain::reasons::ErrorCode;

use super::ids::Ids;
use super::message::Said;
use super::outgoing::{Outgoing, Purpose, Settled};
use super::pending_publish::PendingPublish;
use super::publisher::{Abandoned, Report, Traffic};
use super::unconfirmed::Unconfirmed;
use super::{LinkState, Rabbit, dead_letter, markers, message};

/// Dead letters under way at once. A quorum queue without a majority takes none. With 33 that it has not taken
/// (`quorum_commands_soft_limit`, 32 by default), RabbitMQ gives their channel no more credit; after some hundred others on
/// that channel, it reads nothing more from the connection, which also has the publishes.
const DEAD_UNDER_WAY_MAX: usize = 32;

/// Least time between two log lines about the same thing.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// All publishes that are not settled, of both channels.
#[derive(Debug)]
pub(super) struct PendingPublishes {
    publishes: Outgoing,
    dead: Outgoing,
    /// Ids for publishes that have none.
    ids: Ids,
    /// For messages that cannot be delivered, by kind of reason.
    dead_log: RateLimits,
    /// For publishes and dead letters that fail or wait, by outcome.
    publish_log: RateLimits,
}

impl PendingPublishes {
    /// None yet. The configuration limits their time, number and bytes.
    pub(super) fn new(config: &Config) -> Self {
        let limit = config.timeouts.publish.0;
        let (limits, amqp) = (&config.limits, &config.amqp);
        Self {
            publishes: Outgoing::new(limit, limits.publishes, limits.publishes_bytes, usize::MAX),
            // Those that gave their tags back are no longer among the messages that are taken and not acknowledged.
            dead: Outgoing::new(limit, amqp.prefetch.into(), amqp.prefetch_bytes, DEAD_UNDER_WAY_MAX),
            ids: Ids::new(),
            dead_log: RateLimits::new(LOG_EVERY),
            publish_log: RateLimits::new(LOG_EVERY),
        }
    }

    fn of(&mut self, traffic: Traffic) -> &mut Outgoing {
        match traffic {
            Traffic::Publishes => &mut self.publishes,
            Traffic::DeadLetters => &mut self.dead,
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.publishes.len() + self.dead.len()
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When [`Self::pass`] has something to do next.
    pub(super) fn next_change(&self) -> Option<Instant> {
        let logs = [self.dead_log.due(), self.publish_log.due()];
        [self.publishes.next_change(), self.dead.next_change()].into_iter().chain(logs).flatten().min()
    }

    /// Fails publishes whose time is over at `now`, and returns them.
    pub(super) fn pass(&mut self, now: Instant) -> Vec<Settled> {
        self.tell_of_more(now);
        let mut settled = self.publishes.pass(now);
        settled.extend(self.dead.pass(now));
        settled
    }

    /// The engine stops: logs the events that were only counted so far.
    pub(super) fn close(&mut self) {
        self.tell_of_more(Instant::now() + LOG_EVERY);
        let unconfirmed = self.len();
        if unconfirmed > 0 {
            tracing::error!(
                unconfirmed,
                "the engine stops, and RabbitMQ has not confirmed all publishes and dead letters: they may be lost"
            );
        }
    }

    /// Logs how many more events there were of those kinds that are logged once per [`LOG_EVERY`].
    fn tell_of_more(&mut self, now: Instant) {
        for (kind, more_since_last) in self.dead_log.pass(now) {
            tracing::warn!(
                kind,
                more_since_last,
                "more messages could not be delivered, and became dead letters"
            );
        }
        for (what, more_since_last) in self.publish_log.pass(now) {
            tracing::warn!(what, more_since_last, "more of what was told before");
        }
    }
}

impl Rabbit {
    /// Takes RabbitMQ's answers about publishes.
    pub(super) fn hear(&mut self, traffic: Traffic, reports: impl IntoIterator<Item = Report>) {
        let now = Instant::now();
        for report in reports {
            let settled = self.pending.of(traffic).hear(report, now);
            settled.for_each(|settled| self.settle(settled));
        }
    }

    /// A channel is gone. If RabbitMQ closed it because it refused a publish, `refused` has its words.
    pub(super) fn channel_is_gone(&mut self, traffic: Traffic, refused: Option<&str>) {
        let failed = self.pending.of(traffic).channel_is_gone(refused);
        failed.into_iter().for_each(|settled| self.settle(settled));
    }

    /// The connections are gone, and with them the tags of messages, and both channels for publishes.
    pub(super) fn connections_are_gone(&mut self, left: [(Traffic, Abandoned); 2]) {
        let refused = left.map(|(traffic, Abandoned { reports, refused })| {
            self.hear(traffic, reports);
            (traffic, refused)
        });
        self.pending.dead.tags_are_void();
        for (traffic, refused) in refused {
            self.channel_is_gone(traffic, refused.as_deref());
        }
    }

    /// Reports what has become of a publish.
    pub(super) fn settle(&mut self, settled: Settled) {
        match settled {
            Settled::Publish(reply_to, outcome) => {
                let outcome = outcome.map(|()| Numbered::new()).map_err(|error| {
                    let refusal = self.why_it_would_fail_again(&error);
                    PublishFault { code: ErrorCode::Internal, refusal }
                });
                self.events.push_back(Event::Published { reply_to, outcome });
            }
            Settled::DeadLetter { tag, ticket, outcome } => {
                self.reading.is_safe(ticket);
                if let Err(error) = outcome {
                    self.dead_letter_failed(&error);
                }
                self.events.extend(tag.map(|tag| Event::DeadLettered { tag }));
            }
            Settled::Released { tag, is_unroutable } => {
                self.dead_letter_waits(is_unroutable);
                self.events.push_back(Event::DeadLettered { tag });
            }
        }
    }

    fn dead_letter_waits(&mut self, is_unroutable: bool) {
        let (what, reason) = if is_unroutable {
            (
                "dead letters routed nowhere",
                "the dead-letter exchange routes a dead letter to no queue: bind one to it",
            )
        } else {
            ("dead letters not confirmed in time", "RabbitMQ has not confirmed a dead letter in time")
        };
        if let Some(more_since_last) = self.pending.publish_log.allow(what, Instant::now()) {
            let exchange = &self.config.amqp.dead_letter_exchange;
            tracing::warn!(
                exchange,
                more_since_last,
                "{reason}; it is kept in memory, and goes on being sent"
            );
        }
    }

    /// Whether messages may be taken: each of them may become a dead letter. While a stream is read back there are no new
    /// dead letters, and nothing is published.
    pub(super) fn has_room_for_dead_letters(&mut self) -> bool {
        let has_room = self.pending.dead.has_room(Sender::Operator) || self.is_loading();
        let is_full = "pauses until dead letters are confirmed";
        if !has_room && let Some(more_since_last) = self.pending.publish_log.allow(is_full, Instant::now()) {
            let (exchange, waiting) = (&self.config.amqp.dead_letter_exchange, self.pending.dead.len());
            tracing::warn!(
                exchange,
                waiting,
                more_since_last,
                "no messages are taken until RabbitMQ has confirmed some of the dead letters"
            );
        }
        has_room
    }

    /// Logs that a publish failed. If it would fail again, returns the text for operators.
    fn why_it_would_fail_again(&mut self, error: &Unconfirmed) -> Option<Box<str>> {
        if !matches!(error, Unconfirmed::Refused(_) | Unconfirmed::TooLarge) {
            tracing::debug!(%error, "a publish failed");
            return None;
        }
        if let Some(more_since_last) = self.pending.publish_log.allow("publishes refused", Instant::now()) {
            let exchange = &self.config.amqp.exchange;
            tracing::warn!(exchange, %error, more_since_last, "a publish failed, and would fail again");
        }
        Some(error.to_string().into())
    }

    fn dead_letter_failed(&mut self, error: &Unconfirmed) {
        let is_unroutable = matches!(error, Unconfirmed::Unroutable);
        self.events.push_back(Event::DeadLetterLost { is_unroutable });
        if let Some(more_since_last) = self.pending.publish_log.allow("dead letters lost", Instant::now()) {
            let exchange = &self.config.amqp.dead_letter_exchange;
            tracing::error!(
                exchange,
                %error,
                more_since_last,
                "an undeliverable message is lost: the dead-letter exchange did not take it"
            );
        }
    }

    /// Removes a history through the stream. This node as well removes it when it reads the message.
    pub(in crate::broker) fn remove_history(
        &mut self,
        topic: &str,
        reply_to: PublishReply,
    ) -> Result<(), (PublishReply, Removal)> {
        if !self.reading.has_stream() {
            return Err((reply_to, Removal::Here));
        }
        if self.winding_down {
            return Err((reply_to, Removal::Refused(ErrorCode::Internal)));
        }
        if !self.pending.publishes.has_room((&reply_to).into()) {
            return Err((reply_to, Removal::Refused(ErrorCode::TooManyRequests)));
        }
        let pending = markers::removal(&self.config.amqp.stream.as_str().into(), topic);
        self.pending.publishes.add(Purpose::Publish(reply_to), pending, Instant::now());
        self.send_pending();
        Ok(())
    }

    /// Takes a publish. Without a link it waits for the next one.
    pub(in crate::broker) fn publish(&mut self, publish: Publish) -> Result<(), (Publish, ErrorCode)> {
        if self.winding_down {
            return Err((publish, ErrorCode::Internal));
        }
        if !self.pending.publishes.has_room((&publish.reply_to).into()) {
            return Err((publish, ErrorCode::TooManyRequests));
        }
        let id = match publish.id.as_deref().map(ShortString::try_new) {
            Some(Ok(id)) => id,
            Some(Err(_)) => return Err((publish, ErrorCode::BadRequest)),
            None => self.pending.ids.next(),
        };
        let Publish { reply_to, topics, data, key, info, skips_history, .. } = publish;
        let [first, copies @ ..] = &topics[..] else { unreachable!("checked: a publish has topics") };
        let said = Said { copies, key: key.as_deref(), info: info.as_deref(), skips_history };
        let pending = PendingPublish {
            exchange: self.config.amqp.exchange.as_str().into(),
            routing_key: ShortString::from(&**first),
            body: data.into_vec(),
            properties: message::properties(id, &said, UnixTime::now()),
        };
        self.pending.publishes.add(Purpose::Publish(reply_to), pending, Instant::now());
        self.send_pending();
        Ok(())
    }

    /// Sends a message to the dead-letter exchange, over the next link if the one by which it came is gone.
    pub(in crate::broker) fn dead_letter(&mut self, message: Message, reason: &Undeliverable) {
        let kind = reason.kind();
        if let Some(more_since_last) = self.pending.dead_log.allow(kind, Instant::now()) {
            let topic = message.topics.first().map_or("", |topic| topic);
            tracing::warn!(topic, kind, %reason, more_since_last, "a message cannot be delivered, and becomes a dead letter");
        }
        let is_linked = matches!(self.state, LinkState::Linked { .. });
        let place = message.place;
        let is_held = is_linked && place.is_none_or(|place| !place.is_replayed);
        let tag = is_held.then_some(message.tag);
        let ticket = self.reading.sends(place);
        let pending = dead_letter::of(message, reason, self.config.amqp.dead_letter_exchange.as_str().into());
        self.pending.dead.add(Purpose::DeadLetter { tag, ticket }, pending, Instant::now());
        self.send_pending();
    }

    /// Sends what is due.
    pub(super) fn send_pending(&mut self) {
        // A node that winds down does not push what it publishes, so it need not be able to read it back.
        let is_too_early = (self.is_loading() || !self.is_bound()) && !self.winding_down;
        let LinkState::Linked { link, .. } = &mut self.state else { return };
        if link.takes_publishes(Traffic::Publishes)
            && let Some((marker, settled)) = self.reading.take_marker()
        {
            link.mark(&marker, settled);
        }
        if is_too_early {
            return;
        }
        let now = Instant::now();
        for traffic in [Traffic::Publishes, Traffic::DeadLetters] {
            let outgoing = self.pending.of(traffic);
            while link.takes_publishes(traffic)
                && let Some((number, pending)) = outgoing.leave(now)
            {
                link.send(traffic, number, pending, outgoing.has_suspects());
            }
        }
    }
}
