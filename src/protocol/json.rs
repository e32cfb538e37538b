//! JSON that passes through: checked once, never rewritten.

use serde::de::IgnoredAny;
use simd_json::Buffers;
use thiserror::Error;

/// Why a text is not passed on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JsonError {
    /// There is nothing.
    #[error("the body is empty; JSON has at least one value")]
    Empty,
    /// It is not JSON (RFC 8259).
    #[error("the body is not JSON: {0}")]
    Malformed(String),
    /// It is nested deeper than some SDKs can read.
    #[error("the body's JSON is nested deeper than {0} levels")]
    TooDeep(usize),
}

/// Checks JSON on a copy, whose memory is kept for the next text.
#[derive(Default)]
pub struct Checker {
    copy: Vec<u8>,
    buffers: Buffers,
}

impl std::fmt::Debug for Checker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Checker({} bytes)", self.copy.capacity())
    }
}

/// Memory that a large text leaves behind in the checker.
const KEPT: usize = 1 << 20;

impl Checker {
    /// Whether `body` is one JSON value, nested at most `depth_max` levels.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&mut self, body: &[u8], depth_max: usize) -> Result<(), JsonError> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Err(JsonError::Empty);
        }
        if too_deep(body, depth_max) {
            return Err(JsonError::TooDeep(depth_max));
        }
        // simd-json unescapes in place, so it gets a copy.
        self.copy.clear();
        self.copy.extend_from_slice(body);
        let result = simd_json::to_tape_with_buffers(&mut self.copy, &mut self.buffers).is_ok();
        if self.copy.capacity() > KEPT {
            self.copy = Vec::new();
            self.buffers = Buffers::default();
        }
        if result { Ok(()) } else { check_slowly(body) }
    }
}

/// What simd-json refuses may still be JSON: integers beyond 64 bits and numbers beyond `f64` are, and
/// clients with big numbers can read them.
fn check_slowly(body: &[u8]) -> Result<(), JsonError> {
    let text = std::str::from_utf8(body).map_err(|error| JsonError::Malformed(error.to_string()))?;
    let checked = serde_json::from_str::<IgnoredAny>(text);
    checked.map(|_| ()).map_err(|error| JsonError::Malformed(error.to_string()))
}

/// Whether brackets outside strings are nested deeper than `depth_max`. Says nothing about whether the text
/// is JSON, and is wrong only about texts that are not.
#[must_use]
pub fn too_deep(text: &[u8], depth_max: usize) -> bool {
    // Each level takes a bracket at least.
    if text.len() <= depth_max {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for &byte in text {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > depth_max {
            return true;
        }
    }
    false
}

/// Appends checked JSON byte for byte, but for line breaks: they would end a line of the protocol. In JSON
/// they stand only between tokens, where a space means the same.
pub fn embed(out: &mut Vec<u8>, body: &[u8]) {
    let from = out.len();
    out.extend_from_slice(body);
    if memchr::memchr2(b'\n', b'\r', body).is_some() {
        for byte in out[from..].iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')) {
            *byte = b' ';
        }
    }
}

/// Appends `text` as a JSON string.
pub fn quote(out: &mut Vec<u8>, text: &str) {
    let plain = !text.bytes().any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\');
    if plain {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        serde_json::to_writer(out, text).expect("a string becomes JSON, and memory takes it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_json_passes() {
        let mut checker = Checker::default();
        let big = "123456789012345678901234567890";
        for body in [
            "1",
            "null",
            "\"\"",
            " {\"a\": [1, 2]}\n",
            big,
            "1e400",
            "[-0.0e-7]",
            "\"\\ud83d\\ude00\u{2028}\"",
        ] {
            assert_eq!(checker.check(body.as_bytes(), 16), Ok(()), "{body}");
        }
    }

    #[test]
    fn what_is_not_does_not() {
        let mut checker = Checker::default();
        assert_eq!(checker.check(b"", 16), Err(JsonError::Empty));
        assert_eq!(checker.check(b" \n", 16), Err(JsonError::Empty));
        for body in ["{", "{}{}", "{'a':1}", "nul", "01", "\"\n\"", "[1,]", "NaN"] {
            let checked = checker.check(body.as_bytes(), 16);
            assert!(matches!(checked, Err(JsonError::Malformed(_))), "{body}: {checked:?}");
        }
        assert!(matches!(checker.check(b"\"\xff\"", 16), Err(JsonError::Malformed(_))));
    }

    #[test]
    fn depth_is_counted_outside_strings() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(!too_deep(nested(16).as_bytes(), 16));
        assert!(too_deep(nested(17).as_bytes(), 16));
        assert!(too_deep(nested(10_000).as_bytes(), 128));
        let in_string = format!("\"{}\\\"{}\"", "[".repeat(20), "[".repeat(20));
        assert!(!too_deep(in_string.as_bytes(), 16));
        let after_string = format!("[\"\\\\\", {}]", nested(16));
        assert!(too_deep(after_string.as_bytes(), 16));
        assert!(Checker::default().check(nested(10_000).as_bytes(), 128).is_err());
    }

    #[test]
    fn line_breaks_become_spaces_and_nothing_else_changes() {
        let mut out = b"before\n".to_vec();
        embed(&mut out, b"{\r\n\t\"a\": \"\\n\"}");
        assert_eq!(out, b"before\n{  \t\"a\": \"\\n\"}");
    }

    #[test]
    fn strings_are_quoted() {
        for (text, quoted) in [("a", "\"a\""), ("a\"\\\n", r#""a\"\\\n""#), ("\u{2028}", "\"\u{2028}\"")] {
            let mut out = Vec::new();
            quote(&mut out, text);
            assert_eq!(String::from_utf8(out).unwrap(), quoted);
        }
    }
}
