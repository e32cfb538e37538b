//! Somebody else's AMQP connection.

use lapin::message::BasicGetMessage;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
    ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use tokio::runtime::Runtime;

use super::wait::{SOON, wait_for};

/// Publishes and waits for confirms; declares and deletes.
#[derive(Debug)]
pub struct Publisher {
    runtime: Runtime,
    _connection: Connection,
    channel: Channel,
}

impl Publisher {
    /// Connects.
    ///
    /// # Panics
    /// If RabbitMQ refuses, as everything else here.
    pub fn connect(url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("an event loop");
        let (connection, channel) = runtime.block_on(async {
            let connection =
                Connection::connect(url, ConnectionProperties::default()).await.expect("RabbitMQ");
            let channel = connection.create_channel().await.expect("a channel");
            channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
            (connection, channel)
        });
        Self { runtime, _connection: connection, channel }
    }

    /// Connects to a node that has just started, once it routes to this durable queue or stream: before, it
    /// confirms what is published, and drops it.
    pub fn connect_when_there(url: &str, queue: &str) -> Self {
        wait_for(SOON, "RabbitMQ to route to its queues", || {
            let publisher = Self::connect(url);
            let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let asked = publisher.channel.queue_declare(queue.into(), options, FieldTable::default());
            let is_there = publisher.runtime.block_on(asked).is_ok();
            is_there.then_some(publisher)
        })
    }

    /// Publishes to the exchange `fanfare` and waits for the confirm.
    pub fn publish(&self, topic: &str, body: &[u8], properties: BasicProperties) {
        self.publish_to("fanfare", topic, body, properties);
    }

    /// Publishes many to one topic, then waits for the confirms.
    pub fn publish_all(&self, topic: &str, messages: impl IntoIterator<Item = (String, BasicProperties)>) {
        self.runtime.block_on(async {
            let mut confirms = Vec::new();
            for (body, properties) in messages {
                let options = BasicPublishOptions::default();
                let published = self.channel.basic_publish(
                    "fanfare".into(),
                    topic.into(),
                    options,
                    body.as_bytes(),
                    properties,
                );
                confirms.push(published.await.expect("published"));
            }
            for confirm in confirms {
                assert!(confirm.await.expect("a confirm").is_ack());
            }
        });
    }

    /// The same to another exchange; `""` is the default one, which routes to the queue of that name.
    pub fn publish_to(&self, exchange: &str, key: &str, body: &[u8], properties: BasicProperties) {
        let options = BasicPublishOptions::default();
        let confirmed = self.runtime.block_on(async {
            let published =
                self.channel.basic_publish(exchange.into(), key.into(), options, body, properties);
            published.await?.await
        });
        assert!(confirmed.expect("published").is_ack());
    }

    /// Declares the exchange `fanfare`.
    pub fn declare_exchange(&self, kind: ExchangeKind, options: ExchangeDeclareOptions) {
        self.declare_exchange_named("fanfare", kind, options);
    }

    /// The same with another name.
    pub fn declare_exchange_named(&self, name: &str, kind: ExchangeKind, options: ExchangeDeclareOptions) {
        let declared = self.channel.exchange_declare(name.into(), kind, options, FieldTable::default());
        self.runtime.block_on(declared).expect("declared");
    }

    /// Declares a durable queue and binds it to the exchange `fanfare`.
    pub fn declare_queue(&self, name: &str) {
        self.declare_queue_with(name, &[]);
    }

    /// The same with arguments.
    pub fn declare_queue_with(&self, name: &str, arguments: &[(&str, AMQPValue)]) {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let declared = self.channel.queue_declare(name.into(), options, table(arguments));
        self.runtime.block_on(declared).expect("declared");
        self.bind_queue(name, "fanfare", "#");
    }

    /// Binds a queue to an exchange.
    pub fn bind_queue(&self, name: &str, exchange: &str, key: &str) {
        let options = QueueBindOptions::default();
        let bound =
            self.channel.queue_bind(name.into(), exchange.into(), key.into(), options, FieldTable::default());
        self.runtime.block_on(bound).expect("bound");
    }

    /// Takes back what [`Self::declare_queue`] bound.
    pub fn unbind_queue(&self, name: &str) {
        let unbound =
            self.channel.queue_unbind(name.into(), "fanfare".into(), "#".into(), FieldTable::default());
        self.runtime.block_on(unbound).expect("unbound");
    }

    /// Deletes an exchange.
    pub fn delete_exchange(&self, name: &str) {
        let deleted = self.channel.exchange_delete(name.into(), ExchangeDeleteOptions::default());
        self.runtime.block_on(deleted).expect("deleted");
    }

    /// Deletes a queue or stream with all that is in it.
    pub fn delete_queue(&self, name: &str) {
        let deleted = self.channel.queue_delete(name.into(), QueueDeleteOptions::default());
        self.runtime.block_on(deleted).expect("deleted");
    }

    /// Deletes what is in a queue.
    pub fn purge(&self, name: &str) {
        let purged = self.channel.queue_purge(name.into(), QueuePurgeOptions::default());
        self.runtime.block_on(purged).expect("purged");
    }

    /// How many messages of a queue have not been sent to a consumer.
    pub fn ready(&self, name: &str) -> u32 {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let asked = self.channel.queue_declare(name.into(), options, FieldTable::default());
        self.runtime.block_on(asked).expect("it is there").message_count()
    }

    fn next_if_any(&self, queue: &str) -> Option<BasicGetMessage> {
        let options = BasicGetOptions { no_ack: true };
        self.runtime.block_on(self.channel.basic_get(queue.into(), options)).expect("got")
    }

    fn dead_letter_if_any(&self) -> Option<BasicGetMessage> {
        self.next_if_any("fanfare.dead")
    }

    /// The next message of a queue.
    pub fn next(&self, queue: &str) -> BasicGetMessage {
        wait_for(SOON, "a message", || self.next_if_any(queue))
    }

    /// Whether there is no dead letter. One that is there is gone.
    pub fn has_no_dead_letter(&self) -> bool {
        self.dead_letter_if_any().is_none()
    }

    /// Body and stream offset of each dead letter that comes until `is_enough` says so.
    pub fn dead_letters_until(
        &self,
        mut is_enough: impl FnMut(&[(String, u64)]) -> bool,
    ) -> Vec<(String, u64)> {
        let mut letters = Vec::new();
        while !is_enough(&letters) {
            let letter = self.whole_dead_letter().delivery;
            let headers = letter.properties.headers().clone().expect("headers");
            let Some(&AMQPValue::LongLongInt(offset)) = headers.inner().get("x-fanfare-stream-offset") else {
                panic!("no offset: {headers:?}");
            };
            let offset = offset.try_into().expect("an offset");
            letters.push((String::from_utf8(letter.data).expect("text"), offset));
        }
        letters
    }

    /// The next dead letter, with all that it has.
    pub fn whole_dead_letter(&self) -> BasicGetMessage {
        wait_for(SOON, "a dead letter", || self.dead_letter_if_any())
    }

    /// The next dead letter: its body, its reason and its topics.
    pub fn dead_letter(&self) -> (Vec<u8>, String, String) {
        let letter = self.whole_dead_letter();
        let headers = letter.delivery.properties.headers().clone().expect("headers");
        let text = |name| match headers.inner().get(name) {
            Some(AMQPValue::LongString(text)) => text.to_string(),
            other => panic!("{name}: {other:?}"),
        };
        (letter.delivery.data.clone(), text("x-fanfare-reason"), text("x-fanfare-topic"))
    }
}

/// Properties with these headers.
pub fn headers(pairs: &[(&str, AMQPValue)]) -> BasicProperties {
    BasicProperties::default().with_headers(table(pairs))
}

fn table(pairs: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in pairs {
        table.insert((*name).into(), value.clone());
    }
    table
}

/// A list of texts, as a header.
pub fn list(texts: &[&str]) -> AMQPValue {
    let texts: Vec<_> = texts.iter().map(|&text| AMQPValue::LongString(text.into())).collect();
    AMQPValue::FieldArray(texts.into())
}

/// How exchanges of ours are declared.
pub const DURABLE: ExchangeDeclareOptions = ExchangeDeclareOptions {
    passive: false,
    durable: true,
    auto_delete: false,
    internal: false,
    nowait: false,
};
