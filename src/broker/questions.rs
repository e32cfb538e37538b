//! Answers questions, as far as there is room for the answers, and reads histories. Recoveries stand in
//! [`recovery`](super::recovery).

use std::sync::Arc;
use std::time::Instant;

use crate::domain::asked::{Asked, HistoryPage, HistoryRange, Told};
use crate::domain::codec::Codec;
use crate::domain::mail::{Answer, AnswerBudget, Mail, Question, TopicQuestion};
use crate::domain::position::Position;
use crate::domain::publication::{Publication, Publications};
use crate::domain::reasons::ErrorCode;

use super::history::{Query, Unrecoverable};
use super::turn::Broker;

/// Publications in one answer to a history command at most, as SDKs expect it.
const PAGE_MAX: usize = 300;

/// The budget that bounds the bytes of a client's answers. `None`: the answer may have any size.
pub(super) type Budget = Option<Arc<AnswerBudget>>;

/// Whether the budget has no room even for the smallest answer.
pub(super) fn is_spent(budget: &Budget) -> bool {
    budget.as_ref().is_some_and(|budget| budget.is_spent())
}

/// Takes room for an answer with so many bytes of publications. Returns false if there is none.
pub(super) fn has_room(budget: &Budget, bytes: usize) -> bool {
    budget.as_ref().is_none_or(|budget| budget.take(bytes))
}

impl Broker {
    /// Answers a client's question.
    pub(super) fn answer_question(&mut self, question: Question, budget: Budget) {
        match question {
            Question::Recover(question) => self.recover(question, budget),
            Question::Topic(question) => self.answer_about_topic(question, budget),
        }
    }

    /// Has the client's shard ask again, with another budget.
    pub(super) fn leave_for_later(&mut self, question: Question, budget: Budget) {
        self.outbox.push(question.reply_to().shard, Mail::AskAgain { question, budget });
    }

    /// Answers, if there is room for the answer.
    fn answer_about_topic(&mut self, question: Box<TopicQuestion>, budget: Budget) {
        if is_spent(&budget) {
            return self.leave_for_later(Question::Topic(question), budget);
        }
        let TopicQuestion { reply_to, topic, asked } = &*question;
        let told = match asked {
            Asked::History(range) => self.encoded_page(topic, range, reply_to.codec).map(Told::History),
        };
        let answer = told.map_or_else(Answer::Error, |told| Answer::Told(Box::new(told)));
        if !has_room(&budget, answer.weight()) {
            return self.leave_for_later(Question::Topic(question), budget);
        }
        self.answer_client(*reply_to, budget, answer);
    }

    /// A part of a history for a client.
    fn encoded_page(
        &mut self,
        topic: &str,
        range: &HistoryRange,
        codec: Codec,
    ) -> Result<HistoryPage, ErrorCode> {
        let bytes_max = self.config.limits.frame_bytes;
        let mut publications = Vec::new();
        let position = self.show_history(topic, range, |publication| {
            let before = publications.len();
            codec.add_publication(&mut publications, publication);
            let fits = publications.len() <= bytes_max;
            if !fits {
                publications.truncate(before);
            }
            fits
        })?;
        Ok(HistoryPage { position, publications })
    }

    /// The same part for an operator, with the same limit.
    pub(super) fn history_page(
        &mut self,
        topic: &str,
        range: &HistoryRange,
    ) -> Result<HistoryPage<Publications>, ErrorCode> {
        let bytes_max = self.config.limits.frame_bytes;
        let (mut publications, mut bytes) = (Publications::default(), 0);
        let position = self.show_history(topic, range, |publication| {
            // The first one has no comma.
            bytes += Codec::Json.added_len(publication) - usize::from(bytes == 0);
            let fits = bytes <= bytes_max;
            if fits {
                publications.push(publication);
            }
            fits
        })?;
        Ok(HistoryPage { position, publications })
    }

    fn show_history(
        &mut self,
        topic: &str,
        range: &HistoryRange,
        take: impl FnMut(&Publication<'_>) -> bool,
    ) -> Result<Position, ErrorCode> {
        let HistoryRange { limit, since, reverse } = range;
        self.must_have_history(topic)?;
        let limit = limit.map_or(PAGE_MAX, |limit| limit as usize).min(PAGE_MAX);
        let query = Query { topic, since: since.as_ref(), limit, reverse: *reverse };
        let position = self.history.read(&query, Instant::now(), take);
        position.map_err(|Unrecoverable| ErrorCode::UnrecoverablePosition)
    }

    /// Whether a topic has a history.
    ///
    /// # Errors
    /// Why it has none.
    pub(super) fn must_have_history(&self, topic: &str) -> Result<(), ErrorCode> {
        let namespaces = &self.namespaces;
        match namespaces.options(namespaces.of(topic)).has_history() {
            _ if !namespaces.is_known(topic) => Err(ErrorCode::UnknownChannel),
            true => Ok(()),
            false => Err(ErrorCode::NotAvailable),
        }
    }
}

#[cfg(test)]
mod tests;
