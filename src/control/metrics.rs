//! `/metrics`: everybody's counters, read where they are written, at the moment of the scrape. Names follow the
//! conventions of Prometheus. The format is its text format, or OpenMetrics for those who ask for that (`exposition`).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::answers::{NO_ROOM, counted, room_for};
use super::envelope::refuse;
use super::exposition::Exposition;
use super::process;
use super::serve::Peer;
use super::state::{AppState, Mode};
use crate::domain::reasons::{CloseReason, ErrorCode};
use crate::stats::{API_METHODS, BackplaneState, BrokerStats, Histogram, Number, ShardStats, Stats};
use crate::transport::refusal::Refusal;

/// Where a shard has a number.
type ShardNumber = fn(&ShardStats) -> &Number;

/// A number's name, its explanation, and where it is.
type Row<T> = (&'static str, &'static str, fn(&T) -> &Number);

/// Counters of each shard; `_total` is appended to the names.
const SHARD_COUNTERS: &[Row<ShardStats>] = &[
    ("accepted", "Connections accepted.", |s| &s.accepted),
    ("accept_failures", "Accepts that failed for want of descriptors or memory.", |s| &s.accept_failures),
    (
        "listeners_closed",
        "Times that a shard's own table of descriptors was full, and it stopped to listen.",
        |s| &s.listeners_closed,
    ),
    ("commands", "Commands taken from clients.", |s| &s.commands),
    ("deliveries", "Publications handed to sockets: one per line and client.", |s| &s.deliveries),
    ("frames", "WebSocket frames with publications.", |s| &s.frames),
    ("writes", "Calls that wrote to a socket.", |s| &s.writes),
    ("sent_bytes", "Bytes that sockets took, headers and replies included.", |s| &s.bytes),
    (
        "keys_dropped",
        "Keys whose latest publication slow subscribers were not sent, for want of room.",
        |s| &s.keys_dropped,
    ),
    ("gaps_told", "Subscriptions ended with 2500 because messages from RabbitMQ may be missing.", |s| {
        &s.gaps_told
    }),
    ("ticks", "Turns of the shard's loop.", |s| &s.ticks),
];

/// Gauges of each shard.
const SHARD_GAUGES: &[Row<ShardStats>] = &[
    ("blocked_clients", "Clients whose socket takes nothing at the moment.", |s| &s.blocked_clients),
    ("mailbox_depth", "Mails waiting in the shard's mailbox.", |s| &s.mailbox_depth),
    ("log_bytes", "Bytes in the logs of all topics.", |s| &s.log_bytes),
    ("rest_bytes", "Bytes kept only because a client is in the middle of a frame.", |s| &s.rest_bytes),
    ("reply_bytes", "Bytes of replies that wait for clients.", |s| &s.reply_bytes),
    ("input_bytes", "Bytes of clients' messages that came in part, or wait.", |s| &s.input_bytes),
    ("shard_topics", "Topics the shard has a slot for.", |s| &s.topics),
    ("subscriptions", "Subscriptions.", |s| &s.subscriptions),
];

/// The states of `fanfare_clients`.
const CLIENT_STATES: [(&str, ShardNumber); 3] =
    [("upgrading", |s| &s.upgrading), ("open", |s| &s.open), ("closing", |s| &s.closing)];

/// The policies of `fanfare_slow_outcomes_total`.
const POLICIES: [(&str, ShardNumber); 3] = [
    ("disconnect", |s| &s.policy_disconnect),
    ("resync", |s| &s.policy_resync),
    ("skip", |s| &s.policy_skip),
];

/// Counters of the broker thread; `_total` is appended to the names.
const BROKER_COUNTERS: &[Row<BrokerStats>] = &[
    ("rabbitmq_connects", "Connections to RabbitMQ made.", |b| &b.connects),
    (
        "publications",
        "Publications taken from RabbitMQ, or from this process where there is none: one per message and topic.",
        |b| &b.publications,
    ),
    ("unheard", "Publications that nobody on this node subscribes to.", |b| &b.unheard),
    ("encodings", "Publications encoded, whatever the number of clients.", |b| &b.encodings),
    ("deflate_in_bytes", "Bytes of publications that were compressed, once for everybody.", |b| {
        &b.deflate_in
    }),
    ("deflate_out_bytes", "Bytes that they became.", |b| &b.deflate_out),
    ("batches", "Batches handed to shards.", |b| &b.batches),
    (
        "dead_lettered",
        "Messages that could not be delivered: kept as dead letters, unroutable, or refused.",
        |b| &b.dead_lettered,
    ),
    ("dead_letters_unroutable", "Dead letters lost because their exchange routes them to no queue.", |b| {
        &b.dead_letters_unroutable
    }),
    (
        "dead_letters_refused",
        "Dead letters lost because RabbitMQ refused them, or could not store them.",
        |b| &b.dead_letters_refused,
    ),
    ("replayed", "Messages of a stream that were there before, and were only read to know of them.", |b| {
        &b.replayed
    }),
    ("expired", "Publications not pushed because their expiration had passed.", |b| &b.expired),
    ("duplicates", "Publications left out because their message-id had come before for their topic.", |b| {
        &b.duplicates
    }),
    (
        "confirmed",
        "Publishes of clients and operators that RabbitMQ, or this process where there is none, confirmed.",
        |b| &b.confirmed,
    ),
    ("publish_failures", "Publishes of clients and operators that failed.", |b| &b.publish_failures),
    ("recovered", "Subscribers that came back and got what they missed.", |b| &b.recovered),
    ("unrecovered", "Subscribers that came back after what they missed was gone.", |b| &b.unrecovered),
    (
        "recoveries_refused",
        "Recoveries refused, to be tried again: this node had not read as far in time, or too many waited.",
        |b| &b.recoveries_refused,
    ),
    ("gaps", "Times that publications may have been lost before they reached this node.", |b| &b.gaps),
    ("overflows", "Those of them that came of an overflow of this node's own queue.", |b| &b.overflows),
];

/// Gauges of the broker thread.
const BROKER_GAUGES: &[Row<BrokerStats>] = &[
    (
        "rabbitmq_blocked",
        "1 while RabbitMQ has an alarm and takes no publishes, as far as it has said so.",
        |b| &b.rabbitmq_blocked,
    ),
    ("stream_offset", "Offset of the newest message read from the stream.", |b| &b.stream_offset),
    (
        "stream_behind",
        "Messages between the newest one read from the stream and the end that the stream had when this node connected to \
         RabbitMQ: what is left to catch up with. What has been published since is not counted.",
        |b| &b.stream_behind,
    ),
    ("unacknowledged", "Messages taken from RabbitMQ and not acknowledged yet.", |b| &b.unacknowledged),
    ("topics", "Topics with a subscriber on this node.", |b| &b.topics),
    ("outbox", "Mails waiting for a shard whose mailbox is full.", |b| &b.outbox),
    ("merging_bytes", "Bytes waiting to be merged.", |b| &b.merging_bytes),
    ("requests_depth", "Requests waiting in the broker thread's mailboxes.", |b| &b.requests_depth),
    ("history_bytes", "Bytes of publications kept for those who come back.", |b| &b.history_bytes),
    ("history_publications", "Publications kept for those who come back.", |b| &b.history_publications),
    ("history_topics", "Topics whose place in their history is known.", |b| &b.history_topics),
];

/// Answers a scrape.
pub(super) async fn scrape(
    State(state): State<Arc<AppState>>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
) -> Response {
    let (expected, exposition) = (state.page_bytes.load(Ordering::Relaxed), Exposition::wanted(&headers));
    // Many may wait for room.
    drop(headers);
    let Some(share) = room_for(&state.answers, expected, peer.as_ref().map(|Extension(peer)| peer)).await
    else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::TooManyRequests.code(), NO_ROOM);
    };
    let mut page = String::with_capacity(expected);
    // Writing to a string cannot fail; an encoder that does is a fault worth a 500.
    let status = match text::encode(&mut page, &state.metrics) {
        Ok(()) => StatusCode::OK,
        Err(fmt::Error) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let page = exposition.of(page);
    state.page_bytes.store(page.len(), Ordering::Relaxed);
    let mut response = Response::new(Body::from(page));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(exposition.content_type());
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    counted(response, share, peer.map(|Extension(peer)| peer))
}

/// A registry of everything that `stats` counts.
pub(super) fn registry(stats: &Stats, mode: Mode) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Counters {
        stats: stats.clone(),
        mode,
        start_seconds: process::now_seconds(),
    }));
    registry
}

#[derive(Debug)]
struct Counters {
    stats: Stats,
    mode: Mode,
    /// Seconds since 1970.
    start_seconds: f64,
}

impl Collector for Counters {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut sheet = Sheet { encoder };
        self.build(&mut sheet)?;
        self.shards(&mut sheet)?;
        self.broker(&mut sheet)?;
        self.api(&mut sheet)?;
        self.process(&mut sheet)
    }
}

impl Counters {
    fn build(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let help = "What is running.";
        let mut family = sheet.family("fanfare_build", help, MetricType::Info)?;
        family.encode_info(&[("version", env!("CARGO_PKG_VERSION")), ("mode", self.mode.label())])
    }

    fn shards(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        for &(name, help, number) in SHARD_COUNTERS {
            self.per_shard(sheet, name, help, MetricType::Counter, number)?;
        }
        for &(name, help, number) in SHARD_GAUGES {
            self.per_shard(sheet, name, help, MetricType::Gauge, number)?;
        }
        let clients = ("clients", "Clients by state.", MetricType::Gauge);
        self.per_shard_and(sheet, clients, "state", &CLIENT_STATES)?;
        let help = "How many clients the node may have; one more is refused with 503.";
        sheet
            .family("fanfare_clients_limit", help, MetricType::Gauge)?
            .encode_gauge(&self.stats.clients_max)?;
        let slow = ("slow_outcomes", "What became of clients that were too slow.", MetricType::Counter);
        self.per_shard_and(sheet, slow, "policy", &POLICIES)?;
        self.closes(sheet)?;
        self.refused_upgrades(sheet)?;
        let help = "Publications in each frame.";
        let mut family = sheet.family("fanfare_lines_per_frame", help, MetricType::Histogram)?;
        for (shard, stats) in self.numbered() {
            let labels = [("shard", shard)];
            let mut encoder = family.encode_family(&labels)?;
            histogram(&mut encoder, &stats.lines_per_frame, 1)?;
        }
        Ok(())
    }

    fn broker(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        for &(name, help, number) in BROKER_COUNTERS {
            let value = number(&self.stats.broker).value();
            counter(&mut sheet.family(&format!("fanfare_{name}"), help, MetricType::Counter)?, value)?;
        }
        for &(name, help, number) in BROKER_GAUGES {
            let value = number(&self.stats.broker).value();
            sheet.family(&format!("fanfare_{name}"), help, MetricType::Gauge)?.encode_gauge(&value)?;
        }
        let help = "From a publication's time stamp, where it has one, to the hand-over to the shards.";
        let mut family = sheet.family("fanfare_handover_seconds", help, MetricType::Histogram)?;
        histogram(&mut family, &self.stats.broker.handover, MICROSECONDS)?;
        let help = "1 while RabbitMQ is connected and nothing is read back; always 1 without RabbitMQ.";
        let ready = u64::from(self.stats.broker.backplane() == BackplaneState::Ready);
        sheet.family("fanfare_rabbitmq_ready", help, MetricType::Gauge)?.encode_gauge(&ready)?;
        let help = "How old the newest message of the stream with a time stamp was when it was taken: from its time stamp \
                    (x-timestamp-us, timestamp_in_ms or timestamp: its publisher's clock, or the time of an event if that \
                    is what a publisher means) to this node's clock. It stays until the next such message.";
        let lag = scaled(self.stats.broker.stream_lag.value(), MICROSECONDS);
        sheet.family("fanfare_stream_lag_seconds", help, MetricType::Gauge)?.encode_gauge(&lag)?;
        let help =
            "Publications taken from RabbitMQ, or from this process where there is none, by namespace.";
        let mut family = sheet.family("fanfare_namespace_publications", help, MetricType::Counter)?;
        for namespace in &self.stats.broker.namespaces {
            let labels = [("namespace", namespace.name.as_str())];
            sample(&mut family, &labels, MetricType::Counter, namespace.publications.value())?;
        }
        let help = "Subscriptions by namespace.";
        let mut family = sheet.family("fanfare_namespace_subscriptions", help, MetricType::Gauge)?;
        for (number, namespace) in self.stats.broker.namespaces.iter().enumerate() {
            let of = |shard: &ShardStats| shard.namespace_subscriptions.get(number).map_or(0, Number::value);
            let sum = self.stats.shards.iter().map(|shard| of(shard)).sum();
            let labels = [("namespace", namespace.name.as_str())];
            sample(&mut family, &labels, MetricType::Gauge, sum)?;
        }
        Ok(())
    }

    /// The API's methods.
    fn api(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let methods = || API_METHODS.into_iter().zip(&self.stats.control.methods);
        let help = "Requests to the API, by what became of them.";
        let mut family = sheet.family("fanfare_api_requests", help, MetricType::Counter)?;
        for (method, stats) in methods() {
            for (outcome, number) in [("done", &stats.done), ("failed", &stats.failed)] {
                let labels = [("method", method), ("outcome", outcome)];
                sample(&mut family, &labels, MetricType::Counter, number.value())?;
            }
        }
        let help = "From the end of a request's head to its answer.";
        let mut family = sheet.family("fanfare_api_seconds", help, MetricType::Histogram)?;
        for (method, stats) in methods() {
            let labels = [("method", method)];
            histogram(&mut family.encode_family(&labels)?, &stats.latency, MICROSECONDS)?;
        }
        Ok(())
    }

    /// The names that Prometheus' own client libraries use for every process.
    fn process(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let usage = process::usage();
        let gauges = [
            ("process_resident_memory_bytes", "Resident memory.", usage.resident_bytes),
            ("process_open_fds", "Open descriptors of the process's first table.", usage.open_fds),
            ("process_max_fds", "Limit on open descriptors, per table.", usage.max_fds),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                sheet.family(name, help, MetricType::Gauge)?.encode_gauge(&value)?;
            }
        }
        if let Some(seconds) = usage.cpu_seconds {
            let help = "CPU time, user and system, of all threads.";
            let mut family = sheet.family("process_cpu_seconds", help, MetricType::Counter)?;
            family.encode_counter::<NoLabelSet, f64, u64>(&seconds, None)?;
        }
        let help = "When the process started, in seconds since 1970.";
        let mut family = sheet.family("process_start_time_seconds", help, MetricType::Gauge)?;
        family.encode_gauge(&self.start_seconds)
    }

    fn numbered(&self) -> impl Iterator<Item = (usize, &ShardStats)> {
        self.stats.shards.iter().map(Arc::as_ref).enumerate()
    }

    fn per_shard(
        &self,
        sheet: &mut Sheet<'_>,
        name: &str,
        help: &str,
        kind: MetricType,
        number: ShardNumber,
    ) -> fmt::Result {
        let name = format!("fanfare_{name}");
        let mut family = sheet.family(&name, help, kind)?;
        for (shard, stats) in self.numbered() {
            sample(&mut family, &[("shard", shard)], kind, number(stats).value())?;
        }
        Ok(())
    }

    /// A number per shard and per value of one more label.
    fn per_shard_and(
        &self,
        sheet: &mut Sheet<'_>,
        (name, help, kind): (&str, &str, MetricType),
        label: &str,
        values: &[(&str, ShardNumber)],
    ) -> fmt::Result {
        let name = format!("fanfare_{name}");
        let mut family = sheet.family(&name, help, kind)?;
        for (shard, stats) in self.numbered() {
            for &(value, number) in values {
                let labels = ([("shard", shard)], [(label, value)]);
                sample(&mut family, &labels, kind, number(stats).value())?;
            }
        }
        Ok(())
    }

    fn refused_upgrades(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let help = "HTTP requests on clients' ports that were not upgraded, by status and reason.";
        let mut family = sheet.family("fanfare_refused_upgrades", help, MetricType::Counter)?;
        for (shard, stats) in self.numbered() {
            for (refusal, number) in Refusal::ALL.into_iter().zip(&stats.refused_upgrades) {
                let status = refusal.status().to_string();
                let labels = ([("shard", shard)], [("status", &*status), ("reason", refusal.label())]);
                sample(&mut family, &labels, MetricType::Counter, number.value())?;
            }
        }
        Ok(())
    }

    fn closes(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let help = "Clients that are gone, by reason.";
        let mut family = sheet.family("fanfare_closes", help, MetricType::Counter)?;
        for (shard, stats) in self.numbered() {
            for (reason, number) in CloseReason::ALL.into_iter().zip(&stats.closes) {
                let labels = ([("shard", shard)], [("reason", reason.label())]);
                sample(&mut family, &labels, MetricType::Counter, number.value())?;
            }
        }
        Ok(())
    }
}

/// What is being written.
#[derive(Debug)]
struct Sheet<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl Sheet<'_> {
    /// Begins the samples of one name.
    fn family<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.encoder.encode_descriptor(name, help, None, kind)
    }
}

fn sample(
    family: &mut MetricEncoder<'_>,
    labels: &impl EncodeLabelSet,
    kind: MetricType,
    value: u64,
) -> fmt::Result {
    let mut encoder = family.encode_family(labels)?;
    match kind {
        MetricType::Counter => counter(&mut encoder, value),
        _ => encoder.encode_gauge(&value),
    }
}

fn counter(encoder: &mut MetricEncoder<'_>, value: u64) -> fmt::Result {
    encoder.encode_counter::<NoLabelSet, u64, u64>(&value, None)
}

/// Microseconds in a second.
const MICROSECONDS: u32 = 1_000_000;

/// A histogram of whole numbers, `per_unit` of which are one of what is shown.
fn histogram<const N: usize>(
    encoder: &mut MetricEncoder<'_>,
    histogram: &Histogram<N>,
    per_unit: u32,
) -> fmt::Result {
    let (buckets, beyond, sum) = histogram.read();
    let count = buckets.iter().map(|(_, count)| count).sum::<u64>() + beyond;
    let finite = buckets.into_iter().map(|(bound, count)| (scaled(bound, per_unit), count));
    let all: Vec<_> = finite.chain([(f64::INFINITY, beyond)]).collect();
    encoder.encode_histogram::<NoLabelSet>(scaled(sum, per_unit), count, &all, None)
}

/// Prometheus' numbers are floating-point ones: beyond 2^53 the last digits are rounded.
/// A quotient is the number nearest to it, so that 50,000 microseconds are written as 0.05; times 1e-6 they are not.
#[allow(clippy::cast_precision_loss)]
fn scaled(number: u64, per_unit: u32) -> f64 {
    number as f64 / f64::from(per_unit)
}

#[cfg(test)]
mod tests;
