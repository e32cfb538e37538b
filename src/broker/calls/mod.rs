//! The calls to backends that have no answer yet: what waits, what is under way, and what has become of it.
//!
//! Each call ends exactly once: with an answer, or with a fault. It is given out at most once to be sent. What comes for a
//! number that is not under way is a second answer, or one that is late.
//!
//! The number of calls and their bytes are bounded in all (`limits.calls`, `limits.calls_bytes`), and for each backend: so
//! many under way (`concurrency`) and so many that wait (`queue`). One client may have an eighth of what is free. A call
//! under way may be in memory twice, here and in the form in which it is sent.
//!
//! Pure: time is an argument, nothing is sent or logged here.

mod backend;
mod breaker;
mod complaints;
mod waiting;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::base::deadline_table::DeadlineTable;
use crate::config::{AMQP_BACKEND, Config};
use crate::domain::call::{BackendAnswer, CallFault, CallKind, Sign};
use crate::domain::mail::{Ask, Call};
use crate::stats::{BackendsStats, CallOutcome};

use super::shares::{Client, Sender, Shares};

use backend::Backend;
use breaker::Change;
pub(super) use complaints::Complaint;
use waiting::client_of;

/// All calls that have not ended.
#[derive(Debug)]
pub(super) struct Calls {
    /// Those that the configuration names or has named. None goes, so that numbers stay.
    backends: Vec<Backend>,
    by_name: FxHashMap<Box<str>, usize>,
    /// Calls that were given out to be sent.
    under_way: DeadlineTable<u64, UnderWay>,
    /// What there may be in all, waiting or under way.
    shares: Shares,
    next_number: u64,
    /// The backend whose turn it is.
    turn: usize,
    stats: BackendsStats,
    news: Vec<News>,
}

#[derive(Debug)]
struct UnderWay {
    backend: usize,
    call: Box<Call>,
    sent: Instant,
}

/// A call that is to be sent now.
#[derive(Debug)]
pub(super) struct Outgoing<'a> {
    pub(super) number: u64,
    pub(super) backend: &'a str,
    pub(super) call: &'a Call,
    /// How long its answer may take.
    pub(super) limit: Duration,
}

/// A call that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) call: Box<Call>,
    pub(super) outcome: Result<BackendAnswer, CallFault>,
}

/// What an operator should know about a backend.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It is left alone for a while, after so many failures in a row.
    Suspended { backend: Box<str>, failures: u32, last: CallFault },
    /// It is not left alone any more.
    Resumed { backend: Box<str> },
    /// A call of this kind has ended in a way that nobody else would notice; so did `more` since the last news of it.
    Complaint { backend: Box<str>, about: Complaint, kind: CallKind, fault: CallFault, more: u64 },
    /// So many more of what was told before, in words.
    Rest { backend: Box<str>, what: &'static str, more: u64 },
}

impl Calls {
    /// None yet.
    pub(super) fn new(config: &Config, stats: BackendsStats) -> Self {
        let mut calls = Self {
            backends: Vec::new(),
            by_name: FxHashMap::default(),
            under_way: DeadlineTable::default(),
            shares: Shares::of_clients(0, 0),
            next_number: 1,
            turn: 0,
            stats,
            news: Vec::new(),
        };
        calls.adopt(config);
        calls
    }

    /// Goes by another configuration from here on. Calls that wait for a backend that is gone are refused, and those that are
    /// under way go on.
    pub(super) fn adopt(&mut self, config: &Config) {
        self.shares.set_room(config.limits.calls, config.limits.calls_bytes);
        for name in config.backends.keys().map(String::as_str).chain([AMQP_BACKEND]) {
            self.open(name);
        }
        for backend in &mut self.backends {
            if let Some(Change::Resumed) = backend.adopt(config.backend(&backend.name)) {
                self.news.push(News::Resumed { backend: backend.name.clone() });
            }
        }
    }

    fn open(&mut self, name: &str) {
        if !self.by_name.contains_key(name) {
            self.by_name.insert(name.into(), self.backends.len());
            self.backends.push(Backend::new(name, self.stats.of(name)));
        }
    }

    /// Begins a call to the backend of this name. `None`: the configuration names none for it.
    ///
    /// # Errors
    /// It has ended already, because it is not sent.
    pub(super) fn begin(
        &mut self,
        backend: Option<&str>,
        call: Box<Call>,
        now: Instant,
    ) -> Result<(), Box<Ended>> {
        let Some(&at) = backend.and_then(|name| self.by_name.get(name)) else {
            return Err(Box::new(Ended { call, outcome: Err(CallFault::Unknown) }));
        };
        let (client, weight) = (Sender::Client(client_of(&call)), call.weight());
        let refused = if self.shares.has_room(client) {
            self.backends[at].begin(self.next_number, call, now)
        } else {
            Err((call, CallFault::Busy))
        };
        match refused {
            Ok(()) => {
                self.shares.add(client, weight);
                self.next_number += 1;
                Ok(())
            }
            Err((call, fault)) => {
                let (kind, outcome) = (call.ask.kind(), Err(fault));
                self.backends[at].stats.count(kind, CallOutcome::of(&outcome));
                self.complain(at, kind, &outcome, now);
                Err(Box::new(Ended { call, outcome }))
            }
        }
    }

    /// Whether calls can be sent now, or have ended without an answer.
    pub(super) fn is_ready(&self) -> bool {
        self.backends.iter().any(|backend| backend.is_ready() || backend.has_refused())
    }

    /// The next call to be sent. Its time begins now. Backends take turns.
    pub(super) fn next_to_send(&mut self, now: Instant) -> Option<Outgoing<'_>> {
        let count = self.backends.len();
        let at =
            (0..count).map(|step| (self.turn + step) % count).find(|&at| self.backends[at].is_ready())?;
        self.turn = at + 1;
        let (number, call, limit, deadline) = self.backends[at].send_next(now)?;
        self.under_way.insert(number, UnderWay { backend: at, call, sent: now }, Some(deadline));
        let UnderWay { call, .. } = self.under_way.get(number)?;
        Some(Outgoing { number, backend: &self.backends[at].name, call, limit })
    }

    /// A call of this number was answered, or will not be. `read` makes an answer of it, for the backend of that name.
    /// Returns nothing if no such call is under way.
    pub(super) fn answered(
        &mut self,
        number: u64,
        now: Instant,
        read: impl FnOnce(&str, &Call) -> Result<BackendAnswer, CallFault>,
    ) -> Option<Ended> {
        let UnderWay { backend, call, sent } = self.under_way.remove(number)?;
        let outcome = read(&self.backends[backend].name, &call);
        self.complain(backend, call.ask.kind(), &outcome, now);
        Some(self.land(number, UnderWay { backend, call, sent }, outcome, now))
    }

    /// Takes out a call whose time is over, or that is not sent any more.
    pub(super) fn next_ended(&mut self, now: Instant) -> Option<Ended> {
        if let Some(number) = self.under_way.expire(now) {
            let flight = self.under_way.remove(number)?;
            return Some(self.land(number, flight, Err(CallFault::Late), now));
        }
        (0..self.backends.len()).find_map(|at| {
            let (number, call, fault) = self.backends[at].next_refused(now)?;
            let outcome = Err(fault);
            self.complain(at, call.ask.kind(), &outcome, now);
            Some(self.end(number, at, call, outcome, now))
        })
    }

    /// Takes out a call that waits. The engine stops, and sends no more.
    pub(super) fn next_given_up(&mut self, now: Instant) -> Option<Ended> {
        (0..self.backends.len()).find_map(|at| {
            let (number, call) = self.backends[at].give_up_one()?;
            Some(self.end(number, at, call, Err(CallFault::Busy), now))
        })
    }

    /// Drops the calls about a client that have not been sent, or only that of one of its commands: nobody waits for an answer.
    /// The answer to one that has been sent belongs to no command any more, as a later command may have the same id.
    pub(super) fn withdraw(&mut self, client: Client, command: Option<u32>, now: Instant) {
        if let Some(command) = command {
            self.disown(client, command);
        }
        for at in 0..self.backends.len() {
            for (number, call) in self.backends[at].withdraw(client, command) {
                self.end(number, at, call, Err(CallFault::Left), now);
            }
        }
    }

    fn disown(&mut self, client: Client, command: u32) {
        let is_meant = |UnderWay { call, .. }: &UnderWay| {
            let is_of_command = client_of(call) == client && call.reply_to.command.id == command;
            is_of_command && call.ask.kind().is_about_client()
        };
        let found = self.under_way.iter().find(|(_, flight)| is_meant(flight)).map(|(number, _)| number);
        if let Some(UnderWay { call, .. }) = found.and_then(|number| self.under_way.get_mut(number)) {
            call.reply_to.command.id = 0;
        }
    }

    /// The clients whose subscribes to a topic backends are asked about.
    pub(super) fn subscribing(&self, topic: &str) -> Vec<Client> {
        let waiting = self.backends.iter().flat_map(Backend::waiting);
        let all = waiting.chain(self.under_way.iter().map(|(_, flight)| &*flight.call));
        let is_meant =
            |call: &&Call| matches!(&call.ask, Ask::Subscribe { topic: asked, .. } if **asked == *topic);
        all.filter(is_meant).map(client_of).collect()
    }

    /// A call that was sent has ended.
    fn land(
        &mut self,
        number: u64,
        flight: UnderWay,
        outcome: Result<BackendAnswer, CallFault>,
        now: Instant,
    ) -> Ended {
        let UnderWay { backend, call, sent } = flight;
        self.backends[backend].landed();
        self.backends[backend].stats.took(now.saturating_duration_since(sent));
        self.end(number, backend, call, outcome, now)
    }

    fn end(
        &mut self,
        number: u64,
        at: usize,
        call: Box<Call>,
        outcome: Result<BackendAnswer, CallFault>,
        now: Instant,
    ) -> Ended {
        self.shares.remove(Sender::Client(client_of(&call)), call.weight());
        let backend = &mut self.backends[at];
        backend.stats.count(call.ask.kind(), CallOutcome::of(&outcome));
        let sign = match *backend.name == *AMQP_BACKEND {
            true => sign_by_amqp(call.ask.kind(), &outcome),
            false => sign_of(&outcome),
        };
        let change = backend.take(number, sign, now);
        let name = || backend.name.clone();
        match (change, &outcome) {
            (Some(Change::Suspended(failures)), Err(last)) => {
                self.news.push(News::Suspended { backend: name(), failures, last: last.clone() });
            }
            (Some(_), _) => self.news.push(News::Resumed { backend: name() }),
            (None, _) => {}
        }
        Ended { call, outcome }
    }

    /// Notes that an operator is to be told of an end, unless operators were told of another one like it a moment ago.
    fn complain(
        &mut self,
        at: usize,
        kind: CallKind,
        outcome: &Result<BackendAnswer, CallFault>,
        now: Instant,
    ) {
        let Err(fault) = outcome else { return };
        let backend = &mut self.backends[at];
        if let Some((about, more)) = backend.complaints.about(kind, fault, now) {
            let (backend, fault) = (backend.name.clone(), fault.clone());
            self.news.push(News::Complaint { backend, about, kind, fault, more });
        }
    }

    /// What an operator has not been told yet.
    pub(super) fn take_news(&mut self, now: Instant) -> Vec<News> {
        for backend in &mut self.backends {
            let name = &backend.name;
            let rest = backend.complaints.rest(now).into_iter();
            self.news.extend(rest.map(|(what, more)| News::Rest { backend: name.clone(), what, more }));
        }
        std::mem::take(&mut self.news)
    }

    /// When [`Self::next_ended`] has something to give.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let waiting = self.backends.iter().filter_map(Backend::next_deadline);
        waiting.chain(self.under_way.next_deadline()).min()
    }

    /// Calls that were sent and have no answer.
    pub(super) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// Shows how the backends are doing.
    pub(super) fn gauge(&self) {
        self.backends.iter().for_each(Backend::gauge);
    }
}

/// What the end of a call by HTTP says of the backend.
fn sign_of(outcome: &Result<BackendAnswer, CallFault>) -> Sign {
    outcome.as_ref().map_or_else(CallFault::sign, |_| Sign::Works)
}

/// The same by AMQP. A link that is missing, or that was lost, says nothing about the workers behind it; nor does RabbitMQ's
/// confirm of a message, which is all that there is of its end.
fn sign_by_amqp(kind: CallKind, outcome: &Result<BackendAnswer, CallFault>) -> Sign {
    match outcome {
        Ok(_) if kind == CallKind::Send => Sign::None,
        Err(CallFault::Unreachable(_) | CallFault::Lost(_)) => Sign::None,
        outcome => sign_of(outcome),
    }
}
