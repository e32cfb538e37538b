//! The protocol: what a command means in the session's state.

use std::borrow::Cow;

use crate::auth::{Granted, Subject};
use crate::codec::command::{Command, Malformed, Method, Subscribe};
use crate::domain::asked::Asked;
use crate::domain::reasons::ErrorCode;
use crate::session::Session;
use crate::session::action::{Action, Asking, ProtocolError, Until};
use crate::session::options::{SubscribeOptions, Wanted};
use crate::session::rules::{Facts, Rules, check_epoch};
use crate::session::tokens::Unfit;

/// Whether a command may need room for a request to the broker at once ([`Facts::has_room`]): a connect does if its token
/// brings subscriptions, and so does what the application's backend is asked about. Other requests of subscribes wait in the
/// shard.
#[must_use]
pub const fn is_request(method: &Method<'_>) -> bool {
    match method {
        Method::Connect(_)
        | Method::Subscribe(_)
        | Method::Publish { .. }
        | Method::Ask { .. }
        | Method::Rpc { .. }
        | Method::Send { .. } => true,
        Method::Unsubscribe { .. }
        | Method::Refresh { .. }
        | Method::RefreshSubscription { .. }
        | Method::Pong
        | Method::Unavailable
        | Method::Unknown => false,
    }
}

impl Session {
    /// Decides about the next command of the client. One that is put off changes nothing, and is to be handled again.
    pub fn handle<'a>(
        &mut self,
        command: Result<Command<'a>, Malformed>,
        rules: Rules<'_>,
        facts: &Facts,
    ) -> Action<'a> {
        if self.is_connecting() {
            return Action::PutOff(Until::Answered);
        }
        match command {
            _ if self.is_refused() => Action::Ignore,
            Ok(command) => self.command(command, rules, facts),
            Err(Malformed::Unreadable { id, is_connect, .. } | Malformed::TooDeep { id, is_connect }) => {
                self.unusable(id, is_connect, facts)
            }
            Err(malformed) => self.close(ProtocolError::Malformed(malformed)),
        }
    }

    fn command<'a>(
        &mut self,
        Command { id, method }: Command<'a>,
        rules: Rules<'_>,
        facts: &Facts,
    ) -> Action<'a> {
        match method {
            Method::Connect(connect) => self.connect(id, connect, rules, facts),
            _ if !self.is_connected() => self.close(ProtocolError::NotConnected),
            Method::Pong => self.take_pong(),
            Method::Send { data } => self.send(data, rules, facts),
            _ if self.unanswered().contains(id) => repeated(),
            Method::Subscribe(subscribe) => self.subscribe(id, subscribe, rules, facts),
            Method::Unsubscribe { topic } => self.unsubscribe(id, &topic, rules, facts),
            Method::Publish { topic, data } => self.publish(id, topic, data, rules, facts),
            Method::Ask { topic, asked } => self.ask(id, topic, asked, rules, facts),
            Method::Rpc { method, data } => self.rpc(id, method, data, rules, facts),
            Method::Refresh { .. } => self.refresh(id, rules, facts),
            Method::RefreshSubscription { topic, .. } => {
                if self.unanswered().concerns(&topic) {
                    return Action::PutOff(Until::Answered);
                }
                self.refresh_subscription(id, &topic, rules, facts)
            }
            Method::Unavailable => Action::Refuse { id, error: ErrorCode::NotAvailable },
            Method::Unknown => Action::Refuse { id, error: ErrorCode::MethodNotFound },
        }
    }

    /// Decides about a command of which only the id can be used, and whether it is a connect.
    fn unusable<'a>(&mut self, id: u32, is_connect: bool, facts: &Facts) -> Action<'a> {
        let error = ErrorCode::BadRequest;
        match (self.is_connected(), is_connect) {
            (true, true) => self.close(ProtocolError::SecondConnect),
            (true, false) if self.unanswered().contains(id) => repeated(),
            (true, false) => Action::Refuse { id, error },
            (false, true) => self.refuse_connect(id, error, facts.now),
            (false, false) => self.close(ProtocolError::NotConnected),
        }
    }

    /// Closes the client for what it sent, when the commands before that have been answered.
    pub(super) fn close<'a>(&self, error: ProtocolError) -> Action<'a> {
        if self.has_unanswered() { Action::PutOff(Until::Answered) } else { Action::Close(error) }
    }

    fn take_pong<'a>(&mut self) -> Action<'a> {
        if self.pong() { Action::Pong } else { self.close(ProtocolError::UnexpectedPong) }
    }

    /// Commands about the same topic wait for each other.
    fn subscribe<'a>(
        &mut self,
        id: u32,
        command: Subscribe<'a>,
        rules: Rules<'_>,
        facts: &Facts,
    ) -> Action<'a> {
        if self.unanswered().concerns(&command.topic) {
            return Action::PutOff(Until::Answered);
        }
        let claims = match self.subscription_claims(&command.topic, rules, facts) {
            Ok(claims) => claims,
            Err(Unfit::Refused(error)) => return Action::Refuse { id, error },
            Err(Unfit::Closed(ProtocolError::InvalidToken(_))) => {
                return Action::Refuse { id, error: ErrorCode::PermissionDenied };
            }
            Err(Unfit::Closed(fault)) => return self.close(fault),
        };
        match self.check_subscribe(&command, claims.is_some(), rules, facts) {
            Err(error) => return Action::Refuse { id, error },
            Ok(Granted::AskBackend) if !facts.has_room => return Action::PutOff(Until::RequestHasRoom),
            Ok(Granted::AskBackend) => return Action::Call { id, asking: Asking::Subscribe(command) },
            Ok(Granted::Yes) => {}
        }
        let overrides = claims.map(|claims| claims.terms.overrides).unwrap_or_default();
        let wanted = Wanted::from(&command);
        let options = SubscribeOptions::granted(rules.namespace(&command.topic), overrides, wanted);
        if options.recover.is_some() && !facts.may_ask {
            return Action::PutOff(Until::Answered);
        }
        if let Some(claims) = claims {
            let renewal = rules.renewal(&rules.namespace(&command.topic).sub_refresh_hook, true);
            self.grant(id, &claims.terms, renewal, facts.now);
        }
        Action::Subscribe { id, topic: command.topic, options }
    }

    fn check_subscribe(
        &self,
        command: &Subscribe<'_>,
        has_token: bool,
        rules: Rules<'_>,
        facts: &Facts,
    ) -> Result<Granted, ErrorCode> {
        rules.check_topic(&command.topic)?;
        if facts.subscribed.is_some() {
            return Err(ErrorCode::AlreadySubscribed);
        }
        let subject = Subject { has_subscription_token: has_token, ..self.subject(facts) };
        let granted = rules.check_access(&command.topic, &subject)?;
        if command.unsupported {
            return Err(ErrorCode::NotAvailable);
        }
        check_epoch(command.recover.as_ref().map(|since| &*since.epoch))?;
        let has_history = rules.namespace(&command.topic).has_history();
        if command.recover.is_some() && command.rejects_unrecovered && !has_history {
            return Err(ErrorCode::UnrecoverablePosition);
        }
        // Those that it may get by commands under way count as well.
        if facts.subscriptions + self.unanswered().subscribes() >= rules.limits.topics_per_client {
            return Err(ErrorCode::LimitExceeded);
        }
        Ok(granted)
    }

    fn unsubscribe<'a>(&self, id: u32, topic: &str, rules: Rules<'_>, facts: &Facts) -> Action<'a> {
        if self.unanswered().concerns(topic) {
            return Action::PutOff(Until::Answered);
        }
        match rules.check_topic(topic) {
            // The topic's namespace may have been removed since the client subscribed.
            Err(error) if facts.subscribed.is_none() => Action::Refuse { id, error },
            _ => Action::Unsubscribe { id, topic: facts.subscribed },
        }
    }

    fn publish<'a>(
        &self,
        id: u32,
        topic: Cow<'a, str>,
        data: Option<&'a [u8]>,
        rules: Rules<'_>,
        facts: &Facts,
    ) -> Action<'a> {
        if self.unanswered().changes(&topic) {
            return Action::PutOff(Until::Answered);
        }
        let (granted, data) = match rules.check_publish(&topic, data, &self.subject(facts)) {
            Ok(checked) => checked,
            Err(error) => return Action::Refuse { id, error },
        };
        // One may always be under way, others as far as they have together no more than a message may have.
        if self.unanswered().publishing_bytes() > rules.limits.message_bytes.saturating_sub(data.len()) {
            return Action::PutOff(Until::Answered);
        }
        if !facts.has_room {
            return Action::PutOff(Until::RequestHasRoom);
        }
        match granted {
            Granted::Yes => Action::Publish { id, topic, data },
            Granted::AskBackend => Action::Call { id, asking: Asking::Publish { topic, data } },
        }
    }

    fn ask<'a>(
        &self,
        id: u32,
        topic: Cow<'a, str>,
        asked: Asked,
        rules: Rules<'_>,
        facts: &Facts,
    ) -> Action<'a> {
        if self.unanswered().concerns(&topic) {
            return Action::PutOff(Until::Answered);
        }
        if let Err(error) = rules.check_asked(&topic, &asked, &self.subject(facts)) {
            return Action::Refuse { id, error };
        }
        if !facts.may_ask {
            return Action::PutOff(Until::Answered);
        }
        if !facts.has_room {
            return Action::PutOff(Until::RequestHasRoom);
        }
        Action::Ask { id, topic, asked }
    }
}

/// A command with the id of one that waits for its answer is put off: its reply would be taken for the other's.
fn repeated<'a>() -> Action<'a> {
    Action::PutOff(Until::Answered)
}
