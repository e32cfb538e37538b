//! Connections that are kept between requests.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// The end of a connection that takes requests.
pub(super) type Sender = SendRequest<Full<Bytes>>;

/// The idle connections to one host.
pub(super) struct Pool {
    most: usize,
    idle_max: Duration,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// The one that was used last is at the back, and is used next: so those that are not needed grow old.
    connections: VecDeque<(Instant, Sender)>,
    /// Whether a task closes those that are too old.
    is_watched: bool,
}

impl Pool {
    /// Keeps at most so many, each for so long without a request.
    pub(super) fn new(most: usize, idle_max: Duration) -> Arc<Self> {
        Arc::new(Self { most, idle_max, idle: Mutex::default() })
    }

    /// A connection that takes a request, as far as is known.
    pub(super) fn take(&self) -> Option<Sender> {
        let mut idle = self.idle.lock();
        while let Some((_, sender)) = idle.connections.pop_back() {
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    /// Keeps a connection that takes the next request. Must be called in a runtime of tokio.
    pub(super) fn keep(self: &Arc<Self>, sender: Sender) {
        let mut idle = self.idle.lock();
        if idle.connections.len() >= self.most {
            return;
        }
        idle.connections.push_back((Instant::now(), sender));
        if !std::mem::replace(&mut idle.is_watched, true) {
            tokio::spawn(watch(Arc::downgrade(self)));
        }
    }

    /// Closes what has not been used for too long. When the next one is due; none if nothing is idle.
    fn close_old(&self) -> Option<Instant> {
        let mut idle = self.idle.lock();
        let now = Instant::now();
        while let Some((since, _)) = idle.connections.front() {
            let due = *since + self.idle_max;
            if due > now {
                return Some(due);
            }
            idle.connections.pop_front();
        }
        idle.is_watched = false;
        None
    }
}

/// Closes connections that are too old, until none is left.
async fn watch(pool: Weak<Pool>) {
    while let Some(due) = pool.upgrade().and_then(|pool| pool.close_old()) {
        sleep_until(due).await;
    }
}
