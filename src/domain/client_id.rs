//! The public id of a client: a UUID that tells its engine where the client is.
//!
//! To store 16 random bytes per client, and a table from them to the client, would cost more than the rest of
//! an idle session. Instead, the id is made from what the shard knows already, in the layout that RFC 9562
//! (section 5.8) leaves to applications, version 8:
//!
//! ```text
//! 48 bits  node        random at start-up: ids of two engines, or of two runs, do not meet
//!  4 bits  version 8
//! 12 bits  place, high
//!  2 bits  variant
//! 62 bits  place, low
//! ```
//!
//! The place consists of shard (12 bits), slot (30) and generation (32). It is enciphered under a key that
//! lasts as long as the engine, so nobody can derive another client's id from its own. With a million
//! clients, one possible id in 2^54 belongs to a client.

use std::fmt;
use std::hash::Hasher as _;
#[allow(deprecated, reason = "the one keyed SipHash-2-4 there is; what replaces it takes no key")]
use std::hash::SipHasher;

use thiserror::Error;

use crate::domain::client_key::{ClientKey, ShardId};

/// Number of shards that an id can name.
pub const SHARDS_MAX: u16 = 1 << 12;
/// Number of slots per shard that an id can name.
pub const SLOTS_MAX: u32 = 1 << 30;

/// Bits of half a place.
const HALF: u32 = 37;
/// Rounds of the cipher: four are enough in theory (M. Luby, C. Rackoff, 1988).
const ROUNDS: u8 = 8;

/// One run of one engine: 48 random bits that name it, and the key for its clients' ids.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NodeId {
    name: u64,
    key: (u64, u64),
}

/// Why a text is not the id of a client of this engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum IdError {
    /// It is not a UUID of this kind.
    #[error("is not the id of a client")]
    Malformed,
    /// It is one, of another engine or of another run of this one.
    #[error("belongs to another node, or to an earlier run of this one")]
    OtherNode,
}

impl NodeId {
    /// A new one, with randomness of the operating system.
    #[must_use]
    pub fn random() -> Self {
        Self { name: rand::random::<u64>() >> 16, key: rand::random() }
    }

    fn encipher(self, place: u128) -> u128 {
        let (left, right) =
            (0..ROUNDS).fold(halves(place), |(left, right), round| (right, left ^ self.round(round, right)));
        join(left, right)
    }

    fn decipher(self, enciphered: u128) -> u128 {
        let (left, right) = (0..ROUNDS)
            .rev()
            .fold(halves(enciphered), |(left, right), round| (right ^ self.round(round, left), left));
        join(left, right)
    }

    #[allow(deprecated, reason = "see above")]
    fn round(self, round: u8, half: u64) -> u64 {
        let mut hasher = SipHasher::new_with_keys(self.key.0, self.key.1);
        hasher.write_u8(round);
        hasher.write_u64(half);
        hasher.finish() & ((1 << HALF) - 1)
    }
}

fn halves(place: u128) -> (u64, u64) {
    let half = |bits: u128| u64::try_from(bits & ((1 << HALF) - 1)).unwrap_or_default();
    (half(place >> HALF), half(place))
}

fn join(left: u64, right: u64) -> u128 {
    u128::from(left) << HALF | u128::from(right)
}

/// Shows everything but the key.
impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}", self.name)
    }
}

/// The id of one client of one run of one engine. It is displayed and parsed as a UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientId {
    /// Which engine.
    pub node: NodeId,
    /// Which shard of the engine, below [`SHARDS_MAX`].
    pub shard: ShardId,
    /// Which client of that shard. The slot is below [`SLOTS_MAX`].
    pub key: ClientKey,
}

impl ClientId {
    /// The id that `text` stands for on `node`.
    ///
    /// # Errors
    /// If the text is not an id, or another node's. An id that was never given out names a client that does
    /// not exist.
    pub fn parse(text: &str, node: NodeId) -> Result<Self, IdError> {
        let dashes_in_place =
            text.len() == 36 && [8, 13, 18, 23].iter().all(|&at| text.as_bytes()[at] == b'-');
        let digits: String = text.split('-').collect();
        if !dashes_in_place || digits.len() != 32 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(IdError::Malformed);
        }
        let bits = u128::from_str_radix(&digits, 16).map_err(|_| IdError::Malformed)?;
        let field = |bits: u128, shift: u32, width: u32| (bits >> shift) & ((1 << width) - 1);
        if field(bits, 76, 4) != 8 || field(bits, 62, 2) != 2 {
            return Err(IdError::Malformed);
        }
        if field(bits, 80, 48) != u128::from(node.name) {
            return Err(IdError::OtherNode);
        }
        let place = node.decipher(field(bits, 64, 12) << 62 | field(bits, 0, 62));
        let narrow = |shift, width| u32::try_from(field(place, shift, width)).unwrap_or_default();
        let shard = ShardId::try_from(narrow(62, 12)).unwrap_or_default();
        Ok(Self { node, shard, key: ClientKey { slot: narrow(32, 30), generation: narrow(0, 32) } })
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ClientKey { slot, generation } = self.key;
        let place = u128::from(self.shard) << 62 | u128::from(slot) << 32 | u128::from(generation);
        let place = self.node.encipher(place);
        let bits = u128::from(self.node.name) << 80
            | 8 << 76
            | (place >> 62) << 64
            | 2 << 62
            | place & ((1 << 62) - 1);
        let digits = format!("{bits:032x}");
        let (a, b, c, d, e) = (&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]);
        write!(f, "{a}-{b}-{c}-{d}-{e}")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn an_id_survives_the_way_out_and_back() {
        let keys = [(0, 0, 0), (SHARDS_MAX - 1, SLOTS_MAX - 1, u32::MAX), (1, 70_000, 3)];
        for (shard, slot, generation) in keys {
            let node = NodeId::random();
            let id = ClientId { node, shard, key: ClientKey { slot, generation } };
            assert_eq!(ClientId::parse(&id.to_string(), node), Ok(id), "{id}");
            assert_eq!(ClientId::parse(&id.to_string(), NodeId::random()), Err(IdError::OtherNode));
        }
    }

    #[test]
    fn what_is_no_id_of_ours_is_none() {
        let strangers =
            ["", "x", "f47ac10b-58cc-4372-a567-0e02b2c3d479", "+47ac10b-58cc-8372-a567-0e02b2c3d479"];
        for text in strangers {
            assert_eq!(ClientId::parse(text, NodeId::random()), Err(IdError::Malformed), "{text}");
        }
    }

    /// Whoever knows its own id knows nobody else's: neighbours have nothing in common but their node.
    #[test]
    fn ids_do_not_follow_each_other() {
        let node = NodeId::random();
        let id = |slot, generation| {
            let text = ClientId { node, shard: 0, key: ClientKey { slot, generation } }.to_string();
            u128::from_str_radix(&text.replace('-', ""), 16).unwrap()
        };
        let all: HashSet<u128> =
            (0..1000).map(|slot| id(slot, 0)).chain((1..1000).map(|n| id(0, n))).collect();
        assert_eq!(all.len(), 1999);
        let differences = (0..999).map(|slot| id(slot, 0) ^ id(slot + 1, 0));
        let bits: u32 = differences.map(|difference| difference.count_ones()).sum();
        // Half of 74 bits in each of 999 pairs, give or take.
        assert!((36_000..38_000).contains(&bits), "{bits}");
        let next = |text: u128| text + 1;
        assert!((0..1000).filter(|&slot| all.contains(&next(id(slot, 0)))).count() == 0);
        assert!(!format!("{node:?}").contains(&format!("{}", node.key.0)));
    }
}
