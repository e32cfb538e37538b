//! What tokens decide: who may connect, and until when.

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::auth::{ConnectionClaims, SubscriptionClaims, TokenError};
use crate::domain::reasons::ErrorCode;
use crate::session::Session;
use crate::session::action::{Action, ProtocolError};
use crate::session::expiry::Now;
use crate::session::identity::Identity;
use crate::session::rules::{Facts, Rules, Verdict};

/// Why a token does not do for a command.
pub(super) enum Unfit {
    /// The command is answered with an error.
    Refused(ErrorCode),
    /// The client is closed.
    Closed(ProtocolError),
}

impl Session {
    /// Keeps what a valid token says that came with the HTTP request or in the `headers` of the connect command, until that
    /// is handled. Whether it is valid then is asked then.
    ///
    /// The client is not told when such a token expires. SDKs without another one would end for good at that time. So it is
    /// closed when it has expired (3005), comes back, and is offered the token that there is then.
    pub fn offer(&mut self, claims: Arc<ConnectionClaims>) {
        self.change_rare(|rare| rare.offered = Some(claims));
    }

    /// Whether the client shows a token for its connection, with the connect or before, or may have one that nobody can verify
    /// yet.
    pub(super) fn shows_token(&self, facts: &Facts) -> bool {
        let was_offered = self.rare.as_ref().is_some_and(|rare| rare.offered.is_some());
        was_offered || matches!(facts.token, Verdict::Connection(_) | Verdict::Undecided)
    }

    /// What the token of a connect says. `None`: the client has none, and needs none.
    pub(super) fn connection_claims(
        &self,
        rules: Rules<'_>,
        facts: &Facts,
    ) -> Result<Option<Arc<ConnectionClaims>>, Unfit> {
        if matches!(facts.token, Verdict::Undecided) {
            return Err(Unfit::Refused(ErrorCode::Internal));
        }
        match self.shown(rules, facts) {
            Some(Ok(claims)) if claims.has_ended(facts.now.unix, rules.leeway) => {
                Err(Unfit::Refused(ErrorCode::Expired))
            }
            Some(Ok(claims)) => Ok(Some(claims)),
            Some(Err(error)) if error.is_about_time() => Err(Unfit::Refused(ErrorCode::TokenExpired)),
            Some(Err(error)) => Err(invalid(&error)),
            None if rules.anonymous => Ok(None),
            None => Err(Unfit::Closed(ProtocolError::NoToken)),
        }
    }

    /// What the token says that counts for a connect: the command's own, or else the one that was offered before.
    fn shown(&self, rules: Rules<'_>, facts: &Facts) -> Option<Result<Arc<ConnectionClaims>, TokenError>> {
        match &facts.token {
            Verdict::Connection(said) => Some(said.clone()),
            Verdict::None | Verdict::Subscription(_) | Verdict::Undecided => {
                let offered = self.rare.as_ref()?.offered.clone()?;
                Some(offered.check_time(facts.now.unix, rules.leeway).map(|()| offered))
            }
        }
    }

    /// Notes who the client is, by its own token, by one that was offered, which counts no more, or by the application's
    /// backend. `renews`: the client can get another token where it has this one from. One that was offered for it, it cannot.
    pub(super) fn take_identity(
        &mut self,
        claims: &ConnectionClaims,
        renews: bool,
        rules: Rules<'_>,
        now: Now,
    ) {
        let renewal = rules.renewal(&rules.hooks.refresh, renews);
        self.change_rare(|rare| {
            rare.offered = None;
            rare.identity = Some(Identity::new(claims, now, renewal));
        });
        self.take_meta(claims, rules);
    }

    fn take_meta(&mut self, claims: &ConnectionClaims, rules: Rules<'_>) {
        let meta = claims.meta.clone().filter(|_| rules.keeps_meta);
        if meta.is_some() || self.extra().is_some_and(|extra| extra.meta.is_some()) {
            self.change_extra(|extra| extra.meta = meta);
        }
    }

    /// Takes the terms on which a connection that has expired may stay.
    pub(super) fn prolong(&mut self, terms: &ConnectionClaims, rules: Rules<'_>, now: Now) {
        let renewal = rules.renewal(&rules.hooks.refresh, false);
        self.change_rare(|rare| {
            if let Some(identity) = &mut rare.identity {
                identity.prolong(terms, now, renewal);
            }
        });
        if terms.meta.is_some() {
            self.take_meta(terms, rules);
        }
    }

    /// Seconds until the client is to send another token. `None`: it need not.
    pub(super) fn connection_ttl(&self, now: Now) -> Option<NonZeroU32> {
        let expires = self.identity().and_then(Identity::end)?.told()?;
        Some(now.seconds_until(expires))
    }

    /// Replaces the token of the connection. Subscriptions stay as they are: those that the new token brings are made with
    /// the next connect.
    pub(super) fn refresh<'a>(&mut self, id: u32, rules: Rules<'_>, facts: &Facts) -> Action<'a> {
        let fault = match &facts.token {
            Verdict::Connection(Ok(claims)) if *claims.user != *self.user() => ProtocolError::OtherUser,
            Verdict::Connection(Ok(claims)) if claims.has_ended(facts.now.unix, rules.leeway) => {
                ProtocolError::ExpiredToken
            }
            Verdict::Connection(Ok(claims)) => {
                self.take_identity(claims, true, rules, facts.now);
                return Action::Refresh { id, ttl: self.connection_ttl(facts.now) };
            }
            Verdict::Connection(Err(error)) if error.is_about_time() => ProtocolError::ExpiredToken,
            Verdict::Connection(Err(error)) => ProtocolError::InvalidToken(error.clone()),
            Verdict::Undecided => return Action::Refuse { id, error: ErrorCode::Internal },
            Verdict::None | Verdict::Subscription(_) => ProtocolError::RefreshWithoutToken,
        };
        self.close(fault)
    }

    /// What a valid token says about a subscription of this client to a topic. `None`: the command has no token.
    pub(super) fn subscription_claims<'f>(
        &self,
        topic: &str,
        rules: Rules<'_>,
        facts: &'f Facts,
    ) -> Result<Option<&'f SubscriptionClaims>, Unfit> {
        match &facts.token {
            Verdict::Subscription(Ok(claims)) if !self.is_meant(claims, topic, facts) => {
                Err(Unfit::Closed(ProtocolError::OtherSubscription))
            }
            Verdict::Subscription(Ok(claims)) if claims.terms.has_ended(facts.now.unix, rules.leeway) => {
                Err(Unfit::Refused(ErrorCode::Expired))
            }
            Verdict::Subscription(Ok(claims)) => Ok(Some(claims)),
            Verdict::Subscription(Err(error)) if error.is_about_time() => {
                Err(Unfit::Refused(ErrorCode::TokenExpired))
            }
            Verdict::Subscription(Err(error)) => Err(invalid(error)),
            Verdict::Undecided => Err(Unfit::Refused(ErrorCode::Internal)),
            Verdict::None | Verdict::Connection(_) => Ok(None),
        }
    }

    /// Whether a subscription's token is for this client and this topic.
    fn is_meant(&self, claims: &SubscriptionClaims, topic: &str, facts: &Facts) -> bool {
        let user = claims.user.as_deref().unwrap_or_default();
        let is_for_client = claims.client.is_none() || claims.client == facts.client;
        user == self.user() && *claims.topic == *topic && is_for_client
    }

    /// Replaces the token of a subscription.
    pub(super) fn refresh_subscription<'a>(
        &mut self,
        id: u32,
        topic: &str,
        rules: Rules<'_>,
        facts: &Facts,
    ) -> Action<'a> {
        // What the server has subscribed the client to is the affair of the connection's token.
        let Some(slot) = facts.subscribed.filter(|&slot| !self.is_server_side(slot)) else {
            return Action::Refuse { id, error: ErrorCode::PermissionDenied };
        };
        match self.subscription_claims(topic, rules, facts) {
            Ok(Some(claims)) => {
                let renewal = rules.renewal(&rules.namespace(topic).sub_refresh_hook, true);
                let ttl = self.grant_again(slot, &claims.terms, renewal, facts.now);
                Action::RefreshSubscription { id, ttl }
            }
            Ok(None) => Action::Refuse { id, error: ErrorCode::BadRequest },
            Err(Unfit::Refused(error)) if error.is_temporary() => Action::Refuse { id, error },
            Err(Unfit::Refused(_)) => Action::Refuse { id, error: ErrorCode::Expired },
            Err(Unfit::Closed(fault)) => self.close(fault),
        }
    }
}

fn invalid(error: &TokenError) -> Unfit {
    Unfit::Closed(ProtocolError::InvalidToken(error.clone()))
}
