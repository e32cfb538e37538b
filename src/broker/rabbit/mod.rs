//! RabbitMQ: topology, consuming, acknowledging, publishing, and coming back. With its parts the only place
//! that knows lapin.
//!
//! A supervisor task keeps one pair of connections: one to consume, one to publish, because a connection
//! that RabbitMQ blocks (memory or disk alarm) writes nothing at all, acknowledgements included. When either
//! breaks, both are given up and made anew, topology and all, after a pause that doubles. lapin's own
//! recovery is not used: it restarts consumers without telling that there was a gap.

mod consume;
mod error;
mod publish;
mod topology;

use std::sync::Arc;
use std::time::Duration;

use lapin::{Connection, ConnectionProperties};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::broker::StartError;
use crate::broker::backplane::{DeadLetter, Event, Outcome};
use crate::broker::frontier::Tag;
use crate::config::{Amqp, Config};
use crate::mail::Publish;

use error::Trouble;
use publish::Publisher;

pub use publish::{PublishError, publish_once};

/// Events that wait between the supervisor and the broker's loop; RabbitMQ's prefetch is the outer limit.
const EVENTS: usize = 1024;

/// How long making a connection may take: an address that answers nothing must not keep us.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// How long RabbitMQ has for saying goodbye.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// The broker's side of RabbitMQ.
pub(super) struct Rabbit {
    events: mpsc::Receiver<Event>,
    publisher: Publisher,
    first: Option<oneshot::Receiver<Result<(), StartError>>>,
    stop: watch::Sender<Stop>,
    supervisor: JoinHandle<()>,
}

/// What the supervisor has been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    No,
    /// Consume nothing more; publishing and acknowledging go on.
    Consuming,
    /// Close everything.
    Everything,
}

/// What the parts of the supervisor share.
struct Link {
    config: Arc<Config>,
    events: mpsc::Sender<Event>,
    publisher: Publisher,
    stop: watch::Receiver<Stop>,
    generation: u32,
}

impl Rabbit {
    /// Begins to connect. `bury` is told of each message whose dead letter is safe, or given up.
    pub(super) fn begin(config: Arc<Config>, bury: mpsc::UnboundedSender<Tag>) -> Self {
        let (event_sender, events) = mpsc::channel(EVENTS);
        let (stop, stop_receiver) = watch::channel(Stop::No);
        let (first_sender, first) = oneshot::channel();
        let publisher = Publisher::new(&config, bury);
        let link = Link {
            config,
            events: event_sender,
            publisher: publisher.clone(),
            stop: stop_receiver,
            generation: 0,
        };
        let supervisor = tokio::spawn(link.supervise(first_sender));
        Self { events, publisher, first: Some(first), stop, supervisor }
    }

    /// Waits for the first attempt: connected, or unreachable and tried again, or refused for good.
    pub(super) async fn started(&mut self) -> Result<(), StartError> {
        match self.first.take() {
            Some(first) => first.await.unwrap_or(Ok(())),
            None => Ok(()),
        }
    }

    /// The next event.
    pub(super) async fn next(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    /// The next event, if it is there.
    pub(super) fn try_next(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// Publishes; the outcome comes back by `outcomes` once RabbitMQ has confirmed, or refused, or had its
    /// time.
    pub(super) fn publish(&self, publish: Publish, outcomes: mpsc::UnboundedSender<Outcome>) {
        self.publisher.publish(publish, outcomes);
    }

    /// Sends a message to the dead letters.
    pub(super) fn bury(&self, letter: DeadLetter) {
        self.publisher.bury(letter);
    }

    /// Takes no more messages.
    pub(super) fn stop_consuming(&self) {
        self.stop.send_replace(Stop::Consuming);
    }

    /// Closes the connections.
    pub(super) async fn end(&mut self) {
        self.stop.send_replace(Stop::Everything);
        self.events.close();
        if tokio::time::timeout(2 * CLOSE_LIMIT, &mut self.supervisor).await.is_err() {
            self.supervisor.abort();
        }
    }
}

impl Link {
    async fn supervise(mut self, first: oneshot::Sender<Result<(), StartError>>) {
        let mut first = Some(first);
        let mut pause = self.config.amqp.reconnect_min.0;
        let mut away_is_said = false;
        while *self.stop.borrow() != Stop::Everything {
            match self.connect().await {
                Ok(pair) => {
                    pause = self.config.amqp.reconnect_min.0;
                    away_is_said = false;
                    tell(&mut first, Ok(()));
                    let trouble = self.live(pair).await;
                    self.publisher.lost();
                    let _ = self.events.send(Event::Away).await;
                    if let Some(trouble) = trouble {
                        tracing::warn!(reason = %trouble, "RabbitMQ is away; clients stay, and publishing fails until it is back");
                        away_is_said = true;
                    }
                }
                Err(trouble) => {
                    if first.is_some() && trouble.is_permanent() {
                        return tell(&mut first, Err(StartError::RabbitMq(trouble.to_string())));
                    }
                    if !away_is_said {
                        tracing::warn!(reason = %trouble, "RabbitMQ cannot be reached; it is tried again and again");
                        away_is_said = true;
                    }
                    tell(&mut first, Ok(()));
                }
            }
            self.pause(pause).await;
            pause = (pause * 2).min(self.config.amqp.reconnect_max.0);
        }
    }

    /// Waits for half to one `pause`: engines that lost the same RabbitMQ do not come back together.
    async fn pause(&mut self, pause: Duration) {
        use std::hash::BuildHasher;
        let random = std::hash::RandomState::new().hash_one(self.generation) % 1000;
        let jittered = pause / 2 + pause * u32::try_from(random).unwrap_or(0) / 2000;
        let stopped = async {
            let _ = self.stop.wait_for(|stop| *stop == Stop::Everything).await;
        };
        tokio::select! {
            () = tokio::time::sleep(jittered) => {}
            () = stopped => {}
        }
    }

    /// Makes both connections and everything on them.
    async fn connect(&self) -> Result<Pair, Trouble> {
        let amqp = &self.config.amqp;
        let consuming = open(amqp, "consume").await?;
        let publishing = open(amqp, "publish").await?;
        let source = topology::declare(&consuming, amqp).await?;
        self.publisher.connected(&publishing).await?;
        let messages = consume::begin(&consuming, amqp, &source).await?;
        Ok(Pair { consuming, publishing, messages })
    }

    /// Lives with a pair of connections until one of them breaks, or the end is asked for: then `None`.
    async fn live(&mut self, pair: Pair) -> Option<Trouble> {
        let own_queue = self.config.amqp.queue.is_empty();
        let gap = self.generation > 0 && own_queue;
        self.generation += 1;
        let (acknowledge, reached) = watch::channel(0);
        tracing::info!(url = self.config.amqp.url.public(), "RabbitMQ is connected");
        let ready = Event::Ready { generation: self.generation, acknowledge, gap };
        if self.events.send(ready).await.is_err() {
            return None;
        }
        let broken = self.publisher.broken(&pair.publishing);
        let consumed =
            consume::run(pair.messages, self.events.clone(), reached, self.stop.clone(), self.generation);
        let trouble = tokio::select! {
            trouble = consumed => trouble,
            trouble = broken => Some(trouble),
        };
        for connection in [pair.consuming, pair.publishing] {
            let goodbye = connection.close(200, "goodbye".into());
            let _ = tokio::time::timeout(CLOSE_LIMIT, goodbye).await;
        }
        trouble
    }
}

struct Pair {
    consuming: Connection,
    publishing: Connection,
    messages: consume::Messages,
}

fn tell(first: &mut Option<oneshot::Sender<Result<(), StartError>>>, outcome: Result<(), StartError>) {
    if let Some(first) = first.take() {
        // Nobody listens only when the engine has ended meanwhile.
        let _ = first.send(outcome);
    }
}

/// Opens one connection, named by what it is for in RabbitMQ's lists.
async fn open(amqp: &Amqp, purpose: &str) -> Result<Connection, Trouble> {
    let name = format!("fanfare {purpose}");
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let connecting = Connection::connect(&amqp.url, properties);
    match tokio::time::timeout(CONNECT_LIMIT, connecting).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(Trouble::connecting(&amqp.url, &error)),
        Err(_) => {
            Err(Trouble::Unreachable(format!("{}: no answer within {CONNECT_LIMIT:?}", amqp.url.public())))
        }
    }
}
