//! Reads a part of the stream again, on a channel of its own, for messages whose dead letters may be missing
//! ([`coverage`](super::coverage)). Few messages wait here at any time, because bodies may be large and
//! nobody waits for them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, Consumer};

use super::prefetch::Prefetch;
use super::reply::reply_text;

/// Messages that RabbitMQ sends ahead, where there is room for as many of the largest.
const PREFETCH_MAX: u16 = 16;

/// Why no more can be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum RereadError {
    #[error("{}", reply_text(.0))]
    Failed(#[from] lapin::Error),
    #[error("RabbitMQ ended the consumer: its stream is gone")]
    StreamIsGone,
}

/// Reads the stream from an offset on.
pub(super) struct Again {
    state: State,
    /// Messages that RabbitMQ sends ahead.
    ahead: u16,
    /// Messages since the last acknowledgement.
    taken: u16,
}

type Opening = Pin<Box<dyn Future<Output = lapin::Result<(Channel, Consumer)>> + Send>>;

enum State {
    Opening(Opening),
    Open(Box<(Channel, Consumer)>),
}

impl Again {
    /// Begins at an offset, or before it. About `bytes_max` bytes wait here at most, whatever the messages are.
    pub(super) fn begin(
        connection: Arc<Connection>,
        stream: ShortString,
        offset: u64,
        bytes_max: usize,
    ) -> Self {
        let ahead = Prefetch::new(PREFETCH_MAX, bytes_max).current();
        Self { state: State::Opening(Box::pin(open(connection, stream, offset, ahead))), ahead, taken: 0 }
    }

    /// The next message. Can be dropped at any time without loss.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn next(&mut self) -> Result<Delivery, RereadError> {
        loop {
            match &mut self.state {
                State::Opening(opening) => {
                    let opened = opening.await?;
                    self.state = State::Open(Box::new(opened));
                }
                State::Open(open) => {
                    let (channel, consumer) = &mut **open;
                    let delivery = match consumer.next().await {
                        Some(delivery) => delivery?,
                        None => return Err(RereadError::StreamIsGone),
                    };
                    self.taken += 1;
                    if self.taken >= self.ahead.div_ceil(2) {
                        self.taken = 0;
                        // The first poll hands it to lapin's thread.
                        let multiple = BasicAckOptions { multiple: true };
                        let _ = channel.basic_ack(delivery.delivery_tag, multiple).now_or_never();
                    }
                    return Ok(delivery);
                }
            }
        }
    }

    /// Reads no further.
    pub(super) fn end(self) {
        if let State::Open(open) = self.state {
            let _ = open.0.close(200, "read".into()).now_or_never();
        }
    }
}

async fn open(
    connection: Arc<Connection>,
    stream: ShortString,
    offset: u64,
    ahead: u16,
) -> lapin::Result<(Channel, Consumer)> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(ahead, BasicQosOptions::default()).await?;
    let mut arguments = FieldTable::default();
    let offset = i64::try_from(offset).unwrap_or(i64::MAX);
    arguments.insert("x-stream-offset".into(), AMQPValue::LongLongInt(offset));
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume(stream, "".into(), options, arguments).await?;
    Ok((channel, consumer))
}
