//! Letters that RabbitMQ has not confirmed: kept whatever becomes of the connection, and sent again until
//! they are confirmed or their time is over. No clock and no socket.
//!
//! A letter keeps its `message-id`, by which whoever gets it twice knows it. The letters of one sender leave in the order
//! in which they came, and over a new connection so again; senders take turns (`turns`), and each has a share of the room
//! ([`Shares`]). When a letter could not be stored, nothing leaves to the same exchange and topic for a while, so that
//! the order stays; others do not wait for it.
//!
//! RabbitMQ refuses for good (no permission, a property that it does not take) by closing the channel, and does not
//! say which letter it meant. So those that were under way are suspects: over the next channels, until each of them
//! is settled, letters leave one at a time, and the one that was alone under way when the channel was closed has
//! failed. It costs two channels, and the others some time. Publishes and burials have a channel each, and one of
//! [`Outgoing`] each: neither waits for the other.
//!
//! What a burial carries may be nowhere else. So one of which nothing is heard does not fail: RabbitMQ is away, or takes
//! nothing while it is short of memory. When its time is over it gives its tag back, lest undeliverable messages keep
//! others from coming, and waits without limit. Its time begins again when RabbitMQ says that it cannot store it, or has
//! nowhere to put it; if this is still so at the end, it fails. How many there may be is a matter of back-pressure: see
//! [`Outgoing::has_room`].
//!
//! A letter whose time is over may have been stored all the same: its confirm may have been lost, or come
//! later. Nobody can know, so that "failed" means "not known to be safe". Sending it once more with the same
//! `message-id` is harmless.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lapin::types::ShortString;
use rustc_hash::{FxHashMap, FxHashSet};

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
    fn is_burial(&self) -> bool {
        matches!(self, Self::Burial { .. })
    }

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
    /// A burial is not safe yet, and goes on; this must not wait for it any longer.
    Released {
        tag: u64,
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
    /// Those that wait because one like them could not be stored.
    resting: FxHashMap<Destination, BTreeSet<u64>>,
    /// When which of them have rested, in that order.
    rests: VecDeque<(Instant, Destination)>,
    /// Those whose time ended while they were under way: the client library still keeps them.
    late: FxHashSet<u64>,
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
            resting: FxHashMap::default(),
            rests: VecDeque::new(),
            late: FxHashSet::default(),
        }
    }

    /// Whether one more letter of this sender may come. A burial is taken if not, but messages that might become one
    /// should wait.
    pub(super) fn has_room(&self, sender: Sender) -> bool {
        self.shares.has_room(sender, self.late.len())
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

    fn take_out(&mut self, number: u64) -> Option<Open> {
        self.set_time(number, None);
        self.suspects.remove(&number);
        let open = self.open.remove(&number)?;
        self.shares.remove(open.purpose.sender(), open.bytes);
        Some(open)
    }

    /// The letter to send next, with its number. It is under way from then on.
    pub(super) fn leave(&mut self, now: Instant) -> Option<(u64, Arc<Letter>)> {
        if !self.suspects.is_empty() && !self.under_way.is_empty() {
            return None;
        }
        let number = self.next_due()?;
        let open = self.open.get_mut(&number)?;
        open.left = Some(now);
        self.due.left(open.purpose.sender());
        self.under_way.insert(number);
        Some((number, Arc::clone(&open.letter)))
    }

    /// The next letter that is due. Those before it that have to rest, rest.
    fn next_due(&mut self) -> Option<u64> {
        loop {
            let number = self.due.next()?;
            match self.resting.get_mut(&destination(&self.open[&number].letter)) {
                Some(resting) => resting.insert(number),
                None => return Some(number),
            };
        }
    }

    /// Takes RabbitMQ's word about a letter that was under way. If it could not be stored, it rests and is due again.
    pub(super) fn hear(&mut self, Report { number, outcome }: Report, now: Instant) -> Option<Settled> {
        self.late.remove(&number);
        if !self.under_way.remove(&number) {
            return None;
        }
        let open = self.open.get(&number)?;
        self.due.answered(open.purpose.sender(), open.left, now);
        let failure = match outcome {
            Outcome::Stored => return Some(self.take_out(number)?.purpose.settled(Ok(()))),
            Outcome::NotStored => Unconfirmed::NotStored,
            Outcome::Unroutable => Unconfirmed::Unroutable,
        };
        self.suspects.remove(&number);
        let open = self.open.get_mut(&number)?;
        let (destination, is_burial) = (destination(&open.letter), open.purpose.is_burial());
        if open.failure.replace(failure).is_none() && is_burial {
            self.set_time(number, Some(now + self.limit));
        }
        self.rest(destination, number, now);
        None
    }

    fn rest(&mut self, destination: Destination, number: u64, now: Instant) {
        if !self.resting.contains_key(&destination) {
            self.rests.push_back((now + REST, destination.clone()));
        }
        self.resting.entry(destination).or_default().insert(number);
    }

    /// Time has passed: that of letters is over, of which is told, and others have rested.
    pub(super) fn pass(&mut self, now: Instant) -> Vec<Settled> {
        let mut settled = Vec::new();
        while let Some(&(until, number)) = self.ends.first()
            && until <= now
        {
            settled.extend(self.time_is_over(number));
        }
        while let Some((until, _)) = self.rests.front()
            && *until <= now
            && let Some((_, destination)) = self.rests.pop_front()
        {
            for number in self.resting.remove(&destination).into_iter().flatten() {
                let sender = self.open.get(&number).map(|open| open.purpose.sender());
                sender.into_iter().for_each(|sender| self.due.add(sender, number));
            }
        }
        settled
    }

    fn time_is_over(&mut self, number: u64) -> Option<Settled> {
        self.set_time(number, None);
        let Open { purpose, letter, failure, .. } = self.open.get_mut(&number)?;
        let resting = self.resting.get(&destination(letter));
        let rests = resting.is_some_and(|resting| resting.contains(&number));
        match purpose {
            Purpose::Burial { tag, .. } if failure.is_none() || !rests => {
                *failure = None;
                tag.take().map(|tag| Settled::Released { tag })
            }
            _ => self.fail(number),
        }
    }

    /// A letter fails: it must not leave, and what is heard of it is of no interest.
    fn fail(&mut self, number: u64) -> Option<Settled> {
        let Open { purpose, letter, failure, .. } = self.take_out(number)?;
        let sender = purpose.sender();
        if self.under_way.remove(&number) {
            self.due.is_back(sender);
            self.late.insert(number);
        } else if let Some(resting) = self.resting.get_mut(&destination(&letter)) {
            resting.remove(&number);
        }
        self.due.remove(sender, number);
        Some(purpose.settled(Err(failure.unwrap_or(Unconfirmed::Late))))
    }

    /// When [`Self::pass`] has something to do next.
    pub(super) fn next_change(&self) -> Option<Instant> {
        let ends = self.ends.first().map(|(until, _)| *until);
        let rested = self.rests.front().map(|(until, _)| *until);
        ends.into_iter().chain(rested).min()
    }

    /// The channel is gone, and all letters are for the next one. If it is gone because RabbitMQ `refused` a letter, in
    /// these words, and only one was under way, this has failed, and is returned.
    pub(super) fn channel_is_gone(&mut self, refused: Option<&str>) -> Option<Settled> {
        let mut failed = None;
        for number in &self.under_way {
            self.due.is_back(self.open[number].purpose.sender());
        }
        if let Some(text) = refused {
            let is_alone = self.under_way.len() + self.late.len() == 1;
            let guilty = self.under_way.first().copied().filter(|_| is_alone);
            match guilty.and_then(|number| self.take_out(number)) {
                Some(open) => failed = Some(open.purpose.settled(Err(Unconfirmed::Refused(text.to_owned())))),
                None => self.suspects.append(&mut self.under_way),
            }
        }
        self.under_way.clear();
        self.late.clear();
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
