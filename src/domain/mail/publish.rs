//! A publish, and its result.

use std::sync::Arc;

use super::{ReplyTo, TopicName};
use crate::domain::client_info::ClientInfo;
use crate::domain::position::Position;
use crate::domain::reasons::ErrorCode;

/// Topics that one message may have. The broker thread makes a publication for each. A message with tens of
/// thousands of topics, for which its headers have room, would delay all others. A message with more topics
/// is a dead letter.
pub const MESSAGE_TOPICS_MAX: usize = 1000;

/// A publication on its way to the backplane.
#[derive(Debug)]
pub struct Publish {
    /// Where the result goes.
    pub reply_to: PublishReply,
    /// The topic, or several topics (one AMQP message with `CC`), at most [`MESSAGE_TOPICS_MAX`].
    pub topics: Box<[TopicName]>,
    /// JSON that was checked to be well-formed, byte for byte as received.
    pub data: Box<[u8]>,
    /// Identifies the publication (`message-id`), at most 255 bytes. If a publication with the same id was
    /// seen recently, this one is confirmed and not pushed. `None`: it is not a repetition.
    pub id: Option<Box<str>>,
    /// Identifies the item that this publication updates (`x-key`).
    pub key: Option<Box<str>>,
    /// The client that publishes. `None`: an operator does.
    pub info: Option<Arc<ClientInfo>>,
    /// Whether no history keeps it (`x-skip-history`). Then it has no offset, and whoever recovers does not get it.
    pub skips_history: bool,
}

impl Publish {
    /// Bytes of the data and of what it says of the client.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.data.len() + self.info.as_ref().map_or(0, |info| info.weight())
    }
}

/// The result of a publish.
pub type PublishOutcome = Result<Numbered, PublishFault>;

/// Receives the result of a publish.
pub type PublishReply = ReplyTo<PublishOutcome>;

/// The position of a publication in each of its topics that has a history, if it is known by then: always in
/// the embedded backplane, never where RabbitMQ numbers it later.
pub type Numbered = Vec<(Box<str>, Position)>;

/// Why a publish failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishFault {
    /// The error for the client.
    pub code: ErrorCode,
    /// Why it would fail again, as a sentence for operators: RabbitMQ refused it, or it cannot be sent at
    /// all.
    pub refusal: Option<Box<str>>,
}

impl From<ErrorCode> for PublishFault {
    fn from(code: ErrorCode) -> Self {
        Self { code, refusal: None }
    }
}
