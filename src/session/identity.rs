//! Who a client is, by its connection token.

use std::fmt;
use std::sync::Arc;

use crate::auth::{Capability, ConnectionClaims, Subject};
use crate::base::moment::Moment;
use crate::session::Session;
use crate::session::expiry::Now;
use crate::session::rules::Facts;

/// What the token of a client's connection says. A client that showed none has no identity.
pub(super) struct Identity {
    /// Empty for an anonymous client.
    user: Box<str>,
    /// What others are shown about the client: JSON without line breaks.
    info: Option<Box<str>>,
    /// What the client may do besides what namespaces permit.
    caps: Option<Arc<[Capability]>>,
    /// When the connection expires; `None`: never.
    expires: Option<Moment>,
    /// Whether the client has its token from its application, and can get another one there.
    renews: bool,
}

impl Identity {
    pub(super) fn new(claims: &ConnectionClaims, now: Now, renews: bool) -> Self {
        Self {
            user: claims.user.clone(),
            info: claims.info.clone(),
            caps: (!claims.caps.is_empty()).then(|| Arc::clone(&claims.caps)),
            expires: claims.expires.map(|expires| now.moment_of(expires)),
            renews,
        }
    }

    pub(super) fn expires(&self) -> Option<Moment> {
        self.expires
    }

    /// When the client is to send another token. One that was offered for it is not its own to renew.
    pub(super) fn renews_at(&self) -> Option<Moment> {
        self.expires.filter(|_| self.renews)
    }
}

impl fmt::Debug for Identity {
    /// Without what the application says about its users.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity(is_anonymous {}, expires {:?})", self.user.is_empty(), self.expires)
    }
}

/// Who the client is.
impl Session {
    /// The id of the client's user, as the application knows it. Empty: the client is anonymous.
    #[must_use]
    pub fn user(&self) -> &str {
        self.identity().map_or("", |identity| &identity.user)
    }

    /// What others are shown about the client: JSON without line breaks.
    #[must_use]
    pub fn info(&self) -> Option<&str> {
        self.identity().and_then(|identity| identity.info.as_deref())
    }

    /// Who the client is to the topic of a command.
    pub(super) fn subject(&self, facts: &Facts) -> Subject<'_> {
        Subject {
            user: self.user(),
            is_subscribed: facts.subscribed.is_some(),
            caps: self.identity().and_then(|identity| identity.caps.as_deref()).unwrap_or_default(),
            has_subscription_token: false,
        }
    }

    pub(super) fn identity(&self) -> Option<&Identity> {
        self.rare.as_ref().and_then(|rare| rare.identity.as_ref())
    }
}
