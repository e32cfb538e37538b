//! What a shard counts.

use crate::domain::reasons::CloseReason;
use crate::transport::refusal::Refusal;

use super::block::{Counted, Kind, Labels, Metric, Values, block};
use super::number::{Histogram, Number, Numbers};

/// Upper bounds for lines per frame.
const LINES: [u64; 10] = [1, 2, 4, 8, 16, 32, 64, 128, 512, 2048];

block! {
    /// What one shard counts.
    pub struct ShardStats {
        counters {
            /// Connections accepted.
            accepted: "accepted",
            /// Accepts that failed for want of descriptors or memory.
            accept_failures: "accept_failures",
            /// Times that a shard's own table of descriptors was full, and it stopped to listen.
            listeners_closed: "listeners_closed",
            /// Commands taken from clients.
            commands: "commands",
            /// Signatures of tokens that were checked. Tokens that are remembered are not among them.
            tokens_verified: "tokens_verified",
            /// Tokens whose key may be in a key set that has to be fetched first (`jwks.url`). Their clients were told to try
            /// again.
            tokens_undecided: "tokens_undecided",
            /// Publications handed to sockets: one per line and client.
            deliveries: "deliveries",
            /// WebSocket frames with publications.
            frames: "frames",
            /// Calls that wrote to a socket.
            writes: "writes",
            /// Bytes that sockets took, headers and replies included.
            bytes: "sent_bytes",
            /// Keys whose latest publication slow subscribers were not sent, for want of room.
            keys_dropped: "keys_dropped",
            /// Subscriptions ended with 2500 because messages from RabbitMQ may be missing.
            gaps_told: "gaps_told",
            /// Turns of the shard's loop.
            ticks: "ticks",
        }
        gauges {
            /// Clients whose socket takes nothing at the moment.
            blocked_clients: "blocked_clients",
            /// Mails waiting in the shard's mailbox.
            mailbox_depth: "mailbox_depth",
            /// Bytes in the logs of all topics.
            log_bytes: "log_bytes",
            /// Bytes kept only because a client is in the middle of a frame.
            rest_bytes: "rest_bytes",
            /// Bytes of replies that wait for clients.
            reply_bytes: "reply_bytes",
            /// Bytes of clients' messages that are incomplete or wait for their turn.
            input_bytes: "input_bytes",
            /// Topics the shard has a slot for.
            topics: "shard_topics",
            /// Subscriptions.
            subscriptions: "subscriptions",
        }
        labelled {
            Gauge "clients" "Clients by state." by "state" {
                /// Clients whose HTTP request is not whole yet.
                upgrading: "upgrading",
                /// Clients with an open WebSocket, connected or about to send `connect`.
                open: "open",
                /// Clients that were told to go and are not gone.
                closing: "closing",
            }
            Counter "slow_outcomes" "What became of clients that were too slow." by "policy" {
                /// Clients closed for being slow.
                policy_disconnect: "disconnect",
                /// Subscriptions ended with 2500 for being slow.
                policy_resync: "resync",
                /// Subscriptions that jumped to the newest line, or to the latest of each key, for being slow.
                policy_skip: "skip",
            }
        }
        sets {
            /// Clients that are gone, by reason.
            closes: CloseReason = "closes",
            /// HTTP requests on clients' ports that were not upgraded, by status and reason.
            refused_upgrades: Refusal = "refused_upgrades",
        }
        histograms {
            /// Publications in each frame.
            lines_per_frame: [LINES; 10] = "lines_per_frame" / 1,
        }
        others {
            /// Subscriptions by the number of their namespace. Deliveries are not counted so: each frame would look up its
            /// topic's namespace.
            pub namespace_subscriptions: Numbers = Numbers::default(),
        }
    }
}

impl Counted for CloseReason {
    fn members() -> &'static [Self] {
        &Self::ALL
    }

    fn labels(self) -> Labels {
        vec![("reason", self.label().to_owned())]
    }
}

impl Counted for Refusal {
    fn members() -> &'static [Self] {
        &Self::ALL
    }

    fn labels(self) -> Labels {
        vec![("status", self.status().to_string()), ("reason", self.label().to_owned())]
    }
}
