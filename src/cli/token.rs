//! `fanfare token`: prints a token, for trying things out and for scripts. An application signs its tokens itself.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::Args;
use fanfare::auth::Signer;
use fanfare::base::clock::UnixTime;
use fanfare::config::{Config, Interval, Secret};
use fanfare::domain::topic;
use serde_json::{Map, Value};

use super::check_token::LAST_DATE;
use super::{ConfigurationFile, FlagError, print};

#[derive(Args)]
pub(super) struct Options {
    /// The user whom the token names; empty: an anonymous one.
    #[arg(long, value_name = "NAME", default_value = "")]
    user: String,
    /// Make a token for the subscription to this topic, instead of one for a connection.
    #[arg(long)]
    topic: Option<String>,
    /// How long the token is valid, such as 30s, 10m or 1h; 0: for ever.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_interval)]
    ttl: Interval,
    /// The secret to sign with (HS256), instead of the first one of the configuration. Others on this machine can see
    /// flags: FANFARE_TOKENS_HMAC_KEYS hides it.
    #[arg(long, value_name = "SECRET", conflicts_with = "key_file")]
    key: Option<Secret>,
    /// A file with the private key to sign with, in PEM: RSA (RS256), EC P-256 (ES256), EC P-384 (ES384) or Ed25519
    /// (EdDSA).
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    #[command(flatten)]
    file: ConfigurationFile,
}

fn parse_interval(text: &str) -> Result<Interval, FlagError> {
    Ok(Interval::try_from(text.to_owned())?)
}

pub(super) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let config = options.file.load()?.config;
    check(options, &config, UnixTime::now())?;
    let token = signer(options, &config)?.sign(&claims(options, &config, UnixTime::now()).to_string())?;
    print(&format!("{token}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses what no engine of this configuration would accept.
fn check(options: &Options, config: &Config, now: UnixTime) -> anyhow::Result<()> {
    let (user, most) = (options.user.len(), config.limits.user_max);
    ensure!(user <= most, "--user has {user} bytes, and at most {most} are allowed (limits.user_max)");
    if let Some(topic) = &options.topic {
        topic::check(topic, config.limits.topic_bytes).context("--topic names no topic")?;
    }
    let end = now.as_secs().saturating_add(options.ttl.0.as_secs());
    ensure!(end <= LAST_DATE.as_secs(), "--ttl goes beyond the year 9999; 0 stands for ever");
    Ok(())
}

fn signer(options: &Options, config: &Config) -> anyhow::Result<Signer> {
    if let Some(path) = &options.key_file {
        let pem = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
        return Signer::from_pem(&pem).with_context(|| format!("{} cannot sign", path.display()));
    }
    let secret = options.key.as_ref().or_else(|| configured(options, config));
    let Some(secret) = secret else {
        bail!(
            "there is no secret to sign with: give one with --key, a private key with --key-file, or a configuration with \
             tokens.hmac_keys"
        );
    };
    Signer::with_secret(secret.as_bytes()).context("--key cannot sign")
}

/// The secret that verifies such a token first.
fn configured<'a>(options: &Options, config: &'a Config) -> Option<&'a Secret> {
    let own = config.subscription_tokens.hmac_keys.first().filter(|_| options.topic.is_some());
    own.or_else(|| config.tokens.hmac_keys.first())
}

/// What the token says, so that an engine of this configuration accepts it.
fn claims(options: &Options, config: &Config, now: UnixTime) -> Value {
    let tokens = &config.tokens;
    let mut claims = Map::new();
    let mut add = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    if !options.user.is_empty() {
        add(&tokens.user_id_claim, options.user.as_str().into());
    }
    if let Some(topic) = &options.topic {
        add("channel", topic.as_str().into());
    }
    for (name, value) in [("iss", &tokens.issuer), ("aud", &tokens.audience)] {
        if !value.is_empty() {
            add(name, value.as_str().into());
        }
    }
    add("iat", now.as_secs().into());
    if !options.ttl.is_zero() {
        add("exp", now.as_secs().saturating_add(options.ttl.0.as_secs().max(1)).into());
    }
    Value::Object(claims)
}
