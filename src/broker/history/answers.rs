//! Answers that others will ask for as well: after a blip, 100,000 clients miss the same publications.

use std::sync::Arc;
use std::time::Instant;

use rustc_hash::FxHashMap;

use super::expiry::RecordId;
use crate::config::memory::HISTORY_ANSWERS_BYTES;

/// Publications of one topic, joined.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// The offsets of the first and the last.
    pub(super) offsets: (u64, u64),
    /// When one of them comes to an end of its own.
    pub(super) until: Option<Instant>,
    pub(super) members: Arc<[u8]>,
}

/// The latest answer of each topic that has not changed since.
#[derive(Debug, Default)]
pub(super) struct Answers {
    by_topic: FxHashMap<RecordId, Answer>,
    bytes: usize,
}

impl Answers {
    /// The publications between these offsets, if they were asked for before.
    pub(super) fn find(&self, topic: RecordId, offsets: (u64, u64), now: Instant) -> Option<Arc<[u8]>> {
        let answer = self.by_topic.get(&topic)?;
        let is_good = answer.offsets == offsets && answer.until.is_none_or(|until| now < until);
        is_good.then(|| Arc::clone(&answer.members))
    }

    /// Keeps an answer in place of the topic's last one.
    pub(super) fn keep(&mut self, topic: RecordId, answer: Answer) {
        self.forget(topic);
        if self.bytes + answer.members.len() > HISTORY_ANSWERS_BYTES {
            self.clear();
        }
        if answer.members.len() <= HISTORY_ANSWERS_BYTES {
            self.bytes += answer.members.len();
            self.by_topic.insert(topic, answer);
        }
    }

    /// The topic has changed.
    pub(super) fn forget(&mut self, topic: RecordId) {
        if let Some(answer) = self.by_topic.remove(&topic) {
            self.bytes -= answer.members.len();
        }
    }

    /// Forgets them all.
    pub(super) fn clear(&mut self) {
        self.by_topic.clear();
        self.bytes = 0;
    }
}
