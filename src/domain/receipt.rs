//! How far a shard has written its batches: one number, from its thread to the broker thread.
//!
//! Both sides count batches from 1, in the order of the mailbox. The shard reports the last batch up to which
//! everything was written. The broker thread acknowledges to RabbitMQ accordingly (`amqp.ack = "written"`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The shard's side.
#[derive(Debug)]
pub struct Reporter(Arc<AtomicU64>);

/// The broker's side.
#[derive(Debug)]
pub struct Receipt(Arc<AtomicU64>);

/// Both sides of one shard's number, which begins at 0.
#[must_use]
pub fn receipt() -> (Reporter, Receipt) {
    let number = Arc::new(AtomicU64::new(0));
    (Reporter(Arc::clone(&number)), Receipt(number))
}

impl Reporter {
    /// Reports that everything up to and including `batch` was written. Notify the broker's mailbox after it.
    pub fn report(&self, batch: u64) {
        self.0.store(batch, Ordering::Release);
    }
}

impl Receipt {
    /// The last batch up to which everything was written.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}
