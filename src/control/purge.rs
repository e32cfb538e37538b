//! Returns memory to the kernel after a burst.
//!
//! mimalloc, the allocator of the program, returns freed pages after a delay of one second, but checks the
//! clock only when some thread frees a page. An idle process would keep the memory of its last burst.

use std::hint::black_box;
use std::time::Duration;

/// The allocator's own delay (`MIMALLOC_PURGE_DELAY`).
const EVERY: Duration = Duration::from_secs(1);

/// A block of this size has a page of its own, which is freed with it: larger than mimalloc's
/// `MI_LARGE_MAX_OBJ_SIZE`, 512 KiB. Nothing is written there, so it costs no memory.
const BLOCK: usize = 1 << 20;

/// Frees a page once per second, for as long as the thread runs. It takes a microsecond.
pub(super) async fn run() {
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        ticks.tick().await;
        // Otherwise the compiler would leave both out.
        drop(black_box(Vec::<u8>::with_capacity(BLOCK)));
    }
}
