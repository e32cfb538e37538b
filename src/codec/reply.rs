//! Replies to commands, as values.

use std::num::NonZeroU32;

use crate::domain::asked::Told;
use crate::domain::reasons::ErrorCode;

/// The reply to one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// The client is connected.
    Connect(Connected<'a>),
    /// The client is subscribed.
    Subscribe(Subscribed<'a>),
    /// The client's new token counts.
    Refresh(Refreshed<'a>),
    /// The subscription's new token counts.
    RefreshSubscription {
        /// As that of [`Subscribed`].
        ttl: Option<NonZeroU32>,
    },
    /// The client is not subscribed any more, if it was.
    Unsubscribe,
    /// The backplane has confirmed the publication.
    Publish,
    /// The answer to a question about a topic.
    Told(&'a Told),
    /// The answer of the application's backend to an rpc.
    Rpc {
        /// JSON; possibly nothing.
        data: &'a [u8],
    },
    /// The command failed.
    Error(ErrorCode),
    /// The command failed, and the application's backend has said how.
    Failed(Failure<'a>),
}

/// An error of the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure<'a> {
    /// Its number.
    pub code: u32,
    /// Its text.
    pub message: &'a str,
    /// Whether the client is to try again.
    pub is_temporary: bool,
}

/// What a connect reply contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connected<'a> {
    /// The client's id.
    pub client: &'a str,
    /// The engine's version.
    pub version: &'a str,
    /// Seconds until the connection expires, unless the client sends another token. `None`: never.
    pub ttl: Option<NonZeroU32>,
    /// Seconds between the engine's pings; 0: there are none.
    pub ping: u32,
    /// Whether the client has to answer them.
    pub pong: bool,
    /// What the application's backend has for the client: JSON.
    pub data: Option<&'a str>,
    /// The subscriptions that the client's token has brought.
    pub subscriptions: EncodedSubscriptions<'a>,
}

/// What the reply to another token contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refreshed<'a> {
    /// The client's id.
    pub client: &'a str,
    /// The engine's version.
    pub version: &'a str,
    /// As that of [`Connected`].
    pub ttl: Option<NonZeroU32>,
}

/// What a subscribe reply contains. The default contains nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subscribed<'a> {
    /// The client's position: that of the newest publication before the subscription; with `recovered`, the
    /// one that the client sent. `None` if the client has not asked for it, or the topic has no history.
    pub position: Option<Position<'a>>,
    /// Seconds until the subscription expires, unless the client sends another token for it. `None`: never.
    pub ttl: Option<NonZeroU32>,
    /// What the token has for the client: JSON.
    pub data: Option<&'a str>,
    /// Whether the subscription is recoverable.
    pub recoverable: bool,
    /// Whether the client asked to recover.
    pub was_recovering: bool,
    /// What it missed, if it can recover.
    pub recovered: Option<EncodedPublications<'a>>,
}

/// A position in a topic's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position<'a> {
    /// The epoch.
    pub epoch: &'a str,
    /// The newest publication's offset; 0: there is none so far.
    pub offset: u64,
}

/// Publications as [`Codec::add_publication`](crate::domain::codec::Codec::add_publication) of the reply's codec has
/// written them: written once, however many replies they stand in. Possibly none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodedPublications<'a>(pub &'a [u8]);

/// Subscriptions of a connect reply as [`Codec::add_subscription`](crate::domain::codec::Codec::add_subscription) of its
/// codec has written them. Possibly none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodedSubscriptions<'a>(pub &'a [u8]);
