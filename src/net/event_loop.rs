//! A shard's event loop: its poll tells it which sockets are ready, and its listeners accept connections.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::errno::Errno;

use crate::base::clock::Clock;
use crate::base::log_limiter::RateLimit;
use crate::base::mailbox::Wake;
use crate::net::listener::{Accepted, Listener};
use crate::shard::{Setup, Shard};
use crate::transport::Transport;

/// The waker's token. Clients' tokens are their slots; listeners count down from here.
const WAKER: Token = Token(usize::MAX);

/// Events taken from the kernel at once.
const EVENTS: usize = 1024;

/// How long accepting pauses when no descriptors are left. Edges are not repeated, so a timer tries again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a shard sleeps at most. So the control thread can tell an idle shard from one that hangs.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// The interval between two log lines of one kind.
const LOG_EVERY: Duration = Duration::from_secs(10);

struct WakePoll(Waker);

impl Wake for WakePoll {
    fn wake(&self) {
        if let Err(error) = self.0.wake() {
            tracing::error!(%error, "a shard cannot be woken");
        }
    }
}

/// A poll with which only its waker is registered.
#[derive(Debug)]
pub struct ShardPoll {
    poll: Poll,
}

impl ShardPoll {
    /// A poll, and its waker.
    ///
    /// # Errors
    /// When the process has no descriptors left.
    pub fn new() -> io::Result<(Self, Box<dyn Wake>)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        Ok((Self { poll }, Box::new(WakePoll(waker))))
    }
}

/// One listening address. It has no socket while there is no room for more clients.
#[derive(Debug)]
struct Endpoint {
    address: SocketAddr,
    token: Token,
    listener: Option<Listener>,
    /// Connections may be waiting.
    ready: bool,
}

/// The event loop: a shard with its poll and its listeners. Its clients use the transport `T`.
#[derive(Debug)]
pub struct Loop<T> {
    shard: Shard<TcpStream, T>,
    poll: Poll,
    endpoints: Vec<Endpoint>,
    clients_max: usize,
    accept_again_at: Option<Instant>,
    accept_log: RateLimit,
    full_log: RateLimit,
}

impl<T: Transport> Loop<T> {
    /// A loop around a new shard. It accepts connections from `listeners`, up to `clients_max` clients, for which its table
    /// of descriptors has room.
    ///
    /// # Errors
    /// When a listener cannot be registered.
    pub fn new(
        setup: Setup,
        shard_poll: ShardPoll,
        listeners: Vec<Listener>,
        clients_max: usize,
        start: Instant,
    ) -> io::Result<Self> {
        let shard = Shard::new(setup, start);
        let mut endpoints = Vec::new();
        for (index, mut listener) in listeners.into_iter().enumerate() {
            let token = Token(usize::MAX - 1 - index);
            shard_poll.poll.registry().register(listener.source(), token, Interest::READABLE)?;
            endpoints.push(Endpoint {
                address: listener.address(),
                token,
                listener: Some(listener),
                ready: true,
            });
        }
        Ok(Self {
            shard,
            poll: shard_poll.poll,
            endpoints,
            clients_max,
            accept_again_at: None,
            accept_log: RateLimit::new(LOG_EVERY),
            full_log: RateLimit::new(LOG_EVERY),
        })
    }

    /// Turns until the shard has been drained.
    ///
    /// # Errors
    /// When the poll fails.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        while !self.shard.is_drained() {
            self.wait(&mut events)?;
            for event in &events {
                self.dispatch(event);
            }
            self.accept();
            self.shard.tick(Clock::now(), Instant::now);
            self.update_listeners();
        }
        Ok(())
    }

    /// Sleeps until there is something to do. The mailbox is rearmed before the last look at it, so that later mail wakes
    /// the poll.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let mut poll_timeout = self.poll_timeout();
        if poll_timeout != Duration::ZERO {
            self.shard.rearm();
            if self.shard.has_mail() {
                poll_timeout = Duration::ZERO;
            }
        }
        match self.poll.poll(events, Some(poll_timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }

    fn poll_timeout(&self) -> Duration {
        if self.accept_again_at.is_none()
            && self.endpoints.iter().any(|endpoint| endpoint.ready && endpoint.listener.is_some())
        {
            return Duration::ZERO;
        }
        let until_accept = self.accept_again_at.map(|at| at.saturating_duration_since(Instant::now()));
        [self.shard.poll_timeout(), until_accept].into_iter().flatten().fold(SLEEP_MAX, Duration::min)
    }

    fn dispatch(&mut self, event: &Event) {
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

    /// Accepts new connections, as far as the budget and the limit on clients go.
    fn accept(&mut self) {
        if self.accept_again_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        self.accept_again_at = None;
        let mut budget = self.shard.accepts_per_tick();
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

    /// Whether connections are accepted: while there is room for clients, and when the node is full, to refuse them.
    /// Refused connections use descriptors of the reserve.
    fn has_room(&self) -> bool {
        self.shard.placed() < self.clients_max || self.shard.capacity().is_full()
    }

    /// Whether closed listeners are opened again: when a twentieth of the clients has left, so that they are not opened and
    /// closed for single clients; but earlier if the node is nearly full, as the listeners of all shards may be closed.
    fn may_reopen(&self) -> bool {
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
            Ok(accepted) => self.admit(accepted),
            Err(error) if error.kind() == ErrorKind::WouldBlock => endpoint.ready = false,
            Err(error) if is_exhaustion(&error) => {
                endpoint.ready = true;
                self.pause_accepting(&error);
            }
            // The connection was reset before it was accepted, or the like: the next one may be fine.
            Err(_) => {}
        }
    }

    fn admit(&mut self, Accepted { mut stream, peer }: Accepted) {
        let token = Token(self.shard.vacancy().slot as usize);
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self.poll.registry().register(&mut stream, token, interest) {
            Ok(()) => {
                self.shard.admit(stream, Some(peer), Instant::now());
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

    /// Closes the listeners when the shard's table of descriptors is full, or the shard drains. Opens them again when there
    /// is room.
    ///
    /// A full shard that kept its listener would still receive its share of new connections, and let them wait, while other
    /// shards have room. When no shard has room, connections are refused.
    fn update_listeners(&mut self) {
        if self.shard.is_draining() {
            self.accept_backlog();
        } else if !self.has_room() {
            self.close_full();
        } else if self.may_reopen() {
            self.open_listeners();
        }
    }

    /// Accepts the connections that the kernel has accepted, so that each is answered, and closes the listeners.
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

    /// Closes the listeners of a shard whose table of descriptors is full, and logs it.
    fn close_full(&mut self) {
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
            let opened = Listener::open(endpoint.address).and_then(|mut listener| {
                self.poll.registry().register(listener.source(), endpoint.token, Interest::READABLE)?;
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

/// Whether accepting failed because descriptors or memory ran out, which may become free again.
fn is_exhaustion(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::ENFILE | Errno::EMFILE | Errno::ENOBUFS | Errno::ENOMEM))
}
