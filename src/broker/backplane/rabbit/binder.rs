//! The channel that binds and unbinds the node's own queue while it is consumed. It is a channel of its own,
//! because RabbitMQ closes it when it refuses a binding, and answers slowly when there are many bindings.

use std::collections::VecDeque;
use std::fmt;
use std::future::pending;
use std::sync::Arc;

use futures_util::FutureExt as _;
use lapin::options::QueueBindOptions;
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection};

use super::bindings::Order;
use super::reply::{PendingReply, is_forbidden};

/// What happens on a binder's channel.
#[derive(Debug)]
pub(super) enum BinderEvent {
    /// RabbitMQ has carried out the first order under way.
    Done,
    /// The user may not do what the first order under way asks for. Orders that were sent after it are void, and
    /// [`Self::Opened`] follows.
    Refused(lapin::Error),
    /// The channel after the one that was closed is open: orders can be sent again.
    Opened,
    /// Something else is wrong: the queue is gone, or the exchange, or the connection.
    Failed(lapin::Error),
}

/// Binds one queue to one exchange.
pub(super) struct Binder {
    connection: Arc<Connection>,
    queue: ShortString,
    exchange: ShortString,
    channel: Line,
    /// In the order in which RabbitMQ answers.
    under_way: VecDeque<PendingReply<()>>,
}

enum Line {
    Open(Channel),
    Opening(PendingReply<Channel>),
}

impl Binder {
    /// Opens a channel for it.
    ///
    /// # Errors
    /// If the connection gives none.
    pub(super) async fn open(
        connection: &Arc<Connection>,
        queue: ShortString,
        exchange: &str,
    ) -> lapin::Result<Self> {
        let channel = Line::Open(connection.create_channel().await?);
        let (connection, exchange) = (Arc::clone(connection), exchange.into());
        Ok(Self { connection, queue, exchange, channel, under_way: VecDeque::new() })
    }

    /// Whether orders can be sent.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.channel, Line::Open(_))
    }

    /// Sends an order; [`Self::next`] brings RabbitMQ's answer.
    pub(super) fn send(&mut self, order: Order) {
        let Line::Open(channel) = &self.channel else { return };
        let (channel, queue, exchange) = (channel.clone(), self.queue.clone(), self.exchange.clone());
        let mut reply: PendingReply<()> = match order {
            Order::Bind(key) => Box::pin(async move {
                let (key, options) = (ShortString::from(&*key), QueueBindOptions::default());
                channel.queue_bind(queue, exchange, key, options, FieldTable::default()).await
            }),
            Order::Unbind(key) => Box::pin(async move {
                let key = ShortString::from(&*key);
                channel.queue_unbind(queue, exchange, key, FieldTable::default()).await
            }),
        };
        // The first poll hands the frame to lapin, so that orders leave in the order of these calls.
        if let Some(outcome) = (&mut reply).now_or_never() {
            reply = Box::pin(std::future::ready(outcome));
        }
        self.under_way.push_back(reply);
    }

    /// What happens next. Can be dropped at any time without loss.
    pub(super) async fn next(&mut self) -> BinderEvent {
        let outcome = match &mut self.channel {
            Line::Opening(opening) => match opening.await {
                Ok(channel) => {
                    self.channel = Line::Open(channel);
                    return BinderEvent::Opened;
                }
                Err(error) => Err(error),
            },
            Line::Open(_) => match self.under_way.front_mut() {
                Some(reply) => reply.await,
                None => pending().await,
            },
        };
        self.under_way.pop_front();
        match outcome {
            Ok(()) => BinderEvent::Done,
            Err(error) if is_forbidden(&error) => {
                self.under_way.clear();
                let connection = Arc::clone(&self.connection);
                let opening = async move { connection.create_channel().await };
                self.channel = Line::Opening(Box::pin(opening));
                BinderEvent::Refused(error)
            }
            Err(error) => BinderEvent::Failed(error),
        }
    }
}

impl fmt::Debug for Binder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Binder")
            .field("queue", &self.queue)
            .field("under_way", &self.under_way.len())
            .finish()
    }
}
