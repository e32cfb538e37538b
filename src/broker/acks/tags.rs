//! The delivery tags of one AMQP channel, and which of them are held.
//!
//! They are numbered 1, 2, 3. One acknowledgement covers everything up to a tag, so it is enough to know the lowest tag
//! that is held: its message waits to be merged, for the confirm of its dead letter, or to be written by the shards. Of
//! publications that wait together, the first one's tag is held.

use std::collections::{BTreeMap, VecDeque};

/// The tags of one channel.
#[derive(Debug, Default)]
pub(super) struct Tags {
    /// The highest tag that came in.
    taken: u64,
    /// Everything up to here is acknowledged; never above `taken`.
    acknowledged: u64,
    /// Tags above `acknowledged` that wait for something, and for how many things.
    held: BTreeMap<u64, u32>,
    /// Tags above `acknowledged` with the bytes of their messages, in order, and those bytes together.
    sizes: VecDeque<(u64, usize)>,
    bytes: usize,
}

impl Tags {
    /// A message of so many bytes came in.
    ///
    /// # Panics
    /// If tags do not rise: they are RabbitMQ's and one channel's.
    pub(super) fn take(&mut self, tag: u64, bytes: usize) {
        assert!(tag > self.taken, "delivery tag {tag} after {}", self.taken);
        self.taken = tag;
        self.sizes.push_back((tag, bytes));
        self.bytes += bytes;
    }

    /// `tag`, and all that came later, must wait until it is released.
    pub(super) fn hold(&mut self, tag: u64) {
        debug_assert!(tag > self.acknowledged && tag <= self.taken, "{tag} is not open in {self:?}");
        *self.held.entry(tag).or_default() += 1;
    }

    /// One of the things that `tag` waited for is done.
    ///
    /// # Panics
    /// If it waited for nothing.
    pub(super) fn release(&mut self, tag: u64) {
        let count = self.held.get_mut(&tag).expect("what is released was held");
        *count -= 1;
        if *count == 0 {
            self.held.remove(&tag);
        }
    }

    /// The tag to acknowledge now, with everything below it, if there is something new to acknowledge.
    pub(super) fn due(&mut self) -> Option<u64> {
        let frontier = self.first_held().map_or(self.taken, |first| first - 1);
        if frontier == self.acknowledged {
            return None;
        }
        self.acknowledged = frontier;
        self.forget_sizes();
        if cfg!(debug_assertions) {
            self.assert_invariants();
        }
        Some(frontier)
    }

    fn forget_sizes(&mut self) {
        while let Some(&(tag, bytes)) = self.sizes.front()
            && tag <= self.acknowledged
        {
            self.sizes.pop_front();
            self.bytes -= bytes;
        }
    }

    /// Asserts that what is held and counted are tags that came in and are not acknowledged. Looks at every one.
    fn assert_invariants(&self) {
        let open = self.acknowledged + 1..=self.taken;
        assert!(self.acknowledged <= self.taken, "{self:?}");
        assert!(self.held.iter().all(|(tag, &count)| open.contains(tag) && count > 0), "{self:?}");
        assert!(self.sizes.iter().all(|(tag, _)| open.contains(tag)), "{self:?}");
        assert!(self.sizes.iter().is_sorted_by(|(tag, _), (next, _)| tag < next), "{self:?}");
        assert_eq!(self.sizes.iter().map(|(_, bytes)| bytes).sum::<usize>(), self.bytes, "{self:?}");
    }

    /// The lowest tag that waits for something.
    fn first_held(&self) -> Option<u64> {
        self.held.first_key_value().map(|(&first, _)| first)
    }

    /// How many messages came in that are not acknowledged.
    pub(super) fn unacknowledged(&self) -> u64 {
        self.taken - self.acknowledged
    }

    /// The bytes of the messages that are not acknowledged.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The channel is gone, and with it all of its tags.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_below_the_first_held_tag_is_due_once() {
        let mut acks = Tags::default();
        assert_eq!(acks.due(), None);
        for tag in 1..=5 {
            acks.take(tag, 10);
        }
        acks.hold(3);
        acks.hold(5);
        assert_eq!(acks.due(), Some(2));
        assert_eq!((acks.due(), acks.unacknowledged(), acks.bytes()), (None, 3, 30));
        acks.release(5);
        assert_eq!(acks.due(), None, "3 still holds 5 back");
        acks.release(3);
        assert_eq!(acks.due(), Some(5));
        assert_eq!((acks.unacknowledged(), acks.bytes()), (0, 0));
    }

    #[test]
    fn a_tag_that_waits_for_two_things_waits_for_both() {
        let mut acks = Tags::default();
        acks.take(1, 10);
        acks.hold(1);
        acks.hold(1);
        acks.release(1);
        assert_eq!(acks.due(), None);
        acks.release(1);
        assert_eq!(acks.due(), Some(1));
    }

    #[test]
    fn a_new_channel_starts_at_one_again() {
        let mut acks = Tags::default();
        acks.take(1, 10);
        acks.take(2, 10);
        acks.hold(1);
        acks.reset();
        acks.take(1, 10);
        assert_eq!(acks.due(), Some(1));
    }

    #[test]
    #[should_panic(expected = "was held")]
    fn what_is_not_held_cannot_be_released() {
        Tags::default().release(1);
    }
}
