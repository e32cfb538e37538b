//! `/metrics`: everybody's counters, read where they are written, at the moment of the scrape. Names follow the
//! conventions of Prometheus. The format is its text format, or OpenMetrics for those who ask for that (`exposition`).

mod backends;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::{fmt, iter};

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::answers::{NO_ROOM, counted, room_for};
use super::envelope::refuse;
use super::exposition::Exposition;
use super::places::Peer;
use super::process;
use super::state::{AppState, Mode};
use crate::base::clock::UnixTime;
use crate::domain::reasons::ErrorCode;
use crate::stats::{
    BackplaneState, BrokerStats, ControlStats, Kind, Metric, Observations, ShardStats, Stats, Values,
};

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
    registry.register_collector(Box::new(Counters { stats: stats.clone(), mode, started: UnixTime::now() }));
    registry
}

#[derive(Debug)]
struct Counters {
    stats: Stats,
    mode: Mode,
    started: UnixTime,
}

impl Collector for Counters {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut sheet = Sheet { encoder };
        self.build(&mut sheet)?;
        self.shards(&mut sheet)?;
        self.broker(&mut sheet)?;
        self.control(&mut sheet)?;
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
        for metric in ShardStats::METRICS {
            let shards = self.stats.shards.iter().map(Arc::as_ref).enumerate();
            let blocks = shards.map(|(shard, block)| (Some(("shard", shard.to_string())), block));
            rows(sheet, metric, blocks)?;
        }
        let help = "How many clients the node may have; one more is refused with 503.";
        let mut family = sheet.family("fanfare_clients_limit", help, MetricType::Gauge)?;
        family.encode_gauge(&self.stats.clients_max)
    }

    fn broker(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        for metric in BrokerStats::METRICS {
            rows(sheet, metric, iter::once((None, &*self.stats.broker)))?;
        }
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
        let namespaces = self.stats.namespaces();
        for (number, name) in namespaces.iter().enumerate() {
            let publications = self.stats.broker.namespace_publications.value(number);
            sample(&mut family, vec![("namespace", name.clone())], MetricType::Counter, publications)?;
        }
        let help = "Subscriptions by namespace.";
        let mut family = sheet.family("fanfare_namespace_subscriptions", help, MetricType::Gauge)?;
        for (number, name) in namespaces.into_iter().enumerate() {
            let shards = self.stats.shards.iter();
            let sum = shards.map(|shard| shard.namespace_subscriptions.value(number)).sum();
            sample(&mut family, vec![("namespace", name)], MetricType::Gauge, sum)?;
        }
        backends::write(sheet, &self.stats.broker.backends.all())
    }

    fn control(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        for metric in ControlStats::METRICS {
            rows(sheet, metric, iter::once((None, &*self.stats.control)))?;
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
        family.encode_gauge(&self.started.as_secs_f64())
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

/// Writes a row of a block's table, with the values of each block beside that block's own label.
fn rows<'a, T: 'static>(
    sheet: &mut Sheet<'_>,
    metric: &Metric<T>,
    blocks: impl Iterator<Item = (Option<Label>, &'a T)>,
) -> fmt::Result {
    let kind = match metric.values {
        Values::One(kind, _) | Values::Labelled(kind, ..) => metric_type(kind),
        Values::BySet(..) => MetricType::Counter,
        Values::Histogram(..) | Values::HistogramBySet(..) => MetricType::Histogram,
    };
    let name = format!("fanfare_{}", metric.name);
    let mut family = sheet.family(&name, metric.help.trim(), kind)?;
    for (own, block) in blocks {
        let own: Vec<Label> = own.into_iter().collect();
        match &metric.values {
            Values::One(_, number) => sample(&mut family, own, kind, number(block).value())?,
            Values::Labelled(_, label, numbers) => {
                for &(value, number) in *numbers {
                    let labels = with(&own, [(*label, value.to_owned())]);
                    sample(&mut family, labels, kind, number(block).value())?;
                }
            }
            Values::BySet(labels, numbers) => {
                for (member, number) in labels().into_iter().zip(numbers(block)) {
                    sample(&mut family, with(&own, member), kind, number.value())?;
                }
            }
            Values::Histogram(per_unit, read) => histogram(&mut family, own, read(block), *per_unit)?,
            Values::HistogramBySet(labels, per_unit, read) => {
                for (member, observed) in labels().into_iter().zip(read(block)) {
                    histogram(&mut family, with(&own, member), observed, *per_unit)?;
                }
            }
        }
    }
    Ok(())
}

fn with(own: &[Label], others: impl IntoIterator<Item = Label>) -> Vec<Label> {
    own.iter().cloned().chain(others).collect()
}

/// A label's name and its value.
type Label = (&'static str, String);

const fn metric_type(kind: Kind) -> MetricType {
    match kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
    }
}

/// Writes a number. What has no label is no family: its name would be followed by empty braces.
fn sample(family: &mut MetricEncoder<'_>, labels: Vec<Label>, kind: MetricType, value: u64) -> fmt::Result {
    let write = |encoder: &mut MetricEncoder<'_>| match kind {
        MetricType::Counter => encoder.encode_counter::<NoLabelSet, u64, u64>(&value, None),
        _ => encoder.encode_gauge(&value),
    };
    if labels.is_empty() { write(family) } else { write(&mut family.encode_family(&labels)?) }
}

/// Microseconds in a second.
const MICROSECONDS: u32 = 1_000_000;

/// Writes a histogram of whole numbers, `per_unit` of which are one of what is shown.
fn histogram(
    family: &mut MetricEncoder<'_>,
    labels: Vec<Label>,
    (buckets, beyond, sum): Observations,
    per_unit: u32,
) -> fmt::Result {
    let count = buckets.iter().map(|(_, count)| count).sum::<u64>() + beyond;
    let finite = buckets.into_iter().map(|(bound, count)| (scaled(bound, per_unit), count));
    let all: Vec<_> = finite.chain([(f64::INFINITY, beyond)]).collect();
    let write = |encoder: &mut MetricEncoder<'_>| {
        encoder.encode_histogram::<NoLabelSet>(scaled(sum, per_unit), count, &all, None)
    };
    if labels.is_empty() { write(family) } else { write(&mut family.encode_family(&labels)?) }
}

/// Prometheus' numbers are floating-point ones: beyond 2^53 the last digits are rounded.
/// A quotient is the number nearest to it, so that 50,000 microseconds are written as 0.05; times 1e-6 they are not.
#[allow(clippy::cast_precision_loss)]
fn scaled(number: u64, per_unit: u32) -> f64 {
    number as f64 / f64::from(per_unit)
}

#[cfg(test)]
mod tests;
