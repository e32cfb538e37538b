//! The deduplication window: publications that came already, by topic and `message-id`. A message that its publisher
//! sends again because it saw no confirm is pushed once.
//!
//! An id counts for the topics of its message for which a publication was *admitted*: it could have been delivered,
//! whether or not anybody listens. A message that became a dead letter leaves no trace, so that it can be mended and sent
//! again under its id. One event for two topics may come as two messages with one id.
//!
//! # Why all nodes agree
//!
//! Whether a publication is a repetition is a function of the messages before it, and only of a bounded number of
//! them:
//!
//! * Whether a publication is admitted is decided by its message and the configuration alone. It is one *occurrence* of
//!   its pair of topic and id then, whether it is a repetition or not.
//! * Known are the pairs of the latest occurrences: at most [`PAIRS_PER_MESSAGE`] times the window, and none of a
//!   message that is further back than the window.
//! * No occurrence is forgotten in the middle of a message, so that the order of its topics does not matter.
//!
//! So a node that has read a whole window of a stream knows what all others know, wherever it began to read; and a node
//! that reads back begins a window earlier. (A pair is known by 128 bits of two hashes, with seeds of the node's own. Two
//! pairs with the same bits are not to be expected.)
//!
//! A queue has no offsets. Its messages are numbered as they come, and ids are kept when the link is lost: RabbitMQ then
//! sends again what was not acknowledged.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};

use rustc_hash::FxHashMap;

/// Occurrences that are remembered, in windows: messages have several topics sometimes.
const PAIRS_PER_MESSAGE: usize = 4;

/// A topic and an id.
type Pair = (u64, u64);

/// The publications of the latest messages.
#[derive(Debug)]
pub(super) struct DedupWindow {
    /// In messages.
    window: u64,
    pairs_max: usize,
    hashers: [RandomState; 2],
    /// The pairs that count, each with the number of the message with its last occurrence.
    known: FxHashMap<Pair, u64>,
    /// Every occurrence, in the order of the messages.
    order: VecDeque<(Pair, u64)>,
    /// Messages with an id that did not come from a stream.
    counted: u64,
}

/// A message with an id that counts, while its publications are taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Occurrence<'a> {
    id: &'a str,
    place: u64,
}

impl DedupWindow {
    /// Remembers publications of the latest `window` messages; none if it is 0.
    pub(super) fn new(window: usize) -> Self {
        Self {
            window: u64::try_from(window).unwrap_or(u64::MAX),
            pairs_max: window.saturating_mul(PAIRS_PER_MESSAGE),
            hashers: [RandomState::new(), RandomState::new()],
            known: FxHashMap::default(),
            order: VecDeque::new(),
            counted: 0,
        }
    }

    /// Whether ids count at all.
    pub(super) fn is_on(&self) -> bool {
        self.window > 0
    }

    /// A message comes; those that are too far back are forgotten. `offset` is its place in a stream, if it comes from
    /// one. Returns what to take its publications with, if it has an id that counts.
    pub(super) fn begin<'a>(&mut self, id: Option<&'a str>, offset: Option<u64>) -> Option<Occurrence<'a>> {
        let id = id.filter(|_| self.is_on())?;
        let place = offset.unwrap_or_else(|| {
            self.counted += 1;
            self.counted
        });
        let first = place.saturating_sub(self.window);
        while let Some(&(pair, at)) = self.order.front()
            && (at < first || self.order.len() > self.pairs_max)
        {
            self.order.pop_front();
            if self.known.get(&pair) == Some(&at) {
                self.known.remove(&pair);
            }
        }
        Some(Occurrence { id, place })
    }

    /// Adds a publication that was admitted. Returns whether it is a repetition.
    pub(super) fn insert(&mut self, Occurrence { id, place }: Occurrence<'_>, topic: &str) -> bool {
        let [first, second] = &self.hashers;
        let pair = (first.hash_one((topic, id)), second.hash_one((topic, id)));
        self.order.push_back((pair, place));
        self.known.insert(pair, place).is_some()
    }

    /// What comes from here on is another stream, or another part of it.
    pub(super) fn forget(&mut self) {
        self.known = FxHashMap::default();
        self.order = VecDeque::new();
        self.counted = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A message: its place, its id, and the topics for which it was admitted.
    type Message = (u64, &'static str, Vec<&'static str>);

    /// Which publications of a message are repetitions.
    fn take(window: &mut DedupWindow, (offset, id, topics): &Message) -> Vec<bool> {
        let Some(occurrence) = window.begin(Some(id), Some(*offset)) else {
            return vec![false; topics.len()];
        };
        topics.iter().map(|topic| window.insert(occurrence, topic)).collect()
    }

    fn verdicts(window: usize, stream: &[Message]) -> Vec<Vec<bool>> {
        let mut window = DedupWindow::new(window);
        stream.iter().map(|message| take(&mut window, message)).collect()
    }

    #[test]
    fn an_id_is_known_for_the_topics_that_it_came_to() {
        let stream =
            [(1, "x", vec!["a"]), (2, "x", vec!["b"]), (3, "x", vec!["a", "b", "c"]), (4, "y", vec!["a"])];
        let expected = [vec![false], vec![false], vec![true, true, false], vec![false]];
        assert_eq!(verdicts(10, &stream), expected);
        assert_eq!(verdicts(0, &stream).concat(), [false; 6], "no window, no repetitions");
        let mut window = DedupWindow::new(10);
        assert!(window.begin(None, Some(1)).is_none());
        let (ab, a) = (window.begin(Some("b"), None).unwrap(), window.begin(Some(""), None).unwrap());
        assert_eq!(
            [window.insert(ab, "a"), window.insert(a, "ab")],
            [false, false],
            "what is joined is told apart"
        );
    }

    #[test]
    fn of_a_queue_the_latest_messages_count() {
        let mut window = DedupWindow::new(2);
        let mut has = |id: &str| {
            let occurrence = window.begin(Some(id), None).unwrap();
            window.insert(occurrence, "t")
        };
        assert_eq!(
            ["a", "a", "b", "c", "a", "b", "a"].map(&mut has),
            [false, true, false, false, false, false, true]
        );
    }

    #[test]
    fn what_is_outside_the_window_takes_no_room() {
        let mut window = DedupWindow::new(10);
        for offset in 0..1000 {
            for id in [&(offset % 7).to_string(), &format!("{offset} alone")] {
                let occurrence = window.begin(Some(id), Some(offset)).unwrap();
                window.insert(occurrence, "t");
            }
        }
        assert_eq!((window.order.len(), window.known.len()), (22, 7 + 11));
    }

    #[test]
    fn messages_of_many_topics_are_bounded_and_a_repetition_is_known_as_a_whole() {
        let mut window = DedupWindow::new(10);
        let topics: Vec<_> = (0..100).map(|topic| topic.to_string()).collect();
        for offset in 0..20 {
            let id = (offset / 2).to_string();
            let occurrence = window.begin(Some(&id), Some(offset)).unwrap();
            assert!(window.order.len() <= 10 * PAIRS_PER_MESSAGE);
            let repeats = topics.iter().filter(|topic| window.insert(occurrence, topic)).count();
            assert_eq!(repeats, if offset % 2 == 0 { 0 } else { 40 }, "as many as there is room for");
        }
        window.begin(Some("x"), Some(20));
        assert_eq!((window.order.len(), window.known.len()), (40, 40));
        window.begin(Some("x"), Some(100));
        assert_eq!((window.order.len(), window.known.len()), (0, 0));
    }

    fn stream() -> impl Strategy<Value = Vec<Message>> {
        let id = prop::sample::select(vec!["x", "y", "z", "1", "2", "3", "4"]);
        let topics = prop::sample::subsequence(vec!["a", "b", "c", "d", "e", "f"], 0..=6);
        let message = (1..4_u64, id, topics);
        prop::collection::vec(message, 1..60).prop_map(|messages| {
            let mut offset = 0;
            let at = |(step, id, topics)| {
                offset += step;
                (offset, id, topics)
            };
            messages.into_iter().map(at).collect()
        })
    }

    proptest! {
        /// Whoever has read a whole window says the same of what comes next, wherever it began to read.
        #[test]
        fn all_nodes_agree(stream in stream(), window in 1..12_usize) {
            let all = verdicts(window, &stream);
            for from in 1..stream.len() {
                let first_sure = stream[from].0 + window as u64;
                for (at, verdict) in (from..).zip(verdicts(window, &stream[from..])) {
                    prop_assert!(stream[at].0 < first_sure || verdict == all[at], "{at} from {from}: {stream:?}");
                }
            }
        }

        /// Nothing is a repetition that did not come before, and what came within both bounds is one.
        #[test]
        fn it_is_a_bounded_memory_of_what_came(stream in stream(), window in 1..12_usize) {
            let all = verdicts(window, &stream);
            for (at, (offset, id, topics)) in stream.iter().enumerate() {
                for (topic, verdict) in topics.iter().zip(&all[at]) {
                    let before = stream[..at].iter().rposition(|(_, other, others)| other == id && others.contains(topic));
                    let pairs_since = |from: usize| stream[from..at].iter().map(|message| message.2.len()).sum::<usize>();
                    let is_sure = before.is_some_and(|before| {
                        stream[before].0 + window as u64 >= *offset && pairs_since(before) <= window * PAIRS_PER_MESSAGE
                    });
                    prop_assert!(!verdict || before.is_some());
                    prop_assert!(*verdict || !is_sure);
                }
            }
        }
    }
}
