//! One client's side of the protocol, sans I/O: which command is allowed when, what it means, and what it has to
//! wait for.
//!
//! ```text
//!         codec             session                               shard
//!  bytes ──────▶ command ──▶ handle(command, rules, facts) ──▶ Action: answer, ask the broker, put off, close
//!                              ▲                                         │
//!                              └── asked, answered, ping, pong ◀─────────┘
//! ```
//!
//! The session decides, and the shard executes. A session is plain state. Besides its state, its decisions depend on
//! these values alone:
//!
//! * the command, or why there is none ([`Malformed`](crate::codec::command::Malformed));
//! * the [`Rules`](rules::Rules), which hold for all clients: limits, time-outs, and what a topic's namespace permits;
//! * the [`Facts`](rules::Facts), which only the shard knows: whether there is room for a request, what the command's token
//!   says, and the present.
//!
//! [`Session::handle`] returns one [`Action`](action::Action). It allocates nothing but what a request to the broker
//! is made of. Only the shard learns whether the broker must be asked: a subscription to a topic that is attached
//! already is complete at once. So the shard reports what it has asked ([`Session::asked`]), and which answer has come
//! ([`Session::answered`]). [`answers`] says what an answer means.
//!
//! A session reads no clock. It says which time-out runs ([`Session::due`]) and what follows when it is over
//! ([`Session::expiry`]). Among these are the ends of a connection and of subscriptions whose tokens have expired.
//!
//! *Deliberately absent: sockets, threads, the clock, and the bytes of a codec or a transport.* How many bytes of input
//! and output a client may have waiting is the shard's affair. Publications do not pass through a session.

pub mod action;
pub mod answers;
mod calls;
mod commands;
mod connecting;
pub mod expiry;
mod grants;
mod identity;
pub mod options;
mod rare;
pub mod rules;
pub mod timeouts;
mod tokens;
mod unanswered;

use crate::base::moment::Moment;
use crate::domain::mail::TopicSlot;
use crate::domain::reasons::CloseReason;

pub use commands::is_request;
pub use connecting::{reason_after, reason_after_failure};
use rare::Rare;
use unanswered::Unanswered;

/// One client's state in the protocol.
#[derive(Debug)]
pub struct Session {
    state: State,
    since: Moment,
    rare: Option<Box<Rare>>,
}

/// How far a client has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It has not sent its connect command, or that [waits](Session::is_connecting).
    New,
    /// It is connected.
    Connected,
    /// It is connected, and has not answered the latest ping.
    AwaitingPong,
    /// Its connect command was answered with an error. It is to leave, or is closed for this reason.
    Refused(CloseReason),
}

/// A command that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    /// A publish, of so many bytes. The broker takes them in order, so that another to the same topic can
    /// follow at once.
    Publish(u32),
    /// A publish, of so many bytes, that the application's backend is asked about. The next command about its topic waits,
    /// so that publishes keep their order.
    PublishHook(u32),
    /// A request to the application's backend, of so many bytes. Nothing waits for it.
    Rpc(u32),
    /// A question whose answer may be large.
    Question,
    /// A subscribe: the next command about its topic waits for its answer.
    Subscribe,
}

impl Session {
    /// The session of a client that has sent nothing yet.
    #[must_use]
    pub fn new(now: Moment) -> Self {
        Self { state: State::New, since: now, rare: None }
    }

    /// Whether the client's connect command was accepted.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected | State::AwaitingPong)
    }

    /// Whether the client's connect command was answered with an error, so that nothing more is done for it.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self.state, State::Refused(_))
    }

    /// Notes that the broker was asked on behalf of a command about a topic.
    pub fn asked(&mut self, id: u32, topic: &str, pending: Pending) {
        self.change_rare(|rare| rare.unanswered.insert(id, topic, pending));
    }

    /// Notes that the command with this id is answered. If it is a subscribe and has [not become a
    /// subscription](Self::subscribed), it has failed.
    pub fn answered(&mut self, id: u32) {
        if self.rare.is_some() {
            self.change_rare(|rare| {
                rare.unanswered.remove(id);
                rare.grants.drop_of_command(id);
                if rare.extra().is_some_and(|extra| !extra.subscribing.is_empty()) {
                    rare.change_extra(|extra| extra.subscribing.retain(|one| one.id != id));
                }
            });
        }
    }

    fn unanswered(&self) -> &Unanswered {
        static NONE: Unanswered = Unanswered::new();
        self.rare.as_ref().map_or(&NONE, |rare| &rare.unanswered)
    }

    /// Whether commands of the client wait for the broker's answer.
    #[must_use]
    pub fn has_unanswered(&self) -> bool {
        self.is_connecting() || !self.unanswered().is_empty()
    }

    /// Asserts that nothing is left of what is kept for commands and for subscriptions: each of the former waits for its
    /// answer, and each of the latter `has` the client. For tests, as it goes through everything.
    ///
    /// # Panics
    /// When something is left.
    pub fn check(&self, has: impl Fn(TopicSlot) -> bool) {
        let Some(rare) = &self.rare else { return };
        let (commands, topics) = rare.grants.owners();
        let subscribing = rare.extra().into_iter().flat_map(|extra| &extra.subscribing).map(|one| one.id);
        for id in commands.chain(subscribing) {
            assert!(rare.unanswered.contains(id), "something is kept for command {id}, which is answered");
        }
        topics.for_each(|topic| {
            assert!(has(topic), "something is kept for {topic:?}, which the client has left")
        });
    }

    /// Notes that the client is being closed: it waits for no answers any more. Returns whether the application's backend is
    /// being asked about it.
    pub fn end(&mut self) -> bool {
        self.rare.take().is_some_and(|rare| rare.asks_about_client())
    }
}

#[cfg(test)]
mod tests;
