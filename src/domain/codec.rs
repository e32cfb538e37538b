//! The codecs of clients.

use std::fmt;

/// A codec converts between bytes and commands, replies and pushes: see `src/codec/`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Codec {
    /// JSON objects, separated by line breaks.
    #[default]
    Json,
}

impl Codec {
    /// All codecs.
    pub const ALL: [Self; 1] = [Self::Json];
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "JSON",
        })
    }
}
