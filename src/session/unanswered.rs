//! The commands of one client that the broker has not answered.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use crate::session::Pending;

/// What a publish or an rpc costs besides its data and what it says of the client, of the bytes that a client may have
/// unanswered. With messages of up to 64 KiB, about a hundred small publishes may be unanswered.
const COST: usize = 512;

/// Commands that wait, in no order. Few clients have several, so the first one costs no allocation of its own.
#[derive(Debug, Default)]
pub(super) struct Unanswered {
    first: Option<Entry>,
    /// Empty if there is no first.
    others: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    id: u32,
    /// Half of a hash of its topic; a collision only makes an unrelated command wait.
    topic: u32,
    pending: Pending,
}

impl Unanswered {
    /// None.
    pub(super) const fn new() -> Self {
        Self { first: None, others: Vec::new() }
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.first.iter().chain(&self.others)
    }

    /// Adds a command.
    pub(super) fn insert(&mut self, id: u32, topic: &str, pending: Pending) {
        let entry = Entry { id, topic: hash(topic), pending };
        match self.first {
            Some(_) => self.others.push(entry),
            None => self.first = Some(entry),
        }
    }

    /// Removes a command, if it is there.
    pub(super) fn remove(&mut self, id: u32) {
        if self.first.is_none_or(|first| first.id != id) {
            self.others.retain(|entry| entry.id != id);
        } else {
            self.first = self.others.pop();
        }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Whether the command with this id is among them.
    pub(super) fn contains(&self, id: u32) -> bool {
        self.entries().any(|entry| entry.id == id)
    }

    /// Whether one of them is about the topic.
    pub(super) fn concerns(&self, topic: &str) -> bool {
        !self.is_empty() && self.has(topic, |_| true)
    }

    /// The same, not counting publishes.
    pub(super) fn changes(&self, topic: &str) -> bool {
        !self.is_empty() && self.has(topic, |pending| !matches!(pending, Pending::Publish(_)))
    }

    fn has(&self, topic: &str, counts: impl Fn(Pending) -> bool) -> bool {
        let topic = hash(topic);
        self.entries().any(|entry| entry.topic == topic && counts(entry.pending))
    }

    /// Bytes of data and clients of the publishes among them, and for each `COST` more.
    pub(super) fn publishing_bytes(&self) -> usize {
        let bytes = self.entries().map(|entry| match entry.pending {
            Pending::Publish(bytes) | Pending::PublishHook(bytes) => COST + bytes as usize,
            Pending::Question | Pending::Subscribe | Pending::Rpc(_) => 0,
        });
        bytes.sum()
    }

    /// How many of them are rpcs, and the bytes of their data, with `COST` more for each.
    pub(super) fn rpcs(&self) -> (usize, usize) {
        let bytes = self.entries().filter_map(|entry| match entry.pending {
            Pending::Rpc(bytes) => Some(COST + bytes as usize),
            Pending::Publish(_) | Pending::PublishHook(_) | Pending::Question | Pending::Subscribe => None,
        });
        bytes.fold((0, 0), |(count, sum), bytes| (count + 1, sum + bytes))
    }

    /// How many of them are subscribes.
    pub(super) fn subscribes(&self) -> usize {
        self.entries().filter(|entry| entry.pending == Pending::Subscribe).count()
    }
}

fn hash(topic: &str) -> u32 {
    (FixedState::default().hash_one(topic) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_whichever_are_answered_first() {
        for order in [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]] {
            let mut all = Unanswered::default();
            all.insert(1, "a", Pending::Publish(88));
            all.insert(2, "b", Pending::Question);
            all.insert(3, "c", Pending::Subscribe);
            let mut left = vec![(1, "a", false, 600, 0), (2, "b", true, 0, 0), (3, "c", true, 0, 1)];
            for id in order {
                for &(id, topic, changes, ..) in &left {
                    assert_eq!(
                        (all.contains(id), all.concerns(topic), all.changes(topic)),
                        (true, true, changes)
                    );
                }
                assert!(!all.concerns("d") && !all.contains(4));
                assert_eq!(all.publishing_bytes(), left.iter().map(|one| one.3).sum::<usize>());
                assert_eq!(all.subscribes(), left.iter().map(|one| one.4).sum::<usize>());
                all.remove(4);
                all.remove(id);
                left.retain(|one| one.0 != id);
                assert!(!all.contains(id));
            }
            assert!(all.is_empty());
        }
    }
}
