//! The embedded backplane: the same doors, no RabbitMQ. What is published waits here until the shards take
//! mail, and is then delivered as if it had come from outside.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::broker::backplane::{DeadLetter, Waiting};
use crate::ratelimit::RateLimit;

/// Publishes on their way, oldest first.
#[derive(Debug)]
pub(super) struct Memory {
    waiting: VecDeque<Waiting>,
    undeliverable_log: RateLimit,
}

impl Default for Memory {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), undeliverable_log: RateLimit::new(Duration::from_secs(10)) }
    }
}

impl Memory {
    /// Takes a publish in. How many wait is bounded by the publishes in flight.
    pub(super) fn push(&mut self, publish: Waiting) {
        self.waiting.push_back(publish);
    }

    /// The oldest publish, if there is one.
    pub(super) fn pop(&mut self) -> Option<Waiting> {
        self.waiting.pop_front()
    }

    /// The oldest publish, if its time is up.
    pub(super) fn pop_late(&mut self, now: Instant) -> Option<Waiting> {
        if self.next_due()? <= now { self.pop() } else { None }
    }

    /// When the oldest publish's time is up.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.waiting.front().map(|oldest| oldest.until)
    }

    /// There is no exchange for dead letters in memory, so the log has to do.
    pub(super) fn bury(&mut self, letter: &DeadLetter) {
        if let Some(unsaid) = self.undeliverable_log.allow(Instant::now()) {
            tracing::warn!(topics = ?letter.topics, reason = letter.reason, unsaid, "a publication cannot be delivered");
        }
    }
}
