//! Who is connected: the places of the control port, and whose is given away when there is none left.
//!
//! The number is bounded, below what the limit on descriptors keeps free of clients. When all places are taken, the
//! connection that has asked for nothing and taken nothing for the longest time makes room, those first that never did.
//! Who has asked is who has sent a whole request, its body included: half of one, at whatever pace, holds no place that
//! somebody else needs. When everybody is being answered, a few reserved places are left, for `/health` alone: so whoever
//! decides about a restart gets an answer.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

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

/// One connection: what it does, and whether it was told to go.
#[derive(Debug)]
pub(super) struct Connection {
    opened: Instant,
    /// In one of the reserved places.
    reserved: bool,
    /// Whole requests that are being answered.
    in_flight: AtomicU32,
    /// When the last head of a request came, in milliseconds after `opened`; 0: none so far.
    last_head: AtomicU64,
    /// When the last whole request came or was answered, as above.
    last_request: AtomicU64,
    /// When the peer last took bytes, as above.
    last_write: AtomicU64,
    closed: AtomicBool,
    evicted: Notify,
    /// Tells [`Places`] that somebody was answered, or is gone.
    freed: Arc<Notify>,
}

impl Connection {
    fn new(opened: Instant, reserved: bool, freed: Arc<Notify>) -> Self {
        Self {
            opened,
            reserved,
            in_flight: AtomicU32::new(0),
            last_head: AtomicU64::new(0),
            last_request: AtomicU64::new(0),
            last_write: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            evicted: Notify::new(),
            freed,
        }
    }

    /// Whether only `/health` is answered here.
    pub(super) fn is_reserved(&self) -> bool {
        self.reserved
    }

    /// The head of a request has come.
    pub(super) fn began(self: &Arc<Self>) -> Answering {
        self.touch(&self.last_head);
        Answering { connection: Arc::clone(self), is_whole: AtomicBool::new(false) }
    }

    /// The peer has taken bytes.
    pub(super) fn wrote(&self) {
        self.touch(&self.last_write);
    }

    /// Returns when this connection has to be closed: because no request has come within `first_head`, because
    /// nothing has happened for [`IDLE_MAX`], or because somebody else needs the place.
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
        tokio::select! {
            () = waited_too_long => {}
            () = self.evicted.notified() => {}
        }
    }

    /// Until when it may stay if nothing happens.
    fn deadline(&self, first_head: Duration) -> Instant {
        if self.is_busy() {
            return Instant::now() + IDLE_MAX;
        }
        match self.last_head.load(Ordering::Relaxed) {
            0 => self.opened + first_head,
            began => self.opened + Duration::from_millis(began.max(self.last_done())) + IDLE_MAX,
        }
    }

    /// When the last whole request came, or was answered, or the peer took bytes.
    fn last_done(&self) -> u64 {
        self.last_request.load(Ordering::Relaxed).max(self.last_write.load(Ordering::Relaxed))
    }

    fn is_busy(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0
    }

    /// Whether its place is somebody else's who needs it.
    fn is_idle(&self, now: Instant) -> bool {
        let kept = if self.has_asked() { KEPT } else { GRACE };
        !self.is_busy() && self.idle_since() + kept <= now
    }

    /// Whether it may still be about to ask for the first time.
    fn has_just_come(&self, now: Instant) -> bool {
        !self.has_asked() && self.idle_since() + GRACE > now
    }

    fn has_asked(&self) -> bool {
        self.last_request.load(Ordering::Relaxed) > 0
    }

    /// When it last asked for something, or took something of an answer; or when it came, if it has never asked.
    fn idle_since(&self) -> Instant {
        let last = if self.has_asked() { self.last_done() } else { 0 };
        self.opened + Duration::from_millis(last)
    }

    fn touch(&self, when: &AtomicU64) {
        let after = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        when.store(after.max(1), Ordering::Relaxed);
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
    pub(super) fn is_whole(&self) {
        if !self.is_whole.swap(true, Ordering::Relaxed) {
            self.connection.in_flight.fetch_add(1, Ordering::Relaxed);
            self.connection.touch(&self.connection.last_request);
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if *self.is_whole.get_mut() {
            self.connection.touch(&self.connection.last_request);
            self.connection.in_flight.fetch_sub(1, Ordering::Relaxed);
            self.connection.freed.notify_one();
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
        if body.is_end_stream() {
            answering.is_whole();
        }
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
            self.answering.is_whole();
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
        self.0.freed.notify_one();
    }
}

/// All places. Owned by whoever accepts.
#[derive(Debug, Default)]
pub(super) struct Places {
    taken: Vec<Arc<Connection>>,
    freed: Arc<Notify>,
}

impl Places {
    /// A place for somebody who comes now, as soon as there is one.
    pub(super) async fn take(&mut self) -> Place {
        loop {
            if let Some(place) = self.try_take(Instant::now()) {
                return place;
            }
            // Nobody tells when somebody has been idle for long enough.
            let _ = timeout(GRACE, self.freed.notified()).await;
        }
    }

    /// A free place, that of the idlest, or a reserved one if all others are in use; none as long as somebody has just
    /// come who may be idle.
    fn try_take(&mut self, now: Instant) -> Option<Place> {
        self.taken.retain(|connection| !connection.closed.load(Ordering::Relaxed));
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

    /// Tells the connection to go that has asked for nothing for the longest time; first, of those that never asked for
    /// anything. False if there is none.
    fn evict_idlest(&mut self, reserved: bool, now: Instant) -> bool {
        let may_go =
            |connection: &Arc<Connection>| connection.reserved == reserved && connection.is_idle(now);
        let all = self.taken.iter().enumerate().filter(|(_, connection)| may_go(connection));
        let Some((at, _)) =
            all.min_by_key(|(_, connection)| (connection.has_asked(), connection.idle_since()))
        else {
            return false;
        };
        self.taken.swap_remove(at).evicted.notify_one();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn take(places: &mut Places) -> Place {
        places.try_take(soon()).expect("there is a place")
    }

    /// When whoever came in this test has been idle for long enough.
    fn soon() -> Instant {
        Instant::now() + GRACE
    }

    fn asked(place: &Place) -> Answering {
        let answering = place.0.began();
        answering.is_whole();
        answering
    }

    fn is_evicted(place: &Place) -> bool {
        place.0.evicted.notified().now_or_never().is_some()
    }

    #[test]
    fn the_idlest_makes_room() {
        let mut places = Places::default();
        let mut all: Vec<_> = (0..PLACES).map(|_| take(&mut places)).collect();
        assert!(places.try_take(Instant::now()).is_none(), "all have just come");
        for (place, asked) in all.iter().zip([3, 1, 2].into_iter().chain(4..)) {
            place.0.last_request.store(asked * 1000, Ordering::Relaxed);
        }
        let busy = asked(&all[1]);

        let later = Instant::now() + Duration::from_secs(10);
        let newcomer = places.try_take(later).expect("there is a place");
        assert!(!newcomer.0.is_reserved());
        let evicted: Vec<_> = (0..PLACES).filter(|&at| is_evicted(&all[at])).collect();
        assert_eq!(evicted, [2], "the one before is being answered");
        drop(all.pop());
        drop(take(&mut places));
        assert!(!all.iter().any(is_evicted), "a free place is taken first");
        drop(busy);
    }

    /// Who sends half a request is nobody's equal who has sent a whole one, however long ago that came.
    #[test]
    fn half_a_request_holds_no_place() {
        let mut places = Places::default();
        let mut all: Vec<_> = (0..PLACES).map(|_| take(&mut places)).collect();
        for place in &all {
            place.0.last_request.store(1, Ordering::Relaxed);
        }
        all[7].0.last_request.store(0, Ordering::Relaxed);
        let half = all[7].0.began();
        all[7].0.wrote();
        let newcomer = places.try_take(soon()).expect("there is a place");
        assert!(!newcomer.0.is_reserved() && is_evicted(&all[7]));
        drop(half);
        assert_eq!(all[7].0.in_flight.load(Ordering::Relaxed), 0);
        all[7] = newcomer;
        // Those that have asked keep their places for as long as they take their answers.
        let later = Instant::now() + KEPT + GRACE;
        let when = u64::try_from((later - all[0].0.opened).as_millis()).unwrap();
        let busy = asked(&all[7]);
        for (at, place) in all.iter().enumerate() {
            place.0.last_write.store(if at == 9 { 0 } else { when }, Ordering::Relaxed);
        }
        assert!(!places.try_take(later).expect("there is a place").0.is_reserved());
        assert!(is_evicted(&all[9]));
        drop(busy);
    }

    #[tokio::test]
    async fn where_everybody_is_being_answered_the_reserved_places_are_left() {
        let mut places = Places::default();
        let mut all: Vec<_> = (0..PLACES).map(|_| take(&mut places)).collect();
        let mut busy: Vec<_> = all.iter().map(asked).collect();
        let reserved: Vec<_> = (0..RESERVED).map(|_| take(&mut places)).collect();
        assert!(reserved.iter().all(|place| place.0.is_reserved()));
        let last = take(&mut places);
        assert!(last.0.is_reserved());
        let evicted = reserved.iter().position(is_evicted).expect("one of them makes room");

        let stay = reserved.iter().enumerate().filter(|(at, _)| *at != evicted);
        let more: Vec<_> = stay.map(|(_, place)| asked(place)).chain([asked(&last)]).collect();
        assert!(places.try_take(soon()).is_none(), "everybody is being answered");
        assert!(places.freed.notified().now_or_never().is_none());
        drop((busy.pop(), all.pop()));
        let taken = places.take().now_or_never().expect("somebody has gone");
        assert!(!taken.0.is_reserved());
        drop(more);
    }

    #[test]
    fn silence_ends_a_connection() {
        let first_head = Duration::from_secs(10);
        let mut places = Places::default();
        let place = take(&mut places);
        let connection = &place.0;
        let left = || connection.deadline(first_head) - connection.opened;
        assert_eq!(left(), first_head, "no request has come");
        let answering = connection.began();
        connection.last_head.store(4_000, Ordering::Relaxed);
        assert_eq!(left(), Duration::from_secs(4) + IDLE_MAX, "its body has its own time");
        answering.is_whole();
        assert!(left() >= IDLE_MAX, "it is being answered");
        drop(answering);
        connection.last_request.store(5_000, Ordering::Relaxed);
        assert_eq!(left(), Duration::from_secs(5) + IDLE_MAX);
        connection.last_write.store(7_000, Ordering::Relaxed);
        assert_eq!(left(), Duration::from_secs(7) + IDLE_MAX, "it has taken bytes since");
    }
}
