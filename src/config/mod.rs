//! Every knob: what it does, its default, its limit, and what it costs.
//!
//! The structures here are the configuration file, table by table. [`Config::validate`] asserts the
//! relations between limits at start-up; reading a file and the environment is [`load`]'s.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

mod address;
mod amqp;
mod bindings;
mod budgets;
mod control;
mod cpus;
mod differences;
pub mod host;
mod interval;
mod keys;
mod load;
mod log;
pub mod memory;
mod problem;
mod secret;
mod service_links;
#[cfg(test)]
mod tests;
pub mod tuning;
mod validate;
mod warnings;
mod wrong;

pub use address::{address, addresses};
pub use amqp::{Ack, Amqp, Source};
pub use bindings::Bindings;
pub use budgets::Budgets;
pub use control::Control;
pub use cpus::parse_cpus;
pub use interval::Interval;
pub use load::{FILE_VARIABLE, Loaded, load};
pub use log::{Log, LogFormat};
pub use problem::{Origin, Problem, Problems, grouped};
pub use secret::{AmqpUrl, AmqpUrls, Secret};
pub use validate::NAMESPACES_MAX;

/// A configuration file in which every key stands at its default, with a comment on each.
pub const DEFAULT_FILE: &str = include_str!("default.toml");

/// The whole configuration. Every field has a default, so that an empty file is a valid one.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where clients come in, and the threads that serve them.
    pub server: Server,
    /// The operators' door.
    pub control: Control,
    /// RabbitMQ. Without a `url` the embedded backplane is used.
    pub amqp: Amqp,
    /// What nothing may exceed.
    pub limits: Limits,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// How much of each kind of work one turn of a shard's loop does.
    pub budgets: Budgets,
    /// How the engine leaves.
    pub stop: Stop,
    /// What is written to standard error.
    pub log: Log,
    /// The options of each namespace; `default` is for the topics of no other.
    pub namespaces: BTreeMap<String, Namespace>,
}

/// `[server]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Addresses for clients. Default: port 8000 on 127.0.0.1 and ::1. A name stands for every address that it has.
    #[serde(deserialize_with = "address::deserialize_all")]
    pub listen: Vec<SocketAddr>,
    /// Number of shards, each one thread with its own event loop. Default 0: one per CPU, less one for
    /// broker and control where there are three CPUs or more.
    pub shards: u16,
    /// CPUs that shards are pinned to, such as `0-3,6`. Default empty: those of the start-up mask.
    pub cpus: String,
    /// Gives each shard a table of descriptors of its own: the limit on descriptors counts per shard, and
    /// shards do not meet in the kernel over a common table. Default false.
    pub private_fd_tables: bool,
    /// Allows listening to clients beyond loopback although nobody has to show a token. Default false.
    pub insecure: bool,
    /// Origins, such as `https://example.org`, whose pages may open WebSockets here, besides pages from
    /// the same host and the live page. `*.` in front of a name stands for one label or more, `*` for any port;
    /// `file://` and `null` are pages from disk. `*` allows every page. Default none.
    pub allowed_origins: Vec<String>,
    /// Path of the WebSocket endpoint. Default `/connection/websocket`.
    pub path: String,
    /// What ends the namespace in a topic's name. Default `:`.
    pub namespace_boundary: char,
    /// What becomes of topics in a namespace that is not configured. Default `default`.
    pub unknown_namespace: UnknownNamespace,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: vec![
                SocketAddr::from(([127, 0, 0, 1], 8000)),
                SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 8000)),
            ],
            shards: 0,
            cpus: String::new(),
            private_fd_tables: false,
            insecure: false,
            allowed_origins: Vec::new(),
            path: "/connection/websocket".to_owned(),
            namespace_boundary: ':',
            unknown_namespace: UnknownNamespace::default(),
        }
    }
}

/// What becomes of topics whose name begins with a namespace that is not configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownNamespace {
    /// They have the options of the default namespace.
    #[default]
    Default,
    /// There are none: clients and operators get error 102, and what RabbitMQ brings nobody hears.
    Refuse,
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Clients of this node, on all shards together. Default 0: what the limit on descriptors leaves room for. One
    /// more is refused with 503.
    pub clients: usize,
    /// Bytes of an HTTP request's head. Default 32 KiB, paid while the head is incomplete; more gets 431.
    pub head_bytes: usize,
    /// Bytes of a client's message, and of each command in it. Default 64 KiB, paid while it is incomplete;
    /// a larger one closes with 1009.
    pub message_bytes: usize,
    /// Bytes of input that is kept, of all clients of one shard: messages that have come in part, and what waits.
    /// Default 64 MiB; then those who take no replies, then those with the largest incomplete messages, then those with the
    /// most behind a command that waits for the broker, are closed with 3008; and where others cannot be read for 250 ms,
    /// those of whom most is kept, whatever they wait for.
    pub shard_input_bytes: usize,
    /// Subscriptions of one client. Default 128, 8 bytes each; one more gets error 106.
    pub topics_per_client: usize,
    /// Bytes of a topic's name. Default and most: 255, AMQP's limit for routing keys.
    pub topic_bytes: usize,
    /// Topics with subscribers on this node. Default 1,000,000, about 250 bytes each; one more gets error 106.
    pub topics: usize,
    /// Bytes of one publication's data. Default 256 KiB; a larger one goes to the dead-letter exchange.
    pub publication_bytes: usize,
    /// Levels of nesting in JSON. Default 128: several SDKs fail beyond some hundreds.
    pub json_depth: usize,
    /// Payload bytes of one WebSocket frame of merged publications. Default 512 KiB; some SDKs close at 1 MiB.
    pub frame_bytes: usize,
    /// Bytes of replies waiting for one client that does not take them; beyond, its input is not read.
    /// Default 64 KiB. One answer to a recovery or about a history may always be asked for besides; others only as far
    /// as they have room, each with 512 bytes at least.
    pub replies_bytes: usize,
    /// The same of all clients of one shard together, pongs included. Default 64 MiB; then those who have let replies
    /// wait for the longest are closed with 3008, first those with more than `replies_bytes`. A client's questions whose
    /// answers may be large count from when they are asked, with `frame_bytes` at least, and wait where there is no room.
    pub shard_replies_bytes: usize,
    /// Bytes of one topic's log on one shard. Default 1 MiB; beyond, blocked clients lose.
    pub log_bytes: usize,
    /// Bytes of all logs of one shard. Default 64 MiB; beyond, the blocked clients of the longest log lose.
    pub logs_bytes: usize,
    /// Bytes of one shard kept only for clients in the middle of a frame. Default 16 MiB; beyond, those
    /// clients are closed.
    pub rest_bytes: usize,
    /// Mails in a shard's mailbox. Default 4,096, 48 bytes each; beyond, the broker's outbox holds them and
    /// consumes no more.
    pub mailbox: usize,
    /// Bytes of publications and answers in a shard's mailbox. Default 32 MiB; beyond, as with `mailbox`.
    pub mailbox_bytes: usize,
    /// Requests in the broker thread's mailboxes, of which each shard and operators have equal parts. Default 16,384; a
    /// shard whose part is full stops reading clients.
    pub requests: usize,
    /// Bytes of data of the publishes among them. Default 32 MiB; beyond, as with `requests`.
    pub requests_bytes: usize,
    /// Publishes of operators and clients that wait for a confirm. Default 16,384; one more gets error 111.
    pub publishes: usize,
    /// Bytes of their data. Default 64 MiB; beyond, as with `publishes`.
    pub publishes_bytes: usize,
    /// Bytes of all topics' history on this node. Default 256 MiB; beyond, the oldest publications go first,
    /// whoever's they are.
    pub history_bytes: usize,
    /// Topics whose place in their history is remembered although nothing is kept of them. Default 1,000,000,
    /// about 150 bytes each; beyond, the longest idle are forgotten, and nothing of them can be recovered.
    pub history_topics: usize,
    /// Bytes waiting to be merged on this node. Default 64 MiB; beyond, everything is handed over at once.
    pub merging_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: 0,
            head_bytes: 32 << 10,
            message_bytes: 64 << 10,
            topics_per_client: 128,
            topic_bytes: 255,
            topics: 1_000_000,
            publication_bytes: 256 << 10,
            json_depth: 128,
            frame_bytes: 512 << 10,
            replies_bytes: 64 << 10,
            shard_replies_bytes: 64 << 20,
            shard_input_bytes: 64 << 20,
            log_bytes: 1 << 20,
            logs_bytes: 64 << 20,
            rest_bytes: 16 << 20,
            mailbox: 4096,
            mailbox_bytes: 32 << 20,
            requests: 16_384,
            requests_bytes: 32 << 20,
            publishes: 16_384,
            publishes_bytes: 64 << 20,
            history_bytes: 256 << 20,
            history_topics: 1_000_000,
            merging_bytes: 64 << 20,
        }
    }
}

/// `[timeouts]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// From accept to a whole HTTP request; then 408. Default 10 s.
    pub upgrade: Interval,
    /// From the upgrade to the connect command; then 3502. Default 10 s.
    pub connect: Interval,
    /// Between pings to a client. Default 25 s; told to the SDK in whole seconds.
    pub ping: Interval,
    /// From ping to pong; then 3012. Default 8 s.
    pub pong: Interval,
    /// From the first byte of a client's message to its last, while the client is waited for; then 3008. Default 30 s.
    pub message: Interval,
    /// From our close frame to the peer's; then the connection is dropped. Default 5 s.
    pub close: Interval,
    /// How long replies may wait for a client that does not take them; then 3008. Default 10 s.
    pub replies: Interval,
    /// From publish to confirm, however often it is sent meanwhile; then error 100, and it may or may not have
    /// been stored. Default 5 s.
    pub publish: Interval,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            upgrade: Interval::from_secs(10),
            connect: Interval::from_secs(10),
            ping: Interval::from_secs(25),
            pong: Interval::from_secs(8),
            message: Interval::from_secs(30),
            close: Interval::from_secs(5),
            replies: Interval::from_secs(10),
            publish: Interval::from_secs(5),
        }
    }
}

/// `[stop]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stop {
    /// Clients closed per second when the engine stops, so that they do not all come back in the same
    /// second. Default 5,000, on all shards together.
    pub clients_per_second: u32,
    /// Clients told of a gap (2500) per second and for the same reason. Default 5,000.
    pub gaps_per_second: u32,
    /// From the signal to the exit, whatever is still open. Default 30 s.
    pub limit: Interval,
}

impl Default for Stop {
    fn default() -> Self {
        Self { clients_per_second: 5000, gaps_per_second: 5000, limit: Interval::from_secs(30) }
    }
}

/// `[namespaces.NAME]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Namespace {
    /// Whether clients may publish. Default false.
    pub client_publish: bool,
    /// What becomes of a client that did not take publications before the log had to drop them. Default
    /// `resync`.
    pub slow: SlowPolicy,
    /// With `slow = "skip"`: keys (`x-key`) of one topic of which a client that was too slow is sent the latest
    /// publication. Default 10,000; of more, the keys that were not published for the longest are skipped. 0: all
    /// are.
    pub keys_max: usize,
    /// How long a publication may wait for others, to leave in one frame with them. Default 0: not at all.
    pub max_delay: Interval,
    /// With `max_delay`: hand over as soon as this many wait. Default 0: no such limit.
    pub max_messages: u32,
    /// With `max_delay`: hand over as soon as this many bytes wait. Default 0: only `limits.frame_bytes`.
    pub max_bytes: usize,
    /// Publications kept of each topic, so that clients get what they missed while they were away. Default 0:
    /// none.
    pub history_size: u32,
    /// With `history_size`: how long they are kept. Default 5 min.
    pub history_ttl: Interval,
    /// With `history_size`: whether clients may read what was published (`history`). It may be kept only for those
    /// who come back. Default true.
    pub client_history: bool,
    /// Whether every subscription can be recovered, also where the client does not ask for that. Default false.
    pub force_recovery: bool,
    /// Whether every subscriber is told where it stands. Default false.
    pub force_positioning: bool,
    /// What a client that comes back gets: everything that it missed, or the newest publication. Default
    /// `stream`.
    pub recovery_mode: RecoveryMode,
    /// Bytes that a topic's log may hold on one shard. Default 0: `limits.log_bytes`.
    pub log_bytes: usize,
    /// Bytes of one publication's data in this namespace. Default 0: `limits.publication_bytes`.
    pub publication_bytes: usize,
    /// What JSON clients get of a body of a binary type, such as `application/octet-stream`. Default `refuse`.
    pub binary: BinaryPayloads,
    /// Whether clients that offer permessage-deflate are sent their publications compressed. Default false.
    pub deflate: bool,
    /// With `deflate`: fewer bytes than this leave as they are. Default 256.
    pub deflate_min_bytes: usize,
}

impl Default for Namespace {
    fn default() -> Self {
        Self {
            client_publish: false,
            slow: SlowPolicy::default(),
            keys_max: 10_000,
            max_delay: Interval::default(),
            max_messages: 0,
            max_bytes: 0,
            history_size: 0,
            history_ttl: Interval::from_secs(300),
            client_history: true,
            force_recovery: false,
            force_positioning: false,
            recovery_mode: RecoveryMode::default(),
            log_bytes: 0,
            publication_bytes: 0,
            binary: BinaryPayloads::default(),
            deflate: false,
            deflate_min_bytes: 256,
        }
    }
}

/// What becomes of a client that lost publications because it did not take them in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SlowPolicy {
    /// Closed with 3008; the SDK reconnects.
    Disconnect,
    /// The subscription ends with 2500; the SDK subscribes again.
    #[default]
    Resync,
    /// It goes on with the newest, or with the latest of each key that it missed; for topics where only the last
    /// value matters.
    Skip,
}

impl Config {
    /// How long the longest of all histories is, in time. Zero if nothing is kept.
    #[must_use]
    pub fn longest_history(&self) -> Duration {
        let kept = self.namespaces.values().filter(|namespace| namespace.has_history());
        kept.map(|namespace| namespace.history_ttl.0).max().unwrap_or_default()
    }
}

impl Namespace {
    /// Whether publications are kept.
    #[must_use]
    pub fn has_history(&self) -> bool {
        self.history_size > 0 && !self.history_ttl.is_zero()
    }

    /// Whether slow clients are sent the latest publication of each key that they missed.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        self.slow == SlowPolicy::Skip && self.keys_max > 0
    }
}

/// What a client gets that comes back to a topic with history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RecoveryMode {
    /// Everything that it missed.
    #[default]
    Stream,
    /// The newest publication, if it has not got that; for topics where only the last value matters.
    Cache,
}

/// What becomes of binary payloads where JSON is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BinaryPayloads {
    /// They go to the dead-letter exchange.
    #[default]
    Refuse,
    /// They arrive as a JSON string in base64 (RFC 4648, section 4).
    Base64,
    /// They arrive as what they are if they are JSON, which some client libraries label as binary whatever it is; else
    /// they go to the dead-letter exchange.
    Json,
}
