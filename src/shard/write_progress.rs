//! Through which batch everything was written, for a broker that acknowledges messages only then
//! (`amqp.ack = "written"`).
//!
//! A batch is written when all subscribers have it. It waits for those whose sockets are full, but no longer than
//! `amqp.written_timeout`: then it counts as written, and the topic's policy decides about them. Batches are reported in
//! their order, so only the first one that is not written matters.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::moment::Moment;
use crate::domain::mail::TopicSlot;
use crate::domain::receipt::Reporter;
use crate::net::stream::Stream;
use crate::shard::Shard;
use crate::shard::subscribers::Subscriber;
use crate::transport::Transport;

/// The batches that are not written, and the report of those that are.
#[derive(Debug)]
pub(super) struct WriteProgress {
    reporter: Reporter,
    /// How long a batch waits for full sockets.
    timeout: Duration,
    /// Batches taken from the mailbox.
    taken: u64,
    /// Batches that are not written, in their order.
    waiting: VecDeque<Unwritten>,
}

/// A batch that is not written.
#[derive(Clone, Copy, Debug)]
struct Unwritten {
    topic: TopicSlot,
    /// Where it ends in the topic's log.
    end: u64,
    deadline: Moment,
}

impl WriteProgress {
    /// No batch was taken.
    pub(super) fn new(reporter: Reporter, timeout: Duration) -> Self {
        Self { reporter, timeout, taken: 0, waiting: VecDeque::new() }
    }

    /// Whether there are batches that are not written.
    pub(super) fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }
}

impl<S: Stream, T: Transport> Shard<S, T> {
    /// Notes that a batch was taken: it is in its topic's log, or no subscriber wants it.
    pub(super) fn note_batch(&mut self, topic: TopicSlot) {
        let (now, end) = (self.timers.now(), self.topics[topic].end());
        if let Some(progress) = &mut self.broker.progress {
            progress.taken += 1;
            let deadline = now.after(progress.timeout);
            progress.waiting.push_back(Unwritten { topic, end, deadline });
        }
    }

    /// Reports through which batch all are written, if there are more than before.
    pub(super) fn report_written(&mut self) {
        let Some(mut progress) = self.broker.progress.take() else { return };
        let before = progress.waiting.len();
        while progress.waiting.front().is_some_and(|first| self.is_written(first)) {
            progress.waiting.pop_front();
        }
        if progress.waiting.len() < before {
            progress.reporter.report(progress.taken - progress.waiting.len() as u64);
            self.broker.requests.wake_broker();
        }
        self.broker.progress = Some(progress);
    }

    fn is_written(&self, batch: &Unwritten) -> bool {
        // A slot that is free has no subscribers; one that was taken again has a log that begins anew.
        let Some(topic) = self.topics.get(batch.topic).filter(|topic| topic.end() >= batch.end) else {
            return true;
        };
        let end = topic.log().map_or(batch.end, |log| log.end_of(batch.end));
        topic.is_swept_to(end)
            && (batch.deadline <= self.timers.now()
                || !topic.parked().iter().any(|one| self.lacks_before(batch.topic, one, end)))
    }

    /// Whether a parked subscriber lacks anything before `end`. It may if it keeps the rest of a frame that a log has
    /// dropped: what was in it is not known any more.
    fn lacks_before(&self, topic: TopicSlot, one: &Subscriber, end: u64) -> bool {
        let outgoing = self.clients[one.client].outgoing.as_ref();
        let keeps_a_rest = outgoing.is_some_and(|outgoing| outgoing.orphaned > 0);
        keeps_a_rest || self.needed_by(topic, one.client, one.cursor) < end
    }
}
