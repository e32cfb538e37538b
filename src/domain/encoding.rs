//! In which form subscribers receive a batch of lines.

use super::codec::Codec;

/// The form of a topic's lines. `codec/encoding.rs` knows what separates batches, and how lines are cut out of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Plain lines of JSON.
    Json,
    /// The same, compressed (RFC 7692): for clients that negotiated it, in a namespace with `deflate`.
    Deflated,
}

impl Encoding {
    /// All encodings.
    pub const ALL: [Self; 2] = [Self::Json, Self::Deflated];

    /// The codec of those who get their lines so.
    #[must_use]
    pub const fn codec(self) -> Codec {
        match self {
            Self::Json | Self::Deflated => Codec::Json,
        }
    }

    /// Whether a message of it is compressed (RFC 7692), which its frame says.
    #[must_use]
    pub const fn is_compressed(self) -> bool {
        match self {
            Self::Json => false,
            Self::Deflated => true,
        }
    }

    /// The encoding for clients of this codec.
    #[must_use]
    pub const fn of(codec: Codec, is_compressed: bool) -> Self {
        match (codec, is_compressed) {
            (Codec::Json, false) => Self::Json,
            (Codec::Json, true) => Self::Deflated,
        }
    }
}
