//! All backends with a URL.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use thiserror::Error;

use crate::config::{Backend, Config};

use super::target::{HttpTarget, TargetError};

/// A backend cannot be asked.
#[derive(Debug, Error)]
#[error("backends.{name}.{error}")]
pub struct TargetsError {
    name: String,
    error: TargetError,
}

/// The backends with a URL, by name.
#[derive(Clone, Default)]
pub struct HttpTargets(BTreeMap<String, Entry>);

#[derive(Clone)]
struct Entry {
    target: Arc<HttpTarget>,
    /// What it was made of.
    backend: Backend,
    /// A digest of its `ca_file`.
    authorities: u64,
}

impl HttpTargets {
    /// Those of a configuration. What is the same as before stays, with its connections. Reads files of authorities, and so
    /// blocks.
    ///
    /// # Errors
    /// What is wrong with the URL or the authorities of a backend.
    pub fn new(config: &Config, before: &Self) -> Result<Self, TargetsError> {
        let with_url = config.backends.iter().filter(|(_, backend)| !backend.url.is_empty());
        let entries = with_url.map(|(name, backend)| {
            let authorities = digest(&backend.ca_file);
            let stays = before.0.get(name);
            let stays = stays.filter(|entry| entry.backend == *backend && entry.authorities == authorities);
            if let Some(entry) = stays {
                return Ok((name.clone(), entry.clone()));
            }
            let target = HttpTarget::new(backend);
            let target = target.map_err(|error| TargetsError { name: name.clone(), error })?;
            let (target, backend) = (Arc::new(target), backend.clone());
            Ok((name.clone(), Entry { target, backend, authorities }))
        });
        entries.collect::<Result<_, _>>().map(Self)
    }

    /// The backend of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<HttpTarget>> {
        self.0.get(name).map(|entry| &entry.target)
    }

    /// The keys whose files have other contents than before, and the same name.
    #[must_use]
    pub fn changed_files(&self, before: &Self) -> Vec<String> {
        let is_changed = |(name, entry): &(&String, &Entry)| {
            let other = before.0.get(*name).filter(|other| other.backend.ca_file == entry.backend.ca_file);
            other.is_some_and(|other| other.authorities != entry.authorities)
        };
        let changed = self.0.iter().filter(is_changed);
        changed.map(|(name, _)| format!("backends.{name}.ca_file")).collect()
    }
}

impl fmt::Debug for HttpTargets {
    /// Without what the configuration keeps secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A digest of a file's contents. What cannot be read is told of when the file is read.
fn digest(file: &str) -> u64 {
    let mut digest = DefaultHasher::new();
    if !file.is_empty() {
        std::fs::read(file).ok().hash(&mut digest);
    }
    digest.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(backends: &[(&str, &str)]) -> Config {
        let mut config = Config::default();
        for (name, url) in backends {
            let backend = Backend { url: (*url).into(), ..Backend::default() };
            config.backends.insert((*name).to_owned(), backend);
        }
        config
    }

    #[test]
    fn what_is_the_same_stays_and_what_has_no_url_is_none() {
        let before = HttpTargets::new(
            &config(&[("a", "http://127.0.0.1:1/"), ("b", "http://127.0.0.1:2/"), ("amqp", "")]),
            &HttpTargets::default(),
        );
        let before = before.unwrap();
        assert!(before.get("amqp").is_none());
        let after =
            HttpTargets::new(&config(&[("a", "http://127.0.0.1:1/"), ("b", "http://127.0.0.1:3/")]), &before);
        let after = after.unwrap();
        let is_same = |name| Arc::ptr_eq(before.get(name).unwrap(), after.get(name).unwrap());
        assert_eq!((is_same("a"), is_same("b")), (true, false));
        assert_eq!(after.changed_files(&before), [""; 0]);
    }

    #[test]
    fn other_authorities_make_another_target_and_missing_ones_are_told_with_their_key() {
        let file = std::env::temp_dir().join(format!("fanfare-targets-{}.pem", std::process::id()));
        let mut config = config(&[("a", "https://shop.example/")]);
        config.backends.get_mut("a").unwrap().ca_file = file.to_str().unwrap().to_owned();
        let error = HttpTargets::new(&config, &HttpTargets::default()).unwrap_err().to_string();
        assert!(error.starts_with("backends.a.ca_file: "), "{error}");
        let authority = || rcgen::generate_simple_self_signed(["shop.example".to_owned()]).unwrap();
        std::fs::write(&file, authority().cert.pem()).unwrap();
        let before = HttpTargets::new(&config, &HttpTargets::default()).unwrap();
        std::fs::write(&file, authority().cert.pem()).unwrap();
        let after = HttpTargets::new(&config, &before).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert!(!Arc::ptr_eq(before.get("a").unwrap(), after.get("a").unwrap()));
        assert_eq!(after.changed_files(&before), ["backends.a.ca_file"]);
    }
}
