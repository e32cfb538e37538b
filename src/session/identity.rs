//! Who a client is, by its connection token or by a backend.

use std::fmt;
use std::sync::Arc;

use crate::auth::{Capability, ConnectionClaims, Subject};
use crate::session::Session;
use crate::session::expiry::{End, Now, Renewal};
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

/// What not every token says.
struct More {
    /// What others are shown about the client: JSON without line breaks.
    info: Option<Box<str>>,
    /// What the client may do besides what namespaces permit.
    caps: Arc<[Capability]>,
}

impl Identity {
    /// `renewal`: who prolongs it.
    pub(super) fn new(claims: &ConnectionClaims, now: Now, renewal: Renewal) -> Self {
        let has_more = claims.info.is_some() || !claims.caps.is_empty();
        let more = || Box::new(More { info: claims.info.clone(), caps: Arc::clone(&claims.caps) });
        Self {
            user: claims.user.clone(),
            end: claims.expires.map(|expires| End { expires: now.moment_of(expires), renewal }),
            more: has_more.then(more),
        }
    }

    /// Takes what the application's backend says when the connection expires. What it does not say stays as it is.
    pub(super) fn prolong(&mut self, terms: &ConnectionClaims, now: Now, renewal: Renewal) {
        self.end = terms.expires.map(|expires| End::prolonged(expires, renewal, now));
        if terms.info.is_none() && terms.caps.is_empty() {
            return;
        }
        let (info, caps) = match self.more.take() {
            Some(more) => (more.info, more.caps),
            None => (None, Arc::default()),
        };
        let caps = if terms.caps.is_empty() { caps } else { Arc::clone(&terms.caps) };
        self.more = Some(Box::new(More { info: terms.info.clone().or(info), caps }));
    }

    /// When the connection expires; `None`: never.
    pub(super) fn end(&self) -> Option<End> {
        self.end
    }

    /// Notes that the application's backend is asked for how long it may stay.
    pub(super) fn is_asked(&mut self) {
        if let Some(end) = &mut self.end {
            end.renewal = Renewal::Asked;
        }
    }
}

impl fmt::Debug for Identity {
    /// Without what the application says about its users.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity(is_anonymous {}, expires {:?})", self.user.is_empty(), self.end)
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
