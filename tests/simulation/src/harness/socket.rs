//! The scripted socket: takes some of what is written, and refuses the rest.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::rc::Rc;

use super::super::shard::Socket;

/// Calls of one client's socket within one tick that no correct shard makes. Whoever loops is stopped here.
const CALLS_PER_TICK: u32 = 500;

/// One connection: what the shard's end and the client's end share.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    pub(super) to_server: VecDeque<u8>,
    pub(super) from_server: Vec<u8>,
    /// Bytes that the server may still write.
    pub(super) room: usize,
    /// The server was told that there is no room, and not yet that there is again.
    pub(super) refused: bool,
    /// It was written to all the same, as it may be once for each refusal: when the time for replies is over.
    pub(super) asked_again: bool,
    pub(super) ever_refused: bool,
    pub(super) reset: bool,
    pub(super) client_closed: bool,
    pub(super) server_gone: bool,
    pub(super) short_writes: u64,
    pub(super) refused_writes: u64,
    /// In this tick.
    pub(super) calls: u32,
    /// Those of them that read.
    pub(super) reads: u32,
}

impl Pipe {
    fn count_call(&mut self) {
        self.calls += 1;
        assert!(self.calls < CALLS_PER_TICK, "the tick calls one socket without end");
    }
}

#[derive(Debug)]
pub(super) struct FakeSocket(pub(super) Rc<RefCell<Pipe>>);

impl Socket for FakeSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut pipe = self.0.borrow_mut();
        pipe.count_call();
        // Nobody counts for those who have left.
        pipe.reads += u32::from(!pipe.reset && !pipe.client_closed);
        assert!(pipe.reads <= 1, "a client has one turn in each tick");
        // What came before the reset can still be read.
        if pipe.reset && pipe.to_server.is_empty() {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if pipe.to_server.is_empty() {
            return if pipe.client_closed { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        let taken = buffer.len().min(pipe.to_server.len());
        for (place, byte) in buffer.iter_mut().zip(pipe.to_server.drain(..taken)) {
            *place = byte;
        }
        Ok(taken)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut pipe = self.0.borrow_mut();
        pipe.count_call();
        if pipe.reset {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let is_repeated = pipe.refused && std::mem::replace(&mut pipe.asked_again, true);
        assert!(!is_repeated, "written to a socket that has refused and not called back");
        let taken = bytes.len().min(pipe.room);
        pipe.room -= taken;
        pipe.from_server.extend_from_slice(&bytes[..taken]);
        if taken < bytes.len() {
            pipe.refused = true;
            pipe.ever_refused = true;
            if taken == 0 {
                pipe.refused_writes += 1;
                return Err(ErrorKind::WouldBlock.into());
            }
            pipe.asked_again = false;
            pipe.short_writes += 1;
        }
        Ok(taken)
    }

    fn finish(&mut self) {}
}

impl Drop for FakeSocket {
    fn drop(&mut self) {
        self.0.borrow_mut().server_gone = true;
    }
}
