//! Input of one client that was read and not processed.

/// Input of one client that is kept. What is used of it goes from its front.
#[derive(Debug)]
pub(super) struct Tail {
    bytes: Vec<u8>,
    /// How many of them are used.
    used: usize,
}

impl Tail {
    /// Nothing of it is used.
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), used: 0 }
    }

    /// How many bytes are kept, those that are used but still there included.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.used == self.bytes.len()
    }

    /// What is not used.
    pub(super) fn rest(&mut self) -> &mut [u8] {
        &mut self.bytes[self.used..]
    }

    /// The same, for good.
    pub(super) fn into_rest(mut self) -> Vec<u8> {
        self.bytes.drain(..self.used);
        self.bytes
    }

    /// Notes that so much of the rest is used. The memory of what is used is kept only where `more` is used soon, and
    /// while it is the smaller part: so each byte is moved once or twice, however many shares there are.
    pub(super) fn drop_first(&mut self, used: usize, more: bool) {
        self.used += used;
        if !more || self.used > self.bytes.len() / 2 {
            self.bytes = self.bytes[self.used..].to_vec();
            self.used = 0;
        }
    }
}
