//! Reads the configuration again, by a signal or by the API, and puts all of it in force, or nothing.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::envelope::{Fault, STOPPING};
use super::state::AppState;
use crate::domain::mail::Request;
use crate::domain::settings::Reloaded;

/// How long the configuration, with the files that it names, may take to be read.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// Why nothing has changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReloadError {
    /// The configuration, or a file that it names, cannot be used.
    #[error("{0}")]
    Wrong(Box<dyn Error + Send + Sync>),
    /// Reading took too long.
    #[error(
        "its files, or the names of hosts in it, could not be read within {READ_LIMIT:?}: is there a file on a disk that does \
         not answer?"
    )]
    Slow,
    /// An earlier reload gave up, and what it waited for has not come yet.
    #[error(
        "an earlier reload still waits for its files, or for the names of hosts in it: is there a file on a disk that does \
         not answer?"
    )]
    StillReading,
    /// The broker thread took no request in time.
    #[error("{}", .0.message)]
    Behind(Fault),
    /// The engine has been told to stop.
    #[error("{STOPPING}")]
    Stopping,
}

/// Reloads each time that the engine is told to by a signal.
pub(super) async fn run(state: Arc<AppState>, signalled: Arc<Notify>) {
    loop {
        signalled.notified().await;
        drop(reload(&state).await);
    }
}

/// Reads the configuration again, and puts it in force if all of it can be used. The log has the outcome.
pub(super) async fn reload(state: &AppState) -> Result<Reloaded, ReloadError> {
    let outcome = put_in_force(state).await;
    let stats = &state.stats.control;
    match &outcome {
        Ok(reloaded) => {
            stats.reloads_done.add(1);
            log(reloaded);
        }
        Err(error) => {
            stats.reloads_failed.add(1);
            tracing::error!("the configuration is not reloaded, and everything stays as it was: {error}");
        }
    }
    outcome
}

/// The broker thread comes first. When the request is in its mailbox, nothing can fail any more.
async fn put_in_force(state: &AppState) -> Result<Reloaded, ReloadError> {
    let _turn = state.reloading.lock().await;
    if state.is_stopping() {
        return Err(ReloadError::Stopping);
    }
    let (source, in_force) = (Arc::clone(&state.source), state.settings());
    let note_before = in_force.config.anonymous_note();
    // Files may be slow, and so may the names of hosts. What still reads then ends by itself, and is not used. Only one does:
    // each has a thread.
    let only = Arc::clone(&state.reading).try_lock_owned().map_err(|_| ReloadError::StillReading)?;
    let reading = spawn_blocking(move || {
        let read = source.read(&in_force);
        drop(only);
        read
    });
    let read =
        timeout(READ_LIMIT, reading).await.map_err(|_| ReloadError::Slow)?.expect("reading does not panic");
    let reloaded = read.map_err(ReloadError::Wrong)?;
    let request = Request::Reload(Arc::clone(&reloaded.settings));
    state.post(request).await.map_err(ReloadError::Behind)?;
    state.adopt(&reloaded.settings);
    if let Some(note) = reloaded.settings.config.anonymous_note().filter(|note| note_before != Some(note)) {
        tracing::info!("{note}");
    }
    Ok(reloaded)
}

fn log(Reloaded { changed, needs_restart, .. }: &Reloaded) {
    let changed = if changed.is_empty() { "nothing".to_owned() } else { changed.join(", ") };
    tracing::info!(%changed, "the configuration is reloaded");
    if !needs_restart.is_empty() {
        let keys = needs_restart.join(", ");
        tracing::warn!(%keys, "these keys keep the values in force until a restart");
    }
}
