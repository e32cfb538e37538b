//! The socket of one connection, as the HTTP server sees it: it writes answers in batches, records what the
//! peer takes, and closes so that the last answer arrives.
//!
//! A peer that pipelines requests of HTTP/1.1 gets several answers in one write. Answers are held while the
//! server has complete requests in its own buffer: when it has none, it asks for more input. Answers leave
//! earlier if they are many, or if the next one takes long.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use super::places::Connection;

/// How long a peer may take to close after the engine has closed its half.
const LINGER: Duration = Duration::from_millis(500);

/// Bytes that are read and discarded in that time. More than a body that was refused for its size.
const LINGER_BYTES: usize = 4 << 20;

/// Bytes of answers that are held at most.
const HELD_BYTES: usize = 16 << 10;

/// How long answers are held.
const HELD_FOR: Duration = Duration::from_millis(2);

/// How often the end of a peer's input is put off, for requests that have arrived and have not been taken.
const ENDS_PUT_OFF: u32 = 8;

/// Whether a connection that begins with these bytes speaks HTTP/1: HTTP/2 begins with `PRI * HTTP/2.0` (RFC
/// 9113, section 3.4). `None` while both are possible: after nothing, or one `P`.
fn is_http_1(first: &[u8]) -> Option<bool> {
    match first {
        [] | [b'P'] => None,
        // What follows a `P` that came alone.
        [b'P', b'R', ..] | [b'R', ..] => Some(false),
        _ => Some(true),
    }
}

/// The socket.
#[derive(Debug)]
pub(super) struct Stream {
    socket: TcpStream,
    connection: Arc<Connection>,
    /// What was read before, and comes first.
    unused: Bytes,
    /// Whether answers may be held: decided by the first bytes. HTTP/2 flushes by itself.
    holds: Option<bool>,
    held: Vec<u8>,
    /// The timer for it; created once, and reset again and again.
    held_until: Option<Pin<Box<Sleep>>>,
    is_timed: bool,
    /// The socket took nothing at the last attempt.
    is_blocked: bool,
    /// The socket had no input at the last attempt.
    awaits_input: bool,
    /// How often the end of the peer's input was put off.
    ends_seen: u32,
    /// Set when nothing more is written, until the peer has closed.
    farewell: Option<(Pin<Box<Sleep>>, usize)>,
}

impl Stream {
    /// `unused`: bytes that were read from the socket and are the server's.
    pub(super) fn new(socket: TcpStream, unused: Bytes, connection: Arc<Connection>) -> Self {
        let (held, held_until) = (Vec::new(), None);
        let (is_timed, is_blocked, awaits_input, farewell) = (false, false, false, None);
        // Whoever read it before may have stopped.
        connection.set_reading(true);
        Self {
            socket,
            connection,
            unused,
            holds: None,
            held,
            held_until,
            is_timed,
            is_blocked,
            awaits_input,
            ends_seen: 0,
            farewell,
        }
    }

    /// Writes held answers.
    fn release(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let written = Pin::new(&mut self.socket).poll_write(cx, &self.held);
            let written = ready!(self.noted(written))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.held.drain(..written);
        }
        self.is_timed = false;
        Poll::Ready(Ok(()))
    }

    /// Records whether the peer takes what it is sent. The clock is read only if something had waited for it.
    fn noted(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Pending => {
                self.is_blocked = true;
                // By HTTP/2 bodies are read on, unless answers to what was read, such as those to PING, have to be written
                // before anything else is read.
                if self.holds == Some(true) || !self.awaits_input {
                    self.connection.set_reading(false);
                }
            }
            Poll::Ready(_) if self.is_blocked => {
                self.is_blocked = false;
                self.connection.wrote();
                self.connection.set_reading(true);
            }
            Poll::Ready(_) => {}
        }
        written
    }

    /// Holds what may be held; none of it if it has to be written at once.
    fn hold(&mut self, bytes: &[u8]) -> usize {
        if self.holds != Some(true) || self.held.len() + bytes.len() > HELD_BYTES {
            return 0;
        }
        self.held.extend_from_slice(bytes);
        bytes.len()
    }

    /// Reads on until the peer has closed, or its time is over.
    ///
    /// Closing a socket with unread input makes the kernel send a reset. A reset discards what the peer has
    /// not read yet: the very answer that says what was wrong.
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (time, bytes) = self.farewell.get_or_insert_with(|| (Box::pin(sleep(LINGER)), LINGER_BYTES));
        let mut space = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut self.socket).poll_read(cx, &mut buffer) {
                Poll::Pending => return time.as_mut().poll(cx),
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() && *bytes > 0 => {
                    *bytes = bytes.saturating_sub(buffer.filled().len());
                }
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
    }
}

impl Drop for Stream {
    /// hyper drops a connection on which it finds HTTP/2's preface behind a request, and does not close it before.
    fn drop(&mut self) {
        if !self.held.is_empty() {
            // What the peer does not take at once is lost.
            let _ = self.socket.try_write(&self.held);
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Whoever asks for input has no whole request left.
        let released = self.release(cx)?;
        // Who pipelines and takes no answers is not heard further; writing is what wakes the server then.
        if self.holds == Some(true) && (released.is_pending() || self.is_blocked) {
            return Poll::Pending;
        }
        let (before, room) = (buffer.filled().len(), buffer.remaining());
        if !self.unused.is_empty() {
            let unused = self.unused.len().min(room);
            buffer.put_slice(&self.unused.split_to(unused));
            self.holds = self.holds.or_else(|| is_http_1(&buffer.filled()[before..]));
            return Poll::Ready(Ok(()));
        }
        let read = Pin::new(&mut self.socket).poll_read(cx, buffer);
        self.awaits_input = read.is_pending();
        ready!(read)?;
        // Who has said all that it wants may still listen. The server reads again once everything is written, and whoever
        // answers or writes wakes it.
        let is_end = room > 0 && buffer.filled().len() == before;
        if is_end && (self.connection.half_closed() || self.is_blocked) {
            return Poll::Pending;
        }
        // The server looks for the end before the body that came with it has been taken.
        if is_end && self.connection.has_half() && self.ends_seen < ENDS_PUT_OFF {
            self.ends_seen += 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.holds = self.holds.or_else(|| is_http_1(&buffer.filled()[before..]));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let held = self.hold(bytes);
        if held > 0 {
            return Poll::Ready(Ok(held));
        }
        ready!(self.release(cx))?;
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let held: usize =
            slices.iter().map_while(|slice| Some(self.hold(slice)).filter(|&held| held > 0)).sum();
        if held > 0 {
            return Poll::Ready(Ok(held));
        }
        ready!(self.release(cx))?;
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    /// Held bytes count as written. The timer, or the next call that asks for input, writes them.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.held.is_empty() {
            return Pin::new(&mut self.socket).poll_flush(cx);
        }
        let is_timed = std::mem::replace(&mut self.is_timed, true);
        let time = match &mut self.held_until {
            None => self.held_until.insert(Box::pin(sleep(HELD_FOR))),
            Some(time) => {
                // A timer that is put off is left where it is registered.
                if !is_timed {
                    time.as_mut().reset(Instant::now() + HELD_FOR);
                }
                time
            }
        };
        match time.as_mut().poll(cx) {
            Poll::Ready(()) => self.release(cx),
            Poll::Pending => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.farewell.is_none() {
            ready!(self.release(cx))?;
            ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
        }
        self.drain(cx).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_the_version_of_http() {
        let cases: [(&[&str], Option<bool>); 7] = [
            (&[""], None),
            (&["P"], None),
            (&["GET / HTTP/1.1\r\n"], Some(true)),
            (&["POST /api/publish HTTP/1.1\r\n"], Some(true)),
            (&["P", "UT / HTTP/1.1\r\n"], Some(true)),
            // What comes later, such as frames, changes nothing.
            (&["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\0\0\u{12}\u{4}"], Some(false)),
            (&["P", "RI * HTTP/2.0\r\n", "\0\0\u{12}\u{4}"], Some(false)),
        ];
        for (reads, wanted) in cases {
            let told = reads
                .iter()
                .fold(None, |told: Option<bool>, read| told.or_else(|| is_http_1(read.as_bytes())));
            assert_eq!(told, wanted, "{reads:?}");
        }
    }
}
