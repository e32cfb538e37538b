//! Messages that were taken already, by their `message-id`: what a publisher sends again, because it saw no
//! confirm, is pushed once.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::config::Amqp;

/// The ids that count.
#[derive(Debug)]
pub(super) enum Seen {
    /// Of a queue, or of publications that go round in memory.
    Latest(Latest),
    /// Of a stream.
    InStream(InStream),
}

impl Seen {
    /// As the source asks for it.
    pub(super) fn new(amqp: &Amqp) -> Self {
        if amqp.reads_stream() {
            Self::InStream(InStream::new(u64::try_from(amqp.message_ids).unwrap_or(u64::MAX)))
        } else {
            Self::Latest(Latest::new(amqp.message_ids))
        }
    }

    /// Whether a message with this id was taken before. If not, it is from now on. `offset` is its place in a stream,
    /// if it comes from one.
    pub(super) fn has(&mut self, id: &str, offset: Option<u64>) -> bool {
        match self {
            Self::Latest(latest) => latest.has(id),
            Self::InStream(window) => offset.is_some_and(|offset| window.has(id, offset)),
        }
    }

    /// What comes from here on is another stream, or another part of it.
    pub(super) fn forget(&mut self) {
        match self {
            Self::Latest(latest) => *latest = Latest::new(latest.window),
            Self::InStream(in_stream) => *in_stream = InStream::new(in_stream.window),
        }
    }
}

/// The ids of a window that is counted in the stream's offsets. What is a repetition depends on the `window`
/// messages before it alone: so all nodes agree, wherever they began to read.
#[derive(Debug)]
pub(super) struct InStream {
    window: u64,
    /// With the offsets where they were last.
    known: HashMap<Arc<str>, u64>,
    /// Every occurrence, in the order of the offsets.
    order: VecDeque<(Arc<str>, u64)>,
}

impl InStream {
    fn new(window: u64) -> Self {
        Self { window, known: HashMap::new(), order: VecDeque::new() }
    }

    fn has(&mut self, id: &str, offset: u64) -> bool {
        if self.window == 0 {
            return false;
        }
        while let Some((_, at)) = self.order.front()
            && *at < offset.saturating_sub(self.window)
            && let Some((id, at)) = self.order.pop_front()
        {
            if self.known.get(&id) == Some(&at) {
                self.known.remove(&id);
            }
        }
        let id: Arc<str> = id.into();
        self.order.push_back((Arc::clone(&id), offset));
        self.known.insert(id, offset).is_some()
    }
}

/// The latest ids. They outlive a link: what a queue gives again after it is known.
#[derive(Debug)]
pub(super) struct Latest {
    window: usize,
    known: HashSet<Arc<str>>,
    /// In the order in which they came.
    order: VecDeque<Arc<str>>,
}

impl Latest {
    /// Remembers the latest `window` ids.
    fn new(window: usize) -> Self {
        Self { window, known: HashSet::new(), order: VecDeque::new() }
    }

    /// Whether a message with this id was taken before. If not, it is from now on.
    fn has(&mut self, id: &str) -> bool {
        if self.window == 0 {
            return false;
        }
        if self.known.contains(id) {
            return true;
        }
        let id: Arc<str> = id.into();
        self.known.insert(Arc::clone(&id));
        self.order.push_back(id);
        if self.order.len() > self.window
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_known_as_long_as_it_is_among_the_latest() {
        let mut seen = Latest::new(2);
        assert_eq!(
            ["a", "a", "b", "a", "c", "b", "a"].map(|id| seen.has(id)),
            [false, true, false, true, false, true, false]
        );
        let mut nothing = Latest::new(0);
        assert_eq!(["a", "a"].map(|id| nothing.has(id)), [false, false]);
    }

    /// Whether an id is a repetition is the same for a node that began to read later, as soon as it has read
    /// a whole window.
    #[test]
    fn in_a_stream_the_window_before_a_message_decides_alone() {
        let stream = [("a", 1), ("a", 4), ("b", 5), ("a", 7), ("b", 9), ("a", 11), ("a", 14)];
        let verdicts = |from: usize| {
            let mut seen = InStream::new(3);
            stream[from..].iter().map(move |&(id, offset)| seen.has(id, offset)).collect::<Vec<_>>()
        };
        let all = verdicts(0);
        assert_eq!(all, [false, true, false, true, false, false, true]);
        for from in 1..stream.len() {
            for (at, verdict) in (from..).zip(verdicts(from)) {
                let has_read_a_window = stream[at].1 >= stream[from].1 + 3;
                assert!(!has_read_a_window || verdict == all[at], "{at} from {from}");
            }
        }
        let mut nothing = InStream::new(0);
        assert_eq!([1, 2].map(|offset| nothing.has("a", offset)), [false, false]);
    }

    #[test]
    fn ids_outside_the_window_take_no_room() {
        let mut seen = InStream::new(10);
        for offset in 0..1000 {
            seen.has(&(offset % 7).to_string(), offset);
            seen.has(&format!("{offset} alone"), offset);
        }
        assert_eq!((seen.order.len(), seen.known.len()), (22, 7 + 11));
    }
}
