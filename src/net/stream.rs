//! A connection that moves bytes: the only seam between a shard and the network. The shipped stream is a TCP socket. The
//! simulation has a scripted one.

use std::io;
use std::net::SocketAddr;

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// How many bytes were read. 0: the peer has closed its side.
    pub bytes: usize,
    /// Nothing is left to be read, and the owner is told when there is more. If false, there may be more now, of which the
    /// owner is not told.
    pub drained: bool,
}

/// A connection as a shard sees it. It never blocks.
pub trait Stream {
    /// Reads what is there, at most as much as `buffer` has room for.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there. Any other error than `Interrupted` ends the connection.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Read>;

    /// Writes as many bytes as are taken at once, and returns how many. Bytes that the stream keeps go first.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is taken. After that, or when less than all was taken, the owner is told once when the
    /// stream can take more. Any other error than `Interrupted` ends the connection.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Whether the stream keeps bytes that the network has not taken: part of a handshake, or of an encrypted record. The
    /// stream bounds their number. The owner calls [`flush`](Self::flush) when it is told that the stream can take more.
    fn wants_write(&self) -> bool {
        false
    }

    /// Writes the bytes that the stream keeps.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Closes our side, once the bytes that the stream keeps are written. The peer's can still be read.
    fn shutdown(&mut self);

    /// The peer's address, for logs, if it is known.
    fn peer(&self) -> Option<SocketAddr> {
        None
    }
}
