//! What the mailbox is made of, in loom's terms.

pub use loom::sync::Arc;
pub use loom::sync::atomic::{AtomicBool, Ordering};

use loom::sync::Mutex;
use loom::sync::atomic::AtomicUsize;

/// A bounded queue that promises no more than crossbeam's does: an item that is taken happened after it
/// was put in, but *not* finding one means nothing, and tells nothing about other memory. Each slot is used
/// once, so a model may put in as many items as there is capacity.
pub struct ArrayQueue<T> {
    slots: Box<[Slot<T>]>,
    /// Slots that senders have claimed.
    tail: AtomicUsize,
    /// Slots that the receiver has emptied.
    head: AtomicUsize,
}

struct Slot<T> {
    /// Published by the sender; the only thing that the receiver looks at before it touches `item`.
    full: AtomicBool,
    item: Mutex<Option<T>>,
}

impl<T> ArrayQueue<T> {
    pub fn new(capacity: usize) -> Self {
        let slot = |_| Slot { full: AtomicBool::new(false), item: Mutex::new(None) };
        Self {
            slots: (0..capacity).map(slot).collect(),
            tail: AtomicUsize::new(0),
            head: AtomicUsize::new(0),
        }
    }

    pub fn push(&self, item: T) -> Result<(), T> {
        let claimed = self.tail.fetch_add(1, Ordering::Relaxed);
        let Some(slot) = self.slots.get(claimed) else { return Err(item) };
        *slot.item.lock().unwrap() = Some(item);
        slot.full.store(true, Ordering::Release);
        Ok(())
    }

    pub fn pop(&self) -> Option<T> {
        let head = self.head.load(Ordering::Relaxed);
        let slot = self.slots.get(head)?;
        if !slot.full.load(Ordering::Acquire) {
            return None;
        }
        self.head.store(head + 1, Ordering::Relaxed);
        slot.item.lock().unwrap().take()
    }
}
