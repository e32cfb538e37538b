//! Fetches the key set of a configuration once, for commands that judge a configuration or a token.

use std::sync::Arc;

use anyhow::Context;
use fanfare::auth::KeySet;
use fanfare::control::key_set::{FetchError, KeySetSource};

/// The set, fetched as an engine does it.
pub(super) fn fetch(source: &KeySetSource) -> anyhow::Result<Result<Arc<KeySet>, FetchError>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("the key set cannot be fetched")?;
    let fetched = runtime.block_on(source.fetch(None));
    // A search for a host that goes on is not waited for.
    runtime.shutdown_background();
    Ok(fetched.map(|set| set.keys))
}
