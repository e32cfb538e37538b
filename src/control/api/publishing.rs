//! `publish` and `broadcast`: the same door as everybody else's publications, through the backplane. The
//! answer waits until the backplane has confirmed.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::future::join_all;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::control::desk::Desk;
use crate::control::envelope::{Envelope, Fault, Outcome, done, result};
use crate::mail::{Asker, Publish, Request, TopicName};
use crate::protocol::codes::ErrorCode;

use super::topic;

/// What the broker thread may take beyond `timeouts.publish` to answer a publish, before the operator is
/// told that nothing is known of it.
const ANSWER_GRACE: Duration = Duration::from_secs(1);
/// AMQP's limit for a `message-id`.
const ID_BYTES_MAX: usize = 255;
/// Bytes that the names of topics take in the headers of one message: RabbitMQ takes 128 KiB of headers (`frame_max`).
const NAMES_BYTES_MAX: usize = 64 << 10;
/// Bytes of a key: as many as a topic's name has at most.
const KEY_BYTES_MAX: usize = 255;

/// The parameters of `publish`.
#[derive(Debug, Deserialize)]
pub(super) struct PublishParams<'a> {
    channel: String,
    #[serde(borrow)]
    data: &'a RawValue,
    /// Names this publication: a repeated request with the same key is pushed once.
    idempotency_key: Option<String>,
    /// What it is the latest of; empty: of nothing.
    key: Option<String>,
    #[serde(flatten)]
    extras: Extras,
}

/// The parameters of `broadcast`.
#[derive(Debug, Deserialize)]
pub(super) struct BroadcastParams<'a> {
    channels: Vec<String>,
    #[serde(borrow)]
    data: &'a RawValue,
    /// Names this publication: a repeated request with the same key is pushed once.
    idempotency_key: Option<String>,
    /// What it is the latest of; empty: of nothing.
    key: Option<String>,
    #[serde(flatten)]
    extras: Extras,
}

/// Parameters that Centrifugo has and this engine does not. Dropping them silently would break what they
/// promise, so they are refused. `skip_history` promises nothing that is not true anyway.
#[derive(Debug, Deserialize)]
struct Extras {
    tags: Option<IgnoredAny>,
    b64data: Option<IgnoredAny>,
}

impl Extras {
    fn refuse(&self) -> Result<(), Fault> {
        let given = [("tags", &self.tags), ("b64data", &self.b64data)];
        match given.into_iter().find(|(_, value)| value.is_some()) {
            Some((name, _)) => Err(Fault::new(
                ErrorCode::NotAvailable,
                format_args!("`{name}` is not offered by this engine; leave it out"),
            )),
            None => Ok(()),
        }
    }
}

#[derive(Debug, Serialize)]
struct BroadcastResult {
    /// One for each of the request's channels, in their order.
    responses: Vec<Envelope>,
}

/// Publishes to one topic.
pub(super) async fn publish(desk: &Desk, params: PublishParams<'_>) -> Outcome {
    params.extras.refuse()?;
    let topic = topic(desk, &params.channel)?;
    let id = identify(&topic, params.idempotency_key.as_deref())?;
    hand_in(desk, vec![topic], params.data, id, checked_key(params.key)?).await?;
    done()
}

/// Publishes to several topics at once. A topic that is none gets its error in its place, and the others
/// are published to; a topic named twice is published to once. More than fit into one message go by several.
///
/// An idempotency key names one publication of each topic, as in Centrifugo: whoever repeats half of a broadcast gets it to the
/// topics that lack it. So there is a message for each topic then, with an id and an answer of its own.
pub(super) async fn broadcast(desk: &Desk, params: BroadcastParams<'_>) -> Outcome {
    params.extras.refuse()?;
    if params.channels.is_empty() {
        return Err(Fault::bad("`channels` is empty"));
    }
    let checked: Vec<_> = params.channels.iter().map(|name| topic(desk, name)).collect();
    let key = checked_key(params.key)?;
    if let Some(name) = params.idempotency_key.as_deref().filter(|name| !name.is_empty()) {
        return broadcast_by_name(desk, &checked, params.data, name, key).await;
    }
    let mut seen = HashSet::new();
    let wanted = checked.iter().flatten().filter(|topic| seen.insert(TopicName::clone(topic)));
    let mut failed = HashMap::new();
    let messages = messages(wanted.cloned());
    let hand_in =
        async |topics: &Vec<TopicName>| hand_in(desk, topics.clone(), params.data, None, key.clone()).await;
    for (topics, outcome) in messages.iter().zip(join_all(messages.iter().map(hand_in)).await) {
        match outcome {
            Err(fault) if messages.len() == 1 => return Err(fault),
            Err(fault) => failed.extend(topics.iter().map(|topic| (TopicName::clone(topic), fault.clone()))),
            Ok(()) => {}
        }
    }
    let answer = |topic: TopicName| failed.get(&topic).map_or_else(done, |fault| Err(fault.clone()));
    let responses = checked.into_iter().map(|checked| checked.and_then(answer).into()).collect();
    result(&BroadcastResult { responses })
}

/// Topics by the message that they go with: as few as hold their names.
fn messages(topics: impl Iterator<Item = TopicName>) -> Vec<Vec<TopicName>> {
    let (mut messages, mut bytes) = (Vec::<Vec<TopicName>>::new(), 0);
    for topic in topics {
        // Each is there twice: in a list, with its type and length, and in a text, with a line break.
        let size = 2 * topic.len() + 6;
        bytes += size;
        match messages.last_mut().filter(|_| bytes <= NAMES_BYTES_MAX) {
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
    desk: &Desk,
    topics: &[Result<TopicName, Fault>],
    data: &RawValue,
    name: &str,
    key: Option<Box<str>>,
) -> Outcome {
    let publish = async |topic: &Result<TopicName, Fault>| {
        let topic = topic.as_ref().map_err(Clone::clone)?;
        let id = identify(topic, Some(name))?;
        hand_in(desk, vec![TopicName::clone(topic)], data, id, key.clone()).await?;
        done()
    };
    let outcomes = join_all(topics.iter().map(publish)).await;
    result(&BroadcastResult { responses: outcomes.into_iter().map(Envelope::from).collect() })
}

/// The id of the publication of `topic` that `key` names; an empty key is none. No other id looks like it, and
/// those of two topics differ. The same on every node.
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

/// What a publication is the latest of, if anything.
fn checked_key(key: Option<String>) -> Result<Option<Box<str>>, Fault> {
    let key = key.filter(|key| !key.is_empty());
    if let Some(key) = key.as_ref().filter(|key| key.len() > KEY_BYTES_MAX) {
        let len = key.len();
        return Err(Fault::bad(format_args!("`key` has {len} bytes: at most {KEY_BYTES_MAX} are allowed")));
    }
    Ok(key.map(String::into_boxed_str))
}

/// Hands a publication to the broker thread and waits for the backplane's word.
async fn hand_in(
    desk: &Desk,
    topics: Vec<TopicName>,
    data: &RawValue,
    id: Option<Box<str>>,
    key: Option<Box<str>>,
) -> Result<(), Fault> {
    let (asker, answer) = oneshot::channel();
    let (asker, data) = (Asker::Control(asker), data.get().as_bytes().into());
    let publish = Publish { asker, topics, data, id, key };
    desk.post(Request::Publish(publish)).await?;
    confirmed(desk, answer).await
}

/// Waits for the backplane's word.
pub(super) async fn confirmed(
    desk: &Desk,
    answer: oneshot::Receiver<Result<(), ErrorCode>>,
) -> Result<(), Fault> {
    match timeout(desk.config.timeouts.publish.0 + ANSWER_GRACE, answer).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(code))) => Err(failed(desk, code)),
        // No answer at all: the broker thread is going down, or hangs.
        Ok(Err(_)) | Err(_) => Err(failed(desk, ErrorCode::Internal)),
    }
}

fn failed(desk: &Desk, code: ErrorCode) -> Fault {
    match code {
        ErrorCode::Internal if !desk.backplane_is_ready() => Fault::new(
            code,
            "RabbitMQ is away and has not confirmed the publication; it may or may not arrive",
        ),
        ErrorCode::Internal => {
            Fault::new(code, "the publication was not confirmed; it may or may not arrive")
        }
        ErrorCode::LimitExceeded => Fault::new(
            code,
            "`data` is larger than the channel's namespace takes (publication_bytes, there or in limits)",
        ),
        ErrorCode::TooManyRequests => Fault::new(code, "the engine is behind with its work; try again"),
        code => Fault { code, message: code.text().to_owned() },
    }
}
