//! Requests of clients and operators whose answers may be large.

use super::answer::{Answer, HistoryPage, Recovered, Recovery};
use super::{ReplyAddress, ReplyTo, Since, TopicName, TopicSlot, Variant};
use crate::domain::publication::Publications;
use crate::domain::reasons::ErrorCode;

/// A request whose answer may be large. Answers to clients are taken from their budgets
/// ([`AnswerBudget`](super::AnswerBudget)).
#[derive(Debug)]
pub enum Question {
    /// A client wants to continue from its position, in a topic that is attached to its shard.
    Recover(Box<Recover>),
    /// A client or an operator asks for a history.
    History(Box<History>),
}

impl Question {
    /// The client's command, if a client asks.
    #[must_use]
    pub fn client(&self) -> Option<ReplyAddress> {
        match self {
            Self::Recover(question) => Some(question.reply_to),
            Self::History(question) => question.reply_to.client(),
        }
    }
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

/// A request for a topic's history.
#[derive(Debug)]
pub struct History {
    /// Where the answer goes.
    pub reply_to: ReplyTo<Result<HistoryPage<Publications>, ErrorCode>>,
    /// The topic.
    pub topic: TopicName,
    /// At most this many publications. 0: none, only the position. `None`: as many as an answer may have.
    pub limit: Option<u32>,
    /// Only publications after this position, or before it if `reverse` is set.
    pub since: Option<Since>,
    /// Whether the newest come first.
    pub reverse: bool,
}
