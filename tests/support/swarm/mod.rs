//! Thousands of WebSocket clients of the Centrifuge JSON protocol on one thread.
//!
//! A [`Swarm`] does what many browsers would: it upgrades, sends `connect` and all `subscribe`s in one
//! frame, answers pings and takes merged frames apart. What it reads goes to an [`Observer`]; what the
//! observer wants done about it is done between two turns, so that nothing changes under a turn's feet.
//! Whatever a healthy server never does (a masked frame, half a line) ends the test with a panic.
//!
//! Clients come from addresses spread over 127.0.0.0/8: one address has 28,000 ephemeral ports, and
//! finding a free one slows down long before they are used up.

mod client;
mod lines;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use nix::errno::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use client::{Client, Input};
pub use lines::{Line, Publication};

/// The id of the `connect` command of every client.
pub const CONNECT_ID: u32 = 1;
/// Clients per source address.
const CLIENTS_PER_ADDRESS: usize = 2000;
/// Connections that [`Swarm::connect_all`] keeps on the way at once, so that no listener's backlog overflows.
const CONNECTING_AT_ONCE: usize = 128;
/// What one `read` takes at most.
const READ_BYTES: usize = 256 << 10;

/// A client's index in its swarm.
pub type ClientIndex = usize;

/// What the clients of a swarm read. Each method is called in the order of the bytes.
pub trait Observer {
    /// A text frame came; its lines follow.
    fn frame(&mut self, _client: ClientIndex, _payload: &[u8]) {}

    /// A line of a frame came. Pings are answered before this is called.
    fn line(&mut self, client: ClientIndex, line: Line<'_>);

    /// The connection is gone: with a close frame and its code, or without.
    fn closed(&mut self, client: ClientIndex, code: Option<u16>) {
        panic!("the server closed client {client} with {code:?}");
    }
}

/// How a client leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goodbye {
    /// With a close frame first.
    CloseFrame,
    /// By closing the socket, as a browser does that is killed.
    Abrupt,
}

/// What a swarm in counting mode has received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Data frames, pings excepted, counted when their last byte has come.
    pub frames: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
}

/// Clients of one server, on the thread that calls [`Swarm::turn`].
#[derive(Debug)]
pub struct Swarm {
    poll: Poll,
    events: Events,
    server: SocketAddr,
    network: u8,
    clients: Vec<Client>,
    buffer: Box<[u8]>,
    counted: Counted,
}

impl Swarm {
    /// A swarm of `clients` clients of `server`, none of them connected yet.
    pub fn new(server: SocketAddr, clients: usize) -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            server,
            network: 0,
            clients: (0..clients).map(|_| Client::default()).collect(),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            counted: Counted::default(),
        })
    }

    /// From here on clients come from addresses in 127.NETWORK.0.0/16, so that swarms do not meet.
    pub fn come_from(&mut self, network: u8) {
        self.network = network;
    }

    /// The number of clients, connected or not.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Makes a client's receive buffer small (`SO_RCVBUF`), from its next connection on. With a stalled
    /// reader the server's socket then fills after some ten kilobytes instead of megabytes.
    pub fn shrink_receive_buffer(&mut self, client: ClientIndex, bytes: usize) {
        self.clients[client].receive_buffer = Some(bytes);
    }

    /// All clients agree with the server on compressed messages, from their next connections on.
    pub fn deflate(&mut self) {
        self.clients.iter_mut().for_each(|client| client.deflates = true);
    }

    /// A client shows this token when it connects, from its next connection on; none if it is empty.
    pub fn show_token(&mut self, client: ClientIndex, token: &str) {
        self.clients[client].token = token.into();
    }

    /// Connects a client, for the first time or again, and sends `connect` (id [`CONNECT_ID`]) and one
    /// `subscribe` per topic (ids 2, 3, ...) as soon as the server has accepted.
    pub fn connect<T: AsRef<str>>(&mut self, client: ClientIndex, topics: &[T]) -> io::Result<()> {
        self.connect_with(client, topics.iter().map(|topic| format!(r#"{{"channel":"{}"}}"#, topic.as_ref())))
    }

    /// The same for clients that have more to say than a topic, such as from where on they recover: each
    /// subscribe is a JSON object.
    pub fn connect_with<S: AsRef<str>>(
        &mut self,
        client: ClientIndex,
        subscribes: impl IntoIterator<Item = S>,
    ) -> io::Result<()> {
        let socket =
            open_socket(self.server, source_of(self.network, client), self.clients[client].receive_buffer)?;
        let mut stream = mio::net::TcpStream::from_std(socket.into());
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(client), interest)?;
        self.clients[client].start(stream, self.server, subscribes);
        Ok(())
    }

    /// Connects every client to the topics that `topics_of` names, and turns until all `connect` and
    /// `subscribe` commands have been answered.
    pub fn connect_all<T: AsRef<str>, O: Observer>(
        &mut self,
        observer: &mut O,
        limit: Duration,
        mut topics_of: impl FnMut(&mut O, ClientIndex) -> Vec<T>,
    ) -> io::Result<()> {
        let deadline = Instant::now() + limit;
        let (mut started, mut ready) = (0, 0);
        while ready < self.len() {
            while started < self.len() && started - ready < CONNECTING_AT_ONCE {
                self.connect(started, &topics_of(observer, started))?;
                started += 1;
            }
            self.turn(Duration::from_millis(100), observer)?;
            ready += self.clients[ready..started].iter().take_while(|client| client.is_settled()).count();
            assert!(Instant::now() < deadline, "{ready} of {} clients are connected in time", self.len());
        }
        Ok(())
    }

    /// Whether every command of every client has its answer.
    pub fn is_settled(&self) -> bool {
        self.clients.iter().all(Client::is_settled)
    }

    /// Sends `subscribe`; the answer carries the id that is returned.
    pub fn subscribe(&mut self, client: ClientIndex, topic: &str) -> u32 {
        self.clients[client].command("subscribe", topic)
    }

    /// Sends `unsubscribe`; the answer carries the id that is returned.
    pub fn unsubscribe(&mut self, client: ClientIndex, topic: &str) -> u32 {
        self.clients[client].command("unsubscribe", topic)
    }

    /// Ends a client's connection at once. Nothing more is read from it.
    pub fn disconnect(&mut self, client: ClientIndex, goodbye: Goodbye) {
        self.clients[client].leave(goodbye);
    }

    /// Whether the client has a connection, or is about to have one.
    pub fn is_connected(&self, client: ClientIndex) -> bool {
        self.clients[client].is_connected()
    }

    /// The client stops reading, pings and replies included.
    pub fn stall(&mut self, client: ClientIndex) {
        self.clients[client].stalled = true;
    }

    /// The client reads on. What waited for it is read at once: the kernel tells of it only once.
    pub fn resume(&mut self, client: ClientIndex, observer: &mut impl Observer) {
        self.clients[client].stalled = false;
        self.read(client, true, observer);
    }

    /// From here on frames are counted and their payloads thrown away unread. Every client must have all
    /// its answers. Pings are still answered; they are told by their size.
    pub fn count_only(&mut self) {
        for client in &mut self.clients {
            client.count_only();
        }
        self.counted = Counted::default();
    }

    /// From here on lines are read again, after [`Swarm::count_only`]. No frame may be under way.
    pub fn read_again(&mut self) {
        self.clients.iter_mut().for_each(Client::read_again);
    }

    /// What was counted since [`Swarm::count_only`], by all clients together.
    pub fn counted(&self) -> Counted {
        self.counted
    }

    /// What each client counted since [`Swarm::count_only`].
    pub fn counted_by_each(&self) -> impl Iterator<Item = Counted> {
        self.clients.iter().map(|client| client.counted)
    }

    /// Waits for the network, at most `timeout`, and handles what it brought.
    pub fn turn(&mut self, timeout: Duration, observer: &mut impl Observer) -> io::Result<()> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        match self.poll.poll(&mut events, Some(timeout)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            let client = event.token().0;
            if event.is_writable() {
                self.clients[client].flush();
            }
            if event.is_readable() {
                self.read(client, event.is_read_closed(), observer);
            }
        }
        self.events = events;
        Ok(())
    }

    /// Turns until `done`, and panics with `what` when that takes longer than `limit`.
    pub fn turn_until<O: Observer>(
        &mut self,
        what: &str,
        limit: Duration,
        observer: &mut O,
        mut done: impl FnMut(&Self, &mut O) -> bool,
    ) -> io::Result<()> {
        let deadline = Instant::now() + limit;
        while !done(self, observer) {
            assert!(Instant::now() < deadline, "within {limit:?}: {what}");
            self.turn(Duration::from_millis(20), observer)?;
        }
        Ok(())
    }

    /// Reads until the socket has no more. A short read says so too, unless the end may follow it.
    fn read(&mut self, index: ClientIndex, to_the_end: bool, observer: &mut impl Observer) {
        let client = &mut self.clients[index];
        while !client.stalled {
            match client.read(&mut self.buffer) {
                Input::Bytes(length) => {
                    let before = client.counted;
                    client.take(index, &self.buffer[..length], observer);
                    self.counted.frames += client.counted.frames - before.frames;
                    self.counted.bytes += client.counted.bytes - before.bytes;
                    if length < READ_BYTES && !to_the_end {
                        return;
                    }
                }
                Input::Nothing => return,
                Input::End => {
                    let code = client.forget();
                    return observer.closed(index, code);
                }
            }
        }
    }
}

/// The source address of a client: another one in 127.0.0.0/8 for every [`CLIENTS_PER_ADDRESS`].
fn source_of(network: u8, client: ClientIndex) -> Ipv4Addr {
    let number = u8::try_from(client / CLIENTS_PER_ADDRESS + 2).expect("a swarm is smaller than that");
    Ipv4Addr::new(127, network, 0, number)
}

/// A socket on its way to `server`.
fn open_socket(server: SocketAddr, source: Ipv4Addr, receive_buffer: Option<usize>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.bind(&SockAddr::from(SocketAddr::from((source, 0))))?;
    match socket.connect(&SockAddr::from(server)) {
        // `connect` goes on in the background: an error that does not last shows up on the first write.
        Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => Err(error),
        _ => Ok(socket),
    }
}
