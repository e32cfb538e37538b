//! What passes through the doors: [`Mail`] from the broker thread to a shard, [`Request`] to the broker
//! thread from shards and from the control thread. Plain data, no closures.
//!
//! A topic is attached to a shard in three steps that make slots safe to reuse without a lock. The shard
//! picks a free [`TopicSlot`] and sends [`Request::Attach`]; every mail about the topic carries that
//! slot. After [`Request::Detach`] the shard keeps the slot until [`Mail::Detached`] comes: mailboxes are
//! first in, first out, so that is the broker's last word on it.

use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

use crate::protocol::codes::{CloseReason, ErrorCode, UnsubscribeCode};

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

/// What becomes of a topic's lines on their way to those who want them so. To a shard, a topic in two
/// encodings is two topics of the same name, each with its subscribers and its log.
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
    /// The shard is registered: from here on every batch of the topic comes to it.
    Attached {
        /// The topic, by this shard's number.
        topic: TopicSlot,
    },
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
        reason: CloseReason,
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

/// To the broker thread.
#[derive(Debug)]
pub enum Request {
    /// A shard got its first subscriber of a topic.
    Attach {
        /// Which shard.
        shard: ShardId,
        /// The number under which the shard wants to hear of it.
        topic: TopicSlot,
        /// In which encoding.
        encoding: Encoding,
        /// The topic.
        name: TopicName,
    },
    /// A shard lost its last subscriber of a topic.
    Detach {
        /// Which shard.
        shard: ShardId,
        /// The number under which it was attached.
        topic: TopicSlot,
        /// In which encoding.
        encoding: Encoding,
        /// The topic.
        name: TopicName,
    },
    /// Somebody publishes.
    Publish(Publish),
    /// An operator closes one client; the shard is part of its id.
    Disconnect {
        /// Which shard.
        shard: ShardId,
        /// Whom.
        client: ClientKey,
        /// With which code and text.
        reason: CloseReason,
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

/// A publication on its way to the backplane.
#[derive(Debug)]
pub struct Publish {
    /// Who wants to know how it went.
    pub asker: Asker,
    /// Where to: one topic, or several (one AMQP message with `CC`).
    pub topics: Vec<TopicName>,
    /// JSON, byte for byte as it came, checked to be well-formed.
    pub data: Box<[u8]>,
    /// What tells it from all others (`message-id`), at most 255 bytes: if a publication with the same id was
    /// there lately, it is confirmed and goes nowhere. `None`: nobody else has published it.
    pub id: Option<Box<str>>,
}

/// Who waits for the answer to a publish.
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
    Control(oneshot::Sender<Result<(), ErrorCode>>),
}
