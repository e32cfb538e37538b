//! A look at RabbitMQ before an engine starts there: whether it lets us in, and what would be declared. Nothing is.

use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ExchangeKind};
use tokio::time::timeout;

use crate::config::{Amqp, AmqpUrl, Config, Source};

use super::address::Address;
use super::fault::{Fault, is_missing, is_missing_queue};
use super::link::connect;
use super::stranger;

/// For both connections and everything that is asked.
const LIMIT: Duration = Duration::from_secs(20);

/// What was found at one of RabbitMQ's nodes.
#[derive(Debug)]
pub struct Inspection {
    /// Its URL, as far as it can be shown.
    pub node: String,
    /// What is there and what an engine would declare, one sentence each; or why an engine could not use it.
    pub found: Result<Vec<String>, String>,
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
            let late = |_| Err(Fault::passing("it does not answer in time".to_owned()));
            timeout(LIMIT, look_at(url, &config.amqp)).await.unwrap_or_else(late)
        });
        Inspection { node: url.public(), found: found.map_err(|fault| fault.text) }
    };
    Ok(config.amqp.url.iter().map(look).collect())
}

async fn look_at(url: &AmqpUrl, amqp: &Amqp) -> Result<Vec<String>, Fault> {
    let address = &Address::parse(url)?;
    let consuming = stranger::unless_http(address, connect(address, "fanfare: looks", false)).await?;
    let publishing = connect(address, "fanfare: looks", false).await?;
    let look = Look { connection: &consuming, address };
    let mut found = vec![
        look.exchange(&amqp.exchange, "topic").await?,
        look.exchange(&amqp.dead_letter_exchange, "fanout").await?,
        look.queue(&amqp.dead_letter_queue, "the queue for dead letters").await?,
    ];
    match amqp.source {
        Source::Stream => found.push(look.queue(&amqp.stream, "the stream").await?),
        Source::Queue if amqp.queue.is_empty() => {
            found.push("a queue of the engine's own would be declared, and end with it".to_owned());
        }
        Source::Queue if look.has_queue(&amqp.queue).await? => {
            found.push(format!("the queue `{}` is there", amqp.queue));
        }
        Source::Queue => {
            return Err(Fault::lasting(format!(
                "the queue `{}` (amqp.queue) is not there, and is not the engine's to declare: create it and bind it to \
                 the exchange `{}`",
                amqp.queue, amqp.exchange
            )));
        }
    }
    for connection in [consuming, publishing] {
        // It is done with.
        let _ = connection.close(200, "seen".into()).await;
    }
    Ok(found)
}

struct Look<'a> {
    connection: &'a Connection,
    address: &'a Address,
}

impl Look<'_> {
    async fn exchange(&self, name: &str, kind: &str) -> Result<String, Fault> {
        let fault = |error: lapin::Error| Fault::other("no channel could be opened", &error, self.address);
        let channel = self.connection.create_channel().await.map_err(fault)?;
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        match channel.exchange_declare(name.into(), ExchangeKind::Topic, options, FieldTable::default()).await
        {
            Ok(()) => Ok(format!("the exchange `{name}` is there")),
            Err(error) if is_missing(&error) => Ok(format!("the {kind} exchange `{name}` would be declared")),
            Err(error) => Err(Fault::other("an exchange cannot be asked for", &error, self.address)),
        }
    }

    async fn queue(&self, name: &str, what: &str) -> Result<String, Fault> {
        let is_there = self.has_queue(name).await?;
        Ok(format!("{what} `{name}` {}", if is_there { "is there" } else { "would be declared" }))
    }

    /// One that is away is there.
    async fn has_queue(&self, name: &str) -> Result<bool, Fault> {
        let fault = |error: lapin::Error| Fault::other("no channel could be opened", &error, self.address);
        let channel = self.connection.create_channel().await.map_err(fault)?;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        match channel.queue_declare(name.into(), options, FieldTable::default()).await {
            Ok(_) => Ok(true),
            Err(error) if is_missing(&error) => Ok(!is_missing_queue(&error, name)),
            Err(error) => Err(Fault::other("a queue cannot be asked for", &error, self.address)),
        }
    }
}
