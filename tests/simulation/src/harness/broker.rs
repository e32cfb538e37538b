//! A broker that answers late and out of step, through a mailbox that is sometimes full.

use std::sync::Arc;

use super::clients::Peer;
use super::{TOPICS, World};
use crate::wire::segment;
use fanfare::config::Config;
use fanfare::domain::encoding::Encoding;
use fanfare::domain::mail::{
    AnswerBudget, KeyedLine, Lane, Lines, Mail, Question, Recover, Recovery, Request, TopicSlot, Variant,
};
use fanfare::domain::position::Position;
use fanfare::domain::reasons::ErrorCode;
use fanfare::domain::settings::EngineSettings;
use fanfare::http_client::HttpTargets;

/// The one whose publications have keys, but for every seventh: of each key the slow ones get the latest.
const KEYED: &str = TOPICS[2];
/// Of how many topics one cannot be attached, in worlds with a backend.
const FAILING: usize = 30;
/// Publications of a topic that the fake broker keeps.
const KEPT: u64 = 30;
/// Offsets are sparse: those of one topic have others between them.
pub(super) const OFFSETS_APART: u64 = 3;
pub(super) const EPOCH: &str = "e";
/// In which each topic can be had, though few are: seven clients are in seven lanes at most.
pub(super) const VARIANTS: [Variant; 16] = {
    let mut all = [Variant { encoding: Encoding::Json, lane: Lane::FIRST }; 16];
    let mut n = 0;
    while n < all.len() {
        all[n] = Variant { encoding: Encoding::ALL[n % 2], lane: Lane::ALL[n / 2] };
        n += 1;
    }
    all
};

/// A batch; for whom, its topic, and the number of its last publication.
pub(super) type Batch = (Mail, (TopicSlot, &'static str, u64));

impl World {
    /// One to four publications of a topic, in one batch.
    pub(super) fn publish(&mut self) {
        let topic = TOPICS[self.random.below(TOPICS.len())];
        let count = 1 + self.random.below(4);
        self.publish_to(topic, count);
    }

    pub(super) fn publish_to(&mut self, topic: &'static str, count: usize) {
        // JSON may end with spaces.
        let filler = " ".repeat((self.scale - 1) * 50);
        let published = self.published.entry(topic).or_default();
        let (mut bytes, mut keyed) = (Vec::new(), Vec::new());
        for _ in 0..count {
            *published += 1;
            let from = place(&bytes);
            bytes.extend(
                format!(
                    "{{\"push\":{{\"channel\":\"{topic}\",\"pub\":{{\"data\":{published}}}}}}}{filler}\n"
                )
                .bytes(),
            );
            let key = key_of(topic, *published);
            keyed.extend(key.map(|key| KeyedLine { key, from, to: place(&bytes) }));
        }
        let keyed = (!keyed.is_empty()).then(|| Arc::new(keyed));
        let offset = *published * OFFSETS_APART;
        self.events.publications += count as u64;
        let plain_bytes = place(&bytes);
        for variant in VARIANTS {
            if let Some(&slot) = self.interest.get(&(topic.to_owned(), variant)) {
                let bytes = match variant.encoding {
                    Encoding::Json => bytes.clone().into(),
                    Encoding::Deflated => segment(&bytes).into(),
                };
                let (count, keyed) = (u32::try_from(count).expect("few"), keyed.clone());
                let lines = Lines { bytes, count, plain_bytes, offset, keyed };
                let batch = (Mail::Batch { topic: slot, lines }, (slot, topic, self.published[topic]));
                if variant.lane == Lane::FIRST {
                    self.send_batch(batch);
                } else {
                    self.windows.entry(slot).or_default().push(batch);
                }
            }
        }
    }

    pub(super) fn send_batch(&mut self, (mail, last): Batch) {
        self.outbox.push_back(mail);
        self.batches.push(last);
    }

    /// The configuration changes: other budgets, in some worlds other hooks, and everything else as it was.
    fn reloads(&mut self) {
        let EngineSettings { config, namespaces, verifier, upgrade, .. } = &*self.settings;
        let mut config = Config::clone(config);
        let budgets = &mut config.budgets;
        budgets.mails = 3 + self.random.below(4);
        budgets.visits = 2 + self.random.below(4);
        budgets.deadlines = 1 + self.random.below(4);
        if let Some(hooks) = self.backend.hooks.filter(|hooks| hooks.switch) {
            self.events.switches += 1;
            hooks.at_random(&mut self.random).put_into(&mut config);
        }
        let namespaces = namespaces.reloaded(&config).expect("they are few");
        let settings = EngineSettings {
            config: Arc::new(config),
            namespaces: Arc::new(namespaces),
            verifier: verifier.clone(),
            key_files: Vec::new(),
            targets: HttpTargets::default(),
            upgrade: upgrade.clone(),
        };
        self.outbox.push_back(Mail::Reload(Arc::new(settings)));
        self.events.reloads += 1;
    }

    /// The broker takes some requests, answers some late, and sends what the mailbox takes.
    pub(super) fn broker_acts(&mut self) {
        self.events.requests_full += u64::from(self.requests.len() == 4);
        for _ in 0..self.random.below(4) {
            match self.requests.take() {
                Some(Request::Attach { topic, name, .. })
                    if self.backend.hooks.is_some() && self.random.one_in(FAILING) =>
                {
                    self.fails_to_attach(topic, &name);
                }
                Some(Request::Attach { topic, variant, name, .. }) => {
                    self.events.lanes += u64::from(variant.lane != Lane::FIRST);
                    let before = self.interest.insert((name.to_string(), variant), topic);
                    assert!(before.is_none(), "{name} attached twice");
                    let position = name.starts_with('h').then(|| self.position(&name));
                    self.outbox.push_back(Mail::Attached { topic, position });
                }
                Some(Request::Detach { topic, variant, name, .. }) => {
                    self.windows.remove(&topic);
                    let before = self.interest.remove(&(name.to_string(), variant));
                    assert_eq!(before, Some(topic), "{name} detached, but not attached so");
                    self.outbox.push_back(Mail::Detached { topic });
                }
                Some(Request::Ask { question: Question::Recover(question), budget }) => {
                    self.takes_recovery(question, budget);
                }
                Some(Request::Publish(publish)) => self.takes_publish(*publish),
                Some(Request::Call(call)) => self.takes_call(call),
                Some(_) | None => {}
            }
        }
        self.backend_acts();
        if self.random.one_in(100) {
            self.reloads();
        }
        if !self.late_answers.is_empty() && self.random.one_in(3) {
            let answer = self.random.below(self.late_answers.len());
            self.outbox.push_back(self.late_answers.swap_remove(answer));
        }
        if !self.windows.is_empty() && self.random.one_in(2) {
            let ends = self.random.below(self.windows.len());
            let slot = *self.windows.keys().nth(ends).expect("one of them");
            self.windows.remove(&slot).into_iter().flatten().for_each(|batch| self.send_batch(batch));
        }
        while let Some(mail) = self.outbox.pop_front() {
            if let Err(mail) = self.mail.send(mail) {
                self.outbox.push_front(mail);
                self.events.mailbox_full += 1;
                break;
            }
        }
    }

    /// Whoever waits for the topic by the time that the shard knows it gets an error.
    fn fails_to_attach(&mut self, topic: TopicSlot, name: &str) {
        self.events.attach_failures += 1;
        self.failing.push(name.to_owned());
        for Peer { asked, may_fail, .. } in &mut self.peers {
            may_fail.extend(asked.iter().filter(|(_, asked)| asked.needs(name)).map(|(id, _)| *id));
        }
        self.outbox.push_back(Mail::AttachFailed { topic, error: ErrorCode::Internal });
    }

    /// The broker answers, or has the question asked again: at once for want of room, or later.
    fn takes_recovery(&mut self, mut question: Box<Recover>, budget: Option<Arc<AnswerBudget>>) {
        let attached = self.interest.get(&(question.name.to_string(), question.variant));
        assert_eq!(attached, Some(&question.topic), "{} is asked for, but not attached so", question.name);
        if !question.has_waited && self.random.one_in(6) {
            // As if this node had not read as far as the client.
            question.has_waited = true;
            self.events.waits += 1;
            let client = question.reply_to.command.client;
            self.outbox.push_back(Mail::Waits { client });
            let question = Question::Recover(question);
            self.late_answers.push(Mail::AskAgain { question, budget: None });
            return;
        }
        let answer = self.recover(&question);
        let bytes = answer.missed.as_ref().map_or(0, |missed| missed.len());
        if !budget.as_ref().is_none_or(|budget| budget.take(bytes)) || self.random.one_in(4) {
            self.events.asked_again += 1;
            let question = Question::Recover(question);
            self.outbox.push_back(Mail::AskAgain { question, budget });
            return;
        }
        self.events.recovered += u64::from(answer.missed.is_some());
        self.events.unrecovered += u64::from(answer.missed.is_none());
        let (to, answer) = question.answer(Ok(answer));
        self.outbox.push_back(Mail::Answer { to, budget, answer });
    }

    /// Where a topic with history stands.
    pub(super) fn position(&self, topic: &str) -> Position {
        let published = self.published.get(topic).copied().unwrap_or(0);
        Position { epoch: EPOCH.into(), offset: published * OFFSETS_APART }
    }

    /// Every batch is on its way when it is published, so that nothing waits to be merged here.
    pub(super) fn recover(&self, question: &Recover) -> Recovery {
        let position = self.position(&question.name);
        let (asked, published) = (question.since.offset / OFFSETS_APART, position.offset / OFFSETS_APART);
        let missed = (published.saturating_sub(KEPT) <= asked).then(|| {
            let publications: Vec<_> =
                (asked + 1..=published).map(|number| format!("{{\"data\":{number}}}")).collect();
            publications.join(",").into_bytes().into()
        });
        Recovery { position, missed }
    }
}

/// What a publication of a topic is the latest of.
pub(super) fn key_of(topic: &str, number: u64) -> Option<u64> {
    // One key is rarer than the others.
    let key = if number % 20 == 1 { 20 } else { number % 3 };
    (topic == KEYED && number % 7 > 0).then_some(key)
}

/// Where the next byte will stand in a batch.
fn place(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("few")
}

/// The number of the publication after which a new subscriber to a topic with history stands, when it has read
/// what the reply brings.
pub(super) fn stands_at(subscribed: &serde_json::Value, resumes: bool) -> u64 {
    let offset = subscribed["offset"].as_u64().unwrap_or(0);
    assert_eq!((&subscribed["epoch"], offset % OFFSETS_APART), (&EPOCH.into(), 0), "{subscribed}");
    assert_eq!(subscribed["was_recovering"].as_bool().unwrap_or(false), resumes, "{subscribed}");
    let missed = subscribed["publications"].as_array().map_or(&[][..], |all| all);
    assert!(missed.is_empty() || subscribed["recovered"] == true, "{subscribed}");
    missed.iter().fold(offset / OFFSETS_APART, |last, publication| {
        assert_eq!(publication["data"].as_u64(), Some(last + 1), "{subscribed}");
        last + 1
    })
}
