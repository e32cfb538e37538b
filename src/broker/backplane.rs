//! Where publications come from and go to: what RabbitMQ and its stand-in in memory have in common.

use std::time::Instant;

use tokio::sync::watch;

use crate::broker::frontier::Tag;
use crate::mail::Asker;
use crate::protocol::codes::ErrorCode;

/// What a publisher says its body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// `application/json`, or nothing said.
    Json,
    /// `text/plain`.
    Text,
    /// `application/octet-stream`.
    Binary,
    /// Anything else: taken as JSON if it is.
    Other,
}

/// A message as the backplane delivers it, not checked yet.
#[derive(Debug)]
pub(super) struct Delivery {
    /// Its topics, each once.
    pub topics: Vec<String>,
    /// Its body.
    pub body: Vec<u8>,
    /// What the body is said to be.
    pub content: Content,
    /// `x-key`: of the publications with the same key only the latest matters.
    pub key: Option<Box<str>>,
    /// When it was published, in microseconds since 1970.
    pub published_at: Option<u64>,
    /// What is to be acknowledged; none in memory.
    pub tag: Option<Tag>,
}

/// What happens on the backplane's side.
#[derive(Debug)]
pub(super) enum Event {
    /// Connected: from here on deliveries have tags of this generation.
    Ready {
        /// Counts connections, from 1.
        generation: u32,
        /// Takes the tag up to which everything was handed over.
        acknowledge: watch::Sender<u64>,
        /// Whether publications may have been lost since the connection before.
        gap: bool,
    },
    /// Not connected any more.
    Away,
    /// A message.
    Delivery(Delivery),
}

/// How a publish went.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Who waits for it.
    pub asker: Asker,
    /// How it went.
    pub result: Result<(), ErrorCode>,
}

/// A message that cannot be delivered, on its way to the dead letters.
#[derive(Debug)]
pub(super) struct DeadLetter {
    /// The topics it was for.
    pub topics: Vec<String>,
    /// Its body as it came.
    pub body: Vec<u8>,
    /// Why.
    pub reason: String,
    /// What may be acknowledged once it is there.
    pub tag: Option<Tag>,
}

/// A publish that waits in memory for the shards to take mail again.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Who waits for it.
    pub asker: Asker,
    /// The message.
    pub delivery: Delivery,
    /// When its time is up.
    pub until: Instant,
}
