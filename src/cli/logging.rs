//! Log lines on standard error, for eyes or for machines.

use std::io::{self, IsTerminal};

use fanfare::config::{Log, LogFormat};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// From here on, what the engine logs is written. Libraries are heard from `warn` on: what they say below
/// that is about themselves. Of lapin nothing is heard: what goes wrong between RabbitMQ and us, the broker
/// thread says in its own words, with the address and without the password.
pub(super) fn start(log: &Log) {
    let level = log.level.parse().unwrap_or(LevelFilter::INFO);
    let filter = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("lapin", LevelFilter::OFF)
        .with_target("fanfare", level);
    // A log line that cannot be written is lost; saying so on the same closed stream would panic.
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).log_internal_errors(false);
    let layer = match log.format {
        LogFormat::Human => {
            let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            lines.with_ansi(colours).with_target(false).compact().boxed()
        }
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
        }
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
}
