//! Declares what must exist before messages can come: exchanges, queues, bindings.
//!
//! RabbitMQ closes a channel on every refusal, so each declaration that may be refused has a channel of its
//! own.

use lapin::options::{
    BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, ExchangeKind};

use crate::config::{Amqp, Source};

use super::address::Address;
use super::fault::{Declaration, FaultKind, RabbitMqFault, SetupStep};
use super::overflow;
use super::reply::{is_away, is_forbidden, is_missing, is_missing_queue, is_refused, reply_text};

const PASSIVELY: ExchangeDeclareOptions = ExchangeDeclareOptions {
    passive: true,
    durable: false,
    auto_delete: false,
    internal: false,
    nowait: false,
};
const DURABLY: ExchangeDeclareOptions = ExchangeDeclareOptions { passive: false, durable: true, ..PASSIVELY };

/// Where messages come from.
pub(super) struct ConsumeSource {
    /// The queue or stream to consume.
    pub(super) name: ShortString,
    pub(super) kind: SourceKind,
    /// The queue that says what was dropped from it, if it is of this node's own.
    pub(super) notices: Option<ShortString>,
}

impl ConsumeSource {
    fn new(name: ShortString, kind: SourceKind) -> Self {
        Self { name, kind, notices: None }
    }
}

/// What is consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SourceKind {
    Stream,
    /// A classic queue by name, which others may delete and make anew.
    Classic,
    /// Another queue: of this node's own, or a quorum queue. How many consumers that has says nothing of it: those that
    /// wait for their turn (`x-single-active-consumer`) are not counted.
    Queue,
}

impl SourceKind {
    /// What a consumer has to be asked for with.
    pub(super) fn consumer_arguments(self) -> FieldTable {
        let mut arguments = FieldTable::default();
        if self == Self::Classic {
            // Else RabbitMQ 3 puts the consumer of a queue that is deleted on one of the same name that was made by
            // then, and says nothing. Quorum queues refuse the argument.
            arguments.insert("x-cancel-on-ha-failover".into(), AMQPValue::Boolean(true));
        }
        arguments
    }
}

/// Makes sure that everything is there, and returns what to consume.
pub(super) async fn prepare(
    connection: &Connection,
    channel: &Channel,
    amqp: &Amqp,
    address: &Address,
) -> Result<ConsumeSource, RabbitMqFault> {
    let topology = Topology { connection, amqp, address };
    topology.exchange().await?;
    topology.dead_letters().await?;
    match amqp.source {
        Source::Stream => Ok(ConsumeSource::new(topology.stream().await?, SourceKind::Stream)),
        Source::Queue if amqp.queue.is_empty() => topology.own_queue(channel).await,
        Source::Queue => topology.named_queue().await,
    }
}

/// Makes sure that what takes dead letters is there.
pub(super) async fn prepare_dead_letters(
    connection: &Connection,
    amqp: &Amqp,
    address: &Address,
) -> Result<(), RabbitMqFault> {
    Topology { connection, amqp, address }.dead_letters().await
}

/// What makes a queue a stream, and its limits.
fn stream_arguments(amqp: &Amqp) -> FieldTable {
    let mut arguments = FieldTable::default();
    let max_age = format!("{}s", amqp.stream_max_age.0.as_secs());
    let max_bytes = i64::try_from(amqp.stream_max_bytes).unwrap_or(i64::MAX);
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
    arguments.insert("x-max-age".into(), AMQPValue::LongString(max_age.into()));
    arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(max_bytes));
    if amqp.stream_replicas > 0 {
        let replicas = AMQPValue::LongInt(amqp.stream_replicas.into());
        arguments.insert("x-initial-cluster-size".into(), replicas);
    }
    arguments
}

/// The limits of the queue that keeps dead letters. It is a quorum queue, so that a cluster's node that is down does not
/// take it along.
fn dead_letter_arguments(amqp: &Amqp) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(amqp.dead_letter_max.into()));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("drop-head".into()));
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments
}

/// RabbitMQ's vhost, as an engine needs it.
pub(super) struct Topology<'a> {
    pub(super) connection: &'a Connection,
    pub(super) amqp: &'a Amqp,
    pub(super) address: &'a Address,
}

impl Topology<'_> {
    pub(super) async fn channel(&self) -> Result<Channel, RabbitMqFault> {
        let channel = self.connection.create_channel().await;
        channel.map_err(|error| self.failed(SetupStep::OpenChannel, error))
    }

    /// An exchange that is there is used as it is, except if its type makes our bindings mean something
    /// else: patterns are for topic exchanges only. With a named queue the bindings are the operator's. Returns why
    /// RabbitMQ refused to declare one that is used as it is.
    pub(super) async fn exchange(&self) -> Result<Option<lapin::Error>, RabbitMqFault> {
        let name = &self.amqp.exchange;
        let Err(error) = self.declare_exchange(name, ExchangeKind::Topic, DURABLY).await? else {
            return Ok(None);
        };
        if is_of_other_type(&error) && self.amqp.queue.is_empty() {
            let (node, exchange) = (self.node(), name.clone());
            return Err(FaultKind::ExchangeNotTopic { node, exchange, error }.into());
        }
        if !is_refused(&error) {
            return Err(self.no_exchange(name, error));
        }
        self.is_there(name, &error).await.map(|()| Some(error))
    }

    /// The exchange for calls to backends. One that is there is used as it is, except if its type makes the bindings of
    /// workers mean something else: then a worker for requests could answer a hook. Returns why RabbitMQ refused to declare
    /// one that is used as it is.
    pub(super) async fn calls_exchange(&self) -> Result<Option<lapin::Error>, RabbitMqFault> {
        let name = &self.amqp.calls_exchange();
        match self.declare_exchange(name, ExchangeKind::Topic, DURABLY).await? {
            Ok(()) => Ok(None),
            Err(error) if is_of_other_type(&error) => {
                let (node, exchange) = (self.node(), name.clone());
                Err(FaultKind::CallsExchangeNotTopic { node, exchange, error }.into())
            }
            Err(error) if is_refused(&error) => self.is_there(name, &error).await.map(|()| Some(error)),
            Err(error) => Err(self.no_exchange(name, error)),
        }
    }

    /// The exchange for what cannot be delivered, and the queue that keeps the latest of it. Every dead letter has to get
    /// from the one into the other, or into whatever else an operator has bound: what does not is counted.
    async fn dead_letters(&self) -> Result<(), RabbitMqFault> {
        let exchange = &self.amqp.dead_letter_exchange;
        let pattern = self.dead_letter_exchange().await?;
        let (Some(queue), Some(pattern)) = (self.dead_letter_queue().await?, pattern) else { return Ok(()) };
        let (queue, channel) = (ShortString::from(queue), self.channel().await?);
        let (from, options) = (ShortString::from(exchange.as_str()), QueueBindOptions::default());
        let bound =
            channel.queue_bind(queue.clone(), from, pattern.into(), options, FieldTable::default()).await;
        match bound {
            // The operator's choice, as with its queue.
            Err(error) if is_refused(&error) => {
                let (queue, reason) = (queue.as_str(), reply_text(&error));
                tracing::info!(exchange, queue, reason, "the dead-letter queue is bound as it is");
                Ok(())
            }
            bound => bound.map_err(|error| self.unbound(exchange, error)),
        }
    }

    /// Declares the exchange for dead letters, or finds one. Returns the pattern by which a queue gets everything from
    /// it; none if there is no such pattern, or if its type may not be asked for.
    pub(super) async fn dead_letter_exchange(&self) -> Result<Option<&'static str>, RabbitMqFault> {
        let exchange = &self.amqp.dead_letter_exchange;
        for (kind, pattern) in [(ExchangeKind::Fanout, ""), (ExchangeKind::Topic, "#")] {
            let Err(error) = self.declare_exchange(exchange, kind, DURABLY).await? else {
                return Ok(Some(pattern));
            };
            if is_forbidden(&error) {
                return self.is_there(exchange, &error).await.map(|()| None);
            }
            if !is_refused(&error) {
                return Err(self.no_exchange(exchange, error));
            }
            if !is_of_other_type(&error) {
                return Ok(Some(pattern));
            }
        }
        let queue = &self.amqp.dead_letter_queue;
        tracing::warn!(
            exchange,
            "the dead-letter exchange is there and is neither of type fanout nor topic: a dead letter gets to no queue \
             unless one is bound for its topic. Delete it, name another one in amqp.dead_letter_exchange, or bind \
             `{queue}` to it yourself; what gets nowhere is lost and counted (fanfare_dead_letters_unroutable_total)"
        );
        Ok(None)
    }

    /// Declares the queue for dead letters. None: there is none for now, and the operator's bindings have to do.
    pub(super) async fn dead_letter_queue(&self) -> Result<Option<&str>, RabbitMqFault> {
        let queue = &self.amqp.dead_letter_queue;
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let arguments = dead_letter_arguments(self.amqp);
        let declared = self.channel().await?.queue_declare(queue.as_str().into(), durable, arguments).await;
        match declared {
            Ok(_) => Ok(Some(queue.as_str())),
            // It is there with other limits, or one may only use it: the operator's choice.
            Err(error) if is_refused(&error) => {
                self.has_dead_letter_queue(queue, error).await.map(|()| Some(queue.as_str()))
            }
            // Clients need not wait for a node on which nothing is but what could not be delivered.
            Err(error) if is_away(&error) => {
                tracing::warn!(queue, reason = reply_text(&error), "no queue takes dead letters for now");
                Ok(None)
            }
            Err(error) => Err(self.no_queue(queue, error)),
        }
    }

    /// The stream, bound.
    async fn stream(&self) -> Result<ShortString, RabbitMqFault> {
        let name = &self.amqp.stream;
        match self.declare_stream().await? {
            None => {}
            // As the manual advises: whoever may not declare it need not.
            Some(error) if is_forbidden(&error) => {
                tracing::info!(stream = name, "the user may not configure the stream; it is used as it is");
            }
            Some(error) => {
                tracing::warn!(stream = name, difference = reply_text(&error), "the stream is used as it is");
            }
        }
        let channel = self.channel().await?;
        for pattern in self.amqp.bindings.patterns() {
            self.bind(&channel, name, &self.amqp.exchange, pattern).await?;
        }
        Ok(name.as_str().into())
    }

    /// Declares the stream. One that is there is used as it is, with other limits than ours, or without the right to
    /// declare it; then, returns why RabbitMQ refused.
    pub(super) async fn declare_stream(&self) -> Result<Option<lapin::Error>, RabbitMqFault> {
        let name = &self.amqp.stream;
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let arguments = stream_arguments(self.amqp);
        let declared = self.channel().await?.queue_declare(name.as_str().into(), durable, arguments).await;
        match declared {
            Ok(_) => Ok(None),
            Err(error) if is_refused(&error) => self.is_stream(name, &error).await.map(|()| Some(error)),
            Err(error) => Err(self.no_queue(name, error)),
        }
    }

    /// Asks a queue for what only a stream can give, before anything is bound to it. What it does not have by
    /// the name of its type, RabbitMQ tells after other differences, if at all.
    async fn is_stream(&self, name: &str, refusal: &lapin::Error) -> Result<(), RabbitMqFault> {
        let channel = self.channel().await?;
        let fault = |error: lapin::Error| {
            if is_missing_queue(&error, name) {
                return self.undeclared(Declaration::Stream(name.to_owned()), refusal.clone());
            }
            // RabbitMQ has no reply code of its own for an argument that a queue of this type does not take.
            if !reply_text(&error).contains("x-stream-offset") {
                return self.no_queue(name, error);
            }
            FaultKind::QueueNotStream { node: self.node(), queue: name.to_owned(), error }.into()
        };
        channel.basic_qos(1, BasicQosOptions::default()).await.map_err(fault)?;
        self.consume_as_stream(&channel, name).await.map_err(fault)?;
        // What fails here fails again at the next step.
        let _ = channel.close(200, "seen".into()).await;
        Ok(())
    }

    /// A queue that ends with the connection, and another one for what it drops.
    async fn own_queue(&self, channel: &Channel) -> Result<ConsumeSource, RabbitMqFault> {
        let fault = |error| self.failed(SetupStep::UseOwnQueue, error);
        let notices = overflow::declare_notices(channel).await.map_err(fault)?;
        // Not auto-delete: a consumer may end for another one to begin.
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let limits = overflow::limits(self.amqp.queue_max_messages, &notices);
        let name = channel.queue_declare("".into(), options, limits).await.map_err(fault)?.name().clone();
        for pattern in self.amqp.bindings.patterns() {
            self.bind(channel, name.as_str(), &self.amqp.exchange, pattern).await?;
        }
        Ok(ConsumeSource { name, kind: SourceKind::Queue, notices: Some(notices) })
    }

    /// The queue that an operator declared and bound.
    pub(super) async fn named_queue(&self) -> Result<ConsumeSource, RabbitMqFault> {
        let name = &self.amqp.queue;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let channel = self.channel().await?;
        match channel.queue_declare(name.as_str().into(), options, FieldTable::default()).await {
            Ok(queue) => Ok(ConsumeSource::new(queue.name().clone(), self.kind_unless_stream(name).await?)),
            Err(error) if is_missing_queue(&error, name) => {
                let (queue, exchange) = (name.clone(), self.amqp.exchange.clone());
                Err(FaultKind::QueueMissing { node: self.node(), queue, exchange }.into())
            }
            Err(error) => Err(self.no_queue(name, error)),
        }
    }

    /// Asks a queue for what only a stream can give: as a queue, a stream gives what comes from now on, and nothing of
    /// what was sent while the engine was down.
    async fn kind_unless_stream(&self, name: &str) -> Result<SourceKind, RabbitMqFault> {
        let channel = self.channel().await?;
        // What is refused here for another reason is refused at the next step, too.
        if channel.basic_qos(1, BasicQosOptions::default()).await.is_err() {
            return Ok(SourceKind::Queue);
        }
        match self.consume_as_stream(&channel, name).await {
            Ok(()) => {}
            Err(error) if is_forbidden(&error) => {
                return Err(self.failed(SetupStep::Consume { queue: name.to_owned() }, error));
            }
            Err(error) => {
                let is_classic = reply_text(&error).contains("of queue type rabbit_classic_queue");
                return Ok(if is_classic { SourceKind::Classic } else { SourceKind::Queue });
            }
        }
        Err(FaultKind::QueueIsStream { node: self.node(), queue: name.to_owned() }.into())
    }

    async fn consume_as_stream(&self, channel: &Channel, name: &str) -> Result<(), lapin::Error> {
        let mut arguments = FieldTable::default();
        arguments.insert("x-stream-offset".into(), AMQPValue::LongString("next".into()));
        let options = BasicConsumeOptions::default();
        channel.basic_consume(name.into(), "".into(), options, arguments).await.map(drop)
    }

    /// Whether the queue for dead letters is there although RabbitMQ refused to declare it. What else may be wrong with it
    /// shows when it is used.
    async fn has_dead_letter_queue(&self, name: &str, refusal: lapin::Error) -> Result<(), RabbitMqFault> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let channel = self.channel().await?;
        match channel.queue_declare(name.into(), options, FieldTable::default()).await {
            Err(error) if is_missing_queue(&error, name) => {
                Err(self.undeclared(Declaration::DeadLetterQueue(name.to_owned()), refusal))
            }
            _ => Ok(()),
        }
    }

    /// Whether the queue may be bound to the exchange: a binding that nobody has is taken away, for which RabbitMQ asks
    /// for the same rights.
    pub(super) async fn may_bind(&self, queue: &str) -> Result<(), RabbitMqFault> {
        let exchange = self.amqp.exchange.as_str();
        let (channel, nobodys) =
            (self.channel().await?, format!("fanfare-check-{:016x}", rand::random::<u64>()));
        let unbound =
            channel.queue_unbind(queue.into(), exchange.into(), nobodys.into(), FieldTable::default()).await;
        match unbound {
            Err(error) if is_forbidden(&error) => Err(self.unbound(exchange, error)),
            // There is none: it would be allowed.
            _ => Ok(()),
        }
    }

    async fn declare_exchange(
        &self,
        name: &str,
        kind: ExchangeKind,
        options: ExchangeDeclareOptions,
    ) -> Result<Result<(), lapin::Error>, RabbitMqFault> {
        let channel = self.channel().await?;
        Ok(channel.exchange_declare(name.into(), kind, options, FieldTable::default()).await)
    }

    /// Whether an exchange is there although RabbitMQ refused to declare it.
    async fn is_there(&self, name: &str, refusal: &lapin::Error) -> Result<(), RabbitMqFault> {
        let asked = self.declare_exchange(name, ExchangeKind::Topic, PASSIVELY).await?;
        asked.map_err(|error| {
            if is_missing(&error) {
                self.undeclared(Declaration::Exchange(name.to_owned()), refusal.clone())
            } else {
                self.no_exchange(name, error)
            }
        })
    }

    async fn bind(
        &self,
        channel: &Channel,
        queue: &str,
        exchange: &str,
        pattern: &str,
    ) -> Result<(), RabbitMqFault> {
        let options = QueueBindOptions::default();
        let (queue, exchange) = (ShortString::from(queue), ShortString::from(exchange));
        let bound =
            channel.queue_bind(queue, exchange.clone(), pattern.into(), options, FieldTable::default()).await;
        bound.map_err(|error| self.unbound(exchange.as_str(), error))
    }

    fn unbound(&self, exchange: &str, error: lapin::Error) -> RabbitMqFault {
        self.failed(SetupStep::Bind(exchange.to_owned()), error)
    }

    fn no_exchange(&self, name: &str, error: lapin::Error) -> RabbitMqFault {
        self.failed(SetupStep::UseExchange(name.to_owned()), error)
    }

    fn no_queue(&self, name: &str, error: lapin::Error) -> RabbitMqFault {
        self.failed(SetupStep::UseQueue(name.to_owned()), error)
    }

    fn failed(&self, step: SetupStep, error: lapin::Error) -> RabbitMqFault {
        RabbitMqFault::step(step, error, self.address)
    }

    fn undeclared(&self, declaration: Declaration, refusal: lapin::Error) -> RabbitMqFault {
        FaultKind::Undeclared { node: self.node(), declaration, refusal }.into()
    }

    fn node(&self) -> String {
        self.address.to_string()
    }
}

/// Whether an exchange is there and has another type. RabbitMQ has one reply code for all differences, and compares the
/// type first.
fn is_of_other_type(refusal: &lapin::Error) -> bool {
    reply_text(refusal).contains("inequivalent arg 'type'")
}
