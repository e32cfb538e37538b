//! Where a client is: its shard, and its place there.

/// Number of a shard, from 0.
pub type ShardId = u16;

/// A client of one shard. The generation distinguishes a client from an earlier one that had the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientKey {
    /// Index into the shard's slab.
    pub slot: u32,
    /// How many clients had this slot before.
    pub generation: u32,
}
