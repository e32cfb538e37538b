//! What operators are told of ends that nobody else would notice, at a bounded rate: answers that cannot be used, and
//! messages of clients that no backend gets. Each backend has limits of its own. Pure: time is an argument.

use std::time::{Duration, Instant};

use crate::base::log_limiter::RateLimits;
use crate::domain::call::{CallFault, CallKind};

/// Between two complaints of a kind about one backend.
const EVERY: Duration = Duration::from_secs(10);

/// What there is to complain of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::broker) enum Complaint {
    /// The backend's answer cannot be used.
    UselessAnswer,
    /// A client's message was not sent, and the client is not told.
    DroppedMessage,
}

impl Complaint {
    /// That of a call of this kind with such an end, if there is one.
    fn of(kind: CallKind, fault: &CallFault) -> Option<Self> {
        if fault.is_answer() {
            return Some(Self::UselessAnswer);
        }
        (kind == CallKind::Send && fault.is_unsent()).then_some(Self::DroppedMessage)
    }

    const fn label(self) -> &'static str {
        match self {
            Self::UselessAnswer => "answers that cannot be used",
            Self::DroppedMessage => "messages that were dropped",
        }
    }
}

/// The complaints about one backend.
#[derive(Debug)]
pub(super) struct Complaints(RateLimits);

impl Complaints {
    /// None yet.
    pub(super) const fn new() -> Self {
        Self(RateLimits::new(EVERY))
    }

    /// Whether operators are told of the end of a call. If so, of what, and of how many like it they were not told since the
    /// last one.
    pub(super) fn about(
        &mut self,
        kind: CallKind,
        fault: &CallFault,
        now: Instant,
    ) -> Option<(Complaint, u64)> {
        let complaint = Complaint::of(kind, fault)?;
        Some((complaint, self.0.allow(complaint.label(), now)?))
    }

    /// When [`Self::rest`] has something to tell.
    pub(super) fn due(&self) -> Option<Instant> {
        self.0.due()
    }

    /// What was not told while there was too much of it, in words, and how many they were.
    pub(super) fn rest(&mut self, now: Instant) -> Vec<(&'static str, u64)> {
        self.0.pass(now)
    }
}
