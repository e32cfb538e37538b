//! Every configuration key: what it does, its default, its limit, and its cost.
//!
//! The structures here are the configuration file, table by table. [`load()`] reads a file and the
//! environment. [`Config::validate`] checks at start-up what a value's type cannot express.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

mod address;
mod allowed;
mod amqp;
mod backends;
mod bindings;
mod budgets;
mod control;
mod cpus;
mod decisions;
mod differences;
pub mod host;
mod http_url;
mod interval;
mod keys;
mod load;
mod log;
pub mod memory;
mod namespace;
mod origin;
mod problem;
mod reload;
mod secret;
mod secrets;
mod service_links;
#[cfg(test)]
mod tests;
mod tokens;
pub mod tuning;
mod unusable;
mod validate;
mod warnings;
mod wrong;

pub use address::{AddressError, address, addresses};
pub use allowed::{Allowed, Role};
pub use amqp::{Ack, Amqp, Source, UnknownSource};
pub use backends::{
    AMQP_BACKEND, Backend, Hooks, Rpc, StatusDisconnect, StatusError, StatusRule, is_own_header,
};
pub use bindings::Bindings;
pub use budgets::Budgets;
pub use control::Control;
pub use cpus::{CpuListError, parse_cpus};
pub use http_url::{HttpUrl, HttpUrlError};
pub use interval::{Interval, IntervalError};
pub use load::{FILE_VARIABLE, Loaded, load};
pub use log::{Log, LogFormat};
pub use namespace::{BinaryPayloads, HookFailure, Namespace, RecoveryMode, SlowPolicy};
pub use origin::ValueOrigin;
pub use problem::{Problem, Problems, grouped};
pub use reload::{RefusedReload, Reload};
pub use secret::{AmqpUrl, AmqpUrlError, AmqpUrls, AmqpUrlsError, Secret};
pub use secrets::Secrets;
pub use tokens::{Anonymous, Jwks, SubscriptionTokens, Tokens};
pub use unusable::UnusableValue;
pub use validate::NAMESPACES_MAX;
pub use wrong::{Expected, ShownValue, SyntaxError};

/// A configuration file in which every key has its default, with a comment on each.
pub const DEFAULT_FILE: &str = include_str!("default.toml");

/// Divides the users that a topic's name lists behind `server.user_boundary`.
pub const USER_SEPARATOR: char = ',';

/// The whole configuration. Every field has a default, so that an empty file is a valid one.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where clients connect, and the threads that serve them.
    pub server: Server,
    /// The port for operators.
    pub control: Control,
    /// How the tokens of clients are verified.
    pub tokens: Tokens,
    /// A set of public keys for them, in a file.
    pub jwks: Jwks,
    /// Keys for the tokens of subscriptions alone.
    pub subscription_tokens: SubscriptionTokens,
    /// RabbitMQ. Without a `url` the embedded backplane is used.
    pub amqp: Amqp,
    /// Limits in number and bytes.
    pub limits: Limits,
    /// Time limits.
    pub timeouts: Timeouts,
    /// How much of each kind of work one tick of a shard does.
    pub budgets: Budgets,
    /// How the engine stops.
    pub stop: Stop,
    /// What is written to standard error.
    pub log: Log,
    /// Who is asked about connections.
    pub hooks: Hooks,
    /// Who answers clients' requests.
    pub rpc: Rpc,
    /// The application's programs that answer calls, by name. `amqp` is the one that is reached through RabbitMQ, and
    /// exists with its defaults even if it is not configured.
    pub backends: BTreeMap<String, Backend>,
    /// The options of each namespace. `default` is for topics without a namespace in their name, and for those of unknown
    /// namespaces if these are not refused.
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
    /// shards do not contend for a common table in the kernel. Default false.
    pub private_fd_tables: bool,
    /// Allows listening beyond loopback although clients need no token. Default false.
    pub insecure: bool,
    /// Origins, such as `https://example.org`, whose pages may open WebSockets here, besides pages from the
    /// same host and the live page. `*.` before a name stands for one label or more, `*` as a port for any
    /// port. `file://` and `null` are pages from disk. `*` allows every page. Default none.
    pub allowed_origins: Vec<String>,
    /// The name of a cookie in which pages may have the token of a connection. Needs `allowed_origins`, and only origins of
    /// pages among them, as browsers send cookies for every page. Default empty: cookies are not looked at.
    pub token_cookie: String,
    /// The name of a parameter of the URL's query that may have the token of a connection. Proxies often log URLs. Default
    /// empty: the query is not looked at.
    pub token_query: String,
    /// Path of the WebSocket endpoint. Default `/connection/websocket`.
    pub path: String,
    /// The character that ends the namespace in a topic's name. Default `:`.
    pub namespace_boundary: char,
    /// What happens with topics of a namespace that is not configured. Default `refuse`.
    pub unknown_namespace: UnknownNamespace,
    /// What a private topic's name begins with, or its part behind the namespace: clients subscribe to it with a
    /// subscription token only. Default `$`; empty: no topic is private.
    pub private_prefix: String,
    /// What stands before the users in the name of a topic that is for certain users, such as `news#1,2`: they may
    /// subscribe, and nobody else. Default `#`; empty: no topic is limited to users.
    pub user_boundary: String,
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
            token_cookie: String::new(),
            token_query: String::new(),
            path: "/connection/websocket".to_owned(),
            namespace_boundary: ':',
            unknown_namespace: UnknownNamespace::default(),
            private_prefix: "$".to_owned(),
            user_boundary: "#".to_owned(),
        }
    }
}

/// What happens with topics whose namespace is not configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownNamespace {
    /// They have the options of the default namespace.
    Default,
    /// They do not exist: clients and operators get error 102, and messages of them from RabbitMQ reach no
    /// client.
    #[default]
    Refuse,
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Clients of this node, on all shards together. Default 0: as many as the limit on descriptors allows, less the
    /// connections to backends. One more is refused with 503.
    pub clients: usize,
    /// Bytes of an HTTP request's head. Default 32 KiB, paid while the head is incomplete; more gets 431.
    pub head_bytes: usize,
    /// Bytes of a client's message, and of each command in it. Default 64 KiB, paid while it is incomplete;
    /// a larger one closes with 1009.
    pub message_bytes: usize,
    /// Bytes of input that one shard keeps for all its clients: incomplete messages, and input that waits.
    /// Default 64 MiB. Beyond, clients are closed with 3008: first those that take no replies, then those
    /// with the largest incomplete messages, then those with the most input behind a command that waits for
    /// the broker. When others cannot be read for 250 ms, those go that hold most, whatever they wait for.
    pub shard_input_bytes: usize,
    /// Subscriptions of one client. Default 128, 8 bytes each; one more gets error 106.
    pub topics_per_client: usize,
    /// Bytes of a user's name in a token. Default 256; a token with a longer one closes with 3500.
    pub user_max: usize,
    /// Bytes of each JSON value that a token carries for the application: `info`, `meta`, and the `data` of a
    /// subscription. Default 1 KiB, paid while the client is connected; a token with a larger one closes with 3500.
    pub info_bytes: usize,
    /// Verified tokens of connections that one shard remembers, and as many of subscriptions, so that a client that
    /// comes back with the same token costs no signature. Default 10,000, at most 1 KiB each on average; beyond, the
    /// least recently used are forgotten.
    pub tokens: usize,
    /// Bytes of a topic's name. Default and maximum: 255, AMQP's limit for routing keys.
    pub topic_bytes: usize,
    /// Topics with subscribers on this node. Default 1,000,000, about 250 bytes each; one more gets error 106.
    pub topics: usize,
    /// Bytes of one publication's data. Default 256 KiB; a larger one goes to the dead-letter exchange.
    pub publication_bytes: usize,
    /// Levels of nesting in JSON. Default 128: several SDKs fail beyond some hundreds.
    pub json_depth: usize,
    /// Payload bytes of one WebSocket frame of merged publications. Default 512 KiB; some SDKs close at 1 MiB.
    pub frame_bytes: usize,
    /// Bytes of replies that wait for one client that does not take them; beyond, its input is not read.
    /// Default 64 KiB. One answer to a recovery or a history command may always be requested as well; more
    /// only as far as there is room, with 512 bytes at least for each.
    pub replies_bytes: usize,
    /// The same for all clients of one shard together, pongs included. Default 64 MiB. Beyond, clients are
    /// closed with 3008: first those with more than `replies_bytes`, then those whose replies have waited
    /// longest. Requests with large answers count from when they are sent, with `frame_bytes` at least, and
    /// wait if there is no room.
    pub shard_replies_bytes: usize,
    /// Bytes of one topic's log on one shard. Default 1 MiB; beyond, clients whose sockets take nothing lose
    /// publications.
    pub log_bytes: usize,
    /// Bytes of all logs of one shard. Default 64 MiB; beyond, such clients of the longest log lose
    /// publications.
    pub logs_bytes: usize,
    /// Bytes of one shard that are kept only for clients in the middle of a frame. Default 16 MiB; beyond,
    /// those clients are closed.
    pub rest_bytes: usize,
    /// Mails in a shard's mailbox. Default 4,096, 56 bytes each; beyond, the broker keeps them in its outbox
    /// and consumes no more.
    pub mailbox: usize,
    /// Bytes of publications and answers in a shard's mailbox. Default 32 MiB; beyond, as with `mailbox`.
    pub mailbox_bytes: usize,
    /// Requests in the broker thread's mailboxes. Each shard and the operators have equal parts. Default
    /// 16,384; a shard whose part is full stops reading clients.
    pub requests: usize,
    /// Bytes of data and `info` of the publishes among them. Default 32 MiB; beyond, as with `requests`.
    pub requests_bytes: usize,
    /// Publishes of operators and clients that wait for a confirm. Default 16,384; one more gets error 111.
    pub publishes: usize,
    /// Bytes of their data and `info`. Default 64 MiB; beyond, as with `publishes`.
    pub publishes_bytes: usize,
    /// Bytes of all topics' history on this node. Default 256 MiB; beyond, the oldest publications go first,
    /// of whichever topic.
    pub history_bytes: usize,
    /// Topics whose offset is remembered although their history is empty. Default 1,000,000, about 150 bytes
    /// each; beyond, the longest idle are forgotten, and their subscribers cannot recover.
    pub history_topics: usize,
    /// Bytes waiting to be merged on this node. Default 64 MiB; beyond, everything is handed over at once.
    pub merging_bytes: usize,
    /// Calls to backends that are not answered yet, those that wait to be sent included. Default 32,768; the client of one
    /// more gets error 111.
    pub calls: usize,
    /// Bytes that they carry, the headers of their clients included, with some hundred for each. Default 64 MiB; beyond, as
    /// with `calls`.
    pub calls_bytes: usize,
    /// Requests (`rpc`) of one client that are not answered yet. Default 64; one more gets error 111.
    pub rpcs_per_client: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: 0,
            head_bytes: 32 << 10,
            message_bytes: 64 << 10,
            topics_per_client: 128,
            user_max: 256,
            info_bytes: 1 << 10,
            tokens: 10_000,
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
            calls: 32_768,
            calls_bytes: 64 << 20,
            rpcs_per_client: 64,
        }
    }
}

/// `[timeouts]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// From accept to a complete HTTP request; then 408. Default 10 s.
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
    /// From when a connection or a subscription expires to its end, in which the client can send another token. Default
    /// 25 s.
    pub expired: Interval,
    /// From publish to confirm, including repetitions; then error 100: the outcome is unknown. Default 5 s.
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
            expired: Interval::from_secs(25),
            publish: Interval::from_secs(5),
        }
    }
}

/// `[stop]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stop {
    /// Clients closed per second when the engine stops, so that they do not all reconnect in the same second.
    /// Default 5,000, for all shards together.
    pub clients_per_second: u32,
    /// Clients that are told of a gap (2500) per second, for the same reason. Default 5,000.
    pub gaps_per_second: u32,
    /// From the signal to the exit, even if connections are still open. Default 30 s.
    pub limit: Interval,
}

impl Default for Stop {
    fn default() -> Self {
        Self { clients_per_second: 5000, gaps_per_second: 5000, limit: Interval::from_secs(30) }
    }
}

impl Config {
    /// The longest `history_ttl` of all namespaces with a history. Zero if there is none.
    #[must_use]
    pub fn longest_history(&self) -> Duration {
        let kept = self.namespaces.values().filter(|namespace| namespace.has_history());
        kept.map(|namespace| namespace.history_ttl.0).max().unwrap_or_default()
    }
}
