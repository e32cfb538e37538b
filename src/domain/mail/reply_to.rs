//! Where answers go: to a client's command, or to the control thread.

use tokio::sync::oneshot;

use super::{CommandKey, ShardId};
use crate::domain::codec::Codec;

/// Where the answer to a request goes.
#[derive(Debug)]
pub enum ReplyTo<T> {
    /// To a client's command, by [`Mail::Answer`](super::Mail::Answer).
    Client(ReplyAddress),
    /// To a task of the control thread.
    Control(ControlReply<T>),
}

impl<T> ReplyTo<T> {
    /// For a task of the control thread, with the end that receives the answer. It receives an error if the
    /// request is dropped without an answer.
    #[must_use]
    pub fn control() -> (Self, oneshot::Receiver<T>) {
        let (reply, answer) = ControlReply::new();
        (Self::Control(reply), answer)
    }
}

/// A client's command that waits for an answer from another thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyAddress {
    /// The client's shard.
    pub shard: ShardId,
    /// The command.
    pub command: CommandKey,
    /// The client's codec. Publications in the answer are written by it.
    pub codec: Codec,
}

/// Receives one answer on the control thread.
#[derive(Debug)]
pub struct ControlReply<T>(oneshot::Sender<T>);

impl<T> ControlReply<T> {
    /// With the end that receives the answer.
    #[must_use]
    pub fn new() -> (Self, oneshot::Receiver<T>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    /// Sends the answer. It is dropped if the operator has hung up.
    pub fn send(self, answer: T) {
        drop(self.0.send(answer));
    }
}
