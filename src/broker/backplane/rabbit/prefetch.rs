//! How many messages RabbitMQ may send ahead: as many as fit into a number of bytes, by the sizes seen.
//!
//! RabbitMQ limits what it sends ahead only by number, and lapin keeps all of it in memory. So the number
//! follows the largest of the latest messages, headers included. The sizes of future messages are unknown, so
//! the number begins small, and grows with the sizes seen. AMQP fixes the number when a consumer is created,
//! so a change needs a new consumer, and is made only if the number changes by half.
//!
//! Pure: nothing is sent here.

/// The largest body that RabbitMQ 4 takes. A message of an unknown size may be as large.
const BODY_MAX: usize = 16 << 20;
/// How many more messages may come for each one seen: they are hardly all of another kind.
const GROWTH: u64 = 16;
/// Messages after which one counts no more for how large the next ones may be: one to two of these.
const WINDOW: u64 = 1024;

/// The number for one consumer after the other.
#[derive(Debug)]
pub(super) struct Prefetch {
    messages_max: u16,
    bytes_max: usize,
    /// What the present consumer was made with.
    current: u16,
    /// Messages seen.
    seen: u64,
    /// The largest message of the present window, and of the one before.
    largest: usize,
    largest_before: usize,
}

impl Prefetch {
    /// At most `messages_max` messages, and about `bytes_max` bytes.
    pub(super) fn new(messages_max: u16, bytes_max: usize) -> Self {
        let mut prefetch =
            Self { messages_max, bytes_max, current: 1, seen: 0, largest: 0, largest_before: 0 };
        prefetch.current = prefetch.wanted();
        prefetch
    }

    /// What the next consumer is to be made with.
    pub(super) fn current(&self) -> u16 {
        self.current
    }

    /// A message of so many bytes came. Returns whether another consumer should be made, with the new [`Self::current`].
    pub(super) fn saw(&mut self, bytes: usize) -> bool {
        self.seen += 1;
        if self.seen.is_multiple_of(WINDOW) {
            self.largest_before = std::mem::take(&mut self.largest);
        }
        let is_larger = bytes > self.largest;
        self.largest = self.largest.max(bytes);
        // Nothing else changes what is wanted but growth, which is of interest when it has doubled.
        if !is_larger && !self.seen.is_power_of_two() && !self.seen.is_multiple_of(WINDOW) {
            return false;
        }
        let wanted = self.wanted();
        let is_worth_it = wanted <= self.current / 2 || wanted / 2 >= self.current;
        if is_worth_it {
            self.current = wanted;
        }
        is_worth_it
    }

    fn wanted(&self) -> u16 {
        let fit = |bytes: usize| (self.bytes_max / bytes.max(1)) as u64;
        let trusted = fit(BODY_MAX).max(1).max(self.seen.saturating_mul(GROWTH));
        let wanted = fit(self.largest.max(self.largest_before)).min(trusted).max(1);
        u16::try_from(wanted).unwrap_or(u16::MAX).min(self.messages_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// The numbers that consumers are made with while bodies of these sizes come.
    fn numbers(prefetch: &mut Prefetch, sizes: impl IntoIterator<Item = usize>) -> Vec<u16> {
        let mut numbers = Vec::new();
        for size in sizes {
            if prefetch.saw(size) {
                numbers.push(prefetch.current());
            }
        }
        numbers
    }

    #[test]
    fn it_begins_small_and_grows_with_what_is_seen() {
        let mut prefetch = Prefetch::new(4096, 64 * MIB);
        assert_eq!(prefetch.current(), 4);
        assert_eq!(numbers(&mut prefetch, [100; 1000]), [16, 32, 64, 128, 256, 512, 1024, 2048, 4096]);
        assert_eq!(numbers(&mut prefetch, [100; 10_000]), Vec::<u16>::new());
    }

    #[test]
    fn what_is_under_way_fits_into_the_bytes_if_it_is_like_what_was_seen() {
        let mut prefetch = Prefetch::new(4096, 64 * MIB);
        assert_eq!(
            numbers(&mut prefetch, [10 * MIB; 1000]),
            Vec::<u16>::new(),
            "four of them are enough, and six no reason"
        );
        assert_eq!(numbers(&mut prefetch, [100; 1000]), Vec::<u16>::new());
        let later = numbers(&mut prefetch, [100; 2000]);
        assert_eq!(later, [4096], "the large ones are long ago");
        assert_eq!(numbers(&mut prefetch, [100, MIB, 10 * MIB, 100]), [64, 6]);
    }

    #[test]
    fn there_is_always_one_and_never_more_than_the_limit() {
        for (messages_max, bytes_max, begin, end) in [(1, MIB, 1, 1), (8, 1, 1, 1), (8, usize::MAX, 8, 8)] {
            let mut prefetch = Prefetch::new(messages_max, bytes_max);
            assert_eq!(prefetch.current(), begin);
            numbers(&mut prefetch, [10; 10_000]);
            assert_eq!(prefetch.current(), end);
        }
    }
}
