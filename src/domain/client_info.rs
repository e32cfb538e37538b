//! What subscribers are told of a client: with its publications, to begin with.

/// A client as others see it (`ClientInfo` of the client protocol).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientInfo {
    /// The user's id. Empty: the client has none.
    pub user: Box<str>,
    /// The client's id.
    pub client: Box<str>,
    /// What its connection token says for others to see: JSON that was checked, and is never parsed into values. Empty:
    /// nothing.
    pub conn_info: Box<[u8]>,
    /// What its subscription token says for others to see, likewise.
    pub chan_info: Box<[u8]>,
}

impl ClientInfo {
    /// Bytes of memory that it takes, its parts included.
    #[must_use]
    pub fn weight(&self) -> usize {
        let Self { user, client, conn_info, chan_info } = self;
        size_of::<Self>() + user.len() + client.len() + conn_info.len() + chan_info.len()
    }
}
