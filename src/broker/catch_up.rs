//! Recoveries of clients that are ahead of this node: another node has sent them a publication that this one has not read
//! yet. Their questions wait until this node has read it, for a limited time, since it may never come. Their number is
//! limited here, because a question that waits holds no budget for its answer.
//!
//! Questions are taken one by one, so that the caller can stop when it has no room for answers.
//!
//! Pure: time is an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::base::deadline_table::DeadlineTable;
use crate::domain::mail::{Recover, ShardId};

/// How long a question waits. Nodes that read the same stream are milliseconds apart, unless one of them is in trouble.
/// SDKs wait for 5 s, and must have an answer before that.
pub(super) const TIMEOUT: Duration = Duration::from_secs(3);

/// Questions that may wait at once, in equal parts for all shards: 400 bytes each with its epoch and its place here, 25
/// MiB together. One more takes the place of the oldest of its shard, which is refused and asked again.
///
/// Clients have no shares: however many connections ask, they only shorten the wait of everybody. At 200,000 questions per
/// second, each may wait for 300 ms.
pub(super) const WAITING_MAX: usize = 65_536;

/// The offset that a question waits for, and a number that makes the key unique.
type Key = (u64, u64);

/// The questions that wait, of all shards. Shards take turns.
#[derive(Debug, Default)]
pub(super) struct CatchUps {
    shards: Vec<CatchUp>,
    /// The shard whose turn it is.
    next: usize,
}

impl CatchUps {
    /// No question waits.
    pub(super) fn new(shards: usize) -> Self {
        Self { shards: (0..shards).map(|_| CatchUp::new(WAITING_MAX / shards)).collect(), next: 0 }
    }

    /// Lets a question wait, as [`CatchUp::wait`] does.
    pub(super) fn wait(&mut self, question: Recover, now: Instant) -> Option<Recover> {
        self.shards[usize::from(question.reply_to.shard)].wait(question, now)
    }

    /// Lets only those questions wait on that are still ahead; the others are ready.
    pub(super) fn look_again(&mut self, mut is_ahead: impl FnMut(&Recover) -> bool) {
        self.shards.iter_mut().for_each(|shard| shard.look_again(&mut is_ahead));
    }

    /// The next question that is ready, late, or waits for an offset up to `reached`; only of shards that `may_ask`.
    pub(super) fn next(
        &mut self,
        reached: Option<u64>,
        now: Instant,
        may_ask: impl Fn(ShardId) -> bool,
    ) -> Option<Recover> {
        for _ in 0..self.shards.len() {
            let at = self.next;
            self.next = (at + 1) % self.shards.len();
            if !ShardId::try_from(at).is_ok_and(&may_ask) {
                continue;
            }
            let shard = &mut self.shards[at];
            let next = shard
                .next_ready()
                .or_else(|| reached.and_then(|reached| shard.next_reached(reached)))
                .or_else(|| shard.next_late(now));
            if next.is_some() {
                return next;
            }
        }
        None
    }

    /// When [`Self::next`] has something.
    pub(super) fn next_deadline(
        &self,
        reached: Option<u64>,
        now: Instant,
        may_ask: impl Fn(ShardId) -> bool,
    ) -> Option<Instant> {
        let next = |shard: &CatchUp| {
            let has_reached = reached.is_some_and(|reached| shard.has_reached(reached));
            if has_reached || shard.has_ready() { Some(now) } else { shard.next_deadline() }
        };
        let asking = (0..).zip(&self.shards).filter(|(shard, _)| may_ask(*shard));
        asking.filter_map(|(_, shard)| next(shard)).min()
    }
}

/// The questions of one shard that wait.
#[derive(Debug)]
struct CatchUp {
    /// How many there may be.
    max: usize,
    waiting: DeadlineTable<Key, Recover>,
    next_number: u64,
    /// Questions that need not wait any longer, whatever this node has read.
    ready: VecDeque<Recover>,
}

impl CatchUp {
    /// Room for so many.
    fn new(max: usize) -> Self {
        Self { max, waiting: DeadlineTable::default(), next_number: 0, ready: VecDeque::new() }
    }

    /// Whether no more may wait.
    fn is_full(&self) -> bool {
        self.waiting.len() + self.ready.len() >= self.max
    }

    /// Lets a question wait from `now` on until this node has read as far as it asks. If no more may wait, returns the one that
    /// has waited longest, or this one if all others are ready.
    fn wait(&mut self, question: Recover, now: Instant) -> Option<Recover> {
        let mut gone = None;
        if self.is_full() {
            // By then everybody's time is over.
            gone = self.next_late(now + TIMEOUT);
            if gone.is_none() {
                return Some(question);
            }
        }
        let key = (question.since.offset, self.next_number);
        self.next_number += 1;
        self.waiting.insert(key, question, Some(now + TIMEOUT));
        gone
    }

    /// Lets only those go on waiting of whom `is_ahead` says that they have to.
    fn look_again(&mut self, mut is_ahead: impl FnMut(&Recover) -> bool) {
        self.ready.extend(self.waiting.extract(|question| !is_ahead(question)));
    }

    /// Whether somebody need not wait any longer, whatever this node has read.
    fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// One of those.
    fn next_ready(&mut self) -> Option<Recover> {
        let ready = self.ready.pop_front();
        if ready.is_none() {
            // It is long only after a stream was read back.
            self.ready = VecDeque::new();
        }
        ready
    }

    /// Whether somebody need not wait any longer when this node has read up to `offset`.
    fn has_reached(&self, offset: u64) -> bool {
        self.waiting.first().is_some_and(|(first, _)| first <= offset)
    }

    /// One of those.
    fn next_reached(&mut self, offset: u64) -> Option<Recover> {
        let first = self.waiting.first().filter(|(first, _)| *first <= offset)?;
        self.waiting.remove(first)
    }

    /// One of those who shall not wait any longer.
    fn next_late(&mut self, now: Instant) -> Option<Recover> {
        let late = self.waiting.expire(now)?;
        self.waiting.remove(late)
    }

    /// When [`Self::next_late`] has something to give.
    fn next_deadline(&self) -> Option<Instant> {
        self.waiting.next_deadline()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::codec::Codec;
    use crate::domain::encoding::Encoding;
    use crate::domain::mail::{ClientKey, CommandKey, Lane, ReplyAddress, TopicSlot, Variant};
    use crate::domain::position::Since;

    /// A question of this command that waits for this offset.
    pub(in crate::broker) fn question(command: u32, offset: u64) -> Recover {
        let command = CommandKey { client: ClientKey { slot: 7, generation: 1 }, id: command };
        Recover {
            reply_to: ReplyAddress { shard: 0, command, codec: Codec::Json },
            topic: TopicSlot(0),
            variant: Variant { encoding: Encoding::Json, lane: Lane::FIRST },
            name: "a".into(),
            recoverable: true,
            since: Since { epoch: "e".into(), offset },
            rejects_unrecovered: false,
            has_waited: false,
        }
    }

    fn reached(catch_up: &mut CatchUp, offset: u64) -> Vec<u32> {
        std::iter::from_fn(|| catch_up.next_reached(offset))
            .map(|question| question.reply_to.command.id)
            .collect()
    }

    fn late(catch_up: &mut CatchUp, now: Instant) -> Vec<u32> {
        std::iter::from_fn(|| catch_up.next_late(now)).map(|question| question.reply_to.command.id).collect()
    }

    #[test]
    fn who_is_ahead_waits_for_the_offset_or_for_its_own_deadline() {
        let (mut catch_up, start) = (CatchUp::new(WAITING_MAX), Instant::now());
        let second = Duration::from_secs(1);
        catch_up.wait(question(1, 10), start);
        catch_up.wait(question(2, 12), start + second);
        catch_up.wait(question(3, 10), start + second);
        catch_up.wait(question(4, 12), start + 2 * second);
        assert_eq!((reached(&mut catch_up, 9), catch_up.has_reached(9)), (vec![], false));
        assert_eq!(late(&mut catch_up, start + second), [0; 0]);
        assert!(catch_up.has_reached(11));
        assert_eq!(reached(&mut catch_up, 11), [1, 3]);
        assert_eq!(late(&mut catch_up, start + TIMEOUT), [0; 0]);
        assert_eq!(catch_up.next_deadline(), Some(start + second + TIMEOUT));
        assert_eq!(late(&mut catch_up, start + second + TIMEOUT), [2]);
        assert_eq!(late(&mut catch_up, start + 2 * second + TIMEOUT), [4]);
        assert_eq!((catch_up.next_deadline(), reached(&mut catch_up, u64::MAX)), (None, vec![]));
    }

    #[test]
    fn where_all_places_are_taken_the_oldest_goes() {
        let (mut catch_up, start) = (CatchUp::new(WAITING_MAX), Instant::now());
        let gone = |gone: Option<Recover>| gone.map(|question| question.reply_to.command.id);
        let most = u32::try_from(WAITING_MAX).unwrap();
        for command in 0..most {
            assert_eq!(gone(catch_up.wait(question(command, 10 + u64::from(command % 7)), start)), None);
        }
        assert_eq!(reached(&mut catch_up, 10).len(), WAITING_MAX / 7 + 1);
        for command in 0..=most / 7 {
            assert_eq!(gone(catch_up.wait(question(most + command, 10), start)), None);
        }
        let later = start + TIMEOUT / 2;
        assert_eq!(gone(catch_up.wait(question(0, 10), later)), Some(1), "the first of those who wait still");
        assert_eq!(gone(catch_up.wait(question(0, 10), later)), Some(2));
        assert!(catch_up.is_full());
        catch_up.look_again(|_| false);
        assert_eq!(reached(&mut catch_up, u64::MAX), [0; 0]);
        assert_eq!(
            gone(catch_up.wait(question(3, 10), later)),
            Some(3),
            "those who are ready have their answers soon"
        );
        assert_eq!(std::iter::from_fn(|| catch_up.next_ready()).count(), WAITING_MAX);
        assert_eq!(late(&mut catch_up, later), [0; 0]);
    }

    #[test]
    fn who_need_not_wait_whatever_was_read_is_told_apart() {
        let (mut catch_up, start) = (CatchUp::new(WAITING_MAX), Instant::now());
        for command in 1..=3 {
            catch_up.wait(question(command, u64::from(command)), start);
        }
        catch_up.look_again(|question| question.reply_to.command.id != 2);
        assert_eq!((catch_up.has_ready(), catch_up.has_reached(0)), (true, false));
        assert_eq!(catch_up.next_ready().map(|question| question.reply_to.command.id), Some(2));
        assert_eq!(reached(&mut catch_up, 1), [1]);
        assert_eq!(late(&mut catch_up, start + TIMEOUT), [3]);
    }
}
