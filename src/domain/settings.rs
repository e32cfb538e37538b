//! What the threads take from the configuration. A reload replaces it as a whole, so that no thread ever has a part of one
//! configuration and a part of another.

use std::error::Error;
use std::fmt::Debug;
use std::sync::Arc;

use crate::auth::Verifier;
#[cfg(test)]
use crate::auth::{KeySet, Keys};
use crate::config::Config;
use crate::domain::namespaces::Namespaces;
use crate::http_client::HttpTargets;
#[cfg(test)]
use crate::transport::credential::CredentialPlaces;
use crate::transport::upgrade::UpgradePolicy;

/// Everything that depends on the configuration.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// The configuration, validated.
    pub config: Arc<Config>,
    /// Its namespaces.
    pub namespaces: Arc<Namespaces>,
    /// Verifies clients' tokens.
    pub verifier: Verifier,
    /// A digest of the files that each key of the configuration names, to tell whether they have changed.
    pub key_files: Vec<(&'static str, u64)>,
    /// The backends that are asked by HTTP.
    pub targets: HttpTargets,
    /// Which HTTP requests become clients.
    pub upgrade: UpgradePolicy,
}

/// What a reload makes of the configuration.
#[derive(Clone, Debug)]
pub struct Reloaded {
    /// What is to be in force.
    pub settings: Arc<EngineSettings>,
    /// The keys of the configuration that take effect, and those whose files have other contents.
    pub changed: Vec<String>,
    /// The keys that have another value now, and take effect with the next start.
    pub needs_restart: Vec<String>,
}

/// Where settings come from.
pub trait SettingsSource: Debug + Send + Sync {
    /// Reads the configuration and the files that it names, while `in_force` is in force. Blocks.
    ///
    /// # Errors
    /// Everything that is wrong, in words.
    fn read(&self, in_force: &EngineSettings) -> Result<Reloaded, Box<dyn Error + Send + Sync>>;

    /// The settings are in force now.
    fn adopted(&self, settings: &EngineSettings);
}

#[cfg(test)]
impl EngineSettings {
    /// Those of a configuration whose only keys are secrets, with numbers of namespaces as at the start.
    pub(crate) fn of(config: Config) -> Arc<Self> {
        let mut connection = KeySet::default();
        config.tokens.hmac_keys.iter().for_each(|secret| connection.add_secret(secret.as_bytes()).unwrap());
        let upgrade = UpgradePolicy {
            path: config.server.path.clone(),
            head_bytes: config.limits.head_bytes,
            allowed_origins: Vec::new(),
            page_port: 0,
            open_on_loopback: false,
            deflate: false,
            credentials: CredentialPlaces::default(),
        };
        Arc::new(Self {
            namespaces: Arc::new(Namespaces::new(&config)),
            verifier: Verifier::new(&config, Keys { connection, ..Keys::default() }),
            key_files: Vec::new(),
            targets: HttpTargets::new(&config, &HttpTargets::default()).unwrap(),
            upgrade,
            config: Arc::new(config),
        })
    }

    /// The next ones, after a reload.
    pub(crate) fn next(&self, config: Config) -> Arc<Self> {
        let mut next = Self::of(config);
        let namespaces = self.namespaces.reloaded(&next.config).unwrap();
        Arc::get_mut(&mut next).unwrap().namespaces = Arc::new(namespaces);
        next
    }
}
