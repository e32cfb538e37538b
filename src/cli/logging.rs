//! Log lines on standard error, for people or for programs.

use std::io::{self, IsTerminal};

use fanfare::config::{Log, LogFormat};
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

/// Lines that may wait to be written: some 100 KB.
const LINES_WAITING: usize = 1024;

/// Starts logging. Of libraries, lines from `warn` on are written: what they log below that is about
/// themselves. Of lapin nothing is written: the broker thread reports problems with RabbitMQ in its own
/// words, with the address and without the password. Of h2, which warns of peers that reset too many streams, only errors
/// are written: its lines do not say which peer it is. The control thread's own line about the end of such a connection
/// does, at level `debug`.
///
/// A thread of its own writes, so that a slow reader of standard error delays no shard. Lines beyond
/// [`LINES_WAITING`] are lost. Waiting lines are written when the guard is dropped.
pub(super) fn start(log: &Log) -> (WorkerGuard, Level) {
    let (filter, handle) = reload::Layer::new(filter(level(log)));
    let (writer, guard) = NonBlockingBuilder::default()
        .thread_name("log")
        .buffered_lines_limit(LINES_WAITING)
        .finish(io::stderr());
    // A log line that cannot be written is lost; saying so on the same closed stream would panic.
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).log_internal_errors(false);
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
    (guard, Level(handle))
}

/// Changes which lines are written while the program runs.
#[derive(Clone, Debug)]
pub(super) struct Level(reload::Handle<Targets, Registry>);

impl Level {
    /// Lines of this level and of those above it are written from now on.
    pub(super) fn set(&self, log: &Log) {
        // It fails only when nothing is logged any more.
        drop(self.0.reload(filter(level(log))));
    }
}

fn level(log: &Log) -> LevelFilter {
    log.level.parse().unwrap_or(LevelFilter::INFO)
}

/// Which lines are written.
fn filter(level: LevelFilter) -> Targets {
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("lapin", LevelFilter::OFF)
        .with_target("h2", LevelFilter::ERROR)
        .with_target("fanfare", level)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn lines_of_libraries_are_written_where_they_are_of_use() {
        for (target, level, is_written) in [
            ("fanfare::control", Level::INFO, true),
            ("fanfare::control", Level::DEBUG, false),
            ("rustls::conn", Level::WARN, true),
            ("rustls::conn", Level::INFO, false),
            ("lapin::io_loop", Level::ERROR, false),
            ("h2::proto::streams::recv", Level::WARN, false),
            ("h2::proto::streams::recv", Level::ERROR, true),
        ] {
            assert_eq!(
                filter(LevelFilter::INFO).would_enable(target, &level),
                is_written,
                "{target} {level}"
            );
        }
    }
}
