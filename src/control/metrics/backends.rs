//! What `/metrics` shows of the application's backends.

use std::fmt;

use prometheus_client::metrics::MetricType;

use super::{Label, MICROSECONDS, Sheet, histogram, sample};
use crate::domain::call::CallKind;
use crate::stats::{BackendStats, CallOutcome, NamedStats, NumberOf};

/// A gauge of a backend: its name, its help, and where its value is.
type Gauge = (&'static str, &'static str, NumberOf<BackendStats>);

/// Writes the samples of all backends.
pub(super) fn write(sheet: &mut Sheet<'_>, backends: &[NamedStats]) -> fmt::Result {
    calls(sheet, backends)?;
    let gauges: [Gauge; 3] = [
        ("fanfare_calls_in_flight", "Calls to a backend that were sent and have no answer yet.", |b| {
            &b.in_flight
        }),
        ("fanfare_calls_waiting", "Calls that wait to be sent to a backend.", |b| &b.waiting),
        ("fanfare_backend_suspended", "1 while a backend is left alone because it fails.", |b| &b.suspended),
    ];
    for (name, help, number) in gauges {
        let mut family = sheet.family(name, help, MetricType::Gauge)?;
        for (name, stats) in backends {
            sample(&mut family, vec![label(name)], MetricType::Gauge, number(stats).value())?;
        }
    }
    let help = "From when a call was sent to a backend until it ended.";
    let mut family = sheet.family("fanfare_call_seconds", help, MetricType::Histogram)?;
    for (name, stats) in backends {
        histogram(&mut family, vec![label(name)], stats.times(), MICROSECONDS)?;
    }
    Ok(())
}

/// A kind of calls appears with the first of them, and with all outcomes.
fn calls(sheet: &mut Sheet<'_>, backends: &[NamedStats]) -> fmt::Result {
    let help = "Calls to backends on behalf of clients that have ended, by backend, kind and outcome.";
    let mut family = sheet.family("fanfare_calls", help, MetricType::Counter)?;
    for (name, stats) in backends {
        for kind in CallKind::ALL {
            let ended = |outcome| stats.calls(kind, outcome);
            if CallOutcome::all().all(|outcome| ended(outcome) == 0) {
                continue;
            }
            for outcome in CallOutcome::all() {
                let kind = ("call", kind.label().to_owned());
                let labels = vec![label(name), kind, ("outcome", outcome.label().to_owned())];
                sample(&mut family, labels, MetricType::Counter, ended(outcome))?;
            }
        }
    }
    Ok(())
}

fn label(name: &str) -> Label {
    ("backend", name.to_owned())
}
