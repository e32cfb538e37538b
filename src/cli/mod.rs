//! The commands, one module each. Results go to standard output, everything else to standard error. Exit
//! codes are 0 for success, 1 for failure, 2 for an invalid command line.

use std::fmt::Display;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use fanfare::config::{self, AddressError, FILE_VARIABLE, IntervalError, Loaded};

mod check;
mod check_token;
mod key_set;
mod load;
mod logging;
mod publish;
mod serve;
mod subscribe;
mod token;
mod websocket;

/// A push engine: RabbitMQ in, WebSockets out.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the engine until it is told to stop.
    Serve(serve::Options),
    /// Tell what is wrong with a configuration, or with this machine for it.
    Check(check::Options),
    /// Publish one message.
    Publish(publish::Options),
    /// Print what is published to topics, until Ctrl-C. After a lost connection, the publications that were missed are
    /// printed first, if the topic has a history.
    Subscribe(subscribe::Options),
    /// Measure what a running engine delivers, and whether everything arrives exactly once.
    Load(load::Options),
    /// Print a token for a user, signed with a key of the configuration.
    Token(token::Options),
    /// Tell what a token says, and whether an engine of the configuration accepts it. The signature is checked, and
    /// nothing is sent anywhere.
    CheckToken(check_token::Options),
    /// Print the default configuration, with a comment on every key.
    Config,
}

/// Where the configuration is read from. Every command that needs one has this flag.
#[derive(Args, Debug)]
struct ConfigurationFile {
    /// Configuration file (TOML). The environment (FANFARE_LIMITS_CLIENTS=...) goes over it, flags go over
    /// both.
    #[arg(long = "config", value_name = "FILE", env = FILE_VARIABLE)]
    path: Option<PathBuf>,
}

impl ConfigurationFile {
    /// The defaults, the file and the environment, in this order.
    fn load(&self) -> anyhow::Result<Loaded> {
        config::load(self.path.as_deref(), std::env::vars_os()).context(WRONG_CONFIGURATION)
    }

    /// The file's name, or that there is none.
    fn name(&self) -> String {
        self.path.as_deref().map_or_else(|| "no file".to_owned(), |path| Path::display(path).to_string())
    }
}

/// The heading of a list of problems.
const WRONG_CONFIGURATION: &str = "the configuration is wrong";

/// Runs the command.
pub(crate) fn run() -> ExitCode {
    let done = match CommandLine::parse().command {
        Command::Serve(options) => serve::run(options),
        Command::Check(options) => check::run(&options),
        Command::Publish(options) => publish::run(&options),
        Command::Subscribe(options) => subscribe::run(&options),
        Command::Load(options) => load::run(&options),
        Command::Token(options) => token::run(&options),
        Command::CheckToken(options) => check_token::run(&options),
        Command::Config => print(config::DEFAULT_FILE).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        say(format_args!("fanfare: {}", sentence(&error)));
        ExitCode::FAILURE
    })
}

/// An error with its causes, each on a line of its own.
fn sentence(error: &anyhow::Error) -> String {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    causes.join("\n").replace('\n', "\n  ")
}

/// Writes to standard output. A reader that has closed it, such as `head`, is not an error.
fn print(text: &str) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("standard output cannot be written")
        }
        _ => Ok(()),
    }
}

/// Writes a line to standard error. If that is closed, nothing is reported.
fn say(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// What the value of a flag would have to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum FlagError {
    #[error("expected a whole number from {least} to {most}")]
    WholeNumber { least: String, most: String },
    #[error("expected {0}")]
    Address(#[from] AddressError),
    #[error("expected {0}")]
    Time(#[from] IntervalError),
    #[error("expected a time from 1ms to 24h")]
    TimeOutOfRange,
}

/// A whole number of a flag, within `range`.
fn whole_number<T>(text: &str, range: RangeInclusive<T>) -> Result<T, FlagError>
where
    T: FromStr + PartialOrd + Display,
{
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| FlagError::WholeNumber {
        least: range.start().to_string(),
        most: range.end().to_string(),
    })
}

/// An address of a flag, by number or by name.
fn parse_address(text: &str) -> Result<SocketAddr, FlagError> {
    Ok(config::address(text)?)
}

/// The address by which this machine itself reaches `address`: loopback for "every address".
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}
