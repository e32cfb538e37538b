//! Makes text from peers fit for one log line: bounded, and without characters that end a line or change its
//! direction.

/// `text` with control characters escaped, and those that change the direction of writing. Everything else
/// stays, quotation marks and backslashes too: the result is for people, not for parsers.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\r' | '\t' => shown.extend(character.escape_default()),
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                shown.extend(character.escape_unicode());
            }
            _ if character.is_control() => shown.extend(character.escape_unicode()),
            _ => shown.push(character),
        }
    }
    shown
}

/// The first `max` characters of `bytes`, [`escaped`], with `...` if there are more. Bytes that are not UTF-8
/// are replaced.
#[must_use]
pub fn printable(bytes: &[u8], max: usize) -> String {
    escaped(&cut(bytes, max))
}

/// The first `max` characters of `bytes`, with `...` if there are more. Bytes that are not UTF-8 are
/// replaced. Nothing is escaped: for a field of a log line, whose format escapes.
#[must_use]
pub fn cut(bytes: &[u8], max: usize) -> String {
    // Cut first: what is cut off need not be looked at. A character has up to four bytes.
    let cut = &bytes[..bytes.len().min(max.saturating_mul(4))];
    let text = String::from_utf8_lossy(cut);
    let mut shown: String = text.chars().take(max).collect();
    if text.chars().nth(max).is_some() || cut.len() < bytes.len() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_the_line_and_nothing_is_long() {
        for (bytes, shown) in [
            (&b"/path"[..], "/path"),
            ("/grün".as_bytes(), "/grün"),
            (b"a\nWARN forged\r\n", r"a\nWARN forged\r\n"),
            (b"\x1b[31mred\0\"", r#"\u{1b}[31mred\u{0}""#),
            (b"the topic's \\d", r"the topic's \d"),
            (b"\xff\xfe", "\u{fffd}\u{fffd}"),
            ("\u{202e}right to left".as_bytes(), r"\u{202e}right to left"),
            (b"exactly twenty chars", "exactly twenty chars"),
            (b"more than twenty chars", "more than twenty cha..."),
        ] {
            assert_eq!(printable(bytes, 20), shown);
        }
        assert_eq!(printable("😀".repeat(1000).as_bytes(), 20).chars().count(), 23);
        assert!(printable(&[0; 1 << 20], 20).len() <= 20 * 8 + 3);
    }
}
