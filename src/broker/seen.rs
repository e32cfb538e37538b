//! Messages that were taken already, by their `message-id`: what a publisher sends again, because it saw no
//! confirm, is pushed once.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// The latest ids.
#[derive(Debug)]
pub(super) struct Seen {
    window: usize,
    known: HashSet<Arc<str>>,
    /// In the order in which they came, with the tags of their messages; 0: of a channel that is gone.
    order: VecDeque<(Arc<str>, u64)>,
}

impl Seen {
    /// Remembers the latest `window` ids.
    pub(super) fn new(window: usize) -> Self {
        Self { window, known: HashSet::new(), order: VecDeque::new() }
    }

    /// Whether a message with this id was taken before. If not, it is from now on.
    pub(super) fn has(&mut self, id: &str, tag: u64) -> bool {
        if self.window == 0 {
            return false;
        }
        if self.known.contains(id) {
            return true;
        }
        let id: Arc<str> = id.into();
        self.known.insert(Arc::clone(&id));
        self.order.push_back((id, tag));
        if self.order.len() > self.window
            && let Some((oldest, _)) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        false
    }

    /// The channel is gone: messages from the tag `first_open` on come again, and were not handed over, or not
    /// all of them.
    pub(super) fn channel_is_gone(&mut self, first_open: Option<u64>) {
        while let (Some(first_open), Some((_, tag))) = (first_open, self.order.back())
            && *tag >= first_open
            && let Some((id, _)) = self.order.pop_back()
        {
            self.known.remove(&id);
        }
        self.order.iter_mut().for_each(|(_, tag)| *tag = 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_known_as_long_as_it_is_among_the_latest() {
        let mut seen = Seen::new(2);
        assert_eq!(
            ["a", "a", "b", "a", "c", "b", "a"].map(|id| seen.has(id, 1)),
            [false, true, false, true, false, true, false]
        );
        let mut nothing = Seen::new(0);
        assert_eq!(["a", "a"].map(|id| nothing.has(id, 1)), [false, false]);
    }

    #[test]
    fn what_was_not_handed_over_when_the_channel_went_may_come_again() {
        let mut seen = Seen::new(10);
        for (id, tag) in [("a", 1), ("b", 2), ("c", 3)] {
            assert!(!seen.has(id, tag));
        }
        seen.channel_is_gone(Some(2));
        assert_eq!(["a", "b"].map(|id| seen.has(id, 1)), [true, false]);
        seen.channel_is_gone(None);
        assert!(seen.has("b", 1), "everything was handed over");
        // Tags of the old channel say nothing about those of the new one.
        seen.channel_is_gone(Some(1));
        assert!(seen.has("a", 1));
    }
}
