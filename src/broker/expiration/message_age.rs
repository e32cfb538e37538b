//! How old a message is: how long RabbitMQ has had it. A publication's `expiration`, and the time to live of its topic's
//! history, count from when RabbitMQ took it.
//!
//! AMQP does not say when RabbitMQ took a message. `timestamp` is the publisher's, who may mean by it when an event was:
//! so it counts only where the operator says so (`amqp.trust_timestamps`). Else:
//!
//! * **From a queue**, a message is new when it comes. What waited there for longer than its `expiration`, RabbitMQ
//!   has dropped itself.
//! * **From a stream, as it is published**, a message is new when it comes: milliseconds ago.
//! * **From a stream, later**, by a node that reads it back or goes on after a lost link, a message is as old as the
//!   first marker after it says. Nodes write a marker once a minute, after 50,000 messages, and whenever they come back,
//!   with the time of their clock ([`rabbit::markers`](crate::broker::backplane::rabbit)).
//!
//! # Why all nodes agree
//!
//! Of what is read later, the age is a function of the stream alone: every node, after every restart, finds the same
//! first marker after a message. It was written after the message was taken, so that nothing ends too early; and a
//! minute later at most, as long as a node lives. A node that was there when the message came counts from before that
//! marker; so of two nodes one may have for a minute what the other has no more, but none lets go of what is not over.
//! The times of markers are taken as not going back, lest a clock that is behind makes messages older than they are: by
//! as much as a clock is ahead, they are younger.
//!
//! What comes after a lost link, and has an `expiration`, waits for the next marker, so that it is not pushed when its time
//! is over ([`undated`](super::undated)). If the marker is too far behind it, it is pushed all the same; when the marker has
//! come, it is not given any more to those who come back.
//!
//! Pure: time is an argument.

use std::time::Duration;

use crate::base::clock::UnixTime;
use crate::config::Amqp;

use crate::broker::backplane::event::Message;

/// What is known of the age of messages.
#[derive(Debug)]
pub(super) struct MessageAge {
    trusts_publishers: bool,
    reads_stream: bool,
    /// The latest time that a marker has said; 1970 before the first.
    told: UnixTime,
    /// What comes may have been in the stream for longer, until a marker says this time.
    late_until: Option<UnixTime>,
    /// The age of what has waited for a marker, while it is taken.
    age_of_waiting: Option<Duration>,
}

impl MessageAge {
    /// As the source asks for it.
    pub(super) fn new(amqp: &Amqp) -> Self {
        Self {
            trusts_publishers: amqp.trust_timestamps,
            reads_stream: amqp.reads_stream(),
            told: UnixTime::default(),
            late_until: None,
            age_of_waiting: None,
        }
    }

    /// There is a link again, or for the first time: what waited comes now.
    pub(super) fn linked(&mut self, now: UnixTime) {
        self.late_until = self.reads_stream.then_some(now);
    }

    /// A marker says when it was written. Returns how old everything before it is whose age was not known.
    pub(super) fn marker(&mut self, time: UnixTime, now: UnixTime) -> Duration {
        self.late_until = self.late_until.filter(|&late_until| time < late_until);
        self.told = self.told.max(time);
        Duration::from_micros(now.micros_since(self.told))
    }

    /// What is taken from here on has waited for a marker, and is as old as that says; or no more.
    pub(super) fn set_age_of_waiting(&mut self, age: Option<Duration>) {
        self.age_of_waiting = age;
    }

    /// What comes from here on is another stream, or another part of it.
    pub(super) fn forget(&mut self) {
        self.told = UnixTime::default();
    }

    /// How old a message is; `None` if the next marker will tell.
    pub(super) fn age(&self, message: &Message, now: UnixTime) -> Option<Duration> {
        if let Some(published) = message.published.filter(|_| self.trusts_publishers) {
            return Some(Duration::from_micros(now.micros_since(published)));
        }
        if message.place.is_some() && self.age_of_waiting.is_some() {
            return self.age_of_waiting;
        }
        let is_late = |is_replayed: bool| is_replayed || self.late_until.is_some();
        let is_unknown = message.place.is_some_and(|place| is_late(place.is_replayed));
        (!is_unknown).then_some(Duration::ZERO)
    }
}

/// Whether a message of this age is of no use any more. One that has just come is, whatever it says: to those who are
/// there.
pub(in crate::broker) fn has_expired(message: &Message, age: Option<Duration>) -> bool {
    let ages = message.expires_after.zip(age);
    ages.is_some_and(|(after, age)| !age.is_zero() && age >= after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::backplane::event::StreamPlace;
    use crate::broker::backplane::rabbit::envelope::Envelope;
    use crate::broker::payload::{Compression, Content};

    fn hour(number: u64) -> UnixTime {
        UnixTime::from_micros(number * 3_600_000_000)
    }

    fn message(
        place: Option<StreamPlace>,
        published: Option<UnixTime>,
        expires_after: Option<Duration>,
    ) -> Message {
        Message {
            topics: vec!["a".into()],
            flaw: None,
            body: Vec::new(),
            id: None,
            content: Content::Json,
            compression: Compression::None,
            key: None,
            info: None,
            skips_history: false,
            published,
            expires_after,
            place,
            tag: 1,
            envelope: Envelope::default(),
        }
    }

    fn place(is_replayed: bool) -> Option<StreamPlace> {
        Some(StreamPlace { offset: 1, is_replayed, is_ours_to_dead_letter: false })
    }

    fn stream(trust_timestamps: bool) -> MessageAge {
        let url = "amqp://localhost".into();
        MessageAge::new(&Amqp { url, trust_timestamps, ..Amqp::default() })
    }

    #[test]
    fn the_age_is_known_at_once_or_when_a_marker_comes() {
        let seconds = |seconds: u64| Some(Duration::from_secs(seconds));
        let now = hour(100);
        let published = Some(hour(99));
        for (trusts, place, published, age) in [
            (false, None, published, seconds(0)),
            (false, place(false), published, seconds(0)),
            (false, place(true), published, None),
            (false, place(true), None, None),
            (true, None, published, seconds(3600)),
            (true, place(true), published, seconds(3600)),
            (true, place(true), None, None),
            (true, place(false), Some(hour(101)), seconds(0)),
        ] {
            assert_eq!(stream(trusts).age(&message(place, published, None), now), age, "{trusts} {place:?}");
        }
    }

    #[test]
    fn what_comes_after_a_lost_link_is_dated_until_a_marker_of_the_new_one_comes() {
        let mut message_age = stream(false);
        let age = |message_age: &MessageAge| message_age.age(&message(place(false), None, None), hour(0));
        message_age.linked(hour(10));
        assert_eq!(age(&message_age), None);
        assert_eq!(message_age.marker(hour(9), hour(10)), Duration::from_secs(3600));
        assert_eq!(age(&message_age), None);
        let soon = UnixTime::from_micros(hour(10).as_micros() + 5);
        assert_eq!(message_age.marker(hour(10), soon), Duration::from_micros(5));
        assert_eq!(age(&message_age), Some(Duration::ZERO));
        message_age.set_age_of_waiting(Some(Duration::from_secs(7)));
        assert_eq!(age(&message_age), Some(Duration::from_secs(7)), "it has waited for that marker");
        let of_queue = message(None, None, None);
        assert_eq!(message_age.age(&of_queue, hour(0)), Some(Duration::ZERO));
        message_age.set_age_of_waiting(None);
        assert_eq!(age(&message_age), Some(Duration::ZERO));
        let mut queue = MessageAge::new(&Amqp { source: crate::config::Source::Queue, ..Amqp::default() });
        queue.linked(hour(10));
        assert_eq!(queue.age(&of_queue, hour(0)), Some(Duration::ZERO));
    }

    #[test]
    fn a_clock_that_is_behind_makes_nothing_older_and_one_that_is_ahead_nothing_younger_than_now() {
        let mut message_age = stream(false);
        assert_eq!(message_age.marker(hour(8), hour(10)), Duration::from_secs(7200));
        assert_eq!(message_age.marker(hour(5), hour(10)), Duration::from_secs(7200));
        assert_eq!(message_age.marker(hour(11), hour(10)), Duration::ZERO);
        message_age.forget();
        assert_eq!(message_age.marker(hour(5), hour(10)), Duration::from_secs(18_000), "of another stream");
    }

    #[test]
    fn a_message_expires_by_an_age_that_is_known() {
        let milliseconds = |milliseconds: u64| Some(Duration::from_millis(milliseconds));
        for (after, age, expired) in [
            (None, milliseconds(5), false),
            (milliseconds(10), None, false),
            (milliseconds(10), milliseconds(9), false),
            (milliseconds(10), milliseconds(10), true),
            (milliseconds(0), milliseconds(0), false),
            (milliseconds(0), milliseconds(1), true),
        ] {
            assert_eq!(has_expired(&message(None, None, after), age), expired, "{after:?} {age:?}");
        }
    }
}
