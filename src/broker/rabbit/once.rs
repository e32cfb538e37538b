//! One message from the command line, without an engine.

use std::time::Duration;

use lapin::options::ConfirmSelectOptions;
use tokio::sync::watch;

use crate::config::AmqpUrl;

use super::address::Address;
use super::fault::{Fault, is_missing};
use super::link::connect;
use super::message;
use super::publisher::{Letter, Unconfirmed, confirm};

/// Why a message was not published, in words for whoever typed the command. Holds no secret of the URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PublishError(String);

/// Publishes `body` as JSON to `topic` and waits for RabbitMQ's confirm, `limit` at most for everything.
/// Declares nothing. Blocks the calling thread, which must not be one of an event loop.
///
/// # Errors
/// What is wrong with the URL, what RabbitMQ refuses, that the exchange is missing, or that time is up.
pub fn publish_once(
    url: &str,
    exchange: &str,
    topic: &str,
    body: &[u8],
    limit: Duration,
) -> Result<(), PublishError> {
    let address = Address::parse(&AmqpUrl::from(url)).map_err(|fault| PublishError(fault.text))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| PublishError(format!("no event loop: {error}")))?;
    let late =
        |_| PublishError(format!("RabbitMQ at {address} did not confirm within {} s", limit.as_secs_f32()));
    runtime.block_on(async {
        tokio::time::timeout(limit, publish(&address, exchange, topic, body)).await.map_err(late)?
    })
}

async fn publish(address: &Address, exchange: &str, topic: &str, body: &[u8]) -> Result<(), PublishError> {
    let short = |name: &str, what| {
        lapin::types::ShortString::try_new(name)
            .map_err(|_| PublishError(format!("{what} has more than 255 bytes")))
    };
    let letter = Letter {
        exchange: short(exchange, "the exchange's name")?,
        routing_key: short(topic, "the topic's name")?,
        body: body.to_vec(),
        properties: message::properties(&[]),
    };
    let connection =
        connect(address, "fanfare: publishes once").await.map_err(|fault| PublishError(fault.text))?;
    let fault =
        |error: lapin::Error| PublishError(Fault::other("no channel could be opened", &error, address).text);
    let channel = connection.create_channel().await.map_err(fault)?;
    channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(fault)?;
    let unblocked = watch::Sender::new(false);
    let confirmed = confirm(channel, unblocked.subscribe(), letter).await;
    confirmed.map_err(|error| {
        let remedy = match &error {
            Unconfirmed::Failed(error) if is_missing(error) => {
                ". Engines declare their exchange when they start; is it the one that amqp.exchange names?"
            }
            _ => "",
        };
        PublishError(format!("RabbitMQ at {address} did not take the message: {error}{remedy}"))
    })
}
