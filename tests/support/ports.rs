//! Ports for servers that cannot be asked to choose one themselves, or that must come back on the same one.

use std::hash::{BuildHasher, RandomState};
use std::net::{TcpListener, UdpSocket};
use std::sync::Mutex;

/// Below the kernel's range for outgoing connections, so that no client's own port can take one of these
/// while the server that should have it is down.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// The ports that this test program handed out, each with a socket of UDP that no server needs. It keeps other test
/// programs from handing out the same one: a server may listen on its port only seconds later.
static TAKEN: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());

/// A port of 127.0.0.1 that nobody listens on.
///
/// # Panics
/// If there is none.
pub fn free_port() -> u16 {
    let mut taken = TAKEN.lock().expect("no holder panics");
    let width = u64::from(RANGE.end - RANGE.start);
    // Several test programs may look at the same time: each starts at a random place.
    let start = RandomState::new().hash_one("port") % width;
    let mut ports = (0..width)
        .map(|step| RANGE.start + u16::try_from((start + step) % width).expect("below the range's width"));
    let reserved = |port| {
        let reservation = UdpSocket::bind(("127.0.0.1", port)).ok()?;
        TcpListener::bind(("127.0.0.1", port)).is_ok().then_some((port, reservation))
    };
    let (port, reservation) = ports.find_map(reserved).expect("a free port between 20,000 and 32,000");
    taken.push(reservation);
    port
}
