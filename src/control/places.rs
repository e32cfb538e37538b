//! Who is connected: the places of the control port, and whose is given away when there is none left.
//!
//! The number is bounded, below what the limit on descriptors keeps free of clients. When all places are taken, the
//! connection that has asked for nothing and taken nothing for the longest time makes room: those first that never asked,
//! then those that never asked for anything but what is open to everybody (`/health`; with an API key, whatever needs
//! none), which keep nobody out who may ask for more. Who has asked is who has sent a whole request, its body included:
//! half of one, at whatever pace, holds no place that somebody else needs. When everybody is being answered, a few
//! reserved places are left, for `/health` alone: so whoever decides about a restart gets an answer.
//!
//! A request that was carried out is answered: a connection goes only while none is, and reads nothing more once it was
//! told to go. Who has closed its half of the connection gets its answer as well, but may be gone, and so keeps its place
//! only for as long as an idle one.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Bytes;
use futures_util::task::AtomicWaker;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use crate::config::host::DESCRIPTORS_RESERVE;

/// Connections at the same time. Operators, a scraper and some publishers with pools need dozens. Costs about
/// 20 KiB each, and a body in flight each. With [`RESERVED`] it is half of `DESCRIPTORS_RESERVE`, which the
/// configuration keeps free of clients.
pub(super) const PLACES: usize = 120;

/// Places beside them in which only `/health` is answered.
pub(super) const RESERVED: usize = 8;

const _: () = assert!(PLACES + RESERVED <= DESCRIPTORS_RESERVE / 2, "the other half is for everything else");

/// How long a connection may be silent after its first request. Longer than a scraper's usual interval, so
/// that a scraper and publishers can keep their connections.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(75);

/// How long whoever has just come may take to ask, to the end of its request, however many others come.
const GRACE: Duration = Duration::from_millis(100);

/// How long whoever has asked, or has taken a part of its answer, keeps its place, however many others come.
const KEPT: Duration = Duration::from_secs(1);

/// In which time an answer is handed to the socket, if the peer takes it.
const WRITTEN: Duration = Duration::from_millis(10);

/// Between two looks at whether a connection that is to close has answered.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// One connection: what it does, and whether it was told to go.
///
/// Times are in milliseconds after `opened`; 0: not so far.
#[derive(Debug)]
pub(super) struct Connection {
    opened: Instant,
    /// In one of the reserved places.
    reserved: bool,
    /// Requests of which a part has not come.
    half: AtomicU32,
    /// Whole requests that are being answered.
    in_flight: AtomicU32,
    /// Answers of which a part has not been written, of those that are counted (`room`).
    unwritten: AtomicU32,
    /// When the last head of a request came.
    last_head: AtomicU64,
    /// When the last whole request came or was answered.
    last_request: AtomicU64,
    /// When the peer last took bytes that had waited for it.
    last_write: AtomicU64,
    /// When the peer was found to have closed its half, with a request of its own to be answered.
    half_closed: AtomicU64,
    /// Has asked for what is not open to everybody, and was let in.
    is_trusted: AtomicBool,
    closed: AtomicBool,
    evicted: AtomicBool,
    stopping: AtomicBool,
    /// Who looks at the two above.
    told: AtomicWaker,
    freed: Arc<Freed>,
}

/// Tells [`Places`], if it waits, that somebody was answered, or is gone.
#[derive(Debug, Default)]
struct Freed {
    waits: AtomicBool,
    notify: Notify,
}

impl Freed {
    fn tell(&self) {
        if self.waits.load(Ordering::Relaxed) {
            self.notify.notify_one();
        }
    }

    /// Returns when somebody was answered or is gone, or after `limit`.
    async fn wait(&self, limit: Duration) {
        self.waits.store(true, Ordering::Relaxed);
        let _ = timeout(limit, self.notify.notified()).await;
        self.waits.store(false, Ordering::Relaxed);
    }
}

impl Connection {
    fn new(opened: Instant, reserved: bool, freed: Arc<Freed>) -> Self {
        Self {
            opened,
            reserved,
            half: AtomicU32::new(0),
            in_flight: AtomicU32::new(0),
            unwritten: AtomicU32::new(0),
            last_head: AtomicU64::new(0),
            last_request: AtomicU64::new(0),
            last_write: AtomicU64::new(0),
            half_closed: AtomicU64::new(0),
            is_trusted: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            evicted: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            told: AtomicWaker::new(),
            freed,
        }
    }

    /// Whether only `/health` is answered here.
    pub(super) fn is_reserved(&self) -> bool {
        self.reserved
    }

    /// Whether it has asked for what is not open to everybody.
    pub(super) fn is_trusted(&self) -> bool {
        self.is_trusted.load(Ordering::Relaxed)
    }

    /// It has asked for what is not open to everybody, and was let in.
    pub(super) fn trust(&self) {
        self.is_trusted.store(true, Ordering::Relaxed);
    }

    /// The head of a request has come; `is_whole`: with all that belongs to it.
    pub(super) fn began(self: &Arc<Self>, is_whole: bool) -> Answering {
        let now = self.now();
        self.last_head.store(now, Ordering::Relaxed);
        self.half.fetch_add(1, Ordering::Relaxed);
        let answering = Answering { connection: Arc::clone(self), is_whole: AtomicBool::new(false) };
        if is_whole {
            answering.is_whole(now);
        }
        answering
    }

    /// The peer has taken bytes that had waited for it.
    pub(super) fn wrote(&self) {
        self.last_write.store(self.now(), Ordering::Relaxed);
    }

    /// Whether a part of a request has not come, or has not been looked at.
    pub(super) fn has_half(&self) -> bool {
        self.half.load(Ordering::Relaxed) > 0
    }

    /// The peer sends nothing more. Returns whether it is still to be answered.
    pub(super) fn half_closed(&self) -> bool {
        let is_answering = self.is_busy() || self.unwritten.load(Ordering::Relaxed) > 0;
        if is_answering && self.half_closed.load(Ordering::Relaxed) == 0 {
            self.half_closed.store(self.now(), Ordering::Relaxed);
        }
        is_answering
    }

    /// Tells it to go: it reads nothing more, and ends when it has answered.
    pub(super) fn evict(&self) {
        self.evicted.store(true, Ordering::Relaxed);
        self.told.wake();
    }

    /// Returns soon after it was told to go.
    pub(super) async fn is_evicted(&self) {
        while !self.evicted.load(Ordering::Relaxed) {
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Returns when this connection has to be closed: because no request has come within `first_head`, because
    /// nothing has happened for [`IDLE_MAX`], because somebody else needs the place, or because of the stop.
    pub(super) async fn time_to_go(&self, first_head: Duration) {
        let waited_too_long = async {
            loop {
                let deadline = self.deadline(first_head);
                if deadline <= Instant::now() {
                    return;
                }
                tokio::time::sleep_until(deadline).await;
            }
        };
        let told = poll_fn(|cx| {
            self.told.register(cx.waker());
            let is_told = self.evicted.load(Ordering::Relaxed) || self.stopping.load(Ordering::Relaxed);
            if is_told { Poll::Ready(()) } else { Poll::Pending }
        });
        tokio::select! {
            () = waited_too_long => {}
            () = told => {}
        }
    }

    /// Returns when a connection that has to be closed has answered what was carried out, or cannot.
    pub(super) async fn has_answered(&self) {
        loop {
            let now = Instant::now();
            let is_quiet = || !self.is_busy() && self.idle_since() + WRITTEN <= now;
            if self.is_idle(now) || self.evicted.load(Ordering::Relaxed) && is_quiet() {
                return;
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Until when it may stay if nothing happens.
    fn deadline(&self, first_head: Duration) -> Instant {
        if self.is_busy() {
            return Instant::now() + IDLE_MAX;
        }
        match self.last_head.load(Ordering::Relaxed) {
            0 => self.opened + first_head,
            began => self.at(began.max(self.last_done())) + IDLE_MAX,
        }
    }

    /// When the last whole request came, or was answered, or the peer took bytes.
    fn last_done(&self) -> u64 {
        self.last_request.load(Ordering::Relaxed).max(self.last_write.load(Ordering::Relaxed))
    }

    fn is_busy(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0
    }

    /// Whether its place is somebody else's who needs it. Who asks only for what is open to everybody keeps its place for
    /// no longer than it is being answered: as many as there are places, each asking without a pause, keep nobody out.
    fn may_be_evicted(&self, now: Instant) -> bool {
        self.is_idle(now) || self.standing() == Standing::Open && !self.is_busy()
    }

    /// Whether it has asked for nothing and taken nothing for longer than it needs for either.
    fn is_idle(&self, now: Instant) -> bool {
        let half_closed = self.half_closed.load(Ordering::Relaxed);
        if half_closed > 0 && self.at(half_closed) + KEPT <= now {
            return true;
        }
        let kept = match self.standing() {
            Standing::New => GRACE,
            Standing::Open => WRITTEN,
            Standing::Trusted => KEPT,
        };
        !self.is_busy() && self.idle_since() + kept <= now
    }

    /// Whether it may still be about to ask for the first time.
    fn has_just_come(&self, now: Instant) -> bool {
        !self.has_asked() && self.idle_since() + GRACE > now
    }

    fn has_asked(&self) -> bool {
        self.last_request.load(Ordering::Relaxed) > 0
    }

    fn standing(&self) -> Standing {
        match (self.has_asked(), self.is_trusted()) {
            (false, _) => Standing::New,
            (true, false) => Standing::Open,
            (true, true) => Standing::Trusted,
        }
    }

    /// When it last asked for something, or took something of an answer; or when it came, if it has never asked.
    fn idle_since(&self) -> Instant {
        let last = if self.has_asked() { self.last_done() } else { 0 };
        self.at(last)
    }

    fn at(&self, milliseconds: u64) -> Instant {
        self.opened + Duration::from_millis(milliseconds)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }
}

/// What a connection has shown of itself. The less, the sooner it makes room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// It has not asked.
    New,
    /// It has asked for what is open to everybody.
    Open,
    /// It has asked for more, and was let in.
    Trusted,
}

/// An answer of which a part has not been written, until this is dropped.
#[derive(Debug)]
pub(super) struct Unwritten(Arc<Connection>);

impl Unwritten {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        connection.unwritten.fetch_add(1, Ordering::Relaxed);
        Self(connection)
    }
}

impl Drop for Unwritten {
    fn drop(&mut self) {
        self.0.unwritten.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request that is being answered, from the end of its body until this is dropped.
#[derive(Debug)]
pub(super) struct Answering {
    connection: Arc<Connection>,
    is_whole: AtomicBool,
}

impl Answering {
    /// The whole request has come.
    fn is_whole(&self, now: u64) {
        if !self.is_whole.swap(true, Ordering::Relaxed) {
            self.connection.half.fetch_sub(1, Ordering::Relaxed);
            self.connection.in_flight.fetch_add(1, Ordering::Relaxed);
            self.connection.last_request.store(now, Ordering::Relaxed);
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if *self.is_whole.get_mut() {
            self.connection.last_request.store(self.connection.now(), Ordering::Relaxed);
            self.connection.in_flight.fetch_sub(1, Ordering::Relaxed);
            self.connection.freed.tell();
        } else {
            self.connection.half.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The body of a request. When its end has come, the request is whole.
#[derive(Debug)]
pub(super) struct Asked {
    body: Incoming,
    answering: Arc<Answering>,
}

impl Asked {
    pub(super) fn new(body: Incoming, answering: Arc<Answering>) -> Self {
        Self { body, answering }
    }
}

impl Body for Asked {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() || self.body.is_end_stream() {
            self.answering.is_whole(self.answering.connection.now());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub(super) struct Place(pub(super) Arc<Connection>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Relaxed);
        self.0.freed.tell();
    }
}

/// All places. Owned by whoever accepts.
#[derive(Debug, Default)]
pub(super) struct Places {
    taken: Vec<Arc<Connection>>,
    /// Those that were told to go and have not gone.
    leaving: Vec<Arc<Connection>>,
    freed: Arc<Freed>,
}

impl Places {
    /// A place for somebody who comes now, as soon as there is one.
    pub(super) async fn take(&mut self) -> Place {
        loop {
            if let Some(place) = self.try_take(Instant::now()) {
                return place;
            }
            // Nobody tells when somebody has been idle for long enough.
            self.freed.wait(GRACE).await;
        }
    }

    /// Tells everybody to go, and returns when nobody is left.
    pub(super) async fn close(&mut self) {
        self.leaving.append(&mut self.taken);
        for connection in &self.leaving {
            connection.stopping.store(true, Ordering::Relaxed);
            connection.told.wake();
        }
        loop {
            self.leaving.retain(|connection| !connection.closed.load(Ordering::Relaxed));
            if self.leaving.is_empty() {
                return;
            }
            self.freed.wait(GRACE).await;
        }
    }

    /// A free place, that of the idlest, or a reserved one if all others are in use. None as long as somebody has just
    /// come who may be idle, or as many have still to go as there are places.
    fn try_take(&mut self, now: Instant) -> Option<Place> {
        for connections in [&mut self.taken, &mut self.leaving] {
            connections.retain(|connection| !connection.closed.load(Ordering::Relaxed));
        }
        if self.leaving.len() >= PLACES {
            return None;
        }
        for (reserved, places) in [(false, PLACES), (true, RESERVED)] {
            let here = |connection: &&Arc<Connection>| connection.reserved == reserved;
            if self.taken.iter().filter(here).count() < places || self.evict_idlest(reserved, now) {
                return Some(self.add(reserved));
            }
            if self.taken.iter().filter(here).any(|connection| connection.has_just_come(now)) {
                return None;
            }
        }
        None
    }

    fn add(&mut self, reserved: bool) -> Place {
        let connection = Arc::new(Connection::new(Instant::now(), reserved, Arc::clone(&self.freed)));
        self.taken.push(Arc::clone(&connection));
        Place(connection)
    }

    /// Tells the connection to go that has asked for nothing for the longest time, of those that have shown the least of
    /// themselves. False if there is none.
    fn evict_idlest(&mut self, reserved: bool, now: Instant) -> bool {
        let may_go =
            |connection: &Arc<Connection>| connection.reserved == reserved && connection.may_be_evicted(now);
        let all = self.taken.iter().enumerate().filter(|(_, connection)| may_go(connection));
        let Some((at, _)) =
            all.min_by_key(|(_, connection)| (connection.standing(), connection.idle_since()))
        else {
            return false;
        };
        let connection = self.taken.swap_remove(at);
        connection.evict();
        self.leaving.push(connection);
        true
    }
}

#[cfg(test)]
mod tests;
