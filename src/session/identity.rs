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
    /// `None`: the connection never expires.
    end: Option<End>,
    /// Boxed, so that a client whose token says no more than these does not pay for it.
    more: Option<Box<More>>,
}

/// The end of a connection that expires.
#[derive(Clone, Copy)]
struct End {
    expires: Moment,
    /// Whether the client has its token from its application, and can get another one there.
    renews: bool,
}

/// What not every token says.
struct More {
    /// What others are shown about the client: JSON without line breaks.
    info: Option<Box<str>>,
    /// What the client may do besides what namespaces permit.
    caps: Arc<[Capability]>,
}

impl Identity {
    pub(super) fn new(claims: &ConnectionClaims, now: Now, renews: bool) -> Self {
        let has_more = claims.info.is_some() || !claims.caps.is_empty();
        let more = || Box::new(More { info: claims.info.clone(), caps: Arc::clone(&claims.caps) });
        Self {
            user: claims.user.clone(),
            end: claims.expires.map(|expires| End { expires: now.moment_of(expires), renews }),
            more: has_more.then(more),
        }
    }

    /// When the connection expires; `None`: never.
    pub(super) fn expires(&self) -> Option<Moment> {
        self.end.map(|end| end.expires)
    }

    /// When the client is to send another token. One that was offered for it is not its own to renew.
    pub(super) fn renews_at(&self) -> Option<Moment> {
        self.end.filter(|end| end.renews).map(|end| end.expires)
    }
}

impl fmt::Debug for Identity {
    /// Without what the application says about its users.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity(is_anonymous {}, expires {:?})", self.user.is_empty(), self.expires())
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
        self.more().and_then(|more| more.info.as_deref())
    }

    /// Who the client is to the topic of a command.
    pub(super) fn subject(&self, facts: &Facts) -> Subject<'_> {
        Subject {
            user: self.user(),
            is_subscribed: facts.subscribed.is_some(),
            caps: self.more().map_or(&[], |more| &*more.caps),
            has_subscription_token: false,
        }
    }

    pub(super) fn identity(&self) -> Option<&Identity> {
        self.rare.as_ref().and_then(|rare| rare.identity.as_ref())
    }

    fn more(&self) -> Option<&More> {
        self.identity()?.more.as_deref()
    }
}
