//! The client's side of the wire, written anew so that it shares no mistake with the engine's.

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

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
    let (&first, &second) = (stream.first()?, stream.get(1)?);
    assert!(matches!(first, 0x81 | 0xc1 | 0x88 | 0x8a), "no frame of a server begins with {first:#04x}");
    assert!(second < 0x80, "servers do not mask");
    let (length, at) = match second {
        126 => (usize::from(u16::from_be_bytes([*stream.get(2)?, *stream.get(3)?])), 4),
        127 => panic!("no frame in the simulation is that long"),
        short => (usize::from(short), 2),
    };
    let payload = stream.get(at..at + length)?;
    let deflated = first == 0xc1;
    let payload = if deflated { inflated(payload) } else { payload.to_vec() };
    Some((Frame { opcode: first & 0x0f, deflated, payload }, at + length))
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

/// A text frame of a client's, masked.
pub fn text_frame(payload: &[u8]) -> Vec<u8> {
    masked_frame(1, payload)
}

/// A text frame of a client's that is compressed, masked.
pub fn compressed_frame(plain: &[u8]) -> Vec<u8> {
    let segment = segment(plain);
    masked_frame(0x41, segment.strip_suffix(&TAIL).expect("a flush ends so"))
}

/// A frame of a client's, whole and masked.
pub fn masked_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | u8::try_from(length).expect("matched")),
        length => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(length).expect("short in the simulation").to_be_bytes());
        }
    }
    let mask = [7, 77, 177, 27];
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
