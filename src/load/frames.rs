//! WebSocket frames (RFC 6455, section 5.2) as a client sees them: masked on the way out, plain on the way in.

/// Operation codes in use.
pub(super) const TEXT: u8 = 0x1;
pub(super) const CLOSE: u8 = 0x8;
pub(super) const PING: u8 = 0x9;
pub(super) const PONG: u8 = 0xa;

/// The FIN bit. Every frame is a complete message: the engine sends no fragments.
const FINAL: u8 = 0x80;
/// The bit that marks a masked payload.
const MASKED: u8 = 0x80;

/// Every client masks with the same key: masks protect proxies from web pages, and there are none here.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// What a server sent that a client does not accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("the server sent a fragment, or a reserved bit")]
    Fragment,
    #[error("the server sent a masked frame")]
    Masked,
    #[error("the server sent an impossible length")]
    Length,
}

/// The head of a frame from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Operation code.
    pub(super) opcode: u8,
    /// Bytes of the head itself.
    pub(super) bytes: usize,
    /// Bytes of the payload.
    pub(super) payload: usize,
}

impl Head {
    /// The head at the start of `bytes`, if it is complete.
    ///
    /// # Errors
    /// What the server did that a client does not accept.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, FrameError> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        if first & 0xf0 != FINAL {
            return Err(FrameError::Fragment);
        }
        if second & MASKED != 0 {
            return Err(FrameError::Masked);
        }
        let length = match second {
            126 => rest.first_chunk().map(|&length| (4, u64::from(u16::from_be_bytes(length)))),
            127 => rest.first_chunk().map(|&length| (10, u64::from_be_bytes(length))),
            &short => Some((2, u64::from(short))),
        };
        let Some((bytes, payload)) = length else { return Ok(None) };
        let payload = usize::try_from(payload).map_err(|_| FrameError::Length)?;
        Ok(Some(Self { opcode: first & 0x0f, bytes, payload }))
    }
}

/// Appends a frame as clients send it.
pub(super) fn write(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.push(FINAL | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ 0..=125), _) => out.push(MASKED | short),
        (_, Ok(medium)) => {
            out.push(MASKED | 126);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out.push(MASKED | 127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_all_lengths_are_read_once_they_are_whole() {
        for (bytes, head) in [
            (&[0x81, 5][..], Some((TEXT, 2, 5))),
            (&[0x81, 126, 1, 0], Some((TEXT, 4, 256))),
            (&[0x88, 127, 0, 0, 0, 0, 0, 1, 0, 0], Some((CLOSE, 10, 65_536))),
            (&[0x81], None),
            (&[0x81, 126, 1], None),
            (&[0x81, 127, 0, 0, 0, 0, 0, 1, 0], None),
        ] {
            let head = head.map(|(opcode, bytes, payload)| Head { opcode, bytes, payload });
            assert_eq!(Head::parse(bytes), Ok(head), "{bytes:?}");
        }
        assert!(Head::parse(&[0x01, 1]).unwrap_err().to_string().contains("fragment"));
        assert!(Head::parse(&[0x81, 0x81]).unwrap_err().to_string().contains("masked"));
    }

    #[test]
    fn the_engine_understands_what_is_written() {
        for size in [0, 125, 126, 65_535, 65_536] {
            let payload = "x".repeat(size);
            let mut out = Vec::new();
            write(&mut out, TEXT, payload.as_bytes());
            let decoded =
                crate::transport::websocket::decode::decode(&mut out, &mut None, usize::MAX, None).unwrap();
            let crate::transport::websocket::decode::Decoded::Frame { event, .. } = decoded else {
                panic!("{size}: whole")
            };
            assert_eq!(event, crate::transport::websocket::decode::Event::Text(payload.into()), "{size}");
        }
    }
}
