//! What is asked of the broker thread, and its answers.

use std::sync::Arc;

use super::{PublishOutcome, ReplyAddress, TopicName, TopicSlot, Variant};
use crate::domain::asked::{Asked, Told};
use crate::domain::position::{Position, Since};
use crate::domain::reasons::ErrorCode;

/// A client's request whose answer may be large. Answers are taken from the client's budgets
/// ([`AnswerBudget`](super::AnswerBudget)).
#[derive(Debug)]
pub enum Question {
    /// The client wants to continue from its position, in a topic that is attached to its shard.
    Recover(Box<Recover>),
    /// The client asks something about a topic.
    Topic(Box<TopicQuestion>),
}

impl Question {
    /// The client's command.
    #[must_use]
    pub fn reply_to(&self) -> ReplyAddress {
        match self {
            Self::Recover(question) => question.reply_to,
            Self::Topic(question) => question.reply_to,
        }
    }
}

/// A client's question about a topic.
#[derive(Debug)]
pub struct TopicQuestion {
    /// The client's command.
    pub reply_to: ReplyAddress,
    /// The topic.
    pub topic: TopicName,
    /// What it asks.
    pub asked: Asked,
}

/// A client's request to continue from its position.
#[derive(Clone, Debug)]
pub struct Recover {
    /// The client's command.
    pub reply_to: ReplyAddress,
    /// The topic, by the shard's number.
    pub topic: TopicSlot,
    /// In which variant.
    pub variant: Variant,
    /// The topic.
    pub name: TopicName,
    /// Whether the subscription is recoverable.
    pub recoverable: bool,
    /// From which position.
    pub since: Since,
    /// Whether the client wants an error instead of a subscription if it cannot recover.
    pub rejects_unrecovered: bool,
    /// Whether the request has already waited for the node to read far enough. It does not wait again.
    pub has_waited: bool,
}

impl Recover {
    /// Its answer, and where that goes.
    #[must_use]
    pub fn answer(self, result: Result<Recovery, ErrorCode>) -> (ReplyAddress, Answer) {
        let Self { reply_to, topic, recoverable, since, rejects_unrecovered, .. } = self;
        let recovered = Recovered { topic, recoverable, since, rejects_unrecovered, result };
        (reply_to, Answer::Recovered(Box::new(recovered)))
    }
}

/// The answer to a client's command.
#[derive(Debug)]
pub enum Answer {
    /// The request failed.
    Error(ErrorCode),
    /// The backplane has confirmed the publication.
    Published,
    /// The answer to a question about a topic.
    Told(Box<Told>),
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
            Self::Told(told) => told.weight(),
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
