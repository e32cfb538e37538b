//! Which time-out of a client runs, and what follows when it is over.

use crate::base::moment::Moment;
use crate::config::{Interval, Timeouts};
use crate::domain::reasons::CloseReason;
use crate::session::{Session, State};

/// What follows when a time-out is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// The client is to be pinged.
    Ping,
    /// The client is to be closed, unless what is awaited has arrived and was not read yet.
    Close(Silence),
}

/// What a client has not sent in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// Its connect command.
    Connect,
    /// The answer to a ping.
    Pong,
}

impl Silence {
    /// The reason with which the client is closed.
    #[must_use]
    pub fn reason(self) -> CloseReason {
        match self {
            Self::Connect => CloseReason::Stale,
            Self::Pong => CloseReason::NoPong,
        }
    }

    /// How long at most the shard then reads input that arrived in time: `timeouts.connect` for a connect command,
    /// `timeouts.ping` for a pong.
    #[must_use]
    pub fn grace(self, timeouts: &Timeouts) -> Interval {
        match self {
            Self::Connect => timeouts.connect,
            Self::Pong => timeouts.ping,
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

    /// When the running time-out is over.
    #[must_use]
    pub fn due(&self, timeouts: &Timeouts) -> Moment {
        let length = match self.state {
            State::New => timeouts.connect,
            State::Connected => timeouts.ping,
            State::AwaitingPong => timeouts.pong,
        };
        self.since.after(length.0)
    }

    /// What follows when the time-out that runs is over.
    #[must_use]
    pub fn expiry(&self) -> Expiry {
        match self.state {
            State::New => Expiry::Close(Silence::Connect),
            State::Connected => Expiry::Ping,
            State::AwaitingPong => Expiry::Close(Silence::Pong),
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
