//! Answers recoveries.
//!
//! An answer ends with the last publication that was put into the shard's mailbox before it. What
//! still waits to be merged is not in it, and comes after it.
//!
//! A request that needs messages that this node has not read yet waits here. Its shard keeps no room for its
//! answer meanwhile. When it has waited, the shard sends it again, with room.

use std::time::Instant;

use crate::config::RecoveryMode;
use crate::domain::mail::{Lane, Mail, Question, Recover, ReplyAddress};
use crate::domain::position::{Position, Since};
use crate::domain::reasons::ErrorCode;

use super::history::{Mode, RecoveryQuery};
use super::inlet::Requester;
use super::outbox::Recipients;
use super::questions::{Budget, has_room, is_spent};
use super::turn::{Broker, REQUESTS_PER_TURN};

/// Questions of clients that were ahead, taken in one turn. Requests have the other half of a turn.
const AGAIN_PER_TURN: usize = REQUESTS_PER_TURN / 2;

impl Broker {
    /// The position from which subscribers in a lane continue that attach now, if the topic's namespace has a history.
    pub(super) fn position(&self, name: &str, lane: Lane) -> Option<Position> {
        let has_history = self.namespaces.options(self.namespaces.of(name)).has_history();
        has_history.then(|| self.history.position(name, self.handed_over(name, lane)))
    }

    /// The offset up to which everything of a topic was handed over to the subscribers in a lane.
    fn handed_over(&self, name: &str, lane: Lane) -> u64 {
        let waiting_from = self.topics.find(name).and_then(|id| self.merge.waiting_from(id, lane));
        waiting_from.map_or(u64::MAX, |first| first.saturating_sub(1))
    }

    /// Answers a client that wants to continue at a position: at once, or when this node has read as far.
    pub(super) fn recover(&mut self, question: Box<Recover>, budget: Budget) {
        if !self.is_ahead(&question) {
            self.answer_recovery(question, budget);
        } else if question.has_waited && self.can_tell() {
            // What it has will not come any more.
            self.answer_recovery(question, budget);
        } else if question.has_waited {
            self.refuse_recovery(*question, budget);
        } else {
            self.let_wait(*question, budget);
        }
    }

    /// Whether a client has, or may have, a publication that this node has not read yet.
    fn is_ahead(&self, question: &Recover) -> bool {
        let Since { epoch, offset } = &question.since;
        let is_beyond = self.progress.newest().is_some_and(|newest| *offset > newest);
        !self.progress.is_read_back()
            || is_beyond && **epoch == *self.history.position(&question.name, u64::MAX).epoch
    }

    /// Whether this node has read everything, so that a publication that it has not read is not in its stream. Without a link
    /// it cannot tell. Then it refuses the client, who may come to another node when it asks again.
    fn can_tell(&self) -> bool {
        self.progress.is_read_back() && self.progress.is_linked()
    }

    fn let_wait(&mut self, mut question: Recover, budget: Budget) {
        question.has_waited = true;
        if budget.is_some() {
            let ReplyAddress { shard, command, .. } = question.reply_to;
            self.outbox.push(shard, Mail::Waits { client: command.client });
        }
        if let Some(gone) = self.catch_up.wait(question, Instant::now()) {
            self.refuse_recovery(gone, None);
        }
    }

    /// The stream has been read back, and its epoch is known: questions that are not ahead any more are ready.
    pub(super) fn ask_again(&mut self) {
        let mut all = std::mem::take(&mut self.catch_up);
        all.look_again(|question| self.is_ahead(question));
        self.catch_up = all;
    }

    /// Has the shards ask again for clients that are not ahead any more, and refuses those that have waited long enough. Each
    /// counts as a request, so that messages and other requests do not wait for all of them.
    pub(super) fn answer_caught_up(&mut self) {
        for _ in 0..AGAIN_PER_TURN {
            if !self.takes_requests() {
                return;
            }
            let Some(question) = self.next_caught_up() else { return };
            let shard = question.reply_to.shard;
            self.outbox.count_request(Requester::Shard(shard), Recipients::Shard(shard));
            if self.can_tell() || self.progress.is_read_back() && !self.is_ahead(&question) {
                self.leave_for_later(Question::Recover(Box::new(question)), None);
            } else {
                self.refuse_recovery(question, None);
            }
        }
    }

    fn next_caught_up(&mut self) -> Option<Recover> {
        let (reached, outbox) = (self.progress.reached(), &self.outbox);
        self.catch_up.next(reached, Instant::now(), |shard| outbox.may_ask(Requester::Shard(shard)))
    }

    /// When [`Self::answer_caught_up`] has something to do. `None` while no requests are taken: the outbox' retry wakes the
    /// thread then.
    pub(super) fn next_recovery(&self) -> Option<Instant> {
        if !self.takes_requests() {
            return None;
        }
        let (reached, now) = (self.progress.reached(), Instant::now());
        self.catch_up.next_deadline(reached, now, |shard| self.outbox.may_ask(Requester::Shard(shard)))
    }

    fn refuse_recovery(&mut self, question: Recover, budget: Budget) {
        self.stats.recoveries_refused.add(1);
        let (to, answer) = question.answer(Err(ErrorCode::Internal));
        self.answer_client(to, budget, answer);
    }

    /// Answers, if there is room for the answer.
    fn answer_recovery(&mut self, question: Box<Recover>, budget: Budget) {
        if is_spent(&budget) {
            return self.leave_for_later(Question::Recover(question), budget);
        }
        let lane = question.variant.lane;
        if question.since.offset > self.handed_over(&question.name, lane) {
            // Another lane, or another node, was quicker: what this client has must not come to it again.
            self.end_waiting(&question.name, lane);
        }
        let query = RecoveryQuery {
            topic: &question.name,
            since: &question.since,
            up_to: self.handed_over(&question.name, lane),
            read_to: self.progress.newest().unwrap_or(0),
            mode: match self.namespaces.options(self.namespaces.of(&question.name)).recovery_mode {
                RecoveryMode::Stream => Mode::Stream,
                RecoveryMode::Cache => Mode::Cache,
            },
            codec: question.reply_to.codec,
            bytes_max: self.config.limits.frame_bytes,
        };
        let recovery = self.history.recover(&query, Instant::now());
        if !has_room(&budget, recovery.missed.as_ref().map_or(0, |missed| missed.len())) {
            return self.leave_for_later(Question::Recover(question), budget);
        }
        let is_recovered = recovery.missed.is_some();
        let counter = if is_recovered { &self.stats.recovered } else { &self.stats.unrecovered };
        counter.add(1);
        let (to, answer) = question.answer(Ok(recovery));
        self.answer_client(to, budget, answer);
    }

    fn end_waiting(&mut self, name: &str, lane: Lane) {
        if let Some(topic) = self.topics.find(name) {
            self.merge.close_lane(topic, lane);
            self.hand_over();
        }
    }

    /// Tells all shards the positions of their topics with history: offsets or the epoch have changed.
    pub(super) fn tell_positions(&mut self) {
        let attachments = self
            .topics
            .iter()
            .flat_map(|topic| topic.attachments().iter().map(move |attachment| (topic, attachment)));
        let attached = attachments.filter_map(|(topic, attachment)| {
            Some((*attachment, self.position(&topic.name, attachment.variant.lane)?))
        });
        let attached: Vec<_> = attached.collect();
        for (attachment, position) in attached {
            self.outbox
                .push(attachment.shard, Mail::Attached { topic: attachment.slot, position: Some(position) });
        }
    }
}

#[cfg(test)]
mod tests;
