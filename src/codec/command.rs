//! Commands: what clients ask for, as values. They borrow from the bytes that they were read from, where they can.

use std::borrow::Cow;
use std::fmt;

use thiserror::Error;

/// What a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// The client's number for it, to be repeated in the reply. 0 where no reply is due: in a pong and in
    /// a send.
    pub id: u32,
    /// What to do.
    pub method: Method<'a>,
}

/// What to do, and with what.
#[derive(Debug, PartialEq, Eq)]
pub enum Method<'a> {
    /// The answer to our ping: a command without id and without method.
    Pong,
    /// Who I am; the first command of every client.
    Connect(Connect<'a>),
    /// Send me a topic's publications.
    Subscribe(Subscribe<'a>),
    /// Send me no more of them.
    Unsubscribe {
        /// The topic, as it came: its name is not checked here.
        topic: Cow<'a, str>,
    },
    /// Send this to everybody.
    Publish {
        /// The topic, as it came: its name is not checked here.
        topic: Cow<'a, str>,
        /// JSON, well-formed but of any depth, without line breaks; none if the field was missing.
        data: Option<&'a [u8]>,
    },
    /// What was published in a topic.
    History {
        /// The topic, as it came: its name is not checked here.
        topic: Cow<'a, str>,
        /// How much of it.
        page: Page<'a>,
    },
    /// A message to the server, which wants no reply.
    Send,
    /// A method of the protocol that this engine does not offer.
    Unavailable,
    /// None of the protocol's methods.
    Unknown,
}

/// The fields of a connect that matter here. An SDK leaves out what is empty.
#[derive(Default, PartialEq, Eq)]
pub struct Connect<'a> {
    /// Proof of who the client is. Kept out of debug output, which may end in a log.
    pub token: Option<Cow<'a, str>>,
    /// What the client calls itself, such as `js`.
    pub name: Option<Cow<'a, str>>,
    /// The version of that.
    pub version: Option<Cow<'a, str>>,
}

impl fmt::Debug for Connect<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("name", &self.name)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// The fields of a subscribe that matter here.
#[derive(Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// The topic, as it came: its name is not checked here.
    pub topic: Cow<'a, str>,
    /// If the client asks for what it missed: since when.
    pub recover: Option<Since<'a>>,
    /// Whether it would like to be able to, the next time.
    pub recoverable: bool,
    /// Whether it wants to know where in the topic it stands.
    pub positioned: bool,
    /// Whether it wants an error (112) where it cannot have what it missed, and no subscription.
    pub rejects_unrecovered: bool,
    /// Whether it wants something that would change what it gets, and that this engine does not offer: a kind of
    /// subscription that is not a stream of publications (`type`), a filter by tags (`tf`), an unknown `delta`.
    /// `fossil`, which SDKs offer of themselves, is no wish: who is sent whole publications is served.
    pub unsupported: bool,
}

/// A place in a topic's history: an SDK leaves out what is empty, so that an offset of 0 may be none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Since<'a> {
    /// In which numbering; empty: whichever it is.
    pub epoch: Cow<'a, str>,
    /// The newest publication that the client has.
    pub offset: u64,
}

/// Which publications of a topic's history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page<'a> {
    /// At most so many; 0: none, only where the topic stands; below: all.
    pub limit: i32,
    /// Those after this place, or before it.
    pub since: Option<Since<'a>>,
    /// The newest first.
    pub reverse: bool,
}

/// Why bytes are no command. Their sender is sent away (3501), unless it can be answered.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// The codec cannot read it, or a field has another type than the protocol's.
    #[error("not a command: {0}")]
    Syntax(String),
    /// No id above 0, although the method has a reply.
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
    /// More than one method.
    #[error("a command with several methods: send one command for each")]
    SeveralMethods,
}
