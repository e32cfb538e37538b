//! How a client is subscribed to a topic.

use crate::auth::Overrides;
use crate::codec::command::Subscribe;
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

impl SubscribeOptions {
    /// What a namespace grants of a client's command, with what the subscription's token changes.
    pub(super) fn granted(namespace: &Namespace, overrides: Overrides, command: &Subscribe<'_>) -> Self {
        if !namespace.has_history() {
            return Self { was_recovering: command.recover.is_some(), ..Self::default() };
        }
        let recover = command.recover.as_ref().map(|since| {
            Box::new(Resume { since: since.into(), rejects_unrecovered: command.rejects_unrecovered })
        });
        let force_recovery = overrides.force_recovery.unwrap_or(namespace.force_recovery);
        let force_positioning = overrides.force_positioning.unwrap_or(namespace.force_positioning);
        let recoverable = force_recovery || command.recoverable || recover.is_some();
        let positioned = force_positioning || command.positioned || recoverable;
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
