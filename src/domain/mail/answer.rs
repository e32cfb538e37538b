//! The broker thread's answers to requests.

use std::sync::Arc;

use super::{Position, ReplyTo, Since, TopicName, TopicSlot};
use crate::domain::reasons::ErrorCode;

/// The answer to a client's command.
#[derive(Debug)]
pub enum Answer {
    /// The request failed.
    Error(ErrorCode),
    /// The backplane has confirmed the publication.
    Published,
    /// A part of a topic's history.
    History(Box<HistoryPage>),
    /// What a client missed, or why that cannot be said now. Every batch after it contains only publications
    /// that are not in it.
    Recovered(Box<Recovered>),
}

impl Answer {
    /// Bytes of publications that it contains.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::Error(_) | Self::Published => 0,
            Self::History(page) => page.publications.len(),
            Self::Recovered(recovered) => match &recovered.result {
                Ok(Recovery { missed: Some(missed), .. }) => missed.len(),
                _ => 0,
            },
        }
    }
}

impl From<PublishOutcome> for Answer {
    fn from(outcome: PublishOutcome) -> Self {
        outcome.map_or_else(|fault| Self::Error(fault.code), |_| Self::Published)
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

/// A part of a topic's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryPage<P = Vec<u8>> {
    /// The topic's position.
    pub position: Position,
    /// The publications: for a client as [`Codec::add_publication`] writes them.
    ///
    /// [`Codec::add_publication`]: crate::domain::codec::Codec::add_publication
    pub publications: P,
}

/// The end of a recovery: what was asked, as far as the shard needs it again, and the result.
#[derive(Debug)]
pub struct Recovered {
    /// The topic, by the shard's number. The shard has kept it attached until now.
    pub topic: TopicSlot,
    /// Whether the subscription is recoverable.
    pub recoverable: bool,
    /// From which position.
    pub since: Since,
    /// Whether the client wants an error instead of a subscription if it cannot recover.
    pub rejects_unrecovered: bool,
    /// The result, or why it cannot be given now.
    pub result: Result<Recovery, ErrorCode>,
}

/// The result of a recovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The position after the publications below. If nothing could be recovered: that of the newest
    /// publication that this shard was given.
    pub position: Position,
    /// What the client missed, as [`Codec::add_publication`] writes it; possibly none. `None`: the client
    /// cannot continue from its position.
    ///
    /// [`Codec::add_publication`]: crate::domain::codec::Codec::add_publication
    pub missed: Option<Arc<[u8]>>,
}

/// Topics with their numbers of subscribers.
pub type TopicCounts = Vec<(TopicName, u32)>;
