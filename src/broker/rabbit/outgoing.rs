//! Letters that RabbitMQ has not confirmed: kept whatever becomes of the connection, and sent again until
//! they are confirmed or their time is over. No clock and no socket.
//!
//! A letter keeps its `message-id`, by which whoever gets it twice knows it. The letters of one sender leave in the order
//! in which they came, and over a new connection so again; senders take turns (`turns`), and each has a share of the room
//! ([`Shares`]). When a letter could not be stored, nothing leaves to the same exchange and topic for a while, so that
//! the order stays; others do not wait for it. Then one letter leaves to see how it is now, and what RabbitMQ says of it
//! counts for all that rest with it: however many these are, they cost RabbitMQ one letter each time.
//!
//! RabbitMQ refuses for good (no permission, a property that it does not take) by closing the channel, and does not
//! say which letter it meant. So those that were under way are suspects: over the next channels, until each of them
//! is settled, letters leave one at a time, and the one that was alone under way when the channel was closed has
//! failed. It costs two channels, and the others some time. A suspect of which nothing is heard in its time is none any
//! more: RabbitMQ refuses at once. Publishes and burials have a channel each, and one of
//! [`Outgoing`] each: neither waits for the other. If it is the connection that RabbitMQ closes, both have suspects, and
//! wait for each other until there are none ([`Letters`](super::letters::Letters)).
//!
//! What a burial carries may be nowhere else. So one of which nothing is heard does not fail: RabbitMQ is away, or takes
//! nothing while it is short of memory. When its time is over it gives its tag back, lest undeliverable messages keep
//! others from coming, and waits without limit. Its time begins again when RabbitMQ says that it cannot store it, or has
//! nowhere to put it; if this is still so at the end, it fails. That there is nowhere to put it is certain: it gives its
//! tag back at once. How many there may be is a matter of back-pressure: see [`Outgoing::has_room`].
//!
//! A letter whose time is over may have been stored all the same: its confirm may have been lost, or come
//! later. Nobody can know, so that "failed" means "not known to be safe". Sending it once more with the same
//! `message-id` is harmless.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lapin::types::ShortString;
use rustc_hash::FxHashMap;

use crate::broker::shares::{Sender, Shares};
use crate::mail::Asker;

use super::coverage::Ticket;
use super::publisher::{Letter, Outcome, Report, Unconfirmed};
use super::turns::Turns;
use super::weight;

/// How long a topic rests after one of its letters could not be stored: long enough not to keep a RabbitMQ busy that
/// is out of room, short enough to be tried dozens of times within `timeouts.publish`.
const REST: Duration = Duration::from_millis(100);

/// Why a letter was sent.
#[derive(Debug)]
pub(super) enum Purpose {
    /// Somebody published, and waits for the answer.
    Publish(Asker),
    /// A message could not be delivered; it is acknowledged when it is safe elsewhere. Without a tag, nothing waits
    /// for that: it was given back, or the link by which the message came is gone. The ticket is for what is known of the
    /// stream that it came from.
    Burial { tag: Option<u64>, ticket: Option<Ticket> },
}

impl Purpose {
    fn sender(&self) -> Sender {
        match self {
            Self::Publish(asker) => asker.into(),
            Self::Burial { .. } => Sender::Operator,
        }
    }

    fn settled(self, outcome: Result<(), Unconfirmed>) -> Settled {
        match self {
            Self::Publish(asker) => Settled::Publish(asker, outcome),
            Self::Burial { tag, ticket } => Settled::Burial { tag, ticket, outcome },
        }
    }
}

/// What has to be told of a letter.
#[derive(Debug)]
pub(super) enum Settled {
    Publish(Asker, Result<(), Unconfirmed>),
    Burial {
        tag: Option<u64>,
        ticket: Option<Ticket>,
        outcome: Result<(), Unconfirmed>,
    },
    /// A burial is not safe yet, and goes on; this must not wait for it any longer. Nothing was heard of it, or it is
    /// routed to no queue.
    Released {
        tag: u64,
        is_unroutable: bool,
    },
}

/// All letters of one channel that are not settled.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// How much time a letter has.
    limit: Duration,
    /// How many letters there are, and may be, in number and in bytes, headers included.
    shares: Shares,
    next: u64,
    /// By number: in the order in which they came.
    open: BTreeMap<u64, Open>,
    /// When whose time is over.
    ends: BTreeSet<(Instant, u64)>,
    /// Those that should leave now, if their topic does not rest.
    due: Turns,
    /// Those that have left, and of which nothing was heard.
    under_way: BTreeSet<u64>,
    /// One of these was refused for good.
    suspects: BTreeSet<u64>,
    /// The one that left alone while there were suspects, and until when others wait for the word on it.
    alone: Option<(u64, Instant)>,
    /// Those that wait because one like them could not be stored.
    resting: FxHashMap<Destination, Resting>,
    /// When which of them have rested, in that order.
    rests: VecDeque<(Instant, Destination)>,
    /// Those whose time ended while they were under way, whose they were, and their bytes: the client library still
    /// keeps them, and they take room.
    late: FxHashMap<u64, (Sender, usize)>,
}

/// Letters to one destination that wait.
#[derive(Debug, Default)]
struct Resting {
    numbers: BTreeSet<u64>,
    /// The one that is to show whether RabbitMQ stores them now. It is due, or under way.
    probe: Option<u64>,
}

/// An exchange and a topic.
type Destination = (ShortString, ShortString);

fn destination(letter: &Letter) -> Destination {
    (letter.exchange.clone(), letter.routing_key.clone())
}

#[derive(Debug)]
struct Open {
    purpose: Purpose,
    letter: Arc<Letter>,
    bytes: usize,
    /// When its time is over, if it has one.
    until: Option<Instant>,
    /// When it left last.
    left: Option<Instant>,
    /// RabbitMQ could not store it, and its time is that from the first such word on.
    failure: Option<Unconfirmed>,
}

impl Outgoing {
    /// Each letter has `limit` to be confirmed, and there may be as many as `room`, with `bytes_max` in all.
    pub(super) fn new(limit: Duration, room: usize, bytes_max: usize) -> Self {
        Self {
            limit,
            shares: Shares::new(room, bytes_max),
            next: 0,
            open: BTreeMap::new(),
            ends: BTreeSet::new(),
            due: Turns::new(),
            under_way: BTreeSet::new(),
            suspects: BTreeSet::new(),
            alone: None,
            resting: FxHashMap::default(),
            rests: VecDeque::new(),
            late: FxHashMap::default(),
        }
    }

    /// Whether one more letter of this sender may come. A burial is taken if not, but messages that might become one
    /// should wait.
    pub(super) fn has_room(&self, sender: Sender) -> bool {
        self.shares.has_room(sender)
    }

    /// Takes a letter.
    pub(super) fn add(&mut self, purpose: Purpose, letter: Letter, now: Instant) {
        let number = self.next;
        self.next += 1;
        let is_waited_for = !matches!(purpose, Purpose::Burial { tag: None, .. });
        let sender = purpose.sender();
        let bytes = weight::of(&letter.body, &letter.properties);
        self.shares.add(sender, bytes);
        self.due.add(sender, number);
        let open = Open { purpose, letter: Arc::new(letter), bytes, until: None, left: None, failure: None };
        self.open.insert(number, open);
        if is_waited_for {
            self.set_time(number, Some(now + self.limit));
        }
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

    /// The letter to send next, with its number. It is under way from then on; while there are suspects, alone.
    pub(super) fn leave(&mut self, now: Instant) -> Option<(u64, Arc<Letter>)> {
        let is_alone = self.has_suspects();
        if is_alone && self.alone.is_some() {
            return None;
        }
        let number = self.next_due()?;
        let open = self.open.get_mut(&number)?;
        open.left = Some(now);
        self.due.left(open.purpose.sender());
        self.under_way.insert(number);
        if is_alone {
            self.alone = Some((number, now + self.limit));
        }
        Some((number, Arc::clone(&open.letter)))
    }

    /// Whether one of these may be refused for good.
    pub(super) fn has_suspects(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// Whether the word on one that left alone is waited for.
    pub(super) fn waits_for_one(&self) -> bool {
        self.alone.is_some()
    }

    /// The next letter that is due. Those before it that have to rest, rest.
    fn next_due(&mut self) -> Option<u64> {
        loop {
            let number = self.due.next()?;
            match self.resting.get_mut(&destination(&self.open[&number].letter)) {
                Some(resting) if resting.probe != Some(number) => resting.numbers.insert(number),
                _ => return Some(number),
            };
        }
    }

    /// A letter is no longer under way. Returns whether it was.
    fn is_back(&mut self, number: u64) -> bool {
        self.alone = self.alone.take_if(|(alone, _)| *alone != number);
        self.under_way.remove(&number)
    }

    /// Takes RabbitMQ's word about a letter that was under way. If it could not be stored, it rests and is due again, and
    /// so is what rests with it. Returns what has to be told of these.
    pub(super) fn hear(&mut self, report: Report, now: Instant) -> impl Iterator<Item = Settled> + use<> {
        let Report { number, outcome } = report;
        if let Some((sender, bytes)) = self.late.remove(&number) {
            self.shares.remove(sender, bytes);
        }
        let is_awaited = self.is_back(number);
        let settled =
            if is_awaited && outcome == Outcome::Stored { self.is_stored(number, now) } else { None };
        let is_refused = is_awaited && outcome != Outcome::Stored;
        let others = if is_refused { self.is_not_stored(number, outcome, now) } else { Vec::new() };
        settled.into_iter().chain(others)
    }

    fn is_stored(&mut self, number: u64, now: Instant) -> Option<Settled> {
        let Open { purpose, letter, bytes, left, .. } = self.take_out(number)?;
        let sender = purpose.sender();
        self.due.answered(sender, left, now);
        self.shares.remove(sender, bytes);
        if !self.resting.is_empty() {
            self.is_taken(&destination(&letter), number);
        }
        Some(purpose.settled(Ok(())))
    }

    fn is_not_stored(&mut self, number: u64, outcome: Outcome, now: Instant) -> Vec<Settled> {
        let Some(open) = self.open.get(&number) else { return Vec::new() };
        let destination = destination(&open.letter);
        self.due.answered(open.purpose.sender(), open.left, now);
        self.suspects.remove(&number);
        let is_unroutable = outcome == Outcome::Unroutable;
        let mut settled: Vec<_> = self.could_not_be_stored(number, is_unroutable, now).into_iter().collect();
        if self.is_probe(&destination, number) {
            let with_it = self.resting.get(&destination).map(|resting| resting.numbers.clone());
            for number in with_it.into_iter().flatten() {
                settled.extend(self.could_not_be_stored(number, is_unroutable, now));
            }
        }
        self.rest(destination, number, now);
        settled
    }

    /// A letter, or one that shows how it would be with this one, could not be stored. From the first such word on a burial
    /// has its time again.
    fn could_not_be_stored(&mut self, number: u64, is_unroutable: bool, now: Instant) -> Option<Settled> {
        let failure = if is_unroutable { Unconfirmed::Unroutable } else { Unconfirmed::NotStored };
        let open = self.open.get_mut(&number)?;
        let is_first = open.failure.replace(failure).is_none();
        let Purpose::Burial { tag, .. } = &mut open.purpose else { return None };
        let tag = tag.take_if(|_| is_unroutable);
        if is_first {
            self.set_time(number, Some(now + self.limit));
        }
        tag.map(|tag| Settled::Released { tag, is_unroutable })
    }

    fn is_probe(&self, destination: &Destination, number: u64) -> bool {
        self.resting.get(destination).is_some_and(|resting| resting.probe == Some(number))
    }

    /// A letter was stored. If it was to show that, those that rest with it are due.
    fn is_taken(&mut self, destination: &Destination, number: u64) {
        if !self.is_probe(destination, number) {
            return;
        }
        for number in self.resting.remove(destination).into_iter().flat_map(|resting| resting.numbers) {
            let sender = self.open.get(&number).map(|open| open.purpose.sender());
            sender.into_iter().for_each(|sender| self.due.add(sender, number));
        }
    }

    fn rest(&mut self, destination: Destination, number: u64, now: Instant) {
        let is_probe = self.is_probe(&destination, number);
        let is_new = !self.resting.contains_key(&destination);
        if is_new || is_probe {
            self.rests.push_back((now + REST, destination.clone()));
        }
        let resting = self.resting.entry(destination).or_default();
        resting.numbers.insert(number);
        resting.probe = resting.probe.take_if(|_| !is_probe);
    }

    /// Time has passed: that of letters is over, of which is told, and others have rested.
    pub(super) fn pass(&mut self, now: Instant) -> Vec<Settled> {
        let mut settled = Vec::new();
        while let Some(&(until, number)) = self.ends.first()
            && until <= now
        {
            settled.extend(self.time_is_over(number, now));
        }
        if let Some((number, _)) = self.alone.take_if(|(_, until)| *until <= now) {
            self.suspects.remove(&number);
        }
        while let Some((until, _)) = self.rests.front()
            && *until <= now
            && let Some((_, destination)) = self.rests.pop_front()
        {
            self.has_rested(&destination);
        }
        settled
    }

    /// One of those that rest is due.
    fn has_rested(&mut self, destination: &Destination) {
        let Some(resting) = self.resting.get_mut(destination) else { return };
        resting.probe = resting.numbers.pop_first();
        match resting.probe.and_then(|number| Some((number, self.open.get(&number)?))) {
            Some((number, open)) => self.due.add(open.purpose.sender(), number),
            None => drop(self.resting.remove(destination)),
        }
    }

    fn time_is_over(&mut self, number: u64, now: Instant) -> Option<Settled> {
        self.set_time(number, None);
        let Open { purpose, letter, failure, .. } = self.open.get_mut(&number)?;
        let resting = self.resting.get(&destination(letter));
        let rests = resting.is_some_and(|resting| resting.numbers.contains(&number));
        match purpose {
            Purpose::Burial { tag, .. } if failure.is_none() || !rests => {
                *failure = None;
                tag.take().map(|tag| Settled::Released { tag, is_unroutable: false })
            }
            _ => self.fail(number, now),
        }
    }

    /// A letter fails: it must not leave, and what is heard of it is of no interest.
    fn fail(&mut self, number: u64, now: Instant) -> Option<Settled> {
        let Open { purpose, letter, bytes, failure, .. } = self.take_out(number)?;
        let (sender, destination) = (purpose.sender(), destination(&letter));
        if self.is_back(number) {
            self.due.is_back(sender);
            self.late.insert(number, (sender, bytes));
        } else {
            self.shares.remove(sender, bytes);
        }
        let is_probe = self.is_probe(&destination, number);
        if let Some(resting) = self.resting.get_mut(&destination) {
            resting.numbers.remove(&number);
            if is_probe {
                // Another one is to show it.
                resting.probe = None;
                self.rests.push_back((now + REST, destination));
            }
        }
        self.due.remove(sender, number);
        Some(purpose.settled(Err(failure.unwrap_or(Unconfirmed::Late))))
    }

    /// When [`Self::pass`] has something to do next.
    pub(super) fn next_change(&self) -> Option<Instant> {
        let ends = self.ends.first().map(|(until, _)| *until);
        let rested = self.rests.front().map(|(until, _)| *until);
        let alone = self.alone.filter(|_| self.has_suspects()).map(|(_, until)| until);
        ends.into_iter().chain(rested).chain(alone).min()
    }

    /// Letters that the channel carries.
    pub(super) fn under_way(&self) -> usize {
        self.under_way.len() + self.late.len()
    }

    /// The channel is gone, and all letters are for the next one. If it is gone because RabbitMQ `refused` a letter, in
    /// these words, and only one was under way, none of them `elsewhere`, this has failed, and is returned.
    pub(super) fn channel_is_gone(&mut self, refused: Option<&str>, elsewhere: usize) -> Option<Settled> {
        let mut failed = None;
        for number in &self.under_way {
            self.due.is_back(self.open[number].purpose.sender());
        }
        if let Some(text) = refused {
            let is_alone = self.under_way() + elsewhere == 1;
            let guilty = self.under_way.first().copied().filter(|_| is_alone);
            match guilty.and_then(|number| self.take_out(number)) {
                Some(Open { purpose, bytes, .. }) => {
                    self.shares.remove(purpose.sender(), bytes);
                    failed = Some(purpose.settled(Err(Unconfirmed::Refused(text.to_owned()))));
                }
                None => self.suspects.append(&mut self.under_way),
            }
        }
        self.under_way.clear();
        self.alone = None;
        for (_, (sender, bytes)) in self.late.drain() {
            self.shares.remove(sender, bytes);
        }
        self.resting.clear();
        self.rests.clear();
        for (&number, open) in &self.open {
            self.due.add(open.purpose.sender(), number);
        }
        failed
    }

    /// The connection by which messages came is gone, and with it the tags of all burials.
    pub(super) fn tags_are_void(&mut self) {
        for (number, Open { purpose, until, failure, .. }) in &mut self.open {
            if let Purpose::Burial { tag, .. } = purpose {
                (*tag, *failure) = (None, None);
                until.take().map(|until| self.ends.remove(&(until, *number)));
            }
        }
    }

    /// Letters that are not settled.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests;
