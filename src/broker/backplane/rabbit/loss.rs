//! Why a link was lost.

use std::fmt;

use super::publisher::ChannelLoss;
use super::reader::Astray;
use super::reply::{is_away, is_missing, is_unreadable, reply_text};
use super::reread::RereadError;

/// Why a link was lost. Displayed in words for operators.
#[derive(Debug, thiserror::Error)]
pub(super) enum Loss {
    /// The consumer failed, or RabbitMQ ended it and said why.
    #[error("{}", reply_text(.0))]
    Consumer(lapin::Error),
    /// RabbitMQ ended the consumer without a word, as it does when the queue is deleted.
    #[error("RabbitMQ ended the consumer: its queue is gone")]
    ConsumerEnded,
    /// They must not be acknowledged with what came later.
    #[error("delivery {next} came after {before}: some are missing")]
    MissingDeliveries { before: u64, next: u64 },
    #[error("it is not known any more whether the queue drops messages")]
    WatchEnded,
    #[error(transparent)]
    Reread(#[from] RereadError),
    #[error(transparent)]
    Stream(#[from] Astray),
    #[error(transparent)]
    Publishing(#[from] ChannelLoss),
    #[error("{}", reply_text(.0))]
    Binding(lapin::Error),
    #[error("the {role} connection failed: {}", reply_text(.error))]
    ConnectionFailed { role: ConnectionRole, error: lapin::Error, queue_is_gone: bool },
    #[error("the {0} connection has ended")]
    ConnectionEnded(ConnectionRole),
}

/// One of the two connections of a link.
#[derive(Clone, Copy, Debug)]
pub(super) enum ConnectionRole {
    Consuming,
    Publishing,
}

impl fmt::Display for ConnectionRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Consuming => "consuming",
            Self::Publishing => "publishing",
        })
    }
}

impl Loss {
    /// Whether RabbitMQ ended the consumer because its queue was deleted.
    pub(super) fn queue_is_gone(&self) -> bool {
        match self {
            Self::ConsumerEnded => true,
            Self::Consumer(error) => is_missing(error) && !is_away(error),
            Self::ConnectionFailed { queue_is_gone, .. } => *queue_is_gone,
            _ => false,
        }
    }

    /// Whether lapin could not read what RabbitMQ sent, or did not take it.
    pub(super) fn is_unreadable(&self) -> bool {
        matches!(self, Self::Consumer(error) | Self::ConnectionFailed { error, .. } if is_unreadable(error))
    }
}

#[cfg(test)]
mod tests {
    use lapin::protocol::AMQPHardError;

    use super::super::reply::{not_found, said};
    use super::*;

    #[test]
    fn a_queue_is_gone_that_rabbitmq_has_deleted_and_not_one_that_is_away() {
        let away = "queue 'orders' in vhost '/' process is stopped by supervisor";
        for (loss, is_gone) in [
            (Loss::ConsumerEnded, true),
            (Loss::Consumer(not_found("no queue 'orders' in vhost '/'")), true),
            (Loss::Consumer(not_found(away)), false),
            (Loss::ConnectionEnded(ConnectionRole::Consuming), false),
            (Loss::MissingDeliveries { before: 1, next: 3 }, false),
        ] {
            assert_eq!(loss.queue_is_gone(), is_gone, "{loss}");
        }
    }

    #[test]
    fn what_lapin_does_not_take_is_unreadable_on_whichever_connection() {
        let failed = |text: &str| {
            let error = said(AMQPHardError::FRAMEERROR.into(), text);
            Loss::ConnectionFailed { role: ConnectionRole::Publishing, error, queue_is_gone: false }
        };
        let loss = failed("frame too large: 131126 bytes");
        assert!(loss.is_unreadable());
        assert_eq!(loss.to_string(), "the publishing connection failed: frame too large: 131126 bytes");
        assert!(!failed("FRAME_ERROR - type 2").is_unreadable());
        assert!(!Loss::ConsumerEnded.is_unreadable());
    }
}
