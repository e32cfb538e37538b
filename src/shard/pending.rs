//! Subscribe commands that wait for the broker, and what they ask for.

use crate::domain::mail::{CommandKey, Recovered};
use crate::session::options::SubscribeOptions;

/// A client that waits to be subscribed.
#[derive(Debug)]
pub struct PendingSubscriber {
    /// Its command.
    pub command: CommandKey,
    /// How it is to be subscribed.
    pub options: SubscribeOptions,
}

impl PendingSubscriber {
    /// A client whose recovery has ended, and is to be asked for again.
    #[must_use]
    pub fn again(command: CommandKey, recovered: Recovered) -> Self {
        Self { command, options: SubscribeOptions::of(recovered) }
    }
}
