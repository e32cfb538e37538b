//! Publishes under way over one channel. Each is a task that hands its publish to lapin and waits for RabbitMQ's confirm.
//! `outgoing` decides how long that may take, and what becomes of a publish that is not confirmed.
//!
//! RabbitMQ refuses a publish by closing the channel. The connection stays, with everything else on it: the next channel is
//! opened, and publishing goes on there. The same happens if somebody has deleted the dead-letter exchange; it is declared
//! again first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Connection};
use tokio::select;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::config::Config;

use super::address::Address;
use super::fault::RabbitMqFault;
use super::pending_publish::PendingPublish;
use super::reply::{is_missing, is_refused, reply_text};
use super::unconfirmed::Unconfirmed;
use super::{dead_letter, message_cost, topology};

mod returns;

use returns::Returns;

/// From the closing of a channel until all publishes under way on it have failed; it takes milliseconds.
const REASON_LIMIT: Duration = Duration::from_millis(500);
/// For the next channel to open.
const REOPEN_LIMIT: Duration = Duration::from_secs(15);

/// RabbitMQ's answer about the publish of this number.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) number: u64,
    pub(super) outcome: ConfirmOutcome,
}

/// What became of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConfirmOutcome {
    /// It is confirmed.
    Stored,
    /// RabbitMQ could not store it.
    NotStored,
    /// RabbitMQ took it, and it is in no queue. Known of dead letters only.
    Unroutable,
    /// RabbitMQ has taken it, and will not refuse it any more. Whether it is stored is known later. Reported only of
    /// publishes that RabbitMQ was asked about.
    Taken,
    /// RabbitMQ would end the connection because of it: its headers are larger than a frame. It was not sent.
    TooLarge,
}

/// What travels over a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Traffic {
    /// Publishes, and markers. An exchange need not route everything. What a node's own source is bound to gets there
    /// all the same: there is no link before RabbitMQ has found or declared it.
    Publishes,
    /// Dead letters, of which each has to be in a queue: they are `mandatory`.
    DeadLetters,
}

/// What happens on a publisher's channel.
#[derive(Debug)]
pub(super) enum PublisherEvent {
    Report(Report),
    /// RabbitMQ has closed the channel. Nothing is under way any more, and the next channel is being opened.
    Closed(Abandoned),
    /// The next channel is open: publishes can be sent.
    Opened,
    /// There is no channel any more.
    Lost(ChannelLoss),
}

/// Why there is no channel any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChannelLoss {
    #[error("{}", reply_text(.0))]
    Closed(lapin::Error),
    #[error("the publishing channel was closed")]
    ClosedWithoutReason,
    #[error(transparent)]
    NotReopened(#[from] OpenError),
}

/// Why there is no next channel.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("{}", reply_text(.0))]
    Channel(#[from] lapin::Error),
    #[error(transparent)]
    DeadLetters(#[from] RabbitMqFault),
    #[error("RabbitMQ does not open a channel")]
    Late(#[from] tokio::time::error::Elapsed),
    #[error(transparent)]
    Task(#[from] tokio::task::JoinError),
}

/// What is left of a channel that is gone.
#[derive(Debug)]
pub(super) struct Abandoned {
    /// What came in and was not taken.
    pub(super) reports: Vec<Report>,
    /// If RabbitMQ refused a publish and would refuse it again: its words.
    pub(super) refused: Option<String>,
}

/// What a task reports of its publish.
#[derive(Debug)]
enum TaskReport {
    /// RabbitMQ has taken it.
    Taken(u64),
    /// The outcome. A marker has no number.
    Done(Option<u64>, Result<Confirmed, Unconfirmed>),
}

/// A confirm.
#[derive(Debug)]
struct Confirmed {
    is_ack: bool,
    /// The number of the publish that was returned with it, which may be another one.
    returned: Option<u64>,
}

/// What it takes to declare the dead-letter exchange and its queue again.
pub(super) type DeadLetterTopology = (Arc<Config>, Arc<Address>);

/// One channel for publishing after the other, and what is under way on it.
#[derive(Debug)]
pub(super) struct Publisher {
    traffic: Traffic,
    connection: Arc<Connection>,
    channel: Channel,
    /// The next one.
    opening: Option<JoinHandle<Result<Channel, OpenError>>>,
    tasks: JoinSet<()>,
    answers: (mpsc::UnboundedSender<TaskReport>, mpsc::UnboundedReceiver<TaskReport>),
    /// Of dead letters.
    returns: Returns,
    /// Reports that were not taken yet.
    reports: VecDeque<Report>,
    /// What its publishes need, if it can be declared again.
    topology: Option<DeadLetterTopology>,
    /// Why the channel was closed. A refusal is not overwritten by what comes behind it: lapin goes on writing what it has
    /// for the channel, and RabbitMQ may close the connection for that.
    reason: Option<lapin::Error>,
    /// A marker was under way when the channel was closed: RabbitMQ may have refused that one.
    had_marker: bool,
    /// If the channel is closed: until when the outcomes of its publishes are waited for.
    reason_due: Option<Instant>,
}

impl Publisher {
    /// Opens the first channel. The exchange of the publishes is made again from `topology`, if there is one.
    pub(super) async fn open(
        connection: &Arc<Connection>,
        traffic: Traffic,
        topology: Option<DeadLetterTopology>,
    ) -> lapin::Result<Self> {
        Ok(Self {
            traffic,
            connection: Arc::clone(connection),
            channel: open_channel(connection).await?,
            opening: None,
            tasks: JoinSet::new(),
            answers: mpsc::unbounded_channel(),
            returns: Returns::default(),
            reports: VecDeque::new(),
            topology,
            reason: None,
            had_marker: false,
            reason_due: None,
        })
    }

    /// The channel, in confirm mode.
    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Sends a publish, and asks RabbitMQ `whether_taken`. Publishes are handed to lapin in the order of these calls, as tokio
    /// runs new tasks in their order. There is no report if the channel is closed meanwhile: lapin says the same of all that
    /// were under way, and what became of each is not known.
    ///
    /// The task waits as long as it takes, even if nobody is interested any more: lapin keeps a confirm that
    /// nobody waits for until the connection ends.
    pub(super) fn send(&mut self, number: u64, pending: Arc<PendingPublish>, whether_taken: bool) {
        let frame_max = self.connection.configuration().frame_max() as usize;
        match self.traffic {
            Traffic::DeadLetters => self.returns.sent(number),
            Traffic::Publishes if message_cost::fits_into_a_frame(&pending.properties, frame_max) => {}
            Traffic::Publishes => {
                self.reports.push_back(Report { number, outcome: ConfirmOutcome::TooLarge });
                return;
            }
        }
        self.spawn(Some(number), pending, whether_taken);
    }

    /// Sends a marker, on which no report comes: its writer sees it in the stream, or writes another one.
    pub(super) fn send_marker(&mut self, pending: PendingPublish) {
        self.spawn(None, Arc::new(pending), false);
    }

    fn spawn(&mut self, number: Option<u64>, pending: Arc<PendingPublish>, whether_taken: bool) {
        while self.tasks.try_join_next().is_some() {}
        let frame_max = self.connection.configuration().frame_max() as usize;
        let (channel, traffic, answers) = (self.channel.clone(), self.traffic, self.answers.0.clone());
        self.tasks.spawn(async move {
            let properties = match number.filter(|_| traffic == Traffic::DeadLetters) {
                Some(number) => dead_letter::numbered(&pending.properties, number, frame_max),
                None => pending.properties.clone(),
            };
            let mandatory = traffic == Traffic::DeadLetters;
            // Sending fails only if the link is gone, and nobody is interested.
            let on_taken = || _ = number.map(|number| answers.send(TaskReport::Taken(number)));
            let on_taken = whether_taken.then_some(on_taken);
            let outcome = publish(&channel, &pending, properties, mandatory, on_taken).await;
            let _ = answers.send(TaskReport::Done(number, outcome));
        });
    }

    /// What happens next. Can be dropped at any time without loss.
    pub(super) async fn next(&mut self) -> PublisherEvent {
        loop {
            if let Some(report) = self.reports.pop_front() {
                return PublisherEvent::Report(report);
            }
            if let Some(opening) = &mut self.opening {
                let opened = opening.await.unwrap_or_else(|error| Err(error.into()));
                self.opening = None;
                match opened {
                    Ok(channel) => {
                        self.channel = channel;
                        return PublisherEvent::Opened;
                    }
                    Err(error) => return PublisherEvent::Lost(error.into()),
                }
            }
            if !self.is_open() {
                return self.closed().await;
            }
            let due = self.returns.due();
            select! {
                // There is a sender in `self`, so that this does not end.
                Some(answer) = self.answers.1.recv() => self.take(answer),
                () = until(due) => self.report_returns(),
            }
        }
    }

    fn take(&mut self, answer: TaskReport) {
        let (number, outcome) = match answer {
            TaskReport::Taken(number) => {
                return self.reports.push_back(Report { number, outcome: ConfirmOutcome::Taken });
            }
            TaskReport::Done(number, outcome) => (number, outcome),
        };
        let confirmed = match outcome {
            Ok(confirmed) => Some(confirmed),
            Err(error) => {
                tracing::debug!(%error, "the outcome of a publish is unknown");
                if let Unconfirmed::Failed(error) = error
                    && error.is_amqp_error()
                    && !self.reason.as_ref().is_some_and(is_refused)
                {
                    self.reason = Some(error);
                }
                self.had_marker |= number.is_none();
                None
            }
        };
        let Some(number) = number else { return };
        if self.traffic == Traffic::DeadLetters {
            self.returns.heard(number, confirmed, Instant::now());
            self.report_returns();
        } else if let Some(Confirmed { is_ack, .. }) = confirmed {
            let outcome = if is_ack { ConfirmOutcome::Stored } else { ConfirmOutcome::NotStored };
            self.reports.push_back(Report { number, outcome });
        }
    }

    fn report_returns(&mut self) {
        let now = Instant::now();
        self.reports.extend(std::iter::from_fn(|| self.returns.next(now)));
    }

    /// RabbitMQ has closed the channel. lapin says why to each publish that was under way.
    async fn closed(&mut self) -> PublisherEvent {
        let due = *self.reason_due.get_or_insert_with(|| Instant::now() + REASON_LIMIT);
        let _ = timeout_at(due, async { while self.tasks.join_next().await.is_some() {} }).await;
        self.tasks.abort_all();
        while let Ok(answer) = self.answers.1.try_recv() {
            self.take(answer);
        }
        self.reason_due = None;
        let topology = match &self.reason {
            Some(error) if is_refused(error) => None,
            Some(error) if is_missing(error) && self.topology.is_some() => {
                let reason = reply_text(error);
                tracing::warn!(reason, "dead letters have no exchange any more: it is declared again");
                self.topology.clone()
            }
            Some(error) => return PublisherEvent::Lost(ChannelLoss::Closed(error.clone())),
            None => return PublisherEvent::Lost(ChannelLoss::ClosedWithoutReason),
        };
        let left = self.abandon();
        self.answers = mpsc::unbounded_channel();
        let connection = Arc::clone(&self.connection);
        self.opening =
            Some(tokio::spawn(async move { timeout(REOPEN_LIMIT, open_next(&connection, topology)).await? }));
        PublisherEvent::Closed(left)
    }

    /// Whether the channel is usable.
    pub(super) fn is_open(&self) -> bool {
        self.opening.is_none() && self.channel.status().connected()
    }

    /// Gives the channel up.
    pub(super) fn abandon(&mut self) -> Abandoned {
        self.tasks.abort_all();
        if let Some(opening) = self.opening.take() {
            opening.abort();
        }
        while let Ok(answer) = self.answers.1.try_recv() {
            self.take(answer);
        }
        self.returns = Returns::default();
        // If it was a publish and not the marker, RabbitMQ refuses it again, and no marker is with it.
        let had_marker = std::mem::take(&mut self.had_marker);
        let refusal = self.reason.take().filter(|error| is_refused(error) && !had_marker);
        let refused = refusal.as_ref().map(reply_text);
        Abandoned { reports: std::mem::take(&mut self.reports).into(), refused }
    }
}

/// The channel after one that was closed, and what is missing before.
async fn open_next(
    connection: &Connection,
    missing: Option<DeadLetterTopology>,
) -> Result<Channel, OpenError> {
    if let Some((config, address)) = missing {
        topology::prepare_dead_letters(connection, &config.amqp, &address).await?;
    }
    Ok(open_channel(connection).await?)
}

/// A channel in confirm mode.
async fn open_channel(connection: &Connection) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// Waits for a moment, or for ever if there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Publishes and waits for the confirm, as long as it takes.
pub(super) async fn confirm(channel: &Channel, pending: &PendingPublish) -> Result<(), Unconfirmed> {
    let confirmed = publish(channel, pending, pending.properties.clone(), false, None::<fn()>).await?;
    if confirmed.is_ack { Ok(()) } else { Err(Unconfirmed::NotStored) }
}

/// Publishes and waits for the confirm. If somebody wants to know when RabbitMQ has taken the publish, asks.
///
/// RabbitMQ does what a channel is told in its order, and refuses a publish when it looks at it: once it has answered
/// anything that was sent behind the publish, it has taken it. The question is one that changes nothing.
async fn publish(
    channel: &Channel,
    pending: &PendingPublish,
    properties: BasicProperties,
    mandatory: bool,
    on_taken: Option<impl FnOnce()>,
) -> Result<Confirmed, Unconfirmed> {
    let PendingPublish { exchange, routing_key, body, .. } = pending;
    let options = BasicPublishOptions { mandatory, ..BasicPublishOptions::default() };
    let (exchange, routing_key) = (exchange.clone(), routing_key.clone());
    // It has been written then; what is no publish would overtake one that waits.
    let published = channel.basic_publish(exchange, routing_key, options, body, properties).await?;
    let asking = async {
        if let Some(on_taken) = on_taken
            && channel.confirm_select(ConfirmSelectOptions::default()).await.is_ok()
        {
            on_taken();
        }
        std::future::pending::<()>().await;
    };
    // Why a channel is closed is told to the publish, and not to a question that comes too late.
    let confirmation = select! {
        biased;
        () = asking => unreachable!("it has no end"),
        confirmation = published => confirmation?,
    };
    let is_ack = confirmation.is_ack();
    let returned = confirmation.take_message();
    let returned = returned.and_then(|message| dead_letter::number(&message.properties));
    Ok(Confirmed { is_ack, returned })
}
