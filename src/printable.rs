//! Text of strangers, made fit for a line of a log: bounded, and without anything that ends or imitates one.

/// The first `max` characters of `bytes`, with `...` if there are more. Control characters and quotation marks are
/// escaped, and what is not UTF-8 is replaced.
#[must_use]
pub fn printable(bytes: &[u8], max: usize) -> String {
    // Cut first: what is cut off need not be looked at. A character has up to four bytes.
    let cut = &bytes[..bytes.len().min(max.saturating_mul(4))];
    let text = String::from_utf8_lossy(cut);
    let mut shown: String = text.chars().take(max).flat_map(char::escape_debug).collect();
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
            (b"\x1b[31mred\0\"", r#"\u{1b}[31mred\0\""#),
            (b"\xff\xfe", "\u{fffd}\u{fffd}"),
            ("\u{202e}right to left".as_bytes(), r"\u{202e}right to left"),
            (b"exactly twenty chars", "exactly twenty chars"),
            (b"more than twenty chars", "more than twenty cha..."),
        ] {
            assert_eq!(printable(bytes, 20), shown);
        }
        assert_eq!(printable("😀".repeat(1000).as_bytes(), 20).chars().count(), 23);
        assert!(printable(&[0; 1 << 20], 20).len() <= 20 * 4 + 3);
    }
}
