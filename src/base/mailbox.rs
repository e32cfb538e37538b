//! A mailbox between threads: a lock-free queue, bounded in number and in bytes, with a flag and a wake-up.
//!
//! Any number of senders push. The receiver is woken at most once per batch. The order of two steps on each
//! side ensures that no item is left behind:
//!
//! * a sender pushes, *then* swaps the flag to true, and wakes if the flag was false;
//! * the receiver swaps the flag to false, *then* looks into the queue, and sleeps only if it was empty.
//!
//! Both swaps are `AcqRel`. If the sender's swap comes first, the receiver's swap reads its value and
//! acquires the push, so the receiver finds the item in the queue. If the sender's swap comes second, it
//! reads false and wakes the receiver. With a relaxed swap on either side, the first case breaks: an item may
//! stay in the queue while the receiver sleeps. `tests/loom` shows both.

#[cfg(loom)]
use crate::model::{Arc, ArrayQueue, AtomicBool, Ordering};
#[cfg(not(loom))]
use crossbeam::queue::ArrayQueue;
#[cfg(not(loom))]
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

/// Wakes a sleeping receiver. Called at most once between two calls of [`Receiver::rearm`], from any thread.
/// It must not block.
pub trait Wake: Send + Sync {
    /// Ends the receiver's sleep, or its next sleep if it is awake.
    fn wake(&self);
}

/// Counts the memory that waiting items refer to.
struct Load<T> {
    /// Bytes of one item.
    weigh: fn(&T) -> usize,
    max: usize,
    #[cfg(not(loom))]
    bytes: AtomicUsize,
}

#[cfg(not(loom))]
impl<T> Load<T> {
    /// Counts an item in, if there is room. One item may always wait, whatever its weight. No memory access
    /// depends on this number, so its order among other accesses does not matter.
    fn add(&self, item: &T) -> bool {
        let weight = (self.weigh)(item);
        if weight == 0 {
            return true;
        }
        let before = self.bytes.fetch_add(weight, Ordering::Relaxed);
        let fits = before == 0 || before.saturating_add(weight) <= self.max;
        if !fits {
            self.bytes.fetch_sub(weight, Ordering::Relaxed);
        }
        fits
    }

    /// Counts an item out.
    fn take(&self, item: &T) {
        let weight = (self.weigh)(item);
        if weight > 0 {
            self.bytes.fetch_sub(weight, Ordering::Relaxed);
        }
    }

    fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= self.max
    }
}

/// The loom model checks wake-ups only; weights have no part in them.
#[cfg(loom)]
impl<T> Load<T> {
    fn add(&self, _: &T) -> bool {
        self.max > 0
    }

    fn take(&self, item: &T) {
        let _ = (self.weigh)(item);
    }
}

struct Shared<T> {
    queue: ArrayQueue<T>,
    load: Load<T>,
    /// True from the first push until the receiver looks again: a wake-up is on its way.
    awake: AtomicBool,
    /// The receiver is gone.
    closed: AtomicBool,
    waker: Box<dyn Wake>,
}

/// The side that puts items in. Cheap to clone, one clone per sending thread.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

/// The side that takes items out, in the order in which they were put in. There is one.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
}

/// Creates a mailbox for at most `capacity` items, whose receiver is woken by `waker`. All of its memory, the
/// size of `T` and one word per item, is allocated at once.
pub fn mailbox<T>(capacity: usize, waker: Box<dyn Wake>) -> (Sender<T>, Receiver<T>) {
    weighed_mailbox(capacity, usize::MAX, |_| 0, waker)
}

/// The same, for items that weigh at most `bytes_max` together, or for one item that is heavier. `weigh`
/// returns how much memory an item refers to. It must return the same value each time.
pub fn weighed_mailbox<T>(
    capacity: usize,
    bytes_max: usize,
    weigh: fn(&T) -> usize,
    waker: Box<dyn Wake>,
) -> (Sender<T>, Receiver<T>) {
    let load = Load {
        weigh,
        max: bytes_max,
        #[cfg(not(loom))]
        bytes: AtomicUsize::new(0),
    };
    let queue = ArrayQueue::new(capacity);
    let (awake, closed) = (AtomicBool::new(false), AtomicBool::new(false));
    let shared = Arc::new(Shared { queue, load, awake, closed, waker });
    (Sender { shared: Arc::clone(&shared) }, Receiver { shared })
}

impl<T> Sender<T> {
    /// Puts `item` in without waking anybody: [`Sender::notify`] must follow the last push of a batch.
    ///
    /// # Errors
    /// Gives `item` back when the mailbox is full.
    pub fn push(&self, item: T) -> Result<(), T> {
        if !self.shared.load.add(&item) {
            return Err(item);
        }
        self.shared.queue.push(item).inspect_err(|item| self.shared.load.take(item))
    }

    /// Wakes the receiver, unless a wake-up is already on its way.
    pub fn notify(&self) {
        if !self.shared.awake.swap(true, Ordering::AcqRel) {
            self.shared.waker.wake();
        }
    }

    /// Puts `item` in and wakes the receiver.
    ///
    /// # Errors
    /// Gives `item` back when the mailbox is full. The receiver is then awake, or a wake-up is on its way.
    pub fn send(&self, item: T) -> Result<(), T> {
        let pushed = self.push(item);
        self.notify();
        pushed
    }
}

impl<T> Receiver<T> {
    /// Announces that the receiver is about to look: the next push wakes it again. Call it before the look
    /// that decides whether to sleep.
    pub fn rearm(&mut self) {
        self.shared.awake.swap(false, Ordering::AcqRel);
    }

    /// The oldest item, if there is one.
    pub fn take(&mut self) -> Option<T> {
        let item = self.shared.queue.pop()?;
        self.shared.load.take(&item);
        Some(item)
    }
}

/// What waits is dropped with the receiver, and not with the last sender: so whoever waits for the answer to an
/// item learns that there is none.
impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        while self.take().is_some() {}
    }
}

#[cfg(not(loom))]
impl<T> Sender<T> {
    /// How many items wait. The number may be outdated at once.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.queue.len()
    }

    /// Whether nothing waits. The answer may be outdated at once.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.queue.is_empty()
    }

    /// Whether the receiver is gone: what is put in now stays there.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }

    /// Whether the receiver is gone, and nobody else sends: no item will ever be taken out.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.shared) == 1
    }

    /// How many items there is room for at this moment.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.shared.load.is_full() {
            return 0;
        }
        self.shared.queue.capacity() - self.shared.queue.len()
    }
}

#[cfg(not(loom))]
impl<T> Receiver<T> {
    /// How many items wait. The number may be outdated at once.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.queue.len()
    }

    /// Whether nothing waits. The answer may be outdated at once.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.queue.is_empty()
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

#[cfg(not(loom))]
impl<T> std::fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sender({} waiting)", self.len())
    }
}

#[cfg(not(loom))]
impl<T> std::fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Receiver({} waiting)", self.len())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    struct Count(Arc<AtomicUsize>);
    impl Wake for Count {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn wakes_once_per_batch_and_again_after_rearm() {
        let woken = Arc::new(AtomicUsize::new(0));
        let (sender, mut receiver) = mailbox(4, Box::new(Count(Arc::clone(&woken))));
        sender.send(1).unwrap();
        sender.send(2).unwrap();
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        receiver.rearm();
        assert_eq!(receiver.take(), Some(1));
        sender.send(3).unwrap();
        assert_eq!(woken.load(Ordering::Relaxed), 2);
        assert_eq!((receiver.take(), receiver.take()), (Some(2), Some(3)));
        assert_eq!(receiver.take(), None);
    }

    #[test]
    fn bytes_are_bounded_as_well_but_one_item_always_passes() {
        let weigh = |item: &usize| *item;
        let (sender, mut receiver) = weighed_mailbox(100, 10, weigh, Box::new(Count(Arc::default())));
        assert_eq!(sender.send(50), Ok(()));
        assert_eq!((sender.room(), sender.send(1), sender.send(0)), (0, Err(1), Ok(())));
        assert_eq!((receiver.take(), receiver.take()), (Some(50), Some(0)));
        assert_eq!((sender.send(6), sender.send(5), sender.send(4)), (Ok(()), Err(5), Ok(())));
        assert_eq!(receiver.take(), Some(6));
        assert_eq!(sender.send(6), Ok(()));
        let (sender, mut receiver) = weighed_mailbox(1, 10, weigh, Box::new(Count(Arc::default())));
        assert_eq!((sender.send(1), sender.send(9)), (Ok(()), Err(9)));
        receiver.take();
        assert_eq!((sender.room(), sender.send(10)), (1, Ok(())));
    }

    #[test]
    fn what_waits_is_dropped_with_the_receiver() {
        let (sender, receiver) = mailbox(2, Box::new(Count(Arc::default())));
        let item = Arc::new(());
        sender.send(Arc::clone(&item)).unwrap();
        assert!(!sender.is_closed() && Arc::strong_count(&item) == 2);
        drop(receiver);
        assert!(sender.is_closed() && Arc::strong_count(&item) == 1);
    }

    #[test]
    fn a_full_mailbox_gives_the_item_back() {
        let (sender, mut receiver) = mailbox(1, Box::new(Count(Arc::default())));
        sender.send("first").unwrap();
        assert_eq!(sender.send("second"), Err("second"));
        assert_eq!((sender.room(), receiver.take()), (0, Some("first")));
        assert_eq!(sender.room(), 1);
    }
}
