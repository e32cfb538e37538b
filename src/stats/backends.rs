//! What is counted for each backend that is asked on behalf of clients.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::MICROSECONDS;
use super::number::{Histogram, Number};
use crate::domain::call::{BackendAnswer, CallFault, CallKind};

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallOutcome(usize);

impl CallOutcome {
    /// The labels of answers, before those of faults.
    const ANSWERS: [&str; 3] = ["answered", "error", "disconnect"];
    const COUNT: usize = Self::ANSWERS.len() + CallFault::LABELS.len();

    /// That of a call with such an end.
    #[must_use]
    pub const fn of(outcome: &Result<BackendAnswer, CallFault>) -> Self {
        Self(match outcome {
            Ok(BackendAnswer::Granted(_)) => 0,
            Ok(BackendAnswer::Error(_)) => 1,
            Ok(BackendAnswer::Close(_)) => 2,
            Err(fault) => Self::ANSWERS.len() + fault.index(),
        })
    }

    /// All of them, in the order of their counters.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT).map(Self)
    }

    /// Its name in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        let faults = self.0.checked_sub(Self::ANSWERS.len());
        faults.map_or_else(|| Self::ANSWERS[self.0], |fault| CallFault::LABELS[fault])
    }
}

/// Why a backend is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspension {
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// What failed last, as a sentence.
    pub last_fault: Box<str>,
}

/// What the broker thread counts for one backend.
#[derive(Debug)]
pub struct BackendStats {
    calls: [[Number; CallOutcome::COUNT]; CallKind::ALL.len()],
    seconds: Histogram<12>,
    /// Calls that were sent and have no answer yet.
    pub in_flight: Number,
    /// Calls that wait to be sent.
    pub waiting: Number,
    /// 1 while it is left alone.
    pub suspended: Number,
    /// Locked when a suspension begins or ends, and by the control thread.
    suspension: Mutex<Option<Suspension>>,
}

impl Default for BackendStats {
    fn default() -> Self {
        Self {
            calls: std::array::from_fn(|_| std::array::from_fn(|_| Number::default())),
            seconds: Histogram::new(&MICROSECONDS),
            in_flight: Number::default(),
            waiting: Number::default(),
            suspended: Number::default(),
            suspension: Mutex::default(),
        }
    }
}

impl BackendStats {
    /// Counts a call that has ended.
    pub fn count(&self, kind: CallKind, outcome: CallOutcome) {
        self.calls[kind as usize][outcome.0].add(1);
    }

    /// How many calls of a kind have ended so.
    #[must_use]
    pub fn calls(&self, kind: CallKind, outcome: CallOutcome) -> u64 {
        self.calls[kind as usize][outcome.0].value()
    }

    /// Counts how long a call was under way.
    pub fn took(&self, time: Duration) {
        self.seconds.observe(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), 1);
    }

    /// How long calls were under way, in microseconds.
    #[must_use]
    pub fn times(&self) -> super::Observations {
        self.seconds.read()
    }

    /// Notes why the backend is left alone, or `None`: it is not any more.
    pub fn set_suspension(&self, suspension: Option<Suspension>) {
        *self.suspension.lock() = suspension;
    }

    /// Why the backend is left alone, if it is.
    #[must_use]
    pub fn suspension(&self) -> Option<Suspension> {
        self.suspension.lock().clone()
    }
}

/// All backends that there are or were, by name. Shared by all clones.
#[derive(Clone, Debug, Default)]
pub struct BackendsStats(Arc<Mutex<Vec<NamedStats>>>);

/// A backend's name, and what is counted for it.
pub type NamedStats = (String, Arc<BackendStats>);

impl BackendsStats {
    /// The counters of a backend, which begin with 0 if it is new.
    #[must_use]
    pub fn of(&self, name: &str) -> Arc<BackendStats> {
        let mut all = self.0.lock();
        if let Some((_, stats)) = all.iter().find(|(other, _)| other == name) {
            return Arc::clone(stats);
        }
        let stats = Arc::<BackendStats>::default();
        all.push((name.to_owned(), Arc::clone(&stats)));
        stats
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<NamedStats> {
        self.0.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::call::Terms;

    #[test]
    fn each_outcome_has_a_counter_of_its_own() {
        let stats = BackendStats::default();
        for (outcome, label) in [
            (Ok(BackendAnswer::Granted(Terms::Send)), "answered"),
            (Err(CallFault::Late), "late"),
            (Err(CallFault::Unknown), "unknown"),
        ] {
            let counted = CallOutcome::of(&outcome);
            stats.count(CallKind::Send, counted);
            assert_eq!((counted.label(), stats.calls(CallKind::Send, counted)), (label, 1));
        }
        assert_eq!(CallOutcome::all().map(|outcome| stats.calls(CallKind::Send, outcome)).sum::<u64>(), 3);
        assert_eq!(CallOutcome::all().map(|outcome| stats.calls(CallKind::Rpc, outcome)).sum::<u64>(), 0);
        for (index, kind) in CallKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
        }
    }

    #[test]
    fn a_name_has_one_block() {
        let all = BackendsStats::default();
        all.of("a").in_flight.set(5);
        let _ = all.of("b");
        assert_eq!(all.clone().of("a").in_flight.value(), 5);
        assert_eq!(all.all().len(), 2);
    }
}
