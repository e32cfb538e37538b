//! Tracks which batches the shards have written, if messages are acknowledged only then (`amqp.ack =
//! "written"`).
//!
//! Without receipts, handing over is enough, and nothing waits here.

use std::collections::VecDeque;

use crate::domain::mail::ShardId;
use crate::domain::receipt::Receipt;

/// What each shard was given and has not written.
#[derive(Debug)]
pub(super) struct WriteReceipts(Vec<ShardReceipts>);

#[derive(Debug)]
struct ShardReceipts {
    receipt: Receipt,
    /// Batches it was given since the start.
    given: u64,
    /// Their numbers, and the tags that wait for them.
    waiting: VecDeque<(u64, u64)>,
}

impl WriteReceipts {
    /// One receipt for each shard, or none at all.
    pub(super) fn new(receipts: Vec<Receipt>) -> Self {
        let shard = |receipt| ShardReceipts { receipt, given: 0, waiting: VecDeque::new() };
        Self(receipts.into_iter().map(shard).collect())
    }

    /// A batch goes to a shard: whether `tag` has to wait until it is written.
    pub(super) fn give(&mut self, shard: ShardId, tag: u64) -> bool {
        let Some(shard) = self.0.get_mut(usize::from(shard)) else { return false };
        shard.given += 1;
        shard.waiting.push_back((shard.given, tag));
        true
    }

    /// `tag` has to wait until all that was given so far is written: how many times, one for each shard that has
    /// not written all.
    pub(super) fn follow(&mut self, tag: u64) -> usize {
        let behind = self.0.iter_mut().filter(|shard| shard.receipt.written() < shard.given);
        behind.map(|shard| shard.waiting.push_back((shard.given, tag))).count()
    }

    /// Whether a shard has written something that was waited for.
    pub(super) fn has_news(&self) -> bool {
        self.0.iter().any(|shard| {
            let written = shard.receipt.written();
            shard.waiting.front().is_some_and(|&(batch, _)| batch <= written)
        })
    }

    /// The tags of what has been written since the last time, one for each [`Self::give`] and each time that
    /// [`Self::follow`] said.
    pub(super) fn take_written(&mut self) -> Vec<u64> {
        let mut tags = Vec::new();
        for shard in &mut self.0 {
            let written = shard.receipt.written();
            while let Some(&(batch, tag)) = shard.waiting.front()
                && batch <= written
            {
                tags.push(tag);
                shard.waiting.pop_front();
            }
        }
        tags
    }

    /// A shard has ended: the tags that waited for it.
    pub(super) fn close(&mut self, shard: ShardId) -> Vec<u64> {
        let waiting = self.0.get_mut(usize::from(shard)).map(|shard| std::mem::take(&mut shard.waiting));
        waiting.into_iter().flatten().map(|(_, tag)| tag).collect()
    }

    /// No tag is valid any more. Shards go on counting.
    pub(super) fn forget_tags(&mut self) {
        self.0.iter_mut().for_each(|shard| shard.waiting.clear());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::receipt::receipt;

    #[test]
    fn tags_wait_until_their_batches_are_written_by_every_shard() {
        let (reporters, receipts): (Vec<_>, Vec<_>) = (0..2).map(|_| receipt()).unzip();
        let mut receipts = WriteReceipts::new(receipts);
        for (shard, tag) in [(0, 1), (1, 1), (0, 2), (1, 5), (0, 5)] {
            assert!(receipts.give(shard, tag));
        }
        assert!(!receipts.has_news());
        reporters[0].report(2);
        assert!(receipts.has_news());
        assert_eq!(receipts.take_written(), [1, 2]);
        assert!(!receipts.has_news());
        reporters[1].report(1);
        assert_eq!(receipts.take_written(), [1]);
        assert_eq!(receipts.close(1), [5], "its shard will not write it any more");
        receipts.forget_tags();
        assert!(receipts.give(0, 1), "a new channel begins at 1 again, and batches go on");
        reporters[0].report(3);
        assert_eq!(receipts.take_written(), [0; 0]);
        reporters[0].report(4);
        assert_eq!(receipts.take_written(), [1]);
    }

    #[test]
    fn who_follows_waits_for_all_that_was_given_whatever_became_of_its_tag() {
        let (reporters, receipts): (Vec<_>, Vec<_>) = (0..3).map(|_| receipt()).unzip();
        let mut receipts = WriteReceipts::new(receipts);
        for (shard, tag) in [(0, 1), (0, 2), (1, 2), (2, 2)] {
            receipts.give(shard, tag);
        }
        reporters[1].report(1);
        receipts.forget_tags();
        assert_eq!(receipts.follow(1), 2, "one shard has written all, two have not");
        reporters[0].report(1);
        assert_eq!(receipts.take_written(), [0; 0]);
        reporters[0].report(2);
        assert_eq!(receipts.take_written(), [1]);
        reporters[2].report(1);
        assert_eq!((receipts.take_written(), receipts.follow(2)), (vec![1], 0));
    }

    #[test]
    fn without_receipts_nothing_waits() {
        let mut receipts = WriteReceipts::new(Vec::new());
        assert!(!receipts.give(0, 1) && receipts.follow(1) == 0 && !receipts.has_news());
        assert_eq!((receipts.take_written(), receipts.close(0)), (vec![], vec![]));
    }
}
