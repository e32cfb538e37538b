//! The input of one connection.

use crate::config::memory::API_CONNECTION_WINDOW;

/// Bytes of input that a connection may have: a larger request is hyper's.
pub(super) const INPUT_BYTES: usize = API_CONNECTION_WINDOW as usize;

/// Bytes of input that there is room for at first.
const INPUT_BYTES_FIRST: usize = 16 << 10;

/// What was read and is not used.
#[derive(Debug, Default)]
pub(super) struct Input {
    bytes: Vec<u8>,
    from: usize,
    to: usize,
    /// Nothing more comes.
    pub(super) is_ended: bool,
}

impl Input {
    pub(super) fn unused(&self) -> &[u8] {
        &self.bytes[self.from..self.to]
    }

    pub(super) fn take(&mut self, count: usize) {
        self.from += count;
    }

    /// Whether there is no room for more.
    pub(super) fn is_full(&self) -> bool {
        self.unused().len() >= INPUT_BYTES
    }

    /// Where the next bytes go: some, unless it is full.
    pub(super) fn space(&mut self) -> &mut [u8] {
        self.bytes.copy_within(self.from..self.to, 0);
        (self.from, self.to) = (0, self.to - self.from);
        if self.to == self.bytes.len() {
            self.bytes.resize((2 * self.to).clamp(INPUT_BYTES_FIRST, INPUT_BYTES), 0);
        }
        &mut self.bytes[self.to..]
    }

    /// So many bytes were put there; none at the end.
    pub(super) fn came(&mut self, count: usize) {
        self.to += count;
        self.is_ended = count == 0;
    }
}
