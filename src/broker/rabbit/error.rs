//! What can go wrong with RabbitMQ, in words an operator can act on. No text has a password in it.

use lapin::{Error, ErrorKind};
use thiserror::Error;

use crate::config::AmqpUrl;

/// ACCESS_REFUSED (AMQP 0-9-1, section 1.2: reply codes).
const ACCESS_REFUSED: u16 = 403;
/// NOT_FOUND
const NOT_FOUND: u16 = 404;
/// PRECONDITION_FAILED
pub(super) const PRECONDITION_FAILED: u16 = 406;
/// NOT_ALLOWED, which RabbitMQ says of a vhost that is not there.
const NOT_ALLOWED: u16 = 530;

/// What went wrong.
#[derive(Debug, Error)]
pub(super) enum Trouble {
    /// Nobody answers, or the connection broke: later may be better.
    #[error("{0}")]
    Unreachable(String),
    /// RabbitMQ said no, and will again.
    #[error("{0}")]
    Refused(String),
}

impl Trouble {
    /// Whether trying again changes nothing.
    pub(super) fn is_permanent(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    /// What went wrong while connecting.
    pub(super) fn connecting(url: &AmqpUrl, error: &Error) -> Self {
        let place = url.public();
        match reply_code(error) {
            Some(ACCESS_REFUSED) => {
                Self::Refused(format!("RabbitMQ at {place} refuses the user or the password (amqp.url)"))
            }
            Some(NOT_ALLOWED | NOT_FOUND) => Self::Refused(format!(
                "RabbitMQ at {place} has no such vhost, or the user may not use it (amqp.url): {}",
                text(error)
            )),
            _ => match error.kind() {
                ErrorKind::AuthProviderError(reason) => {
                    Self::Refused(format!("RabbitMQ at {place}: {reason}"))
                }
                ErrorKind::IOError(io) if is_tls(io) => Self::Refused(format!(
                    "the TLS connection to RabbitMQ at {place} fails: {io}. Is the certificate's issuer known to this host? SSL_CERT_FILE names a file with others"
                )),
                _ => Self::Unreachable(format!("RabbitMQ at {place}: {}", text(error))),
            },
        }
    }

    /// What went wrong while doing `what` on a connection.
    pub(super) fn doing(what: &str, error: &Error) -> Self {
        match reply_code(error) {
            Some(ACCESS_REFUSED | NOT_FOUND | PRECONDITION_FAILED) => {
                Self::Refused(format!("{what}: {}", text(error)))
            }
            _ => Self::Unreachable(format!("{what}: {}", text(error))),
        }
    }
}

/// The number with which RabbitMQ closed the channel or the connection.
pub(super) fn reply_code(error: &Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}

/// What RabbitMQ, or the operating system, said.
pub(super) fn text(error: &Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        _ => error.to_string(),
    }
}

fn is_tls(error: &std::io::Error) -> bool {
    let text = error.to_string().to_lowercase();
    ["certificate", "tls", "handshake"].iter().any(|word| text.contains(word))
}
