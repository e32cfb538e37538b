//! Compressed messages (RFC 7692, section 7.2): raw deflate without a context that outlives a message.
//!
//! What goes out is made of *segments*. A segment is compressed alone and ends at a byte with an empty stored
//! block, [`TAIL`] being its last bytes. So segments that stand side by side, whichever they are, are one
//! valid stream, and a message is any number of them less the tail of the last, which the receiver puts back.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use thiserror::Error;

/// What each segment ends with, and what messages are sent without (RFC 7692, section 7.2.1).
pub const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// The most that one stored block holds (RFC 1951, section 3.2.4).
const STORED_MAX: usize = 65_535;

/// What a stored block has besides: a byte with its kind, its length twice (the same).
const STORED_OVERHEAD: usize = 5;

/// Room for the end of a flush: with 6 bytes or fewer left, zlib would repeat its marker.
const FLUSH_ROOM: usize = 64;

/// Makes segments. The 313 KiB that compressing takes are allocated when they are first needed.
#[derive(Debug, Default)]
pub struct Deflater {
    compress: Option<Compress>,
    segment: Vec<u8>,
}

impl Deflater {
    /// `plain` as a segment. Below `min_bytes` it is stored as it is, which costs no more than a copy and 10
    /// bytes; compressing so little would cost more than it saves.
    pub fn segment(&mut self, plain: &[u8], min_bytes: usize) -> &[u8] {
        self.segment.clear();
        if plain.len() < min_bytes {
            store(&mut self.segment, plain);
        } else {
            // Zlib's usual level: on lines of JSON half the bytes of the fastest, for a multiple of its time,
            // which is spent once for everybody.
            let compress = self.compress.get_or_insert_with(|| Compress::new(Compression::default(), false));
            compress.reset();
            deflate(compress, plain, &mut self.segment);
        }
        debug_assert!(self.segment.ends_with(&TAIL), "a segment ends with its tail");
        &self.segment
    }
}

/// Appends `plain` as a segment that is not compressed: stored blocks, and an empty one.
pub fn store(out: &mut Vec<u8>, plain: &[u8]) {
    for block in plain.chunks(STORED_MAX).chain([&[][..]]) {
        let len = u16::try_from(block.len()).expect("chunks are no longer than they may be");
        out.push(0);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&(!len).to_le_bytes());
        out.extend_from_slice(block);
    }
}

/// How long a segment is that [`store`] makes of so many bytes.
#[must_use]
pub fn stored_len(plain: usize) -> usize {
    plain + STORED_OVERHEAD * (plain.div_ceil(STORED_MAX) + 1)
}

fn deflate(compress: &mut Compress, plain: &[u8], out: &mut Vec<u8>) {
    loop {
        let taken = usize::try_from(compress.total_in()).expect("a batch fits into memory");
        out.reserve((plain.len() - taken) / 2 + FLUSH_ROOM);
        compress
            .compress_vec(&plain[taken..], out, FlushCompress::Sync)
            .expect("a stream that was not finished takes any input");
        // Room that is left means that everything is out, the end of the flush included.
        if out.len() < out.capacity() {
            return;
        }
    }
}

/// Why a compressed message cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InflateError {
    /// It is no deflate stream.
    #[error("no deflate stream")]
    Corrupt,
    /// It is larger than a message may be.
    #[error("larger than a message may be")]
    TooBig,
}

/// Reads what clients compressed. The 40 KiB that this takes are allocated when they are first needed.
#[derive(Debug, Default)]
pub struct Inflater {
    decompress: Option<Decompress>,
}

impl Inflater {
    /// The message whose compressed payload is `payload`. No more than `max` bytes and one are inflated, or
    /// allocated, whatever the payload would become.
    ///
    /// # Errors
    /// [`InflateError::TooBig`] beyond `max` bytes; [`InflateError::Corrupt`] if it is no deflate stream. One
    /// that is cut off inside of a block counts as what it is up to there.
    pub fn message(&mut self, payload: &[u8], max: usize) -> Result<Vec<u8>, InflateError> {
        let decompress = self.decompress.get_or_insert_with(|| Decompress::new(false));
        decompress.reset(false);
        let mut plain = Vec::new();
        plain.reserve_exact(payload.len().saturating_mul(4).saturating_add(FLUSH_ROOM).min(max + 1));
        inflate(decompress, payload, &mut plain, max)?;
        inflate(decompress, &TAIL, &mut plain, max)?;
        Ok(plain)
    }
}

/// Appends what `input` becomes.
fn inflate(
    decompress: &mut Decompress,
    mut input: &[u8],
    plain: &mut Vec<u8>,
    max: usize,
) -> Result<(), InflateError> {
    loop {
        if plain.len() == plain.capacity() {
            plain.reserve_exact(plain.len().min(max + 1 - plain.len()));
        }
        let before = decompress.total_in();
        let status = decompress.decompress_vec(input, plain, FlushDecompress::Sync);
        let status = status.map_err(|_| InflateError::Corrupt)?;
        if plain.len() > max {
            return Err(InflateError::TooBig);
        }
        let taken = usize::try_from(decompress.total_in() - before).map_err(|_| InflateError::Corrupt)?;
        input = &input[taken..];
        if status == Status::StreamEnd {
            // A final block in the middle of a message is allowed (RFC 7692, section 7.2.3.5).
            decompress.reset(false);
        } else if plain.len() < plain.capacity() {
            // With room left it stops at the end of its input only.
            return if input.is_empty() { Ok(()) } else { Err(InflateError::Corrupt) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn inflated(payload: &[u8]) -> Result<Vec<u8>, InflateError> {
        Inflater::default().message(payload, 1 << 20)
    }

    /// The payload that a client, which has no segments, makes of a message.
    fn compressed(plain: &[u8]) -> Vec<u8> {
        let segment = Deflater::default().segment(plain, 0).to_vec();
        segment[..segment.len() - TAIL.len()].to_vec()
    }

    /// Bytes that do not compress.
    fn noise(len: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        };
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn what_is_below_the_minimum_is_stored_and_what_is_not_is_smaller() {
        let plain = b"the same again, the same again, the same again\n";
        let mut deflater = Deflater::default();
        assert_eq!(
            deflater.segment(plain, plain.len() + 1),
            [&[0, 47, 0, !47, 0xff], &plain[..], &[0, 0, 0, 0xff, 0xff]].concat()
        );
        assert!(deflater.compress.is_none());
        assert!(deflater.segment(plain, plain.len()).len() < 30);
        assert_eq!(deflater.segment(b"", 1), [0, 0, 0, 0xff, 0xff]);
    }

    #[test]
    fn examples_of_the_rfc() {
        // RFC 7692, sections 7.2.3.1, 7.2.3.3, 7.2.3.4, 7.2.3.5 and 7.2.3.6.
        let cases: [(&[u8], &[u8]); 5] = [
            (&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], b"Hello"),
            (&[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00], b"Hello"),
            (&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00], b"Hello"),
            (&[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00], b"Hello"),
            (&[0x00], b""),
        ];
        for (payload, plain) in cases {
            assert_eq!(inflated(payload).as_deref(), Ok(plain), "{payload:02x?}");
        }
    }

    #[test]
    fn what_is_no_stream_is_refused_and_the_next_message_is_not() {
        let mut inflater = Inflater::default();
        // An unknown kind of block; a stored length whose complement is wrong; a distance before the start.
        for payload in [&b"\x07"[..], b"\x00\x05\x00\x00\x00hello", b"\x02\x02", &noise(300)] {
            assert_eq!(inflater.message(payload, 1000), Err(InflateError::Corrupt), "{payload:02x?}");
            assert_eq!(inflater.message(&compressed(b"fine"), 1000).as_deref(), Ok(&b"fine"[..]));
        }
    }

    #[test]
    fn a_message_knows_nothing_of_the_one_before() {
        let mut inflater = Inflater::default();
        let stored = Deflater::default().segment(b"0123456789", 100).to_vec();
        // By hand, in fixed codes: three bytes from ten bytes back. In a new message there are none.
        let copy = [0x02, 0xb2, 0x00, 0x00];
        assert_eq!(
            inflater.message(&[&stored[..], &copy].concat(), 100).as_deref(),
            Ok(&b"0123456789012"[..])
        );
        assert_eq!(inflater.message(&copy, 100), Err(InflateError::Corrupt));
    }

    #[test]
    fn a_bomb_is_inflated_up_to_the_limit_only() {
        let bomb = compressed(&vec![b'x'; 10_000_000]);
        assert!(bomb.len() < 20_000);
        let mut inflater = Inflater::default();
        assert_eq!(inflater.message(&bomb, 65_536), Err(InflateError::TooBig));
        let out = inflater.decompress.as_ref().map_or(0, Decompress::total_out);
        assert!(out <= 65_537, "{out} bytes were inflated");
        for max in [0, 1, 5, 1000, 65_536] {
            let fits = compressed(&vec![b'x'; max]);
            let plain = inflater.message(&fits, max).unwrap();
            assert_eq!((plain.len(), plain.capacity() <= max + 1), (max, true));
            let over = compressed(&vec![b'x'; max + 1]);
            assert_eq!(inflater.message(&over, max), Err(InflateError::TooBig), "{max}");
        }
    }

    #[test]
    fn large_and_incompressible_batches_are_whole() {
        let mut deflater = Deflater::default();
        for plain in [noise(300_000), vec![b'x'; 300_000], noise(65_536)] {
            for min_bytes in [0, usize::MAX] {
                let segment = deflater.segment(&plain, min_bytes);
                assert!(segment.len() < plain.len() + plain.len() / 1000 + 100 && segment.ends_with(&TAIL));
                assert!(min_bytes == 0 || segment.len() == stored_len(plain.len()));
                let payload = &segment[..segment.len() - TAIL.len()];
                assert!(Inflater::default().message(payload, plain.len()).as_ref() == Ok(&plain));
            }
        }
    }

    proptest! {
        /// Any segments side by side, from any one on, are one message.
        #[test]
        fn segments_stand_side_by_side(
            batches in prop::collection::vec(("[a-d]{0,40}", 0..3_usize, 0..60_usize), 1..12),
            from in 0..12_usize,
        ) {
            let mut deflater = Deflater::default();
            let (mut payload, mut plain) = (Vec::new(), Vec::new());
            let from = from % batches.len();
            for (text, repeat, min_bytes) in &batches[from..] {
                let batch = text.repeat(*repeat);
                payload.extend_from_slice(deflater.segment(batch.as_bytes(), *min_bytes));
                plain.extend_from_slice(batch.as_bytes());
            }
            prop_assert!(payload.ends_with(&TAIL));
            payload.truncate(payload.len() - TAIL.len());
            prop_assert_eq!(inflated(&payload), Ok(plain));
        }

        /// Whatever a client sends: no panic, no more than the limit.
        #[test]
        fn anything_is_inflated_or_refused(payload in prop::collection::vec(any::<u8>(), 0..200), max in 0..300_usize) {
            if let Ok(plain) = Inflater::default().message(&payload, max) {
                prop_assert!(plain.len() <= max);
            }
        }
    }
}
