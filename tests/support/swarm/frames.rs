//! WebSocket frames (RFC 6455, section 5.2) as a client sees them: masked on the way out, unmasked on the
//! way in.

/// Operation codes in use.
pub(super) const TEXT: u8 = 0x1;
pub(super) const CLOSE: u8 = 0x8;
pub(super) const PING: u8 = 0x9;
pub(super) const PONG: u8 = 0xa;

/// Every client masks with the same key: masks protect proxies, and there is none here.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The head of a frame from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Operation code.
    pub(super) opcode: u8,
    /// Whether the payload is compressed (RFC 7692, section 6).
    pub(super) compressed: bool,
    /// Bytes of the head itself.
    pub(super) bytes: usize,
    /// Bytes of the payload.
    pub(super) payload: usize,
}

impl Head {
    /// The head at the start of `bytes`, if it is whole. Panics on what a server must not send.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
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

/// Appends a frame as a client sends it.
pub(super) fn write(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.push(0x80 | opcode);
    match u8::try_from(payload.len()) {
        Ok(length) if length < 126 => out.push(0x80 | length),
        _ => {
            let length = u16::try_from(payload.len()).expect("no client sends that much in one frame");
            out.push(0x80 | 126);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}
