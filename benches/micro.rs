//! What the micro suites share: criterion, set to a second for each function.

use std::time::Duration;

use criterion::Criterion;

/// With `--short` each function runs just long enough to see that it works. Criterion's own options are not
/// read: `cargo bench -- --short` is for all suites.
pub(crate) fn criterion() -> Criterion {
    let is_short = std::env::args().any(|argument| argument == "--short");
    let (warm_up, measure) = if is_short { (5, 20) } else { (300, 700) };
    Criterion::default()
        .sample_size(if is_short { 10 } else { 50 })
        .warm_up_time(Duration::from_millis(warm_up))
        .measurement_time(Duration::from_millis(measure))
}
