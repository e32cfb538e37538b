//! One channel for calls, and the consumer of their replies.

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, Consumer};
use tokio::select;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::broker::backplane::rabbit::fault::RabbitMqFault;
use crate::broker::backplane::rabbit::message_cost;
use crate::broker::backplane::rabbit::reply::{is_of_channel, reply_text};
use crate::broker::backplane::rabbit::topology::Topology;
use crate::domain::call::CallFault;
use crate::hooks::AmqpRequest;

use super::table::Unsent;
use super::{CallTopology, message};

/// RabbitMQ's name for the replies to what is published on the channel that consumes them.
const REPLIES: &str = "amq.rabbitmq.reply-to";

/// Why there is no channel.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("{}", reply_text(.0))]
    Channel(#[from] lapin::Error),
    #[error(transparent)]
    Exchange(#[from] RabbitMqFault),
    #[error("RabbitMQ does not open a channel")]
    Late(#[from] tokio::time::error::Elapsed),
}

impl OpenError {
    /// Whether the connection has failed, which says so itself.
    pub(super) fn is_of_connection(&self) -> bool {
        matches!(self, Self::Channel(error) if !is_of_channel(error))
    }
}

/// What happens to a channel for calls.
pub(super) enum Change {
    Opened(Result<Box<CallChannel>, OpenError>),
    PauseIsOver,
    /// RabbitMQ has taken the first call of the channel.
    Taken,
    /// RabbitMQ knows no queue for a call.
    Returned(u64),
    /// RabbitMQ has taken a call, or could not.
    Confirmed {
        number: u64,
        is_ack: bool,
    },
    /// A reply. Without a number, it does not say to which call.
    Replied {
        number: Option<u64>,
        body: Vec<u8>,
    },
    /// Nothing is known of a call.
    Failed {
        number: u64,
        error: lapin::Error,
    },
    /// The channel is of no use any more.
    Closed(Option<lapin::Error>),
}

/// A channel in confirm mode.
pub(super) struct CallChannel {
    channel: Channel,
    exchange: ShortString,
    frame_max: usize,
    replies: Consumer,
    trial: Trial,
    /// One for each call, until RabbitMQ has confirmed it.
    tasks: JoinSet<()>,
    reports: (mpsc::UnboundedSender<Change>, mpsc::UnboundedReceiver<Change>),
}

/// The first call over a channel leaves alone. If RabbitMQ does not let the engine publish to the exchange, it closes the
/// channel when it looks at the first message; and for others behind it, which lapin would go on writing, it would close the
/// connection, which has all publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trial {
    Due,
    UnderWay,
    Passed,
}

impl CallChannel {
    /// Opens a channel, and makes sure that there is the exchange.
    pub(super) async fn open(connection: &Connection, topology: &CallTopology) -> Result<Self, OpenError> {
        let (config, address) = topology;
        Topology { connection, amqp: &config.amqp, address }.calls_exchange().await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let replies =
            channel.basic_consume(REPLIES.into(), "".into(), options, FieldTable::default()).await?;
        Ok(Self {
            channel,
            exchange: config.amqp.calls_exchange().into(),
            frame_max: connection.configuration().frame_max() as usize,
            replies,
            trial: Trial::Due,
            tasks: JoinSet::new(),
            reports: mpsc::unbounded_channel(),
        })
    }

    /// Whether a call can be sent now.
    pub(super) fn takes_calls(&self) -> bool {
        self.trial != Trial::UnderWay
    }

    /// Sends a call.
    ///
    /// # Errors
    /// It cannot be sent.
    pub(super) fn send(&mut self, call: Unsent) -> Result<(), CallFault> {
        let Unsent { number, request: AmqpRequest { routing_key, headers, body }, limit, wants_reply } = call;
        let properties = message::properties(number, headers, limit, wants_reply.then_some(REPLIES));
        // No queue can be bound for a longer one.
        let routing_key = ShortString::try_new(routing_key).map_err(|_| CallFault::Unroutable)?;
        if !message_cost::fits_into_a_frame(&properties, self.frame_max) {
            // RabbitMQ would close the connection.
            return Err(CallFault::Unreachable("its headers do not fit into a frame (frame_max)".into()));
        }
        let is_trial = self.trial == Trial::Due;
        if is_trial {
            self.trial = Trial::UnderWay;
        }
        while self.tasks.try_join_next().is_some() {}
        let (channel, exchange) = (self.channel.clone(), self.exchange.clone());
        let reports = self.reports.0.clone();
        let mut sending = Box::pin(async move {
            let publish = Publish { channel, exchange, routing_key, body, properties };
            if let Err(error) = publish.send(number, is_trial, &reports).await {
                // It fails only if the channel was given up, and nobody is interested.
                let _ = reports.send(Change::Failed { number, error });
            }
        });
        // The first poll hands the message to lapin: so it leaves now, and in the order of these calls.
        if (&mut sending).now_or_never().is_none() {
            self.tasks.spawn(sending);
        }
        Ok(())
    }

    /// What happens next. Can be dropped at any time without loss.
    pub(super) async fn next(&mut self) -> Change {
        select! {
            // There is a sender in `self`, so that this does not end.
            Some(change) = self.reports.1.recv() => {
                if matches!(change, Change::Taken) {
                    self.trial = Trial::Passed;
                }
                change
            }
            reply = self.replies.next() => match reply {
                Some(Ok(reply)) => Change::Replied { number: message::number(&reply.properties), body: reply.data },
                Some(Err(error)) => Change::Closed(Some(error)),
                None => Change::Closed(None),
            },
        }
    }
}

/// A call as it leaves.
struct Publish {
    channel: Channel,
    exchange: ShortString,
    routing_key: ShortString,
    body: Vec<u8>,
    properties: BasicProperties,
}

impl Publish {
    /// Publishes, and reports what RabbitMQ says until it has confirmed.
    async fn send(
        self,
        number: u64,
        is_trial: bool,
        reports: &mpsc::UnboundedSender<Change>,
    ) -> lapin::Result<()> {
        let Self { channel, exchange, routing_key, body, properties } = self;
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let published = channel.basic_publish(exchange, routing_key, options, &body, properties).await?;
        // RabbitMQ does what a channel is told in its order. This changes nothing; once it is answered, the call was taken,
        // though its queue may not have it yet. If it is not answered, RabbitMQ tells the call why.
        if is_trial && channel.confirm_select(ConfirmSelectOptions::default()).await.is_ok() {
            let _ = reports.send(Change::Taken);
        }
        let confirmation = published.await?;
        let is_ack = confirmation.is_ack();
        // That of this call or of another one: lapin attaches a return to the confirm that it settles next.
        let returned = confirmation.take_message().and_then(|returned| message::number(&returned.properties));
        if let Some(returned) = returned {
            let _ = reports.send(Change::Returned(returned));
        }
        let _ = reports.send(Change::Confirmed { number, is_ack });
        Ok(())
    }
}
