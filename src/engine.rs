//! A stand-in with the engine's doors, to be replaced when the engine is merged. It listens to nobody.

use std::net::SocketAddr;

use tokio::sync::watch;

use crate::config::Config;

/// The stand-in.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    stopped: watch::Sender<bool>,
}

/// Why the engine could not be started.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(String);

/// Why the engine ended otherwise than it was asked to, or what was still open at the end.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RunError(String);

impl Engine {
    /// Starts everything.
    ///
    /// # Errors
    /// What failed.
    pub fn start(config: Config, _demo: bool) -> Result<Self, StartError> {
        Ok(Self { config, stopped: watch::Sender::new(false) })
    }

    /// Where clients come in.
    #[must_use]
    pub fn client_addresses(&self) -> &[SocketAddr] {
        &self.config.server.listen
    }

    /// Where operators come in.
    #[must_use]
    pub fn control_address(&self) -> SocketAddr {
        self.config.control.listen
    }

    /// What an operator should know about the start.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        &[]
    }

    /// Begins the graceful stop.
    pub fn stop(&self) {
        self.stopped.send_replace(true);
    }

    /// Waits until all threads have ended.
    ///
    /// # Errors
    /// What was still open, or what failed.
    pub fn ended(&self) -> impl Future<Output = Result<(), RunError>> + use<> {
        let mut stopped = self.stopped.subscribe();
        async move {
            let ended = stopped.wait_for(|stopped| *stopped).await;
            ended.map(drop).map_err(|error| RunError(error.to_string()))
        }
    }
}
