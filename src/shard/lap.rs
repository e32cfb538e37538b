//! A sweep goes round a topic's subscribers in laps.

/// The lap of a topic's sweep.
#[derive(Debug, Default)]
pub(super) struct Lap {
    /// The place that comes next.
    next: u32,
    /// A subscriber was moved to a place that the lap has passed, so the lap does not meet all of them.
    is_broken: bool,
    /// The end of the log when it began.
    began_at: u64,
}

impl Lap {
    /// The place that comes next. It is never reset within a lap.
    #[inline]
    pub(super) fn next(&self) -> u32 {
        self.next
    }

    /// Passes that place.
    #[inline]
    pub(super) fn step(&mut self) {
        self.next += 1;
    }

    /// Notes that another subscriber is at `place` now.
    pub(super) fn taken(&mut self, place: u32) {
        self.is_broken |= place < self.next;
    }

    /// Begins the next lap, where the log ends at `end`. Returns the position before which no swept subscriber lacks
    /// anything, if the last lap has met all of them.
    pub(super) fn begin(&mut self, end: u64) -> Option<u64> {
        let shown = (!self.is_broken).then_some(self.began_at);
        *self = Self { next: 0, is_broken: false, began_at: end };
        shown
    }
}
