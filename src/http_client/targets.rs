//! All backends that are asked by HTTP.

use std::collections::BTreeMap;
use std::sync::Arc;

use thiserror::Error;

use crate::config::Config;

use super::target::{HttpTarget, TargetError};

/// The backends of a configuration that are asked by HTTP, by name.
#[derive(Debug, Default)]
pub struct HttpTargets(BTreeMap<Box<str>, Arc<HttpTarget>>);

/// Why a backend of a configuration cannot be asked at all.
#[derive(Debug, Error)]
#[error("backends.{name}.{error}")]
pub struct BackendError {
    /// Its name.
    name: Box<str>,
    /// What is wrong with it.
    error: TargetError,
}

impl HttpTargets {
    /// Those of a configuration, which is valid. Reads the files of authorities that it names, and so blocks.
    ///
    /// # Errors
    /// What is wrong with the first one of which something is.
    pub fn new(config: &Config) -> Result<Self, BackendError> {
        let with_url = config.backends.iter().filter(|(_, backend)| !backend.url.is_empty());
        let targets = with_url.map(|(name, backend)| {
            let name = Box::from(&**name);
            match HttpTarget::new(backend) {
                Ok(target) => Ok((name, Arc::new(target))),
                Err(error) => Err(BackendError { name, error }),
            }
        });
        targets.collect::<Result<_, _>>().map(Self)
    }

    /// The backend of this name, if it is asked by HTTP.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<HttpTarget>> {
        self.0.get(name)
    }
}
