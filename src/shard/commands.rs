//! Carries out clients' messages: the commands of the Centrifuge protocol.

use std::fmt::Display;

use crate::codec::command::{self, Command, Malformed, Method, Page, Subscribe};
use crate::codec::push::Push;
use crate::codec::reply::{Connected, Reply};
use crate::domain::mail::{Asker, History, HistoryAsker, Publish, Question, Request, Since};
use crate::domain::reasons::{CloseReason, ErrorCode};
use crate::domain::topic;
use crate::net::stream::Stream;
use crate::shard::Shard;
use crate::shard::client::Pending;
use crate::shard::membership::Joined;
use crate::shard::pending::{Resume, SubscribeOptions};
use crate::transport::{Message, Transport};

/// Bytes of an epoch, at most. Ours have 16, those of other engines seldom more.
const EPOCH_BYTES: usize = 128;

/// What is wrong with a second connect.
const SECOND_CONNECT: &str = "a second connect";
/// What is wrong with another command than a connect at first.
const NO_CONNECT: &str = "a command before connect";

/// What became of a command.
enum Outcome {
    /// It is done, or its answer comes later.
    Done,
    /// It must wait for the answer to an earlier one, or for room.
    Wait,
    /// It is a connect that failed: what follows it in its message made sense only after it.
    NotConnected,
    /// The connection is being closed, or is gone: no more is done for it, and nobody is left to be answered.
    Closed,
}

impl<S: Stream, T: Transport> Shard<S, T> {
    /// Does what a client's message says.
    pub(super) fn message(&mut self, slot: u32, message: Message<'_>) {
        let bytes = match message {
            Message::Text(text) => return self.commands(slot, text.as_bytes()),
            Message::Binary(bytes) => bytes,
        };
        // Some clients send bytes only, whatever their codec: they are answered in such.
        if !self.clients[slot].session.codec().takes_binary(&bytes) {
            return self.close_for(slot, CloseReason::InappropriateProtocol, &"bytes that are no JSON");
        }
        // Who has been answered in text can read it.
        if !self.clients[slot].session.connected {
            self.clients[slot].transport.answer_in_bytes();
        }
        self.commands(slot, &bytes);
    }
}

/// Refuses an epoch that is none of ours. Questions wait in the broker's mailbox, where they are bounded in number: so
/// each must be small.
fn check_epoch(since: Option<&command::Since<'_>>) -> Result<(), ErrorCode> {
    let is_ours = since.is_none_or(|since| since.epoch.len() <= EPOCH_BYTES);
    if is_ours { Ok(()) } else { Err(ErrorCode::BadRequest) }
}

impl<S: Stream, T: Transport> Shard<S, T> {
    /// Writes a reply behind those that the message at hand has brought so far.
    pub(super) fn put_reply(&mut self, slot: u32, id: u32, reply: &Reply<'_>) {
        self.clients[slot].session.codec().write_reply(&mut self.lines, id, reply);
    }

    /// Puts a push, as a message of its own, behind what waits for the client.
    pub(super) fn say_push(&mut self, slot: u32, push: &Push<'_>) {
        let codec = self.clients[slot].session.codec();
        // Replies that wait in the same memory stay there.
        let mut lines = std::mem::take(&mut self.lines);
        let start = lines.len();
        codec.write_push(&mut lines, push);
        self.say(slot, &lines[start..]);
        lines.truncate(start);
        self.lines = lines;
    }

    /// Puts the reply lines of the message at hand, as one frame, behind what waits for the client: the next visit sends it.
    pub(super) fn flush_lines(&mut self, slot: u32) {
        if !self.lines.is_empty() {
            let mut lines = std::mem::take(&mut self.lines);
            self.say(slot, &lines);
            lines.clear();
            self.lines = lines;
        }
    }
}

impl<S: Stream, T: Transport> Shard<S, T> {
    /// Does what a message's commands say, one after the other.
    pub(super) fn commands(&mut self, slot: u32, message: &[u8]) {
        let codec = self.clients[slot].session.codec();
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
            client.set_held_up(true);
            client.waiting.get_or_insert_default().backlog = Some(rest.into());
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
        // What was sent just now may have shown that it is gone.
        if !self.clients[slot].is_open() {
            return Outcome::Closed;
        }
        match self.clients[slot].session.codec().read(bytes) {
            Ok(command) => self.execute(slot, command, bytes),
            Err(Malformed::Unreadable { id, is_connect, .. }) => self.refuse_command(slot, id, is_connect),
            Err(error) => self.end(slot, CloseReason::BadRequest, &error),
        }
    }

    /// Answers a command whose fields are wrong.
    fn refuse_command(&mut self, slot: u32, id: u32, is_connect: bool) -> Outcome {
        match self.clients[slot].session.connected {
            true if is_connect => self.end(slot, CloseReason::BadRequest, &SECOND_CONNECT),
            true => self.answer_error(slot, id, ErrorCode::BadRequest),
            false if is_connect => {
                self.say_error(slot, id, ErrorCode::BadRequest);
                Outcome::NotConnected
            }
            false => self.end(slot, CloseReason::BadRequest, &NO_CONNECT),
        }
    }

    /// Whether more replies wait for the client than it may leave waiting. What the message at hand has
    /// brought so far is sent first.
    fn replies_wait(&mut self, slot: u32) -> bool {
        if self.lines.len() + self.clients[slot].reply_bytes() > self.limits.replies_bytes / 2 {
            self.flush_lines(slot);
            self.visit(slot);
        }
        self.clients[slot].reply_bytes() > self.limits.replies_bytes
    }

    fn execute(&mut self, slot: u32, command: Command<'_>, bytes: &[u8]) -> Outcome {
        let connected = self.clients[slot].session.connected;
        let id = command.id;
        let repeated = self.clients[slot].unanswered().iter().any(|one| one.command == id);
        let (codec, depth) = (self.clients[slot].session.codec(), self.limits.json_depth);
        if id > 0 && !repeated && codec.is_too_deep(&command, bytes, depth) {
            return self.refuse_command(slot, id, matches!(command.method, Method::Connect(_)));
        }
        let bad = CloseReason::BadRequest;
        match command.method {
            Method::Connect(_) if connected => return self.end(slot, bad, &SECOND_CONNECT),
            Method::Connect(_) => self.connect(slot, id),
            _ if !connected => return self.end(slot, bad, &NO_CONNECT),
            Method::Pong if self.pong(slot) => {}
            Method::Pong => return self.end(slot, bad, &"a pong without a ping"),
            Method::Send => return self.end(slot, CloseReason::NotAvailable, &"a send"),
            // Its answer would be taken for that of the other one.
            _ if repeated => return Outcome::Wait,
            Method::Subscribe(subscribe) => return self.subscribe(slot, id, &subscribe),
            Method::Unsubscribe { topic } => return self.unsubscribe(slot, id, &topic),
            Method::Publish { topic, data } => return self.publish(slot, id, &topic, data),
            Method::History { topic, page } => return self.history(slot, id, &topic, page),
            Method::Unavailable => self.say_error(slot, id, ErrorCode::NotAvailable),
            Method::Unknown => self.say_error(slot, id, ErrorCode::MethodNotFound),
        }
        self.stats.commands.add(1);
        Outcome::Done
    }

    /// Closes a client for what it sent, when the replies to its commands before that have gone out: those that wait
    /// for the broker's answer are waited for.
    fn end(&mut self, slot: u32, reason: CloseReason, fault: &dyn Display) -> Outcome {
        if !self.clients[slot].unanswered().is_empty() {
            return Outcome::Wait;
        }
        self.flush_lines(slot);
        self.close_for(slot, reason, fault);
        Outcome::Closed
    }

    fn connect(&mut self, slot: u32, id: u32) {
        let client = self.client_id(slot).to_string();
        let native = self.clients[slot].transport.has_pings();
        let connected = Connected {
            client: &client,
            version: env!("CARGO_PKG_VERSION"),
            ping: if native { 0 } else { u32::try_from(self.timeouts.ping.0.as_secs()).unwrap_or(u32::MAX) },
            pong: !native,
        };
        self.put_reply(slot, id, &Reply::Connect(connected));
        self.clients[slot].session.connected = true;
        self.begin_pings(slot);
    }

    fn subscribe(&mut self, slot: u32, id: u32, command: &Subscribe<'_>) -> Outcome {
        if self.is_busy(slot, &command.topic) {
            return Outcome::Wait;
        }
        if let Err(error) = self.may_subscribe(slot, command) {
            return self.answer_error(slot, id, error);
        }
        let options = self.options(command);
        if options.recover.is_some() && !self.may_ask(slot) {
            return Outcome::Wait;
        }
        match self.join(slot, &command.topic, id, options) {
            Joined::AtOnce | Joined::Later => self.done(),
            Joined::NoRoom => self.wait_for_room(slot),
            Joined::NotNow => self.answer_error(slot, id, ErrorCode::TooManyRequests),
        }
    }

    /// What the topic's namespace grants of what the client would like.
    fn options(&self, command: &Subscribe<'_>) -> SubscribeOptions {
        let namespace = self.namespaces.options(self.namespaces.of(&command.topic));
        if !namespace.has_history() {
            return SubscribeOptions {
                was_recovering: command.recover.is_some(),
                ..SubscribeOptions::default()
            };
        }
        let recover = command.recover.as_ref().map(|since| {
            Box::new(Resume {
                since: Since { epoch: since.epoch.as_ref().into(), offset: since.offset },
                rejects_unrecovered: command.rejects_unrecovered,
            })
        });
        let recoverable = namespace.force_recovery || command.recoverable || recover.is_some();
        let positioned = namespace.force_positioning || command.positioned || recoverable;
        SubscribeOptions { positioned, recoverable, recover, was_recovering: false }
    }

    fn may_subscribe(&self, slot: u32, command: &Subscribe<'_>) -> Result<(), ErrorCode> {
        self.check_topic(&command.topic)?;
        let client = &self.clients[slot];
        if self.subscribed(slot, &command.topic).is_some() {
            return Err(ErrorCode::AlreadySubscribed);
        }
        if command.unsupported {
            return Err(ErrorCode::NotAvailable);
        }
        check_epoch(command.recover.as_ref())?;
        let namespace = self.namespaces.options(self.namespaces.of(&command.topic));
        if command.recover.is_some() && command.rejects_unrecovered && !namespace.has_history() {
            return Err(ErrorCode::UnrecoverablePosition);
        }
        if client.topics() >= self.limits.topics_per_client {
            return Err(ErrorCode::LimitExceeded);
        }
        Ok(())
    }

    fn unsubscribe(&mut self, slot: u32, id: u32, topic: &str) -> Outcome {
        if self.is_busy(slot, topic) {
            return Outcome::Wait;
        }
        if let Err(error) = self.check_topic(topic) {
            return self.answer_error(slot, id, error);
        }
        if let Some(topic) = self.subscribed(slot, topic) {
            self.leave(slot, topic);
        }
        // It may have left behind more of a started frame than there is room for.
        if !self.clients[slot].is_open() {
            return Outcome::Closed;
        }
        self.put_reply(slot, id, &Reply::Unsubscribe);
        self.done()
    }

    fn publish(&mut self, slot: u32, id: u32, topic: &str, data: Option<&[u8]>) -> Outcome {
        if self.clients[slot].is_changing(self.topics.hash(topic)) {
            return Outcome::Wait;
        }
        let data = match self.may_publish(topic, data) {
            Ok(data) => data,
            Err(error) => return self.answer_error(slot, id, error),
        };
        // One may always be under way, others as far as they have together no more than a message may have.
        if self.clients[slot].publishing_bytes() > self.limits.message_bytes.saturating_sub(data.len()) {
            return Outcome::Wait;
        }
        if !self.requests.has_room() {
            return self.wait_for_room(slot);
        }
        let client = self.clients.key(slot);
        let asker = Asker::Client { shard: self.id, client, command: id };
        let publish = Publish { asker, topics: vec![topic.into()], data: data.into(), id: None, key: None };
        if !self.requests.send(Request::Publish(publish)) {
            return self.wait_for_room(slot);
        }
        let kind = Pending::Publish(u32::try_from(data.len()).unwrap_or(u32::MAX));
        self.wait_for(slot, topic, id, kind);
        self.done()
    }

    fn history(&mut self, slot: u32, id: u32, topic: &str, page: Page<'_>) -> Outcome {
        if self.is_busy(slot, topic) {
            return Outcome::Wait;
        }
        let allowed = self.may_read_history(topic).and_then(|()| check_epoch(page.since.as_ref()));
        if let Err(error) = allowed {
            return self.answer_error(slot, id, error);
        }
        if !self.may_ask(slot) {
            return Outcome::Wait;
        }
        if !self.requests.has_room() {
            return self.wait_for_room(slot);
        }
        let (client, codec) = (self.clients.key(slot), self.clients[slot].session.codec());
        let history = History {
            asker: HistoryAsker::Client { shard: self.id, client, command: id, codec, budget: None },
            topic: topic.into(),
            limit: u32::try_from(page.limit).ok(),
            since: page.since.map(|since| Since { epoch: since.epoch.into(), offset: since.offset }),
            reverse: page.reverse,
        };
        self.wait_for(slot, topic, id, Pending::History);
        self.ask(Question::History(Box::new(history)));
        self.send_requests();
        self.done()
    }

    fn may_read_history(&self, topic: &str) -> Result<(), ErrorCode> {
        self.check_topic(topic)?;
        let namespace = self.namespaces.options(self.namespaces.of(topic));
        match namespace.has_history() {
            true if namespace.client_history => Ok(()),
            true => Err(ErrorCode::PermissionDenied),
            false => Err(ErrorCode::NotAvailable),
        }
    }

    fn may_publish<'a>(&self, topic: &str, data: Option<&'a [u8]>) -> Result<&'a [u8], ErrorCode> {
        self.check_topic(topic)?;
        let namespace = self.namespaces.options(self.namespaces.of(topic));
        if !namespace.client_publish {
            return Err(ErrorCode::PermissionDenied);
        }
        let data = data.ok_or(ErrorCode::BadRequest)?;
        let own_limit = Some(namespace.publication_bytes).filter(|&limit| limit > 0);
        if data.len() > own_limit.unwrap_or(self.limits.publication_bytes) {
            return Err(ErrorCode::LimitExceeded);
        }
        Ok(data)
    }

    fn check_topic(&self, name: &str) -> Result<(), ErrorCode> {
        topic::check(name, self.limits.topic_bytes).map_err(|_| ErrorCode::BadRequest)?;
        if self.namespaces.is_known(name) { Ok(()) } else { Err(ErrorCode::UnknownChannel) }
    }

    /// Commands on the same topic wait for each other.
    fn is_busy(&self, slot: u32, topic: &str) -> bool {
        !self.clients[slot].unanswered().is_empty()
            && self.clients[slot].is_busy_with(self.topics.hash(topic))
    }

    /// The request queue is full: the client's input waits, and is tried again with the next tick.
    fn wait_for_room(&mut self, slot: u32) -> Outcome {
        self.requests.retry_client(slot);
        Outcome::Wait
    }

    fn done(&self) -> Outcome {
        self.stats.commands.add(1);
        Outcome::Done
    }

    fn answer_error(&mut self, slot: u32, id: u32, error: ErrorCode) -> Outcome {
        self.say_error(slot, id, error);
        self.done()
    }

    fn say_error(&mut self, slot: u32, id: u32, error: ErrorCode) {
        self.put_reply(slot, id, &Reply::Error(error));
    }
}
