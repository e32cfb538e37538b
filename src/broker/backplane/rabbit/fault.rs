//! Faults between the engine and RabbitMQ, in words for operators.

use std::error::Error as _;
use std::fmt::Display;

use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::tcp::HandshakeError;

/// What is wrong between an engine and RabbitMQ: what, where, and what to do. Holds no secret.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub struct Fault {
    /// What, where, and what to do.
    pub(super) text: String,
    /// Whether trying again without changing something is useless. At the start that ends the engine; later
    /// it is tried again nevertheless.
    pub(super) is_final: bool,
    /// Whether somebody answered and will not have us, or cannot be trusted: nobody is away.
    pub(super) is_refusal: bool,
    /// Whether the queue that an operator named is not there: whatever was in it is gone.
    pub(super) queue_is_gone: bool,
    /// Whether lapin could not read what RabbitMQ sent, or did not take it.
    pub(super) is_unreadable: bool,
}

impl Fault {
    /// A fault that stays until somebody does something about it.
    pub(super) fn lasting(text: String) -> Self {
        Self { is_final: true, is_refusal: true, ..Self::passing(text) }
    }

    /// A fault that may pass.
    pub(super) fn passing(text: String) -> Self {
        Self { text, is_final: false, is_refusal: false, queue_is_gone: false, is_unreadable: false }
    }

    /// RabbitMQ's refusal that may pass without anybody's doing.
    fn refusing_for_now(text: String) -> Self {
        Self { is_refusal: true, ..Self::passing(text) }
    }

    /// A fault that stays until somebody declares the queue anew.
    pub(super) fn missing_queue(text: String) -> Self {
        Self { queue_is_gone: true, ..Self::lasting(text) }
    }

    /// Why no connection came about.
    pub(super) fn connecting(error: &lapin::Error, address: &dyn Display) -> Self {
        match reply_kind(error) {
            Some(AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED)) => {
                Self::not_allowed(&reply_text(error), address)
            }
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

    /// RabbitMQ has one reply code for a vhost that is not there, for one that the user may not use, for one that is
    /// being started, and for a limit that is reached; only its words tell them apart.
    fn not_allowed(said: &str, address: &dyn Display) -> Self {
        if said.contains("is reached") {
            return Self::refusing_for_now(format!(
                "RabbitMQ at {address} takes no further connection ({said}); an engine needs two: raise the limit with \
                 `rabbitmqctl set_vhost_limits` or `set_user_limits`"
            ));
        }
        if said.contains("is down") {
            return Self::refusing_for_now(format!(
                "RabbitMQ at {address}: the vhost (virtual host) is not ready ({said})"
            ));
        }
        let remedy = if said.contains("not found") {
            "has no such vhost (virtual host): create it with `rabbitmqctl add_vhost` and allow it with \
             `set_permissions`"
        } else {
            "does not let its user use this vhost (virtual host): allow it with `rabbitmqctl set_permissions`"
        };
        Self::lasting(format!("RabbitMQ at {address} {remedy}, or correct amqp.url ({said})"))
    }

    /// Why something is not there that ought to be, and was not declared either: `refusal` is RabbitMQ's answer to its
    /// declaration. That it is not there, which is RabbitMQ's last word, would hide the reason.
    pub(super) fn not_declared(what: &str, refusal: &lapin::Error, address: &dyn Display) -> Self {
        let said = reply_text(refusal);
        let remedy = if is_forbidden(refusal) {
            "give the user of amqp.url the right to configure it (`rabbitmqctl set_permissions`), or declare it yourself"
        } else if said.contains("is reached") {
            "raise the limit (`rabbitmqctl set_vhost_limits`), or delete what is not needed"
        } else {
            "declare it yourself, or change what RabbitMQ objects to"
        };
        Self::lasting(format!(
            "RabbitMQ at {address}: {what} is not there, and RabbitMQ refuses to declare it ({said}): {remedy}"
        ))
    }

    /// Why a queue cannot be consumed that was there a moment ago.
    pub(super) fn consuming(error: &lapin::Error, queue: &str, address: &dyn Display) -> Self {
        let queue_is_gone = is_missing_queue(error, queue);
        Self { queue_is_gone, ..Self::other("the queue cannot be consumed", error, address) }
    }

    /// Why something about a connection did not work out that has no words of its own.
    pub(super) fn other(what: &str, error: &lapin::Error, address: &dyn Display) -> Self {
        let text = format!("RabbitMQ at {address}: {what}: {}", reply_text(error));
        let is_final = error.is_amqp_error() && !may_pass(error);
        Self { is_final, is_refusal: is_final, is_unreadable: is_unreadable(error), ..Self::passing(text) }
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
fn may_pass(error: &lapin::Error) -> bool {
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

#[cfg(test)]
mod tests {
    use lapin::protocol::AMQPError;

    use super::super::address::Address;
    use super::*;

    fn said(kind: AMQPErrorKind, text: &str) -> lapin::Error {
        ErrorKind::ProtocolError(AMQPError::new(kind, text.into())).into()
    }

    fn not_found(text: &str) -> lapin::Error {
        said(AMQPSoftError::NOTFOUND.into(), &format!("NOT_FOUND - {text}"))
    }

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
    fn what_is_not_allowed_is_told_by_rabbitmqs_words() {
        let address = Address::parse(&"amqp://a:hunter2@rabbit/live".into()).expect("a URL");
        for (text, words, is_final) in [
            ("NOT_ALLOWED - vhost live not found", "add_vhost", true),
            ("NOT_ALLOWED - access to vhost 'live' refused for user 'a'", "does not let its user use", true),
            (
                "NOT_ALLOWED - access to vhost 'live' refused for user 'a': connection limit (1) is reached",
                "needs two",
                false,
            ),
            (
                "NOT_ALLOWED - connection refused for user 'a': user connection limit (1) is reached",
                "needs two",
                false,
            ),
            (
                "NOT_ALLOWED - access to vhost 'live' refused for user 'a': vhost 'live' is down",
                "not ready",
                false,
            ),
        ] {
            let fault = Fault::connecting(&said(AMQPHardError::NOTALLOWED.into(), text), &address);
            assert!(fault.text.contains(words) && fault.text.contains(text), "{}", fault.text);
            assert_eq!((fault.is_final, fault.is_refusal), (is_final, true), "{text}");
        }
    }

    #[test]
    fn what_may_pass_does_not_end_the_engine_at_its_start() {
        let address = Address::parse(&"amqp://127.0.0.1:5672".into()).expect("a URL");
        let is_final = |error: &lapin::Error| {
            let fault = Fault::other("no", error, &address);
            assert_eq!(fault.is_refusal, fault.is_final, "{}", fault.text);
            fault.is_final
        };
        for text in
            ["does not have a replica on the local node", "does not have a running replica on the local node"]
        {
            let text = format!("PRECONDITION_FAILED - stream 'fanfare' in vhost '/' {text}");
            assert!(!is_final(&said(AMQPSoftError::PRECONDITIONFAILED.into(), &text)), "{text}");
        }
        assert!(!is_final(&not_found("queue 'fanfare' in vhost '/' process is stopped by supervisor")));
        assert!(!is_final(&said(AMQPHardError::INTERNALERROR.into(), "INTERNAL_ERROR - no leader")));
        let stopping = "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'";
        assert!(!is_final(&said(AMQPHardError::CONNECTIONFORCED.into(), stopping)));
        assert!(!is_final(&said(AMQPHardError::FRAMEERROR.into(), "frame too large: 131126 bytes")));
        assert!(is_final(&said(
            AMQPSoftError::PRECONDITIONFAILED.into(),
            "PRECONDITION_FAILED - another type"
        )));
        assert!(is_final(&said(AMQPSoftError::ACCESSREFUSED.into(), "ACCESS_REFUSED - no")));
        assert!(is_final(&not_found("no exchange 'fanfare' in vhost '/'")));
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
