//! Subscribe commands that wait for the broker, and what they ask for.

use crate::domain::mail::{CommandKey, Recover, Since};

/// A client that waits to be subscribed.
#[derive(Debug)]
pub struct PendingSubscriber {
    /// Whom to answer.
    pub asker: CommandKey,
    /// How it wants to be.
    pub options: SubscribeOptions,
}

/// How a client wants to be subscribed, as far as the topic's namespace goes along with it.
#[derive(Clone, Debug, Default)]
pub struct SubscribeOptions {
    /// It is told where it stands.
    pub positioned: bool,
    /// It can go on from there when it comes again.
    pub recoverable: bool,
    /// It wants to go on where it was, and nothing is kept of the topic.
    pub was_recovering: bool,
    /// It goes on from here.
    pub recover: Option<Box<Resume>>,
}

/// From where a client wants to go on.
#[derive(Clone, Debug)]
pub struct Resume {
    /// What it has.
    pub since: Since,
    /// Whether it wants an error and no subscription if that is not possible.
    pub rejects_unrecovered: bool,
}

impl PendingSubscriber {
    /// Whoever asked this, to ask it again.
    #[must_use]
    pub fn again(question: Recover) -> Self {
        let Recover { asker, recoverable, since, rejects_unrecovered, .. } = question;
        let recover = Some(Box::new(Resume { since, rejects_unrecovered }));
        Self {
            asker,
            options: SubscribeOptions {
                positioned: true,
                recoverable,
                recover,
                ..SubscribeOptions::default()
            },
        }
    }
}
