//! Who may do what with a topic: [`grant`] is the only function that decides it.

#[cfg(test)]
mod tests;

use super::capability::{Action, Capability};
use crate::config::{Allowed, Namespace, Role};
use crate::domain::namespaces::{Audience, TopicRules};
use crate::domain::reasons::ErrorCode;

/// A client, as far as permissions depend on it. The default one is an anonymous client that is not subscribed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subject<'a> {
    /// The user; empty if the client is anonymous.
    pub user: &'a str,
    /// Whether it is subscribed to the topic. It only needs to be known where [`depends_on_subscription`] says so.
    pub is_subscribed: bool,
    /// What its token allows it, whatever the namespace says.
    pub caps: &'a [Capability],
    /// Whether it shows a valid subscription token for this topic with the command.
    pub has_subscription_token: bool,
}

impl Subject<'_> {
    fn has_capability(&self, topic: &str, action: Action) -> bool {
        self.caps.iter().any(|capability| capability.allows(topic, action))
    }

    /// Whether it has one of the roles that are allowed the action. To subscribe, it must have it by who it is.
    fn is_among(&self, allowed: Allowed, action: Action) -> bool {
        let role = if self.user.is_empty() { Role::Anonymous } else { Role::User };
        let as_subscriber = self.is_subscribed && action != Action::Subscribe;
        allowed.contains(role) || as_subscriber && allowed.contains(Role::Subscriber)
    }
}

/// How far a client may do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granted {
    /// It may.
    Yes,
    /// It may if the application's backend says so.
    AskBackend,
}

/// Decides whether a client may do something with a topic.
///
/// The topic's name is valid and its namespace known, because it has rules ([`Namespaces::rules`]).
///
/// * Nothing, if the namespace's `topic_pattern` does not allow the name.
/// * Subscribe: never where the namespace is `server_only`. Otherwise with a subscription token for the topic. Without:
///   not to a private topic; to a topic that lists users only as one of them; to any other topic with a capability, or
///   if `client_subscribe` names the client's role. With a `subscribe_hook`, the backend decides about open topics instead
///   of `client_subscribe`.
/// * Everything else: with a capability, or if the namespace's key for it names one of the client's roles. Where the
///   topic is private or lists users, the client must be subscribed besides, or be one that may subscribe. With a
///   `publish_hook`, the backend decides instead of `client_publish` and of capabilities.
///
/// # Errors
/// [`ErrorCode::BadRequest`] if the pattern does not allow the name: like a name that is too long, it is not the name of
/// a topic, whoever asks. [`ErrorCode::PermissionDenied`] if the client may not do it.
///
/// [`Namespaces::rules`]: crate::domain::namespaces::Namespaces::rules
pub fn grant(
    topic: &str,
    rules: &TopicRules<'_>,
    subject: &Subject<'_>,
    action: Action,
) -> Result<Granted, ErrorCode> {
    if !rules.fits_pattern() {
        return Err(ErrorCode::BadRequest);
    }
    let granted = match action {
        Action::Subscribe => may_subscribe(topic, rules, subject),
        Action::Publish | Action::Presence | Action::History => {
            let is_reached = rules.audience == Audience::Open
                || subject.is_subscribed
                || may_subscribe(topic, rules, subject).is_some();
            may_use(topic, rules.options, subject, action).filter(|_| is_reached)
        }
    };
    granted.ok_or(ErrorCode::PermissionDenied)
}

/// Whether the outcome of [`grant`] can depend on whether the client is subscribed to the topic.
#[must_use]
pub fn depends_on_subscription(rules: &TopicRules<'_>, action: Action) -> bool {
    action != Action::Subscribe
        && (rules.audience != Audience::Open || flag(rules.options, action).depends_on_subscription())
}

fn may_subscribe(topic: &str, rules: &TopicRules<'_>, subject: &Subject<'_>) -> Option<Granted> {
    let yes = |may: bool| may.then_some(Granted::Yes);
    if rules.options.server_only {
        return None;
    }
    if subject.has_subscription_token {
        return Some(Granted::Yes);
    }
    match rules.audience {
        Audience::Private => None,
        Audience::Users(_) => yes(rules.audience.lists(subject.user)),
        Audience::Open if rules.options.subscribe_hook.is_empty() => {
            yes(is_allowed(topic, rules.options, subject, Action::Subscribe))
        }
        Audience::Open if subject.has_capability(topic, Action::Subscribe) => Some(Granted::Yes),
        Audience::Open => Some(Granted::AskBackend),
    }
}

fn may_use(topic: &str, options: &Namespace, subject: &Subject<'_>, action: Action) -> Option<Granted> {
    if action == Action::Publish && !options.publish_hook.is_empty() {
        return Some(Granted::AskBackend);
    }
    is_allowed(topic, options, subject, action).then_some(Granted::Yes)
}

fn is_allowed(topic: &str, options: &Namespace, subject: &Subject<'_>, action: Action) -> bool {
    subject.is_among(flag(options, action), action) || subject.has_capability(topic, action)
}

/// Which clients a namespace allows something.
fn flag(options: &Namespace, action: Action) -> Allowed {
    match action {
        Action::Subscribe => options.client_subscribe,
        Action::Publish => options.client_publish,
        Action::History => options.client_history,
        Action::Presence => options.client_presence,
    }
}
