//! Valid topic names.

/// Why a name is not a valid topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// It is empty.
    #[error("the topic's name is empty")]
    Empty,
    /// It is too long.
    #[error("the topic's name has {len} bytes: at most {max} are allowed (limits.topic_bytes)")]
    TooLong {
        /// Its length in bytes.
        len: usize,
        /// The greatest length in bytes.
        max: usize,
    },
    /// It contains a control character.
    #[error("the topic's name has a control character at byte {at}")]
    ControlCharacter {
        /// The byte at which it begins.
        at: usize,
    },
}

/// Checks a name: not empty, at most `max` bytes, no control characters (Unicode's category Cc).
///
/// # Errors
/// What is wrong with the name.
pub fn check(name: &str, max: usize) -> Result<(), TopicError> {
    if name.is_empty() {
        return Err(TopicError::Empty);
    }
    if name.len() > max {
        return Err(TopicError::TooLong { len: name.len(), max });
    }
    match name.find(char::is_control) {
        Some(at) => Err(TopicError::ControlCharacter { at }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_printable_and_bounded() {
        let long = "x".repeat(255);
        for (name, outcome) in [
            ("order.42", Ok(())),
            ("chat:é😀 with spaces, # and *", Ok(())),
            (&long, Ok(())),
            ("", Err(TopicError::Empty)),
            (&format!("{long}x"), Err(TopicError::TooLong { len: 256, max: 255 })),
            ("a\nb", Err(TopicError::ControlCharacter { at: 1 })),
            ("a\0", Err(TopicError::ControlCharacter { at: 1 })),
            ("é\u{85}", Err(TopicError::ControlCharacter { at: 2 })),
            ("\u{7f}", Err(TopicError::ControlCharacter { at: 0 })),
        ] {
            assert_eq!(check(name, 255), outcome, "{name:?}");
        }
    }
}
