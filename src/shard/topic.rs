//! One topic of a shard: its subscribers, their cursors, and what is to be sent to them.
//!
//! **The cursor is the only truth.** Who is behind, what a subscriber is sent next, and what a log may drop all follow from
//! the cursors of its `Subscribers`.

use crate::codec::deflate::Inflater;
use crate::domain::mail::{Lines, TopicName, Variant};
use crate::domain::namespaces::NamespaceId;
use crate::domain::position::Position;
use crate::shard::backlog::Backlog;
use crate::shard::compaction::CompactionLimits;
use crate::shard::log::{Compacted, Log, Span};
use crate::shard::pending::PendingSubscriber;
use crate::shard::subscribers::{Moved, Subscriber, Subscribers};
use crate::transport::framing::Framing;

/// Whether a topic's publications come to this shard, as agreed with the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// The broker was asked for the topic and has not answered.
    Attaching,
    /// All publications come here.
    Live,
    /// The broker was told, or is to be told, that no subscriber is left, and has not confirmed it.
    Detaching,
}

/// One topic.
///
/// Invariants: a log is there if some cursor is before the end of the backlog, and every cursor is between two of its
/// batches; and those of `Subscribers`.
#[derive(Debug)]
pub struct Topic {
    name: TopicName,
    namespace: NamespaceId,
    variant: Variant,
    interest: Interest,
    in_rotation: bool,
    is_pinned: bool,
    is_muted: bool,
    backlog: Backlog,
    position: Option<Box<Position>>,
    /// How many recoveries are asked for, and keep the topic.
    recovering: u32,
    subscribers: Subscribers,
    /// Clients that wait to be subscribed. Most of the time there are none.
    #[allow(clippy::box_collection, reason = "in an idle topic every word counts")]
    pending: Option<Box<Vec<PendingSubscriber>>>,
}

impl Topic {
    /// A topic without subscribers, to be attached.
    #[must_use]
    pub fn new(name: TopicName, namespace: NamespaceId, variant: Variant) -> Self {
        Self {
            name,
            namespace,
            variant,
            interest: Interest::Attaching,
            in_rotation: false,
            is_pinned: false,
            is_muted: false,
            backlog: Backlog::default(),
            position: None,
            recovering: 0,
            subscribers: Subscribers::default(),
            pending: None,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &TopicName {
        &self.name
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> NamespaceId {
        self.namespace
    }

    /// What its subscribers are sent, and when.
    #[must_use]
    pub fn variant(&self) -> Variant {
        self.variant
    }

    /// What is agreed with the broker.
    #[must_use]
    pub fn interest(&self) -> Interest {
        self.interest
    }

    /// The position after the newest byte.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.backlog.end()
    }

    /// The log, if some subscriber lacks something.
    #[must_use]
    pub fn log(&self) -> Option<&Log> {
        self.backlog.log()
    }

    /// Takes the log out, when no subscriber lacks anything.
    pub fn take_log(&mut self) -> Option<Log> {
        debug_assert!(
            self.subscribers().iter().all(|one| one.cursor >= self.end()),
            "a subscriber lacks some of it"
        );
        self.backlog.take_log()
    }

    /// What a subscriber that lacks something is sent next (see [`Log::span`]).
    #[must_use]
    #[inline]
    pub fn next_span(&self, position: u32, frame_max: usize) -> Span {
        let log = self.log().expect("a log is there while a subscriber lacks something");
        log.span(self.subscribers.cursor(position), frame_max)
    }

    /// Calls `use_frame` with a span of the log as one message (see [`Log::with_frame`]).
    #[inline]
    pub fn with_frame<R>(&mut self, span: &Span, framing: Framing, use_frame: impl FnOnce(&[u8]) -> R) -> R {
        let log = self.backlog.log_mut().expect("a log holds the frames begun from it");
        log.with_frame(span, framing, use_frame)
    }

    /// Drops what lies before `position`, which no subscriber lacks, if that is worth moving the rest. Returns how many
    /// bytes of memory the log gives up.
    pub fn trim_log(&mut self, position: u64) -> usize {
        self.backlog.log_mut().map_or(0, |log| log.trim(position))
    }

    /// Drops what lies before `position`, which no subscriber lacks and which is between two batches. Returns how many
    /// bytes of memory the log gives up.
    pub fn drop_before(&mut self, position: u64) -> usize {
        self.backlog.log_mut().map_or(0, |log| log.drop_before(position.max(log.start())))
    }

    /// Compacts what lies before `floor`, which only parked subscribers lack, and moves these to what is left of what they
    /// lack.
    pub(super) fn compact(
        &mut self,
        floor: u64,
        limits: CompactionLimits,
        inflater: &mut Inflater,
    ) -> Option<Compacted> {
        let compacted = self.backlog.log_mut()?.compact(floor, limits, inflater);
        for one in self.subscribers.parked_mut() {
            if one.cursor < floor {
                one.cursor = compacted.place_of(one.cursor);
            }
        }
        Some(compacted)
    }

    /// Whether every swept subscriber has been sent everything before `position`.
    #[must_use]
    pub fn is_swept_to(&self, position: u64) -> bool {
        self.behind() == 0 || self.backlog.is_swept_to(position)
    }

    /// The position at the log's end of a topic with history.
    #[must_use]
    pub fn position(&self) -> Option<&Position> {
        self.position.as_deref()
    }

    /// Whether it is in the rotation of topics to be swept.
    #[must_use]
    pub fn is_in_rotation(&self) -> bool {
        self.in_rotation
    }

    /// Enters the rotation, if a swept subscriber is behind and it is not there. Returns whether it has entered.
    pub fn enter_rotation(&mut self) -> bool {
        let enters = self.behind() > 0 && !self.in_rotation;
        self.in_rotation |= enters;
        enters
    }

    /// Notes that it is not in the rotation any more.
    pub fn leave_rotation(&mut self) {
        self.in_rotation = false;
    }

    /// Whether its log is kept for parked subscribers alone.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.is_pinned
    }

    /// Marks its log as kept for parked subscribers alone, if it is. Returns whether the mark is new.
    pub fn pin(&mut self) -> bool {
        let is_new = self.behind() == 0 && self.log().is_some() && !self.is_pinned;
        self.is_pinned |= is_new;
        is_new
    }

    /// Notes whether its log is kept for parked subscribers alone.
    pub fn set_pinned(&mut self, is_pinned: bool) {
        self.is_pinned = is_pinned;
    }

    /// The broker has registered the shard for it, or it has a new numbering. Returns whether the former. In the latter
    /// case its subscribers are sent nothing until they have been told.
    pub fn attached(&mut self, position: Option<Position>) -> bool {
        self.position = position.map(Box::new);
        let was_asked = self.interest == Interest::Attaching;
        if was_asked {
            self.interest = Interest::Live;
        } else {
            self.is_muted = !self.subscribers().is_empty();
        }
        was_asked
    }

    /// Notes that the broker is to be asked for it again.
    pub fn attach_again(&mut self) {
        self.interest = Interest::Attaching;
    }

    /// Begins to detach, if no subscriber is left. Returns whether it has begun: the broker is to be told.
    pub fn begin_detaching(&mut self) -> bool {
        let is_over = self.interest == Interest::Live && self.is_deserted();
        if is_over {
            self.interest = Interest::Detaching;
        }
        is_over
    }

    /// Whether it has a new numbering of which some subscribers have not been told.
    #[must_use]
    pub fn is_muted(&self) -> bool {
        self.is_muted
    }

    /// Ends the muting, if all subscribers have been told of the new numbering. Returns whether it has ended.
    pub fn unmute_if_empty(&mut self) -> bool {
        let unmutes = self.is_muted && self.subscribers().is_empty();
        self.is_muted &= !unmutes;
        unmutes
    }

    /// Notes that a batch is not sent to its subscribers. New ones begin behind it.
    pub fn skip_batch(&mut self, offset: u64) {
        if let Some(position) = &mut self.position {
            position.offset = offset;
        }
    }

    /// Notes that the broker is asked for what a client has missed.
    pub fn begin_recovery(&mut self) {
        self.recovering += 1;
    }

    /// Notes that a recovery is answered, or not asked for any more.
    pub fn end_recovery(&mut self) {
        self.recovering -= 1;
    }

    /// The subscriber that the sweep has come to, and its place. `None` at the end of a lap.
    #[must_use]
    #[inline]
    pub fn at_sweep(&self) -> Option<(u32, Subscriber)> {
        self.subscribers.at_sweep()
    }

    /// Has the sweep go on to the next subscriber.
    #[inline]
    pub fn step_sweep(&mut self) {
        self.subscribers.step_sweep();
    }

    /// Asserts the invariants.
    ///
    /// # Panics
    /// When one does not hold.
    pub fn check(&self) {
        self.backlog.check();
        let lacking = self.awake().iter().filter(|one| one.cursor < self.end()).count();
        assert_eq!(lacking, self.behind() as usize, "`{}` counts who is behind", self.name);
        assert!(self.behind() == 0 || self.in_rotation, "`{}` is swept while somebody is behind", self.name);
        for Subscriber { cursor, client } in self.subscribers() {
            let is_held = match self.log() {
                Some(log) => log.start() <= *cursor && log.boundary(*cursor) == *cursor,
                None => *cursor == self.end(),
            };
            assert!(is_held && *cursor <= self.end(), "`{}`: client {client} stands at {cursor}", self.name);
        }
        let is_kept = self.in_rotation || self.is_pinned || !self.subscribers().is_empty();
        assert!(self.log().is_none() || is_kept, "`{}` keeps a log for nobody", self.name);
    }

    /// All subscribers, the swept ones first.
    #[must_use]
    pub fn subscribers(&self) -> &[Subscriber] {
        self.subscribers.as_slice()
    }

    /// The subscribers whose sockets are full.
    #[must_use]
    pub fn parked(&self) -> &[Subscriber] {
        self.subscribers.parked()
    }

    /// The subscribers that are swept.
    #[must_use]
    pub fn awake(&self) -> &[Subscriber] {
        self.subscribers.awake()
    }

    /// How many swept subscribers lack something.
    #[must_use]
    pub fn behind(&self) -> u32 {
        self.subscribers.behind()
    }

    /// Whether the subscriber at `position` is parked.
    #[must_use]
    pub fn is_parked(&self, position: u32) -> bool {
        self.subscribers.is_parked(position)
    }

    /// Whether the subscriber at `position` lacks something.
    #[must_use]
    pub fn lacks(&self, position: u32) -> bool {
        self.subscribers.lacks(position, self.end())
    }

    /// Adds a client that waits to be subscribed.
    pub fn add_pending(&mut self, pending: PendingSubscriber) {
        self.pending.get_or_insert_default().push(pending);
    }

    /// How many clients subscribe to it, or wait for that.
    #[must_use]
    pub fn audience(&self) -> usize {
        let pending = self.pending.as_ref().map_or(0, |pending| pending.len());
        self.subscribers().len() + pending + self.recovering as usize
    }

    /// Whether clients wait to be subscribed.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Whether it has no subscribers, and no recovery keeps it.
    #[must_use]
    pub fn is_deserted(&self) -> bool {
        self.subscribers().is_empty() && self.recovering == 0
    }

    /// Takes out the clients that wait to be subscribed.
    pub fn take_pending(&mut self) -> Vec<PendingSubscriber> {
        self.pending.take().map_or_else(Vec::new, |pending| *pending)
    }

    /// Adds a subscriber at the log's end. `moved` is told of all that have another place, the new one included.
    pub fn subscribe(&mut self, client: u32, moved: impl FnMut(Moved)) {
        self.subscribers.subscribe(client, self.backlog.end(), moved);
    }

    /// Takes the subscriber at `position` out. `moved` is told of all that have another place.
    pub fn unsubscribe(&mut self, position: u32, moved: impl FnMut(Moved)) {
        self.subscribers.unsubscribe(position, self.backlog.end(), moved);
    }

    /// Takes the subscriber at `position` out of the sweep. `moved` is told of all that have another place.
    pub fn park(&mut self, position: u32, moved: impl FnMut(Moved)) {
        self.subscribers.park(position, self.backlog.end(), moved);
    }

    /// Brings the parked subscriber at `position` back into the sweep. `moved` is told of all that have another place.
    pub fn unpark(&mut self, position: u32, moved: impl FnMut(Moved)) {
        self.backlog.joins_sweep(self.subscribers.cursor(position));
        self.subscribers.unpark(position, self.backlog.end(), moved);
    }

    /// Notes that the subscriber at `position` has been sent everything before `cursor`.
    #[inline]
    pub fn advance(&mut self, position: u32, cursor: u64) {
        debug_assert!(cursor <= self.end(), "a subscriber cannot have more than there is");
        self.subscribers.advance(position, cursor, self.backlog.end());
    }

    /// Adds a batch to the log: all subscribers lack something now.
    pub fn append(&mut self, lines: &Lines, buffer: impl FnOnce() -> Vec<u8>) {
        self.backlog.append(lines, self.variant.encoding, buffer);
        self.subscribers.fall_behind();
        if let Some(position) = &mut self.position {
            position.offset = lines.offset;
        }
    }

    /// Has the sweep begin with the first subscriber again. The position before which no swept subscriber lacks anything,
    /// if the lap has shown one.
    pub fn begin_lap(&mut self) -> Option<u64> {
        let shown = self.subscribers.begin_lap(self.backlog.end())?;
        self.backlog.swept(shown);
        Some(shown)
    }
}

#[cfg(test)]
mod tests;
