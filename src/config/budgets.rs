//! How much of each kind of work one turn of a shard's loop does, so that nobody's work takes everybody's turn.

use serde::{Deserialize, Serialize};

use super::Interval;

/// `[budgets]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budgets {
    /// Connections accepted per turn. Default 256: about 3 ms. More than are read, so that the kernel's queue
    /// does not overflow when everybody comes at once: who is dropped there comes again after a second.
    pub accepts: usize,
    /// Clients read per turn, each once, in turns. Default 128.
    pub reads: usize,
    /// Input of one client that is worked on per turn, in bytes: of each frame and each command, as it came and as it
    /// is when it is inflated, and 128 more for each. What is left waits for the next turn. Default 16 KiB: about
    /// 0.1 ms.
    pub read_bytes: usize,
    /// How long clients are read per turn: the next one waits for the next turn. Default 2 ms.
    pub read_time: Interval,
    /// Mails taken per turn. Default 256.
    pub mails: usize,
    /// Clients visited with publications per turn. Default 256: about 2 ms of sends, after which a publication
    /// to somebody else has its turn. What a turn costs besides is 0.2 % of that.
    pub visits: usize,
    /// Deadlines looked at per turn. Default 256.
    pub deadlines: usize,
    /// Subscribers of one topic with `max_delay` to whom a shard sends at one moment: more are spread over
    /// lanes, whose moments are an eighth of the delay apart. Default 1,000: about 7 ms of sends.
    pub crowd: usize,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            accepts: 256,
            reads: 128,
            read_bytes: 16 << 10,
            read_time: Interval::from_millis(2),
            mails: 256,
            visits: 256,
            deadlines: 256,
            crowd: 1000,
        }
    }
}
