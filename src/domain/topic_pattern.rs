//! The regular expressions that operators write for the names of topics (`topic_pattern`).

use regex::{Regex, RegexBuilder};
use thiserror::Error;

/// Bytes of an expression, as written and as compiled: `[a-z]{1,64}` takes 4 KiB.
const COMPILED_BYTES_MAX: usize = 64 << 10;

/// A compiled regular expression that matches a text as a whole or not at all, in time linear in the text's length.
#[derive(Clone, Debug)]
pub struct TopicPattern(Regex);

/// Why a text is no pattern of topics.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TopicPatternError {
    /// It is no regular expression.
    #[error("no regular expression: {0}")]
    Syntax(String),
    /// It is too large.
    #[error("a regular expression that takes more than {COMPILED_BYTES_MAX} bytes when it is compiled")]
    TooLarge,
}

impl TopicPattern {
    /// Compiles a regular expression. It is anchored at both ends. References back and looking around are not supported,
    /// because they take more than linear time.
    ///
    /// # Errors
    /// What is wrong with the expression.
    pub fn parse(text: &str) -> Result<Self, TopicPatternError> {
        if text.len() > COMPILED_BYTES_MAX {
            return Err(TopicPatternError::TooLarge);
        }
        // By itself first: `a)|(b` is none, but would be one between the brackets.
        compile(text)?;
        compile(&format!(r"\A(?:{text})\z")).map(Self)
    }

    /// Whether the pattern matches the whole text.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

fn compile(text: &str) -> Result<Regex, TopicPatternError> {
    let limited =
        RegexBuilder::new(text).size_limit(COMPILED_BYTES_MAX).dfa_size_limit(COMPILED_BYTES_MAX).build();
    limited.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => TopicPatternError::TooLarge,
        // The text's last line says what is wrong, those before it show where.
        error => {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            TopicPatternError::Syntax(last.trim_start_matches("error: ").to_owned())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_all_of_a_text_or_nothing() {
        for (pattern, text, expected) in [
            ("[a-z]+", "room", true),
            ("[a-z]+", "room7", false),
            ("[a-z]+", "7room", false),
            ("[a-z]+", "", false),
            ("a|ab", "ab", true),
            ("^[a-z]+$", "room", true),
            ("room", "room\n", false),
            (".", "é", true),
            (r"\d+", "٣", true),
            ("(?i)room", "ROOM", true),
            (r"(?-u:\w)+", "é", false),
        ] {
            assert_eq!(
                TopicPattern::parse(pattern).unwrap().matches(text),
                expected,
                "{pattern} on {text:?}"
            );
        }
    }

    #[test]
    fn what_is_no_pattern_is_said() {
        for (pattern, why) in [
            ("[a-z", "no regular expression: unclosed character class"),
            ("a)|(b", "no regular expression: unopened group"),
            (r"(a)\1", "no regular expression: backreferences are not supported"),
            (
                "(?=a)",
                "no regular expression: look-around, including look-ahead and look-behind, is not supported",
            ),
            (r"\w{1,1000}", "takes more than 65536 bytes"),
        ] {
            let error = TopicPattern::parse(pattern).unwrap_err().to_string();
            assert!(error.contains(why), "{pattern}: {error}");
        }
        assert!(TopicPattern::parse(&"a".repeat(COMPILED_BYTES_MAX + 1)).is_err());
    }

    /// An expression that takes exponential time where it is tried by going back.
    #[test]
    fn it_takes_linear_time() {
        let pattern = TopicPattern::parse("(a*)*b").unwrap();
        assert!(!pattern.matches(&"a".repeat(255)));
    }
}
