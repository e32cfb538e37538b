//! The topics of the history: a topic is known from its first publication on, and forgotten when too many
//! other topics have had publications more recently.

use std::hash::BuildHasher as _;
use std::time::{Duration, Instant};

use super::expiry::{Listing, RecordId, Tick};
use super::ring::{Entry, Ring};
use super::{History, Holding, Record, State, TOPIC_COST};

impl History {
    /// The topic of that name, if it is known.
    pub(super) fn find(&self, topic: &str) -> Option<RecordId> {
        let hash = self.hasher.hash_one(topic);
        self.index.find(hash, |&id| *self.record(id).name == *topic).copied()
    }

    /// The record of a topic.
    pub(super) fn record(&self, id: RecordId) -> &Record {
        &self.records[id.0]
    }

    /// The topic, without expired publications.
    pub(super) fn find_trimmed(&mut self, topic: &str, now: Instant) -> Option<RecordId> {
        let id = self.find(topic)?;
        self.trim_by_age(id, now);
        // With its last publication it may have been forgotten.
        self.records.get(id.0).map(|_| id)
    }

    /// The topic, ready to hold a publication. If it holds none, this will be its oldest.
    pub(super) fn open(&mut self, topic: &str, offset: u64, born: Tick, ttl: Duration) -> RecordId {
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
        let id = known.unwrap_or_else(|| RecordId(self.records.vacancy()));
        let listing = Listing { born, offset, topic: id };
        let class = self.expiry.class(ttl);
        self.expiry.list(class, listing);
        self.bytes += cost_of(topic);
        let state = State::Holding(Box::new(Holding { held: Ring::new(floor), class, listing }));
        match known {
            Some(id) => self.records[id.0].state = state,
            None => self.insert(Record { name: topic.into(), top: floor, state }),
        }
        id
    }

    /// Publications of a topic were missed: drops those that are held, and skips one offset, so that nobody
    /// recovers across the hole.
    pub(in crate::broker) fn miss(&mut self, topic: &str) {
        self.remove(topic);
        if let Some(id) = self.find(topic) {
            self.records[id.0].top += 1;
            return;
        }
        let id = RecordId(self.records.vacancy());
        self.insert(Record { name: topic.into(), top: self.base + 1, state: State::Idle(0) });
        self.bytes += cost_of(topic);
        self.rest(id);
    }

    fn insert(&mut self, record: Record) {
        let hash = self.hasher.hash_one(&*record.name);
        let id = RecordId(self.records.insert(record));
        let (records, hasher) = (&self.records, &self.hasher);
        self.index.insert_unique(hash, id, |id| hasher.hash_one(&*records[id.0].name));
    }

    /// Drops the oldest publication of all, or finds that the topic that was listed with it has a younger
    /// one. Returns false if there is none.
    pub(super) fn drop_oldest(&mut self) -> bool {
        let Some(listing) = self.expiry.oldest() else { return false };
        self.trim(listing.topic, |entry| entry.offset == listing.offset);
        true
    }

    /// Drops expired publications of a topic.
    pub(super) fn trim_by_age(&mut self, id: RecordId, now: Instant) {
        if let State::Holding(holding) = &self.record(id).state
            && let Some(due) = self.expiry.newest_due(holding.class, now)
        {
            self.trim(id, |entry| entry.born <= due);
        }
    }

    /// Drops a topic's oldest publications while `goes` says so, and lists it again.
    pub(super) fn trim(&mut self, id: RecordId, goes: impl Fn(Entry) -> bool) {
        let State::Holding(holding) = &mut self.records[id.0].state else { return };
        while holding.held.oldest().is_some_and(&goes) {
            self.bytes -= holding.held.pop();
            self.publications -= 1;
            self.answers.forget(id);
        }
        let oldest = holding.held.oldest();
        if oldest.is_some_and(|oldest| oldest.offset == holding.listing.offset) {
            return;
        }
        self.expiry.unlist(holding.class, &holding.listing);
        match oldest {
            Some(Entry { offset, born, .. }) => {
                holding.listing = Listing { born, offset, topic: id };
                self.expiry.list(holding.class, holding.listing);
            }
            None => self.rest(id),
        }
    }

    /// Sets the age of all publications with an unknown age to `age` at most.
    pub(in crate::broker) fn date(&mut self, age: Duration, now: Instant) {
        let born = self.expiry.birth(now, age);
        for id in std::mem::take(&mut self.undated) {
            if self.records.get(id.0).is_none() {
                continue;
            }
            let State::Holding(holding) = &mut self.records[id.0].state else { continue };
            holding.held.date(born, age, now);
            self.answers.forget(id);
            if let Some(oldest) = holding.held.oldest().filter(|oldest| oldest.born != holding.listing.born) {
                self.expiry.unlist(holding.class, &holding.listing);
                holding.listing = Listing { born: oldest.born, offset: oldest.offset, topic: id };
                self.expiry.list(holding.class, holding.listing);
            }
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

    /// Forgets a topic, whatever it holds.
    pub(super) fn forget_now(&mut self, id: RecordId) {
        // When another one became idle, it may have been forgotten.
        if self.records.get(id.0).is_some() {
            self.trim(id, |_| true);
        }
        if let Some(Record { state: State::Idle(turn), .. }) = self.records.get(id.0) {
            self.idle.remove(turn);
            self.forget(id);
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

/// What a topic with publications costs besides them.
pub(super) fn cost_of(topic: &str) -> usize {
    TOPIC_COST + topic.len()
}
