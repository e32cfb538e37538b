//! RabbitMQ from the outside: a publisher, and consumers as bare as lapin allows.

use std::io::{Error, Result};

use futures_util::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ExchangeKind};
use tokio::runtime::{Builder, Runtime};

/// The engine's default, `amqp.prefetch`.
const PREFETCH: u16 = 4096;
/// The exchange that the engine consumes from by default.
const EXCHANGE: &str = "fanfare";
/// Messages that are acknowledged together.
const ACKNOWLEDGED_TOGETHER: u64 = 64;
/// Publishes on the way at the same time.
const UNCONFIRMED_MAX: usize = 1000;

/// A connection with one channel.
pub(crate) struct Amqp {
    runtime: Runtime,
    channel: Channel,
    _connection: Connection,
}

impl Amqp {
    /// Connects; a thread of its own keeps the connection going.
    pub(crate) fn connect(url: &str) -> Result<Self> {
        Self::on(Builder::new_multi_thread().worker_threads(1).enable_all().build()?, url)
    }

    fn on(runtime: Runtime, url: &str) -> Result<Self> {
        let (connection, channel) = runtime
            .block_on(async {
                let connection = Connection::connect(url, ConnectionProperties::default()).await?;
                let channel = connection.create_channel().await?;
                channel.confirm_select(ConfirmSelectOptions::default()).await?;
                Ok((connection, channel))
            })
            .map_err(broken)?;
        Ok(Self { runtime, channel, _connection: connection })
    }

    /// Publishes to the engine's exchange and does not wait for the confirm.
    pub(crate) fn publish(&self, topic: &str, body: &str) -> Result<()> {
        let options = BasicPublishOptions::default();
        let (exchange, key, body) = (EXCHANGE.into(), topic.into(), body.as_bytes());
        let sent = self.channel.basic_publish(exchange, key, options, body, BasicProperties::default());
        self.runtime.block_on(sent).map(drop).map_err(broken)
    }

    /// Publishes the same to many topics, and returns when RabbitMQ has all of it.
    pub(crate) fn publish_all(&self, topics: impl Iterator<Item = String>, body: &str) -> Result<()> {
        let send = |topic: String| {
            let options = BasicPublishOptions::default();
            let (exchange, body) = (EXCHANGE.into(), body.as_bytes());
            self.channel.basic_publish(exchange, topic.into(), options, body, BasicProperties::default())
        };
        self.runtime
            .block_on(async {
                let mut unconfirmed = futures_util::stream::iter(topics)
                    .map(|topic| async { send(topic).await?.await })
                    .buffer_unordered(UNCONFIRMED_MAX);
                while let Some(confirmed) = unconfirmed.next().await {
                    confirmed?;
                }
                Ok(())
            })
            .map_err(broken)
    }

    /// Declares the engine's exchange, and a durable queue, empty, which gets everything published there.
    pub(crate) fn declare_queue(&self, queue: &str) -> Result<()> {
        self.runtime
            .block_on(async {
                let exchange = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
                let (name, none) = (EXCHANGE.into(), FieldTable::default());
                self.channel.exchange_declare(name, ExchangeKind::Topic, exchange, none).await?;
                let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
                self.channel.queue_declare(queue.into(), durable, FieldTable::default()).await?;
                self.channel.queue_purge(queue.into(), QueuePurgeOptions::default()).await?;
                self.bind(queue.into()).await
            })
            .map_err(broken)
    }

    /// An empty queue that goes with the connection, bound to everything.
    async fn own_queue(&self) -> lapin::Result<ShortString> {
        let own = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let declared = self.channel.queue_declare("".into(), own, FieldTable::default()).await?;
        self.bind(declared.name().clone()).await?;
        Ok(declared.name().clone())
    }

    async fn bind(&self, queue: ShortString) -> lapin::Result<()> {
        let options = QueueBindOptions::default();
        self.channel.queue_bind(queue, EXCHANGE.into(), "#".into(), options, FieldTable::default()).await
    }
}

/// What a bare consumer reads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'a> {
    /// A queue of its own, which gets everything published to the engine's exchange.
    OwnQueue,
    /// A queue that is there.
    Queue(&'a str),
    /// A stream that is there, from its end on.
    Stream(&'a str),
    /// The same from its beginning on.
    WholeStream(&'a str),
}

/// A consumer that does nothing but what it is told, on the calling thread's event loop.
pub(crate) struct Bare {
    amqp: Amqp,
    consumer: Consumer,
}

impl Bare {
    /// Consumes with the engine's prefetch.
    pub(crate) fn consume(url: &str, source: Source<'_>) -> Result<Self> {
        let amqp = Amqp::on(Builder::new_current_thread().enable_all().build()?, url)?;
        let consumer = amqp
            .runtime
            .block_on(async {
                let mut arguments = FieldTable::default();
                let mut begin_at = |offset: &str| {
                    arguments.insert("x-stream-offset".into(), AMQPValue::LongString(offset.into()));
                };
                let name = match source {
                    Source::OwnQueue => amqp.own_queue().await?,
                    Source::Queue(name) => name.into(),
                    Source::Stream(name) => {
                        begin_at("next");
                        name.into()
                    }
                    Source::WholeStream(name) => {
                        begin_at("first");
                        name.into()
                    }
                };
                amqp.channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
                let options = BasicConsumeOptions::default();
                amqp.channel.basic_consume(name, "".into(), options, arguments).await
            })
            .map_err(broken)?;
        Ok(Self { amqp, consumer })
    }

    /// Hands so many messages to `take`, each with its topic and body, and acknowledges some at a time. The markers that
    /// engines write to a stream, past the exchange, are none of them.
    pub(crate) fn messages(&mut self, count: u64, mut take: impl FnMut(&str, &[u8])) -> Result<()> {
        let Self { amqp, consumer } = self;
        amqp.runtime
            .block_on(async {
                let mut number = 0;
                while number < count {
                    let Some(delivery) = consumer.next().await else { return Ok(()) };
                    let delivery = delivery?;
                    if delivery.exchange.as_str() != EXCHANGE {
                        continue;
                    }
                    number += 1;
                    take(delivery.routing_key.as_str(), &delivery.data);
                    if number % ACKNOWLEDGED_TOGETHER == 0 || number == count {
                        let acknowledged = BasicAckOptions { multiple: true };
                        amqp.channel.basic_ack(delivery.delivery_tag, acknowledged).await?;
                    }
                }
                Ok(())
            })
            .map_err(broken)
    }
}

pub(crate) fn broken(error: lapin::Error) -> Error {
    Error::other(format!("RabbitMQ: {error}"))
}
