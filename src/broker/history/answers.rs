//! Shared answers: after a short outage, 100,000 clients miss the same publications, which are written once
//! for all of them.

use std::sync::Arc;
use std::time::Instant;

use rustc_hash::FxHashMap;

use super::expiry::RecordId;
use crate::config::memory::HISTORY_ANSWERS_BYTES;
use crate::domain::codec::Codec;

/// Publications of one topic, as one codec writes them.
#[derive(Clone, Debug)]
pub(super) struct SharedAnswer {
    /// The offsets of the first and the last.
    pub(super) offsets: (u64, u64),
    /// When the first of them expires.
    pub(super) until: Option<Instant>,
    pub(super) encoded: Arc<[u8]>,
}

/// The latest answer of each topic that has not changed since, in each codec.
#[derive(Debug, Default)]
pub(super) struct SharedAnswers {
    by_topic: FxHashMap<(RecordId, Codec), SharedAnswer>,
    bytes: usize,
}

impl SharedAnswers {
    /// The publications between these offsets, if they were written before.
    pub(super) fn find(
        &self,
        topic: RecordId,
        codec: Codec,
        offsets: (u64, u64),
        now: Instant,
    ) -> Option<Arc<[u8]>> {
        let answer = self.by_topic.get(&(topic, codec))?;
        let is_good = answer.offsets == offsets && answer.until.is_none_or(|until| now < until);
        is_good.then(|| Arc::clone(&answer.encoded))
    }

    /// Keeps an answer in place of the topic's previous one.
    pub(super) fn keep(&mut self, topic: RecordId, codec: Codec, answer: SharedAnswer) {
        self.remove(topic, codec);
        if self.bytes + answer.encoded.len() > HISTORY_ANSWERS_BYTES {
            self.clear();
        }
        if answer.encoded.len() <= HISTORY_ANSWERS_BYTES {
            self.bytes += answer.encoded.len();
            self.by_topic.insert((topic, codec), answer);
        }
    }

    /// Drops a topic's answers, because it has changed.
    pub(super) fn forget(&mut self, topic: RecordId) {
        Codec::ALL.into_iter().for_each(|codec| self.remove(topic, codec));
    }

    fn remove(&mut self, topic: RecordId, codec: Codec) {
        if let Some(answer) = self.by_topic.remove(&(topic, codec)) {
            self.bytes -= answer.encoded.len();
        }
    }

    /// Drops all answers.
    pub(super) fn clear(&mut self) {
        self.by_topic.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_answers_are_bounded() {
        let mut answers = SharedAnswers::default();
        let encoded: Arc<[u8]> = vec![0; 5 << 20].into();
        for topic in 0..10 {
            let answer = SharedAnswer { offsets: (1, 2), until: None, encoded: Arc::clone(&encoded) };
            answers.keep(RecordId(topic), Codec::Json, answer);
            assert!(Arc::strong_count(&encoded) <= 1 + 3);
        }
        let too_large = SharedAnswer { offsets: (1, 2), until: None, encoded: vec![0; 17 << 20].into() };
        answers.keep(RecordId(9), Codec::Json, too_large);
        let now = Instant::now();
        assert!((0..10).all(|topic| answers.find(RecordId(topic), Codec::Json, (1, 2), now).is_none()));
        assert_eq!(Arc::strong_count(&encoded), 1);
    }
}
