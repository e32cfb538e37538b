//! Through which batch everything was written, for a broker that acknowledges messages only then
//! (`amqp.ack = "written"`).
//!
//! A batch is written when everybody has it who could be written to when it came. For those whose sockets take
//! nothing it waits `amqp.written_timeout`; then it counts as written, and the topic's policy is all that they
//! have. Batches are looked at in their order: only the first one that is not written matters.

use std::collections::VecDeque;
use std::time::Duration;

use crate::mail::TopicSlot;
use crate::receipt::Reporter;
use crate::shard::deadlines::Moment;
use crate::shard::{Application, Shard, Socket};

/// What the broker is told.
#[derive(Debug)]
pub(super) struct Progress {
    reporter: Reporter,
    /// How long a batch waits for those whose sockets take nothing.
    timeout: Duration,
    /// Batches taken from the mailbox.
    taken: u64,
    /// Those that are not written, in their order.
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

impl Progress {
    /// Nothing taken, nothing written.
    pub(super) fn new(reporter: Reporter, timeout: Duration) -> Self {
        Self { reporter, timeout, taken: 0, waiting: VecDeque::new() }
    }

    /// Whether something is not written.
    pub(super) fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }
}

impl<S: Socket, A: Application> Shard<S, A> {
    /// Notes that a batch was taken: it is in its topic's log, or nobody wants it.
    pub(super) fn note_batch(&mut self, topic: TopicSlot) {
        let (now, end) = (self.deadlines.now(), self.topics[topic].end);
        if let Some(progress) = &mut self.progress {
            progress.taken += 1;
            let deadline = now.after(progress.timeout);
            progress.waiting.push_back(Unwritten { topic, end, deadline });
        }
    }

    /// Tells the broker how far everything is written, if it is farther than before.
    pub(super) fn report_written(&mut self) {
        let Some(mut progress) = self.progress.take() else { return };
        let before = progress.waiting.len();
        while progress.waiting.front().is_some_and(|first| self.is_written(first)) {
            progress.waiting.pop_front();
        }
        if progress.waiting.len() < before {
            progress.reporter.report(progress.taken - progress.waiting.len() as u64);
            self.requests.notify();
        }
        self.progress = Some(progress);
    }

    fn is_written(&self, batch: &Unwritten) -> bool {
        // A slot that is free has no subscribers; one that was taken again has a log that begins anew.
        let Some(topic) = self.topics.get(batch.topic).filter(|topic| topic.end >= batch.end) else {
            return true;
        };
        let swept = topic.behind() == 0 || topic.log.as_ref().is_none_or(|log| log.swept_to >= batch.end);
        let lacks = |slot: u32, cursor: u64| self.needed_by(batch.topic, slot, cursor) < batch.end;
        swept
            && (batch.deadline <= self.deadlines.now()
                || !topic.parked().iter().any(|one| lacks(one.client, one.cursor)))
    }
}
