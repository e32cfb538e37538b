//! The client's side of the protocol, without a socket: frames in; lines, words and commands out.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::End;

/// The id of the connect command; those of subscribe commands follow.
const CONNECT_ID: u32 = 1;
/// How much later than promised a ping may come, as in the SDKs.
const PING_GRACE: Duration = Duration::from_secs(10);

/// What one frame led to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// Lines to print.
    pub(super) output: String,
    /// What to tell the person watching.
    pub(super) notices: Vec<String>,
    /// What to answer; empty: nothing.
    pub(super) commands: String,
    /// After how long a silence the connection is to be taken for dead, when that is told.
    pub(super) silence: Option<Duration>,
}

/// The subscriptions, over all connections.
#[derive(Debug)]
pub(super) struct Feed {
    /// Topics that are, or are to be, subscribed.
    topics: Vec<String>,
    /// Subscribe commands that wait for their replies, by id.
    pending: BTreeMap<u32, String>,
    next_id: u32,
    connected: bool,
    answers_pings: bool,
}

#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(default)]
    id: u32,
    error: Option<ReplyError>,
    connect: Option<Connected>,
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
}

#[derive(Deserialize)]
struct Notice {
    code: u32,
    #[serde(default)]
    reason: String,
}

impl Feed {
    /// Wants `topics`, each once.
    pub(super) fn new(topics: &[String]) -> Self {
        let mut wanted: Vec<String> = Vec::new();
        for topic in topics {
            if !wanted.contains(topic) {
                wanted.push(topic.clone());
            }
        }
        let pending = BTreeMap::new();
        Self { topics: wanted, pending, next_id: CONNECT_ID, connected: false, answers_pings: false }
    }

    /// The first frame of a connection: connect, and subscribe to everything.
    pub(super) fn opening(&mut self) -> String {
        self.next_id = CONNECT_ID + 1;
        self.pending.clear();
        let mut commands = json!({"id": CONNECT_ID, "connect": {"name": "fanfare"}}).to_string();
        for topic in self.topics.clone() {
            commands.push('\n');
            commands.push_str(&self.subscribe(topic));
        }
        commands
    }

    /// The connection is gone. Returns whether it had been accepted.
    pub(super) fn leave(&mut self) -> bool {
        self.answers_pings = false;
        std::mem::take(&mut self.connected)
    }

    /// Takes one frame: any number of replies, one per line.
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

    fn subscribe(&mut self, topic: String) -> String {
        let id = self.next_id;
        self.next_id += 1;
        let command = json!({"id": id, "subscribe": {"channel": topic}}).to_string();
        self.pending.insert(id, topic);
        command
    }

    fn reply(&mut self, reply: Reply<'_>, step: &mut Step) -> Result<(), End> {
        if let Some(push) = reply.push {
            return self.push(push, step);
        }
        let topic = self.pending.remove(&reply.id);
        match (reply.error, reply.connect, topic) {
            (Some(error), _, Some(topic)) => self.refused(&error, topic, step),
            (Some(error), _, None) => Err(error.end("the engine does not let us in")),
            (None, Some(connected), _) => {
                self.connected = true;
                self.answers_pings = connected.pong;
                step.silence =
                    (connected.ping > 0).then(|| Duration::from_secs(connected.ping.into()) + PING_GRACE);
                Ok(())
            }
            (None, None, Some(topic)) => {
                step.notices.push(format!("fanfare: subscribed to {}", topic.escape_debug()));
                Ok(())
            }
            (None, None, None) => Ok(()),
        }
    }

    fn refused(&mut self, error: &ReplyError, topic: String, step: &mut Step) -> Result<(), End> {
        let text = format!("no subscription to {}", topic.escape_debug());
        match error.end(&text) {
            End::Final(text) => self.drop_topic(&topic, text, step),
            retry => Err(retry),
        }
    }

    fn push(&mut self, push: Push<'_>, step: &mut Step) -> Result<(), End> {
        let Push { channel, publication, unsubscribe, disconnect } = push;
        if let Some(publication) = publication {
            // Writing to a string cannot fail.
            let _ = writeln!(step.output, "{channel}\t{}", publication.data.get());
        }
        if let Some(Notice { code, reason }) = disconnect {
            let text = format!("disconnected by the engine: {} ({code})", reason.escape_debug());
            return Err(end(code, &text));
        }
        match unsubscribe {
            // From 2500 on the engine asks to subscribe again.
            Some(Notice { code: 2500.., reason }) => {
                let topic = channel.into_owned();
                step.notices.push(format!(
                    "fanfare: {}: {}; subscribing again, something may be missing here",
                    topic.escape_debug(),
                    reason.escape_debug()
                ));
                let again = self.subscribe(topic);
                command(step, &again);
                Ok(())
            }
            Some(Notice { code, reason }) => {
                let text = format!(
                    "the engine ended the subscription to {}: {} ({code})",
                    channel.escape_debug(),
                    reason.escape_debug()
                );
                self.drop_topic(&channel, text, step)
            }
            None => Ok(()),
        }
    }

    /// Goes on without a topic, or ends if it was the last.
    fn drop_topic(&mut self, topic: &str, why: String, step: &mut Step) -> Result<(), End> {
        self.topics.retain(|wanted| wanted != topic);
        if self.topics.is_empty() {
            return Err(End::Final(why));
        }
        step.notices.push(format!("fanfare: {why}"));
        Ok(())
    }
}

impl ReplyError {
    /// Whether to try again: the rule of the SDKs.
    fn end(&self, what: &str) -> End {
        let text = format!("{what}: {} (error {})", self.message.escape_debug(), self.code);
        if self.temporary || self.code < 100 { End::Retry(text) } else { End::Final(text) }
    }
}

/// What a close code means: 3500 to 3999 and 4500 to 4999 say to stay away, as does 1009.
pub(super) fn end(code: u32, text: &str) -> End {
    match code {
        1009 | 3500..=3999 | 4500..=4999 => End::Final(text.to_owned()),
        _ => End::Retry(text.to_owned()),
    }
}

/// Appends a command to the frame to be sent.
fn command(step: &mut Step, text: &str) {
    if !step.commands.is_empty() {
        step.commands.push('\n');
    }
    step.commands.push_str(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECT_REPLY: &str = r#"{"id":1,"connect":{"client":"c","version":"v","ping":25,"pong":true}}"#;

    fn feed(topics: &[&str]) -> Feed {
        let topics: Vec<String> = topics.iter().map(|&topic| topic.to_owned()).collect();
        let mut feed = Feed::new(&topics);
        feed.opening();
        feed.take(CONNECT_REPLY).unwrap();
        feed
    }

    #[test]
    fn the_first_frame_connects_and_subscribes_to_each_topic_once() {
        let mut feed = Feed::new(&["a", "b\"c", "a"].map(str::to_owned));
        assert_eq!(
            feed.opening(),
            "{\"connect\":{\"name\":\"fanfare\"},\"id\":1}\n\
             {\"id\":2,\"subscribe\":{\"channel\":\"a\"}}\n\
             {\"id\":3,\"subscribe\":{\"channel\":\"b\\\"c\"}}"
        );
        assert_eq!(feed.opening().lines().count(), 3, "and again on the next connection");
    }

    #[test]
    fn several_replies_in_one_frame_are_taken_in_order() {
        let mut feed = Feed::new(&["a".to_owned()]);
        feed.opening();
        let frame = format!(
            "{CONNECT_REPLY}\n{}\n{{}}\n{}\n{}\n",
            r#"{"id":2,"subscribe":{}}"#,
            r#"{"push":{"channel":"a","pub":{"data":{"n": 1e400},"offset":1}}}"#,
            r#"{"push":{"channel":"a","pub":{"data":"x\ty"}}}"#,
        );
        let step = feed.take(&frame).unwrap();
        assert_eq!(step.output, "a\t{\"n\": 1e400}\na\t\"x\\ty\"\n");
        assert_eq!(step.commands, "{}");
        assert_eq!(step.silence, Some(Duration::from_secs(35)));
        assert_eq!(step.notices, ["fanfare: subscribed to a"]);
        assert!(feed.leave());
        assert!(!feed.leave());
    }

    #[test]
    fn pings_are_answered_only_where_pongs_are_wanted() {
        let mut feed = Feed::new(&["a".to_owned()]);
        feed.opening();
        feed.take(r#"{"id":1,"connect":{"ping":25}}"#).unwrap();
        assert_eq!(feed.take("{}").unwrap(), Step::default());
    }

    #[test]
    fn a_refused_topic_is_left_out_and_the_last_one_ends_it() {
        let mut feed = feed(&["a", "b"]);
        let step = feed.take(r#"{"id":2,"error":{"code":103,"message":"permission denied"}}"#).unwrap();
        assert_eq!(step.notices, ["fanfare: no subscription to a: permission denied (error 103)"]);
        assert!(!feed.opening().contains("\"a\""));
        let end = feed.take(r#"{"id":2,"error":{"code":103,"message":"permission denied"}}"#).unwrap_err();
        assert_eq!(end, End::Final("no subscription to b: permission denied (error 103)".to_owned()));
    }

    #[test]
    fn temporary_errors_lead_to_another_try() {
        for (frame, retry) in [
            (r#"{"id":1,"error":{"code":100,"message":"m","temporary":true}}"#, true),
            (r#"{"id":1,"error":{"code":101,"message":"m"}}"#, false),
            (r#"{"id":2,"error":{"code":111,"message":"m","temporary":true}}"#, true),
            (r#"{"push":{"disconnect":{"code":3001,"reason":"shutdown"}}}"#, true),
            (r#"{"push":{"disconnect":{"code":3501,"reason":"bad request"}}}"#, false),
            ("<html>", false),
        ] {
            let end = feed(&["a"]).take(frame).unwrap_err();
            assert_eq!(matches!(end, End::Retry(_)), retry, "{frame}: {end:?}");
        }
    }

    #[test]
    fn a_subscription_that_missed_something_is_made_again() {
        let mut feed = feed(&["a"]);
        let push = r#"{"push":{"channel":"a","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#;
        let step = feed.take(push).unwrap();
        assert_eq!(step.commands, r#"{"id":3,"subscribe":{"channel":"a"}}"#);
        assert!(step.notices[0].contains("something may be missing here"));
        let push = r#"{"push":{"channel":"a","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}"#;
        let end = feed.take(push).unwrap_err();
        assert!(matches!(end, End::Final(text) if text.contains("server unsubscribe (2000)")));
    }

    #[test]
    fn close_codes_say_whether_to_come_back() {
        for (code, retry) in [
            (1000, true),
            (1009, false),
            (3001, true),
            (3499, true),
            (3500, false),
            (3999, false),
            (4000, true),
            (4500, false),
            (5000, true),
        ] {
            assert_eq!(matches!(end(code, ""), End::Retry(_)), retry, "{code}");
        }
    }

    #[test]
    fn what_a_peer_says_cannot_move_the_terminal() {
        let end =
            feed(&["a"]).take("{\"id\":1,\"error\":{\"code\":101,\"message\":\"\\u001b[2J\"}}").unwrap_err();
        assert!(matches!(end, End::Final(text) if !text.contains('\x1b')));
    }
}
