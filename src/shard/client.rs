//! One client.
//!
//! An idle client is only its slot. State that exists only at times, such as half a message or waiting replies, is
//! boxed, and exists only while it is needed.

use crate::base::moment::Moment;
use crate::session::Session;
use crate::shard::origins::OriginId;
use crate::shard::output::Outgoing;
use crate::shard::questions::Questions;
use crate::shard::subscriptions::Subscriptions;
use crate::shard::tail::Tail;
use crate::transport::{Phase, Transport};

/// Something that is noted of a client: one bit, as an idle client is only its slot.
#[derive(Clone, Copy, Debug)]
enum Flag {
    Blocked,
    ToRead,
    HasPlace,
    HungUp,
    HeldUp,
    LeftOver,
    WentOn,
    KeepsInput,
    LeavesReplies,
    Dead,
}

/// What is noted of a client.
#[derive(Clone, Copy, Debug, Default)]
struct Flags(u16);

impl Flags {
    #[inline]
    fn has(self, flag: Flag) -> bool {
        self.0 & 1 << flag as u16 != 0
    }

    /// Sets a flag, or clears it: whether it was set before.
    #[inline]
    fn put(&mut self, flag: Flag, is_set: bool) -> bool {
        let was_set = self.has(flag);
        self.0 = self.0 & !(1 << flag as u16) | u16::from(is_set) << flag as u16;
        was_set
    }
}

/// What waits on behalf of a client's commands.
#[derive(Debug, Default)]
pub struct Waiting {
    /// The rest of a message whose next command must wait. While it is there, nothing is read.
    pub backlog: Option<Box<[u8]>>,
    /// Requests whose answers may be large.
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
    /// What waits on behalf of its commands.
    pub(super) waiting: Option<Box<Waiting>>,
    tail: Option<Box<Tail>>,
    message_since: Moment,
    armed: Moment,
    origin: Option<OriginId>,
    looks: u8,
    flags: Flags,
}

impl<S, T: Transport> Client<S, T> {
    /// One that has just connected.
    #[must_use]
    pub fn new(stream: S, now: Moment) -> Self {
        Self {
            stream,
            transport: T::default(),
            session: Session::new(now),
            subscriptions: Subscriptions::Empty,
            tail: None,
            outgoing: None,
            waiting: None,
            message_since: now,
            armed: now,
            origin: None,
            looks: 0,
            flags: Flags::default(),
        }
    }

    /// Whether its commands are still done.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.is_dead() && self.transport.phase() == Phase::Open
    }

    /// Whether nothing but publications can be on the way out.
    #[must_use]
    pub fn has_free_road(&self) -> bool {
        self.outgoing.is_none() && !self.is_blocked()
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
        let has_part = self.tail.is_some() && !self.has_left_over();
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

    /// Notes that a command is answered.
    pub(super) fn answered(&mut self, id: u32) {
        self.session.answered(id);
        self.free_waiting();
    }

    /// Frees the memory for what waits on behalf of its commands, if nothing does.
    pub(super) fn free_waiting(&mut self) {
        let is_idle = |waiting: &Waiting| waiting.backlog.is_none() && waiting.questions.is_idle();
        if self.waiting.as_deref().is_some_and(is_idle) {
            self.waiting = None;
        }
    }
}

/// What others note of a client. Each note has one place that changes it.
impl<S, T: Transport> Client<S, T> {
    /// Whether it is dead: its slot is freed at the end of the tick.
    #[must_use]
    #[inline]
    pub fn is_dead(&self) -> bool {
        self.flags.has(Flag::Dead)
    }

    /// Notes that it is dead.
    pub(super) fn die(&mut self) {
        let was_dead = self.flags.put(Flag::Dead, true);
        debug_assert!(!was_dead, "nobody dies twice");
    }

    /// Whether its socket takes nothing: a writable edge is to come.
    #[must_use]
    #[inline]
    pub fn is_blocked(&self) -> bool {
        self.flags.has(Flag::Blocked)
    }

    /// Notes that its socket takes nothing; true if that is new.
    pub(super) fn block(&mut self) -> bool {
        !self.flags.put(Flag::Blocked, true)
    }

    /// Notes that its socket may take something again.
    pub(super) fn unblock(&mut self) {
        self.flags.put(Flag::Blocked, false);
    }

    /// Whether it is in a queue of those to be read.
    #[must_use]
    pub fn is_to_read(&self) -> bool {
        self.flags.has(Flag::ToRead)
    }

    /// Notes that it is to be read; true if it was not.
    pub(super) fn enqueue(&mut self) -> bool {
        !self.flags.put(Flag::ToRead, true)
    }

    /// Notes that its turn to be read has come.
    pub(super) fn begin_turn(&mut self) {
        self.flags.put(Flag::ToRead, false);
        self.flags.put(Flag::HeldUp, false);
    }

    /// Whether its peer has closed its side: there is an end to be read behind the data.
    #[must_use]
    pub fn has_hung_up(&self) -> bool {
        self.flags.has(Flag::HungUp)
    }

    /// Notes that its peer has closed its side.
    pub(super) fn hang_up(&mut self) {
        self.flags.put(Flag::HungUp, true);
    }

    /// Whether its input waits: for an answer, for room towards the broker, or for replies to drain.
    #[must_use]
    pub fn is_held_up(&self) -> bool {
        self.flags.has(Flag::HeldUp)
    }

    /// Notes whether its input waits.
    pub(super) fn set_held_up(&mut self, is_held_up: bool) {
        self.flags.put(Flag::HeldUp, is_held_up);
    }

    /// Whether there may be whole frames in what is kept of its input: they come before anything else that it sent.
    #[must_use]
    pub fn has_left_over(&self) -> bool {
        self.flags.has(Flag::LeftOver)
    }

    /// Notes whether there may be whole frames in what is kept of its input.
    pub(super) fn set_left_over(&mut self, is_left_over: bool) {
        self.flags.put(Flag::LeftOver, is_left_over);
    }

    /// Whether its latest turn went on with what was left over: there is more of its input than turns.
    #[must_use]
    pub fn went_on(&self) -> bool {
        self.flags.has(Flag::WentOn)
    }

    /// Notes whether its turn goes on with what was left over.
    pub(super) fn set_went_on(&mut self, went_on: bool) {
        self.flags.put(Flag::WentOn, went_on);
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
        self.flags.has(Flag::HasPlace)
    }

    /// Notes whether it has one of the node's places.
    pub(super) fn set_place(&mut self, has_place: bool) {
        self.flags.put(Flag::HasPlace, has_place);
    }

    /// Whether it is in the list of clients whose input is kept.
    #[must_use]
    pub fn is_listed_for_input(&self) -> bool {
        self.flags.has(Flag::KeepsInput)
    }

    /// Notes that it is in the list of clients whose input is kept; true if it was not.
    pub(super) fn list_for_input(&mut self) -> bool {
        !self.flags.put(Flag::KeepsInput, true)
    }

    /// Notes whether it stays in that list.
    pub(super) fn still_keeps_input(&mut self) -> bool {
        let keeps_input = self.input_bytes() > 0;
        self.flags.put(Flag::KeepsInput, keeps_input);
        keeps_input
    }

    /// Whether replies wait while its socket takes nothing.
    #[must_use]
    pub fn leaves_replies(&self) -> bool {
        self.is_blocked() && self.reply_bytes() > 0
    }

    /// Whether it is in the list of clients that leave replies unread.
    #[must_use]
    pub fn is_listed_for_replies(&self) -> bool {
        self.flags.has(Flag::LeavesReplies)
    }

    /// Notes that it leaves replies unread, if so; true if it is to be put into the list of those.
    pub(super) fn list_for_replies(&mut self) -> bool {
        self.leaves_replies() && !self.flags.put(Flag::LeavesReplies, true)
    }

    /// Notes whether it stays in that list.
    pub(super) fn still_leaves_replies(&mut self) -> bool {
        let leaves_replies = self.leaves_replies();
        self.flags.put(Flag::LeavesReplies, leaves_replies);
        leaves_replies
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
