//! `reload`: reads the configuration again.

use serde::{Deserialize, Serialize};

use super::others::Others;
use crate::control::envelope::{Fault, Outcome, result};
use crate::control::reload::{ReloadError, reload};
use crate::control::state::AppState;
use crate::domain::reasons::ErrorCode;

/// The parameters of `reload`: none.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an empty JSON object")]
pub(super) struct ReloadParams {
    #[serde(flatten)]
    others: Others,
}

/// What has become of it: the keys of the configuration that took effect, and those that keep the value in force.
#[derive(Debug, Serialize)]
struct ReloadResult {
    changed: Vec<String>,
    needs_restart: Vec<String>,
}

/// The method `reload`.
pub(super) async fn reload_configuration(state: &AppState, params: ReloadParams) -> Outcome {
    params.others.refuse()?;
    match reload(state).await {
        Ok(reloaded) => {
            result(&ReloadResult { changed: reloaded.changed, needs_restart: reloaded.needs_restart })
        }
        Err(ReloadError::Behind(fault)) => Err(fault),
        Err(error @ (ReloadError::Slow | ReloadError::StillReading)) => {
            Err(Fault::new(ErrorCode::Internal, error))
        }
        Err(error @ ReloadError::Stopping) => Err(Fault::new(ErrorCode::TooManyRequests, error)),
        Err(ReloadError::Wrong(error)) => Err(Fault::whole(ErrorCode::BadRequest, error)),
    }
}
