//! What answers mean.

use std::sync::Arc;

use super::super::answers;
use crate::codec::reply::Reply;
use crate::domain::encoding::Encoding;
use crate::domain::mail::{
    ClientKey, CommandKey, HistoryPage, Lane, Position, Recover, Recovery, Since, TopicSlot, Variant,
};
use crate::domain::reasons::ErrorCode;
use crate::session::options::SubscribeOptions;

fn position() -> Position {
    Position { epoch: "e".into(), offset: 9 }
}

fn question(rejects_unrecovered: bool) -> Recover {
    Recover {
        shard: 0,
        topic: TopicSlot(0),
        variant: Variant { encoding: Encoding::Json, lane: Lane::FIRST },
        name: "t".into(),
        asker: CommandKey { client: ClientKey { slot: 0, generation: 0 }, id: 1 },
        recoverable: true,
        since: Since { epoch: "e".into(), offset: 4 },
        rejects_unrecovered,
        has_waited: false,
        budget: None,
    }
}

#[test]
fn a_subscriber_is_told_the_position_that_it_asked_for() {
    let topic = position();
    for (positioned, has_one, told) in
        [(true, true, Some(9)), (true, false, None), (false, true, None), (false, false, None)]
    {
        let options = SubscribeOptions { positioned, was_recovering: true, ..SubscribeOptions::default() };
        let subscribed = answers::subscribed(&options, Some(&topic).filter(|_| has_one));
        assert_eq!(subscribed.position.map(|position| position.offset), told);
        assert!(subscribed.was_recovering && !subscribed.recoverable && subscribed.recovered.is_none());
    }
}

/// Who can continue is told its own position, as publications follow that it does not have. Who cannot is told the
/// topic's, or refused.
#[test]
fn a_client_that_was_away_continues_or_begins_anew_or_is_refused() {
    let missed: Arc<[u8]> = b"x".as_slice().into();
    let answer = |missed: Option<&Arc<[u8]>>| Ok(Recovery { position: position(), missed: missed.cloned() });
    for (answer, rejects, expected) in [
        (answer(Some(&missed)), false, Ok((4, true))),
        (answer(Some(&missed)), true, Ok((4, true))),
        (answer(None), false, Ok((9, false))),
        (answer(None), true, Err(ErrorCode::UnrecoverablePosition)),
        (Err(ErrorCode::TooManyRequests), true, Err(ErrorCode::TooManyRequests)),
        (Err(ErrorCode::Internal), false, Err(ErrorCode::Internal)),
    ] {
        let question = question(rejects);
        let outcome = answers::recovered(&question, &answer).map(|subscribed| {
            assert!(subscribed.was_recovering && subscribed.recoverable);
            (subscribed.position.map_or(0, |position| position.offset), subscribed.recovered.is_some())
        });
        assert_eq!(outcome, expected, "{answer:?} {rejects}");
    }
    let again = SubscribeOptions::of(question(true));
    let resume = again.recover.expect("it recovers");
    assert!(again.positioned && again.recoverable && !again.was_recovering && resume.rejects_unrecovered);
    assert_eq!(resume.since, question(true).since);
}

#[test]
fn publishes_and_histories_have_an_outcome() {
    assert_eq!(answers::published(Ok(())), Reply::Publish);
    assert_eq!(answers::published(Err(ErrorCode::Internal)), Reply::Error(ErrorCode::Internal));
    let page = Ok(HistoryPage { position: position(), publications: b"x".to_vec() });
    let Reply::History(read) = answers::history(&page) else { panic!("{page:?}") };
    assert_eq!((read.position.epoch, read.position.offset, read.publications.0), ("e", 9, &b"x"[..]));
    let refused = Err(ErrorCode::NotAvailable);
    assert_eq!(answers::history(&refused), Reply::Error(ErrorCode::NotAvailable));
}
