//! `fanfare load`: measures what an engine can deliver, and whether everything arrives exactly once.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use fanfare::config::host::available_cpus;
use fanfare::config::{Interval, Secret, grouped};
use fanfare::load::{self, Outcome, PAYLOAD_MIN, Phase, Plan, RunProgress, Tally};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use url::Url;

use super::{ConfigurationFile, FlagError, parse_address, print, reachable, say, websocket, whole_number};

/// The values of `--short`.
const SHORT_CLIENTS: usize = 1000;
const SHORT_TIME: Duration = Duration::from_secs(10);

/// Interval between two updates of the progress line.
const PROGRESS_PAUSE: Duration = Duration::from_millis(200);
/// Width of the progress bar.
const BAR: usize = 20;

/// Longest time to publish.
const TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// More clients than loopback has ports for, and than any machine has memory for.
const CLIENTS_MAX: usize = 16_000_000;
/// The largest publication that the default configuration takes.
const SIZE_MAX: usize = 256 << 10;

#[derive(Args)]
pub(super) struct Options {
    /// WebSocket endpoint of the engine.
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:8000/connection/websocket")]
    url: Url,
    #[command(flatten)]
    file: ConfigurationFile,
    /// Control port of that engine, to publish through. Default: `control.listen` of the configuration.
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    control: Option<SocketAddr>,
    /// What that engine's `control.api_key` is. Others on this machine can see flags:
    /// FANFARE_CONTROL_API_KEY hides it.
    #[arg(long, value_name = "KEY")]
    api_key: Option<Secret>,
    /// A first impression: 1,000 clients, 10 seconds. Excludes --clients and --time.
    #[arg(long, conflicts_with_all = ["clients", "time"])]
    short: bool,
    /// Clients, each one connection.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = number)]
    clients: usize,
    /// Of 100 clients, how many never read.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = |text: &str| whole_number(text, 0..=99_u8))]
    slow: u8,
    /// Topics, which are published to in turn.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = number)]
    topics: usize,
    /// Topics that each client subscribes to.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = number)]
    topics_per_client: usize,
    /// How clients spread over topics.
    #[arg(long, value_enum, default_value_t = Spread::Even)]
    spread: Spread,
    /// Namespace of the topics, whose options are then measured, such as its `max_delay`. The engine must have it
    /// configured. Default: none.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    namespace: String,
    /// Publications per second, over all topics together.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = positive)]
    rate: u32,
    /// Bytes of a publication's data, at least 64.
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = number)]
    size: usize,
    /// How long to publish, such as 30s or 5m.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_time)]
    time: Duration,
    /// Connections begun per second.
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = positive)]
    connect_rate: u32,
    /// Threads for clients. Default 0: half the CPUs, so that an engine beside it has the others.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = number)]
    threads: usize,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
}

/// How clients spread over topics.
#[derive(Clone, Copy, ValueEnum)]
enum Spread {
    /// Each topic has as many subscribers.
    Even,
    /// The first topic is the first choice of half the clients, the second of a quarter, and so on.
    Skewed,
}

fn number(text: &str) -> Result<usize, FlagError> {
    whole_number(text, 0..=u32::MAX as usize)
}

fn positive(text: &str) -> Result<u32, FlagError> {
    whole_number(text, 1..=u32::MAX)
}

fn parse_time(text: &str) -> Result<Duration, FlagError> {
    let time = Interval::try_from(text.to_owned())?.0;
    if time.is_zero() || time > TIME_MAX { Err(FlagError::TimeOutOfRange) } else { Ok(time) }
}

impl Options {
    fn plan(&self) -> anyhow::Result<Plan> {
        let config = self.file.load()?.config;
        let url = &self.url;
        websocket::check(url)?;
        let clients = if self.short { SHORT_CLIENTS } else { self.clients };
        ensure!((1..=CLIENTS_MAX).contains(&clients), "--clients is {clients}: expected 1 to {CLIENTS_MAX}");
        ensure!(self.topics > 0, "--topics is 0: expected at least 1");
        let most = self.topics;
        ensure!(
            (1..=most).contains(&self.topics_per_client),
            "--topics-per-client is {}: expected 1 to {most}, the number of --topics",
            self.topics_per_client
        );
        ensure!(
            (PAYLOAD_MIN..=SIZE_MAX).contains(&self.size),
            "--size is {}: expected {PAYLOAD_MIN} to {SIZE_MAX} bytes",
            self.size
        );
        let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
        let threads = if self.threads == 0 { available_cpus().len() / 2 } else { self.threads };
        Ok(Plan {
            server: address(url)?,
            host: authority.to_owned(),
            path: url[url::Position::BeforePath..url::Position::AfterQuery].to_owned(),
            control: reachable(self.control.unwrap_or(config.control.listen)),
            api_key: self.api_key.as_ref().unwrap_or(&config.control.api_key).to_string(),
            namespace: self.namespace.clone(),
            clients,
            slow_percent: self.slow.into(),
            topics: self.topics,
            topics_per_client: self.topics_per_client,
            spread: match self.spread {
                Spread::Even => load::Spread::Even,
                Spread::Skewed => load::Spread::Skewed,
            },
            connect_rate: self.connect_rate,
            rate: self.rate,
            payload: self.size,
            length: if self.short { SHORT_TIME } else { self.time },
            threads: threads.clamp(1, clients),
        })
    }
}

/// The endpoint's address; IPv4 first, because 127.0.0.0/8 has room for any number of clients.
fn address(url: &Url) -> anyhow::Result<SocketAddr> {
    let addresses = url.socket_addrs(|| None).with_context(|| format!("{url} has no address"))?;
    match addresses.iter().find(|address| address.is_ipv4()).or_else(|| addresses.first()) {
        Some(&address) => Ok(address),
        None => bail!("{url} has no address"),
    }
}

pub(super) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let plan = options.plan()?;
    if !options.json {
        print(&intention(&plan))?;
    }
    let mut line = ProgressLine::new(&plan);
    let interrupted = interruption()?;
    let outcome = load::run(&plan, |progress| {
        line.show(progress);
        !interrupted.load(Ordering::Relaxed)
    });
    line.clear();
    if interrupted.load(Ordering::Relaxed) {
        let seconds = outcome.as_ref().map_or(0.0, |outcome| outcome.published_for.as_secs_f64());
        say(format_args!("fanfare: interrupted; this is about the {seconds:.1} s until then"));
    }
    let outcome = outcome?;
    if options.json {
        print(&format!("{:#}\n", as_json(&plan, &outcome)))?;
    } else {
        print(&table(&outcome))?;
    }
    if outcome.is_exact() {
        return Ok(ExitCode::SUCCESS);
    }
    say(format_args!("fanfare: {}", verdict(&outcome)));
    Ok(ExitCode::FAILURE)
}

/// Becomes true with Ctrl-C, or another signal that asks for the end: the result so far is then printed. A
/// second signal ends the wait for publications in flight.
fn interruption() -> anyhow::Result<Arc<AtomicBool>> {
    const SIGNALS: &str = "signals cannot be listened to";
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context(SIGNALS)?;
    let listen = |kind| {
        let _inside = runtime.enter();
        signal(kind).context(SIGNALS)
    };
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                if flag.swap(true, Ordering::Relaxed) {
                    say("fanfare: interrupted again: stopped at once");
                    std::process::exit(1);
                }
            }
        });
    });
    Ok(interrupted)
}

/// Describes what is about to be done.
fn intention(plan: &Plan) -> String {
    format!(
        "{} clients of {}, {} topics, {} for each client; {} publications/s of {} bytes for {} s\n",
        grouped(plan.clients),
        plan.server,
        grouped(plan.topics),
        grouped(plan.topics_per_client),
        grouped(plan.rate as usize),
        grouped(plan.payload),
        plan.length.as_secs_f64()
    )
}

/// A line on a terminal that is overwritten; nothing if there is no terminal.
struct ProgressLine {
    is_terminal: bool,
    clients: usize,
    length: Duration,
    shown: Option<Instant>,
}

impl ProgressLine {
    fn new(plan: &Plan) -> Self {
        let is_terminal = io::stderr().is_terminal();
        Self { is_terminal, clients: plan.clients, length: plan.length, shown: None }
    }

    fn show(&mut self, progress: RunProgress) {
        if !self.is_terminal || self.shown.is_some_and(|shown| shown.elapsed() < PROGRESS_PAUSE) {
            return;
        }
        self.shown = Some(Instant::now());
        // A terminal that cannot be written to shows no progress, and nothing else is lost.
        let _ = write!(io::stderr(), "\r\x1b[K{}", self.text(progress));
    }

    fn text(&self, progress: RunProgress) -> String {
        let deliveries = usize::try_from(progress.deliveries).unwrap_or(usize::MAX);
        let (part, whole, number, what) = match progress.phase {
            Phase::Connecting => {
                (progress.ready as u128, self.clients as u128, progress.ready, "clients are ready")
            }
            _ => (
                progress.published_for.as_millis(),
                self.length.as_millis(),
                deliveries,
                "publications delivered",
            ),
        };
        let full = usize::try_from(part * BAR as u128 / whole.max(1)).unwrap_or(BAR).min(BAR);
        format!("[{}{}] {} {what}", "#".repeat(full), " ".repeat(BAR - full), grouped(number))
    }

    fn clear(&self) {
        if self.shown.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// Deliveries and bytes per second, and lines per frame.
fn rates(outcome: &Outcome) -> (f64, f64, f64) {
    let Tally { lines, frames, bytes, .. } = outcome.clients;
    let seconds = outcome.measured.as_secs_f64().max(f64::MIN_POSITIVE);
    (lines as f64 / seconds, bytes as f64 / seconds, lines as f64 / frames.max(1) as f64)
}

/// The quantiles that are printed, in milliseconds.
fn latencies(tally: &Tally) -> [(&'static str, f64); 4] {
    let at = |quantile| tally.latency.value_at_quantile(quantile) as f64 / 1000.0;
    [("p50", at(0.5)), ("p99", at(0.99)), ("p99.9", at(0.999)), ("max", tally.latency.max() as f64 / 1000.0)]
}

fn count(number: u64) -> String {
    grouped(usize::try_from(number).unwrap_or(usize::MAX))
}

/// How many were published, and how many went to topics without subscribers, if there are too few clients for
/// the topics.
fn published(outcome: &Outcome) -> String {
    let unheard = match outcome.unheard {
        0 => String::new(),
        unheard => format!("; {} of them to topics without subscribers", count(unheard)),
    };
    format!("{} of {} that were due{unheard}", count(outcome.publications), count(outcome.due))
}

fn table(outcome: &Outcome) -> String {
    let clients = &outcome.clients;
    let (deliveries, bytes, merged) = rates(outcome);
    let latency = latencies(clients).map(|(name, value)| format!("{name} {value:.1} ms")).join(", ");
    let mut lines = vec![
        (
            "connected",
            format!(
                "{} clients in {:.1} s, {} of them never read",
                grouped(clients.ready),
                outcome.connecting.as_secs_f64(),
                grouped(clients.slow)
            ),
        ),
        ("published", published(outcome)),
        ("delivered", format!("{}, {deliveries:.0}/s, {:.1} MB/s", count(clients.lines), bytes / 1e6)),
        ("merging", format!("{merged:.1} publications in a frame")),
        ("latency", latency),
        ("lost", count(clients.lost)),
        ("repeated", count(clients.repeated)),
    ];
    let refused = outcome.refused.iter().map(|(why, number)| (number, format!("publications: {why}")));
    let faults = clients.faults.iter().map(|(why, number)| (number, format!("clients: {why}")));
    for (number, why) in refused.chain(faults) {
        lines.push(("failed", format!("{} {why}", count(*number))));
    }
    lines.iter().fold(String::new(), |mut text, (name, value)| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name:<10} {value}");
        text
    })
}

/// The same as JSON: times in milliseconds.
fn as_json(plan: &Plan, outcome: &Outcome) -> Value {
    let clients = &outcome.clients;
    let (deliveries, bytes, merged) = rates(outcome);
    let refused: serde_json::Map<String, Value> =
        outcome.refused.iter().map(|(why, number)| (why.clone(), json!(number))).collect();
    let latency: serde_json::Map<String, Value> =
        latencies(clients).into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
    json!({
        "exact": outcome.is_exact(),
        "plan": {
            "clients": plan.clients,
            "slow_percent": plan.slow_percent,
            "topics": plan.topics,
            "topics_per_client": plan.topics_per_client,
            "rate": plan.rate,
            "bytes": plan.payload,
            "seconds": plan.length.as_secs_f64(),
        },
        "published_for_seconds": outcome.published_for.as_secs_f64(),
        "connected": clients.ready,
        "slow": clients.slow,
        "connecting_ms": outcome.connecting.as_millis(),
        "due": outcome.due,
        "published": outcome.publications,
        "published_to_nobody": outcome.unheard,
        "delivered": clients.lines,
        "frames": clients.frames,
        "bytes": clients.bytes,
        "deliveries_per_second": deliveries,
        "bytes_per_second": bytes,
        "publications_per_frame": merged,
        "latency_ms": latency,
        "lost": clients.lost,
        "repeated": clients.repeated,
        "publications_refused": refused,
        "clients_failed": clients.faults,
    })
}

/// Why the exit code is not 0.
fn verdict(outcome: &Outcome) -> String {
    let clients = &outcome.clients;
    let failed: u64 = clients.faults.values().sum();
    let refused: u64 = outcome.refused.iter().map(|(_, number)| number).sum();
    let parts = [
        (clients.lost, "publications lost"),
        (clients.repeated, "publications repeated"),
        (failed, "clients refused or cut off"),
        (refused, "publications refused"),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{} {what}", grouped(usize::try_from(number).unwrap_or(usize::MAX))))
        .collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_in_the_configuration() {
        assert_eq!(parse_time("250ms"), Ok(Duration::from_millis(250)));
        for text in ["0s", "25h", "10", "soon"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_bar_fills_up() {
        let line =
            ProgressLine { is_terminal: true, clients: 1000, length: Duration::from_secs(10), shown: None };
        let progress = |phase, ready, seconds| RunProgress {
            phase,
            ready,
            published_for: Duration::from_secs(seconds),
            deliveries: 12_345,
        };
        let text = line.text(progress(Phase::Connecting, 500, 0));
        assert_eq!(text, format!("[{}{}] 500 clients are ready", "#".repeat(10), " ".repeat(10)));
        let text = line.text(progress(Phase::Draining, 1000, 11));
        assert_eq!(text, format!("[{}] 12,345 publications delivered", "#".repeat(20)));
    }
}
