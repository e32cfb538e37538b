//! `fanfare serve`: the engine, from its flags to its end.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use fanfare::config::host::{DescriptorLimit, cpus_problem};
use fanfare::config::{AmqpUrls, Config, Source};
use fanfare::engine::{Engine, RunError};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::{ConfigurationFile, WRONG_CONFIGURATION, logging, print, reachable, say};

/// How much longer than `stop.limit` the engine may take to end by itself before it is left behind.
const STOP_GRACE: Duration = Duration::from_secs(2);

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    file: ConfigurationFile,
    /// Address for clients, such as 127.0.0.1:8000; may be given several times. Port 0: any free one.
    #[arg(long, value_name = "ADDR")]
    listen: Vec<SocketAddr>,
    /// Address of API, metrics, health and live page, such as 127.0.0.1:9000.
    #[arg(long, value_name = "ADDR")]
    control: Option<SocketAddr>,
    /// RabbitMQ, such as amqp://user:password@localhost:5672, or several nodes, separated by commas; without
    /// it, topics live in memory. Others on this machine can see flags: FANFARE_AMQP_URL hides the password.
    #[arg(long, value_name = "URL")]
    amqp: Option<AmqpUrls>,
    /// Where RabbitMQ's messages come from: `stream`, kept for all nodes and over restarts, or `queue`.
    #[arg(long, value_name = "KIND")]
    source: Option<Source>,
    /// Number of shards (event loops); 0: as many as fit the CPUs.
    #[arg(long, value_name = "N")]
    shards: Option<u16>,
    /// CPUs to pin the shards to, such as 0-3,6.
    #[arg(long, value_name = "LIST")]
    cpus: Option<String>,
    /// Allow listening to clients beyond loopback, although nobody has to show a token.
    #[arg(long)]
    insecure: bool,
    /// Make orders and prices move, so that there is something to see.
    #[arg(long)]
    demo: bool,
}

impl Options {
    /// The whole configuration: what flags say goes over everything else.
    fn configuration(&self) -> anyhow::Result<Config> {
        let mut config = self.file.load()?.config;
        if !self.listen.is_empty() {
            config.server.listen.clone_from(&self.listen);
        }
        overlay(&mut config.control.listen, self.control.as_ref());
        overlay(&mut config.amqp.url, self.amqp.as_ref());
        overlay(&mut config.amqp.source, self.source.as_ref());
        overlay(&mut config.server.shards, self.shards.as_ref());
        overlay(&mut config.server.cpus, self.cpus.as_ref());
        config.server.insecure |= self.insecure;
        config.validate().context(WRONG_CONFIGURATION)?;
        if let Some(problem) = cpus_problem(&config) {
            bail!(problem);
        }
        Ok(config)
    }
}

fn overlay<T: Clone>(value: &mut T, flag: Option<&T>) {
    if let Some(flag) = flag {
        value.clone_from(flag);
    }
}

pub(super) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let config = options.configuration()?;
    let _written_at_the_end = logging::start(&config.log);
    DescriptorLimit::raise();
    if let Some(warning) = DescriptorLimit::of_this_process().warning(config.limits.clients) {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the thread that waits for signals cannot be set up")?;
    // Before the engine, so that a signal during its start is not lost.
    let mut signals = {
        let _inside = runtime.enter();
        Signals::new()?
    };
    let limit = config.stop.limit.0 + STOP_GRACE;
    let (path, mode) = (config.server.path.clone(), mode(&config));
    let Some(engine) = runtime.block_on(start(config, options.demo, &mut signals))? else {
        return Ok(ExitCode::SUCCESS);
    };
    if let Err(error) = print(&announcement(&engine, &path, &mode)) {
        tracing::warn!("{error:#}");
    }
    Ok(runtime.block_on(until_the_end(&engine, signals, limit)))
}

/// Starts the engine on a thread of its own, as it may take long to read a stream back. `None` if a signal comes
/// first: nobody is there to be sent away.
async fn start(config: Config, demo: bool, signals: &mut Signals) -> anyhow::Result<Option<Engine>> {
    const FAILED: &str = "the engine could not be started";
    let (started, engine) = oneshot::channel();
    std::thread::spawn(move || drop(started.send(Engine::start(config, demo))));
    tokio::select! {
        engine = engine => Ok(Some(engine.context(FAILED)?.context(FAILED)?)),
        signal = signals.next() => {
            tracing::info!(signal, "stopped before it had started");
            Ok(None)
        }
    }
}

/// Where publications come from, in words.
fn mode(config: &Config) -> String {
    if config.amqp.url.is_empty() {
        "embedded".to_owned()
    } else {
        format!("RabbitMQ {}", config.amqp.url.public())
    }
}

/// What somebody who just started it wants to know: where things are, what to try, how to stop.
fn announcement(engine: &Engine, path: &str, mode: &str) -> String {
    let mut lines = vec![format!("fanfare {}", env!("CARGO_PKG_VERSION"))];
    let clients = engine.client_addresses();
    lines.extend(clients.iter().map(|address| format!("  clients  ws://{address}{path}")));
    let control = engine.control_address();
    lines.push(format!("  page     http://{control}/"));
    lines.push(format!("  mode     {mode}"));
    lines.extend(engine.notices().iter().map(|notice| format!("  note     {notice}")));
    if let Some(&client) = clients.first() {
        let program = std::env::args().next().unwrap_or_else(|| "fanfare".to_owned());
        let (client, control) = (reachable(client), reachable(control));
        lines.push("Try in two other terminals:".to_owned());
        lines.push(format!("  {program} subscribe news --url ws://{client}{path}"));
        lines.push(format!("  {program} publish news '{{\"hello\":\"world\"}}' --control {control}"));
    }
    lines.push("Stop with Ctrl-C: clients are told to come back. A second Ctrl-C stops at once.".to_owned());
    lines.join("\n") + "\n"
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From here on these signals no longer kill the process. To be called inside a runtime.
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be listened to");
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Waits for the next one and names it.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// Waits for a signal, then for the graceful stop to end, for its time to run out, or for a second signal.
async fn until_the_end(engine: &Engine, mut signals: Signals, limit: Duration) -> ExitCode {
    tokio::select! {
        ended = engine.ended() => {
            let why = ended.err().map_or_else(|| "nobody asked it to".to_owned(), |error| error.to_string());
            return failed(&format!("the engine ended: {why}"));
        }
        signal = signals.next() => tracing::info!(signal, "stopping"),
    }
    engine.stop();
    tokio::select! {
        ended = engine.ended() => stopped(ended),
        signal = signals.next() => failed(&format!("{signal} again: stopped at once, clients were not told")),
        () = tokio::time::sleep(limit) => failed("the engine did not end in time: stopped at once"),
    }
}

fn stopped(ended: Result<(), RunError>) -> ExitCode {
    match ended {
        Ok(()) => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error.to_string()),
    }
}

fn failed(why: &str) -> ExitCode {
    say(format_args!("fanfare: {why}"));
    ExitCode::FAILURE
}
