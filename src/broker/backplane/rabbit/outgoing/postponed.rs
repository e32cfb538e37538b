//! Publishes that wait because RabbitMQ could not store one for the same destination.
//!
//! Every [`RETRY_AFTER`] one of them is the *probe*: it is sent, and RabbitMQ's answer counts for all publishes for that
//! destination. A destination has either a probe or a time for the next one, never both. No clock.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::broker::shares::Sender;

/// How long publishes are postponed after one of them could not be stored: long enough not to keep a RabbitMQ busy that
/// is out of room, short enough for dozens of attempts within `timeouts.publish`.
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(100);

/// A hash of all that RabbitMQ routes a publish by: exchange, topic and copies.
pub(super) type Destination = u64;

/// A publish: where it goes, whose it is, and its number.
#[derive(Clone, Copy, Debug)]
pub(super) struct PublishRef {
    pub(super) destination: Destination,
    pub(super) sender: Sender,
    pub(super) number: u64,
}

impl PublishRef {
    /// What operators send is tried before what clients send: it need not wait for room among theirs.
    fn rank(self) -> Rank {
        (self.sender != Sender::Operator, self.number)
    }
}

type Rank = (bool, u64);

/// All postponed publishes.
#[derive(Debug, Default)]
pub(super) struct Postponed {
    waiting: FxHashMap<Destination, Waiting>,
    /// When which destination has its next probe, in that order.
    ends: VecDeque<(Instant, Destination)>,
}

/// Publishes to one destination.
#[derive(Debug, Default)]
struct Waiting {
    /// All but the probe.
    ranks: BTreeSet<Rank>,
    /// It is due, or under way.
    probe: Option<Rank>,
    /// The last probe, if the next one is to be the one behind it.
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
    /// Whether a publish has to wait: others for its destination are postponed, and it is not the probe.
    pub(super) fn holds(&self, publish: PublishRef) -> bool {
        self.waiting.get(&publish.destination).is_some_and(|waiting| waiting.probe != Some(publish.rank()))
    }

    /// Whether a publish is postponed, and not the probe.
    pub(super) fn contains(&self, publish: PublishRef) -> bool {
        self.waiting.get(&publish.destination).is_some_and(|waiting| waiting.ranks.contains(&publish.rank()))
    }

    /// How many are.
    pub(super) fn len(&self) -> usize {
        self.waiting.values().map(|waiting| waiting.ranks.len()).sum()
    }

    fn is_probe(&self, publish: PublishRef) -> bool {
        self.waiting.get(&publish.destination).is_some_and(|waiting| waiting.probe == Some(publish.rank()))
    }

    /// Whether a publish is postponed and no probe is under way, so that RabbitMQ's last answer for the destination still
    /// counts: it cannot store it.
    pub(super) fn is_refused(&self, publish: PublishRef) -> bool {
        let waiting = self.waiting.get(&publish.destination);
        waiting.is_some_and(|waiting| waiting.probe.is_none() && waiting.ranks.contains(&publish.rank()))
    }

    /// Postpones a publish with the others for its destination.
    pub(super) fn join(&mut self, publish: PublishRef) {
        if let Some(waiting) = self.waiting.get_mut(&publish.destination) {
            waiting.ranks.insert(publish.rank());
        }
    }

    /// RabbitMQ could not store a publish: it is postponed. If it was the probe, returns the numbers of the others for the
    /// same destination. These are tried `in_turn`; where the order matters, the first one is tried again and again.
    pub(super) fn could_not_be_stored(
        &mut self,
        publish: PublishRef,
        in_turn: bool,
        now: Instant,
    ) -> Vec<u64> {
        let is_probe = self.is_probe(publish);
        let is_new = !self.waiting.contains_key(&publish.destination);
        if is_new || is_probe {
            self.ends.push_back((now + RETRY_AFTER, publish.destination));
        }
        let waiting = self.waiting.entry(publish.destination).or_default();
        let mut others = Vec::new();
        if is_probe {
            others.extend(waiting.ranks.iter().map(|(_, number)| *number));
            waiting.probe = None;
            waiting.after = in_turn.then_some(publish.rank());
        }
        waiting.ranks.insert(publish.rank());
        others
    }

    /// A publish was stored. If it was the probe, returns the numbers of the others for the same destination: they are no
    /// longer postponed.
    pub(super) fn was_stored(&mut self, publish: PublishRef) -> impl Iterator<Item = u64> + use<> {
        let waiting = if self.is_probe(publish) { self.waiting.remove(&publish.destination) } else { None };
        waiting.into_iter().flat_map(|waiting| waiting.ranks).map(|(_, number)| number)
    }

    /// A publish is gone. If it was the probe, another one will be.
    pub(super) fn remove(&mut self, publish: PublishRef, now: Instant) {
        let is_probe = self.is_probe(publish);
        let Some(waiting) = self.waiting.get_mut(&publish.destination) else { return };
        waiting.ranks.remove(&publish.rank());
        if is_probe {
            waiting.probe = None;
            self.ends.push_back((now + RETRY_AFTER, publish.destination));
        }
    }

    /// Makes the next publish a probe if it is time, and returns its number.
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

    /// Nothing is postponed any more.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.ends.clear();
    }
}
