//! A slab: values in slots whose numbers are reused.
//!
//! Memory is allocated in chunks that never move. A vector would copy all values each time it grows: a pause
//! of milliseconds for a million topics, and as much memory again.

use std::ops::{Index, IndexMut};

/// Values per chunk. A power of two, so that a lookup is a shift and a mask.
const CHUNK: usize = 1 << 8;

/// Values of type `T`, each with a number that is unique while the value exists.
#[derive(Debug)]
pub struct Slab<T> {
    /// All chunks are full but the last. Entries never move.
    chunks: Vec<Vec<Option<T>>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// The number that the next value gets.
    #[must_use]
    pub fn vacancy(&self) -> u32 {
        self.free.last().copied().unwrap_or_else(|| self.numbers())
    }

    /// Inserts a value.
    ///
    /// # Panics
    /// If there are 4,294,967,296 values, which memory does not allow.
    pub fn insert(&mut self, value: T) -> u32 {
        if let Some(number) = self.free.pop() {
            *self.entry(number) = Some(value);
            return number;
        }
        let number = self.numbers();
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => last.push(Some(value)),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(Some(value));
                self.chunks.push(chunk);
            }
        }
        number
    }

    /// Removes a value, and frees its number.
    ///
    /// # Panics
    /// If there is no such value.
    pub fn remove(&mut self, number: u32) -> T {
        let value = self.entry(number).take();
        self.free.push(number);
        value.unwrap_or_else(|| nobody(number))
    }

    /// The value under `number`, if there is one.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<&T> {
        let number = number as usize;
        self.chunks.get(number / CHUNK)?.get(number % CHUNK)?.as_ref()
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.numbers() as usize - self.free.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All numbers, taken or free, are below this one.
    #[must_use]
    pub fn numbers(&self) -> u32 {
        let last = self.chunks.last().map_or(0, Vec::len);
        let numbers = self.chunks.len().saturating_sub(1) * CHUNK + last;
        u32::try_from(numbers).expect("fewer values than bytes of memory")
    }

    /// All values, with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let entries = self.chunks.iter().flatten();
        (0..).zip(entries).filter_map(|(number, entry)| Some((number, entry.as_ref()?)))
    }

    fn entry(&mut self, number: u32) -> &mut Option<T> {
        &mut self.chunks[number as usize / CHUNK][number as usize % CHUNK]
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, number: u32) -> &T {
        self.get(number).unwrap_or_else(|| nobody(number))
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        self.entry(number).as_mut().unwrap_or_else(|| nobody(number))
    }
}

#[cold]
fn nobody(number: u32) -> ! {
    panic!("nothing is under the number {number}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Against a map, across the edges of chunks.
        #[test]
        fn it_holds_what_was_put_in_and_not_taken_out(steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..2000)) {
            let (mut slab, mut model) = (Slab::default(), BTreeMap::new());
            for (value, (insert, which)) in steps.into_iter().enumerate() {
                if insert || model.is_empty() {
                    let expected = slab.vacancy();
                    let number = slab.insert(value);
                    prop_assert_eq!(number, expected);
                    prop_assert_eq!(model.insert(number, value), None);
                } else {
                    let number = *model.keys().nth(which.index(model.len())).unwrap();
                    prop_assert_eq!(Some(slab.remove(number)), model.remove(&number));
                    prop_assert!(slab.get(number).is_none());
                }
                prop_assert_eq!(slab.len(), model.len());
            }
            prop_assert!(slab.iter().map(|(number, &value)| (number, value)).eq(model));
        }
    }

    #[test]
    fn values_stay_where_they_are() {
        let mut slab = Slab::default();
        let first = slab.insert(0_usize);
        let address = &raw const slab[first];
        for value in 0..10 * CHUNK {
            slab.insert(value);
        }
        assert_eq!(&raw const slab[first], address);
        assert_eq!(slab.numbers() as usize, 10 * CHUNK + 1);
    }

    #[test]
    #[should_panic(expected = "nothing is under the number 0")]
    fn what_is_not_there_is_not_found() {
        let mut slab = Slab::default();
        let number = slab.insert('a');
        slab.remove(number);
        let _ = slab[number];
    }
}
