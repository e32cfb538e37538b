//! What answers mean.

use std::sync::Arc;

use super::super::answers;
use crate::codec::reply::Reply;
use crate::domain::asked::{HistoryPage, Told};
use crate::domain::mail::{Answer, Recovered, Recovery, TopicSlot};
use crate::domain::position::{Position, Since};
use crate::domain::reasons::ErrorCode;
use crate::session::options::SubscribeOptions;

fn position() -> Position {
    Position { epoch: "e".into(), offset: 9 }
}

fn recovered(rejects_unrecovered: bool, result: Result<Recovery, ErrorCode>) -> Recovered {
    let since = Since { epoch: "e".into(), offset: 4 };
    Recovered { topic: TopicSlot(0), recoverable: true, since, rejects_unrecovered, result }
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
    for (result, rejects, expected) in [
        (answer(Some(&missed)), false, Ok((4, true))),
        (answer(Some(&missed)), true, Ok((4, true))),
        (answer(None), false, Ok((9, false))),
        (answer(None), true, Err(ErrorCode::UnrecoverablePosition)),
        (Err(ErrorCode::TooManyRequests), true, Err(ErrorCode::TooManyRequests)),
        (Err(ErrorCode::Internal), false, Err(ErrorCode::Internal)),
    ] {
        let recovered = recovered(rejects, result);
        let outcome = answers::recovered(&recovered).map(|subscribed| {
            assert!(subscribed.was_recovering && subscribed.recoverable);
            (subscribed.position.map_or(0, |position| position.offset), subscribed.recovered.is_some())
        });
        assert_eq!(outcome, expected, "{recovered:?}");
    }
    let again = SubscribeOptions::of(recovered(true, Err(ErrorCode::Internal)));
    let resume = again.recover.expect("it recovers");
    assert!(again.positioned && again.recoverable && !again.was_recovering && resume.rejects_unrecovered);
    assert_eq!(resume.since, Since { epoch: "e".into(), offset: 4 });
}

#[test]
fn each_answer_is_a_reply() {
    assert_eq!(answers::reply(&Answer::Published), Reply::Publish);
    let refused = Answer::Error(ErrorCode::NotAvailable);
    assert_eq!(answers::reply(&refused), Reply::Error(ErrorCode::NotAvailable));
    let page = HistoryPage { position: position(), publications: b"x".to_vec() };
    let told = Told::History(page);
    assert_eq!(answers::reply(&Answer::Told(Box::new(told.clone()))), Reply::Told(&told));
    let answer = Answer::Recovered(Box::new(recovered(false, Err(ErrorCode::Internal))));
    assert_eq!(answers::reply(&answer), Reply::Error(ErrorCode::Internal));
}
