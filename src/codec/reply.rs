//! Replies: what clients are told because they asked, as values.

use crate::domain::reasons::ErrorCode;

/// The reply to one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// The client is connected.
    Connect(Connected<'a>),
    /// The client is subscribed.
    Subscribe(Subscribed<'a>),
    /// The client is subscribed no longer, if it was.
    Unsubscribe,
    /// The publication is safe with the backplane.
    Publish,
    /// Some of what was published in a topic.
    History(HistoryRead<'a>),
    /// The command failed.
    Error(ErrorCode),
}

/// What a client learns when it has connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connected<'a> {
    /// The client's id.
    pub client: &'a str,
    /// The engine's version.
    pub version: &'a str,
    /// Seconds between our pings; 0: none will come.
    pub ping: u32,
    /// Whether the client has to answer them.
    pub pong: bool,
}

/// What a client learns when it has subscribed. The default says no more than that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subscribed<'a> {
    /// The newest publication that the client need not wait for; with `recovered`, the one that it said it has. None if
    /// the client is not to know, or the topic has no history.
    pub position: Option<Position<'a>>,
    /// Whether the client may ask for what it missed, when it comes again.
    pub recoverable: bool,
    /// Whether it asked for that now.
    pub was_recovering: bool,
    /// What it missed, if it asked and can have it.
    pub recovered: Option<EncodedPublications<'a>>,
}

/// A place in a topic's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position<'a> {
    /// In which numbering.
    pub epoch: &'a str,
    /// Of the newest publication; 0: there is none so far.
    pub offset: u64,
}

/// The answer to a history command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryRead<'a> {
    /// Where the topic stands.
    pub position: Position<'a>,
    /// What was asked for.
    pub publications: EncodedPublications<'a>,
}

/// Publications as [`Codec::add_publication`](crate::domain::codec::Codec::add_publication) of the reply's codec has
/// written them: written once, however many replies they stand in. Possibly none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodedPublications<'a>(pub &'a [u8]);
