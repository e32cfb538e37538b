//! The id a client is known by outside: a UUID that says where the client is.
//!
//! Storing 16 random bytes per client, and a table from them to the client, would cost more than the rest
//! of an idle session. Instead the id is made of what the shard knows anyhow, in the layout that RFC 9562
//! (section 5.8) leaves to applications, version 8:
//!
//! ```text
//! 48 bits  node        random at start-up: ids of two engines, or of two runs, do not meet
//!  4 bits  version 8
//! 12 bits  shard
//!  2 bits  variant
//! 30 bits  slot
//! 32 bits  generation
//! ```

use std::fmt;
use std::hash::{BuildHasher, RandomState};

use crate::mail::{ClientKey, ShardId};

/// Shards that an id has room for.
pub const SHARDS_MAX: u16 = 1 << 12;
/// Slots per shard that an id has room for.
pub const SLOTS_MAX: u32 = 1 << 30;

/// 48 random bits that name one run of one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeId(u64);

impl NodeId {
    /// A new one, from the operating system's randomness.
    #[must_use]
    pub fn random() -> Self {
        Self(RandomState::new().hash_one("fanfare node") >> 16)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}", self.0)
    }
}

/// The id of one client of one run of one engine. Displayed, and parsed, as a UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientId {
    /// Which engine.
    pub node: NodeId,
    /// Which shard of it, below [`SHARDS_MAX`].
    pub shard: ShardId,
    /// Which client of that shard; the slot is below [`SLOTS_MAX`].
    pub key: ClientKey,
}

impl ClientId {
    /// The id that `text` stands for, if it is a UUID as this module makes them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let dashes_in_place =
            text.len() == 36 && [8, 13, 18, 23].iter().all(|&at| text.as_bytes()[at] == b'-');
        let digits: String = text.split('-').collect();
        if !dashes_in_place || digits.len() != 32 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let bits = u128::from_str_radix(&digits, 16).ok()?;
        let field = |shift: u32, width: u32| (bits >> shift) & ((1 << width) - 1);
        if field(76, 4) != 8 || field(62, 2) != 2 {
            return None;
        }
        Some(Self {
            node: NodeId(u64::try_from(field(80, 48)).ok()?),
            shard: ShardId::try_from(field(64, 12)).ok()?,
            key: ClientKey {
                slot: u32::try_from(field(32, 30)).ok()?,
                generation: u32::try_from(field(0, 32)).ok()?,
            },
        })
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (slot, generation) = (self.key.slot, self.key.generation);
        let node = format!("{:012x}", self.node.0);
        write!(f, "{}-{}-8{:03x}-", &node[..8], &node[8..], self.shard)?;
        let high = 0x8000_0000 | slot;
        write!(f, "{:04x}-{:04x}{generation:08x}", high >> 16, high & 0xffff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_the_way_out_and_back() {
        let keys = [(0, 0, 0), (SHARDS_MAX - 1, SLOTS_MAX - 1, u32::MAX), (1, 70_000, 3)];
        for (shard, slot, generation) in keys {
            let id = ClientId { node: NodeId::random(), shard, key: ClientKey { slot, generation } };
            assert_eq!(ClientId::parse(&id.to_string()), Some(id), "{id}");
        }
    }

    #[test]
    fn what_is_no_id_of_ours_is_none() {
        let strangers =
            ["", "x", "f47ac10b-58cc-4372-a567-0e02b2c3d479", "+47ac10b-58cc-8372-a567-0e02b2c3d479"];
        for text in strangers {
            assert_eq!(ClientId::parse(text), None, "{text}");
        }
    }
}
