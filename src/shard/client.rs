//! One client.
//!
//! An idle client is only its slot. State that exists only at times, such as half a message or waiting replies, is
//! boxed, and exists only while it is needed.

use crate::session::Session;
use crate::shard::origins::OriginId;
use crate::shard::output::Outgoing;
use crate::shard::questions::Questions;
use crate::shard::subscriptions::Subscriptions;
use crate::shard::tail::Tail;
use crate::shard::timer_wheel::Moment;
use crate::transport::{Phase, Transport};

/// What a publish counts beside its data among what a client may have unanswered: at most 128 small ones at once,
/// where messages may have 64 KiB.
const PUBLISH_COST: usize = 512;

/// A command that waits for the broker's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// Hash of its topic; a collision only makes an unrelated command wait.
    pub topic: u64,
    /// Its id.
    pub command: u32,
    /// What it is.
    pub kind: Pending,
}

/// What kind of command waits for the broker's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    /// A publish, of so many bytes of data. The broker takes them in order, so that another to the same topic can
    /// follow at once.
    Publish(u32),
    /// A question about a history.
    History,
    /// A subscribe: the next command about its topic waits for its answer.
    Subscribe,
}

/// What a client's commands wait for.
#[derive(Debug, Default)]
pub struct Waiting {
    /// Commands that the broker has not answered.
    pub unanswered: Vec<Unanswered>,
    /// The rest of a message whose next command must wait. While it is there, nothing is read.
    pub backlog: Option<Box<[u8]>>,
    /// Those of them whose answers may be large.
    pub questions: Questions,
}

/// One client.
#[derive(Debug)]
pub struct Client<S, T> {
    /// Its connection.
    pub(super) stream: S,
    /// What its bytes mean, and how messages become bytes.
    pub(super) transport: T,
    /// Its protocol state.
    pub(super) session: Session,
    /// Its subscriptions.
    pub(super) subscriptions: Subscriptions,
    /// What waits to be sent.
    pub(super) outgoing: Option<Box<Outgoing>>,
    /// What its commands wait for.
    pub(super) waiting: Option<Box<Waiting>>,
    tail: Option<Box<Tail>>,
    since: Moment,
    message_since: Moment,
    armed: Moment,
    origin: Option<OriginId>,
    blocked: bool,
    to_read: bool,
    has_place: bool,
    hung_up: bool,
    held_up: bool,
    left_over: bool,
    went_on: bool,
    keeps_input: bool,
    leaves_replies: bool,
    looks: u8,
    dead: bool,
}

impl<S, T: Transport> Client<S, T> {
    /// One that has just connected.
    #[must_use]
    pub fn new(stream: S, now: Moment) -> Self {
        Self {
            stream,
            transport: T::default(),
            session: Session::default(),
            subscriptions: Subscriptions::Empty,
            tail: None,
            outgoing: None,
            waiting: None,
            since: now,
            armed: now,
            origin: None,
            blocked: false,
            to_read: false,
            has_place: false,
            hung_up: false,
            held_up: false,
            left_over: false,
            went_on: false,
            keeps_input: false,
            leaves_replies: false,
            looks: 0,
            message_since: now,
            dead: false,
        }
    }

    /// Whether its commands are still done.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.dead && self.transport.phase() == Phase::Open
    }

    /// Whether nothing but publications can be on the way out.
    #[must_use]
    pub fn has_free_road(&self) -> bool {
        self.outgoing.is_none() && !self.blocked
    }

    /// Whether its input must not be read now.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.has_postponed() || self.waiting.as_ref().is_some_and(|waiting| waiting.backlog.is_some())
    }

    /// Whether questions of its are to be asked later: nothing else is done for it before.
    #[must_use]
    pub fn has_postponed(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| waiting.questions.are_postponed())
    }

    /// Whether a message has come in part: frames of it, or a part of a frame.
    #[must_use]
    pub fn is_in_message(&self) -> bool {
        let has_part = self.tail.is_some() && !self.left_over;
        has_part || self.transport.is_in_message()
    }

    /// Bytes of its input that are kept.
    #[must_use]
    pub fn input_bytes(&self) -> usize {
        let backlog = self.waiting.as_ref().and_then(|waiting| waiting.backlog.as_ref());
        let tail = self.tail.as_ref().map_or(0, |tail| tail.len());
        tail + backlog.map_or(0, |backlog| backlog.len()) + self.transport.assembled_bytes()
    }

    /// What the answers to its questions may have together, in bytes.
    #[must_use]
    pub fn promised_bytes(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting.questions.promised_bytes())
    }

    /// Bytes of replies that wait.
    #[must_use]
    pub fn reply_bytes(&self) -> usize {
        self.outgoing.as_ref().map_or(0, |outgoing| outgoing.bytes.len() - outgoing.orphaned)
    }

    /// Whether a command about the topic with this hash is unanswered.
    #[must_use]
    pub fn is_busy_with(&self, topic: u64) -> bool {
        self.unanswered().iter().any(|one| one.topic == topic)
    }

    /// The same, not counting publishes.
    #[must_use]
    pub fn is_changing(&self, topic: u64) -> bool {
        self.unanswered().iter().any(|one| one.topic == topic && !matches!(one.kind, Pending::Publish(_)))
    }

    /// Bytes of data of publishes that the broker has not answered, and for each of them `PUBLISH_COST` more.
    #[must_use]
    pub fn publishing_bytes(&self) -> usize {
        let bytes = self.unanswered().iter().map(|one| match one.kind {
            Pending::Publish(bytes) => PUBLISH_COST + bytes as usize,
            Pending::History | Pending::Subscribe => 0,
        });
        bytes.sum()
    }

    /// Topics that it has, and those that it may get by commands under way.
    #[must_use]
    pub fn topics(&self) -> usize {
        let joining = self.unanswered().iter().filter(|one| one.kind == Pending::Subscribe);
        self.subscriptions.as_slice().len() + joining.count()
    }

    /// Commands that the broker has not answered.
    #[must_use]
    pub fn unanswered(&self) -> &[Unanswered] {
        self.waiting.as_ref().map_or(&[], |waiting| &waiting.unanswered)
    }

    /// Notes that the broker has answered `command`.
    pub fn answered(&mut self, command: u32) {
        if let Some(waiting) = &mut self.waiting {
            waiting.unanswered.retain(|one| one.command != command);
            if waiting.unanswered.is_empty() && waiting.backlog.is_none() && waiting.questions.is_idle() {
                self.waiting = None;
            }
        }
    }
}

/// What others note of a client. Each note has one place that changes it.
impl<S, T: Transport> Client<S, T> {
    /// Whether it is dead: its slot is freed at the end of the tick.
    #[must_use]
    #[inline]
    pub fn is_dead(&self) -> bool {
        self.dead
    }

    /// Notes that it is dead.
    pub(super) fn die(&mut self) {
        debug_assert!(!self.dead, "nobody dies twice");
        self.dead = true;
    }

    /// Whether its socket takes nothing: a writable edge is to come.
    #[must_use]
    #[inline]
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Notes that its socket takes nothing; true if that is new.
    pub(super) fn block(&mut self) -> bool {
        !std::mem::replace(&mut self.blocked, true)
    }

    /// Notes that its socket may take something again.
    pub(super) fn unblock(&mut self) {
        self.blocked = false;
    }

    /// Whether it is in a queue of those to be read.
    #[must_use]
    pub fn is_to_read(&self) -> bool {
        self.to_read
    }

    /// Notes that it is to be read; true if it was not.
    pub(super) fn enqueue(&mut self) -> bool {
        !std::mem::replace(&mut self.to_read, true)
    }

    /// Notes that its turn to be read has come.
    pub(super) fn begin_turn(&mut self) {
        (self.to_read, self.held_up) = (false, false);
    }

    /// Whether its peer has closed its side: there is an end to be read behind the data.
    #[must_use]
    pub fn has_hung_up(&self) -> bool {
        self.hung_up
    }

    /// Notes that its peer has closed its side.
    pub(super) fn hang_up(&mut self) {
        self.hung_up = true;
    }

    /// Whether its input waits: for an answer, for room towards the broker, or for replies to drain.
    #[must_use]
    pub fn is_held_up(&self) -> bool {
        self.held_up
    }

    /// Notes whether its input waits.
    pub(super) fn set_held_up(&mut self, is_held_up: bool) {
        self.held_up = is_held_up;
    }

    /// Whether there may be whole frames in what is kept of its input: they come before anything else that it sent.
    #[must_use]
    pub fn has_left_over(&self) -> bool {
        self.left_over
    }

    /// Notes whether there may be whole frames in what is kept of its input.
    pub(super) fn set_left_over(&mut self, is_left_over: bool) {
        self.left_over = is_left_over;
    }

    /// Whether its latest turn went on with what was left over: there is more of its input than turns.
    #[must_use]
    pub fn went_on(&self) -> bool {
        self.went_on
    }

    /// Notes whether its turn goes on with what was left over.
    pub(super) fn set_went_on(&mut self, went_on: bool) {
        self.went_on = went_on;
    }

    /// Input that is no whole frame, or no whole head, yet; or that was not looked at, if some is
    /// [left over](Self::has_left_over).
    pub(super) fn tail_mut(&mut self) -> Option<&mut Tail> {
        self.tail.as_deref_mut()
    }

    /// Takes that input out.
    pub(super) fn take_tail(&mut self) -> Option<Box<Tail>> {
        self.tail.take()
    }

    /// Keeps what is left of that input, if anything is.
    pub(super) fn keep_tail(&mut self, tail: Box<Tail>) {
        self.tail = (!tail.is_empty()).then_some(tail);
    }

    /// Start of what is being timed: accept, upgrade, last ping, close.
    #[must_use]
    pub fn since(&self) -> Moment {
        self.since
    }

    /// Begins to time something else.
    pub(super) fn time_from(&mut self, moment: Moment) {
        self.since = moment;
    }

    /// Since when a message has come in part, if one has.
    #[must_use]
    pub fn message_since(&self) -> Moment {
        self.message_since
    }

    /// Notes that what comes next is the beginning of a message.
    pub(super) fn begin_message(&mut self, now: Moment) {
        self.message_since = now;
    }

    /// The entry of the wheel that counts.
    #[must_use]
    pub fn armed(&self) -> Moment {
        self.armed
    }

    /// Notes which entry of the wheel counts from now on.
    pub(super) fn set_armed(&mut self, armed: Moment) {
        self.armed = armed;
    }

    /// How often its socket has been looked at once more since something has been late.
    #[must_use]
    pub fn looks(&self) -> u8 {
        self.looks
    }

    /// Counts one more look.
    pub(super) fn count_look(&mut self) {
        self.looks += 1;
    }

    /// Notes that nothing is late any more.
    pub(super) fn reset_looks(&mut self) {
        self.looks = 0;
    }

    /// The page's origin, if it is one and there was a number for it.
    #[must_use]
    pub fn origin(&self) -> Option<OriginId> {
        self.origin
    }

    /// Notes the page's origin.
    pub(super) fn set_origin(&mut self, origin: Option<OriginId>) {
        self.origin = origin;
    }

    /// Whether it has one of the node's places for clients; the others are being refused.
    #[must_use]
    pub fn has_place(&self) -> bool {
        self.has_place
    }

    /// Notes whether it has one of the node's places.
    pub(super) fn set_place(&mut self, has_place: bool) {
        self.has_place = has_place;
    }

    /// Whether it is in the list of clients whose input is kept.
    #[must_use]
    pub fn is_listed_for_input(&self) -> bool {
        self.keeps_input
    }

    /// Notes that it is in the list of clients whose input is kept; true if it was not.
    pub(super) fn list_for_input(&mut self) -> bool {
        !std::mem::replace(&mut self.keeps_input, true)
    }

    /// Notes whether it stays in that list.
    pub(super) fn still_keeps_input(&mut self) -> bool {
        self.keeps_input = self.input_bytes() > 0;
        self.keeps_input
    }

    /// Whether replies wait while its socket takes nothing.
    #[must_use]
    pub fn leaves_replies(&self) -> bool {
        self.blocked && self.reply_bytes() > 0
    }

    /// Whether it is in the list of clients that leave replies unread.
    #[must_use]
    pub fn is_listed_for_replies(&self) -> bool {
        self.leaves_replies
    }

    /// Notes that it leaves replies unread, if so; true if it is to be put into the list of those.
    pub(super) fn list_for_replies(&mut self) -> bool {
        let is_new = self.leaves_replies() && !self.leaves_replies;
        self.leaves_replies |= is_new;
        is_new
    }

    /// Notes whether it stays in that list.
    pub(super) fn still_leaves_replies(&mut self) -> bool {
        self.leaves_replies = self.leaves_replies();
        self.leaves_replies
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::websocket::connection::WebSocket;

    /// Idle clients are what there are most of, and a slot is all that they cost here.
    #[test]
    fn a_slot_is_small() {
        /// A socket is a descriptor, as long as nobody looks for faults in mio.
        type Descriptor = i32;
        assert!(
            size_of::<Client<Descriptor, WebSocket>>() <= 88,
            "{}",
            size_of::<Client<Descriptor, WebSocket>>()
        );
    }
}
