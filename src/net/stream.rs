//! A connection that moves bytes. The one seam between a shard and the network: the shipped stream is a TCP socket, the
//! simulation's is a script.

use std::io;
use std::net::SocketAddr;

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// So many bytes; 0 means that the peer has closed its side.
    pub bytes: usize,
    /// Nothing is left to be read: the owner is told when there is something again. Where this is false there may be more
    /// at once, and the owner is not told.
    pub drained: bool,
}

/// A connection as a shard sees it. It never blocks.
pub trait Stream {
    /// Reads what is there, at most `buffer`.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; anything else but `Interrupted` ends the connection.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Read>;

    /// Writes as much as is taken at once. What the stream keeps goes first.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is taken; after that, or after taking less than all, the stream's owner is told once when
    /// it can take more. Anything else but `Interrupted` ends the connection.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Whether the stream keeps bytes that it has taken, or made itself, and that the network has not: a part of a
    /// handshake, or of an encrypted record. Their number is bounded by the stream. The owner calls [`flush`](Self::flush)
    /// when it is told that the stream can write.
    fn wants_write(&self) -> bool {
        false
    }

    /// Writes what the stream keeps.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Closes our side, once what the stream keeps is written; the peer's can still be read.
    fn shutdown(&mut self);

    /// Where the peer is, for a log; none where that is not known.
    fn peer(&self) -> Option<SocketAddr> {
        None
    }
}
