//! What the application's backend is asked on behalf of a client: its requests and messages, and, by hooks, whether it may
//! connect, subscribe and publish, and for how long. Without a hook, none of this costs anything.

use std::borrow::Cow;
use std::sync::Arc;

use crate::auth::{ConnectionClaims, SubscriptionTerms};
use crate::domain::call::{Caller, Header};
use crate::domain::mail::TopicSlot;
use crate::domain::reasons::ErrorCode;
use crate::session::action::{Action, Asking, ProtocolError, Until};
use crate::session::expiry::{End, Now};
use crate::session::identity::Identity;
use crate::session::options::{SubscribeOptions, Wanted};
use crate::session::rare::Subscribing;
use crate::session::rules::{Facts, Rules};
use crate::session::{Pending, Session};

/// Bytes of a method's name, at most: with `rpc.` before it, it is a routing key of AMQP, which has up to 255 bytes
/// (AMQP 0-9-1, section 4.2.5.3).
const METHOD_BYTES: usize = 251;

impl Session {
    pub(super) fn rpc<'a>(
        &self,
        id: u32,
        method: Cow<'a, str>,
        data: Option<&'a [u8]>,
        rules: Rules<'_>,
        facts: &Facts,
    ) -> Action<'a> {
        let (data, limits) = (data.unwrap_or_default(), rules.limits);
        if method.len() > METHOD_BYTES {
            return Action::Refuse { id, error: ErrorCode::BadRequest };
        }
        if rules.rpc.backend(&method).is_none() {
            return Action::Refuse { id, error: ErrorCode::NotAvailable };
        }
        let (count, bytes) = self.unanswered().rpcs();
        if count >= limits.rpcs_per_client {
            return Action::Refuse { id, error: ErrorCode::TooManyRequests };
        }
        // One may always be under way, others as far as they have together no more than a message may have.
        if bytes > limits.message_bytes.saturating_sub(data.len()) {
            return Action::PutOff(Until::Answered);
        }
        if !facts.has_room {
            return Action::PutOff(Until::RequestHasRoom);
        }
        Action::Call { id, asking: Asking::Rpc { method, data } }
    }

    pub(super) fn send<'a>(&self, data: Option<&'a [u8]>, rules: Rules<'_>, facts: &Facts) -> Action<'a> {
        if rules.rpc.send.is_empty() {
            return self.close(ProtocolError::Send);
        }
        if !facts.has_room {
            return Action::PutOff(Until::RequestHasRoom);
        }
        Action::Call { id: 0, asking: Asking::Send { data: data.unwrap_or_default() } }
    }

    /// Notes that the application's backend is asked on behalf of a command, with a call of so many bytes.
    pub fn called(&mut self, id: u32, asking: Asking<'_>, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        match asking {
            Asking::Send { .. } => {}
            Asking::Rpc { .. } => self.asked(id, "", Pending::Rpc(bytes)),
            Asking::Connect(command) => self.connect_is_asked(id, command),
            Asking::Subscribe(command) => {
                self.asked(id, &command.topic, Pending::Subscribe);
                let topic = (*command.topic).into();
                let subscribing = Subscribing { id, topic, wanted: Wanted::from(&command) };
                self.change_extra(|extra| extra.subscribing.push(subscribing));
            }
            Asking::Publish { topic, .. } => self.asked(id, &topic, Pending::PublishHook(bytes)),
        }
    }

    /// Decides about a subscribe that the application's backend has granted. The command counts as answered. Returns how
    /// the client is to be subscribed, or nothing if no such command waits.
    ///
    /// # Errors
    /// By the backend's answer, the subscription has expired already; or the configuration has changed meanwhile, and there
    /// may be no such topic any more.
    pub fn subscribe_answered(
        &mut self,
        id: u32,
        topic: &str,
        terms: &SubscriptionTerms,
        rules: Rules<'_>,
        now: Now,
    ) -> Option<Result<SubscribeOptions, ErrorCode>> {
        let wanted = self.take_wanted(id, topic)?;
        self.answered(id);
        if let Err(error) = rules.check_topic(topic) {
            return Some(Err(error));
        }
        if terms.has_ended(now.unix, rules.leeway) {
            return Some(Err(ErrorCode::Expired));
        }
        if !terms.is_plain() {
            let renewal = rules.renewal(&rules.namespace(topic).sub_refresh_hook, false);
            self.grant(id, terms, renewal, now);
        }
        Some(Ok(SubscribeOptions::granted(rules.namespace(topic), terms.overrides, wanted)))
    }

    fn take_wanted(&mut self, id: u32, topic: &str) -> Option<Wanted> {
        let is_meant = |one: &Subscribing| one.id == id && *one.topic == *topic;
        let at = self.extra()?.subscribing.iter().position(is_meant)?;
        Some(self.change_extra(|extra| extra.subscribing.swap_remove(at).wanted))
    }

    /// The subscribe to this topic that the application's backend is asked about, by the command's id.
    #[must_use]
    pub fn subscribe_asked_about(&self, topic: &str) -> Option<u32> {
        let found = self.extra()?.subscribing.iter().find(|one| *one.topic == *topic);
        found.map(|one| one.id)
    }

    /// Notes that the application's backend is asked for how long the connection may stay.
    pub fn connection_is_asked(&mut self) {
        if self.identity().is_some() {
            self.change_rare(|rare| rare.identity.iter_mut().for_each(Identity::is_asked));
        }
    }

    /// Takes the terms on which the application's backend lets an expired connection stay. Returns whether it may.
    pub fn connection_answered(
        &mut self,
        terms: Option<&ConnectionClaims>,
        rules: Rules<'_>,
        now: Now,
    ) -> bool {
        let is_awaited = self.identity().and_then(Identity::end).is_some_and(End::is_asked);
        match terms {
            // The client has sent another token meanwhile.
            _ if !is_awaited => true,
            Some(terms) if !terms.has_ended(now.unix, rules.leeway) => {
                self.prolong(terms, rules, now);
                true
            }
            _ => false,
        }
    }

    /// Takes the terms on which the application's backend lets an expired subscription stay. Returns whether it may.
    pub fn subscription_answered(
        &mut self,
        topic: TopicSlot,
        name: &str,
        terms: Option<&SubscriptionTerms>,
        rules: Rules<'_>,
        now: Now,
    ) -> bool {
        let is_awaited = self.end_of(topic).is_some_and(End::is_asked);
        match terms {
            // It is another subscription, or the client has sent another token meanwhile.
            _ if !is_awaited => true,
            Some(terms) if !terms.has_ended(now.unix, rules.leeway) => {
                let renewal = rules.renewal(&rules.namespace(name).sub_refresh_hook, false);
                self.prolong_subscription(topic, terms, renewal, now);
                true
            }
            _ => false,
        }
    }

    /// Keeps the headers that backends may be sent.
    pub fn keep_headers(&mut self, headers: Arc<[Header]>) {
        self.change_extra(|extra| extra.headers = Some(headers));
    }

    /// Those that are kept.
    #[must_use]
    pub fn headers(&self) -> Arc<[Header]> {
        self.extra().and_then(|extra| extra.headers.clone()).unwrap_or_default()
    }

    /// The client, as backends are told of it.
    #[must_use]
    pub fn caller(&self, client: Box<str>, transport: &'static str) -> Caller {
        let extra = self.extra();
        Caller {
            client,
            user: self.user().into(),
            meta: extra.and_then(|extra| extra.meta.clone()),
            headers: extra.and_then(|extra| extra.headers.clone()),
            transport,
        }
    }
}
