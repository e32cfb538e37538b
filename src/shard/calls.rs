//! Calls to the application's backend, which the broker thread makes: what clients ask for, and what the engine asks about
//! them. The session decides what is asked, and what an answer means.

use std::sync::Arc;
use std::time::Duration;

use crate::auth::SubscriptionTerms;
use crate::base::moment::GRAIN;
use crate::codec::command::Connect;
use crate::codec::reply::{Failure, Reply};
use crate::config::Config;
use crate::domain::call::{
    BackendAnswer, BackendError, CallKind, ConnectTerms, ConnectionTerms, Header, Terms,
};
use crate::domain::mail::{Ask, Call, Called, CommandKey, Request, TopicName, TopicSlot};
use crate::domain::reasons::{CloseReason, ErrorCode, UnsubscribeCode};
use crate::net::stream::Stream;
use crate::session::action::Asking;
use crate::session::rules::Facts;
use crate::session::{reason_after, reason_after_failure};
use crate::shard::Shard;
use crate::shard::client::Client;
use crate::shard::commands::Outcome;
use crate::shard::membership::{Joined, Room};
use crate::transport::{Transport, upgrade};

/// Which headers of clients backends are sent. Names are in lower case.
#[derive(Debug, Default)]
pub(super) struct ForwardedHeaders {
    /// Of those of HTTP requests.
    of_requests: Vec<Box<str>>,
    /// Of those that clients say in their connect commands.
    of_commands: Vec<Box<str>>,
}

impl ForwardedHeaders {
    pub(super) fn new(config: &Config) -> Self {
        let mut all = Self::default();
        let lower = |name: &String| name.to_ascii_lowercase().into_boxed_str();
        for backend in config.backends.values() {
            all.of_requests.extend(backend.headers.iter().map(lower));
            all.of_commands.extend(backend.client_headers.iter().map(lower));
        }
        all.of_commands.sort_unstable();
        all.of_commands.dedup();
        all
    }

    /// Those of an HTTP request that begins with `head`.
    fn of_request(&self, head: &[u8]) -> impl Iterator<Item = Header> {
        upgrade::header_lines(head).filter_map(|(name, value)| {
            let known = self.of_requests.iter().find(|known| known.as_bytes().eq_ignore_ascii_case(name))?;
            Some(Header { name: known.clone(), value: value.into(), is_emulated: false })
        })
    }

    /// Those of a connect command: of each name the first, and all of them with at most `most` bytes. What cannot be the
    /// value of a header is passed over.
    fn of_command(&self, command: &Connect<'_>, most: usize) -> Vec<Header> {
        let mut left = most;
        let named = self.of_commands.iter().filter_map(|name| {
            let value = command.header(name).as_bytes();
            let is_text = value.iter().all(|&byte| byte == b'\t' || byte >= b' ' && byte != 0x7f);
            if value.is_empty() || !is_text {
                return None;
            }
            left = left.checked_sub(name.len() + value.len())?;
            Some(Header { name: name.clone(), value: value.into(), is_emulated: true })
        });
        named.collect()
    }
}

impl<S: Stream, T: Transport> Shard<S, T> {
    /// Keeps the headers of a client's HTTP request that backends are sent.
    pub(super) fn keep_headers_of_request(&mut self, slot: u32, head: &[u8]) {
        if !self.settings.headers.of_requests.is_empty() {
            let headers: Arc<[_]> = self.settings.headers.of_request(head).collect();
            self.keep_headers(slot, headers);
        }
    }

    /// The same for those of its connect command, which may come here several times until it has its turn.
    pub(super) fn keep_headers_of_connect(&mut self, slot: u32, command: &Connect<'_>) {
        if self.settings.headers.of_commands.is_empty() || self.clients[slot].session.is_connected() {
            return;
        }
        let before = self.clients[slot].session.headers();
        let of_request = before.iter().filter(|header| !header.is_emulated).cloned();
        let of_command = self.settings.headers.of_command(command, self.settings.limits.head_bytes);
        let all = of_request.chain(of_command).collect();
        self.keep_headers(slot, all);
    }

    fn keep_headers(&mut self, slot: u32, headers: Arc<[Header]>) {
        if !headers.is_empty() {
            self.clients[slot].session.keep_headers(headers);
        }
    }

    /// Asks the application's backend on behalf of a client's command.
    pub(super) fn call(&mut self, slot: u32, id: u32, asking: Asking<'_>) -> Outcome {
        let ask = self.ask_for(slot, id, &asking);
        let bytes = ask.weight();
        if !self.send_call(slot, id, ask) {
            return self.wait_for_room(slot);
        }
        self.clients[slot].session.called(id, asking, bytes);
        Outcome::Done
    }

    fn ask_for(&self, slot: u32, id: u32, asking: &Asking<'_>) -> Ask {
        let owned = |data: &Option<&[u8]>| data.map(Box::from);
        match asking {
            Asking::Rpc { method, data } => Ask::Rpc { method: (**method).into(), data: (*data).into() },
            Asking::Send { data } => Ask::Send { data: (*data).into() },
            Asking::Connect(Connect { name, version, data, resumed, .. }) => Ask::Connect {
                data: owned(data),
                name: name.as_deref().unwrap_or_default().into(),
                version: version.as_deref().unwrap_or_default().into(),
                topics: resumed.iter().map(|(topic, _)| Box::from(&**topic)).collect(),
            },
            Asking::Subscribe(command) => {
                Ask::Subscribe { topic: (*command.topic).into(), data: owned(&command.data) }
            }
            Asking::Publish { topic, data } => Ask::Publish(Box::new(self.publish_of(slot, id, topic, data))),
        }
    }

    /// How long a publish has waited since it was read: for its client's connect, or for others to the topic.
    fn waited(&self, ask: &Ask) -> Duration {
        let grains = self.timers.now().grains().saturating_sub(self.input.turns.read_at.grains());
        if ask.kind() == CallKind::Publish { GRAIN * grains } else { Duration::ZERO }
    }

    /// Sends a call to the broker thread. Returns false if its queue has no room.
    fn send_call(&self, slot: u32, id: u32, ask: Ask) -> bool {
        let client = self.client_id(slot).to_string().into();
        let caller = self.clients[slot].session.caller(client, T::NAME);
        let waited = self.waited(&ask);
        let call = Call { reply_to: self.reply_address(slot, id), caller, ask, waited };
        self.broker.requests.send(Request::Call(Box::new(call)))
    }

    /// Asks for how long a connection that has expired may stay. Without room, the next tick asks.
    pub(super) fn ask_about_connection(&mut self, slot: u32) {
        if self.send_call(slot, 0, Ask::Refresh) {
            self.clients[slot].session.connection_is_asked();
        }
    }

    /// The same for a subscription. Returns false without room.
    pub(super) fn ask_about_subscription(&mut self, slot: u32, topic: TopicSlot) -> bool {
        let ask = Ask::RefreshSubscription { topic: self.topics[topic].name().clone() };
        let is_sent = self.send_call(slot, 0, ask);
        if is_sent {
            self.clients[slot].session.subscription_is_asked(topic);
        }
        is_sent
    }

    /// Ends the session of a client that leaves. What the backend is asked about it need not be sent any more.
    pub(super) fn end_session(&mut self, slot: u32) {
        if self.clients[slot].session.end() {
            self.withdraw(slot, None);
        }
    }

    fn withdraw(&mut self, slot: u32, command: Option<u32>) {
        let (shard, client) = (self.identity.shard, self.clients.key(slot));
        self.broker.requests.withdraw(Request::Withdraw { shard, client, command });
    }

    /// An operator ends a subscription for which the backend is still asked: the subscribe is refused, whatever is answered.
    pub(super) fn refuse_asked_subscribe(&mut self, slot: u32, topic: &str) {
        let Some(id) = self.clients[slot].session.subscribe_asked_about(topic) else { return };
        self.withdraw(slot, Some(id));
        let to = CommandKey { client: self.clients.key(slot), id };
        self.reply(to, &Reply::Error(ErrorCode::PermissionDenied));
    }

    /// Takes the answer to a call. Nobody waits for it if the client is leaving.
    pub(super) fn called(&mut self, to: CommandKey, Called { kind, topic, outcome }: Called) {
        if !self.clients.find(to.client).is_some_and(Client::is_open) {
            return;
        }
        if kind == CallKind::Subscribe && !self.is_still_pending(to) {
            // An operator has ended it meanwhile.
            return;
        }
        match outcome {
            Ok(BackendAnswer::Granted(terms)) => self.granted_by_backend(to, topic.as_ref(), terms),
            Ok(BackendAnswer::Close(closing)) => self.disconnect(to.client, &closing),
            Ok(BackendAnswer::Error(BackendError { code, message, is_temporary })) => {
                let failure = Failure { code, message: &message, is_temporary };
                let reason = reason_after_failure(is_temporary);
                self.call_failed(to, kind, topic.as_ref(), &Reply::Failed(failure), reason);
            }
            Err(error) => {
                self.call_failed(to, kind, topic.as_ref(), &Reply::Error(error), reason_after(error))
            }
        }
    }

    fn granted_by_backend(&mut self, to: CommandKey, topic: Option<&TopicName>, terms: Terms) {
        match (terms, topic) {
            (Terms::Rpc { data }, _) => self.reply_if_pending(to, &Reply::Rpc { data: &data }),
            (Terms::Connect(terms), _) => self.connect_answered(to.client.slot, terms.as_deref()),
            (Terms::Subscribe(terms), Some(topic)) => self.subscribe_answered(to, topic, &terms),
            (Terms::Refresh(terms), _) => self.connection_answered(to.client.slot, terms.as_deref()),
            (Terms::RefreshSubscription(terms), Some(topic)) => {
                self.subscription_answered(to.client.slot, topic, terms.as_deref());
            }
            // The publish itself has another answer, and a message has none.
            (Terms::Publish(_) | Terms::Send, _) => {}
            (Terms::Subscribe(_) | Terms::RefreshSubscription(_), None) => {
                unreachable!("what is said about a subscription names its topic")
            }
        }
    }

    fn call_failed(
        &mut self,
        to: CommandKey,
        kind: CallKind,
        topic: Option<&TopicName>,
        reply: &Reply<'_>,
        reason: CloseReason,
    ) {
        match (kind, topic) {
            (CallKind::Connect, _) => self.fail_connect(to.client.slot, reply, reason),
            (CallKind::Refresh, _) => self.connection_answered(to.client.slot, None),
            (CallKind::RefreshSubscription, Some(topic)) => {
                self.subscription_answered(to.client.slot, topic, None);
            }
            _ => self.reply_if_pending(to, reply),
        }
    }

    fn reply_if_pending(&mut self, to: CommandKey, reply: &Reply<'_>) {
        if self.is_still_pending(to) {
            self.reply(to, reply);
        }
    }

    fn connect_answered(&mut self, slot: u32, terms: Option<&ConnectTerms>) {
        let has_pings = self.clients[slot].transport.has_pings();
        let facts = Facts { now: self.now(), has_pings, ..Facts::default() };
        let session = &mut self.clients[slot].session;
        if let Some(action) = session.connect_answered(terms, self.settings.rules(), &facts) {
            self.execute(slot, action);
            if self.clients[slot].is_open() {
                self.send_connect_reply(slot);
            }
        }
    }

    /// Subscribes a client as the backend has said. A topic that has to be attached for it waits for room, as this command
    /// has found room once.
    fn subscribe_answered(&mut self, to: CommandKey, topic: &str, terms: &SubscriptionTerms) {
        let (slot, now) = (to.client.slot, self.now());
        let session = &mut self.clients[slot].session;
        let options = session.subscribe_answered(to.id, topic, terms, self.settings.rules(), now);
        let options = match options {
            Some(Ok(options)) => options,
            Some(Err(error)) => return self.reply(to, &Reply::Error(error)),
            None => return,
        };
        match self.join(slot, topic, to.id, options, Room::Found) {
            Joined::Later => {}
            Joined::AtOnce => self.send_reply(to),
            Joined::NotNow => self.reply(to, &Reply::Error(ErrorCode::TooManyRequests)),
            Joined::NoRoom => unreachable!("room was found with the call"),
        }
    }

    fn connection_answered(&mut self, slot: u32, terms: Option<&ConnectionTerms>) {
        let now = self.now();
        if self.clients[slot].session.connection_answered(terms, self.settings.rules(), now) {
            self.time(slot);
        } else {
            self.close(slot, CloseReason::Expired);
        }
    }

    fn subscription_answered(&mut self, slot: u32, name: &str, terms: Option<&SubscriptionTerms>) {
        let Some(topic) = self.subscribed(slot, name) else { return };
        let now = self.now();
        let session = &mut self.clients[slot].session;
        if session.subscription_answered(topic, name, terms, self.settings.rules(), now) {
            self.time(slot);
        } else {
            self.end_subscription(slot, topic, UnsubscribeCode::Expired);
        }
    }
}
