//! The room for the answers to a client's requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Bytes that are counted for each answer besides its publications: its reply has an epoch, an offset and some flags.
pub const ANSWER_COST: usize = 512;

/// The bytes that the answers to some of one client's requests may have together. The requests share it. Only
/// the broker thread takes from it, in their order: the first answer whatever its size, further ones as far
/// as there is room. After the first that finds no room, all others wait too, so that no answer overtakes
/// another.
#[derive(Debug)]
pub struct AnswerBudget {
    left: AtomicUsize,
    is_begun: AtomicBool,
}

impl AnswerBudget {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(bytes), is_begun: AtomicBool::new(false) })
    }

    /// Takes room for an answer with so many bytes of publications. Returns false if there is none.
    #[must_use]
    pub fn take(&self, bytes: usize) -> bool {
        let (left, cost) = (self.left.load(Ordering::Relaxed), ANSWER_COST + bytes);
        let is_first = !self.is_begun.swap(true, Ordering::Relaxed);
        let fits = cost <= left;
        self.left.store(if fits { left - cost } else { 0 }, Ordering::Relaxed);
        fits || is_first
    }

    /// Whether there is no room even for the smallest answer.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.is_begun.load(Ordering::Relaxed) && self.left.load(Ordering::Relaxed) < ANSWER_COST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_answer_may_always_be_given_and_others_as_far_as_there_is_room() {
        let none = AnswerBudget::new(0);
        assert_eq!([none.take(1 << 20), none.take(0), none.take(0)], [true, false, false]);
        let three = AnswerBudget::new(3 * ANSWER_COST + 100);
        assert_eq!([three.take(50), three.take(50)], [true, true]);
        assert!(!three.is_spent());
        assert_eq!([three.take(0), three.take(0)], [true, false]);
        assert!(three.is_spent());
    }

    #[test]
    fn none_overtakes_one_that_has_no_room() {
        let budget = AnswerBudget::new(10 * ANSWER_COST);
        assert_eq!([budget.take(0), budget.take(1 << 20), budget.take(0)], [true, false, false]);
        assert!(budget.is_spent());
    }
}
