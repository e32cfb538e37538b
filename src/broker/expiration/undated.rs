//! Messages that may have expired: those of a stream that came after a lost connection, from the first one
//! with an `expiration` on. They wait for the next marker, which tells how old they are
//! ([`message_age`](super::message_age)). Everything behind them waits as well, so that the order stays.
//!
//! A node writes a marker whenever it comes back, so this takes milliseconds. It is still bounded in number,
//! bytes and time: beyond, what waited goes on without its age. If time was the reason, nothing waits any
//! more on this connection.
//!
//! Pure: time is an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::broker::backplane::event::Event;

/// How long the first one waits.
const TIMEOUT: Duration = Duration::from_millis(300);

/// What waits.
#[derive(Debug)]
pub(super) struct Undated {
    messages_max: usize,
    bytes_max: usize,
    waiting: VecDeque<Event>,
    bytes: usize,
    until: Option<Instant>,
    has_given_up: bool,
}

impl Undated {
    /// For half of what RabbitMQ may send ahead, at most: else it would send no marker.
    pub(super) fn new(prefetch: u16, prefetch_bytes: usize) -> Self {
        Self {
            messages_max: usize::from(prefetch / 2),
            bytes_max: prefetch_bytes / 2,
            waiting: VecDeque::new(),
            bytes: 0,
            until: None,
            has_given_up: false,
        }
    }

    /// There is another link.
    pub(super) fn linked(&mut self) {
        self.has_given_up = false;
    }

    /// Whether something waits, so that what comes behind it has to.
    pub(super) fn is_holding(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether a message whose age is not known may begin to wait.
    pub(super) fn may_begin(&self) -> bool {
        !self.has_given_up && self.messages_max > 0
    }

    /// Lets something wait from `now` on, which has so many bytes.
    pub(super) fn hold(&mut self, event: Event, bytes: usize, now: Instant) {
        self.until.get_or_insert(now + TIMEOUT);
        self.bytes += bytes;
        self.waiting.push_back(event);
    }

    /// Whether what waits must not wait any longer.
    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        let is_late = self.until.is_some_and(|until| until <= now);
        self.has_given_up |= is_late;
        is_late || self.waiting.len() > self.messages_max || self.bytes > self.bytes_max
    }

    /// When [`Self::is_over`] is true at the latest.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.until
    }

    /// The bytes of what waits.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// All of it, in order.
    pub(super) fn take(&mut self) -> VecDeque<Event> {
        (self.bytes, self.until) = (0, None);
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(tag: u64) -> Event {
        Event::Passed { tag, offset: None, time: None }
    }

    #[test]
    fn it_is_bounded_in_number_bytes_and_time() {
        let now = Instant::now();
        for (count, bytes, after, is_over) in [
            (4, 1, Duration::ZERO, false),
            (5, 1, Duration::ZERO, true),
            (2, 50, Duration::ZERO, false),
            (2, 51, Duration::ZERO, true),
            (1, 1, TIMEOUT, true),
        ] {
            let mut undated = Undated::new(8, 200);
            assert!(undated.may_begin() && !undated.is_holding());
            (0..count).for_each(|tag| undated.hold(event(tag), bytes, now));
            assert_eq!((undated.is_holding(), undated.next_deadline()), (true, Some(now + TIMEOUT)));
            assert_eq!(undated.is_over(now + after), is_over, "{count} of {bytes} bytes after {after:?}");
            assert_eq!(undated.may_begin(), after.is_zero());
            undated.linked();
            assert!(undated.may_begin());
            let tags = undated.take().into_iter().map(|event| match event {
                Event::Passed { tag, .. } => tag,
                _ => unreachable!("held as such"),
            });
            assert_eq!(tags.collect::<Vec<_>>(), (0..count).collect::<Vec<_>>());
            assert_eq!((undated.bytes(), undated.is_over(now + TIMEOUT)), (0, false));
        }
        assert!(!Undated::new(1, 200).may_begin(), "RabbitMQ would send nothing more");
    }
}
