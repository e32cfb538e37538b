//! What the broker's answers mean for the clients that wait for them.

use crate::codec::reply::{self, EncodedPublications, Reply, Subscribed};
use crate::domain::mail::{Answer, Recovered, Recovery};
use crate::domain::position::Position;
use crate::domain::reasons::ErrorCode;
use crate::session::options::SubscribeOptions;

/// The reply to a subscribe without recovery: the next publication is the first one after the topic's position, if it
/// has one.
#[must_use]
pub fn subscribed<'a>(options: &SubscribeOptions, position: Option<&'a Position>) -> Subscribed<'a> {
    Subscribed {
        position: position.filter(|_| options.positioned).map(of_topic),
        recoverable: options.recoverable,
        was_recovering: options.was_recovering,
        ..Subscribed::default()
    }
}

/// The reply to a subscribe with recovery. Its offset is the client's own if the client can continue from there, and the
/// topic's otherwise.
///
/// # Errors
/// Why the client is not subscribed.
pub fn recovered(recovered: &Recovered) -> Result<Subscribed<'_>, ErrorCode> {
    let Recovery { position, missed } = recovered.result.as_ref().map_err(|error| *error)?;
    if missed.is_none() && recovered.rejects_unrecovered {
        return Err(ErrorCode::UnrecoverablePosition);
    }
    let offset = if missed.is_some() { recovered.since.offset } else { position.offset };
    Ok(Subscribed {
        position: Some(reply::Position { epoch: &position.epoch, offset }),
        recoverable: recovered.recoverable,
        was_recovering: true,
        recovered: missed.as_deref().map(EncodedPublications),
        ..Subscribed::default()
    })
}

/// The reply by which a client receives an answer.
#[must_use]
pub fn reply(answer: &Answer) -> Reply<'_> {
    match answer {
        Answer::Error(error) => Reply::Error(*error),
        Answer::Published => Reply::Publish,
        Answer::Told(told) => Reply::Told(told),
        Answer::Recovered(end) => recovered(end).map_or_else(Reply::Error, Reply::Subscribe),
    }
}

fn of_topic(Position { epoch, offset }: &Position) -> reply::Position<'_> {
    reply::Position { epoch, offset: *offset }
}
