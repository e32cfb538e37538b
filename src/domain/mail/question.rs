//! Requests of clients whose answers may be large, and the budget for their answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::oneshot;

use super::{ClientKey, Position, Recover, Request, ShardId, Since, TopicName};
use crate::domain::codec::Codec;
use crate::domain::publication::Publications;
use crate::domain::reasons::ErrorCode;

/// Bytes that an answer counts besides its publications: its reply has an epoch, an offset and some flags.
pub const ANSWER_COST: usize = 512;

/// The bytes that the answers to some of one client's requests may have together. The requests share it. Only
/// the broker thread takes from it, in their order: the first answer whatever its size, further ones as far
/// as there is room. After the first that finds no room, all others wait too, so that no answer overtakes
/// another.
#[derive(Debug)]
pub struct AnswerBudget {
    left: AtomicUsize,
    is_begun: AtomicBool,
}

impl AnswerBudget {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(bytes), is_begun: AtomicBool::new(false) })
    }

    /// Takes room for an answer with so many bytes of publications. Returns false if there is none.
    #[must_use]
    pub fn take(&self, bytes: usize) -> bool {
        let (left, cost) = (self.left.load(Ordering::Relaxed), ANSWER_COST + bytes);
        let is_first = !self.is_begun.swap(true, Ordering::Relaxed);
        let fits = cost <= left;
        self.left.store(if fits { left - cost } else { 0 }, Ordering::Relaxed);
        fits || is_first
    }

    /// Whether there is no room even for the smallest answer.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.is_begun.load(Ordering::Relaxed) && self.left.load(Ordering::Relaxed) < ANSWER_COST
    }
}

/// A request whose answer may be large.
#[derive(Debug)]
pub enum Question {
    /// A recovery.
    Recover(Box<Recover>),
    /// A history.
    History(Box<History>),
}

impl Question {
    /// The client, if a client sent it.
    #[must_use]
    pub fn client(&self) -> Option<ClientKey> {
        match self {
            Self::Recover(question) => Some(question.asker.client),
            Self::History(question) => match question.asker {
                HistoryAsker::Client { client, .. } => Some(client),
                HistoryAsker::Control(_) => None,
            },
        }
    }

    /// Whether its answer is taken from a budget.
    #[must_use]
    pub fn has_budget(&self) -> bool {
        match self {
            Self::Recover(question) => question.budget.is_some(),
            Self::History(question) => {
                matches!(&question.asker, HistoryAsker::Client { budget: Some(_), .. })
            }
        }
    }

    /// Gives it another budget.
    pub fn set_budget(&mut self, new: Arc<AnswerBudget>) {
        match self {
            Self::Recover(question) => question.budget = Some(new),
            Self::History(question) => {
                if let HistoryAsker::Client { budget, .. } = &mut question.asker {
                    *budget = Some(new);
                }
            }
        }
    }
}

impl From<Question> for Request {
    fn from(question: Question) -> Self {
        match question {
            Question::Recover(question) => Self::Recover(question),
            Question::History(question) => Self::History(question),
        }
    }
}

/// A request for a topic's history.
#[derive(Debug)]
pub struct History {
    /// Who receives the answer.
    pub asker: HistoryAsker,
    /// The topic.
    pub topic: TopicName,
    /// At most this many publications. 0: none, only the position. `None`: all.
    pub limit: Option<u32>,
    /// Only publications after this position, or before it if `reverse` is set.
    pub since: Option<Since>,
    /// Whether the newest come first.
    pub reverse: bool,
}

/// Who receives a topic's history.
#[derive(Debug)]
pub enum HistoryAsker {
    /// A client: the answer goes to its shard's mailbox.
    Client {
        /// Which shard.
        shard: ShardId,
        /// The client.
        client: ClientKey,
        /// The id of its command.
        command: u32,
        /// The client's codec.
        codec: Codec,
        /// The budget that the answer is taken from. `None`: the answer may have any size.
        budget: Option<Arc<AnswerBudget>>,
    },
    /// The control thread.
    Control(oneshot::Sender<Result<HistoryPage<Publications>, ErrorCode>>),
}

/// A part of a topic's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryPage<P = Vec<u8>> {
    /// The topic's position.
    pub position: Position,
    /// The publications: for a client as [`Codec::add_publication`] writes them.
    pub publications: P,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_answer_may_always_be_given_and_others_as_far_as_there_is_room() {
        let none = AnswerBudget::new(0);
        assert_eq!([none.take(1 << 20), none.take(0), none.take(0)], [true, false, false]);
        let three = AnswerBudget::new(3 * ANSWER_COST + 100);
        assert_eq!([three.take(50), three.take(50)], [true, true]);
        assert!(!three.is_spent());
        assert_eq!([three.take(0), three.take(0)], [true, false]);
        assert!(three.is_spent());
    }

    #[test]
    fn none_overtakes_one_that_has_no_room() {
        let budget = AnswerBudget::new(10 * ANSWER_COST);
        assert_eq!([budget.take(0), budget.take(1 << 20), budget.take(0)], [true, false, false]);
        assert!(budget.is_spent());
    }
}
