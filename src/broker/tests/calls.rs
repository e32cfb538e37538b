//! Calls to backends: from a shard's request to what it hears, with a fake thread for HTTP.

use serde_json::{Value, json};

use super::*;
use crate::base::clock::UnixTime;
use crate::config::{Backend, HookFailure};
use crate::domain::call::{BackendAnswer, BackendError, CallFault, CallKind, Caller, PublishTerms, Terms};
use crate::domain::mail::{Ask, Call, Called};
use crate::domain::settings::EngineSettings;
use crate::http_client::{HttpAnswer, HttpCall};

const TOPIC: &str = "hooked:a";

/// A backend that is asked about everything.
fn configure(config: &mut Config) {
    let backend = Backend {
        url: "http://127.0.0.1:1/".into(),
        timeout: Interval(LONG),
        failures: 0,
        ..Backend::default()
    };
    config.backends.insert("shop".to_owned(), backend);
    config.rpc.methods =
        [("*", "shop"), ("queue", "amqp")].map(|(method, name)| (method.into(), name.into())).into();
    config.rpc.send = "shop".into();
    config.hooks.refresh = "shop".into();
    let hooked = Namespace {
        subscribe_hook: "shop".into(),
        sub_refresh_hook: "shop".into(),
        publish_hook: "shop".into(),
        publication_bytes: 10,
        history_size: 5,
        ..Namespace::default()
    };
    let allowed = Namespace { hook_failure: HookFailure::Allow, ..hooked.clone() };
    config.namespaces = [("hooked".to_owned(), hooked), ("allowed".to_owned(), allowed)].into();
}

fn harness(change: impl FnOnce(&mut Config)) -> Harness {
    Harness::new(1, |config| {
        configure(config);
        change(config);
    })
}

fn shop(config: &mut Config) -> &mut Backend {
    config.backends.get_mut("shop").unwrap()
}

fn command(id: u32) -> ReplyAddress {
    let command = CommandKey { client: ClientKey { slot: 3, generation: 1 }, id };
    ReplyAddress { shard: 0, command, codec: Codec::Json }
}

fn rpc(method: &str) -> Ask {
    Ask::Rpc { method: method.into(), data: (*b"[1]").into() }
}

fn publish(topic: &str) -> Ask {
    Ask::Publish(Box::new(Publish {
        reply_to: ReplyTo::Client(command(1)),
        topics: [topic.into()].into(),
        data: (*b"1").into(),
        id: None,
        key: None,
        info: None,
        skips_history: false,
    }))
}

fn subscribe(topic: &str) -> Ask {
    Ask::Subscribe { topic: topic.into(), data: None }
}

impl Harness {
    /// A client's call.
    fn call(&self, ask: Ask) {
        let caller = Caller { client: "c".into(), user: "ann".into(), ..Caller::default() };
        let call = Call { reply_to: command(1), caller, ask, waited: Duration::ZERO };
        self.requests.shards[0].send(Request::Call(Box::new(call))).unwrap();
    }

    /// The next call by HTTP, and its body.
    fn sent(&mut self) -> (u64, Value) {
        let HttpCall { number, body, read, .. } = self.calls.blocking_recv().expect("a call");
        self.readers.insert(number, read);
        (number, serde_json::from_slice(&body).unwrap())
    }

    /// The backend answers a call, perhaps for the second time.
    fn answer(&mut self, number: u64, outcome: Result<&str, CallFault>) {
        let outcome = outcome.and_then(|body| match self.readers.remove(&number) {
            Some(read) => read(body.as_bytes()),
            None => Ok(BackendAnswer::Granted(Terms::Send)),
        });
        self.answers.send(HttpAnswer { number, outcome }).unwrap();
    }

    /// Has the backend answer the next call.
    fn next_is_answered(&mut self, outcome: Result<&str, CallFault>) {
        let (number, _) = self.sent();
        self.answer(number, outcome);
    }

    /// What the shard hears of a call.
    #[track_caller]
    fn called(&mut self) -> Called {
        match self.mail(0) {
            Mail::Called { to, called } if to == command(1).command => *called,
            other => panic!("{other:?}"),
        }
    }

    /// The same for a call that this backend answers so.
    #[track_caller]
    fn called_after(
        &mut self,
        ask: Ask,
        outcome: Result<&str, CallFault>,
    ) -> Result<BackendAnswer, ErrorCode> {
        self.call(ask);
        self.next_is_answered(outcome);
        self.called().outcome
    }
}

#[test]
fn a_request_goes_to_its_backend_and_the_answer_to_its_client() {
    let mut harness = harness(|_| {});
    harness.call(rpc("order"));
    let (number, body) = harness.sent();
    assert_eq!(
        (&body["method"], &body["data"], &body["user"]),
        (&json!("order"), &json!([1]), &json!("ann"))
    );
    harness.answer(number, Ok(r#"{"result":{"data":{"a":2}}}"#));
    let Called { kind, topic, outcome } = harness.called();
    assert_eq!((kind, topic), (CallKind::Rpc, None));
    assert_eq!(outcome, Ok(BackendAnswer::Granted(Terms::Rpc { data: (*br#"{"a":2}"#).into() })));
    // A second answer, and one to nothing. That one is late is known already.
    harness.answer(number, Ok("{}"));
    harness.answer(99, Err(CallFault::Status(500)));
    harness.answer(number, Err(CallFault::Late));
    harness.wait_until("both", |stats| stats.call_answers_unexpected.value() == 2);
    assert!(harness.shards[0].is_empty());
    harness.stop();
}

#[test]
fn errors_ends_and_faults_reach_the_client() {
    let mut harness = harness(|config| {
        let rule = r#"{"status":404,"error":{"code":404,"message":"none"}}"#;
        shop(config).statuses = vec![serde_json::from_str(rule).unwrap()];
    });
    let error = |message: &str| BackendError { code: 404, message: message.into(), is_temporary: false };
    for (answer, outcome) in [
        (Ok(r#"{"error":{"code":404,"message":"no"}}"#), Ok(BackendAnswer::Error(error("no")))),
        (Err(CallFault::Status(404)), Ok(BackendAnswer::Error(error("none")))),
        (Err(CallFault::Status(500)), Err(ErrorCode::Internal)),
        (Ok("<html>"), Err(ErrorCode::Internal)),
        (Err(CallFault::Unroutable), Err(ErrorCode::NotAvailable)),
    ] {
        assert_eq!(harness.called_after(rpc("m"), answer), outcome);
    }
    let outcome = harness.called_after(rpc("m"), Ok(r#"{"disconnect":{"code":4500,"reason":"bye"}}"#));
    assert!(matches!(outcome, Ok(BackendAnswer::Close(Closing::Application { code: 4500, .. }))));
    // There is no RabbitMQ here.
    harness.call(rpc("queue"));
    assert_eq!(harness.called().outcome, Err(ErrorCode::Internal));
    harness.stop();
}

#[test]
fn a_call_without_an_answer_ends_in_time() {
    let mut harness = harness(|config| shop(config).timeout = Interval::from_millis(20));
    harness.call(rpc("m"));
    assert_eq!(harness.called().outcome, Err(ErrorCode::Internal));
    harness.stop();
}

#[test]
fn a_publish_that_is_granted_goes_on_with_what_the_backend_makes_of_it() {
    let mut harness = harness(|_| {});
    harness.attach(0, 0, TOPIC);
    for (answer, data) in [
        ("{}", "1"),
        (r#"{"result":{"data":[2],"skip_history":true}}"#, "[2]"),
        (r#"{"result":{"skip_history":false}}"#, "1"),
    ] {
        harness.call(publish(TOPIC));
        let (number, body) = harness.sent();
        assert_eq!((&body["channel"], &body["data"]), (&json!(TOPIC), &json!(1)));
        harness.answer(number, Ok(answer));
        let (mut line, mut is_confirmed) = (None, false);
        while line.is_none() || !is_confirmed {
            match harness.mail(0) {
                Mail::Batch { lines, .. } => line = Some(String::from_utf8(lines.bytes.to_vec()).unwrap()),
                Mail::Answer { to, answer: Answer::Published, .. } => is_confirmed = to == command(1),
                other => panic!("{other:?}"),
            }
        }
        let publication = serde_json::from_str::<Value>(&line.unwrap()).unwrap()["push"]["pub"].take();
        assert_eq!(publication["data"].to_string(), data);
        assert_eq!(publication["offset"].is_null(), answer.contains("true"), "{answer}");
    }
    // Its limits are those of any publish.
    harness.call(publish(TOPIC));
    harness.next_is_answered(Ok(r#"{"result":{"data":"much too long"}}"#));
    let mail = harness.mail(0);
    assert!(matches!(mail, Mail::Answer { answer: Answer::Error(ErrorCode::LimitExceeded), .. }), "{mail:?}");
    let refused = harness.called_after(publish(TOPIC), Ok(r#"{"error":{"code":403,"message":"no"}}"#));
    assert!(matches!(refused, Ok(BackendAnswer::Error(error)) if error.code == 403));
    assert_eq!(harness.called_after(publish(TOPIC), Err(CallFault::Late)), Err(ErrorCode::Internal));
    harness.stop();
}

#[test]
fn a_message_has_no_answer_but_may_end_its_client() {
    let mut harness = harness(|_| {});
    let message = || Ask::Send { data: (*b"1").into() };
    for answer in [Ok(""), Ok(r#"{"error":{"code":400,"message":"no"}}"#), Err(CallFault::Late)] {
        harness.call(message());
        harness.next_is_answered(answer);
    }
    let closed = harness.called_after(message(), Ok(r#"{"disconnect":{"code":4000,"reason":""}}"#));
    assert!(matches!(closed, Ok(BackendAnswer::Close(_))));
    harness.stop();
}

#[test]
fn the_namespace_says_whether_a_fault_means_yes_unless_the_engine_is_busy() {
    let mut harness = harness(|config| {
        shop(config).concurrency = 1;
        shop(config).queue = 0;
    });
    let granted = Ok(BackendAnswer::Granted(Terms::Subscribe(Box::default())));
    assert_eq!(harness.called_after(subscribe("allowed:a"), Err(CallFault::Late)), granted);
    assert_eq!(harness.called_after(subscribe(TOPIC), Err(CallFault::Late)), Err(ErrorCode::Internal));
    let refused = harness.called_after(subscribe("allowed:a"), Ok(r#"{"error":{"code":403,"message":""}}"#));
    assert!(matches!(refused, Ok(BackendAnswer::Error(_))), "it has answered");
    assert_eq!(harness.stats.calls_excused.value(), 1);
    harness.call(publish("allowed:a"));
    harness.next_is_answered(Err(CallFault::Late));
    assert!(matches!(harness.mail(0), Mail::Answer { answer: Answer::Published, .. }));
    assert_eq!(PublishTerms::default(), PublishTerms { data: None, skips_history: false });
    // One is under way, and no other may wait.
    harness.call(rpc("m"));
    harness.call(subscribe("allowed:a"));
    assert_eq!(harness.called().outcome, Err(ErrorCode::TooManyRequests));
    harness.next_is_answered(Ok("{}"));
    assert!(harness.called().outcome.is_ok());
    harness.stop();
}

#[test]
fn what_has_expired_stays_for_a_minute_while_its_backend_does_not_answer() {
    let mut harness = harness(|_| {});
    let minute = UnixTime::now().as_secs() + 60;
    let is_right = |expires: Option<UnixTime>| {
        expires.is_some_and(|expires| (minute..minute + LONG.as_secs()).contains(&expires.as_secs()))
    };
    let outcome = harness.called_after(Ask::Refresh, Err(CallFault::Late));
    let Ok(BackendAnswer::Granted(Terms::Refresh(Some(terms)))) = outcome else { panic!("{outcome:?}") };
    assert!(is_right(terms.expires));
    harness.call(Ask::RefreshSubscription { topic: TOPIC.into() });
    harness.next_is_answered(Err(CallFault::Late));
    let Called { topic, outcome, .. } = harness.called();
    assert_eq!(topic.as_deref(), Some(TOPIC));
    let Ok(BackendAnswer::Granted(Terms::RefreshSubscription(Some(terms)))) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(is_right(terms.expires));
    harness.stop();
}

#[test]
fn a_backend_that_fails_is_left_alone_and_operators_see_why() {
    let mut harness = harness(|config| shop(config).failures = 2);
    let stats = harness.stats.backends.of("shop");
    for _ in 0..2 {
        let outcome = harness.called_after(rpc("m"), Err(CallFault::Unreachable("refused".into())));
        assert_eq!(outcome, Err(ErrorCode::Internal));
    }
    harness.wait_until("the suspension", |_| stats.suspended.value() == 1 && stats.suspension().is_some());
    assert_eq!(&*stats.suspension().unwrap().last_fault, "it cannot be reached: refused");
    harness.call(rpc("m"));
    assert_eq!(harness.called().outcome, Err(ErrorCode::Internal));
    assert!(harness.calls.try_recv().is_err(), "it is not asked");
    // After a second, it is asked again.
    let deadline = Instant::now() + LONG;
    while harness.calls.is_empty() {
        assert!(Instant::now() < deadline, "no call");
        harness.call(rpc("m"));
        std::thread::sleep(Duration::from_millis(20));
    }
    harness.next_is_answered(Ok("{}"));
    harness.wait_until("its end", |_| stats.suspended.value() == 0 && stats.suspension().is_none());
    harness.stop();
}

/// A backend that is asked one question at a time has one, and another one waits. Returns the number of the first.
fn one_under_way_and_one_that_waits() -> (Harness, u64) {
    let mut harness = harness(|config| shop(config).concurrency = 1);
    harness.call(rpc("first"));
    let (number, _) = harness.sent();
    harness.call(rpc("waits"));
    let stats = harness.stats.backends.of("shop");
    harness.wait_until("one that waits", |_| stats.waiting.value() == 1);
    (harness, number)
}

#[test]
fn a_stop_waits_for_calls_under_way_and_refuses_all_others() {
    let (mut harness, number) = one_under_way_and_one_that_waits();
    harness.ask(Request::Stop);
    assert_eq!(harness.called().outcome, Err(ErrorCode::TooManyRequests));
    harness.call(rpc("late"));
    assert_eq!(harness.called().outcome, Err(ErrorCode::TooManyRequests));
    assert!(harness.shards[0].is_empty(), "clients are not closed yet");
    harness.answer(number, Ok("{}"));
    assert!(harness.called().outcome.is_ok());
    harness.stop();
}

#[test]
fn a_reload_that_removes_a_backend_refuses_what_waits_for_it() {
    let mut config = Config::default();
    configure(&mut config);
    shop(&mut config).concurrency = 1;
    let before = EngineSettings::of(config);
    let (mut harness, number) = one_under_way_and_one_that_waits();
    harness.ask(Request::Reload(before.next(Config::default())));
    assert!(matches!(harness.mail(0), Mail::Reload(_)));
    assert_eq!(harness.called().outcome, Err(ErrorCode::Internal));
    harness.call(rpc("m"));
    assert_eq!(harness.called().outcome, Err(ErrorCode::Internal), "nobody is named for it");
    harness.answer(number, Ok("{}"));
    assert!(harness.called().outcome.is_ok());
    harness.stop();
}
