//! `[namespaces.NAME]`: the options of a namespace's topics.

use serde::{Deserialize, Serialize};

use super::{Allowed, Interval};

/// `[namespaces.NAME]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Namespace {
    /// Which clients may subscribe without a subscription token. Default all; the role `subscriber` is refused, because
    /// it would admit nobody.
    pub client_subscribe: Allowed,
    /// Which clients may publish. Default none.
    pub client_publish: Allowed,
    /// What happens with a client that did not take publications before the log had to drop them. Default
    /// `resync`.
    pub slow: SlowPolicy,
    /// With `slow = "skip"`: keys (`x-key`) of one topic of which a client that was too slow gets the latest
    /// publication. Default 10,000; of more, the keys that were not published for longest are skipped. 0: all
    /// are.
    pub keys_max: usize,
    /// How long a publication may wait for others, to leave in one frame with them. Default 0: not at all.
    pub max_delay: Interval,
    /// With `max_delay`: hand over as soon as this many wait. Default 0: no such limit.
    pub max_messages: u32,
    /// With `max_delay`: hand over as soon as this many bytes wait. Default 0: only `limits.frame_bytes`.
    pub max_bytes: usize,
    /// Publications kept of each topic, so that clients that come back receive those that they missed.
    /// Default 0: none.
    pub history_size: u32,
    /// With `history_size`: how long they are kept. Default 5 min.
    pub history_ttl: Interval,
    /// With `history_size`: which clients may read the history by the command `history`. For all others, it serves
    /// recovery only. Default none.
    pub client_history: Allowed,
    /// Which clients may ask who is present in a topic. This version keeps no presence, so it has no effect: everybody gets
    /// error 108. Default none.
    pub client_presence: Allowed,
    /// A regular expression for the part of a topic's name behind the namespace, or for the whole name in the default
    /// namespace. It must match that part as a whole; otherwise clients get error 107. It takes linear time. Default
    /// empty: every name.
    pub topic_pattern: String,
    /// Whether clients are subscribed by the server alone, and never by a command, not even with a token. Default false.
    pub server_only: bool,
    /// Whether every subscription can be recovered, even if the client does not ask for it. Default false.
    pub force_recovery: bool,
    /// Whether every subscriber is told its position. Default false.
    pub force_positioning: bool,
    /// What a client that comes back receives: every publication that it missed, or the newest one. Default
    /// `stream`.
    pub recovery_mode: RecoveryMode,
    /// Bytes that a topic's log may hold on one shard. Default 0: `limits.log_bytes`.
    pub log_bytes: usize,
    /// Bytes of one publication's data in this namespace. Default 0: `limits.publication_bytes`.
    pub publication_bytes: usize,
    /// What JSON clients get of a body of a binary type, such as `application/octet-stream`. Default `refuse`.
    pub binary: BinaryPayloads,
    /// Whether clients that offer permessage-deflate receive their publications compressed. Default false.
    pub deflate: bool,
    /// With `deflate`: batches of fewer bytes are sent uncompressed. Default 256.
    pub deflate_min_bytes: usize,
    /// The backend that says whether a client may subscribe, if it has no subscription token. Default empty: nobody is
    /// asked, and `client_subscribe` decides.
    pub subscribe_hook: String,
    /// The backend that says, when a subscription expires, for how long it may stay. Default empty: the client must send
    /// another token.
    pub sub_refresh_hook: String,
    /// The backend that says whether a client may publish, and what is published. Default empty: nobody is asked, and
    /// `client_publish` decides.
    pub publish_hook: String,
    /// What a client may do if the backend of `subscribe_hook` or `publish_hook` does not answer. Default `deny`.
    pub hook_failure: HookFailure,
}

impl Default for Namespace {
    fn default() -> Self {
        Self {
            client_subscribe: Allowed::EVERYONE,
            client_publish: Allowed::NOBODY,
            slow: SlowPolicy::default(),
            keys_max: 10_000,
            max_delay: Interval::default(),
            max_messages: 0,
            max_bytes: 0,
            history_size: 0,
            history_ttl: Interval::from_secs(300),
            client_history: Allowed::NOBODY,
            client_presence: Allowed::NOBODY,
            topic_pattern: String::new(),
            server_only: false,
            force_recovery: false,
            force_positioning: false,
            recovery_mode: RecoveryMode::default(),
            log_bytes: 0,
            publication_bytes: 0,
            binary: BinaryPayloads::default(),
            deflate: false,
            deflate_min_bytes: 256,
            subscribe_hook: String::new(),
            sub_refresh_hook: String::new(),
            publish_hook: String::new(),
            hook_failure: HookFailure::default(),
        }
    }
}

/// What happens with a client that lost publications because it did not take them in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SlowPolicy {
    /// Closed with 3008; the SDK reconnects.
    Disconnect,
    /// The subscription ends with 2500; the SDK subscribes again.
    #[default]
    Resync,
    /// It goes on with the newest, or with the latest of each key that it missed. For topics where only the
    /// latest value matters.
    Skip,
}

impl Namespace {
    /// Whether publications are kept.
    #[must_use]
    pub fn has_history(&self) -> bool {
        self.history_size > 0 && !self.history_ttl.is_zero()
    }

    /// Whether slow clients receive the latest publication of each key that they missed.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        self.slow == SlowPolicy::Skip && self.keys_max > 0
    }
}

/// What a client may do if the backend that was asked does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HookFailure {
    /// Nothing: its command fails with a temporary error, and the SDK tries again.
    #[default]
    Deny,
    /// What it asked for, as if the backend had agreed and said nothing more.
    Allow,
}

/// What a client that comes back to a topic with history receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RecoveryMode {
    /// Every publication that it missed.
    #[default]
    Stream,
    /// The newest publication, if the client does not have it. For topics where only the latest value
    /// matters.
    Cache,
}

/// What happens with binary payloads, which JSON cannot carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BinaryPayloads {
    /// They go to the dead-letter exchange.
    #[default]
    Refuse,
    /// They are delivered as a JSON string in base64 (RFC 4648, section 4).
    Base64,
    /// They are delivered unchanged if they are JSON, because some client libraries label everything as
    /// binary. Otherwise they are dead letters.
    Json,
}
