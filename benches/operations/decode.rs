//! From a client's masked bytes to a frame, and from there to a command.

use std::hint::black_box;

use fanfare::domain::codec::Codec;

/// Bytes of a message, as by default.
const MESSAGE_MAX: usize = 64 << 10;
/// Levels of nesting, as by default.
const DEPTH_MAX: usize = 128;

/// An answer to a ping.
pub(crate) const PONG: &str = "{}";
/// What every client sends.
pub(crate) const SUBSCRIBE: &str = r#"{"id":2,"subscribe":{"channel":"orders:1234"}}"#;

/// A publication of 1,000 bytes.
pub(crate) fn publish() -> String {
    format!(r#"{{"id":7,"publish":{{"channel":"chat:1","data":"{}"}}}}"#, "x".repeat(1000))
}

/// A whole frame of text, as a client sends it.
pub(crate) fn masked(payload: &str) -> Vec<u8> {
    const MASK: [u8; 4] = [1, 2, 3, 4];
    let mut frame = vec![0x81];
    match u8::try_from(payload.len()) {
        Ok(length) if length < 126 => frame.push(0x80 | length),
        _ => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(payload.len()).expect("under 64 KiB").to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.bytes().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// Whether this is a frame. It is unmasked in place: another copy is needed each time.
pub(crate) fn decode(frame: &mut [u8]) -> bool {
    fanfare::transport::websocket::decode::decode(black_box(frame), &mut None, MESSAGE_MAX, None).is_ok()
}

/// Whether this is a command.
pub(crate) fn parse(message: &str) -> bool {
    Codec::Json.read(black_box(message.as_bytes()), DEPTH_MAX).is_ok()
}
