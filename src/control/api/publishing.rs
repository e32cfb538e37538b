//! `publish` and `broadcast`. They publish through the backplane, as clients do, and answer when the
//! backplane has confirmed.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _};
use serde::de::{Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use crate::control::envelope::{Envelope, Fault, Outcome, STOPPING, result};
use crate::control::state::AppState;
use crate::domain::mail::{
    MESSAGE_TOPICS_MAX, Numbered, Publish, PublishFault, PublishOutcome, PublishReply, ReplyTo, Request,
    TopicName,
};
use crate::domain::position::Position;
use crate::domain::reasons::ErrorCode;
use crate::stats::BackplaneState;

use super::others::Others;
use super::{topic, unknown_namespace};

/// How long the broker thread may take beyond `timeouts.publish` to answer a publish, before the operator is
/// told that the outcome is unknown.
pub(super) const ANSWER_GRACE: Duration = Duration::from_secs(1);
/// AMQP's limit for a `message-id`.
const ID_BYTES_MAX: usize = 255;
/// Bytes that the names of topics take in the headers of one message: RabbitMQ takes 128 KiB of headers (`frame_max`).
const NAMES_BYTES_MAX: usize = 64 << 10;
/// Messages of one broadcast in flight at once, and bytes of their data; one message may always be in flight.
/// Each message has its own copy of the data, and a request may name thousands of channels.
const UNDER_WAY_MAX: usize = 32;
const UNDER_WAY_BYTES_MAX: usize = 1 << 20;
/// The greatest number of channels of one broadcast.
pub(super) const CHANNELS_MAX: usize = 10_000;
/// The greatest length of a key in bytes, the same as for a topic's name.
const KEY_BYTES_MAX: usize = 255;

/// The parameters of `publish`.
#[derive(Debug, Deserialize)]
#[serde(expecting = "a JSON object with `channel` and `data`")]
pub(super) struct PublishParams<'a> {
    channel: String,
    #[serde(default, borrow, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    /// Identifies this publication: a repeated request with the same key is pushed once.
    idempotency_key: Option<String>,
    /// Identifies the item that this publication updates; empty: none.
    key: Option<String>,
    #[serde(flatten)]
    others: Others,
}

/// The parameters of `broadcast`.
#[derive(Debug, Deserialize)]
#[serde(expecting = "a JSON object with `channels` and `data`")]
pub(super) struct BroadcastParams<'a> {
    #[serde(deserialize_with = "channels")]
    channels: Vec<String>,
    #[serde(default, borrow, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    /// Identifies this publication: a repeated request with the same key is pushed once.
    idempotency_key: Option<String>,
    /// Identifies the item that this publication updates; empty: none.
    key: Option<String>,
    #[serde(flatten)]
    others: Others,
}

/// A value that is present, including `null`.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// The channels of a broadcast. Those beyond the limit are counted and not kept.
fn channels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Names;
    impl<'de> Visitor<'de> for Names {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of channels")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Vec<String>, A::Error> {
            let mut kept = Vec::new();
            while kept.len() < CHANNELS_MAX {
                let Some(name) = names.next_element()? else { return Ok(kept) };
                kept.push(name);
            }
            let mut count = kept.len();
            while names.next_element::<IgnoredAny>()?.is_some() {
                count += 1;
            }
            if count > CHANNELS_MAX {
                let text = format_args!("`channels` has {count} members: at most {CHANNELS_MAX} are allowed");
                return Err(A::Error::custom(text));
            }
            Ok(kept)
        }
    }
    deserializer.deserialize_seq(Names)
}

/// The checked parameters that `publish` and `broadcast` share.
#[derive(Debug)]
struct Checked<'a> {
    data: &'a RawValue,
    key: Option<Box<str>>,
    /// No history keeps the publication.
    skips_history: bool,
}

impl<'a> Checked<'a> {
    fn new(data: Option<&'a RawValue>, key: Option<String>, mut others: Others) -> Result<Self, Fault> {
        let skips_history = others.take("skip_history");
        if others.take("b64data") {
            return Err(Fault::new(
                ErrorCode::NotAvailable,
                "`b64data` is not offered by this engine: send JSON as `data`",
            ));
        }
        others.refuse()?;
        let data = data.ok_or_else(|| Fault::bad("`data` is missing"))?;
        Ok(Self { data, key: checked_key(key)?, skips_history })
    }

    /// The topic of this name, if this request may publish to it.
    fn topic(&self, state: &AppState, name: &str) -> Result<TopicName, Fault> {
        let topic = topic(state, name)?;
        let settings = state.settings();
        let namespaces = &settings.namespaces;
        if !namespaces.is_known(name) {
            return Err(unknown_namespace(name));
        }
        let options = namespaces.options(namespaces.of(name));
        let (bytes, limit) = (self.data.get().len(), options.publication_bytes);
        if limit > 0 && bytes > limit {
            return Err(Fault::new(
                ErrorCode::LimitExceeded,
                format_args!(
                    "`{name}`: `data` has {bytes} bytes, and its namespace takes {limit} (publication_bytes)"
                ),
            ));
        }
        Ok(topic)
    }
}

/// The position of a publication, if it is known by the time of the answer.
#[derive(Debug, Default, Serialize)]
pub(super) struct PublishResult<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<&'a str>,
}

impl<'a> PublishResult<'a> {
    pub(super) fn of(position: Option<&'a Position>) -> Self {
        Self { offset: position.map(|at| at.offset), epoch: position.map(|at| &*at.epoch) }
    }
}

/// The result for one topic.
fn published(position: Option<&Position>) -> Outcome {
    result(&PublishResult::of(position))
}

#[derive(Debug, Serialize)]
struct BroadcastResult {
    /// One for each channel of the request, in their order.
    responses: Vec<Envelope>,
}

/// A checked publish to one topic.
#[derive(Debug)]
pub(super) struct Single<'a> {
    topic: TopicName,
    checked: Checked<'a>,
    id: Option<Box<str>>,
}

impl<'a> Single<'a> {
    /// Of a request that may be carried out.
    pub(super) fn new(state: &AppState, params: PublishParams<'a>) -> Result<Self, Fault> {
        let checked = Checked::new(params.data, params.key, params.others)?;
        let topic = checked.topic(state, &params.channel)?;
        let id = identify(&topic, params.idempotency_key.as_deref())?;
        Ok(Self { topic, checked, id })
    }

    /// What the broker thread is asked for. `reply_to` receives the outcome.
    pub(super) fn request(self, reply_to: PublishReply) -> Request {
        let Self { topic, checked: Checked { data, key, skips_history }, id } = self;
        let data = data.get().as_bytes().into();
        let topics = [topic].into();
        let publish = Publish { reply_to, topics, data, id, key, info: None, skips_history };
        Request::Publish(Box::new(publish))
    }
}

/// Publishes to one topic.
pub(super) async fn publish(state: &AppState, params: PublishParams<'_>) -> Outcome {
    let Single { topic, checked, id } = Single::new(state, params)?;
    let numbered = hand_in(state, state.deadline(), vec![topic], &checked, id).await?;
    published(numbered.first().map(|(_, position)| position))
}

/// Publishes to several topics at once. A topic that is refused gets its error in its place, and the others
/// are published to. A topic that is named twice is published to once. Topics that do not fit into one
/// message go by several.
///
/// As in Centrifugo, an idempotency key names one publication of each topic. So a request that repeats half
/// of a broadcast publishes to the topics that lack it. With a key, each topic therefore has its own message,
/// with its own id and answer.
pub(super) async fn broadcast(state: &AppState, params: BroadcastParams<'_>) -> Outcome {
    let checked = Checked::new(params.data, params.key, params.others)?;
    if params.channels.is_empty() {
        return Err(Fault::bad("`channels` is empty"));
    }
    let topics: Vec<_> = params.channels.iter().map(|name| checked.topic(state, name)).collect();
    if let Some(name) = params.idempotency_key.as_deref().filter(|name| !name.is_empty()) {
        return broadcast_by_name(state, &topics, &checked, name).await;
    }
    let mut seen = HashSet::new();
    let wanted = topics.iter().flatten().filter(|topic| seen.insert(TopicName::clone(topic)));
    let messages = messages(wanted.cloned());
    // One error says it for all of them.
    let share_fate = messages.len() == 1 && topics.iter().all(Result::is_ok);
    let (mut failed, mut numbered) = (HashMap::new(), Numbered::new());
    let deadline = state.deadline();
    let hand_in = |topics: &Vec<TopicName>| hand_in(state, deadline, topics.clone(), &checked, None);
    let outcomes = stream::iter(messages.iter().map(hand_in)).buffered(under_way_max(&checked));
    for (topics, outcome) in messages.iter().zip(outcomes.collect::<Vec<_>>().await) {
        match outcome {
            Err(fault) if share_fate => return Err(fault),
            Err(fault) => failed.extend(topics.iter().map(|topic| (TopicName::clone(topic), fault.clone()))),
            Ok(more) => numbered.extend(more),
        }
    }
    let numbered: HashMap<_, _> = numbered.into_iter().collect();
    let answer = |topic: TopicName| match failed.get(&topic) {
        Some(fault) => Err(fault.clone()),
        None => published(numbered.get(&*topic)),
    };
    let responses = topics.into_iter().map(|topic| topic.and_then(answer).into()).collect();
    result(&BroadcastResult { responses })
}

/// Groups topics by message: as few messages as hold their names, each with at most the allowed number.
fn messages(topics: impl Iterator<Item = TopicName>) -> Vec<Vec<TopicName>> {
    let (mut messages, mut bytes) = (Vec::<Vec<TopicName>>::new(), 0);
    for topic in topics {
        // Each is there twice: in a list, with its type and length, and in a text, with a line break.
        let size = 2 * topic.len() + 6;
        bytes += size;
        let has_room = |message: &&mut Vec<_>| bytes <= NAMES_BYTES_MAX && message.len() < MESSAGE_TOPICS_MAX;
        match messages.last_mut().filter(has_room) {
            Some(message) => message.push(topic),
            None => {
                bytes = size;
                messages.push(vec![topic]);
            }
        }
    }
    messages
}

async fn broadcast_by_name(
    state: &AppState,
    topics: &[Result<TopicName, Fault>],
    checked: &Checked<'_>,
    name: &str,
) -> Outcome {
    let deadline = state.deadline();
    let publish = async |topic: &Result<TopicName, Fault>| {
        let topic = topic.as_ref().map_err(Clone::clone)?;
        let id = identify(topic, Some(name))?;
        let numbered = hand_in(state, deadline, vec![TopicName::clone(topic)], checked, id).await?;
        published(numbered.first().map(|(_, position)| position))
    };
    let outcomes = stream::iter(topics.iter().map(publish)).buffered(under_way_max(checked));
    result(&BroadcastResult { responses: outcomes.map(Envelope::from).collect().await })
}

/// How many messages with this data may be in flight at once.
fn under_way_max(checked: &Checked<'_>) -> usize {
    (UNDER_WAY_BYTES_MAX / checked.data.get().len().max(1)).clamp(1, UNDER_WAY_MAX)
}

/// The id of the publication of `topic` that `key` names; `None` for an empty key. No other id has this form,
/// ids of different topics differ, and the id is the same on every node.
fn identify(topic: &str, key: Option<&str>) -> Result<Option<Box<str>>, Fault> {
    let Some(key) = key.filter(|key| !key.is_empty()) else { return Ok(None) };
    let id = format!("fanfare-key:{}:{topic}:{key}", topic.len());
    if id.len() > ID_BYTES_MAX {
        return Err(Fault::bad(format_args!(
            "`idempotency_key` and the channel's name have {} bytes together: at most {} fit into a message-id",
            topic.len() + key.len(),
            ID_BYTES_MAX - (id.len() - topic.len() - key.len())
        )));
    }
    Ok(Some(id.into()))
}

/// The key of a publication, if it has one.
fn checked_key(key: Option<String>) -> Result<Option<Box<str>>, Fault> {
    let key = key.filter(|key| !key.is_empty());
    if let Some(key) = key.as_ref().filter(|key| key.len() > KEY_BYTES_MAX) {
        let len = key.len();
        return Err(Fault::bad(format_args!("`key` has {len} bytes: at most {KEY_BYTES_MAX} are allowed")));
    }
    Ok(key.map(String::into_boxed_str))
}

/// Sends a publication to the broker thread before `deadline`, and waits for the backplane's answer.
async fn hand_in(
    state: &AppState,
    deadline: Instant,
    topics: Vec<TopicName>,
    checked: &Checked<'_>,
    id: Option<Box<str>>,
) -> Result<Numbered, Fault> {
    if Instant::now() >= deadline {
        return Err(Fault::new(
            ErrorCode::Internal,
            "it was not sent: what the request names before it took all of timeouts.publish",
        ));
    }
    let (reply_to, answer) = ReplyTo::control();
    let publish = || {
        let data = checked.data.get().as_bytes().into();
        let (topics, key, skips_history) = (topics.into(), checked.key.clone(), checked.skips_history);
        let publish = Publish { reply_to, topics, data, id, key, info: None, skips_history };
        Request::Publish(Box::new(publish))
    };
    state.post_before(deadline, publish).await?;
    confirmed_before(state, deadline, answer).await
}

/// Waits for the backplane's answer.
pub(super) async fn confirmed(
    state: &AppState,
    answer: oneshot::Receiver<PublishOutcome>,
) -> Result<Numbered, Fault> {
    confirmed_before(state, state.deadline(), answer).await
}

/// Waits for the backplane's answer, not much longer than until `deadline`.
async fn confirmed_before(
    state: &AppState,
    deadline: Instant,
    answer: oneshot::Receiver<PublishOutcome>,
) -> Result<Numbered, Fault> {
    match timeout_at((deadline + ANSWER_GRACE).into(), answer).await {
        Ok(Ok(outcome)) => outcome.map_err(|fault| fault_of(state, fault)),
        // No answer at all: the broker thread is going down, or hangs.
        Ok(Err(_)) | Err(_) => Err(unconfirmed(state)),
    }
}

/// What the caller is told when a publish failed.
pub(super) fn fault_of(state: &AppState, fault: PublishFault) -> Fault {
    match fault.refusal {
        Some(text) => Fault { code: fault.code, message: text.into() },
        None => failed(state, fault.code),
    }
}

/// The fault of a publish that the broker thread has not answered.
pub(super) fn unconfirmed(state: &AppState) -> Fault {
    failed(state, ErrorCode::Internal)
}

fn failed(state: &AppState, code: ErrorCode) -> Fault {
    match code {
        ErrorCode::Internal if state.backplane() == BackplaneState::Away => Fault::new(
            code,
            "there is no connection to RabbitMQ, which has not confirmed the publication; it may or may not arrive",
        ),
        ErrorCode::Internal if state.backplane() == BackplaneState::Refused => Fault::new(
            code,
            "RabbitMQ refuses this engine (/health says why) and has not confirmed the publication; it may or may not \
             arrive",
        ),
        ErrorCode::Internal if state.rabbitmq_is_blocked() => Fault::new(
            code,
            "RabbitMQ has an alarm for memory or disk and takes no publishes (connection.blocked); this one may or \
             may not arrive later",
        ),
        ErrorCode::Internal => {
            Fault::new(code, "the publication was not confirmed; it may or may not arrive")
        }
        ErrorCode::LimitExceeded => Fault::new(
            code,
            "`data` is larger than the channel's namespace takes (publication_bytes, there or in limits)",
        ),
        ErrorCode::UnknownChannel => {
            let text = "a channel's namespace is not configured, and server.unknown_namespace is \"refuse\"";
            Fault::new(code, text)
        }
        ErrorCode::TooManyRequests if state.is_stopping() => Fault::new(code, STOPPING),
        ErrorCode::TooManyRequests => Fault::new(code, "the engine is behind with its work; try again"),
        code => Fault { code, message: code.text().to_owned() },
    }
}
