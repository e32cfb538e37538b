//! The places where values were set.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// The place of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueOrigin {
    /// A line of the configuration file.
    File {
        /// Which file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// A variable of the environment, by name.
    Environment(String),
    /// A flag of the command line, such as `--amqp`.
    Flag(&'static str),
}

impl fmt::Display for ValueOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}, line {line}", path.display()),
            Self::Environment(name) => write!(f, "environment, {name}"),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// The origins of the keys that `sentence` names, in the order in which it names them. A key at its default has none.
pub(super) fn named_in(sentence: &str, origins: &BTreeMap<String, ValueOrigin>) -> Vec<ValueOrigin> {
    let mut named: Vec<(usize, &ValueOrigin)> =
        origins.iter().filter_map(|(key, origin)| Some((position(key, sentence)?, origin))).collect();
    named.sort_by_key(|(position, _)| *position);
    let mut origins: Vec<ValueOrigin> = Vec::new();
    for (_, origin) in named {
        if !origins.contains(origin) {
            origins.push(origin.clone());
        }
    }
    origins
}

/// Where `key` stands in `sentence`, and not as a part of a longer key.
fn position(key: &str, sentence: &str) -> Option<usize> {
    let continues = |text: &str| text.starts_with(|next: char| next.is_alphanumeric() || next == '_');
    sentence.match_indices(key).map(|(start, _)| start).find(|&start| {
        let after = &sentence[start + key.len()..];
        let begins =
            !sentence[..start].ends_with(|before: char| before.is_alphanumeric() || "_.-".contains(before));
        begins && !continues(after) && !after.strip_prefix('.').is_some_and(continues)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_keys_are_named() {
        for (sentence, at) in [
            ("limits.log_bytes is 3", Some(0)),
            ("less than limits.log_bytes.", Some(10)),
            ("not limits.log_bytes_max, but limits.log_bytes (3)", Some(30)),
            ("namespaces.limits.log_bytes is 3", None),
            ("limits.log_bytes.x is 3", None),
            ("limits.logs_bytes is 3", None),
        ] {
            assert_eq!(position("limits.log_bytes", sentence), at, "{sentence}");
        }
    }
}
