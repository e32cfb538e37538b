//! Where the engine stands between its start and its end: written by the engine, read by `/health`.

use std::sync::atomic::{AtomicU8, Ordering};

/// The three parts of an engine's life, in their only order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Threads are being started; clients are not accepted yet.
    Starting = 0,
    /// Clients are accepted.
    Serving = 1,
    /// The engine was told to stop: nobody new is accepted, and those who are here are sent away.
    Draining = 2,
}

/// The engine's current [`Phase`]. It never goes back: a late call of [`Lifecycle::enter`] with an earlier
/// phase, such as "serving" after a signal came during the start, changes nothing.
#[derive(Debug, Default)]
pub struct Lifecycle(AtomicU8);

impl Lifecycle {
    /// Goes on to `phase`, unless the engine is there or further already.
    pub fn enter(&self, phase: Phase) {
        self.0.fetch_max(phase as u8, Ordering::Relaxed);
    }

    /// Where the engine stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.0.load(Ordering::Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            _ => Phase::Draining,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_goes_back() {
        let lifecycle = Lifecycle::default();
        assert_eq!(lifecycle.phase(), Phase::Starting);
        lifecycle.enter(Phase::Serving);
        assert_eq!(lifecycle.phase(), Phase::Serving);
        lifecycle.enter(Phase::Draining);
        lifecycle.enter(Phase::Serving);
        assert_eq!(lifecycle.phase(), Phase::Draining);
    }
}
