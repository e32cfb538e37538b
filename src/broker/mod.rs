//! One thread: publications in, mail out; requests in, answers out.
//!
//! The broker thread is the single writer of everything that belongs to a topic: who is interested, what is
//! merged, what is encoded, and what gets into the shards' mailboxes. So the order of a topic's
//! publications is the order in which they came from the backplane, on every shard, without a lock.
//!
//! ```text
//! backplane ──message──▶ incoming ──lines──▶ merge ──batches──▶ outbox ══mailboxes══▶ shards
//!     ▲   ▲                                                        ▲
//!     │   └─ack── acks ◀──────────────── handed over ──────────────┤
//!     └────publish──── requests ◀══════════════════════════════════╪═══ shards, control thread
//!                          └─────────────────answers───────────────┘
//! ```
//!
//! The thread never blocks. What does not fit into a shard's mailbox waits in the `outbox`. While anything waits
//! there, no message is taken from the backplane. RabbitMQ sends no more than `amqp.prefetch` unacknowledged messages,
//! so that the back-pressure reaches it. The same happens when that many dead letters are not confirmed. Timers,
//! RabbitMQ's heartbeats and requests go on. A shard whose mail waits is answered at most 512 requests until nothing
//! waits.
//!
//! Calls to the application's backends wait in `calls` until they may be sent, by AMQP through the backplane, or by HTTP
//! through a thread of its own (`calling`). Bodies and answers are made and read by [`hooks`](crate::hooks).
//!
//! Its tokio runtime, of this thread alone, exists for lapin. Read `turn` first, then `incoming` with `encoder`, and
//! `inlet` with `requests` and `confirms`, then `questions`, `recovery` and `calling`. `topics`, `history`, `catch_up`,
//! `merge`, `lanes`, `acks`, `dedup`, `expiration`, `outbox`, `payload`, `stage` and `surveys` are modules without clock
//! and socket. `backplane` is the seam to `rabbit` and `memory`, and `event` has the types of what they report.

mod acks;
mod backplane;
mod calling;
mod calls;
mod catch_up;
mod confirms;
mod dedup;
mod encoder;
mod expiration;
mod history;
mod http_link;
mod incoming;
mod inlet;
mod lanes;
mod merge;
mod outbox;
mod payload;
mod progress;
mod questions;
mod recovery;
mod reload;
mod requests;
mod shares;
mod stage;
mod surveys;
mod topics;
mod turn;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::runtime::Runtime;

use crate::base::mailbox::Sender;
use crate::config::Config;
use crate::domain::mail::Mail;
use crate::domain::namespaces::Namespaces;
use crate::domain::receipt::Receipt;
use crate::stats::BrokerStats;

use backplane::Backplane;
use backplane::memory::Memory;
use backplane::rabbit::Rabbit;
use turn::Broker;

pub use backplane::rabbit::{
    Inspection, NotTaken, PublishError, RabbitMqFault, amqp_filter, check_url, inspect, publish_once,
};
pub use http_link::HttpLink;
pub use inlet::{Inlet, RequestSenders, inlet};

/// The event loop of the broker thread.
///
/// Other threads wake it by writing to its descriptor. So it must be made before any thread gets a table of descriptors
/// of its own: in that table, the number could mean another descriptor.
#[derive(Debug)]
pub struct EventLoop(Runtime);

impl EventLoop {
    /// An event loop for one broker thread.
    ///
    /// # Errors
    /// If the process has no descriptors left.
    pub fn new() -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map(Self).map_err(StartError::EventLoop)
    }
}

/// Everything that the broker thread needs.
#[derive(Debug)]
pub struct Setup {
    /// The configuration, validated.
    pub config: Arc<Config>,
    /// Its namespaces.
    pub namespaces: Arc<Namespaces>,
    /// The requests of the shards and of operators.
    pub requests: Inlet,
    /// The shards' mailboxes, in the order of their numbers.
    pub shards: Vec<Sender<Mail>>,
    /// With `amqp.ack = "written"`: how far each shard has written, in the order of their numbers. Otherwise empty.
    pub receipts: Vec<Receipt>,
    /// The thread that sends calls by HTTP.
    pub http: HttpLink,
    /// The counters and gauges that it updates.
    pub stats: Arc<BrokerStats>,
}

/// Why the broker thread cannot start. A RabbitMQ that cannot be reached is no reason: it may be there later.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The process has no descriptors left for an event loop.
    #[error("the broker thread gets no event loop: {0}")]
    EventLoop(std::io::Error),
    /// What is wrong with a URL, or what each node of RabbitMQ refuses.
    #[error("{}", joined(.0))]
    RabbitMq(Vec<RabbitMqFault>),
}

fn joined(faults: &[RabbitMqFault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Runs the broker on the calling thread until [`Request::Stop`](crate::domain::mail::Request::Stop) is done. Calls `started`
/// once: with an error if RabbitMQ refuses the engine; otherwise when the stream has been read back, or when RabbitMQ turned
/// out to be away.
pub fn run(event_loop: &EventLoop, setup: Setup, started: impl FnOnce(Result<(), StartError>)) {
    event_loop.0.block_on(async {
        match open(&setup.config).await {
            Ok(backplane) => {
                let mut broker = Broker::new(setup, backplane);
                broker.load().await;
                started(Ok(()));
                broker.serve().await;
            }
            Err(error) => started(Err(error)),
        }
    });
}

async fn open(config: &Arc<Config>) -> Result<Backplane, StartError> {
    if config.amqp.url.is_empty() {
        return Ok(Backplane::Memory(Memory::new(config)));
    }
    let rabbit = Rabbit::start(config).await.map_err(StartError::RabbitMq)?;
    Ok(Backplane::Rabbit(Box::new(rabbit)))
}
