//! What is published, by clients and operators and by ourselves: the doors to [`super::outgoing`], and what is said of
//! each letter in the end.

use std::time::Instant;

use lapin::types::ShortString;

use crate::broker::backplane::{Event, Message, Removal};
use crate::broker::payload::Undeliverable;
use crate::mail::{Asker, Publish};
use crate::protocol::codes::ErrorCode;

use super::outgoing::{Purpose, Settled};
use super::publisher::{Letter, Unconfirmed};
use super::{Rabbit, State, dead_letter, markers, message};

impl Rabbit {
    /// Tells of a letter that is done with.
    pub(super) fn settle(&mut self, settled: Settled) {
        match settled {
            Settled::Publish(asker, outcome) => {
                if let Err(error) = &outcome {
                    tracing::debug!(%error, "a publish failed");
                }
                let outcome = outcome.map_err(|_| ErrorCode::Internal);
                self.events.push_back(Event::Published { asker, outcome });
            }
            Settled::Burial { tag, outcome } => {
                if let Err(error) = outcome {
                    self.burial_failed(&error);
                }
                self.events.extend(tag.map(|tag| Event::Buried { tag }));
            }
            Settled::Released { tag } => {
                self.burial_waits();
                self.events.push_back(Event::Buried { tag });
            }
        }
    }

    fn burial_waits(&mut self) {
        if let Some(unsaid) = self.waits_log.allow(Instant::now()) {
            let exchange = &self.config.amqp.dead_letter_exchange;
            tracing::warn!(
                exchange,
                unsaid,
                "RabbitMQ has not confirmed a dead letter in time: it is kept in memory, and goes on being sent"
            );
        }
    }

    /// Whether messages may be taken, of which each may have to be buried. While a stream is read back nothing is
    /// buried, and no letter leaves.
    pub(super) fn has_room_for_burials(&mut self) -> bool {
        let has_room = self.outgoing.has_room_for_burials() || self.is_loading();
        if !has_room && let Some(unsaid) = self.full_log.allow(Instant::now()) {
            let (exchange, waiting) = (&self.config.amqp.dead_letter_exchange, self.prefetch());
            tracing::warn!(
                exchange,
                waiting,
                unsaid,
                "no messages are taken until RabbitMQ has confirmed some of the dead letters"
            );
        }
        has_room
    }

    fn burial_failed(&mut self, error: &Unconfirmed) {
        if let Some(unsaid) = self.burials_log.allow(Instant::now()) {
            let exchange = &self.config.amqp.dead_letter_exchange;
            tracing::error!(
                exchange,
                %error,
                unsaid,
                "an undeliverable message is lost: the dead-letter exchange did not take it"
            );
        }
    }

    /// Has a history forgotten through the stream, by this node as well when it reads of it.
    pub(in crate::broker) fn remove_history(
        &mut self,
        topic: &str,
        asker: Asker,
    ) -> Result<(), (Asker, Removal)> {
        if self.reader.is_none() {
            return Err((asker, Removal::Here));
        }
        if self.winding_down {
            return Err((asker, Removal::Refused(ErrorCode::Internal)));
        }
        if !self.outgoing.has_room_for_publishes() {
            return Err((asker, Removal::Refused(ErrorCode::TooManyRequests)));
        }
        let letter = markers::removal(&self.config.amqp.stream.as_str().into(), topic);
        self.outgoing.add(Purpose::Publish(asker), letter, Instant::now());
        self.send_letters();
        Ok(())
    }

    /// Takes a publish. Without a link it waits for the next one.
    pub(in crate::broker) fn publish(&mut self, publish: Publish) -> Result<(), (Publish, ErrorCode)> {
        if self.winding_down {
            return Err((publish, ErrorCode::Internal));
        }
        if !self.outgoing.has_room_for_publishes() {
            return Err((publish, ErrorCode::TooManyRequests));
        }
        let id = match publish.id.as_deref().map(ShortString::try_new) {
            Some(Ok(id)) => id,
            Some(Err(_)) => return Err((publish, ErrorCode::BadRequest)),
            None => self.ids.next(),
        };
        let Publish { asker, topics, data, key, .. } = publish;
        let [first, copies @ ..] = &topics[..] else { unreachable!("checked: a publish has topics") };
        let letter = Letter {
            exchange: self.config.amqp.exchange.as_str().into(),
            routing_key: ShortString::from(&**first),
            body: data.into_vec(),
            properties: message::properties(id, copies, key.as_deref()),
        };
        self.outgoing.add(Purpose::Publish(asker), letter, Instant::now());
        self.send_letters();
        Ok(())
    }

    /// Sends a message to the dead-letter exchange. One whose link is gone meanwhile is buried over the next link.
    pub(in crate::broker) fn bury(&mut self, message: Message, reason: &Undeliverable) {
        let is_linked = matches!(self.state, State::Linked { .. });
        let tag = is_linked.then_some(message.tag);
        let letter = dead_letter::of(message, reason, self.config.amqp.dead_letter_exchange.as_str().into());
        self.outgoing.add(Purpose::Burial { tag }, letter, Instant::now());
        self.send_letters();
    }

    /// What is due leaves, if it can.
    pub(super) fn send_letters(&mut self) {
        // Who winds down pushes nothing more, and need not wait to push it; other nodes do.
        let is_too_early = (self.is_loading() || !self.is_bound()) && !self.winding_down;
        let State::Linked { link, .. } = &mut self.state else { return };
        let now = Instant::now();
        if link.takes_letters()
            && let Some(marker) = self.marker.take()
        {
            link.mark(&marker);
        }
        while !is_too_early
            && link.takes_letters()
            && let Some((number, letter)) = self.outgoing.leave(now)
        {
            link.send(number, letter);
        }
    }
}
