//! How far the engine has started or stopped.

use std::time::Instant;

use crate::domain::mail::ShardId;

/// The stage of the engine's life.
#[derive(Debug)]
pub(super) struct Stage {
    /// Whether the shards take mail, or are about to.
    shards_run: bool,
    stop: Stop,
}

/// How far the engine has stopped.
#[derive(Debug, PartialEq, Eq)]
enum Stop {
    /// Nobody asked it to stop.
    No,
    /// No message is taken any more. Publishes under way may be confirmed until then.
    Settling { until: Instant },
    /// These shards still have clients to close.
    Draining { shards: Vec<ShardId> },
}

impl Stage {
    /// The shards do not run yet.
    pub(super) fn new() -> Self {
        Self { shards_run: false, stop: Stop::No }
    }

    /// The shards run from now on.
    pub(super) fn shards_start(&mut self) {
        self.shards_run = true;
    }

    /// Whether the shards run, so that there may be clients.
    pub(super) fn shards_run(&self) -> bool {
        self.shards_run
    }

    /// Whether the engine was asked to stop.
    pub(super) fn is_stopping(&self) -> bool {
        self.stop != Stop::No
    }

    /// Begins to stop: publishes under way may be confirmed until then.
    pub(super) fn settle(&mut self, until: Instant) {
        self.stop = Stop::Settling { until };
    }

    /// Until when publishes under way may be confirmed, if the engine waits for that.
    pub(super) fn settles_until(&self) -> Option<Instant> {
        match self.stop {
            Stop::Settling { until } => Some(until),
            Stop::No | Stop::Draining { .. } => None,
        }
    }

    /// These shards close their clients now.
    pub(super) fn drain(&mut self, shards: Vec<ShardId>) {
        self.stop = Stop::Draining { shards };
    }

    /// A shard has no clients any more.
    pub(super) fn drained(&mut self, shard: ShardId) {
        if let Stop::Draining { shards } = &mut self.stop {
            shards.retain(|&other| other != shard);
        }
    }

    /// Whether no shard has clients any more.
    pub(super) fn is_over(&self) -> bool {
        matches!(&self.stop, Stop::Draining { shards } if shards.is_empty())
    }
}
