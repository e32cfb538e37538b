//! `fanfare serve`: runs the engine, from its flags to its end.

use std::error::Error;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use fanfare::config::host::{DescriptorLimit, cpus_problem};
use fanfare::config::memory::Memory;
use fanfare::config::{self, AmqpUrls, Config, Loaded, LogFormat, Source};
use fanfare::domain::client_id::SHARDS_MAX;
use fanfare::engine::{Engine, Program};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::{
    ConfigurationFile, FlagError, WRONG_CONFIGURATION, logging, parse_address, print, reachable, sentence,
    whole_number,
};

/// A signal within this time after the first one is the same request: `timeout` and some supervisors signal
/// the process and then its group.
const SAME_REQUEST: Duration = Duration::from_secs(1);

/// How much longer than `stop.limit` the engine may take to end before it is abandoned.
const STOP_GRACE: Duration = Duration::from_secs(2);

#[derive(Args, Debug)]
pub(super) struct Options {
    #[command(flatten)]
    file: ConfigurationFile,
    /// Address for clients, such as 127.0.0.1:8000 or localhost:8000; may be given several times. Port 0: any
    /// free one.
    #[arg(long, value_name = "ADDR", value_parser = parse_addresses)]
    listen: Vec<Listen>,
    /// Address of API, metrics, health and live page, such as 127.0.0.1:9000 or localhost:9000.
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    control: Option<SocketAddr>,
    /// RabbitMQ, such as amqp://user:password@localhost:5672, or several nodes, separated by commas; without
    /// it, topics live in memory. Others on this machine can see flags: FANFARE_AMQP_URL hides the password.
    #[arg(long, value_name = "URL")]
    amqp: Option<AmqpUrls>,
    /// Where RabbitMQ's messages come from: `stream`, kept for all nodes and over restarts, or `queue`.
    #[arg(long, value_name = "KIND")]
    source: Option<Source>,
    /// Number of shards (event loops); 0: as many as fit the CPUs.
    #[arg(long, value_name = "N", value_parser = |text: &str| whole_number(text, 0..=SHARDS_MAX))]
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

/// All addresses that one `--listen` names.
#[derive(Clone, Debug)]
struct Listen(Vec<SocketAddr>);

fn parse_addresses(text: &str) -> Result<Listen, FlagError> {
    Ok(config::addresses(text).map(Listen)?)
}

impl Options {
    /// The complete configuration, in which flags replace everything else, and what an operator should know
    /// about it.
    fn configuration(&self) -> anyhow::Result<(Config, Remarks)> {
        let mut loaded = self.file.load()?;
        let mut remarks = Remarks {
            warnings: loaded.notice().into_iter().chain(loaded.warnings()).collect(),
            notes: loaded.undecided(),
        };
        self.overlay(&mut loaded);
        if self.source.is_some() && loaded.config.amqp.url.is_empty() {
            bail!(
                "--source says where RabbitMQ's messages come from, but no RabbitMQ is named: name one with --amqp or \
                 FANFARE_AMQP_URL, or leave --source out for topics that live in memory"
            );
        }
        loaded.validate().context(WRONG_CONFIGURATION)?;
        let config = loaded.config;
        if let Some(problem) = cpus_problem(&config) {
            bail!(problem);
        }
        remarks.warnings.extend(idle_amqp_keys(&config));
        Ok((config, remarks))
    }

    /// Puts the flags over the file and the environment.
    fn overlay(&self, loaded: &mut Loaded) {
        let listen: Vec<SocketAddr> = self.listen.iter().flat_map(|listen| &listen.0).copied().collect();
        let listen = (!listen.is_empty()).then_some(listen);
        loaded.set_by_flag("--listen", listen, "server.listen", |config| &mut config.server.listen);
        loaded.set_by_flag("--control", self.control, "control.listen", |config| &mut config.control.listen);
        loaded.set_by_flag("--amqp", self.amqp.clone(), "amqp.url", |config| &mut config.amqp.url);
        loaded.set_by_flag("--source", self.source, "amqp.source", |config| &mut config.amqp.source);
        loaded.set_by_flag("--shards", self.shards, "server.shards", |config| &mut config.server.shards);
        loaded.set_by_flag("--cpus", self.cpus.clone(), "server.cpus", |config| &mut config.server.cpus);
        let insecure = self.insecure.then_some(true);
        loaded.set_by_flag("--insecure", insecure, "server.insecure", |config| &mut config.server.insecure);
    }
}

/// What an operator should know about a configuration that can be used.
struct Remarks {
    /// Something has no effect.
    warnings: Vec<String>,
    /// Everything has the effect that the documentation says, which may not be what is expected.
    notes: Vec<String>,
}

impl Remarks {
    fn log(&self) {
        self.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        self.notes.iter().for_each(|note| tracing::info!("{note}"));
    }
}

/// This program, as the engine knows it: the flags, and the level of the log.
#[derive(Debug)]
struct Serving {
    options: Options,
    level: logging::Level,
}

impl Program for Serving {
    fn configuration(&self) -> Result<Config, Box<dyn Error + Send + Sync>> {
        let (config, remarks) = self.options.configuration().map_err(|error| sentence(&error))?;
        remarks.log();
        Ok(config)
    }

    fn adopted(&self, config: &Config) {
        self.level.set(&config.log);
        warn_of_descriptors(config);
        warn_of_memory(config);
    }
}

pub(super) fn run(options: Options) -> anyhow::Result<ExitCode> {
    let (config, remarks) = options.configuration()?;
    let (_written_at_the_end, level) = logging::start(&config.log);
    let is_for_programs = config.log.format == LogFormat::Json;
    remarks.log();
    match run_engine(config, Serving { options, level }) {
        // Whoever reads JSON finds the reason among the lines.
        Err(error) if is_for_programs => {
            tracing::error!("{error:#}");
            Ok(ExitCode::FAILURE)
        }
        ended => ended.map(|()| ExitCode::SUCCESS),
    }
}

/// Warns if the limits allow more connections than there are descriptors.
fn warn_of_descriptors(config: &Config) {
    if let Some(warning) = DescriptorLimit::of_this_process().warning(config) {
        tracing::warn!("{warning}");
    }
}

/// Warns if the limits allow more memory than there is.
fn warn_of_memory(config: &Config) {
    if let Some(warning) = Memory::of_this_process().and_then(|memory| memory.warning(config)) {
        tracing::warn!("{warning}");
    }
}

/// Runs the engine from its start to its end.
fn run_engine(config: Config, serving: Serving) -> anyhow::Result<()> {
    DescriptorLimit::raise();
    warn_of_descriptors(&config);
    warn_of_memory(&config);
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
    let is_for_eyes = config.log.format == LogFormat::Human && io::stdout().is_terminal();
    let Some(engine) = runtime.block_on(start(config, serving, &mut signals))? else {
        return Ok(());
    };
    if is_for_eyes {
        if let Err(error) = print(&announcement(&engine, &path, &mode)) {
            tracing::warn!("{error:#}");
        }
    } else {
        log_addresses(&engine, &path, &mode);
    }
    runtime.block_on(until_the_end(&engine, signals, limit))
}

/// Starts the engine on a thread of its own, because to read a stream back may take long. `None` if a signal
/// comes first: no clients are connected yet.
async fn start(config: Config, serving: Serving, signals: &mut Signals) -> anyhow::Result<Option<Engine>> {
    const FAILED: &str = "the engine could not be started";
    let (started, engine) = oneshot::channel();
    let demo = serving.options.demo;
    std::thread::spawn(move || drop(started.send(Engine::start(config, Arc::new(serving), demo))));
    let not_yet = || tracing::info!(signal = HANGUP, "not reloaded: the engine has not started yet");
    tokio::select! {
        engine = engine => Ok(Some(engine.context(FAILED)?.context(FAILED)?)),
        signal = signals.next(not_yet) => {
            tracing::info!(signal, "stopped before it had started");
            Ok(None)
        }
    }
}

/// The warning for keys about RabbitMQ when no RabbitMQ is configured.
pub(super) fn idle_amqp_keys(config: &Config) -> Option<String> {
    let differences = if config.amqp.url.is_empty() { config.differences() } else { Vec::new() };
    let keys: Vec<String> =
        differences.into_iter().map(|(key, _)| key).filter(|key| key.starts_with("amqp.")).collect();
    (!keys.is_empty()).then(|| {
        format!("{} has no effect: amqp.url is empty, so that topics live in memory", keys.join(", "))
    })
}

/// The source of publications, in words.
fn mode(config: &Config) -> String {
    if config.amqp.url.is_empty() {
        "embedded".to_owned()
    } else {
        format!("RabbitMQ {}", config.amqp.url.public())
    }
}

/// Where to connect, what to try and how to stop, for the person who started the engine.
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

/// The same as log lines, for a supervisor or a file: there are other lines around them, and nobody tries
/// commands in another terminal.
fn log_addresses(engine: &Engine, path: &str, mode: &str) {
    for notice in engine.notices() {
        tracing::info!("{notice}");
    }
    let clients: Vec<String> =
        engine.client_addresses().iter().map(|address| format!("ws://{address}{path}")).collect();
    let page = format!("http://{}/", engine.control_address());
    tracing::info!(clients = %clients.join(","), %page, %mode, "serving");
}

/// The signal that has the configuration read again.
const HANGUP: &str = "SIGHUP";

/// The signals that end the engine, SIGINT and SIGTERM, and those that would end it by default.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    user_1: Signal,
    user_2: Signal,
}

impl Signals {
    /// From here on these signals no longer kill the process. Call it inside a runtime.
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be listened to");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
            user_1: listen(SignalKind::user_defined1())?,
            user_2: listen(SignalKind::user_defined2())?,
        })
    }

    /// Waits for the next signal to end, and names it. Calls `hung_up` at each SIGHUP meanwhile. The other two leave a log
    /// line, and have no other effect.
    async fn next(&mut self, hung_up: impl Fn()) -> &'static str {
        loop {
            let signal = tokio::select! {
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.hangup.recv() => {
                    hung_up();
                    continue;
                }
                _ = self.user_1.recv() => "SIGUSR1",
                _ = self.user_2.recv() => "SIGUSR2",
            };
            tracing::info!(signal, "this signal means nothing here; SIGTERM stops the engine");
        }
    }

    /// Waits for a signal that repeats the request to end.
    async fn next_request(&mut self) -> &'static str {
        let first = Instant::now();
        loop {
            let signal =
                self.next(|| tracing::info!(signal = HANGUP, "not reloaded: the engine stops")).await;
            if first.elapsed() >= SAME_REQUEST {
                return signal;
            }
        }
    }
}

/// Waits for a signal. Then waits for the end of the graceful stop, for its time limit, or for a second
/// signal that does not belong to the first.
async fn until_the_end(engine: &Engine, mut signals: Signals, limit: Duration) -> anyhow::Result<()> {
    let reload = || {
        tracing::info!(signal = HANGUP, "the configuration is read again");
        engine.reload();
    };
    tokio::select! {
        ended = engine.ended() => {
            let why = ended.err().map_or_else(|| "nobody asked it to".to_owned(), |error| error.to_string());
            bail!("the engine ended: {why}");
        }
        signal = signals.next(reload) => tracing::info!(signal, "stopping"),
    }
    engine.stop();
    tokio::select! {
        ended = engine.ended() => ended?,
        signal = signals.next_request() => bail!("{signal} again: stopped at once, not all clients were told"),
        () = tokio::time::sleep(limit) => bail!("the engine did not end in time: stopped at once"),
    }
    tracing::info!("stopped");
    Ok(())
}
