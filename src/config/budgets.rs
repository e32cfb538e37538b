//! How much of each kind of work one tick of a shard does, so that no kind of work delays all others.

use serde::{Deserialize, Serialize};

use super::Interval;

/// `[budgets]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budgets {
    /// Connections accepted per tick. Default 256: about 3 ms. It is more than `reads`, so that the kernel's
    /// queue does not overflow when many clients connect at once: a connection that is dropped there is
    /// retried after a second.
    pub accepts: usize,
    /// Clients read per turn, each once, in turns. Default 128.
    pub reads: usize,
    /// Bytes of one client's input that are processed per tick. A frame counts as received and, if it is compressed,
    /// as decompressed too. Each command in it counts once more. 128 bytes are added for each frame and each command. The
    /// rest waits for the next tick. Default 16 KiB: about 0.1 ms.
    pub read_bytes: usize,
    /// Time in which clients are read per tick; further clients wait for the next tick. Answers of backends to clients have
    /// half as much besides. Default 2 ms.
    pub read_time: Interval,
    /// Mails taken per turn. Default 256.
    pub mails: usize,
    /// Clients visited with publications per tick. Default 256: about 2 ms of sends; then other work has its
    /// turn. The other costs of a tick are 0.2 % of that.
    pub visits: usize,
    /// Deadlines handled per tick. Default 256.
    pub deadlines: usize,
    /// Subscribers of one topic with `max_delay` that a shard sends to at the same moment. More are spread
    /// over lanes, whose moments are an eighth of the delay apart. Default 1,000: about 7 ms of sends.
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
