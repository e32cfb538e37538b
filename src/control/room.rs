//! Bounds the memory that all request bodies, or all large answers, have together, in bytes. Each takes its
//! share as it arrives. If there is no room, it waits or is refused.
//!
//! A share that waits for its peer can be revoked: that of an incomplete body, or of an answer that is not
//! completely read. If there is no room, the share goes that has held the most for longest: its bytes times
//! its age. So nobody can fill the room with what is never finished.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

use super::places::Connection;

/// Pause between two checks for shares that can be revoked, while somebody waits.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Room for so many bytes.
#[derive(Debug)]
pub(super) struct Room {
    bytes: u32,
    free: Arc<Semaphore>,
    /// How long a revocable share is left alone.
    kept: Duration,
    /// Revocable shares, by their numbers.
    waiting: Mutex<BTreeMap<u64, Arc<Waiting>>>,
    next_number: AtomicU64,
    /// Bytes that were revoked and are not free yet.
    returning: AtomicU32,
}

/// A share whose owner waits for its peer.
#[derive(Debug)]
struct Waiting {
    since: Instant,
    bytes: AtomicU32,
    /// Bytes of it that were revoked.
    returning: AtomicU32,
    revoked: Notify,
    /// The connection to close when the share is revoked; `None`: the owner checks `revoked`.
    connection: Option<Arc<Connection>>,
}

/// The share was revoked for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Revoked;

/// A part of a room, until this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    room: Arc<Room>,
    permit: Option<OwnedSemaphorePermit>,
    waiting: Option<(u64, Arc<Waiting>)>,
}

impl Room {
    /// Room for `bytes`. Shares that wait for their peers are left alone for `kept`.
    pub(super) fn new(bytes: u32, kept: Duration) -> Arc<Self> {
        Arc::new(Self {
            bytes,
            free: Arc::new(Semaphore::new(bytes as usize)),
            kept,
            waiting: Mutex::default(),
            next_number: AtomicU64::new(0),
            returning: AtomicU32::new(0),
        })
    }

    /// An empty share.
    pub(super) fn share(self: &Arc<Self>) -> Share {
        Share { room: Arc::clone(self), permit: None, waiting: None }
    }

    /// Revokes shares to make room for `bytes`, as far as there are any. A connection with something to
    /// answer closes after that, which may take seconds. Nobody waits for it; if there are no other shares,
    /// one such connection is told to close.
    fn reclaim(&self, bytes: u32) {
        let now = Instant::now();
        let mut waiting = self.waiting.lock();
        while self.returning.load(Ordering::Relaxed) < bytes {
            let age = |share: &Waiting| now.saturating_duration_since(share.since);
            let cost = |share: &Waiting| {
                u128::from(share.bytes.load(Ordering::Relaxed)) * (1 + age(share).as_micros())
            };
            let is_soon =
                |share: &Waiting| share.connection.as_ref().is_none_or(|connection| !connection.is_busy());
            let goes_already = |share: &Waiting| {
                share
                    .connection
                    .as_ref()
                    .is_some_and(|connection| connection.is_leaving() && connection.is_busy())
            };
            let all = waiting.iter().filter(|(_, share)| age(share) >= self.kept && !goes_already(share));
            let dearest = all.max_by_key(|(_, share)| (is_soon(share), cost(share)));
            let Some(number) = dearest.map(|(&number, _)| number) else { return };
            let Some(share) = waiting.remove(&number) else { return };
            let is_soon = is_soon(&share);
            let held = if is_soon { share.bytes.load(Ordering::Relaxed) } else { 0 };
            share.returning.store(held, Ordering::Relaxed);
            self.returning.fetch_add(held, Ordering::Relaxed);
            match &share.connection {
                Some(connection) => connection.evict(),
                None => share.revoked.notify_one(),
            }
            if !is_soon {
                return;
            }
        }
    }
}

impl Share {
    /// Bytes of this share.
    pub(super) fn bytes(&self) -> u32 {
        self.permit.as_ref().map_or(0, |permit| u32::try_from(permit.num_permits()).unwrap_or(u32::MAX))
    }

    /// Takes `more` bytes as soon as there is room, at most all of it.
    ///
    /// # Errors
    /// If this share is revoked instead.
    pub(super) async fn grow(&mut self, more: usize) -> Result<(), Revoked> {
        let more = self.possible(more);
        if self.try_grow(more) {
            return Ok(());
        }
        let room = Arc::clone(&self.room);
        let mut acquired = std::pin::pin!(Arc::clone(&room.free).acquire_many_owned(more));
        loop {
            room.reclaim(more);
            tokio::select! {
                biased;
                () = self.revoked() => return Err(Revoked),
                permit = acquired.as_mut() => {
                    if let Ok(permit) = permit {
                        self.add(permit);
                    }
                    return Ok(());
                }
                () = sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// Takes `more` bytes if there is room now. If there is none, revocable shares are revoked, for whoever
    /// comes next.
    pub(super) fn grow_at_once(&mut self, more: usize) -> bool {
        let more = self.possible(more);
        let has_grown = self.try_grow(more);
        if !has_grown {
            self.room.reclaim(more);
        }
        has_grown
    }

    /// Resizes this share to the actual size, as far as there is room now.
    pub(super) fn fit(&mut self, bytes: usize) {
        let (had, needed) = (self.bytes() as usize, bytes);
        if needed < had {
            drop(self.permit.as_mut().and_then(|permit| permit.split(had - needed)));
        } else {
            let more = self.possible(needed - had);
            self.try_grow(more);
        }
    }

    /// From now on the owner waits for the peer, and others that need the room may have it.
    pub(super) fn offer(&mut self, connection: Option<Arc<Connection>>) {
        if self.waiting.is_none() {
            let (since, bytes) = (Instant::now(), AtomicU32::new(self.bytes()));
            let (revoked, returning) = (Notify::new(), AtomicU32::new(0));
            let waiting = Arc::new(Waiting { since, bytes, returning, revoked, connection });
            let number = self.room.next_number.fetch_add(1, Ordering::Relaxed);
            self.room.waiting.lock().insert(number, Arc::clone(&waiting));
            self.waiting = Some((number, waiting));
        }
    }

    /// The owner no longer waits for the peer.
    pub(super) fn keep(&mut self) {
        if let Some((number, waiting)) = self.waiting.take() {
            self.room.waiting.lock().remove(&number);
            self.room.returning.fetch_sub(waiting.returning.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Returns when this share is revoked.
    pub(super) async fn revoked(&self) {
        match &self.waiting {
            Some((_, waiting)) => waiting.revoked.notified().await,
            None => std::future::pending().await,
        }
    }

    /// The part of `more` that this share can ever have.
    fn possible(&self, more: usize) -> u32 {
        u32::try_from(more).unwrap_or(u32::MAX).min(self.room.bytes - self.bytes())
    }

    fn try_grow(&mut self, more: u32) -> bool {
        let permit = Arc::clone(&self.room.free).try_acquire_many_owned(more);
        permit.map(|permit| self.add(permit)).is_ok()
    }

    fn add(&mut self, permit: OwnedSemaphorePermit) {
        match &mut self.permit {
            Some(all) => all.merge(permit),
            None => self.permit = Some(permit),
        }
        if let Some((_, waiting)) = &self.waiting {
            waiting.bytes.store(self.bytes(), Ordering::Relaxed);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.keep();
    }
}

#[cfg(test)]
mod tests {
    use super::super::places::Places;
    use super::*;
    use futures_util::FutureExt as _;

    #[tokio::test]
    async fn what_has_held_the_most_for_the_longest_makes_room() {
        let room = Room::new(100, Duration::ZERO);
        let half = |bytes: usize| {
            let mut share = room.share();
            share.grow(bytes).now_or_never().expect("there is room").unwrap();
            share.offer(None);
            share
        };
        let (small, large, mut whole) = (half(1), half(60), half(39));
        whole.keep();
        sleep(Duration::from_millis(5)).await;
        let mut comes = room.share();
        {
            let mut grows = std::pin::pin!(comes.grow(10));
            assert!(grows.as_mut().now_or_never().is_none());
            assert!(large.revoked().now_or_never().is_some());
            assert!(small.revoked().now_or_never().is_none());
            drop(large);
            grows.await.unwrap();
        }
        assert_eq!((comes.bytes(), room.free.available_permits()), (10, 50));
        comes.fit(4);
        assert_eq!((comes.bytes(), room.free.available_permits()), (4, 56));
        comes.fit(1000);
        assert_eq!(room.free.available_permits(), 56, "no more than there is");
        drop((comes, small, whole));
        assert_eq!(room.free.available_permits(), 100);
    }

    #[tokio::test]
    async fn two_that_wait_for_each_other_do_not_wait_for_ever() {
        let room = Room::new(100, Duration::ZERO);
        let grow = async |first: usize| {
            let mut share = room.share();
            share.grow(first).await?;
            share.offer(None);
            tokio::task::yield_now().await;
            share.grow(60).await
        };
        let (one, other) = tokio::join!(grow(50), grow(50));
        assert_eq!([one, other].iter().filter(|outcome| outcome.is_ok()).count(), 1);
    }

    /// A connection that has something to answer closes after that.
    #[tokio::test]
    async fn nobody_waits_for_room_that_comes_later() {
        let room = Room::new(100, Duration::ZERO);
        let place = Places::default().take().await;
        let answering = place.0.began(true);
        let (mut large, mut small) = (room.share(), room.share());
        large.grow(60).await.unwrap();
        large.offer(Some(Arc::clone(&place.0)));
        small.grow(40).await.unwrap();
        small.offer(None);
        let mut comes = room.share();
        assert!(!comes.grow_at_once(40));
        assert!(!place.0.is_leaving() && small.revoked().now_or_never().is_some());
        drop(small);
        assert!(comes.grow_at_once(40));
        let mut another = room.share();
        assert!(!another.grow_at_once(10) && place.0.is_leaving(), "there is nothing else");
        drop((answering, large, comes, another));
        assert_eq!((room.free.available_permits(), room.returning.load(Ordering::Relaxed)), (100, 0));
    }

    #[tokio::test]
    async fn who_takes_its_time_is_left_alone_for_a_while() {
        let room = Room::new(100, Duration::from_millis(50));
        let mut slow = room.share();
        slow.grow(100).await.unwrap();
        slow.offer(None);
        let since = Instant::now();
        let mut comes = room.share();
        tokio::join!(async { comes.grow(1).await.unwrap() }, async {
            slow.revoked().await;
            assert!(since.elapsed() >= Duration::from_millis(50));
            drop(slow);
        });
    }
}
