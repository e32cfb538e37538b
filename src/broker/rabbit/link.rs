//! Two connections to RabbitMQ and what goes over them, from their making to their loss.

use std::fmt;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, Stream, StreamExt as _};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, ConfirmSelectOptions};
use lapin::tcp::AsyncTcpStream;
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection, ConnectionProperties, Consumer};
use parking_lot::Mutex;
use socket2::{SockRef, Socket};
use tokio::select;
use tokio::time::timeout;

use crate::broker::backplane::{Event, Message};
use crate::broker::payload::Undeliverable;
use crate::config::Config;
use crate::mail::{Asker, Publish};
use crate::protocol::codes::ErrorCode;

use super::address::Address;
use super::attach::{Gate, Reading, Start};
use super::fault::{Fault, reply_text};
use super::publisher::{Letter, Publisher, Purpose, Report};
use super::reader::{Entrance, random};
use super::trail::Marker;
use super::{markers, message, topology};

/// From the first packet to a connection with TLS.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// From there to AMQP's "open", and for everything that has to be declared.
const SETUP_LIMIT: Duration = Duration::from_secs(15);
/// For AMQP's "close".
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// The reply code of a close without a fault (AMQP 0.9.1, section 1.1).
const SUCCESS: u16 = 200;

type Events = Pin<Box<dyn Stream<Item = lapin::Event> + Send>>;

/// Both connections, linked to the queue and to the exchange.
pub(super) struct Link {
    consuming: Connection,
    consuming_events: Events,
    consumer: Option<Consumer>,
    channel: Channel,
    publishing: Connection,
    publishing_events: Events,
    publisher: Publisher,
    source: ShortString,
    start: Option<Start>,
    exchange: ShortString,
    dead_letter_exchange: ShortString,
    publishes_max: usize,
}

/// What a link has to say.
#[expect(clippy::large_enum_variant, reason = "lapin's deliveries are what they are; it is moved once")]
pub(super) enum Next {
    Event(Event),
    /// A message of the queue or stream.
    Delivered(Delivery),
    /// The dead-letter exchange did not take a message.
    BurialFailed {
        tag: u64,
        error: String,
    },
    /// The link is of no use any more, and why.
    Lost(String),
}

impl Link {
    /// Builds both connections and everything that has to be there.
    ///
    /// # Errors
    /// What is wrong, and whether it may pass.
    pub(super) async fn open(
        address: &Address,
        config: &Config,
        entrance: Option<Entrance>,
    ) -> Result<Self, Fault> {
        let consuming = connect(address, "fanfare: consumes").await?;
        let publishing = connect(address, "fanfare: publishes").await?;
        let set_up = timeout(SETUP_LIMIT, Self::set_up(consuming, publishing, address, config, entrance));
        let late = |_| Fault::passing(format!("RabbitMQ at {address} does not answer"));
        set_up.await.map_err(late)?
    }

    async fn set_up(
        consuming: Connection,
        publishing: Connection,
        address: &Address,
        config: &Config,
        entrance: Option<Entrance>,
    ) -> Result<Self, Fault> {
        let fault = |what| move |error| Fault::other(what, &error, address);
        let amqp = &config.amqp;
        let channel = consuming.create_channel().await.map_err(fault("no channel could be opened"))?;
        let queue = topology::prepare(&consuming, &channel, amqp, address).await?;
        let publisher = publishing.create_channel().await.map_err(fault("no channel could be opened"))?;
        let confirms = publisher.confirm_select(ConfirmSelectOptions::default());
        confirms.await.map_err(fault("it does not confirm publishes"))?;
        let (Reading { channel, consumer }, start) = match entrance {
            Some(Entrance { anchor, reach, node }) => {
                let (connection, publisher, stream) = (&consuming, &publisher, &queue);
                let gate = Gate { connection, publisher, stream, amqp, address, node };
                let (reading, start) = gate.enter(anchor, reach, random).await?;
                (reading, Some(start))
            }
            None => {
                let limited = channel.basic_qos(amqp.prefetch, BasicQosOptions::default());
                limited.await.map_err(fault("the prefetch limit cannot be set"))?;
                let options = BasicConsumeOptions::default();
                let consumer =
                    channel.basic_consume(queue.clone(), "".into(), options, FieldTable::default());
                let consumer = consumer.await.map_err(fault("the queue cannot be consumed"))?;
                (Reading { channel, consumer }, None)
            }
        };
        Ok(Self {
            consuming_events: Box::pin(consuming.events_listener()),
            publishing_events: Box::pin(publishing.events_listener()),
            consuming,
            consumer: Some(consumer),
            channel,
            publishing,
            publisher: Publisher::new(publisher, config.timeouts.publish.0),
            source: queue,
            start,
            exchange: amqp.exchange.as_str().into(),
            dead_letter_exchange: amqp.dead_letter_exchange.as_str().into(),
            publishes_max: config.limits.publishes,
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

    /// Waits for whatever comes first. Can be dropped at any time without loss.
    pub(super) async fn next(&mut self, take: bool) -> Next {
        loop {
            if !self.publisher.is_open() {
                return Next::Lost("the publishing channel was closed".to_owned());
            }
            let consumer = if take { self.consumer.as_mut() } else { None };
            let next = select! {
                biased;
                event = self.consuming_events.next() => trouble(event, "consuming"),
                event = self.publishing_events.next() => match event {
                    Some(lapin::Event::ConnectionBlocked(reason)) => {
                        tracing::warn!(%reason, "RabbitMQ takes no publishes at the moment");
                        self.publisher.set_blocked(true);
                        None
                    }
                    Some(lapin::Event::ConnectionUnblocked) => {
                        tracing::info!("RabbitMQ takes publishes again");
                        self.publisher.set_blocked(false);
                        None
                    }
                    event => trouble(event, "publishing"),
                },
                report = self.publisher.next() => settled(report),
                delivery = delivered(consumer) => Some(match delivery {
                    Some(Ok(delivery)) => Next::Delivered(delivery),
                    Some(Err(error)) => Next::Lost(reply_text(&error)),
                    None => Next::Lost("RabbitMQ ended the consumer: its queue is gone".to_owned()),
                }),
            };
            if let Some(next) = next {
                return next;
            }
        }
    }

    /// Publishes to the exchange.
    pub(super) fn publish(&mut self, publish: Publish) -> Result<(), (Publish, ErrorCode)> {
        if self.consumer.is_none() || !self.publisher.is_open() {
            return Err((publish, ErrorCode::Internal));
        }
        if self.publisher.in_flight() >= self.publishes_max {
            return Err((publish, ErrorCode::TooManyRequests));
        }
        let Publish { asker, topics, data } = publish;
        let [first, copies @ ..] = &topics[..] else { unreachable!("checked: a publish has topics") };
        let letter = Letter {
            exchange: self.exchange.clone(),
            routing_key: ShortString::from(&**first),
            body: data.into_vec(),
            properties: message::properties(copies),
        };
        self.publisher.send(Purpose::Publish(asker), letter);
        Ok(())
    }

    /// Publishes to the dead-letter exchange.
    pub(super) fn bury(&mut self, message: Message, reason: &Undeliverable) {
        let tag = message.tag;
        let (routing_key, body, properties) = message::bury(message, reason);
        let exchange = self.dead_letter_exchange.clone();
        let letter = Letter { exchange, routing_key, body, properties };
        self.publisher.send(Purpose::Burial { tag }, letter);
    }

    /// Writes a marker into the stream. Whether it gets there shows when it is read.
    pub(super) fn mark(&mut self, marker: &Marker) {
        if self.consumer.is_some() && self.publisher.is_open() {
            self.publisher.send(Purpose::Marker, markers::letter(&self.source, marker));
        }
    }

    /// Acknowledges everything up to `tag`. The first poll hands the frame to lapin's thread; that it has
    /// been written is of no interest, and that it cannot be shows as a lost link.
    pub(super) fn acknowledge(&self, tag: u64) {
        let _ = self.channel.basic_ack(tag, BasicAckOptions { multiple: true }).now_or_never();
    }

    /// Consumes no more: what was not taken yet goes back into the queue. Publishes no more.
    pub(super) fn wind_down(&mut self) {
        self.consumer = None;
    }

    /// Letters that nobody has been told about.
    pub(super) fn in_flight(&self) -> usize {
        self.publisher.unsettled()
    }

    /// Gives up both connections; returns whoever waits for an answer.
    pub(super) fn abandon(&mut self) -> Vec<Asker> {
        self.consumer = None;
        self.publisher.abandon()
    }

    /// Closes both connections in good order.
    pub(super) async fn close(self) {
        for connection in [&self.consuming, &self.publishing] {
            // A connection that is gone needs no close.
            let _ = timeout(CLOSE_LIMIT, connection.close(SUCCESS, "the engine stops".into())).await;
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("source", &self.source).field("publisher", &self.publisher).finish()
    }
}

/// The next delivery, or nothing for ever where nothing is consumed.
async fn delivered(consumer: Option<&mut Consumer>) -> Option<lapin::Result<Delivery>> {
    match consumer {
        Some(consumer) => consumer.next().await,
        None => std::future::pending().await,
    }
}

/// What a settled letter means to the broker.
fn settled(Report { purpose, outcome }: Report) -> Option<Next> {
    let next = match (purpose, outcome) {
        (Purpose::Marker, outcome) => {
            if let Err(error) = outcome {
                tracing::debug!(%error, "a marker failed");
            }
            return None;
        }
        (Purpose::Publish(asker), outcome) => {
            if let Err(error) = &outcome {
                tracing::debug!(%error, "a publish failed");
            }
            let outcome = outcome.map_err(|_| ErrorCode::Internal);
            Next::Event(Event::Published { asker, outcome })
        }
        (Purpose::Burial { tag }, Ok(())) => Next::Event(Event::Buried { tag }),
        (Purpose::Burial { tag }, Err(error)) => Next::BurialFailed { tag, error: error.to_string() },
    };
    Some(next)
}

/// Whether an event means that the link is lost.
fn trouble(event: Option<lapin::Event>, which: &str) -> Option<Next> {
    match event {
        Some(lapin::Event::Error(error)) => {
            Some(Next::Lost(format!("the {which} connection failed: {}", reply_text(&error))))
        }
        Some(_) => None,
        None => Some(Next::Lost(format!("the {which} connection has ended"))),
    }
}

/// Opens one connection.
///
/// # Errors
/// What is wrong, and whether it may pass.
pub(super) async fn connect(address: &Address, name: &str) -> Result<Connection, Fault> {
    let fault = |error: lapin::Error| Fault::connecting(&error, address);
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let runtime = lapin::runtime::default_runtime().map_err(fault)?;
    let (tls, is_encrypted) = (address.tls.clone(), address.is_encrypted());
    let lifeline = Lifeline::default();
    let socket = Arc::clone(&lifeline.0);
    let opening = Connection::connector(
        address.uri.clone(),
        runtime,
        async move |uri, runtime| {
            let host = uri.authority.host.as_str();
            let connecting = async {
                let place = runtime.to_socket_addrs((host.to_owned(), uri.authority.port));
                let stream = AsyncTcpStream::connect(&runtime, place).await?;
                if let AsyncTcpStream::Plain(plain) = &stream {
                    *socket.lock() = Some(SockRef::from(plain.get_ref()).try_clone()?);
                }
                if is_encrypted { stream.into_tls(host, tls.as_ref()).await } else { Ok(stream) }
            };
            let connected = timeout(CONNECT_LIMIT, connecting).await;
            Ok(connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))?)
        },
        properties,
    );
    let opened = timeout(SETUP_LIMIT, opening).await;
    let opened = opened.map_err(|_| Fault::passing(format!("RabbitMQ at {address} does not answer")))?;
    lifeline.release();
    opened.map_err(fault)
}

/// A second handle of a socket, by which it is shut down if the attempt to speak AMQP over it is given up:
/// lapin's thread would wait for ever for a server that accepts and says nothing.
#[derive(Default)]
struct Lifeline(Arc<Mutex<Option<Socket>>>);

impl Lifeline {
    /// The connection stands on its own feet.
    fn release(self) {
        self.0.lock().take();
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        if let Some(socket) = self.0.lock().take() {
            // It fails only if the peer has gone, which is as good.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}
