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

/// A yes or no about a client: one bit, as there are many idle clients.
#[derive(Clone, Copy, Debug)]
enum Flag {
    /// [`Client::is_blocked`]
    Blocked,
    /// [`Client::is_to_read`]
    ToRead,
    /// [`Client::has_place`]
    HasPlace,
    /// [`Client::has_hung_up`]
    HungUp,
    /// [`Client::is_stalled`]
    Stalled,
    /// [`Client::has_unprocessed`]
    Unprocessed,
    /// [`Client::has_resumed`]
    Resumed,
    /// [`Client::is_listed_for_input`]
    KeepsInput,
    /// [`Client::is_listed_for_replies`]
    LeavesReplies,
    /// [`Client::has_ended`]
    Ended,
    /// [`Client::is_held`]
    Held,
}

/// The flags of a client.
#[derive(Clone, Copy, Debug, Default)]
struct Flags(u16);

impl Flags {
    #[inline]
    fn has(self, flag: Flag) -> bool {
        self.0 & 1 << flag as u16 != 0
    }

    /// Whether one of both is set.
    #[inline]
    fn has_either(self, one: Flag, other: Flag) -> bool {
        self.0 & (1 << one as u16 | 1 << other as u16) != 0
    }

    /// Sets or clears a flag. Returns whether it was set before.
    #[inline]
    fn put(&mut self, flag: Flag, is_set: bool) -> bool {
        let was_set = self.has(flag);
        self.0 = self.0 & !(1 << flag as u16) | u16::from(is_set) << flag as u16;
        was_set
    }
}

/// Commands of a client that cannot be finished yet.
#[derive(Debug, Default)]
pub struct UnfinishedCommands {
    /// The rest of a message, from the first command on that must wait for its turn. While it is there, nothing is read.
    pub rest: Option<Box<[u8]>>,
    /// When that message was read.
    pub rest_since: Moment,
    /// Commands that wait for room to be asked of the broker thread, or for its answers.
    pub questions: Questions,
    /// The subscriptions that a connect which waits has made so far, encoded for its reply.
    pub prepared: Vec<u8>,
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
    /// Its commands that cannot be finished yet.
    pub(super) unfinished: Option<Box<UnfinishedCommands>>,
    tail: Option<Box<Tail>>,
    message_since: Moment,
    armed: Moment,
    origin: Option<OriginId>,
    rechecks: u8,
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
            unfinished: None,
            message_since: now,
            armed: now,
            origin: None,
            rechecks: 0,
            flags: Flags::default(),
        }
    }

    /// Whether its commands are carried out.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.has_ended() && self.transport.phase() == Phase::Open
    }

    /// Whether a frame can be written to it at once: no output waits, and its socket is not full.
    #[must_use]
    pub fn can_take_a_frame(&self) -> bool {
        self.outgoing.is_none() && !self.is_blocked()
    }

    /// Whether its input must not be read now.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.has_postponed() || self.has_put_off()
    }

    /// Whether a command of it is put off, with the rest of its message.
    #[must_use]
    pub fn has_put_off(&self) -> bool {
        self.unfinished.as_ref().is_some_and(|unfinished| unfinished.rest.is_some())
    }

    /// Whether it has questions that are to be asked later. Nothing else is done for it before.
    #[must_use]
    pub fn has_postponed(&self) -> bool {
        self.unfinished.as_ref().is_some_and(|unfinished| unfinished.questions.are_postponed())
    }

    /// Whether a message has arrived in part: some of its frames, or part of a frame.
    #[must_use]
    pub fn is_in_message(&self) -> bool {
        let has_part = self.tail.is_some() && !self.has_unprocessed();
        has_part || self.transport.is_in_message()
    }

    /// Bytes of its input that are kept.
    #[must_use]
    pub fn input_bytes(&self) -> usize {
        let rest = self.unfinished.as_ref().and_then(|unfinished| unfinished.rest.as_ref());
        let tail = self.tail.as_ref().map_or(0, |tail| tail.len());
        tail + rest.map_or(0, |rest| rest.len()) + self.transport.assembled_bytes()
    }

    /// Bytes that the answers to its questions may have together.
    #[must_use]
    pub fn promised_bytes(&self) -> usize {
        self.unfinished.as_ref().map_or(0, |unfinished| unfinished.questions.promised_bytes())
    }

    /// Bytes of replies that wait.
    #[must_use]
    pub fn reply_bytes(&self) -> usize {
        self.outgoing.as_ref().map_or(0, |outgoing| outgoing.bytes.len() - outgoing.orphaned)
    }

    /// Bytes that are prepared for the reply to a connect.
    #[must_use]
    pub fn prepared_bytes(&self) -> usize {
        self.unfinished.as_ref().map_or(0, |unfinished| unfinished.prepared.len())
    }

    /// Bytes of replies that wait, and of the one that is prepared.
    #[must_use]
    pub fn all_reply_bytes(&self) -> usize {
        self.reply_bytes() + self.prepared_bytes()
    }

    /// Notes that a command is answered.
    pub(super) fn answered(&mut self, id: u32) {
        self.session.answered(id);
        self.free_unfinished();
    }

    /// Frees the memory for unfinished commands, if there are none.
    pub(super) fn free_unfinished(&mut self) {
        let is_idle = |UnfinishedCommands { rest, questions, prepared, .. }: &UnfinishedCommands| {
            rest.is_none() && questions.is_idle() && prepared.is_empty()
        };
        if self.unfinished.as_deref().is_some_and(is_idle) {
            self.unfinished = None;
        }
    }
}

/// Flags and small values that other files of the shard keep about a client.
impl<S, T: Transport> Client<S, T> {
    /// Whether its connection has ended. Its slot is freed at the end of the tick.
    #[must_use]
    #[inline]
    pub fn has_ended(&self) -> bool {
        self.flags.has(Flag::Ended)
    }

    /// Notes that its connection has ended.
    pub(super) fn end(&mut self) {
        let had_ended = self.flags.put(Flag::Ended, true);
        debug_assert!(!had_ended, "a connection ends once");
    }

    /// Whether its socket is full: it did not take all of the last write. Its writable edge ends that.
    #[must_use]
    #[inline]
    pub fn is_blocked(&self) -> bool {
        self.flags.has(Flag::Blocked)
    }

    /// Notes that its socket is full. Returns whether that is new.
    pub(super) fn block(&mut self) -> bool {
        !self.flags.put(Flag::Blocked, true)
    }

    /// Notes that its socket may take something again.
    pub(super) fn unblock(&mut self) {
        self.flags.put(Flag::Blocked, false);
    }

    /// Whether it is sent no publications before the reply to its connect: its subscribers are parked.
    #[must_use]
    #[inline]
    pub fn is_held(&self) -> bool {
        self.flags.has(Flag::Held)
    }

    /// Sets or clears [`Self::is_held`].
    pub(super) fn set_held(&mut self, is_held: bool) {
        self.flags.put(Flag::Held, is_held);
    }

    /// Whether it can be sent no publications now: its socket is full, or it is [held](Self::is_held).
    #[must_use]
    #[inline]
    pub fn takes_no_publications(&self) -> bool {
        self.flags.has_either(Flag::Blocked, Flag::Held)
    }

    /// Whether it is in a queue of those to be read.
    #[must_use]
    pub fn is_to_read(&self) -> bool {
        self.flags.has(Flag::ToRead)
    }

    /// Notes that it is to be read. Returns whether that is new.
    pub(super) fn enqueue(&mut self) -> bool {
        !self.flags.put(Flag::ToRead, true)
    }

    /// Notes that its turn to be read has come.
    pub(super) fn begin_turn(&mut self) {
        self.flags.put(Flag::ToRead, false);
        self.flags.put(Flag::Stalled, false);
    }

    /// Whether the peer has closed its side, so that an end of file follows its data.
    #[must_use]
    pub fn has_hung_up(&self) -> bool {
        self.flags.has(Flag::HungUp)
    }

    /// Notes that the peer has closed its side.
    pub(super) fn hang_up(&mut self) {
        self.flags.put(Flag::HungUp, true);
    }

    /// Whether its input waits: for an answer, for room in the queue of requests, or until its replies are taken.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.flags.has(Flag::Stalled)
    }

    /// Sets or clears [`Self::is_stalled`].
    pub(super) fn set_stalled(&mut self, is_stalled: bool) {
        self.flags.put(Flag::Stalled, is_stalled);
    }

    /// Whether the input that is kept of it may have whole frames. They are processed before more is read.
    #[must_use]
    pub fn has_unprocessed(&self) -> bool {
        self.flags.has(Flag::Unprocessed)
    }

    /// Sets or clears [`Self::has_unprocessed`].
    pub(super) fn set_unprocessed(&mut self, has_unprocessed: bool) {
        self.flags.put(Flag::Unprocessed, has_unprocessed);
    }

    /// Whether its latest turn continued with input that was kept: it sends more than its share.
    #[must_use]
    pub fn has_resumed(&self) -> bool {
        self.flags.has(Flag::Resumed)
    }

    /// Sets or clears [`Self::has_resumed`].
    pub(super) fn set_resumed(&mut self, has_resumed: bool) {
        self.flags.put(Flag::Resumed, has_resumed);
    }

    /// Input that is part of a frame or of an HTTP head; or input that was not [processed](Self::has_unprocessed).
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

    /// When the message began that has arrived in part, if there is one.
    #[must_use]
    pub fn message_since(&self) -> Moment {
        self.message_since
    }

    /// Notes that the next byte begins a message.
    pub(super) fn begin_message(&mut self, now: Moment) {
        self.message_since = now;
    }

    /// The moment of its valid entry in the timer wheel.
    #[must_use]
    pub fn armed(&self) -> Moment {
        self.armed
    }

    /// Makes the entry for this moment the valid one.
    pub(super) fn set_armed(&mut self, armed: Moment) {
        self.armed = armed;
    }

    /// How often it has been read once more since something was late.
    #[must_use]
    pub fn rechecks(&self) -> u8 {
        self.rechecks
    }

    /// Counts one more.
    pub(super) fn count_recheck(&mut self) {
        self.rechecks += 1;
    }

    /// Notes that nothing is late any more.
    pub(super) fn reset_rechecks(&mut self) {
        self.rechecks = 0;
    }

    /// The origin of its page, if it has one and there was a number for it.
    #[must_use]
    pub fn origin(&self) -> Option<OriginId> {
        self.origin
    }

    /// Sets the origin of its page.
    pub(super) fn set_origin(&mut self, origin: Option<OriginId>) {
        self.origin = origin;
    }

    /// Whether it counts against `limits.clients`. Others are being refused.
    #[must_use]
    pub fn has_place(&self) -> bool {
        self.flags.has(Flag::HasPlace)
    }

    /// Sets or clears [`Self::has_place`].
    pub(super) fn set_place(&mut self, has_place: bool) {
        self.flags.put(Flag::HasPlace, has_place);
    }

    /// Whether it is in the list of clients whose input is kept.
    #[must_use]
    pub fn is_listed_for_input(&self) -> bool {
        self.flags.has(Flag::KeepsInput)
    }

    /// Notes that it is in the list of clients whose input is kept. Returns whether that is new.
    pub(super) fn list_for_input(&mut self) -> bool {
        !self.flags.put(Flag::KeepsInput, true)
    }

    /// Notes and returns whether it stays in that list.
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

    /// Notes whether it leaves replies unread. Returns whether it is to be added to the list of such clients.
    pub(super) fn list_for_replies(&mut self) -> bool {
        self.leaves_replies() && !self.flags.put(Flag::LeavesReplies, true)
    }

    /// Notes and returns whether it stays in that list.
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
