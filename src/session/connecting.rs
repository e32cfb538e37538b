//! Connects. One that the application's backend is asked about waits for its answer. One that brings subscriptions, by its
//! token or by that answer, is answered when all of them are made: its reply says from where in each topic the client
//! receives publications. Until then the client's other commands wait. If one of the subscriptions cannot be made, the
//! connect has failed, and nothing more is done for the client.

use std::sync::Arc;

use crate::auth::{ConnectionClaims, ServerSubscription};
use crate::codec::command::Connect;
use crate::config::Timeouts;
use crate::domain::call::ConnectTerms;
use crate::domain::mail::TopicSlot;
use crate::domain::position::Since;
use crate::domain::reasons::{CloseReason, ErrorCode};
use crate::session::action::{Accepted, Action, Asking, ProtocolError, ServerSide, Until};
use crate::session::expiry::Now;
use crate::session::options::{Resume, SubscribeOptions, Wanted};
use crate::session::rules::{Facts, Rules, check_epoch};
use crate::session::tokens::Unfit;
use crate::session::{Session, State};

/// A connect that waits.
#[derive(Debug)]
pub(super) struct Connecting {
    id: u32,
    stage: Stage,
}

/// What a connect waits for.
#[derive(Debug)]
enum Stage {
    /// The application's backend.
    Asked { resumed: Resumed },
    /// The subscriptions that come with it.
    Subscribing {
        claims: Arc<ConnectionClaims>,
        /// How many of them the reply does not have yet.
        missing: usize,
        /// What the backend has for the client.
        data: Option<Box<str>>,
    },
}

impl Connecting {
    /// Whether the application's backend is asked about it.
    pub(super) fn is_asked(&self) -> bool {
        matches!(self.stage, Stage::Asked { .. })
    }
}

/// The topics in which a client wants to continue, in the order of their names, and from where.
#[derive(Debug)]
struct Resumed(Vec<(Box<str>, Since)>);

impl Resumed {
    fn since(&self, topic: &str) -> Option<Since> {
        let found = self.0.binary_search_by(|(name, _)| (**name).cmp(topic));
        found.ok().map(|index| self.0[index].1.clone())
    }
}

/// What a connect brings, by a token or by the answer of a backend.
#[derive(Default)]
struct Brought {
    /// `None`: the client is anonymous.
    claims: Option<Arc<ConnectionClaims>>,
    /// What the backend has for the client.
    data: Option<Box<str>>,
    /// Whether the client has its token from its application, and can get another one there.
    renews: bool,
}

impl Session {
    pub(super) fn connect<'a>(
        &mut self,
        id: u32,
        command: Connect<'a>,
        rules: Rules<'_>,
        facts: &Facts,
    ) -> Action<'a> {
        if self.is_connected() {
            return self.close(ProtocolError::SecondConnect);
        }
        if !rules.hooks.connect.is_empty() && !self.shows_token(facts) {
            return if facts.has_room {
                Action::Call { id, asking: Asking::Connect(command) }
            } else {
                Action::PutOff(Until::RequestHasRoom)
            };
        }
        let claims = match self.connection_claims(rules, facts) {
            Ok(claims) => claims,
            Err(Unfit::Refused(error)) => return self.refuse_connect(id, error, facts.now),
            Err(Unfit::Closed(fault)) => return self.close(fault),
        };
        let brings = claims.as_ref().is_some_and(|claims| !claims.subscriptions.is_empty());
        if brings && !facts.has_room {
            return Action::PutOff(Until::RequestHasRoom);
        }
        let brought = Brought { claims, data: None, renews: facts.has_own_token() };
        let since = |topic: &str| command.since(topic).map(Since::from);
        self.admit(id, brought, since, rules, facts)
    }

    /// Notes that the application's backend is asked about a connect.
    pub(super) fn connect_is_asked(&mut self, id: u32, command: Connect<'_>) {
        let resumed =
            command.resumed.iter().map(|(topic, since)| (Box::from(&**topic), since.into())).collect();
        let connecting = Connecting { id, stage: Stage::Asked { resumed: Resumed(resumed) } };
        self.change_extra(|extra| extra.connecting = Some(connecting));
    }

    /// Decides about a connect that the application's backend has answered. `None`: it does not know the client. Returns
    /// nothing if no connect waits for such an answer.
    pub fn connect_answered(
        &mut self,
        terms: Option<&ConnectTerms>,
        rules: Rules<'_>,
        facts: &Facts,
    ) -> Option<Action<'static>> {
        let (id, resumed) = self.take_asked_connect()?;
        let since = |topic: &str| resumed.since(topic);
        let brought = match terms {
            Some(ConnectTerms { claims, .. }) if claims.has_ended(facts.now.unix, rules.leeway) => {
                return Some(self.refuse_connect(id, ErrorCode::Expired, facts.now));
            }
            Some(ConnectTerms { claims, data }) => {
                Brought { claims: Some(Arc::clone(claims)), data: data.clone(), renews: false }
            }
            None if rules.anonymous => Brought::default(),
            None => return Some(Action::Close(ProtocolError::NoToken)),
        };
        Some(self.admit(id, brought, since, rules, facts))
    }

    fn take_asked_connect(&mut self) -> Option<(u32, Resumed)> {
        let Connecting { stage: Stage::Asked { .. }, .. } = self.connecting()? else { return None };
        match self.change_extra(|extra| extra.connecting.take()) {
            Some(Connecting { id, stage: Stage::Asked { resumed } }) => Some((id, resumed)),
            _ => None,
        }
    }

    /// Lets a client in, as soon as the subscriptions that it brings are made.
    fn admit<'a>(
        &mut self,
        id: u32,
        Brought { claims, data, renews }: Brought,
        since: impl Fn(&str) -> Option<Since>,
        rules: Rules<'_>,
        facts: &Facts,
    ) -> Action<'a> {
        let subscriptions =
            claims.as_ref().map_or(Ok(Vec::new()), |claims| server_side(claims, since, rules));
        let subscriptions = match subscriptions {
            Ok(subscriptions) => subscriptions,
            Err(error) => return self.refuse_connect(id, error, facts.now),
        };
        if let Some(claims) = claims {
            self.take_identity(&claims, renews, rules, facts.now);
            if !subscriptions.is_empty() {
                let stage = Stage::Subscribing { claims, missing: subscriptions.len(), data };
                self.change_extra(|extra| extra.connecting = Some(Connecting { id, stage }));
                return Action::ConnectAndSubscribe { id, subscriptions };
            }
        }
        let accepted = self.accept(rules.timeouts, facts.has_pings, facts.now);
        Action::Connect { id, accepted, data }
    }

    /// Answers a connect with an error.
    pub(super) fn refuse_connect<'a>(&mut self, id: u32, error: ErrorCode, now: Now) -> Action<'a> {
        self.end_refused(reason_after(error), now);
        Action::RefuseConnect { id, error }
    }

    /// Notes that a connect is answered with an error: the client is not heard any more, and waits for no answers. An SDK
    /// leaves by itself when it has read the error. Another client has `timeouts.close` for that, and is closed for `reason`.
    fn end_refused(&mut self, reason: CloseReason, now: Now) {
        (self.state, self.since, self.rare) = (State::Refused(reason), now.moment, None);
    }

    /// Whether the client's connect waits for the application's backend, or for the subscriptions that come with it.
    #[must_use]
    pub fn is_connecting(&self) -> bool {
        self.connecting().is_some()
    }

    fn connecting(&self) -> Option<&Connecting> {
        self.extra()?.connecting.as_ref()
    }

    /// Whether the command with this id waits for an answer.
    #[must_use]
    pub fn awaits(&self, id: u32) -> bool {
        self.unanswered().contains(id) || self.connecting().is_some_and(|connecting| connecting.id == id)
    }

    /// Notes that a subscription that comes with the connect is made.
    pub fn subscribed_by_server(&mut self, topic: TopicSlot, name: &str) {
        if let Some(rare) = &mut self.rare
            && let Some(Connecting { stage: Stage::Subscribing { claims, .. }, .. }) =
                rare.extra().and_then(|extra| extra.connecting.as_ref())
            && let Some(subscription) = subscription_to(&Arc::clone(claims), name)
        {
            rare.grants.insert_of_server(topic, subscription);
        }
    }

    /// Notes that one more of them is written for the reply.
    pub fn prepared(&mut self) {
        if self.is_connecting() {
            self.change_extra(|extra| {
                if let Some(Connecting { stage: Stage::Subscribing { missing, .. }, .. }) =
                    &mut extra.connecting
                {
                    *missing -= 1;
                }
            });
        }
    }

    /// The connect that waits, with what the application's backend has for the client, if nothing is missing for its
    /// reply.
    #[must_use]
    pub fn complete_connect(&mut self) -> Option<(u32, Option<Box<str>>)> {
        let Stage::Subscribing { missing, .. } = &self.connecting()?.stage else { return None };
        let is_complete = *missing == 0;
        if !is_complete {
            return None;
        }
        self.change_extra(|extra| match &mut extra.connecting {
            Some(Connecting { id, stage: Stage::Subscribing { data, .. } }) => Some((*id, data.take())),
            _ => None,
        })
    }

    /// Notes that the client is connected. Returns what it is told.
    pub fn accept(&mut self, timeouts: &Timeouts, has_pings: bool, now: Now) -> Accepted {
        self.state = State::Connected;
        if self.is_connecting() {
            self.change_extra(|extra| extra.connecting = None);
        }
        let interval = u32::try_from(timeouts.ping.0.as_secs()).unwrap_or(u32::MAX);
        let ping = if has_pings { 0 } else { interval };
        Accepted { ping, pong: !has_pings, ttl: self.connection_ttl(now) }
    }

    /// Notes that the connect that waits has failed, and for which reason a client that stays is closed. Returns the command.
    pub fn fail_connect(&mut self, reason: CloseReason, now: Now) -> Option<u32> {
        let id = self.connecting()?.id;
        self.end_refused(reason, now);
        Some(id)
    }
}

/// For which reason a client is closed that stays after its connect has got this error.
#[must_use]
pub fn reason_after(error: ErrorCode) -> CloseReason {
    match error {
        ErrorCode::TokenExpired | ErrorCode::Expired => CloseReason::Expired,
        ErrorCode::BadRequest => CloseReason::BadRequest,
        _ => reason_after_failure(error.is_temporary()),
    }
}

/// The same for an error that may be one of the application's.
#[must_use]
pub fn reason_after_failure(is_temporary: bool) -> CloseReason {
    if is_temporary { CloseReason::ConnectFailed } else { CloseReason::ConnectRefused }
}

/// The subscriptions that a connect brings. They need no permission, but topics must be possible and known.
fn server_side(
    claims: &ConnectionClaims,
    since: impl Fn(&str) -> Option<Since>,
    rules: Rules<'_>,
) -> Result<Vec<ServerSide>, ErrorCode> {
    let made = |ServerSubscription { topic, overrides, .. }: &ServerSubscription| {
        rules.check_server_side(topic)?;
        let since = since(topic);
        check_epoch(since.as_ref().map(|since| &*since.epoch))?;
        let recover = since.map(|since| Box::new(Resume { since, rejects_unrecovered: false }));
        let wanted = Wanted { recover, ..Wanted::default() };
        let options = SubscribeOptions::granted(rules.namespace(topic), *overrides, wanted);
        Ok(ServerSide { topic: topic.clone(), options })
    };
    claims.subscriptions.iter().map(made).collect()
}

/// What is said about the subscription to a topic. Claims have them in the order of their topics' names.
fn subscription_to<'c>(claims: &'c ConnectionClaims, name: &str) -> Option<&'c ServerSubscription> {
    let found = claims.subscriptions.binary_search_by(|subscription| (*subscription.topic).cmp(name));
    found.ok().map(|index| &claims.subscriptions[index])
}
