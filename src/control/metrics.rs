//! `/metrics`: everybody's counters, read where they are written, at the moment of the scrape. The format
//! is OpenMetrics text, which Prometheus reads; names follow its conventions.

use std::fmt;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::desk::{Desk, Mode};
use super::process;
use crate::protocol::codes::CloseReason;
use crate::stats::{BrokerStats, Histogram, Number, ShardStats, Stats};
use crate::wire::refusal::Refusal;

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where a shard has a number.
type ShardNumber = fn(&ShardStats) -> &Number;

/// A number's name, its explanation, and where it is.
type Row<T> = (&'static str, &'static str, fn(&T) -> &Number);

/// Counters of each shard; `_total` is appended to the names.
const SHARD_COUNTERS: &[Row<ShardStats>] = &[
    ("accepted", "Connections accepted.", |s| &s.accepted),
    ("accept_failures", "Accepts that failed for want of descriptors or memory.", |s| &s.accept_failures),
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
    ("gaps_told", "Subscriptions ended with 2500 after a gap in the backplane.", |s| &s.gaps_told),
    ("ticks", "Turns of the shard's loop.", |s| &s.ticks),
];

/// Gauges of each shard.
const SHARD_GAUGES: &[Row<ShardStats>] = &[
    ("blocked_clients", "Clients whose socket takes nothing at the moment.", |s| &s.blocked_clients),
    ("mailbox_depth", "Mails waiting in the shard's mailbox.", |s| &s.mailbox_depth),
    ("log_bytes", "Bytes in the logs of all topics.", |s| &s.log_bytes),
    ("rest_bytes", "Bytes kept only because a client is in the middle of a frame.", |s| &s.rest_bytes),
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
    ("publications", "Publications taken from the backplane: one per message and topic.", |b| {
        &b.publications
    }),
    ("unheard", "Publications that nobody on this node subscribes to.", |b| &b.unheard),
    ("encodings", "Publications encoded, whatever the number of clients.", |b| &b.encodings),
    ("deflate_in_bytes", "Bytes of publications that were compressed, once for everybody.", |b| {
        &b.deflate_in
    }),
    ("deflate_out_bytes", "Bytes that they became.", |b| &b.deflate_out),
    ("batches", "Batches handed to shards.", |b| &b.batches),
    ("dead_lettered", "Messages that could not be delivered.", |b| &b.dead_lettered),
    ("replayed", "Messages of a stream that were there before, and were only read to know of them.", |b| {
        &b.replayed
    }),
    ("expired", "Publications not pushed because their expiration had passed.", |b| &b.expired),
    ("duplicates", "Publications left out because their message-id had come before for their topic.", |b| {
        &b.duplicates
    }),
    ("confirmed", "Publishes of clients and operators that the backplane confirmed.", |b| &b.confirmed),
    ("publish_failures", "Publishes of clients and operators that failed.", |b| &b.publish_failures),
    ("recovered", "Subscribers that came back and got what they missed.", |b| &b.recovered),
    ("unrecovered", "Subscribers that came back after what they missed was gone.", |b| &b.unrecovered),
    ("gaps", "Times that publications may have been lost before they reached this node.", |b| &b.gaps),
    ("overflows", "Those of them that came of an overflow of this node's own queue.", |b| &b.overflows),
];

/// Gauges of the broker thread.
const BROKER_GAUGES: &[Row<BrokerStats>] = &[
    ("rabbitmq_ready", "1 while the backplane is connected; always 1 where it is embedded.", |b| {
        &b.backplane
    }),
    ("unacknowledged", "Messages taken from RabbitMQ and not acknowledged yet.", |b| &b.unacknowledged),
    ("topics", "Topics with a subscriber on this node.", |b| &b.topics),
    ("outbox", "Mails waiting for a shard whose mailbox is full.", |b| &b.outbox),
    ("merging_bytes", "Bytes waiting to be merged.", |b| &b.merging_bytes),
    ("requests_depth", "Requests waiting in the broker thread's mailbox.", |b| &b.requests_depth),
    ("history_bytes", "Bytes of publications kept for those who come back.", |b| &b.history_bytes),
    ("history_publications", "Publications kept for those who come back.", |b| &b.history_publications),
    ("history_topics", "Topics whose place in their history is known.", |b| &b.history_topics),
];

/// Answers a scrape.
pub(super) async fn scrape(State(desk): State<Arc<Desk>>) -> Response {
    let mut page = String::with_capacity(16 << 10);
    // Writing to a string cannot fail; an encoder that does is a fault worth a 500.
    let status = match text::encode(&mut page, &desk.metrics) {
        Ok(()) => StatusCode::OK,
        Err(fmt::Error) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut response = Response::new(Body::from(page));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
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
        let slow = ("slow_outcomes", "What became of clients that were too slow.", MetricType::Counter);
        self.per_shard_and(sheet, slow, "policy", &POLICIES)?;
        self.closes(sheet)?;
        self.refused_upgrades(sheet)?;
        let help = "Publications in each frame.";
        let mut family = sheet.family("fanfare_lines_per_frame", help, MetricType::Histogram)?;
        for (shard, stats) in self.numbered() {
            let labels = [("shard", shard)];
            let mut encoder = family.encode_family(&labels)?;
            histogram(&mut encoder, &stats.lines_per_frame, 1.0)?;
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
        histogram(&mut family, &self.stats.broker.handover, 1e-6)
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

/// A histogram whose values are in units of `scale`.
fn histogram<const N: usize>(
    encoder: &mut MetricEncoder<'_>,
    histogram: &Histogram<N>,
    scale: f64,
) -> fmt::Result {
    let (buckets, beyond, sum) = histogram.read();
    let count = buckets.iter().map(|(_, count)| count).sum::<u64>() + beyond;
    let finite = buckets.into_iter().map(|(bound, count)| (scaled(bound, scale), count));
    let all: Vec<_> = finite.chain([(f64::INFINITY, beyond)]).collect();
    encoder.encode_histogram::<NoLabelSet>(scaled(sum, scale), count, &all, None)
}

/// Prometheus' numbers are floating-point ones: beyond 2^53 the last digits are rounded.
#[allow(clippy::cast_precision_loss)]
fn scaled(number: u64, scale: f64) -> f64 {
    number as f64 * scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Every sample by name and labels. Fails on what is no OpenMetrics text.
    fn parse(page: &str) -> BTreeMap<String, f64> {
        let body = page.strip_suffix("# EOF\n").expect("closed by an EOF line");
        let samples = body.lines().filter(|line| !line.starts_with("# "));
        let parse = |line: &str| {
            let (name, value) = line.rsplit_once(' ').expect("name and value");
            (name.to_owned(), value.parse().expect("a number"))
        };
        let parsed: BTreeMap<String, f64> = samples.clone().map(parse).collect();
        assert_eq!(parsed.len(), samples.count(), "every sample once");
        parsed
    }

    fn page(stats: &Stats) -> String {
        let mut page = String::new();
        text::encode(&mut page, &registry(stats, Mode::Embedded)).unwrap();
        page
    }

    #[test]
    fn numbers_arrive_under_their_names() {
        let stats = Stats::new(2);
        stats.shards[1].deliveries.add(7);
        stats.shards[1].open.set(3);
        stats.shards[0].policy_skip.add(2);
        stats.shards[0].closes[CloseReason::Slow as usize].add(4);
        stats.broker.publications.add(9);
        stats.broker.backplane.set(1);
        let samples = parse(&page(&stats));
        for (name, value) in [
            (r#"fanfare_deliveries_total{shard="0"}"#, 0.0),
            (r#"fanfare_deliveries_total{shard="1"}"#, 7.0),
            (r#"fanfare_clients{shard="1",state="open"}"#, 3.0),
            (r#"fanfare_slow_outcomes_total{shard="0",policy="skip"}"#, 2.0),
            (r#"fanfare_closes_total{shard="0",reason="slow"}"#, 4.0),
            ("fanfare_publications_total", 9.0),
            ("fanfare_rabbitmq_ready", 1.0),
        ] {
            assert_eq!(samples.get(name), Some(&value), "{name}");
        }
        let build =
            format!(r#"fanfare_build_info{{version="{}",mode="embedded"}}"#, env!("CARGO_PKG_VERSION"));
        assert_eq!(samples.get(&build), Some(&1.0));
        assert!(samples["process_resident_memory_bytes"] > 1e6);
    }

    #[test]
    fn histograms_are_cumulative_and_in_their_units() {
        let stats = Stats::new(1);
        stats.shards[0].lines_per_frame.observe(3, 5);
        stats.shards[0].lines_per_frame.observe(5000, 1);
        stats.broker.handover.observe(400, 2);
        let samples = parse(&page(&stats));
        for (name, value) in [
            (r#"fanfare_lines_per_frame_bucket{le="2.0",shard="0"}"#, 0.0),
            (r#"fanfare_lines_per_frame_bucket{le="4.0",shard="0"}"#, 5.0),
            (r#"fanfare_lines_per_frame_bucket{le="+Inf",shard="0"}"#, 6.0),
            (r#"fanfare_lines_per_frame_count{shard="0"}"#, 6.0),
            (r#"fanfare_lines_per_frame_sum{shard="0"}"#, 5015.0),
            (r#"fanfare_handover_seconds_bucket{le="0.0005"}"#, 2.0),
            ("fanfare_handover_seconds_sum", 0.0008),
        ] {
            let found = samples.get(name).copied();
            assert!(
                found.is_some_and(|found| (found - value).abs() < 1e-9),
                "{name}: {found:?}\n{}",
                page(&stats)
            );
        }
    }

    #[test]
    fn every_name_is_explained_once() {
        let page = page(&Stats::new(1));
        let explained: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("# HELP ")).collect();
        let names: BTreeMap<_, _> = explained.iter().filter_map(|line| line.split_once(' ')).collect();
        assert_eq!(names.len(), explained.len());
        assert!(names.values().all(|help| help.ends_with('.')), "{names:?}");
    }
}
