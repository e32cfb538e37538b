//! The topics of a shard: who subscribes, where each stands, and what is still to be sent.
//!
//! **The cursor is the only truth.** A topic's subscribers stand in one dense array in two parts:
//!
//! ```text
//!   0            awake              len
//!   ├── swept ─────┼── parked ───────┤
//! ```
//!
//! The first part is swept: an index goes round it, its position never reset, until nobody in it is behind
//! the end of the log. Whoever cannot be written to is parked in the second part, which no sweep touches,
//! and comes back with its socket's writable edge. Removal swaps with the last: whoever was moved is still
//! behind if it was, and the sweep will meet it.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

use crate::base::slab::Slab;
use crate::domain::mail::{CommandKey, Lines, Position, Recover, Since, TopicName, TopicSlot, Variant};
use crate::domain::namespaces::NamespaceId;
use crate::shard::log::Log;

/// One subscriber of a topic.
#[derive(Clone, Copy, Debug)]
pub struct Subscriber {
    /// The position up to which it has been sent everything.
    pub cursor: u64,
    /// The slot of its client.
    pub client: u32,
}

/// What the broker and the shard have agreed on about a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// The broker was asked for the topic and has not answered.
    Attaching,
    /// Everything published comes here.
    Live,
    /// The broker was told, or is still to be told, that nobody is left, and has not had its last word.
    Detaching,
}

/// A client that waits to be subscribed.
#[derive(Debug)]
pub struct PendingSubscriber {
    /// Whom to answer.
    pub asker: CommandKey,
    /// How it wants to be.
    pub options: SubscribeOptions,
}

/// How a client wants to be subscribed, as far as the topic's namespace goes along with it.
#[derive(Clone, Debug, Default)]
pub struct SubscribeOptions {
    /// It is told where it stands.
    pub positioned: bool,
    /// It can go on from there when it comes again.
    pub recoverable: bool,
    /// It wants to go on where it was, and nothing is kept of the topic.
    pub was_recovering: bool,
    /// It goes on from here.
    pub recover: Option<Box<Resume>>,
}

/// From where a client wants to go on.
#[derive(Clone, Debug)]
pub struct Resume {
    /// What it has.
    pub since: Since,
    /// Whether it wants an error and no subscription if that is not possible.
    pub rejects_unrecovered: bool,
}

impl PendingSubscriber {
    /// Whoever asked this, to ask it again.
    #[must_use]
    pub fn again(question: Recover) -> Self {
        let Recover { asker, recoverable, since, rejects_unrecovered, .. } = question;
        let recover = Some(Box::new(Resume { since, rejects_unrecovered }));
        Self {
            asker,
            options: SubscribeOptions {
                positioned: true,
                recoverable,
                recover,
                ..SubscribeOptions::default()
            },
        }
    }
}

/// A subscriber that has a new place in the array: its client must remember it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The slot of the client.
    pub client: u32,
    /// Where its subscriber stands now.
    pub position: u32,
}

/// One topic.
///
/// Invariants: `behind` is the number of subscribers below `awake` whose cursor is before `end`; the log is
/// there if anybody's cursor is before `end`, and ends there.
#[derive(Debug)]
pub struct Topic {
    /// Its name.
    pub name: TopicName,
    /// Its namespace.
    pub namespace: NamespaceId,
    /// What its subscribers are sent, and when.
    pub variant: Variant,
    /// What was agreed with the broker.
    pub interest: Interest,
    /// It stands in the round of topics to be swept.
    pub in_round: bool,
    /// It stands in the list of topics whose log is kept for parked subscribers alone.
    pub is_pinned: bool,
    /// Its numbering is another one since its subscribers came: they get nothing until they have been told.
    pub is_muted: bool,
    /// Somebody was moved to where the sweep has been already: this lap proves nothing about cursors.
    pub lap_broken: bool,
    /// How many subscribers are swept.
    awake: u32,
    /// How many of those lack something.
    behind: u32,
    /// Where the sweep goes on.
    pub sweep: u32,
    /// Position after the newest byte.
    pub end: u64,
    /// The end when the sweep began its lap.
    pub lap_began_at: u64,
    /// What somebody lacks.
    pub log: Option<Box<Log>>,
    /// Where a topic with history stands at the log's end.
    pub position: Option<Box<Position>>,
    /// How many wait for the broker's answer to [`crate::domain::mail::Request::Recover`].
    pub recovering: u32,
    subscribers: Vec<Subscriber>,
    /// Who waits for the broker's answer. Most of the time nobody.
    #[allow(clippy::box_collection, reason = "in an idle topic every word counts")]
    pending: Option<Box<Vec<PendingSubscriber>>>,
}

impl Topic {
    fn new(name: TopicName, namespace: NamespaceId, variant: Variant) -> Self {
        Self {
            name,
            namespace,
            variant,
            interest: Interest::Attaching,
            in_round: false,
            is_pinned: false,
            is_muted: false,
            lap_broken: false,
            awake: 0,
            behind: 0,
            sweep: 0,
            end: 0,
            lap_began_at: 0,
            log: None,
            position: None,
            recovering: 0,
            subscribers: Vec::new(),
            pending: None,
        }
    }

    /// All subscribers, the swept ones first.
    #[must_use]
    pub fn subscribers(&self) -> &[Subscriber] {
        &self.subscribers
    }

    /// The subscribers that cannot be written to.
    #[must_use]
    pub fn parked(&self) -> &[Subscriber] {
        &self.subscribers[self.awake as usize..]
    }

    /// The subscribers that are swept.
    #[must_use]
    pub fn awake(&self) -> &[Subscriber] {
        &self.subscribers[..self.awake as usize]
    }

    /// How many swept subscribers lack something.
    #[must_use]
    pub fn behind(&self) -> u32 {
        self.behind
    }

    /// Whether the subscriber at `position` is parked.
    #[must_use]
    pub fn is_parked(&self, position: u32) -> bool {
        position >= self.awake
    }

    /// Whether the subscriber at `position` lacks something.
    #[must_use]
    pub fn lacks(&self, position: u32) -> bool {
        self.subscribers[position as usize].cursor < self.end
    }

    /// Somebody waits to be subscribed.
    pub fn add_pending(&mut self, pending: PendingSubscriber) {
        self.pending.get_or_insert_default().push(pending);
    }

    /// How many subscribe to it, or wait to.
    #[must_use]
    pub fn audience(&self) -> usize {
        let pending = self.pending.as_ref().map_or(0, |pending| pending.len());
        self.subscribers.len() + pending + self.recovering as usize
    }

    /// Whether somebody waits to be subscribed and the broker was not asked for it yet.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Whether nobody has it, or waits for it.
    #[must_use]
    pub fn is_deserted(&self) -> bool {
        self.subscribers.is_empty() && self.recovering == 0
    }

    /// Takes out who waits to be subscribed.
    pub fn take_pending(&mut self) -> Vec<PendingSubscriber> {
        self.pending.take().map_or_else(Vec::new, |pending| *pending)
    }

    /// Adds a subscriber at the log's end. `moved` is told of everybody who has a new place, the new one
    /// included.
    pub fn subscribe(&mut self, client: u32, mut moved: impl FnMut(Moved)) {
        if self.subscribers.is_empty() {
            // Most topics of most users have one subscriber; growth by the usual steps begins at four.
            self.subscribers.reserve_exact(1);
        }
        let newcomer = Subscriber { cursor: self.end, client };
        let place = self.awake as usize;
        self.subscribers.push(newcomer);
        let last = self.subscribers.len() - 1;
        self.subscribers.swap(place, last);
        self.awake += 1;
        self.report(place, &mut moved);
        if last != place {
            self.report(last, &mut moved);
        }
    }

    /// Takes the subscriber at `position` out. `moved` is told of everybody who has a new place.
    pub fn unsubscribe(&mut self, position: u32, mut moved: impl FnMut(Moved)) {
        let mut hole = position as usize;
        if position < self.awake {
            self.behind -= u32::from(self.lacks(position));
            self.awake -= 1;
            let last_awake = self.awake as usize;
            if hole != last_awake {
                self.subscribers.swap(hole, last_awake);
                self.report(hole, &mut moved);
                self.lap_broken |= position < self.sweep;
            }
            hole = last_awake;
        }
        self.subscribers.swap_remove(hole);
        if hole < self.subscribers.len() {
            self.report(hole, &mut moved);
        }
        if self.subscribers.capacity() > 64 && self.subscribers.len() * 4 < self.subscribers.capacity() {
            self.subscribers.shrink_to(self.subscribers.len() * 2);
        }
    }

    /// Takes the subscriber at `position` out of the sweep. `moved` is told of everybody who has a new place.
    pub fn park(&mut self, position: u32, mut moved: impl FnMut(Moved)) {
        debug_assert!(position < self.awake, "only the swept are parked");
        self.behind -= u32::from(self.lacks(position));
        self.awake -= 1;
        self.lap_broken |= position < self.sweep;
        self.exchange(position as usize, self.awake as usize, &mut moved);
    }

    /// Brings the parked subscriber at `position` back into the sweep. `moved` is told of everybody who has
    /// a new place.
    pub fn unpark(&mut self, position: u32, mut moved: impl FnMut(Moved)) {
        debug_assert!(position >= self.awake, "only the parked come back");
        self.behind += u32::from(self.lacks(position));
        if let Some(log) = &mut self.log {
            log.swept_to = log.swept_to.min(self.subscribers[position as usize].cursor);
        }
        let place = self.awake;
        self.awake += 1;
        // Where the last of the swept are gone, the sweep stands beyond them.
        self.lap_broken |= place < self.sweep;
        self.exchange(position as usize, place as usize, &mut moved);
    }

    /// Notes that the subscriber at `position` has been sent everything before `cursor`.
    pub fn advance(&mut self, position: u32, cursor: u64) {
        let lacked = self.lacks(position);
        self.subscribers[position as usize].cursor = cursor;
        if position < self.awake && lacked && !self.lacks(position) {
            self.behind -= 1;
        }
    }

    /// Moves the parked subscribers that stand before `floor` to where `place_of` says, not beyond the end.
    pub fn move_parked(&mut self, floor: u64, place_of: impl Fn(u64) -> u64) {
        for one in &mut self.subscribers[self.awake as usize..] {
            if one.cursor < floor {
                one.cursor = place_of(one.cursor);
            }
        }
    }

    /// Adds a batch to the log: everybody lacks something now.
    pub fn append(&mut self, lines: &Lines, buffer: impl FnOnce() -> Vec<u8>) {
        let (end, encoding) = (self.end, self.variant.encoding);
        let log = self.log.get_or_insert_with(|| Box::new(Log::new(end, encoding, buffer())));
        log.append(lines);
        self.end = log.end();
        self.behind = self.awake;
        if let Some(position) = &mut self.position {
            position.offset = lines.offset;
        }
    }

    /// Notes that the sweep has come round to the first subscriber again. The position before which no swept
    /// subscriber lacks anything, if this lap has shown one.
    pub fn begin_lap(&mut self) -> Option<u64> {
        let shown = (!self.lap_broken).then_some(self.lap_began_at);
        self.sweep = 0;
        self.lap_broken = false;
        self.lap_began_at = self.end;
        shown
    }

    fn exchange(&mut self, a: usize, b: usize, moved: &mut impl FnMut(Moved)) {
        self.subscribers.swap(a, b);
        self.report(a, moved);
        if a != b {
            self.report(b, moved);
        }
    }

    fn report(&self, place: usize, moved: &mut impl FnMut(Moved)) {
        let position = u32::try_from(place).expect("fewer subscribers than clients");
        moved(Moved { client: self.subscribers[place].client, position });
    }
}

/// All topics of a shard, by slot and by name.
#[derive(Debug, Default)]
pub struct Topics {
    slab: Slab<Topic>,
    by_name: HashTable<TopicSlot>,
    hasher: FixedState,
}

impl Topics {
    /// The hash by which names are told apart quickly.
    #[must_use]
    pub fn hash(&self, name: &str) -> u64 {
        self.hasher.hash_one(name)
    }

    /// The slot of the topic with this name, in this variant.
    #[must_use]
    pub fn find(&self, name: &str, variant: Variant) -> Option<TopicSlot> {
        let is_it = |topic: &Topic| topic.variant == variant && &*topic.name == name;
        self.by_name.find(self.hash(name), |&slot| is_it(&self[slot])).copied()
    }

    /// The slots of the topics with this name, in whatever variants there are.
    pub fn variants(&self, name: &str) -> impl Iterator<Item = TopicSlot> {
        self.by_name.iter_hash(self.hash(name)).copied().filter(move |&slot| &*self[slot].name == name)
    }

    /// Adds a topic, to be attached.
    pub fn insert(&mut self, name: TopicName, namespace: NamespaceId, variant: Variant) -> TopicSlot {
        let hash = self.hash(&name);
        let slot = TopicSlot(self.slab.insert(Topic::new(name, namespace, variant)));
        let (slab, hasher) = (&self.slab, &self.hasher);
        self.by_name.insert_unique(hash, slot, |slot| hasher.hash_one(&*slab[slot.0].name));
        slot
    }

    /// Takes a topic out and frees its slot.
    pub fn remove(&mut self, slot: TopicSlot) -> Topic {
        let hash = self.hash(&self[slot].name);
        if let Ok(entry) = self.by_name.find_entry(hash, |&other| other == slot) {
            entry.remove();
        }
        self.slab.remove(slot.0)
    }

    /// The topic in `slot`, if there is one.
    #[must_use]
    pub fn get(&self, slot: TopicSlot) -> Option<&Topic> {
        self.slab.get(slot.0)
    }

    /// How many topics there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// Number of slots, taken or not: all slots are below it.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.slab.numbers()
    }

    /// All topics, with their slots.
    pub fn iter(&self) -> impl Iterator<Item = (TopicSlot, &Topic)> {
        self.slab.iter().map(|(slot, topic)| (TopicSlot(slot), topic))
    }
}

impl std::ops::Index<TopicSlot> for Topics {
    type Output = Topic;

    fn index(&self, slot: TopicSlot) -> &Topic {
        &self.slab[slot.0]
    }
}

impl std::ops::IndexMut<TopicSlot> for Topics {
    fn index_mut(&mut self, slot: TopicSlot) -> &mut Topic {
        &mut self.slab[slot.0]
    }
}

#[cfg(test)]
mod tests;
