//! Who is ahead of this node waits, without room for an answer.

use super::super::catch_up;
use super::super::tests::fakes::{self, Ends};
use super::*;
use crate::base::mailbox::Receiver;
use crate::config::{Config, Namespace};
use crate::domain::mail::{Answer, AnswerBudget, Recovered, ShardId};

/// A node that has read up to offset 5, with the mailbox of its one shard.
fn broker() -> (Broker, Receiver<Mail>) {
    let (broker, mut mail) = broker_of(1);
    (broker, mail.remove(0))
}

fn broker_of(shards: ShardId) -> (Broker, Vec<Receiver<Mail>>) {
    let mut config = Config::default();
    config.namespaces.insert("h".to_owned(), Namespace { history_size: 10, ..Namespace::default() });
    config.limits.mailbox = 100;
    let (mut broker, Ends { shards, .. }) = fakes::broker(config, shards);
    broker.progress.read(Some(5));
    broker.progress.linked();
    (broker, shards)
}

fn budget() -> Budget {
    Some(AnswerBudget::new(10_000))
}

/// A client's question.
fn question(broker: &Broker, command: u32, offset: u64) -> Box<Recover> {
    let epoch = broker.history.position("h:t", u64::MAX).epoch;
    Box::new(Recover {
        name: "h:t".into(),
        since: Since { epoch: (*epoch).into(), offset },
        ..catch_up::tests::question(command, offset)
    })
}

/// What its shard is to ask again.
#[track_caller]
fn comes_back(mail: Option<Mail>) -> Box<Recover> {
    let Some(Mail::AskAgain { question: Question::Recover(question), budget: None }) = mail else {
        panic!("{mail:?}")
    };
    assert!(question.has_waited);
    question
}

/// The answer to one: to which command, whether from a budget, and what.
#[track_caller]
fn recovered(mail: Option<Mail>) -> (u32, bool, Recovered) {
    match mail {
        Some(Mail::Answer { to, budget, answer: Answer::Recovered(recovered) }) => {
            (to.command.id, budget.is_some(), *recovered)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_is_ahead_gives_its_room_back_and_is_asked_again_with_room() {
    let (mut broker, mut mail) = broker();
    broker.recover(question(&broker, 1, 6), budget());
    let waits = mail.take();
    assert!(matches!(waits, Some(Mail::Waits { client }) if client.slot == 7), "{waits:?}");
    broker.answer_caught_up();
    assert!(mail.is_empty());
    broker.progress.read(Some(6));
    broker.answer_caught_up();
    broker.recover(comes_back(mail.take()), budget());
    let (_, _, recovered) = recovered(mail.take());
    assert!(recovered.result.is_ok(), "{recovered:?}");
}

/// What it has never came here, and will not.
#[test]
fn who_has_waited_and_is_ahead_still_is_answered_at_once() {
    let (mut broker, mut mail) = broker();
    for (can_tell, is_ok) in [(true, true), (false, false)] {
        if !can_tell {
            broker.progress.lost();
        }
        let mut waited = question(&broker, 1, 9);
        waited.has_waited = true;
        broker.recover(waited, budget());
        let (_, has_budget, recovered) = recovered(mail.take());
        assert_eq!((recovered.result.is_ok(), has_budget, mail.is_empty()), (is_ok, true, true));
    }
    assert_eq!(broker.stats.recoveries_refused.value(), 1);
}

/// Without a budget, nothing else bounds how many wait.
#[test]
fn no_more_wait_than_there_is_room_for() {
    let (mut broker, mut mail) = broker();
    for command in 1..=65_536 {
        broker.recover(question(&broker, command, 6 + u64::from(command % 1000)), None);
    }
    assert!(mail.is_empty());
    broker.recover(question(&broker, 0, 6), budget());
    assert!(matches!(mail.take(), Some(Mail::Waits { .. })));
    let (id, _, refused) = recovered(mail.take());
    assert_eq!((id, refused.result.is_err(), mail.is_empty()), (1, true, true), "the oldest");
    assert_eq!(broker.stats.recoveries_refused.value(), 1);
    broker.progress.read(Some(5000));
    broker.answer_caught_up();
    assert_eq!(broker.outbox.len(), 156, "a turn's share, less what the mailbox has room for");
    assert!(broker.next_recovery().is_some_and(|now| now <= Instant::now()), "the others");
    (0..3).for_each(|_| broker.answer_caught_up());
    assert_eq!((broker.outbox.len(), broker.next_recovery()), (513, None), "messages have their turn");
    assert_eq!(comes_back(mail.take()).since.offset, 6);
}

/// Each shard has its own places, its own room and its own turn.
#[test]
fn those_of_one_shard_do_not_wait_for_another() {
    let (mut broker, mut mail) = broker_of(2);
    for shard in [0, 1] {
        for command in 1..=3 {
            let mut question = question(&broker, command, 6);
            question.reply_to.shard = shard;
            broker.recover(question, None);
        }
    }
    // The first one's mail waits, and its clients have asked for as much as they may meanwhile.
    let full = || Mail::Survey { id: 0 };
    (0..101).for_each(|_| broker.outbox.push(0, full()));
    (0..512).for_each(|_| broker.outbox.count_request(Requester::Shard(0), Recipients::Shard(0)));
    broker.progress.read(Some(6));
    broker.answer_caught_up();
    let asked: Vec<_> = std::iter::from_fn(|| mail[1].take())
        .map(|mail| comes_back(Some(mail)).reply_to.command.id)
        .collect();
    assert_eq!((asked, broker.outbox.len(), broker.next_recovery()), (vec![1, 2, 3], 1, None));
    while mail[0].take().is_some() {}
    broker.outbox.retry();
    assert!(broker.next_recovery().is_some_and(|now| now <= Instant::now()));
    broker.answer_caught_up();
    assert_eq!(std::iter::from_fn(|| mail[0].take()).count(), 1 + 3);
}
