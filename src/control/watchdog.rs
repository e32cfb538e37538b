//! Finds shards that hang: those whose loop has not turned for some seconds, although an idle one turns once per second.
//!
//! It reads the counters that the shards write anyway.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::domain::lifecycle::{Lifecycle, Phase};
use crate::stats::{ShardStats, Stats};

/// Pause between two looks.
const PERIOD: Duration = Duration::from_secs(1);

/// Looks without a turn between them after which a shard hangs. They are counted, and not the seconds: when a process
/// that was stopped goes on, all its threads have paused.
const LOOKS: u32 = 5;

/// What was seen of all shards.
#[derive(Debug)]
pub(super) struct Watchdog(Vec<Watched>);

#[derive(Debug)]
struct Watched {
    counters: Arc<ShardStats>,
    /// The turns of its loop at the latest look.
    turns: AtomicU64,
    /// Latest looks that found no new turn.
    idle_looks: AtomicU32,
}

impl Watchdog {
    pub(super) fn new(stats: &Stats) -> Self {
        let watched =
            |counters| Watched { counters, turns: AtomicU64::new(0), idle_looks: AtomicU32::new(0) };
        Self(stats.shards.iter().cloned().map(watched).collect())
    }

    /// The numbers of the shards that hang.
    pub(super) fn hung(&self) -> Vec<usize> {
        let hangs = |watched: &Watched| watched.idle_looks.load(Ordering::Relaxed) >= LOOKS;
        self.0.iter().enumerate().filter(|(_, watched)| hangs(watched)).map(|(shard, _)| shard).collect()
    }

    fn look(&self) {
        for (shard, watched) in self.0.iter().enumerate() {
            let turns = watched.counters.ticks.value();
            let has_turned = watched.turns.swap(turns, Ordering::Relaxed) != turns;
            let before = watched.idle_looks.load(Ordering::Relaxed);
            let idle_looks = if has_turned { 0 } else { before.saturating_add(1) };
            watched.idle_looks.store(idle_looks, Ordering::Relaxed);
            if idle_looks == LOOKS {
                tracing::error!(shard, "a shard hangs: its loop has not turned for {LOOKS} s");
            } else if has_turned && before >= LOOKS {
                tracing::warn!(shard, "a shard that hung turns again, after {before} s");
            }
        }
    }
}

/// Looks for as long as the engine serves. Before that shards are not there yet, and after that they end.
pub(super) async fn run(watchdog: Arc<Watchdog>, lifecycle: Arc<Lifecycle>) {
    let mut looks = interval(PERIOD);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        if lifecycle.phase() == Phase::Serving {
            watchdog.look();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_does_not_turn_hangs_until_it_does() {
        let stats = Stats::new(3, Vec::new());
        let watchdog = Watchdog::new(&stats);
        let look = |turning: &[usize]| {
            for &shard in turning {
                stats.shards[shard].ticks.add(1);
            }
            watchdog.look();
            watchdog.hung()
        };
        for _ in 0..LOOKS {
            assert_eq!(look(&[0, 1, 2]), [0; 0]);
        }
        for _ in 1..LOOKS {
            assert_eq!(look(&[0, 2]), [0; 0]);
        }
        assert_eq!(look(&[0]), [1]);
        for _ in 2..LOOKS {
            assert_eq!(look(&[0]), [1]);
        }
        assert_eq!(look(&[0]), [1, 2]);
        assert_eq!(look(&[0, 1]), [2]);
    }
}
