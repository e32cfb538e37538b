//! What clients received.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

/// The longest latency that is distinguished, in microseconds: ten minutes. Longer ones count as this.
const LATENCY_MAX: u64 = 600_000_000;
/// Latencies are kept to three digits.
const DIGITS: u8 = 3;

/// Counts of the clients of one thread, or of several.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Microseconds from when a publication was due to when a client read it.
    pub latency: Histogram<u64>,
    /// Clients that were connected and subscribed.
    pub ready: usize,
    /// Of these, those that never read. The numbers below do not include them.
    pub slow: usize,
    /// Publications received.
    pub lines: u64,
    /// Frames with publications.
    pub frames: u64,
    /// Bytes of those frames.
    pub bytes: u64,
    /// Publications that did not arrive, although the subscription lasted.
    pub lost: u64,
    /// Publications that arrived again, or after a later one.
    pub repeated: u64,
    /// Why clients were not accepted or lost their connection or a subscription, and how many.
    pub faults: BTreeMap<String, u64>,
}

impl Tally {
    pub(super) fn new() -> Self {
        let latency = Histogram::new_with_bounds(1, LATENCY_MAX, DIGITS).expect("the bounds are constants");
        Self {
            latency,
            ready: 0,
            slow: 0,
            lines: 0,
            frames: 0,
            bytes: 0,
            lost: 0,
            repeated: 0,
            faults: BTreeMap::new(),
        }
    }

    /// Whether all clients were accepted and stayed connected, and received everything once.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.lost == 0 && self.repeated == 0 && self.faults.is_empty()
    }

    /// Counts a publication that should be the one after `last`, and returns the new last one.
    pub(super) fn publication(&mut self, last: u64, number: u64, latency: u64) -> u64 {
        self.lines += 1;
        self.latency.saturating_record(latency);
        if number <= last {
            self.repeated += 1;
            return last;
        }
        self.lost += number - last - 1;
        number
    }

    pub(super) fn fault(&mut self, reason: String) {
        *self.faults.entry(reason).or_default() += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.latency.add(&other.latency).expect("all have the same bounds");
        self.ready += other.ready;
        self.slow += other.slow;
        self.lines += other.lines;
        self.frames += other.frames;
        self.bytes += other.bytes;
        self.lost += other.lost;
        self.repeated += other.repeated;
        for (reason, count) in &other.faults {
            *self.faults.entry(reason.clone()).or_default() += count;
        }
    }

    pub(super) fn most_frequent_fault(&self) -> Option<String> {
        let most = self.faults.iter().max_by_key(|(_, count)| **count);
        most.map(|(reason, _)| reason.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_and_repeats_are_counted() {
        let mut tally = Tally::new();
        let mut last = 0;
        for number in [1, 2, 2, 5, 4, 6] {
            last = tally.publication(last, number, 10);
        }
        assert_eq!((last, tally.lines, tally.lost, tally.repeated), (6, 6, 2, 2));
        assert!(!tally.is_exact());
    }

    #[test]
    fn a_first_publication_that_is_not_number_one_is_a_loss() {
        let mut tally = Tally::new();
        assert_eq!(tally.publication(0, 3, 0), 3);
        assert_eq!(tally.lost, 2);
    }

    #[test]
    fn tallies_add_up() {
        let (mut one, mut other) = (Tally::new(), Tally::new());
        one.publication(0, 1, 5);
        other.publication(0, 2, LATENCY_MAX * 2);
        other.fault("gone".to_owned());
        one.fault("gone".to_owned());
        one.fault("away".to_owned());
        one.add(&other);
        assert_eq!((one.lines, one.lost, one.latency.len()), (2, 1, 2));
        assert_eq!(one.most_frequent_fault().as_deref(), Some("gone"));
        assert_eq!(one.faults["gone"], 2);
    }
}
