//! What shards and operators ask of the broker.

use std::collections::HashMap;
use std::time::Instant;

use rustc_hash::FxBuildHasher;
use tokio::sync::mpsc;

use crate::broker::{Broker, REQUESTS, Source, Stopping};
use crate::mail::{Mail, Request, ShardId, TopicCounts, TopicName, TopicSlot};
use crate::protocol::codes::{ErrorCode, UnsubscribeCode};

/// A survey whose answers are coming in.
#[derive(Debug)]
struct Survey {
    asker: mpsc::UnboundedSender<TopicCounts>,
    shards_left: u16,
}

/// All surveys under way.
#[derive(Debug, Default)]
pub(super) struct Surveys {
    last_id: u32,
    open: HashMap<u32, Survey, FxBuildHasher>,
}

impl Broker {
    /// Takes requests, as far as the budget goes.
    pub(super) fn take_requests(&mut self) {
        self.more_to_do = false;
        for _ in 0..REQUESTS {
            let Some(request) = self.requests.take() else { return };
            self.serve_request(request);
        }
        self.more_to_do = true;
    }

    fn serve_request(&mut self, request: Request) {
        match request {
            Request::Attach { shard, topic, name } => self.attach(shard, topic, name),
            Request::Detach { shard, topic, name } => self.detach(shard, topic, &name),
            Request::Publish(publish) => self.publish(publish),
            Request::Disconnect { shard, client, reason } => {
                if shard < self.outbox.shards() {
                    self.outbox.mail(shard, Mail::Disconnect { client, reason });
                }
            }
            Request::Unsubscribe { client, topic } => self.unsubscribe(client, &topic),
            Request::Survey(asker) => self.survey(asker),
            Request::SurveyPart { id, topics, last } => self.survey_part(id, topics, last),
            Request::Stop => self.begin_stopping(),
            Request::Drained { .. } => {
                if let Stopping::Draining(left) = self.stopping {
                    self.stopping = if left > 1 { Stopping::Draining(left - 1) } else { Stopping::Done };
                }
            }
        }
    }

    fn attach(&mut self, shard: ShardId, topic: TopicSlot, name: TopicName) {
        let is_new = self.topics.find(&name).is_none();
        if is_new && self.topics.len() >= self.config.limits.topics {
            self.outbox.mail(shard, Mail::AttachFailed { topic, error: ErrorCode::LimitExceeded });
            return;
        }
        // Lines that wait to be merged at this moment come after the answer: nothing is missing, and nothing
        // comes twice.
        self.topics.attach(name, (shard, topic));
        self.outbox.mail(shard, Mail::Attached { topic });
    }

    fn detach(&mut self, shard: ShardId, topic: TopicSlot, name: &str) {
        if let Some(deserted) = self.topics.detach(name, shard)
            && let Some(first) = self.merger.forget(deserted)
        {
            self.frontier.release(first);
        }
        self.outbox.mail(shard, Mail::Detached { topic });
    }

    fn unsubscribe(&mut self, client: Option<(ShardId, crate::mail::ClientKey)>, topic: &TopicName) {
        let code = UnsubscribeCode::Server;
        match client {
            Some((shard, client)) if shard < self.outbox.shards() => {
                self.outbox
                    .mail(shard, Mail::Unsubscribe { client: Some(client), topic: topic.clone(), code });
            }
            Some(_) => {}
            None => self.outbox.mail_all(|| Mail::Unsubscribe { client: None, topic: topic.clone(), code }),
        }
    }

    fn survey(&mut self, asker: mpsc::UnboundedSender<TopicCounts>) {
        self.surveys.last_id = self.surveys.last_id.wrapping_add(1);
        let id = self.surveys.last_id;
        self.surveys.open.insert(id, Survey { asker, shards_left: self.outbox.shards() });
        self.outbox.mail_all(|| Mail::Survey { id });
    }

    fn survey_part(&mut self, id: u32, topics: TopicCounts, last: bool) {
        let Some(survey) = self.surveys.open.get_mut(&id) else { return };
        // Whoever asked may have hung up meanwhile; the shards finish all the same.
        drop(survey.asker.send(topics));
        if last {
            survey.shards_left -= 1;
            if survey.shards_left == 0 {
                self.surveys.open.remove(&id);
            }
        }
    }

    fn begin_stopping(&mut self) {
        if self.stopping == Stopping::No {
            self.stopping = Stopping::Settling(Instant::now() + self.config.timeouts.publish.0);
            if let Source::Rabbit(rabbit) = &mut self.source {
                rabbit.stop_consuming();
            }
        }
    }

    /// Tells the shards to drain once everything taken is handed over and every publish is answered, or has
    /// had its time.
    pub(super) fn go_on_stopping(&mut self, now: Instant) {
        let Stopping::Settling(until) = self.stopping else { return };
        let settled = self.in_flight == 0 && self.outbox.is_empty() && self.merger.bytes() == 0;
        if settled || now >= until {
            self.stopping = Stopping::Draining(usize::from(self.outbox.shards()));
            self.outbox.mail_all(|| Mail::Drain);
            self.outbox.notify();
        }
    }
}
