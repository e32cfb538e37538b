//! Request and reply over RabbitMQ without an engine: a worker, and a client that asks it.

use std::io::Result;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ExchangeKind};
use tokio::runtime::{Builder, Runtime};

use crate::common::amqp::broken;

const EXCHANGE: &str = "fanfare.rpc";
const REPLIES: &str = "amq.rabbitmq.reply-to";

/// Answers every request with its data, on a thread of its own. It ends with RabbitMQ.
pub(crate) fn start_worker(url: &str) -> Result<JoinHandle<()>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (channel, mut requests, connection) = runtime.block_on(prepare(url)).map_err(broken)?;
    Ok(std::thread::spawn(move || {
        runtime.block_on(async {
            while let Some(Ok(request)) = requests.next().await {
                let (Some(to), Some(id)) =
                    (request.properties.reply_to().clone(), request.properties.correlation_id().clone())
                else {
                    continue;
                };
                let body = [br#"{"result":{"data":"#, &*request.data, b"}}"].concat();
                let properties = BasicProperties::default().with_correlation_id(id);
                if send(&channel, "", to, &body, properties).await.is_err() {
                    return;
                }
            }
        });
        drop(connection);
    }))
}

async fn prepare(url: &str) -> lapin::Result<(Channel, Consumer, Connection)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let none = FieldTable::default;
    channel.exchange_declare(EXCHANGE.into(), ExchangeKind::Topic, durable, none()).await?;
    let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare("".into(), exclusive, none()).await?.name().clone();
    let options = QueueBindOptions::default();
    channel.queue_bind(queue.clone(), EXCHANGE.into(), "rpc.#".into(), options, none()).await?;
    let requests = consume(&channel, queue).await?;
    Ok((channel, requests, connection))
}

async fn consume(channel: &Channel, queue: ShortString) -> lapin::Result<Consumer> {
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    channel.basic_consume(queue, "".into(), options, FieldTable::default()).await
}

async fn send(
    channel: &Channel,
    exchange: &str,
    key: ShortString,
    body: &[u8],
    properties: BasicProperties,
) -> lapin::Result<()> {
    let options = BasicPublishOptions::default();
    channel.basic_publish(exchange.into(), key, options, body, properties).await.map(drop)
}

/// Asks by direct reply-to.
pub(crate) struct Asker {
    runtime: Runtime,
    channel: Channel,
    replies: Consumer,
    _connection: Connection,
}

impl Asker {
    pub(crate) fn connect(url: &str) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let connected = async {
            let connection = Connection::connect(url, ConnectionProperties::default()).await?;
            let channel = connection.create_channel().await?;
            let replies = consume(&channel, REPLIES.into()).await?;
            Ok((connection, channel, replies))
        };
        let (connection, channel, replies) = runtime.block_on(connected).map_err(broken)?;
        Ok(Self { runtime, channel, replies, _connection: connection })
    }

    /// How long each of so many requests takes, one after the other.
    pub(crate) fn one_by_one(&mut self, count: usize, body: &[u8]) -> Result<Vec<Duration>> {
        let Self { runtime, channel, replies, .. } = self;
        let asked = async {
            let mut times = Vec::with_capacity(count);
            for number in 0..count {
                let began = Instant::now();
                send(channel, EXCHANGE, "rpc.bare".into(), body, request(number)).await?;
                replies.next().await.expect("the worker answers")?;
                times.push(began.elapsed());
            }
            Ok(times)
        };
        runtime.block_on(asked).map_err(broken)
    }

    /// How long so many requests take that are all sent before the first answer is taken.
    pub(crate) fn all_at_once(&mut self, count: usize, body: &[u8]) -> Result<Duration> {
        let Self { runtime, channel, replies, .. } = self;
        let asked = async {
            let began = Instant::now();
            for number in 0..count {
                send(channel, EXCHANGE, "rpc.bare".into(), body, request(number)).await?;
            }
            for _ in 0..count {
                replies.next().await.expect("the worker answers")?;
            }
            Ok(began.elapsed())
        };
        runtime.block_on(asked).map_err(broken)
    }
}

fn request(number: usize) -> BasicProperties {
    BasicProperties::default().with_reply_to(REPLIES.into()).with_correlation_id(number.to_string().into())
}
