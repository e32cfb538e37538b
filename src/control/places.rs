//! The connections of the control port: their places, and which connection makes room when there is none
//! left.
//!
//! The number is bounded, below the number of descriptors that are reserved from clients. When all places are
//! taken, the connection that has been idle for longest makes room: first those that never sent a request,
//! then those that asked only for what is open to everybody (`/health`; with an API key, whatever needs no
//! key). The latter never keep out anyone who may ask for more. Only a complete request counts, its body
//! included: a connection with half a request holds no place that another needs. While all connections are
//! being answered, a few reserved places remain, for `/health` alone, so that a supervisor gets an answer.
//!
//! A request that was carried out is answered: a connection closes only while it has none, and after its
//! answers were offered to the socket. A request that arrives after a connection was told to close is refused
//! and does not count, so nobody can put the end off. A peer that has closed its half of the connection gets
//! its answer as well, but it may be gone, so it keeps its place only as long as an idle one.

mod asked;
mod reading;

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use crate::config::host::DESCRIPTORS_RESERVE;
use crate::config::memory::API_CONNECTIONS_MAX;
pub(super) use asked::{Answering, Asked, Unwritten};
use reading::Reading;

/// Connections at the same time. Operators, a scraper and some publishers with pools need dozens.
pub(super) const PLACES: usize = 96;

/// Further places in which only `/health` is answered.
pub(super) const RESERVED: usize = 8;

/// Connections that were told to close and are still open; few need longer than 20 ms. As many of them as
/// there are reserved places are left for those that make room there.
const LEAVING: usize = 23;

/// One more waits for its place.
const _: () = assert!(PLACES + RESERVED + LEAVING < API_CONNECTIONS_MAX, "their memory is counted");

const _: () =
    assert!(API_CONNECTIONS_MAX <= DESCRIPTORS_RESERVE / 2, "the other half is for everything else");

/// How long a connection may be silent after its first request. Longer than a scraper's usual interval, so
/// that a scraper and publishers can keep their connections.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(75);

/// How long a new connection may take to send its first complete request, however many others connect. It begins when
/// the connection's task first runs: while this thread is busy, a request may have come that nobody has read.
const GRACE: Duration = Duration::from_millis(100);

/// How long a connection keeps its place after it has asked, or has taken a part of its answer, however many
/// others connect.
const KEPT: Duration = Duration::from_secs(1);

/// If so many connections are new, they do not make connections give way that have asked and were allowed.
/// Fewer than all places: if only a few change hands, the next one would wait for each of them, although
/// others are idle.
const CROWD: usize = 24;

/// How long an answer that is not completely taken is left alone while others want its room.
pub(super) const UNREAD_KEPT: Duration = Duration::from_secs(2);

/// Time in which an answer is passed to the socket, if the peer takes it.
const WRITTEN: Duration = Duration::from_millis(10);

/// Pause between two checks whether a connection that is to close has answered.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// One connection: its requests and answers, and whether it was told to close.
///
/// Times are in milliseconds after `opened`. 0: not yet.
#[derive(Debug)]
pub(super) struct Connection {
    opened: Instant,
    /// In one of the reserved places.
    reserved: bool,
    /// Requests that are incomplete.
    half: AtomicU32,
    /// Complete requests that are being answered.
    in_flight: AtomicU32,
    /// Answers with unwritten bytes, of those that are counted (`room`).
    unwritten: AtomicU32,
    /// When the head of the latest request came.
    last_head: AtomicU64,
    /// When the latest request was complete, or was answered.
    last_request: AtomicU64,
    /// When the peer last took bytes that had waited for it.
    last_write: AtomicU64,
    reading: Reading,
    /// [`GRACE`] is over, and what had come by then was read.
    grace_is_over: AtomicBool,
    /// When the peer was found to have closed its half, while a request of its own was to be answered.
    half_closed: AtomicU64,
    /// It has asked for something that is not open to everybody, and was allowed.
    is_trusted: AtomicBool,
    closed: AtomicBool,
    /// When it was told to close because its time was over, or because another needs its place or room.
    evicted: AtomicU64,
    /// It was told to close because all are.
    stopping: AtomicBool,
    /// Wakes the task that watches the two above.
    told: AtomicWaker,
    freed: Arc<Freed>,
}

/// The connection of a request; an extension of every request.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    pub(super) connection: Arc<Connection>,
}

/// Tells [`Places`], if it waits, that a connection was answered or is closed.
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

    /// Returns when a connection was answered or is closed, or after `limit`.
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
            reading: Reading::default(),
            grace_is_over: AtomicBool::new(false),
            half_closed: AtomicU64::new(0),
            is_trusted: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            evicted: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            told: AtomicWaker::new(),
            freed,
        }
    }

    /// Whether only `/health` is answered here.
    pub(super) fn is_reserved(&self) -> bool {
        self.reserved
    }

    /// Whether it has asked for something that is not open to everybody.
    pub(super) fn is_trusted(&self) -> bool {
        self.is_trusted.load(Ordering::Relaxed)
    }

    /// Records that it has asked for something that is not open to everybody, and was allowed.
    pub(super) fn trust(&self) {
        self.is_trusted.store(true, Ordering::Relaxed);
    }

    /// Records that the head of a request has come; `is_whole`: with its body.
    pub(super) fn began(self: &Arc<Self>, is_whole: bool) -> Answering {
        let now = self.now();
        self.last_head.store(now, Ordering::Relaxed);
        Answering::new(Arc::clone(self), is_whole.then_some(now))
    }

    /// Requests that have begun and are not answered.
    pub(super) fn requests(&self) -> u32 {
        self.half.load(Ordering::Relaxed) + self.in_flight.load(Ordering::Relaxed)
    }

    /// Records that the peer has taken bytes that had waited for it.
    pub(super) fn wrote(&self) {
        self.last_write.store(self.now(), Ordering::Relaxed);
    }

    /// Whether a request is incomplete, or has not been processed.
    pub(super) fn has_half(&self) -> bool {
        self.half.load(Ordering::Relaxed) > 0
    }

    /// Records that the peer sends nothing more. Returns whether it is still to be answered.
    pub(super) fn half_closed(&self) -> bool {
        let is_answering = self.is_busy() || self.unwritten.load(Ordering::Relaxed) > 0;
        if is_answering && self.half_closed.load(Ordering::Relaxed) == 0 {
            self.half_closed.store(self.now(), Ordering::Relaxed);
        }
        is_answering
    }

    /// Tells it to close: it carries out nothing more, and ends when it has answered.
    pub(super) fn evict(&self) {
        if !self.was_evicted() {
            self.evicted.store(self.now(), Ordering::Relaxed);
            self.told.wake();
        }
    }

    fn was_evicted(&self) -> bool {
        self.evicted.load(Ordering::Relaxed) > 0
    }

    /// Whether it was told to close.
    pub(super) fn is_leaving(&self) -> bool {
        self.was_evicted() || self.stopping.load(Ordering::Relaxed)
    }

    /// Returns soon after another needed its place or room.
    pub(super) async fn is_evicted(&self) {
        while !self.was_evicted() {
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Returns when this connection has to close, and was told so: because no request has come within
    /// `first_head`, because nothing has happened for [`IDLE_MAX`], because another needs the place, or
    /// because of the stop.
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
            if self.is_leaving() { Poll::Ready(()) } else { Poll::Pending }
        });
        tokio::select! {
            () = waited_too_long => self.evict(),
            () = told => {}
        }
    }

    /// Returns when a connection that was told to close has answered what was carried out, or cannot. Not at
    /// once: a request that crosses the end must be refused over the connection, and not lost with it (RFC
    /// 9113, section 6.8).
    pub(super) async fn has_answered(&self) {
        loop {
            sleep(LOOK_AGAIN).await;
            if self.may_close(Instant::now()) {
                return;
            }
        }
    }

    /// Whether a connection that was told to close has answered. A connection that makes room for another has
    /// time only for answers in flight, and for no more of them than any other, however steadily its peer
    /// takes little. At a stop, an answer that its peer goes on taking has at most the time that others have
    /// when their room is wanted.
    fn may_close(&self, now: Instant) -> bool {
        let last_request = self.at(self.last_request.load(Ordering::Relaxed));
        let makes_room = || {
            self.was_evicted() && (self.idle_since() + WRITTEN <= now || last_request + self.kept() <= now)
        };
        self.is_idle(now) || !self.is_busy() && (last_request + UNREAD_KEPT <= now || makes_room())
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

    /// When the latest request was complete or answered, or when the peer last took bytes.
    fn last_done(&self) -> u64 {
        self.last_request.load(Ordering::Relaxed).max(self.last_write.load(Ordering::Relaxed))
    }

    /// Ends the grace of a new connection in time. Whoever polls this reads the socket first. Never returns.
    pub(super) async fn end_grace(&self) -> Infallible {
        sleep(GRACE).await;
        self.grace_is_over.store(true, Ordering::Relaxed);
        self.freed.tell();
        pending().await
    }

    /// Whether a complete request is being answered.
    pub(super) fn is_busy(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0
    }

    /// Whether another may have its place. A connection that asks only for what is open to everybody keeps
    /// its place only while its answer is made, which waits for nobody (`answers`), and for [`WRITTEN`] to
    /// take it. So as many such connections as there are places, each asking without a pause, keep nobody
    /// out. A longer answer, such as a page of metrics for a scraper without the key, may be cut off.
    fn may_be_evicted(&self, now: Instant) -> bool {
        self.is_idle(now) || self.standing() == Standing::Open && !self.is_busy()
    }

    /// Whether it has been idle for longer than a request or an answer needs.
    fn is_idle(&self, now: Instant) -> bool {
        let half_closed = self.half_closed.load(Ordering::Relaxed);
        if half_closed > 0 && self.at(half_closed) + KEPT <= now {
            return true;
        }
        !self.is_busy() && !self.has_just_come() && self.idle_since() + self.kept() <= now
    }

    /// How long it is left alone after it has asked for something, or has taken something.
    fn kept(&self) -> Duration {
        match self.standing() {
            Standing::New => GRACE,
            Standing::Open => WRITTEN,
            Standing::Trusted => KEPT,
        }
    }

    /// Whether it was told to close so recently that it will probably close soon.
    fn was_just_evicted(&self, now: Instant) -> bool {
        self.was_evicted() && self.at(self.evicted.load(Ordering::Relaxed)) + GRACE > now
    }

    /// Whether it may still be about to send its first request.
    fn has_just_come(&self) -> bool {
        !self.has_asked() && !self.grace_is_over.load(Ordering::Relaxed)
    }

    pub(super) fn has_asked(&self) -> bool {
        self.last_request.load(Ordering::Relaxed) > 0
    }

    fn standing(&self) -> Standing {
        match (self.has_asked(), self.is_trusted()) {
            (false, _) => Standing::New,
            (true, false) => Standing::Open,
            (true, true) => Standing::Trusted,
        }
    }

    /// When it last asked for something, or took a part of an answer; or when it was opened, if it has never
    /// asked.
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

/// The rank of a connection by what it has asked for. The lower, the sooner it makes room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// It has not asked.
    New,
    /// It has asked only for what is open to everybody.
    Open,
    /// It has asked for more, and was allowed.
    Trusted,
}

/// A place that is occupied until this is dropped.
#[derive(Debug)]
pub(super) struct Place(pub(super) Arc<Connection>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Relaxed);
        self.0.freed.tell();
    }
}

/// All places. The accepting task owns them.
#[derive(Debug, Default)]
pub(super) struct Places {
    taken: Vec<Arc<Connection>>,
    /// Connections that were told to close and are still open.
    leaving: Vec<Arc<Connection>>,
    freed: Arc<Freed>,
}

impl Places {
    /// A place for a new connection, as soon as there is one.
    pub(super) async fn take(&mut self) -> Place {
        loop {
            if let Some(place) = self.try_take(Instant::now()) {
                return place;
            }
            // Nobody tells when somebody has been idle for long enough.
            self.freed.wait(GRACE).await;
        }
    }

    /// Tells all connections to close, and returns when none is left.
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

    /// A free place, that of the idlest connection, or a reserved one if all others are in use. `None` while
    /// this is not decided: while a new connection may prove idle, or while as many as allowed were just told
    /// to close. `None` as well while all reserved places are in use.
    fn try_take(&mut self, now: Instant) -> Option<Place> {
        for connections in [&mut self.taken, &mut self.leaving] {
            connections.retain(|connection| !connection.closed.load(Ordering::Relaxed));
        }
        for (reserved, places, leaving) in [(false, PLACES, LEAVING - RESERVED), (true, RESERVED, LEAVING)] {
            let here = |connection: &&Arc<Connection>| connection.reserved == reserved;
            let may_evict = self.leaving.len() < leaving;
            if self.taken.iter().filter(here).count() < places
                || may_evict && self.evict_idlest(reserved, now)
            {
                return Some(self.add(reserved));
            }
            if self.taken.iter().filter(here).any(|connection| connection.has_just_come())
                || !may_evict && self.leaving.iter().any(|connection| connection.was_just_evicted(now))
            {
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

    /// Tells that connection to close that has been idle for longest, of those with the lowest rank. Returns
    /// false if there is none.
    fn evict_idlest(&mut self, reserved: bool, now: Instant) -> bool {
        let here = |connection: &&Arc<Connection>| connection.reserved == reserved;
        // Who has just come has asked, or makes room, in a moment.
        let newcomers = self.taken.iter().filter(here).filter(|connection| connection.has_just_come());
        let is_crowded = newcomers.count() >= CROWD;
        let may_go = |connection: &Arc<Connection>| {
            here(&connection)
                && connection.may_be_evicted(now)
                && (connection.standing() < Standing::Trusted || !is_crowded)
        };
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
