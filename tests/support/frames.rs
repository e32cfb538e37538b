//! WebSocket frames (RFC 6455, section 5.2) as a client sees them: masked on the way out, unmasked on the
//! way in. They are written anew here, so that they share no mistake with the engine's.

/// A message of text.
pub const TEXT: u8 = 0x1;
/// A message of bytes.
pub const BINARY: u8 = 0x2;
/// The last frame.
pub const CLOSE: u8 = 0x8;
/// It is answered by a pong with the same payload.
pub const PING: u8 = 0x9;
/// The answer to a ping.
pub const PONG: u8 = 0xa;

/// The first of the reserved bits: the payload is compressed (RFC 7692, section 6).
pub const COMPRESSED: u8 = 0x40;

/// The first bit of a frame: it is whole, or the last of its message.
const FIN: u8 = 0x80;

/// Every client masks with the same key: masks protect proxies, and there is none here.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The head of a frame from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Operation code.
    pub opcode: u8,
    /// Whether the payload is compressed (RFC 7692, section 6).
    pub compressed: bool,
    /// Bytes of the head itself.
    pub bytes: usize,
    /// Bytes of the payload.
    pub payload: usize,
}

impl Head {
    /// The head at the start of `bytes`, if it is whole. Panics on what a server must not send.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (&first, &second) = (bytes.first()?, bytes.get(1)?);
        assert_eq!(first & 0xb0, 0x80, "the server sent a fragment or reserved bits: {first:#x}");
        assert_eq!(second & 0x80, 0, "the server sent a masked frame");
        let (head, payload) = match second {
            126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
            127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
            short => (2, usize::from(short)),
        };
        Some(Self { opcode: first & 0xf, compressed: first & 0x40 != 0, bytes: head, payload })
    }
}

/// A whole frame as a client sends it.
pub fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    frame_with(FIN | opcode, payload)
}

/// A frame as a client sends it, whose first byte (FIN, reserved bits, opcode) is chosen freely.
pub fn frame_with(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 14);
    write_with(&mut out, first, payload);
    out
}

/// Appends a whole frame as a client sends it.
pub fn write(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    write_with(out, FIN | opcode, payload);
}

fn write_with(out: &mut Vec<u8>, first: u8, payload: &[u8]) {
    out.push(first);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ ..=125), _) => out.push(0x80 | length),
        (_, Ok(length)) => {
            out.push(0x80 | 126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}
