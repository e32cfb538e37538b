//! The time-outs of clients: for the upgrade, the connect command, a pong, a message, replies that wait, and a close; and
//! the pings.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::base::moment::{GRAIN, Moment};
use crate::codec::push::Push;
use crate::config::Timeouts;
use crate::domain::mail::ShardId;
use crate::domain::reasons::{CloseReason, UnsubscribeCode};
use crate::net::stream::Stream;
use crate::session::timeouts::{Expiry, Silence};
use crate::shard::Shard;
use crate::shard::client::Client;
use crate::transport::refusal::Refusal;
use crate::transport::{Phase, Transport};

/// How much earlier a first ping comes at most.
const ADVANCE_MAX: Duration = Duration::from_secs(3600);

/// Spreads the first pings of clients that came together.
#[derive(Debug)]
pub(super) struct FirstPings(SmallRng);

impl FirstPings {
    /// The shard's number alone decides when they come: a simulation repeats it.
    pub(super) fn new(shard: ShardId) -> Self {
        Self(SmallRng::seed_from_u64(u64::from(shard)))
    }

    /// How much earlier than after `interval` the next client is pinged first: up to half of it.
    fn advance(&mut self, interval: Duration) -> Duration {
        interval.mul_f64(self.0.random_range(0.0..0.5)).min(ADVANCE_MAX)
    }
}

/// What a client has not sent in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Late {
    Head,
    Message,
    /// What its session waits for.
    Command(Silence),
}

impl Late {
    /// How often a client is read once more, a grain apart, before it is closed although there may be more in its socket:
    /// for as long as the time-out was, or its session's grace. At most 255 times, which takes 16 s.
    fn rechecks_max(self, timeouts: &Timeouts) -> u8 {
        let length = match self {
            Self::Head => timeouts.upgrade,
            Self::Message => timeouts.message,
            Self::Command(silence) => silence.grace(timeouts),
        };
        u8::try_from(length.0.as_millis().div_ceil(GRAIN.as_millis())).unwrap_or(u8::MAX).max(1)
    }
}

impl<S: Stream, T: Transport> Shard<S, T> {
    /// Arms the wheel for the client's next deadline, if that is earlier than its entry. An entry that is due stays:
    /// otherwise a client could put it off with each byte.
    pub(super) fn time(&mut self, slot: u32) {
        let client = &self.clients[slot];
        if client.armed() > self.timers.now() && self.due(client) < client.armed() {
            self.arm(slot);
        }
    }

    /// Arms the wheel for the next deadline of a client that has no valid entry.
    pub(super) fn arm(&mut self, slot: u32) {
        let due = self.due(&self.clients[slot]);
        let armed = self.timers.arm(self.clients.key(slot), due);
        self.clients[slot].set_armed(armed);
    }

    /// The client's next deadline.
    fn due(&self, client: &Client<S, T>) -> Moment {
        let (since, timeouts) = (client.session.since(), &self.settings.timeouts);
        let due = match client.transport.phase() {
            Phase::Upgrading => since.after(timeouts.upgrade.0),
            Phase::Open => client.session.due(timeouts),
            Phase::Closing => since.after(timeouts.close.0),
        };
        [self.replies_due(client), self.message_due(client)].into_iter().flatten().fold(due, Moment::min)
    }

    /// When the time-out of a message ends that has arrived in part, if there is one.
    fn message_due(&self, client: &Client<S, T>) -> Option<Moment> {
        let is_begun = client.is_in_message() && client.transport.phase() == Phase::Open;
        is_begun.then(|| client.message_since().after(self.settings.timeouts.message.0))
    }

    /// When the time-out of replies ends that wait for a full socket, if there are any. Those before a close frame have its
    /// time-out.
    fn replies_due(&self, client: &Client<S, T>) -> Option<Moment> {
        let waits = client.is_open() && client.is_blocked() && client.reply_bytes() > 0;
        let outgoing = client.outgoing.as_ref().filter(|_| waits)?;
        Some(outgoing.replies_since.after(self.settings.timeouts.replies.0))
    }

    /// Handles the entries that have fired, as far as the budget goes.
    pub(super) fn fire_timers(&mut self) {
        for _ in 0..self.settings.budgets.deadlines {
            let Some(fired) = self.timers.next_due() else { return };
            let slot = fired.client.slot;
            let counts = |client: &Client<S, T>| client.armed() == fired.armed;
            if self.clients.find(fired.client).is_some_and(counts) {
                if self.due(&self.clients[slot]) <= self.timers.now() {
                    self.time_is_up(slot);
                } else {
                    self.clients[slot].reset_rechecks();
                }
                if !self.clients[slot].has_ended() {
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
            Phase::Open => match client.session.expiry(self.timers.now(), &self.settings.timeouts) {
                Expiry::Close(silence) => Late::Command(silence),
                Expiry::EndSubscription(_) | Expiry::AskAboutSubscription(_) => {
                    return self.handle_expired_subscriptions(slot);
                }
                Expiry::AskAboutConnection => return self.ask_about_connection(slot),
                Expiry::Ping => return self.ping(slot),
                Expiry::Nothing => return,
            },
        };
        if self.is_read_to_its_end(slot, late) {
            self.end_late(slot, late);
        }
    }

    /// Ends the subscriptions that have expired, or asks the application's backend about them.
    fn handle_expired_subscriptions(&mut self, slot: u32) {
        for _ in 0..self.clients[slot].subscriptions.as_slice().len() {
            // Telling it of one may have ended its connection.
            let Some(client) = self.clients.get(slot) else { return };
            let next = client.session.expiry(self.timers.now(), &self.settings.timeouts);
            match next {
                Expiry::EndSubscription(topic) => {
                    self.end_subscription(slot, topic, UnsubscribeCode::Expired);
                }
                Expiry::AskAboutSubscription(topic) => {
                    if !self.ask_about_subscription(slot, topic) {
                        return;
                    }
                }
                _ => return,
            }
        }
    }

    /// Whether the client's socket does not have what is late either: it may have arrived in time while this shard stood
    /// still, or was busy. If that is not known, the client is read, and checked again a grain later.
    ///
    /// Once the socket was empty, single bytes buy no more time. A client that sends faster than it is read never gets
    /// there, and has as long again as the time-out was, but at most 16 s.
    fn is_read_to_its_end(&mut self, slot: u32, late: Late) -> bool {
        let client = &mut self.clients[slot];
        if late == Late::Command(Silence::Connect) && client.has_put_off() {
            // It has come, and waits for room in the queue of requests.
            return false;
        }
        // A connection that has expired is not kept by commands that wait.
        let may_wait = late != Late::Command(Silence::Token);
        if may_wait && client.is_stalled() && client.session.has_unanswered() {
            // It waits for the broker, so the rest of its message could not be read.
            if late == Late::Message {
                self.begin_message(slot);
            }
            return false;
        }
        let is_read = client.rechecks() > 0 && !client.is_to_read() && !client.is_stalled();
        if is_read || client.rechecks() >= late.rechecks_max(&self.settings.timeouts) {
            return true;
        }
        client.count_recheck();
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
            Late::Command(silence) => self.close_for(slot, silence.reason(), &silence),
        }
    }

    /// Answers a head that is not whole in time. The answer is sent only if the socket takes it at once: the connection
    /// ends now.
    fn refuse_late_head(&mut self, slot: u32) {
        let tail = self.clients[slot].tail_mut();
        let head = tail.map(|tail| tail.rest().to_vec()).unwrap_or_default();
        self.refuse(slot, Refusal::LateHead, &head);
        self.lose(slot, CloseReason::UpgradeFailed);
    }

    /// Writes once more to a client whose replies have waited too long, as it may have emptied its socket while this shard
    /// stood still. If it has taken some replies since the time-out began, the time-out is restarted, once. Otherwise it is
    /// closed.
    fn end_or_write_once_more(&mut self, slot: u32) {
        // Its writable edge may have come, and wait for its turn: that is now.
        self.delivery.forget_unblocked(slot);
        self.unblock(slot);
        self.visit(slot);
        let now = self.timers.now();
        let client = &mut self.clients[slot];
        if client.has_ended() || client.reply_bytes() == 0 {
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
        client.reset_rechecks();
        if client.transport.has_pings() {
            self.queue_output(slot, |transport, bytes| transport.put_ping(bytes));
        } else {
            self.queue_push(slot, &Push::Ping);
        }
        self.visit(slot);
    }

    /// Begins to time a connected client, whose first ping comes after half to one interval.
    pub(super) fn begin_pings(&mut self, slot: u32) {
        let earlier = self.first_pings.advance(self.settings.timeouts.ping.0);
        self.clients[slot].session.time_from(self.timers.now().before(earlier));
        self.time(slot);
    }
}
