//! What was published lately, per topic, and who may go on where it was.
//!
//! Pure: time is an argument, nothing is sent, logged or counted here.

use std::time::{Duration, Instant};

use crate::mail::{Epoch, Position, Recovery, Since};

/// What a namespace keeps of each of its topics. The same for a topic as long as the engine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Keep {
    /// Publications per topic at most; 0: no history.
    pub(super) size: u32,
    /// How long each is held, to a tenth of a second.
    pub(super) ttl: Duration,
}

/// A publication that is to be held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Publication<'a> {
    /// Greater than that of any earlier publication of the topic: [`History::next_offset`], or the stream's.
    pub(super) offset: u64,
    /// A JSON value, as it will stand in an array of recovered publications.
    pub(super) json: &'a [u8],
    /// How old it is already, if it was read back.
    pub(super) age: Duration,
    /// From when on nobody is to get it any more, if it says so itself.
    pub(super) expires: Option<Instant>,
}

/// What is recovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Everything that was missed, or nothing.
    Stream,
    /// The newest publication, if the client does not have it.
    Cache,
}

/// What somebody wants to recover.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish<'a> {
    /// Of which topic.
    pub(super) topic: &'a str,
    /// From where on.
    pub(super) since: &'a Since,
    /// The newest publication that was handed over, or any offset from there to just before the first that
    /// still waits to be merged; `u64::MAX` if none waits. What is newer is not in the answer.
    pub(super) up_to: u64,
    /// What of it.
    pub(super) mode: Mode,
    /// More than that cannot be recovered: what fits into a frame.
    pub(super) bytes_max: usize,
}

/// Which publications somebody wants to see.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query<'a> {
    /// Of which topic.
    pub(super) topic: &'a str,
    /// Those after this one; with `reverse`, those before it. `None`: from the oldest, or the newest, on.
    pub(super) since: Option<&'a Since>,
    /// How many at most; 0: only the position is of interest.
    pub(super) limit: usize,
    /// The newest first.
    pub(super) reverse: bool,
    /// Those that would make the answer larger are left out, and all that come after them.
    pub(super) bytes_max: usize,
}

/// The answer to a [`Query`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// Where the topic stands: of its newest publication, asked for or not.
    pub(super) position: Position,
    /// Members of a JSON array, separated by commas.
    pub(super) publications: Vec<u8>,
}

/// The position asked from belongs to another numbering (error 112).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unrecoverable;

/// The recent publications of all topics.
#[derive(Debug)]
pub(super) struct History {}

impl History {
    /// Holds at most `bytes_max` bytes of publications and what belongs to them, and remembers at most
    /// `topics_max` topics whose publications are all gone. `epoch` begins at `now`, with nothing known.
    pub(super) fn new(epoch: Epoch, bytes_max: usize, topics_max: usize, now: Instant) -> Self {
        todo!()
    }

    /// Forgets everything: publications were missed, or the numbering is a new one. Nothing is known of
    /// what was published up to and with `base` (0 if offsets count each topic's publications).
    pub(super) fn restart(&mut self, epoch: Epoch, base: u64) {
        todo!()
    }

    /// The number of the topic's next publication, where it is for us to number them: 1, 2, 3, ...
    pub(super) fn next_offset(&self, topic: &str) -> u64 {
        todo!()
    }

    /// Holds a publication.
    ///
    /// # Panics
    /// If its offset is not greater than that of the topic's newest publication.
    pub(super) fn add(&mut self, topic: &str, publication: &Publication<'_>, keep: Keep, now: Instant) {
        todo!()
    }

    /// Where the topic stands: at its newest publication that is not beyond `up_to` (as in [`Wish`]).
    pub(super) fn position(&self, topic: &str, up_to: u64) -> Position {
        todo!()
    }

    /// What somebody missed.
    pub(super) fn recover(&mut self, wish: &Wish<'_>, now: Instant) -> Recovery {
        todo!()
    }

    /// Some of a topic's publications.
    ///
    /// # Errors
    /// If `since` is of another epoch.
    pub(super) fn read(&mut self, query: &Query<'_>, now: Instant) -> Result<Page, Unrecoverable> {
        todo!()
    }

    /// Lets go of a topic's publications. Its numbering goes on, so that nobody recovers across the hole.
    pub(super) fn remove(&mut self, topic: &str) {
        todo!()
    }

    /// Lets go of what has been held long enough: a bounded part of it, so that [`Self::next_expiry`] may
    /// not be later than `now` afterwards.
    pub(super) fn expire(&mut self, now: Instant) {
        todo!()
    }

    /// When there is something to expire.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        todo!()
    }

    /// What all publications and the topics that have some cost, in bytes.
    pub(super) fn bytes(&self) -> usize {
        todo!()
    }

    /// Topics that are known, with and without publications.
    pub(super) fn topics(&self) -> usize {
        todo!()
    }

    /// Publications held.
    pub(super) fn publications(&self) -> usize {
        todo!()
    }
}
