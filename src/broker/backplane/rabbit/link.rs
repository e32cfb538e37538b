//! A link: two connections to RabbitMQ, from their opening to their loss.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, Stream, StreamExt as _};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::ShortString;
use lapin::{Channel, Connection};
use tokio::select;
use tokio::time::timeout;

use crate::base::clock::UnixTime;
use crate::config::{Bindings, Config};
use crate::hooks::AmqpRequest;

use super::address::Address;
use super::attach::{Seek, Start, StreamConsumer};
use super::binder::{Binder, BinderEvent};
use super::bindings::Order;
use super::calls::{CallEvent, Calls};
use super::connect::connect;
use super::consumer::{RollingConsumer, Taken};
use super::fault::{FaultKind, RabbitMqFault, SetupStep};
use super::leaving::{CLOSE_LIMIT, Leaving, SUCCESS, give_up};
use super::lineage::Marker;
use super::loss::{ConnectionRole, Loss};
use super::overflow::Watch;
use super::pending_publish::PendingPublish;
use super::prefetch::Prefetch;
use super::publisher::{Abandoned, Publisher, PublisherEvent, Report, Traffic, confirm};
use super::reader::ResumePoint;
use super::reply::{is_forbidden, is_missing_queue, is_of_channel};
use super::reread::{Again, RereadError};
use super::topology::ConsumeSource;
use super::{markers, topology, wrong_peer};

/// Time limit for everything that has to be declared.
const SETUP_LIMIT: Duration = Duration::from_secs(15);

type Events = Pin<Box<dyn Stream<Item = lapin::Event> + Send>>;

/// Both connections, linked to the queue and to the exchange.
pub(super) struct Link {
    consuming: Arc<Connection>,
    consuming_events: Events,
    /// None: nothing more is to come.
    consumer: Option<RollingConsumer>,
    channel: Channel,
    publishing: Arc<Connection>,
    publishing_events: Events,
    publishes: Publisher,
    dead_letters: Publisher,
    calls: Calls,
    /// Whether RabbitMQ takes no publishes at the moment. lapin would keep them.
    is_blocked: bool,
    source: ShortString,
    start: Option<Start>,
    /// Where bindings follow the subscribers.
    binder: Option<Binder>,
    /// Of a queue of this node's own.
    watch: Option<Watch>,
    /// While a part of the stream is read again.
    again: Option<Again>,
}

/// What happens on a link.
pub(super) enum Next {
    /// A message of the queue or stream.
    Delivered(Delivery),
    /// A message of the stream that is read again.
    Again(Delivery),
    /// A message that was delivered before has come once more, by this tag.
    Known(u64),
    /// RabbitMQ's answer about a publish.
    Report(Traffic, Report),
    /// A channel for publishes was closed: see [`PublisherEvent::Closed`].
    Closed(Traffic, Abandoned),
    /// RabbitMQ takes no publishes, for want of memory or disk, or takes them again.
    Blocked { is_blocked: bool },
    /// The channel after one that was closed is open: publishes can be sent.
    Opened,
    /// What happened on the channel for bindings.
    Bindings(BinderEvent),
    /// What happens to calls.
    Calls(CallEvent),
    /// The queue has dropped messages.
    Overflowed,
    /// The link is of no use any more.
    Lost(Loss),
}

impl Next {
    fn of(traffic: Traffic, event: PublisherEvent) -> Self {
        match event {
            PublisherEvent::Report(report) => Self::Report(traffic, report),
            PublisherEvent::Closed(left) => Self::Closed(traffic, left),
            PublisherEvent::Opened => Self::Opened,
            PublisherEvent::Lost(loss) => Self::Lost(loss.into()),
        }
    }
}

impl Link {
    /// Builds both connections and everything that has to be there.
    ///
    /// # Errors
    /// What is wrong, and whether it may pass.
    pub(super) async fn open(
        address: &Arc<Address>,
        config: &Arc<Config>,
        resume_point: Option<ResumePoint>,
        is_careful: bool,
    ) -> Result<Self, RabbitMqFault> {
        let consuming = connect(address, "fanfare: consumes", is_careful);
        let consuming = wrong_peer::unless_http(address, consuming).await?;
        let publishing = connect(address, "fanfare: publishes", is_careful).await?;
        let connections = [Arc::new(consuming), Arc::new(publishing)];
        let set_up = Self::set_up(connections.clone(), address, config, resume_point);
        let late = |_| Err(FaultKind::NoAnswer { node: address.to_string() }.into());
        let link = timeout(SETUP_LIMIT, set_up).await.unwrap_or_else(late);
        if link.is_err() {
            give_up(connections).await;
        }
        link
    }

    async fn set_up(
        [consuming, publishing]: [Arc<Connection>; 2],
        address: &Arc<Address>,
        config: &Arc<Config>,
        resume_point: Option<ResumePoint>,
    ) -> Result<Self, RabbitMqFault> {
        let fault = |step| move |error| RabbitMqFault::step(step, error, address);
        let amqp = &config.amqp;
        let channel = consuming.create_channel().await.map_err(fault(SetupStep::OpenChannel))?;
        let ConsumeSource { name: queue, kind, notices } =
            topology::prepare(&consuming, &channel, amqp, address).await?;
        let watch = match notices {
            Some(notices) => Some(Watch::begin(&consuming, queue.clone(), notices).await),
            None => None,
        };
        let watch = watch.transpose().map_err(fault(SetupStep::WatchQueue))?;
        let binder = match amqp.bindings {
            Bindings::Dynamic => Some(Binder::open(&consuming, queue.clone(), &amqp.exchange).await),
            Bindings::Patterns(_) => None,
        };
        let binder = binder.transpose().map_err(fault(SetupStep::OpenChannel))?;
        let open = |traffic| {
            let topology = (Arc::clone(config), Arc::clone(address));
            let topology = (traffic == Traffic::DeadLetters).then_some(topology);
            Publisher::open(&publishing, traffic, topology)
        };
        let publishes = open(Traffic::Publishes).await.map_err(fault(SetupStep::OpenPublishChannel))?;
        let dead_letters =
            open(Traffic::DeadLetters).await.map_err(fault(SetupStep::OpenDeadLetterChannel))?;
        let prefetch = Prefetch::new(amqp.prefetch, amqp.prefetch_bytes);
        let (StreamConsumer { channel, consumer }, start) = match resume_point {
            Some(ResumePoint { anchor, reach, node }) => {
                let (connection, publisher, stream) = (&consuming, publishes.channel(), &queue);
                let prefetch = prefetch.current();
                let seek = Seek { connection, publisher, stream, prefetch, address, node };
                let (reading, start) = seek.enter(anchor, reach, rand::random).await?;
                (reading, Some(start))
            }
            None => {
                let limited = channel.basic_qos(prefetch.current(), BasicQosOptions::default());
                limited.await.map_err(fault(SetupStep::LimitPrefetch))?;
                let options = BasicConsumeOptions::default();
                let arguments = kind.consumer_arguments();
                let consumer = channel.basic_consume(queue.clone(), "".into(), options, arguments);
                let consume = SetupStep::Consume { queue: queue.to_string() };
                let consumer = consumer.await.map_err(fault(consume))?;
                (StreamConsumer { channel, consumer }, None)
            }
        };
        Ok(Self {
            consuming_events: Box::pin(consuming.events_listener()),
            publishing_events: Box::pin(publishing.events_listener()),
            consuming,
            consumer: Some(RollingConsumer::new(channel.clone(), queue.clone(), kind, consumer, prefetch)),
            channel,
            calls: Calls::begin(&publishing, (Arc::clone(config), Arc::clone(address))).await,
            publishing,
            publishes,
            dead_letters,
            is_blocked: false,
            source: queue,
            start,
            binder,
            watch,
            again: None,
        })
    }

    /// Where in the stream it begins, if it reads one.
    pub(super) fn start(&self) -> Option<Start> {
        self.start
    }

    /// The queue that is consumed.
    pub(super) fn source(&self) -> String {
        self.source.to_string()
    }

    /// How many messages RabbitMQ sends ahead, if any are to come.
    pub(super) fn prefetch(&self) -> Option<u16> {
        self.consumer.as_ref().map(RollingConsumer::ahead)
    }

    /// Waits for whatever comes first. Can be dropped at any time without loss.
    pub(super) async fn next(&mut self, take: bool) -> Next {
        loop {
            let consumer = if take { self.consumer.as_mut() } else { None };
            let again = if take { self.again.as_mut() } else { None };
            let next = select! {
                biased;
                event = self.consuming_events.next() => self.consuming_event(event),
                event = self.publishing_events.next() => self.publishing_event(event),
                event = self.publishes.next() => Some(Next::of(Traffic::Publishes, event)),
                event = self.dead_letters.next() => Some(Next::of(Traffic::DeadLetters, event)),
                event = binder_event(self.binder.as_mut()) => Some(Next::Bindings(event)),
                overflow = overflowed(self.watch.as_mut()) => Some(match overflow {
                    Some(()) => Next::Overflowed,
                    None => Next::Lost(Loss::WatchEnded),
                }),
                // As many messages may come as answers of backends, so that they take turns.
                next = async { select! {
                    event = self.calls.next() => Next::Calls(event),
                    next = delivered(consumer, again) => next,
                } } => Some(next),
            };
            if let Some(next) = next {
                return next;
            }
        }
    }

    /// A binding that is refused closes the binder's channel only, which says so itself, as the consumer does.
    fn consuming_event(&self, event: Option<lapin::Event>) -> Option<Next> {
        match event {
            Some(lapin::Event::Error(error)) if self.binder.is_some() && is_forbidden(&error) => None,
            // It comes before the consumer says so itself.
            Some(lapin::Event::Error(error)) if is_missing_queue(&error, self.source.as_str()) => {
                let role = ConnectionRole::Consuming;
                Some(Next::Lost(Loss::ConnectionFailed { role, error, queue_is_gone: true }))
            }
            event => loss_of(event, ConnectionRole::Consuming).map(Next::Lost),
        }
    }

    fn publishing_event(&mut self, event: Option<lapin::Event>) -> Option<Next> {
        match event {
            Some(lapin::Event::ConnectionBlocked(reason)) => {
                tracing::warn!(%reason, "RabbitMQ takes no publishes at the moment");
                self.is_blocked = true;
                Some(Next::Blocked { is_blocked: true })
            }
            Some(lapin::Event::ConnectionUnblocked) => {
                tracing::info!("RabbitMQ takes publishes again");
                self.is_blocked = false;
                Some(Next::Blocked { is_blocked: false })
            }
            // The channel's publisher says so itself.
            Some(lapin::Event::Error(error)) if is_of_channel(&error) => None,
            event => loss_of(event, ConnectionRole::Publishing).map(Next::Lost),
        }
    }

    fn publisher(&mut self, traffic: Traffic) -> &mut Publisher {
        match traffic {
            Traffic::Publishes => &mut self.publishes,
            Traffic::DeadLetters => &mut self.dead_letters,
        }
    }

    /// Whether publishes can be sent.
    pub(super) fn takes_publishes(&mut self, traffic: Traffic) -> bool {
        !self.is_blocked && self.publisher(traffic).is_open()
    }

    /// Sends a publish. [`Next::Report`] brings the answer; if `whether_taken`, also one as soon as RabbitMQ has taken it.
    pub(super) fn send(
        &mut self,
        traffic: Traffic,
        number: u64,
        pending: Arc<PendingPublish>,
        whether_taken: bool,
    ) {
        self.publisher(traffic).send(number, pending, whether_taken);
    }

    /// Whether RabbitMQ takes no publishes at the moment.
    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// Sends a call. [`Next::Calls`] tells what becomes of it.
    pub(super) fn call(
        &mut self,
        number: u64,
        request: AmqpRequest,
        limit: Duration,
        answer_bytes: Option<usize>,
    ) {
        self.calls.call(number, request, limit, answer_bytes);
    }

    /// Writes a marker into the stream. Whether it gets there shows when it is read.
    pub(super) fn mark(&mut self, marker: &Marker, settled: Option<u64>) {
        self.publishes.send_marker(markers::publish_of(&self.source, marker, settled, UnixTime::now()));
    }

    /// Reads the stream again from an offset on, besides what is new, a few bytes at a time; or no more.
    pub(super) fn read_again(&mut self, from: Option<u64>, bytes_max: usize) {
        match (from, &self.again) {
            (Some(from), None) => {
                let (connection, stream) = (Arc::clone(&self.consuming), self.source.clone());
                self.again = Some(Again::begin(connection, stream, from, bytes_max));
            }
            (None, Some(_)) => self.again.take().into_iter().for_each(Again::end),
            _ => {}
        }
    }

    /// Whether bindings can be changed.
    pub(super) fn takes_orders(&self) -> bool {
        self.binder.as_ref().is_some_and(Binder::is_open)
    }

    /// Changes a binding; [`Next::Bindings`] brings the answer.
    pub(super) fn order(&mut self, order: Order) {
        if let Some(binder) = &mut self.binder {
            binder.send(order);
        }
    }

    /// Acknowledges everything up to `tag`. The first poll hands the frame to lapin's thread. Nobody waits until it is
    /// written; if it cannot be, the link is lost.
    pub(super) fn acknowledge(&self, tag: u64) {
        let _ = self.channel.basic_ack(tag, BasicAckOptions { multiple: true }).now_or_never();
    }

    /// Consumes no more: what was not taken yet goes back into the queue.
    pub(super) fn wind_down(&mut self) {
        self.consumer = None;
    }

    /// Gives up the calls, for this reason; returns what becomes of each.
    pub(super) fn abandon_calls(&mut self, reason: &Loss) -> impl Iterator<Item = CallEvent> {
        self.calls.abandon(&reason.to_string())
    }

    /// Gives up both connections; returns what is left of both channels for publishes.
    pub(super) fn abandon(&mut self) -> [(Traffic, Abandoned); 2] {
        self.consumer = None;
        self.watch = None;
        [Traffic::Publishes, Traffic::DeadLetters].map(|traffic| (traffic, self.publisher(traffic).abandon()))
    }

    /// Closes both connections of a link that was given up.
    pub(super) fn leave(self) -> Leaving {
        let Self { consuming, publishing, .. } = self;
        Leaving::of([consuming, publishing])
    }

    /// Closes both connections in good order, after a last marker that says up to where the stream is settled.
    pub(super) async fn close(self, last_marker: Option<(Marker, u64)>) {
        let close =
            async |connection: &Connection| connection.close(SUCCESS, "the engine stops".into()).await;
        let publishing = async {
            if let Some((marker, settled)) = last_marker.filter(|_| !self.is_blocked) {
                let pending = markers::publish_of(&self.source, &marker, Some(settled), UnixTime::now());
                // Without it, some dead letters are sent twice.
                let _ = confirm(self.publishes.channel(), &pending).await;
            }
            close(&self.publishing).await
        };
        // A connection that is gone needs no close.
        let _ = timeout(CLOSE_LIMIT, close(&self.consuming)).await;
        let _ = timeout(CLOSE_LIMIT, publishing).await;
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("source", &self.source).field("publishes", &self.publishes).finish()
    }
}

/// The next delivery, of what is read again first.
async fn delivered(consumer: Option<&mut RollingConsumer>, again: Option<&mut Again>) -> Next {
    select! {
        biased;
        delivery = next_again(again) => match delivery {
            Ok(delivery) => Next::Again(delivery),
            Err(error) => Next::Lost(error.into()),
        },
        delivery = next_of(consumer) => match delivery {
            Some(Ok(Taken::Message(delivery))) => Next::Delivered(delivery),
            Some(Ok(Taken::Known(tag))) => Next::Known(tag),
            Some(Ok(Taken::Missing { before, next })) => {
                Next::Lost(Loss::MissingDeliveries { before, next })
            }
            Some(Err(error)) => Next::Lost(Loss::Consumer(error)),
            None => Next::Lost(Loss::ConsumerEnded),
        },
    }
}

/// The next message, or nothing for ever where nothing is consumed.
async fn next_of(consumer: Option<&mut RollingConsumer>) -> Option<lapin::Result<Taken>> {
    match consumer {
        Some(consumer) => consumer.next().await,
        None => std::future::pending().await,
    }
}

/// The next message that is read again, or nothing for ever if none is.
async fn next_again(again: Option<&mut Again>) -> Result<Delivery, RereadError> {
    match again {
        Some(again) => again.next().await,
        None => std::future::pending().await,
    }
}

/// What happens next on the channel for bindings, or nothing for ever where they are fixed.
async fn binder_event(binder: Option<&mut Binder>) -> BinderEvent {
    match binder {
        Some(binder) => binder.next().await,
        None => std::future::pending().await,
    }
}

/// The next loss of messages, or nothing for ever where no queue is watched.
async fn overflowed(watch: Option<&mut Watch>) -> Option<()> {
    match watch {
        Some(watch) => watch.next().await,
        None => std::future::pending().await,
    }
}

/// Why the link is lost, if an event of a connection means that.
fn loss_of(event: Option<lapin::Event>, role: ConnectionRole) -> Option<Loss> {
    match event {
        Some(lapin::Event::Error(error)) => {
            Some(Loss::ConnectionFailed { role, error, queue_is_gone: false })
        }
        Some(_) => None,
        None => Some(Loss::ConnectionEnded(role)),
    }
}
