//! The codecs of clients.

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
