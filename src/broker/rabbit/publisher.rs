//! Letters under way over one channel: each is a task that hands its letter to lapin and waits for RabbitMQ's
//! confirm. How long that may take, and what becomes of a letter that is not confirmed, is `outgoing`'s.

use std::sync::Arc;

use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::fault::reply_text;

/// What to publish.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    pub(super) body: Vec<u8>,
    pub(super) properties: BasicProperties,
}

/// Why a letter is not known to be safe.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unconfirmed {
    #[error("{}", reply_text(.0))]
    Failed(#[from] lapin::Error),
    #[error("RabbitMQ could not store it")]
    NotStored,
    #[error("RabbitMQ did not confirm it in time")]
    Late,
    #[error("RabbitMQ refused it and closed the channel")]
    Refused,
}

/// RabbitMQ's word on the letter of this number.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) number: u64,
    /// It is confirmed; if not, RabbitMQ could not store it.
    pub(super) is_stored: bool,
}

/// One channel for publishing, and what is under way on it.
#[derive(Debug)]
pub(super) struct Publisher {
    channel: Channel,
    tasks: JoinSet<()>,
    reports: (mpsc::UnboundedSender<Report>, mpsc::UnboundedReceiver<Report>),
}

impl Publisher {
    /// For a channel in confirm mode.
    pub(super) fn new(channel: Channel) -> Self {
        Self { channel, tasks: JoinSet::new(), reports: mpsc::unbounded_channel() }
    }

    /// Sends a letter. Letters are handed to lapin in the order of these calls, as tokio runs new tasks in
    /// their order. There is no report if the channel is closed meanwhile: lapin says the same of all that were under
    /// way, and what became of each is not known.
    ///
    /// The task waits as long as it takes, even if nobody is interested any more: lapin keeps a confirm that
    /// nobody waits for until the connection ends.
    pub(super) fn send(&mut self, number: u64, letter: Arc<Letter>) {
        let reports = self.reports.0.clone();
        self.spawn(letter, move |outcome| {
            let is_stored = match outcome {
                Ok(()) => true,
                Err(Unconfirmed::NotStored) => false,
                Err(error) => return tracing::debug!(%error, "nothing is known of a letter"),
            };
            // Fails only if the link is gone, and nobody is interested.
            drop(reports.send(Report { number, is_stored }));
        });
    }

    /// Sends a marker, on which no report comes: its writer sees it in the stream, or writes another one.
    pub(super) fn send_marker(&mut self, letter: Letter) {
        self.spawn(Arc::new(letter), |outcome| {
            if let Err(error) = outcome {
                tracing::debug!(%error, "a marker failed");
            }
        });
    }

    fn spawn(&mut self, letter: Arc<Letter>, tell: impl FnOnce(Result<(), Unconfirmed>) + Send + 'static) {
        while self.tasks.try_join_next().is_some() {}
        let channel = self.channel.clone();
        self.tasks.spawn(async move { tell(confirm(&channel, &letter).await) });
    }

    /// The next word on a letter. Can be dropped at any time without loss.
    pub(super) async fn next(&mut self) -> Report {
        match self.reports.1.recv().await {
            Some(report) => report,
            // There is a sender in `self`, so that this never ends.
            None => std::future::pending().await,
        }
    }

    /// Whether the channel is usable.
    pub(super) fn is_open(&self) -> bool {
        self.channel.status().connected()
    }

    /// Gives up; returns what came in and was not taken.
    pub(super) fn abandon(&mut self) -> Vec<Report> {
        self.tasks.abort_all();
        std::iter::from_fn(|| self.reports.1.try_recv().ok()).collect()
    }
}

/// Publishes and waits for the confirm, as long as it takes.
///
/// Not `mandatory`: an exchange need not route everything, and lapin 4.12 hands a message that was returned to
/// whichever confirm it settles next, which is the wrong one if several are acknowledged together. What a node's
/// own source is bound to gets there all the same: there is no link before RabbitMQ has found or declared it.
pub(super) async fn confirm(channel: &Channel, letter: &Letter) -> Result<(), Unconfirmed> {
    let Letter { exchange, routing_key, body, properties } = letter;
    let options = BasicPublishOptions::default();
    let (exchange, routing_key) = (exchange.clone(), routing_key.clone());
    let published = channel.basic_publish(exchange, routing_key, options, body, properties.clone()).await?;
    if published.await?.is_ack() { Ok(()) } else { Err(Unconfirmed::NotStored) }
}
