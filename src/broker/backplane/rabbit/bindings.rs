//! The bindings that the node's own queue has and should have, if they follow the subscribers (`amqp.bindings
//! = "dynamic"`). No clock and no socket: time is an argument, and the caller asks for the next order.
//!
//! A topic is *wanted* from its first subscriber until a while after its last. It is bound by its own name
//! while there are few bindings: to remove one, lapin searches all of them. Beyond that, a topic is bound by
//! its bucket: by its first word (`order.#` for `order.42`), and by `#` if it has only one word, or there are
//! too many buckets. A topic keeps its binding, so that no change loses a message. Once few topics are left,
//! those in buckets get bindings of their own.
//!
//! RabbitMQ carries out orders in sequence, so a topic whose binding changes is never without one. So each
//! [`Order`] needs only a number: a binding exists once RabbitMQ has answered up to its order. RabbitMQ
//! delivers a message once, however many of a queue's bindings it matches.
//!
//! Orders cannot pile up: a subscriber is answered when its order is done, and does not leave before. So
//! there are never more orders than topics that wait or are bound.
//!
//! Bindings are distinguished by their key in AMQP, as in RabbitMQ. A topic may be named `order.#`, and then
//! has the same binding as the bucket. A binding that other topics match costs traffic, not correctness.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::broker::backplane::event::Coming;
use crate::domain::mail::TopicName;

/// Orders under way at once: enough to keep RabbitMQ busy, and few enough to be sent again if one is refused.
const WINDOW: usize = 256;
/// Bytes of a routing key in AMQP 0.9.1, at most: a short string.
const KEY_BYTES_MAX: usize = 255;
/// What every routing key matches.
const EVERYTHING: &str = "#";

/// A binding's routing key, of which `*` and `#` between dots are patterns.
pub(super) type Key = Arc<str>;

/// When buckets begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct BindingLimits {
    /// Topics with a binding of their own; and topics that nobody subscribes to any more, at most.
    pub(super) topics: usize,
    /// Buckets by first words.
    pub(super) buckets: usize,
}

impl Default for BindingLimits {
    /// lapin removes one of 10,000 bindings in about 0.1 ms.
    fn default() -> Self {
        Self { topics: 10_000, buckets: 1_000 }
    }
}

/// What RabbitMQ is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Bind(Key),
    Unbind(Key),
}

/// The bindings of one queue, over all its links.
#[derive(Debug)]
pub(super) struct Bindings {
    linger: Duration,
    limits: BindingLimits,
    wanted: HashMap<TopicName, Wanted>,
    bindings: HashMap<Key, Binding>,
    /// Bindings that are buckets.
    buckets: usize,
    /// Topics without subscribers, in the order in which they were left, and until when they are wanted.
    lingering: BTreeMap<u64, (Instant, TopicName)>,
    /// How many topics were left so far.
    left: u64,
    is_linked: bool,
    /// Orders that RabbitMQ has not answered, in their order, those under way first.
    orders: VecDeque<Order>,
    under_way: usize,
    /// The number of the latest order.
    ordered: u64,
    /// The number of the latest order that was answered.
    answered: u64,
    /// The number of the order with which the bindings from before this link are there again.
    restored: u64,
    /// By the order that they wait for: topics whose subscribers wait.
    awaited: BTreeMap<u64, Vec<TopicName>>,
}

/// A topic that is wanted.
#[derive(Debug)]
struct Wanted {
    key: Key,
    /// Its place among the lingering ones, if nobody subscribes to it any more.
    lingers: Option<u64>,
}

/// A binding that is there or ordered.
#[derive(Debug)]
struct Binding {
    /// By which it comes to be there.
    order: u64,
    /// That need it; never none.
    topics: usize,
    /// Whether it was made for more than the topic of its name.
    is_bucket: bool,
}

impl Bindings {
    /// None so far. Topics are wanted `linger` longer than they have subscribers.
    pub(super) fn new(linger: Duration, limits: BindingLimits) -> Self {
        Self {
            linger,
            limits,
            wanted: HashMap::new(),
            bindings: HashMap::new(),
            buckets: 0,
            lingering: BTreeMap::new(),
            left: 0,
            is_linked: false,
            orders: VecDeque::new(),
            under_way: 0,
            ordered: 0,
            answered: 0,
            restored: 0,
            awaited: BTreeMap::new(),
        }
    }

    /// Somebody subscribes to a topic. Without a link nothing is awaited: the next one begins with what is
    /// wanted, and subscribers are told of the gap.
    pub(super) fn want(&mut self, topic: &TopicName) -> Coming {
        let (key, is_new) = match self.wanted.get_mut(topic) {
            Some(wanted) => {
                if let Some(turn) = wanted.lingers.take() {
                    self.lingering.remove(&turn);
                }
                (Arc::clone(&wanted.key), false)
            }
            None => (self.begin(topic), true),
        };
        let order = self.bindings.get(&key).map_or(0, |binding| binding.order);
        let is_awaited = self.is_linked && order > self.answered;
        if is_awaited {
            self.awaited.entry(order).or_default().push(Arc::clone(topic));
        }
        Coming { is_new, is_awaited }
    }

    /// Nobody subscribes to a topic any more. Of too many such topics, those are let go that were left first.
    pub(super) fn leave(&mut self, topic: &TopicName, now: Instant) {
        let Some(wanted) = self.wanted.get_mut(topic).filter(|wanted| wanted.lingers.is_none()) else {
            return;
        };
        self.left += 1;
        wanted.lingers = Some(self.left);
        self.lingering.insert(self.left, (now + self.linger, Arc::clone(topic)));
        while (!self.is_linked || self.lingering.len() > self.limits.topics) && self.end_first() {}
    }

    /// Whether a topic has subscribers, or had until lately: all of its messages come, or will be known to have
    /// been missed.
    pub(super) fn is_wanted(&self, topic: &str) -> bool {
        self.wanted.contains_key(topic)
    }

    /// Whether there are too many topics for each to have a binding of its own.
    pub(super) fn have_buckets(&self) -> bool {
        self.buckets > 0
    }

    /// Time has passed: topics that nobody came back to are not wanted any more.
    pub(super) fn pass(&mut self, now: Instant) {
        while self.next_change().is_some_and(|due| due <= now) && self.end_first() {}
    }

    /// When [`Self::pass`] has something to do next.
    pub(super) fn next_change(&self) -> Option<Instant> {
        self.lingering.first_key_value().map(|(_, (until, _))| *until)
    }

    /// There is a link, with a queue that has no bindings.
    pub(super) fn linked(&mut self) {
        self.is_linked = true;
        for (key, binding) in &mut self.bindings {
            self.ordered += 1;
            binding.order = self.ordered;
            self.orders.push_back(Order::Bind(Arc::clone(key)));
        }
        self.restored = self.ordered;
    }

    /// The link is gone, and the queue with it. Nobody has to wait any longer.
    pub(super) fn lost(&mut self) {
        self.is_linked = false;
        self.orders.clear();
        self.under_way = 0;
        self.answered = self.ordered;
        self.awaited.clear();
        while self.end_first() {}
    }

    /// Whether all bindings from before this link are there again.
    pub(super) fn are_restored(&self) -> bool {
        self.is_linked && self.answered >= self.restored
    }

    /// What to tell RabbitMQ next; it is under way from then on.
    pub(super) fn next_order(&mut self) -> Option<Order> {
        let next = self.orders.get(self.under_way).filter(|_| self.under_way < WINDOW)?;
        self.under_way += 1;
        Some(next.clone())
    }

    /// RabbitMQ has done the first of what is under way. Returns the topics whose subscribers waited for it; some
    /// more than once, if they did.
    pub(super) fn done(&mut self) -> Vec<TopicName> {
        self.answer();
        self.awaited.remove(&self.answered).unwrap_or_default()
    }

    /// RabbitMQ has refused the first of what is under way, and not looked at the rest, which has to be sent
    /// again. Returns the key, and the topics that cannot be had: they are not wanted any more.
    pub(super) fn refused(&mut self) -> Option<(Key, Vec<TopicName>)> {
        let order = self.answer();
        self.under_way = 0;
        self.awaited.remove(&self.answered);
        let Some(Order::Bind(key)) = order else { return None };
        if self.bindings.get(&key).is_none_or(|binding| binding.order != self.answered) {
            return None;
        }
        let needs_it =
            |(topic, wanted): (&TopicName, &Wanted)| (wanted.key == key).then(|| Arc::clone(topic));
        let topics: Vec<_> = self.wanted.iter().filter_map(needs_it).collect();
        for topic in &topics {
            let wanted = self.wanted.remove(topic);
            if let Some(turn) = wanted.and_then(|wanted| wanted.lingers) {
                self.lingering.remove(&turn);
            }
        }
        self.remove(&key);
        Some((key, topics))
    }

    /// The first order that is under way is answered, and returned.
    fn answer(&mut self) -> Option<Order> {
        assert!(self.under_way > 0, "RabbitMQ answered what it was not told");
        self.under_way -= 1;
        self.answered += 1;
        self.orders.pop_front()
    }

    fn order(&mut self, order: Order) -> u64 {
        self.orders.push_back(order);
        self.ordered += 1;
        self.ordered
    }

    /// A topic is wanted from now on. Returns by what it is bound.
    fn begin(&mut self, topic: &TopicName) -> Key {
        let (key, is_bucket) = self.place(topic);
        self.hold(&key, is_bucket);
        self.wanted.insert(Arc::clone(topic), Wanted { key: Arc::clone(&key), lingers: None });
        key
    }

    /// By what to bind a topic, and whether that is a bucket.
    fn place(&self, topic: &TopicName) -> (Key, bool) {
        if self.bindings.len() - self.buckets < self.limits.topics {
            return (Arc::clone(topic), false);
        }
        let has_room =
            |bucket: &Key| self.bindings.contains_key(bucket) || self.buckets < self.limits.buckets;
        (bucket_of(topic).filter(has_room).unwrap_or_else(|| EVERYTHING.into()), true)
    }

    /// One more topic needs a binding.
    fn hold(&mut self, key: &Key, is_bucket: bool) {
        if let Some(binding) = self.bindings.get_mut(key) {
            binding.topics += 1;
            if binding.is_bucket && !is_bucket {
                binding.is_bucket = false;
                self.buckets -= 1;
            }
            return;
        }
        let order = if self.is_linked { self.order(Order::Bind(Arc::clone(key))) } else { 0 };
        self.buckets += usize::from(is_bucket);
        self.bindings.insert(Arc::clone(key), Binding { order, topics: 1, is_bucket });
    }

    /// One topic less needs a binding.
    fn release(&mut self, key: &Key) {
        let Some(binding) = self.bindings.get_mut(key) else { return };
        binding.topics -= 1;
        if binding.topics == 0 {
            self.remove(key);
            if self.is_linked {
                self.order(Order::Unbind(Arc::clone(key)));
            }
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(binding) = self.bindings.remove(key) {
            self.buckets -= usize::from(binding.is_bucket);
        }
    }

    /// Lets the topic go that was left first. Returns whether there was one.
    fn end_first(&mut self) -> bool {
        let Some((_, (_, topic))) = self.lingering.pop_first() else { return false };
        if let Some(wanted) = self.wanted.remove(&topic) {
            self.release(&wanted.key);
        }
        if self.buckets > 0 && self.wanted.len() <= self.limits.topics / 2 {
            self.empty_buckets();
        }
        true
    }

    /// Few topics are left: each gets a binding of its own, and only then the buckets go.
    fn empty_buckets(&mut self) {
        let bindings = &self.bindings;
        let is_in_bucket = |wanted: &Wanted| bindings.get(&wanted.key).is_some_and(|key| key.is_bucket);
        let all = self.wanted.iter().filter(|(_, wanted)| is_in_bucket(wanted));
        let topics: Vec<_> = all.map(|(topic, _)| Arc::clone(topic)).collect();
        for topic in topics {
            self.hold(&topic, false);
            if let Entry::Occupied(mut wanted) = self.wanted.entry(Arc::clone(&topic)) {
                let bucket = std::mem::replace(&mut wanted.get_mut().key, topic);
                self.release(&bucket);
            }
        }
    }
}

/// The pattern that all topics with the same first word match, if there is more than one word.
fn bucket_of(topic: &str) -> Option<Key> {
    let (word, _) = topic.split_once('.')?;
    (word.len() + 2 <= KEY_BYTES_MAX).then(|| format!("{word}.#").into())
}

#[cfg(test)]
mod tests;
