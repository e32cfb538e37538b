//! Calls to the application's backends: begins them, sends them by AMQP or by HTTP, and tells what has become of them.
//! What there is of them stands in [`calls`](super::calls), and what they look like to backends in [`hooks`](crate::hooks).

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::auth::{ConnectionClaims, SubscriptionTerms};
use crate::base::clock::{Clock, UnixTime};
use crate::config::{AMQP_BACKEND, Config, HookFailure};
use crate::domain::call::{BackendAnswer, CallFault, CallKind, PublishTerms, Terms};
use crate::domain::mail::{Ask, Call, Called, Mail, Publish, ReplyAddress, TopicName};
use crate::domain::namespaces::Namespaces;
use crate::hooks::{amqp_request, body, http_headers, of_status};
use crate::http_client::{HttpAnswer, HttpCall, Reader};
use crate::stats::Suspension;

use super::calls::{Complaint, Ended, News, Outgoing};
use super::turn::Broker;

/// Calls that are sent in one turn besides those that begin in it, answers by HTTP that are taken, and calls that end
/// without an answer: as many of each. None of them is expensive.
const CALLS_PER_TURN: usize = 512;

/// Bytes that the headers of a call by AMQP may have together. A message's properties are in one frame, and each peer takes
/// frames of 4,096 bytes (AMQP 0-9-1, section 4.2.3, `frame-min-size`).
const HEADERS_BYTES: usize = 2048;

/// How much longer a connection or a subscription stays that has expired while its backend did not answer. As with
/// Centrifugo, a backend's trouble closes nobody.
const GRACE: Duration = Duration::from_secs(60);

impl Broker {
    /// Begins a call. While the engine stops, every one is refused: the client can ask another engine.
    pub(super) fn begin_call(&mut self, call: Box<Call>) {
        if self.stage.is_stopping() {
            return self.end_call(Ended { call, outcome: Err(CallFault::Busy) });
        }
        let backend = backend_of(&call.ask, &self.config, &self.namespaces);
        match self.calls.begin(backend, call, Instant::now()) {
            Ok(()) => drop(self.send_next_call()),
            Err(ended) => self.end_call(*ended),
        }
    }

    /// Sends the calls that can be sent, as far as there is room for their answers.
    pub(super) fn send_calls(&mut self) {
        for _ in 0..CALLS_PER_TURN {
            if !self.takes_requests() || !self.send_next_call() {
                return;
            }
        }
    }

    /// Returns whether there was one.
    fn send_next_call(&mut self) -> bool {
        let Some(outgoing) = self.calls.next_to_send(Instant::now()) else { return false };
        let Outgoing { number, backend, call, limit } = outgoing;
        let options = self.config.backend(backend).expect("calls wait for backends that there are");
        if backend == AMQP_BACKEND {
            let request = amqp_request(call, options.meta, HEADERS_BYTES);
            let wants_answer = call.ask.kind() != CallKind::Send;
            self.backplane.call(number, request, limit, wants_answer, options.answer_bytes);
        } else {
            let target = self.http.targets.get(backend).expect("each of the others has a URL").clone();
            let headers = http_headers(&call.caller, options);
            let (answers, kind) = (Arc::clone(&self.answers), call.ask.kind());
            let read: Reader = Box::new(move |body| answers.read(kind, body));
            let call = HttpCall { number, target, headers, body: body(call, options.meta), limit, read };
            // It fails if that thread has ended. Then the engine ends.
            let _ = self.http.calls.send(call);
        }
        true
    }

    /// Takes the answers that have come by HTTP.
    pub(super) fn take_http_answers(&mut self) {
        for _ in 0..CALLS_PER_TURN {
            let Ok(answer) = self.http.answers.try_recv() else { return };
            self.call_answered_by_http(answer);
        }
    }

    /// A backend has answered by HTTP, or will not. The thread that sends calls has read the answer.
    pub(super) fn call_answered_by_http(&mut self, HttpAnswer { number, outcome }: HttpAnswer) {
        let config = Arc::clone(&self.config);
        self.call_answered(number, outcome, |backend, _, outcome| match outcome {
            Err(CallFault::Status(status)) => {
                let rules = config.backend(backend).map_or(&[][..], |backend| &backend.statuses);
                of_status(rules, status)
            }
            outcome => outcome,
        });
    }

    /// A backend has answered by AMQP, or will not. The answer is read here, as lapin's tasks, which take it from the
    /// socket, are on this thread too. Deliveries wait meanwhile: one answer has at most `backends.amqp.answer_bytes`, which
    /// `limits.frame_bytes` bounds, and a turn looks at the time after every few events.
    pub(super) fn call_answered_by_amqp(&mut self, number: u64, outcome: Result<Vec<u8>, CallFault>) {
        let answers = Arc::clone(&self.answers);
        self.call_answered(number, outcome, |_, kind, outcome| answers.read(kind, &outcome?));
    }

    /// `read` makes an answer of an outcome, for the backend of that name. It is not called if nobody waits.
    fn call_answered<T>(
        &mut self,
        number: u64,
        outcome: Result<T, CallFault>,
        read: impl FnOnce(&str, CallKind, Result<T, CallFault>) -> Result<BackendAnswer, CallFault>,
    ) {
        let is_answer = match &outcome {
            Ok(_) => true,
            Err(fault) => fault.is_answer(),
        };
        let now = Instant::now();
        let ended = self.calls.answered(number, now, |backend, call| read(backend, call.ask.kind(), outcome));
        match ended {
            Some(ended) => self.end_call(ended),
            None => self.stats.call_answers_unexpected.add(u64::from(is_answer)),
        }
    }

    /// Ends calls that have no answer in time, or are not sent any more.
    pub(super) fn expire_calls(&mut self) {
        let now = Instant::now();
        for _ in 0..CALLS_PER_TURN {
            let Some(ended) = self.calls.next_ended(now) else { break };
            self.end_call(ended);
        }
        for news in self.calls.take_news(now) {
            self.tell_of_backend(news);
        }
    }

    /// The engine stops: refuses the calls that wait. Those that are under way may be answered.
    pub(super) fn give_up_waiting_calls(&mut self) {
        while let Some(ended) = self.calls.next_given_up(Instant::now()) {
            self.end_call(ended);
        }
    }

    /// Does what follows from the end of a call. A publish that was granted has another answer, and a message has none.
    fn end_call(&mut self, Ended { call, outcome }: Ended) {
        let Call { reply_to, ask, .. } = *call;
        let kind = ask.kind();
        let outcome = outcome.or_else(|fault| self.excuse(&ask, fault));
        match (ask, outcome) {
            (Ask::Publish(publish), Ok(BackendAnswer::Granted(Terms::Publish(terms)))) => {
                self.publish_granted(*publish, terms);
            }
            (Ask::Send { .. }, Ok(BackendAnswer::Granted(_) | BackendAnswer::Error(_)) | Err(_)) => {}
            (ask, outcome) => {
                let (topic, outcome) = (topic_of(ask), outcome.map_err(|fault| fault.code()));
                self.tell_end(reply_to, Called { kind, topic, outcome });
            }
        }
    }

    fn tell_end(&mut self, to: ReplyAddress, called: Called) {
        let called = Box::new(called);
        self.outbox.push(to.shard, Mail::Called { to: to.command, called });
    }

    /// Publishes as any client's publish is published, with the same limits.
    fn publish_granted(&mut self, publish: Publish, terms: PublishTerms) {
        let PublishTerms { data, skips_history } = terms;
        self.publish(Publish { data: data.unwrap_or(publish.data), skips_history, ..publish });
    }

    /// What takes the place of an answer that is missing: connections and subscriptions that have expired stay for [`GRACE`],
    /// and with `hook_failure = "allow"` the client may do what it asked for, also if what it sent made the backend fail. That
    /// does not hold for calls that this engine itself was too busy to send, so that nobody gets around the hook by making it
    /// busy, nor for answers that cannot be used.
    ///
    /// # Errors
    /// Nothing does.
    fn excuse(&self, ask: &Ask, fault: CallFault) -> Result<BackendAnswer, CallFault> {
        let expires = Clock::now().after(GRACE).unix;
        let allows = |topic: &str| {
            let options = self.namespaces.options(self.namespaces.of(topic));
            options.hook_failure == HookFailure::Allow && fault.is_silence()
        };
        let terms = match ask {
            Ask::Refresh => Terms::Refresh(Some(Box::new(ConnectionClaims::until(expires)))),
            Ask::RefreshSubscription { .. } => {
                let terms = SubscriptionTerms { expires: Some(expires), ..SubscriptionTerms::default() };
                Terms::RefreshSubscription(Some(Box::new(terms)))
            }
            Ask::Subscribe { topic, .. } if allows(topic) => Terms::Subscribe(Box::default()),
            Ask::Publish(publish) if publish.topics.iter().all(|topic| allows(topic)) => {
                Terms::Publish(PublishTerms::default())
            }
            _ => return Err(fault),
        };
        self.stats.calls_excused.add(1);
        Ok(BackendAnswer::Granted(terms))
    }

    fn tell_of_backend(&self, news: News) {
        match news {
            News::Suspended { backend, failures, last } => {
                tracing::warn!(%backend, failures, last = %last, "a backend is left alone for a while: it fails");
                let suspension =
                    Suspension { since: UnixTime::now().as_secs(), last_fault: last.to_string().into() };
                self.stats.backends.of(&backend).set_suspension(Some(suspension));
            }
            News::Resumed { backend } => {
                tracing::info!(%backend, "a backend is asked again");
                self.stats.backends.of(&backend).set_suspension(None);
            }
            News::Complaint { backend, about: Complaint::UselessAnswer, kind, fault, more } => {
                let (call, reason) = (kind.label(), fault.to_string());
                tracing::warn!(%backend, call, reason, more_since_last = more, "a backend's answer cannot be used");
            }
            News::Complaint { backend, about: Complaint::DroppedMessage, fault, more, .. } => {
                let reason = fault.to_string();
                tracing::warn!(%backend, reason, more_since_last = more, "a client's message to a backend was dropped");
            }
            News::Rest { backend, what, more } => {
                tracing::warn!(%backend, what, more_since_last = more, "more of what was told before");
            }
        }
    }
}

/// Whom the configuration names for a call.
fn backend_of<'a>(ask: &Ask, config: &'a Config, namespaces: &'a Namespaces) -> Option<&'a str> {
    let namespace = |topic: &str| namespaces.options(namespaces.of(topic));
    let backend = match ask {
        Ask::Rpc { method, .. } => config.rpc.backend(method)?,
        Ask::Send { .. } => &config.rpc.send,
        Ask::Connect { .. } => &config.hooks.connect,
        Ask::Refresh => &config.hooks.refresh,
        Ask::Subscribe { topic, .. } => &namespace(topic).subscribe_hook,
        Ask::RefreshSubscription { topic } => &namespace(topic).sub_refresh_hook,
        Ask::Publish(publish) => &namespace(publish.topics.first()?).publish_hook,
    };
    Some(backend).filter(|name| !name.is_empty())
}

/// The topic that a call was about.
fn topic_of(ask: Ask) -> Option<TopicName> {
    match ask {
        Ask::Subscribe { topic, .. } | Ask::RefreshSubscription { topic } => Some(topic),
        Ask::Publish(publish) => publish.topics.into_iter().next(),
        Ask::Rpc { .. } | Ask::Send { .. } | Ask::Connect { .. } | Ask::Refresh => None,
    }
}
