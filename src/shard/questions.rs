//! Requests of clients with large answers: recoveries, and history commands.
//!
//! Only the broker thread knows how large an answer is, and only when it makes it. So the requests of one
//! client share a budget ([`AnswerBudget`]). One answer may always be in flight, others only as far as there
//! is room. A request that finds no room comes back, and is sent again with the next budget, which begins
//! when all answers of the one before have come. A budget is what the client may leave unread. Requests keep
//! the order in which they were first sent.
//!
//! While it lasts, a budget counts against `limits.shard_replies_bytes`, with the largest answer at least. If
//! there is no room for a client's budget, the client waits in a line, first come, first served. So no client
//! that reads its answers is closed for those of others. A request that waits for something other than room
//! has no budget meanwhile: the broker thread takes it out of its budget, and the shard sends it again when
//! it can be answered.
//!
//! So the line never stops for long. A budget ends as soon as the broker thread has answered its requests,
//! and no request joins one that has lasted long. If others leave so much unread that no budget has room, one
//! is opened nevertheless. If its answer reaches the bound, clients are closed whose replies have waited
//! longest.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::base::moment::Moment;
use crate::domain::mail::{ANSWER_COST, AnswerBudget, ClientKey, Question, Recovery, Request};
use crate::domain::reasons::ErrorCode;
use crate::net::stream::Stream;
use crate::shard::Shard;
use crate::transport::Transport;

/// How long the line stands still at most while no budget is open, and how long questions may join a budget. A client that
/// takes its replies within `timeouts.replies` takes a large answer in less.
const STANDSTILL: Duration = Duration::from_millis(250);

/// Stale entries of the line stay until there are so many more than two for each client.
const STALE: usize = 1024;

/// The budgets of all clients together, and which clients wait for room to open one.
#[derive(Debug, Default)]
pub(super) struct AnswerBudgets {
    /// Bytes that all open budgets have together.
    promised: usize,
    /// Clients whose next budget waits for room, in the order of their turns.
    waiting: VecDeque<ClientKey>,
    /// When `waiting` was last empty, or one of them had its turn.
    moved: Moment,
}

impl AnswerBudgets {
    /// Whether clients wait for room.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

/// The questions of one client.
#[derive(Debug, Default)]
pub struct Questions {
    open: Option<OpenBudget>,
    /// Questions to be asked in the next budget.
    postponed: VecDeque<Question>,
    /// The client is in the line for its next budget.
    waits_for_budget: bool,
}

/// Questions that share a budget.
#[derive(Debug)]
struct OpenBudget {
    budget: Arc<AnswerBudget>,
    /// Since when it is open.
    since: Moment,
    bytes: usize,
    /// Bytes that its answers may have together. The first of them may be larger than the budget.
    promised: usize,
    /// How many there were.
    count: usize,
    /// How many of them are not answered.
    unanswered: usize,
    /// How many came back because their answers had no room.
    came_back: usize,
}

impl OpenBudget {
    fn new(since: Moment, bytes: usize, promised: usize) -> Self {
        let budget = AnswerBudget::new(bytes);
        Self { budget, since, bytes, promised, count: 0, unanswered: 0, came_back: 0 }
    }

    /// Whether one more question may join: the budget is young, and the smallest answer may have room.
    fn has_room(&self, now: Moment) -> bool {
        let is_old = self.since.after(STANDSTILL) <= now;
        !is_old && (self.count + 1) * ANSWER_COST <= self.bytes
    }
}

impl Questions {
    /// Whether some are to be asked later.
    #[must_use]
    pub fn are_postponed(&self) -> bool {
        !self.postponed.is_empty()
    }

    /// What the answers in its budget may have together, in bytes.
    #[must_use]
    pub fn promised_bytes(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.promised)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.open.is_none() && self.postponed.is_empty()
    }
}

impl<S: Stream, T: Transport> Shard<S, T> {
    /// Whether one more question of a client can be asked now.
    pub(super) fn may_ask(&self, slot: u32) -> bool {
        let client = &self.clients[slot];
        let questions = client.unfinished.as_ref().map(|unfinished| &unfinished.questions);
        match questions.and_then(|questions| questions.open.as_ref()) {
            _ if questions.is_some_and(Questions::are_postponed) => false,
            Some(open) => open.has_room(self.timers.now()),
            None => client.reply_bytes() <= self.settings.limits.replies_bytes,
        }
    }

    /// Asks the broker, as soon as there is room: in the client's budget, or in its next one.
    pub(super) fn ask(&mut self, question: Question) {
        let slot = question.reply_to().command.client.slot;
        if self.may_ask(slot) && (self.questions_of(slot).open.is_some() || self.may_begin()) {
            self.put_question(slot, question);
        } else {
            self.clients[slot].set_stalled(true);
            self.questions_of(slot).postponed.push_back(question);
            self.ask_postponed(slot);
        }
    }

    /// Whether a budget can begin out of turn: no client is in the line, and there is room.
    fn may_begin(&self) -> bool {
        self.answers.waiting.is_empty() && self.has_room_for_budget()
    }

    /// Whether replies that wait and budgets that are open leave room for one more budget.
    fn has_room_for_budget(&self) -> bool {
        let bound = self.settings.limits.shard_replies_bytes;
        let stands_still =
            self.answers.moved.after(STANDSTILL) <= self.timers.now() && !self.answers.waiting.is_empty();
        let is_alone = self.answers.promised == 0 && (self.replies.bytes() <= bound / 2 || stands_still);
        is_alone || self.replies.bytes() + self.answers.promised + self.largest_answer() <= bound
    }

    fn largest_answer(&self) -> usize {
        ANSWER_COST + self.settings.limits.frame_bytes
    }

    fn put_question(&mut self, slot: u32, question: Question) {
        let limits = &self.settings.limits;
        let left_of_all =
            limits.shard_replies_bytes.saturating_sub(self.replies.bytes() + self.answers.promised);
        let left = limits.replies_bytes.saturating_sub(self.clients[slot].reply_bytes()).min(left_of_all);
        let promised = left.max(self.largest_answer());
        let now = self.timers.now();
        let questions = self.questions_of(slot);
        let is_new = questions.open.is_none();
        let open = questions.open.get_or_insert_with(|| OpenBudget::new(now, left, promised));
        open.count += 1;
        open.unanswered += 1;
        let budget = Some(Arc::clone(&open.budget));
        self.answers.promised += if is_new { promised } else { 0 };
        self.broker.requests.push_question(Request::Ask { question, budget });
    }

    /// Puts a client into the line, if its next budget could begin but for the room.
    fn wait_for_budget(&mut self, slot: u32) {
        let takes_replies = self.clients[slot].reply_bytes() <= self.settings.limits.replies_bytes;
        let Questions { open, waits_for_budget, .. } = self.questions_of(slot);
        if open.is_some() || !takes_replies || std::mem::replace(waits_for_budget, true) {
            return;
        }
        if self.answers.waiting.is_empty() {
            self.answers.moved = self.timers.now();
        }
        self.answers.waiting.push_back(self.clients.key(slot));
        if self.answers.waiting.len() > 2 * self.clients.len() + STALE {
            let clients = &self.clients;
            self.answers.waiting.retain(|&key| clients.find(key).is_some_and(|client| client.is_open()));
        }
    }

    /// Lets those in the line ask, as far as there is room.
    pub(super) fn open_waiting_budgets(&mut self) {
        while self.has_room_for_budget()
            && let Some(key) = self.answers.waiting.pop_front()
        {
            let slot = key.slot;
            // A client that has gone or is being closed has no questions.
            if !self.clients.find(key).is_some_and(|client| client.has_postponed()) {
                continue;
            }
            self.questions_of(slot).waits_for_budget = false;
            self.ask_in_turn(slot);
            self.answers.moved = self.timers.now();
            if !self.clients[slot].has_postponed() {
                self.readable(slot);
            }
        }
    }

    /// Bytes that all open budgets have together: for each at least those of the largest answer.
    #[must_use]
    pub fn promised_bytes(&self) -> usize {
        self.answers.promised
    }

    fn questions_of(&mut self, slot: u32) -> &mut Questions {
        &mut self.clients[slot].unfinished.get_or_insert_default().questions
    }

    /// Asks postponed questions, if a budget can begin. Otherwise they wait for the present budget's end, for replies to be
    /// taken, or for the client's turn in the line.
    pub(super) fn ask_postponed(&mut self, slot: u32) {
        if !self.clients[slot].has_postponed() {
            return;
        }
        if self.has_full_reply(slot) {
            return self.give_up_recoveries(slot);
        }
        let Questions { open, waits_for_budget, .. } = self.questions_of(slot);
        if open.is_some() || *waits_for_budget {
            return;
        }
        if self.may_begin() {
            self.ask_in_turn(slot);
        } else {
            self.wait_for_budget(slot);
        }
    }

    /// Whether the reply to the client's connect is as large as a frame of publications may be.
    fn has_full_reply(&self, slot: u32) -> bool {
        self.clients[slot].prepared_bytes() > self.settings.limits.frame_bytes
    }

    /// Answers the recoveries for which the reply to a connect has no room: the client cannot continue, and is told where
    /// the topic is now.
    fn give_up_recoveries(&mut self, slot: u32) {
        let Questions { postponed, waits_for_budget, .. } = self.questions_of(slot);
        *waits_for_budget = false;
        for question in std::mem::take(postponed) {
            let Question::Recover(recover) = question else {
                unreachable!("a connect asks for recoveries alone")
            };
            let position = self.topics[recover.topic].position().cloned();
            let unrecovered = position.map(|position| Recovery { position, missed: None });
            let (to, answer) = recover.answer(unrecovered.ok_or(ErrorCode::Internal));
            self.answered(to.command, answer);
        }
    }

    fn ask_in_turn(&mut self, slot: u32) {
        let mut postponed = std::mem::take(&mut self.questions_of(slot).postponed);
        while self.may_ask(slot)
            && let Some(question) = postponed.pop_front()
        {
            self.put_question(slot, question);
        }
        self.questions_of(slot).postponed = postponed;
    }

    /// The broker wants a question to be asked again. If it `is_under_way`, the client's budget had no room for the answer.
    /// Otherwise it has waited for something else.
    pub(super) fn ask_again(&mut self, question: Question, is_under_way: bool) {
        let client = question.reply_to().command.client;
        if !self.clients.find(client).is_some_and(|client| client.is_open()) {
            self.drop_question(question);
        } else if is_under_way {
            self.postpone(client.slot, question);
        } else {
            self.ask(question);
        }
        if is_under_way {
            self.note_answer(client);
        }
    }

    /// The broker had no room for the answer.
    fn postpone(&mut self, slot: u32, question: Question) {
        self.clients[slot].set_stalled(true);
        let Questions { open, postponed, .. } = self.questions_of(slot);
        // Before the questions that were not asked in this budget.
        let before = open.as_mut().map_or(0, |open| {
            open.came_back += 1;
            open.came_back - 1
        });
        postponed.insert(before, question);
    }

    /// Notes that one of a client's questions has left its budget: it was answered, came back, or waits. The budget ends
    /// with the last of them.
    pub(super) fn note_answer(&mut self, client: ClientKey) {
        let slot = client.slot;
        if self.clients.find(client).is_none() {
            return;
        }
        let Some(unfinished) = &mut self.clients[slot].unfinished else { return };
        let Some(open) = &mut unfinished.questions.open else { return };
        open.unanswered -= 1;
        if open.unanswered == 0 {
            self.answers.promised -= open.promised;
            unfinished.questions.open = None;
            if self.clients[slot].is_stalled() {
                self.readable(slot);
            }
        }
    }

    /// Drops the questions of a client that is closing. Those under way are still answered.
    pub(super) fn drop_questions(&mut self, slot: u32) {
        let Some(unfinished) = &mut self.clients[slot].unfinished else { return };
        let Questions { open, postponed, .. } = std::mem::take(&mut unfinished.questions);
        self.answers.promised -= open.map_or(0, |open| open.promised);
        postponed.into_iter().for_each(|question| self.drop_question(question));
    }

    /// Drops a question. The topic of a recovery need not stay for it.
    fn drop_question(&mut self, question: Question) {
        if let Question::Recover(question) = question {
            self.topics[question.topic].end_recovery();
            self.detach_if_deserted(question.topic);
        }
    }
}
