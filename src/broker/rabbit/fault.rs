//! What is wrong between us and RabbitMQ, in words for operators.

use std::error::Error as _;

use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::tcp::HandshakeError;

use super::address::Address;

/// Why there is no link.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    /// What, where, and what to do.
    pub(super) text: String,
    /// Whether trying again without changing something is useless. At the start that ends the engine; later
    /// it is tried again nevertheless.
    pub(super) is_final: bool,
    /// Whether the queue that an operator named is not there: whatever was in it is gone.
    pub(super) queue_is_gone: bool,
}

impl Fault {
    /// A fault that stays until somebody does something about it.
    pub(super) fn lasting(text: String) -> Self {
        Self { text, is_final: true, queue_is_gone: false }
    }

    /// A fault that may pass.
    pub(super) fn passing(text: String) -> Self {
        Self { text, is_final: false, queue_is_gone: false }
    }

    /// A fault that stays until somebody declares the queue anew.
    pub(super) fn missing_queue(text: String) -> Self {
        Self { queue_is_gone: true, ..Self::lasting(text) }
    }

    /// Why no connection came about.
    pub(super) fn connecting(error: &lapin::Error, address: &Address) -> Self {
        match reply_kind(error) {
            Some(AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED)) => Self::lasting(format!(
                "RabbitMQ at {address} has no such vhost (virtual host), or its user may not use it: create \
                 it with `rabbitmqctl add_vhost` and allow it with `set_permissions`, or correct amqp.url \
                 ({})",
                reply_text(error)
            )),
            Some(AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)) => Self::lasting(format!(
                "RabbitMQ at {address} refuses the user name or password in amqp.url ({})",
                reply_text(error)
            )),
            _ if is_tls(error) => Self::lasting(format!(
                "no TLS with RabbitMQ at {address}: {}. Authorities are the machine's own (SSL_CERT_FILE \
                 names others) and those in the file that `?cacertfile=` in amqp.url names; the host in \
                 amqp.url must be one that the certificate is for; and the port must be one for TLS",
                innermost(error)
            )),
            _ => Self::passing(format!("RabbitMQ at {address} cannot be reached: {}", innermost(error))),
        }
    }

    /// Why a queue cannot be consumed that was there a moment ago.
    pub(super) fn consuming(error: &lapin::Error, address: &Address) -> Self {
        let queue_is_gone = is_missing(error) && !is_away(error);
        Self { queue_is_gone, ..Self::other("the queue cannot be consumed", error, address) }
    }

    /// Why something about a connection did not work out that has no words of its own.
    pub(super) fn other(what: &str, error: &lapin::Error, address: &Address) -> Self {
        let text = format!("RabbitMQ at {address}: {what}: {}", reply_text(error));
        if error.is_amqp_error() && !is_away(error) { Self::lasting(text) } else { Self::passing(text) }
    }
}

/// RabbitMQ's reply code, if it was RabbitMQ that refused.
fn reply_kind(error: &lapin::Error) -> Option<&AMQPErrorKind> {
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

/// Whether RabbitMQ said that a queue is where it cannot be reached now: on a node of the cluster that is down,
/// or, a stream, on other nodes than ours so far. There is no reply code of its own for that.
pub(super) fn is_away(error: &lapin::Error) -> bool {
    const WORDS: [&str; 2] = ["is down or inaccessible", "does not have a replica on the local node"];
    let text = reply_text(error);
    WORDS.iter().any(|words| text.contains(words))
}

/// Whether RabbitMQ said that there is such a thing, and that it is another one, or that one may not ask.
pub(super) fn is_refused(error: &lapin::Error) -> bool {
    matches!(
        reply_kind(error),
        Some(AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED | AMQPSoftError::ACCESSREFUSED))
    )
}

/// Whether RabbitMQ ended channel or connection because of a message that it will never take: its exchange is not to
/// be written to, or one of its frames is larger than `frame_max`, into which all of its headers have to go.
pub(super) fn is_refused_for_good(error: &lapin::Error) -> bool {
    let is_no_frame = reply_kind(error) == Some(&AMQPErrorKind::Hard(AMQPHardError::FRAMEERROR));
    is_refused(error) || is_no_frame
}

/// Whether RabbitMQ said that we may not do that.
pub(super) fn is_forbidden(error: &lapin::Error) -> bool {
    reply_kind(error) == Some(&AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED))
}

/// Whether the fault lies with TLS rather than with reaching the host: rustls' errors come as "invalid
/// data", and a store without certificates as "other".
fn is_tls(error: &lapin::Error) -> bool {
    let ErrorKind::IOError(error) = error.kind() else { return false };
    matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput)
        || error.to_string().contains("certificate")
        || error.get_ref().is_some_and(|inner| inner.is::<HandshakeError>())
}

/// The last of the causes: those before it repeat it.
fn innermost(error: &lapin::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text
}
