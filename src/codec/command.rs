//! Commands of clients, as values. They borrow from the bytes that they were read from, if possible.

use std::borrow::Cow;
use std::fmt;

use thiserror::Error;

use crate::domain::asked::Asked;
use crate::domain::position;

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// The client's number for it, which the reply repeats. 0 if there is no reply: for a pong and a send.
    pub id: u32,
    /// What to do.
    pub method: Method<'a>,
}

/// The method of a command, with its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method<'a> {
    /// The answer to the engine's ping: a command without id and without method.
    Pong,
    /// Connect: the first command of every client.
    Connect(Connect<'a>),
    /// Subscribe to a topic.
    Subscribe(Subscribe<'a>),
    /// Unsubscribe from a topic.
    Unsubscribe {
        /// The topic as received: its name is not checked here.
        topic: Cow<'a, str>,
    },
    /// Publish to a topic.
    Publish {
        /// The topic as received: its name is not checked here.
        topic: Cow<'a, str>,
        /// JSON, well-formed but of any depth, without line breaks. `None` if the field was missing.
        data: Option<&'a [u8]>,
    },
    /// A question about a topic, which the broker thread answers.
    Ask {
        /// The topic as received: its name is not checked here.
        topic: Cow<'a, str>,
        /// What is asked. It borrows nothing, because the broker thread receives it as it is.
        asked: Asked,
    },
    /// Another token for the connection, before the last one expires.
    Refresh {
        /// The token; empty if the field was missing.
        token: Token<'a>,
    },
    /// Another token for a subscription, before the last one expires.
    RefreshSubscription {
        /// The topic as received: its name is not checked here.
        topic: Cow<'a, str>,
        /// The token; empty if the field was missing.
        token: Token<'a>,
    },
    /// A request to the application's backend.
    Rpc {
        /// The application's name for what it asks; possibly empty.
        method: Cow<'a, str>,
        /// As that of a publish.
        data: Option<&'a [u8]>,
    },
    /// A message to the application's backend, without a reply.
    Send {
        /// As that of a publish.
        data: Option<&'a [u8]>,
    },
    /// A method of the protocol that this engine does not offer.
    Unavailable,
    /// None of the protocol's methods.
    Unknown,
}

/// A JWT, or whatever a client sends in its place. Debug output, which may end up in a log, does not show it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Token<'a>(pub Cow<'a, str>);

impl Token<'_> {
    /// Whether there is none: SDKs send an empty text as well.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({} bytes)", self.0.len())
    }
}

/// The fields of a connect that the engine uses. The SDKs omit empty ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The client's token; empty if it has none.
    pub token: Token<'a>,
    /// The name of the client's library, such as `js`.
    pub name: Option<Cow<'a, str>>,
    /// Its version.
    pub version: Option<Cow<'a, str>>,
    /// What the application's backend is to know: JSON, well-formed, without line breaks.
    pub data: Option<&'a [u8]>,
    /// What a browser's SDK would say in headers of its request, if it could: names and values. One may hold a token.
    pub headers: Vec<(Cow<'a, str>, Token<'a>)>,
    /// Where the client was in topics to which its token subscribes it, if it wants to continue there. In the order of
    /// the topics' names, as received: they are not checked here.
    pub resumed: Vec<(Cow<'a, str>, Since<'a>)>,
}

impl Connect<'_> {
    /// The value of the first header of this name, which is in lower case. Empty if there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(one, _)| one.eq_ignore_ascii_case(name));
        found.map_or("", |(_, Token(value))| value)
    }

    /// Where the client was in a topic.
    #[must_use]
    pub fn since(&self, topic: &str) -> Option<&Since<'_>> {
        let found = self.resumed.binary_search_by(|(name, _)| (**name).cmp(topic));
        found.ok().map(|index| &self.resumed[index].1)
    }
}

/// The fields of a subscribe that the engine uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// The topic as received: its name is not checked here.
    pub topic: Cow<'a, str>,
    /// The token for this subscription; empty if there is none.
    pub token: Token<'a>,
    /// If the client asks for what it missed: its position.
    pub recover: Option<Since<'a>>,
    /// Whether the client asks for a recoverable subscription.
    pub recoverable: bool,
    /// Whether the client asks for its position in the topic.
    pub positioned: bool,
    /// Whether the client wants an error (112) instead of a subscription if it cannot recover.
    pub rejects_unrecovered: bool,
    /// What the application's backend is to know: JSON, well-formed, without line breaks.
    pub data: Option<&'a [u8]>,
    /// Whether the client asks for something that would change what it receives, and that this engine does
    /// not offer: a kind of subscription that is not a stream of publications (`type`), a filter by tags
    /// (`tf`), an unknown `delta`. `fossil` does not count: SDKs offer it by default, and accept whole
    /// publications.
    pub unsupported: bool,
}

/// A position in a topic's history. The SDKs omit empty fields, so a missing offset is 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Since<'a> {
    /// The epoch; empty: any.
    pub epoch: Cow<'a, str>,
    /// The newest publication that the client has.
    pub offset: u64,
}

impl From<&Since<'_>> for position::Since {
    fn from(Since { epoch, offset }: &Since<'_>) -> Self {
        Self { epoch: epoch.as_ref().into(), offset: *offset }
    }
}

/// Why bytes are not a command. The client is closed (3501), unless the command can be answered.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// The codec cannot read it, or a field has another type than the protocol's.
    #[error("not a command: {0}")]
    Syntax(String),
    /// The id is missing or 0, although the method has a reply.
    #[error("a command without id: give it one, from 1 to 4294967295")]
    NoId,
    /// A command that can be answered, although a value in it cannot be read: a text with half a surrogate pair, a number
    /// beyond all bounds.
    #[error("a value that cannot be read: {error}")]
    Unreadable {
        /// The command's id, above 0.
        id: u32,
        /// Whether it is a connect.
        is_connect: bool,
        /// What is wrong.
        error: String,
    },
    /// A command that can be answered, although it is nested more deeply than clients can read.
    #[error("a command that is nested too deeply (limits.json_depth)")]
    TooDeep {
        /// The command's id, above 0.
        id: u32,
        /// Whether it is a connect.
        is_connect: bool,
    },
    /// More than one method.
    #[error("a command with several methods: send one command for each")]
    SeveralMethods,
}
