//! The engine's threads: named, and watched so that a thread that ends unasked ends the engine.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, mpsc};
use std::thread;

use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::{oneshot, watch};

use crate::engine::{CONTROL, RunError, StartError, not_set_up};

/// Why a thread ended that ought to run.
#[derive(Clone, Debug, Error)]
pub enum ThreadError {
    /// It panicked.
    #[error("it panicked")]
    Panicked,
    /// It ended as if the engine were stopping.
    #[error("nobody asked it to")]
    Unasked,
    /// The operating system did not let it go on.
    #[error(transparent)]
    Io(Arc<io::Error>),
}

impl From<io::Error> for ThreadError {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

/// How a thread ended, by its name.
type End = (String, Result<(), ThreadError>);

/// The engine's threads, and the channel by which each reports its end.
#[derive(Debug)]
pub(super) struct Threads {
    running: Mutex<BTreeSet<String>>,
    sender: mpsc::Sender<End>,
    ends: Mutex<mpsc::Receiver<End>>,
}

impl Default for Threads {
    fn default() -> Self {
        let (sender, ends) = mpsc::channel();
        Self { running: Mutex::default(), sender, ends: Mutex::new(ends) }
    }
}

/// Reports how a thread ended, also when it panics.
struct ExitNotice {
    name: String,
    sender: mpsc::Sender<End>,
    result: Result<(), ThreadError>,
}

impl Drop for ExitNotice {
    fn drop(&mut self) {
        let result = std::mem::replace(&mut self.result, Ok(()));
        // Nobody listens when the whole engine goes.
        let _ = self.sender.send((std::mem::take(&mut self.name), result));
    }
}

impl Threads {
    pub(super) fn spawn(
        &self,
        name: &str,
        work: impl FnOnce() -> Result<(), ThreadError> + Send + 'static,
    ) -> Result<(), StartError> {
        let sender = self.sender.clone();
        let notice = ExitNotice { name: name.to_owned(), sender, result: Err(ThreadError::Panicked) };
        let thread = thread::Builder::new().name(name.to_owned());
        let spawned = thread.spawn(move || {
            let mut notice = notice;
            notice.result = work();
        });
        spawned.map_err(|error| not_set_up(name, error))?;
        self.running.lock().insert(name.to_owned());
        Ok(())
    }

    /// Starts a thread that watches all others. When the broker thread and the shards have ended, it lets the
    /// control thread end. A thread that ends unasked ends the engine.
    pub(super) fn watch(
        self,
        stop_control: oneshot::Sender<()>,
        stopping: watch::Receiver<bool>,
    ) -> watch::Receiver<Option<Result<(), RunError>>> {
        let (ended, receiver) = watch::channel(None);
        let mut stop_control = Some(stop_control);
        thread::spawn(move || {
            let Self { running, ends, sender } = self;
            drop(sender);
            let mut running = running.into_inner();
            let mut outcome = Ok(());
            while let Ok((name, result)) = ends.lock().recv() {
                running.remove(&name);
                let unasked = (!*stopping.borrow()).then_some(ThreadError::Unasked);
                if let Some(why) = result.err().or(unasked) {
                    outcome = Err(RunError::Thread(name, why));
                    break;
                }
                if running.iter().all(|name| name == CONTROL) {
                    drop(stop_control.take());
                }
                if running.is_empty() {
                    break;
                }
            }
            ended.send_replace(Some(outcome));
        });
        receiver
    }
}
