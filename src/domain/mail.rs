//! What threads send each other: [`Mail`] from the broker thread to a shard, [`Request`] to the broker thread
//! from shards and from the control thread. No closures: only values, shared budgets, and
//! the ends of channels that bring answers to the control thread.
//!
//! A topic is attached to a shard in three steps, so that slots can be reused without a lock. The shard picks
//! a free [`TopicSlot`] and sends [`Request::Attach`]. Every mail about the topic carries that slot. After
//! [`Request::Detach`] the shard keeps the slot until [`Mail::Detached`] comes. Mailboxes keep their order,
//! so that is the last mail about the slot.

mod budget;
mod call;
mod publish;
mod question;
mod reply_to;
mod survey;

use std::sync::Arc;

use crate::auth::Verifier;
use crate::domain::asked::{HistoryPage, HistoryRange};
use crate::domain::encoding::Encoding;
use crate::domain::position::Position;
use crate::domain::publication::Publications;
use crate::domain::reasons::{Closing, ErrorCode, UnsubscribeCode};
use crate::domain::settings::EngineSettings;

pub use crate::domain::client_key::{ClientKey, ShardId};
pub use budget::{ANSWER_COST, AnswerBudget};
pub use call::{Ask, Call, Called};
pub use publish::{MESSAGE_TOPICS_MAX, Numbered, Publish, PublishFault, PublishOutcome, PublishReply};
pub use question::{Answer, Question, Recover, Recovered, Recovery, TopicQuestion};
pub use reply_to::{ControlReply, ReplyAddress, ReplyTo};
pub use survey::{SurveySender, SurveyTimeout, TopicCounts};

/// A topic's name, shared by all who hold it. Its reference count changes when a topic is attached, never per
/// message.
pub type TopicName = Arc<str>;

/// A client's command that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandKey {
    /// Which client.
    pub client: ClientKey,
    /// The command's id.
    pub id: u32,
}

/// A shard's own number for a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicSlot(pub u32);

/// A part of the many subscribers that a topic with `max_delay` has on a shard. The windows in which
/// publications wait for each other end at a different time for each lane, so that the frames of one lane do
/// not wait for those of all others. Subscribers of a small topic are in the first lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane(u8);

impl Lane {
    /// How many lanes there are. The last client of a lane gets its frame after an eighth of the time that
    /// all clients together would take.
    pub const COUNT: u8 = 8;
    /// All lanes.
    pub const ALL: [Self; Self::COUNT as usize] =
        [Self(0), Self(1), Self(2), Self(3), Self(4), Self(5), Self(6), Self(7)];
    /// The lane of all subscribers of a small topic, and of an eighth of those of a large one.
    pub const FIRST: Self = Self(0);

    /// The lane of a client for large topics, by its slot.
    #[must_use]
    pub fn of_client(slot: u32) -> Self {
        Self::ALL[slot as usize % Self::ALL.len()]
    }

    /// From 0.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }
}

/// A topic's lines as one part of its subscribers receives them. To a shard, a topic in two variants is two
/// topics of the same name, each with its subscribers and its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Variant {
    /// The form of the lines.
    pub encoding: Encoding,
    /// When its windows end.
    pub lane: Lane,
}

/// A line with a key. A later line of the same key makes it superfluous for slow clients, in a namespace with
/// `slow = "skip"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyedLine {
    /// A hash of the publication's `x-key`, different from run to run. It has 64 bits, and no publisher can
    /// aim for a collision: two of 10,000 keys collide with a probability of 3 in 10^12.
    pub key: u64,
    /// Where the line begins among the bytes of its batch before compression.
    pub from: u32,
    /// Where it ends, its `\n` included.
    pub to: u32,
}

impl KeyedLine {
    /// Its length in bytes.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "no line is empty")]
    pub fn len(&self) -> usize {
        (self.to - self.from) as usize
    }
}

/// Lines of one topic, encoded once, shared by all shards that receive them.
#[derive(Clone, Debug)]
pub struct Lines {
    /// The lines one after the other, each closed by `\n` (JSON), or all of them as one segment
    /// ([`Encoding::Deflated`]).
    pub bytes: Arc<Vec<u8>>,
    /// How many lines there are, at least one.
    pub count: u32,
    /// Bytes of the lines before compression.
    pub plain_bytes: u32,
    /// The offset of the last line; 0 if the topic has no history.
    pub offset: u64,
    /// The lines with a key, in their order, if slow subscribers receive the latest of each key. Boxed,
    /// because most batches have none.
    pub keyed: Option<Arc<Vec<KeyedLine>>>,
}

/// From the broker thread to one shard.
#[derive(Debug)]
pub enum Mail {
    /// Publications of a topic, in order.
    Batch {
        /// The topic, by this shard's number.
        topic: TopicSlot,
        /// What to push.
        lines: Lines,
    },
    /// The shard is registered: from here on it receives every batch of the topic. It comes again when the
    /// topic's epoch changes.
    Attached {
        /// The topic, by this shard's number.
        topic: TopicSlot,
        /// The position of a topic with history.
        position: Option<Position>,
    },
    /// The answer to a client's command.
    Answer {
        /// The command.
        to: ReplyAddress,
        /// The budget that the answer is taken from, if the question came with one.
        budget: Option<Arc<AnswerBudget>>,
        /// The answer.
        answer: Answer,
    },
    /// A call has ended. Nothing comes of a publish that a backend has granted: its own answer follows.
    Called {
        /// The client's command.
        to: CommandKey,
        /// How.
        called: Box<Called>,
    },
    /// A question waits for something other than room for its answer. It no longer counts in the client's
    /// budget. Either [`Mail::AskAgain`] or an answer follows, both without a budget.
    Waits {
        /// The client.
        client: ClientKey,
    },
    /// A question is to be asked again with another budget: its answer does not fit into the budget it has, or
    /// it has none because it waited.
    AskAgain {
        /// The question.
        question: Question,
        /// The budget that it came with.
        budget: Option<Arc<AnswerBudget>>,
    },
    /// The topic could not be attached; the slot is free.
    AttachFailed {
        /// The topic, by this shard's number.
        topic: TopicSlot,
        /// The error for clients that wait for the topic.
        error: ErrorCode,
    },
    /// The last mail about this slot.
    Detached {
        /// The topic, by this shard's number.
        topic: TopicSlot,
    },
    /// Subscribers may lack publications that were lost between the backplane and this node, or hold positions of an
    /// epoch that has another name now. Every subscription is ended (2500) at the configured rate, so that clients
    /// subscribe again.
    Gap,
    /// Closes a client, as an operator asked.
    Disconnect {
        /// Which client.
        client: ClientKey,
        /// With which code and text.
        closing: Closing,
    },
    /// Ends subscriptions, as an operator asked.
    Unsubscribe {
        /// One client, or all clients.
        client: Option<ClientKey>,
        /// From which topic.
        topic: TopicName,
        /// The code the SDK sees.
        code: UnsubscribeCode,
    },
    /// From here on, tokens are verified by this.
    Verifier(Verifier),
    /// The configuration has changed. What comes after this mail was made by it, and what came before was not.
    Reload(Arc<EngineSettings>),
    /// Report the topics that have subscribers, in parts: [`Request::SurveyPart`].
    Survey {
        /// Identifies the survey in the answer.
        id: u32,
    },
    /// Stop: accept no new clients, close all clients at the configured rate, then end.
    Drain,
}

impl Mail {
    /// Bytes of publications and answers that the mail refers to.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::Batch { lines, .. } => lines.bytes.len(),
            Self::Answer { answer, .. } => answer.weight(),
            Self::Called { called, .. } => called.weight(),
            _ => 0,
        }
    }
}

/// To the broker thread.
#[derive(Debug)]
pub enum Request {
    /// A shard got its first subscriber of a topic.
    Attach {
        /// Which shard.
        shard: ShardId,
        /// The shard's number for the topic.
        topic: TopicSlot,
        /// In which variant.
        variant: Variant,
        /// The topic.
        name: TopicName,
    },
    /// A shard lost its last subscriber of a topic.
    Detach {
        /// Which shard.
        shard: ShardId,
        /// The number under which it was attached.
        topic: TopicSlot,
        /// In which variant.
        variant: Variant,
        /// The topic.
        name: TopicName,
    },
    /// A client or an operator publishes.
    Publish(Box<Publish>),
    /// The application's backend is asked on behalf of a client.
    Call(Box<Call>),
    /// Nobody waits any more for what backends were asked about a client. Calls that have not been sent are dropped; requests,
    /// messages and publishes of the client are no such calls.
    Withdraw {
        /// Which shard.
        shard: ShardId,
        /// The client.
        client: ClientKey,
        /// One of its commands. `None`: it has left.
        command: Option<u32>,
    },
    /// A client asks for something.
    Ask {
        /// For what.
        question: Question,
        /// The budget that the answer is taken from. `None`: the answer may have any size.
        budget: Option<Arc<AnswerBudget>>,
    },
    /// An operator reads a history.
    ReadHistory {
        /// Of which topic.
        topic: TopicName,
        /// Which part of it.
        range: HistoryRange,
        /// Receives that part.
        reply_to: ControlReply<Result<HistoryPage<Publications>, ErrorCode>>,
    },
    /// An operator removes a history, on all nodes that read the same stream.
    RemoveHistory {
        /// Of which topic.
        topic: TopicName,
        /// Receives the result once it is certain.
        reply_to: PublishReply,
    },
    /// An operator closes one client; the shard is part of its id.
    Disconnect {
        /// Which shard.
        shard: ShardId,
        /// Which client.
        client: ClientKey,
        /// With which code and text.
        closing: Closing,
    },
    /// An operator ends subscriptions: one client's, or all clients' on every shard.
    Unsubscribe {
        /// One client, or all clients.
        client: Option<(ShardId, ClientKey)>,
        /// From which topic.
        topic: TopicName,
    },
    /// Keys of tokens have changed: every shard is to verify by this from now on.
    Verifier(Verifier),
    /// The configuration has changed: for the broker thread, and then for every shard.
    Reload(Arc<EngineSettings>),
    /// An operator asks for the topics in use and their numbers of subscribers.
    Survey(SurveySender),
    /// A part of a shard's answer to [`Mail::Survey`].
    SurveyPart {
        /// Which survey.
        id: u32,
        /// What this shard has.
        topics: TopicCounts,
        /// Whether this is the shard's last part.
        last: bool,
    },
    /// Stop: consume no more, settle what is open, tell the shards, and end once they have ended.
    Stop,
    /// A draining shard has closed its last client.
    Drained {
        /// Which shard.
        shard: ShardId,
    },
}

impl Request {
    /// Bytes of data that the request refers to.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::Publish(publish) => publish.weight(),
            Self::Call(call) => call.weight(),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::client_info::ClientInfo;

    #[test]
    fn a_publish_weighs_what_it_carries_with_its_client() {
        let publish = |info| Publish {
            reply_to: ReplyTo::control().0,
            topics: ["a".into()].into(),
            data: (*b"12345").into(),
            id: None,
            key: None,
            info,
            skips_history: false,
        };
        assert_eq!(Request::Publish(Box::new(publish(None))).weight(), 5);
        let conn_info = (*b"[]").into();
        let info =
            ClientInfo { user: "ann".into(), client: "c-1".into(), conn_info, ..ClientInfo::default() };
        let weight = 5 + 3 + 3 + 2 + size_of::<ClientInfo>();
        assert_eq!(Request::Publish(Box::new(publish(Some(Arc::new(info))))).weight(), weight);
    }

    /// A mailbox allocates all of its places at once, whatever comes.
    #[test]
    fn mail_and_requests_are_small() {
        let (mail, request) = (size_of::<Mail>(), size_of::<Request>());
        assert!(mail <= 48 && request <= 96, "{mail} {request}");
    }
}
