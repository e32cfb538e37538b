//! Values by small numbers that are used again.
//!
//! Memory is taken in pieces that stay where they are. A vector would do the same job, but copy everything
//! each time it grows: a pause of milliseconds for a million topics, and as much memory again that has been
//! used once.

use std::ops::{Index, IndexMut};

/// Values in one piece of memory. A power of two, so that finding one takes a shift and a mask.
const PIECE: usize = 1 << 8;

/// Values of type `T`, each under a number that nobody else has as long as it is there.
#[derive(Debug)]
pub struct Slab<T> {
    /// All full but the last. The entries never move.
    pieces: Vec<Vec<Option<T>>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { pieces: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// The number that the next value gets.
    #[must_use]
    pub fn vacancy(&self) -> u32 {
        self.free.last().copied().unwrap_or_else(|| self.numbers())
    }

    /// Puts a value in.
    ///
    /// # Panics
    /// With 4,294,967,296 values: memory ends earlier.
    pub fn insert(&mut self, value: T) -> u32 {
        if let Some(number) = self.free.pop() {
            *self.entry(number) = Some(value);
            return number;
        }
        let number = self.numbers();
        match self.pieces.last_mut() {
            Some(last) if last.len() < PIECE => last.push(Some(value)),
            _ => {
                let mut piece = Vec::with_capacity(PIECE);
                piece.push(Some(value));
                self.pieces.push(piece);
            }
        }
        number
    }

    /// Takes a value out, and frees its number.
    ///
    /// # Panics
    /// If there is none.
    pub fn remove(&mut self, number: u32) -> T {
        let value = self.entry(number).take();
        self.free.push(number);
        value.unwrap_or_else(|| nobody(number))
    }

    /// The value under `number`, if there is one.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<&T> {
        let number = number as usize;
        self.pieces.get(number / PIECE)?.get(number % PIECE)?.as_ref()
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.numbers() as usize - self.free.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All numbers, taken or free, are below this one.
    #[must_use]
    pub fn numbers(&self) -> u32 {
        let last = self.pieces.last().map_or(0, Vec::len);
        let numbers = self.pieces.len().saturating_sub(1) * PIECE + last;
        u32::try_from(numbers).expect("fewer values than bytes of memory")
    }

    /// All values, with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let entries = self.pieces.iter().flatten();
        (0..).zip(entries).filter_map(|(number, entry)| Some((number, entry.as_ref()?)))
    }

    fn entry(&mut self, number: u32) -> &mut Option<T> {
        &mut self.pieces[number as usize / PIECE][number as usize % PIECE]
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
        /// Against a map, across the edges of pieces.
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
        for value in 0..10 * PIECE {
            slab.insert(value);
        }
        assert_eq!(&raw const slab[first], address);
        assert_eq!(slab.numbers() as usize, 10 * PIECE + 1);
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
