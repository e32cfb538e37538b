//! Subscriptions: which client subscribes to what, and what the broker thread must know of it.
//!
//! A topic is attached to the shard with its first subscriber and detached after its last. A subscriber that
//! comes before the broker has answered waits with the topic, and sends no request of its own. A subscriber
//! of an attached topic is attached at its log's end at once.
//!
//! A client that wants to recover has a request of its own, once the topic is attached. The broker has the
//! history, and answers through the mailbox that publications come by. So the answer ends where the log does,
//! and the subscriber is attached there.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::codec::push::Push;
use crate::codec::reply::{Reply, Subscribed};
use crate::domain::encoding::Encoding;
use crate::domain::mail::{CommandKey, Lane, Question, Recover, Recovered, ReplyAddress, TopicSlot, Variant};
use crate::domain::position::Position;
use crate::domain::reasons::{CloseReason, ErrorCode, UnsubscribeCode};
use crate::net::stream::Stream;
use crate::session::options::SubscribeOptions;
use crate::session::{Pending, answers, reason_after};
use crate::shard::Shard;
use crate::shard::pending::PendingSubscriber;
use crate::shard::subscriptions::Subscription;
use crate::shard::topic::{Interest, Topic};
use crate::stats::Number;
use crate::transport::{Phase, Transport};

/// With a shorter `max_delay`, subscribers are not spread over lanes: each lane would have less than 10 ms of the delay,
/// hardly more than a turn of the shard takes.
const LANES_DELAY: Duration = Duration::from_millis(10 * Lane::COUNT as u64);

/// What became of a subscribe.
pub(super) enum Joined {
    /// Subscribed: the next publication is the first one that it receives.
    AtOnce,
    /// The broker's answer is awaited.
    Later,
    /// The queue of requests has no room now.
    NoRoom,
    /// It would take longer than an SDK waits. The SDK is to try again later.
    NotNow,
}

/// Whether a topic may be attached that the queue of requests has no room for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// No: the command is to be tried again.
    Needed,
    /// Yes: the command, or the connect that brings the subscription, has found room once. The topic is queued.
    Found,
}

impl<S: Stream, T: Transport> Shard<S, T> {
    /// Subscribes a client, at once or as soon as the broker has answered.
    pub(super) fn join(
        &mut self,
        slot: u32,
        name: &str,
        id: u32,
        options: SubscribeOptions,
        room: Room,
    ) -> Joined {
        let variant = self.variant_for(slot, name);
        // What follows may complete the connect that it is held for.
        let is_held = self.clients[slot].is_held();
        let topic = match self.topics.find(name, variant) {
            Some(topic) => topic,
            None if room == Room::Needed && !self.broker.requests.has_room() => return Joined::NoRoom,
            None => self.attach(name, variant),
        };
        let command = CommandKey { client: self.clients.key(slot), id };
        let pending = PendingSubscriber { command, options };
        if self.topics[topic].is_muted() && self.resync_takes_long() {
            return Joined::NotNow;
        }
        if self.topics[topic].interest() != Interest::Live || self.topics[topic].is_muted() {
            self.topics[topic].add_pending(pending);
        } else if pending.options.recover.is_some() {
            self.ask_to_recover(topic, pending);
            self.send_requests();
        } else {
            self.add_subscriber(topic, command);
            self.queue_subscribed(topic, command, &pending.options);
            return Joined::AtOnce;
        }
        if !is_held {
            self.clients[slot].session.asked(id, name, Pending::Subscribe);
        }
        Joined::Later
    }

    /// Asks the broker for the publications that a client missed.
    fn ask_to_recover(&mut self, slot: TopicSlot, PendingSubscriber { command, options }: PendingSubscriber) {
        let Some(resume) = options.recover else { unreachable!("only who recovers is asked for") };
        let reply_to = self.reply_address(command.client.slot, command.id);
        let topic = &mut self.topics[slot];
        topic.begin_recovery();
        let question = Recover {
            reply_to,
            topic: slot,
            variant: topic.variant(),
            name: topic.name().clone(),
            recoverable: options.recoverable,
            since: resume.since,
            rejects_unrecovered: resume.rejects_unrecovered,
            has_waited: false,
        };
        self.ask(Question::Recover(Box::new(question)));
    }

    /// Writes that a client is subscribed: the next publication is the first one after the topic's position.
    fn queue_subscribed(&mut self, topic: TopicSlot, command: CommandKey, options: &SubscribeOptions) {
        let position = self.topics[topic].position().cloned();
        self.put_subscribed(topic, command, answers::subscribed(options, position.as_ref()));
    }

    /// Writes that a client is subscribed: as the reply to a subscribe, or for the reply to the connect whose token brings
    /// the subscription.
    fn put_subscribed(&mut self, topic: TopicSlot, command: CommandKey, subscribed: Subscribed<'_>) {
        let slot = command.client.slot;
        let (ttl, data) = self.granted(slot, topic);
        let subscribed = Subscribed { ttl, data: data.as_deref(), ..subscribed };
        if self.clients[slot].is_held() {
            self.prepare(slot, topic, &subscribed);
        } else {
            self.put_reply(slot, command.id, &Reply::Subscribe(subscribed));
        }
    }

    /// In which variant the client in `slot` is sent the topic of this name, if it subscribes to it now.
    fn variant_for(&self, slot: u32, name: &str) -> Variant {
        let namespace = self.settings.namespaces.options(self.settings.namespaces.of(name));
        let deflates = self.clients[slot].transport.takes_compressed() && namespace.deflate;
        let spreads = namespace.max_delay.0 >= LANES_DELAY && self.is_crowd(name);
        Variant {
            encoding: Encoding::of(self.clients[slot].transport.codec(), deflates),
            lane: if spreads { Lane::of_client(slot) } else { Lane::FIRST },
        }
    }

    /// Whether a topic has so many subscribers that new ones are spread over the lanes. It stays so while there is another
    /// lane than the first. So a client that leaves and returns gets the same lane, and no publication twice: one that was
    /// sent in one lane may still wait in another.
    fn is_crowd(&self, name: &str) -> bool {
        let variants = self.topics.variants(name).map(|slot| &self.topics[slot]);
        let (audience, spread) = variants.fold((0, false), |(audience, spread), topic| {
            (audience + topic.audience(), spread || topic.variant().lane != Lane::FIRST)
        });
        spread || audience >= self.settings.budgets.crowd
    }

    /// The topic of this name, in the variant to which the client in `slot` subscribes.
    pub(super) fn subscribed(&self, slot: u32, name: &str) -> Option<TopicSlot> {
        let subscriptions = &self.clients[slot].subscriptions;
        self.topics.variants(name).find(|&topic| subscriptions.find(topic).is_some())
    }

    fn attach(&mut self, name: &str, variant: Variant) -> TopicSlot {
        let namespace = self.settings.namespaces.of(name);
        let topic = self.topics.insert(name.into(), namespace, variant);
        self.broker.requests.push_topic(topic);
        self.send_requests();
        topic
    }

    fn add_subscriber(&mut self, slot: TopicSlot, CommandKey { client, id }: CommandKey) {
        let (client, clients) = (client.slot, &mut self.clients);
        if clients[client].is_held() {
            clients[client].session.subscribed_by_server(slot, self.topics[slot].name());
        } else {
            clients[client].session.subscribed(id, slot);
        }
        clients[client].subscriptions.insert(Subscription { topic: slot, position: 0 });
        self.topics[slot].subscribe(client, |moved| {
            clients[moved.client].subscriptions.moved(slot, moved.position);
        });
        self.stats.subscriptions.add(1);
        self.namespace_subscriptions(slot).add(1);
    }

    /// What a token or a backend says to the client of a new subscription: in how many seconds it needs another token, and
    /// data. From here on it is timed, as it may also expire without the client being told.
    fn granted(&mut self, slot: u32, topic: TopicSlot) -> (Option<NonZeroU32>, Option<Box<str>>) {
        let now = self.now();
        let session = &mut self.clients[slot].session;
        let (ttl, data) = (session.ttl_of(topic, now), session.take_data_of(topic));
        if session.has_grants() {
            self.time(slot);
        }
        (ttl, data)
    }

    fn namespace_subscriptions(&self, topic: TopicSlot) -> &Number {
        self.stats.namespace_subscriptions.at(self.topics[topic].namespace().number())
    }

    /// Ends a subscription, if there is one. Returns whether there was. A started frame of its publications is still sent.
    pub(super) fn leave(&mut self, slot: u32, topic: TopicSlot) -> bool {
        let outgoing = self.clients[slot].outgoing.as_ref();
        if outgoing.and_then(|outgoing| outgoing.rest).is_some_and(|rest| rest.topic == topic) {
            self.own_rest(slot);
        }
        let Some(gone) = self.clients[slot].subscriptions.remove(topic) else { return false };
        self.clients[slot].session.unsubscribed(topic);
        let clients = &mut self.clients;
        self.topics[topic].unsubscribe(gone.position, |moved| {
            clients[moved.client].subscriptions.moved(topic, moved.position);
        });
        self.stats.subscriptions.sub(1);
        self.namespace_subscriptions(topic).sub(1);
        self.unmute_if_all_know(topic);
        if self.topics[topic].behind() == 0 && !self.topics[topic].is_in_rotation() {
            self.settle_log(topic);
        }
        self.detach_if_deserted(topic);
        true
    }

    /// When all subscribers have been told of a topic's new numbering, subscribes the clients that returned meanwhile.
    fn unmute_if_all_know(&mut self, slot: TopicSlot) {
        if self.topics[slot].unmute_if_empty() {
            self.admit_pending(slot);
        }
    }

    /// Ends all subscriptions of a client.
    pub(super) fn leave_all_topics(&mut self, slot: u32) {
        self.own_rest(slot);
        while let Some(&last) = self.clients[slot].subscriptions.as_slice().last() {
            self.leave(slot, last.topic);
        }
    }

    /// Ends a subscription and tells the client why. The SDK decides by the code what to do. It would not ask for one that
    /// the server has made, so that the client is closed where it has to come again.
    pub(super) fn end_subscription(&mut self, slot: u32, topic: TopicSlot, code: UnsubscribeCode) {
        let client = &self.clients[slot];
        let comes_again = code == UnsubscribeCode::InsufficientState || client.is_held();
        if comes_again && client.session.is_server_side(topic) {
            return self.close(slot, CloseReason::InsufficientState);
        }
        let name = self.topics[topic].name().clone();
        if self.leave(slot, topic) && !self.clients[slot].has_ended() {
            self.queue_push(slot, &Push::Unsubscribe { topic: &name, code });
            self.visit(slot);
        }
    }

    pub(super) fn detach_if_deserted(&mut self, slot: TopicSlot) {
        if self.topics[slot].begin_detaching() {
            self.broker.requests.push_topic(slot);
        }
    }

    /// The broker has registered this shard for a topic: clients that waited are subscribed at the log's end, or their
    /// recovery is asked for. Or the topic has a new numbering.
    pub(super) fn attached(&mut self, slot: TopicSlot, position: Option<Position>) {
        if self.topics[slot].attached(position) {
            self.admit_pending(slot);
        }
    }

    /// Subscribes the clients that waited for a topic.
    fn admit_pending(&mut self, slot: TopicSlot) {
        // The client that has just left the topic may have further replies in the message at hand.
        let lines_before = std::mem::take(&mut self.lines);
        let pending = self.topics[slot].take_pending();
        let present = pending.into_iter().filter(|pending| self.is_still_pending(pending.command));
        let (recovering, others): (Vec<_>, Vec<_>) =
            present.partition(|pending| pending.options.recover.is_some());
        // All of them first: a reply can end a connection, which may be the last subscriber's.
        for pending in &others {
            self.add_subscriber(slot, pending.command);
        }
        for pending in recovering {
            self.ask_to_recover(slot, pending);
        }
        for PendingSubscriber { command, options } in others {
            if self.is_still_pending(command) {
                self.queue_subscribed(slot, command, &options);
                self.send_reply(command);
            }
        }
        self.lines = lines_before;
        self.detach_if_deserted(slot);
    }

    /// The broker has answered a recovery.
    pub(super) fn recovered(&mut self, command: CommandKey, recovered: Recovered) {
        let topic = recovered.topic;
        self.topics[topic].end_recovery();
        if self.is_still_pending(command) {
            if self.topics[topic].is_muted() {
                // The topic has a new numbering, and the answer may be of the former one. It is asked for again when
                // all subscribers have been told.
                self.topics[topic].add_pending(PendingSubscriber::again(command, recovered));
            } else {
                match answers::recovered(&recovered) {
                    Ok(subscribed) => self.add_recovered(topic, command, subscribed),
                    Err(error) => self.refuse_subscription(command, error),
                }
            }
        }
        self.detach_if_deserted(topic);
    }

    /// Subscribes a client that recovers, at the log's end: the answer has all publications before it.
    fn add_recovered(&mut self, topic: TopicSlot, command: CommandKey, subscribed: Subscribed<'_>) {
        self.add_subscriber(topic, command);
        self.put_subscribed(topic, command, subscribed);
        self.send_reply(command);
    }

    /// Tells a client that it is not subscribed to a topic that it waited for.
    fn refuse_subscription(&mut self, command: CommandKey, error: ErrorCode) {
        if self.clients[command.client.slot].is_held() {
            self.fail_connect(command.client.slot, &Reply::Error(error), reason_after(error));
        } else {
            self.reply(command, &Reply::Error(error));
        }
    }

    /// The broker could not register this shard for a topic: clients that waited are told, and the slot is free.
    pub(super) fn attach_failed(&mut self, slot: TopicSlot, error: ErrorCode) {
        for PendingSubscriber { command, .. } in self.free(slot).take_pending() {
            if self.is_still_pending(command) {
                self.refuse_subscription(command, error);
            }
        }
    }

    /// The broker has ended the registration: the slot is free, unless a client wants the topic again.
    pub(super) fn detached(&mut self, slot: TopicSlot) {
        if self.topics[slot].has_pending() {
            self.topics[slot].attach_again();
            self.broker.requests.push_topic(slot);
            return;
        }
        self.free(slot);
    }

    /// Removes a topic without subscribers, with its log if it still has one.
    fn free(&mut self, slot: TopicSlot) -> Topic {
        if self.topics[slot].is_in_rotation() {
            self.delivery.forget_topic(slot);
        }
        self.free_log(slot);
        self.topics.remove(slot)
    }

    /// Where the broker thread is to send the answer to a command.
    pub(super) fn reply_address(&self, slot: u32, id: u32) -> ReplyAddress {
        let command = CommandKey { client: self.clients.key(slot), id };
        ReplyAddress { shard: self.identity.shard, command, codec: self.clients[slot].transport.codec() }
    }

    /// Whether the client of a command is still there, and waits for its answer.
    pub(super) fn is_still_pending(&self, CommandKey { client, id }: CommandKey) -> bool {
        self.clients
            .find(client)
            .is_some_and(|client| client.transport.phase() == Phase::Open && client.session.awaits(id))
    }

    /// Answers a command that waited for the broker, and lets the client's next command have its turn.
    pub(super) fn reply(&mut self, to: CommandKey, reply: &Reply<'_>) {
        self.put_reply(to.client.slot, to.id, reply);
        self.send_reply(to);
    }

    /// The same, for a reply that is written already.
    pub(super) fn send_reply(&mut self, to: CommandKey) {
        let slot = to.client.slot;
        if self.clients[slot].is_held() {
            return self.continue_connect(slot);
        }
        self.clients[slot].answered(to.id);
        self.flush_lines(slot);
        self.visit(slot);
        if self.clients[slot].is_stalled() {
            self.readable(slot);
        }
    }
}
