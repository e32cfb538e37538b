//! Connects. One whose token brings subscriptions is answered when all of them are made: its reply says from where in
//! each topic the client receives publications. Until then its other commands wait. If one of the subscriptions cannot be
//! made, the connect has failed, and nothing more is done for the client.

use std::borrow::Cow;
use std::sync::Arc;

use crate::auth::{ConnectionClaims, ServerSubscription};
use crate::codec::command::{Connect, Subscribe, Token};
use crate::config::Timeouts;
use crate::domain::mail::TopicSlot;
use crate::domain::reasons::{CloseReason, ErrorCode};
use crate::session::action::{Accepted, Action, ProtocolError, ServerSide, Until};
use crate::session::expiry::Now;
use crate::session::options::SubscribeOptions;
use crate::session::rules::{Facts, Rules, check_epoch};
use crate::session::tokens::Unfit;
use crate::session::{Session, State};

/// A connect that waits for the subscriptions that its token brings.
#[derive(Debug)]
pub(super) struct Connecting {
    id: u32,
    claims: Arc<ConnectionClaims>,
    /// How many of them the reply does not have yet.
    missing: usize,
}

impl Session {
    pub(super) fn connect<'a>(
        &mut self,
        id: u32,
        command: &Connect<'_>,
        rules: Rules<'_>,
        facts: &Facts,
    ) -> Action<'a> {
        if self.is_connected() {
            return self.close(ProtocolError::SecondConnect);
        }
        let claims = match self.connection_claims(rules, facts) {
            Ok(claims) => claims,
            Err(Unfit::Refused(error)) => return self.refuse_connect(id, error, facts.now),
            Err(Unfit::Closed(fault)) => return self.close(fault),
        };
        let brought = claims.as_ref().map_or(Ok(Vec::new()), |claims| server_side(claims, command, rules));
        let subscriptions = match brought {
            Ok(subscriptions) => subscriptions,
            Err(error) => return self.refuse_connect(id, error, facts.now),
        };
        if !subscriptions.is_empty() && !facts.has_room {
            return Action::PutOff(Until::RequestHasRoom);
        }
        if let Some(claims) = claims {
            self.take_identity(&claims, facts);
            if !subscriptions.is_empty() {
                self.await_subscriptions(id, claims, subscriptions.len());
                return Action::ConnectAndSubscribe { id, subscriptions };
            }
        }
        Action::Connect { id, accepted: self.accept(rules.timeouts, facts.has_pings, facts.now) }
    }

    /// Answers a connect with an error.
    pub(super) fn refuse_connect<'a>(&mut self, id: u32, error: ErrorCode, now: Now) -> Action<'a> {
        self.end_refused(error, now);
        Action::RefuseConnect { id, error }
    }

    /// Notes that a connect is answered with an error: the client is not heard any more, and waits for no answers. An SDK
    /// leaves by itself when it has read the error. Another client has `timeouts.close` for that.
    fn end_refused(&mut self, error: ErrorCode, now: Now) {
        let comes_back =
            error.is_temporary() || matches!(error, ErrorCode::TokenExpired | ErrorCode::Expired);
        let reason = if comes_back { CloseReason::Expired } else { CloseReason::BadRequest };
        (self.state, self.since, self.rare) = (State::Refused(reason), now.moment, None);
    }

    fn await_subscriptions(&mut self, id: u32, claims: Arc<ConnectionClaims>, missing: usize) {
        let connecting = Connecting { id, claims, missing };
        self.change_rare(|rare| rare.connecting = Some(Box::new(connecting)));
    }

    /// Whether the client's connect waits for the subscriptions that its token brings.
    #[must_use]
    pub fn is_connecting(&self) -> bool {
        self.connecting().is_some()
    }

    fn connecting(&self) -> Option<&Connecting> {
        self.rare.as_ref()?.connecting.as_deref()
    }

    /// Whether the command with this id waits for the broker's answer.
    #[must_use]
    pub fn awaits(&self, id: u32) -> bool {
        self.unanswered().contains(id) || self.connecting().is_some_and(|connecting| connecting.id == id)
    }

    /// Notes that a subscription that the token of the connect brings is made.
    pub fn subscribed_by_server(&mut self, topic: TopicSlot, name: &str) {
        if let Some(rare) = &mut self.rare
            && let Some(connecting) = &rare.connecting
            && let Some(subscription) = subscription_to(&connecting.claims, name)
        {
            rare.grants.insert_of_server(topic, subscription);
        }
    }

    /// Notes that one more of them is written for the reply.
    pub fn prepared(&mut self) {
        if let Some(rare) = &mut self.rare
            && let Some(connecting) = &mut rare.connecting
        {
            connecting.missing -= 1;
        }
    }

    /// The connect that waits, if nothing is missing for its reply.
    #[must_use]
    pub fn complete_connect(&self) -> Option<u32> {
        self.connecting().filter(|connecting| connecting.missing == 0).map(|connecting| connecting.id)
    }

    /// Notes that the client is connected. Returns what it is told.
    pub fn accept(&mut self, timeouts: &Timeouts, has_pings: bool, now: Now) -> Accepted {
        self.state = State::Connected;
        if let Some(rare) = &mut self.rare {
            rare.connecting = None;
        }
        let interval = u32::try_from(timeouts.ping.0.as_secs()).unwrap_or(u32::MAX);
        let ping = if has_pings { 0 } else { interval };
        Accepted { ping, pong: !has_pings, ttl: self.connection_ttl(now) }
    }

    /// Notes that the connect that waits has failed. Returns the command.
    pub fn fail_connect(&mut self, error: ErrorCode, now: Now) -> Option<u32> {
        let id = self.connecting()?.id;
        self.end_refused(error, now);
        Some(id)
    }
}

/// The subscriptions that a token brings. They need no permission, but topics must be possible and known.
fn server_side(
    claims: &ConnectionClaims,
    command: &Connect<'_>,
    rules: Rules<'_>,
) -> Result<Vec<ServerSide>, ErrorCode> {
    let made = |ServerSubscription { topic, overrides, .. }: &ServerSubscription| {
        rules.check_server_side(topic)?;
        let recover = command.since(topic).cloned();
        check_epoch(recover.as_ref().map(|since| &*since.epoch))?;
        let subscribe = Subscribe {
            topic: Cow::Borrowed(topic),
            token: Token::default(),
            recover,
            recoverable: false,
            positioned: false,
            rejects_unrecovered: false,
            unsupported: false,
        };
        let options = SubscribeOptions::granted(rules.namespace(topic), *overrides, &subscribe);
        Ok(ServerSide { topic: topic.clone(), options })
    };
    claims.subscriptions.iter().map(made).collect()
}

/// What a token says about the subscription to a topic. It has them in the order of their topics' names.
fn subscription_to<'c>(claims: &'c ConnectionClaims, name: &str) -> Option<&'c ServerSubscription> {
    let found = claims.subscriptions.binary_search_by(|subscription| (*subscription.topic).cmp(name));
    found.ok().map(|index| &claims.subscriptions[index])
}
