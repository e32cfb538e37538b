//! Publishes one message from the command line, without an engine.

use std::cell::RefCell;
use std::time::Duration;
use std::{future, io};

use futures_util::StreamExt as _;
use lapin::Event;
use lapin::options::ConfirmSelectOptions;
use lapin::types::ShortString;
use tokio::select;

use crate::base::clock::UnixTime;
use crate::config::AmqpUrls;

use super::address::{Address, Addresses};
use super::connect::connect;
use super::fault::{RabbitMqFault, SetupStep};
use super::ids::Ids;
use super::message::Said;
use super::pending_publish::PendingPublish;
use super::publisher::confirm;
use super::reply::{is_missing, reply_text};
use super::unconfirmed::Unconfirmed;
use super::{message, wrong_peer};

/// Why a message was not published. Holds no secret of the URL.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A URL is wrong, or RabbitMQ cannot be reached, or it refuses the connection.
    #[error(transparent)]
    RabbitMq(#[from] RabbitMqFault),
    /// The process gets no event loop.
    #[error("no event loop: {0}")]
    EventLoop(io::Error),
    /// The exchange's name is too long for AMQP.
    #[error("the exchange's name has more than 255 bytes")]
    ExchangeTooLong,
    /// The topic's name is too long for AMQP.
    #[error("the topic's name has more than 255 bytes")]
    TopicTooLong,
    /// RabbitMQ did not confirm in time. The message may have arrived, or may do so later.
    #[error("{}", late(.rabbitmq, .within, .alarm.as_deref()))]
    Late {
        /// The node.
        rabbitmq: String,
        /// How long it had.
        within: Duration,
        /// Why it takes no publishes, if it said so.
        alarm: Option<String>,
    },
    /// RabbitMQ refused the message or could not store it.
    #[error("RabbitMQ at {rabbitmq} did not take the message: {reason}")]
    NotTaken {
        /// The node.
        rabbitmq: String,
        /// Why.
        reason: NotTaken,
    },
    /// None of several nodes confirmed it.
    #[error("{}", joined(.0))]
    Everywhere(Vec<Self>),
}

/// Why RabbitMQ did not take a message. `said` is its own text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// The exchange is missing.
    #[error(
        "{said}. Engines declare their exchange when they start; is it the one that amqp.exchange names?"
    )]
    NoExchange {
        /// What it said.
        said: String,
    },
    /// It could not store the message.
    #[error("RabbitMQ could not store it")]
    NotStored,
    /// It closed the channel or the connection, or the connection broke.
    #[error("{said}")]
    Failed {
        /// What it said, or what the operating system said of the connection.
        said: String,
    },
}

impl From<Unconfirmed> for NotTaken {
    fn from(reason: Unconfirmed) -> Self {
        match reason {
            Unconfirmed::NotStored => Self::NotStored,
            Unconfirmed::Failed(error) if is_missing(&error) => Self::NoExchange { said: reply_text(&error) },
            other => Self::Failed { said: other.to_string() },
        }
    }
}

fn late(rabbitmq: &str, within: &Duration, alarm: Option<&str>) -> String {
    let seconds = within.as_secs_f32();
    match alarm {
        Some(reason) => format!(
            "RabbitMQ at {rabbitmq} has an alarm and takes no publishes ({reason}, connection.blocked); this one \
             was not confirmed within {seconds} s, and may or may not arrive later"
        ),
        None => format!("RabbitMQ at {rabbitmq} did not confirm within {seconds} s"),
    }
}

fn joined(errors: &[PublishError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Publishes `body` as JSON to `topic`, as the latest of `key` if there is one, and waits for RabbitMQ's confirm,
/// `limit` at most for everything. Of several nodes the first that confirms it is the last one asked; what an
/// earlier one may have stored has the same `message-id`. Declares nothing. Blocks the calling thread, which must not
/// be one of an event loop.
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
    let mut addresses = Addresses::parse(urls)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(PublishError::EventLoop)?;
    let pending = PendingPublish {
        exchange: ShortString::try_new(exchange).map_err(|_| PublishError::ExchangeTooLong)?,
        routing_key: ShortString::try_new(topic).map_err(|_| PublishError::TopicTooLong)?,
        body: body.to_vec(),
        properties: message::properties(Ids::new().next(), &Said { key, ..Said::default() }, UnixTime::now()),
    };
    // One that does not answer must leave time for the others.
    let share = limit / u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    let mut errors = Vec::new();
    runtime.block_on(async {
        loop {
            let address = addresses.current();
            let alarm = RefCell::new(None);
            let late =
                |_| PublishError::Late { rabbitmq: address.to_string(), within: share, alarm: alarm.take() };
            let published = tokio::time::timeout(share, publish(address, &pending, &alarm)).await;
            match published.map_err(late).flatten() {
                Ok(()) => return Ok(()),
                Err(error) => errors.push(error),
            }
            if addresses.failed() {
                return Err(PublishError::Everywhere(errors));
            }
        }
    })
}

/// `alarm`: where RabbitMQ's word is put that it takes no publishes, which may pass.
async fn publish(
    address: &Address,
    pending: &PendingPublish,
    alarm: &RefCell<Option<String>>,
) -> Result<(), PublishError> {
    let connecting = connect(address, "fanfare: publishes once", false);
    let connection = wrong_peer::unless_http(address, connecting).await?;
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
    let fault = |error| RabbitMqFault::step(SetupStep::OpenChannel, error, address);
    let channel = connection.create_channel().await.map_err(fault)?;
    channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(fault)?;
    let confirmed = select! {
        confirmed = confirm(&channel, pending) => confirmed,
        () = listening => unreachable!("it listens without an end"),
    };
    confirmed
        .map_err(|reason| PublishError::NotTaken { rabbitmq: address.to_string(), reason: reason.into() })
}

#[cfg(test)]
mod tests {
    use super::super::reply::{not_found, said};
    use super::*;
    use lapin::protocol::AMQPSoftError;

    #[test]
    fn only_a_missing_exchange_asks_whether_it_is_the_right_one() {
        let missing = NotTaken::from(Unconfirmed::Failed(not_found("no exchange 'a' in vhost '/'")));
        let text = missing.to_string();
        assert!(text.starts_with("NOT_FOUND - no exchange 'a' in vhost '/'. Engines declare"), "{text}");
        assert!(matches!(missing, NotTaken::NoExchange { .. }), "{missing:?}");
        let words = "ACCESS_REFUSED - read access to topic 'a' refused";
        let refused = Unconfirmed::Failed(said(AMQPSoftError::ACCESSREFUSED.into(), words));
        assert_eq!(NotTaken::from(refused), NotTaken::Failed { said: words.to_owned() });
        assert_eq!(NotTaken::from(Unconfirmed::NotStored), NotTaken::NotStored);
    }
}
