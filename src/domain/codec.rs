//! The codecs that clients speak.

/// A codec translates between bytes and commands, replies and pushes. `src/codec` says how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Codec {
    /// JSON objects, separated by line breaks.
    #[default]
    Json,
}

impl Codec {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::Json];
}
