//! Says where a text stops being JSON. serde_json's own words are the names of its parser's tokens.

use serde_json::error::Category;

/// Why a text is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotJson {
    /// It is not even text.
    #[error("it is not UTF-8 from byte {0} on")]
    NotUtf8(usize),
    /// It ends too early.
    #[error("it ends at line {line}, column {column}, where more is expected")]
    Incomplete {
        /// From 1.
        line: usize,
        /// From 1; 0 if the line is empty.
        column: usize,
    },
    /// It has a character where JSON has another one.
    #[error("unexpected character at line {line}, column {column}")]
    Unexpected {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
}

impl From<&serde_json::Error> for NotJson {
    fn from(error: &serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        match error.classify() {
            Category::Eof => Self::Incomplete { line, column },
            Category::Io | Category::Syntax | Category::Data => Self::Unexpected { line, column },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn the_place_is_told_in_words() {
        for (text, told) in [
            ("not json", "unexpected character at line 1, column 2"),
            ("{\"a\":1,\n}", "unexpected character at line 2, column 1"),
            ("1 2", "unexpected character at line 1, column 3"),
            ("{\"a\"", "it ends at line 1, column 4, where more is expected"),
        ] {
            let error = serde_json::from_str::<&RawValue>(text).unwrap_err();
            assert_eq!(NotJson::from(&error).to_string(), told, "{text}");
        }
    }
}
