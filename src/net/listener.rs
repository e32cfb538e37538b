//! Listening sockets, and the connections that they accept.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use mio::event::Source;
use mio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel keeps until they are accepted. It may allow fewer (`net.core.somaxconn`).
const BACKLOG: i32 = 65_535;

/// Bytes that may wait unsent in a client's socket before it counts as full. [`Listener::open`] says why.
const NOTSENT_LOWAT: u32 = 16 << 10;

/// A listening socket for connections by TCP.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    socket: TcpListener,
}

/// A connection that was accepted.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: TcpStream,
    /// The address of its peer.
    pub peer: SocketAddr,
}

impl Listener {
    /// Binds one of possibly several sockets to `address`, each with its share of the connections. Options set
    /// here pass to the accepted sockets. `cargo bench --bench sockets` measures them one by one; the figures are
    /// of loopback and two CPUs. None of them shows in the CPU that a frame of one line costs: medians of five
    /// rounds were 0.96 to 1.01 of that with this set, and 0.98 where nothing differed.
    ///
    /// Set:
    /// * `TCP_NODELAY`. Without it, the second of two frames to a client that has just sent a pong waits 40 ms and
    ///   more for the acknowledgement of the first, instead of 0.01 ms.
    /// * `TCP_NOTSENT_LOWAT`. A client that reads nothing has 56 KB in the kernel, and 4.2 MB without: a slow client
    ///   would have a queue of its own after all.
    ///
    /// Left out:
    /// * `SO_SNDBUF`. Beside the low-water mark it saves nothing (56 KB), alone it is worse (167 KB), and it ends
    ///   the kernel's own adaption to fast paths over long distances.
    /// * `SO_INCOMING_CPU`. On a client's socket the kernel overwrites it with each packet. On the listeners it
    ///   sends all connections that come over one CPU to one shard, 100 % instead of 50 %: where one CPU takes the
    ///   network's interrupts, the others would have no clients.
    /// * `TCP_CONGESTION`. Which one suits the path is the operator's to know (`net.ipv4.tcp_congestion_control`);
    ///   reno and cubic cost no more CPU than bbr, beyond the noise.
    /// * `TCP_USER_TIMEOUT`. Pings find a dead peer within `timeouts.ping` + `timeouts.pong`, sent to or not: its
    ///   connection ended after 35 s, against 34 s with 33 s of this. With 10 s it ended after 11 s if it was being
    ///   sent to, but so did a living client's that read nothing for 15 s between two pings. What it would bring:
    ///   the kernel forgets what we have closed after 21 s instead of 72 to 94. (By hand, between two network
    ///   namespaces; not in the suite.)
    ///
    /// # Errors
    /// What the operating system says, such as that the address is in use or not this machine's.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = open(address)?;
        socket.set_reuse_port(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_notsent_lowat(NOTSENT_LOWAT)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let socket = TcpListener::from_std(socket.into());
        Ok(Self { address: socket.local_addr()?, socket })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes the next connection.
    ///
    /// # Errors
    /// `WouldBlock` when there is none. Otherwise the error of the connection, or the lack of descriptors or memory.
    pub fn accept(&self) -> io::Result<Accepted> {
        let (stream, peer) = self.socket.accept()?;
        Ok(Accepted { stream, peer })
    }

    /// The source for a poll.
    pub(super) fn source(&mut self) -> &mut impl Source {
        &mut self.socket
    }
}

/// An address for listeners that share its port. It holds a port that the kernel chose until they are open.
#[derive(Debug)]
pub struct Reservation {
    address: SocketAddr,
    /// Bound, and not listening: it reserves a port that the kernel chose.
    _chosen: Option<Socket>,
}

impl Reservation {
    /// Checks that no other process has bound `address`, and chooses a port if it has none. Listeners that share a port
    /// could not tell that another process shares it as well.
    ///
    /// # Errors
    /// What the operating system says, such as that the address is in use or not this machine's.
    pub fn new(address: SocketAddr) -> io::Result<Self> {
        let socket = open(address)?;
        let is_chosen = address.port() == 0;
        // The kernel chooses a port that no socket has, not even one that would share it.
        socket.set_reuse_port(is_chosen)?;
        socket.bind(&address.into())?;
        let bound = socket.local_addr()?.as_socket();
        let address =
            bound.ok_or_else(|| io::Error::new(ErrorKind::Unsupported, "not an internet address"))?;
        Ok(Self { address, _chosen: is_chosen.then_some(socket) })
    }

    /// The address, with its port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_accepted_has_the_options_of_its_listener_and_the_address_of_its_peer() {
        let listener = Listener::open(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port is free");
        let client = std::net::TcpStream::connect(listener.address()).expect("it listens");
        let accepted = loop {
            match listener.accept() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                result => break result.expect("the client has come"),
            }
        };
        assert_eq!(accepted.peer, client.local_addr().expect("it is connected"));
        let socket = socket2::SockRef::from(&accepted.stream);
        assert!(socket.tcp_nodelay().expect("a TCP option"));
        assert_eq!(socket.tcp_notsent_lowat().expect("a TCP option"), NOTSENT_LOWAT);
    }

    #[test]
    fn a_port_that_was_chosen_is_kept_until_its_listeners_are_open() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let reserved = Reservation::new(any).expect("a port is free");
        let stranger = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
        let taken = stranger.bind(&reserved.address().into()).expect_err("it is taken");
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        let listeners = [(); 2].map(|()| Listener::open(reserved.address()).expect("they share the port"));
        drop(reserved);
        std::net::TcpStream::connect(listeners[0].address()).expect("they listen");
    }
}
