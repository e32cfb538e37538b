//! Makes settings of the configuration: at the start, and again at each reload.

use std::error::Error;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::auth::Verifier;
use crate::config::{Config, Reload};
use crate::domain::namespaces::Namespaces;
use crate::domain::settings::{EngineSettings, Reloaded, SettingsSource};
use crate::engine::keys::{KeysError, keys_note, read_keys};
use crate::http_client::{HttpTargets, TargetsError};
use crate::transport::credential::CredentialPlaces;
use crate::transport::origin::{OriginPattern, is_loopback};
use crate::transport::upgrade::UpgradePolicy;

/// The program around an engine, as far as a reload needs it.
pub trait Program: Debug + Send + Sync {
    /// The configuration as it is now, read from where it was read at the start, and valid. May block.
    ///
    /// # Errors
    /// Everything that is wrong with it, in words.
    fn configuration(&self) -> Result<Config, Box<dyn Error + Send + Sync>>;

    /// The engine goes by this configuration from now on.
    fn adopted(&self, config: &Config);
}

/// What verifies tokens, digests of the files that its keys were read from, and what an operator should know about them.
#[derive(Debug)]
pub(super) struct LoadedKeys {
    verifier: Verifier,
    files: Vec<(&'static str, u64)>,
    note: Option<String>,
}

impl LoadedKeys {
    /// Digests first: a file that changes meanwhile is read again by the next reload.
    pub(super) fn read(config: &Config) -> Result<Self, KeysError> {
        let files = digests(config);
        let keys = read_keys(config)?;
        let note = keys_note(config, &keys);
        Ok(Self { verifier: Verifier::new(config, keys), files, note })
    }

    /// What an operator should know about the keys.
    pub(super) fn note(&self) -> Option<String> {
        self.note.clone()
    }

    /// The first settings, and where others come from. Reads what backends need. `control` is the address of the control port.
    pub(super) fn begin(
        self,
        config: Config,
        program: Arc<dyn Program>,
        control: SocketAddr,
    ) -> Result<(Source, Arc<EngineSettings>), TargetsError> {
        let namespaces = Namespaces::new(&config);
        let targets = HttpTargets::new(&config, &HttpTargets::default())?;
        let settings = settings(config, namespaces, self, targets, control);
        Ok((Source { program, control }, Arc::new(settings)))
    }
}

/// Reads the configuration again.
#[derive(Debug)]
pub(super) struct Source {
    program: Arc<dyn Program>,
    control: SocketAddr,
}

impl SettingsSource for Source {
    fn read(&self, in_force: &EngineSettings) -> Result<Reloaded, Box<dyn Error + Send + Sync>> {
        let new = self.program.configuration()?;
        let Reload { config, mut changed, needs_restart } = in_force.config.reload(new)?;
        let namespaces = in_force.namespaces.reloaded(&config)?;
        let keys = LoadedKeys::read(&config)?;
        keys.note().into_iter().for_each(|note| tracing::info!("{note}"));
        let is_other = |(key, digest): &&(&'static str, u64)| !in_force.key_files.contains(&(*key, *digest));
        let other_keys = keys.files.iter().filter(is_other).map(|(key, _)| (*key).to_owned());
        let targets = HttpTargets::new(&config, &in_force.targets)?;
        let other_files = other_keys.chain(targets.changed_files(&in_force.targets));
        let other_files: Vec<String> = other_files.filter(|key| !changed.contains(key)).collect();
        changed.extend(other_files);
        let verifier = match verify_alike(&config, &keys, in_force) {
            true => in_force.verifier.clone(),
            // What was fetched last is not fetched again.
            false if !config.jwks.url.is_empty() => keys.verifier.with_jwks(in_force.verifier.jwks().clone()),
            false => keys.verifier,
        };
        let keys = LoadedKeys { verifier, ..keys };
        let settings = Arc::new(settings(config, namespaces, keys, targets, self.control));
        Ok(Reloaded { settings, changed, needs_restart })
    }

    fn adopted(&self, settings: &EngineSettings) {
        self.program.adopted(&settings.config);
    }
}

/// Whether the verifier in force does for a configuration. If so, what shards remember of tokens stays.
fn verify_alike(config: &Config, keys: &LoadedKeys, in_force: &EngineSettings) -> bool {
    let old = &in_force.config;
    let have_same_keys = config.tokens.hmac_keys == old.tokens.hmac_keys
        && config.tokens.public_keys == old.tokens.public_keys
        && config.jwks == old.jwks
        && config.subscription_tokens == old.subscription_tokens
        && keys.files == in_force.key_files;
    have_same_keys && in_force.verifier.has_rules_of(config)
}

fn settings(
    config: Config,
    namespaces: Namespaces,
    LoadedKeys { verifier, files, .. }: LoadedKeys,
    targets: HttpTargets,
    control: SocketAddr,
) -> EngineSettings {
    EngineSettings {
        upgrade: upgrade_policy(&config, control),
        namespaces: Arc::new(namespaces),
        verifier,
        key_files: files,
        targets,
        config: Arc::new(config),
    }
}

/// Pages from the control port may open WebSockets, whether the page was opened by a name of loopback or by the name that
/// it uses for the WebSocket.
fn upgrade_policy(config: &Config, control: SocketAddr) -> UpgradePolicy {
    let port = control.port();
    let loopback = ["localhost", "127.0.0.1", "[::1]"].map(|host| format!("http://{host}:{port}"));
    let own = loopback.into_iter().chain([format!("http://{control}")]);
    let all = config.server.allowed_origins.iter().cloned().chain(own);
    let allowed_origins =
        all.map(|origin| OriginPattern::parse(&origin).expect("validated, or our own")).collect();
    let loopback_only = config.server.listen.iter().all(|address| is_loopback(address.ip()));
    UpgradePolicy {
        path: config.server.path.clone(),
        head_bytes: config.limits.head_bytes,
        allowed_origins,
        page_port: port,
        open_on_loopback: loopback_only && config.control.api_key.is_empty(),
        deflate: config.namespaces.values().any(|namespace| namespace.deflate),
        credentials: CredentialPlaces {
            cookie: config.server.token_cookie.clone(),
            query: config.server.token_query.clone(),
        },
    }
}

/// A digest of the files that each key of the configuration names. What cannot be read is told of when the keys are read.
fn digests(config: &Config) -> Vec<(&'static str, u64)> {
    let Config { tokens, jwks, subscription_tokens, .. } = config;
    [
        ("tokens.public_keys", &*tokens.public_keys),
        ("subscription_tokens.public_keys", &*subscription_tokens.public_keys),
        ("jwks.file", std::slice::from_ref(&jwks.file)),
    ]
    .map(|(key, files)| {
        let mut digest = DefaultHasher::new();
        files.iter().for_each(|file| std::fs::read(file).ok().hash(&mut digest));
        (key, digest.finish())
    })
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{JwksKeys, KeySet};
    use crate::base::clock::UnixTime;
    use crate::config::{Backend, Secret};
    use crate::transport::origin::Origin;

    #[derive(Debug)]
    struct Written(Config);

    impl Program for Written {
        fn configuration(&self) -> Result<Config, Box<dyn Error + Send + Sync>> {
            Ok(self.0.clone())
        }

        fn adopted(&self, _: &Config) {}
    }

    const CONTROL: ([u8; 4], u16) = ([127, 0, 0, 1], 9000);

    fn start(config: &Config) -> Arc<EngineSettings> {
        let program = Arc::new(Written(config.clone()));
        LoadedKeys::read(config).unwrap().begin(config.clone(), program, CONTROL.into()).unwrap().1
    }

    fn reload(in_force: &EngineSettings, config: &Config) -> Reloaded {
        let source = Source { program: Arc::new(Written(config.clone())), control: CONTROL.into() };
        source.read(in_force).unwrap()
    }

    fn with_secret(secret: &str) -> Config {
        let mut config = Config::default();
        config.tokens.hmac_keys = vec![Secret::from(secret)].into();
        config
    }

    #[test]
    fn the_verifier_stays_unless_something_about_tokens_changes() {
        let mut config = with_secret("one");
        let first = start(&config);
        config.server.allowed_origins = vec!["https://page.example".to_owned()];
        let Reloaded { settings: second, changed, .. } = reload(&first, &config);
        assert_eq!(changed, ["server.allowed_origins"]);
        assert!(second.verifier.has_same_keys(&first.verifier));
        let page = Origin::parse("https://page.example").unwrap();
        let lets_in =
            |settings: &EngineSettings| settings.upgrade.allowed_origins.iter().any(|all| all.matches(&page));
        assert_eq!((lets_in(&first), lets_in(&second)), (false, true));
        let third = reload(&second, &with_secret("two"));
        assert!(!third.settings.verifier.has_same_keys(&second.verifier));
    }

    #[test]
    fn a_key_set_that_was_fetched_stays_when_other_keys_change() {
        let mut config = with_secret("one");
        config.jwks.url = "https://issuer.example/keys".into();
        let mut first = EngineSettings::clone(&start(&config));
        let keys = Arc::new(KeySet::default());
        let fetched = JwksKeys::Fetched { keys: Arc::clone(&keys), at: UnixTime::default() };
        first.verifier = first.verifier.with_jwks(fetched);
        config.tokens.hmac_keys = vec![Secret::from("two")].into();
        let second = reload(&first, &config).settings;
        let stays = second.verifier.jwks().keys().is_some_and(|stays| Arc::ptr_eq(stays, &keys));
        assert!(stays && !second.verifier.has_same_keys(&first.verifier));
    }

    #[test]
    fn what_is_wrong_with_a_key_or_a_backend_is_told_and_nothing_is_made() {
        let config = Config::default();
        let first = start(&config);
        let mut wrong = config;
        wrong.tokens.public_keys = vec!["/no/such/key.pem".to_owned()];
        let source = Source { program: Arc::new(Written(wrong)), control: CONTROL.into() };
        let error = source.read(&first).unwrap_err().to_string();
        assert!(error.starts_with("tokens.public_keys: /no/such/key.pem cannot be read"), "{error}");
        let mut wrong = Config::default();
        let ca_file = "/no/such/ca.pem".to_owned();
        let backend = Backend { url: "https://shop.example/".into(), ca_file, ..Backend::default() };
        wrong.backends.insert("shop".to_owned(), backend);
        let source = Source { program: Arc::new(Written(wrong)), control: CONTROL.into() };
        let error = source.read(&first).unwrap_err().to_string();
        assert!(error.starts_with("backends.shop.ca_file: /no/such/ca.pem cannot be read"), "{error}");
    }
}
