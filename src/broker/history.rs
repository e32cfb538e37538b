//! What was published lately, per topic, and who may go on where it was.
//!
//! Of each topic the room knows the publications that it holds, and its *floor*: the offset of the newest one
//! that it does not hold any more. Whoever has everything up to the floor, or more, can be given the rest.
//! Offsets rise, but need not be consecutive: they may number each topic's publications, or be those of a
//! stream that topics share.
//!
//! What a topic that is not known has lost is not known either, so that its floor is the *base*: it begins
//! where the room began, and rises whenever a topic is forgotten, to the last offset of that topic. So a
//! topic that comes back after it was forgotten goes on beyond where it was, and nobody is told that nothing
//! was missed because an offset was given twice.
//!
//! Pure: time is an argument, nothing is sent, logged or counted here.
//!
//! A publication costs 17 bytes beside its own, and rings are up to a fifth larger than what is in them. A
//! topic with publications costs about 300 bytes and its name, one without about 90 and its name.

mod ages;
mod answers;
mod held;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::hash::BuildHasher as _;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::mail::{Epoch, Position, Recovery, Since};
use crate::slab::Slab;

use ages::{Ages, ClassId, Listing, RecordId, Tick};
use answers::{Answer, Answers};
use held::{Entry, Held};

/// What a topic with publications is counted as, beside its name and its publications.
const TOPIC_COST: usize = 300;
/// How many topics are looked at when publications expire, before others have their turn.
const EXPIRING_AT_ONCE: usize = 1024;

/// What a namespace keeps of each of its topics. The same for a topic as long as the engine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Keep {
    /// Publications per topic at most; 0: no history.
    pub(super) size: u32,
    /// How long each is held, to a tenth of a second.
    pub(super) ttl: Duration,
}

/// A publication that is to be held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Publication<'a> {
    /// From 1, and greater than that of any earlier publication of the topic: [`History::next_offset`], or
    /// the stream's.
    pub(super) offset: u64,
    /// A JSON value, as it will stand in an array of recovered publications.
    pub(super) json: &'a [u8],
    /// How old it is already, if it was read back.
    pub(super) age: Duration,
    /// From when on nobody is to get it any more, if it says so itself.
    pub(super) expires: Option<Instant>,
}

/// What is recovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Everything that was missed, or nothing.
    Stream,
    /// The newest publication, if the client does not have it.
    Cache,
}

/// What somebody wants to recover.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish<'a> {
    /// Of which topic.
    pub(super) topic: &'a str,
    /// From where on.
    pub(super) since: &'a Since,
    /// The newest publication that was handed over, or any offset from there to just before the first that
    /// still waits to be merged; `u64::MAX` if none waits. What is newer is not in the answer.
    pub(super) up_to: u64,
    /// Where topics share a stream: the newest offset in it that was read, whatever the topic. A client that
    /// comes from another node may stand beyond this topic's newest publication, and lack nothing. 0: each
    /// topic is numbered alone.
    pub(super) read_to: u64,
    /// What of it.
    pub(super) mode: Mode,
    /// More than that cannot be recovered: what fits into a frame.
    pub(super) bytes_max: usize,
}

/// Which publications somebody wants to see.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query<'a> {
    /// Of which topic.
    pub(super) topic: &'a str,
    /// Those after this one; with `reverse`, those before it. `None`: from the oldest, or the newest, on.
    pub(super) since: Option<&'a Since>,
    /// How many at most; 0: only the position is of interest.
    pub(super) limit: usize,
    /// The newest first.
    pub(super) reverse: bool,
    /// Those that would make the answer larger are left out, and all that come after them.
    pub(super) bytes_max: usize,
}

/// The answer to a [`Query`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// Where the topic stands: of its newest publication, asked for or not.
    pub(super) position: Position,
    /// Members of a JSON array, separated by commas.
    pub(super) publications: Vec<u8>,
}

/// The position asked from belongs to another numbering (error 112).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unrecoverable;

/// The recent publications of all topics.
#[derive(Debug)]
pub(super) struct History {
    epoch: Epoch,
    /// The floor of the topics that are not known.
    base: u64,
    bytes_max: usize,
    topics_max: usize,
    records: Slab<Record>,
    /// By the hash of the name. Names come from strangers, so that the seed is random.
    index: HashTable<RecordId>,
    hasher: RandomState,
    /// Topics with publications.
    ages: Ages,
    /// Topics without, in the order in which they lost the last one.
    idle: BTreeMap<u64, RecordId>,
    idled: u64,
    answers: Answers,
    bytes: usize,
    publications: usize,
}

/// A topic that is known.
#[derive(Debug)]
struct Record {
    name: Box<str>,
    /// The offset of its newest publication, held or not.
    top: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// It has no publications: its floor is its top. Under this number in [`History::idle`].
    Idle(u64),
    Holding(Box<Holding>),
}

#[derive(Debug)]
struct Holding {
    held: Held,
    class: ClassId,
    /// How it is listed in [`History::ages`].
    listing: Listing,
}

impl Record {
    fn held(&self) -> Option<&Held> {
        match &self.state {
            State::Holding(holding) => Some(&holding.held),
            State::Idle(_) => None,
        }
    }
}

impl History {
    /// Holds at most `bytes_max` bytes of publications and what belongs to them, and remembers at most
    /// `topics_max` topics whose publications are all gone. `epoch` begins at `now`, with nothing known.
    pub(super) fn new(epoch: Epoch, bytes_max: usize, topics_max: usize, now: Instant) -> Self {
        Self {
            epoch,
            base: 0,
            bytes_max,
            topics_max,
            records: Slab::default(),
            index: HashTable::new(),
            hasher: RandomState::default(),
            ages: Ages::new(now),
            idle: BTreeMap::new(),
            idled: 0,
            answers: Answers::default(),
            bytes: 0,
            publications: 0,
        }
    }

    /// Forgets everything: publications were missed, or the numbering is a new one. Nothing is known of
    /// what was published up to and with `base` (0 if offsets count each topic's publications).
    pub(super) fn restart(&mut self, epoch: Epoch, base: u64) {
        self.epoch = epoch;
        self.base = base;
        self.records = Slab::default();
        self.index = HashTable::new();
        self.ages.clear();
        self.idle.clear();
        self.answers.clear();
        self.bytes = 0;
        self.publications = 0;
    }

    /// The number of the topic's next publication, where it is for us to number them: 1, 2, 3, ..., unless
    /// topics were forgotten: then a new one goes on beyond all of those.
    pub(super) fn next_offset(&self, topic: &str) -> u64 {
        self.find(topic).map_or(self.base, |id| self.record(id).top) + 1
    }

    /// Holds a publication, and lets go of what there is no room for.
    ///
    /// # Panics
    /// If its offset is not greater than that of the topic's newest publication, or less than the base.
    pub(super) fn add(&mut self, topic: &str, publication: &Publication<'_>, keep: Keep, now: Instant) {
        if keep.size == 0 {
            return;
        }
        let Publication { offset, json, age, expires } = *publication;
        let born = self.ages.birth(now, age);
        let id = self.open(topic, offset, born, keep.ttl);
        let Record { top, state, .. } = &mut self.records[id.0];
        assert!(offset > *top, "offset {offset} of '{topic}' does not come after {top}");
        *top = offset;
        if let State::Holding(holding) = state {
            let held = &mut holding.held;
            while held.len() >= keep.size as usize || !held.has_room(json.len()) {
                self.bytes -= held.pop();
                self.publications -= 1;
            }
            held.push(offset, json, born, expires);
            self.bytes += Held::cost(json.len());
            self.publications += 1;
        }
        self.answers.forget(id);
        while self.bytes > self.bytes_max && self.drop_oldest() {}
    }

    /// Where the topic stands: at its newest publication that is not beyond `up_to` (as in [`Wish`]).
    pub(super) fn position(&self, topic: &str, up_to: u64) -> Position {
        self.position_of(self.find(topic), up_to)
    }

    /// What somebody missed.
    pub(super) fn recover(&mut self, wish: &Wish<'_>, now: Instant) -> Recovery {
        let id = self.find_trimmed(wish.topic, now);
        let position = self.position_of(id, wish.up_to);
        let missed = match wish.mode {
            Mode::Stream => self.missed(id, &position, wish, now),
            Mode::Cache => self.latest(id, &position, wish, now),
        };
        Recovery { position, missed }
    }

    /// Some of a topic's publications.
    ///
    /// # Errors
    /// If `since` is of another epoch.
    pub(super) fn read(&mut self, query: &Query<'_>, now: Instant) -> Result<Page, Unrecoverable> {
        if query.since.is_some_and(|since| !self.is_ours(&since.epoch)) {
            return Err(Unrecoverable);
        }
        let id = self.find_trimmed(query.topic, now);
        let position = self.position_of(id, u64::MAX);
        let held = id.and_then(|id| self.record(id).held());
        Ok(Page { position, publications: held.map(|held| page(held, query, now)).unwrap_or_default() })
    }

    /// Lets go of a topic's publications. Its numbering goes on, so that nobody recovers across the hole.
    pub(super) fn remove(&mut self, topic: &str) {
        if let Some(id) = self.find(topic) {
            self.trim(id, |_| true);
        }
    }

    /// Lets go of what has been held long enough: a bounded part of it, so that [`Self::next_expiry`] may
    /// be past afterwards.
    pub(super) fn expire(&mut self, now: Instant) {
        for _ in 0..EXPIRING_AT_ONCE {
            let Some(listing) = self.ages.due(now) else { return };
            self.trim_by_age(listing.topic, now);
        }
    }

    /// When there may be something to expire.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.ages.next_due()
    }

    /// What all publications and the topics that have some cost, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Topics that are known, with and without publications.
    pub(super) fn topics(&self) -> usize {
        self.index.len()
    }

    /// Publications held.
    pub(super) fn publications(&self) -> usize {
        self.publications
    }
}

/// What is answered.
impl History {
    /// Everything that is newer than what the client has, if that is held.
    fn missed(
        &mut self,
        id: Option<RecordId>,
        position: &Position,
        wish: &Wish<'_>,
        now: Instant,
    ) -> Option<Arc<[u8]>> {
        let Since { epoch, offset: asked } = wish.since;
        let held = id.and_then(|id| self.record(id).held());
        let top = position.offset;
        // What went before it was handed over is nothing that anybody can have missed yet.
        let floor = held.map_or(top, |held| held.floor().min(top));
        if !self.is_ours(epoch) || !(floor..=top.max(wish.read_to)).contains(asked) {
            return None;
        }
        let Some((id, held)) = id.zip(held) else { return Some(Arc::default()) };
        // A client that already has what is still to come here would be given it again.
        if !held.range(top, *asked).is_empty() {
            return None;
        }
        let range = held.range(*asked, top);
        self.answer(id, &range, wish.bytes_max, now)
    }

    /// The newest publication, if the client does not have it, whatever it missed: as Centrifugo's recovery
    /// mode `cache`.
    fn latest(
        &mut self,
        id: Option<RecordId>,
        position: &Position,
        wish: &Wish<'_>,
        now: Instant,
    ) -> Option<Arc<[u8]>> {
        let Since { epoch, offset } = wish.since;
        if *offset > 0 && *offset == position.offset && **epoch == *position.epoch {
            return Some(Arc::default());
        }
        let id = id?;
        let held = self.record(id).held()?;
        let newest = held.range(position.offset.checked_sub(1)?, position.offset);
        if newest.is_empty() || held.has_ended(newest.start, now) {
            return None;
        }
        self.answer(id, &newest, wish.bytes_max, now)
    }

    /// Some publications of a topic, joined, unless they are more than `bytes_max`.
    fn answer(
        &mut self,
        id: RecordId,
        range: &Range<usize>,
        bytes_max: usize,
        now: Instant,
    ) -> Option<Arc<[u8]>> {
        let held = self.record(id).held()?;
        let Some(offsets) = held.offsets(range) else { return Some(Arc::default()) };
        if let Some(members) = self.answers.find(id, offsets, now) {
            return (members.len() <= bytes_max).then_some(members);
        }
        let members = if held.ends_of(offsets).any(|end| end <= now) {
            let open = range.clone().filter(|&index| !held.has_ended(index, now));
            Arc::from(join(held, open, bytes_max).ok()?)
        } else {
            copy(held, range, bytes_max)?
        };
        let until = held.ends_of(offsets).filter(|end| *end > now).min();
        self.answers.keep(id, Answer { offsets, until, members: Arc::clone(&members) });
        Some(members)
    }

    fn position_of(&self, id: Option<RecordId>, up_to: u64) -> Position {
        let offset = match id.map(|id| self.record(id)) {
            None => self.base.min(up_to),
            Some(record) => record.held().map_or(record.top.min(up_to), |held| held.newest(up_to)),
        };
        Position { epoch: Arc::clone(&self.epoch), offset }
    }

    fn is_ours(&self, epoch: &str) -> bool {
        epoch.is_empty() || *epoch == *self.epoch
    }
}

/// What is held, and of whom.
impl History {
    fn find(&self, topic: &str) -> Option<RecordId> {
        let hash = self.hasher.hash_one(topic);
        self.index.find(hash, |&id| *self.record(id).name == *topic).copied()
    }

    fn record(&self, id: RecordId) -> &Record {
        &self.records[id.0]
    }

    /// The topic, without what it has held long enough.
    fn find_trimmed(&mut self, topic: &str, now: Instant) -> Option<RecordId> {
        let id = self.find(topic)?;
        self.trim_by_age(id, now);
        // With its last publication it may have been forgotten.
        self.records.get(id.0).map(|_| id)
    }

    /// The topic, ready to hold a publication; if it holds none, this will be its oldest.
    fn open(&mut self, topic: &str, offset: u64, born: Tick, ttl: Duration) -> RecordId {
        let known = self.find(topic);
        let floor = match known.map(|id| (id, &self.records[id.0])) {
            Some((id, Record { state: State::Holding(_), .. })) => return id,
            Some((_, Record { top, state: State::Idle(turn), .. })) => {
                self.idle.remove(turn);
                *top
            }
            None => {
                // Not beyond: another topic of the same message may be forgotten already.
                assert!(offset >= self.base, "offset {offset} of '{topic}' is before {}", self.base);
                self.base.min(offset.saturating_sub(1))
            }
        };
        let id = known.unwrap_or(RecordId(self.records.vacancy()));
        let listing = Listing { born, offset, topic: id };
        let class = self.ages.class(ttl);
        self.ages.list(class, listing);
        self.bytes += cost_of(topic);
        let state = State::Holding(Box::new(Holding { held: Held::new(floor), class, listing }));
        match known {
            Some(id) => self.records[id.0].state = state,
            None => self.insert(Record { name: topic.into(), top: floor, state }),
        }
        id
    }

    fn insert(&mut self, record: Record) {
        let hash = self.hasher.hash_one(&*record.name);
        let id = RecordId(self.records.insert(record));
        let (records, hasher) = (&self.records, &self.hasher);
        self.index.insert_unique(hash, id, |id| hasher.hash_one(&*records[id.0].name));
    }

    /// Lets go of the oldest publication of all, or finds that the topic thought to have it is younger.
    /// Returns whether there was anything to look at.
    fn drop_oldest(&mut self) -> bool {
        let Some(listing) = self.ages.oldest() else { return false };
        self.trim(listing.topic, |entry| entry.offset == listing.offset);
        true
    }

    fn trim_by_age(&mut self, id: RecordId, now: Instant) {
        if let State::Holding(holding) = &self.record(id).state
            && let Some(due) = self.ages.newest_due(holding.class, now)
        {
            self.trim(id, |entry| entry.born <= due);
        }
    }

    /// Lets go of a topic's oldest publications as long as `goes` says so, and lists it as it is then.
    fn trim(&mut self, id: RecordId, goes: impl Fn(Entry) -> bool) {
        let State::Holding(holding) = &mut self.records[id.0].state else { return };
        while holding.held.oldest().is_some_and(&goes) {
            self.bytes -= holding.held.pop();
            self.publications -= 1;
            self.answers.forget(id);
        }
        let oldest = holding.held.oldest();
        if oldest.is_none_or(|oldest| oldest.offset != holding.listing.offset) {
            self.ages.unlist(holding.class, &holding.listing);
        }
        match oldest {
            Some(Entry { offset, .. }) if offset == holding.listing.offset => {}
            Some(Entry { offset, born, .. }) => {
                holding.listing = Listing { born, offset, topic: id };
                self.ages.list(holding.class, holding.listing);
            }
            None => self.rest(id),
        }
    }

    /// A topic has lost its last publication.
    fn rest(&mut self, id: RecordId) {
        self.idled += 1;
        let record = &mut self.records[id.0];
        record.state = State::Idle(self.idled);
        self.bytes -= cost_of(&record.name);
        self.idle.insert(self.idled, id);
        while self.idle.len() > self.topics_max
            && let Some((_, longest)) = self.idle.pop_first()
        {
            self.forget(longest);
        }
    }

    fn forget(&mut self, id: RecordId) {
        let hash = self.hasher.hash_one(&*self.record(id).name);
        if let Ok(entry) = self.index.find_entry(hash, |&other| other == id) {
            entry.remove();
        }
        self.base = self.base.max(self.records.remove(id.0).top);
    }
}

fn cost_of(topic: &str) -> usize {
    TOPIC_COST + topic.len()
}

fn page(held: &Held, query: &Query<'_>, now: Instant) -> Vec<u8> {
    let range = match query.since {
        None => 0..held.len(),
        Some(since) if query.reverse => held.range(0, since.offset.saturating_sub(1)),
        Some(since) => held.range(since.offset, u64::MAX),
    };
    let is_open = |index: &usize| !held.has_ended(*index, now);
    let joined = if query.reverse {
        join(held, range.rev().filter(is_open).take(query.limit), query.bytes_max)
    } else {
        join(held, range.filter(is_open).take(query.limit), query.bytes_max)
    };
    joined.unwrap_or_else(|TooMany(fitting)| fitting)
}

/// Those publications that fit in.
struct TooMany(Vec<u8>);

/// Publications, one by one.
fn join(held: &Held, indices: impl Iterator<Item = usize>, bytes_max: usize) -> Result<Vec<u8>, TooMany> {
    let mut joined = Vec::new();
    for index in indices {
        let (head, tail) = held.members(&(index..index + 1));
        let comma = usize::from(!joined.is_empty());
        if joined.len() + comma + head.len() + tail.len() > bytes_max {
            return Err(TooMany(joined));
        }
        if !joined.is_empty() {
            joined.push(b',');
        }
        joined.extend_from_slice(head);
        joined.extend_from_slice(tail);
    }
    Ok(joined)
}

/// Publications all at once, unless they are more than `bytes_max`.
fn copy(held: &Held, range: &Range<usize>, bytes_max: usize) -> Option<Arc<[u8]>> {
    let (head, tail) = held.members(range);
    if head.len() + tail.len() > bytes_max {
        return None;
    }
    Some(if tail.is_empty() { head.into() } else { [head, tail].concat().into() })
}
