//! Messages with an `expiration`: how old a message is, and which messages wait until their age is known.

mod message_age;
mod undated;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::base::clock::UnixTime;
use crate::config::Amqp;

use super::backplane::event::{Event, Message};

use message_age::MessageAge;
use undated::Undated;

pub(super) use message_age::has_expired;

/// What is known of the age of messages, and the events that wait for it.
#[derive(Debug)]
pub(super) struct Expiration {
    age: MessageAge,
    undated: Undated,
}

impl Expiration {
    /// Nothing waits.
    pub(super) fn new(amqp: &Amqp) -> Self {
        Self { age: MessageAge::new(amqp), undated: Undated::new(amqp.prefetch, amqp.prefetch_bytes) }
    }

    /// There is a link again, or for the first time: messages that come now may have been in the stream for long.
    pub(super) fn linked(&mut self, now: UnixTime) {
        self.age.linked(now);
        self.undated.linked();
    }

    /// A marker says when it was written. Returns how old everything before it is whose age was not known.
    pub(super) fn marker(&mut self, time: UnixTime, now: UnixTime) -> Duration {
        self.age.marker(time, now)
    }

    /// How old a message is; `None` if the next marker will tell.
    pub(super) fn age(&self, message: &Message, now: UnixTime) -> Option<Duration> {
        self.age.age(message, now)
    }

    /// What comes from here on is another stream, or another part of it.
    pub(super) fn forget(&mut self) {
        self.age.forget();
    }

    /// Whether an event has to wait: a message that may have expired, or an event behind one that waits.
    pub(super) fn must_wait(&self, event: &Event) -> bool {
        match event {
            Event::Message(message) => self.undated.is_holding() || self.may_have_expired(message),
            Event::Passed { time: None, .. } | Event::HistoryRemoved { .. } => self.undated.is_holding(),
            _ => false,
        }
    }

    /// Whether a message comes from a stream after a lost link, and its age is not known. Where publishers' timestamps are
    /// trusted, the age is always known.
    fn may_have_expired(&self, message: &Message) -> bool {
        let is_new = message.place.is_some_and(|place| !place.is_replayed);
        let is_candidate = is_new && message.expires_after.is_some() && self.undated.may_begin();
        is_candidate && self.age(message, UnixTime::default()).is_none()
    }

    /// Lets an event wait from `now` on.
    pub(super) fn hold(&mut self, event: Event, now: Instant) {
        let bytes = if let Event::Message(message) = &event { message.body.len() } else { 0 };
        self.undated.hold(event, bytes, now);
    }

    /// Whether the events that wait have waited long enough.
    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        self.undated.is_over(now)
    }

    /// When [`Self::is_over`] is true at the latest.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.undated.next_deadline()
    }

    /// The bytes of what waits.
    pub(super) fn bytes(&self) -> usize {
        self.undated.bytes()
    }

    /// Takes out what waits, in order. Until [`Self::end_release`], messages are this old, if that is known.
    pub(super) fn begin_release(&mut self, age: Option<Duration>) -> VecDeque<Event> {
        self.age.set_age_of_waiting(age);
        self.undated.take()
    }

    /// All that was taken out is done.
    pub(super) fn end_release(&mut self) {
        self.age.set_age_of_waiting(None);
    }
}
