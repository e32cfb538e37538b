//! Frames of the server's, and compression, as a client knows them.

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use crate::frames::{CLOSE, COMPRESSED, Head, PONG, TEXT, frame};

/// What a compressed message ends with, and is sent without (RFC 7692, section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Room for whatever a compressed frame of the simulation becomes.
const PLAIN_MAX: usize = 64 << 10;

thread_local! {
    static COMPRESS: RefCell<Compress> = RefCell::new(Compress::new(Compression::fast(), false));
    static DECOMPRESS: RefCell<Decompress> = RefCell::new(Decompress::new(false));
}

/// A frame of the server's.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub opcode: u8,
    /// Whether it came compressed.
    pub deflated: bool,
    /// As it is read.
    pub payload: Vec<u8>,
}

/// Takes whole frames off the front of `stream`.
///
/// # Panics
/// When the stream is none of the server's: a wrong resumption after a short write shows here.
pub fn take_frames(stream: &mut Vec<u8>) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some((frame, used)) = first_frame(stream) {
        stream.drain(..used);
        frames.push(frame);
    }
    frames
}

fn first_frame(stream: &[u8]) -> Option<(Frame, usize)> {
    let head = Head::parse(stream)?;
    assert!(
        matches!(head.opcode, TEXT | CLOSE | PONG),
        "no frame of a server has the opcode {}",
        head.opcode
    );
    let end = head.bytes + head.payload;
    let payload = stream.get(head.bytes..end)?;
    let payload = if head.compressed { inflated(payload) } else { payload.to_vec() };
    Some((Frame { opcode: head.opcode, deflated: head.compressed, payload }, end))
}

fn inflated(payload: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(PLAIN_MAX);
    DECOMPRESS.with_borrow_mut(|decompress| {
        decompress.reset(false);
        assert!(!payload.ends_with(&TAIL), "the tail is left on");
        let whole = [payload, &TAIL].concat();
        decompress.decompress_vec(&whole, &mut plain, FlushDecompress::Sync).expect("a deflate stream");
        assert_eq!(decompress.total_in(), whole.len() as u64, "all of it is read");
    });
    plain
}

/// A batch as the broker compresses it.
pub fn segment(batch: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(PLAIN_MAX);
    COMPRESS.with_borrow_mut(|compress| {
        compress.reset();
        compress.compress_vec(batch, &mut out, FlushCompress::Sync).expect("it can be compressed");
    });
    out
}

/// A text frame of a client's that is compressed.
pub fn compressed_frame(plain: &[u8]) -> Vec<u8> {
    let segment = segment(plain);
    frame(COMPRESSED | TEXT, segment.strip_suffix(&TAIL).expect("a flush ends so"))
}
