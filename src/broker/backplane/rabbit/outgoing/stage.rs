//! One publish on its way to RabbitMQ: why it was sent, and how far it has come.

use std::sync::Arc;
use std::time::Instant;

use crate::broker::shares::Sender;
use crate::domain::mail::PublishReply;

use super::super::coverage::Ticket;
use super::super::pending_publish::PendingPublish;
use super::super::unconfirmed::Unconfirmed;
use super::postponed::{Destination, PublishRef};

/// Why something is published.
#[derive(Debug)]
pub(in crate::broker::backplane::rabbit) enum Purpose {
    /// A client or an operator published, and waits for the answer.
    Publish(PublishReply),
    /// A message could not be delivered. It is acknowledged when its dead letter is safe.
    DeadLetter {
        /// The delivery tag of the message. None if nothing waits for the dead letter: the tag was given back, or the
        /// connection by which the message came is gone.
        tag: Option<u64>,
        /// The place of the message in its stream, to be reported as settled.
        ticket: Option<Ticket>,
    },
}

impl Purpose {
    pub(super) fn sender(&self) -> Sender {
        match self {
            Self::Publish(reply_to) => reply_to.into(),
            Self::DeadLetter { .. } => Sender::Operator,
        }
    }

    pub(super) fn settled(self, outcome: Result<(), Unconfirmed>) -> Settled {
        match self {
            Self::Publish(reply_to) => Settled::Publish(reply_to, outcome),
            Self::DeadLetter { tag, ticket } => Settled::DeadLetter { tag, ticket, outcome },
        }
    }
}

/// What the caller has to report of a publish.
#[derive(Debug)]
pub(in crate::broker::backplane::rabbit) enum Settled {
    Publish(PublishReply, Result<(), Unconfirmed>),
    DeadLetter {
        tag: Option<u64>,
        ticket: Option<Ticket>,
        outcome: Result<(), Unconfirmed>,
    },
    /// A dead letter is not safe yet and is still being sent, but its message must not wait any longer: RabbitMQ did not
    /// answer in time, or routes the dead letter to no queue.
    Released {
        tag: u64,
        is_unroutable: bool,
    },
}

/// How far one publish has come. All queues of [`Outgoing`](super::Outgoing) hold numbers only, and each number is where
/// its stage says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PublishStage {
    /// In `due`: it leaves when its turn comes.
    Waiting,
    /// In `due` and among the `suspects`: RabbitMQ closed a channel because of this one or another suspect. It leaves
    /// before all others, and alone.
    Suspected,
    /// It has left, and RabbitMQ has said nothing of it.
    UnderWay { since: Instant },
    /// As `UnderWay`, and among the `suspects`.
    OnTrial { since: Instant },
    /// RabbitMQ has taken it, and will not refuse it any more. It is not confirmed.
    Taken { since: Instant },
    /// In `postponed`: RabbitMQ could not store it, or another one for the same destination.
    Postponed,
    /// It failed while it was under way, and this was reported. The client library still keeps it, so it takes room until
    /// RabbitMQ answers or the channel is gone.
    Failed { is_taken: bool },
}

impl PublishStage {
    pub(super) fn is_due(self) -> bool {
        matches!(self, Self::Waiting | Self::Suspected)
    }

    pub(super) fn is_suspect(self) -> bool {
        matches!(self, Self::Suspected | Self::OnTrial { .. })
    }

    pub(super) fn is_failed(self) -> bool {
        matches!(self, Self::Failed { .. })
    }

    /// Whether it was sent and RabbitMQ has said nothing of it: if RabbitMQ refuses one for good, it is one of these.
    pub(super) fn is_unheard(self) -> bool {
        matches!(self, Self::UnderWay { .. } | Self::OnTrial { .. } | Self::Failed { is_taken: false })
    }

    /// When it left, while an answer is of interest.
    pub(super) fn under_way_since(self) -> Option<Instant> {
        match self {
            Self::UnderWay { since } | Self::OnTrial { since } | Self::Taken { since } => Some(since),
            _ => None,
        }
    }

    pub(super) fn is_under_way(self) -> bool {
        self.under_way_since().is_some()
    }
}

/// One publish.
#[derive(Debug)]
pub(super) struct Publish {
    /// None if that it failed was reported already: the stage is [`PublishStage::Failed`].
    pub(super) purpose: Option<Purpose>,
    pub(super) sender: Sender,
    pub(super) message: Arc<PendingPublish>,
    pub(super) destination: Destination,
    /// The memory that it takes.
    pub(super) bytes: usize,
    /// Why RabbitMQ did not store it the last time. A dead letter has its time limit from the first failure on.
    pub(super) failure: Option<Unconfirmed>,
    pub(super) stage: PublishStage,
}

impl Publish {
    pub(super) fn reference(&self, number: u64) -> PublishRef {
        PublishRef { destination: self.destination, sender: self.sender, number }
    }

    pub(super) fn is_dead_letter(&self) -> bool {
        matches!(self.purpose, Some(Purpose::DeadLetter { .. }))
    }
}
