//! What the engine asks an application's backend on behalf of a client, and what backends answer.
//!
//! A *call* is one request to a backend: an rpc or a message of a client, or a *hook*, by which the engine asks whether a
//! client may do something, and on what terms. Calls are made by shards, and the broker thread sends them, by AMQP or by
//! HTTP. Each call is sent at most once. The call itself is a part of a request to the broker thread
//! ([`mail::Call`](super::mail::Call)).

use std::fmt;
use std::sync::Arc;

use super::reasons::{Closing, ErrorCode};
use crate::auth::{ConnectionClaims, SubscriptionTerms};

/// The client of a call, as its backend is told of it.
#[derive(Clone, Default)]
pub struct Caller {
    /// The client's id.
    pub client: Box<str>,
    /// Its user; empty: an anonymous one, or a client that is not connected yet.
    pub user: Box<str>,
    /// What its token or its connect hook has said for backends alone: JSON without line breaks.
    pub meta: Option<Box<str>>,
    /// The headers that backends may be sent.
    pub headers: Option<Arc<[Header]>>,
    /// The client's transport, such as `websocket`.
    pub transport: &'static str,
}

impl Caller {
    pub(super) fn weight(&self) -> usize {
        let meta = self.meta.as_ref().map_or(0, |meta| meta.len());
        // Shared with the client, which may leave before its call does.
        let headers: usize = self
            .headers
            .iter()
            .flat_map(|all| &**all)
            .map(|header| header.name.len() + header.value.len())
            .sum();
        self.client.len() + self.user.len() + meta + headers
    }
}

/// A header of the HTTP request by which a client came, or one that the client has sent with its connect command instead.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name, in lower case.
    pub name: Box<str>,
    /// Its value: printable ASCII, and bytes beyond.
    pub value: Box<[u8]>,
    /// Whether it came with the connect command. Then any page's script may have chosen it.
    pub is_emulated: bool,
}

fn len(data: Option<&[u8]>) -> usize {
    data.map_or(0, <[u8]>::len)
}

impl fmt::Debug for Caller {
    /// Without what the application says about its users, and what browsers send.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("client", &self.client)
            .field("is_anonymous", &self.user.is_empty())
            .field("has_meta", &self.meta.is_some())
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Header {
    /// Its name alone: the value may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Header({:?})", self.name)
    }
}

/// The kinds of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CallKind {
    /// A client's request.
    Rpc,
    /// A client's message.
    Send,
    /// The hook for connects without a token.
    Connect,
    /// The hook for connections that expire.
    Refresh,
    /// The hook for subscribes without a token.
    Subscribe,
    /// The hook for subscriptions that expire.
    RefreshSubscription,
    /// The hook for publishes.
    Publish,
}

impl CallKind {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 7] = [
        Self::Rpc,
        Self::Send,
        Self::Connect,
        Self::Refresh,
        Self::Subscribe,
        Self::RefreshSubscription,
        Self::Publish,
    ];

    /// Whether it is a question about the client itself, so that nobody needs the answer when the client has left. What a
    /// client has said or published counts nevertheless.
    #[must_use]
    pub const fn is_about_client(self) -> bool {
        match self {
            Self::Connect | Self::Refresh | Self::Subscribe | Self::RefreshSubscription => true,
            Self::Rpc | Self::Send | Self::Publish => false,
        }
    }

    /// Its name in metrics, in routing keys and in logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Rpc => "rpc",
            Self::Send => "send",
            Self::Connect => "connect",
            Self::Refresh => "refresh",
            Self::Subscribe => "subscribe",
            Self::RefreshSubscription => "sub_refresh",
            Self::Publish => "publish",
        }
    }
}

/// What a backend has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendAnswer {
    /// Yes, and on what terms.
    Granted(Terms),
    /// The command has failed.
    Error(BackendError),
    /// The client is to be closed.
    Close(Closing),
}

/// What a backend grants. Each is the answer to the [`Ask`](super::mail::Ask) of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Terms {
    /// The client's request was carried out.
    Rpc {
        /// JSON without line breaks.
        data: Box<[u8]>,
    },
    /// The client's message was taken.
    Send,
    /// The client may connect. `None`: the backend does not know it, so that it is anonymous.
    Connect(Option<Box<ConnectTerms>>),
    /// `None`: the connection is to end.
    Refresh(Option<Box<ConnectionTerms>>),
    /// The client may subscribe.
    Subscribe(Box<SubscriptionTerms>),
    /// `None`: the subscription is to end.
    RefreshSubscription(Option<Box<SubscriptionTerms>>),
    /// The client may publish.
    Publish(PublishTerms),
}

impl Terms {
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Rpc { data } => data.len(),
            Self::Connect(Some(terms)) => {
                terms.claims.bytes() + terms.data.as_ref().map_or(0, |data| data.len())
            }
            Self::Refresh(Some(terms)) => terms.bytes(),
            Self::Subscribe(terms) | Self::RefreshSubscription(Some(terms)) => terms.bytes(),
            Self::Publish(terms) => len(terms.data.as_deref()),
            Self::Send | Self::Connect(None) | Self::Refresh(None) | Self::RefreshSubscription(None) => 0,
        }
    }
}

/// On what terms a client may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectTerms {
    /// Who it is, and what it may do, as a token would say it.
    pub claims: Arc<ConnectionClaims>,
    /// What the client is told: JSON without line breaks.
    pub data: Option<Box<str>>,
}

/// On what terms a connection may stay. It does not expire any more if the claims do not say when.
pub type ConnectionTerms = ConnectionClaims;

/// On what terms a client may publish.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishTerms {
    /// What is published instead: JSON without line breaks. `None`: what the client has sent.
    pub data: Option<Box<[u8]>>,
    /// Whether the publication is not kept in the topic's history.
    pub skips_history: bool,
}

/// An error that a backend has chosen for a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendError {
    /// Applications have 400 to 1999; codes below are the protocol's.
    pub code: u32,
    /// The text for the client.
    pub message: Box<str>,
    /// Whether the client should try again.
    pub is_temporary: bool,
}

/// What the end of a call says about its backend. A few failures in a row suspend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It has answered.
    Works,
    /// It cannot be reached, does not answer, or says that it fails.
    Fails,
    /// Nothing.
    None,
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallFault {
    /// The backend, or RabbitMQ, cannot be reached. The backend has not seen the call.
    #[error("it cannot be reached: {0}")]
    Unreachable(Box<str>),
    /// By AMQP: no queue is bound for the call.
    #[error("no queue is bound for it")]
    Unroutable,
    /// The time limit is over.
    #[error("it did not answer in time")]
    Late,
    /// The connection was lost when the call had been sent, or RabbitMQ dropped it.
    #[error("the connection was lost: {0}")]
    Lost(Box<str>),
    /// The answer has more than so many bytes.
    #[error("its answer has more than {0} bytes")]
    TooLarge(usize),
    /// By HTTP: a status that is not 200.
    #[error("it answered with status {0}")]
    Status(u16),
    /// The answer cannot be read.
    #[error("its answer cannot be used: {0}")]
    Unreadable(Box<str>),
    /// Too many calls wait, or they have too many bytes. The call was not sent.
    #[error("too many calls wait for it")]
    Busy,
    /// The backend has failed too often, and is left alone for a while. The call was not sent.
    #[error("it has failed too often, and is left alone for a while")]
    Suspended,
    /// The configuration has no such backend any more.
    #[error("the configuration does not name it any more")]
    Unknown,
    /// The client that it was about has left, or its subscribe was refused meanwhile. The call was not sent.
    #[error("nobody waits for it any more")]
    Left,
}

impl CallFault {
    /// All labels, in the order of their counters.
    pub const LABELS: [&str; 11] = [
        "unreachable",
        "unroutable",
        "late",
        "lost",
        "too_large",
        "status",
        "unreadable",
        "busy",
        "suspended",
        "unknown",
        "left",
    ];

    /// Which of [`Self::LABELS`] is its.
    #[must_use]
    pub const fn index(&self) -> usize {
        match self {
            Self::Unreachable(_) => 0,
            Self::Unroutable => 1,
            Self::Late => 2,
            Self::Lost(_) => 3,
            Self::TooLarge(_) => 4,
            Self::Status(_) => 5,
            Self::Unreadable(_) => 6,
            Self::Busy => 7,
            Self::Suspended => 8,
            Self::Unknown => 9,
            Self::Left => 10,
        }
    }

    /// The error for the client.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Unroutable => ErrorCode::NotAvailable,
            Self::Busy => ErrorCode::TooManyRequests,
            _ => ErrorCode::Internal,
        }
    }

    /// What it says about the backend.
    #[must_use]
    pub const fn sign(&self) -> Sign {
        match self {
            Self::Unreachable(_) | Self::Late | Self::Lost(_) | Self::Status(500..) => Sign::Fails,
            // What a client has sent may be the reason.
            Self::TooLarge(_) | Self::Status(_) | Self::Unreadable(_) => Sign::Works,
            Self::Unroutable | Self::Busy | Self::Suspended | Self::Unknown | Self::Left => Sign::None,
        }
    }

    /// Whether the backend has answered, even though it is of no use.
    #[must_use]
    pub const fn is_answer(&self) -> bool {
        matches!(self, Self::TooLarge(_) | Self::Status(_) | Self::Unreadable(_))
    }

    /// Whether no backend has seen the call.
    #[must_use]
    pub const fn is_unsent(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Unroutable | Self::Busy | Self::Suspended | Self::Unknown)
    }

    /// Whether the backend did not answer what it was asked: it is away, was not asked, says nothing in time, or says that it
    /// fails. An answer that cannot be used, and a call that this engine had no room for, are something else.
    #[must_use]
    pub const fn is_silence(&self) -> bool {
        matches!(self.sign(), Sign::Fails) || matches!(self, Self::Suspended | Self::Unroutable)
    }
}
