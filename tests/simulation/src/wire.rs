//! The client's side of the wire, written anew so that it shares no mistake with the engine's.

/// A frame of the server's.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub opcode: u8,
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
    assert!(matches!(first, 0x81 | 0x88 | 0x8a), "no frame of a server begins with {first:#04x}");
    assert!(second < 0x80, "servers do not mask");
    let (length, at) = match second {
        126 => (usize::from(u16::from_be_bytes([*stream.get(2)?, *stream.get(3)?])), 4),
        127 => panic!("no frame in the simulation is that long"),
        short => (usize::from(short), 2),
    };
    let payload = stream.get(at..at + length)?.to_vec();
    Some((Frame { opcode: first & 0x0f, payload }, at + length))
}

/// A text frame of a client's, masked.
pub fn text_frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
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
