//! Who subscribes to what, and what the broker must know of it.
//!
//! A topic is attached to the shard with its first subscriber and detached after its last. Whoever comes
//! while the broker has not answered waits with the topic, not each with a request of its own; whoever comes
//! to a live topic is attached at its log's end at once.

use std::time::Duration;

use crate::mail::{Encoding, Lane, Request, TopicSlot, Variant};
use crate::protocol::codes::{ErrorCode, UnsubscribeCode};
use crate::protocol::{push, reply};
use crate::session::Phase;
use crate::shard::clients::{Subscription, Unanswered, Waiting};
use crate::shard::topics::{Applicant, Interest};
use crate::shard::{Application, Shard, Socket};

/// Where publications wait for each other for less, a crowd is not spread over lanes: each would have less than
/// 10 ms of the delay, which is not much more than a shard's turn takes.
const LANES_DELAY: Duration = Duration::from_millis(10 * Lane::COUNT as u64);

/// What became of an application.
pub(super) enum Joined {
    /// Subscribed: the next publication is the first one it gets.
    AtOnce,
    /// The broker was asked, or was asked before.
    Later,
    /// There is no room for the question now.
    NoRoom,
}

impl<S: Socket, A: Application> Shard<S, A> {
    /// Subscribes a client, at once or as soon as the broker has answered.
    pub(super) fn join(&mut self, slot: u32, name: &str, command: u32) -> Joined {
        let variant = self.variant_for(slot, name);
        let topic = match self.topics.find(name, variant) {
            Some(topic) => topic,
            None if self.requests.room() == 0 => return Joined::NoRoom,
            None => self.attach(name, variant),
        };
        if self.topics[topic].interest == Interest::Live {
            self.add_subscriber(topic, slot);
            return Joined::AtOnce;
        }
        let client = self.clients.key(slot);
        self.topics[topic].apply(Applicant { client, command });
        self.wait_for(slot, name, command);
        Joined::Later
    }

    /// Notes that a command about a topic waits for the broker.
    pub(super) fn wait_for(&mut self, slot: u32, name: &str, command: u32) {
        let topic = self.topics.hash(name);
        let waiting = self.clients[slot].waiting.get_or_insert_with(|| Box::new(Waiting::default()));
        waiting.unanswered.push(Unanswered { topic, command });
    }

    /// In which variant the client in `slot` is sent the topic of this name, if it subscribes to it now.
    fn variant_for(&self, slot: u32, name: &str) -> Variant {
        let namespace = self.namespaces.options(self.namespaces.of(name));
        let deflates = self.deflate(slot).deflates() && namespace.deflate;
        let encoding = if deflates { Encoding::Deflated } else { Encoding::Json };
        let spreads = namespace.max_delay.0 >= LANES_DELAY && self.is_crowd(name);
        Variant { encoding, lane: if spreads { Lane::of_client(slot) } else { Lane::FIRST } }
    }

    /// Whether a topic has so many subscribers that more of them are spread over the lanes. It stays so while
    /// there is another lane than the first: who leaves and comes back gets into the same lane, and nothing
    /// twice that waits in one lane and was sent in another.
    fn is_crowd(&self, name: &str) -> bool {
        let variants = self.topics.variants(name).map(|slot| &self.topics[slot]);
        let (audience, spread) = variants.fold((0, false), |(audience, spread), topic| {
            (audience + topic.audience(), spread || topic.variant.lane != Lane::FIRST)
        });
        spread || audience >= self.budgets.crowd
    }

    /// The topic of this name, in the variant to which the client in `slot` subscribes.
    pub(super) fn subscribed(&self, slot: u32, name: &str) -> Option<TopicSlot> {
        let subscriptions = &self.clients[slot].subscriptions;
        self.topics.variants(name).find(|&topic| subscriptions.find(topic).is_some())
    }

    fn attach(&mut self, name: &str, variant: Variant) -> TopicSlot {
        let namespace = self.namespaces.of(name);
        let topic = self.topics.insert(name.into(), namespace, variant);
        self.owed.push_back(topic);
        self.tell_the_broker();
        topic
    }

    fn add_subscriber(&mut self, slot: TopicSlot, client: u32) {
        let clients = &mut self.clients;
        clients[client].subscriptions.insert(Subscription { topic: slot, position: 0 });
        self.topics[slot].subscribe(client, |moved| {
            clients[moved.client].subscriptions.moved(slot, moved.position);
        });
        self.stats.subscriptions.add(1);
    }

    /// Ends a subscription, if there is one. What was begun of its publications is still sent.
    pub(super) fn leave(&mut self, slot: u32, topic: TopicSlot) -> bool {
        let outgoing = self.clients[slot].outgoing.as_ref();
        if outgoing.and_then(|outgoing| outgoing.rest).is_some_and(|rest| rest.topic == topic) {
            self.own_rest(slot);
        }
        let Some(gone) = self.clients[slot].subscriptions.remove(topic) else { return false };
        let clients = &mut self.clients;
        self.topics[topic].unsubscribe(gone.position, |moved| {
            clients[moved.client].subscriptions.moved(topic, moved.position);
        });
        self.stats.subscriptions.sub(1);
        if self.topics[topic].behind() == 0 && !self.topics[topic].in_round {
            self.settle_log(topic);
        }
        self.detach_if_deserted(topic);
        true
    }

    /// Ends all subscriptions of a client.
    pub(super) fn leave_all_topics(&mut self, slot: u32) {
        self.own_rest(slot);
        while let Some(&last) = self.clients[slot].subscriptions.as_slice().last() {
            self.leave(slot, last.topic);
        }
    }

    /// Ends a subscription and tells the client why; the SDK decides by the code what to do.
    pub(super) fn end_subscription(&mut self, slot: u32, topic: TopicSlot, code: UnsubscribeCode) {
        let name = self.topics[topic].name.clone();
        if self.leave(slot, topic) && !self.clients[slot].dead {
            let mut line = Vec::new();
            push::unsubscribe(&mut line, &name, code);
            self.answer(slot, crate::wire::encode::Opcode::Text, &line);
            self.visit(slot);
        }
    }

    fn detach_if_deserted(&mut self, slot: TopicSlot) {
        let topic = &mut self.topics[slot];
        if topic.interest == Interest::Live && topic.subscribers().is_empty() {
            topic.interest = Interest::Detaching;
            self.owed.push_back(slot);
        }
    }

    /// Sends what the broker is owed about topics, as far as there is room, and wakes it if it was told
    /// anything.
    pub(super) fn tell_the_broker(&mut self) {
        let mut told = false;
        while let Some(&slot) = self.owed.front() {
            let Some(topic) = self.topics.get(slot) else {
                unreachable!("a topic stays until the broker's last word")
            };
            let (shard, variant, name) = (self.id, topic.variant, topic.name.clone());
            let request = match topic.interest {
                Interest::Attaching => Request::Attach { shard, topic: slot, variant, name },
                Interest::Detaching => Request::Detach { shard, topic: slot, variant, name },
                Interest::Live => unreachable!("nothing is owed about a live topic"),
            };
            if self.requests.push(request).is_err() {
                break;
            }
            told = true;
            self.owed.pop_front();
        }
        if told {
            self.requests.notify();
        }
    }

    /// The broker has registered this shard for a topic: whoever waited is attached at the log's end.
    pub(super) fn attached(&mut self, slot: TopicSlot) {
        self.topics[slot].interest = Interest::Live;
        let mut applicants = self.topics[slot].take_applicants();
        applicants.retain(|&applicant| self.has_applied(applicant));
        // All of them first: a reply can end its connection, and the last subscriber with it.
        for applicant in &applicants {
            self.add_subscriber(slot, applicant.client.slot);
        }
        for applicant in applicants {
            if self.has_applied(applicant) {
                self.reply(applicant, |out, id| reply::empty(out, id, "subscribe"));
            }
        }
        self.detach_if_deserted(slot);
    }

    /// The broker has not: whoever waited is told, and the slot is free.
    pub(super) fn attach_failed(&mut self, slot: TopicSlot, error: ErrorCode) {
        for applicant in self.topics.remove(slot).take_applicants() {
            if self.has_applied(applicant) {
                self.reply(applicant, |out, id| reply::error(out, id, error));
            }
        }
    }

    /// The broker's last word: the slot is free, unless somebody came meanwhile.
    pub(super) fn detached(&mut self, slot: TopicSlot) {
        if self.topics[slot].has_applicants() {
            self.topics[slot].interest = Interest::Attaching;
            self.owed.push_back(slot);
            return;
        }
        if self.topics[slot].in_round {
            self.round.retain(|&other| other != slot);
        }
        self.free_log(slot);
        self.topics.remove(slot);
    }

    fn has_applied(&self, applicant: Applicant) -> bool {
        self.clients.find(applicant.client).is_some_and(|client| client.session.phase == Phase::Open)
    }

    /// Answers a command that waited for the broker, and lets the client's next command have its turn.
    pub(super) fn reply(&mut self, to: Applicant, write: impl FnOnce(&mut Vec<u8>, u32)) {
        let slot = to.client.slot;
        self.clients[slot].answered(to.command);
        write(&mut self.lines, to.command);
        self.lines.push(b'\n');
        self.flush_lines(slot);
        if self.clients[slot].held_up {
            self.readable(slot);
        }
    }
}
