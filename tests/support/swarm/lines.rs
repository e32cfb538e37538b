//! What the server says, line by line.
//!
//! Nearly every line is a publication, and there are tens of millions of them, so those are recognised by
//! their shape; so are replies that give back what was missed, because they are long. Everything else, and
//! whatever has another shape, goes through serde.

use serde::Deserialize;
use serde_json::value::RawValue;

/// How a publication begins.
const START: &[u8] = br#"{"push":{"channel":""#;
/// What stands between its topic and its data.
const MIDDLE: &[u8] = br#"","pub":{"data":"#;
/// How it ends, where its data is an object that ends with a string.
const END: &[u8] = br#""}}}}"#;
/// How many bytes of [`END`] do not belong to the data.
const AFTER_DATA: usize = 3;
/// How numbered data begins.
const NUMBERED: &[u8] = br#"{"n":"#;

/// One line of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// The application's ping, `{}`.
    Ping,
    /// The answer to a command, with the error's code if it failed.
    Reply {
        /// The command's id.
        id: u32,
        /// `None`: it succeeded.
        error: Option<u32>,
    },
    /// A publication.
    Publication(Publication<'a>),
    /// The server ended a subscription.
    Unsubscribed {
        /// From which topic.
        topic: &'a str,
        /// Why.
        code: u32,
    },
}

/// A publication whose data is `{"n":<number>,...}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publication<'a> {
    /// What it was published to.
    pub topic: &'a str,
    /// Which of its topic it is; 0 for data without a number.
    pub number: u64,
    /// All its data.
    pub data: &'a [u8],
}

impl<'a> Line<'a> {
    /// Reads one line, without its line break. Panics on what is no message of the protocol.
    pub fn parse(line: &'a [u8]) -> Self {
        if line == b"{}" {
            return Self::Ping;
        }
        usual_publication(line)
            .map(Self::Publication)
            .or_else(|| recovery(line))
            .unwrap_or_else(|| unusual(line))
    }
}

/// The publication in `line`, if it has the shape that the engine gives to one with numbered data.
fn usual_publication(line: &[u8]) -> Option<Publication<'_>> {
    let rest = line.strip_prefix(START)?;
    let (topic, rest) = rest.split_at(memchr::memchr(b'"', rest)?);
    let data = rest.strip_prefix(MIDDLE)?;
    let number = digits(data.strip_prefix(NUMBERED)?);
    let data = data.ends_with(END).then(|| &data[..data.len() - AFTER_DATA])?;
    let topic = std::str::from_utf8(topic).ok().filter(|topic| !topic.contains('\\'))?;
    Some(Publication { topic, number, data })
}

/// The successful reply in `line`, if it ends with recovered publications. They are not looked at.
fn recovery(line: &[u8]) -> Option<Line<'_>> {
    let rest = line.strip_prefix(br#"{"id":"#)?;
    let id = u32::try_from(digits(rest)).ok()?;
    let rest = &rest[rest.iter().position(|byte| !byte.is_ascii_digit())?..];
    let is_recovery = rest.starts_with(br#","subscribe":{"#) && rest.ends_with(b"]}}");
    is_recovery.then_some(Line::Reply { id, error: None })
}

/// The number at the start of `bytes`, 0 if there is none.
fn digits(bytes: &[u8]) -> u64 {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, byte| number * 10 + u64::from(byte - b'0'))
}

/// A message as serde sees it.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(default)]
    id: u32,
    error: Option<Failure>,
    #[serde(borrow)]
    push: Option<Push<'a>>,
}

#[derive(Deserialize)]
struct Failure {
    code: u32,
}

#[derive(Deserialize)]
struct Push<'a> {
    channel: &'a str,
    #[serde(borrow, rename = "pub")]
    publication: Option<Data<'a>>,
    unsubscribe: Option<Failure>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Any other line.
fn unusual(line: &[u8]) -> Line<'_> {
    let text = String::from_utf8_lossy(line);
    let message: Message<'_> =
        serde_json::from_slice(line).unwrap_or_else(|error| panic!("the server sent `{text}`: {error}"));
    match message.push {
        None => Line::Reply { id: message.id, error: message.error.map(|error| error.code) },
        Some(Push { channel: topic, publication: Some(Data { data }), .. }) => {
            let data = data.get().as_bytes();
            let number = data.strip_prefix(NUMBERED).map_or(0, digits);
            Line::Publication(Publication { topic, number, data })
        }
        Some(Push { channel: topic, unsubscribe: Some(Failure { code }), .. }) => {
            Line::Unsubscribed { topic, code }
        }
        Some(_) => panic!("the server pushed `{text}`, which no client here asked for"),
    }
}
