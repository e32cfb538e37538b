//! `fanfare subscribe`: prints what is published to topics, one `topic<TAB>data` line each, until Ctrl-C.
//! After a lost connection it reconnects, and first prints what was missed, if the topic has a history.

mod connection;
mod feed;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;
use url::Url;

use super::{say, websocket};
use feed::{Feed, Format};

/// First and longest pause before reconnecting, as in the SDKs.
const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(20);

#[derive(Args)]
pub(super) struct Options {
    /// The topics. The namespace of one such as `chat:1` must be configured in the engine.
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// WebSocket endpoint of the engine.
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:8000/connection/websocket")]
    url: Url,
    /// Print each publication as a JSON object on a line of its own, with its topic, its data and, where the topic has a
    /// history, its offset.
    #[arg(long)]
    json: bool,
}

/// Why a connection ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// A new connection may work.
    Retry(String),
    /// A new connection would end the same way.
    Final(String),
    /// Nobody reads the output any more.
    NoReader,
}

pub(super) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    websocket::check(&options.url)?;
    let format = if options.json { Format::Json } else { Format::Plain };
    let mut feed = Feed::new(&options.topics, format);
    let mut failures = 0;
    loop {
        let end = connection::follow(&options.url, &mut feed);
        let was_connected = feed.leave(Instant::now());
        match end {
            End::NoReader => return Ok(ExitCode::SUCCESS),
            End::Final(why) => bail!(why),
            // Whoever starts this wants to know at once that nothing is there.
            End::Retry(why) if !was_connected && failures == 0 => bail!(why),
            End::Retry(why) => {
                failures = if was_connected { 1 } else { failures + 1 };
                let pause = backoff(failures);
                say(format_args!("fanfare: {why}; connecting again in {:.1} s", pause.as_secs_f64()));
                std::thread::sleep(pause);
            }
        }
    }
}

/// How long to wait after so many failures in a row: twice as long each time, of which a part is random, so
/// that clients that were cut off together do not reconnect together.
fn backoff(failures: u32) -> Duration {
    let most = BACKOFF_MIN.saturating_mul(1 << failures.min(10)).min(BACKOFF_MAX);
    let random = rand::random_range(0..1000);
    (BACKOFF_MIN + most * random / 1000).min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_stays_within_its_bounds() {
        for failures in [1, 2, 6, 40, u32::MAX] {
            assert!((BACKOFF_MIN..=BACKOFF_MAX).contains(&backoff(failures)));
        }
        assert!((0..100).any(|_| backoff(10) > BACKOFF_MIN * 2), "it grows");
    }
}
