//! Connections on which the rest of an answer is awaited whose call has ended.

use std::io::{Read as _, Write as _};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::calls::{Calls, LIMIT, backend, request, target};
use crate::domain::call::CallFault;

/// A backend that never ends its answers holds a bounded number of connections, whatever their calls have become.
#[test]
fn connections_that_wait_for_the_rest_of_useless_answers_are_bounded() {
    let (closed, ends) = mpsc::channel();
    let (address, _) = backend(move |stream| {
        request(stream);
        stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n").unwrap();
        let since = Instant::now();
        let _ = stream.read(&mut [0; 1]);
        closed.send(since.elapsed()).unwrap();
    });
    let (mut calls, target) = (Calls::new(), target(address));
    for _ in 0..100 {
        assert_eq!(calls.ask(&target, LIMIT), Err(CallFault::Status(404)));
    }
    // Those with a permit are closed after a second, and all others at once.
    let ends: Vec<_> = (0..100).map(|_| ends.recv_timeout(LIMIT).expect("all are closed")).collect();
    let at_once = ends.iter().filter(|after| **after < Duration::from_millis(500)).count();
    assert!(at_once >= 34, "{at_once} of the 68 beyond the bound");
}
