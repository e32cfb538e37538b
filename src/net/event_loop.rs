//! The only file that knows mio: the shard's poll, its listeners, its clients' sockets.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket as RawSocket, Type};

use crate::base::log_limiter::RateLimit;
use crate::base::mailbox::Wake;
use crate::shard::{Application, Setup, Shard, Socket};

/// The waker's token. Clients' tokens are their slots; listeners count down from here.
const WAKER: Token = Token(usize::MAX);

/// Events taken from the kernel at once.
const EVENTS: usize = 1024;

/// Connections the kernel keeps for us before we accept them; it may allow less (`net.core.somaxconn`).
const BACKLOG: i32 = 65_535;

/// Bytes of a client's socket buffer that may wait unsent before it is called full: [`listen`] says what that
/// brings.
const NOTSENT_LOWAT: u32 = 16 << 10;

/// How long accepting pauses when there are no descriptors left: edges are not repeated, so it is a timer
/// that tries again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Between two log lines about the same thing.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// A client's socket.
impl Socket for TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Read::read(self, buffer)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(self, bytes)
    }

    fn finish(&mut self) {
        // Fails only on a connection that is gone already.
        let _ = self.shutdown(Shutdown::Write);
    }

    fn peer(&self) -> Option<SocketAddr> {
        self.peer_addr().ok()
    }
}

struct WakePoll(Waker);

impl Wake for WakePoll {
    fn wake(&self) {
        if let Err(error) = self.0.wake() {
            tracing::error!(%error, "a shard cannot be woken");
        }
    }
}

/// A poll that nothing but its waker is registered with yet.
#[derive(Debug)]
pub struct ShardPoll {
    poll: Poll,
}

impl ShardPoll {
    /// A poll, and what wakes it.
    ///
    /// # Errors
    /// When the process has no descriptors left.
    pub fn new() -> io::Result<(Self, Box<dyn Wake>)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        Ok((Self { poll }, Box::new(WakePoll(waker))))
    }
}

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
pub fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = open(address)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(NOTSENT_LOWAT)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Finds out whether `address` can be bound by nobody but us, and which port it has if any will do: sockets
/// that share a port cannot tell a stranger that shares it too.
///
/// # Errors
/// What the operating system says, such as that the address is in use or not this machine's.
pub fn probe(address: SocketAddr) -> io::Result<SocketAddr> {
    let socket = open(address)?;
    socket.bind(&address.into())?;
    let bound = socket.local_addr()?.as_socket();
    bound.ok_or_else(|| io::Error::new(ErrorKind::Unsupported, "not an internet address"))
}

fn open(address: SocketAddr) -> io::Result<RawSocket> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// One listening address; without a socket while there is no room for more clients.
#[derive(Debug)]
struct Endpoint {
    address: SocketAddr,
    token: Token,
    listener: Option<TcpListener>,
    /// There may be connections waiting.
    ready: bool,
}

/// A shard with its poll and its listeners: the loop.
#[derive(Debug)]
pub struct Loop<A> {
    shard: Shard<TcpStream, A>,
    poll: Poll,
    endpoints: Vec<Endpoint>,
    clients_max: usize,
    accepts_per_tick: usize,
    accept_again_at: Option<Instant>,
    accept_log: RateLimit,
    full_log: RateLimit,
}

impl<A: Application> Loop<A> {
    /// A loop that serves a new shard to those who come to `listeners`, at most `clients_max` of them: what its table
    /// of descriptors has room for.
    ///
    /// # Errors
    /// When a listener cannot be registered.
    pub fn new(
        setup: Setup,
        shard_poll: ShardPoll,
        listeners: Vec<std::net::TcpListener>,
        clients_max: usize,
        start: Instant,
    ) -> io::Result<Self> {
        let accepts_per_tick = setup.config.budgets.accepts;
        let shard = Shard::new(setup, start);
        let mut endpoints = Vec::new();
        for (index, listener) in listeners.into_iter().enumerate() {
            let address = listener.local_addr()?;
            let token = Token(usize::MAX - 1 - index);
            let mut listener = TcpListener::from_std(listener);
            shard_poll.poll.registry().register(&mut listener, token, Interest::READABLE)?;
            endpoints.push(Endpoint { address, token, listener: Some(listener), ready: true });
        }
        Ok(Self {
            shard,
            poll: shard_poll.poll,
            endpoints,
            clients_max,
            accepts_per_tick,
            accept_again_at: None,
            accept_log: RateLimit::new(LOG_EVERY),
            full_log: RateLimit::new(LOG_EVERY),
        })
    }

    /// Turns until the shard has been drained.
    ///
    /// # Errors
    /// When the poll fails, which is no fault of a client's.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        while !self.shard.is_drained() {
            self.wait(&mut events)?;
            for event in &events {
                self.hear(event);
            }
            self.accept();
            self.shard.tick(Instant::now);
            self.update_listeners();
        }
        Ok(())
    }

    /// Sleeps until there is something to do. The mailbox is rearmed before it is looked at for the last
    /// time: what comes later rings.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let mut poll_timeout = self.poll_timeout();
        if poll_timeout != Some(Duration::ZERO) {
            self.shard.rearm();
            if self.shard.has_mail() {
                poll_timeout = Some(Duration::ZERO);
            }
        }
        match self.poll.poll(events, poll_timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }

    fn poll_timeout(&self) -> Option<Duration> {
        if self.accept_again_at.is_none()
            && self.endpoints.iter().any(|endpoint| endpoint.ready && endpoint.listener.is_some())
        {
            return Some(Duration::ZERO);
        }
        let until_accept = self.accept_again_at.map(|at| at.saturating_duration_since(Instant::now()));
        match (self.shard.poll_timeout(), until_accept) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    fn hear(&mut self, event: &Event) {
        let token = event.token();
        if token == WAKER {
            return;
        }
        if let Some(endpoint) = self.endpoints.iter_mut().find(|endpoint| endpoint.token == token) {
            endpoint.ready = true;
            return;
        }
        let Ok(slot) = u32::try_from(token.0) else { return };
        if event.is_read_closed() || event.is_error() {
            self.shard.hung_up(slot);
        } else if event.is_readable() {
            self.shard.readable(slot);
        }
        if event.is_writable() {
            self.shard.writable(slot);
        }
    }

    /// Takes new connections in, as far as the budget and the limit on clients go.
    fn accept(&mut self) {
        if self.accept_again_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        self.accept_again_at = None;
        let mut budget = self.accepts_per_tick;
        for index in 0..self.endpoints.len() {
            while budget > 0
                && self.endpoints[index].ready
                && self.has_room()
                && self.accept_again_at.is_none()
            {
                budget -= 1;
                self.accept_one(index);
            }
        }
    }

    /// Whether connections are accepted: while there is room for clients, and when the node has none, to say so. Those
    /// that are being told have descriptors of the reserve.
    fn has_room(&self) -> bool {
        self.shard.placed() < self.clients_max || self.shard.capacity().is_full()
    }

    /// Whether listeners that were closed are opened: not for each client that leaves, as that would close them for each that
    /// comes. But where the node has hardly any place left, all listeners may be closed, and nobody would be left to answer.
    fn opens_again(&self) -> bool {
        let placed = self.shard.placed();
        let has_much_room = placed < self.clients_max - self.clients_max / 20;
        has_much_room || (placed < self.clients_max && self.shard.capacity().is_nearly_full())
    }

    fn accept_one(&mut self, index: usize) {
        let endpoint = &mut self.endpoints[index];
        let Some(listener) = &endpoint.listener else {
            endpoint.ready = false;
            return;
        };
        match listener.accept() {
            Ok((socket, _)) => self.admit(socket),
            Err(error) if error.kind() == ErrorKind::WouldBlock => endpoint.ready = false,
            Err(error) if is_exhaustion(&error) => {
                endpoint.ready = true;
                self.pause_accepting(&error);
            }
            // The connection was reset before it was accepted, or the like: the next one may be fine.
            Err(_) => {}
        }
    }

    fn admit(&mut self, mut socket: TcpStream) {
        let token = Token(self.shard.vacancy().slot as usize);
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self.poll.registry().register(&mut socket, token, interest) {
            Ok(()) => {
                self.shard.admit(socket, Instant::now());
            }
            Err(error) => self.pause_accepting(&error),
        }
    }

    fn pause_accepting(&mut self, error: &io::Error) {
        self.shard.stats().accept_failures.add(1);
        let now = Instant::now();
        self.accept_again_at = Some(now + ACCEPT_PAUSE);
        if let Some(more_since_last) = self.accept_log.allow(now) {
            let clients = self.shard.len();
            tracing::warn!(%error, clients, more_since_last, "no connection can be accepted: raise the limit on descriptors (ulimit -n) or lower limits.clients");
        }
    }

    /// Closes the listeners when the shard's table of descriptors is full, or it leaves; opens them again when there is
    /// room.
    ///
    /// A full shard that kept its listener would go on winning its share of new connections, and let them
    /// wait, while other shards have room. When none has, who comes is told.
    fn update_listeners(&mut self) {
        if self.shard.is_draining() {
            self.accept_backlog();
        } else if !self.has_room() {
            self.leave_to_others();
        } else if self.opens_again() {
            self.open_listeners();
        }
    }

    /// Accepts what the kernel has accepted already, so that nobody is cut off unheard, and closes.
    fn accept_backlog(&mut self) {
        for index in 0..self.endpoints.len() {
            while self.endpoints[index].ready
                && self.endpoints[index].listener.is_some()
                && self.accept_again_at.is_none()
            {
                self.accept_one(index);
            }
        }
        self.close_listeners();
    }

    /// Closes the listeners of a full table of descriptors, and says so.
    fn leave_to_others(&mut self) {
        if self.endpoints.iter().all(|endpoint| endpoint.listener.is_none()) {
            return;
        }
        self.close_listeners();
        self.shard.stats().listeners_closed.add(1);
        if let Some(more_since_last) = self.full_log.allow(Instant::now()) {
            let (shard, clients) = (self.shard.id(), self.shard.len());
            tracing::warn!(
                shard,
                clients,
                more_since_last,
                "a shard's table of descriptors is full: who comes goes to the other shards until clients of this one leave; raise the limit on descriptors (ulimit -n), or have more shards"
            );
        }
    }

    fn close_listeners(&mut self) {
        for endpoint in &mut self.endpoints {
            endpoint.listener = None;
            endpoint.ready = false;
        }
    }

    fn open_listeners(&mut self) {
        for endpoint in self.endpoints.iter_mut().filter(|endpoint| endpoint.listener.is_none()) {
            let opened = listen(endpoint.address).and_then(|listener| {
                let mut listener = TcpListener::from_std(listener);
                self.poll.registry().register(&mut listener, endpoint.token, Interest::READABLE)?;
                Ok(listener)
            });
            match opened {
                Ok(listener) => (endpoint.listener, endpoint.ready) = (Some(listener), true),
                Err(error) => {
                    tracing::warn!(address = %endpoint.address, %error, "a listener cannot be opened again")
                }
            }
        }
    }
}

/// Whether accepting fails for want of something that others may give back: descriptors or memory.
fn is_exhaustion(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::ENFILE | Errno::EMFILE | Errno::ENOBUFS | Errno::ENOMEM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accepted_socket_has_the_options_of_its_listener() {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port is free");
        listener.set_nonblocking(false).expect("it is a socket");
        let _client = std::net::TcpStream::connect(listener.local_addr().expect("it is bound"));
        let (socket, _) = listener.accept().expect("the client has come");
        let socket = socket2::SockRef::from(&socket);
        assert!(socket.tcp_nodelay().expect("a TCP option"));
        assert_eq!(socket.tcp_notsent_lowat().expect("a TCP option"), NOTSENT_LOWAT);
    }
}
