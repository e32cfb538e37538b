//! Waiting for a condition, with a deadline: never for a length of time that is hoped to be enough.

use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for anything that should happen at once. Generous, because it only passes when a test
/// fails, and machines that build and test at the same time are slow.
pub const SOON: Duration = Duration::from_secs(20);

/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(5);

/// Waits until `condition` gives a value and returns it.
///
/// # Panics
/// After `limit`, naming `what` was waited for.
#[track_caller]
pub fn wait_for<T>(limit: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} in vain for {what}");
        thread::sleep(PAUSE);
    }
}

/// Waits until `condition` holds.
///
/// # Panics
/// After `limit`, naming `what` was waited for.
#[track_caller]
pub fn wait_until(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(limit, what, || condition().then_some(()));
}

/// Watches that `condition` keeps holding for `length`: for what must not happen.
///
/// # Panics
/// As soon as it does not hold, naming `what` should have lasted.
#[track_caller]
pub fn hold_for(length: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + length;
    while Instant::now() < end {
        assert!(condition(), "did not last: {what}");
        thread::sleep(PAUSE);
    }
}
