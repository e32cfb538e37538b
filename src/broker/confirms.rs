//! Outcomes of operators' publishes. They are told at the end of a turn, all together, so that the control thread
//! is woken once for those of one connection.

use crate::domain::mail::{ControlReply, PublishOutcome};

/// Those of this turn, at most as many as a turn takes events and requests.
#[derive(Debug, Default)]
pub(super) struct Confirms(Vec<(ControlReply<PublishOutcome>, PublishOutcome)>);

impl Confirms {
    /// Keeps an outcome until the end of the turn.
    pub(super) fn push(&mut self, reply: ControlReply<PublishOutcome>, outcome: PublishOutcome) {
        self.0.push((reply, outcome));
    }

    /// Tells all of them, the last one first. A connection waits for its first publish: when it is woken, the
    /// others have their answers as well.
    pub(super) fn tell(&mut self) {
        while let Some((reply, outcome)) = self.0.pop() {
            reply.send(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Wake, Waker};

    use futures_util::FutureExt as _;
    use tokio::sync::oneshot;

    use super::*;
    use crate::domain::mail::Numbered;

    /// Counts the answers that are there when it is woken.
    struct Counter {
        later: Mutex<Vec<oneshot::Receiver<PublishOutcome>>>,
        counted: Mutex<Vec<usize>>,
    }

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            let mut later = self.later.lock().unwrap();
            let there = later.iter_mut().filter_map(|answer| answer.try_recv().ok()).count();
            self.counted.lock().unwrap().push(there);
        }
    }

    #[test]
    fn who_waits_for_the_first_outcome_is_woken_once_and_finds_them_all() {
        let (answers, mut outcomes): (Vec<_>, Vec<_>) = (0..5).map(|_| ControlReply::new()).unzip();
        let mut first = outcomes.remove(0);
        let counter = Arc::new(Counter { later: Mutex::new(outcomes), counted: Mutex::default() });
        let waker = Waker::from(Arc::clone(&counter));
        assert!(first.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
        let mut confirms = Confirms::default();
        answers.into_iter().for_each(|answer| confirms.push(answer, Ok(Numbered::new())));
        assert!(counter.counted.lock().unwrap().is_empty(), "the turn is not over");
        confirms.tell();
        assert_eq!(*counter.counted.lock().unwrap(), [4]);
        assert_eq!(first.try_recv().unwrap(), Ok(Numbered::new()));
    }
}
