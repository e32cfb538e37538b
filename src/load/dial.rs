//! Opens sockets to the server.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::LoadError;

/// How long a server may take to answer the first connection.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

/// Clients per source address in 127.0.0.0/8. An address has 28,000 ports, and to find a free one becomes
/// slow long before they are used up.
const CLIENTS_PER_ADDRESS: usize = 5000;

/// The first source address is 127.0.0.2, because servers and other clients use 127.0.0.1.
const FIRST_ADDRESS: u32 = 0x7f00_0002;

/// The receive buffer of a client that never reads (`SO_RCVBUF`). With it the server notices after some ten
/// kilobytes instead of megabytes. The kernel doubles it.
const SLOW_RECEIVE_BUFFER: usize = 4096;

/// Whether a server listens at `server`.
pub(super) fn probe(server: SocketAddr) -> Result<(), LoadError> {
    TcpStream::connect_timeout(&server, PROBE_LIMIT).map(drop).map_err(|error| match error.kind() {
        ErrorKind::ConnectionRefused => LoadError::NoServer(server),
        _ => LoadError::Unreachable { address: server, error },
    })
}

/// A socket for client number `client` that connects to `server`. It becomes writable when it is connected.
pub(super) fn dial(server: SocketAddr, client: usize, is_slow: bool) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if is_slow {
        socket.set_recv_buffer_size(SLOW_RECEIVE_BUFFER)?;
    }
    if let Some(source) = source_of(client, server.ip()) {
        // The port is chosen by `connect`, when the other end is known, and so may be used with others too.
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        socket.bind(&SockAddr::from(SocketAddr::from((source, 0))))?;
    }
    match socket.connect(&SockAddr::from(server)) {
        // `connect` goes on in the background.
        Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => Ok(socket.into()),
        Err(error) => Err(error),
        Ok(()) => Ok(socket.into()),
    }
}

/// The source address of a client, if the server is on loopback. Otherwise the kernel chooses it.
fn source_of(client: usize, server: IpAddr) -> Option<Ipv4Addr> {
    if !server.is_loopback() || !server.is_ipv4() {
        return None;
    }
    let number = u32::try_from(client / CLIENTS_PER_ADDRESS).ok()?;
    Some(Ipv4Addr::from_bits(FIRST_ADDRESS + number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_spread_over_loopback_only() {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        for (client, source) in [(0, [127, 0, 0, 2]), (4999, [127, 0, 0, 2]), (5000, [127, 0, 0, 3])] {
            assert_eq!(source_of(client, loopback), Some(source.into()));
        }
        assert_eq!(source_of(1_270_000, loopback), Some([127, 0, 1, 0].into()));
        assert_eq!(source_of(0, IpAddr::from([192, 0, 2, 1])), None);
    }
}
