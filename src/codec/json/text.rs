//! Text and payloads within a line.
//!
//! Payloads are embedded byte for byte, so a subscriber reads what the publisher wrote, numbers of thirty
//! digits included. Lines are separated by `\n`, so raw line breaks become spaces; in valid JSON they occur only between values
//! (RFC 8259, sections 2 and 7).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::memchr2;

/// Appends `body`, which was checked to be JSON, on one line.
pub fn embed(out: &mut Vec<u8>, body: &[u8]) {
    let start = out.len();
    out.extend_from_slice(body);
    let mut rest = &mut out[start..];
    while let Some(at) = memchr2(b'\n', b'\r', rest) {
        rest[at] = b' ';
        rest = &mut rest[at + 1..];
    }
}

/// Appends `text` as a JSON string. Characters beyond ASCII are not escaped, U+2028 included.
pub fn quote(out: &mut Vec<u8>, text: &str) {
    if is_quotable_as_it_is(text.as_bytes()) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        serde_json::to_writer(out, text).expect("writing to memory does not fail");
    }
}

/// The number of bytes that [`quote`] appends.
#[must_use]
pub fn quoted_len(text: &str) -> usize {
    if is_quotable_as_it_is(text.as_bytes()) {
        return text.len() + 2;
    }
    let mut quoted = Vec::new();
    quote(&mut quoted, text);
    quoted.len()
}

/// Whether no character needs an escape, as in most topics.
fn is_quotable_as_it_is(text: &[u8]) -> bool {
    memchr2(b'"', b'\\', text).is_none() && text.iter().all(|&byte| byte >= b' ')
}

/// Appends bytes as a JSON string in base64 (RFC 4648, section 4).
pub fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut encoded = String::with_capacity(bytes.len() / 3 * 4 + 4);
    STANDARD.encode_string(bytes, &mut encoded);
    quote(out, &encoded);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn embedded_json_stands_on_one_line_and_keeps_every_other_byte() {
        let mut out = b"before\n".to_vec();
        embed(&mut out, b"{\r\n\t\"a\": \"\\n\"\n}");
        assert_eq!(out, b"before\n{  \t\"a\": \"\\n\" }");
    }

    #[test]
    fn quoted_text_is_json_and_means_the_same() {
        for (text, quoted) in [
            ("", r#""""#),
            ("chat:1", r#""chat:1""#),
            ("a\"b\\c\n\0", r#""a\"b\\c\n\u0000""#),
            ("é\u{2028}😀", "\"é\u{2028}😀\""),
        ] {
            let mut out = Vec::new();
            quote(&mut out, text);
            assert_eq!(out, quoted.as_bytes());
        }
    }

    #[test]
    fn binary_is_standard_base64() {
        for (bytes, expected) in [(&[][..], "\"\""), (&[0, 255, 10], "\"AP8K\""), (&[251, 255], "\"+/8=\"")] {
            let mut out = Vec::new();
            base64(&mut out, bytes);
            assert_eq!(out, expected.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn quoting_is_undone_by_parsing(text in any::<String>()) {
            let mut out = Vec::new();
            quote(&mut out, &text);
            prop_assert!(memchr::memchr3(b'\n', b'\r', 0, &out).is_none());
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn only_line_breaks_change(body in "[a-z\n\r\t \"{}]*") {
            let mut out = Vec::new();
            embed(&mut out, body.as_bytes());
            let expected = body.replace(['\n', '\r'], " ").into_bytes();
            prop_assert_eq!(out, expected);
        }
    }
}
