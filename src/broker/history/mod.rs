//! The history: the latest publications of each topic, and which clients can recover.
//!
//! For each topic, the history knows the publications that it holds, and the topic's *floor*: the offset of
//! the newest publication that it no longer holds. A client that has everything up to the floor can receive
//! the rest. Offsets rise, but need not be consecutive: they number each topic's publications, or are those
//! of a stream that topics share.
//!
//! What an unknown topic has lost is unknown too, so its floor is the *base*. The base begins where the
//! history began, and rises to the last offset of each topic that is forgotten. So a topic that is forgotten
//! and comes back continues beyond its old offsets, and no client is told that it missed nothing because an
//! offset was used twice.
//!
//! Pure: time is an argument, nothing is sent, logged or counted here.
//!
//! # Memory
//!
//! A publication costs 16 bytes besides its data, and one with an expiration 24 more. One that a client made costs 96
//! more, and what it says of the client. Rings are up to a quarter larger than their content. A topic with publications
//! costs about 220 bytes besides its name, one without about 80. [`History::bytes`] counts all of that except idle topics
//! and unused ring space. The process uses half as much again, as `cargo bench --bench memory` shows: 96 bytes for a
//! publication with 46 bytes of data in each of 1,000 topics, and 95 to 150 in one; 63 of them are counted. Shared answers
//! use at most 16 MiB more.

mod answers;
mod expiry;
mod recovery;
mod ring;
mod topics;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::base::slab::Slab;
use crate::domain::codec::Codec;
use crate::domain::mail::Recovery;
use crate::domain::position::{Epoch, Position, Since};
use crate::domain::publication::Publication;

use answers::SharedAnswers;
use expiry::{ClassId, ExpiryIndex, Listing, RecordId};
use ring::Ring;

/// Bytes that a topic with publications counts, besides its name and its publications.
const TOPIC_COST: usize = 240;
/// Topics that one call of [`History::expire`] looks at, so that other work has its turn.
const EXPIRING_AT_ONCE: usize = 1024;

/// What a namespace keeps of each of its topics. `ttl` is the same for a topic while it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Keep {
    /// Publications per topic at most; 0: no history.
    pub(super) size: u32,
    /// How long each is held, to a tenth of a second.
    pub(super) ttl: Duration,
}

/// A publication to be kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addition<'a> {
    /// What is kept. Its offset is from 1, and greater than that of any earlier publication of the topic:
    /// [`History::next_offset`], or the stream's.
    pub(super) publication: Publication<'a>,
    /// How old it is already. `None`: its age is not known yet. It counts as new until [`History::date`] tells the age.
    pub(super) age: Option<Duration>,
    /// The age at which it expires, if its message has an `expiration`: nobody gets it from then on.
    pub(super) lifetime: Option<Duration>,
}

/// What is recovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Everything that the client missed, if all of it can be had.
    Stream,
    /// The newest publication, if the client does not have it.
    Cache,
}

/// What a client wants to recover.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecoveryQuery<'a> {
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
    /// Everything that was missed, or the newest publication.
    pub(super) mode: Mode,
    /// The client's codec.
    pub(super) codec: Codec,
    /// The bytes that a recovery may have, as the codec writes it: those of a frame.
    pub(super) bytes_max: usize,
}

/// The publications that a history command asks for.
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
}

/// The position asked from belongs to another numbering (error 112).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unrecoverable;

/// The recent publications of all topics.
#[derive(Debug)]
pub(super) struct History {
    epoch: Epoch,
    /// The floor of topics that are not known: nothing is known of what they published up to this offset.
    base: u64,
    bytes_max: usize,
    topics_max: usize,
    records: Slab<Record>,
    /// By the hash of the name. Names come from strangers, so that the seed is random.
    index: HashTable<RecordId>,
    hasher: RandomState,
    /// Topics with publications.
    expiry: ExpiryIndex,
    /// Topics without publications, in the order in which they lost the last one.
    idle: BTreeMap<u64, RecordId>,
    idled: u64,
    answers: SharedAnswers,
    /// Topics with publications whose age is not known yet. Some may be gone, or be there twice.
    undated: Vec<RecordId>,
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
    /// It has no publications, and its floor is its top. This is its number in [`History::idle`].
    Idle(u64),
    Holding(Box<Holding>),
}

#[derive(Debug)]
struct Holding {
    held: Ring,
    class: ClassId,
    /// How it is listed in [`History::expiry`].
    listing: Listing,
}

impl Record {
    fn held(&self) -> Option<&Ring> {
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
            expiry: ExpiryIndex::new(now),
            idle: BTreeMap::new(),
            idled: 0,
            answers: SharedAnswers::default(),
            undated: Vec::new(),
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
        self.expiry.clear();
        self.idle.clear();
        self.answers.clear();
        self.undated = Vec::new();
        self.bytes = 0;
        self.publications = 0;
    }

    /// Sets the limits of [`Self::new`]. If there is more, it goes with the next publications.
    pub(super) fn set_limits(&mut self, bytes_max: usize, topics_max: usize) {
        self.bytes_max = bytes_max;
        self.topics_max = topics_max;
    }

    /// The histories of some topics begin now: whoever has a position in them cannot go on there. `read_to` is the newest
    /// offset of a stream that topics share. Where each topic is numbered alone, and topics `come_back` that had a history
    /// before, one offset is skipped, because a topic may be forgotten at whose last offset a client stands.
    pub(super) fn begin(&mut self, is_meant: impl Fn(&str) -> bool, read_to: Option<u64>, come_back: bool) {
        let meant = |(number, record): (u32, &Record)| is_meant(&record.name).then_some(RecordId(number));
        let forgotten: Vec<RecordId> = self.records.iter().filter_map(meant).collect();
        forgotten.into_iter().for_each(|id| self.forget_now(id));
        self.base = match read_to {
            Some(read_to) => self.base.max(read_to),
            None => self.base + u64::from(come_back),
        };
    }

    /// Gives the epoch another name. Everything else stays.
    pub(super) fn rename(&mut self, epoch: Epoch) {
        self.epoch = epoch;
    }

    /// The offset of the topic's next publication, where this node numbers them: 1, 2, 3, ... . If topics were forgotten, a
    /// new topic begins beyond the offsets of all of those.
    pub(super) fn next_offset(&self, topic: &str) -> u64 {
        self.find(topic).map_or(self.base, |id| self.record(id).top) + 1
    }

    /// Keeps a publication, and drops older ones for which there is no room any more.
    ///
    /// # Panics
    /// If its offset is not greater than that of the topic's newest publication, or less than the base.
    pub(super) fn add(&mut self, topic: &str, addition: &Addition<'_>, keep: Keep, now: Instant) {
        if keep.size == 0 {
            return;
        }
        let Addition { publication, age, lifetime } = *addition;
        let offset = publication.offset;
        let born = self.expiry.birth(now, age.unwrap_or_default());
        let end = age.zip(lifetime).and_then(|(age, lifetime)| now.checked_add(lifetime.saturating_sub(age)));
        let id = self.open(topic, offset, born, keep.ttl);
        let Record { top, state, .. } = &mut self.records[id.0];
        assert!(offset > *top, "offset {offset} of '{topic}' does not come after {top}");
        *top = offset;
        if let State::Holding(holding) = state {
            let held = &mut holding.held;
            while held.len() >= keep.size as usize || !held.has_room(publication.data.len()) {
                self.bytes -= held.pop();
                self.publications -= 1;
            }
            held.push(&publication, born, end);
            if age.is_none() || held.is_undated() {
                if !held.is_undated() {
                    self.undated.push(id);
                }
                held.leave_undated(lifetime.filter(|_| age.is_none()));
            }
            self.bytes += Ring::cost(&publication);
            self.publications += 1;
        }
        self.answers.forget(id);
        while self.bytes > self.bytes_max && self.drop_oldest() {}
    }

    /// Whether a topic had no publication yet in this epoch, so that earlier subscribers may not know the epoch's name.
    pub(super) fn has_never_had(&self, topic: &str) -> bool {
        self.base == 0 && self.position(topic, u64::MAX).offset == 0
    }

    /// The position of a topic: that of its newest publication that is not beyond `up_to` (as in [`RecoveryQuery`]).
    pub(super) fn position(&self, topic: &str, up_to: u64) -> Position {
        self.position_of(self.find(topic), up_to)
    }

    /// Answers a recovery.
    pub(super) fn recover(&mut self, query: &RecoveryQuery<'_>, now: Instant) -> Recovery {
        let id = self.find_trimmed(query.topic, now);
        let position = self.position_of(id, query.up_to);
        let missed = match query.mode {
            Mode::Stream => self.missed(id, &position, query, now),
            Mode::Cache => self.latest(id, &position, query, now),
        };
        Recovery { position, missed }
    }

    /// Gives publications of a topic to `take`, until that returns false because it has no room for one. Returns the position
    /// of the topic's newest publication.
    ///
    /// # Errors
    /// If `since` is of another epoch.
    pub(super) fn read(
        &mut self,
        query: &Query<'_>,
        now: Instant,
        take: impl FnMut(&Publication<'_>) -> bool,
    ) -> Result<Position, Unrecoverable> {
        if query.since.is_some_and(|since| !self.is_ours(&since.epoch)) {
            return Err(Unrecoverable);
        }
        let id = self.find_trimmed(query.topic, now);
        if let Some(held) = id.and_then(|id| self.record(id).held()) {
            recovery::show(held, query, now, take);
        }
        Ok(self.position_of(id, u64::MAX))
    }

    /// Drops a topic's publications. Its offsets go on, so that nobody recovers without them.
    pub(super) fn remove(&mut self, topic: &str) {
        if let Some(id) = self.find(topic) {
            self.trim(id, |_| true);
        }
    }

    /// Drops expired publications: a limited number of them, so that [`Self::next_expiry`] may be in the past afterwards.
    pub(super) fn expire(&mut self, now: Instant) {
        for _ in 0..EXPIRING_AT_ONCE {
            let Some(listing) = self.expiry.due(now) else { return };
            self.trim_by_age(listing.topic, now);
        }
    }

    /// When there may be something to expire.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.expiry.next_due()
    }

    /// Bytes of all publications and of the topics that have some.
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
