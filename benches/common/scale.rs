//! How much of everything a suite does: all of it, or a little to see that it still works.

use std::time::Duration;

use super::Arguments;

/// Rounds, and the part of the usual length of each.
#[derive(Debug)]
pub(crate) struct Scale {
    pub(crate) rounds: usize,
    divisor: u32,
}

impl Scale {
    /// What the command line asks for, where `rounds` are usual.
    pub(crate) fn of(arguments: &Arguments, rounds: usize) -> Self {
        Self { divisor: if arguments.short() { 10 } else { 1 }, rounds: arguments.rounds(rounds) }
    }

    pub(crate) fn length(&self, usual: Duration) -> Duration {
        usual / self.divisor
    }

    pub(crate) fn count(&self, usual: usize) -> usize {
        (usual / usize::try_from(self.divisor).expect("small")).max(1)
    }
}
