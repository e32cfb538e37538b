//! The reader of the JSON codec: from bytes to commands.
//!
//! Everything is borrowed from the line if possible. A publication's `data` is not parsed: it is passed on
//! byte for byte, so integers of any length and numbers beyond the range of a double are preserved. Unknown
//! fields are skipped without recursion, whatever they contain, so nesting costs no stack.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use memchr::memchr;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::checker::too_deep;
use crate::codec::command::{Command, Connect, Malformed, Method, Since, Subscribe, Token};
use crate::domain::asked::{Asked, HistoryRange};

/// The bit of a subscribe's `flag` that asks for an error instead of a subscription that was not recovered.
const REJECT_UNRECOVERED: i64 = 2;

/// Why a message without a reply is refused: the client is closed.
const TOO_DEEP: &str = "nested too deeply (limits.json_depth)";

/// The first command of a message, and the rest. Commands are separated by `\n`; one after the last command separates nothing.
#[must_use]
pub fn split(message: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr(b'\n', message) {
        Some(at) => (&message[..at], Some(&message[at + 1..]).filter(|rest| !rest.is_empty())),
        None => (message, None),
    }
}

/// Whether a message in bytes is JSON, and not Protobuf that happens to begin with a brace.
#[must_use]
pub fn is_json(message: &[u8]) -> bool {
    let Ok(text) = simdutf8::basic::from_utf8(message) else { return false };
    let inner = text.trim_start().strip_prefix('{').map(str::trim_start);
    inner.is_some_and(|inner| inner.starts_with(['"', '}']))
}

/// Reads the command in `line`, which is the text between two line breaks, if it has at most so many levels of nesting.
///
/// # Errors
/// What is wrong with it; see [`Malformed`].
pub fn shallow_command(line: &[u8], depth_max: usize) -> Result<Command<'_>, Malformed> {
    let command = command(line)?;
    let is_passed_on = command.id > 0 || matches!(command.method, Method::Send { .. });
    if !is_passed_on || !is_too_deep(&command, line, depth_max) {
        return Ok(command);
    }
    match command {
        Command { id: 0, .. } => Err(Malformed::Syntax(TOO_DEEP.to_owned())),
        Command { id, method } => {
            Err(Malformed::TooDeep { id, is_connect: matches!(method, Method::Connect(_)) })
        }
    }
}

/// Whether a command in `line` is nested more deeply than SDKs can read. Of a publish, an rpc and a send only the data
/// counts, because only the data is passed on.
fn is_too_deep(command: &Command<'_>, line: &[u8], depth_max: usize) -> bool {
    let part = match command.method {
        Method::Publish { data: Some(data), .. }
        | Method::Rpc { data: Some(data), .. }
        | Method::Send { data: Some(data) } => data,
        _ => line,
    };
    too_deep(part, depth_max)
}

/// Reads the command in `line`, of any depth.
///
/// # Errors
/// What is wrong with it; see [`Malformed`].
pub fn command(line: &[u8]) -> Result<Command<'_>, Malformed> {
    let line = simdutf8::basic::from_utf8(line).map_err(|error| Malformed::Syntax(error.to_string()))?;
    let Object(fields) =
        serde_json::from_str::<Object<Fields<'_>>>(line).map_err(|error| malformed(line, error))?;
    let id = fields.id;
    let method = fields.method()?;
    match (id, &method) {
        (0, None) => Ok(Command { id, method: Method::Pong }),
        (0, Some(Method::Send { .. })) | (1.., _) => {
            Ok(Command { id, method: method.unwrap_or(Method::Unknown) })
        }
        (0, Some(_)) => Err(Malformed::NoId),
    }
}

/// Why a line could not be read. Parsing that skips values does not check what they mean.
fn malformed(line: &str, error: serde_json::Error) -> Malformed {
    match serde_json::from_str::<Object<Outline>>(line) {
        Ok(Object(Outline { id: id @ 1.., connect })) if error.is_syntax() => {
            Malformed::Unreadable { id, is_connect: connect.is_some(), error: without_values(&error) }
        }
        _ => Malformed::Syntax(without_values(&error)),
    }
}

/// What an error says, without the value that has the wrong type: that may be a token, and this gets into the log.
fn without_values(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(", expected ") {
        Some((_, expected)) if error.is_data() => format!("a value of another type, expected {expected}"),
        None if error.is_data() => format!("a value that does not fit, at column {}", error.column()),
        _ => text,
    }
}

/// The part of a command that an answer needs.
#[derive(serde::Deserialize)]
struct Outline {
    #[serde(default)]
    id: u32,
    connect: Option<IgnoredAny>,
}

/// The fields of a command. `null` counts as missing.
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
    #[serde(borrow)]
    send: Option<Object<SendFields<'a>>>,
    presence: Option<IgnoredAny>,
    presence_stats: Option<IgnoredAny>,
    #[serde(borrow)]
    history: Option<Object<HistoryFields<'a>>>,
    #[serde(borrow)]
    rpc: Option<Object<RpcFields<'a>>>,
    #[serde(borrow)]
    refresh: Option<Object<RefreshFields<'a>>>,
    #[serde(borrow)]
    sub_refresh: Option<Object<SubRefreshFields<'a>>>,
    ping: Option<IgnoredAny>,
}

impl<'a> Fields<'a> {
    /// The command's method, if it has exactly one.
    fn method(self) -> Result<Option<Method<'a>>, Malformed> {
        let unavailable = [self.presence, self.presence_stats, self.ping];
        let mut methods = [
            self.connect.map(|Object(fields)| fields.method()),
            self.subscribe.map(|Object(fields)| fields.method()),
            self.unsubscribe.map(|Object(fields)| fields.method()),
            self.publish.map(|Object(fields)| fields.method()),
            self.history.map(|Object(fields)| fields.method()),
            self.refresh.map(|Object(fields)| fields.method()),
            self.sub_refresh.map(|Object(fields)| fields.method()),
            self.rpc.map(|Object(fields)| fields.method()),
            self.send.map(|Object(fields)| fields.method()),
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
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    headers: Option<Headers<'a>>,
    #[serde(borrow)]
    subs: Option<Resumed<'a>>,
}

impl<'a> ConnectFields<'a> {
    fn method(self) -> Method<'a> {
        let text = |field: Option<Text<'a>>| field.map(|Text(text)| text);
        Method::Connect(Connect {
            token: token(self.token),
            name: text(self.name),
            version: text(self.version),
            data: self.data.map(json),
            headers: self.headers.map(|Headers(headers)| headers).unwrap_or_default(),
            resumed: self.subs.map(|Resumed(resumed)| resumed).unwrap_or_default(),
        })
    }
}

/// What a browser's SDK would send as headers of its request. Their names are those of HTTP, in any case.
struct Headers<'a>(Vec<(Cow<'a, str>, Token<'a>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Headers<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeadersVisitor)
    }
}

struct HeadersVisitor;

impl<'de> Visitor<'de> for HeadersVisitor {
    type Value = Headers<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut headers = Vec::new();
        while let Some((Text(name), value)) = map.next_entry::<Text<'_>, &RawValue>()? {
            // Others have no meaning as headers.
            if value.get().starts_with('"') {
                let Text(value) = serde_json::from_str(value.get()).map_err(de::Error::custom)?;
                headers.push((name, Token(value)));
            }
        }
        Ok(Headers(headers))
    }
}

/// Where a client was in topics from which it wants to recover, in the order of their names. Of a name that comes twice, one
/// counts.
struct Resumed<'a>(Vec<(Cow<'a, str>, Since<'a>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Resumed<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ResumedVisitor(PhantomData))
    }
}

struct ResumedVisitor<'a>(PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for ResumedVisitor<'a> {
    type Value = Resumed<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut resumed = Vec::new();
        while let Some((Text(topic), fields)) =
            map.next_entry::<Text<'_>, Option<Object<ResumedFields<'_>>>>()?
        {
            if let Some(Object(ResumedFields { recover: Some(true), epoch, offset })) = fields {
                resumed.push((topic, since(epoch, offset)));
            }
        }
        resumed.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(Resumed(resumed))
    }
}

#[derive(serde::Deserialize)]
struct ResumedFields<'a> {
    recover: Option<bool>,
    #[serde(borrow)]
    epoch: Option<Text<'a>>,
    offset: Option<u64>,
}

#[derive(serde::Deserialize)]
struct SubscribeFields<'a> {
    #[serde(borrow, default)]
    channel: Cow<'a, str>,
    #[serde(borrow)]
    token: Option<Text<'a>>,
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
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

impl<'a> SubscribeFields<'a> {
    fn method(self) -> Method<'a> {
        let since = since(self.epoch, self.offset);
        let is_known = |Text(delta): &Text<'_>| matches!(&**delta, "" | "fossil");
        Method::Subscribe(Subscribe {
            topic: self.channel,
            token: token(self.token),
            recover: self.recover.unwrap_or_default().then_some(since),
            recoverable: self.recoverable.unwrap_or_default(),
            positioned: self.positioned.unwrap_or_default(),
            rejects_unrecovered: self.flag.is_some_and(|flag| flag & REJECT_UNRECOVERED != 0),
            data: self.data.map(json),
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
        Method::Publish { topic: self.channel, data: self.data.map(json) }
    }
}

#[derive(serde::Deserialize)]
struct RpcFields<'a> {
    #[serde(borrow)]
    method: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
}

impl<'a> RpcFields<'a> {
    fn method(self) -> Method<'a> {
        let method = self.method.map(|Text(method)| method).unwrap_or_default();
        Method::Rpc { method, data: self.data.map(json) }
    }
}

#[derive(serde::Deserialize)]
struct SendFields<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
}

impl<'a> SendFields<'a> {
    fn method(self) -> Method<'a> {
        Method::Send { data: self.data.map(json) }
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
        let range = HistoryRange {
            // Negative: as many as an answer may have.
            limit: u32::try_from(self.limit.unwrap_or_default()).ok(),
            since: self.since.map(|Object(fields)| (&since(fields.epoch, fields.offset)).into()),
            reverse: self.reverse.unwrap_or_default(),
        };
        Method::Ask { topic: self.channel, asked: Asked::History(range) }
    }
}

#[derive(serde::Deserialize)]
struct RefreshFields<'a> {
    #[serde(borrow)]
    token: Option<Text<'a>>,
}

impl<'a> RefreshFields<'a> {
    fn method(self) -> Method<'a> {
        Method::Refresh { token: token(self.token) }
    }
}

#[derive(serde::Deserialize)]
struct SubRefreshFields<'a> {
    #[serde(borrow, default)]
    channel: Cow<'a, str>,
    #[serde(borrow)]
    token: Option<Text<'a>>,
    #[serde(rename = "type")]
    kind: Option<i32>,
}

impl<'a> SubRefreshFields<'a> {
    fn method(self) -> Method<'a> {
        if self.kind.is_some_and(|kind| kind != 0) {
            // Of a shared poll, which this engine does not have.
            return Method::Unavailable;
        }
        Method::RefreshSubscription { topic: self.channel, token: token(self.token) }
    }
}

fn json(value: &RawValue) -> &[u8] {
    value.get().as_bytes()
}

fn token(field: Option<Text<'_>>) -> Token<'_> {
    field.map(|Text(token)| Token(token)).unwrap_or_default()
}

fn since<'a>(epoch: Option<Text<'a>>, offset: Option<u64>) -> Since<'a> {
    let epoch = epoch.map(|Text(epoch)| epoch).unwrap_or_default();
    Since { epoch, offset: offset.unwrap_or_default() }
}

/// A value that is present, including `null`, which is a valid publication.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Text that is borrowed if it has no escapes. serde borrows a [`Cow`] only if it is a field itself.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Accepts only a JSON object: serde's derived structures would accept an array as well.
pub(super) struct Object<T>(pub(super) T);

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
