//! What the control thread counts.

use super::MICROSECONDS;
use super::number::{Histogram, Number};

/// What the control thread counts of one method of the API.
#[derive(Debug)]
pub struct MethodStats {
    /// Requests that were carried out.
    pub done: Number,
    /// Requests that were not, whatever the reason.
    pub failed: Number,
    /// Microseconds from the end of a request's head to its answer.
    pub latency: Histogram<12>,
}

impl Default for MethodStats {
    fn default() -> Self {
        let (done, failed) = (Number::default(), Number::default());
        Self { done, failed, latency: Histogram::new(&MICROSECONDS) }
    }
}

/// The methods of the API, in the order of [`ControlStats::methods`]; the last stands for all that there are not.
pub const API_METHODS: [&str; 9] = [
    "publish",
    "broadcast",
    "info",
    "channels",
    "history",
    "history_remove",
    "disconnect",
    "unsubscribe",
    "unknown",
];

/// What the control thread counts.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ControlStats {
    /// Requests to the API, in the order of [`API_METHODS`].
    pub methods: [MethodStats; API_METHODS.len()],
}
