//! How far a shard has come with its batches: one number, from its thread to the broker's.
//!
//! Batches are counted from 1 on, on both sides, in the order of the mailbox. The shard says through which of them
//! everything was written; the broker acknowledges to RabbitMQ accordingly (`amqp.ack = "written"`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The shard's side.
#[derive(Debug)]
pub struct Reporter(Arc<AtomicU64>);

/// The broker's side.
#[derive(Debug)]
pub struct Receipt(Arc<AtomicU64>);

/// Both sides of one shard's number, which is 0.
#[must_use]
pub fn receipt() -> (Reporter, Receipt) {
    let number = Arc::new(AtomicU64::new(0));
    (Reporter(Arc::clone(&number)), Receipt(number))
}

impl Reporter {
    /// Says that everything up to and with `batch` was written. The broker's mailbox has to be notified after it.
    pub fn report(&self, batch: u64) {
        self.0.store(batch, Ordering::Release);
    }
}

impl Receipt {
    /// The number of the batch through which everything was written.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}
