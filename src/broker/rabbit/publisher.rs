//! Publishes under way: each is a task that hands its message to lapin and waits for RabbitMQ's confirm.

use std::time::Duration;

use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel};
use rustc_hash::FxHashMap;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::mail::Asker;

use super::fault::reply_text;

/// What to publish.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    pub(super) body: Vec<u8>,
    pub(super) properties: BasicProperties,
}

/// Why a letter was sent.
#[derive(Debug)]
pub(super) enum Purpose {
    /// Somebody published, and waits for the answer.
    Publish(Asker),
    /// A message could not be delivered; it is acknowledged when it is safe elsewhere.
    Burial { tag: u64 },
    /// It is a marker for the stream; nobody waits for it here.
    Marker,
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
}

/// How it went with a letter: confirmed, or why not.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) purpose: Purpose,
    pub(super) outcome: Result<(), Unconfirmed>,
}

/// One channel for publishing, and what is under way on it.
#[derive(Debug)]
pub(super) struct Publisher {
    channel: Channel,
    /// Whether RabbitMQ takes nothing at the moment.
    blocked: watch::Sender<bool>,
    limit: Duration,
    tasks: JoinSet<()>,
    open: FxHashMap<u64, Purpose>,
    next: u64,
    outcomes: (mpsc::UnboundedSender<Outcome>, mpsc::UnboundedReceiver<Outcome>),
}

/// The number of a letter, and how it went with it.
type Outcome = (u64, Result<(), Unconfirmed>);

impl Publisher {
    /// For a channel in confirm mode; each letter has `limit` to be confirmed.
    pub(super) fn new(channel: Channel, limit: Duration) -> Self {
        Self {
            channel,
            blocked: watch::Sender::new(false),
            limit,
            tasks: JoinSet::new(),
            open: FxHashMap::default(),
            next: 0,
            outcomes: mpsc::unbounded_channel(),
        }
    }

    /// Sends a letter. Letters are handed to lapin in the order of these calls, as tokio runs new tasks in
    /// their order.
    pub(super) fn send(&mut self, purpose: Purpose, letter: Letter) {
        let number = self.next;
        self.next += 1;
        self.open.insert(number, purpose);
        let (channel, blocked) = (self.channel.clone(), self.blocked.subscribe());
        let (outcomes, limit) = (self.outcomes.0.clone(), self.limit);
        self.tasks.spawn(async move {
            let mut confirmed = std::pin::pin!(confirm(channel, blocked, letter));
            let in_time = timeout(limit, &mut confirmed).await;
            let late = in_time.is_err();
            let outcome = in_time.unwrap_or(Err(Unconfirmed::Late));
            // Fails only if the link is gone, and nobody is interested.
            let _ = outcomes.send((number, outcome));
            if late {
                // lapin keeps a confirm that nobody waits for until the connection ends. This way it counts
                // as under way, and what is under way is bounded.
                let _ = confirmed.await;
            }
        });
    }

    /// The next letter that is settled. Can be dropped at any time without loss.
    pub(super) async fn next(&mut self) -> Report {
        loop {
            // There is a sender in `self`, so that this never ends.
            let Some((number, outcome)) = self.outcomes.1.recv().await else { std::future::pending().await };
            if let Some(purpose) = self.open.remove(&number) {
                return Report { purpose, outcome };
            }
        }
    }

    /// Letters that RabbitMQ has not settled, those whose time limit has passed included.
    pub(super) fn in_flight(&mut self) -> usize {
        while self.tasks.try_join_next().is_some() {}
        self.tasks.len()
    }

    /// Letters that nobody has been told about.
    pub(super) fn unsettled(&self) -> usize {
        self.open.len()
    }

    /// RabbitMQ said whether it takes anything.
    pub(super) fn set_blocked(&self, blocked: bool) {
        self.blocked.send_replace(blocked);
    }

    /// Whether the channel is usable.
    pub(super) fn is_open(&self) -> bool {
        self.channel.status().connected()
    }

    /// Gives up: whoever waits for an answer will not get it from here.
    pub(super) fn abandon(&mut self) -> Vec<Asker> {
        self.tasks.abort_all();
        let asker = |purpose| match purpose {
            Purpose::Publish(asker) => Some(asker),
            Purpose::Burial { .. } | Purpose::Marker => None,
        };
        self.open.drain().filter_map(|(_, purpose)| asker(purpose)).collect()
    }
}

/// Publishes and waits for the confirm, as long as it takes. While RabbitMQ takes nothing, lapin is given
/// nothing either: it would keep it.
pub(super) async fn confirm(
    channel: Channel,
    mut blocked: watch::Receiver<bool>,
    letter: Letter,
) -> Result<(), Unconfirmed> {
    // It fails only if the link is gone, and then the next step fails as well.
    let _ = blocked.wait_for(|blocked| !blocked).await;
    let Letter { exchange, routing_key, body, properties } = letter;
    let options = BasicPublishOptions::default();
    let published = channel.basic_publish(exchange, routing_key, options, &body, properties).await?;
    if published.await?.is_ack() { Ok(()) } else { Err(Unconfirmed::NotStored) }
}
