//! Topics and their publications, as sent and as received, line by line.
//!
//! Nearly every line is a publication, and there are millions of them a second. So lines of the usual form
//! are recognized by their bytes. Everything else goes through serde.

use std::fmt::Write;

use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;

use super::{PAYLOAD_MIN, Plan};
use crate::base::printable::escaped;

/// How a publication begins on the wire.
const START: &str = r#"{"push":{"channel":""#;
/// The text between its topic and its data.
const MIDDLE: &[u8] = br#"","pub":{"data":"#;
/// The beginning of our data: the number in the topic, from 1, follows.
const NUMBER: &[u8] = br#"{"n":"#;
/// The text before the due time, in microseconds since the start.
const TIME: &[u8] = br#","t":"#;
/// Fills the data up to its size.
const FILL: &str = r#","x":""#;
const END: &str = r#""}"#;

/// The topics of one run. Their names are unique to the run, so that messages of an earlier run in RabbitMQ
/// are not mistaken for its own.
#[derive(Debug)]
pub(super) struct Topics {
    /// The prefix of every name. The topic's index follows.
    prefix: String,
    /// The beginning of a publication, up to the index.
    start: Vec<u8>,
    pub(super) count: usize,
}

/// One publication, as received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Publication {
    /// The topic's index.
    pub(super) topic: usize,
    /// Its number in the topic.
    pub(super) number: u64,
    /// When it was due.
    pub(super) due: u64,
}

/// A line that is not a publication.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// The application's ping.
    Ping,
    /// A command was carried out.
    Done {
        /// Whether this was `connect`, and pings are to be answered.
        wants_pongs: bool,
    },
    /// A publication of ours.
    Publication(Publication),
    /// Why the client cannot go on.
    Fault(LineFault),
}

/// A line after which a client cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum LineFault {
    /// The parser's words.
    #[error("the server does not speak the client protocol: {0}")]
    NoProtocol(String),
    #[error("refused: {} (error {code})", escaped(.text))]
    Refused { code: u32, text: String },
    #[error("a subscription was ended: {} ({code})", escaped(.text))]
    Unsubscribed { code: u32, text: String },
    #[error("sent away: {} ({code})", escaped(.text))]
    Disconnected { code: u32, text: String },
    #[error("the server pushed what nobody here asked for")]
    NotAskedFor,
}

impl Topics {
    /// New names for this run.
    pub(super) fn new(plan: &Plan) -> Self {
        let run = rand::random::<u32>();
        let namespace =
            if plan.namespace.is_empty() { String::new() } else { format!("{}:", plan.namespace) };
        Self::named(format!("{namespace}load.{run:08x}."), plan.topics)
    }

    fn named(prefix: String, count: usize) -> Self {
        let quoted = serde_json::Value::from(prefix.as_str()).to_string();
        let start = format!("{START}{}", &quoted[1..quoted.len() - 1]).into_bytes();
        Self { prefix, start, count }
    }

    /// A topic's name as a JSON string.
    pub(super) fn quoted(&self, index: usize) -> String {
        serde_json::Value::from(format!("{}{index}", self.prefix)).to_string()
    }

    /// Appends the data of a publication, `size` bytes of it.
    pub(super) fn write_data(out: &mut String, number: u64, due: u64, size: usize) {
        debug_assert!(size >= PAYLOAD_MIN, "checked with the plan");
        let begin = out.len();
        // Writing to a string cannot fail.
        let _ = write!(out, "{{\"n\":{number},\"t\":{due}{FILL}");
        let fill = (begin + size).saturating_sub(out.len() + END.len());
        out.extend(std::iter::repeat_n('x', fill));
        out.push_str(END);
    }

    /// Parses a line, without its line break.
    pub(super) fn parse(&self, line: &[u8]) -> Line {
        self.usual(line).map_or_else(|| self.unusual(line), Line::Publication)
    }

    /// The publication in a line of the form in which the engine writes them.
    fn usual(&self, line: &[u8]) -> Option<Publication> {
        let rest = line.strip_prefix(self.start.as_slice())?;
        let (topic, rest) = number(rest)?;
        let (number, due) = parse_data(rest.strip_prefix(MIDDLE)?)?;
        Some(Publication { topic: self.index(topic)?, number, due })
    }

    fn index(&self, number: u64) -> Option<usize> {
        usize::try_from(number).ok().filter(|&index| index < self.count)
    }

    fn unusual(&self, line: &[u8]) -> Line {
        if line == b"{}" {
            return Line::Ping;
        }
        match serde_json::from_slice(line) {
            Ok(message) => self.message(message),
            Err(error) => Line::Fault(LineFault::NoProtocol(error.to_string())),
        }
    }

    fn message(&self, message: Message<'_>) -> Line {
        if let Some(Notice { code, text }) = message.error {
            return Line::Fault(LineFault::Refused { code, text });
        }
        let Some(push) = message.push else {
            return Line::Done { wants_pongs: message.connect.is_some_and(|connect| connect.pong) };
        };
        if let Some(Notice { code, text }) = push.unsubscribe {
            return Line::Fault(LineFault::Unsubscribed { code, text });
        }
        if let Some(Notice { code, text }) = push.disconnect {
            return Line::Fault(LineFault::Disconnected { code, text });
        }
        let index = push.channel.strip_prefix(&self.prefix).and_then(|index| index.parse().ok());
        let data = push.publication.and_then(|publication| parse_data(publication.data.get().as_bytes()));
        match (index.and_then(|index| self.index(index)), data) {
            (Some(topic), Some((number, due))) => Line::Publication(Publication { topic, number, due }),
            _ => Line::Fault(LineFault::NotAskedFor),
        }
    }
}

/// The number and the time in our data.
fn parse_data(data: &[u8]) -> Option<(u64, u64)> {
    let (which, rest) = number(data.strip_prefix(NUMBER)?)?;
    let (due, _) = number(rest.strip_prefix(TIME)?)?;
    Some((which, due))
}

/// The number at the start of `bytes`, and the rest.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = bytes.split_at(digits);
    let value = digits
        .iter()
        .try_fold(0_u64, |value, digit| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')))?;
    (!digits.is_empty()).then_some((value, rest))
}

/// A message as serde sees it.
#[derive(Deserialize)]
struct Message<'a> {
    error: Option<Notice>,
    connect: Option<Connected>,
    #[serde(borrow)]
    push: Option<Push<'a>>,
}

/// A code with its text, which errors call `message` and pushes `reason`.
#[derive(Deserialize)]
struct Notice {
    code: u32,
    #[serde(default, alias = "message", alias = "reason")]
    text: String,
}

#[derive(Deserialize)]
struct Connected {
    #[serde(default)]
    pong: bool,
}

#[derive(Deserialize)]
struct Push<'a> {
    #[serde(default)]
    channel: String,
    #[serde(borrow, rename = "pub")]
    publication: Option<Data<'a>>,
    unsubscribe: Option<Notice>,
    disconnect: Option<Notice>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::push::Published;
    use crate::domain::codec::Codec;
    use crate::domain::publication::Publication as Value;

    fn topics() -> Topics {
        Topics::named("a\"b:load.1.".to_owned(), 20)
    }

    fn line_of(data: &str) -> Vec<u8> {
        let mut line = Vec::new();
        let publication = Value { data: data.as_bytes(), info: None, offset: 0 };
        Codec::Json
            .write_publication(&mut line, &Published { topic: "a\"b:load.1.17", publication, epoch: None });
        assert_eq!(line.pop(), Some(b'\n'));
        line
    }

    #[test]
    fn what_was_published_comes_back() {
        let expected = Publication { topic: 17, number: 1234, due: 5_000_000 };
        for size in [PAYLOAD_MIN, 1000] {
            let mut data = String::new();
            Topics::write_data(&mut data, 1234, 5_000_000, size);
            assert_eq!(data.len(), size);
            assert!(serde_json::from_str::<serde_json::Value>(&data).is_ok(), "{data}");
            let line = line_of(&data);
            assert_eq!(topics().usual(&line), Some(expected), "the short way");
        }
        let line =
            br#"{"push":{"pub":{"offset":1,"data":{"n":1234,"t":5000000}},"channel":"a\"b:load.1.17"}}"#;
        assert_eq!(topics().parse(line), Line::Publication(expected), "the long way");
    }

    #[test]
    fn the_largest_numbers_fit_into_the_smallest_data() {
        let mut data = String::new();
        Topics::write_data(&mut data, u64::MAX, u64::MAX, PAYLOAD_MIN);
        assert!(data.len() <= PAYLOAD_MIN, "{}", data.len());
    }

    #[test]
    fn other_lines_are_told_apart() {
        for (line, parsed) in [
            ("{}", Line::Ping),
            (r#"{"id":2,"subscribe":{}}"#, Line::Done { wants_pongs: false }),
            (r#"{"id":1,"connect":{"ping":25,"pong":true}}"#, Line::Done { wants_pongs: true }),
        ] {
            assert_eq!(topics().parse(line.as_bytes()), parsed, "{line}");
        }
        for (line, fault) in [
            (r#"{"id":2,"error":{"code":106,"message":"limit"}}"#, "refused: limit (error 106)"),
            (r#"{"push":{"channel":"a","unsubscribe":{"code":2500,"reason":"gap"}}}"#, "ended: gap (2500)"),
            (r#"{"push":{"disconnect":{"code":3001,"reason":"shutdown"}}}"#, "sent away: shutdown (3001)"),
            (r#"{"push":{"channel":"a\"b:load.1.20","pub":{"data":{"n":1,"t":1}}}}"#, "nobody here asked"),
            (r#"{"push":{"channel":"x","pub":{"data":1}}}"#, "nobody here asked"),
            ("<html>", "does not speak the client protocol"),
        ] {
            let Line::Fault(found) = topics().parse(line.as_bytes()) else { panic!("no fault: {line}") };
            assert!(found.to_string().contains(fault), "{found}");
        }
    }
}
