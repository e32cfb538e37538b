//! How a client is subscribed to a topic.

use crate::auth::Overrides;
use crate::codec::command::{self, Subscribe};
use crate::config::Namespace;
use crate::domain::mail::Recovered;
use crate::domain::position::Since;

/// How a client wants to be subscribed, as far as the topic's namespace permits it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// Whether it is told the topic's position.
    pub positioned: bool,
    /// Whether it can continue from there when it comes again.
    pub recoverable: bool,
    /// Whether it wants to continue from a position, although the topic has no history.
    pub was_recovering: bool,
    /// The position from which it continues.
    pub recover: Option<Box<Resume>>,
}

/// From where a client wants to continue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The position.
    pub since: Since,
    /// Whether it wants an error instead of a subscription if that is not possible.
    pub rejects_unrecovered: bool,
}

/// How a client wants to be subscribed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Whether it wants to be told the topic's position.
    pub positioned: bool,
    /// Whether it wants to be able to continue from there when it comes again.
    pub recoverable: bool,
    /// The position from which it wants to continue.
    pub recover: Option<Box<Resume>>,
}

impl From<&Subscribe<'_>> for Wanted {
    fn from(command: &Subscribe<'_>) -> Self {
        let resume = |since: &command::Since<'_>| {
            Box::new(Resume { since: since.into(), rejects_unrecovered: command.rejects_unrecovered })
        };
        Self {
            positioned: command.positioned,
            recoverable: command.recoverable,
            recover: command.recover.as_ref().map(resume),
        }
    }
}

impl SubscribeOptions {
    /// What a namespace grants of what a client wants, with what the application changes for this subscription.
    pub(super) fn granted(namespace: &Namespace, overrides: Overrides, wanted: Wanted) -> Self {
        let Wanted { positioned, recoverable, recover } = wanted;
        if !namespace.has_history() {
            return Self { was_recovering: recover.is_some(), ..Self::default() };
        }
        let force_recovery = overrides.force_recovery.unwrap_or(namespace.force_recovery);
        let force_positioning = overrides.force_positioning.unwrap_or(namespace.force_positioning);
        let recoverable = force_recovery || recoverable || recover.is_some();
        let positioned = force_positioning || positioned || recoverable;
        Self { positioned, recoverable, recover, was_recovering: false }
    }

    /// Those of a client whose recovery has ended.
    #[must_use]
    pub fn of(recovered: Recovered) -> Self {
        let Recovered { recoverable, since, rejects_unrecovered, .. } = recovered;
        let recover = Some(Box::new(Resume { since, rejects_unrecovered }));
        Self { positioned: true, recoverable, recover, was_recovering: false }
    }
}
