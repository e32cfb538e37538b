//! Asks all shards at once which topics have subscribers, and how many. Pure: time is an argument.

use std::time::{Duration, Instant};

use crate::base::deadline_table::DeadlineTable;
use crate::domain::mail::{SurveySender, SurveyTimeout, TopicCounts};

/// Surveys that are not answered yet, by their ids.
#[derive(Debug)]
pub(super) struct Surveys {
    open: DeadlineTable<u32, OpenSurvey>,
    next: u32,
    /// How long the shards may take to answer one.
    limit: Duration,
}

#[derive(Debug)]
struct OpenSurvey {
    answer: SurveySender,
    /// Shards whose last part has not come.
    missing: usize,
}

impl Surveys {
    /// None yet. Shards have `limit` to answer each.
    pub(super) fn new(limit: Duration) -> Self {
        Self { open: DeadlineTable::default(), next: 0, limit }
    }

    /// Begins a survey of so many shards, and returns its id. Without shards it is answered at once.
    pub(super) fn begin(&mut self, answer: SurveySender, shards: usize, now: Instant) -> u32 {
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        if shards > 0 {
            self.open.insert(id, OpenSurvey { answer, missing: shards }, Some(now + self.limit));
        }
        id
    }

    /// A shard has answered, or a part of it. The answer is whole when its sender is dropped.
    pub(super) fn part(&mut self, id: u32, topics: TopicCounts, last: bool) {
        let Some(survey) = self.open.get_mut(id) else { return };
        // It fails only if the operator waits no longer.
        let _ = survey.answer.send(Ok(topics));
        survey.missing -= usize::from(last);
        if survey.missing == 0 {
            self.open.remove(id);
        }
    }

    /// Ends the surveys whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(id) = self.open.expire(now) {
            if let Some(survey) = self.open.remove(id) {
                let _ = survey.answer.send(Err(SurveyTimeout));
            }
        }
    }

    /// When [`Self::expire`] has something to do next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.open.next_deadline()
    }

    /// A shard has ended, and it is not known which surveys it left unanswered: all answers end here.
    pub(super) fn end(&mut self) {
        self.open = DeadlineTable::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    const LIMIT: Duration = Duration::from_secs(5);

    #[test]
    fn an_answer_is_whole_when_all_shards_have_said_everything() {
        let (sender, mut answer) = mpsc::unbounded_channel();
        let (mut surveys, now) = (Surveys::new(LIMIT), Instant::now());
        let id = surveys.begin(sender, 2, now);
        let other = surveys.begin(mpsc::unbounded_channel().0, 2, now);
        assert_ne!(id, other);
        surveys.part(id, vec![("a".into(), 1)], false);
        surveys.part(id, vec![], true);
        surveys.part(id, vec![("b".into(), 2)], true);
        surveys.part(id, vec![("late".into(), 9)], true);
        let parts: TopicCounts =
            std::iter::from_fn(|| answer.try_recv().ok()).flat_map(Result::unwrap).collect();
        assert_eq!(parts, [("a".into(), 1), ("b".into(), 2)]);
        assert!(answer.is_closed());
    }

    #[test]
    fn a_survey_whose_time_is_over_ends_with_an_error() {
        let (mut surveys, now) = (Surveys::new(LIMIT), Instant::now());
        let [mut answer, mut later] = [0, 1].map(|second| {
            let (sender, answer) = mpsc::unbounded_channel();
            surveys.begin(sender, 2, now + Duration::from_secs(second));
            answer
        });
        surveys.part(0, vec![("a".into(), 1)], true);
        assert_eq!(surveys.next_deadline(), Some(now + LIMIT));
        surveys.expire(now + LIMIT);
        assert_eq!(answer.try_recv(), Ok(Ok(vec![("a".into(), 1)])));
        assert_eq!(answer.try_recv(), Ok(Err(SurveyTimeout)));
        assert!(answer.is_closed());
        surveys.part(0, vec![], true);
        assert_eq!(surveys.next_deadline(), Some(now + LIMIT + Duration::from_secs(1)));
        assert!(later.try_recv().is_err() && !later.is_closed());
    }

    #[test]
    fn nobody_waits_for_shards_that_are_not_there() {
        let (sender, answer) = mpsc::unbounded_channel();
        let (mut surveys, now) = (Surveys::new(LIMIT), Instant::now());
        surveys.begin(sender, 0, now);
        assert!(answer.is_closed());
        let (sender, answer) = mpsc::unbounded_channel();
        surveys.begin(sender, 3, now);
        surveys.end();
        assert!(answer.is_closed());
        assert_eq!(surveys.next_deadline(), None);
    }
}
