//! What a topic may be called.

use thiserror::Error;

/// Why a name is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TopicError {
    /// It has no character.
    #[error("the topic's name is empty")]
    Empty,
    /// It is longer than the limit.
    #[error("the topic's name has more than {0} bytes")]
    TooLong(usize),
    /// It has a control character: those are no part of a name that people read in logs and metrics.
    #[error("the topic's name has a control character")]
    Control,
}

/// Whether `name` can be a topic's: not empty, at most `max` bytes, no control characters.
///
/// # Errors
/// What is wrong with it.
pub fn check(name: &str, max: usize) -> Result<(), TopicError> {
    if name.is_empty() {
        Err(TopicError::Empty)
    } else if name.len() > max {
        Err(TopicError::TooLong(max))
    } else if name.chars().any(char::is_control) {
        Err(TopicError::Control)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let long = "x".repeat(256);
        let cases = [
            ("order.42", Ok(())),
            ("a:b c/ü", Ok(())),
            (&long[..255], Ok(())),
            ("", Err(TopicError::Empty)),
            (&long, Err(TopicError::TooLong(255))),
            ("a\nb", Err(TopicError::Control)),
            ("a\u{7f}", Err(TopicError::Control)),
            ("a\u{85}", Err(TopicError::Control)),
        ];
        for (name, expected) in cases {
            assert_eq!(check(name, 255), expected, "{name:?}");
        }
    }
}
