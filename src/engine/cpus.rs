//! Which thread runs on which CPU.

use std::collections::BTreeSet;

use core_affinity::CoreId;

use crate::config::host::shards;
use crate::config::{Config, parse_cpus};
use crate::domain::mail::ShardId;
use crate::engine::StartError;

/// The shards' CPUs, and what is left for the others.
#[derive(Debug)]
pub(super) struct CpuPlan {
    /// How many shards there are.
    pub shards: u16,
    /// CPUs for shards, used in turn.
    cpus: Vec<usize>,
    /// CPUs of the start-up mask to which no shard is pinned.
    unpinned: Vec<usize>,
}

impl CpuPlan {
    pub(super) fn new(config: &Config) -> Result<Self, StartError> {
        let mask: Vec<usize> =
            core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
        let chosen = parse_cpus(&config.server.cpus).map_err(StartError::Cpus)?;
        let candidates = if chosen.is_empty() { mask.clone() } else { chosen };
        let shards = shards(config);
        let cpus: Vec<usize> = candidates.into_iter().take(usize::from(shards)).collect();
        let pinned: BTreeSet<usize> = cpus.iter().copied().collect();
        let unpinned = mask.into_iter().filter(|cpu| !pinned.contains(cpu)).collect();
        Ok(Self { shards, cpus, unpinned })
    }

    pub(super) fn notice(&self) -> Option<String> {
        let (shards, cpus) = (usize::from(self.shards), self.cpus.len());
        (shards > cpus && cpus > 0)
            .then(|| format!("{shards} shards share {cpus} CPUs: more shards than CPUs cost without gain"))
    }

    pub(super) fn cpu_of(&self, shard: ShardId) -> Option<usize> {
        self.cpus.get(usize::from(shard) % self.cpus.len().max(1)).copied()
    }

    /// Moves the calling thread to a CPU without a shard, if there is one. Threads that it starts inherit
    /// this. Pinning takes one CPU at a time, so the first of several is used.
    pub(super) fn leave_shards_alone(&self) {
        if let Some(&cpu) = self.unpinned.first() {
            core_affinity::set_for_current(CoreId { id: cpu });
        }
    }
}

/// Pins the calling thread to `cpu`.
pub(super) fn pin(cpu: usize) {
    core_affinity::set_for_current(CoreId { id: cpu });
}
