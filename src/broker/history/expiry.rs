//! Finds the topic with the oldest publication, and topics with a publication that has expired.
//!
//! A topic is listed once, however many publications it has, with the offset of its oldest publication when
//! it was listed. That publication may be gone by now, so a topic that is taken from the list may have to be
//! listed again. Adding a publication to a topic, and trimming the topic, costs nothing here.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// What times are rounded to.
const TICK: Duration = Duration::from_millis(100);
/// Where the clock starts: publications that are read back may be up to 3.4 years older than the engine,
/// which may run for ten years.
const START: u32 = 1 << 30;

/// A point in time, or a length of it: saves half of each publication's index entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tick(u32);

/// The number of a topic's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct RecordId(pub(super) u32);

/// Which topics a time to live is common to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClassId(u16);

/// A topic, and an offset that its oldest publication has or had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Listing {
    pub(super) born: Tick,
    /// Of a stream, it tells which of two publications of the same tick came first.
    pub(super) offset: u64,
    pub(super) topic: RecordId,
}

#[derive(Debug)]
struct Class {
    ttl: Tick,
    topics: BTreeSet<Listing>,
}

/// All topics with publications, by age.
#[derive(Debug)]
pub(super) struct ExpiryIndex {
    start: Instant,
    /// One per time to live: at most one for each namespace that has topics here.
    classes: Vec<Class>,
}

impl ExpiryIndex {
    /// None yet.
    pub(super) fn new(start: Instant) -> Self {
        Self { start, classes: Vec::new() }
    }

    /// Takes all topics off.
    pub(super) fn clear(&mut self) {
        self.classes.clear();
    }

    /// The class of those that hold publications for `ttl`.
    pub(super) fn class(&mut self, ttl: Duration) -> ClassId {
        let ttl = ticks(ttl.as_nanos().div_ceil(TICK.as_nanos()));
        let found = self.classes.iter().position(|class| class.ttl == ttl);
        // A class without topics has nobody who knows its number.
        let unused = || self.classes.iter().position(|class| class.topics.is_empty());
        let index = found.or_else(unused).unwrap_or(self.classes.len());
        match self.classes.get_mut(index) {
            Some(class) => class.ttl = ttl,
            None => self.classes.push(Class { ttl, topics: BTreeSet::new() }),
        }
        ClassId(u16::try_from(index).expect("no more times to live than namespaces: 65,535"))
    }

    /// When a publication was born that has a certain age now: rounded so that none goes too early.
    pub(super) fn birth(&self, now: Instant, age: Duration) -> Tick {
        let nanos = self.nanos(now).saturating_sub(age.as_nanos());
        ticks(nanos.div_ceil(TICK.as_nanos()))
    }

    /// Lists a topic.
    pub(super) fn list(&mut self, class: ClassId, listing: Listing) {
        self.classes[usize::from(class.0)].topics.insert(listing);
    }

    /// Takes a topic off.
    pub(super) fn unlist(&mut self, class: ClassId, listing: &Listing) {
        self.classes[usize::from(class.0)].topics.remove(listing);
    }

    /// The topic that is listed with the oldest publication.
    pub(super) fn oldest(&self) -> Option<Listing> {
        self.classes.iter().filter_map(|class| class.topics.first()).min().copied()
    }

    /// A topic that is listed with a publication which has been held long enough.
    pub(super) fn due(&self, now: Instant) -> Option<Listing> {
        let now = self.tick(now);
        let firsts = self.classes.iter().filter_map(|class| Some((class, class.topics.first()?)));
        let mut due =
            firsts.filter(|(class, first)| class.newest_due(now).is_some_and(|due| first.born <= due));
        due.next().map(|(_, first)| *first)
    }

    /// The birth of the youngest publications of a class that have been held long enough, if any can have been.
    pub(super) fn newest_due(&self, class: ClassId, now: Instant) -> Option<Tick> {
        self.classes[usize::from(class.0)].newest_due(self.tick(now))
    }

    /// When there is something due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let ends =
            self.classes.iter().filter_map(|class| class.topics.first()?.born.0.checked_add(class.ttl.0));
        Some(self.start + TICK * ends.min()?.saturating_sub(START))
    }

    fn tick(&self, now: Instant) -> Tick {
        ticks(self.nanos(now) / TICK.as_nanos())
    }

    /// Since the beginning of the scale.
    fn nanos(&self, now: Instant) -> u128 {
        TICK.as_nanos() * u128::from(START) + now.saturating_duration_since(self.start).as_nanos()
    }
}

impl Class {
    fn newest_due(&self, now: Tick) -> Option<Tick> {
        now.0.checked_sub(self.ttl.0).map(Tick)
    }
}

fn ticks(count: u128) -> Tick {
    Tick(u32::try_from(count).unwrap_or(u32::MAX))
}
