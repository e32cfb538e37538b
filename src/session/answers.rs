//! What the broker's answers mean for the clients that wait for them.

use crate::codec::reply::{self, EncodedPublications, HistoryRead, Reply, Subscribed};
use crate::domain::mail::{HistoryPage, Position, Recover, Recovery};
use crate::domain::reasons::ErrorCode;
use crate::session::options::SubscribeOptions;

/// The answer to a subscribe without recovery: the next publication is the first one after the topic's position, if it
/// has one.
#[must_use]
pub fn subscribed<'a>(options: &SubscribeOptions, position: Option<&'a Position>) -> Subscribed<'a> {
    Subscribed {
        position: position.filter(|_| options.positioned).map(of_topic),
        recoverable: options.recoverable,
        was_recovering: options.was_recovering,
        recovered: None,
    }
}

/// The answer to a subscribe with recovery. It is the client's position if the client can continue from there.
///
/// # Errors
/// Why the client is not subscribed.
pub fn recovered<'a>(
    question: &'a Recover,
    answer: &'a Result<Recovery, ErrorCode>,
) -> Result<Subscribed<'a>, ErrorCode> {
    let Recovery { position, missed } = answer.as_ref().map_err(|error| *error)?;
    if missed.is_none() && question.rejects_unrecovered {
        return Err(ErrorCode::UnrecoverablePosition);
    }
    let offset = if missed.is_some() { question.since.offset } else { position.offset };
    Ok(Subscribed {
        position: Some(reply::Position { epoch: &position.epoch, offset }),
        recoverable: question.recoverable,
        was_recovering: true,
        recovered: missed.as_deref().map(EncodedPublications),
    })
}

/// The answer to a publish.
#[must_use]
pub fn published(outcome: Result<(), ErrorCode>) -> Reply<'static> {
    outcome.map_or_else(Reply::Error, |()| Reply::Publish)
}

/// The answer to a history command.
#[must_use]
pub fn history(page: &Result<HistoryPage, ErrorCode>) -> Reply<'_> {
    match page {
        Ok(HistoryPage { position, publications }) => Reply::History(HistoryRead {
            position: of_topic(position),
            publications: EncodedPublications(publications),
        }),
        Err(error) => Reply::Error(*error),
    }
}

fn of_topic(Position { epoch, offset }: &Position) -> reply::Position<'_> {
    reply::Position { epoch, offset: *offset }
}
