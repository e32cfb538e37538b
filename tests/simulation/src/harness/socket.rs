//! The scripted stream: takes some of what is written, keeps some itself, and refuses the rest.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::rc::Rc;

use fanfare::net::stream::{Read, Stream};

/// Calls of one client's socket within one tick that no correct shard makes. Whoever loops is stopped here.
const CALLS_PER_TICK: u32 = 500;

/// Bytes that a stream keeps at most.
const KEPT_MAX: usize = 20;

/// One connection: what the shard's end and the client's end share.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    pub(super) to_server: VecDeque<u8>,
    pub(super) from_server: Vec<u8>,
    /// Bytes that the server may still write.
    pub(super) room: usize,
    /// The server was told that there is no room, and not yet that there is again.
    pub(super) refused: bool,
    /// How often it was written to all the same: once when the time for replies is over, and once more when that was begun
    /// anew and is over as well.
    pub(super) asked_again: u32,
    pub(super) ever_refused: bool,
    pub(super) reset: bool,
    pub(super) client_closed: bool,
    pub(super) server_gone: bool,
    pub(super) short_writes: u64,
    pub(super) refused_writes: u64,
    pub(super) kept_writes: u64,
    /// It gives half of what it has, and takes more than it can pass on, as a stream does that encrypts.
    pub(super) keeps: bool,
    /// What it has taken and not passed on.
    pub(super) kept: Vec<u8>,
    /// The server is to be told that there is room for what is kept.
    pub(super) wants_edge: bool,
    /// In this tick.
    pub(super) calls: u32,
    /// Those of them that read.
    pub(super) reads: u32,
}

impl Pipe {
    /// Passes on what there is room for: how much.
    fn pass_on(&mut self, bytes: &[u8]) -> usize {
        let passed = bytes.len().min(self.room);
        self.room -= passed;
        self.from_server.extend_from_slice(&bytes[..passed]);
        passed
    }

    /// Passes on what it keeps, as far as there is room.
    fn pass_on_kept(&mut self) {
        let mut kept = std::mem::take(&mut self.kept);
        let passed = self.pass_on(&kept);
        kept.drain(..passed);
        self.kept = kept;
        self.wants_edge = !self.kept.is_empty();
    }

    /// Takes bytes that there is no room for, as far as it keeps any.
    fn keep(&mut self, bytes: &[u8]) -> usize {
        let most = if self.keeps { KEPT_MAX } else { 0 };
        let kept = bytes.len().min(most - self.kept.len());
        self.kept.extend_from_slice(&bytes[..kept]);
        if kept > 0 {
            (self.wants_edge, self.ever_refused) = (true, true);
            self.kept_writes += 1;
        }
        kept
    }

    fn count_call(&mut self) {
        self.calls += 1;
        assert!(self.calls < CALLS_PER_TICK, "the tick calls one socket without end");
    }
}

#[derive(Debug)]
pub(super) struct FakeSocket(pub(super) Rc<RefCell<Pipe>>);

impl Stream for FakeSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Read> {
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
            let end = Read { bytes: 0, drained: true };
            return if pipe.client_closed { Ok(end) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        let there = pipe.to_server.len();
        let taken = buffer.len().min(if pipe.keeps { there.div_ceil(2) } else { there });
        for (place, byte) in buffer.iter_mut().zip(pipe.to_server.drain(..taken)) {
            *place = byte;
        }
        Ok(Read { bytes: taken, drained: taken < buffer.len() && pipe.to_server.is_empty() })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut pipe = self.0.borrow_mut();
        pipe.count_call();
        if pipe.reset {
            return Err(ErrorKind::BrokenPipe.into());
        }
        pipe.asked_again += u32::from(pipe.refused);
        assert!(pipe.asked_again <= 2, "written to a socket that has refused and not called back");
        pipe.pass_on_kept();
        let passed = if pipe.kept.is_empty() { pipe.pass_on(bytes) } else { 0 };
        let taken = passed + pipe.keep(&bytes[passed..]);
        if taken < bytes.len() {
            pipe.refused = true;
            pipe.ever_refused = true;
            if taken == 0 {
                pipe.refused_writes += 1;
                return Err(ErrorKind::WouldBlock.into());
            }
            pipe.asked_again = 0;
            pipe.short_writes += 1;
        }
        Ok(taken)
    }

    fn wants_write(&self) -> bool {
        !self.0.borrow().kept.is_empty()
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut pipe = self.0.borrow_mut();
        pipe.count_call();
        if pipe.reset {
            return Err(ErrorKind::BrokenPipe.into());
        }
        pipe.pass_on_kept();
        if pipe.wants_edge { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
    }

    fn shutdown(&mut self) {}
}

impl Drop for FakeSocket {
    fn drop(&mut self) {
        self.0.borrow_mut().server_gone = true;
    }
}
