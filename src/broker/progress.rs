//! How far this node has read its source, and whether it reads it now.
//!
//! A source that is no stream has no offsets, and is read back from the start.

use super::backplane::event::StreamPlace;

/// What was read, and whether there is a link.
#[derive(Debug)]
pub(super) struct ReadProgress {
    /// The offset of the newest message that was read, where the backplane numbers them.
    newest: Option<u64>,
    /// Of messages up to this offset only the ids count: they are before what was read back for histories.
    unknown_to: u64,
    /// Everything that was in the stream at the start has been read.
    is_read_back: bool,
    is_linked: bool,
    /// There was a link before.
    was_linked: bool,
}

impl ReadProgress {
    /// Nothing was read. A stream has to be read back first.
    pub(super) fn new(reads_stream: bool) -> Self {
        Self { newest: None, unknown_to: 0, is_read_back: !reads_stream, is_linked: false, was_linked: false }
    }

    /// A message was read. Offsets may come twice, and lower ones after higher ones.
    pub(super) fn read(&mut self, offset: Option<u64>) {
        self.newest = self.newest.max(offset);
    }

    /// The offset of the newest message that was read, if there are offsets and one was.
    pub(super) fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// Whether a message at this place counts for histories. If not, it was read for its id only.
    pub(super) fn is_known(&self, place: Option<StreamPlace>) -> bool {
        place.is_none_or(|place| place.offset > self.unknown_to)
    }

    /// A stream is read back from this offset on.
    pub(super) fn loading(&mut self, base: u64) {
        (self.newest, self.unknown_to, self.is_read_back) = (None, base, false);
    }

    /// The stream has been read back.
    pub(super) fn caught_up(&mut self) {
        self.is_read_back = true;
    }

    pub(super) fn is_read_back(&self) -> bool {
        self.is_read_back
    }

    /// The offset up to which histories are complete: the newest one, or 0 without any. `None` until the stream has been
    /// read back.
    pub(super) fn reached(&self) -> Option<u64> {
        self.is_read_back.then(|| self.newest.unwrap_or_default())
    }

    /// There is a link. Returns whether there was one before.
    pub(super) fn linked(&mut self) -> bool {
        self.is_linked = true;
        std::mem::replace(&mut self.was_linked, true)
    }

    /// The link is lost.
    pub(super) fn lost(&mut self) {
        self.is_linked = false;
    }

    pub(super) fn is_linked(&self) -> bool {
        self.is_linked
    }
}
