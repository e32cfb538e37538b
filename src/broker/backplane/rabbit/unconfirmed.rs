//! Why RabbitMQ has not confirmed a publish.

use super::reply::reply_text;

/// Why a publish is not known to be safe.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unconfirmed {
    /// The channel or the connection failed.
    #[error("{}", reply_text(.0))]
    Failed(#[from] lapin::Error),
    /// RabbitMQ says that it has not stored it.
    #[error("RabbitMQ could not store it")]
    NotStored,
    /// RabbitMQ took it, and it is in no queue.
    #[error("the exchange routes it to no queue: bind one to it")]
    Unroutable,
    /// No answer came in time.
    #[error("RabbitMQ did not confirm it in time")]
    Late,
    /// RabbitMQ closed the channel because of it, with these words.
    #[error("RabbitMQ refused it: {0}")]
    Refused(String),
    /// RabbitMQ would close the connection because of it. It was not sent.
    #[error(
        "its headers do not fit into a frame (frame_max): broadcast to fewer channels at once, or raise frame_max in \
         RabbitMQ and in amqp.url"
    )]
    TooLarge,
}
