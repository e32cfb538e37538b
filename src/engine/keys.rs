//! Reads the keys that verify tokens, from the configuration and the files that it names.

use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use thiserror::Error;

use crate::auth::{JwksKeys, KeyError, KeySet, Keys};
use crate::config::{Config, Secrets};
use crate::control::key_set::{FETCH_TIME_MAX, KeySetSource, KeySetUpdates};
use crate::http_client::AuthoritiesError;

/// Why keys cannot be used, and where they stand.
#[derive(Debug, Error)]
pub enum KeysError {
    /// A file cannot be read.
    #[error("{key}: {} cannot be read: {error}", path.display())]
    File {
        /// The configuration's key that names the file.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        error: std::io::Error,
    },
    /// What a file has cannot be used.
    #[error("{key}: {}: {error}", path.display())]
    InFile {
        /// The configuration's key that names the file.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: KeyError,
    },
    /// Nobody vouches for the host of the key set.
    #[error("jwks.ca_file: {0}")]
    Authorities(AuthoritiesError),
    /// A secret of the configuration cannot be used.
    #[error("{key}: {error}")]
    Secret {
        /// The configuration's key.
        key: &'static str,
        /// What is wrong with it.
        error: KeyError,
    },
}

/// The keys that a configuration has or names in files. The key set of a URL is awaited.
///
/// # Errors
/// The first one that cannot be used.
pub fn read_keys(config: &Config) -> Result<Keys, KeysError> {
    let (tokens, subscriptions) = (&config.tokens, &config.subscription_tokens);
    let jwks = &config.jwks.file;
    Ok(Keys {
        connection: KeyNames { secrets: "tokens.hmac_keys", files: "tokens.public_keys" }
            .read(&tokens.hmac_keys, &tokens.public_keys)?,
        subscription: KeyNames {
            secrets: "subscription_tokens.hmac_keys",
            files: "subscription_tokens.public_keys",
        }
        .read(&subscriptions.hmac_keys, &subscriptions.public_keys)?,
        jwks: match &**jwks {
            "" if config.jwks.url.is_empty() => JwksKeys::None,
            "" => JwksKeys::Awaited,
            path => JwksKeys::Fixed(Arc::new(read_file("jwks.file", path, KeySet::from_jwks)?)),
        },
    })
}

/// Fetches the key set of `jwks.url`, if there is one.
///
/// # Errors
/// Nobody vouches for its host.
pub fn key_set_source(config: &Config) -> Result<Option<KeySetSource>, KeysError> {
    KeySetSource::new(&config.jwks).map_err(KeysError::Authorities)
}

/// The end of the first attempt to fetch the key set.
#[derive(Debug)]
pub(super) struct FirstFetch(mpsc::Receiver<()>);

impl FirstFetch {
    /// Waits for it, so that clients that come back after a start need not be told to come again. The time for a fetch is
    /// limited, and an engine starts without the set as well.
    pub(super) fn wait(&self) {
        // Nothing is sent: what is waited for is that the sender is dropped.
        let _ = self.0.recv_timeout(FETCH_TIME_MAX + Duration::from_secs(1));
    }
}

/// What keeps the key set of `jwks.url` up to date, if there is one, and the end of its first attempt.
pub(super) fn key_set_updates(config: &Config) -> Result<(Option<KeySetUpdates>, FirstFetch), KeysError> {
    let (first, wait) = mpsc::channel();
    let source = key_set_source(config)?;
    let updates = source.map(|source| KeySetUpdates { source, refresh: config.jwks.refresh.0, first });
    Ok((updates, FirstFetch(wait)))
}

/// What an operator should know about keys that were read: keys of the set in `jwks.file` that cannot be used.
#[must_use]
pub fn keys_note(config: &Config, keys: &Keys) -> Option<String> {
    let passed_over = keys.jwks.keys()?.passed_over()?;
    Some(format!("jwks.file: {}: {passed_over}", config.jwks.file))
}

/// The keys of the configuration under which static keys stand.
struct KeyNames {
    secrets: &'static str,
    files: &'static str,
}

impl KeyNames {
    fn read(&self, secrets: &Secrets, files: &[String]) -> Result<KeySet, KeysError> {
        let mut keys = KeySet::default();
        for secret in secrets.iter() {
            let added = keys.add_secret(secret.as_bytes());
            added.map_err(|error| KeysError::Secret { key: self.secrets, error })?;
        }
        for file in files {
            read_file(self.files, file, |pem| keys.add_pem(pem))?;
        }
        Ok(keys)
    }
}

fn read_file<T>(
    key: &'static str,
    path: &str,
    parse: impl FnOnce(&[u8]) -> Result<T, KeyError>,
) -> Result<T, KeysError> {
    let bytes = std::fs::read(path).map_err(|error| KeysError::File { key, path: path.into(), error })?;
    parse(&bytes).map_err(|error| KeysError::InFile { key, path: path.into(), error })
}
