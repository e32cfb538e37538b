//! Values that wait, by key, each with a deadline or without one.
//!
//! Keys are ordered: by arrival, or by what is waited for. The first key and the earliest deadline are found at once. The
//! owner of a table limits the number of values. Pure: time is an argument.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Instant;

/// Stale deadlines stay in the heap until there are so many more than two for each valid one.
const STALE: usize = 1024;

/// Values by key, each with a deadline or without one.
#[derive(Debug)]
pub struct DeadlineTable<K, V> {
    entries: BTreeMap<K, Entry<V>>,
    /// The deadlines of entries, and stale ones. The earliest is never stale.
    deadlines: BinaryHeap<Reverse<(Deadline, K)>>,
    /// How many deadlines were set.
    set: u64,
    /// How many entries have a deadline.
    limited: usize,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    deadline: Option<Deadline>,
}

/// A time, and a number that rises with each deadline that is set: deadlines at the same time pass in the order in
/// which they were set.
type Deadline = (Instant, u64);

impl<K: Ord, V> Default for DeadlineTable<K, V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), deadlines: BinaryHeap::new(), set: 0, limited: 0 }
    }
}

impl<K: Ord + Copy, V> DeadlineTable<K, V> {
    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a value. `key` must be new.
    pub fn insert(&mut self, key: K, value: V, deadline: Option<Instant>) {
        let before = self.entries.insert(key, Entry { value, deadline: None });
        debug_assert!(before.is_none(), "a key is used once");
        self.set_deadline(key, deadline);
    }

    /// The value of this key.
    #[must_use]
    pub fn get(&self, key: K) -> Option<&V> {
        self.entries.get(&key).map(|entry| &entry.value)
    }

    /// The same, to be changed.
    #[must_use]
    pub fn get_mut(&mut self, key: K) -> Option<&mut V> {
        self.entries.get_mut(&key).map(|entry| &mut entry.value)
    }

    /// The first key.
    #[must_use]
    pub fn first(&self) -> Option<K> {
        self.entries.first_key_value().map(|(key, _)| *key)
    }

    /// All of them, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.entries.iter().map(|(key, entry)| (*key, &entry.value))
    }

    /// Takes a value out.
    pub fn remove(&mut self, key: K) -> Option<V> {
        let entry = self.entries.remove(&key)?;
        self.limited -= usize::from(entry.deadline.is_some());
        self.forget_stale();
        Some(entry.value)
    }

    /// Takes out the values that `goes` accepts, in the order of their keys.
    pub fn extract(&mut self, mut goes: impl FnMut(&V) -> bool) -> Vec<V> {
        let keys: Vec<K> = self.iter().filter(|(_, value)| goes(value)).map(|(key, _)| key).collect();
        keys.into_iter().filter_map(|key| self.remove(key)).collect()
    }

    /// Gives a value another deadline, or none.
    pub fn set_deadline(&mut self, key: K, deadline: Option<Instant>) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let deadline = deadline.map(|at| (at, self.set));
        self.set += 1;
        let before = std::mem::replace(&mut entry.deadline, deadline);
        self.limited = self.limited + usize::from(deadline.is_some()) - usize::from(before.is_some());
        self.deadlines.extend(deadline.map(|deadline| Reverse((deadline, key))));
        self.forget_stale();
    }

    /// The next key whose deadline has passed. The value stays, without a deadline.
    pub fn expire(&mut self, now: Instant) -> Option<K> {
        let &Reverse((_, key)) = self.deadlines.peek().filter(|Reverse(((at, _), _))| *at <= now)?;
        self.set_deadline(key, None);
        Some(key)
    }

    /// The earliest deadline.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.peek().map(|Reverse(((at, _), _))| *at)
    }

    /// Removes stale deadlines: those before the earliest valid one, and all of them if they are many.
    fn forget_stale(&mut self) {
        let counts = |Reverse((deadline, key)): &Reverse<(Deadline, K)>| {
            self.entries.get(key).is_some_and(|entry| entry.deadline == Some(*deadline))
        };
        while self.deadlines.peek().is_some_and(|first| !counts(first)) {
            self.deadlines.pop();
        }
        if self.deadlines.len() > 2 * self.limited + STALE {
            self.deadlines.retain(counts);
            // A flood must not leave its capacity behind.
            self.deadlines.shrink_to(2 * self.limited + STALE);
        }
        if self.deadlines.is_empty() && self.deadlines.capacity() > STALE {
            self.deadlines = BinaryHeap::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn expired(table: &mut DeadlineTable<u32, char>, now: Instant) -> Vec<u32> {
        std::iter::from_fn(|| table.expire(now)).collect()
    }

    #[test]
    fn deadlines_are_over_in_their_order_and_values_stay_until_they_are_removed() {
        let (mut table, start) = (DeadlineTable::default(), Instant::now());
        let at = |seconds| Some(start + Duration::from_secs(seconds));
        for (key, deadline) in [(1, at(3)), (2, at(1)), (3, None), (5, at(2)), (4, at(2))] {
            table.insert(key, 'a', deadline);
        }
        assert_eq!((table.next_deadline(), table.first(), table.len()), (at(1), Some(1), 5));
        assert_eq!(expired(&mut table, start), [0; 0]);
        assert_eq!(table.remove(2), Some('a'));
        assert_eq!(table.next_deadline(), at(2), "none waits for what is gone");
        assert_eq!(expired(&mut table, start + Duration::from_secs(2)), [5, 4]);
        assert_eq!((table.get(4), table.next_deadline()), (Some(&'a'), at(3)));
        table.set_deadline(1, None);
        table.set_deadline(3, at(9));
        table.set_deadline(3, at(8));
        assert_eq!(table.next_deadline(), at(8));
        assert_eq!(expired(&mut table, start + Duration::from_secs(9)), [3]);
        assert_eq!((table.next_deadline(), table.len()), (None, 4));
    }

    #[test]
    fn deadlines_of_those_that_are_gone_are_forgotten() {
        let (mut table, start) = (DeadlineTable::default(), Instant::now());
        table.insert(0, 'a', Some(start));
        for key in 1..10_000 {
            table.insert(key, 'a', Some(start + Duration::from_secs(1)));
            assert_eq!(table.remove(key), Some('a'));
        }
        assert!(table.deadlines.len() <= STALE + 3, "{}", table.deadlines.len());
        assert_eq!(table.remove(0), Some('a'));
        assert_eq!((table.next_deadline(), table.deadlines.len(), table.is_empty()), (None, 0, true));
    }

    #[test]
    fn those_that_are_picked_go_in_the_order_of_their_keys() {
        let mut table = DeadlineTable::default();
        for (key, value) in [(3, 'c'), (1, 'a'), (2, 'b')] {
            table.insert(key, value, None);
        }
        assert_eq!(table.extract(|value| *value != 'b'), ['a', 'c']);
        assert_eq!(table.iter().collect::<Vec<_>>(), [(2, &'b')]);
    }
}
