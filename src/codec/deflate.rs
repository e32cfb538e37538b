//! Compressed messages (RFC 7692, section 7.2): raw deflate without a context that outlives a message.
//!
//! Output consists of *segments*. A segment is compressed alone and ends at a byte with an empty stored
//! block, whose last bytes are [`TAIL`]. So any segments one after the other are one valid stream. A message
//! is any number of them without the tail of the last, which the receiver adds again.

use std::fmt;

use flate2::{Compress, Compression, FlushCompress};
use thiserror::Error;
use zlib_rs::{Inflate, InflateFlush, Status};

/// What each segment ends with, and what messages are sent without (RFC 7692, section 7.2.1).
pub const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// The most that one stored block holds (RFC 1951, section 3.2.4).
const STORED_MAX: usize = 65_535;

/// How far back a deflate stream may refer: 32 KiB.
const WINDOW_BITS: u8 = 15;

/// What a stored block has besides: a byte with its kind, its length twice (the same).
const STORED_OVERHEAD: usize = 5;

/// Room for the end of a flush: with 6 bytes or fewer left, zlib would repeat its marker.
const FLUSH_ROOM: usize = 64;

/// Blocks that a client's message may have, however short it is. Most have two: the data, and the empty one of their tail.
/// But each fragment may have been flushed alone, and each final block is one more.
const BLOCKS_MIN: usize = 32;

/// Bytes of a client's message for each of which it may have one block more. The tables of a block take up to 4 µs, as
/// long as 2 KiB of stored data, and need no more than 12 bytes: 64 KiB of them would take 12 ms. Compressors begin a
/// block after 127 symbols at the earliest (zlib with its smallest memory), most after 8,192 and more.
const BLOCK_BYTES: usize = 120;

/// Blocks of a message that cost nothing beside its bytes, and what each more costs, in bytes. Usual are the data, the empty
/// one, and the byte between them: where the data ends with less room in its byte than a block's beginning takes, that stands
/// in a byte more, and inflating stops behind it as behind a block.
const USUAL_BLOCKS: usize = 3;
const BLOCK_COST: usize = 1024;

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
#[derive(Default)]
pub struct Inflater {
    inflate: Option<Inflate>,
    cost: usize,
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").field("cost", &self.cost).finish_non_exhaustive()
    }
}

impl Inflater {
    /// The message of a client whose compressed payload is `payload`. No more than `max` bytes and one are inflated, or
    /// allocated, whatever the payload would become; and no more blocks than there are in what compressors make, since
    /// each costs time, also an empty one.
    ///
    /// # Errors
    /// [`InflateError::TooBig`] beyond `max` bytes; [`InflateError::Corrupt`] if it is no deflate stream, or one of far
    /// too many blocks. One that is cut off inside of a block counts as what it is up to there.
    pub fn message(&mut self, payload: &[u8], max: usize) -> Result<Vec<u8>, InflateError> {
        let mut message = Inflating::begin(self.state(), payload.len(), max, InflateFlush::Block);
        let all = message.take(payload).and_then(|()| message.take(&TAIL));
        let (blocks, plain) = (message.blocks, message.end());
        self.cost += blocks.saturating_sub(USUAL_BLOCKS) * BLOCK_COST;
        all.map(|()| plain)
    }

    /// The same for segments of our own, side by side: any number of them.
    ///
    /// # Errors
    /// As above, but for the number of blocks.
    pub fn segments(&mut self, payload: &[u8], max: usize) -> Result<Vec<u8>, InflateError> {
        let mut message = Inflating::begin(self.state(), payload.len(), max, InflateFlush::SyncFlush);
        message.take(payload)?;
        message.take(&TAIL)?;
        Ok(message.end())
    }

    /// What the messages since the last call have cost beside their bytes, in bytes.
    pub fn take_cost(&mut self) -> usize {
        std::mem::take(&mut self.cost)
    }

    fn state(&mut self) -> &mut Inflate {
        let inflate = self.inflate.get_or_insert_with(|| Inflate::new(false, WINDOW_BITS));
        inflate.reset(false);
        inflate
    }
}

/// A message while it is inflated.
struct Inflating<'a> {
    inflate: &'a mut Inflate,
    /// What it has become, and room for more, which is zero.
    plain: Vec<u8>,
    filled: usize,
    max: usize,
    /// Whether to stop at the end of each block, to count them.
    flush: InflateFlush,
    blocks: usize,
}

impl<'a> Inflating<'a> {
    fn begin(inflate: &'a mut Inflate, payload: usize, max: usize, flush: InflateFlush) -> Self {
        let mut plain = Vec::new();
        plain.reserve_exact(payload.saturating_mul(4).saturating_add(FLUSH_ROOM).min(max + 1));
        plain.resize(plain.capacity(), 0);
        Self { inflate, plain, filled: 0, max, flush, blocks: 0 }
    }

    fn end(mut self) -> Vec<u8> {
        self.plain.truncate(self.filled);
        self.plain
    }

    /// Appends what `input` becomes.
    fn take(&mut self, mut input: &[u8]) -> Result<(), InflateError> {
        loop {
            if self.filled == self.plain.len() {
                self.plain.reserve_exact(self.filled.min(self.max + 1 - self.filled));
                self.plain.resize(self.plain.capacity(), 0);
            }
            // What is left in the state when there is no more input is at most a few bytes.
            let flush = if input.is_empty() { InflateFlush::SyncFlush } else { self.flush };
            let before = (self.inflate.total_in(), self.inflate.total_out());
            let status = self.inflate.decompress(input, &mut self.plain[self.filled..], flush);
            let status = status.map_err(|_| InflateError::Corrupt)?;
            let length = |bytes| usize::try_from(bytes).map_err(|_| InflateError::Corrupt);
            input = &input[length(self.inflate.total_in() - before.0)?..];
            self.filled += length(self.inflate.total_out() - before.1)?;
            if self.filled > self.max {
                return Err(InflateError::TooBig);
            }
            let has_room = self.filled < self.plain.len();
            match status {
                // A final block in the middle of a message is allowed (RFC 7692, section 7.2.3.5).
                Status::StreamEnd => self.inflate.reset(false),
                // With room left it stops at the end of its input, or of a block.
                _ if has_room && flush == InflateFlush::SyncFlush => {
                    return if input.is_empty() { Ok(()) } else { Err(InflateError::Corrupt) };
                }
                _ => {}
            }
            if flush == InflateFlush::Block && (has_room || status == Status::StreamEnd) {
                self.count_block()?;
            }
        }
    }

    fn count_block(&mut self) -> Result<(), InflateError> {
        self.blocks += 1;
        let most = BLOCKS_MIN + self.filled / BLOCK_BYTES;
        if self.blocks > most { Err(InflateError::Corrupt) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

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
        let mut bytes = vec![0; len];
        SmallRng::seed_from_u64(1).fill_bytes(&mut bytes);
        bytes
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
        for payload in
            [&b"\x07"[..], b"\x00\x05\x00\x00\x00hello", b"\x02\x02", &[&[5][..], &noise(300)].concat()]
        {
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
        let out = inflater.inflate.as_ref().map_or(0, Inflate::total_out);
        assert!(out <= 65_537, "{out} bytes were inflated");
        for max in [0, 1, 5, 1000, 65_536] {
            let fits = compressed(&vec![b'x'; max]);
            let plain = inflater.message(&fits, max).unwrap();
            assert_eq!((plain.len(), plain.capacity() <= max + 1), (max, true));
            let over = compressed(&vec![b'x'; max + 1]);
            assert_eq!(inflater.message(&over, max), Err(InflateError::TooBig), "{max}");
        }
    }

    /// Bits in their order, as deflate packs them; codes have their first bit first.
    #[derive(Default)]
    struct Bits(Vec<u8>, usize);

    impl Bits {
        fn push(&mut self, value: usize, count: usize) {
            for bit in 0..count {
                if self.1.is_multiple_of(8) {
                    self.0.push(0);
                }
                *self.0.last_mut().unwrap() |= u8::from(value >> bit & 1 == 1) << (self.1 % 8);
                self.1 += 1;
            }
        }

        /// An empty block with codes of its own: of one bit each for 0 and for the end of the block (RFC 1951, 3.2.7).
        fn push_block_with_codes(&mut self) {
            self.push(0b100, 3);
            self.push(0, 10);
            // The lengths of the codes for lengths: one bit for 18, two for 0 and 1. They stand in the order 16, 17,
            // 18, 0, ..., 1.
            self.push(14, 4);
            for length in [0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2] {
                self.push(length, 3);
            }
            let (zero, one) = (0b01, 0b11);
            self.push(one, 2);
            for zeros in [138, 117] {
                self.push(0, 1);
                self.push(zeros - 11, 7);
            }
            self.push(one, 2);
            self.push(zero, 2);
            self.push(1, 1);
        }
    }

    /// Payloads of 64 KiB that are nothing but the beginnings of blocks, whatever kind of block costs most.
    #[test]
    fn a_message_has_no_more_blocks_than_compressors_make() {
        let block = |push: &dyn Fn(&mut Bits)| {
            let mut bits = Bits::default();
            while bits.0.len() < 65_000 {
                push(&mut bits);
            }
            bits.0
        };
        let payloads = [
            ("final", [3, 0].repeat(32_700)),
            ("final, stored", b"\x01\0\0\xff\xff".repeat(13_000)),
            ("stored", b"\0\0\0\xff\xff".repeat(13_000)),
            ("fixed codes", block(&|bits| bits.push(0b010, 10))),
            ("own codes", block(&Bits::push_block_with_codes)),
        ];
        let mut inflater = Inflater::default();
        for (name, payload) in payloads {
            assert_eq!(
                inflater.segments(&payload, 10).as_deref(),
                Ok(&b""[..]),
                "{name}: it is a deflate stream"
            );
            assert_eq!(inflater.message(&payload, 65_536), Err(InflateError::Corrupt), "{name}");
            let blocks = inflater.take_cost() / BLOCK_COST;
            assert!(blocks <= BLOCKS_MIN + 1, "{name}: {blocks} blocks were begun");
            assert_eq!(inflater.message(&compressed(b"fine"), 1000).as_deref(), Ok(&b"fine"[..]));
            assert_eq!(inflater.take_cost(), 0, "a usual message costs nothing beside its bytes");
        }
    }

    /// Whatever the data is, in whichever bit of its byte it ends.
    #[test]
    fn a_usual_message_costs_nothing_beside_its_bytes() {
        let mut inflater = Inflater::default();
        for repeats in [1, 5, 40] {
            for n in 0..200_u32 {
                let text = format!("message {} ", n.wrapping_mul(2_654_435_761)).repeat(repeats);
                let plain =
                    format!(r#"{{"id":{n},"publish":{{"channel":"room:{}","data":"{text}"}}}}"#, n % 7);
                let payload = compressed(plain.as_bytes());
                assert!(inflater.message(&payload, 65_536).is_ok_and(|all| all == plain.as_bytes()));
                assert_eq!(inflater.take_cost(), 0, "{plain} as {payload:02x?}");
            }
        }
    }

    /// Many flushes within a message, and final blocks, are legal; and so is what begins blocks as often as it can.
    #[test]
    fn messages_of_several_blocks_are_read() {
        let mut inflater = Inflater::default();
        let final_blocks = [&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..]; 10].concat();
        assert_eq!(inflater.message(&final_blocks, 1000), Ok(b"Hello".repeat(10)));
        assert!(inflater.take_cost() > 0);
        let mut deflater = Deflater::default();
        let flushed = deflater.segment(b"x", 0).repeat(15);
        assert_eq!(inflater.message(&flushed, 1000), Ok(b"x".repeat(15)));
        // As zlib does with its smallest memory, of what does not compress.
        let plain = noise(64_000);
        let mut smallest = Vec::new();
        for part in plain.chunks(127) {
            let segment = deflater.segment(part, usize::MAX);
            smallest.extend_from_slice(&segment[..segment.len() - STORED_OVERHEAD]);
        }
        assert!(inflater.message(&smallest, 65_536).as_ref() == Ok(&plain));
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
            prop_assert_eq!(Inflater::default().segments(&payload, 1 << 20), Ok(plain));
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
