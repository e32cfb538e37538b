//! Handles the requests of shards and operators.

use std::sync::Arc;
use std::time::Instant;

use crate::domain::mail::{
    Answer, AnswerBudget, ClientKey, Mail, Numbered, Publish, PublishOutcome, PublishReply, ReplyAddress,
    ReplyTo, Request, ShardId, TopicName,
};
use crate::domain::reasons::{ErrorCode, UnsubscribeCode};

use super::backplane::event::{Coming, Removal};
use super::incoming::admissible;
use super::inlet::Requester;
use super::outbox::Recipients;
use super::payload::Undeliverable;
use super::topics::{Attachment, Full, Left};
use super::turn::{Broker, REQUESTS_PER_TURN};

/// The shards that get mail because of a request.
fn recipients(requester: Requester, request: &Request) -> Recipients {
    match (requester, request) {
        (
            _,
            Request::SurveyPart { .. } | Request::Withdraw { .. } | Request::Stop | Request::Drained { .. },
        ) => Recipients::Nobody,
        (Requester::Shard(shard), _) => Recipients::Shard(shard),
        (_, Request::Disconnect { shard, .. } | Request::Unsubscribe { client: Some((shard, _)), .. }) => {
            Recipients::Shard(*shard)
        }
        (
            _,
            Request::Unsubscribe { client: None, .. }
            | Request::Verifier(_)
            | Request::Reload(_)
            | Request::Survey(_),
        ) => Recipients::All,
        // The API's answer is no mail.
        (Requester::Operators, _) => Recipients::Nobody,
    }
}

impl Broker {
    pub(super) fn take_requests(&mut self) {
        for _ in 0..REQUESTS_PER_TURN {
            if !self.takes_requests() {
                return;
            }
            let Some((requester, request)) = self.inlet.take(|requester| self.outbox.may_ask(requester))
            else {
                return;
            };
            self.outbox.count_request(requester, recipients(requester, &request));
            self.request(request);
        }
    }

    /// Takes all requests that have come by now, when the engine has stopped.
    pub(super) fn take_last_requests(&mut self) {
        for _ in 0..self.inlet.len() {
            if let Some((_, request)) = self.inlet.take(|_| true) {
                self.request(request);
            }
        }
        self.confirms.tell();
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Attach { shard, topic: slot, variant, name } => {
                self.attach(name, Attachment { shard, variant, slot });
            }
            Request::Detach { shard, topic: slot, variant, name } => {
                self.detach(&name, Attachment { shard, variant, slot });
            }
            Request::Publish(publish) => self.publish(*publish),
            Request::Call(call) => self.begin_call(call),
            Request::Withdraw { shard, client, command } => {
                self.calls.withdraw((shard, client), command, Instant::now());
            }
            Request::Ask { question, budget } => self.answer_question(question, budget),
            Request::ReadHistory { topic, range, reply_to } => {
                reply_to.send(self.history_page(&topic, &range))
            }
            Request::RemoveHistory { topic, reply_to } => self.remove_history(&topic, reply_to),
            // There are no clients yet, and nobody takes mail.
            Request::Disconnect { .. } | Request::Unsubscribe { .. } if !self.stage.shards_run() => {}
            Request::Disconnect { shard, client, closing } => {
                self.outbox.push(shard, Mail::Disconnect { client, closing });
            }
            Request::Unsubscribe { client, topic } => self.unsubscribe(client, &topic),
            // It waits in their mailboxes if they do not run yet: keys that are dropped would be missing for long.
            Request::Verifier(verifier) => self.outbox.push_to_all(|| Mail::Verifier(verifier.clone())),
            Request::Reload(settings) => self.reload(settings),
            Request::Survey(answer) => {
                let shards = if self.stage.shards_run() { self.outbox.shards() } else { Vec::new() };
                let id = self.surveys.begin(answer, shards.len(), Instant::now());
                shards.into_iter().for_each(|shard| self.outbox.push(shard, Mail::Survey { id }));
            }
            Request::SurveyPart { id, topics, last } => self.surveys.part(id, topics, last),
            Request::Stop => self.begin_to_stop(),
            Request::Drained { shard } => self.drained(shard),
        }
    }

    /// Registers a shard for a topic. Where bindings follow the subscribers, messages of the topic may not have come to this
    /// node until now: what is kept of its history is incomplete then, and the shard is answered when they come.
    fn attach(&mut self, name: TopicName, attachment: Attachment) {
        // The namespace was removed by a reload that the shard had not taken yet.
        if self.topics.find(&name).is_none() && !self.namespaces.is_known(&name) {
            let failed = Mail::AttachFailed { topic: attachment.slot, error: ErrorCode::UnknownChannel };
            return self.outbox.push(attachment.shard, failed);
        }
        let Coming { is_new, is_awaited } = self.backplane.want(&name);
        if is_new && self.namespaces.options(self.namespaces.of(&name)).has_history() {
            self.history.miss(&name);
        }
        if is_awaited {
            self.topics.await_messages(name, attachment);
        } else {
            self.admit(&name, &[attachment]);
        }
    }

    /// Messages of a topic now come to this node.
    pub(super) fn arrived(&mut self, name: &TopicName) {
        let attachments = self.topics.end_awaiting(name);
        self.admit(name, &attachments);
    }

    /// Registers shards. Each shard's first batch of the topic is the first one in its mailbox after the
    /// answer.
    pub(super) fn admit(&mut self, name: &TopicName, attachments: &[Attachment]) {
        for &attachment in attachments {
            let namespaces = &self.namespaces;
            let attached = self.topics.attach(TopicName::clone(name), attachment, |name| namespaces.of(name));
            let topic = attachment.slot;
            let answer = match attached {
                Ok(()) => Mail::Attached { topic, position: self.position(name, attachment.variant.lane) },
                Err(Full) => {
                    self.backplane.leave(name);
                    Mail::AttachFailed { topic, error: ErrorCode::LimitExceeded }
                }
            };
            self.outbox.push(attachment.shard, answer);
        }
    }

    /// Messages of a topic do not come to this node, or no longer.
    pub(super) fn forbidden(&mut self, name: &TopicName) {
        for Attachment { shard, slot: topic, .. } in self.topics.end_awaiting(name) {
            self.outbox.push(shard, Mail::AttachFailed { topic, error: ErrorCode::PermissionDenied });
        }
        if self.topics.find(name).is_some() {
            self.unsubscribe(None, name);
        }
    }

    /// Removes a shard from a topic. Lines that wait for a topic without shards are dropped.
    fn detach(&mut self, name: &TopicName, attachment: Attachment) {
        if let Left::TopicGone(id) = self.topics.detach(name, attachment.shard, attachment.variant) {
            self.merge.forget(id).for_each(|tag| self.acks.release(tag));
            if !self.topics.is_awaited(name) {
                self.backplane.leave(name);
            }
        }
        self.outbox.push(attachment.shard, Mail::Detached { topic: attachment.slot });
    }

    fn unsubscribe(&mut self, client: Option<(ShardId, ClientKey)>, topic: &TopicName) {
        let code = UnsubscribeCode::Server;
        let mail = |client| Mail::Unsubscribe { client, topic: TopicName::clone(topic), code };
        match client {
            Some((shard, client)) => self.outbox.push(shard, mail(Some(client))),
            None => {
                self.outbox.push_to_all(|| mail(None));
                // They are in no list of subscribers yet. There are at most `limits.calls` of them.
                for (shard, client) in self.calls.subscribing(topic) {
                    self.outbox.push(shard, mail(Some(client)));
                }
            }
        }
    }

    /// Publishes. A publication that could not be delivered when it comes back from RabbitMQ is refused at once: now its
    /// sender can still be told. While the engine stops, every one is refused, and its sender knows that it can be sent to
    /// another engine.
    pub(super) fn publish(&mut self, publish: Publish) {
        let is_known = publish.topics.iter().all(|topic| self.namespaces.is_known(topic));
        let checked = publish.topics.iter().try_for_each(|topic| admissible(topic, &publish, self));
        let refused = match checked {
            _ if self.stage.is_stopping() => Err((publish, ErrorCode::TooManyRequests)),
            _ if !is_known => Err((publish, ErrorCode::UnknownChannel)),
            Ok(()) if publish.topics.is_empty() => Err((publish, ErrorCode::BadRequest)),
            Ok(()) => self.backplane.publish(publish),
            Err(
                Undeliverable::TooBig { .. }
                | Undeliverable::LineTooLong { .. }
                | Undeliverable::ClientInfo(_),
            ) => Err((publish, ErrorCode::LimitExceeded)),
            Err(_) => Err((publish, ErrorCode::BadRequest)),
        };
        if let Err((publish, error)) = refused {
            self.answer(publish.reply_to, Err(error.into()));
        }
    }

    /// Removes a history through the stream, if there is one, so that all nodes remove it. Otherwise each
    /// node has a history of its own.
    fn remove_history(&mut self, topic: &TopicName, reply_to: PublishReply) {
        if let Err(error) = self.must_have_history(topic) {
            return self.reply(reply_to, Err(error.into()));
        }
        match self.backplane.remove_history(topic, reply_to) {
            Ok(()) => {}
            Err((reply_to, Removal::Here)) => {
                self.history.remove(topic);
                self.reply(reply_to, Ok(Numbered::new()));
            }
            Err((reply_to, Removal::Refused(error))) => self.reply(reply_to, Err(error.into())),
        }
    }

    /// Tells the sender of a publish the result.
    pub(super) fn answer(&mut self, reply_to: PublishReply, outcome: PublishOutcome) {
        let counter = if outcome.is_ok() { &self.stats.confirmed } else { &self.stats.publish_failures };
        counter.add(1);
        self.reply(reply_to, outcome);
    }

    /// Answers a client's command.
    pub(super) fn answer_client(
        &mut self,
        to: ReplyAddress,
        budget: Option<Arc<AnswerBudget>>,
        answer: Answer,
    ) {
        self.outbox.push(to.shard, Mail::Answer { to, budget, answer });
    }

    fn reply(&mut self, reply_to: PublishReply, outcome: PublishOutcome) {
        match reply_to {
            ReplyTo::Client(to) => self.answer_client(to, None, outcome.into()),
            ReplyTo::Control(reply) => self.confirms.push(reply, outcome),
        }
    }
}
