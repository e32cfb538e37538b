//! Carries out clients' messages: each command as the client's session decides.

use std::sync::Arc;

use crate::codec::command::{Command, Malformed, Method};
use crate::codec::reply::{Connected, EncodedSubscriptions, Refreshed, Reply};
use crate::domain::client_info::ClientInfo;
use crate::domain::mail::{Publish, Question, ReplyTo, Request, TopicQuestion, TopicSlot};
use crate::domain::reasons::ErrorCode;
use crate::net::stream::Stream;
use crate::session::action::{Accepted, Action, ProtocolError, Until};
use crate::session::expiry::Now;
use crate::session::options::SubscribeOptions;
use crate::session::rules::{Facts, Rules, Verdict};
use crate::session::{Pending, is_request};
use crate::shard::Shard;
use crate::shard::membership::{Joined, Room};
use crate::transport::{Message, Transport};

/// The engine's, as clients are told it.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What became of a command.
pub(super) enum Outcome {
    /// It is done, or its reply comes later.
    Done,
    /// It must wait for the answer to an earlier one, or for room.
    Wait,
    /// Its client's connect was refused. The commands behind it in its message are dropped.
    NotConnected,
    /// The connection is closing or has ended: nothing more is done for it.
    Closed,
}

impl<S: Stream, T: Transport> Shard<S, T> {
    /// Carries out a client's message.
    pub(super) fn message(&mut self, slot: u32, message: Message<'_>) {
        let bytes = match message {
            Message::Text(text) => return self.commands(slot, text.as_bytes()),
            Message::Binary(bytes) => bytes,
        };
        // Some clients send binary frames only, whatever their codec. They are answered in binary frames.
        let codec = self.clients[slot].transport.codec();
        if !codec.takes_binary(&bytes) {
            let fault = ProtocolError::OtherCodec(codec);
            return self.close_for(slot, fault.reason(), &fault);
        }
        // A client that has been answered in text can read it.
        if !self.clients[slot].session.is_connected() {
            self.clients[slot].transport.answer_in_bytes();
        }
        self.commands(slot, &bytes);
    }

    /// Carries out a message's commands, one after the other.
    pub(super) fn commands(&mut self, slot: u32, message: &[u8]) {
        let codec = self.clients[slot].transport.codec();
        let mut rest = Some(message);
        while let Some(commands) = rest {
            let (command, others) = codec.split(commands);
            match self.command(slot, command) {
                Outcome::Done => rest = others,
                Outcome::Wait => {
                    self.flush_lines(slot);
                    return self.put_off(slot, commands);
                }
                Outcome::NotConnected => break,
                Outcome::Closed => return self.lines.clear(),
            }
        }
        self.flush_lines(slot);
    }

    /// Keeps the rest of a message until its first command can have its turn.
    fn put_off(&mut self, slot: u32, rest: &[u8]) {
        let client = &mut self.clients[slot];
        if client.is_open() {
            client.set_stalled(true);
            let unfinished = client.unfinished.get_or_insert_default();
            unfinished.rest = Some(rest.into());
            unfinished.rest_since = self.input.turns.read_at;
        }
    }

    fn command(&mut self, slot: u32, bytes: &[u8]) -> Outcome {
        if self.share_is_used() {
            self.readable(slot);
            return Outcome::Wait;
        }
        if self.replies_wait(slot) {
            return Outcome::Wait;
        }
        self.use_share(bytes.len());
        // Sending its replies may have shown that it has gone.
        if !self.clients[slot].is_open() {
            return Outcome::Closed;
        }
        let codec = self.clients[slot].transport.codec();
        let command = codec.read(bytes, self.settings.limits.json_depth);
        if let Ok(Command { method: Method::Connect(connect), .. }) = &command {
            self.keep_headers_of_connect(slot, connect);
        }
        let verdict = command.as_ref().map_or(Verdict::None, |command| self.verdict(slot, command));
        let rules = self.settings.rules();
        let facts = self.facts(slot, command.as_ref(), rules, verdict);
        let action = self.clients[slot].session.handle(command, rules, &facts);
        let outcome = self.execute(slot, action);
        if matches!(outcome, Outcome::Done) {
            self.stats.commands.add(1);
        }
        outcome
    }

    /// What the client's session must know of this shard to decide about a command.
    fn facts(
        &self,
        slot: u32,
        command: Result<&Command<'_>, &Malformed>,
        rules: Rules<'_>,
        token: Verdict,
    ) -> Facts {
        let client = &self.clients[slot];
        let method = command.map(|command| &command.method);
        // The queue's state is shared with the broker thread: it is read only for commands that need it.
        let asks = method.is_ok_and(is_request);
        let topic = method.ok().and_then(|method| rules.subscription_asked(method));
        let names_client = matches!(&token, Verdict::Subscription(Ok(claims)) if claims.client.is_some());
        Facts {
            now: self.now(),
            token,
            client: names_client.then(|| self.client_id(slot).to_string().into()),
            subscribed: topic.and_then(|topic| self.subscribed(slot, topic)),
            subscriptions: client.subscriptions.as_slice().len(),
            may_ask: self.may_ask(slot),
            has_room: asks && self.broker.requests.has_room(),
            has_pings: client.transport.has_pings(),
        }
    }

    /// Whether more replies wait for the client than `limits.replies_bytes`. The replies of the message at hand are sent
    /// first.
    fn replies_wait(&mut self, slot: u32) -> bool {
        let waiting = self.lines.len() + self.clients[slot].reply_bytes();
        if waiting > self.settings.limits.replies_bytes / 2 {
            self.flush_lines(slot);
            self.visit(slot);
        }
        self.clients[slot].reply_bytes() > self.settings.limits.replies_bytes
    }

    /// Carries out what the session has decided about a command.
    pub(super) fn execute(&mut self, slot: u32, action: Action<'_>) -> Outcome {
        match action {
            Action::Pong => {
                self.clients[slot].reset_rechecks();
                Outcome::Done
            }
            Action::Refuse { id, error } => self.refuse_command(slot, id, error),
            Action::RefuseConnect { id, error } => {
                self.put_reply(slot, id, &Reply::Error(error));
                self.time(slot);
                Outcome::NotConnected
            }
            Action::Connect { id, accepted, data } => {
                self.connected(slot, id, accepted, data.as_deref(), EncodedSubscriptions::default());
                Outcome::Done
            }
            Action::Call { id, asking } => self.call(slot, id, asking),
            Action::ConnectAndSubscribe { id, subscriptions } => {
                self.connect_and_subscribe(slot, id, subscriptions)
            }
            Action::Refresh { id, ttl } => {
                let client = self.client_id(slot).to_string();
                self.put_reply(
                    slot,
                    id,
                    &Reply::Refresh(Refreshed { client: &client, version: VERSION, ttl }),
                );
                self.time(slot);
                Outcome::Done
            }
            Action::RefreshSubscription { id, ttl } => {
                self.put_reply(slot, id, &Reply::RefreshSubscription { ttl });
                self.time(slot);
                Outcome::Done
            }
            Action::Subscribe { id, topic, options } => self.subscribe(slot, id, &topic, options),
            Action::Unsubscribe { id, topic } => self.unsubscribe(slot, id, topic),
            Action::Publish { id, topic, data } => self.publish(slot, id, &topic, data),
            Action::Ask { id, topic, asked } => {
                self.clients[slot].session.asked(id, &topic, Pending::Question);
                let reply_to = self.reply_address(slot, id);
                let question = TopicQuestion { reply_to, topic: topic.into(), asked };
                self.ask(Question::Topic(Box::new(question)));
                self.send_requests();
                Outcome::Done
            }
            // The event that ends such a wait makes the client readable again.
            Action::PutOff(Until::Answered) => Outcome::Wait,
            Action::PutOff(Until::RequestHasRoom) => self.wait_for_room(slot),
            Action::Ignore => Outcome::NotConnected,
            Action::Close(fault) => {
                self.flush_lines(slot);
                self.close_for(slot, fault.reason(), &fault);
                Outcome::Closed
            }
        }
    }

    fn refuse_command(&mut self, slot: u32, id: u32, error: ErrorCode) -> Outcome {
        self.put_reply(slot, id, &Reply::Error(error));
        Outcome::Done
    }

    /// Answers a connect. The client's pings begin.
    pub(super) fn connected(
        &mut self,
        slot: u32,
        id: u32,
        Accepted { ping, pong, ttl }: Accepted,
        data: Option<&str>,
        subscriptions: EncodedSubscriptions<'_>,
    ) {
        let client = self.client_id(slot).to_string();
        let connected = Connected { client: &client, version: VERSION, ttl, ping, pong, data, subscriptions };
        self.put_reply(slot, id, &Reply::Connect(connected));
        self.begin_pings(slot);
    }

    /// The present on both clocks.
    pub(super) fn now(&self) -> Now {
        Now { moment: self.timers.now(), unix: self.unix }
    }

    fn subscribe(&mut self, slot: u32, id: u32, topic: &str, options: SubscribeOptions) -> Outcome {
        match self.join(slot, topic, id, options, Room::Needed) {
            Joined::AtOnce | Joined::Later => Outcome::Done,
            Joined::NoRoom => {
                self.clients[slot].session.answered(id);
                self.wait_for_room(slot)
            }
            Joined::NotNow => {
                self.clients[slot].session.answered(id);
                self.refuse_command(slot, id, ErrorCode::TooManyRequests)
            }
        }
    }

    fn unsubscribe(&mut self, slot: u32, id: u32, topic: Option<TopicSlot>) -> Outcome {
        if let Some(topic) = topic {
            self.leave(slot, topic);
        }
        // Its started frame may have exceeded `limits.rest_bytes`, which ends the connection.
        if !self.clients[slot].is_open() {
            return Outcome::Closed;
        }
        self.put_reply(slot, id, &Reply::Unsubscribe);
        Outcome::Done
    }

    fn publish(&mut self, slot: u32, id: u32, topic: &str, data: &[u8]) -> Outcome {
        let publish = self.publish_of(slot, id, topic, data);
        let weight = publish.weight();
        if !self.broker.requests.send(Request::Publish(Box::new(publish))) {
            return self.wait_for_room(slot);
        }
        let pending = Pending::Publish(u32::try_from(weight).unwrap_or(u32::MAX));
        self.clients[slot].session.asked(id, topic, pending);
        Outcome::Done
    }

    /// What a client publishes by the command with this id.
    pub(super) fn publish_of(&self, slot: u32, id: u32, topic: &str, data: &[u8]) -> Publish {
        let reply_to = ReplyTo::Client(self.reply_address(slot, id));
        let info = Some(Arc::new(self.client_info(slot, topic)));
        let (topics, data) = ([topic.into()].into(), data.into());
        Publish { reply_to, topics, data, id: None, key: None, info, skips_history: false }
    }

    /// The client as the subscribers of a topic see it.
    fn client_info(&self, slot: u32, topic: &str) -> ClientInfo {
        let session = &self.clients[slot].session;
        let subscription = if session.has_grants() { self.subscribed(slot, topic) } else { None };
        let json = |info: Option<&str>| info.unwrap_or_default().as_bytes().into();
        ClientInfo {
            user: session.user().into(),
            client: self.client_id(slot).to_string().into(),
            conn_info: json(session.info()),
            chan_info: json(subscription.and_then(|subscription| session.info_in(subscription))),
        }
    }

    /// The queue of requests is full: the command is tried again with the next tick.
    pub(super) fn wait_for_room(&mut self, slot: u32) -> Outcome {
        self.broker.requests.retry_client(slot);
        Outcome::Wait
    }
}
