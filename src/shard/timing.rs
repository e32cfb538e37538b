//! What becomes of a client when its time is up: silence before the upgrade, before the connect command,
//! after a ping, after a close; replies that nobody takes; and the pings themselves.

use std::time::Duration;

use crate::protocol::codes::CloseReason;
use crate::session::Phase;
use crate::shard::clients::Client;
use crate::shard::deadlines::Moment;
use crate::shard::{Application, Shard, Socket};
use crate::wire::encode::Opcode;

impl<S: Socket, A: Application> Shard<S, A> {
    /// Makes sure that the client is looked at when its next deadline comes. An entry whose time has come stays: who is
    /// about to be looked at would else put it off with each byte.
    pub(super) fn time(&mut self, slot: u32) {
        let client = &self.clients[slot];
        if client.armed > self.deadlines.now() && self.due(client) < client.armed {
            self.arm(slot);
        }
    }

    /// Has a client that is new, or has just been looked at, looked at when its next deadline comes.
    pub(super) fn arm(&mut self, slot: u32) {
        let due = self.due(&self.clients[slot]);
        self.clients[slot].armed = self.deadlines.arm(self.clients.key(slot), due);
    }

    /// When something must happen to this client if nothing else does.
    fn due(&self, client: &Client<S>) -> Moment {
        let timeouts = &self.timeouts;
        let session = &client.session;
        let length = match session.phase {
            Phase::Upgrading => timeouts.upgrade,
            Phase::Open if !session.connected => timeouts.connect,
            Phase::Open if session.awaits_pong => return self.pong_due(client),
            Phase::Open => timeouts.ping,
            Phase::Closing => timeouts.close,
        };
        self.no_later(client, client.since.after(length.0))
    }

    /// `due`, or an earlier moment at which something else is due for an open client.
    fn no_later(&self, client: &Client<S>, due: Moment) -> Moment {
        [self.replies_due(client), self.message_due(client)].into_iter().flatten().fold(due, Moment::min)
    }

    /// When a pong will be late; or, while it may be behind input that waits for us, when to look again.
    fn pong_due(&self, client: &Client<S>) -> Moment {
        let pong = self.timeouts.pong.0;
        let due = client.since.after(pong);
        let due =
            if self.may_hide_its_pong(client) { due.max(self.deadlines.now().after(pong / 4)) } else { due };
        self.no_later(client, due)
    }

    /// Whether a pong may be behind a command that waits for the broker, or not be read yet: that is not the client's
    /// fault. But who sends so much more that its pong is not reached by the next ping never comes to it.
    fn may_hide_its_pong(&self, client: &Client<S>) -> bool {
        let next_ping = client.since.after(self.timeouts.pong.0 + self.timeouts.ping.0);
        let has_time = self.deadlines.now() < next_ping || !client.unanswered().is_empty();
        (client.held_up || client.to_read) && has_time
    }

    /// When a message will have been incomplete for too long, if it is not for us to go on with it.
    fn message_due(&self, client: &Client<S>) -> Option<Moment> {
        let is_closing = client.session.phase == Phase::Closing;
        let is_begun = client.is_in_message() && !is_closing && !client.held_up && !client.to_read;
        is_begun.then(|| client.message_since.after(self.timeouts.message.0))
    }

    /// When replies will have waited too long, if any wait for a socket that takes nothing. Those before a close
    /// frame have the time that it has.
    fn replies_due(&self, client: &Client<S>) -> Option<Moment> {
        let waits = client.is_open() && client.blocked && client.reply_bytes() > 0;
        let outgoing = client.outgoing.as_ref().filter(|_| waits)?;
        Some(outgoing.replies_since.after(self.timeouts.replies.0))
    }

    /// Looks at those whose entries have fired, as far as the budget goes.
    pub(super) fn keep_deadlines(&mut self) {
        for _ in 0..self.budgets.deadlines {
            let Some(fired) = self.deadlines.next_due() else { return };
            let slot = fired.client.slot;
            let counts = |client: &Client<S>| client.armed == fired.armed;
            if self.clients.find(fired.client).is_some_and(counts) {
                if self.due(&self.clients[slot]) <= self.deadlines.now() {
                    self.time_is_up(slot);
                }
                if !self.clients[slot].dead {
                    self.arm(slot);
                }
            }
        }
    }

    fn time_is_up(&mut self, slot: u32) {
        let client = &self.clients[slot];
        let now = self.deadlines.now();
        let replies_are_late = self.replies_due(client).is_some_and(|due| due <= now);
        let message_is_late = self.message_due(client).is_some_and(|due| due <= now);
        match client.session.phase {
            Phase::Upgrading => self.lose(slot, CloseReason::UpgradeFailed),
            Phase::Closing => self.lose(slot, CloseReason::ConnectionLost),
            Phase::Open if replies_are_late => {
                self.close_for(
                    slot,
                    CloseReason::Slow,
                    &"replies that it did not take in time (timeouts.replies)",
                );
            }
            Phase::Open if message_is_late => {
                self.close_for(
                    slot,
                    CloseReason::Slow,
                    &"a message that was not whole in time (timeouts.message)",
                );
            }
            Phase::Open if !client.session.connected => self.close(slot, CloseReason::Stale),
            Phase::Open if client.session.awaits_pong && !client.overdue => self.look_once_more(slot),
            Phase::Open if client.session.awaits_pong => self.close(slot, CloseReason::NoPong),
            Phase::Open => self.ping(slot),
        }
    }

    /// What a client answered while this shard was busy may be in its socket, and its event still to come.
    fn look_once_more(&mut self, slot: u32) {
        self.clients[slot].overdue = true;
        self.readable(slot);
    }

    fn ping(&mut self, slot: u32) {
        let client = &mut self.clients[slot];
        client.since = self.deadlines.now();
        client.session.awaits_pong = true;
        if client.session.native_pings {
            self.answer(slot, Opcode::Ping, b"");
        } else {
            self.say(slot, b"{}");
        }
        self.visit(slot);
    }

    /// Takes a pong: whether one was due.
    pub(super) fn pong(&mut self, slot: u32) -> bool {
        let client = &mut self.clients[slot];
        client.overdue = false;
        std::mem::take(&mut client.session.awaits_pong)
    }

    /// Begins to time a connected client: its first ping comes after half to one interval, so that clients
    /// that came together are not pinged together.
    pub(super) fn begin_pings(&mut self, slot: u32) {
        let interval = self.timeouts.ping.0;
        let earlier = interval.mul_f64(self.next_random() / 2.0).min(Duration::from_secs(3600));
        let client = &mut self.clients[slot];
        client.since = self.deadlines.now().before(earlier);
        self.time(slot);
    }

    /// The next of a sequence between 0 and 1 (xorshift64*: G. Marsaglia, "Xorshift RNGs", 2003).
    fn next_random(&mut self) -> f64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let high = u32::try_from(self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32).unwrap_or(0);
        f64::from(high) / f64::from(u32::MAX)
    }
}
