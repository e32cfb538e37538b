//! Up to which message everything was handed over.
//!
//! RabbitMQ takes one acknowledgement for all messages up to a number. Messages are handed over out of
//! order when some wait to be merged, or wait for the dead-letter exchange, so those hold the frontier back.

use std::collections::BTreeMap;

/// The number of a message on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tag {
    /// Which connection; tags of an earlier one mean nothing any more.
    pub generation: u32,
    /// AMQP's delivery tag: 1, 2, 3 in the order of delivery.
    pub number: u64,
}

/// The frontier of one connection at a time.
#[derive(Debug, Default)]
pub(super) struct Frontier {
    generation: u32,
    taken: u64,
    held: BTreeMap<u64, u32>,
}

impl Frontier {
    /// Begins anew with a new connection.
    pub(super) fn begin(&mut self, generation: u32) {
        *self = Self { generation, ..Self::default() };
    }

    /// Notes that a message was taken.
    pub(super) fn take(&mut self, tag: Tag) {
        if tag.generation == self.generation {
            self.taken = self.taken.max(tag.number);
        }
    }

    /// Keeps a message from being acknowledged. May be called several times for one message.
    pub(super) fn hold(&mut self, tag: Tag) {
        if tag.generation == self.generation {
            *self.held.entry(tag.number).or_default() += 1;
        }
    }

    /// Takes back one [`Frontier::hold`].
    pub(super) fn release(&mut self, tag: Tag) {
        if tag.generation == self.generation
            && let Some(holds) = self.held.get_mut(&tag.number)
        {
            *holds -= 1;
            if *holds == 0 {
                self.held.remove(&tag.number);
            }
        }
    }

    /// The number up to which everything may be acknowledged; 0: nothing.
    pub(super) fn reached(&self) -> u64 {
        self.held.first_key_value().map_or(self.taken, |(&first, _)| first - 1)
    }

    /// How many messages were taken and may not be acknowledged.
    pub(super) fn held_back(&self) -> u64 {
        self.taken - self.reached().min(self.taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(generation: u32, number: u64) -> Tag {
        Tag { generation, number }
    }

    #[test]
    fn the_oldest_held_message_holds_all_after_it_back() {
        let mut frontier = Frontier::default();
        frontier.begin(1);
        for number in 1..=5 {
            frontier.take(tag(1, number));
        }
        assert_eq!(frontier.reached(), 5);
        frontier.hold(tag(1, 4));
        frontier.hold(tag(1, 2));
        frontier.hold(tag(1, 2));
        assert_eq!((frontier.reached(), frontier.held_back()), (1, 4));
        frontier.release(tag(1, 2));
        assert_eq!(frontier.reached(), 1);
        frontier.release(tag(1, 2));
        assert_eq!(frontier.reached(), 3);
        frontier.release(tag(1, 4));
        assert_eq!(frontier.reached(), 5);
    }

    #[test]
    fn tags_of_an_earlier_connection_mean_nothing() {
        let mut frontier = Frontier::default();
        frontier.begin(1);
        frontier.take(tag(1, 9));
        frontier.hold(tag(1, 3));
        frontier.begin(2);
        frontier.take(tag(2, 3));
        frontier.hold(tag(2, 3));
        frontier.release(tag(1, 3));
        frontier.take(tag(1, 100));
        assert_eq!((frontier.reached(), frontier.held_back()), (2, 1));
    }
}
