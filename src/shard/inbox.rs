//! Takes the broker thread's mail.

use std::collections::VecDeque;

use crate::base::mailbox::Receiver;
use crate::domain::mail::{
    Answer, ClientKey, CommandKey, Lines, Mail, ReplyAddress, Request, TopicCounts, TopicSlot,
};
use crate::domain::reasons::{Closing, UnsubscribeCode};
use crate::net::stream::Stream;
use crate::session::answers;
use crate::shard::Shard;
use crate::shard::topic::Interest;
use crate::transport::Transport;

/// Topics looked at for a survey in one tick: a survey of many topics must not delay deliveries.
const SURVEYED_PER_TICK: u32 = 1000;

/// The mailbox, and mail that is not finished.
#[derive(Debug)]
pub(super) struct MailIntake {
    inbox: Receiver<Mail>,
    /// Mail that waits until a sweep makes room in a log. No other mail is taken before it.
    held: Option<Mail>,
    /// The budget left mail in the mailbox.
    has_more: bool,
    /// Surveys that are not answered, the oldest first.
    surveys: VecDeque<Survey>,
}

impl MailIntake {
    /// Takes mail from `inbox`.
    pub(super) fn new(inbox: Receiver<Mail>) -> Self {
        Self { inbox, held: None, has_more: false, surveys: VecDeque::new() }
    }

    /// Whether mail is left that does not wake the shard.
    pub(super) fn has_more(&self) -> bool {
        self.has_more
    }

    /// Whether surveys are to be answered.
    pub(super) fn has_surveys(&self) -> bool {
        !self.surveys.is_empty()
    }

    /// How many mails are in the mailbox.
    pub(super) fn len(&self) -> usize {
        self.inbox.len()
    }

    /// Whether the mailbox is empty.
    pub(super) fn is_empty(&self) -> bool {
        self.inbox.is_empty()
    }

    /// Has the next mail wake the shard.
    pub(super) fn rearm(&mut self) {
        self.inbox.rearm();
    }

    /// Takes the next mail.
    fn take(&mut self) -> Option<Mail> {
        self.held.take().or_else(|| self.inbox.take())
    }
}

/// A survey that is being answered.
#[derive(Clone, Copy, Debug)]
struct Survey {
    id: u32,
    next: u32,
}

impl<S: Stream, T: Transport> Shard<S, T> {
    /// Takes mail, as far as the budget and the logs have room.
    pub(super) fn take_mail(&mut self) {
        self.broker.mail.has_more = false;
        for _ in 0..self.settings.budgets.mails {
            if self.broker.call_answers.is_full() {
                break;
            }
            let Some(mail) = self.broker.mail.take() else { return };
            self.broker.mail.held = self.open(mail);
            if self.broker.mail.held.is_some() {
                break;
            }
        }
        self.broker.mail.has_more = true;
    }

    /// Carries out a mail, or returns it if it must wait for a sweep.
    fn open(&mut self, mail: Mail) -> Option<Mail> {
        match mail {
            Mail::Batch { topic, lines } => {
                if !self.append_if_wanted(topic, &lines) {
                    return Some(Mail::Batch { topic, lines });
                }
                self.note_batch(topic);
            }
            Mail::Attached { topic, position } => self.attached(topic, position),
            Mail::Answer { to: ReplyAddress { command, .. }, budget, answer } => {
                if budget.is_some() {
                    self.note_answer(command.client);
                }
                self.answered(command, answer);
            }
            Mail::Called { to, called } => self.broker.call_answers.push(to, called),
            Mail::Waits { client } => self.note_answer(client),
            Mail::AskAgain { question, budget } => self.ask_again(question, budget.is_some()),
            Mail::AttachFailed { topic, error } => self.attach_failed(topic, error),
            Mail::Detached { topic } => self.detached(topic),
            Mail::Gap => self.begin_resync(),
            Mail::Disconnect { client, closing } => self.disconnect(client, &closing),
            Mail::Unsubscribe { client, topic, code } => self.unsubscribe_for_operator(client, &topic, code),
            Mail::Verifier(verifier) => self.tokens.replace_verifier(verifier),
            Mail::Reload(settings) => self.reload(&settings),
            Mail::Survey { id } => self.broker.mail.surveys.push_back(Survey { id, next: 0 }),
            Mail::Drain => self.begin_drain(),
        }
        None
    }

    /// Adds a batch to a topic's log, if its subscribers are to receive it. Returns false if there is no room for it now.
    fn append_if_wanted(&mut self, slot: TopicSlot, lines: &Lines) -> bool {
        let topic = &mut self.topics[slot];
        if topic.interest() != Interest::Live {
            return true;
        }
        if topic.is_muted() {
            topic.skip_batch(lines.offset);
            return true;
        }
        self.append(slot, lines)
    }

    /// The broker thread's answer to a client's command.
    pub(super) fn answered(&mut self, command: CommandKey, answer: Answer) {
        match answer {
            // The topic was kept for this answer, whether the client is still there or not.
            Answer::Recovered(recovered) => self.recovered(command, *recovered),
            answer if self.is_still_pending(command) => self.reply(command, &answers::reply(&answer)),
            _ => {}
        }
    }

    pub(super) fn disconnect(&mut self, client: ClientKey, closing: &Closing) {
        if self.clients.find(client).is_none() {
            return;
        }
        match closing {
            Closing::Known(reason) => self.close(client.slot, *reason),
            Closing::Application { code, text } => self.close_for_application(client.slot, *code, text),
        }
    }

    fn unsubscribe_for_operator(&mut self, client: Option<ClientKey>, topic: &str, code: UnsubscribeCode) {
        // This mail has passed answers that came before it.
        for client in self.broker.call_answers.take_subscribes(client, topic) {
            if self.clients.find(client).is_some() {
                self.refuse_asked_subscribe(client.slot, topic);
            }
        }
        match client {
            Some(client) if self.clients.find(client).is_some() => {
                match self.subscribed(client.slot, topic) {
                    Some(topic) => self.end_subscription(client.slot, topic, code),
                    None => self.refuse_asked_subscribe(client.slot, topic),
                }
            }
            Some(_) => {}
            None => {
                let variants: Vec<_> = self.topics.variants(topic).collect();
                variants.into_iter().for_each(|topic| self.unsubscribe_everybody(topic, code));
            }
        }
    }

    fn unsubscribe_everybody(&mut self, topic: TopicSlot, code: UnsubscribeCode) {
        let everybody: Vec<_> = self.topics[topic].subscribers().iter().map(|one| one.client).collect();
        for client in everybody {
            self.end_subscription(client, topic, code);
        }
    }

    /// Answers a part of the oldest survey.
    pub(super) fn answer_surveys(&mut self) {
        let Some(&survey) = self.broker.mail.surveys.front() else { return };
        if !self.broker.requests.has_room() {
            return;
        }
        let end = self.topics.slots().min(survey.next.saturating_add(SURVEYED_PER_TICK));
        let topics = self.count_subscribers(survey.next..end);
        let last = end == self.topics.slots();
        if !self.broker.requests.send(Request::SurveyPart { id: survey.id, topics, last }) {
            return;
        }
        if last {
            self.broker.mail.surveys.pop_front();
        } else if let Some(survey) = self.broker.mail.surveys.front_mut() {
            survey.next = end;
        }
    }

    fn count_subscribers(&self, slots: std::ops::Range<u32>) -> TopicCounts {
        let topics = slots.filter_map(|slot| self.topics.get(TopicSlot(slot)));
        let counted = topics.map(|topic| (topic.name().clone(), topic.subscribers().len()));
        let some = counted.filter(|&(_, subscribers)| subscribers > 0);
        some.map(|(name, subscribers)| (name, u32::try_from(subscribers).unwrap_or(u32::MAX))).collect()
    }
}
