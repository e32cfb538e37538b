//! A peer that sends whatever bytes it likes, and reads what comes back as it is.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::frames::{CLOSE, TEXT, frame};
use super::wait::SOON;

/// A correct request for an upgrade, to the host `fanfare.test`.
pub const UPGRADE: &str = "GET /connection/websocket HTTP/1.1\r\nHost: fanfare.test\r\nConnection: Upgrade\r\n\
                           Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                           Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A raw connection.
#[derive(Debug)]
pub struct Peer(pub TcpStream);

impl Peer {
    /// Connects, no more.
    ///
    /// # Panics
    /// If it cannot.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        stream.set_read_timeout(Some(SOON)).expect("a timeout that is not zero");
        Self(stream)
    }

    /// Connects and becomes a WebSocket.
    ///
    /// # Panics
    /// If the upgrade is refused.
    #[track_caller]
    pub fn upgraded(address: SocketAddr) -> Self {
        let mut peer = Self::connect(address);
        peer.send(UPGRADE.as_bytes());
        let head = peer.read_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        peer
    }

    /// Connects, becomes a WebSocket, and connects in the protocol's sense.
    ///
    /// # Panics
    /// If that is refused.
    #[track_caller]
    pub fn connected(address: SocketAddr) -> Self {
        let mut peer = Self::upgraded(address);
        peer.send(&frame(TEXT, br#"{"id":1,"connect":{}}"#));
        let (opcode, reply) = peer.read_frame().expect("a reply to connect");
        assert_eq!(opcode, TEXT, "{}", String::from_utf8_lossy(&reply));
        peer
    }

    /// Sends bytes. That the other side has closed meanwhile is no failure: the answer tells.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    /// Sends a command as one frame.
    pub fn command(&mut self, json: &str) {
        self.send(&frame(TEXT, json.as_bytes()));
    }

    /// Reads to the end of an HTTP head.
    ///
    /// # Panics
    /// If the connection ends or falls silent before.
    #[track_caller]
    pub fn read_head(&mut self) -> String {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            if let Err(error) = self.0.read_exact(&mut byte) {
                panic!("{error} after {:?}", String::from_utf8_lossy(&head));
            }
            head.push(byte[0]);
        }
        String::from_utf8_lossy(&head).into_owned()
    }

    /// The next frame: opcode and payload.
    pub fn read_frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let (first, payload) = self.read_marked_frame()?;
        Ok((first & 0x0f, payload))
    }

    /// The next frame: its first byte, with the reserved bits, and its payload.
    pub fn read_marked_frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.0.read_exact(&mut head)?;
        let length = match head[1] {
            126 => u64::from(u16::from_be_bytes(self.read_array()?)),
            127 => u64::from_be_bytes(self.read_array()?),
            short => u64::from(short),
        };
        let mut payload = Vec::new();
        (&self.0).take(length).read_to_end(&mut payload)?;
        Ok((head[0], payload))
    }

    /// The code of the close frame that comes, whatever comes before it; nothing if the connection ends
    /// without one.
    pub fn close_code(&mut self) -> Option<u16> {
        loop {
            match self.read_frame() {
                Ok((CLOSE, payload)) => {
                    return payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                }
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// The next reply or push as text.
    ///
    /// # Panics
    /// If a close frame comes, or nothing.
    #[track_caller]
    pub fn reply(&mut self) -> String {
        let (opcode, payload) = self.read_frame().expect("a reply");
        assert_eq!(opcode, TEXT, "instead of a reply: {:?}", String::from_utf8_lossy(&payload));
        String::from_utf8_lossy(&payload).into_owned()
    }

    /// Waits until the other side has ended the connection, in whatever way.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn wait_for_end(&mut self) {
        let deadline = Instant::now() + SOON;
        let mut buffer = [0; 4096];
        while Instant::now() < deadline {
            match self.0.read(&mut buffer) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return,
            }
        }
        panic!("the connection was not ended");
    }

    /// Ends the connection by a reset instead of a FIN.
    ///
    /// # Panics
    /// If the system refuses the option.
    pub fn reset(self) {
        socket2::SockRef::from(&self.0).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    }

    fn read_array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}
