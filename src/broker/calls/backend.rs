//! One backend: the calls that wait for it, how many are under way, and whether it is left alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::broker::shares::{Client, Sender, Shares};
use crate::config;
use crate::domain::call::{CallFault, Sign};
use crate::domain::mail::Call;
use crate::stats::BackendStats;

use super::breaker::{Breaker, Change};
use super::complaints::Complaints;
use super::waiting::{Waiting, client_of};

/// A backend that the configuration names, or has named.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) name: Box<str>,
    pub(super) stats: Arc<BackendStats>,
    /// `None`: the configuration does not name it any more.
    terms: Option<Terms>,
    waiting: Waiting,
    /// Divides the room of those that wait among clients.
    shares: Shares,
    under_way: usize,
    breaker: Breaker,
    /// What operators are told of it.
    pub(super) complaints: Complaints,
}

/// What the configuration says.
#[derive(Clone, Copy, Debug)]
struct Terms {
    concurrency: usize,
    queue: usize,
    queue_timeout: Duration,
    timeout: Duration,
}

impl Backend {
    /// A backend that is not named yet.
    pub(super) fn new(name: &str, stats: Arc<BackendStats>) -> Self {
        Self {
            name: name.into(),
            stats,
            terms: None,
            waiting: Waiting::default(),
            shares: Shares::of_clients(0, usize::MAX),
            under_way: 0,
            breaker: Breaker::new(0),
            complaints: Complaints::new(),
        }
    }

    /// Goes by the configuration from here on. Returns whether that ends a suspension.
    pub(super) fn adopt(&mut self, config: Option<&config::Backend>) -> Option<Change> {
        self.terms = config.map(|config| Terms {
            concurrency: config.concurrency,
            queue: config.queue,
            queue_timeout: config.queue_timeout.0,
            timeout: config.timeout.0,
        });
        self.shares.set_room(config.map_or(0, |config| config.queue), usize::MAX);
        self.breaker.set_failures_max(config.map_or(0, |config| config.failures))
    }

    /// Lets a call wait, if it may be sent sooner or later.
    ///
    /// # Errors
    /// Gives the call back, with the reason why it is not sent.
    pub(super) fn begin(
        &mut self,
        number: u64,
        call: Box<Call>,
        now: Instant,
    ) -> Result<(), (Box<Call>, CallFault)> {
        let Some(terms) = self.terms else { return Err((call, CallFault::Unknown)) };
        // Those that waited when it was suspended are not sent any more.
        if self.breaker.is_suspended() && !self.waiting.is_empty() {
            return Err((call, CallFault::Suspended));
        }
        let Some(may_wait) = terms.queue_timeout.checked_sub(call.waited) else {
            return Err((call, CallFault::Busy));
        };
        let client = Sender::Client(client_of(&call));
        let is_sent_at_once = self.waiting.len() < terms.concurrency.saturating_sub(self.under_way);
        if !is_sent_at_once && (self.waiting.len() >= terms.queue || !self.shares.has_room(client)) {
            return Err((call, CallFault::Busy));
        }
        if !self.breaker.admits(number, now) {
            return Err((call, CallFault::Suspended));
        }
        self.shares.add(client, 0);
        self.waiting.push(number, call, now + may_wait);
        Ok(())
    }

    /// Whether a call can be sent now.
    pub(super) fn is_ready(&self) -> bool {
        let has_place = self.terms.is_some_and(|terms| self.under_way < terms.concurrency);
        has_place && !self.waiting.is_empty() && !self.breaker.is_open()
    }

    /// Takes the next call to be sent, with its number and until when it is to be answered.
    pub(super) fn send_next(&mut self, now: Instant) -> Option<(u64, Box<Call>, Duration, Instant)> {
        let terms = self.terms.filter(|_| self.is_ready())?;
        let (number, call) = self.waiting.pop()?;
        self.shares.remove(Sender::Client(client_of(&call)), 0);
        self.under_way += 1;
        Some((number, call, terms.timeout, now + terms.timeout))
    }

    /// Whether calls wait that will not be sent.
    pub(super) fn has_refused(&self) -> bool {
        !self.waiting.is_empty() && (self.terms.is_none() || self.breaker.is_open())
    }

    /// Takes a call out of those that wait because it is not sent any more, and why.
    pub(super) fn next_refused(&mut self, now: Instant) -> Option<(u64, Box<Call>, CallFault)> {
        let (taken, fault) = if self.has_refused() {
            let is_named = self.terms.is_some();
            (self.waiting.pop(), if is_named { CallFault::Suspended } else { CallFault::Unknown })
        } else {
            (self.waiting.expire(now), CallFault::Busy)
        };
        let (number, call) = taken?;
        self.shares.remove(Sender::Client(client_of(&call)), 0);
        Some((number, call, fault))
    }

    /// Takes out a call that waits, whatever might become of it.
    pub(super) fn give_up_one(&mut self) -> Option<(u64, Box<Call>)> {
        let (number, call) = self.waiting.pop()?;
        self.shares.remove(Sender::Client(client_of(&call)), 0);
        Some((number, call))
    }

    /// Takes out the calls about a client that wait, or only that of one of its commands, with their numbers.
    pub(super) fn withdraw(&mut self, client: Client, command: Option<u32>) -> Vec<(u64, Box<Call>)> {
        let withdrawn = self.waiting.withdraw(client, command);
        withdrawn.iter().for_each(|_| self.shares.remove(Sender::Client(client), 0));
        withdrawn
    }

    /// The calls that wait.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Call> {
        self.waiting.iter()
    }

    /// A call that was sent has ended.
    pub(super) fn landed(&mut self) {
        self.under_way -= 1;
    }

    /// Takes note of what the end of a call says.
    pub(super) fn take(&mut self, number: u64, sign: Sign, now: Instant) -> Option<Change> {
        self.breaker.take(number, sign, now)
    }

    /// When the first of those that wait has waited long enough, or there is something to tell operators.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.next_deadline().into_iter().chain(self.complaints.due()).min()
    }

    /// Shows how it is doing.
    pub(super) fn gauge(&self) {
        self.stats.in_flight.set(self.under_way as u64);
        self.stats.waiting.set(self.waiting.len() as u64);
        self.stats.suspended.set(u64::from(self.breaker.is_suspended()));
    }
}
