//! Asks all shards at once which topics have subscribers, and how many.

use rustc_hash::FxHashMap;
use tokio::sync::mpsc;

use crate::domain::mail::TopicCounts;

/// The questions that are not answered yet.
#[derive(Debug, Default)]
pub(super) struct Surveys {
    open: FxHashMap<u32, Survey>,
    next: u32,
}

#[derive(Debug)]
struct Survey {
    answer: mpsc::UnboundedSender<TopicCounts>,
    /// Shards that have not said everything.
    missing: usize,
}

impl Surveys {
    /// A question to so many shards; returns its number. Without shards it is answered at once.
    pub(super) fn open(&mut self, answer: mpsc::UnboundedSender<TopicCounts>, shards: usize) -> u32 {
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        if shards > 0 {
            self.open.insert(id, Survey { answer, missing: shards });
        }
        id
    }

    /// A shard has answered, or a part of it. The answer is whole when its sender is dropped.
    pub(super) fn part(&mut self, id: u32, topics: TopicCounts, last: bool) {
        let Some(survey) = self.open.get_mut(&id) else { return };
        // Whoever asked may have lost patience; the shards' answers come all the same.
        let _ = survey.answer.send(topics);
        survey.missing -= usize::from(last);
        if survey.missing == 0 {
            self.open.remove(&id);
        }
    }

    /// A shard has ended, and it is not known which questions it left unanswered: all answers end here.
    pub(super) fn end(&mut self) {
        self.open.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_all_shards_have_said_everything() {
        let (sender, mut answer) = mpsc::unbounded_channel();
        let mut surveys = Surveys::default();
        let id = surveys.open(sender, 2);
        let other = surveys.open(mpsc::unbounded_channel().0, 2);
        assert_ne!(id, other);
        surveys.part(id, vec![("a".into(), 1)], false);
        surveys.part(id, vec![], true);
        surveys.part(id, vec![("b".into(), 2)], true);
        surveys.part(id, vec![("late".into(), 9)], true);
        let parts: TopicCounts = std::iter::from_fn(|| answer.try_recv().ok()).flatten().collect();
        assert_eq!(parts, [("a".into(), 1), ("b".into(), 2)]);
        assert!(answer.is_closed());
    }

    #[test]
    fn nobody_waits_for_shards_that_are_not_there() {
        let (sender, answer) = mpsc::unbounded_channel();
        let mut surveys = Surveys::default();
        surveys.open(sender, 0);
        assert!(answer.is_closed());
        let (sender, answer) = mpsc::unbounded_channel();
        surveys.open(sender, 3);
        surveys.end();
        assert!(answer.is_closed());
    }
}
