//! Which time-out of a client runs, and what follows when it is over.

use std::fmt;

use crate::base::moment::Moment;
use crate::config::{Interval, Timeouts};
use crate::domain::mail::TopicSlot;
use crate::domain::reasons::CloseReason;
use crate::session::expiry::End;
use crate::session::identity::Identity;
use crate::session::{Session, State};

/// What follows when a time-out is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// The client is to be pinged.
    Ping,
    /// The client is to be closed, unless what is awaited has arrived and was not read yet.
    Close(Silence),
    /// The client's subscription to a topic has expired, and is to be ended.
    EndSubscription(TopicSlot),
    /// The connection has expired, and the application's backend is to be asked for how long it may stay.
    AskAboutConnection,
    /// The same for the client's subscription to a topic.
    AskAboutSubscription(TopicSlot),
    /// Nothing: the client waits for the server.
    Nothing,
}

/// What a client has not sent in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// Its connect command.
    Connect,
    /// The answer to a ping.
    Pong,
    /// Another token, after the connection has expired.
    Token,
    /// The end of its connection, after its connect command was refused. The client is closed for this reason.
    Leave(CloseReason),
}

/// What the client has not done, for the log.
impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "no connect command in time (timeouts.connect)",
            Self::Pong => "no answer to a ping in time (timeouts.pong)",
            Self::Token => "no other token in time (timeouts.expired)",
            Self::Leave(_) => "it stayed after its connect was answered with an error (timeouts.close)",
        })
    }
}

impl Silence {
    /// The reason with which the client is closed.
    #[must_use]
    pub fn reason(self) -> CloseReason {
        match self {
            Self::Connect => CloseReason::Stale,
            Self::Pong => CloseReason::NoPong,
            Self::Token => CloseReason::Expired,
            Self::Leave(reason) => reason,
        }
    }

    /// How long at most the shard then reads input that arrived in time: `timeouts.connect` for a connect command,
    /// `timeouts.ping` for a pong, `timeouts.expired` for another token, `timeouts.close` for the end.
    #[must_use]
    pub fn grace(self, timeouts: &Timeouts) -> Interval {
        match self {
            Self::Connect => timeouts.connect,
            Self::Pong => timeouts.ping,
            Self::Token => timeouts.expired,
            Self::Leave(_) => timeouts.close,
        }
    }
}

impl Session {
    /// When the running time-out began. While its transport is not open, a connection's time-out is the shard's, and begins
    /// here as well.
    #[must_use]
    pub fn since(&self) -> Moment {
        self.since
    }

    /// Begins the next time-out.
    pub fn time_from(&mut self, moment: Moment) {
        self.since = moment;
    }

    /// When the first of the running time-outs is over.
    #[must_use]
    pub fn due(&self, timeouts: &Timeouts) -> Moment {
        let subscription = self.subscription_due(timeouts).map(|(_, due)| due);
        let due = [self.state_due(timeouts), self.connection_due(timeouts), subscription];
        due.into_iter().flatten().min().unwrap_or(Moment::LAST)
    }

    /// When the time-out of the session's state is over. A client that waits for the server has none.
    fn state_due(&self, timeouts: &Timeouts) -> Option<Moment> {
        let length = match self.state {
            State::New if self.is_connecting() => return None,
            State::New => timeouts.connect,
            State::Connected => timeouts.ping,
            State::AwaitingPong => timeouts.pong,
            State::Refused(_) => timeouts.close,
        };
        Some(self.since.after(length.0))
    }

    /// When something is to be done about a connection that expires.
    fn connection_due(&self, timeouts: &Timeouts) -> Option<Moment> {
        self.identity().and_then(Identity::end)?.due(timeouts.expired.0)
    }

    /// About which subscription that expires something is to be done first, and when.
    fn subscription_due(&self, timeouts: &Timeouts) -> Option<(TopicSlot, Moment)> {
        self.rare.as_ref()?.grants.first_due(timeouts.expired.0)
    }

    /// What follows when a time-out is over.
    #[must_use]
    pub fn expiry(&self, now: Moment, timeouts: &Timeouts) -> Expiry {
        if self.connection_due(timeouts).is_some_and(|due| due <= now) {
            let asks = self.identity().and_then(Identity::end).is_some_and(End::asks_backend);
            return if asks { Expiry::AskAboutConnection } else { Expiry::Close(Silence::Token) };
        }
        if let Some((topic, due)) = self.subscription_due(timeouts)
            && due <= now
        {
            let asks = self.end_of(topic).is_some_and(End::asks_backend);
            return if asks { Expiry::AskAboutSubscription(topic) } else { Expiry::EndSubscription(topic) };
        }
        match self.state {
            State::New if self.is_connecting() => Expiry::Nothing,
            State::New => Expiry::Close(Silence::Connect),
            State::Connected => Expiry::Ping,
            State::AwaitingPong => Expiry::Close(Silence::Pong),
            State::Refused(reason) => Expiry::Close(Silence::Leave(reason)),
        }
    }

    /// Notes that a connected client is pinged. The answer is due after `timeouts.pong`, the next ping after
    /// `timeouts.ping`.
    pub fn ping(&mut self, now: Moment) {
        debug_assert!(self.is_connected(), "pings follow the connect command");
        self.state = State::AwaitingPong;
        self.since = now;
    }

    /// Takes a pong. Returns whether a ping was unanswered. A second pong extends no time-out.
    pub fn pong(&mut self) -> bool {
        let was_due = self.state == State::AwaitingPong;
        if was_due {
            self.state = State::Connected;
        }
        was_due
    }
}
