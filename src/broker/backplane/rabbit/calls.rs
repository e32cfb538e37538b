//! Calls to backends: messages to the exchange `<amqp.exchange>.rpc`, and the replies to them.
//!
//! Replies come by RabbitMQ's direct reply-to (`amq.rabbitmq.reply-to`), to the channel on which the call was published. So
//! no queue is declared, and a channel that is closed takes along the replies to all calls that were sent on it: they are
//! lost, and nothing is ever sent again. The next channel is opened after a pause, and declares the exchange if it is not
//! there any more.
//!
//! Calls are `mandatory`: if no queue is bound for one, RabbitMQ returns it at once. They expire in their queue when nobody
//! waits for them any more, and RabbitMQ does not write them to a disk.

use std::collections::VecDeque;
use std::fmt;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lapin::Connection;
use tokio::select;
use tokio::time::{sleep_until, timeout};

use crate::base::deadline_table::DeadlineTable;
use crate::config::Config;
use crate::domain::call::CallFault;
use crate::hooks::AmqpRequest;

use super::address::Address;
use super::backoff::Backoff;
use super::reply::{is_of_channel, reply_text};

mod channel;
mod message;

use channel::{CallChannel, Change, OpenError};

/// For a channel to open, and for the exchange to be declared.
const OPEN_LIMIT: Duration = Duration::from_secs(15);
/// Pauses before the next channel is opened.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// From the confirm of a call without an answer until its return has been seen, if there was one: lapin may attach it to the
/// confirm of another publish that it settles together with this one.
const RETURN_LIMIT: Duration = Duration::from_millis(100);

/// What happens to calls.
#[derive(Debug)]
pub(super) enum CallEvent {
    /// A call is over.
    Done { number: u64, outcome: Result<Vec<u8>, CallFault> },
    /// A reply came to no call that waits for one: it is late, or the second one.
    Unclaimed,
}

/// What it takes to declare the exchange.
pub(super) type CallTopology = (Arc<Config>, Arc<Address>);

/// The calls over one connection, and the channel that they go over.
pub(super) struct Calls {
    connection: Arc<Connection>,
    topology: CallTopology,
    line: Line,
    pauses: Backoff,
    /// All that are not over.
    waiting: DeadlineTable<u64, Waiting>,
    /// Those of them that wait for the channel.
    unsent: VecDeque<(u64, AmqpRequest)>,
    /// What was not taken yet.
    events: VecDeque<CallEvent>,
    /// What operators were told last about the channel, unless a call was taken since.
    told: Option<String>,
}

/// A call that is not over.
#[derive(Debug)]
struct Waiting {
    /// When it is late.
    deadline: Instant,
    answer: Answer,
}

/// What a call waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// A reply of at most so many bytes.
    Reply { bytes_max: usize },
    /// RabbitMQ's confirm.
    Confirm,
    /// RabbitMQ has confirmed it; but it may have returned it before.
    Return,
}

enum Line {
    /// Nobody has called yet.
    Unused,
    Opening(Pin<Box<dyn Future<Output = Result<Box<CallChannel>, OpenError>> + Send>>),
    Open {
        channel: Box<CallChannel>,
        since: Instant,
    },
    /// The channel was closed, or could not be opened.
    Pausing {
        until: Instant,
    },
}

impl Calls {
    /// No calls over this connection yet. If some are to be expected, the exchange is there when this is over, for those who
    /// want to bind queues to it; or operators know why not.
    pub(super) async fn begin(connection: &Arc<Connection>, topology: CallTopology) -> Self {
        let are_expected = topology.0.uses_amqp_backend();
        let mut calls = Self {
            connection: Arc::clone(connection),
            topology,
            line: Line::Unused,
            pauses: Backoff::new(PAUSES.0, PAUSES.1),
            waiting: DeadlineTable::default(),
            unsent: VecDeque::new(),
            events: VecDeque::new(),
            told: None,
        };
        if are_expected {
            calls.open();
            let change = calls.line.next().await;
            calls.changed(change);
        }
        calls
    }

    fn open(&mut self) {
        let (connection, topology) = (Arc::clone(&self.connection), self.topology.clone());
        self.line = Line::Opening(Box::pin(async move {
            Ok(Box::new(timeout(OPEN_LIMIT, CallChannel::open(&connection, &topology)).await??))
        }));
    }

    /// Whether there is a channel, or one is being opened: calls wait for it.
    pub(super) fn are_taken(&self) -> bool {
        !matches!(self.line, Line::Pausing { .. })
    }

    /// Sends a call. [`CallEvent::Done`] comes once, when `limit` has passed at the latest.
    pub(super) fn call(
        &mut self,
        number: u64,
        request: AmqpRequest,
        limit: Duration,
        bytes_max: Option<usize>,
    ) {
        if !self.are_taken() {
            let words = self.told.clone().unwrap_or_else(|| "the channel for calls was closed".to_owned());
            return self.done(number, Err(CallFault::Unreachable(words.into())));
        }
        let deadline = Instant::now() + limit;
        let answer = bytes_max.map_or(Answer::Confirm, |bytes_max| Answer::Reply { bytes_max });
        self.waiting.insert(number, Waiting { deadline, answer }, Some(deadline));
        self.unsent.push_back((number, request));
        if matches!(self.line, Line::Unused) {
            self.open();
        }
        self.send_unsent();
    }

    /// What happens next. Can be dropped at any time without loss.
    pub(super) async fn next(&mut self) -> CallEvent {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            let due = self.waiting.next_deadline();
            select! {
                change = self.line.next() => self.changed(change),
                () = until(due) => self.expire(Instant::now()),
            }
        }
    }

    fn changed(&mut self, change: Change) {
        match change {
            Change::Opened(Ok(channel)) => {
                self.line = Line::Open { channel, since: Instant::now() };
            }
            Change::Opened(Err(error)) => self.closed(error.to_string(), !error.is_of_connection()),
            Change::PauseIsOver => self.open(),
            Change::Taken => self.told = None,
            Change::Returned(number) => self.settle(number, Err(CallFault::Unroutable)),
            Change::Confirmed { number, is_ack } => self.confirmed(number, is_ack),
            Change::Replied { number, body } => self.replied(number, body),
            Change::Failed { number, error } => {
                self.settle(number, Err(CallFault::Lost(reply_text(&error).into())));
            }
            Change::Closed(error) => {
                let words =
                    error.as_ref().map_or_else(|| "RabbitMQ ended the consumer".to_owned(), reply_text);
                self.closed(words, error.as_ref().is_none_or(is_of_channel));
            }
        }
        self.send_unsent();
    }

    /// Sends what waits for the channel. What is late by then is not sent.
    fn send_unsent(&mut self) {
        let Line::Open { channel, .. } = &mut self.line else { return };
        while channel.takes_calls()
            && let Some((number, request)) = self.unsent.pop_front()
        {
            let Some(Waiting { deadline, answer }) = self.waiting.get(number) else { continue };
            let limit = deadline.saturating_duration_since(Instant::now());
            let wants_reply = *answer != Answer::Confirm;
            if let Err(fault) = channel.send(number, request, limit, wants_reply) {
                self.waiting.remove(number);
                self.events.push_back(CallEvent::Done { number, outcome: Err(fault) });
            }
        }
    }

    /// RabbitMQ has taken a call, or says that it has not.
    fn confirmed(&mut self, number: u64, is_ack: bool) {
        let Some(waiting) = self.waiting.get_mut(number) else { return };
        if !is_ack {
            self.settle(number, Err(CallFault::Lost("RabbitMQ did not take it".into())));
        } else if waiting.answer == Answer::Confirm {
            waiting.answer = Answer::Return;
            self.waiting.set_deadline(number, Some(Instant::now() + RETURN_LIMIT));
        }
    }

    fn replied(&mut self, number: Option<u64>, body: Vec<u8>) {
        let waiting = number.and_then(|number| Some((number, self.waiting.get(number)?.answer)));
        let Some((number, Answer::Reply { bytes_max })) = waiting else {
            return self.events.push_back(CallEvent::Unclaimed);
        };
        let fits = body.len() <= bytes_max;
        self.settle(number, if fits { Ok(body) } else { Err(CallFault::TooLarge(bytes_max)) });
    }

    /// Ends the calls whose time is over.
    fn expire(&mut self, now: Instant) {
        while let Some(number) = self.waiting.expire(now) {
            let is_returned_no_more =
                self.waiting.get(number).is_some_and(|waiting| waiting.answer == Answer::Return);
            self.settle(number, if is_returned_no_more { Ok(Vec::new()) } else { Err(CallFault::Late) });
        }
    }

    /// A call is over, unless it was over before.
    fn settle(&mut self, number: u64, outcome: Result<Vec<u8>, CallFault>) {
        if self.waiting.remove(number).is_some() {
            self.done(number, outcome);
        }
    }

    fn done(&mut self, number: u64, outcome: Result<Vec<u8>, CallFault>) {
        self.events.push_back(CallEvent::Done { number, outcome });
    }

    /// The channel was closed, or was not opened. Operators are told, unless the connection is lost and tells more.
    fn closed(&mut self, words: String, is_told: bool) {
        if let Line::Open { since, .. } = &self.line {
            self.pauses.lived(since.elapsed());
        }
        self.line = Line::Pausing { until: Instant::now() + self.pauses.pause(rand::random()) };
        self.end_all(&words);
        if is_told && self.told.as_ref() != Some(&words) {
            let exchange = self.topology.0.amqp.calls_exchange();
            tracing::warn!(
                exchange,
                reason = words,
                "no calls go to backends through RabbitMQ; trying again"
            );
        }
        self.told = Some(words);
    }

    fn end_all(&mut self, words: &str) {
        for (number, _) in std::mem::take(&mut self.unsent) {
            self.settle(number, Err(CallFault::Unreachable(words.into())));
        }
        while let Some(number) = self.waiting.first() {
            self.settle(number, Err(CallFault::Lost(words.into())));
        }
    }

    /// The connection is given up: what has happened, and what becomes of the calls that are not over.
    pub(super) fn abandon(&mut self, words: &str) -> VecDeque<CallEvent> {
        self.end_all(words);
        std::mem::take(&mut self.events)
    }
}

impl Line {
    /// What happens next. Can be dropped at any time without loss.
    async fn next(&mut self) -> Change {
        match self {
            Self::Unused => pending().await,
            Self::Opening(opening) => Change::Opened(opening.await),
            Self::Open { channel, .. } => channel.next().await,
            Self::Pausing { until: moment } => {
                until(Some(*moment)).await;
                Change::PauseIsOver
            }
        }
    }
}

/// Waits for a moment, or for ever if there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment.into()).await,
        None => pending().await,
    }
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls")
            .field("waiting", &self.waiting.len())
            .field("unsent", &self.unsent.len())
            .finish_non_exhaustive()
    }
}
