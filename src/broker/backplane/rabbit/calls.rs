//! Calls to backends: messages to the exchange `<amqp.exchange>.rpc`, and the replies to them.
//!
//! Replies come by RabbitMQ's direct reply-to (`amq.rabbitmq.reply-to`), to the channel on which the call was published. So
//! no queue is declared, and a channel that is closed takes along the replies to all calls that were sent on it: they are
//! lost, and nothing is ever sent again. The next channel is opened after a pause, and declares the exchange if it is not
//! there any more.
//!
//! Calls are `mandatory`: if no queue is bound for one, RabbitMQ returns it at once. They expire in their queue when nobody
//! waits for them any more, and RabbitMQ does not write them to a disk.

use std::fmt;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lapin::Connection;
use tokio::select;
use tokio::time::{sleep_until, timeout};

use crate::config::Config;
use crate::domain::call::CallFault;
use crate::hooks::AmqpRequest;

use super::address::Address;
use super::backoff::Backoff;
use super::reply::{is_of_channel, reply_text};

mod channel;
mod message;
mod table;

use channel::{CallChannel, Change, OpenError};
use table::CallTable;

/// For a channel to open, and for the exchange to be declared.
const OPEN_LIMIT: Duration = Duration::from_secs(15);
/// Pauses before the next channel is opened.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
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
    table: CallTable,
    /// What operators were told last about the channel, unless a call was taken since.
    told: Option<String>,
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
            table: CallTable::default(),
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
            let why = self.told.as_deref().unwrap_or("the channel for calls was closed");
            return self.table.refuse(number, why);
        }
        self.table.add(number, request, Instant::now() + limit, bytes_max);
        if matches!(self.line, Line::Unused) {
            self.open();
        }
        self.send_unsent();
    }

    /// What happens next. Can be dropped at any time without loss.
    pub(super) async fn next(&mut self) -> CallEvent {
        loop {
            if let Some(event) = self.table.next_event() {
                return event;
            }
            let due = self.table.next_deadline();
            select! {
                change = self.line.next() => self.changed(change),
                () = until(due) => self.table.expire(Instant::now()),
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
            Change::Returned(number) => self.table.end(number, Err(CallFault::Unroutable)),
            Change::Confirmed { number, is_ack } => self.table.confirmed(number, is_ack, Instant::now()),
            Change::Replied { number, body } => self.table.replied(number, body),
            Change::Failed { number, error } => {
                self.table.end(number, Err(CallFault::Lost(reply_text(&error).into())));
            }
            Change::Closed(error) => {
                let words =
                    error.as_ref().map_or_else(|| "RabbitMQ ended the consumer".to_owned(), reply_text);
                self.closed(words, error.as_ref().is_none_or(is_of_channel));
            }
        }
        self.send_unsent();
    }

    /// Sends what waits for the channel.
    fn send_unsent(&mut self) {
        let Line::Open { channel, .. } = &mut self.line else { return };
        while channel.takes_calls()
            && let Some(call) = self.table.next_unsent(Instant::now())
        {
            let number = call.number;
            if let Err(fault) = channel.send(call) {
                self.table.end(number, Err(fault));
            }
        }
    }

    /// The channel was closed, or was not opened. Operators are told, unless the connection is lost and tells more.
    fn closed(&mut self, words: String, is_told: bool) {
        if let Line::Open { since, .. } = &self.line {
            self.pauses.lived(since.elapsed());
        }
        self.line = Line::Pausing { until: Instant::now() + self.pauses.pause(rand::random()) };
        self.table.end_all(&words);
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

    /// The connection is given up: what has happened, and what becomes of the calls that are not over.
    pub(super) fn abandon(&mut self, words: &str) -> impl Iterator<Item = CallEvent> + use<'_> {
        self.table.end_all(words);
        std::iter::from_fn(|| self.table.next_event())
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
        f.debug_struct("Calls").field("calls", &self.table.len()).finish_non_exhaustive()
    }
}
