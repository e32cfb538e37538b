//! What an error of lapin says: RabbitMQ's reply code, its words where the code does not tell enough, or lapin's own
//! words.

use std::error::Error as _;
use std::pin::Pin;

use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::tcp::HandshakeError;

/// What RabbitMQ has been asked for, and has not answered.
pub(super) type PendingReply<T> = Pin<Box<dyn Future<Output = lapin::Result<T>> + Send>>;

/// RabbitMQ's reply code, if it was RabbitMQ that refused.
pub(super) fn reply_kind(error: &lapin::Error) -> Option<&AMQPErrorKind> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.kind()),
        _ => None,
    }
}

/// RabbitMQ's own words, or lapin's where it was not RabbitMQ.
pub(super) fn reply_text(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        _ => innermost(error),
    }
}

/// Whether RabbitMQ said that there is no such thing.
pub(super) fn is_missing(error: &lapin::Error) -> bool {
    reply_kind(error) == Some(&AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND))
}

/// Whether RabbitMQ said that there is no queue of this name. It has the same reply code for a queue that it knows and
/// cannot reach now, in words that differ from release to release; for a queue that is not there the words stay.
pub(super) fn is_missing_queue(error: &lapin::Error, name: &str) -> bool {
    // Texts of more than 255 bytes are cut.
    let wanted = format!("{NO_QUEUE}{name}'");
    let said = reply_text(error);
    let said = said.strip_prefix(NOT_FOUND).unwrap_or(&said);
    let is_cut = said.starts_with(NO_QUEUE) && wanted.starts_with(said.trim_end_matches("..."));
    is_missing(error) && (said.starts_with(&wanted) || is_cut)
}

const NOT_FOUND: &str = "NOT_FOUND - ";
const NO_QUEUE: &str = "no queue '";
const NO_EXCHANGE: &str = "no exchange '";

/// Whether RabbitMQ said that a queue is where it cannot be reached now: on a node of the cluster that is down,
/// or, a stream, on other nodes than ours so far. There is no reply code of its own for that.
pub(super) fn is_away(error: &lapin::Error) -> bool {
    let text = reply_text(error);
    let said = text.strip_prefix(NOT_FOUND).unwrap_or(&text);
    let is_absent = said.starts_with(NO_QUEUE) || said.starts_with(NO_EXCHANGE);
    // "does not have a replica" (3.10) and "does not have a running replica" (4.0).
    (is_missing(error) && !is_absent) || text.contains("replica on the local node")
}

/// Whether what RabbitMQ said may be otherwise in a moment without anybody's doing: a queue is away, something
/// failed within RabbitMQ, such as the choice of a replicated queue's leader, or RabbitMQ shuts down, or an operator
/// has closed the connection. Nor is it RabbitMQ's refusal if lapin did not take what RabbitMQ sent.
pub(super) fn may_pass(error: &lapin::Error) -> bool {
    use AMQPHardError::{CONNECTIONFORCED, INTERNALERROR, RESOURCEERROR};
    let passing = [CONNECTIONFORCED, INTERNALERROR, RESOURCEERROR].map(AMQPErrorKind::Hard);
    is_away(error) || is_lapins(error) || reply_kind(error).is_some_and(|kind| passing.contains(kind))
}

/// Whether RabbitMQ said that there is such a thing, and that it is another one, or that one may not ask.
pub(super) fn is_refused(error: &lapin::Error) -> bool {
    matches!(
        reply_kind(error),
        Some(AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED | AMQPSoftError::ACCESSREFUSED))
    )
}

/// Whether RabbitMQ closed a channel, and not the connection.
pub(super) fn is_of_channel(error: &lapin::Error) -> bool {
    matches!(reply_kind(error), Some(AMQPErrorKind::Soft(_)))
}

/// Whether lapin could not read what RabbitMQ sent, or found that it breaks the protocol: see
/// [`amqp_filter`](super::amqp_filter).
pub(super) fn is_unreadable(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ParsingError(_)) || is_lapins(error)
}

/// Whether lapin itself ended the connection, in words of its own: RabbitMQ's begin with the name of the reply code, and
/// are nothing else if something of RabbitMQ's own has crashed.
fn is_lapins(error: &lapin::Error) -> bool {
    let text = reply_text(error);
    let name = text.split_once(" - ").map_or(&*text, |(name, _)| name);
    let is_rabbitmqs = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    matches!(reply_kind(error), Some(AMQPErrorKind::Hard(_))) && !is_rabbitmqs
}

/// Whether RabbitMQ said that we may not do that.
pub(super) fn is_forbidden(error: &lapin::Error) -> bool {
    reply_kind(error) == Some(&AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED))
}

/// Whether the fault lies with TLS rather than with reaching the host: rustls' errors come as "invalid
/// data", and a store without certificates as "other".
pub(super) fn is_tls(error: &lapin::Error) -> bool {
    let ErrorKind::IOError(error) = error.kind() else { return false };
    matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput)
        || error.to_string().contains("certificate")
        || error.get_ref().is_some_and(|inner| inner.is::<HandshakeError>())
}

/// The last of the causes: those before it repeat it.
pub(super) fn innermost(error: &lapin::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text
}

/// What RabbitMQ said, for tests.
#[cfg(test)]
pub(super) fn said(kind: AMQPErrorKind, text: &str) -> lapin::Error {
    ErrorKind::ProtocolError(lapin::protocol::AMQPError::new(kind, text.into())).into()
}

/// RabbitMQ's answer 404, for tests.
#[cfg(test)]
pub(super) fn not_found(text: &str) -> lapin::Error {
    said(AMQPSoftError::NOTFOUND.into(), &format!("NOT_FOUND - {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_queue_that_is_not_there_is_missing_and_every_other_404_is_away() {
        let missing = not_found("no queue 'orders' in vhost '/'");
        assert!(is_missing_queue(&missing, "orders") && !is_away(&missing));
        assert!(!is_missing_queue(&missing, "order") && !is_missing_queue(&missing, "orders2"));
        let exchange = not_found("no exchange 'orders' in vhost '/'");
        assert!(!is_missing_queue(&exchange, "orders") && !is_away(&exchange));
        let name = "q".repeat(255);
        let cut = not_found(&format!("no queue '{}...", "q".repeat(230)));
        assert!(is_missing_queue(&cut, &name) && !is_missing_queue(&cut, "orders"));

        for text in [
            "home node 'b@localhost' of durable queue 'orders' in vhost '/' is down or inaccessible", // 3.10
            "queue 'orders' in vhost '/' process is stopped by supervisor",                           // 4.0
            "failed to perform operation on queue 'orders' in vhost '/' due to timeout",              // 4.0
            "words of a release to come about queue 'orders'",
        ] {
            let error = not_found(text);
            assert!(is_away(&error) && !is_missing_queue(&error, "orders"), "{text}");
        }
    }

    #[test]
    fn what_lapin_does_not_take_is_unreadable_and_what_rabbitmq_does_not_take_is_not() {
        for (kind, text, is_theirs) in [
            (AMQPHardError::FRAMEERROR, "frame too large: 131126 bytes", false),
            (AMQPHardError::UNEXPECTEDFRAME, "unexpected content header frame received - 1", false),
            (AMQPHardError::FRAMEERROR, "FRAME_ERROR - type 2, {frame_too_large,131157,131064}", true),
            (AMQPHardError::CONNECTIONFORCED, "CONNECTION_FORCED - closed by hand", true),
            (AMQPHardError::INTERNALERROR, "INTERNAL_ERROR", true),
            (AMQPHardError::INTERNALERROR, "", false),
        ] {
            let error = said(kind.into(), text);
            assert_eq!(is_unreadable(&error), !is_theirs, "{text}");
        }
        assert!(!is_unreadable(&not_found("no queue 'orders' in vhost '/'")));
        assert!(!is_unreadable(&said(AMQPSoftError::PRECONDITIONFAILED.into(), "invalid ack received")));
    }
}
