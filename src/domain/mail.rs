//! What passes through the doors: [`Mail`] from the broker thread to a shard, [`Request`] to the broker
//! thread from shards and from the control thread. Plain data, no closures.
//!
//! A topic is attached to a shard in three steps that make slots safe to reuse without a lock. The shard
//! picks a free [`TopicSlot`] and sends [`Request::Attach`]; every mail about the topic carries that
//! slot. After [`Request::Detach`] the shard keeps the slot until [`Mail::Detached`] comes: mailboxes are
//! first in, first out, so that is the broker's last word on it.

mod question;

use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

use crate::domain::reasons::{Closing, ErrorCode, UnsubscribeCode};

pub use question::{ANSWER_COST, AnswerBudget, Question};

/// A topic's name: shared by everyone who holds it, counted when a topic is attached, never per message.
pub type TopicName = Arc<str>;

/// A client of one shard. The generation makes an answer to a client that is gone, and whose slot has a
/// new owner, recognisable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientKey {
    /// Index into the shard's slab.
    pub slot: u32,
    /// How many clients this slot had before.
    pub generation: u32,
}

/// A client's command that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandKey {
    /// Whose.
    pub client: ClientKey,
    /// Its id.
    pub id: u32,
}

/// A shard's own number for a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicSlot(pub u32);

/// Number of a shard, from 0.
pub type ShardId = u16;

/// Topics with their numbers of subscribers.
pub type TopicCounts = Vec<(TopicName, u32)>;

/// What tells one numbering of publications from another: offsets of different epochs say nothing about each
/// other. Shared by all who stand somewhere in it.
pub type Epoch = Arc<str>;

/// Where somebody stands among the publications of a topic with history: what it has, up to and with `offset`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Which numbering.
    pub epoch: Epoch,
    /// Of the newest publication. 0: none so far. Those of one topic rise, but need not be consecutive.
    pub offset: u64,
}

/// From where a client wants to go on, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Since {
    /// Empty: whichever it is.
    pub epoch: Box<str>,
    /// Of the newest publication it has.
    pub offset: u64,
}

/// What became of a client's wish to go on where it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// After the publications below, or where nothing could be recovered: the newest publication that this
    /// shard was given.
    pub position: Position,
    /// What the client missed, as members of a JSON array, separated by commas; possibly none. `None`: it
    /// cannot go on where it was.
    pub missed: Option<Arc<[u8]>>,
}

/// What becomes of a topic's lines on their way to those who want them so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Lines of JSON as they are.
    Json,
    /// The same, compressed (RFC 7692): for clients that agreed on it, where the namespace wants it.
    Deflated,
}

impl Encoding {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Json, Self::Deflated];
}

/// A part of a crowd: of the many subscribers that a topic with `max_delay` has on a shard. The windows in which
/// publications wait for each other end at another time for each lane, so that the frames for one lane are not
/// behind those for everybody else. Whoever is in no crowd is in the first lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane(u8);

impl Lane {
    /// How many there are: a lane's last client gets its frame an eighth of the time later in which all would
    /// get theirs.
    pub const COUNT: u8 = 8;
    /// All of them.
    pub const ALL: [Self; Self::COUNT as usize] =
        [Self(0), Self(1), Self(2), Self(3), Self(4), Self(5), Self(6), Self(7)];
    /// The lane of those who are in no crowd, and of an eighth of those who are in one.
    pub const FIRST: Self = Self(0);

    /// The lane of a shard's client in crowds, by the client's slot.
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

/// A topic's lines as one part of its subscribers gets them. To a shard, a topic in two variants is two topics
/// of the same name, each with its subscribers and its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Variant {
    /// In which form.
    pub encoding: Encoding,
    /// At which time.
    pub lane: Lane,
}

/// A line that a later one of the same key makes superfluous, for those who are slow in a namespace where they
/// skip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyedLine {
    /// A hash of the publication's `x-key`, different from run to run: 64 bits, which nobody can aim at, so that
    /// two of 10,000 keys have the same with a probability of 3 in 10^12.
    pub key: u64,
    /// Where the line begins among the bytes of its batch, as they are before they are compressed.
    pub from: u32,
    /// Where it ends, its `\n` included.
    pub to: u32,
}

impl KeyedLine {
    /// How many bytes it has.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "no line is empty")]
    pub fn len(&self) -> usize {
        (self.to - self.from) as usize
    }
}

/// Lines of one topic, encoded once, shared by all shards that want them.
#[derive(Clone, Debug)]
pub struct Lines {
    /// The lines one after the other, each closed by `\n` (JSON), or all of them as one segment
    /// ([`Encoding::Deflated`]).
    pub bytes: Arc<[u8]>,
    /// How many lines there are, at least one.
    pub count: u32,
    /// How many bytes the lines have as they are.
    pub plain_bytes: u32,
    /// The offset of the last of them; 0 where topics have no history.
    pub offset: u64,
    /// Those with a key, in their order, where slow subscribers get the latest of each key. Behind one pointer, as
    /// most batches have none.
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
    /// The shard is registered: from here on every batch of the topic comes to it. Comes again when the
    /// topic's numbering is another.
    Attached {
        /// The topic, by this shard's number.
        topic: TopicSlot,
        /// Where a topic with history stands.
        position: Option<Position>,
    },
    /// The answer to [`Request::Recover`]. Every batch after it is of publications that are not in it.
    Recovered {
        /// What was asked.
        question: Box<Recover>,
        /// What becomes of it, or why that cannot be said now.
        answer: Box<Result<Recovery, ErrorCode>>,
    },
    /// The answer to a client's [`Request::History`].
    History {
        /// Who asked.
        client: ClientKey,
        /// The id of its command.
        command: u32,
        /// What there is, or why not.
        page: Box<Result<HistoryPage, ErrorCode>>,
    },
    /// A question of a client's waits for something else than room for its answer: it is not in the client's budget any
    /// more. It comes back with [`Mail::AskAgain`], or is refused with [`Mail::Recovered`], in no budget either time.
    Waits {
        /// Whose.
        client: ClientKey,
    },
    /// A question is to be asked again in another budget: its answer does not fit into the one that it has, or it has none,
    /// as it has waited.
    AskAgain(Question),
    /// The topic could not be attached; the slot is free.
    AttachFailed {
        /// The topic, by this shard's number.
        topic: TopicSlot,
        /// What to answer those who wait for it.
        error: ErrorCode,
    },
    /// The last mail about this slot.
    Detached {
        /// The topic, by this shard's number.
        topic: TopicSlot,
    },
    /// The answer to a client's publish.
    Published {
        /// Who asked.
        client: ClientKey,
        /// The id of its command.
        command: u32,
        /// Whether the publication is safe with the backplane.
        outcome: Result<(), ErrorCode>,
    },
    /// Publications may have been lost between the backplane and this node: every subscriber is told
    /// (2500), at the configured pace.
    Gap,
    /// Close clients, as an operator asked.
    Disconnect {
        /// Whom.
        client: ClientKey,
        /// With which code and text.
        closing: Closing,
    },
    /// Take subscriptions away, as an operator asked.
    Unsubscribe {
        /// Whose, or everybody's.
        client: Option<ClientKey>,
        /// From which topic.
        topic: TopicName,
        /// The code the SDK sees.
        code: UnsubscribeCode,
    },
    /// Report the topics that have subscribers, in pieces: [`Request::SurveyPart`].
    Survey {
        /// Names the question in the answer.
        id: u32,
    },
    /// Stop: accept nobody, close everybody at the configured pace, then end.
    Drain,
}

impl Mail {
    /// Bytes of publications and answers in it, which the mail only refers to.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::Batch { lines, .. } => lines.bytes.len(),
            Self::Recovered { answer, .. } => match &**answer {
                Ok(Recovery { missed: Some(missed), .. }) => missed.len(),
                _ => 0,
            },
            Self::History { page, .. } => page.as_ref().as_ref().map_or(0, |page| page.publications.len()),
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
        /// The number under which the shard wants to hear of it.
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
    /// Somebody publishes.
    Publish(Publish),
    /// A client wants to go on where it was, in a topic that is attached to its shard.
    Recover(Box<Recover>),
    /// Somebody wants to see what was published.
    History(Box<History>),
    /// An operator wants it forgotten, on all nodes that read the same stream.
    RemoveHistory {
        /// Of which topic.
        topic: TopicName,
        /// Who waits until that is certain.
        asker: Asker,
    },
    /// An operator closes one client; the shard is part of its id.
    Disconnect {
        /// Which shard.
        shard: ShardId,
        /// Whom.
        client: ClientKey,
        /// With which code and text.
        closing: Closing,
    },
    /// An operator takes subscriptions away: one client's, or everybody's on every shard.
    Unsubscribe {
        /// Whose, or everybody's.
        client: Option<(ShardId, ClientKey)>,
        /// From which topic.
        topic: TopicName,
    },
    /// An operator wants to know the topics in use and how many subscribers each has. The answer comes in
    /// pieces; it is whole when the sender is dropped. Bounded by the topics per node.
    Survey(mpsc::UnboundedSender<TopicCounts>),
    /// A shard's answer to [`Mail::Survey`], or a piece of it.
    SurveyPart {
        /// Which question.
        id: u32,
        /// What this shard has.
        topics: TopicCounts,
        /// Whether this shard has said everything.
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
    /// Bytes of data in it, which the request only refers to.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::Publish(publish) => publish.data.len(),
            _ => 0,
        }
    }
}

/// A client's wish to go on where it was.
#[derive(Clone, Debug)]
pub struct Recover {
    /// Which shard.
    pub shard: ShardId,
    /// The topic, by that shard's number.
    pub topic: TopicSlot,
    /// In which variant.
    pub variant: Variant,
    /// The topic.
    pub name: TopicName,
    /// Who asks.
    pub asker: CommandKey,
    /// Whether the client can go on again the next time.
    pub recoverable: bool,
    /// From where on.
    pub since: Since,
    /// Whether it wants an error and no subscription if that is not possible.
    pub rejects_unrecovered: bool,
    /// Whether it has waited for the node to read as far: it does not wait again.
    pub has_waited: bool,
    /// What the answer is taken from; `None`: it may be as large as it is.
    pub budget: Option<Arc<AnswerBudget>>,
}

/// A question about a topic's history.
#[derive(Debug)]
pub struct History {
    /// Who asks.
    pub asker: HistoryAsker,
    /// The topic.
    pub topic: TopicName,
    /// At most so many publications; 0: none, only where the topic stands; `None`: all.
    pub limit: Option<u32>,
    /// Those after this place, or before it.
    pub since: Option<Since>,
    /// The newest first.
    pub reverse: bool,
}

/// Who waits for a topic's history.
#[derive(Debug)]
pub enum HistoryAsker {
    /// A client: the answer goes to its shard's mailbox.
    Client {
        /// Which shard.
        shard: ShardId,
        /// Whom to answer.
        client: ClientKey,
        /// The id of its command.
        command: u32,
        /// What the answer is taken from; `None`: it may be as large as it is.
        budget: Option<Arc<AnswerBudget>>,
    },
    /// The control thread.
    Control(oneshot::Sender<Result<HistoryPage, ErrorCode>>),
}

/// A part of a topic's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryPage {
    /// Where the topic stands.
    pub position: Position,
    /// Publications as members of a JSON array, joined by commas.
    pub publications: Vec<u8>,
}

/// Topics that one message may have. A publication is made for each of them, by the one thread that takes messages: one
/// with tens of thousands, for which its headers have room, would keep all others waiting. What has more is dead-lettered.
pub const MESSAGE_TOPICS_MAX: usize = 1000;

/// A publication on its way to the backplane.
#[derive(Debug)]
pub struct Publish {
    /// Who wants to know how it went.
    pub asker: Asker,
    /// Where to: one topic, or several (one AMQP message with `CC`), at most [`MESSAGE_TOPICS_MAX`].
    pub topics: Vec<TopicName>,
    /// JSON, byte for byte as it came, checked to be well-formed.
    pub data: Box<[u8]>,
    /// What tells it from all others (`message-id`), at most 255 bytes: if a publication with the same id was
    /// there lately, it is confirmed and goes nowhere. `None`: nobody else has published it.
    pub id: Option<Box<str>>,
    /// What it is the latest of (`x-key`).
    pub key: Option<Box<str>>,
}

/// Where a publication stands in each of its topics that has a history, as far as the node knows by then: always where
/// the backplane is embedded, never where RabbitMQ numbers later.
pub type Numbered = Vec<(Box<str>, Position)>;

/// Why a publish came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishFault {
    /// What a client is told.
    pub code: ErrorCode,
    /// Why it would fail again, in a sentence for operators: RabbitMQ refused it, or it cannot be sent at all.
    pub refusal: Option<Box<str>>,
}

impl From<ErrorCode> for PublishFault {
    fn from(code: ErrorCode) -> Self {
        Self { code, refusal: None }
    }
}

/// Who waits for the answer to a publish, or to whatever else goes the same way.
#[derive(Debug)]
pub enum Asker {
    /// A client: the answer goes to its shard's mailbox.
    Client {
        /// Which shard.
        shard: ShardId,
        /// Whom to answer.
        client: ClientKey,
        /// The id of its command.
        command: u32,
    },
    /// The control thread.
    Control(oneshot::Sender<Result<Numbered, PublishFault>>),
}
