//! Clients' questions whose answers may be large: recoveries, and questions about a history.
//!
//! How large an answer is, the broker knows, and not before it looks. So the questions of one client share a budget
//! ([`AnswerBudget`]): one answer may always be under way, others as far as they have room in it, and what has none
//! comes back and is asked again in the next budget, which begins when all answers of the one before have come. A
//! budget is what the client may leave waiting and does not, unless all budgets and replies of the shard have too much
//! together. In all that the order stays in which the questions were asked first.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::mail::{ANSWER_COST, AnswerBudget, ClientKey, Question};
use crate::shard::clients::Client;
use crate::shard::{Application, Shard, Socket};

/// One client's.
#[derive(Debug, Default)]
pub struct Questions {
    asked: Option<Asked>,
    /// To be asked in the next budget.
    postponed: VecDeque<Question>,
}

/// Questions that share a budget.
#[derive(Debug)]
struct Asked {
    budget: Arc<AnswerBudget>,
    bytes: usize,
    /// How many there were.
    count: usize,
    /// How many of them are not answered.
    unanswered: usize,
    /// How many had no room.
    came_back: usize,
}

impl Asked {
    fn new(bytes: usize) -> Self {
        Self { budget: AnswerBudget::new(bytes), bytes, count: 0, unanswered: 0, came_back: 0 }
    }

    /// Whether the smallest answer to one more question may have room.
    fn has_room(&self) -> bool {
        self.count == 0 || (self.count + 1) * ANSWER_COST <= self.bytes
    }
}

impl Questions {
    /// Whether some are to be asked later.
    #[must_use]
    pub fn are_postponed(&self) -> bool {
        !self.postponed.is_empty()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.asked.is_none() && self.postponed.is_empty()
    }
}

impl<S: Socket, A: Application> Shard<S, A> {
    /// Whether one more question of a client can be asked now.
    pub(super) fn may_ask(&self, slot: u32) -> bool {
        let client = &self.clients[slot];
        let questions = client.waiting.as_ref().map(|waiting| &waiting.questions);
        match questions.and_then(|questions| questions.asked.as_ref()) {
            _ if questions.is_some_and(Questions::are_postponed) => false,
            Some(asked) => asked.has_room(),
            None => client.reply_bytes() <= self.limits.replies_bytes,
        }
    }

    /// Asks the broker, as soon as there is room: in the client's budget, or in its next one.
    pub(super) fn ask(&mut self, question: Question) {
        let Some(ClientKey { slot, .. }) = question.client() else { return };
        if self.may_ask(slot) {
            self.put_question(slot, question);
        } else {
            self.clients[slot].held_up = true;
            self.questions_of(slot).postponed.push_back(question);
        }
    }

    fn put_question(&mut self, slot: u32, mut question: Question) {
        let left_of_all =
            self.limits.shard_replies_bytes.saturating_sub(self.reply_bytes + self.promised_bytes);
        let left = self.limits.replies_bytes.saturating_sub(self.clients[slot].reply_bytes());
        let questions = self.questions_of(slot);
        let is_new = questions.asked.is_none();
        let asked = questions.asked.get_or_insert_with(|| Asked::new(left.min(left_of_all)));
        asked.count += 1;
        asked.unanswered += 1;
        question.set_budget(Arc::clone(&asked.budget));
        self.promised_bytes += if is_new { left.min(left_of_all) } else { 0 };
        self.questions.push_back(question.into());
    }

    fn questions_of(&mut self, slot: u32) -> &mut Questions {
        &mut self.clients[slot].waiting.get_or_insert_default().questions
    }

    /// Asks again what had no room. What still has none waits for the answers that come, or to be taken, before.
    pub(super) fn ask_postponed(&mut self, slot: u32) {
        if !self.clients[slot].has_postponed() || self.questions_of(slot).asked.is_some() {
            return;
        }
        let mut postponed = std::mem::take(&mut self.questions_of(slot).postponed);
        while self.may_ask(slot)
            && let Some(question) = postponed.pop_front()
        {
            self.put_question(slot, question);
        }
        self.questions_of(slot).postponed = postponed;
    }

    /// The broker had no room for the answer.
    pub(super) fn postpone(&mut self, question: Question) {
        let Some(client) = question.client() else { return };
        if self.clients.find(client).is_some_and(Client::is_open) {
            self.clients[client.slot].held_up = true;
            let Questions { asked, postponed } = self.questions_of(client.slot);
            // Before those that were not asked in this budget.
            let before = asked.as_mut().map_or(0, |asked| {
                asked.came_back += 1;
                asked.came_back - 1
            });
            postponed.insert(before, question);
        } else {
            self.drop_question(question);
        }
        self.note_answer(client);
    }

    /// Notes that one of a client's questions is not under way any more. With the last of them the budget ends.
    pub(super) fn note_answer(&mut self, client: ClientKey) {
        let slot = client.slot;
        if self.clients.find(client).is_none() {
            return;
        }
        let Some(waiting) = &mut self.clients[slot].waiting else { return };
        let Some(asked) = &mut waiting.questions.asked else { return };
        asked.unanswered -= 1;
        if asked.unanswered == 0 {
            self.promised_bytes -= asked.bytes;
            waiting.questions.asked = None;
            if self.clients[slot].held_up {
                self.readable(slot);
            }
        }
    }

    /// A client asks nothing any more. What is under way is answered all the same.
    pub(super) fn drop_questions(&mut self, slot: u32) {
        let Some(waiting) = &mut self.clients[slot].waiting else { return };
        let Questions { asked, postponed } = std::mem::take(&mut waiting.questions);
        self.promised_bytes -= asked.map_or(0, |asked| asked.bytes);
        postponed.into_iter().for_each(|question| self.drop_question(question));
    }

    /// Nobody waits for the answer, for which its topic was to stay.
    fn drop_question(&mut self, question: Question) {
        if let Question::Recover(question) = question {
            self.topics[question.topic].recovering -= 1;
            self.detach_if_deserted(question.topic);
        }
    }

    /// Sends the questions that wait, as far as there is room: whether one was sent. Recoveries are about topics that
    /// the broker knows of, and hears of no detaching before it has answered.
    pub(super) fn send_questions(&mut self) -> bool {
        let mut sent = false;
        while self.requests.room() > 0
            && let Some(question) = self.questions.pop_front()
        {
            // The room was another thread's as well, and it may have been quicker.
            if let Err(refused) = self.requests.push(question) {
                self.questions.push_front(refused);
                break;
            }
            sent = true;
        }
        sent
    }
}
