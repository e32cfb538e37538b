//! Publishes that RabbitMQ has not confirmed: kept whatever becomes of the connection, and sent again until
//! they are confirmed or their time is over. No clock and no socket.
//!
//! A publish keeps its `message-id`, by which whoever gets it twice knows it. The publishes of one sender leave in the order
//! in which they came, and over a new connection so again, but for suspects (below), which are first. Senders take turns
//! (`turns`), and each has a share of the room ([`Shares`]). When a publish could not be stored, publishes that go where it goes (the same exchange, topic and copies)
//! wait for a while, so that the order stays; others do not wait for it. Then one publish leaves to see how it is now, and
//! what RabbitMQ says of it counts for all that rest with it: however many these are, they cost RabbitMQ one publish each
//! time ([`postponed`]). Dead letters have no order: each is sent at once, and rests when it could not be stored itself; and each
//! of those that rest has its turn to be the one that leaves, as a dead-letter exchange may route by headers.
//!
//! RabbitMQ refuses for good (no permission, a property that it does not take) by closing the channel, and does not
//! say which publish it meant. It looks at publishes in their order and at once, so it meant one of those that it has said
//! nothing of ([`Outgoing::unheard`]). If there was one only, this has failed; else they are suspects. While there are
//! suspects publishes leave one at a time, and RabbitMQ is asked after each whether it has taken it ([`Outcome::Taken`]):
//! who was taken is a suspect no more, though it may be confirmed much later or never. So the one to blame is found
//! over the next channel, and the others cost a round trip each, not the time until they are confirmed. Publishes
//! and dead letters have a channel each, and one of [`Outgoing`] each: neither waits for the other. What RabbitMQ would close
//! the whole connection for does not leave ([`Outcome::TooLarge`]).
//!
//! What a dead letter carries may be nowhere else. So one of which nothing is heard does not fail: RabbitMQ is away, or takes
//! nothing while it is short of memory. When its time is over it gives its tag back, lest undeliverable messages keep
//! others from coming, and waits without limit. Its time begins again when RabbitMQ says that it cannot store it, or has
//! nowhere to put it; if that is RabbitMQ's last word at the end, it fails. It is not while a publish is on its way to see
//! how it is now. That there is nowhere to put it is certain: it gives its tag back at once. How many there may be is a
//! matter of back-pressure: see [`Outgoing::has_room`].
//!
//! A publish whose time is over may have been stored all the same: its confirm may have been lost, or come
//! later. Nobody can know, so that "failed" means "not known to be safe". Sending it once more with the same
//! `message-id` is harmless.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{iter, mem};

use lapin::types::AMQPValue;
use rustc_hash::FxHashMap;

use crate::broker::shares::{Sender, Shares};
use crate::domain::mail::Asker;

use super::coverage::Ticket;
use super::headers::COPIES;
use super::message_cost;
use super::pending_publish::PendingPublish;
use super::publisher::{Outcome, Report, Unconfirmed};
use super::turns::Turns;

mod postponed;

use postponed::{Destination, Place, Postponed};

/// Why a publish was sent.
#[derive(Debug)]
pub(super) enum Purpose {
    /// Somebody published, and waits for the answer.
    Publish(Asker),
    /// A message could not be delivered; it is acknowledged when it is safe elsewhere. Without a tag, nothing waits
    /// for that: it was given back, or the link by which the message came is gone. The ticket is for what is known of the
    /// stream that it came from.
    DeadLetter { tag: Option<u64>, ticket: Option<Ticket> },
}

impl Purpose {
    fn sender(&self) -> Sender {
        match self {
            Self::Publish(asker) => asker.into(),
            Self::DeadLetter { .. } => Sender::Operator,
        }
    }

    fn settled(self, outcome: Result<(), Unconfirmed>) -> Settled {
        match self {
            Self::Publish(asker) => Settled::Publish(asker, outcome),
            Self::DeadLetter { tag, ticket } => Settled::DeadLetter { tag, ticket, outcome },
        }
    }
}

/// What has to be told of a publish.
#[derive(Debug)]
pub(super) enum Settled {
    Publish(Asker, Result<(), Unconfirmed>),
    DeadLetter {
        tag: Option<u64>,
        ticket: Option<Ticket>,
        outcome: Result<(), Unconfirmed>,
    },
    /// A dead letter is not safe yet, and goes on; this must not wait for it any longer. Nothing was heard of it, or it is
    /// routed to no queue.
    Released {
        tag: u64,
        is_unroutable: bool,
    },
}

/// All publishes of one channel that are not settled.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// How much time a publish has.
    limit: Duration,
    /// How many publishes there are, and may be, in number and in bytes, headers included.
    shares: Shares,
    /// How many are under way, and may be.
    under_way: usize,
    under_way_max: usize,
    next: u64,
    /// By number: in the order in which they came.
    open: BTreeMap<u64, Open>,
    /// When whose time is over.
    ends: BTreeSet<(Instant, u64)>,
    /// Those that should leave now, if they do not have to rest.
    due: Turns,
    /// Those that have left, and of which RabbitMQ has said nothing: if it refuses one for good, one of these. Those are among
    /// them whose time ended meanwhile.
    unheard: BTreeSet<u64>,
    /// One of these was refused for good.
    suspects: BTreeSet<u64>,
    /// Those that wait because one like them could not be stored.
    postponed: Postponed,
    /// Those whose time ended while they were under way, whose they were, and their bytes: the client library still
    /// keeps them, and they take room.
    late: FxHashMap<u64, (Sender, usize)>,
    /// Of destinations, which clients choose.
    hasher: RandomState,
}

#[derive(Debug)]
struct Open {
    purpose: Purpose,
    pending: Arc<PendingPublish>,
    destination: Destination,
    bytes: usize,
    /// When its time is over, if it has one.
    until: Option<Instant>,
    /// When it left, while it is under way.
    left: Option<Instant>,
    /// RabbitMQ could not store it, and its time is that from the first such word on.
    failure: Option<Unconfirmed>,
}

impl Open {
    fn place(&self, number: u64) -> Place {
        Place { destination: self.destination, sender: self.purpose.sender(), number }
    }

    fn is_dead_letter(&self) -> bool {
        matches!(self.purpose, Purpose::DeadLetter { .. })
    }
}

impl Outgoing {
    /// Each publish has `limit` to be confirmed, and there may be as many as `room`, with `bytes_max` in all, and so many of
    /// them under way.
    pub(super) fn new(limit: Duration, room: usize, bytes_max: usize, under_way_max: usize) -> Self {
        Self {
            limit,
            shares: Shares::new(room, bytes_max),
            under_way: 0,
            under_way_max,
            next: 0,
            open: BTreeMap::new(),
            ends: BTreeSet::new(),
            due: Turns::new(),
            unheard: BTreeSet::new(),
            suspects: BTreeSet::new(),
            postponed: Postponed::default(),
            late: FxHashMap::default(),
            hasher: RandomState::new(),
        }
    }

    /// Whether one more publish of this sender may come. A dead letter is taken if not, but messages that might become one
    /// should wait.
    pub(super) fn has_room(&self, sender: Sender) -> bool {
        self.shares.has_room(sender)
    }

    /// Takes a publish.
    pub(super) fn add(&mut self, purpose: Purpose, pending: PendingPublish, now: Instant) {
        let number = self.next;
        self.next += 1;
        let is_waited_for = !matches!(purpose, Purpose::DeadLetter { tag: None, .. });
        let sender = purpose.sender();
        let bytes = message_cost::of(&pending.body, &pending.properties);
        self.shares.add(sender, bytes);
        self.due.add(sender, number);
        let (destination, pending) = (self.destination(&pending), Arc::new(pending));
        let open = Open { purpose, pending, destination, bytes, until: None, left: None, failure: None };
        self.open.insert(number, open);
        if is_waited_for {
            self.set_time(number, Some(now + self.limit));
        }
    }

    fn destination(&self, pending: &PendingPublish) -> Destination {
        let mut hasher = self.hasher.build_hasher();
        (pending.exchange.as_str(), pending.routing_key.as_str()).hash(&mut hasher);
        let copies = pending.properties.headers().as_ref().and_then(|headers| headers.inner().get(COPIES));
        if let Some(AMQPValue::FieldArray(copies)) = copies {
            for copy in copies.as_slice() {
                if let AMQPValue::LongString(topic) = copy {
                    topic.as_bytes().hash(&mut hasher);
                }
            }
        }
        hasher.finish()
    }

    fn set_time(&mut self, number: u64, until: Option<Instant>) {
        let Some(open) = self.open.get_mut(&number) else { return };
        if let Some(former) = mem::replace(&mut open.until, until) {
            self.ends.remove(&(former, number));
        }
        self.ends.extend(until.map(|until| (until, number)));
    }

    /// It takes room until the caller has given that back.
    fn take_out(&mut self, number: u64) -> Option<Open> {
        self.set_time(number, None);
        self.suspects.remove(&number);
        self.open.remove(&number)
    }

    /// The publish to send next, with its number. It is under way from then on. While there are suspects there is none before
    /// RabbitMQ has said something of the one before.
    pub(super) fn leave(&mut self, now: Instant) -> Option<(u64, Arc<PendingPublish>)> {
        if self.has_suspects() && !self.unheard.is_empty() || self.under_way >= self.under_way_max {
            return None;
        }
        let number = self.next_due()?;
        let open = self.open.get_mut(&number)?;
        open.left = Some(now);
        self.under_way += 1;
        self.due.left(open.purpose.sender());
        self.unheard.insert(number);
        Some((number, Arc::clone(&open.pending)))
    }

    /// Whether one of these may be refused for good. Then RabbitMQ has to be asked after each that leaves whether it has taken
    /// it.
    pub(super) fn has_suspects(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// The next publish that is due. Suspects are first, and do not rest before RabbitMQ has said something of them: all others
    /// wait for that. Those before the next one that have to rest, rest, but for dead letters that were not tried.
    fn next_due(&mut self) -> Option<u64> {
        if let Some(&suspect) = self.suspects.first() {
            self.due.remove(self.open[&suspect].purpose.sender(), suspect);
            return Some(suspect);
        }
        loop {
            let number = self.due.next()?;
            let open = &self.open[&number];
            let is_untried = open.is_dead_letter() && open.failure.is_none();
            if is_untried || !self.postponed.holds(open.place(number)) {
                return Some(number);
            }
            self.postponed.join(open.place(number));
        }
    }

    /// Takes RabbitMQ's word about a publish that was under way. If it could not be stored, it rests and is due again, and
    /// so is what rests with it. Returns what has to be told of these.
    pub(super) fn hear(&mut self, report: Report, now: Instant) -> impl Iterator<Item = Settled> + use<> {
        let Report { number, outcome } = report;
        self.unheard.remove(&number);
        self.suspects.remove(&number);
        if outcome != Outcome::Taken
            && let Some((sender, bytes)) = self.late.remove(&number)
        {
            self.shares.remove(sender, bytes);
        }
        let (settled, others) = match outcome {
            Outcome::Taken => (None, Vec::new()),
            Outcome::Stored => (self.is_stored(number, now), Vec::new()),
            Outcome::NotStored => (None, self.is_not_stored(number, false, now)),
            Outcome::Unroutable => (None, self.is_not_stored(number, true, now)),
            Outcome::TooLarge => (self.is_too_large(number, now), Vec::new()),
        };
        settled.into_iter().chain(others)
    }

    /// A publish is no longer under way. Returns since when it was, if so.
    fn is_back(&mut self, number: u64) -> Option<(Place, Instant)> {
        let open = self.open.get_mut(&number)?;
        let left = open.left.take()?;
        self.under_way -= 1;
        Some((open.place(number), left))
    }

    fn is_stored(&mut self, number: u64, now: Instant) -> Option<Settled> {
        let (place, left) = self.is_back(number)?;
        self.due.answered(place.sender, left, now);
        let Open { purpose, bytes, .. } = self.take_out(number)?;
        self.shares.remove(place.sender, bytes);
        for number in self.postponed.was_stored(place) {
            if let Some(open) = self.open.get(&number) {
                self.due.add(open.purpose.sender(), number);
            }
        }
        Some(purpose.settled(Ok(())))
    }

    fn is_too_large(&mut self, number: u64, now: Instant) -> Option<Settled> {
        let (place, _) = self.is_back(number)?;
        self.due.is_back(place.sender);
        self.fail(number, Unconfirmed::TooLarge, now)
    }

    fn is_not_stored(&mut self, number: u64, is_unroutable: bool, now: Instant) -> Vec<Settled> {
        let Some((place, left)) = self.is_back(number) else { return Vec::new() };
        self.due.answered(place.sender, left, now);
        let in_turn = self.open.get(&number).is_some_and(Open::is_dead_letter);
        let others = self.postponed.could_not_be_stored(place, in_turn, now);
        let all = iter::once(number).chain(others);
        all.filter_map(|number| self.could_not_be_stored(number, is_unroutable, now)).collect()
    }

    /// A publish, or one that shows how it would be with this one, could not be stored. From the first such word on a dead letter
    /// has its time again.
    fn could_not_be_stored(&mut self, number: u64, is_unroutable: bool, now: Instant) -> Option<Settled> {
        let failure = if is_unroutable { Unconfirmed::Unroutable } else { Unconfirmed::NotStored };
        let open = self.open.get_mut(&number)?;
        let is_first = open.failure.replace(failure).is_none();
        let Purpose::DeadLetter { tag, .. } = &mut open.purpose else { return None };
        let tag = tag.take_if(|_| is_unroutable);
        if is_first {
            self.set_time(number, Some(now + self.limit));
        }
        tag.map(|tag| Settled::Released { tag, is_unroutable })
    }

    /// Time has passed: that of publishes is over, of which is told, and others have rested.
    pub(super) fn pass(&mut self, now: Instant) -> Vec<Settled> {
        let mut settled = Vec::new();
        while let Some(&(until, number)) = self.ends.first()
            && until <= now
        {
            settled.extend(self.time_is_over(number, now));
        }
        while let Some(number) = self.postponed.next_probe(now) {
            if let Some(open) = self.open.get(&number) {
                self.due.add(open.purpose.sender(), number);
            }
        }
        settled
    }

    fn time_is_over(&mut self, number: u64, now: Instant) -> Option<Settled> {
        self.set_time(number, None);
        let open = self.open.get_mut(&number)?;
        let (place, failure) = (open.place(number), open.failure.take());
        match &mut open.purpose {
            Purpose::DeadLetter { tag, .. } if failure.is_none() || !self.postponed.is_refused(place) => {
                tag.take().map(|tag| Settled::Released { tag, is_unroutable: false })
            }
            _ => self.fail(number, failure.unwrap_or(Unconfirmed::Late), now),
        }
    }

    /// A publish fails: it must not leave, and what is heard of it is of no interest.
    fn fail(&mut self, number: u64, error: Unconfirmed, now: Instant) -> Option<Settled> {
        let open = self.take_out(number)?;
        let place = open.place(number);
        if open.left.is_some() {
            self.under_way -= 1;
            self.due.is_back(place.sender);
            self.late.insert(number, (place.sender, open.bytes));
        } else {
            self.shares.remove(place.sender, open.bytes);
        }
        self.postponed.remove(place, now);
        self.due.remove(place.sender, number);
        Some(open.purpose.settled(Err(error)))
    }

    /// When [`Self::pass`] has something to do next.
    pub(super) fn next_change(&self) -> Option<Instant> {
        let ends = self.ends.first().map(|(until, _)| *until);
        ends.into_iter().chain(self.postponed.next_change()).min()
    }

    /// The channel is gone, and all publishes are for the next one. If it is gone because RabbitMQ `refused` a publish, in
    /// these words, and nothing was heard of one publish only, this has failed, and is returned.
    pub(super) fn channel_is_gone(&mut self, refused: Option<&str>) -> Option<Settled> {
        self.postponed.clear();
        for (_, (sender, bytes)) in self.late.drain() {
            self.shares.remove(sender, bytes);
        }
        for open in self.open.values_mut().filter_map(|open| open.left.take().map(|_| open)) {
            self.due.is_back(open.purpose.sender());
        }
        self.under_way = 0;
        let mut unheard = mem::take(&mut self.unheard);
        let is_one = unheard.len() == 1;
        unheard.retain(|number| self.open.contains_key(number));
        let mut failed = None;
        match refused {
            Some(text) if is_one => {
                failed = unheard.pop_first().and_then(|number| self.is_refused(number, text))
            }
            Some(_) => self.suspects.append(&mut unheard),
            None => {}
        }
        for (&number, open) in &self.open {
            self.due.add(open.purpose.sender(), number);
        }
        failed
    }

    /// A publish fails that is not under way: RabbitMQ would refuse it again.
    fn is_refused(&mut self, number: u64, text: &str) -> Option<Settled> {
        let Open { purpose, bytes, .. } = self.take_out(number)?;
        self.shares.remove(purpose.sender(), bytes);
        Some(purpose.settled(Err(Unconfirmed::Refused(text.to_owned()))))
    }

    /// The connection by which messages came is gone, and with it the tags of all dead letters.
    pub(super) fn tags_are_void(&mut self) {
        for (number, Open { purpose, until, failure, .. }) in &mut self.open {
            if let Purpose::DeadLetter { tag, .. } = purpose {
                (*tag, *failure) = (None, None);
                until.take().map(|until| self.ends.remove(&(until, *number)));
            }
        }
    }

    /// Publishes that are not settled.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests;
