//! One line of a client's message: a command.
//!
//! Everything is borrowed from the line where it can be. A publication's `data` is not looked into: it goes
//! on byte for byte as it came, so integers of any length and numbers beyond the range of a double pass.
//! Fields that are not known are skipped, whatever they hold, without recursion: depth of nesting costs no
//! stack.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
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

/// The bit of a subscribe's `flag` that asks for an error instead of a subscription that was not recovered.
const REJECT_UNRECOVERED: i64 = 2;

/// Why a line is no command. Its sender is sent away (3501), unless it can be answered.
#[derive(Debug, Error)]
pub enum Malformed {
    /// Not JSON, not an object, a field twice, or a field of another type than the protocol's.
    #[error("not a command: {0}")]
    Json(#[from] serde_json::Error),
    /// No id above 0, although the method has a reply.
    #[error("a command without id: give it one, from 1 to 4294967295")]
    NoId,
    /// A command whose texts are JSON by their grammar, but stand for no text: half a surrogate pair, a number
    /// beyond all bounds. It can be answered.
    #[error("a value that stands for nothing: {error}")]
    Unreadable {
        /// The command's id, above 0.
        id: u32,
        /// Whether it is a connect.
        is_connect: bool,
        /// What is wrong.
        error: serde_json::Error,
    },
    /// More than one method.
    #[error("a command with several methods: send one command for each, joined by a line break")]
    SeveralMethods,
}

/// The command in `line`, which is what stood between two line breaks.
///
/// # Errors
/// What is wrong with it; see [`Malformed`].
pub fn parse(line: &str) -> Result<Command<'_>, Malformed> {
    let Object(fields) =
        serde_json::from_str::<Object<Fields<'_>>>(line).map_err(|error| malformed(line, error))?;
    let id = fields.id;
    let method = fields.method()?;
    match (id, &method) {
        (0, None) => Ok(Command { id, method: Method::Pong }),
        (0, Some(Method::Send)) | (1.., _) => Ok(Command { id, method: method.unwrap_or(Method::Unknown) }),
        (0, Some(_)) => Err(Malformed::NoId),
    }
}

/// What is wrong with a line that could not be read. What only skips values does not ask what they stand for.
fn malformed(line: &str, error: serde_json::Error) -> Malformed {
    match serde_json::from_str::<Object<Outline>>(line) {
        Ok(Object(Outline { id: id @ 1.., connect })) if error.is_syntax() => {
            Malformed::Unreadable { id, is_connect: connect.is_some(), error }
        }
        _ => Malformed::Json(error),
    }
}

/// As much of a command as it takes to answer it.
#[derive(serde::Deserialize)]
struct Outline {
    #[serde(default)]
    id: u32,
    connect: Option<IgnoredAny>,
}

/// The members of a command. `null` counts as missing.
#[derive(serde::Deserialize)]
struct Fields<'a> {
    #[serde(default)]
    id: u32,
    #[serde(borrow)]
    connect: Option<Object<ConnectFields<'a>>>,
    #[serde(borrow)]
    subscribe: Option<Object<SubscribeFields<'a>>>,
    #[serde(borrow)]
    unsubscribe: Option<Object<UnsubscribeFields<'a>>>,
    #[serde(borrow)]
    publish: Option<Object<PublishFields<'a>>>,
    send: Option<IgnoredAny>,
    presence: Option<IgnoredAny>,
    presence_stats: Option<IgnoredAny>,
    #[serde(borrow)]
    history: Option<Object<HistoryFields<'a>>>,
    rpc: Option<IgnoredAny>,
    refresh: Option<IgnoredAny>,
    sub_refresh: Option<IgnoredAny>,
    ping: Option<IgnoredAny>,
}

impl<'a> Fields<'a> {
    /// The one method there is, if there is one.
    fn method(self) -> Result<Option<Method<'a>>, Malformed> {
        let unavailable =
            [self.presence, self.presence_stats, self.rpc, self.refresh, self.sub_refresh, self.ping];
        let mut methods = [
            self.connect.map(|Object(fields)| fields.method()),
            self.subscribe.map(|Object(fields)| fields.method()),
            self.unsubscribe.map(|Object(fields)| fields.method()),
            self.publish.map(|Object(fields)| fields.method()),
            self.history.map(|Object(fields)| fields.method()),
            self.send.map(|_| Method::Send),
        ]
        .into_iter()
        .flatten()
        .chain(unavailable.into_iter().flatten().map(|_| Method::Unavailable));
        let first = methods.next();
        if methods.next().is_some() { Err(Malformed::SeveralMethods) } else { Ok(first) }
    }
}

#[derive(serde::Deserialize)]
struct ConnectFields<'a> {
    #[serde(borrow)]
    token: Option<Text<'a>>,
    #[serde(borrow)]
    name: Option<Text<'a>>,
    #[serde(borrow)]
    version: Option<Text<'a>>,
}

impl<'a> ConnectFields<'a> {
    fn method(self) -> Method<'a> {
        let text = |field: Option<Text<'a>>| field.map(|Text(text)| text);
        Method::Connect(Connect {
            token: text(self.token),
            name: text(self.name),
            version: text(self.version),
        })
    }
}

#[derive(serde::Deserialize)]
struct SubscribeFields<'a> {
    #[serde(borrow, default)]
    channel: Cow<'a, str>,
    recover: Option<bool>,
    #[serde(borrow)]
    epoch: Option<Text<'a>>,
    offset: Option<u64>,
    recoverable: Option<bool>,
    positioned: Option<bool>,
    flag: Option<i64>,
    #[serde(rename = "type")]
    kind: Option<i32>,
    tf: Option<IgnoredAny>,
    #[serde(borrow)]
    delta: Option<Text<'a>>,
}

impl<'a> SubscribeFields<'a> {
    fn method(self) -> Method<'a> {
        let since = since(self.epoch, self.offset);
        let is_known = |Text(delta): &Text<'_>| matches!(&**delta, "" | "fossil");
        Method::Subscribe(Subscribe {
            topic: self.channel,
            recover: self.recover.unwrap_or_default().then_some(since),
            recoverable: self.recoverable.unwrap_or_default(),
            positioned: self.positioned.unwrap_or_default(),
            rejects_unrecovered: self.flag.is_some_and(|flag| flag & REJECT_UNRECOVERED != 0),
            unsupported: self.kind.is_some_and(|kind| kind != 0)
                || self.tf.is_some()
                || self.delta.is_some_and(|delta| !is_known(&delta)),
        })
    }
}

#[derive(serde::Deserialize)]
struct UnsubscribeFields<'a> {
    #[serde(borrow, default)]
    channel: Cow<'a, str>,
}

impl<'a> UnsubscribeFields<'a> {
    fn method(self) -> Method<'a> {
        Method::Unsubscribe { topic: self.channel }
    }
}

#[derive(serde::Deserialize)]
struct PublishFields<'a> {
    #[serde(borrow, default)]
    channel: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(rename = "type")]
    kind: Option<i32>,
}

impl<'a> PublishFields<'a> {
    fn method(self) -> Method<'a> {
        if self.kind.is_some_and(|kind| kind != 0) {
            // Into a map, which this engine does not have.
            return Method::Unavailable;
        }
        Method::Publish { topic: self.channel, data: self.data.map(|data| data.get().as_bytes()) }
    }
}

#[derive(serde::Deserialize)]
struct HistoryFields<'a> {
    #[serde(borrow, default)]
    channel: Cow<'a, str>,
    limit: Option<i32>,
    #[serde(borrow)]
    since: Option<Object<SinceFields<'a>>>,
    reverse: Option<bool>,
}

#[derive(serde::Deserialize)]
struct SinceFields<'a> {
    #[serde(borrow)]
    epoch: Option<Text<'a>>,
    offset: Option<u64>,
}

impl<'a> HistoryFields<'a> {
    fn method(self) -> Method<'a> {
        let page = Page {
            limit: self.limit.unwrap_or_default(),
            since: self.since.map(|Object(fields)| since(fields.epoch, fields.offset)),
            reverse: self.reverse.unwrap_or_default(),
        };
        Method::History { topic: self.channel, page }
    }
}

fn since<'a>(epoch: Option<Text<'a>>, offset: Option<u64>) -> Since<'a> {
    let epoch = epoch.map(|Text(epoch)| epoch).unwrap_or_default();
    Since { epoch, offset: offset.unwrap_or_default() }
}

/// A value that is there, `null` included: as a publication it is as good as any other.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Text that is borrowed where it has no escapes; serde borrows a [`Cow`] only where it is a field itself.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A JSON object and nothing else: serde's derived structures would take an array as well.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

#[cfg(test)]
mod tests;
