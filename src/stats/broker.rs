//! What the broker thread counts.

use parking_lot::Mutex;

use super::MICROSECONDS;
use super::backends::BackendsStats;
use super::block::{Kind, Metric, Values, block};
use super::number::{Histogram, Number, Numbers};

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

block! {
    /// What the broker thread counts.
    pub struct BrokerStats {
        counters {
            /// Connections to RabbitMQ made.
            connects: "rabbitmq_connects",
            /// Publications taken from RabbitMQ, or from this process where there is none: one per
            /// message and topic.
            publications: "publications",
            /// Publications that nobody on this node subscribes to.
            unheard: "unheard",
            /// Publications encoded, whatever the number of clients.
            encodings: "encodings",
            /// Bytes of publications that were compressed, once for everybody.
            deflate_in: "deflate_in_bytes",
            /// Bytes that compressing them left.
            deflate_out: "deflate_out_bytes",
            /// Batches handed to shards.
            batches: "batches",
            /// Messages that could not be delivered: kept as dead letters, unroutable, or refused.
            dead_lettered: "dead_lettered",
            /// Dead letters lost because their exchange routes them to no queue.
            dead_letters_unroutable: "dead_letters_unroutable",
            /// Dead letters lost because RabbitMQ refused them, or could not store them.
            dead_letters_refused: "dead_letters_refused",
            /// Messages of a stream that were read back into the history, and not pushed.
            replayed: "replayed",
            /// Publications not pushed because their expiration had passed.
            expired: "expired",
            /// Publications left out because their message-id had come before for their topic.
            duplicates: "duplicates",
            /// Publishes of clients and operators that RabbitMQ, or this process where there is none,
            /// confirmed.
            confirmed: "confirmed",
            /// Publishes of clients and operators that failed.
            publish_failures: "publish_failures",
            /// Subscribers that came back and received everything they missed.
            recovered: "recovered",
            /// Subscribers that came back after a publication they missed was dropped.
            unrecovered: "unrecovered",
            /// Recoveries refused, to be tried again: this node had not read as far in time, or too many
            /// waited.
            recoveries_refused: "recoveries_refused",
            /// Calls without an answer after which clients went on nevertheless: by `hook_failure = "allow"`, or for another
            /// 60 s because a connection or a subscription had expired.
            calls_excused: "calls_excused",
            /// Answers of backends to calls that had ended: second ones, and late ones.
            call_answers_unexpected: "call_answers_unexpected",
            /// Times that publications may have been lost before they reached this node.
            gaps: "gaps",
            /// Gaps that came of an overflow of this node's own queue.
            overflows: "overflows",
        }
        gauges {
            /// 1 while RabbitMQ has an alarm and takes no publishes, as far as it has said so.
            rabbitmq_blocked: "rabbitmq_blocked",
            /// Offset of the newest message read from the stream.
            stream_offset: "stream_offset",
            /// Messages between the newest one read from the stream and the end that the stream had when
            /// this node connected to RabbitMQ: what is left to catch up with. What has been published
            /// since is not counted.
            stream_behind: "stream_behind",
            /// Messages taken from RabbitMQ and not acknowledged yet.
            unacknowledged: "unacknowledged",
            /// Topics with a subscriber on this node.
            topics: "topics",
            /// Mails waiting for a shard whose mailbox is full.
            outbox: "outbox",
            /// Bytes waiting to be merged.
            merging_bytes: "merging_bytes",
            /// Requests waiting in the broker thread's mailboxes.
            requests_depth: "requests_depth",
            /// Bytes of publications kept for recovery.
            history_bytes: "history_bytes",
            /// Publications kept for recovery.
            history_publications: "history_publications",
            /// Topics whose position in their history is known.
            history_topics: "history_topics",
        }
        labelled {}
        sets {}
        histograms {
            /// From a publication's time stamp, where it has one, to the hand-over to the shards.
            handover: [MICROSECONDS; 12] = "handover_seconds" / 1_000_000,
        }
        others {
            /// Publications taken from the backplane, one per message and topic, by the number of their namespace.
            pub namespace_publications: Numbers = Numbers::default(),
            /// What is counted for each backend.
            pub backends: BackendsStats = BackendsStats::default(),
            /// A [`BackplaneState`].
            pub backplane: Number = Number::default(),
            /// How old the newest message of a stream was when it was taken, by its time stamp: in microseconds.
            pub stream_lag: Number = Number::default(),
            /// Why RabbitMQ refuses this engine, if it does. Locked about once for each attempt to connect.
            pub(super) refusal: Mutex<Option<Box<str>>> = Mutex::default(),
        }
    }
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
