//! Keeps the key set of `jwks.url` up to date: fetches it, and hands its keys to the shards.
//!
//! A shard that meets a token whose key may be missing only counts it. This task looks at the counters once per second, so
//! clients cannot have the issuer asked more often than the schedule allows. A fetch that fails changes nothing:
//! the keys that were there count until others come.

mod schedule;
mod source;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::state::AppState;
use crate::auth::JwksKeys;
use crate::base::clock::UnixTime;
use crate::base::log_limiter::RateLimit;
use crate::base::printable::printable;
use crate::domain::mail::Request;
use schedule::Schedule;

pub use source::{FETCH_TIME_MAX, FetchError, FetchedSet, KeySetSource};

/// Pause between two looks at the counters.
const PERIOD: Duration = Duration::from_secs(1);
/// Failures are told at most this often.
const COMPLAINTS: Duration = Duration::from_secs(60);
/// Characters of an error that are told. What a host's certificate says may be long.
const ERROR_MAX: usize = 300;

/// What is kept up to date.
#[derive(Debug)]
pub struct KeySetUpdates {
    /// Where the set comes from.
    pub source: KeySetSource,
    /// How often the set is fetched.
    pub refresh: Duration,
    /// Dropped when the first fetch has ended, whatever came of it.
    pub first: std::sync::mpsc::Sender<()>,
}

/// Fetches the set whenever it is time, for as long as the thread runs.
pub(super) async fn run(updates: KeySetUpdates, state: Arc<AppState>) {
    let KeySetUpdates { source, refresh, first } = updates;
    let mut schedule = Schedule::new(refresh, Instant::now());
    let mut keeper = Keeper { source, latest: None, complaints: RateLimit::new(COMPLAINTS) };
    let mut first = Some(first);
    loop {
        let waiting = state.stats.sum(|shard| &shard.tokens_undecided);
        if schedule.is_due(waiting, Instant::now()) {
            schedule.begin(waiting);
            match keeper.fetch(&state).await {
                Some(keys) => {
                    schedule.succeeded(Instant::now());
                    send(&state, keys).await;
                }
                None => schedule.failed(Instant::now()),
            }
            drop(first.take());
        }
        sleep(PERIOD).await;
    }
}

/// Has the shards verify by the set, as soon as there is room. The broker thread takes requests unless the engine has stopped.
/// A reload waits meanwhile, so that neither of them takes back what the other has changed.
async fn send(state: &AppState, keys: JwksKeys) {
    let _turn = state.reloading.lock().await;
    let verifier = state.settings().verifier.with_jwks(keys);
    while state.post(Request::Verifier(verifier.clone())).await.is_err() {
        if state.is_stopping() {
            return;
        }
        sleep(PERIOD).await;
    }
    state.verify_by(verifier);
}

/// The latest set.
#[derive(Debug)]
struct Keeper {
    source: KeySetSource,
    latest: Option<FetchedSet>,
    complaints: RateLimit,
}

impl Keeper {
    /// Fetches the set. `None`: what was there counts on.
    async fn fetch(&mut self, state: &AppState) -> Option<JwksKeys> {
        let stats = &state.stats.control;
        match self.source.fetch(self.latest.as_ref()).await {
            Ok(set) => {
                self.tell_of(&set);
                let at = UnixTime::now();
                stats.key_set_fetches.add(1);
                stats.key_set_time.set(at.as_secs());
                let keys = Arc::clone(&self.latest.insert(set).keys);
                Some(JwksKeys::Fetched { keys, at })
            }
            Err(error) => {
                stats.key_set_failures.add(1);
                self.complain(&error);
                None
            }
        }
    }

    /// Logs what is new in a set.
    fn tell_of(&self, set: &FetchedSet) {
        if self.latest.as_ref().is_some_and(|latest| Arc::ptr_eq(&latest.keys, &set.keys)) {
            return;
        }
        let (url, keys) = (self.source.name(), set.keys.len());
        tracing::info!(url, keys, "the key set was fetched, and tokens are verified by its keys");
        if let Some(passed_over) = set.keys.passed_over() {
            tracing::warn!(url, "the key set: {passed_over}");
        }
    }

    fn complain(&mut self, error: &FetchError) {
        let Some(more) = self.complaints.allow(Instant::now()) else { return };
        let (url, error) = (self.source.name(), printable(error.to_string().as_bytes(), ERROR_MAX));
        let now = match self.latest {
            Some(_) => "the keys that it had count until then",
            None => "tokens that it may have signed are refused for the time being",
        };
        tracing::warn!(url, error, more, "the key set cannot be fetched and is tried again: {now}");
    }
}
