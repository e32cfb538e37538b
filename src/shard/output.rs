//! Output of one client that waits: the rest of a frame, and everything that is not a publication.

use crate::base::moment::Moment;
use crate::domain::mail::TopicSlot;
use crate::shard::log::Span;

/// A [`SendBuffer`] may have so many bytes of memory beyond twice those that wait.
const SLACK: usize = 4 << 10;

/// The rest of a frame that the kernel took in part. It is sent before anything else. Its bytes stay in the log, which
/// must copy them to [`Outgoing::bytes`] before it drops them.
#[derive(Clone, Copy, Debug)]
pub struct Rest {
    /// Whose log.
    pub topic: TopicSlot,
    /// The frame.
    pub span: Span,
    /// How many of its bytes, header included, the kernel has.
    pub sent: usize,
}

/// The output of a client that waits, in the order in which it is sent: the rest of a started frame, then other frames.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// The rest of a frame of publications.
    pub rest: Option<Rest>,
    /// Frames with replies and the like. The first may be in part.
    pub bytes: SendBuffer,
    /// How many of `bytes` are the rest of a frame that a log has dropped.
    pub orphaned: usize,
    /// Since when replies wait, if any do.
    pub replies_since: Moment,
    /// The socket has taken some of it in a later grain than that. What it took at once says nothing about the peer.
    pub has_moved: bool,
    /// Whether the time-out of the replies was restarted, as some had been taken when it was over.
    pub had_time_anew: bool,
}

/// Bytes that wait to be sent. Its memory is at most twice their number plus `SLACK`, whatever it held before.
#[derive(Debug, Default)]
pub struct SendBuffer {
    bytes: Vec<u8>,
    /// How many of them are sent already.
    sent: usize,
}

impl SendBuffer {
    /// How many bytes wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Whether none wait.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes that wait.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Bytes of memory that it has.
    #[cfg(test)]
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Lets `add` append bytes. Returns how many.
    pub fn append(&mut self, add: impl FnOnce(&mut Vec<u8>)) -> usize {
        let before = self.bytes.len();
        add(&mut self.bytes);
        let added = self.bytes.len() - before;
        self.fit();
        added
    }

    /// Puts bytes before the others.
    pub fn prepend(&mut self, first: &[u8]) {
        let mut bytes = Vec::with_capacity(first.len() + self.len());
        bytes.extend_from_slice(first);
        bytes.extend_from_slice(self.as_slice());
        (self.bytes, self.sent) = (bytes, 0);
    }

    /// Drops the first bytes, which are sent.
    pub fn drop_first(&mut self, sent: usize) {
        self.sent += sent;
        self.fit();
    }

    /// Gives back excess memory. A quarter more than is needed stays, so that a copy comes only after many bytes were sent
    /// or added: each byte is moved a few times, however small the writes are.
    fn fit(&mut self) {
        if self.bytes.capacity() > 2 * self.len() + SLACK {
            let mut bytes = Vec::with_capacity(self.len() + self.len() / 4);
            bytes.extend_from_slice(self.as_slice());
            (self.bytes, self.sent) = (bytes, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever is added and sent, in whatever pieces, comes out in its order, has no more memory than it may, and is
    /// seldom moved.
    #[test]
    fn memory_follows_the_bytes_that_wait() {
        let byte_at = |n: usize| n.to_le_bytes()[0];
        for (added, sent) in [(500_000, 700), (1, 2000), (3000, 2900), (100, 500_000), (70_000, 69_999)] {
            let mut buffer = SendBuffer::default();
            let (mut next, mut first, mut moved) = (0, 0_usize, 0);
            let mut place = buffer.bytes.as_ptr();
            buffer.append(|bytes| (0..500_000).for_each(|_| bytes.push(7)));
            for round in 0..2000 {
                if round < 3 || added < 10_000 {
                    let count = buffer.append(|bytes| bytes.extend((next..next + added).map(byte_at)));
                    assert_eq!(count, added);
                    next += added;
                }
                let part = buffer.len().min(sent);
                let waited = buffer.as_slice()[..part].to_vec();
                for byte in waited {
                    assert!(first < 500_000 && byte == 7 || byte == byte_at(first.wrapping_sub(500_000)));
                    first += 1;
                }
                buffer.drop_first(part);
                assert!(
                    buffer.capacity() <= 2 * buffer.len() + SLACK,
                    "{} for {}",
                    buffer.capacity(),
                    buffer.len()
                );
                if std::mem::replace(&mut place, buffer.bytes.as_ptr()) != buffer.bytes.as_ptr() {
                    moved += buffer.len();
                }
            }
            assert!(moved <= 16 * (next + 500_000), "{moved} bytes were moved for {next}");
        }
    }

    #[test]
    fn what_is_put_before_the_others_is_sent_first() {
        let mut buffer = SendBuffer::default();
        buffer.append(|bytes| bytes.extend_from_slice(b"abcdef"));
        buffer.drop_first(4);
        buffer.prepend(b"12");
        assert_eq!((buffer.as_slice(), buffer.len()), (&b"12ef"[..], 4));
        buffer.drop_first(4);
        assert!(buffer.is_empty());
    }
}
