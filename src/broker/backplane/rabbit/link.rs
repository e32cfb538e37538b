//! A link: two connections to RabbitMQ, from their opening to their loss.

use std::fmt;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, Stream, StreamExt as _};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::ShortString;
use lapin::{Channel, Connection, ConnectionProperties};
use parking_lot::Mutex;
use socket2::Socket;
use tokio::select;
use tokio::time::timeout;

use crate::config::{Bindings, Config};

use super::address::Address;
use super::amqp_filter::Terms;
use super::attach::{Reading, Seek, Start};
use super::binder::{self, Binder};
use super::bindings::Order;
use super::consumer::{RollingConsumer, Taken};
use super::fault::{
    Fault, is_away, is_forbidden, is_missing, is_missing_queue, is_of_channel, is_unreadable, reply_text,
};
use super::leaving::{CLOSE_LIMIT, Leaving, SUCCESS, give_up};
use super::lineage::Marker;
use super::overflow::Watch;
use super::pending_publish::PendingPublish;
use super::prefetch::Prefetch;
use super::publisher::{Abandoned, Publisher, PublisherEvent, Report, Traffic, confirm};
use super::reader::ResumePoint;
use super::reread::{Again, RereadError};
use super::topology::ConsumeSource;
use super::{markers, topology, transport, wrong_peer};

/// Time limit from the first packet to a connection with TLS.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Time limit from there to AMQP's "open", and for everything that has to be declared.
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
    /// RabbitMQ's answer about a binding.
    Bindings(binder::Answer),
    /// The queue has dropped messages.
    Overflowed,
    /// The link is of no use any more.
    Lost(Loss),
}

/// Why a link was lost.
#[derive(Debug)]
pub(super) struct Loss {
    pub(super) reason: String,
    /// Whether RabbitMQ ended the consumer: its queue was deleted, or is where it cannot be reached.
    pub(super) queue_is_gone: bool,
    /// Whether lapin could not read what RabbitMQ sent, or did not take it.
    pub(super) is_unreadable: bool,
}

impl Loss {
    pub(super) fn because(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), queue_is_gone: false, is_unreadable: false }
    }

    fn of_consumer(error: &lapin::Error) -> Self {
        let queue_is_gone = is_missing(error) && !is_away(error);
        Self { queue_is_gone, is_unreadable: is_unreadable(error), ..Self::because(reply_text(error)) }
    }

    fn of_queue() -> Self {
        Self { queue_is_gone: true, ..Self::because("RabbitMQ ended the consumer: its queue is gone") }
    }
}

impl Next {
    fn of(traffic: Traffic, event: PublisherEvent) -> Self {
        match event {
            PublisherEvent::Report(report) => Self::Report(traffic, report),
            PublisherEvent::Closed(left) => Self::Closed(traffic, left),
            PublisherEvent::Opened => Self::Opened,
            PublisherEvent::Lost(text) => Self::Lost(Loss::because(text)),
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
    ) -> Result<Self, Fault> {
        let consuming = connect(address, "fanfare: consumes", is_careful);
        let consuming = wrong_peer::unless_http(address, consuming).await?;
        let publishing = connect(address, "fanfare: publishes", is_careful).await?;
        let connections = [Arc::new(consuming), Arc::new(publishing)];
        let set_up = Self::set_up(connections.clone(), address, config, resume_point);
        let late = |_| Err(Fault::passing(format!("RabbitMQ at {address} does not answer")));
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
    ) -> Result<Self, Fault> {
        let fault = |what| move |error| Fault::other(what, &error, address);
        let amqp = &config.amqp;
        let channel = consuming.create_channel().await.map_err(fault("no channel could be opened"))?;
        let ConsumeSource { name: queue, kind, notices } =
            topology::prepare(&consuming, &channel, amqp, address).await?;
        let watch = match notices {
            Some(notices) => Some(Watch::begin(&consuming, queue.clone(), notices).await),
            None => None,
        };
        let watch = watch.transpose().map_err(fault("the queue cannot be watched"))?;
        let binder = match amqp.bindings {
            Bindings::Dynamic => Some(Binder::open(&consuming, queue.clone(), &amqp.exchange).await),
            Bindings::Patterns(_) => None,
        };
        let binder = binder.transpose().map_err(fault("no channel could be opened"))?;
        let open = |traffic| {
            let topology = (Arc::clone(config), Arc::clone(address));
            let topology = (traffic == Traffic::DeadLetters).then_some(topology);
            Publisher::open(&publishing, traffic, topology)
        };
        let publishes =
            open(Traffic::Publishes).await.map_err(fault("no channel for publishes could be opened"))?;
        let dead_letters =
            open(Traffic::DeadLetters).await.map_err(fault("no channel for dead letters could be opened"))?;
        let prefetch = Prefetch::new(amqp.prefetch, amqp.prefetch_bytes);
        let (Reading { channel, consumer }, start) = match resume_point {
            Some(ResumePoint { anchor, reach, node }) => {
                let (connection, publisher, stream) = (&consuming, publishes.channel(), &queue);
                let prefetch = prefetch.current();
                let seek = Seek { connection, publisher, stream, prefetch, address, node };
                let (reading, start) = seek.enter(anchor, reach, rand::random).await?;
                (reading, Some(start))
            }
            None => {
                let limited = channel.basic_qos(prefetch.current(), BasicQosOptions::default());
                limited.await.map_err(fault("the prefetch limit cannot be set"))?;
                let options = BasicConsumeOptions::default();
                let arguments = kind.consumer_arguments();
                let consumer = channel.basic_consume(queue.clone(), "".into(), options, arguments);
                let consumer =
                    consumer.await.map_err(|error| Fault::consuming(&error, queue.as_str(), address))?;
                (Reading { channel, consumer }, None)
            }
        };
        Ok(Self {
            consuming_events: Box::pin(consuming.events_listener()),
            publishing_events: Box::pin(publishing.events_listener()),
            consuming,
            consumer: Some(RollingConsumer::new(channel.clone(), queue.clone(), kind, consumer, prefetch)),
            channel,
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
                answer = binder_answer(self.binder.as_mut()) => Some(Next::Bindings(answer)),
                loss = overflowed(self.watch.as_mut()) => Some(match loss {
                    Some(()) => Next::Overflowed,
                    None => Next::Lost(Loss::because("nobody can say what the queue drops")),
                }),
                delivery = next_again(again) => Some(match delivery {
                    Ok(delivery) => Next::Again(delivery),
                    Err(error) => Next::Lost(Loss::because(error.to_string())),
                }),
                delivery = delivered(consumer) => Some(match delivery {
                    Some(Ok(Taken::Message(delivery))) => Next::Delivered(delivery),
                    Some(Ok(Taken::Known(tag))) => Next::Known(tag),
                    Some(Ok(Taken::Gap(text))) => Next::Lost(Loss::because(text)),
                    Some(Err(error)) => Next::Lost(Loss::of_consumer(&error)),
                    None => Next::Lost(Loss::of_queue()),
                }),
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
            event => {
                // It comes before the consumer says so itself.
                let queue_is_gone = matches!(&event, Some(lapin::Event::Error(error)) if is_missing_queue(error, self.source.as_str()));
                trouble(event, "consuming").map(|loss| Next::Lost(Loss { queue_is_gone, ..loss }))
            }
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
            event => trouble(event, "publishing").map(Next::Lost),
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

    /// Writes a marker into the stream. Whether it gets there shows when it is read.
    pub(super) fn mark(&mut self, marker: &Marker, settled: Option<u64>) {
        self.publishes.send_marker(markers::publish_of(&self.source, marker, settled));
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
                let pending = markers::publish_of(&self.source, &marker, Some(settled));
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

/// The next delivery, or nothing for ever where nothing is consumed.
async fn delivered(consumer: Option<&mut RollingConsumer>) -> Option<lapin::Result<Taken>> {
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

/// The next answer about bindings, or nothing for ever where they are fixed.
async fn binder_answer(binder: Option<&mut Binder>) -> binder::Answer {
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

/// Whether an event means that the link is lost.
fn trouble(event: Option<lapin::Event>, which: &str) -> Option<Loss> {
    match event {
        Some(lapin::Event::Error(error)) => {
            let loss = Loss::because(format!("the {which} connection failed: {}", reply_text(&error)));
            Some(Loss { is_unreadable: is_unreadable(&error), ..loss })
        }
        Some(_) => None,
        None => Some(Loss::because(format!("the {which} connection has ended"))),
    }
}

/// Opens one connection. `is_careful`: see [`amqp_filter`](super::amqp_filter).
///
/// # Errors
/// What is wrong, and whether it may pass.
pub(super) async fn connect(address: &Address, name: &str, is_careful: bool) -> Result<Connection, Fault> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let tls = address.tls().await?;
    let lifeline = Lifeline::default();
    let socket = Arc::clone(&lifeline.0);
    let terms = Terms::new(is_careful);
    let agreed = terms.clone();
    let opening = Connection::connector(
        address.uri.clone(),
        transport::runtime(),
        async move |uri, _| {
            let host = uri.authority.host.as_str();
            let connecting =
                transport::connect(host, uri.authority.port, tls.as_ref(), terms.clone(), &socket);
            let connected = timeout(CONNECT_LIMIT, connecting).await;
            Ok(connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))?)
        },
        properties,
    );
    let opened = timeout(SETUP_LIMIT, opening).await;
    let opened = opened.map_err(|_| Fault::passing(format!("RabbitMQ at {address} does not answer")))?;
    lifeline.release();
    let connection = opened.map_err(|error| Fault::connecting(&error, address))?;
    agreed.set_frame_max(connection.configuration().frame_max());
    Ok(connection)
}

/// A second handle of a socket, by which it is shut down if the attempt to speak AMQP over it is given up:
/// lapin's thread would wait for ever for a server that accepts and says nothing.
#[derive(Default)]
struct Lifeline(Arc<Mutex<Option<Socket>>>);

impl Lifeline {
    /// The connection is open: it is not shut down any more.
    fn release(self) {
        self.0.lock().take();
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        if let Some(socket) = self.0.lock().take() {
            // It fails only if the peer has gone, which does as well.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}
