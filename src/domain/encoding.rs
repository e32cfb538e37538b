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

    /// The encoding for a client.
    #[must_use]
    pub fn for_client(is_compressed: bool) -> Self {
        if is_compressed { Self::Deflated } else { Self::Json }
    }
}
