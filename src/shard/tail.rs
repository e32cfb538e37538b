//! The input of one client that was read and is not processed.

use crate::base::moment::Moment;

/// Input that is kept of one client. It is used from the front.
#[derive(Debug)]
pub(super) struct Tail {
    bytes: Vec<u8>,
    /// How many of them are used.
    used: usize,
    since: Moment,
}

impl Tail {
    /// Keeps these bytes, of which none are used, and which were read at this moment.
    pub(super) fn new(bytes: &[u8], since: Moment) -> Self {
        Self { bytes: bytes.to_vec(), used: 0, since }
    }

    /// When they were read.
    pub(super) fn since(&self) -> Moment {
        self.since
    }

    /// How many bytes are in memory, used ones included.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether all bytes are used.
    pub(super) fn is_empty(&self) -> bool {
        self.used == self.bytes.len()
    }

    /// The bytes that are not used.
    pub(super) fn rest(&mut self) -> &mut [u8] {
        &mut self.bytes[self.used..]
    }

    /// The same, for good.
    pub(super) fn into_rest(mut self) -> Vec<u8> {
        self.bytes.drain(..self.used);
        self.bytes
    }

    /// Notes that so many more bytes are used. Used bytes stay in memory only if `more` is used soon, and while they are
    /// the smaller part. So each byte is moved once or twice, however many shares there are.
    pub(super) fn drop_first(&mut self, used: usize, more: bool) {
        self.used += used;
        if !more || self.used > self.bytes.len() / 2 {
            self.bytes = self.bytes[self.used..].to_vec();
            self.used = 0;
        }
    }
}
