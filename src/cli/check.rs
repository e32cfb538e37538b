//! `fanfare check`: reports what is wrong with a configuration, or with this machine for it, before it is
//! used.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use fanfare::base::printable::escaped;
use fanfare::broker::{Inspection, check_url};
use fanfare::config::host::{DescriptorLimit, available_cpus, cpus_problem};
use fanfare::config::memory::Memory;
use fanfare::config::tuning::{self, Rule, SettingState, Sysctl};
use fanfare::config::{AmqpUrl, Config, Loaded, grouped};
use fanfare::control::key_set::KeySetSource;
use fanfare::engine::{key_set_source, keys_note, read_keys};
use fanfare::http_client::HttpTarget;

use super::key_set::fetch;
use super::{ConfigurationFile, WRONG_CONFIGURATION, print, reachable};

/// How long a program on a taken port may take to answer what it is.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// More bytes than Fanfare's answer has.
const ANSWER_BYTES_MAX: u64 = 4096;

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    file: ConfigurationFile,
    /// Connect to RabbitMQ as an engine would, say whether an engine can use what is there, and what it would declare.
    /// Nothing new is declared. And fetch the key set of jwks.url.
    #[arg(long)]
    connect: bool,
}

/// The result of one check.
enum Finding {
    /// As it should be.
    Good(String),
    /// As it should be, but perhaps not what the operator expects.
    Note(String),
    /// The engine will run as configured; under load it could run better.
    Advice(String),
    /// The engine will run, but not as configured.
    Warning(String),
    /// The engine will not run.
    Problem(String),
}

impl Finding {
    fn line(&self) -> String {
        match self {
            Self::Good(text) => format!("ok       {text}\n"),
            Self::Note(text) => format!("note     {text}\n"),
            Self::Advice(text) => format!("advice   {text}\n"),
            Self::Warning(text) => format!("warning  {text}\n"),
            Self::Problem(text) => format!("problem  {text}\n"),
        }
    }
}

pub(super) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    // As `serve` does, so that what is said holds for it.
    DescriptorLimit::raise();
    let loaded = options.file.load()?;
    loaded.validate().context(WRONG_CONFIGURATION)?;
    let mut findings = findings(&loaded.config);
    findings.extend(loaded.notice().map(Finding::Note));
    findings.extend(loaded.warnings().into_iter().map(Finding::Warning));
    findings.extend(loaded.undecided().into_iter().map(Finding::Note));
    if options.connect {
        findings.extend(connect(&loaded.config)?);
    }
    let mut report = effective(&options.file.name(), &loaded);
    report.extend(findings.iter().map(Finding::line));
    print(&report)?;
    let fails = findings.iter().any(|finding| matches!(finding, Finding::Problem(_)));
    Ok(if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Keys that differ from the defaults, and where each was set. Secrets are masked by their types.
fn effective(file: &str, loaded: &Loaded) -> String {
    let differences = loaded.config.differences();
    if differences.is_empty() {
        return format!("configuration ({file}): everything stands at its default\n");
    }
    let mut text = format!("configuration ({file}): different from the defaults\n");
    for (key, value) in differences {
        let origin = loaded.origins.get(&key).map(|origin| format!("  # {origin}")).unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {key} = {value}{origin}");
    }
    text
}

/// That clients need no token: a decision of the operator, or what nobody has decided yet.
fn anonymous(config: &Config) -> Option<Finding> {
    let note = config.anonymous_note()?.to_owned();
    Some(if config.opens_without_keys() { Finding::Warning(note) } else { Finding::Advice(note) })
}

fn findings(config: &Config) -> Vec<Finding> {
    let addresses = config.server.listen.iter().chain([&config.control.listen]);
    let outgoing = tuning::outgoing_ports();
    let mut findings: Vec<Finding> =
        addresses.map(|&address| port(address, outgoing.as_ref(), config)).collect();
    findings.push(descriptors(config));
    findings.extend(memory(config));
    findings.extend(keys(config));
    findings.extend(key_set(config));
    findings.extend(backends(config));
    findings.extend(anonymous(config));
    findings.push(cpus(config));
    if config.amqp.url.is_empty() {
        findings.extend(super::serve::idle_amqp_keys(config).map(Finding::Warning));
        findings.push(Finding::Good("no RabbitMQ: topics live in memory".to_owned()));
    } else {
        findings.extend(config.amqp.url.iter().map(url));
    }
    findings.extend(kernel(&tuning::sysctls()));
    findings
}

/// What can be said about the URL of one of RabbitMQ's nodes without a connection.
fn url(url: &AmqpUrl) -> Finding {
    if let Err(fault) = check_url(url) {
        return Finding::Problem(fault.to_string());
    }
    let shown = url.public();
    if [":15672/", ":15671/"].iter().any(|port| shown.contains(port)) {
        let usual = "has the usual port of RabbitMQ's management page; AMQP's is 5672, or 5671 with TLS";
        return Finding::Warning(format!("{shown} {usual}"));
    }
    Finding::Good(format!("{shown} is well-formed; --connect tries whether it answers"))
}

/// What answers of that which the configuration names.
fn connect(config: &Config) -> anyhow::Result<Vec<Finding>> {
    let (has_rabbitmq, has_key_set) = (!config.amqp.url.is_empty(), !config.jwks.url.is_empty());
    ensure!(
        has_rabbitmq || has_key_set,
        "--connect: no RabbitMQ is named (amqp.url, FANFARE_AMQP_URL), and no key set (jwks.url)"
    );
    let mut findings = if has_rabbitmq { rabbitmq(config)? } else { Vec::new() };
    // What is wrong with its authorities has been said.
    if let Ok(Some(source)) = key_set_source(config) {
        findings.extend(fetched(&source)?);
    }
    Ok(findings)
}

/// What comes of a fetch of the key set. Without it, an engine runs and cannot verify its tokens.
fn fetched(source: &KeySetSource) -> anyhow::Result<Vec<Finding>> {
    let url = source.name();
    let keys = match fetch(source)? {
        Ok(keys) => keys,
        Err(error) => {
            return Ok(vec![Finding::Warning(format!("{url}: no key set: {}", escaped(&error.to_string())))]);
        }
    };
    let passed_over = keys.passed_over().map(|passed_over| Finding::Warning(format!("{url}: {passed_over}")));
    let found = Finding::Good(format!("{url} has a key set with {} keys", keys.len()));
    Ok([Some(found), passed_over].into_iter().flatten().collect())
}

/// The state of each of RabbitMQ's nodes. An engine needs one of them.
fn rabbitmq(config: &Config) -> anyhow::Result<Vec<Finding>> {
    let nodes = fanfare::broker::inspect(config).context("RabbitMQ cannot be asked")?;
    let one_is_right = nodes.iter().any(|inspection| inspection.found.is_ok());
    let mut findings = Vec::new();
    for Inspection { node, found } in nodes {
        match found {
            Ok(remarks) => {
                findings.push(Finding::Good(format!("{node} answers, and takes the user and password")));
                findings.extend(remarks.into_iter().map(|remark| Finding::Note(format!("{node}: {remark}"))));
            }
            Err(why) if one_is_right => findings.push(Finding::Warning(why.to_string())),
            Err(why) => findings.push(Finding::Problem(why.to_string())),
        }
    }
    Ok(findings)
}

/// Whether the limits fit into the machine's memory.
fn memory(config: &Config) -> Option<Finding> {
    let memory = Memory::of_this_process()?;
    Some(match memory.warning(config) {
        Some(warning) => Finding::Warning(warning),
        None => Finding::Good(memory.summary(config)),
    })
}

/// Whether the keys that verify tokens can be used, if any are configured.
fn keys(config: &Config) -> Vec<Finding> {
    let keys = match read_keys(config) {
        Ok(keys) => keys,
        Err(error) => return vec![Finding::Problem(error.to_string())],
    };
    let of_connections = keys.connection.len() + keys.jwks.keys().map_or(0, |set| set.len());
    let of_subscriptions = match keys.subscription.len() {
        0 => of_connections,
        own => own,
    };
    let count = (of_connections + of_subscriptions > 0).then(|| {
        Finding::Good(format!(
            "tokens of connections have {of_connections} keys, and those of subscriptions {of_subscriptions}"
        ))
    });
    count.into_iter().chain(keys_note(config, &keys).map(Finding::Warning)).collect()
}

/// What can be said about the URL of the key set without a connection.
fn key_set(config: &Config) -> Option<Finding> {
    Some(match key_set_source(config) {
        Ok(source) => {
            let url = source?.name();
            Finding::Good(format!("{url} is well-formed; --connect tries whether it has a key set"))
        }
        Err(error) => Finding::Problem(error.to_string()),
    })
}

/// What can be said about backends that are asked by HTTP without asking them: whether their authorities can be read.
fn backends(config: &Config) -> impl Iterator<Item = Finding> {
    let by_http = config.backends.iter().filter(|(_, backend)| !backend.url.is_empty());
    by_http.map(|(name, backend)| match HttpTarget::new(backend) {
        Ok(_) => Finding::Good(format!(
            "backends.{name}: {} is well-formed; it was not asked",
            backend.url.public()
        )),
        Err(error) => Finding::Problem(format!("backends.{name}.{error}")),
    })
}

/// Whether the engine could listen there: tried, and released at once.
fn port(address: SocketAddr, outgoing: Option<&RangeInclusive<u16>>, config: &Config) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) if address.port() == 0 => Finding::Good(format!("{address}: any free port")),
        Ok(_) if outgoing.is_some_and(|ports| ports.contains(&address.port())) => Finding::Advice(format!(
            "{address} is free, but an outgoing connection may take the port while Fanfare is down: \
             `sysctl -w net.ipv4.ip_local_reserved_ports={}`",
            address.port()
        )),
        Ok(_) => Finding::Good(format!("{address} is free")),
        Err(error) => match error.kind() {
            io::ErrorKind::AddrInUse if is_fanfare(address, config) => Finding::Note(format!(
                "{address} is taken: a Fanfare listens there, perhaps the one that this is for"
            )),
            io::ErrorKind::AddrInUse => Finding::Problem(format!(
                "{address} is taken: another program listens there; `ss -ltnp 'sport = :{}'` names it",
                address.port()
            )),
            io::ErrorKind::AddrNotAvailable if address.is_ipv6() && address.ip().is_loopback() => {
                Finding::Warning(format!("{address} will be skipped: there is no IPv6 on this host"))
            }
            _ => Finding::Problem(format!("{address} cannot be listened to: {error}")),
        },
    }
}

/// Whether a running Fanfare answers at an address that is taken. Its control port reports its health; its
/// port for clients is asked for an upgrade at the endpoint's path. The expected kind of port is asked first,
/// because an engine counts refusals.
fn is_fanfare(taken: SocketAddr, config: &Config) -> bool {
    let address = reachable(taken);
    let has = |path: &str, signs: [&str; 2]| {
        ask(address, path).is_ok_and(|answer| signs.iter().all(|sign| answer.contains(sign)))
    };
    let is_control = || has("/health/live", ["\"phase\":", "\"rabbitmq\":"]);
    let is_clients = || has(&config.server.path, ["HTTP/1.1 426", "WebSocket endpoint"]);
    let mut doors: [&dyn Fn() -> bool; 2] = [&is_clients, &is_control];
    if taken == config.control.listen {
        doors.reverse();
    }
    doors.iter().any(|is_there| is_there())
}

/// The beginning of the answer to a plain request.
fn ask(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut answer = Vec::new();
    let read = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer);
    // Whoever keeps the connection open has said something all the same.
    if answer.is_empty() {
        read.map(|_| String::new())
    } else {
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

fn descriptors(config: &Config) -> Finding {
    let limit = DescriptorLimit::of_this_process();
    if let Some(warning) = limit.warning(config) {
        return Finding::Warning(warning);
    }
    let room = format!(
        "the limit on descriptors (ulimit -n, {}) leaves room for {}",
        grouped(limit.soft),
        limit.room(config)
    );
    let wanted = tuning::descriptors_of_the_service();
    if config.limits.clients == 0 && limit.soft < wanted {
        return Finding::Advice(format!("{room}; for more: {}", limit.remedy(wanted)));
    }
    Finding::Good(room)
}

/// The kernel's settings; for each wrong one the command that sets it.
fn kernel(wanted: &[Sysctl<'_>]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = wanted.iter().filter_map(setting).collect();
    let met = wanted.iter().filter(|setting| setting.state() == SettingState::Met).count();
    findings.push(Finding::Good(format!("{met} of {} kernel settings are as wanted", wanted.len())));
    findings
}

/// What to report about a setting that differs.
fn setting(setting: &Sysctl<'_>) -> Option<Finding> {
    let key = setting.key;
    match (setting.state(), setting.module) {
        (SettingState::Met, _) => None,
        (SettingState::Off(value), _) => {
            let least = if setting.rule == Rule::AtLeast { "at least " } else { "" };
            let (wanted, remedy) = (setting.value, setting.remedy());
            Some(Finding::Advice(format!("{key} is {value}; wanted: {least}{wanted}: `{remedy}`")))
        }
        (SettingState::Absent, Some(module)) => {
            Some(Finding::Good(format!("{key} is not needed: the module {module} is not loaded")))
        }
        (SettingState::Absent, None) => Some(Finding::Advice(format!("this kernel has no {key}"))),
        (SettingState::Unreadable(why), _) => Some(Finding::Advice(format!("{key} cannot be read: {why}"))),
    }
}

fn cpus(config: &Config) -> Finding {
    let available = available_cpus().len();
    let shards = usize::from(config.server.shards);
    match cpus_problem(config) {
        Some(problem) => Finding::Problem(problem),
        None if shards > available => Finding::Warning(format!(
            "server.shards is {shards}, but there are {available} CPUs: shards will take turns"
        )),
        None if available > 2 && shards == available => Finding::Advice(format!(
            "server.shards is {shards}, as many as there are CPUs: broker and control have none of their own; \
             0 leaves them one"
        )),
        None => Finding::Good(format!("{available} CPUs")),
    }
}
