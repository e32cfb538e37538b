//! One client without a socket: what it sends, and what it makes of what it reads.

use std::fmt::Write;

use thiserror::Error;

use super::frames::{self, FrameError, Head};
use super::lines::{Line, LineFault, Topics};
use super::tally::Tally;
use super::{Plan, Spread};
use crate::base::printable::escaped;

/// The key of every upgrade, and the answer that RFC 6455 (section 1.3) demands to it.
const UPGRADE_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const UPGRADE_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// More bytes than any server's answer to an upgrade has.
const HEAD_MAX: usize = 16 << 10;

/// Why a client cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum ClientError {
    #[error("no HTTP answer to the upgrade")]
    NoHttp,
    #[error("the upgrade was refused: {}", escaped(.0))]
    UpgradeRefused(String),
    #[error("the answer to the upgrade has the wrong key")]
    WrongKey,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("the server sent a frame of kind {0:#x}")]
    Opcode(u8),
    #[error("closed by the server: {} ({code})", escaped(.reason))]
    Closed { code: u16, reason: String },
    #[error("closed by the server without a reason")]
    ClosedWithoutReason,
    #[error("the server pushed a topic that was not subscribed to")]
    NotSubscribed,
    #[error(transparent)]
    Line(#[from] LineFault),
}

/// The state of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ClientStage {
    /// Its turn to connect has not come.
    #[default]
    Waiting,
    /// The answer to the upgrade has not come.
    Upgrading,
    /// Some of its commands have no answer yet.
    Subscribing,
    /// It has all its subscriptions.
    Ready,
    /// Something was wrong.
    Failed,
}

/// State of one client; small, and mostly empty while it has nothing to do.
#[derive(Debug, Default)]
pub(super) struct Client {
    pub(super) stage: ClientStage,
    /// Whether it does not read once it is ready.
    pub(super) is_slow: bool,
    answers_pings: bool,
    /// The first of its topics. The others follow it.
    first_topic: usize,
    /// Commands without a reply so far.
    unanswered: usize,
    /// Input that is not a complete frame, or a complete head, so far.
    tail: Vec<u8>,
    /// Output that the socket did not take yet.
    pub(super) unsent: Vec<u8>,
}

/// What clients need to parse their input.
#[derive(Debug)]
pub(super) struct InputContext<'a> {
    pub(super) topics: &'a Topics,
    pub(super) tally: &'a mut Tally,
    /// When it was read.
    pub(super) now: u64,
}

impl Client {
    /// Client number `index` of the plan, not connected yet.
    pub(super) fn new(plan: &Plan, index: usize) -> Self {
        Self { is_slow: is_slow(plan, index), first_topic: first_topic(plan, index), ..Self::default() }
    }

    /// Sends the upgrade request. Nothing more may be sent before it is accepted (RFC 6455, section 4.1).
    pub(super) fn begin(&mut self, plan: &Plan) {
        let Plan { host, path, .. } = plan;
        self.stage = ClientStage::Upgrading;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {UPGRADE_KEY}\r\n\r\n"
        );
        self.unsent.extend_from_slice(request.as_bytes());
    }

    /// Sends the connect command and all subscribe commands in one frame.
    fn subscribe(&mut self, topics: &Topics, subscriptions: usize) {
        self.stage = ClientStage::Subscribing;
        let mut commands = r#"{"id":1,"connect":{"name":"fanfare load"}}"#.to_owned();
        for (topic, id) in self.topics(topics.count, subscriptions).zip(2_u64..) {
            let topic = topics.quoted(topic);
            // Writing to a string cannot fail.
            let _ = write!(commands, "\n{{\"id\":{id},\"subscribe\":{{\"channel\":{topic}}}}}");
        }
        self.unanswered = subscriptions + 1;
        frames::write(&mut self.unsent, frames::TEXT, commands.as_bytes());
    }

    /// The topics of its subscriptions, in order.
    pub(super) fn topics(&self, count: usize, subscriptions: usize) -> impl Iterator<Item = usize> + use<> {
        let first = self.first_topic;
        (0..subscriptions).map(move |position| (first + position) % count)
    }

    /// Frees its buffers.
    pub(super) fn forget(&mut self) {
        self.tail = Vec::new();
        self.unsent = Vec::new();
    }

    /// Processes `input` after the rest of earlier input, and keeps what is incomplete. `last` has the number
    /// of the last publication of each subscription.
    ///
    /// # Errors
    /// Why the client cannot go on.
    pub(super) fn take(
        &mut self,
        input: &[u8],
        last: &mut [u64],
        context: &mut InputContext<'_>,
    ) -> Result<(), ClientError> {
        if self.tail.is_empty() {
            let used = self.understand(input, last, context)?;
            self.tail.extend_from_slice(&input[used..]);
            return Ok(());
        }
        let mut whole = std::mem::take(&mut self.tail);
        whole.extend_from_slice(input);
        let used = self.understand(&whole, last, context)?;
        whole.drain(..used);
        if !whole.is_empty() {
            self.tail = whole;
        }
        Ok(())
    }

    /// Processes what is complete, and returns its length in bytes.
    fn understand(
        &mut self,
        input: &[u8],
        last: &mut [u64],
        context: &mut InputContext<'_>,
    ) -> Result<usize, ClientError> {
        let mut used = 0;
        if self.stage == ClientStage::Upgrading {
            let Some(head) = upgraded(input)? else { return Ok(0) };
            used = head;
            self.subscribe(context.topics, last.len());
        }
        while let Some(head) = Head::parse(&input[used..])? {
            let start = used + head.bytes;
            let Some(payload) = input.get(start..start + head.payload) else { break };
            used = start + head.payload;
            match head.opcode {
                frames::TEXT => {
                    let before = context.tally.lines;
                    self.read_lines(payload, last, context)?;
                    if context.tally.lines > before {
                        context.tally.frames += 1;
                        context.tally.bytes += (head.bytes + head.payload) as u64;
                    }
                }
                frames::PING => frames::write(&mut self.unsent, frames::PONG, payload),
                frames::CLOSE => return Err(closed(payload)),
                other => return Err(ClientError::Opcode(other)),
            }
        }
        Ok(used)
    }

    fn read_lines(
        &mut self,
        payload: &[u8],
        last: &mut [u64],
        context: &mut InputContext<'_>,
    ) -> Result<(), ClientError> {
        let payload = payload.strip_suffix(b"\n").unwrap_or(payload);
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', payload).chain([payload.len()]) {
            match context.topics.parse(&payload[start..end]) {
                Line::Publication(publication) => {
                    let count = context.topics.count;
                    let position = (publication.topic + count - self.first_topic) % count;
                    let last = last.get_mut(position).ok_or(ClientError::NotSubscribed)?;
                    let latency = context.now.saturating_sub(publication.due);
                    *last = context.tally.publication(*last, publication.number, latency);
                }
                Line::Ping if self.answers_pings => frames::write(&mut self.unsent, frames::TEXT, b"{}"),
                Line::Ping => {}
                Line::Done { wants_pongs } => self.done(wants_pongs),
                Line::Fault(fault) => return Err(fault.into()),
            }
            start = end + 1;
        }
        Ok(())
    }

    /// Records that a command was carried out.
    fn done(&mut self, wants_pongs: bool) {
        self.answers_pings |= wants_pongs;
        self.unanswered = self.unanswered.saturating_sub(1);
        if self.unanswered == 0 {
            self.stage = ClientStage::Ready;
        }
    }
}

/// Whether client number `index` never reads. Such clients are spread evenly, so that they are spread over
/// topics too.
fn is_slow(plan: &Plan, index: usize) -> bool {
    (index + 1) * plan.slow_percent / 100 > index * plan.slow_percent / 100
}

/// Which topics have a subscriber.
pub(super) fn subscribed(plan: &Plan) -> Vec<bool> {
    let mut subscribed = vec![false; plan.topics];
    for index in 0..plan.clients {
        let first = first_topic(plan, index);
        (0..plan.topics_per_client).for_each(|position| subscribed[(first + position) % plan.topics] = true);
    }
    subscribed
}

/// The first topic of client number `index`.
fn first_topic(plan: &Plan, index: usize) -> usize {
    match plan.spread {
        Spread::Even => index * plan.topics_per_client % plan.topics,
        // Half of all numbers end with a binary 1, a quarter with 10, and so on.
        Spread::Skewed => (index + 1).trailing_zeros() as usize % plan.topics,
    }
}

/// The length of the answer to the upgrade in bytes, if it is complete.
///
/// # Errors
/// If it is not the answer of a WebSocket endpoint.
fn upgraded(input: &[u8]) -> Result<Option<usize>, ClientError> {
    let Some(end) = memchr::memmem::find(input, b"\r\n\r\n") else {
        return if input.len() > HEAD_MAX { Err(ClientError::NoHttp) } else { Ok(None) };
    };
    let answer = String::from_utf8_lossy(&input[..end]);
    let status = answer.lines().next().unwrap_or_default();
    match status.strip_prefix("HTTP/1.1 ") {
        Some(status) if status.starts_with("101") => {}
        Some(status) => return Err(ClientError::UpgradeRefused(status.to_owned())),
        None => return Err(ClientError::NoHttp),
    }
    if !answer.contains(UPGRADE_ACCEPT) {
        return Err(ClientError::WrongKey);
    }
    Ok(Some(end + 4))
}

/// What a close frame says.
fn closed(payload: &[u8]) -> ClientError {
    match payload.split_first_chunk() {
        Some((code, reason)) => {
            let reason = String::from_utf8_lossy(reason).into_owned();
            ClientError::Closed { code: u16::from_be_bytes(*code), reason }
        }
        None => ClientError::ClosedWithoutReason,
    }
}

#[cfg(test)]
mod tests;
