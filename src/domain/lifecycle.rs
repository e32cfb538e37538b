//! The phase of the engine, between its start and its end. The engine writes it, `/health` reads it.

use std::sync::atomic::{AtomicU8, Ordering};

/// The three phases of an engine, in their only order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Threads are being started; clients are not accepted yet.
    Starting = 0,
    /// Clients are accepted.
    Serving = 1,
    /// The engine was told to stop: no new client is accepted, and connected clients are closed.
    Draining = 2,
}

/// The engine's current [`Phase`]. It never goes back: [`Lifecycle::enter`] with an earlier phase, such as
/// "serving" after a signal came during the start, changes nothing.
#[derive(Debug, Default)]
pub struct Lifecycle(AtomicU8);

impl Lifecycle {
    /// Enters `phase`, unless the engine is in it or in a later one.
    pub fn enter(&self, phase: Phase) {
        self.0.fetch_max(phase as u8, Ordering::Relaxed);
    }

    /// The current phase.
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
