//! What must be there on RabbitMQ before anything flows: the exchange that publishers send to, the queue we
//! consume, and the place for what cannot be delivered.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ExchangeKind};

use crate::broker::rabbit::error::{PRECONDITION_FAILED, Trouble, reply_code, text};
use crate::config::Amqp;

/// Declares everything: the name of the queue to consume.
pub(super) async fn declare(connection: &Connection, amqp: &Amqp) -> Result<String, Trouble> {
    declare_exchange(connection, amqp).await?;
    declare_dead_letters(connection, amqp).await?;
    if amqp.queue.is_empty() {
        declare_own_queue(connection, amqp).await
    } else {
        find_queue(connection, amqp).await
    }
}

/// The exchange for publications: durable and of type topic. One that is there with other properties is used
/// as it is, unless it is of another type: our patterns would mean something else to it.
async fn declare_exchange(connection: &Connection, amqp: &Amqp) -> Result<(), Trouble> {
    let name = &amqp.exchange;
    let declared = declare_one_exchange(connection, name, ExchangeKind::Topic).await;
    match declared {
        Err(error) if reply_code(&error) == Some(PRECONDITION_FAILED) && text(&error).contains("'type'") => {
            Err(Trouble::Refused(format!(
                "the exchange `{name}` (amqp.exchange) is there already and not of type topic: delete it, or name another. RabbitMQ says: {}",
                text(&error)
            )))
        }
        Err(error) if reply_code(&error) == Some(PRECONDITION_FAILED) => Ok(()),
        Err(error) => {
            Err(Trouble::doing(&format!("the exchange `{name}` (amqp.exchange) cannot be declared"), &error))
        }
        Ok(()) => Ok(()),
    }
}

/// Declares an exchange on a channel of its own: RabbitMQ closes the channel when it says no.
async fn declare_one_exchange(connection: &Connection, name: &str, kind: ExchangeKind) -> lapin::Result<()> {
    let channel = connection.create_channel().await?;
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(name.into(), kind, options, FieldTable::default()).await?;
    channel.close(200, "done".into()).await
}

/// The dead-letter exchange and its queue, which forgets the oldest when it is full. What is there already
/// with other properties is used as it is.
async fn declare_dead_letters(connection: &Connection, amqp: &Amqp) -> Result<(), Trouble> {
    let (exchange, queue) = (&amqp.dead_letter_exchange, &amqp.dead_letter_queue);
    let what = format!("the dead-letter exchange `{exchange}` with its queue `{queue}` cannot be declared");
    for step in [
        declare_one_exchange(connection, exchange, ExchangeKind::Fanout).await,
        declare_dead_letter_queue(connection, amqp).await,
        bind(connection, queue, exchange, "").await,
    ] {
        match step {
            Err(error) if reply_code(&error) != Some(PRECONDITION_FAILED) => {
                return Err(Trouble::doing(&what, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

async fn declare_dead_letter_queue(connection: &Connection, amqp: &Amqp) -> lapin::Result<()> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(amqp.dead_letter_max.into()));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("drop-head".into()));
    let channel = connection.create_channel().await?;
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(amqp.dead_letter_queue.as_str().into(), options, arguments).await?;
    channel.close(200, "done".into()).await
}

async fn bind(connection: &Connection, queue: &str, exchange: &str, pattern: &str) -> lapin::Result<()> {
    let channel = connection.create_channel().await?;
    let options = QueueBindOptions::default();
    channel.queue_bind(queue.into(), exchange.into(), pattern.into(), options, FieldTable::default()).await?;
    channel.close(200, "done".into()).await
}

/// A queue of this node's own, gone with its connection.
async fn declare_own_queue(connection: &Connection, amqp: &Amqp) -> Result<String, Trouble> {
    let failed = |error| Trouble::doing("this node's own queue cannot be declared", &error);
    let channel = connection.create_channel().await.map_err(failed)?;
    let options =
        QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare("".into(), options, FieldTable::default()).await.map_err(failed)?;
    let name = queue.name().to_string();
    for pattern in &amqp.bindings {
        let what = format!(
            "the pattern `{pattern}` (amqp.bindings) cannot be bound to the exchange `{}`",
            amqp.exchange
        );
        bind(connection, &name, &amqp.exchange, pattern)
            .await
            .map_err(|error| Trouble::doing(&what, &error))?;
    }
    channel.close(200, "done".into()).await.map_err(failed)?;
    Ok(name)
}

/// The operator's own queue, which must be there: what it is bound to is the operator's choice.
async fn find_queue(connection: &Connection, amqp: &Amqp) -> Result<String, Trouble> {
    let name = &amqp.queue;
    let failed = |error| {
        Trouble::doing(&format!("the queue `{name}` (amqp.queue) cannot be consumed; it must exist"), &error)
    };
    let channel = connection.create_channel().await.map_err(failed)?;
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.as_str().into(), options, FieldTable::default()).await.map_err(failed)?;
    channel.close(200, "done".into()).await.map_err(failed)?;
    Ok(name.clone())
}
