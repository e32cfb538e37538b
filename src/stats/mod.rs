//! One block of counters per thread, written by that thread alone and read by whoever asks.
//!
//! A counter is a relaxed load and a relaxed store by its only writer: no read-modify-write, no shared
//! cache line with another writer. Sums over shards are made at scrape time.
//!
//! A new counter is one row in the table of its block: in `shard.rs`, `broker.rs` or `control.rs`.

mod backends;
mod block;
mod number;
mod shard;
mod broker;
mod control;

use std::sync::Arc;

use parking_lot::Mutex;

pub use backends::{BackendStats, BackendsStats, CallOutcome, NamedStats, Suspension};
pub use block::{Counted, Kind, Labels, Metric, NumberOf, Observations, Values};
pub use broker::{BackplaneState, BrokerStats};
pub use control::{ApiMethod, ApiOutcome, ControlStats};
pub use number::{Histogram, Number, Numbers};
pub use shard::ShardStats;

/// Upper bounds for histograms of times, in microseconds.
const MICROSECONDS: [u64; 12] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000, 1_000_000, 10_000_000];

/// Everybody's counters, for the control thread.
#[derive(Clone, Debug)]
pub struct Stats {
    /// One block per shard, in the order of their numbers.
    pub shards: Vec<Arc<ShardStats>>,
    /// How many clients the node may have.
    pub clients_max: u64,
    /// The broker thread's block.
    pub broker: Arc<BrokerStats>,
    /// The control thread's block.
    pub control: Arc<ControlStats>,
    /// The names of namespaces, in the order of their numbers. Only the control thread takes the lock.
    namespaces: Arc<Mutex<Vec<String>>>,
}

impl Stats {
    /// Empty counters for `shards` shards and the namespaces of these names.
    #[must_use]
    pub fn new(shards: usize, namespaces: Vec<String>) -> Self {
        Self {
            shards: (0..shards).map(|_| Arc::default()).collect(),
            clients_max: 0,
            broker: Arc::default(),
            control: Arc::default(),
            namespaces: Arc::new(Mutex::new(namespaces)),
        }
    }

    /// The names of namespaces, in the order of their numbers.
    #[must_use]
    pub fn namespaces(&self) -> Vec<String> {
        self.namespaces.lock().clone()
    }

    /// Namespaces were added: these are all names, in the order of their numbers.
    pub fn name_namespaces(&self, names: Vec<String>) {
        *self.namespaces.lock() = names;
    }

    /// The sum of one number over all shards.
    pub fn sum(&self, number: impl Fn(&ShardStats) -> &Number) -> u64 {
        self.shards.iter().map(|shard| number(shard).value()).sum()
    }
}
