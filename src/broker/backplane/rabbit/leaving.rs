//! Closes connections.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use lapin::Connection;
use tokio::time::timeout;

/// For AMQP's "close".
pub(super) const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// The reply code of a close without a fault (AMQP 0.9.1, section 1.1).
pub(super) const SUCCESS: u16 = 200;

/// The end of a link that was given up, which has to come before the next one is made.
pub(super) struct Leaving(Pin<Box<dyn Future<Output = ()> + Send>>);

impl Leaving {
    /// Of these connections.
    pub(super) fn of(connections: [Arc<Connection>; 2]) -> Self {
        Self(Box::pin(give_up(connections)))
    }

    /// Waits until it has come, or for two seconds.
    pub(super) async fn end(self) {
        self.0.await;
    }
}

impl fmt::Debug for Leaving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Leaving")
    }
}

/// Closes connections that are of no use. RabbitMQ gives others nothing of what it has sent over them before they are
/// closed, and lapin keeps one that is only dropped while a consumer was about to begin on it.
pub(super) async fn give_up(connections: [Arc<Connection>; 2]) {
    let [consuming, publishing] =
        connections.each_ref().map(|connection| connection.close(SUCCESS, "the engine begins anew".into()));
    // A connection that is gone needs no close.
    let _ = timeout(CLOSE_LIMIT, join(consuming, publishing)).await;
}
