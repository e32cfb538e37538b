//! Checks that a payload is JSON. The payload is never changed, and never parsed into values.

use memchr::{memchr2, memchr2_iter};
use serde_json::value::RawValue;
use simd_json::{Buffers, Tape};

use crate::base::not_json::NotJson;

/// Why a body cannot be embedded as JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// It is empty.
    #[error("the body is empty: JSON needs a value, such as null")]
    Empty,
    /// It is nested too deeply.
    #[error("the body is nested deeper than {0} levels (limits.json_depth)")]
    TooDeep(usize),
    /// It is not JSON; the text says where.
    #[error("the body is not JSON: {0}")]
    Malformed(NotJson),
}

/// Checks bodies, and keeps the memory for that: about four times the largest body so far.
pub struct Checker {
    /// simd-json unescapes in the input itself, so it gets a copy.
    copy: Vec<u8>,
    buffers: Buffers,
    tape: Tape<'static>,
}

impl Checker {
    /// A checker that has allocated nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self { copy: Vec::new(), buffers: Buffers::new(0), tape: Tape(Vec::new()) }
    }

    /// Checks that `body` is one JSON value, nested at most `depth_max` levels.
    ///
    /// simd-json accepts almost everything. What it refuses may still be JSON: integers beyond 64 bits,
    /// `1e400`, half a surrogate pair in an escape. The engine does not parse values, so these are accepted:
    /// serde_json, which skips values without parsing them, decides.
    ///
    /// # Errors
    /// Why it is not.
    pub fn check(&mut self, body: &[u8], depth_max: usize) -> Result<(), JsonError> {
        if body.is_empty() {
            return Err(JsonError::Empty);
        }
        if too_deep(body, depth_max) {
            return Err(JsonError::TooDeep(depth_max));
        }
        if self.is_plain(body) {
            return Ok(());
        }
        let text = simdutf8::compat::from_utf8(body)
            .map_err(|error| JsonError::Malformed(NotJson::NotUtf8(error.valid_up_to())))?;
        let skipped = serde_json::from_str::<&RawValue>(text);
        skipped.map(drop).map_err(|error| JsonError::Malformed(NotJson::from(&error)))
    }

    /// Whether simd-json accepts it. Everything that it accepts is JSON.
    fn is_plain(&mut self, body: &[u8]) -> bool {
        self.copy.clear();
        self.copy.extend_from_slice(body);
        let mut tape = std::mem::replace(&mut self.tape, Tape(Vec::new())).reset();
        let taken = simd_json::fill_tape(&mut self.copy, &mut self.buffers, &mut tape).is_ok();
        self.tape = tape.reset();
        taken
    }
}

impl Default for Checker {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Checker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Checker({} bytes kept)", self.copy.capacity())
    }
}

/// Whether `text` opens more than `depth_max` levels of arrays and objects at once. The answer is right for
/// JSON, and arbitrary for anything else.
#[must_use]
pub fn too_deep(text: &[u8], depth_max: usize) -> bool {
    if text.len() <= depth_max || memchr2_iter(b'[', b'{', text).nth(depth_max).is_none() {
        return false;
    }
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += 1;
        match byte {
            b'[' | b'{' if depth == depth_max => return true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => at += string_len(&text[at..]),
            _ => {}
        }
    }
    false
}

/// The number of bytes up to and including the quotation mark that ends a string, or all of them.
fn string_len(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = memchr2(b'"', b'\\', &text[at..]) {
        at += found;
        if text[at] == b'"' {
            return at + 1;
        }
        at += 2;
        if at >= text.len() {
            break;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VALID: [&str; 21] = [
        "null",
        " true ",
        "-0.0e+00",
        "123456789012345678901234567890",
        "-123456789012345678901234567890",
        "18446744073709551616",
        "1e400",
        "-1E-400",
        r#""\" \\ \/ \b \f \n \r \t \u0000 \u001f é""#,
        r#""\ud83d\ude00""#,
        r#""\ud83d""#,
        r#""\ude00 \ud83dx""#,
        "\"\u{2028}\u{2029}\u{7f}\u{feff}\u{10ffff}\"",
        "{}",
        "[]",
        r#"{"a":1,"a":2,"":3}"#,
        "{\n  \"a\": [1,\r\n\t2]\n}",
        r#"[[],{},"[[[[[["]"#,
        r#""""#,
        "[1e400,{\"a\":99999999999999999999}]",
        "0.1000000000000000055511151231257827021181583404541015625",
    ];

    const MALFORMED: [&[u8]; 33] = [
        b" ",
        b"\n",
        b"nul",
        b"nulll",
        b"01",
        b"-",
        b"+1",
        b"1.",
        b".5",
        b"1e",
        b"0x10",
        b"NaN",
        b"Infinity",
        b"'a'",
        b"\"a",
        b"\"a\nb\"",
        b"\"a\tb\"",
        b"\"a\0b\"",
        b"\"\\x\"",
        b"\"\\u12g4\"",
        b"\"\xff\"",
        b"\"\xed\xa0\x80\"",
        b"{\"a\":1",
        b"{\"a\":1,}",
        b"{a:1}",
        b"{1:1}",
        b"[1,]",
        b"[1 2]",
        b"[1]]",
        b"1 2",
        b"{}{}",
        b"\xef\xbb\xbf{}",
        b"null\0",
    ];

    #[test]
    fn what_is_json_passes_whatever_simd_json_thinks_of_it() {
        let mut checker = Checker::new();
        for text in VALID {
            assert_eq!(checker.check(text.as_bytes(), 8), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_is_not_json_is_refused_in_words() {
        let mut checker = Checker::new();
        for body in MALFORMED {
            let error = checker.check(body, 8);
            let shown = String::from_utf8_lossy(body);
            assert!(matches!(error, Err(JsonError::Malformed(_))), "{shown:?}: {error:?}");
        }
        assert_eq!(checker.check(b"", 8), Err(JsonError::Empty));
        let error = checker.check(b"[\"\xff\"]", 8).unwrap_err();
        assert_eq!(error.to_string(), "the body is not JSON: it is not UTF-8 from byte 2 on");
        let error = checker.check(b"not json", 8).unwrap_err();
        assert_eq!(error.to_string(), "the body is not JSON: unexpected character at line 1, column 2");
    }

    #[test]
    fn depth_counts_what_is_open_at_once_outside_strings() {
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        let brackets_in_a_string = format!("{{\"a\":\"\\\"{}\\\\\",\"b\":[]}}", "[".repeat(50));
        let beside_each_other = format!("[{}[]]", "[],{},".repeat(50));
        for (text, max, is_too_deep) in [
            (deep(8).as_str(), 8, false),
            (&deep(9), 8, true),
            (&"[".repeat(9), 8, true),
            (&brackets_in_a_string, 2, false),
            (&brackets_in_a_string, 1, true),
            (&beside_each_other, 2, false),
            (&beside_each_other, 1, true),
            ("]]]]]]]]][[[", 3, false),
            ("[[[\"\\", 2, true),
            ("1", 0, false),
            ("[]", 0, true),
        ] {
            assert_eq!(too_deep(text.as_bytes(), max), is_too_deep, "{text} {max}");
        }
        assert_eq!(Checker::new().check(deep(10_000).as_bytes(), 128), Err(JsonError::TooDeep(128)));
        assert_eq!(Checker::new().check(deep(1024).as_bytes(), 1024), Ok(()));
    }

    proptest! {
        /// serde_json is the judge: texts made of the pieces that JSON is made of, mostly not JSON.
        #[test]
        fn both_parsers_agree_on_what_passes(pieces in prop::collection::vec(0..VALID.len() + MALFORMED.len(), 1..6),
                                             glue in "[\\[\\]{},:\" 0-9e.\\\\\n-]{0,8}") {
            let mut body = Vec::new();
            for piece in pieces {
                body.extend_from_slice(VALID.get(piece).map_or_else(|| MALFORMED[piece - VALID.len()], |text| text.as_bytes()));
                body.extend_from_slice(glue.as_bytes());
            }
            let judged = serde_json::from_slice::<&RawValue>(&body).is_ok();
            prop_assert_eq!(Checker::new().check(&body, usize::MAX).is_ok(), judged);
        }
    }
}
