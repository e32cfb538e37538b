//! Who is connected: the places of the control port, and whose is given away when there is none left.
//!
//! The number is bounded, below what the limit on descriptors keeps free of clients. When all places are taken, the
//! connection that has asked for nothing and taken nothing for the longest time makes room: those first that never asked,
//! then those that never asked for anything but what is open to everybody (`/health`; with an API key, whatever needs
//! none), which keep nobody out who may ask for more. Who has asked is who has sent a whole request, its body included:
//! half of one, at whatever pace, holds no place that somebody else needs. When everybody is being answered, a few
//! reserved places are left, for `/health` alone: so whoever decides about a restart gets an answer.
//!
//! A request that was carried out is answered: a connection goes only while none is, and when its answers have been offered
//! to the socket. What comes after it was told to go is refused and counts for nothing, so that nobody can put the end off.
//! Who has closed its half of the connection gets its answer as well, but may be gone, and so keeps its place only for as
//! long as an idle one.

mod asked;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use crate::config::host::DESCRIPTORS_RESERVE;
use crate::config::memory::API_CONNECTIONS_MAX;
use asked::Answering;
pub(super) use asked::{Asked, Unwritten};

/// Connections at the same time. Operators, a scraper and some publishers with pools need dozens.
pub(super) const PLACES: usize = 96;

/// Places beside them in which only `/health` is answered.
pub(super) const RESERVED: usize = 8;

/// Connections that were told to go and have not gone, which few need longer than 20 ms for. As many of them as there are
/// reserved places are left for those who make room there.
const LEAVING: usize = 23;

/// One more waits for its place.
const _: () = assert!(PLACES + RESERVED + LEAVING < API_CONNECTIONS_MAX, "their memory is counted");

const _: () =
    assert!(API_CONNECTIONS_MAX <= DESCRIPTORS_RESERVE / 2, "the other half is for everything else");

/// How long a connection may be silent after its first request. Longer than a scraper's usual interval, so
/// that a scraper and publishers can keep their connections.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(75);

/// How long whoever has just come may take to ask, to the end of its request, however many others come.
const GRACE: Duration = Duration::from_millis(100);

/// How long whoever has asked, or has taken a part of its answer, keeps its place, however many others come.
const KEPT: Duration = Duration::from_secs(1);

/// So many that have just come keep those from making room that have asked and were let in. Fewer than all places: where only a few change
/// hands, who comes next would wait for each of them, although others are idle.
const CROWD: usize = 24;

/// How long an answer of which a part has not been taken is left alone although others want its room.
pub(super) const UNREAD_KEPT: Duration = Duration::from_secs(2);

/// In which time an answer is handed to the socket, if the peer takes it.
const WRITTEN: Duration = Duration::from_millis(10);

/// Between two looks at whether a connection that is to close has answered.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

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
    /// When it was told to go because its time was over, or because somebody needs what it has.
    evicted: AtomicU64,
    /// It was told to go because everybody is.
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
        Answering::new(Arc::clone(self), is_whole.then_some(now))
    }

    /// Requests of which a part has come that are not answered yet.
    pub(super) fn requests(&self) -> u32 {
        self.half.load(Ordering::Relaxed) + self.in_flight.load(Ordering::Relaxed)
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

    /// Tells it to go: it carries out nothing more, and ends when it has answered.
    pub(super) fn evict(&self) {
        if !self.was_evicted() {
            self.evicted.store(self.now(), Ordering::Relaxed);
            self.told.wake();
        }
    }

    fn was_evicted(&self) -> bool {
        self.evicted.load(Ordering::Relaxed) > 0
    }

    /// Whether it was told to go.
    pub(super) fn is_leaving(&self) -> bool {
        self.was_evicted() || self.stopping.load(Ordering::Relaxed)
    }

    /// Returns soon after somebody needed what it has.
    pub(super) async fn is_evicted(&self) {
        while !self.was_evicted() {
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Returns when this connection has to be closed, and has been told to go: because no request has come within
    /// `first_head`, because nothing has happened for [`IDLE_MAX`], because somebody else needs the place, or because of
    /// the stop.
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

    /// Returns when a connection that was told to go has answered what was carried out, or cannot. Not at once: what crosses
    /// the end is to be refused over the connection, and not to be lost with it (RFC 9113, section 6.8).
    pub(super) async fn has_answered(&self) {
        loop {
            sleep(LOOK_AGAIN).await;
            if self.may_close(Instant::now()) {
                return;
            }
        }
    }

    /// Whether a connection that was told to go has answered. Who makes room for somebody else has no time but for what is
    /// on its way, and no more of that than any other, however steadily its peer takes little. At a stop an answer that
    /// its peer goes on taking has at most as long as any has where others want its room.
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

    /// When the last whole request came, or was answered, or the peer took bytes.
    fn last_done(&self) -> u64 {
        self.last_request.load(Ordering::Relaxed).max(self.last_write.load(Ordering::Relaxed))
    }

    /// Whether a whole request of it is being answered.
    pub(super) fn is_busy(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0
    }

    /// Whether its place is somebody else's who needs it. Who asks only for what is open to everybody keeps its place for
    /// no longer than its answer is being made, which waits for nobody (`answers`), and has [`WRITTEN`] for taking it: as
    /// many as there are places, each asking without a pause, keep nobody out. A longer answer, such as a page of metrics for
    /// a scraper without the key, may be cut off.
    fn may_be_evicted(&self, now: Instant) -> bool {
        self.is_idle(now) || self.standing() == Standing::Open && !self.is_busy()
    }

    /// Whether it has asked for nothing and taken nothing for longer than it needs for either.
    fn is_idle(&self, now: Instant) -> bool {
        let half_closed = self.half_closed.load(Ordering::Relaxed);
        if half_closed > 0 && self.at(half_closed) + KEPT <= now {
            return true;
        }
        !self.is_busy() && self.idle_since() + self.kept() <= now
    }

    /// How long it is left alone after it has asked for something, or has taken something.
    fn kept(&self) -> Duration {
        match self.standing() {
            Standing::New => GRACE,
            Standing::Open => WRITTEN,
            Standing::Trusted => KEPT,
        }
    }

    /// Whether it was told to go so lately that it can be expected to be gone soon.
    fn was_just_evicted(&self, now: Instant) -> bool {
        self.was_evicted() && self.at(self.evicted.load(Ordering::Relaxed)) + GRACE > now
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

    /// A free place, that of the idlest, or a reserved one if all others are in use. None as long as it is not known which:
    /// while somebody has just come who may be idle, or as many as may have just been told to go. None as well while all
    /// reserved places are in use.
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
            if self.taken.iter().filter(here).any(|connection| connection.has_just_come(now))
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

    /// Tells the connection to go that has asked for nothing for the longest time, of those that have shown the least of
    /// themselves. False if there is none.
    fn evict_idlest(&mut self, reserved: bool, now: Instant) -> bool {
        let here = |connection: &&Arc<Connection>| connection.reserved == reserved;
        // Who has just come has asked, or makes room, in a moment.
        let newcomers = self.taken.iter().filter(here).filter(|connection| connection.has_just_come(now));
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
