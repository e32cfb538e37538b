//! What the subscribers of one topic lack: its log, while there is one, and how far a sweep has brought them.

use crate::domain::encoding::Encoding;
use crate::domain::mail::Lines;
use crate::shard::log::Log;

/// The backlog of one topic.
///
/// Invariant: a log ends at `end`.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Position after the newest byte.
    end: u64,
    /// Boxed, because most topics have none most of the time.
    unsent: Option<Box<Unsent>>,
}

/// A log, and how far it is swept.
#[derive(Debug)]
struct Unsent {
    log: Log,
    /// No swept subscriber lacks anything before this position.
    swept_to: u64,
}

impl Backlog {
    /// Position after the newest byte.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// The log, if some subscriber lacks something.
    pub(super) fn log(&self) -> Option<&Log> {
        self.unsent.as_deref().map(|unsent| &unsent.log)
    }

    /// The same, to be changed. Only [`append`](Self::append) may change where it ends.
    #[inline]
    pub(super) fn log_mut(&mut self) -> Option<&mut Log> {
        self.unsent.as_deref_mut().map(|unsent| &mut unsent.log)
    }

    /// Adds a batch. `buffer` makes the buffer of a new log.
    pub(super) fn append(&mut self, batch: &Lines, encoding: Encoding, buffer: impl FnOnce() -> Vec<u8>) {
        let end = self.end;
        let begin = || Box::new(Unsent { log: Log::new(end, encoding, buffer()), swept_to: end });
        let log = &mut self.unsent.get_or_insert_with(begin).log;
        log.append(batch);
        self.end = log.end();
    }

    /// Takes the log out.
    pub(super) fn take_log(&mut self) -> Option<Log> {
        self.unsent.take().map(|unsent| unsent.log)
    }

    /// Whether a sweep has shown that no swept subscriber lacks anything before `position`.
    pub(super) fn is_swept_to(&self, position: u64) -> bool {
        self.unsent.as_ref().is_none_or(|unsent| unsent.swept_to >= position)
    }

    /// Notes that no swept subscriber lacks anything before `position`.
    pub(super) fn swept(&mut self, position: u64) {
        if let Some(unsent) = &mut self.unsent {
            unsent.swept_to = position;
        }
    }

    /// Notes that a subscriber at `cursor` is swept from now on.
    pub(super) fn joins_sweep(&mut self, cursor: u64) {
        if let Some(unsent) = &mut self.unsent {
            unsent.swept_to = unsent.swept_to.min(cursor);
        }
    }

    /// Asserts the invariants.
    ///
    /// # Panics
    /// When one does not hold.
    pub(super) fn check(&self) {
        if let Some(Unsent { log, swept_to }) = self.unsent.as_deref() {
            log.check();
            assert_eq!(log.end(), self.end, "the log ends with the backlog");
            assert!(*swept_to <= self.end, "the sweep has shown something that is not there: {swept_to}");
        }
    }
}
