//! `[amqp]`: RabbitMQ, and what is consumed from it.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{AmqpUrls, Bindings, Interval};

/// `[amqp]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Amqp {
    /// `amqp://user:password@host:port/vhost` or `amqps://`; or several, of which any one will do. They are
    /// tried in turn, beginning with the one that worked last. Default empty: the embedded backplane.
    pub url: AmqpUrls,
    /// The topic exchange that publishers send to. An existing one is used unchanged. Default `fanfare`.
    pub exchange: String,
    /// Where publications come from. Default [`Source::Stream`].
    pub source: Source,
    /// The stream that is read. Default `fanfare`. An existing one is used unchanged.
    pub stream: String,
    /// How long the stream keeps messages (RabbitMQ's `x-max-age`). Default 24 h.
    pub stream_max_age: Interval,
    /// Bytes that the stream keeps (`x-max-length-bytes`). Default 10 GiB; costs as much disk, on each of
    /// its replicas.
    pub stream_max_bytes: u64,
    /// Nodes of a RabbitMQ cluster that keep the stream (`x-initial-cluster-size`). Default 0: RabbitMQ's
    /// choice.
    pub stream_replicas: u16,
    /// Messages of the stream that are read back for histories at the start, at most. Default 1,000,000.
    pub replay_max_messages: u64,
    /// How far back in time the stream is read at the start, if a namespace's history is that long. Default
    /// 10 min.
    pub replay_max_age: Interval,
    /// With [`Source::Queue`]: an existing durable queue to consume. Default empty: an exclusive queue of
    /// this node's own.
    pub queue: String,
    /// With `queue`: how long after the start nothing is taken from it, so that clients have reconnected
    /// before the waiting messages are pushed. Default 5 s.
    pub queue_delay: Interval,
    /// Messages that a queue of this node's own keeps at most; the oldest go first, and subscribers are told of
    /// the gap. Default 1,000,000; costs as much of RabbitMQ's memory and disk.
    pub queue_max_messages: u32,
    /// What the stream, or the node's own queue, receives from the exchange. Default everything.
    pub bindings: Bindings,
    /// With [`Bindings::Dynamic`]: how long a topic stays bound after its last subscriber has left. Default
    /// 10 s. Messages of the topic come to the node for so long, and its history ends with its binding.
    pub binding_linger: Interval,
    /// The dead-letter exchange, for messages that cannot be delivered. Default `fanfare.dead`.
    pub dead_letter_exchange: String,
    /// The durable queue bound to it. Default `fanfare.dead`.
    pub dead_letter_queue: String,
    /// Messages that queue keeps at most; the oldest go first. Default 10,000.
    pub dead_letter_max: u32,
    /// Messages that were received and are not acknowledged, at most: the outer limit of back-pressure.
    /// Default 4,096. Costs memory for that many bodies, and for as many dead letters while RabbitMQ does not
    /// accept them; then no more messages are taken until it does.
    pub prefetch: u16,
    /// Bytes of messages that were received and are not acknowledged, headers included, and about as many
    /// that RabbitMQ has sent ahead. Default 64 MiB.
    pub prefetch_bytes: usize,
    /// When a message is acknowledged to RabbitMQ. Default `handover`.
    pub ack: Ack,
    /// With `ack = "written"`: how long a message waits for clients whose sockets take nothing. Default 1 s.
    pub written_timeout: Interval,
    /// How many ids of messages (`message-id`) are remembered. A message with a remembered id is a
    /// repetition, and is not pushed again to the topics that it was pushed to. A stream counts all its
    /// messages, a queue counts those with an id. At most four times as many pairs of id and topic are
    /// remembered. Default 100,000; 0 pushes every message. Costs about 70 bytes for each pair; with a
    /// stream, so many messages more are read at the start. Every publish of an engine has an id. The engine
    /// sends it again after a lost connection, and RabbitMQ sends again what was taken from `queue` and not
    /// acknowledged. With fewer ids than messages within `timeouts.publish`, or than `prefetch`, repetitions
    /// would be pushed.
    pub message_ids: usize,
    /// Whether the time stamps of publishers (`timestamp`, `timestamp_in_ms`, `x-timestamp-us`) say when
    /// RabbitMQ received a message. `expiration` and `history_ttl` then count from them. Default false: they
    /// count from when the engine received the message. For a message read back from a stream, they count
    /// from the next marker of a node after it, a minute later at most. With true, a message with the time
    /// stamp of an older event may be dropped as expired.
    pub trust_timestamps: bool,
    /// First pause before connecting again. Default 100 ms; doubles, with jitter, up to `reconnect_max`.
    pub reconnect_min: Interval,
    /// Longest pause before connecting again. Default 10 s.
    pub reconnect_max: Interval,
}

impl Default for Amqp {
    fn default() -> Self {
        Self {
            url: AmqpUrls::default(),
            exchange: "fanfare".to_owned(),
            source: Source::default(),
            stream: "fanfare".to_owned(),
            stream_max_age: Interval::from_secs(24 * 60 * 60),
            stream_max_bytes: 10 << 30,
            stream_replicas: 0,
            replay_max_messages: 1_000_000,
            replay_max_age: Interval::from_secs(10 * 60),
            queue: String::new(),
            queue_delay: Interval::from_secs(5),
            queue_max_messages: 1_000_000,
            bindings: Bindings::default(),
            binding_linger: Interval::from_secs(10),
            dead_letter_exchange: "fanfare.dead".to_owned(),
            dead_letter_queue: "fanfare.dead".to_owned(),
            dead_letter_max: 10_000,
            prefetch: 4096,
            prefetch_bytes: 64 << 20,
            ack: Ack::default(),
            written_timeout: Interval::from_secs(1),
            message_ids: 100_000,
            trust_timestamps: false,
            reconnect_min: Interval::from_millis(100),
            reconnect_max: Interval::from_secs(10),
        }
    }
}

impl Amqp {
    /// Whether publications come from a stream, which numbers them.
    #[must_use]
    pub fn reads_stream(&self) -> bool {
        self.source == Source::Stream && !self.url.is_empty()
    }

    /// The topic exchange for calls to backends: `amqp.exchange`, and `.rpc`.
    #[must_use]
    pub fn calls_exchange(&self) -> String {
        format!("{}.rpc", self.exchange)
    }
}

/// When a message is acknowledged to RabbitMQ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ack {
    /// When it is in the mailboxes of all shards that want it.
    #[default]
    Handover,
    /// When it was written to every client whose socket takes bytes, and the others took it or
    /// `amqp.written_timeout` has passed. The depth of the queue in RabbitMQ then shows how far the pushes
    /// are behind.
    Written,
}

/// Where publications come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// One durable stream for all nodes, which any node can read back after a restart.
    #[default]
    Stream,
    /// A queue for each node, or one by name: lowest latency, but a pushed publication is no longer in
    /// RabbitMQ.
    Queue,
}

/// A text that is no [`Source`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is no source: expected `stream` or `queue`")]
pub struct UnknownSource(String);

impl FromStr for Source {
    type Err = UnknownSource;

    fn from_str(text: &str) -> Result<Self, UnknownSource> {
        match text {
            "stream" => Ok(Self::Stream),
            "queue" => Ok(Self::Queue),
            _ => Err(UnknownSource(text.to_owned())),
        }
    }
}
