//! Publishes that RabbitMQ has not confirmed. Each is kept whatever becomes of the connection, and sent again until
//! RabbitMQ confirms it or its time is over. No clock and no socket.
//!
//! # Order and turns
//!
//! * A publish keeps its `message-id`, by which a receiver recognises one that comes twice.
//! * The publishes of one sender leave in the order in which they came, also over a new connection. Only suspects
//!   (below) leave before their turn.
//! * Senders take turns ([`Turns`]), and each has a share of the room ([`Shares`]).
//! * When RabbitMQ could not store a publish, the publishes for the same destination (exchange, topic and copies) are
//!   postponed, so that their order stays. Others do not wait. After a while one of them is sent as a probe, and
//!   RabbitMQ's answer counts for all of them: however many they are, each attempt costs RabbitMQ one publish
//!   ([`Postponed`]).
//! * Dead letters have no order. Each is sent at once, and is postponed only when RabbitMQ could not store it itself. The
//!   postponed ones take turns as the probe, because a dead-letter exchange may route by headers.
//!
//! # Suspects
//!
//! RabbitMQ refuses a publish for good (no permission, a property that it does not accept) by closing the channel. It does
//! not say which publish it meant. It looks at publishes in order and at once, so it meant one of those that it has said
//! nothing of. If there was only one, that one has failed. Otherwise all of them are suspects. While there are suspects,
//! publishes leave one at a time, and RabbitMQ is asked after each whether it has taken it ([`ConfirmOutcome::Taken`]). A publish
//! that was taken is no longer a suspect, though it may be confirmed much later or never. So the refused one is found over
//! the next channel, and costs the others a round trip each. Publishes and dead letters have a channel and an [`Outgoing`]
//! each, so that neither waits for the other. What would make RabbitMQ close the whole connection is not sent
//! ([`ConfirmOutcome::TooLarge`]).
//!
//! # Time limits
//!
//! A publish fails when its time is over. It may have been stored all the same: its confirm may be lost, or come later. So
//! "failed" means "not known to be safe". Publishing it again with the same `message-id` is harmless.
//!
//! A dead letter may be the only copy of its message, so it does not fail because RabbitMQ is silent: RabbitMQ is away, or
//! short of memory. When its time is over it gives its delivery tag back, so that undeliverable messages do not keep others
//! from coming, and waits without a limit. When RabbitMQ says that it cannot store it, or routes it to no queue, its time
//! begins again; if that is still RabbitMQ's last answer at the end, it fails. While a probe is under way the last answer is
//! not known. A dead letter that is routed to no queue gives its tag back at once. How many dead letters there may be is
//! bounded by back-pressure: see [`Outgoing::has_room`].

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState};
use std::iter;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lapin::types::AMQPValue;

use crate::base::deadline_table::DeadlineTable;
use crate::broker::shares::{Sender, Shares};

use super::headers::COPIES;
use super::message_cost;
use super::pending_publish::PendingPublish;
use super::publisher::{ConfirmOutcome, Report};
use super::turns::Turns;
use super::unconfirmed::Unconfirmed;

mod invariants;
mod postponed;
mod stage;

use postponed::{Destination, Postponed};
use stage::{Publish, PublishStage};

pub(super) use stage::{Purpose, Settled};

/// All publishes of one channel that are not settled.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// How long a publish may take to be confirmed.
    limit: Duration,
    /// How many may be under way.
    under_way_max: usize,
    /// How many publishes there are and may be, by number and by bytes, headers included.
    shares: Shares,
    /// The number of the next one.
    next: u64,
    /// All publishes by number, which is the order in which they came. One that failed while it was under way stays until
    /// RabbitMQ answers it or the channel is gone.
    publishes: DeadlineTable<u64, Publish>,
    // The rest follows from the stages, and changes with them: see `assert_invariants`.
    due: Turns,
    suspects: BTreeSet<u64>,
    postponed: Postponed,
    /// How many are under way, how many RabbitMQ has said nothing of, and how many have failed but take room.
    under_way: usize,
    unheard: usize,
    failed: usize,
    /// Hashes destinations. The seed is random, because clients choose topics.
    hasher: RandomState,
}

impl Outgoing {
    /// Each publish has `limit` to be confirmed. There may be as many as `room`, with `bytes_max` in all, and
    /// `under_way_max` of them under way.
    pub(super) fn new(limit: Duration, room: usize, bytes_max: usize, under_way_max: usize) -> Self {
        Self {
            limit,
            under_way_max,
            shares: Shares::new(room, bytes_max),
            next: 0,
            publishes: DeadlineTable::default(),
            due: Turns::new(),
            suspects: BTreeSet::new(),
            postponed: Postponed::default(),
            under_way: 0,
            unheard: 0,
            failed: 0,
            hasher: RandomState::new(),
        }
    }

    /// Publishes that are not settled.
    pub(super) fn len(&self) -> usize {
        self.publishes.len() - self.failed
    }

    /// Whether one more publish of this sender may come. A dead letter is taken even if not, but messages that may become
    /// dead letters should wait.
    pub(super) fn has_room(&self, sender: Sender) -> bool {
        self.shares.has_room(sender)
    }

    /// Takes a publish.
    pub(super) fn add(&mut self, purpose: Purpose, message: PendingPublish, now: Instant) {
        let number = self.next;
        self.next += 1;
        let has_limit = !matches!(purpose, Purpose::DeadLetter { tag: None, .. });
        let (sender, bytes) = (purpose.sender(), message_cost::of(&message.body, &message.properties));
        let publish = Publish {
            purpose: Some(purpose),
            sender,
            destination: self.destination(&message),
            message: Arc::new(message),
            bytes,
            failure: None,
            stage: PublishStage::Waiting,
        };
        self.shares.add(sender, bytes);
        self.publishes.insert(number, publish, has_limit.then(|| now + self.limit));
        self.enter(number, PublishStage::Waiting);
    }

    fn destination(&self, message: &PendingPublish) -> Destination {
        let mut hasher = self.hasher.build_hasher();
        (message.exchange.as_str(), message.routing_key.as_str()).hash(&mut hasher);
        let copies = message.properties.headers().as_ref().and_then(|headers| headers.inner().get(COPIES));
        if let Some(AMQPValue::FieldArray(copies)) = copies {
            for copy in copies.as_slice() {
                if let AMQPValue::LongString(topic) = copy {
                    topic.as_bytes().hash(&mut hasher);
                }
            }
        }
        hasher.finish()
    }

    /// Changes a publish's stage, and the queues and counts that depend on it, except `postponed`.
    fn set_stage(&mut self, number: u64, stage: PublishStage) {
        self.exit(number);
        self.enter(number, stage);
    }

    /// Takes a publish out of the queues and counts that depend on its stage. Returns the stage.
    fn exit(&mut self, number: u64) -> Option<PublishStage> {
        let &Publish { sender, stage, .. } = self.publishes.get(number)?;
        if stage.is_due() {
            self.due.remove(sender, number);
        }
        if stage.is_suspect() {
            self.suspects.remove(&number);
        }
        if stage.is_under_way() {
            self.due.is_back(sender);
            self.under_way -= 1;
        }
        self.unheard -= usize::from(stage.is_unheard());
        self.failed -= usize::from(stage.is_failed());
        Some(stage)
    }

    fn enter(&mut self, number: u64, stage: PublishStage) {
        let Some(publish) = self.publishes.get_mut(number) else { return };
        publish.stage = stage;
        if stage.is_due() {
            self.due.add(publish.sender, number);
        }
        if stage.is_suspect() {
            self.suspects.insert(number);
        }
        if stage.is_under_way() {
            self.due.left(publish.sender);
            self.under_way += 1;
        }
        self.unheard += usize::from(stage.is_unheard());
        self.failed += usize::from(stage.is_failed());
    }

    /// Takes a publish out, and gives its room back.
    fn remove(&mut self, number: u64) -> Option<Publish> {
        self.exit(number);
        self.forget(number)
    }

    /// Gives up a publish that has left its stage.
    fn forget(&mut self, number: u64) -> Option<Publish> {
        let publish = self.publishes.remove(number)?;
        self.shares.remove(publish.sender, publish.bytes);
        Some(publish)
    }

    /// The publish to send next, with its number. It is under way from then on. While there are suspects, there is none until
    /// RabbitMQ has answered for the one before.
    pub(super) fn leave(&mut self, now: Instant) -> Option<(u64, Arc<PendingPublish>)> {
        if self.has_suspects() && self.unheard > 0 || self.under_way >= self.under_way_max {
            return None;
        }
        let number = self.next_due()?;
        let publish = self.publishes.get(number)?;
        let message = Arc::clone(&publish.message);
        let is_suspect = publish.stage.is_suspect();
        let stage = if is_suspect {
            PublishStage::OnTrial { since: now }
        } else {
            PublishStage::UnderWay { since: now }
        };
        self.set_stage(number, stage);
        Some((number, message))
    }

    /// Whether there are suspects. Then RabbitMQ is asked after each publish whether it has taken it.
    pub(super) fn has_suspects(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// The next publish that is due. Suspects come first, and are not postponed before RabbitMQ has answered for them.
    /// Publishes for a destination that has to wait are postponed on the way, except dead letters that were not tried yet.
    fn next_due(&mut self) -> Option<u64> {
        if let Some(&suspect) = self.suspects.first() {
            return Some(suspect);
        }
        loop {
            let number = self.due.next()?;
            let publish = self.publishes.get(number).expect("what is due waits");
            let is_untried = publish.is_dead_letter() && publish.failure.is_none();
            let reference = publish.reference(number);
            if is_untried || !self.postponed.holds(reference) {
                return Some(number);
            }
            self.postponed.join(reference);
            self.set_stage(number, PublishStage::Postponed);
        }
    }

    /// Takes RabbitMQ's answer about a publish that was under way. Returns what has to be reported.
    pub(super) fn hear(&mut self, report: Report, now: Instant) -> impl Iterator<Item = Settled> + use<> {
        let Report { number, outcome } = report;
        let stage = self.publishes.get(number).map(|publish| publish.stage);
        let since = stage.and_then(PublishStage::under_way_since);
        let mut others = Vec::new();
        let mut settled = None;
        match (outcome, since) {
            (ConfirmOutcome::Taken, Some(since)) => self.set_stage(number, PublishStage::Taken { since }),
            (ConfirmOutcome::Stored, Some(since)) => settled = self.is_stored(number, since, now),
            (ConfirmOutcome::NotStored, Some(since)) => {
                others = self.is_not_stored(number, since, false, now)
            }
            (ConfirmOutcome::Unroutable, Some(since)) => {
                others = self.is_not_stored(number, since, true, now)
            }
            (ConfirmOutcome::TooLarge, Some(_)) => settled = self.is_too_large(number, now),
            (ConfirmOutcome::Taken, None) if stage.is_some_and(PublishStage::is_failed) => {
                self.set_stage(number, PublishStage::Failed { is_taken: true });
            }
            (_, None) if stage.is_some_and(PublishStage::is_failed) => drop(self.remove(number)),
            (_, None) => {}
        }
        settled.into_iter().chain(others)
    }

    fn is_stored(&mut self, number: u64, since: Instant, now: Instant) -> Option<Settled> {
        let publish = self.remove(number)?;
        self.due.answered(publish.sender, since, now);
        for number in self.postponed.was_stored(publish.reference(number)) {
            self.set_stage(number, PublishStage::Waiting);
        }
        publish.purpose.map(|purpose| purpose.settled(Ok(())))
    }

    /// A publish was too large to be sent.
    fn is_too_large(&mut self, number: u64, now: Instant) -> Option<Settled> {
        let publish = self.remove(number)?;
        self.postponed.remove(publish.reference(number), now);
        publish.purpose.map(|purpose| purpose.settled(Err(Unconfirmed::TooLarge)))
    }

    fn is_not_stored(
        &mut self,
        number: u64,
        since: Instant,
        is_unroutable: bool,
        now: Instant,
    ) -> Vec<Settled> {
        let Some(publish) = self.publishes.get(number) else { return Vec::new() };
        self.due.answered(publish.sender, since, now);
        let (reference, in_turn) = (publish.reference(number), publish.is_dead_letter());
        self.set_stage(number, PublishStage::Postponed);
        let others = self.postponed.could_not_be_stored(reference, in_turn, now);
        let all = iter::once(number).chain(others);
        all.filter_map(|number| self.could_not_be_stored(number, is_unroutable, now)).collect()
    }

    /// RabbitMQ could not store a publish, or the probe for its destination. With the first such answer, a dead letter's time
    /// begins again.
    fn could_not_be_stored(&mut self, number: u64, is_unroutable: bool, now: Instant) -> Option<Settled> {
        let failure = if is_unroutable { Unconfirmed::Unroutable } else { Unconfirmed::NotStored };
        let publish = self.publishes.get_mut(number)?;
        let is_first = publish.failure.replace(failure).is_none();
        let Some(Purpose::DeadLetter { tag, .. }) = &mut publish.purpose else { return None };
        let tag = tag.take_if(|_| is_unroutable);
        if is_first {
            self.publishes.set_deadline(number, Some(now + self.limit));
        }
        tag.map(|tag| Settled::Released { tag, is_unroutable })
    }

    /// Fails publishes whose time is over, and makes probes due. Returns what has to be reported.
    pub(super) fn pass(&mut self, now: Instant) -> Vec<Settled> {
        let mut settled = Vec::new();
        while let Some(number) = self.publishes.expire(now) {
            settled.extend(self.time_is_over(number, now));
        }
        while let Some(number) = self.postponed.next_probe(now) {
            self.set_stage(number, PublishStage::Waiting);
        }
        settled
    }

    fn time_is_over(&mut self, number: u64, now: Instant) -> Option<Settled> {
        let publish = self.publishes.get_mut(number)?;
        let (reference, failure) = (publish.reference(number), publish.failure.take());
        match &mut publish.purpose {
            Some(Purpose::DeadLetter { tag, .. })
                if failure.is_none() || !self.postponed.is_refused(reference) =>
            {
                tag.take().map(|tag| Settled::Released { tag, is_unroutable: false })
            }
            _ => self.fail(number, failure.unwrap_or(Unconfirmed::Late), now),
        }
    }

    /// Fails a publish. It is not sent any more, and RabbitMQ's later answer to it does not count.
    fn fail(&mut self, number: u64, error: Unconfirmed, now: Instant) -> Option<Settled> {
        self.publishes.set_deadline(number, None);
        let publish = self.publishes.get_mut(number)?;
        let (purpose, stage, reference) = (publish.purpose.take()?, publish.stage, publish.reference(number));
        if stage.is_under_way() {
            self.set_stage(
                number,
                PublishStage::Failed { is_taken: matches!(stage, PublishStage::Taken { .. }) },
            );
        } else {
            self.remove(number);
        }
        self.postponed.remove(reference, now);
        Some(purpose.settled(Err(error)))
    }

    /// When [`Self::pass`] has something to do next.
    pub(super) fn next_change(&self) -> Option<Instant> {
        self.publishes.next_deadline().into_iter().chain(self.postponed.next_change()).min()
    }

    /// The channel is gone: all publishes leave by the next one. If RabbitMQ closed it because it refused a publish (`refused`:
    /// its words), and there was a single publish that it had not answered for, that one fails and is returned.
    pub(super) fn channel_is_gone(&mut self, refused: Option<&str>) -> Option<Settled> {
        self.postponed.clear();
        let is_one = self.unheard == 1;
        let mut failed = None;
        let numbers: Vec<u64> = self.publishes.iter().map(|(number, _)| number).collect();
        // All are back before the first one waits for its turn again: the sender who has none under way is first.
        for &number in &numbers {
            let Some(stage) = self.exit(number) else { continue };
            let is_refused = refused.is_some() && stage.is_unheard();
            let next = if is_refused || stage.is_suspect() {
                PublishStage::Suspected
            } else {
                PublishStage::Waiting
            };
            if let Some(text) = refused.filter(|_| is_refused && is_one && !stage.is_failed()) {
                let purpose = self.forget(number).and_then(|publish| publish.purpose);
                failed = purpose.map(|purpose| purpose.settled(Err(Unconfirmed::Refused(text.into()))));
            } else if stage.is_failed() {
                self.forget(number);
            } else if let Some(publish) = self.publishes.get_mut(number) {
                publish.stage = next;
            }
        }
        for number in numbers {
            if let Some(publish) = self.publishes.get(number) {
                self.enter(number, publish.stage);
            }
        }
        if cfg!(debug_assertions) {
            self.assert_invariants();
        }
        failed
    }

    /// The connection that consumes is gone: the delivery tags of all dead letters are void.
    pub(super) fn tags_are_void(&mut self) {
        let numbers: Vec<u64> = self.publishes.iter().map(|(number, _)| number).collect();
        for number in numbers {
            let Some(Publish { purpose, failure, .. }) = self.publishes.get_mut(number) else { continue };
            if let Some(Purpose::DeadLetter { tag, .. }) = purpose {
                (*tag, *failure) = (None, None);
                self.publishes.set_deadline(number, None);
            }
        }
    }
}

#[cfg(test)]
mod tests;
