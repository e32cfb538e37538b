//! Clients that come from a node that is ahead of this one: they have a publication which this node has not
//! read yet. They wait until it has, but not for ever: it may never come. Nor in any number: no budget for answers bounds
//! it, as a question that waits has none.
//!
//! Pure: time is an argument.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::mail::Recover;

/// How long they wait. Nodes that read the same stream are milliseconds apart, unless one of them is in trouble;
/// SDKs wait for 5 s, and are to have an answer before.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// Questions that may wait at once, of all clients: 400 bytes each with its epoch and its place here, 25 MiB together.
const WAITING_MAX: usize = 65_536;

/// Those who wait, by the offset that they wait for.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    waiting: BTreeMap<u64, Vec<Recover>>,
    /// How many they are.
    len: usize,
    /// In the order in which they come, one for each who waits, and some of those who did.
    deadlines: VecDeque<(Instant, u64)>,
}

impl Ahead {
    /// Whether no more may wait.
    pub(super) fn is_full(&self) -> bool {
        self.len >= WAITING_MAX
    }

    /// Lets a question wait from `now` on until this node has read as far as it asks.
    pub(super) fn wait(&mut self, question: Recover, now: Instant) {
        let offset = question.since.offset;
        self.deadlines.push_back((now + PATIENCE, offset));
        if self.deadlines.len() > 2 * WAITING_MAX {
            self.deadlines.retain(|(_, offset)| self.waiting.contains_key(offset));
        }
        self.waiting.entry(offset).or_default().push(question);
        self.len += 1;
    }

    /// Everybody.
    pub(super) fn take_all(&mut self) -> Vec<Recover> {
        self.take_reached(u64::MAX)
    }

    /// Those who need not wait any longer when this node has read up to `offset`.
    pub(super) fn take_reached(&mut self, offset: u64) -> Vec<Recover> {
        let mut reached = Vec::new();
        while let Some(first) = self.waiting.first_entry()
            && *first.key() <= offset
        {
            reached.append(&mut first.remove());
        }
        self.len -= reached.len();
        reached
    }

    /// Those who shall not wait any longer.
    pub(super) fn take_late(&mut self, now: Instant) -> Vec<Recover> {
        let mut late = Vec::new();
        while let Some(&(deadline, offset)) = self.deadlines.front()
            && (deadline <= now || self.waiting.is_empty())
        {
            self.deadlines.pop_front();
            // All with this offset go, those who came later included: they would not fare better.
            late.append(&mut self.waiting.remove(&offset).unwrap_or_default());
        }
        self.len -= late.len();
        late
    }

    /// When [`Self::take_late`] has something to give at the latest.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.front().map(|&(deadline, _)| deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{ClientKey, CommandKey, Encoding, Lane, Since, TopicSlot, Variant};

    fn question(command: u32, offset: u64) -> Recover {
        Recover {
            shard: 0,
            topic: TopicSlot(0),
            variant: Variant { encoding: Encoding::Json, lane: Lane::FIRST },
            name: "a".into(),
            asker: CommandKey { client: ClientKey { slot: 0, generation: 0 }, id: command },
            recoverable: true,
            since: Since { epoch: "e".into(), offset },
            rejects_unrecovered: false,
            has_waited: false,
            budget: None,
        }
    }

    fn commands(due: &[Recover]) -> Vec<u32> {
        due.iter().map(|question| question.asker.id).collect()
    }

    #[test]
    fn who_is_ahead_waits_for_the_offset_or_for_the_deadline() {
        let (mut ahead, start) = (Ahead::default(), Instant::now());
        let second = Duration::from_secs(1);
        ahead.wait(question(1, 10), start);
        ahead.wait(question(2, 12), start + second);
        ahead.wait(question(3, 10), start + second);
        assert_eq!(commands(&ahead.take_reached(9)), [0; 0]);
        assert_eq!(commands(&ahead.take_late(start + second)), [0; 0]);
        assert_eq!(commands(&ahead.take_reached(11)), [1, 3]);
        assert_eq!(ahead.next_deadline(), Some(start + PATIENCE));
        assert_eq!(commands(&ahead.take_late(start + PATIENCE)), [0; 0]);
        assert_eq!(ahead.next_deadline(), Some(start + second + PATIENCE));
        assert_eq!(commands(&ahead.take_late(start + second + PATIENCE)), [2]);
        assert_eq!((ahead.next_deadline(), ahead.take_all().len()), (None, 0));
    }

    #[test]
    fn deadlines_of_those_who_are_gone_are_forgotten() {
        let (mut ahead, start) = (Ahead::default(), Instant::now());
        ahead.wait(question(1, 10), start);
        assert_eq!(commands(&ahead.take_reached(10)), [1]);
        assert_eq!(ahead.take_late(start).len(), 0);
        assert_eq!(ahead.next_deadline(), None);
    }
}
