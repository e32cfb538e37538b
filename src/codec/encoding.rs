//! What the rest of the engine has to know of the form of a batch: what separates batches, and how single lines are cut
//! out of one.

use std::borrow::Cow;

use super::deflate::{self, Inflater, TAIL};
use crate::domain::encoding::Encoding;

impl Encoding {
    /// What every batch ends with. It separates a batch from the next one. A message that is delimited by other means
    /// ends before it.
    #[must_use]
    #[inline]
    pub const fn delimiter(self) -> &'static [u8] {
        match self {
            Self::Json => b"\n",
            Self::Deflated => &TAIL,
        }
    }

    /// How many bytes a batch has that [`Encoding::store`] makes of so many bytes of lines.
    #[must_use]
    pub fn stored_len(self, plain: usize) -> usize {
        match self {
            Self::Json => plain,
            Self::Deflated => deflate::stored_len(plain),
        }
    }

    /// Appends a batch of these lines, each with its line end. It is not compressed: that is the broker thread's work.
    pub fn store(self, out: &mut Vec<u8>, lines: &[u8]) {
        match self {
            Self::Json => out.extend_from_slice(lines),
            Self::Deflated => deflate::store(out, lines),
        }
    }

    /// The lines of a batch, which have at most `plain` bytes.
    ///
    /// # Panics
    /// If it is no batch of this encoding.
    #[must_use]
    pub fn lines<'a>(self, batch: &'a [u8], plain: usize, inflater: &mut Inflater) -> Cow<'a, [u8]> {
        match self {
            Self::Json => Cow::Borrowed(batch),
            Self::Deflated => {
                let payload = &batch[..batch.len() - TAIL.len()];
                Cow::Owned(inflater.segments(payload, plain).expect("a segment of the broker's can be read"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::deflate::Deflater;

    #[test]
    fn what_is_stored_ends_with_the_delimiter_has_the_announced_length_and_is_read_back() {
        for encoding in Encoding::ALL {
            for lines in ["{}\n", "{\"a\":1}\n{\"b\":2}\n"] {
                let mut batch = Vec::new();
                encoding.store(&mut batch, lines.as_bytes());
                assert!(batch.ends_with(encoding.delimiter()), "{encoding:?}");
                assert_eq!(batch.len(), encoding.stored_len(lines.len()), "{encoding:?}");
                let read = encoding.lines(&batch, lines.len(), &mut Inflater::default());
                assert_eq!(*read, *lines.as_bytes(), "{encoding:?}");
            }
        }
    }

    #[test]
    fn a_compressed_batch_ends_with_the_delimiter_as_well() {
        let mut deflater = Deflater::default();
        let segment = deflater.segment(b"{}\n", 0);
        assert!(segment.ends_with(Encoding::Deflated.delimiter()));
    }
}
