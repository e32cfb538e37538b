//! Fetches the key set of `jwks.url`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::auth::{JWKS_BYTES_MAX, KeyError, KeySet};
use crate::config::{HttpUrl, Jwks};
use crate::http_client::{AuthoritiesError, Client, Limits, RequestError};

/// What a fetch may take.
const LIMITS: Limits =
    Limits { connect: Duration::from_secs(5), whole: FETCH_TIME_MAX, body_bytes: JWKS_BYTES_MAX };

/// How long a fetch may take, connecting included.
pub const FETCH_TIME_MAX: Duration = Duration::from_secs(5);

/// What is understood. Many issuers answer with another type, and it is not checked.
const ACCEPT: &str = "application/jwk-set+json, application/json";

/// A URL with a key set.
#[derive(Clone, Debug)]
pub struct KeySetSource {
    client: Client,
    url: HttpUrl,
}

/// A key set that was fetched.
#[derive(Debug)]
pub struct FetchedSet {
    /// What came, to tell whether the next one is another one.
    body: Vec<u8>,
    /// Its keys.
    pub keys: Arc<KeySet>,
}

/// Why a key set could not be fetched. It holds nothing of the URL's query.
#[derive(Debug, Error)]
pub enum FetchError {
    /// There is no answer that can be used.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The answer is no key set, or has no key that can be used.
    #[error(transparent)]
    Keys(#[from] KeyError),
}

impl KeySetSource {
    /// The source that a configuration names, if it names one. It is valid. Reads the file of authorities, and so blocks.
    ///
    /// # Errors
    /// The authorities cannot be used.
    pub fn new(jwks: &Jwks) -> Result<Option<Self>, AuthoritiesError> {
        if jwks.url.is_empty() {
            return Ok(None);
        }
        let authorities = Some(Path::new(&jwks.ca_file)).filter(|path| !path.as_os_str().is_empty());
        Ok(Some(Self { client: Client::new(authorities, LIMITS)?, url: jwks.url.clone() }))
    }

    /// The URL, without its query.
    #[must_use]
    pub fn name(&self) -> String {
        self.url.public()
    }

    /// Fetches the set, within [`FETCH_TIME_MAX`]. It has the keys of `latest` if it is the same. Must be called in a runtime
    /// of tokio.
    ///
    /// # Errors
    /// There is no answer, or no set in it.
    pub async fn fetch(&self, latest: Option<&FetchedSet>) -> Result<FetchedSet, FetchError> {
        let body = self.client.get(&self.url, ACCEPT).await?;
        let keys = match latest.filter(|latest| latest.body == body) {
            Some(latest) => Arc::clone(&latest.keys),
            None => Arc::new(KeySet::from_jwks(&body)?),
        };
        Ok(FetchedSet { body, keys })
    }
}
