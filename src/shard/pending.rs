//! Subscribe commands that wait for the broker, and what they ask for.

use crate::domain::mail::{CommandKey, Recover};
use crate::session::options::SubscribeOptions;

/// A client that waits to be subscribed.
#[derive(Debug)]
pub struct PendingSubscriber {
    /// Whom to answer.
    pub asker: CommandKey,
    /// How it is to be subscribed.
    pub options: SubscribeOptions,
}

impl PendingSubscriber {
    /// Whoever asked this, to ask it again.
    #[must_use]
    pub fn again(question: Recover) -> Self {
        Self { asker: question.asker, options: SubscribeOptions::of(question) }
    }
}
