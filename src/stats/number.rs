//! Numbers that one thread writes and every thread may read.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers that are allocated together.
const PART: usize = 256;
/// Together they have a number for each namespace that there can be.
const PARTS: usize = 256;

/// A number that its one writer moves and everybody may read. Serves as counter and as gauge.
#[derive(Debug, Default)]
pub struct Number(AtomicU64);

impl Number {
    /// Adds `n`. For the one writing thread only: two writers would lose additions.
    pub fn add(&self, n: u64) {
        self.0.store(self.value().wrapping_add(n), Ordering::Relaxed);
    }

    /// Takes `n` off, for gauges; the same rule as for [`Number::add`].
    pub fn sub(&self, n: u64) {
        self.0.store(self.value().wrapping_sub(n), Ordering::Relaxed);
    }

    /// Sets the value, for gauges.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The value as last written.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// 65,536 numbers, one for each namespace. They are allocated in parts when they are first written, and never move: readers
/// need no lock, and namespaces may be added while the engine runs.
#[derive(Debug)]
pub struct Numbers([OnceLock<Box<[Number]>>; PARTS]);

impl Default for Numbers {
    fn default() -> Self {
        Self([const { OnceLock::new() }; PARTS])
    }
}

impl Numbers {
    /// The number at `index`, to be written.
    ///
    /// # Panics
    /// If `index` is 65,536 or more.
    #[must_use]
    pub fn at(&self, index: usize) -> &Number {
        let part = self.0[index / PART].get_or_init(|| (0..PART).map(|_| Number::default()).collect());
        &part[index % PART]
    }

    /// The value at `index`: 0 if it was never written.
    #[must_use]
    pub fn value(&self, index: usize) -> u64 {
        let part = self.0.get(index / PART).and_then(OnceLock::get);
        part.map_or(0, |part| part[index % PART].value())
    }
}

/// Counts of observations up to each bound, and their sum: a Prometheus histogram with `N` finite bounds.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    bounds: &'static [u64; N],
    counts: [Number; N],
    beyond: Number,
    sum: Number,
}

impl<const N: usize> Histogram<N> {
    /// An empty histogram with these upper bounds, which must rise.
    #[must_use]
    pub fn new(bounds: &'static [u64; N]) -> Self {
        Self {
            bounds,
            counts: std::array::from_fn(|_| Number::default()),
            beyond: Number::default(),
            sum: Number::default(),
        }
    }

    /// Counts `times` observations of `value`.
    pub fn observe(&self, value: u64, times: u64) {
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        self.counts.get(bucket).unwrap_or(&self.beyond).add(times);
        self.sum.add(value * times);
    }

    /// Each finite bound with the number of observations in its bucket alone (not cumulated), then the
    /// number beyond the last, then the sum of all values.
    pub fn read(&self) -> (Vec<(u64, u64)>, u64, u64) {
        let buckets = self.bounds.iter().zip(&self.counts);
        (
            buckets.map(|(&bound, count)| (bound, count.value())).collect(),
            self.beyond.value(),
            self.sum.value(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_room_for_every_namespace() {
        let numbers = Numbers::default();
        for index in [0, 255, 256, 65_535] {
            assert_eq!(numbers.value(index), 0);
            numbers.at(index).add(index as u64 + 1);
        }
        for (index, value) in
            [(0, 1), (1, 0), (255, 256), (256, 257), (65_534, 0), (65_535, 65_536), (65_536, 0)]
        {
            assert_eq!(numbers.value(index), value, "{index}");
        }
    }

    const BOUNDS: [u64; 10] = [1, 2, 4, 8, 16, 32, 64, 128, 512, 2048];

    #[test]
    fn a_histogram_counts_at_its_bounds_and_beyond() {
        let histogram = Histogram::new(&BOUNDS);
        for value in [1, 2, 3, 2048, 2049] {
            histogram.observe(value, 2);
        }
        let (buckets, beyond, sum) = histogram.read();
        assert_eq!(buckets[..3], [(1, 2), (2, 2), (4, 2)]);
        assert_eq!((buckets[9], beyond), ((2048, 2), 2));
        assert_eq!(sum, 2 * (1 + 2 + 3 + 2048 + 2049));
    }
}
