//! The application's backend, as the broker thread stands before it: it answers calls late, in any order and with any
//! outcome, sometimes when the client has gone. It makes sure of what it is asked.

use std::collections::HashMap;
use std::sync::Arc;

use super::asking::{Expiry, GRAIN_MS, Verdict};
use super::clients::{Asked, Brought};
use super::kind::{Hooks, RPCS_MAX};
use super::{TOPICS, World};
use fanfare::auth::{ConnectionClaims, Overrides, ServerSubscription, SubscriptionTerms};
use fanfare::base::clock::UnixTime;
use fanfare::domain::call::{
    BackendAnswer, BackendError, CallKind, Caller, ConnectTerms, PublishTerms, Terms,
};
use fanfare::domain::mail::{
    Answer, Ask, Call, Called, ClientKey, CommandKey, Mail, Publish, ReplyTo, TopicName,
};
use fanfare::domain::reasons::{CloseReason, Closing, ErrorCode};

/// From one question about what has expired to the next, at least, in milliseconds.
const ASKED_APART_MS: u64 = 1000;
/// What a request costs besides its data, of the bytes that a client may have under way.
const RPC_COST: usize = 512;
/// Topics that a connect brings, at most.
const BROUGHT_MAX: usize = 3;
/// Of how many calls one is answered much later than the others.
const SLOW: usize = 6;

type Outcome = Result<BackendAnswer, ErrorCode>;

/// The backend, and what is made sure of about clients' commands.
#[derive(Debug, Default)]
pub(super) struct Backend {
    pub(super) hooks: Option<Hooks>,
    /// Calls that are not answered.
    open: Vec<Open>,
    /// Those of them that are answered much later, or when nothing else happens any more.
    slow: Vec<Open>,
    /// What it has said: each answer has another number.
    answers: u64,
    /// The latest command of each client that came as a request.
    latest: HashMap<ClientKey, u32>,
    /// The latest of each client's publishes to a topic that were published.
    published: HashMap<(ClientKey, TopicName), u32>,
}

/// A call that is not answered.
#[derive(Debug)]
struct Open {
    call: Box<Call>,
    /// Of what has expired: its number.
    expiry: Option<u64>,
}

impl Open {
    fn client(&self) -> ClientKey {
        self.call.reply_to.command.client
    }
}

impl Backend {
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty() && self.slow.is_empty()
    }

    /// From here on, every call is answered soon.
    pub(super) fn hurry(&mut self) {
        self.open.append(&mut self.slow);
    }

    fn calls_of(&self, client: ClientKey) -> impl Iterator<Item = &Open> {
        self.open.iter().chain(&self.slow).filter(move |open| open.client() == client)
    }

    /// A client's commands become requests in their order, and none does while its connect waits.
    fn note(&mut self, CommandKey { client, id }: CommandKey) {
        let is_connecting = self.calls_of(client).any(|open| open.call.ask.kind() == CallKind::Connect);
        assert!(!is_connecting, "command {id} has overtaken the connect");
        if id > 0 {
            let before = self.latest.insert(client, id);
            assert!(before.is_none_or(|before| before < id), "command {id} comes after {before:?}");
        }
    }
}

impl World {
    fn peer_of(&self, client: ClientKey) -> Option<usize> {
        self.peers.iter().position(|peer| peer.key == client)
    }

    /// A client publishes without a hook.
    pub(super) fn takes_publish(&mut self, publish: Publish) {
        self.backend.note(command_of(&publish));
        self.publishes(&publish);
    }

    /// Publishes of one client to one topic keep their order.
    fn publishes(&mut self, publish: &Publish) {
        let CommandKey { client, id } = command_of(publish);
        let before = self.backend.published.insert((client, publish.topics[0].clone()), id);
        assert!(before.is_none_or(|before| before < id), "{id} is published after {before:?}");
        if let Some(peer) = self.peer_of(client) {
            let user = publish.info.as_ref().map(|info| &info.user);
            assert_eq!(user, Some(&self.peers[peer].said.user), "who publishes");
        }
        let ReplyTo::Client(to) = publish.reply_to else { panic!("clients publish") };
        self.late_answers.push(Mail::Answer { to, budget: None, answer: Answer::Published });
    }

    pub(super) fn takes_call(&mut self, call: Box<Call>) {
        let command = call.reply_to.command;
        self.backend.note(command);
        let kind = call.ask.kind();
        self.events.calls[kind as usize] += 1;
        let mut open = Open { call, expiry: None };
        if let Some(peer) = self.peer_of(command.client) {
            self.check_caller(peer, &open.call.caller);
            self.check_ask(peer, command.id, &open.call.ask);
            open.expiry = self.note_expired(peer, &open.call.ask);
        }
        if kind == CallKind::Rpc {
            self.check_rpcs(&open);
        }
        if self.random.one_in(SLOW) {
            self.backend.slow.push(open);
        } else {
            self.backend.open.push(open);
        }
    }

    /// The requests of a client that are under way are bounded in number and in bytes, but for the first one.
    fn check_rpcs(&self, Open { call, .. }: &Open) {
        let rpcs = self.backend.calls_of(call.reply_to.command.client);
        let rpcs = rpcs.filter(|open| open.call.ask.kind() == CallKind::Rpc);
        let (count, bytes) =
            rpcs.fold((0, 0), |(count, sum), open| (count + 1, sum + RPC_COST + open.call.ask.weight()));
        assert!(count < RPCS_MAX, "{count} other requests of one client are under way");
        let Ask::Rpc { data, .. } = &call.ask else { unreachable!("it is a request") };
        let most = self.limits.message_bytes - data.len();
        assert!(bytes <= most, "{bytes} bytes of other requests of one client are under way");
    }

    /// The backend is told who the client is.
    fn check_caller(&mut self, peer: usize, Caller { client, user, meta, .. }: &Caller) {
        let said = &mut self.peers[peer].said;
        assert!(!said.is_refused(), "the backend is asked for a client that was refused");
        assert_eq!((user, meta), (&said.user, &said.meta), "what the backend is told of a client");
        let known = said.client.get_or_insert_with(|| client.clone());
        assert_eq!(known, client, "a client has one id");
    }

    /// It is asked for what the client has sent.
    fn check_ask(&mut self, peer: usize, id: u32, ask: &Ask) {
        let command = self.peers[peer].asked.get(&id);
        let fits = match (ask, command) {
            (Ask::Rpc { data, .. }, Some(Asked::Rpc { has_backend, .. })) => {
                let sent: serde_json::Value = serde_json::from_slice(data).expect("data are JSON");
                *has_backend && sent[0].as_u64() == Some(id.into())
            }
            (Ask::Send { data }, _) => {
                let first = self.peers[peer].said.messages.pop_front();
                first.map(|number| number.to_string().into_bytes()) == Some(data.to_vec())
            }
            (Ask::Connect { topics, .. }, Some(Asked::Connect { resumed: Some(resumed), .. })) => {
                topics.len() == resumed.len() && topics.iter().all(|topic| resumed.contains(&&**topic))
            }
            (Ask::Subscribe { topic, .. }, Some(Asked::Subscribe { topic: wanted, .. })) => {
                **topic == **wanted
            }
            (Ask::Publish(publish), Some(Asked::Publish { topic })) => *publish.topics[0] == **topic,
            (Ask::Refresh | Ask::RefreshSubscription { .. }, None) => id == 0,
            _ => false,
        };
        assert!(fits, "{ask:?} is asked for command {id}, which is {:?}", self.peers[peer].asked.get(&id));
    }

    /// Of a question about what has expired: which end it is about. There is one question at a time, and none before the end.
    fn note_expired(&mut self, peer: usize, ask: &Ask) -> Option<u64> {
        let now = self.unix_in(GRAIN_MS);
        let expiry = match ask {
            Ask::Refresh => self.peers[peer].said.expiry.as_mut(),
            Ask::RefreshSubscription { topic } => self.expiries_of(peer, topic).find_map(Option::as_mut),
            _ => None,
        }?;
        assert!(!expiry.is_asked && expiry.at <= now, "the backend is asked about {expiry:?} at {now:?}");
        expiry.is_asked = true;
        Some(expiry.number)
    }

    /// It answers some of the calls.
    pub(super) fn backend_acts(&mut self) {
        if !self.backend.slow.is_empty() && self.random.one_in(40) {
            let slow = self.random.below(self.backend.slow.len());
            let open = self.backend.slow.swap_remove(slow);
            self.backend.open.push(open);
        }
        while !self.backend.open.is_empty() && self.random.one_in(3) {
            let open = self.random.below(self.backend.open.len());
            let open = self.backend.open.swap_remove(open);
            self.answers(open);
        }
    }

    fn answers(&mut self, open: Open) {
        let client = open.client();
        let peer = self.peer_of(client);
        self.events.answers_for_nobody += u64::from(peer.is_none());
        let again = matches!(open.call.ask, Ask::Rpc { .. }) && self.random.one_in(6);
        let outcome = self.decides(&open.call.ask);
        let outcome = match peer {
            Some(peer) => self.notes_outcome(peer, &open, outcome),
            None => outcome,
        };
        let Call { reply_to, ask, .. } = *open.call;
        let to = reply_to.command;
        if again {
            let outcome = outcome.clone();
            self.tells(to, CallKind::Rpc, None, outcome);
            self.backend.answers += 1;
            let data = self.backend.answers.to_string().into_bytes().into();
            self.events.answered_twice += 1;
            return self.tells(to, CallKind::Rpc, None, Ok(BackendAnswer::Granted(Terms::Rpc { data })));
        }
        let kind = ask.kind();
        match (ask, outcome) {
            (Ask::Publish(publish), Ok(BackendAnswer::Granted(_))) => self.publishes(&publish),
            (Ask::Send { .. }, Ok(BackendAnswer::Granted(_) | BackendAnswer::Error(_)) | Err(_)) => {}
            (ask, outcome) => self.tells(to, kind, ask.topic().map(Into::into), outcome),
        }
    }

    fn tells(&mut self, to: CommandKey, kind: CallKind, topic: Option<TopicName>, outcome: Outcome) {
        let called = Box::new(Called { kind, topic, outcome });
        self.outbox.push_back(Mail::Called { to, called });
    }

    /// Mostly yes.
    fn decides(&mut self, ask: &Ask) -> Outcome {
        let is_about_end = matches!(ask, Ask::Refresh | Ask::RefreshSubscription { .. });
        match self.random.below(12) {
            // What has expired stays for a while if the backend does not answer.
            0 if !is_about_end => {
                let errors = [ErrorCode::Internal, ErrorCode::TooManyRequests, ErrorCode::NotAvailable];
                Err(self.random.pick(&errors))
            }
            1 => {
                let (code, is_temporary) = (400 + self.random.below(1000), self.random.one_in(2));
                let code = u32::try_from(code).expect("small");
                Ok(BackendAnswer::Error(BackendError { code, message: "no".into(), is_temporary }))
            }
            2 if self.random.one_in(3) => {
                let code = u16::try_from(4000 + self.random.below(1000)).expect("small");
                Ok(BackendAnswer::Close(Closing::Application { code, text: "bye".into() }))
            }
            _ => Ok(BackendAnswer::Granted(self.terms(ask))),
        }
    }

    fn terms(&mut self, ask: &Ask) -> Terms {
        self.backend.answers += 1;
        let number = self.backend.answers;
        match ask {
            Ask::Rpc { .. } => Terms::Rpc { data: number.to_string().into_bytes().into() },
            Ask::Send { .. } => Terms::Send,
            Ask::Connect { topics, .. } => {
                let is_known = !self.random.one_in(3);
                Terms::Connect(is_known.then(|| Box::new(self.connect_terms(number, topics))))
            }
            Ask::Refresh => Terms::Refresh(self.end().map(|expires| Box::new(claims(expires)))),
            Ask::Subscribe { .. } => {
                let data = self.random.one_in(2).then(|| number.to_string().into());
                let expires = self.end().flatten();
                Terms::Subscribe(Box::new(SubscriptionTerms {
                    data,
                    expires,
                    ..SubscriptionTerms::default()
                }))
            }
            Ask::RefreshSubscription { .. } => Terms::RefreshSubscription(
                self.end()
                    .map(|expires| Box::new(SubscriptionTerms { expires, ..SubscriptionTerms::default() })),
            ),
            Ask::Publish(_) => Terms::Publish(PublishTerms::default()),
        }
    }

    fn connect_terms(&mut self, number: u64, resumed: &[Box<str>]) -> ConnectTerms {
        let mut topics: Vec<&str> = resumed.iter().map(|topic| &**topic).collect();
        while topics.len() < BROUGHT_MAX && self.random.one_in(2) {
            topics.push(TOPICS[self.random.below(TOPICS.len())]);
        }
        topics.retain(|_| !self.random.one_in(4));
        // A token's are in this order.
        topics.sort_unstable();
        topics.dedup();
        let subscription = |topic: &&str| ServerSubscription {
            topic: (*topic).into(),
            info: None,
            data: None,
            overrides: Overrides::default(),
        };
        let mut claims = claims(self.end().flatten());
        claims.user = format!("u{number}").into();
        claims.meta = self.random.one_in(2).then(|| number.to_string().into());
        claims.subscriptions = topics.iter().map(subscription).collect();
        ConnectTerms { claims: Arc::new(claims), data: Some(number.to_string().into()) }
    }

    /// When something expires: soon, or never. `None`: it is over.
    fn end(&mut self) -> Option<Option<UnixTime>> {
        let length = 150 + self.random.below(700) as u64;
        match self.random.below(4) {
            0 => None,
            1 => Some(None),
            _ => Some(Some(self.unix_in(length))),
        }
    }

    /// What follows for the client from an answer.
    fn notes_outcome(&mut self, peer: usize, open: &Open, outcome: Outcome) -> Outcome {
        let id = open.call.reply_to.command.id;
        match &outcome {
            Ok(BackendAnswer::Close(Closing::Application { code, .. })) => {
                self.peers[peer].said.closes.push(*code);
                self.events.closed_by_backend += 1;
            }
            Ok(BackendAnswer::Close(Closing::Known(_))) => unreachable!("it has codes of its own"),
            Ok(BackendAnswer::Granted(terms)) => self.notes_terms(peer, open, terms),
            Ok(BackendAnswer::Error(_)) | Err(_) if id == 0 => self.notes_end(peer, open, None),
            Ok(BackendAnswer::Error(error)) => {
                self.notes_verdict(peer, id, Verdict::Error(error.code.into()))
            }
            Err(error) => self.notes_verdict(peer, id, Verdict::Error(error.code().into())),
        }
        outcome
    }

    fn notes_verdict(&mut self, peer: usize, id: u32, verdict: Verdict) {
        let is_error = matches!(verdict, Verdict::Error(_));
        if is_error && matches!(self.peers[peer].asked.get(&id), Some(Asked::Connect { .. })) {
            self.peers[peer].said.refused_from = Some(self.now.unix);
        }
        let before = self.peers[peer].said.verdicts.insert(id, verdict);
        assert!(before.is_none(), "command {id} was asked about twice");
    }

    fn notes_terms(&mut self, peer: usize, open: &Open, terms: &Terms) {
        let id = open.call.reply_to.command.id;
        let number = |text: &[u8]| std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        let granted = |data| Verdict::Granted { data, expiry: None, floor: 0 };
        let verdict = match (terms, &open.call.ask) {
            (Terms::Rpc { data }, _) => granted(number(data)),
            (Terms::Connect(None), _) | (Terms::Publish(_), _) => granted(None),
            (Terms::Connect(Some(terms)), Ask::Connect { topics, .. }) => {
                self.notes_identity(peer, &terms.claims, topics);
                granted(terms.data.as_ref().and_then(|data| number(data.as_bytes())))
            }
            (Terms::Subscribe(terms), Ask::Subscribe { topic, .. }) => {
                self.backend.answers += 1;
                let expiry = terms.expires.map(|at| self.expiry(self.backend.answers, at, at));
                let floor = self.settled.get(&**topic).copied().unwrap_or(0);
                let data = terms.data.as_ref().and_then(|data| number(data.as_bytes()));
                Verdict::Granted { data, expiry, floor }
            }
            (Terms::Refresh(terms), _) => {
                return self.notes_end(peer, open, terms.as_ref().map(|terms| terms.expires));
            }
            (Terms::RefreshSubscription(terms), _) => {
                return self.notes_end(peer, open, terms.as_ref().map(|terms| terms.expires));
            }
            _ => return,
        };
        self.notes_verdict(peer, id, verdict);
    }

    fn notes_identity(&mut self, peer: usize, claims: &ConnectionClaims, resumed: &[Box<str>]) {
        let expiry = claims.expires.map(|at| self.expiry(0, at, at));
        let said = &mut self.peers[peer].said;
        (said.user, said.meta, said.expiry) = (claims.user.clone(), claims.meta.clone(), expiry);
        let brought = claims.subscriptions.iter().map(|ServerSubscription { topic, .. }| {
            let floor = self.settled.get(&**topic).copied().unwrap_or(0);
            let topic = TOPICS.into_iter().find(|known| **known == **topic).expect("a topic of ours");
            Brought { topic, floor, resumes: resumed.iter().any(|name| **name == *topic) }
        });
        let topics = brought.collect();
        self.brings(peer, topics);
    }

    /// The backend has said for how long something may stay that has expired; `None`: it ends.
    fn notes_end(&mut self, peer: usize, open: &Open, end: Option<Option<UnixTime>>) {
        let Some(number) = open.expiry else { return };
        let asked_from = self.unix_in(ASKED_APART_MS);
        let next = end.map(|end| end.map(|at| self.expiry(number, at, asked_from)));
        match &open.call.ask {
            Ask::Refresh => {
                let said = &mut self.peers[peer].said;
                match next {
                    Some(expiry) => said.expiry = expiry,
                    None => said.closes.push(CloseReason::Expired.code()),
                }
            }
            Ask::RefreshSubscription { topic } => {
                let is_meant =
                    |expiry: &&mut Option<Expiry>| expiry.is_some_and(|expiry| expiry.number == number);
                if let Some(expiry) = self.expiries_of(peer, topic).find(is_meant) {
                    match next {
                        Some(next) => *expiry = next,
                        None => expiry.iter_mut().for_each(|expiry| expiry.has_ended = true),
                    }
                }
            }
            _ => unreachable!("nothing else expires"),
        }
    }
}

/// Those of a connection that expires then, or never.
fn claims(expires: Option<UnixTime>) -> ConnectionClaims {
    let mut claims = ConnectionClaims::until(expires.unwrap_or_default());
    claims.expires = expires;
    claims
}

fn command_of(publish: &Publish) -> CommandKey {
    match publish.reply_to {
        ReplyTo::Client(address) => address.command,
        ReplyTo::Control(_) => panic!("clients publish"),
    }
}
