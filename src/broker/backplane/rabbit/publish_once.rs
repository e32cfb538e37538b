//! Publishes one message from the command line, without an engine.

use std::cell::RefCell;
use std::future;
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::Event;
use lapin::options::ConfirmSelectOptions;
use lapin::types::ShortString;
use tokio::select;

use crate::config::AmqpUrls;

use super::address::{Address, Addresses};
use super::fault::{Fault, is_missing};
use super::ids::Ids;
use super::link::connect;
use super::pending_publish::PendingPublish;
use super::publisher::{Unconfirmed, confirm};
use super::{message, wrong_peer};

/// Why a message was not published, in words for whoever typed the command. Holds no secret of the URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PublishError(String);

/// Publishes `body` as JSON to `topic`, as the latest of `key` if there is one, and waits for RabbitMQ's confirm,
/// `limit` at most for everything. Of several nodes the first that confirms it is the last one asked; what an
/// earlier one may have stored has the same `message-id`. Declares nothing. Blocks the calling thread, which must not be one of an event loop.
///
/// # Errors
/// What is wrong with a URL, what RabbitMQ refuses, that the exchange is missing, or that time is up.
pub fn publish_once(
    urls: &AmqpUrls,
    exchange: &str,
    topic: &str,
    key: Option<&str>,
    body: &[u8],
    limit: Duration,
) -> Result<(), PublishError> {
    let mut addresses = Addresses::parse(urls).map_err(|fault| PublishError(fault.text))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| PublishError(format!("no event loop: {error}")))?;
    let pending = PendingPublish {
        exchange: short(exchange, "the exchange's name")?,
        routing_key: short(topic, "the topic's name")?,
        body: body.to_vec(),
        properties: message::properties(Ids::new().next(), &[], key),
    };
    // One that does not answer must leave time for the others.
    let share = limit / u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    let mut faults = Vec::new();
    runtime.block_on(async {
        loop {
            let address = addresses.current();
            let alarm = RefCell::new(None);
            let late = |_| {
                let seconds = share.as_secs_f32();
                PublishError(match alarm.take() {
                    Some(reason) => format!(
                        "RabbitMQ at {address} has an alarm and takes no publishes ({reason}, connection.blocked); this one \
                         was not confirmed within {seconds} s, and may or may not arrive later"
                    ),
                    None => format!("RabbitMQ at {address} did not confirm within {seconds} s"),
                })
            };
            let published = tokio::time::timeout(share, publish(address, &pending, &alarm)).await;
            match published.map_err(late).flatten() {
                Ok(()) => return Ok(()),
                Err(PublishError(text)) => faults.push(text),
            }
            if addresses.failed() {
                return Err(PublishError(faults.join("; ")));
            }
        }
    })
}

fn short(name: &str, what: &str) -> Result<ShortString, PublishError> {
    ShortString::try_new(name).map_err(|_| PublishError(format!("{what} has more than 255 bytes")))
}

/// `alarm`: where RabbitMQ's word is put that it takes no publishes, which may pass.
async fn publish(
    address: &Address,
    pending: &PendingPublish,
    alarm: &RefCell<Option<String>>,
) -> Result<(), PublishError> {
    let connecting = connect(address, "fanfare: publishes once", false);
    let connection =
        wrong_peer::unless_http(address, connecting).await.map_err(|fault| PublishError(fault.text))?;
    let mut events = connection.events_listener();
    let listening = async {
        while let Some(event) = events.next().await {
            match event {
                Event::ConnectionBlocked(reason) => *alarm.borrow_mut() = Some(reason.to_string()),
                Event::ConnectionUnblocked => *alarm.borrow_mut() = None,
                _ => {}
            }
        }
        future::pending::<()>().await;
    };
    let fault =
        |error: lapin::Error| PublishError(Fault::other("no channel could be opened", &error, address).text);
    let channel = connection.create_channel().await.map_err(fault)?;
    channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(fault)?;
    let confirmed = select! {
        confirmed = confirm(&channel, pending) => confirmed,
        () = listening => unreachable!("it listens without an end"),
    };
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
