//! The client's side of the protocol, without a socket: frames in; lines, messages and commands out.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use fanfare::base::printable::escaped;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::End;

/// The id of the connect command. Those of subscribe commands follow.
const CONNECT_ID: u32 = 1;
/// The protocol's code for a command that cannot be carried out.
const BAD_REQUEST: u32 = 107;
/// The protocol's code for a topic that cannot exist.
const UNKNOWN_CHANNEL: u32 = 102;
/// How much later than promised a ping may come, as in the SDKs.
const PING_GRACE: Duration = Duration::from_secs(10);

/// The result of one frame.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// Messages for the person who watches.
    pub(super) notices: Vec<String>,
    /// Lines to print after that.
    pub(super) output: String,
    /// The answer to send; empty: none.
    pub(super) commands: String,
    /// How long a silence means that the connection is lost, if the engine said so.
    pub(super) silence: Option<Duration>,
}

/// How publications are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// The topic, a tab, the data.
    Plain,
    /// An object.
    Json,
}

/// The subscriptions, over all connections.
#[derive(Debug)]
pub(super) struct Feed {
    format: Format,
    topics: Vec<Topic>,
    /// Subscribe commands that wait for their replies, by id.
    pending: BTreeMap<u32, Pending>,
    next_id: u32,
    /// When the connection was lost, while there is no new one.
    left: Option<Instant>,
    connected: bool,
    answers_pings: bool,
}

/// A topic that is, or will be, subscribed.
#[derive(Debug)]
struct Topic {
    name: String,
    /// Whether it was subscribed before.
    is_known: bool,
    /// From which position to recover, if its namespace keeps a history.
    position: Option<Position>,
}

#[derive(Debug)]
struct Position {
    epoch: String,
    offset: u64,
}

#[derive(Debug)]
struct Pending {
    topic: String,
    /// How long there was no connection before this one.
    away: Option<Duration>,
}

#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(default)]
    id: u32,
    error: Option<ReplyError>,
    connect: Option<Connected>,
    #[serde(borrow)]
    subscribe: Option<Subscribed<'a>>,
    #[serde(borrow)]
    push: Option<Push<'a>>,
}

#[derive(Deserialize)]
struct ReplyError {
    code: u32,
    #[serde(default)]
    message: String,
    #[serde(default)]
    temporary: bool,
}

#[derive(Deserialize)]
struct Connected {
    #[serde(default)]
    ping: u32,
    #[serde(default)]
    pong: bool,
}

#[derive(Deserialize)]
struct Subscribed<'a> {
    #[serde(default)]
    recoverable: bool,
    #[serde(default)]
    epoch: String,
    #[serde(default)]
    offset: u64,
    #[serde(default)]
    recovered: bool,
    #[serde(default, borrow)]
    publications: Vec<Publication<'a>>,
}

#[derive(Deserialize)]
struct Push<'a> {
    #[serde(default, borrow)]
    channel: Cow<'a, str>,
    #[serde(borrow, rename = "pub")]
    publication: Option<Publication<'a>>,
    unsubscribe: Option<Notice>,
    disconnect: Option<Notice>,
}

#[derive(Deserialize)]
struct Publication<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
    /// 0 if there is no history.
    #[serde(default)]
    offset: u64,
}

#[derive(Deserialize)]
struct Notice {
    code: u32,
    #[serde(default)]
    reason: String,
}

impl Feed {
    /// A feed of `topics`, each once.
    pub(super) fn new(topics: &[String], format: Format) -> Self {
        let mut wanted: Vec<Topic> = Vec::new();
        for name in topics {
            if wanted.iter().all(|topic| topic.name != *name) {
                wanted.push(Topic { name: name.clone(), is_known: false, position: None });
            }
        }
        Self {
            format,
            topics: wanted,
            pending: BTreeMap::new(),
            next_id: CONNECT_ID,
            left: None,
            connected: false,
            answers_pings: false,
        }
    }

    /// The first frame of a connection: connect, and subscribe to all topics.
    pub(super) fn opening(&mut self, now: Instant) -> String {
        self.next_id = CONNECT_ID + 1;
        self.pending.clear();
        let away = self.left.map(|left| now.duration_since(left));
        let mut commands = json!({"id": CONNECT_ID, "connect": {"name": "fanfare"}}).to_string();
        for index in 0..self.topics.len() {
            commands.push('\n');
            commands.push_str(&self.subscribe(index, away));
        }
        commands
    }

    /// Records that the connection is lost. Returns whether it had been accepted.
    pub(super) fn leave(&mut self, now: Instant) -> bool {
        self.answers_pings = false;
        self.left.get_or_insert(now);
        std::mem::take(&mut self.connected)
    }

    /// Processes one frame: any number of replies, one per line.
    pub(super) fn take(&mut self, frame: &str) -> Result<Step, End> {
        let mut step = Step::default();
        for line in frame.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if line == "{}" {
                if self.answers_pings {
                    command(&mut step, "{}");
                }
                continue;
            }
            let reply = serde_json::from_str(line).map_err(|error| {
                End::Final(format!("the peer does not speak the client protocol: {error}"))
            })?;
            self.reply(reply, &mut step)?;
        }
        Ok(step)
    }

    /// The command that subscribes to a topic, from the last position if that is known.
    fn subscribe(&mut self, index: usize, away: Option<Duration>) -> String {
        let id = self.next_id;
        self.next_id += 1;
        let Topic { name, position, .. } = &self.topics[index];
        let mut request = json!({"channel": name, "recoverable": true});
        if let Some(Position { epoch, offset }) = position {
            request["recover"] = json!(true);
            request["epoch"] = json!(epoch);
            request["offset"] = json!(offset);
        }
        self.pending.insert(id, Pending { topic: name.clone(), away });
        json!({"id": id, "subscribe": request}).to_string()
    }

    fn reply(&mut self, reply: Reply<'_>, step: &mut Step) -> Result<(), End> {
        if let Some(push) = reply.push {
            return self.push(push, step);
        }
        let pending = self.pending.remove(&reply.id);
        match (reply.error, reply.connect, pending) {
            (Some(error), _, Some(pending)) => self.refused(&error, &pending.topic, step),
            (Some(error), _, None) => Err(error.end("the engine does not let us in", "")),
            (None, Some(connected), _) => {
                self.connected = true;
                self.left = None;
                self.answers_pings = connected.pong;
                step.silence =
                    (connected.ping > 0).then(|| Duration::from_secs(connected.ping.into()) + PING_GRACE);
                Ok(())
            }
            (None, None, Some(pending)) => {
                if let Some(subscribed) = reply.subscribe {
                    self.subscribed(subscribed, &pending, step);
                }
                Ok(())
            }
            (None, None, None) => Ok(()),
        }
    }

    /// Records the position of a topic, and returns what was missed.
    fn subscribed(&mut self, reply: Subscribed<'_>, pending: &Pending, step: &mut Step) {
        let Some(topic) = self.topics.iter_mut().find(|topic| topic.name == pending.topic) else { return };
        step.notices.push(notice(topic, &reply, pending.away));
        topic.is_known = true;
        let Subscribed { recoverable, epoch, offset, publications, .. } = reply;
        topic.position = recoverable.then_some(Position { epoch, offset });
        for publication in publications {
            topic.take(&publication, self.format, step);
        }
    }

    fn refused(&mut self, error: &ReplyError, topic: &str, step: &mut Step) -> Result<(), End> {
        let text = format!("no subscription to {}", escaped(topic));
        let hint = match error.code {
            UNKNOWN_CHANNEL => "; its namespace is not configured in the engine ([namespaces.NAME], or \
                                server.unknown_namespace)"
                .to_owned(),
            BAD_REQUEST => format!(
                "; the name has {} bytes, and engines take 1 to 255 (limits.topic_bytes) without control characters, and \
                 what the namespace allows (topic_pattern)",
                topic.len()
            ),
            _ => String::new(),
        };
        match error.end(&text, &hint) {
            End::Final(text) => self.drop_topic(topic, text, step),
            retry => Err(retry),
        }
    }

    fn push(&mut self, push: Push<'_>, step: &mut Step) -> Result<(), End> {
        let Push { channel, publication, unsubscribe, disconnect } = push;
        let index = self.topics.iter().position(|topic| *topic.name == *channel);
        if let Some((publication, index)) = publication.zip(index) {
            self.topics[index].take(&publication, self.format, step);
        }
        if let Some(Notice { code, reason }) = disconnect {
            let text = format!("disconnected by the engine: {} ({code})", escaped(&reason));
            return Err(end(code, &text));
        }
        match (unsubscribe, index) {
            // From 2500 on the engine asks to subscribe again.
            (Some(Notice { code: 2500.., reason }), Some(index)) => {
                step.notices.push(format!(
                    "fanfare: {}: {}; subscribing again",
                    escaped(&channel),
                    escaped(&reason)
                ));
                let again = self.subscribe(index, None);
                command(step, &again);
                Ok(())
            }
            (Some(Notice { code, reason }), _) => {
                let text = format!(
                    "the engine ended the subscription to {}: {} ({code})",
                    escaped(&channel),
                    escaped(&reason)
                );
                self.drop_topic(&channel, text, step)
            }
            (None, _) => Ok(()),
        }
    }

    /// Continues without a topic, or ends if it was the last.
    fn drop_topic(&mut self, topic: &str, why: String, step: &mut Step) -> Result<(), End> {
        self.topics.retain(|wanted| wanted.name != topic);
        if self.topics.is_empty() {
            return Err(End::Final(why));
        }
        step.notices.push(format!("fanfare: {why}"));
        Ok(())
    }
}

impl Topic {
    /// Prints a publication, and advances the position.
    fn take(&mut self, publication: &Publication<'_>, format: Format, step: &mut Step) {
        let (name, data) = (&self.name, publication.data);
        // Writing to a string cannot fail.
        let _ = match format {
            Format::Plain => writeln!(step.output, "{name}\t{}", data.get()),
            Format::Json => writeln!(step.output, "{}", as_object(name, publication)),
        };
        if let Some(position) = self.position.as_mut().filter(|_| publication.offset > 0) {
            position.offset = publication.offset;
        }
    }
}

/// A publication as one line. Its data is as it was sent.
fn as_object(topic: &str, publication: &Publication<'_>) -> String {
    let topic = json!(topic);
    let offset = match publication.offset {
        0 => String::new(),
        offset => format!(",\"offset\":{offset}"),
    };
    format!("{{\"topic\":{topic}{offset},\"data\":{}}}", publication.data.get())
}

/// The message for a new subscription, with what happened while there was none.
fn notice(topic: &Topic, reply: &Subscribed<'_>, away: Option<Duration>) -> String {
    let name = escaped(&topic.name);
    if !topic.is_known {
        return format!("fanfare: subscribed to {name}");
    }
    let after = away.map(|away| format!(" after {:.1} s", away.as_secs_f64())).unwrap_or_default();
    let missed = match (reply.recovered, reply.publications.len()) {
        (false, _) => "something may be missing here".to_owned(),
        (true, 0) => "nothing was missed".to_owned(),
        (true, 1) => "1 publication recovered".to_owned(),
        (true, count) => format!("{count} publications recovered"),
    };
    format!("fanfare: subscribed to {name} again{after}; {missed}")
}

impl ReplyError {
    /// Whether to try again, by the rule of the SDKs.
    fn end(&self, what: &str, hint: &str) -> End {
        let text = format!("{what}: {} (error {}){hint}", escaped(&self.message), self.code);
        if self.temporary || self.code < 100 { End::Retry(text) } else { End::Final(text) }
    }
}

/// The meaning of a close code: on 3500 to 3999, 4500 to 4999 and 1009, do not reconnect.
pub(super) fn end(code: u32, text: &str) -> End {
    match code {
        1009 | 3500..=3999 | 4500..=4999 => End::Final(text.to_owned()),
        _ => End::Retry(text.to_owned()),
    }
}

/// Appends a command to the next frame.
fn command(step: &mut Step, text: &str) {
    if !step.commands.is_empty() {
        step.commands.push('\n');
    }
    step.commands.push_str(text);
}
