//! Guesses what a body is that is not JSON, for the reader of the dead letter.

use super::{Compression, Undeliverable};
use crate::base::printable::escaped;

/// What compressed bodies begin with.
const COMPRESSED: &[(&[u8], &str)] = &[
    (b"\x1f\x8b", "gzip"),
    (b"\x78\x01", "zlib"),
    (b"\x78\x5e", "zlib"),
    (b"\x78\x9c", "zlib"),
    (b"\x78\xda", "zlib"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\xff\x06\x00\x00sNaPpY", "snappy"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"PK\x03\x04", "zip"),
];

/// Words of JavaScript and Python that JSON lacks.
const NOT_NUMBERS: [&str; 2] = ["NaN", "Infinity"];

/// What a body probably is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::broker) enum Hint {
    /// Its content encoding, and which one it looks like.
    #[error("its content-encoding is '{}', and only gzip and deflate are decoded", escaped(.0))]
    Encoding(Box<str>),
    #[error("it looks compressed ({0}), and its content-encoding does not say so")]
    Compressed(&'static str),
    #[error("it looks like {0}: only UTF-8 is taken")]
    Wide(&'static str),
    #[error("it has {word} at byte {at}, which is not JSON: null is")]
    NotANumber { word: &'static str, at: usize },
}

impl Hint {
    /// What to say of a body that is neither JSON nor text, as far as that can be told.
    pub(super) fn about(body: &[u8], compression: &Compression, reason: &Undeliverable) -> Option<Self> {
        if let Compression::Unknown(name) = compression {
            return Some(Self::Encoding(name.clone()));
        }
        let compressed = COMPRESSED.iter().find(|(magic, _)| body.starts_with(magic));
        if let Some((_, name)) = compressed {
            return Some(Self::Compressed(name));
        }
        let is_json = matches!(reason, Undeliverable::Json(_));
        wide(body).map(Self::Wide).or_else(|| is_json.then(|| not_a_number(body)).flatten())
    }
}

/// The encoding of a body whose characters take more than one byte each: by its byte order mark, or by the zero bytes
/// around its first character and its last, which are ASCII in all JSON. A zero byte may be anywhere in a body that is
/// neither.
fn wide(body: &[u8]) -> Option<&'static str> {
    let is_ascii = |byte: u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    let (is_of_pairs, is_of_fours) = (body.len().is_multiple_of(2), body.len().is_multiple_of(4));
    match *body {
        [0, 0, 0xfe, 0xff, ..] | [0xff, 0xfe, 0, 0, ..] => return Some("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return Some("UTF-16"),
        _ => {}
    }
    match (body, body) {
        ([0, 0, 0, low, ..], [.., 0, 0, 0, last]) | ([low, 0, 0, 0, ..], [.., last, 0, 0, 0])
            if is_of_fours && is_ascii(*low) && is_ascii(*last) =>
        {
            Some("UTF-32")
        }
        ([0, low, ..], [.., 0, last]) | ([low, 0, ..], [.., last, 0])
            if is_of_pairs && is_ascii(*low) && is_ascii(*last) =>
        {
            Some("UTF-16")
        }
        _ => None,
    }
}

/// The first such word outside of strings.
fn not_a_number(body: &[u8]) -> Option<Hint> {
    let mut at = 0;
    while let Some(&byte) = body.get(at) {
        if byte == b'"' {
            at += 1;
            while let Some(&byte) = body.get(at).filter(|&&byte| byte != b'"') {
                at += if byte == b'\\' { 2 } else { 1 };
            }
        }
        let word = NOT_NUMBERS
            .into_iter()
            .find(|word| body.get(at..).is_some_and(|rest| rest.starts_with(word.as_bytes())));
        if let Some(word) = word {
            return Some(Hint::NotANumber { word, at });
        }
        at += 1;
    }
    None
}
