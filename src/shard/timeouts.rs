//! What happens when a client's time is over: silence before the upgrade, before the connect command, after a
//! ping, after a close; replies that it does not take; and the pings themselves.

use crate::base::moment::{GRAIN, Moment};
use crate::codec::push::Push;
use crate::config::Timeouts;
use crate::domain::reasons::CloseReason;
use crate::net::stream::Stream;
use crate::session::timeouts::{Expiry, Silence};
use crate::shard::Shard;
use crate::shard::client::Client;
use crate::transport::refusal::Refusal;
use crate::transport::{Phase, Transport};

/// What a client has not sent in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Late {
    Head,
    Message,
    /// What its session waits for.
    Command(Silence),
}

impl Late {
    /// How often a client is looked at, a grain after the other, before it ends unread: for as long as it had time for it,
    /// or what its session grants; but 255 times, which take 16 s, at most.
    fn looks_max(self, timeouts: &Timeouts) -> u8 {
        let length = match self {
            Self::Head => timeouts.upgrade,
            Self::Message => timeouts.message,
            Self::Command(silence) => silence.grace(timeouts),
        };
        u8::try_from(length.0.as_millis().div_ceil(GRAIN.as_millis())).unwrap_or(u8::MAX).max(1)
    }
}

impl<S: Stream, T: Transport> Shard<S, T> {
    /// Makes sure that the client is looked at when its next deadline comes. An entry whose time has come stays: who is
    /// about to be looked at would else put it off with each byte.
    pub(super) fn time(&mut self, slot: u32) {
        let client = &self.clients[slot];
        if client.armed() > self.timers.now() && self.due(client) < client.armed() {
            self.arm(slot);
        }
    }

    /// Has a client that is new, or has just been looked at, looked at when its next deadline comes.
    pub(super) fn arm(&mut self, slot: u32) {
        let due = self.due(&self.clients[slot]);
        let armed = self.timers.arm(self.clients.key(slot), due);
        self.clients[slot].set_armed(armed);
    }

    /// When something must happen to this client if nothing else does.
    fn due(&self, client: &Client<S, T>) -> Moment {
        let (since, timeouts) = (client.session.since(), &self.settings.timeouts);
        let due = match client.transport.phase() {
            Phase::Upgrading => since.after(timeouts.upgrade.0),
            Phase::Open => client.session.due(timeouts),
            Phase::Closing => since.after(timeouts.close.0),
        };
        [self.replies_due(client), self.message_due(client)].into_iter().flatten().fold(due, Moment::min)
    }

    /// When a message will have been incomplete for too long, if one has come in part.
    fn message_due(&self, client: &Client<S, T>) -> Option<Moment> {
        let is_begun = client.is_in_message() && client.transport.phase() == Phase::Open;
        is_begun.then(|| client.message_since().after(self.settings.timeouts.message.0))
    }

    /// When replies will have waited too long, if any wait for a socket that takes nothing. Those before a close
    /// frame have the time that it has.
    fn replies_due(&self, client: &Client<S, T>) -> Option<Moment> {
        let waits = client.is_open() && client.is_blocked() && client.reply_bytes() > 0;
        let outgoing = client.outgoing.as_ref().filter(|_| waits)?;
        Some(outgoing.replies_since.after(self.settings.timeouts.replies.0))
    }

    /// Looks at those whose entries have fired, as far as the budget goes.
    pub(super) fn fire_timers(&mut self) {
        for _ in 0..self.settings.budgets.deadlines {
            let Some(fired) = self.timers.next_due() else { return };
            let slot = fired.client.slot;
            let counts = |client: &Client<S, T>| client.armed() == fired.armed;
            if self.clients.find(fired.client).is_some_and(counts) {
                if self.due(&self.clients[slot]) <= self.timers.now() {
                    self.time_is_up(slot);
                } else {
                    self.clients[slot].reset_looks();
                }
                if !self.clients[slot].is_dead() {
                    self.arm(slot);
                }
            }
        }
    }

    fn time_is_up(&mut self, slot: u32) {
        let client = &self.clients[slot];
        let is_due = |due: Option<Moment>| due.is_some_and(|due| due <= self.timers.now());
        let late = match client.transport.phase() {
            Phase::Closing => return self.lose(slot, CloseReason::ConnectionLost),
            Phase::Upgrading => Late::Head,
            Phase::Open if is_due(self.replies_due(client)) => return self.end_or_write_once_more(slot),
            Phase::Open if is_due(self.message_due(client)) => Late::Message,
            Phase::Open => match client.session.expiry() {
                Expiry::Close(silence) => Late::Command(silence),
                Expiry::Ping => return self.ping(slot),
            },
        };
        if self.is_read_to_its_end(slot, late) {
            self.end_late(slot, late);
        }
    }

    /// Whether what is late is not in the client's socket either, which it may have reached in time while this shard stood
    /// still, or was busy. If that is not known, the client is read before it is looked at again, a grain later.
    ///
    /// Once the socket had nothing more, a byte now and then buys no time. Who sends more than is read never comes to the
    /// end, and has as long again as it had, or 16 s, at most.
    fn is_read_to_its_end(&mut self, slot: u32, late: Late) -> bool {
        let client = &mut self.clients[slot];
        if client.is_held_up() && client.session.has_unanswered() {
            // It waits for the broker. What it is in the middle of sending could not go on, either.
            if late == Late::Message {
                self.begin_message(slot);
            }
            return false;
        }
        let is_read = client.looks() > 0 && !client.is_to_read() && !client.is_held_up();
        if is_read || client.looks() >= late.looks_max(&self.settings.timeouts) {
            return true;
        }
        client.count_look();
        self.readable(slot);
        false
    }

    fn end_late(&mut self, slot: u32, late: Late) {
        match late {
            Late::Head => self.refuse_late_head(slot),
            Late::Message => {
                let fault = "a message that was not whole in time (timeouts.message)";
                self.close_for(slot, CloseReason::Slow, &fault);
            }
            Late::Command(silence) => self.close(slot, silence.reason()),
        }
    }

    /// The answer to a head that is not whole goes out where the socket takes it at once: nobody holds a place for longer.
    fn refuse_late_head(&mut self, slot: u32) {
        let tail = self.clients[slot].tail_mut();
        let head = tail.map(|tail| tail.rest().to_vec()).unwrap_or_default();
        self.refuse(slot, Refusal::LateHead, &head);
        self.lose(slot, CloseReason::UpgradeFailed);
    }

    /// A client may have taken all that its socket had while this shard stood still, or was busy. If it has taken some since
    /// its time began, it has its time anew, once for what waits.
    fn end_or_write_once_more(&mut self, slot: u32) {
        // It may have called back, and have waited for its turn: that is now.
        self.delivery.forget_unblocked(slot);
        self.unblock(slot);
        self.visit(slot);
        let now = self.timers.now();
        let client = &mut self.clients[slot];
        if client.is_dead() || client.reply_bytes() == 0 {
            return;
        }
        match &mut client.outgoing {
            Some(outgoing) if outgoing.has_moved && !outgoing.had_time_anew => {
                outgoing.had_time_anew = true;
                outgoing.replies_since = now;
            }
            _ => {
                let fault = "replies that it did not take in time (timeouts.replies)";
                self.close_for(slot, CloseReason::Slow, &fault);
            }
        }
    }

    fn ping(&mut self, slot: u32) {
        let client = &mut self.clients[slot];
        client.session.ping(self.timers.now());
        client.reset_looks();
        if client.transport.has_pings() {
            self.put_behind(slot, |transport, bytes| transport.put_ping(bytes));
        } else {
            self.say_push(slot, &Push::Ping);
        }
        self.visit(slot);
    }

    /// Begins to time a connected client, whose first ping comes after half to one interval.
    pub(super) fn begin_pings(&mut self, slot: u32) {
        let earlier = self.pacing.ping_advance(self.settings.timeouts.ping.0);
        self.clients[slot].session.time_from(self.timers.now().before(earlier));
        self.time(slot);
    }
}
