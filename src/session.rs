//! One client's protocol state: what the rules for its commands depend on. No socket, no clock, no bytes.

use crate::domain::codec::Codec;

/// The state of a client that may have connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// It has sent its connect command and got its reply.
    pub connected: bool,
    /// A ping is out and its pong is not in.
    pub awaits_pong: bool,
}

impl Session {
    /// What the client speaks.
    #[must_use]
    pub fn codec(&self) -> Codec {
        Codec::Json
    }
}
