//! Which messages may be acknowledged: those of which nothing waits any more to be merged, to be dead-lettered or, with
//! `amqp.ack = "written"`, to be written by the shards.

mod tags;
mod write_receipts;

use crate::domain::mail::ShardId;
use crate::domain::receipt::Receipt;

use tags::Tags;
use write_receipts::WriteReceipts;

/// The messages that were taken and are not acknowledged, by their delivery tags.
#[derive(Debug)]
pub(super) struct Acks {
    tags: Tags,
    receipts: WriteReceipts,
}

impl Acks {
    /// No message was taken. With receipts, one for each shard, messages wait until the shards have written them.
    pub(super) fn new(receipts: Vec<Receipt>) -> Self {
        Self { tags: Tags::default(), receipts: WriteReceipts::new(receipts) }
    }

    /// See [`Tags::take`].
    pub(super) fn take(&mut self, tag: u64, bytes: usize) {
        self.tags.take(tag, bytes);
    }

    /// See [`Tags::hold`].
    pub(super) fn hold(&mut self, tag: u64) {
        self.tags.hold(tag);
    }

    /// See [`Tags::release`].
    pub(super) fn release(&mut self, tag: u64) {
        self.tags.release(tag);
    }

    /// A batch goes to a shard: `tag` is held until the shard has written it, if that is waited for.
    pub(super) fn give(&mut self, shard: ShardId, tag: u64) {
        if self.receipts.give(shard, tag) {
            self.tags.hold(tag);
        }
    }

    /// `tag` is held until the shards have written all that they were given so far, if that is waited for.
    pub(super) fn follow(&mut self, tag: u64) {
        (0..self.receipts.follow(tag)).for_each(|_| self.tags.hold(tag));
    }

    /// Whether a shard has written something that was waited for.
    pub(super) fn has_written(&self) -> bool {
        self.receipts.has_news()
    }

    /// Releases what the shards have written since the last time.
    pub(super) fn release_written(&mut self) {
        self.receipts.take_written().into_iter().for_each(|tag| self.tags.release(tag));
    }

    /// A shard has ended, and writes nothing any more.
    pub(super) fn close(&mut self, shard: ShardId) {
        self.receipts.close(shard).into_iter().for_each(|tag| self.tags.release(tag));
    }

    /// See [`Tags::due`].
    pub(super) fn due(&mut self) -> Option<u64> {
        self.tags.due()
    }

    /// See [`Tags::unacknowledged`].
    pub(super) fn unacknowledged(&self) -> u64 {
        self.tags.unacknowledged()
    }

    /// See [`Tags::bytes`].
    pub(super) fn bytes(&self) -> usize {
        self.tags.bytes()
    }

    /// The channel is gone, and with it all of its tags.
    pub(super) fn reset(&mut self) {
        self.tags.reset();
        self.receipts.forget_tags();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::receipt::receipt;

    #[test]
    fn a_message_is_acknowledged_when_all_shards_have_written_it_and_a_repetition_after_what_it_repeats() {
        let (reporters, receipts): (Vec<_>, Vec<_>) = (0..2).map(|_| receipt()).unzip();
        let mut acks = Acks::new(receipts);
        acks.take(1, 10);
        acks.give(0, 1);
        acks.give(1, 1);
        acks.take(2, 5);
        acks.follow(2);
        reporters[0].report(1);
        assert!(acks.has_written());
        acks.release_written();
        assert_eq!((acks.due(), acks.unacknowledged(), acks.bytes()), (None, 2, 15));
        acks.close(1);
        assert_eq!((acks.due(), acks.unacknowledged(), acks.bytes()), (Some(2), 0, 0), "its shard has ended");
    }

    #[test]
    fn tags_of_a_lost_channel_are_not_released_by_what_is_written_later() {
        let (reporter, receipt) = receipt();
        let mut acks = Acks::new(vec![receipt]);
        acks.take(1, 10);
        acks.give(0, 1);
        acks.reset();
        reporter.report(1);
        acks.release_written();
        acks.take(1, 10);
        assert_eq!(acks.due(), Some(1));
    }

    #[test]
    fn without_receipts_handing_over_is_enough() {
        let mut acks = Acks::new(Vec::new());
        acks.take(1, 10);
        acks.give(0, 1);
        acks.follow(1);
        assert_eq!(acks.due(), Some(1));
    }
}
