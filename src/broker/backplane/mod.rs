//! The seam between the broker thread and the source of publications.

pub(in crate::broker) mod event;
pub(in crate::broker) mod memory;
pub(in crate::broker) mod rabbit;

use std::time::Duration;

use crate::domain::mail::{Publish, PublishReply, TopicName};
use crate::domain::position::Position;
use crate::domain::reasons::ErrorCode;
use crate::hooks::AmqpRequest;

use crate::broker::payload::Undeliverable;
use event::{Coming, Event, Message, Removal, StreamPlace};
use memory::Memory;
use rabbit::Rabbit;

/// RabbitMQ, or a stand-in in memory with the same doors.
#[derive(Debug)]
pub(in crate::broker) enum Backplane {
    Memory(Memory),
    Rabbit(Box<Rabbit>),
}

impl Backplane {
    /// Waits for the next event. Messages are only looked for if `take`. Can be dropped at any time without
    /// loss.
    pub(in crate::broker) async fn next(&mut self, take: bool) -> Event {
        match self {
            Self::Memory(memory) => memory.next(take).await,
            Self::Rabbit(rabbit) => rabbit.next(take).await,
        }
    }

    /// Somebody on this node subscribes to a topic.
    pub(in crate::broker) fn want(&mut self, topic: &TopicName) -> Coming {
        match self {
            Self::Memory(_) => Coming::ALWAYS,
            Self::Rabbit(rabbit) => rabbit.want(topic).unwrap_or(Coming::ALWAYS),
        }
    }

    /// Nobody on this node subscribes to a topic any more.
    pub(in crate::broker) fn leave(&mut self, topic: &TopicName) {
        match self {
            Self::Memory(_) => {}
            Self::Rabbit(rabbit) => rabbit.leave(topic),
        }
    }

    /// Whether all messages of a topic come, subscribed to or not, or at least since it was subscribed to.
    pub(in crate::broker) fn follows(&self, topic: &str) -> bool {
        match self {
            Self::Memory(_) => true,
            Self::Rabbit(rabbit) => rabbit.follows(topic),
        }
    }

    /// Begins to publish; the answer comes as [`Event::Published`].
    ///
    /// # Errors
    /// Gives the publish back, with what to answer, if it cannot even be tried.
    pub(in crate::broker) fn publish(&mut self, publish: Publish) -> Result<(), (Publish, ErrorCode)> {
        match self {
            Self::Memory(memory) => memory.publish(publish),
            Self::Rabbit(rabbit) => rabbit.publish(publish),
        }
    }

    /// Begins to have the history of a topic forgotten by everybody who reads the same stream:
    /// [`Event::HistoryRemoved`] tells when it is our turn, and the answer comes as [`Event::Published`].
    ///
    /// # Errors
    /// Gives `reply_to` back if it does not go that way.
    pub(in crate::broker) fn remove_history(
        &mut self,
        topic: &TopicName,
        reply_to: PublishReply,
    ) -> Result<(), (PublishReply, Removal)> {
        match self {
            Self::Memory(_) => Err((reply_to, Removal::Here)),
            Self::Rabbit(rabbit) => rabbit.remove_history(topic, reply_to),
        }
    }

    /// Sends a call to a backend. [`Event::Called`] tells what becomes of it, when `limit` has passed at the latest. An answer
    /// of more than `answer_bytes` is none.
    pub(in crate::broker) fn call(
        &mut self,
        number: u64,
        request: AmqpRequest,
        limit: Duration,
        wants_answer: bool,
        answer_bytes: usize,
    ) {
        match self {
            Self::Memory(memory) => memory.call(number),
            Self::Rabbit(rabbit) => rabbit.call(number, request, limit, wants_answer.then_some(answer_bytes)),
        }
    }

    /// Puts a message away that cannot be delivered. [`Event::DeadLettered`] tells when that is done.
    pub(in crate::broker) fn dead_letter(&mut self, message: Message, reason: &Undeliverable) {
        match self {
            Self::Memory(memory) => memory.dead_letter(&message, reason),
            Self::Rabbit(rabbit) => rabbit.dead_letter(message, reason),
        }
    }

    /// Has another node put a message away that cannot be delivered, and this one if that one does not.
    pub(in crate::broker) fn leave_to_others(&mut self, place: StreamPlace) {
        match self {
            Self::Memory(_) => {}
            Self::Rabbit(rabbit) => rabbit.leave_to_others(place),
        }
    }

    /// Whether messages of a stream that have come wait to be looked at.
    pub(in crate::broker) fn look_later(&mut self, later: bool) {
        match self {
            Self::Memory(_) => {}
            Self::Rabbit(rabbit) => rabbit.look_later(later),
        }
    }

    /// Acknowledges all messages up to `tag`.
    pub(in crate::broker) fn acknowledge(&mut self, tag: u64) {
        match self {
            Self::Memory(_) => {}
            Self::Rabbit(rabbit) => rabbit.acknowledge(tag),
        }
    }

    /// Looks for no more messages and begins no more publishes; what is under way goes on.
    pub(in crate::broker) fn wind_down(&mut self) {
        match self {
            Self::Memory(memory) => memory.wind_down(),
            Self::Rabbit(rabbit) => rabbit.wind_down(),
        }
    }

    /// Publishes that are under way.
    pub(in crate::broker) fn in_flight(&self) -> usize {
        match self {
            Self::Memory(memory) => memory.in_flight(),
            Self::Rabbit(rabbit) => rabbit.in_flight(),
        }
    }

    /// Unacknowledged messages after which no more come; none where nothing is acknowledged.
    pub(in crate::broker) fn prefetch(&self) -> Option<u64> {
        match self {
            Self::Memory(_) => None,
            Self::Rabbit(rabbit) => Some(rabbit.prefetch()),
        }
    }

    /// The message that was taken last is at this position in the history of a topic. The embedded backplane confirms it
    /// next, and tells its publisher.
    pub(in crate::broker) fn numbered(&mut self, topic: &str, position: impl FnOnce() -> Position) {
        if let Self::Memory(memory) = self {
            memory.numbered(topic, position());
        }
    }

    /// Whether there are tasks on this thread that need their turns.
    pub(in crate::broker) fn has_tasks(&self) -> bool {
        matches!(self, Self::Rabbit(_))
    }

    /// Whether a stream is being read back at this moment, over a link that stands.
    pub(in crate::broker) fn is_loading(&self) -> bool {
        match self {
            Self::Memory(_) => false,
            Self::Rabbit(rabbit) => rabbit.is_loading(),
        }
    }

    /// Where a stream ended when the newest link was made, as [`StreamPlace::offset`]; 0 without one.
    pub(in crate::broker) fn stream_end(&self) -> u64 {
        match self {
            Self::Memory(_) => 0,
            Self::Rabbit(rabbit) => rabbit.stream_end(),
        }
    }

    /// Takes leave.
    pub(in crate::broker) async fn close(self) {
        match self {
            Self::Memory(_) => {}
            Self::Rabbit(rabbit) => rabbit.close().await,
        }
    }
}
