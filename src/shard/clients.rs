//! The clients of a shard: a slab with generations, and the state of one client.
//!
//! An idle client is only its slot. State that exists only at times, such as half a message or waiting
//! replies, is boxed, and exists only while it is needed.

use std::net::SocketAddr;

use crate::base::slab::Slab;
use crate::domain::mail::{ClientKey, TopicSlot};
use crate::session::{Phase, Session};
use crate::shard::input::Tail;
use crate::shard::origins::OriginId;
use crate::shard::output::Outgoing;
use crate::shard::questions::Questions;
use crate::shard::timer_wheel::Moment;

/// A connection as the shard sees it. The one seam between the engine and the world: the shipped one is a
/// TCP socket, the simulation's is a script.
pub trait Socket {
    /// Reads what is there, at most `buffer`. 0 means that the peer has closed its side.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; anything else ends the connection.
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize>;

    /// Writes as much as is taken at once.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is taken; after that, or after taking less than all, the socket's owner is
    /// told once when it can take more. Anything else ends the connection.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize>;

    /// Closes our side; the peer's can still be read.
    fn finish(&mut self);

    /// Where the peer is, for a log; none where that is not known.
    fn peer(&self) -> Option<SocketAddr> {
        None
    }
}

/// A subscription as its client holds it: the topic, and where in the topic's array the subscriber stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Which topic.
    pub topic: TopicSlot,
    /// Index into the topic's subscribers.
    pub position: u32,
}

/// A client's subscriptions, in the order of their topics' slots. Most clients have one, which costs no
/// allocation.
#[derive(Debug, Default)]
pub enum Subscriptions {
    /// None.
    #[default]
    Empty,
    /// The usual case.
    One(Subscription),
    /// Sorted by topic.
    Many(Box<Vec<Subscription>>),
}

impl Subscriptions {
    /// All of them.
    #[must_use]
    pub fn as_slice(&self) -> &[Subscription] {
        match self {
            Self::Empty => &[],
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }

    fn as_mut_slice(&mut self) -> &mut [Subscription] {
        match self {
            Self::Empty => &mut [],
            Self::One(one) => std::slice::from_mut(one),
            Self::Many(many) => many,
        }
    }

    /// The subscription to `topic`.
    #[must_use]
    pub fn find(&self, topic: TopicSlot) -> Option<Subscription> {
        let all = self.as_slice();
        all.binary_search_by_key(&topic, |one| one.topic).ok().map(|index| all[index])
    }

    /// Adds one; there must be none to the same topic.
    pub fn insert(&mut self, new: Subscription) {
        match self {
            Self::Empty => *self = Self::One(new),
            Self::One(one) => {
                let mut both = vec![*one, new];
                both.sort_unstable_by_key(|one| one.topic);
                *self = Self::Many(Box::new(both));
            }
            Self::Many(many) => {
                let at = many.partition_point(|one| one.topic < new.topic);
                many.insert(at, new);
            }
        }
    }

    /// Takes the one to `topic` out, if it is there.
    pub fn remove(&mut self, topic: TopicSlot) -> Option<Subscription> {
        let found = self.find(topic)?;
        match self {
            Self::Many(many) if many.len() > 1 => many.retain(|one| one.topic != topic),
            _ => *self = Self::Empty,
        }
        Some(found)
    }

    /// Notes that the subscriber of `topic` now stands at `position`.
    pub fn moved(&mut self, topic: TopicSlot, position: u32) {
        let all = self.as_mut_slice();
        let index = all.binary_search_by_key(&topic, |one| one.topic);
        all[index.expect("a subscriber's client has the subscription")].position = position;
    }
}

/// What a publish counts beside its data among what a client may have unanswered: at most 128 small ones at once,
/// where messages may have 64 KiB.
const PUBLISH_COST: usize = 512;

/// A command that waits for the broker's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// Hash of its topic; a collision only makes an unrelated command wait.
    pub topic: u64,
    /// Its id.
    pub command: u32,
    /// What it is.
    pub kind: Pending,
}

/// What kind of command waits for the broker's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    /// A publish, of so many bytes of data. The broker takes them in order, so that another to the same topic can
    /// follow at once.
    Publish(u32),
    /// A question about a history.
    History,
    /// A subscribe: the next command about its topic waits for its answer.
    Subscribe,
}

/// What a client's commands wait for.
#[derive(Debug, Default)]
pub struct Waiting {
    /// Commands that the broker has not answered.
    pub unanswered: Vec<Unanswered>,
    /// The rest of a message whose next command must wait. While it is there, nothing is read.
    pub backlog: Option<Box<[u8]>>,
    /// Those of them whose answers may be large.
    pub questions: Questions,
}

/// One client.
#[derive(Debug)]
pub struct Client<S> {
    /// Its connection.
    pub socket: S,
    /// Its protocol state.
    pub session: Session,
    /// Its subscriptions.
    pub subscriptions: Subscriptions,
    /// Input that is no whole frame, or no whole head, yet; or that was not looked at, if there is some
    /// [`left_over`](Self::left_over).
    pub tail: Option<Box<Tail>>,
    /// What waits to be sent.
    pub outgoing: Option<Box<Outgoing>>,
    /// What its commands wait for.
    pub waiting: Option<Box<Waiting>>,
    /// Start of what is being timed: accept, upgrade, last ping, close.
    pub since: Moment,
    /// Since when a message has come in part, if one has.
    pub message_since: Moment,
    /// The entry of the wheel that counts.
    pub armed: Moment,
    /// The page's origin, if it is one and there was a number for it.
    pub origin: Option<OriginId>,
    /// The socket takes nothing: a writable edge is to come.
    pub blocked: bool,
    /// It is on the list of those to be read.
    pub to_read: bool,
    /// It has one of the node's places for clients; the others are being refused.
    pub has_place: bool,
    /// Its peer has closed its side: there is an end to be read behind the data.
    pub hung_up: bool,
    /// Its input waits, for its next turn, for an answer, for room towards the broker, or for replies to drain.
    pub held_up: bool,
    /// There may be whole frames in its tail: they come before anything else that it sent.
    pub left_over: bool,
    /// Its latest turn went on with what was left over: there is more of its input than turns.
    pub went_on: bool,
    /// It is in the list of clients whose input is kept.
    pub keeps_input: bool,
    /// It is in the list of clients that leave replies unread.
    pub leaves_replies: bool,
    /// How often its socket has been looked at once more since something has been late.
    pub looks: u8,
    /// Dead. Its slot is freed at the end of the tick.
    pub dead: bool,
}

impl<S> Client<S> {
    fn new(socket: S, now: Moment) -> Self {
        Self {
            socket,
            session: Session::default(),
            subscriptions: Subscriptions::Empty,
            tail: None,
            outgoing: None,
            waiting: None,
            since: now,
            armed: now,
            origin: None,
            blocked: false,
            to_read: false,
            has_place: false,
            hung_up: false,
            held_up: false,
            left_over: false,
            went_on: false,
            keeps_input: false,
            leaves_replies: false,
            looks: 0,
            message_since: now,
            dead: false,
        }
    }

    /// Whether its commands are still done.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.dead && self.session.phase == Phase::Open
    }

    /// Whether nothing but publications can be on the way out.
    #[must_use]
    pub fn has_free_road(&self) -> bool {
        self.outgoing.is_none() && !self.blocked
    }

    /// Whether its input must not be read now.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.has_postponed() || self.waiting.as_ref().is_some_and(|waiting| waiting.backlog.is_some())
    }

    /// Whether questions of its are to be asked later: nothing else is done for it before.
    #[must_use]
    pub fn has_postponed(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| waiting.questions.are_postponed())
    }

    /// Whether a message has come in part: frames of it, or a part of a frame.
    #[must_use]
    pub fn is_in_message(&self) -> bool {
        let has_part = self.tail.is_some() && !self.left_over;
        has_part || self.session.is_in_message()
    }

    /// Bytes of its input that are kept.
    #[must_use]
    pub fn input_bytes(&self) -> usize {
        let backlog = self.waiting.as_ref().and_then(|waiting| waiting.backlog.as_ref());
        let tail = self.tail.as_ref().map_or(0, |tail| tail.len());
        tail + backlog.map_or(0, |backlog| backlog.len()) + self.session.assembled_bytes()
    }

    /// What the answers to its questions may have together, in bytes.
    #[must_use]
    pub fn promised_bytes(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting.questions.promised_bytes())
    }

    /// Bytes of replies that wait.
    #[must_use]
    pub fn reply_bytes(&self) -> usize {
        self.outgoing.as_ref().map_or(0, |outgoing| outgoing.bytes.len() - outgoing.orphaned)
    }

    /// Notes whether input of it is kept, and whether it stays in the list of those of which some is.
    pub(super) fn still_keeps_input(&mut self) -> bool {
        self.keeps_input = self.input_bytes() > 0;
        self.keeps_input
    }

    /// Notes whether it leaves replies unread, and so stays in the list of those who do.
    pub(super) fn still_leaves_replies(&mut self) -> bool {
        self.leaves_replies = self.blocked && self.reply_bytes() > 0;
        self.leaves_replies
    }

    /// Whether a command about the topic with this hash is unanswered.
    #[must_use]
    pub fn is_busy_with(&self, topic: u64) -> bool {
        self.unanswered().iter().any(|one| one.topic == topic)
    }

    /// The same, not counting publishes.
    #[must_use]
    pub fn is_changing(&self, topic: u64) -> bool {
        self.unanswered().iter().any(|one| one.topic == topic && !matches!(one.kind, Pending::Publish(_)))
    }

    /// Bytes of data of publishes that the broker has not answered, and for each of them `PUBLISH_COST` more.
    #[must_use]
    pub fn publishing_bytes(&self) -> usize {
        let bytes = self.unanswered().iter().map(|one| match one.kind {
            Pending::Publish(bytes) => PUBLISH_COST + bytes as usize,
            Pending::History | Pending::Subscribe => 0,
        });
        bytes.sum()
    }

    /// Topics that it has, and those that it may get by commands under way.
    #[must_use]
    pub fn topics(&self) -> usize {
        let joining = self.unanswered().iter().filter(|one| one.kind == Pending::Subscribe);
        self.subscriptions.as_slice().len() + joining.count()
    }

    /// Commands that the broker has not answered.
    #[must_use]
    pub fn unanswered(&self) -> &[Unanswered] {
        self.waiting.as_ref().map_or(&[], |waiting| &waiting.unanswered)
    }

    /// Notes that the broker has answered `command`.
    pub fn answered(&mut self, command: u32) {
        if let Some(waiting) = &mut self.waiting {
            waiting.unanswered.retain(|one| one.command != command);
            if waiting.unanswered.is_empty() && waiting.backlog.is_none() && waiting.questions.is_idle() {
                self.waiting = None;
            }
        }
    }
}

/// The slab, with a generation for each slot: a key that is kept too long finds nobody, and not a stranger.
#[derive(Debug)]
pub struct Clients<S> {
    slab: Slab<Client<S>>,
    /// How many clients each slot had before the present or the next one.
    generations: Vec<u32>,
    /// Slots of the dead, to be freed at the end of the tick.
    dead: Vec<u32>,
}

impl<S> Default for Clients<S> {
    fn default() -> Self {
        Self { slab: Slab::default(), generations: Vec::new(), dead: Vec::new() }
    }
}

impl<S> Clients<S> {
    /// The key that [`Clients::insert`] gives to the next client.
    #[must_use]
    pub fn vacancy(&self) -> ClientKey {
        self.key(self.slab.vacancy())
    }

    /// The key of the client in `slot`, or of the next one if there is none.
    #[must_use]
    pub fn key(&self, slot: u32) -> ClientKey {
        ClientKey { slot, generation: self.generations.get(slot as usize).copied().unwrap_or(0) }
    }

    /// Puts a client in.
    pub fn insert(&mut self, socket: S, now: Moment) -> ClientKey {
        let slot = self.slab.insert(Client::new(socket, now));
        if slot as usize == self.generations.len() {
            self.generations.push(0);
        }
        self.key(slot)
    }

    /// Notes that a living client is dead. Its slot is taken until the end of the tick, as lists may name it.
    pub fn kill(&mut self, slot: u32) {
        debug_assert!(!self.slab[slot].dead, "nobody dies twice");
        self.slab[slot].dead = true;
        self.dead.push(slot);
    }

    /// Slots of the dead.
    #[must_use]
    pub fn dead(&self) -> &[u32] {
        &self.dead
    }

    /// Takes the slot of one of the dead out of their list: it is to be freed.
    pub fn next_dead(&mut self) -> Option<u32> {
        self.dead.pop()
    }

    /// Takes a client out and frees its slot.
    pub fn remove(&mut self, slot: u32) -> Client<S> {
        let generation = &mut self.generations[slot as usize];
        *generation = generation.wrapping_add(1);
        self.slab.remove(slot)
    }

    /// Clients in the slab, the dead of this tick included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether there is nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// Number of slots, taken or not: all slots are below it.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.slab.numbers()
    }

    /// The living client in `slot`.
    #[must_use]
    pub fn living(&self, slot: u32) -> Option<&Client<S>> {
        self.slab.get(slot).filter(|client| !client.dead)
    }

    /// The living client with this key: not a later one in the same slot.
    #[must_use]
    pub fn find(&self, key: ClientKey) -> Option<&Client<S>> {
        self.living(key.slot).filter(|_| self.key(key.slot) == key)
    }

    /// All of the living, with their slots.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Client<S>)> {
        self.slab.iter().filter(|(_, client)| !client.dead)
    }
}

impl<S> std::ops::Index<u32> for Clients<S> {
    type Output = Client<S>;

    fn index(&self, slot: u32) -> &Client<S> {
        &self.slab[slot]
    }
}

impl<S> std::ops::IndexMut<u32> for Clients<S> {
    fn index_mut(&mut self, slot: u32) -> &mut Client<S> {
        &mut self.slab[slot]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_has_a_new_generation_for_each_owner() {
        let mut clients = Clients::default();
        let now = Moment::default();
        let first = clients.insert("first", now);
        assert!(clients.find(first).is_some());
        clients.remove(first.slot);
        assert!(clients.find(first).is_none());
        let second = clients.insert("second", now);
        assert_eq!((second.slot, second.generation), (first.slot, first.generation + 1));
        assert!(clients.find(first).is_none());
        assert_eq!(clients.len(), 1);
    }

    /// Idle clients are what there are most of, and a slot is all that they cost here.
    #[test]
    fn a_slot_is_small() {
        /// A socket is a descriptor, as long as nobody looks for faults in mio.
        type Descriptor = i32;
        assert!(size_of::<Client<Descriptor>>() <= 88, "{}", size_of::<Client<Descriptor>>());
    }

    #[test]
    fn subscriptions_are_found_in_any_order_of_coming_and_going() {
        let mut all = Subscriptions::default();
        for topic in [5, 1, 9, 3] {
            all.insert(Subscription { topic: TopicSlot(topic), position: topic * 10 });
        }
        all.moved(TopicSlot(9), 7);
        assert_eq!(all.find(TopicSlot(9)).map(|one| one.position), Some(7));
        assert!(all.find(TopicSlot(4)).is_none());
        for topic in [1, 9, 5, 3] {
            assert!(all.remove(TopicSlot(topic)).is_some());
            assert!(all.remove(TopicSlot(topic)).is_none());
        }
        assert!(all.as_slice().is_empty());
    }
}
