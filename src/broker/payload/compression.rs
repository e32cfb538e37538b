//! Interprets `content-encoding`, and decodes the body.

use std::borrow::Cow;
use std::io::{self, Read};

use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use super::Undeliverable;

/// Names under which publishers say that a body is as it is. AMQP calls the property "MIME content encoding", and
/// client libraries put character sets there, or how mail would carry the body.
const NONE: &[&str] = &["", "identity", "utf-8", "utf8", "us-ascii", "ascii", "binary", "8bit", "7bit"];

/// What becomes of a body before anybody looks at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::broker) enum Compression {
    /// Nothing.
    #[default]
    None,
    /// `gzip` (RFC 1952).
    Gzip,
    /// `deflate`: what HTTP calls so is zlib (RFC 1950). Those who send bare deflate (RFC 1951) are understood too, as
    /// browsers do.
    Deflate,
    /// Something else: the body is taken if it is JSON all the same.
    Unknown(Box<str>),
}

impl Compression {
    /// By the content encoding, without regard to case.
    pub(in crate::broker) fn of(content_encoding: &str) -> Self {
        let name = content_encoding.trim();
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        if NONE.iter().any(|none| is(none)) {
            Self::None
        } else if is("gzip") || is("x-gzip") {
            Self::Gzip
        } else if is("deflate") {
            Self::Deflate
        } else {
            Self::Unknown(name.into())
        }
    }

    /// The body as it was before it was compressed. Of one that becomes more than `max` bytes, no more than these and
    /// one are decoded, or kept.
    ///
    /// # Errors
    /// It becomes more, or is no such thing.
    pub(super) fn decode<'a>(&self, body: &'a [u8], max: usize) -> Result<Cow<'a, [u8]>, Undeliverable> {
        let (encoding, decoded) = match self {
            Self::None | Self::Unknown(_) => return Ok(Cow::Borrowed(body)),
            Self::Gzip => ("gzip", read(MultiGzDecoder::new(body), max)),
            Self::Deflate if is_zlib(body) => {
                let zlib = read(ZlibDecoder::new(body), max);
                // The first bytes of bare deflate can look like zlib's.
                ("deflate", zlib.or_else(|error| read(DeflateDecoder::new(body), max).map_err(|_| error)))
            }
            Self::Deflate => ("deflate", read(DeflateDecoder::new(body), max)),
        };
        match decoded {
            Ok(Some(decoded)) => Ok(Cow::Owned(decoded)),
            Ok(None) => Err(Undeliverable::BecomesTooBig { encoding, max }),
            Err(error) => Err(Undeliverable::Corrupt { encoding, error: error.to_string() }),
        }
    }
}

/// Whether a zlib header is what comes first: deflate, a window, and a check.
fn is_zlib(body: &[u8]) -> bool {
    matches!(body, [method, flags, ..] if method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]) % 31 == 0)
}

/// Everything that a decoder has to give; none if it is more than `max` bytes.
fn read(decoder: impl Read, max: usize) -> io::Result<Option<Vec<u8>>> {
    let limit = u64::try_from(max).unwrap_or(u64::MAX);
    let mut decoded = Vec::new();
    decoder.take(limit.saturating_add(1)).read_to_end(&mut decoded)?;
    Ok((decoded.len() <= max).then_some(decoded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression as Level;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use proptest::prelude::*;
    use std::io::Write as _;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Level::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(plain: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Level::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn bare(plain: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Level::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn encodings_are_compared_without_case_and_character_sets_are_none() {
        for (name, compression) in [
            ("", Compression::None),
            ("UTF-8", Compression::None),
            ("identity", Compression::None),
            ("binary", Compression::None),
            ("GZip", Compression::Gzip),
            ("x-gzip", Compression::Gzip),
            (" deflate ", Compression::Deflate),
            ("br", Compression::Unknown("br".into())),
            ("gzip, gzip", Compression::Unknown("gzip, gzip".into())),
        ] {
            assert_eq!(Compression::of(name), compression, "{name}");
        }
    }

    #[test]
    fn what_was_compressed_is_as_it_was() {
        let plain = br#"{"order":42}"#;
        let two_members = [gzip(&plain[..5]), gzip(&plain[5..])].concat();
        for (compression, body) in [
            (Compression::None, plain.to_vec()),
            (Compression::Unknown("br".into()), plain.to_vec()),
            (Compression::Gzip, gzip(plain)),
            (Compression::Gzip, two_members),
            (Compression::Deflate, zlib(plain)),
            (Compression::Deflate, bare(plain)),
        ] {
            assert_eq!(compression.decode(&body, plain.len()).as_deref(), Ok(&plain[..]), "{compression:?}");
        }
    }

    /// A stored block of 0x..78 with a length whose low byte is the rest of a zlib header.
    #[test]
    fn bare_deflate_that_looks_like_zlib_is_understood() {
        let body = [&[0x78, 0x01, 0x00, 0xfe, 0xff][..], b"x", &[0x01, 0, 0, 0xff, 0xff]].concat();
        assert!(is_zlib(&body));
        assert_eq!(Compression::Deflate.decode(&body, 10).as_deref(), Ok(&b"x"[..]));
    }

    #[test]
    fn a_bomb_is_decoded_up_to_the_limit_only() {
        let plain = vec![b' '; 20 << 20];
        for (compression, bomb) in [
            (Compression::Gzip, gzip(&plain)),
            (Compression::Gzip, [gzip(&plain[..100]), gzip(&plain)].concat()),
            (Compression::Deflate, zlib(&plain)),
            (Compression::Deflate, bare(&plain)),
        ] {
            assert!(bomb.len() < 100_000);
            let refused = compression.decode(&bomb, 65_536);
            assert!(matches!(refused, Err(Undeliverable::BecomesTooBig { max: 65_536, .. })), "{refused:?}");
        }
        let fits = gzip(&plain[..65_536]);
        assert_eq!(Compression::Gzip.decode(&fits, 65_536).map(|decoded| decoded.len()), Ok(65_536));
        assert!(Compression::Gzip.decode(&fits, 65_535).is_err());
    }

    #[test]
    fn what_is_no_such_thing_is_told() {
        let cut = |mut body: Vec<u8>| {
            body.truncate(body.len() - 4);
            body
        };
        let mut wrong_sum = gzip(b"{}");
        let at = wrong_sum.len() - 8;
        wrong_sum[at] ^= 1;
        for (compression, body) in [
            (Compression::Gzip, b"{}".to_vec()),
            (Compression::Gzip, cut(gzip(b"{}"))),
            (Compression::Gzip, wrong_sum),
            (Compression::Gzip, [gzip(b"{}"), b"more".to_vec()].concat()),
            (Compression::Deflate, b"{}".to_vec()),
            (Compression::Deflate, cut(zlib(b"{\"a\":1}"))),
        ] {
            let refused = compression.decode(&body, 1000);
            assert!(
                matches!(refused, Err(Undeliverable::Corrupt { .. })),
                "{compression:?} {body:02x?}: {refused:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn anything_is_decoded_or_refused(body in prop::collection::vec(any::<u8>(), 0..300), max in 0..500_usize) {
            let gzipped = [&b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"[..], &body].concat();
            for (compression, body) in [(Compression::Gzip, &gzipped), (Compression::Deflate, &body)] {
                if let Ok(plain) = compression.decode(body, max) {
                    prop_assert!(plain.len() <= max);
                }
            }
        }
    }
}
