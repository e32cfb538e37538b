//! Clients' connections by TCP.

use std::io;
use std::net::{Shutdown, SocketAddr};

use mio::net::TcpStream;

use crate::net::stream::{Read, Stream};

impl Stream for TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Read> {
        let bytes = io::Read::read(self, buffer)?;
        // The kernel gives all that it has, as far as there is room for it.
        Ok(Read { bytes, drained: bytes < buffer.len() })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::Write::write(self, bytes)
    }

    fn shutdown(&mut self) {
        // Fails only on a connection that is gone already.
        let _ = Self::shutdown(self, Shutdown::Write);
    }

    fn peer(&self) -> Option<SocketAddr> {
        self.peer_addr().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Read as _, Write as _};

    /// A connection of two ends, of which the second is one of ours.
    fn pair() -> (std::net::TcpStream, TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let near = std::net::TcpStream::connect(listener.local_addr().expect("it is bound"));
        let (far, _) = listener.accept().expect("somebody has come");
        far.set_nonblocking(true).expect("it is a socket");
        (near.expect("it listens"), TcpStream::from_std(far))
    }

    #[test]
    fn a_read_that_fills_its_buffer_may_have_left_something() {
        let (mut near, mut stream) = pair();
        near.write_all(b"abcdef").expect("it is connected");
        let mut buffer = [0; 4];
        let mut read = || loop {
            match Stream::read(&mut stream, &mut buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                result => break result.expect("it is connected"),
            }
        };
        assert_eq!(read(), Read { bytes: 4, drained: false });
        assert_eq!(read(), Read { bytes: 2, drained: true });
        near.shutdown(Shutdown::Write).expect("it is connected");
        assert_eq!(read().bytes, 0, "the peer has closed its side");
        // What is sent the other way still arrives.
        assert_eq!(Stream::write(&mut stream, b"bye").expect("it is connected"), 3);
        Stream::shutdown(&mut stream);
        let mut rest = String::new();
        near.read_to_string(&mut rest).expect("it is connected");
        assert_eq!(rest, "bye");
    }
}
