//! Ports for servers that cannot be asked to choose one themselves, or that must come back on the same one.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::sync::{LazyLock, Mutex};

/// Below the kernel's range for outgoing connections, so that no client's own port can take one of these
/// while the server that should have it is down.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// Ports that this test program handed out.
static TAKEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// A port of 127.0.0.1 that nobody listens on.
///
/// # Panics
/// If there is none.
pub fn free_port() -> u16 {
    let mut taken = TAKEN.lock().expect("no holder panics");
    let width = u64::from(RANGE.end - RANGE.start);
    // Several test programs may look at the same time: each starts at a random place.
    let start = RandomState::new().hash_one("port") % width;
    (0..width)
        .map(|step| RANGE.start + u16::try_from((start + step) % width).expect("below the range's width"))
        .find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok() && taken.insert(port))
        .expect("a free port between 20,000 and 32,000")
}
