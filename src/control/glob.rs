//! Patterns for topics: `*` matches any run of characters, `?` matches one, `[abc]`, `[a-z]` and `[!a-z]`
//! match one of a set, `\` takes the next character literally. As in Centrifugo's `channels`, no character of
//! a topic is special: `*` also matches boundaries.

use thiserror::Error;

/// What is wrong with a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum GlobError {
    #[error("it ends after `\\`")]
    EndsInEscape,
    #[error(
        "alternatives in braces are not supported: ask once for each (`\\{0}` stands for the brace itself)"
    )]
    Brace(char),
    #[error("a `[` is not closed")]
    UnclosedSet,
    #[error("a `[]` is empty")]
    EmptySet,
    #[error("the range `{0}-{1}` runs backwards")]
    BackwardsRange(char, char),
}

/// One step of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// Exactly this character.
    Exactly(char),
    /// Any one character.
    One,
    /// Any run of characters, possibly empty.
    Any,
    /// One character in these ranges, or, if `inside` is false, in none of them.
    Set { ranges: Vec<(char, char)>, inside: bool },
}

impl Step {
    fn takes(&self, character: char) -> bool {
        match self {
            Self::Exactly(wanted) => *wanted == character,
            Self::One => true,
            Self::Any => false,
            Self::Set { ranges, inside } => {
                ranges.iter().any(|&(low, high)| (low..=high).contains(&character)) == *inside
            }
        }
    }
}

/// A parsed pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob(Vec<Step>);

impl Glob {
    /// Parses a pattern. The error says what is wrong.
    pub(super) fn parse(pattern: &str) -> Result<Self, GlobError> {
        let mut steps = Vec::new();
        let mut characters = pattern.chars();
        while let Some(character) = characters.next() {
            steps.push(match character {
                '*' => Step::Any,
                '?' => Step::One,
                '[' => set(&mut characters)?,
                '\\' => Step::Exactly(characters.next().ok_or(GlobError::EndsInEscape)?),
                '{' | '}' => return Err(GlobError::Brace(character)),
                character => Step::Exactly(character),
            });
        }
        steps.dedup_by(|next, step| *next == Step::Any && *step == Step::Any);
        Ok(Self(steps))
    }

    /// Whether the pattern matches the whole of `text`. Only the last `*` is retried, so the time is bounded
    /// by the product of both lengths.
    pub(super) fn matches(&self, text: &str) -> bool {
        let mut rest = text.chars();
        let mut at = 0;
        let mut retry = None;
        loop {
            if self.0.get(at) == Some(&Step::Any) {
                at += 1;
                retry = Some((at, rest.clone()));
                continue;
            }
            match rest.next() {
                None if at == self.0.len() => return true,
                Some(character) if self.0.get(at).is_some_and(|step| step.takes(character)) => at += 1,
                _ => {
                    // The last `*` takes one character more; past the end of the text nothing can help.
                    let Some((after, longer)) = &mut retry else { return false };
                    if longer.next().is_none() {
                        return false;
                    }
                    (at, rest) = (*after, longer.clone());
                }
            }
        }
    }
}

/// The content between `[` and `]`.
fn set(characters: &mut std::str::Chars<'_>) -> Result<Step, GlobError> {
    let (inside, body) = match characters.as_str().strip_prefix('!') {
        Some(body) => (false, body),
        None => (true, characters.as_str()),
    };
    let (body, rest) = body.split_once(']').ok_or(GlobError::UnclosedSet)?;
    *characters = rest.chars();
    let mut ranges = Vec::new();
    let mut members = body.chars();
    while let Some(low) = members.next() {
        let mut after = members.clone();
        let high = match (after.next(), after.next()) {
            (Some('-'), Some(high)) => {
                members = after;
                high
            }
            _ => low,
        };
        if high < low {
            return Err(GlobError::BackwardsRange(low, high));
        }
        ranges.push((low, high));
    }
    if ranges.is_empty() { Err(GlobError::EmptySet) } else { Ok(Step::Set { ranges, inside }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_pick_topics() {
        let table = [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "prices.BTC", true),
            ("prices.*", "prices.", true),
            ("prices.*", "prices", false),
            ("*.BTC", "prices.BTC.BTC", true),
            ("*a*b*c", "xxaxxbxxabc", true),
            ("*a*b*c", "xxaxxbxxab", false),
            ("**", "x", true),
            ("order.?", "order.4", true),
            ("order.?", "order.42", false),
            ("order.?", "order.", false),
            ("chat:?", "chat:ü", true),
            ("order.[0-9]", "order.7", true),
            ("order.[0-9]", "order.x", false),
            ("order.[!0-9]", "order.x", true),
            ("[ab-]", "-", true),
            (r"\*", "*", true),
            (r"\*", "x", false),
            ("a", "ab", false),
        ];
        for (pattern, topic, expected) in table {
            assert_eq!(Glob::parse(pattern).unwrap().matches(topic), expected, "{pattern} {topic}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_said() {
        for pattern in ["{a,b}", "a}", "[a", "[]", "[z-a]", "\\"] {
            assert!(Glob::parse(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_made_to_be_slow_is_not() {
        let pattern = Glob::parse(&format!("{}b", "*a".repeat(100))).unwrap();
        assert!(!pattern.matches(&"a".repeat(255)));
    }
}
