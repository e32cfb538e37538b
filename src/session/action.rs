//! What the shard is to do about a command.

use std::borrow::Cow;
use std::num::NonZeroU32;

use thiserror::Error;

use crate::auth::TokenError;
use crate::codec::command::{Connect, Malformed, Subscribe};
use crate::domain::asked::Asked;
use crate::domain::codec::Codec;
use crate::domain::mail::TopicSlot;
use crate::domain::reasons::{CloseReason, ErrorCode};
use crate::session::options::SubscribeOptions;

/// What the shard is to do. `id` is the command's, which its reply repeats.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// The client has answered a ping in time. There is no reply.
    Pong,
    /// Answer with an error.
    Refuse {
        /// The command.
        id: u32,
        /// Why.
        error: ErrorCode,
    },
    /// Answer a connect with an error. No other command of the client is carried out.
    RefuseConnect {
        /// The command.
        id: u32,
        /// Why.
        error: ErrorCode,
    },
    /// Answer a connect: the client is connected.
    Connect {
        /// The command.
        id: u32,
        /// What it is told.
        accepted: Accepted,
        /// What the application's backend has for it: JSON without line breaks.
        data: Option<Box<str>>,
    },
    /// Subscribe the client to the topics that its token or its backend brings. Answer the connect when all of that is done, and send
    /// no publication before.
    ConnectAndSubscribe {
        /// The command.
        id: u32,
        /// At least one.
        subscriptions: Vec<ServerSide>,
    },
    /// Answer that the connection's new token counts.
    Refresh {
        /// The command.
        id: u32,
        /// In how many seconds the connection expires, if it does.
        ttl: Option<NonZeroU32>,
    },
    /// Answer that the subscription's new token counts.
    RefreshSubscription {
        /// The command.
        id: u32,
        /// In how many seconds the subscription expires, if it does.
        ttl: Option<NonZeroU32>,
    },
    /// Subscribe the client to a topic, and answer then.
    Subscribe {
        /// The command.
        id: u32,
        /// A topic to which the client is not subscribed.
        topic: Cow<'a, str>,
        /// How.
        options: SubscribeOptions,
    },
    /// End the subscription, if there is one, and answer.
    Unsubscribe {
        /// The command.
        id: u32,
        /// The topic, if the client is subscribed to it.
        topic: Option<TopicSlot>,
    },
    /// Ask the application's backend.
    Call {
        /// The command; 0 for a message without a reply.
        id: u32,
        /// For what.
        asking: Asking<'a>,
    },
    /// Ask the broker to publish.
    Publish {
        /// The command.
        id: u32,
        /// The topic.
        topic: Cow<'a, str>,
        /// JSON.
        data: &'a [u8],
    },
    /// Ask the broker, whose answer may be large.
    Ask {
        /// The command.
        id: u32,
        /// The topic that it is about.
        topic: Cow<'a, str>,
        /// For what.
        asked: Asked,
    },
    /// Keep the command and those behind it, and handle it again later.
    PutOff(Until),
    /// Drop the command without a reply: the client's connect was refused.
    Ignore,
    /// Close the client.
    Close(ProtocolError),
}

/// What the application's backend is asked for a client.
#[derive(Debug, PartialEq, Eq)]
pub enum Asking<'a> {
    /// The client's request.
    Rpc {
        /// The method.
        method: Cow<'a, str>,
        /// JSON; possibly nothing.
        data: &'a [u8],
    },
    /// To take the client's message.
    Send {
        /// JSON; possibly nothing.
        data: &'a [u8],
    },
    /// Who it is, and whether it may connect.
    Connect(Connect<'a>),
    /// Whether it may subscribe.
    Subscribe(Subscribe<'a>),
    /// Whether it may publish. If so, the broker thread publishes.
    Publish {
        /// To which topic.
        topic: Cow<'a, str>,
        /// JSON.
        data: &'a [u8],
    },
}

/// What a connected client is told about its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Seconds between the engine's pings, or 0 without pings.
    pub ping: u32,
    /// Whether the client has to answer them.
    pub pong: bool,
    /// In how many seconds the connection expires, if it does.
    pub ttl: Option<NonZeroU32>,
}

/// A subscription that the server makes for the client.
#[derive(Debug, PartialEq, Eq)]
pub struct ServerSide {
    /// A topic to which the client is not subscribed.
    pub topic: Box<str>,
    /// How.
    pub options: SubscribeOptions,
}

/// What a command waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The answers to earlier commands: this one needs their outcome, or the room that they take.
    Answered,
    /// Room in the queue of requests to the broker.
    RequestHasRoom,
}

/// What a client did wrong, for which it is closed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProtocolError {
    /// It sent bytes that are not of its codec.
    #[error("bytes that are no {0}")]
    OtherCodec(Codec),
    /// It sent something that is not a command.
    #[error(transparent)]
    Malformed(Malformed),
    /// It connected twice.
    #[error("a second connect")]
    SecondConnect,
    /// Its first command was another one.
    #[error("a command before connect")]
    NotConnected,
    /// It answered a ping that it was not sent.
    #[error("a pong without a ping")]
    UnexpectedPong,
    /// It has no token, and clients without one may not connect.
    #[error("a connect without a token (tokens.anonymous)")]
    NoToken,
    /// Its token is not valid.
    #[error("a token that is not accepted: {0}")]
    InvalidToken(TokenError),
    /// The token that it sent in the place of its first one has expired.
    #[error("an expired token in the place of the one before")]
    ExpiredToken,
    /// The token that it sent in the place of its first one is another user's.
    #[error("the token of another user in the place of the one before")]
    OtherUser,
    /// The token of a subscription is another user's or another client's, or for another topic.
    #[error("the token of a subscription for another user, client or topic")]
    OtherSubscription,
    /// It wanted to replace its token by none.
    #[error("a refresh without a token")]
    RefreshWithoutToken,
    /// It sent a message to the server, which takes none.
    #[error("a `send` command, which no backend takes (rpc.send)")]
    Send,
}

impl ProtocolError {
    /// The reason with which the client is closed.
    #[must_use]
    pub fn reason(&self) -> CloseReason {
        match self {
            Self::OtherCodec(_) => CloseReason::InappropriateProtocol,
            Self::Send => CloseReason::NotAvailable,
            Self::InvalidToken(_) | Self::OtherUser | Self::OtherSubscription => CloseReason::InvalidToken,
            Self::ExpiredToken => CloseReason::Expired,
            Self::Malformed(_)
            | Self::SecondConnect
            | Self::NotConnected
            | Self::UnexpectedPong
            | Self::NoToken
            | Self::RefreshWithoutToken => CloseReason::BadRequest,
        }
    }
}
