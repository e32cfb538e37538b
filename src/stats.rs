//! One block of counters per thread, written by that thread alone and read by whoever asks.
//!
//! A counter is a relaxed load and a relaxed store by its only writer: no read-modify-write, no shared
//! cache line with another writer. Sums over shards are made at scrape time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::domain::reasons::CloseReason;
use crate::transport::refusal::Refusal;

/// A number that its one writer moves and everybody may read. Serves as counter and as gauge.
#[derive(Debug, Default)]
pub struct Number(AtomicU64);

impl Number {
    /// Adds `n`. For the one writing thread only: two writers would lose additions.
    pub fn add(&self, n: u64) {
        self.0.store(self.value().wrapping_add(n), Ordering::Relaxed);
    }

    /// Takes `n` off, for gauges; the same rule as for [`Number::add`].
    pub fn sub(&self, n: u64) {
        self.0.store(self.value().wrapping_sub(n), Ordering::Relaxed);
    }

    /// Sets the value, for gauges.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The value as last written.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts of observations up to each bound, and their sum: a Prometheus histogram with `N` finite bounds.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    bounds: &'static [u64; N],
    counts: [Number; N],
    beyond: Number,
    sum: Number,
}

impl<const N: usize> Histogram<N> {
    /// An empty histogram with these upper bounds, which must rise.
    #[must_use]
    pub fn new(bounds: &'static [u64; N]) -> Self {
        Self {
            bounds,
            counts: std::array::from_fn(|_| Number::default()),
            beyond: Number::default(),
            sum: Number::default(),
        }
    }

    /// Counts `times` observations of `value`.
    pub fn observe(&self, value: u64, times: u64) {
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        self.counts.get(bucket).unwrap_or(&self.beyond).add(times);
        self.sum.add(value * times);
    }

    /// Each finite bound with the number of observations in its bucket alone (not cumulated), then the
    /// number beyond the last, then the sum of all values.
    pub fn read(&self) -> (Vec<(u64, u64)>, u64, u64) {
        let buckets = self.bounds.iter().zip(&self.counts);
        (
            buckets.map(|(&bound, count)| (bound, count.value())).collect(),
            self.beyond.value(),
            self.sum.value(),
        )
    }
}

/// Upper bounds for lines per frame.
const LINES: [u64; 10] = [1, 2, 4, 8, 16, 32, 64, 128, 512, 2048];
/// Upper bounds for microseconds from publish to hand-over.
const MICROSECONDS: [u64; 12] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000, 1_000_000, 10_000_000];

/// What one shard counts.
#[derive(Debug)]
#[repr(align(128))]
pub struct ShardStats {
    /// Clients whose HTTP request is not whole yet.
    pub upgrading: Number,
    /// Clients with an open WebSocket, connected or about to send `connect`.
    pub open: Number,
    /// Clients that were told to go and are not gone.
    pub closing: Number,
    /// Clients whose socket takes nothing at the moment.
    pub blocked_clients: Number,
    /// Connections accepted.
    pub accepted: Number,
    /// `accept` calls that failed for want of descriptors or memory.
    pub accept_failures: Number,
    /// Times that it stopped to listen because its own table of descriptors was full.
    pub listeners_closed: Number,
    /// HTTP requests refused by [`Refusal`], in the order of [`Refusal::ALL`].
    pub refused_upgrades: [Number; Refusal::ALL.len()],
    /// Commands taken from clients.
    pub commands: Number,
    /// Publications handed to clients' sockets: one per line and client.
    pub deliveries: Number,
    /// WebSocket frames with publications, one or more lines each.
    pub frames: Number,
    /// Calls that wrote to a socket.
    pub writes: Number,
    /// Bytes the sockets took, headers and replies included.
    pub bytes: Number,
    /// Lines in each frame of publications.
    pub lines_per_frame: Histogram<10>,
    /// Clients closed for being slow.
    pub policy_disconnect: Number,
    /// Subscriptions ended with 2500 for being slow.
    pub policy_resync: Number,
    /// Subscriptions that jumped to the newest line, or to the latest of each key, for being slow.
    pub policy_skip: Number,
    /// Keys whose latest line slow subscriptions did not get, for want of room.
    pub keys_dropped: Number,
    /// Subscriptions ended with 2500 after a gap in the backplane.
    pub gaps_told: Number,
    /// Closed clients by [`CloseReason`], in the order of [`CloseReason::ALL`].
    pub closes: [Number; CloseReason::ALL.len()],
    /// Mails waiting in the mailbox.
    pub mailbox_depth: Number,
    /// Bytes in the logs of all topics.
    pub log_bytes: Number,
    /// Bytes kept only because a client is in the middle of a frame.
    pub rest_bytes: Number,
    /// Bytes of replies that wait for clients.
    pub reply_bytes: Number,
    /// Bytes of clients' input that are kept: messages that came in part, or wait.
    pub input_bytes: Number,
    /// Topics this shard has a slot for.
    pub topics: Number,
    /// Subscriptions on this shard.
    pub subscriptions: Number,
    /// The same by namespace, in the order of their numbers. Deliveries are not counted so: each frame would look up its
    /// topic's namespace.
    pub namespace_subscriptions: Vec<Number>,
    /// Turns of the loop.
    pub ticks: Number,
}

impl Default for ShardStats {
    fn default() -> Self {
        Self {
            upgrading: Number::default(),
            open: Number::default(),
            closing: Number::default(),
            blocked_clients: Number::default(),
            accepted: Number::default(),
            accept_failures: Number::default(),
            listeners_closed: Number::default(),
            refused_upgrades: std::array::from_fn(|_| Number::default()),
            commands: Number::default(),
            deliveries: Number::default(),
            frames: Number::default(),
            writes: Number::default(),
            bytes: Number::default(),
            lines_per_frame: Histogram::new(&LINES),
            policy_disconnect: Number::default(),
            policy_resync: Number::default(),
            policy_skip: Number::default(),
            keys_dropped: Number::default(),
            gaps_told: Number::default(),
            closes: std::array::from_fn(|_| Number::default()),
            mailbox_depth: Number::default(),
            log_bytes: Number::default(),
            rest_bytes: Number::default(),
            reply_bytes: Number::default(),
            input_bytes: Number::default(),
            topics: Number::default(),
            subscriptions: Number::default(),
            namespace_subscriptions: Vec::new(),
            ticks: Number::default(),
        }
    }
}

impl ShardStats {
    fn for_namespaces(count: usize) -> Self {
        let namespace_subscriptions = (0..count).map(|_| Number::default()).collect();
        Self { namespace_subscriptions, ..Self::default() }
    }
}

/// Where the connection to the backplane stands, as a number for [`BrokerStats::backplane`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackplaneState {
    /// Not connected; the supervisor is trying.
    Away = 0,
    /// Connected, consuming and able to publish. Always so for the embedded backplane.
    Ready = 1,
    /// Connected, and reading a stream back: nothing is pushed.
    Loading = 2,
    /// Not connected, because a RabbitMQ that answers refuses this engine: [`BrokerStats::refusal`] says why.
    Refused = 3,
}

/// What the broker thread counts of one namespace.
#[derive(Debug)]
pub struct NamespaceStats {
    /// Its name; `default` for the topics of no other.
    pub name: String,
    /// Publications taken from the backplane, one per message and topic.
    pub publications: Number,
}

/// What the broker thread counts.
#[derive(Debug)]
#[repr(align(128))]
pub struct BrokerStats {
    /// One for each namespace, in the order of their numbers.
    pub namespaces: Vec<NamespaceStats>,
    /// A [`BackplaneState`].
    pub backplane: Number,
    /// Why RabbitMQ refuses this engine, if it does. Locked about once for each attempt to connect.
    refusal: Mutex<Option<Box<str>>>,
    /// 1 while RabbitMQ takes no publishes for want of memory or disk, as far as it has said so.
    pub rabbitmq_blocked: Number,
    /// The offset of the newest message read from a stream.
    pub stream_offset: Number,
    /// Messages of a stream between the newest one read and the end that it had when this node connected.
    pub stream_behind: Number,
    /// How old the newest message of a stream was when it was taken, by its time stamp: in microseconds.
    pub stream_lag: Number,
    /// Connections to RabbitMQ made since the start.
    pub connects: Number,
    /// Publications taken from the backplane, one per message and topic.
    pub publications: Number,
    /// Publications that nobody on this node subscribes to.
    pub unheard: Number,
    /// Publications encoded, whatever the number of clients: once each if anybody listens, and once more if
    /// it is compressed.
    pub encodings: Number,
    /// Bytes that were compressed, or stored because they were few: once per batch.
    pub deflate_in: Number,
    /// Bytes that they became.
    pub deflate_out: Number,
    /// Batches handed to shards' mailboxes.
    pub batches: Number,
    /// Messages that could not be delivered and went to the dead-letter exchange.
    pub dead_lettered: Number,
    /// Dead letters that the dead-letter exchange routes to no queue: they are lost.
    pub dead_letters_unroutable: Number,
    /// Dead letters that RabbitMQ refused, or could not store in time: they are lost.
    pub dead_letters_refused: Number,
    /// Publications whose message's `message-id` was taken before for their topic.
    pub duplicates: Number,
    /// Messages of a stream that were there before, and were read to know of them.
    pub replayed: Number,
    /// Publications that were not pushed because their time was over (AMQP's `expiration`).
    pub expired: Number,
    /// Publishes of clients and operators that the backplane confirmed.
    pub confirmed: Number,
    /// Publishes of clients and operators that failed.
    pub publish_failures: Number,
    /// Messages taken from RabbitMQ and not acknowledged yet.
    pub unacknowledged: Number,
    /// Gaps: times that publications may have been lost before they reached this node.
    pub gaps: Number,
    /// Those of them that were found because this node's own queue had dropped messages.
    pub overflows: Number,
    /// Topics with a subscriber on this node.
    pub topics: Number,
    /// Mails waiting in the outbox for a shard whose mailbox is full.
    pub outbox: Number,
    /// Bytes waiting to be merged.
    pub merging_bytes: Number,
    /// Requests waiting in the broker thread's mailboxes.
    pub requests_depth: Number,
    /// Bytes of publications kept for those who come back, with what it takes to find them.
    pub history_bytes: Number,
    /// Publications kept.
    pub history_publications: Number,
    /// Topics whose place is remembered, with publications or without.
    pub history_topics: Number,
    /// Clients that came back and got what they missed.
    pub recovered: Number,
    /// Clients that came back and could not.
    pub unrecovered: Number,
    /// Clients that came back and were refused, to try again: this node did not read as far as they were
    /// in time, or too many waited for that.
    pub recoveries_refused: Number,
    /// Microseconds from the publisher's time stamp, where a message has one, to the hand-over.
    pub handover: Histogram<12>,
}

impl Default for BrokerStats {
    fn default() -> Self {
        Self {
            namespaces: Vec::new(),
            backplane: Number::default(),
            refusal: Mutex::default(),
            rabbitmq_blocked: Number::default(),
            stream_offset: Number::default(),
            stream_behind: Number::default(),
            stream_lag: Number::default(),
            connects: Number::default(),
            publications: Number::default(),
            unheard: Number::default(),
            encodings: Number::default(),
            deflate_in: Number::default(),
            deflate_out: Number::default(),
            batches: Number::default(),
            dead_lettered: Number::default(),
            dead_letters_unroutable: Number::default(),
            dead_letters_refused: Number::default(),
            duplicates: Number::default(),
            replayed: Number::default(),
            expired: Number::default(),
            confirmed: Number::default(),
            publish_failures: Number::default(),
            unacknowledged: Number::default(),
            gaps: Number::default(),
            overflows: Number::default(),
            topics: Number::default(),
            outbox: Number::default(),
            merging_bytes: Number::default(),
            requests_depth: Number::default(),
            history_bytes: Number::default(),
            history_publications: Number::default(),
            history_topics: Number::default(),
            recovered: Number::default(),
            unrecovered: Number::default(),
            recoveries_refused: Number::default(),
            handover: Histogram::new(&MICROSECONDS),
        }
    }
}

/// What the control thread counts of one method of the API.
#[derive(Debug)]
pub struct MethodStats {
    /// Requests that were carried out.
    pub done: Number,
    /// Requests that were not, whatever the reason.
    pub failed: Number,
    /// Microseconds from the end of a request's head to its answer.
    pub latency: Histogram<12>,
}

impl Default for MethodStats {
    fn default() -> Self {
        let (done, failed) = (Number::default(), Number::default());
        Self { done, failed, latency: Histogram::new(&MICROSECONDS) }
    }
}

/// The methods of the API, in the order of [`ControlStats::methods`]; the last stands for all that there are not.
pub const API_METHODS: [&str; 9] = [
    "publish",
    "broadcast",
    "info",
    "channels",
    "history",
    "history_remove",
    "disconnect",
    "unsubscribe",
    "unknown",
];

/// What the control thread counts.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ControlStats {
    /// Requests to the API, in the order of [`API_METHODS`].
    pub methods: [MethodStats; API_METHODS.len()],
}

impl BrokerStats {
    /// Where the connection to the backplane stands.
    #[must_use]
    pub fn backplane(&self) -> BackplaneState {
        match self.backplane.value() {
            1 => BackplaneState::Ready,
            2 => BackplaneState::Loading,
            3 => BackplaneState::Refused,
            _ => BackplaneState::Away,
        }
    }

    /// Notes that an attempt to connect to RabbitMQ has failed, and why if RabbitMQ is there and refuses it.
    pub fn not_connected(&self, refusal: Option<Box<str>>) {
        let state = if refusal.is_some() { BackplaneState::Refused } else { BackplaneState::Away };
        *self.refusal.lock() = refusal;
        self.backplane.set(state as u64);
    }

    /// Why RabbitMQ refuses this engine, while it does: in words for operators, with RabbitMQ's own.
    #[must_use]
    pub fn refusal(&self) -> Option<Box<str>> {
        (self.backplane() == BackplaneState::Refused).then(|| self.refusal.lock().clone()).flatten()
    }
}

/// Everybody's counters, for the control thread.
#[derive(Clone, Debug)]
pub struct Stats {
    /// One block per shard, in the order of their numbers.
    pub shards: Vec<Arc<ShardStats>>,
    /// How many clients the node may have.
    pub clients_max: u64,
    /// The broker thread's block.
    pub broker: Arc<BrokerStats>,
    /// The control thread's block.
    pub control: Arc<ControlStats>,
}

impl Stats {
    /// Empty counters for `shards` shards and the namespaces of these names.
    #[must_use]
    pub fn new(shards: usize, namespaces: Vec<String>) -> Self {
        let counted = |name| NamespaceStats { name, publications: Number::default() };
        let namespaces: Vec<_> = namespaces.into_iter().map(counted).collect();
        Self {
            shards: (0..shards).map(|_| Arc::new(ShardStats::for_namespaces(namespaces.len()))).collect(),
            clients_max: 0,
            broker: Arc::new(BrokerStats { namespaces, ..BrokerStats::default() }),
            control: Arc::default(),
        }
    }

    /// The sum of one number over all shards.
    pub fn sum(&self, number: impl Fn(&ShardStats) -> &Number) -> u64 {
        self.shards.iter().map(|shard| number(shard).value()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_at_its_bounds_and_beyond() {
        let histogram = Histogram::new(&LINES);
        for value in [1, 2, 3, 2048, 2049] {
            histogram.observe(value, 2);
        }
        let (buckets, beyond, sum) = histogram.read();
        assert_eq!(buckets[..3], [(1, 2), (2, 2), (4, 2)]);
        assert_eq!((buckets[9], beyond), ((2048, 2), 2));
        assert_eq!(sum, 2 * (1 + 2 + 3 + 2048 + 2049));
    }
}
