//! The door between threads: a bounded lock-free queue, one flag, one wake-up.
//!
//! Any number of senders push freely; the receiver is woken at most once per batch. The order of two
//! steps on each side is what keeps an item from being stranded:
//!
//! * a sender pushes, *then* swaps the flag to true, and wakes if the flag was false;
//! * the receiver swaps the flag to false, *then* looks into the queue, and sleeps only if it was empty.
//!
//! Both swaps are `AcqRel`. If the sender's swap comes first, the receiver's swap reads it, and acquires
//! the push: the look that follows finds the item. If it comes second, it reads false and wakes. With a
//! relaxed swap on either side the first case breaks, and an item may lie in the queue with nobody
//! awake; `tests/loom` shows both.

#[cfg(loom)]
use crate::model::{Arc, ArrayQueue, AtomicBool, Ordering};
#[cfg(not(loom))]
use crossbeam::queue::ArrayQueue;
#[cfg(not(loom))]
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Gets a sleeping receiver to look into its mailbox. Called at most once between two calls of
/// [`Receiver::rearm`], from any thread; must not block.
pub trait Wake: Send + Sync {
    /// Ends the receiver's sleep, or its next one if it is awake.
    fn wake(&self);
}

struct Shared<T> {
    queue: ArrayQueue<T>,
    /// True from the first push until the receiver looks again: a wake-up is on its way.
    awake: AtomicBool,
    waker: Box<dyn Wake>,
}

/// The side that puts items in. Cheap to clone, one clone per sending thread.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

/// The side that takes items out, first in, first out. There is one.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
}

/// A mailbox for at most `capacity` items, whose receiver is woken by `waker`. All of its memory, the
/// size of `T` and one word per item, is taken at once.
pub fn mailbox<T>(capacity: usize, waker: Box<dyn Wake>) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared { queue: ArrayQueue::new(capacity), awake: AtomicBool::new(false), waker });
    (Sender { shared: Arc::clone(&shared) }, Receiver { shared })
}

impl<T> Sender<T> {
    /// Puts `item` in without waking anybody: [`Sender::notify`] must follow the last push of a batch.
    ///
    /// # Errors
    /// Gives `item` back when the mailbox is full.
    pub fn push(&self, item: T) -> Result<(), T> {
        self.shared.queue.push(item)
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
    /// Gives `item` back when the mailbox is full; the receiver is then awake already, or was told.
    pub fn send(&self, item: T) -> Result<(), T> {
        let pushed = self.push(item);
        self.notify();
        pushed
    }
}

impl<T> Receiver<T> {
    /// Says that the receiver is about to look: whoever pushes from now on wakes it again. To be called
    /// before the look that decides about going to sleep.
    pub fn rearm(&mut self) {
        self.shared.awake.swap(false, Ordering::AcqRel);
    }

    /// The oldest item, if there is one.
    pub fn take(&mut self) -> Option<T> {
        self.shared.queue.pop()
    }
}

#[cfg(not(loom))]
impl<T> Sender<T> {
    /// How many items wait. A snapshot: right only for a moment.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.queue.len()
    }

    /// Whether nothing waits. A snapshot, like [`Sender::len`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.queue.is_empty()
    }

    /// How many items there is room for at this moment.
    #[must_use]
    pub fn room(&self) -> usize {
        self.shared.queue.capacity() - self.shared.queue.len()
    }
}

#[cfg(not(loom))]
impl<T> Receiver<T> {
    /// How many items wait. A snapshot: right only for a moment.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.queue.len()
    }

    /// Whether nothing waits. A snapshot, like [`Receiver::len`].
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
    fn a_full_mailbox_gives_the_item_back() {
        let (sender, mut receiver) = mailbox(1, Box::new(Count(Arc::default())));
        sender.send("first").unwrap();
        assert_eq!(sender.send("second"), Err("second"));
        assert_eq!((sender.room(), receiver.take()), (0, Some("first")));
        assert_eq!(sender.room(), 1);
    }
}
