//! The events of a backplane, and the types in them. Every driver uses this file, and it uses no driver.

use std::sync::Arc;
use std::time::Duration;

use crate::base::clock::UnixTime;
use crate::domain::call::CallFault;
use crate::domain::client_info::ClientInfo;
use crate::domain::mail::{PublishOutcome, PublishReply, TopicName};
use crate::domain::position::Epoch;
use crate::domain::reasons::ErrorCode;

use super::rabbit::envelope::Envelope;
use crate::broker::payload::{Compression, Content, Undeliverable};

/// A message, as it came from the backplane.
#[derive(Debug)]
pub(in crate::broker) struct Message {
    /// Its topics, each once, at least one.
    pub(in crate::broker) topics: Vec<Box<str>>,
    /// What is wrong with it, whatever becomes of its topics: some of them may not be known.
    pub(in crate::broker) flaw: Option<Box<Undeliverable>>,
    pub(in crate::broker) body: Vec<u8>,
    /// What tells it from all others (`message-id`); never empty.
    pub(in crate::broker) id: Option<Box<str>>,
    pub(in crate::broker) content: Content,
    pub(in crate::broker) compression: Compression,
    /// What it is the latest of (`x-key`).
    pub(in crate::broker) key: Option<Box<str>>,
    /// The client that published it, of whatever node.
    pub(in crate::broker) info: Option<Arc<ClientInfo>>,
    /// Whether no history keeps it (`x-skip-history`).
    pub(in crate::broker) skips_history: bool,
    /// When it was published, if it says so.
    pub(in crate::broker) published: Option<UnixTime>,
    /// How long it is of use from when the backplane took it, if it says so.
    pub(in crate::broker) expires_after: Option<Duration>,
    /// What a stream says of it; none from a queue.
    pub(in crate::broker) place: Option<StreamPlace>,
    /// Its number; they rise until the backplane is lost, and then begin again.
    pub(in crate::broker) tag: u64,
    /// What RabbitMQ must get back if the message cannot be delivered.
    pub(in crate::broker) envelope: Envelope,
}

impl Message {
    /// Bytes of memory that it takes, about.
    pub(in crate::broker) fn weight(&self) -> usize {
        self.envelope.weight(&self.body) + self.info.as_ref().map_or(0, |info| info.weight())
    }
}

/// Where a message stands in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::broker) struct StreamPlace {
    /// The number of its publications, the same on every node: at least 1, and rising within an epoch, not
    /// always by 1.
    pub(in crate::broker) offset: u64,
    /// It was there before this node could push it, and is only to be known.
    pub(in crate::broker) is_replayed: bool,
    /// This node is the one that dead-letters it, if it cannot be delivered.
    pub(in crate::broker) is_ours_to_dead_letter: bool,
}

/// Whether messages of a topic come to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::broker) struct Coming {
    /// They did not until now, so that nothing is known of what was published before.
    pub(in crate::broker) is_new: bool,
    /// They do not yet: [`Event::Bound`] or [`Event::Refused`] tells, if [`Event::Lost`] does not come first.
    pub(in crate::broker) is_awaited: bool,
}

impl Coming {
    /// They come whoever subscribes.
    pub(in crate::broker) const ALWAYS: Self = Self { is_new: false, is_awaited: false };
}

/// What becomes of an order to forget a history that does not go through a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::broker) enum Removal {
    /// There is no stream: what is here is all there is.
    Here,
    /// The stream cannot take it.
    Refused(ErrorCode),
}

/// What a backplane has to say.
#[derive(Debug)]
pub(in crate::broker) enum Event {
    Message(Message),
    /// A message of a stream whose dead letter may be missing, if it needs one; else it was taken long ago.
    Unsettled(Message),
    /// A publish is settled. The embedded backplane says where it stands.
    Published {
        reply_to: PublishReply,
        outcome: PublishOutcome,
    },
    /// A message that could not be delivered is with the dead-letter exchange, or cannot get there, or not soon: it
    /// need not be held any longer.
    DeadLettered {
        tag: u64,
    },
    /// A dead letter is lost: the dead-letter exchange routes it to no queue, or did not take it.
    DeadLetterLost {
        is_unroutable: bool,
    },
    /// A delivery that is no publication, and only has to be acknowledged.
    Passed {
        tag: u64,
        /// As [`StreamPlace::offset`], where a stream numbers it.
        offset: Option<u64>,
        /// When it was written, if a node wrote it that says so.
        time: Option<UnixTime>,
    },
    /// A delivery by which an operator has the history of a topic forgotten, from here in the stream on.
    HistoryRemoved {
        topic: TopicName,
        tag: u64,
        /// As [`StreamPlace::offset`].
        offset: u64,
    },
    /// A stream is read back from here on. Whatever was known of it is void: epoch, positions, histories.
    Loading {
        /// Publications with offsets up to this one are not known. Messages up to it may come nevertheless,
        /// for their ids.
        base: u64,
    },
    /// Messages of this topic come from now on.
    Bound {
        topic: TopicName,
    },
    /// No messages of this topic can be had: RabbitMQ does not allow it.
    Refused {
        topic: TopicName,
    },
    /// RabbitMQ takes no publishes, for want of memory or disk, or takes them again.
    Blocked {
        is_blocked: bool,
    },
    /// Messages were dropped before they came, while the link stood: publications were missed.
    Overflowed,
    /// All that was in the stream when the reading back began has come. [`Event::Connected`] follows.
    CaughtUp {
        epoch: Epoch,
    },
    /// The epoch has another name than was thought: positions of the former one are void, offsets are not.
    Renamed {
        epoch: Epoch,
    },
    /// Messages can come and go from now on.
    Connected {
        /// Whether messages may have been missed since the last time, or before the first.
        has_missed: bool,
    },
    /// An attempt to connect has failed.
    NotConnected {
        /// What a RabbitMQ that answers objects to; none while all are away.
        refusal: Option<Box<str>>,
    },
    /// A call is over: its answer, or why there is none. Exactly one comes for each. Without an answer to wait for, it is
    /// empty, and RabbitMQ has taken the message.
    Called {
        number: u64,
        outcome: Result<Vec<u8>, CallFault>,
    },
    /// An answer came to no call that waits for one: it is late, or the second one.
    Unclaimed,
    /// No messages come or go, and no tag is valid any more. What was not acknowledged may come again, with other tags.
    Lost,
}
