//! `fanfare check-token`: what a token says, and whether an engine of a configuration accepts it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use fanfare::auth::{ConnectionClaims, JwksKeys, SubscriptionClaims, TokenError, Verifier};
use fanfare::base::clock::UnixTime;
use fanfare::base::printable::escaped;
use fanfare::config::Config;
use fanfare::domain::namespaces::Namespaces;
use fanfare::domain::reasons::ErrorCode;
use fanfare::engine::{key_set_source, read_keys};
use serde_json::Value;

use super::key_set::fetch;
use super::{ConfigurationFile, WRONG_CONFIGURATION, print};

/// The argument that stands for standard input.
const STANDARD_INPUT: &str = "-";
/// More than an engine takes.
const TOKEN_BYTES_MAX: u64 = 1 << 20;
/// The claims that are times.
const TIMES: [&str; 4] = ["iat", "nbf", "exp", "expire_at"];
/// The end of the year 9999, until which times are shown as dates. Engines accept no later time.
pub(super) const LAST_DATE: Duration = Duration::from_secs(253_402_300_799);

#[derive(Args)]
pub(super) struct Options {
    /// The token; or - for what comes on standard input, which others on this machine cannot see.
    token: String,
    #[command(flatten)]
    file: ConfigurationFile,
}

pub(super) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let config = options.file.load()?.config;
    config.validate().context(WRONG_CONFIGURATION)?;
    let token = token(&options.token)?;
    let mut report = String::new();
    let verifier = verifier(&config, &mut report)?;
    let now = UnixTime::now();
    let claims = describe(&mut report, token.trim(), now);
    let (what, outcome) = verify(&verifier, &config, token.trim(), &claims, now);
    // Writing to a string cannot fail.
    let outcome = outcome.map(|usable| (usable, error_of_topics(&config, &claims)));
    let _ = match &outcome {
        Ok((Use::Full, None)) => writeln!(report, "accepted   as the token of a {what}"),
        Ok((Use::Full, Some((topic, error)))) => writeln!(
            report,
            "refused    as the token of a {what}: it is valid, but it subscribes to `{}`, which there cannot be (error {error})",
            escaped(topic)
        ),
        Ok((Use::Ended, _)) => writeln!(
            report,
            "refused    as the token of a {what}: it is valid, but what it is for has expired (`expire_at`; error 110)"
        ),
        Err(error) => writeln!(report, "refused    as the token of a {what}: {error}"),
    };
    print(&report)?;
    Ok(if matches!(outcome, Ok((Use::Full, None))) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What verifies tokens, with the key set of the configuration's URL. If that cannot be fetched, the report says so.
fn verifier(config: &Config, report: &mut String) -> anyhow::Result<Verifier> {
    let verifier = Verifier::new(config, read_keys(config)?);
    let Some(source) = key_set_source(config)? else { return Ok(verifier) };
    Ok(match fetch(&source)? {
        Ok(keys) => verifier.with_jwks(JwksKeys::Fetched { keys, at: UnixTime::now() }),
        Err(error) => {
            let _ = writeln!(
                report,
                "key set    {} cannot be fetched: {}",
                source.name(),
                escaped(&error.to_string())
            );
            verifier
        }
    })
}

/// The token of the command line.
fn token(argument: &str) -> anyhow::Result<Cow<'_, str>> {
    if argument != STANDARD_INPUT {
        return Ok(argument.into());
    }
    let mut text = String::new();
    let read = io::stdin().lock().take(TOKEN_BYTES_MAX + 1).read_to_string(&mut text);
    read.context("standard input cannot be read as text")?;
    ensure!(text.len() as u64 <= TOKEN_BYTES_MAX, "standard input is longer than {TOKEN_BYTES_MAX} bytes");
    Ok(text.into())
}

/// The first topic that the token of a connection subscribes to and that there cannot be, with the error that a connect
/// gets.
fn error_of_topics<'c>(config: &Config, claims: &'c Value) -> Option<(&'c str, u16)> {
    let namespaces = Namespaces::new(config);
    let channels = claims.get("channels").and_then(Value::as_array).into_iter().flatten();
    let subs = claims.get("subs").and_then(Value::as_object).into_iter().flatten();
    let mut topics = channels.filter_map(Value::as_str).chain(subs.map(|(topic, _)| topic.as_str()));
    topics.find_map(|topic| match namespaces.rules(topic) {
        None => Some((topic, ErrorCode::UnknownChannel.code())),
        Some(rules) if !rules.fits_pattern() => Some((topic, ErrorCode::BadRequest.code())),
        Some(_) => None,
    })
}

/// What a valid token is good for.
enum Use {
    /// What it is for has not expired.
    Full,
    /// What it is for has expired, though the token itself has not.
    Ended,
}

impl Use {
    fn new(has_ended: bool) -> Self {
        if has_ended { Self::Ended } else { Self::Full }
    }
}

/// Whether an engine accepts it now. A token with a topic is one of a subscription.
fn verify(
    verifier: &Verifier,
    config: &Config,
    token: &str,
    claims: &Value,
    now: UnixTime,
) -> (&'static str, Result<Use, TokenError>) {
    let leeway = config.tokens.leeway.0;
    if claims.get("channel").is_some() {
        let in_time = |claims: SubscriptionClaims| {
            claims.check_time(now, leeway).map(|()| Use::new(claims.terms.has_ended(now, leeway)))
        };
        ("subscription", verifier.subscription(token).and_then(in_time))
    } else {
        let in_time = |claims: ConnectionClaims| {
            claims.check_time(now, leeway).map(|()| Use::new(claims.has_ended(now, leeway)))
        };
        ("connection", verifier.connection(token).and_then(in_time))
    }
}

/// Adds what the token says, whoever signed it, and returns its claims. What cannot be read is left out: the error says
/// why.
fn describe(report: &mut String, token: &str, now: UnixTime) -> Value {
    let mut parts = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap_or_default());
    let mut text = || String::from_utf8(parts.next().unwrap_or_default()).unwrap_or_default();
    let (header, claims) = (text(), text());
    for (name, text) in [("header", &header), ("claims", &claims)] {
        if !text.is_empty() {
            let _ = writeln!(report, "{name:10} {}", escaped(text));
        }
    }
    let claims: Value = serde_json::from_str(&claims).unwrap_or_default();
    report.extend(TIMES.iter().filter_map(|name| time_line(name, claims.get(name)?, now)));
    claims
}

/// A time of the token in words.
fn time_line(name: &str, value: &Value, now: UnixTime) -> Option<String> {
    let since = Duration::try_from_secs_f64(value.as_f64()?).ok().filter(|since| *since <= LAST_DATE)?;
    let time = UnixTime::from_micros(u64::try_from(since.as_micros()).ok()?);
    let date = httpdate::fmt_http_date(time.into());
    let distance = match time.as_secs().checked_sub(now.as_secs()) {
        Some(seconds) => format!("in {}", length(seconds)),
        None => format!("{} ago", length(now.as_secs() - time.as_secs())),
    };
    Some(format!("{name:10} {date}, {distance}\n"))
}

/// A length of time in its largest unit, rounded down.
fn length(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
