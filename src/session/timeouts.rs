//! Which time-out of a client runs, and what follows when it is over.

use crate::base::moment::Moment;
use crate::config::{Interval, Timeouts};
use crate::domain::reasons::CloseReason;
use crate::session::{Phase, Session};

/// What follows when a time-out is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// The client is to be pinged.
    Ping,
    /// The client is to be closed, unless what is awaited has arrived and only has not been read yet.
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

    /// How long, at most, the shard still reads what had arrived in time: `timeouts.connect` for a connect command,
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
    /// Since when the running time-out runs. That of a connection whose transport is not open, or is not open any more, is
    /// the shard's.
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
        let length = match self.phase {
            Phase::New => timeouts.connect,
            Phase::Connected => timeouts.ping,
            Phase::AwaitingPong => timeouts.pong,
        };
        self.since.after(length.0)
    }

    /// What follows when the time-out that runs is over.
    #[must_use]
    pub fn expiry(&self) -> Expiry {
        match self.phase {
            Phase::New => Expiry::Close(Silence::Connect),
            Phase::Connected => Expiry::Ping,
            Phase::AwaitingPong => Expiry::Close(Silence::Pong),
        }
    }

    /// Notes that a connected client is pinged. The answer is due after `timeouts.pong`, the next ping after `timeouts.ping`.
    pub fn ping(&mut self, now: Moment) {
        debug_assert!(self.is_connected(), "pings follow the connect command");
        self.phase = Phase::AwaitingPong;
        self.since = now;
    }

    /// Takes a pong. Returns whether a ping was unanswered. A second pong prolongs nothing.
    pub fn pong(&mut self) -> bool {
        let was_due = self.phase == Phase::AwaitingPong;
        if was_due {
            self.phase = Phase::Connected;
        }
        was_due
    }
}
