//! Since when a connection is read. The time limit of a request's body runs only while it is: a body that the engine
//! does not read is not late.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::Connection;

/// Nothing is read now.
const STOPPED: u64 = u64::MAX;

/// Since when a connection is read, in milliseconds after it was opened.
#[derive(Debug, Default)]
pub(super) struct Reading(AtomicU64);

impl Connection {
    /// Records whether the peer is read now. It is not while it takes no answers, or has as many requests as it may.
    pub(in crate::control) fn set_reading(&self, is_reading: bool) {
        let was_reading = self.reading.0.load(Ordering::Relaxed) != STOPPED;
        if is_reading != was_reading {
            self.reading.0.store(if is_reading { self.now() } else { STOPPED }, Ordering::Relaxed);
        }
    }

    /// Until when the body of a request that came at `begun` may come. The `limit` begins when the peer is read.
    pub(in crate::control) fn body_due(&self, begun: Instant, limit: Duration) -> Instant {
        let read_since = match self.reading.0.load(Ordering::Relaxed) {
            STOPPED => Instant::now(),
            since => self.at(since),
        };
        begun.max(read_since) + limit
    }
}
