//! Checks RabbitMQ before an engine starts: whether it accepts the user and password, whether existing
//! objects can be used, and what would be declared. It declares nothing new.

use std::time::Duration;

use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use tokio::time::timeout;

use crate::config::{AmqpUrl, Config, Source};

use super::address::Address;
use super::connect::connect;
use super::fault::{FaultKind, RabbitMqFault, SetupStep};
use super::reply::{is_forbidden, is_missing, is_missing_queue, reply_text};
use super::topology::Topology;
use super::wrong_peer;

/// For both connections and everything that is asked.
const LIMIT: Duration = Duration::from_secs(20);

/// What was found at one of RabbitMQ's nodes.
#[derive(Debug)]
pub struct Inspection {
    /// Its URL, as far as it can be shown.
    pub node: String,
    /// What is there and what an engine would declare, one sentence each; or why an engine could not use it.
    pub found: Result<Vec<String>, RabbitMqFault>,
}

/// Checks what a node's URL says, and that the file that it names can be read. Connects to nothing.
///
/// # Errors
/// Why an engine with this URL would not start.
pub fn check_url(url: &AmqpUrl) -> Result<(), RabbitMqFault> {
    Address::parse(url).map(drop)
}

/// Asks each node of `amqp.url`, one after the other. Opens two connections at a time, as an engine does, and closes
/// them. Blocks the calling thread, which must not be one of an event loop.
///
/// # Errors
/// If the thread cannot have an event loop.
pub fn inspect(config: &Config) -> std::io::Result<Vec<Inspection>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let look = |url: &AmqpUrl| {
        let found = runtime.block_on(async {
            let late = |_| Err(FaultKind::InspectionLate.into());
            timeout(LIMIT, look_at(url, config)).await.unwrap_or_else(late)
        });
        Inspection { node: url.public(), found }
    };
    Ok(config.amqp.url.iter().map(look).collect())
}

async fn look_at(url: &AmqpUrl, config: &Config) -> Result<Vec<String>, RabbitMqFault> {
    let amqp = &config.amqp;
    let address = &Address::parse(url)?;
    let consuming = wrong_peer::unless_http(address, connect(address, "fanfare: looks", false)).await?;
    let publishing = connect(address, "fanfare: looks", false).await?;
    let look = Look(Topology { connection: &consuming, amqp, address });
    let mut found = vec![look.exchange().await?, look.dead_letter_exchange().await?];
    found.push(look.dead_letter_queue().await?);
    found.push(match amqp.source {
        Source::Stream => look.stream().await?,
        Source::Queue if amqp.queue.is_empty() => {
            "a queue of the engine's own would be declared, and end with it".to_owned()
        }
        Source::Queue => look.named_queue().await?,
    });
    if config.uses_amqp_backend() {
        found.push(look.calls_exchange().await?);
    }
    found.push(NOT_TRIED.to_owned());
    for connection in [consuming, publishing] {
        // It is done with.
        let _ = connection.close(200, "seen".into()).await;
    }
    Ok(found)
}

/// What cannot be tried without changing something.
const NOT_TRIED: &str =
    "rights and limits were not tried for what would be declared, nor the right to publish";

/// Looks passively first, so that nothing is made. What is there is then declared as an engine does it, which changes
/// nothing, and shows what a passive look does not: another type, and what the user may not do.
struct Look<'a>(Topology<'a>);

impl Look<'_> {
    async fn exchange(&self) -> Result<String, RabbitMqFault> {
        let name = &self.0.amqp.exchange;
        if !self.has_exchange(name).await? {
            return Ok(format!("the topic exchange `{name}` would be declared"));
        }
        Ok(as_it_is(&format!("the exchange `{name}`"), self.0.exchange().await?.as_ref()))
    }

    async fn calls_exchange(&self) -> Result<String, RabbitMqFault> {
        let name = &self.0.amqp.calls_exchange();
        if !self.has_exchange(name).await? {
            return Ok(format!("the topic exchange `{name}` (calls to backends) would be declared"));
        }
        let refusal = self.0.calls_exchange().await?;
        Ok(as_it_is(&format!("the exchange `{name}` (calls to backends)"), refusal.as_ref()))
    }

    async fn dead_letter_exchange(&self) -> Result<String, RabbitMqFault> {
        let name = &self.0.amqp.dead_letter_exchange;
        if !self.has_exchange(name).await? {
            return Ok(format!("the fanout exchange `{name}` would be declared"));
        }
        Ok(match self.0.dead_letter_exchange().await? {
            Some(_) => format!("the exchange `{name}` is there"),
            None => format!(
                "the exchange `{name}` is there; the user may not configure it, or it is neither of type fanout nor \
                 topic: whether dead letters get from it into a queue is up to its bindings"
            ),
        })
    }

    async fn dead_letter_queue(&self) -> Result<String, RabbitMqFault> {
        let name = &self.0.amqp.dead_letter_queue;
        if !self.has_queue(name).await? {
            return Ok(format!("the queue for dead letters `{name}` would be declared"));
        }
        Ok(match self.0.dead_letter_queue().await? {
            Some(_) => format!("the queue for dead letters `{name}` is there"),
            None => format!("the queue for dead letters `{name}` is there, and cannot be reached now"),
        })
    }

    async fn stream(&self) -> Result<String, RabbitMqFault> {
        let name = &self.0.amqp.stream;
        if !self.has_queue(name).await? {
            return Ok(format!("the stream `{name}` would be declared"));
        }
        let refusal = self.0.declare_stream().await?;
        self.0.may_bind(name).await?;
        Ok(as_it_is(&format!("the stream `{name}`"), refusal.as_ref()))
    }

    async fn named_queue(&self) -> Result<String, RabbitMqFault> {
        self.0.named_queue().await.map(|source| format!("the queue `{}` is there", source.name))
    }

    async fn has_exchange(&self, name: &str) -> Result<bool, RabbitMqFault> {
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let (channel, kind) = (self.0.channel().await?, ExchangeKind::Topic);
        match channel.exchange_declare(name.into(), kind, options, FieldTable::default()).await {
            Ok(()) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(RabbitMqFault::step(SetupStep::FindExchange, error, self.0.address)),
        }
    }

    /// One that is away is there.
    async fn has_queue(&self, name: &str) -> Result<bool, RabbitMqFault> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let channel = self.0.channel().await?;
        match channel.queue_declare(name.into(), options, FieldTable::default()).await {
            Ok(_) => Ok(true),
            Err(error) if is_missing(&error) => Ok(!is_missing_queue(&error, name)),
            Err(error) => Err(RabbitMqFault::step(SetupStep::FindQueue, error, self.0.address)),
        }
    }
}

/// What is there, and why RabbitMQ refused to declare it, if it did.
fn as_it_is(what: &str, refusal: Option<&lapin::Error>) -> String {
    match refusal {
        None => format!("{what} is there"),
        Some(error) if is_forbidden(error) => {
            format!("{what} is there; the user may not configure it, and it is used as it is")
        }
        Some(error) => format!("{what} is there, and is used as it is ({})", reply_text(error)),
    }
}
