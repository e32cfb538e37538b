//! Calls, one step after the other.

use super::*;
use crate::config::Interval;
use crate::domain::call::{BackendError, CallKind, Caller, Terms};
use crate::domain::codec::Codec;
use crate::domain::mail::{Ask, ClientKey, CommandKey, ReplyAddress};

/// An rpc of a client.
pub(super) fn rpc(client: u32) -> Box<Call> {
    let client = ClientKey { slot: client, generation: 1 };
    Box::new(Call {
        reply_to: ReplyAddress { shard: 0, command: CommandKey { client, id: 1 }, codec: Codec::Json },
        caller: Caller::default(),
        ask: Ask::Rpc { method: "m".into(), data: (*b"{}").into() },
        waited: Duration::ZERO,
    })
}

/// A question whether a client may subscribe, for its command with this id.
pub(super) fn subscribe(client: u32, command: u32) -> Box<Call> {
    let mut call = rpc(client);
    call.reply_to.command.id = command;
    call.ask = Ask::Subscribe { topic: "t".into(), data: None };
    call
}

pub(super) fn granted() -> Result<BackendAnswer, CallFault> {
    Ok(BackendAnswer::Granted(Terms::Send))
}

pub(super) fn config(change: impl Fn(&mut crate::config::Backend)) -> Config {
    let mut config = Config::default();
    let mut backend = crate::config::Backend { concurrency: 2, queue: 32, failures: 3, ..Default::default() };
    change(&mut backend);
    config.backends.insert("shop".to_owned(), backend);
    config
}

fn calls(change: impl Fn(&mut crate::config::Backend)) -> (Calls, Instant) {
    (Calls::new(&config(change), BackendsStats::default()), Instant::now())
}

const SECOND: Duration = Duration::from_secs(1);

/// What becomes of a call at its beginning.
fn begin(calls: &mut Calls, client: u32, now: Instant) -> Result<(), CallFault> {
    calls.begin(Some("shop"), rpc(client), now).map_err(|ended| ended.outcome.unwrap_err())
}

/// Begins calls of one client, which all go.
#[track_caller]
fn begin_all(calls: &mut Calls, client: u32, count: usize, now: Instant) {
    (0..count).for_each(|_| assert_eq!(begin(calls, client, now), Ok(())));
}

/// The numbers of those that can be sent, with the slots of their clients.
fn sent(calls: &mut Calls, now: Instant) -> Vec<(u64, u32)> {
    std::iter::from_fn(|| {
        let Outgoing { number, call, .. } = calls.next_to_send(now)?;
        Some((number, call.reply_to.command.client.slot))
    })
    .collect()
}

fn ended(calls: &mut Calls, now: Instant) -> Vec<(u32, CallFault)> {
    let ended = std::iter::from_fn(|| calls.next_ended(now));
    ended.map(|ended| (ended.call.reply_to.command.client.slot, ended.outcome.unwrap_err())).collect()
}

fn answer(calls: &mut Calls, number: u64, now: Instant, outcome: Result<BackendAnswer, CallFault>) -> bool {
    calls.answered(number, now, |_, _| outcome).is_some()
}

#[test]
fn so_many_are_under_way_and_others_wait_for_their_turn() {
    let (mut calls, now) = calls(|_| {});
    begin_all(&mut calls, 1, 3, now);
    begin_all(&mut calls, 2, 1, now);
    assert_eq!(sent(&mut calls, now), [(1, 1), (4, 2)]);
    assert!(!calls.is_ready());
    assert!(answer(&mut calls, 4, now, granted()) && calls.is_ready());
    assert_eq!(sent(&mut calls, now), [(2, 1)]);
    assert!(!answer(&mut calls, 4, now, granted()), "a second answer");
    assert!(!answer(&mut calls, 3, now, granted()), "it has not been sent");
    assert_eq!(calls.under_way(), 2);
}

#[test]
fn an_answer_is_read_for_its_backend_and_its_call() {
    let (mut calls, now) = calls(|_| {});
    begin_all(&mut calls, 7, 1, now);
    let Outgoing { number, backend, limit, .. } = calls.next_to_send(now).unwrap();
    assert_eq!((backend, limit), ("shop", SECOND));
    let ended = calls.answered(number, now, |backend, call| {
        assert_eq!((backend, call.ask.kind()), ("shop", CallKind::Rpc));
        granted()
    });
    assert_eq!(ended.unwrap().call.reply_to.command.client.slot, 7);
}

#[test]
fn a_queue_has_so_much_room_and_one_client_a_part_of_it() {
    let (mut calls, now) = calls(|backend| backend.queue = 8);
    // Two are sent, and of the eight that may wait, one client has one.
    begin_all(&mut calls, 1, 2, now);
    assert_eq!(sent(&mut calls, now).len(), 2);
    begin_all(&mut calls, 1, 1, now);
    assert_eq!(begin(&mut calls, 1, now), Err(CallFault::Busy));
    (2..9).for_each(|client| assert_eq!(begin(&mut calls, client, now), Ok(()), "{client}"));
    assert_eq!(begin(&mut calls, 9, now), Err(CallFault::Busy));
    assert!(answer(&mut calls, 1, now, granted()));
    assert_eq!(sent(&mut calls, now).len(), 1);
    assert_eq!(begin(&mut calls, 9, now), Ok(()));
}

#[test]
fn all_backends_together_have_so_much_room() {
    for by_bytes in [false, true] {
        let mut config = config(|_| {});
        if by_bytes {
            config.limits.calls_bytes = 3 * rpc(0).weight();
        } else {
            config.limits.calls = 3;
        }
        let (mut calls, now) = (Calls::new(&config, BackendsStats::default()), Instant::now());
        for client in 0..3 {
            let backend = if client == 0 { "amqp" } else { "shop" };
            assert!(calls.begin(Some(backend), rpc(client), now).is_ok(), "{client}");
        }
        assert_eq!(begin(&mut calls, 3, now), Err(CallFault::Busy));
        let number = calls.next_to_send(now).unwrap().number;
        assert_eq!(begin(&mut calls, 3, now), Err(CallFault::Busy), "it has not ended");
        assert!(answer(&mut calls, number, now, granted()));
        assert_eq!(begin(&mut calls, 3, now), Ok(()));
    }
}

#[test]
fn what_waits_too_long_is_refused_and_what_is_not_answered_is_late() {
    let (mut calls, now) = calls(|backend| {
        backend.concurrency = 1;
        backend.timeout = Interval::from_secs(3);
        backend.queue_timeout = Interval::from_secs(2);
    });
    begin_all(&mut calls, 1, 1, now);
    begin_all(&mut calls, 2, 1, now);
    assert_eq!(sent(&mut calls, now).len(), 1);
    assert_eq!(calls.next_deadline(), Some(now + 2 * SECOND));
    assert_eq!(ended(&mut calls, now + SECOND), []);
    assert_eq!(ended(&mut calls, now + 2 * SECOND), [(2, CallFault::Busy)]);
    assert_eq!(calls.next_deadline(), Some(now + 3 * SECOND));
    assert_eq!(ended(&mut calls, now + 3 * SECOND), [(1, CallFault::Late)]);
    assert!(!answer(&mut calls, 1, now + 3 * SECOND, granted()));
    assert_eq!((calls.under_way(), calls.next_deadline()), (0, None));
}

#[test]
fn what_a_publish_has_waited_before_counts_as_time_in_the_queue() {
    let (mut calls, now) = calls(|backend| {
        backend.concurrency = 1;
        backend.queue_timeout = Interval::from_secs(2);
    });
    let mut begin = |seconds| {
        let call = Box::new(Call { waited: seconds * SECOND, ..*rpc(1) });
        calls.begin(Some("shop"), call, now).map_err(|ended| ended.outcome.unwrap_err())
    };
    assert_eq!([begin(2), begin(1), begin(3)], [Ok(()), Ok(()), Err(CallFault::Busy)]);
    assert_eq!(sent(&mut calls, now).len(), 1);
    assert_eq!(ended(&mut calls, now + SECOND / 2), []);
    assert_eq!(ended(&mut calls, now + SECOND).last(), Some(&(1, CallFault::Busy)));
}

#[test]
fn a_backend_that_fails_too_often_is_left_alone_and_those_who_wait_are_told() {
    let (mut calls, now) = calls(|_| {});
    (1..7).for_each(|client| begin_all(&mut calls, client, 1, now));
    for number in 1..4 {
        sent(&mut calls, now);
        assert!(answer(&mut calls, number, now, Err(CallFault::Late)));
    }
    let suspended = News::Suspended { backend: "shop".into(), failures: 3, last: CallFault::Late };
    assert_eq!(calls.take_news(now), [suspended]);
    assert_eq!(sent(&mut calls, now), []);
    assert!(calls.is_ready(), "some have ended");
    assert_eq!(begin(&mut calls, 9, now + SECOND), Err(CallFault::Suspended), "they are told first");
    assert_eq!(ended(&mut calls, now), [(5, CallFault::Suspended), (6, CallFault::Suspended)]);
    assert_eq!((calls.is_ready(), calls.under_way()), (false, 1));
    assert_eq!(begin(&mut calls, 9, now), Err(CallFault::Suspended));
    assert!(calls.begin(Some("amqp"), rpc(9), now).is_ok(), "another one is not left alone");
    assert_eq!(calls.next_to_send(now).unwrap().backend, "amqp");
    // One call finds out whether it works again.
    let later = now + SECOND;
    begin_all(&mut calls, 9, 1, later);
    assert_eq!(begin(&mut calls, 8, later), Err(CallFault::Suspended));
    let probe = sent(&mut calls, later)[0].0;
    assert!(answer(&mut calls, probe, later, granted()));
    assert_eq!(calls.take_news(later), [News::Resumed { backend: "shop".into() }]);
    begin_all(&mut calls, 1, 1, later);
}

#[test]
fn only_faults_of_the_backend_suspend_it() {
    let refusal = BackendError { code: 400, message: "no".into(), is_temporary: false };
    for outcome in [Err(CallFault::Unroutable), Ok(BackendAnswer::Error(refusal)), granted()] {
        let (mut calls, now) = calls(|_| {});
        for _ in 0..9 {
            begin_all(&mut calls, 1, 1, now);
            let number = sent(&mut calls, now)[0].0;
            assert!(answer(&mut calls, number, now, outcome.clone()));
        }
        assert_eq!(calls.take_news(now), []);
    }
}

/// Neither the link to RabbitMQ nor RabbitMQ's confirm of a message says how the workers behind it are doing.
#[test]
fn by_amqp_only_workers_suspend_their_backend_and_only_their_answers_make_up_for_it() {
    let (mut calls, now) = calls(|_| {});
    let mut end = |call: Box<Call>, outcome| {
        assert!(calls.begin(Some("amqp"), call, now).is_ok());
        let number = sent(&mut calls, now)[0].0;
        assert!(answer(&mut calls, number, now, outcome));
        calls.take_news(now).len()
    };
    for fault in [CallFault::Lost("gone".into()), CallFault::Unreachable("gone".into())] {
        (0..30).for_each(|_| assert_eq!(end(rpc(1), Err(fault.clone())), 0, "{fault}"));
    }
    let mut failures = 0;
    while end(rpc(1), Err(CallFault::Late)) == 0 {
        assert_eq!(end(message(2), granted()), 0);
        failures += 1;
        assert!(failures < 30, "the confirms of messages make up for calls that are late");
    }
}

/// A message that another client sends.
fn message(client: u32) -> Box<Call> {
    Box::new(Call { ask: Ask::Send { data: (*b"1").into() }, ..*rpc(client) })
}

#[test]
fn answers_of_no_use_are_told_once_per_interval_and_backend_with_how_many_there_were() {
    let (mut calls, now) = calls(|_| {});
    let mut answered = |name: &str, fault: CallFault, at: Instant| {
        assert!(calls.begin(Some(name), rpc(1), at).is_ok());
        let number = sent(&mut calls, at)[0].0;
        assert!(answer(&mut calls, number, at, Err(fault)));
        calls.take_news(at)
    };
    let garbage = || CallFault::Unreadable("it is not JSON".into());
    let complaint = |backend: &str, fault, more| {
        let (about, kind) = (Complaint::UselessAnswer, CallKind::Rpc);
        [News::Complaint { backend: backend.into(), about, kind, fault, more }]
    };
    assert_eq!(answered("shop", garbage(), now), complaint("shop", garbage(), 0));
    for fault in [CallFault::TooLarge(1), CallFault::Status(404), garbage()] {
        assert_eq!(answered("shop", fault, now + SECOND), []);
    }
    // Others do not hide behind it.
    assert_eq!(answered("amqp", garbage(), now + SECOND), complaint("amqp", garbage(), 0));
    // Whatever is no answer is told by a suspension.
    assert_eq!(answered("amqp", CallFault::Unroutable, now + SECOND), []);
    assert_eq!(answered("amqp", CallFault::Late, now + SECOND), []);
    let what = "answers that cannot be used";
    let later = now + 10 * SECOND;
    assert_eq!(calls.next_deadline(), Some(later));
    assert_eq!(calls.take_news(later), [News::Rest { backend: "shop".into(), what, more: 3 }]);
    assert_eq!((calls.next_deadline(), calls.take_news(later + SECOND)), (None, Vec::new()));
}

#[test]
fn messages_that_no_backend_gets_are_told_of() {
    let (mut calls, now) = calls(|backend| (backend.concurrency, backend.queue) = (1, 1));
    assert!(calls.begin(Some("shop"), message(1), now).is_ok());
    assert_eq!(sent(&mut calls, now).len(), 1);
    assert!(calls.begin(Some("shop"), message(2), now).is_ok());
    assert_eq!(calls.take_news(now), []);
    for _ in 0..3 {
        let refused = calls.begin(Some("shop"), message(3), now).unwrap_err();
        assert_eq!(refused.outcome, Err(CallFault::Busy));
    }
    let (about, kind) = (Complaint::DroppedMessage, CallKind::Send);
    let dropped = |fault, more| News::Complaint { backend: "shop".into(), about, kind, fault, more };
    assert_eq!(calls.take_news(now), [dropped(CallFault::Busy, 0)]);
    // Who asks is told itself.
    assert_eq!(begin(&mut calls, 3, now), Err(CallFault::Busy));
    // A message that was sent may have arrived; one that has waited in vain has not.
    assert_eq!(ended(&mut calls, now + 4 * SECOND), [(1, CallFault::Late), (2, CallFault::Busy)]);
    let later = now + 11 * SECOND;
    assert_eq!(
        calls.take_news(later),
        [News::Rest { backend: "shop".into(), what: "messages that were dropped", more: 3 }]
    );
}

#[test]
fn a_reload_refuses_what_waits_for_a_backend_that_is_gone() {
    let (mut calls, now) = calls(|backend| backend.concurrency = 1);
    (1..4).for_each(|client| begin_all(&mut calls, client, 1, now));
    assert_eq!(sent(&mut calls, now), [(1, 1)]);
    calls.adopt(&Config::default());
    assert_eq!(begin(&mut calls, 9, now), Err(CallFault::Unknown));
    assert_eq!(ended(&mut calls, now), [(2, CallFault::Unknown), (3, CallFault::Unknown)]);
    assert!(answer(&mut calls, 1, now, granted()), "it is under way");
    // It comes back, with another limit.
    calls.adopt(&config(|backend| backend.concurrency = 3));
    (1..5).for_each(|client| begin_all(&mut calls, client, 1, now));
    assert_eq!(sent(&mut calls, now).len(), 3);
    assert!(matches!(calls.begin(None, rpc(1), now), Err(ended) if ended.outcome == Err(CallFault::Unknown)));
    assert_eq!(calls.take_news(now), []);
}

#[test]
fn the_answer_to_a_withdrawn_call_belongs_to_no_command() {
    let (mut calls, now) = calls(|backend| backend.concurrency = 1);
    for (client, command) in [(1, 7), (2, 7)] {
        assert!(calls.begin(Some("shop"), subscribe(client, command), now).is_ok());
    }
    begin_all(&mut calls, 3, 1, now);
    assert_eq!(sent(&mut calls, now), [(1, 1)]);
    let clients = [2, 1].map(|client| client_of(&rpc(client)));
    assert_eq!((calls.subscribing("t"), calls.subscribing("u")), (clients.to_vec(), Vec::new()));
    clients.into_iter().for_each(|client| calls.withdraw(client, Some(7), now));
    let ended = calls.answered(1, now, |_, _| granted()).unwrap();
    assert_eq!(ended.call.reply_to.command.id, 0);
    assert_eq!(sent(&mut calls, now), [(3, 3)], "that of the other client was not sent");
}

#[test]
fn each_end_is_counted() {
    let stats = BackendsStats::default();
    let (mut calls, now) = (Calls::new(&config(|backend| backend.queue = 0), stats.clone()), Instant::now());
    begin_all(&mut calls, 1, 2, now);
    assert_eq!(begin(&mut calls, 1, now), Err(CallFault::Busy));
    assert_eq!(sent(&mut calls, now).len(), 2);
    calls.gauge();
    let shop = stats.of("shop");
    assert_eq!([&shop.in_flight, &shop.waiting, &shop.suspended].map(crate::stats::Number::value), [2, 0, 0]);
    assert!(answer(&mut calls, 1, now + SECOND / 2, granted()));
    assert_eq!(ended(&mut calls, now + SECOND), [(1, CallFault::Late)]);
    let counted = CallOutcome::all().map(|outcome| (outcome.label(), shop.calls(CallKind::Rpc, outcome)));
    let counted: Vec<_> = counted.filter(|(_, count)| *count > 0).collect();
    assert_eq!(counted, [("answered", 1), ("late", 1), ("busy", 1)]);
    assert_eq!(shop.times().2, 1_500_000);
}
