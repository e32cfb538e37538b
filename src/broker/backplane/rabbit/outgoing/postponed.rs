//! Publishes that wait because RabbitMQ could not store one that goes where they go.
//!
//! Now and then one of them is the *probe*: it is sent, and what RabbitMQ says of it counts for all that wait with it.
//! Each destination here has either a probe or an end of its rest, never both. No clock.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::broker::shares::Sender;

/// How long publishes rest after one of them could not be stored: long enough not to keep a RabbitMQ busy that is out of
/// room, short enough to be tried dozens of times within `timeouts.publish`.
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(100);

/// A hash of all that RabbitMQ routes a publish by.
pub(super) type Destination = u64;

/// A publish: where it goes, whose it is, and its number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) destination: Destination,
    pub(super) sender: Sender,
    pub(super) number: u64,
}

impl Place {
    /// What operators send is tried before what clients send: it need not wait for room among theirs.
    fn rank(self) -> Rank {
        (self.sender != Sender::Operator, self.number)
    }
}

type Rank = (bool, u64);

/// All publishes that rest.
#[derive(Debug, Default)]
pub(super) struct Postponed {
    waiting: FxHashMap<Destination, Waiting>,
    /// When which of them have rested, in that order.
    ends: VecDeque<(Instant, Destination)>,
}

/// Publishes to one destination.
#[derive(Debug, Default)]
struct Waiting {
    /// Without the probe.
    ranks: BTreeSet<Rank>,
    /// It is due, or under way.
    probe: Option<Rank>,
    /// The next probe is the one behind this.
    after: Option<Rank>,
}

impl Waiting {
    fn next_probe(&mut self) -> Option<Rank> {
        let behind = |after| self.ranks.range((Bound::Excluded(after), Bound::Unbounded)).next();
        let next = self.after.and_then(behind).or_else(|| self.ranks.first()).copied();
        next.inspect(|rank| _ = self.ranks.remove(rank))
    }
}

impl Postponed {
    /// Whether a publish has to wait: others to its destination rest, and it is not their probe.
    pub(super) fn holds(&self, place: Place) -> bool {
        self.waiting.get(&place.destination).is_some_and(|waiting| waiting.probe != Some(place.rank()))
    }

    /// Whether a publish is postponed, and not the probe.
    pub(super) fn contains(&self, place: Place) -> bool {
        self.waiting.get(&place.destination).is_some_and(|waiting| waiting.ranks.contains(&place.rank()))
    }

    /// How many are.
    pub(super) fn len(&self) -> usize {
        self.waiting.values().map(|waiting| waiting.ranks.len()).sum()
    }

    fn is_probe(&self, place: Place) -> bool {
        self.waiting.get(&place.destination).is_some_and(|waiting| waiting.probe == Some(place.rank()))
    }

    /// Whether a publish rests, and RabbitMQ's last word on its destination is that it cannot store: no probe is on its way to
    /// show whether this is still so.
    pub(super) fn is_refused(&self, place: Place) -> bool {
        let waiting = self.waiting.get(&place.destination);
        waiting.is_some_and(|waiting| waiting.probe.is_none() && waiting.ranks.contains(&place.rank()))
    }

    /// A publish waits with those that rest.
    pub(super) fn join(&mut self, place: Place) {
        if let Some(waiting) = self.waiting.get_mut(&place.destination) {
            waiting.ranks.insert(place.rank());
        }
    }

    /// A publish could not be stored, and rests. If it was the probe, returns the numbers of those that rest with it. Those to
    /// one destination are tried `in_turn`, or the first again and again, where the order matters.
    pub(super) fn could_not_be_stored(&mut self, place: Place, in_turn: bool, now: Instant) -> Vec<u64> {
        let is_probe = self.is_probe(place);
        let is_new = !self.waiting.contains_key(&place.destination);
        if is_new || is_probe {
            self.ends.push_back((now + RETRY_AFTER, place.destination));
        }
        let waiting = self.waiting.entry(place.destination).or_default();
        let mut others = Vec::new();
        if is_probe {
            others.extend(waiting.ranks.iter().map(|(_, number)| *number));
            waiting.probe = None;
            waiting.after = in_turn.then_some(place.rank());
        }
        waiting.ranks.insert(place.rank());
        others
    }

    /// A publish was stored. If it was the probe, returns the numbers of those that rested with it: they rest no more.
    pub(super) fn was_stored(&mut self, place: Place) -> impl Iterator<Item = u64> + use<> {
        let waiting = if self.is_probe(place) { self.waiting.remove(&place.destination) } else { None };
        waiting.into_iter().flat_map(|waiting| waiting.ranks).map(|(_, number)| number)
    }

    /// A publish is there no more. If it was the probe, another one will be.
    pub(super) fn remove(&mut self, place: Place, now: Instant) {
        let is_probe = self.is_probe(place);
        let Some(waiting) = self.waiting.get_mut(&place.destination) else { return };
        waiting.ranks.remove(&place.rank());
        if is_probe {
            waiting.probe = None;
            self.ends.push_back((now + RETRY_AFTER, place.destination));
        }
    }

    /// The number of a publish that has become the probe of its destination, and is due; none if no rest is over.
    pub(super) fn next_probe(&mut self, now: Instant) -> Option<u64> {
        while let Some((until, _)) = self.ends.front()
            && *until <= now
            && let Some((_, destination)) = self.ends.pop_front()
        {
            let Some(waiting) = self.waiting.get_mut(&destination) else { continue };
            waiting.probe = waiting.next_probe();
            match waiting.probe {
                Some((_, number)) => return Some(number),
                None => drop(self.waiting.remove(&destination)),
            }
        }
        None
    }

    /// When [`Self::next_probe`] has something next.
    pub(super) fn next_change(&self) -> Option<Instant> {
        self.ends.front().map(|(until, _)| *until)
    }

    /// None rest any more.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.ends.clear();
    }
}
