//! Handles the broker thread's mail.

use crate::codec::reply::{EncodedPublications, HistoryRead, Position, Reply};
use crate::domain::mail::{ClientKey, CommandKey, HistoryPage, Lines, Mail, Request, TopicCounts, TopicSlot};
use crate::domain::reasons::{Closing, ErrorCode, UnsubscribeCode};
use crate::shard::pacing::Walk;
use crate::shard::topics::Interest;
use crate::shard::{Application, Shard, Socket};

/// Topics looked at for a survey in one tick: a survey of many topics must not delay deliveries.
const SURVEYED_PER_TICK: u32 = 1000;

/// A survey that is being answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Survey {
    id: u32,
    next: u32,
}

impl<S: Socket, A: Application> Shard<S, A> {
    /// Takes mail, as far as the budget and the logs have room.
    pub(super) fn take_mail(&mut self) {
        self.more_mail = false;
        for _ in 0..self.budgets.mails {
            let Some(mail) = self.held_mail.take().or_else(|| self.inbox.take()) else { return };
            self.held_mail = self.open(mail);
            if self.held_mail.is_some() {
                break;
            }
        }
        self.more_mail = true;
    }

    /// Does what a mail says, or gives it back if it must wait for a sweep.
    fn open(&mut self, mail: Mail) -> Option<Mail> {
        match mail {
            Mail::Batch { topic, lines } => {
                let wanted = self.topics[topic].interest == Interest::Live && !self.is_muted(topic, &lines);
                if wanted && !self.append(topic, &lines) {
                    return Some(Mail::Batch { topic, lines });
                }
                self.note_batch(topic);
            }
            Mail::Attached { topic, position } => self.attached(topic, position),
            Mail::Recovered { question, answer } => self.recovered(*question, *answer),
            Mail::Waits { client } => self.note_answer(client),
            Mail::AskAgain(question) => self.ask_again(question),
            Mail::AttachFailed { topic, error } => self.attach_failed(topic, error),
            Mail::Detached { topic } => self.detached(topic),
            Mail::Published { client, command, outcome } => self.published(client, command, outcome),
            Mail::History { client, command, page } => self.history_read(client, command, *page),
            Mail::Gap => self.begin_gap(),
            Mail::Disconnect { client, closing } => self.disconnect(client, &closing),
            Mail::Unsubscribe { client, topic, code } => self.unsubscribe_for_operator(client, &topic, code),
            Mail::Survey { id } => self.surveys.push_back(Survey { id, next: 0 }),
            Mail::Drain => self.drain = Some(Walk::begin(self.clients_per_second, self.clients.len())),
        }
        None
    }

    /// Whether a topic's subscribers are still to be told that its numbering is another one. What comes meanwhile
    /// is not for them, and those who come stand behind it.
    fn is_muted(&mut self, topic: TopicSlot, lines: &Lines) -> bool {
        let topic = &mut self.topics[topic];
        if topic.is_muted
            && let Some(position) = &mut topic.position
        {
            position.offset = lines.offset;
        }
        topic.is_muted
    }

    fn published(&mut self, client: ClientKey, command: u32, outcome: Result<(), ErrorCode>) {
        let asker = CommandKey { client, id: command };
        if self.is_still_pending(asker) {
            self.reply(asker, &outcome.map_or_else(Reply::Error, |()| Reply::Publish));
        }
    }

    fn history_read(&mut self, client: ClientKey, command: u32, page: Result<HistoryPage, ErrorCode>) {
        let asker = CommandKey { client, id: command };
        self.note_answer(client);
        if self.is_still_pending(asker) {
            let reply = page.as_ref().map_or_else(
                |error| Reply::Error(*error),
                |HistoryPage { position, publications }| {
                    let position = Position { epoch: &position.epoch, offset: position.offset };
                    Reply::History(HistoryRead { position, publications: EncodedPublications(publications) })
                },
            );
            self.reply(asker, &reply);
        }
    }

    fn disconnect(&mut self, client: ClientKey, closing: &Closing) {
        if self.clients.find(client).is_none() {
            return;
        }
        match closing {
            Closing::Known(reason) => self.close(client.slot, *reason),
            Closing::Application { code, text } => self.close_for_application(client.slot, *code, text),
        }
    }

    fn unsubscribe_for_operator(&mut self, client: Option<ClientKey>, topic: &str, code: UnsubscribeCode) {
        match client {
            Some(client) if self.clients.find(client).is_some() => {
                if let Some(topic) = self.subscribed(client.slot, topic) {
                    self.end_subscription(client.slot, topic, code);
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

    /// Answers the oldest survey, a piece per tick.
    pub(super) fn answer_surveys(&mut self) {
        let Some(&survey) = self.surveys.front() else { return };
        if self.requests.room() == 0 {
            return;
        }
        let end = self.topics.slots().min(survey.next.saturating_add(SURVEYED_PER_TICK));
        let topics = self.count_subscribers(survey.next..end);
        let last = end == self.topics.slots();
        if self.requests.send(Request::SurveyPart { id: survey.id, topics, last }).is_err() {
            return;
        }
        if last {
            self.surveys.pop_front();
        } else if let Some(survey) = self.surveys.front_mut() {
            survey.next = end;
        }
    }

    fn count_subscribers(&self, slots: std::ops::Range<u32>) -> TopicCounts {
        let topics = slots.filter_map(|slot| self.topics.get(TopicSlot(slot)));
        let counted = topics.map(|topic| (topic.name.clone(), topic.subscribers().len()));
        let some = counted.filter(|&(_, subscribers)| subscribers > 0);
        some.map(|(name, subscribers)| (name, u32::try_from(subscribers).unwrap_or(u32::MAX))).collect()
    }
}
