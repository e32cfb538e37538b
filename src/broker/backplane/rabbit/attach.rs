//! Finds the offset at which to begin reading the stream.
//!
//! How RabbitMQ 3.10.8 treats the offset that a consumer asks for, found by trying it:
//!
//! * an existing offset: that message comes first;
//! * an offset that retention dropped: the first existing message comes first;
//! * an offset beyond the end: the consumer waits at the end, reports nothing, and **receives nothing until
//!   the stream has grown to that offset**. After a stream was deleted and declared again, a consumer that
//!   resumes at its next offset would silently lose everything until then. So the end is asked for first;
//! * `last`: from the first message of the last chunk (messages that were written together); if the stream is
//!   empty, from the first message that comes;
//! * on a node of a cluster, what the replica there has; one that lags behind lacks what was confirmed, for a moment
//!   or for as long as it catches up, and its end is not the stream's;
//! * a stream that is deleted: `basic.cancel` within milliseconds, which ends the consumer. Messages that are
//!   then sent to it by the default exchange are confirmed, and lost;
//! * `message_count` of a declaration is of no use: it lags behind;
//! * after the host has lost power, or with its disk as it was an hour ago, the stream ends earlier, and goes on from
//!   there with the same offsets for other messages: [`lineage`](super::lineage) notices if the anchor is still there;
//! * for a moment after a start of RabbitMQ, the stream is declared with "home node is down or inaccessible" (404),
//!   and what is published to an exchange it is bound to is confirmed, and dropped as unroutable.
//!
//! Streams keep texts, numbers and truth values among the headers, `expiration`, `timestamp` and `message-id`; headers
//! that are lists or tables, `CC` among them, are gone.

use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, Consumer};
use tokio::time::timeout;

use crate::base::clock::UnixTime;

use super::address::Address;
use super::fault::{FaultKind, RabbitMqFault, SetupStep};
use super::lineage::{Anchor, Marker};
use super::markers;
use super::publisher::confirm;
use super::unconfirmed::Unconfirmed;

/// How far back there is a claim, if a node lives: it claims twice within this time.
pub(super) const CLAIM_SPAN: Duration = Duration::from_secs(120);
/// Where messages are many, there is a claim within so many of them: a node claims after half of them as well, unless
/// it is behind by more than it was at its claim before.
pub(super) const CLAIM_MESSAGES: u64 = 20_000;

/// For RabbitMQ to confirm a marker.
const CONFIRM_LIMIT: Duration = Duration::from_secs(5);

/// Where the reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// After the anchor: it is where it was.
    Anchor {
        /// About where the stream ends.
        top: u64,
    },
    /// Back in time: nothing is known of this stream, or nothing any more.
    Back {
        /// The first offset that is asked for.
        first: u64,
        /// Messages from this offset on are wanted; those before it for their ids and claims only.
        wanted: u64,
        /// About where the stream ends.
        top: u64,
        /// Claims of living nodes may be before `first`: further back than [`CLAIM_MESSAGES`], and within
        /// [`CLAIM_SPAN`].
        is_short: bool,
        /// The anchor is gone, and was not dropped by retention: so was what came after it.
        is_rewound: bool,
    },
}

/// How far to read back, if the anchor is not there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    /// How old the oldest message is that a history can still hold. Zero: there are no histories.
    pub(super) span: Duration,
    /// Messages at most, however young they are.
    pub(super) messages: u64,
    /// Further messages that are read for their ids.
    pub(super) ids: u64,
    /// Whether claims are looked for in all of [`CLAIM_SPAN`], because there was none in [`CLAIM_MESSAGES`].
    pub(super) is_far: bool,
}

/// What it takes to read the stream.
pub(super) struct Seek<'a> {
    pub(super) connection: &'a Connection,
    /// In confirm mode.
    pub(super) publisher: &'a Channel,
    pub(super) stream: &'a ShortString,
    /// Messages that RabbitMQ may send ahead.
    pub(super) prefetch: u16,
    pub(super) address: &'a Address,
    /// The writer of markers.
    pub(super) node: u64,
}

/// What has become of the anchor.
enum AnchorState {
    There,
    /// Retention has dropped it, and everything before it.
    Dropped,
    /// Another message has its offset.
    Replaced,
}

/// A consumer on a channel of its own.
pub(super) struct StreamConsumer {
    pub(super) channel: Channel,
    pub(super) consumer: Consumer,
}

impl Seek<'_> {
    /// Begins to read: behind the anchor if it is there, else as far back as `reach`. `nonce` is a new one
    /// at each call.
    ///
    /// # Errors
    /// What is wrong, and whether it may pass.
    pub(super) async fn enter(
        &self,
        anchor: Option<Anchor>,
        reach: Reach,
        nonce: impl Fn() -> u64,
    ) -> Result<(StreamConsumer, Start), RabbitMqFault> {
        // So that the stream has an end to ask for.
        self.mark(nonce()).await?;
        let mut top = self.first_offset(last()).await?;
        if anchor.is_some_and(|anchor| anchor.offset > top) {
            top = self.end(nonce()).await?;
        }
        // If the anchor is beyond even that, it was in another stream, or at an end that is lost.
        let mut is_rewound = anchor.is_some();
        if let Some(anchor) = anchor.filter(|anchor| anchor.offset <= top) {
            let mut reading = self.consume(offset_value(anchor.offset), self.prefetch).await?;
            match self.look_at(anchor, &mut reading).await? {
                AnchorState::There => return Ok((reading, Start::Anchor { top })),
                AnchorState::Dropped => is_rewound = false,
                AnchorState::Replaced => {}
            }
            close(&reading).await;
        }
        let oldest = top.saturating_sub(reach.messages);
        let wanted =
            if reach.span.is_zero() { top } else { self.since(reach.span, top, nonce()).await?.max(oldest) };
        let claims = self.since(CLAIM_SPAN, top, nonce()).await?.max(oldest);
        let near = if reach.is_far { claims } else { claims.max(top.saturating_sub(CLAIM_MESSAGES)) };
        let first = near.min(wanted.saturating_sub(reach.ids));
        let is_short = claims < first;
        let reading = self.consume(offset_value(first), self.prefetch).await?;
        Ok((reading, Start::Back { first, wanted, top, is_short, is_rewound }))
    }

    /// The offset of the first message of the last `span`, or 0 if this host's clock is ahead of RabbitMQ's.
    async fn since(&self, span: Duration, top: u64, nonce: u64) -> Result<u64, RabbitMqFault> {
        let Some(since) = UnixTime::now().checked_sub(span) else { return Ok(0) };
        let mut reading = self.consume(AMQPValue::Timestamp(since.as_secs()), 1).await?;
        // A time in the future waits at the end: so something has to come after it.
        self.mark(nonce).await?;
        let (offset, _) = self.next(&mut reading).await?;
        close(&reading).await;
        if offset <= top {
            return Ok(offset);
        }
        tracing::warn!("the clock of this host is ahead of RabbitMQ's: the stream is read back by number");
        Ok(0)
    }

    async fn look_at(
        &self,
        anchor: Anchor,
        reading: &mut StreamConsumer,
    ) -> Result<AnchorState, RabbitMqFault> {
        loop {
            let (offset, delivery) = self.next(reading).await?;
            if offset > anchor.offset {
                return Ok(AnchorState::Dropped);
            }
            // Nobody else acknowledges it, and RabbitMQ may send no more before: it fails only if the connection has.
            let _ = delivery.ack(BasicAckOptions::default()).await;
            if offset == anchor.offset {
                let is_it = markers::read(&delivery).is_some_and(|marker| marker.nonce == anchor.nonce);
                return Ok(if is_it { AnchorState::There } else { AnchorState::Replaced });
            }
        }
    }

    /// The offset of a marker that is written now, once it has come. What the replica lacks that is read here, but
    /// others have confirmed, has come before.
    async fn end(&self, nonce: u64) -> Result<u64, RabbitMqFault> {
        let mut reading = self.consume(last(), self.prefetch).await?;
        // The last chunk is chosen when it is sent: only then the marker is certain to be behind it.
        let (_, mut delivery) = self.next(&mut reading).await?;
        self.mark(nonce).await?;
        loop {
            // It fails only if the connection has, and then nothing comes.
            let _ = delivery.ack(BasicAckOptions::default()).await;
            let (offset, next) = self.next(&mut reading).await?;
            if markers::read(&next).is_some_and(|marker| marker.nonce == nonce) {
                close(&reading).await;
                return Ok(offset);
            }
            delivery = next;
        }
    }

    async fn first_offset(&self, from: AMQPValue) -> Result<u64, RabbitMqFault> {
        let mut reading = self.consume(from, 1).await?;
        let (offset, _) = self.next(&mut reading).await?;
        close(&reading).await;
        Ok(offset)
    }

    async fn next(&self, reading: &mut StreamConsumer) -> Result<(u64, Delivery), RabbitMqFault> {
        let node = || self.address.to_string();
        match reading.consumer.next().await {
            Some(Ok(delivery)) => match markers::offset(&delivery) {
                Some(offset) => Ok((offset, delivery)),
                None => Err(FaultKind::NoOffset { node: node() }.into()),
            },
            Some(Err(error)) => Err(RabbitMqFault::step(SetupStep::ReadStream, error, self.address)),
            None => Err(FaultKind::StreamDeleted { node: node() }.into()),
        }
    }

    async fn consume(&self, from: AMQPValue, prefetch: u16) -> Result<StreamConsumer, RabbitMqFault> {
        let fault = |error| RabbitMqFault::step(SetupStep::ReadStream, error, self.address);
        let channel = self.connection.create_channel().await.map_err(fault)?;
        // RabbitMQ refuses consumers of streams without it.
        channel.basic_qos(prefetch, BasicQosOptions::default()).await.map_err(fault)?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-stream-offset".into(), from);
        let options = BasicConsumeOptions::default();
        let consumer = channel.basic_consume(self.stream.clone(), "".into(), options, arguments).await;
        Ok(StreamConsumer { consumer: consumer.map_err(fault)?, channel })
    }

    /// Writes a marker without a claim.
    async fn mark(&self, nonce: u64) -> Result<(), RabbitMqFault> {
        let pending = markers::publish_of(
            self.stream,
            &Marker { nonce, node: self.node, claim: None },
            None,
            UnixTime::now(),
        );
        let confirmed = timeout(CONFIRM_LIMIT, confirm(self.publisher, &pending)).await;
        confirmed
            .unwrap_or(Err(Unconfirmed::Late))
            .map_err(|error| FaultKind::NoMarker { node: self.address.to_string(), error }.into())
    }
}

fn last() -> AMQPValue {
    AMQPValue::LongString("last".into())
}

fn offset_value(offset: u64) -> AMQPValue {
    AMQPValue::LongLongInt(i64::try_from(offset).unwrap_or(i64::MAX))
}

/// Ends a look into the stream. It fails only if the connection has, and then so does what comes next.
async fn close(reading: &StreamConsumer) {
    let _ = reading.channel.close(200, "seen".into()).await;
}
