//! Why an engine and RabbitMQ cannot work together, in words for operators.

use std::fmt::Display;

use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use tokio::task::JoinError;

use crate::config::AmqpUrlError;

use super::reply::{
    innermost, is_forbidden, is_missing_queue, is_tls, is_unreadable, may_pass, reply_kind, reply_text,
};
use super::unconfirmed::Unconfirmed;

/// Why an engine and RabbitMQ cannot work together. Displayed as what is wrong, where, and what to do; holds no secret.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct RabbitMqFault(Box<FaultKind>);

impl From<FaultKind> for RabbitMqFault {
    fn from(kind: FaultKind) -> Self {
        Self(Box::new(kind))
    }
}

/// What is wrong. `node` is the URL of one of RabbitMQ's nodes, as far as it can be shown.
#[derive(Debug, thiserror::Error)]
pub(super) enum FaultKind {
    #[error("amqp.url {0}")]
    Url(AmqpUrlError),
    /// lapin's own words may quote the whole URL.
    #[error(
        "amqp.url has a user name, password, virtual host or parameter that cannot be read: characters with a meaning in \
         URLs are written %XX, and numbers in parameters are whole"
    )]
    UnreadableUrl,
    #[error("amqp.url is empty")]
    NoUrl,
    #[error("{0}")]
    Authorities(AuthoritiesError),
    /// The file could be read when the URL was, and may be there again.
    #[error("{0}")]
    AuthoritiesAway(AuthoritiesError),
    #[error("RabbitMQ at {node} cannot be reached: {}", innermost(.error))]
    Unreachable { node: String, error: lapin::Error },
    #[error("RabbitMQ at {node} does not answer")]
    NoAnswer { node: String },
    #[error("it does not answer in time")]
    InspectionLate,
    #[error(
        "what listens at {node} speaks HTTP and no AMQP 0.9.1: is this the port of RabbitMQ's management page? AMQP's is \
         5672, or 5671 with TLS, unless RabbitMQ is configured otherwise; correct amqp.url"
    )]
    Http { node: String },
    #[error(
        "no TLS with RabbitMQ at {node}: {}. Authorities are the machine's own (SSL_CERT_FILE names others) and those in \
         the file that `?cacertfile=` in amqp.url names; the host in amqp.url must be one that the certificate is for; and \
         the port must be one for TLS",
        innermost(.error)
    )]
    Tls { node: String, error: lapin::Error },
    #[error("RabbitMQ at {node} refuses the user name or password in amqp.url ({})", reply_text(.error))]
    Login { node: String, error: lapin::Error },
    #[error(
        "RabbitMQ at {node} has no such vhost (virtual host): create it with `rabbitmqctl add_vhost` and allow it with \
         `set_permissions`, or correct amqp.url ({said})"
    )]
    VhostMissing { node: String, said: String },
    #[error(
        "RabbitMQ at {node} does not let its user use this vhost (virtual host): allow it with `rabbitmqctl \
         set_permissions`, or correct amqp.url ({said})"
    )]
    VhostForbidden { node: String, said: String },
    #[error("RabbitMQ at {node}: the vhost (virtual host) is not ready ({said})")]
    VhostDown { node: String, said: String },
    #[error(
        "RabbitMQ at {node} takes no further connection ({said}); an engine needs two: raise the limit with `rabbitmqctl \
         set_vhost_limits` or `set_user_limits`"
    )]
    ConnectionLimit { node: String, said: String },
    /// Something is not there, and RabbitMQ refused its declaration. RabbitMQ's last word, that it is not there, would hide
    /// the reason.
    #[error(
        "RabbitMQ at {node}: {declaration} is not there, and RabbitMQ refuses to declare it ({}): {}",
        reply_text(.refusal), remedy(.refusal)
    )]
    Undeclared { node: String, declaration: Declaration, refusal: lapin::Error },
    #[error(
        "the queue `{queue}` (amqp.queue) is not there on {node}: create it and bind it to the exchange `{exchange}`, or \
         leave amqp.queue empty for a queue of the engine's own"
    )]
    QueueMissing { node: String, queue: String, exchange: String },
    #[error(
        "the exchange `{exchange}` on {node} is there and is not of type topic ({}): delete it, name another one in \
         amqp.exchange, or bind a queue to it and name that in amqp.queue",
        reply_text(.error)
    )]
    ExchangeNotTopic { node: String, exchange: String, error: lapin::Error },
    #[error(
        "the exchange `{exchange}` on {node}, by which backends are asked, is there and is not of type topic ({}), so that \
         a call would get to other workers than it is for: delete it, and it is declared anew; or give amqp.exchange, from \
         which it has its name, another name",
        reply_text(.error)
    )]
    CallsExchangeNotTopic { node: String, exchange: String, error: lapin::Error },
    #[error(
        "the queue `{queue}` (amqp.stream) on {node} is there and is no stream ({}): delete it, name another stream, or \
         consume it by amqp.source = \"queue\" and amqp.queue",
        reply_text(.error)
    )]
    QueueNotStream { node: String, queue: String, error: lapin::Error },
    #[error(
        "the queue `{queue}` (amqp.queue) on {node} is a stream, and what is sent to it while the engine is down would \
         never be pushed: read it by amqp.source = \"stream\" and amqp.stream = \"{queue}\", or name another queue"
    )]
    QueueIsStream { node: String, queue: String },
    #[error("RabbitMQ at {node}: {step}: {}", reply_text(.error))]
    SetupFailed { node: String, step: SetupStep, error: lapin::Error },
    #[error("RabbitMQ at {node}: a message of the stream came without its offset")]
    NoOffset { node: String },
    #[error("RabbitMQ at {node}: the stream was deleted while it was being opened")]
    StreamDeleted { node: String },
    #[error("RabbitMQ at {node} takes no marker into the stream: {error}")]
    NoMarker { node: String, error: Unconfirmed },
    #[error("the attempt ended: {0}")]
    AttemptEnded(JoinError),
}

/// A step of making a link, or of looking at a node, that has no words of its own for its failure.
#[derive(Debug, thiserror::Error)]
pub(super) enum SetupStep {
    #[error("no channel could be opened")]
    OpenChannel,
    #[error("no channel for publishes could be opened")]
    OpenPublishChannel,
    #[error("no channel for dead letters could be opened")]
    OpenDeadLetterChannel,
    #[error("the exchange `{0}` can be neither declared nor used")]
    UseExchange(String),
    #[error("the queue {0} can be neither declared nor used")]
    UseQueue(String),
    #[error("the queue of its own can be neither declared nor used")]
    UseOwnQueue,
    #[error("an exchange cannot be asked for")]
    FindExchange,
    #[error("a queue cannot be asked for")]
    FindQueue,
    #[error("no queue can be bound to the exchange `{0}`")]
    Bind(String),
    #[error("the queue cannot be watched")]
    WatchQueue,
    #[error("the prefetch limit cannot be set")]
    LimitPrefetch,
    #[error("the queue cannot be consumed")]
    Consume { queue: String },
    #[error("the stream cannot be read")]
    ReadStream,
}

/// Something of RabbitMQ's that has to be declared.
#[derive(Debug, thiserror::Error)]
pub(super) enum Declaration {
    #[error("the exchange `{0}`")]
    Exchange(String),
    #[error("the stream `{0}` (amqp.stream)")]
    Stream(String),
    #[error("the queue `{0}` (amqp.dead_letter_queue)")]
    DeadLetterQueue(String),
}

/// Why a file of authorities is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum AuthoritiesError {
    #[error("amqp.url names the file {path} in `cacertfile`: {error}")]
    Unreadable { path: String, error: std::io::Error },
    #[error("amqp.url names the file {path} in `cacertfile`: it holds no certificate in PEM")]
    NoCertificate { path: String },
    #[error("{0}")]
    Task(JoinError),
}

impl RabbitMqFault {
    /// Why no connection came about.
    pub(super) fn connecting(error: lapin::Error, node: &dyn Display) -> Self {
        let node = node.to_string();
        match reply_kind(&error) {
            Some(AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED)) => not_allowed(node, reply_text(&error)),
            Some(AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)) => FaultKind::Login { node, error },
            _ if is_tls(&error) => FaultKind::Tls { node, error },
            _ => FaultKind::Unreachable { node, error },
        }
        .into()
    }

    /// A step did not work out.
    pub(super) fn step(step: SetupStep, error: lapin::Error, node: &dyn Display) -> Self {
        FaultKind::SetupFailed { node: node.to_string(), step, error }.into()
    }

    /// Whether trying again without changing something is useless. At the start that ends the engine; later it is tried
    /// again nevertheless.
    pub(super) fn is_final(&self) -> bool {
        match &*self.0 {
            FaultKind::SetupFailed { error, .. } => error.is_amqp_error() && !may_pass(error),
            FaultKind::Url(_)
            | FaultKind::UnreadableUrl
            | FaultKind::NoUrl
            | FaultKind::Authorities(_)
            | FaultKind::Http { .. }
            | FaultKind::Tls { .. }
            | FaultKind::Login { .. }
            | FaultKind::VhostMissing { .. }
            | FaultKind::VhostForbidden { .. }
            | FaultKind::Undeclared { .. }
            | FaultKind::QueueMissing { .. }
            | FaultKind::ExchangeNotTopic { .. }
            | FaultKind::CallsExchangeNotTopic { .. }
            | FaultKind::QueueNotStream { .. }
            | FaultKind::QueueIsStream { .. } => true,
            FaultKind::AuthoritiesAway(_)
            | FaultKind::Unreachable { .. }
            | FaultKind::NoAnswer { .. }
            | FaultKind::InspectionLate
            | FaultKind::VhostDown { .. }
            | FaultKind::ConnectionLimit { .. }
            | FaultKind::NoOffset { .. }
            | FaultKind::StreamDeleted { .. }
            | FaultKind::NoMarker { .. }
            | FaultKind::AttemptEnded(_) => false,
        }
    }

    /// Whether the node answered and refuses the engine, or cannot be trusted. If not, it is away.
    pub(super) fn is_refusal(&self) -> bool {
        self.is_final() || matches!(*self.0, FaultKind::VhostDown { .. } | FaultKind::ConnectionLimit { .. })
    }

    /// Whether the queue that an operator named is not there: whatever was in it is gone.
    pub(super) fn queue_is_gone(&self) -> bool {
        match &*self.0 {
            FaultKind::QueueMissing { .. } => true,
            FaultKind::SetupFailed { step: SetupStep::Consume { queue }, error, .. } => {
                is_missing_queue(error, queue)
            }
            _ => false,
        }
    }

    /// Whether lapin could not read what RabbitMQ sent, or did not take it.
    pub(super) fn is_unreadable(&self) -> bool {
        matches!(&*self.0, FaultKind::SetupFailed { error, .. } if is_unreadable(error))
    }
}

/// RabbitMQ has one reply code for a vhost that is not there, for one that the user may not use, for one that is
/// being started, and for a limit that is reached; only its words tell them apart.
fn not_allowed(node: String, said: String) -> FaultKind {
    if said.contains("is reached") {
        FaultKind::ConnectionLimit { node, said }
    } else if said.contains("is down") {
        FaultKind::VhostDown { node, said }
    } else if said.contains("not found") {
        FaultKind::VhostMissing { node, said }
    } else {
        FaultKind::VhostForbidden { node, said }
    }
}

/// What to do about a refused declaration. A limit of the vhost has no reply code of its own.
fn remedy(refusal: &lapin::Error) -> &'static str {
    if is_forbidden(refusal) {
        "give the user of amqp.url the right to configure it (`rabbitmqctl set_permissions`), or declare it yourself"
    } else if reply_text(refusal).contains("is reached") {
        "raise the limit (`rabbitmqctl set_vhost_limits`), or delete what is not needed"
    } else {
        "declare it yourself, or change what RabbitMQ objects to"
    }
}

#[cfg(test)]
mod tests {
    use super::super::address::Address;
    use super::super::reply::{not_found, said};
    use super::*;

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
            let fault = RabbitMqFault::connecting(said(AMQPHardError::NOTALLOWED.into(), text), &address);
            let told = fault.to_string();
            assert!(told.contains(words) && told.contains(text), "{told}");
            assert_eq!((fault.is_final(), fault.is_refusal()), (is_final, true), "{text}");
        }
    }

    #[test]
    fn what_may_pass_does_not_end_the_engine_at_its_start() {
        let address = Address::parse(&"amqp://127.0.0.1:5672".into()).expect("a URL");
        let is_final = |error: lapin::Error| {
            let fault = RabbitMqFault::step(SetupStep::OpenChannel, error, &address);
            assert_eq!(fault.is_refusal(), fault.is_final(), "{fault}");
            fault.is_final()
        };
        for text in
            ["does not have a replica on the local node", "does not have a running replica on the local node"]
        {
            let text = format!("PRECONDITION_FAILED - stream 'fanfare' in vhost '/' {text}");
            assert!(!is_final(said(AMQPSoftError::PRECONDITIONFAILED.into(), &text)), "{text}");
        }
        assert!(!is_final(not_found("queue 'fanfare' in vhost '/' process is stopped by supervisor")));
        assert!(!is_final(said(AMQPHardError::INTERNALERROR.into(), "INTERNAL_ERROR - no leader")));
        let stopping = "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'";
        assert!(!is_final(said(AMQPHardError::CONNECTIONFORCED.into(), stopping)));
        assert!(!is_final(said(AMQPHardError::FRAMEERROR.into(), "frame too large: 131126 bytes")));
        assert!(is_final(said(
            AMQPSoftError::PRECONDITIONFAILED.into(),
            "PRECONDITION_FAILED - another type"
        )));
        assert!(is_final(said(AMQPSoftError::ACCESSREFUSED.into(), "ACCESS_REFUSED - no")));
        assert!(is_final(not_found("no exchange 'fanfare' in vhost '/'")));
    }

    #[test]
    fn only_a_queue_that_is_not_there_is_gone() {
        let address = Address::parse(&"amqp://127.0.0.1:5672".into()).expect("a URL");
        let consuming = |text: &str| {
            let step = SetupStep::Consume { queue: "orders".to_owned() };
            RabbitMqFault::step(step, not_found(text), &address)
        };
        assert!(consuming("no queue 'orders' in vhost '/'").queue_is_gone());
        assert!(!consuming("no queue 'other' in vhost '/'").queue_is_gone());
        assert!(!consuming("queue 'orders' in vhost '/' process is stopped by supervisor").queue_is_gone());
        let error = not_found("no queue 'orders' in vhost '/'");
        assert!(!RabbitMqFault::step(SetupStep::FindQueue, error, &address).queue_is_gone());
        let (node, queue, exchange) = ("a".to_owned(), "orders".to_owned(), "fanfare".to_owned());
        let missing = RabbitMqFault::from(FaultKind::QueueMissing { node, queue, exchange });
        assert!(missing.queue_is_gone() && missing.is_final() && missing.is_refusal());
    }

    #[test]
    fn who_may_not_declare_is_told_what_to_do() {
        for (kind, text, remedy) in [
            (AMQPSoftError::ACCESSREFUSED, "ACCESS_REFUSED - no", "set_permissions"),
            (
                AMQPSoftError::PRECONDITIONFAILED,
                "PRECONDITION_FAILED - limit (1) is reached",
                "raise the limit",
            ),
            (AMQPSoftError::PRECONDITIONFAILED, "PRECONDITION_FAILED - no", "declare it yourself"),
        ] {
            let (declaration, refusal) = (Declaration::Stream("s".to_owned()), said(kind.into(), text));
            let fault =
                RabbitMqFault::from(FaultKind::Undeclared { node: "a".to_owned(), declaration, refusal });
            let told = fault.to_string();
            assert!(told.contains(remedy) && told.contains(text) && told.contains("stream `s`"), "{told}");
            assert!(fault.is_final());
        }
    }
}
