//! The addresses of RabbitMQ's nodes, and the settings for TLS.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use lapin::tcp::OwnedTLSConfig;
use lapin::uri::{AMQPScheme, AMQPUri};
use url::Url;

use crate::config::{AmqpUrl, AmqpUrls};

use super::fault::{AuthoritiesError, FaultKind, RabbitMqFault};

/// Seconds between heartbeats if the URL does not say: a RabbitMQ that went without a word is noticed after
/// twice that.
const HEARTBEAT: u16 = 10;

/// A parsed `amqp://` or `amqps://` URL. Displayed without user, password and parameters.
pub(super) struct Address {
    pub(super) uri: AMQPUri,
    /// Whether what listens there was asked for HTTP, and had the chance to answer: see [`wrong_peer`](super::wrong_peer).
    pub(super) is_no_http: AtomicBool,
    /// Names authorities to trust beside the machine's own.
    authorities: Option<String>,
    shown: String,
}

impl Address {
    /// Parses a URL. Besides what lapin knows (`heartbeat`, `frame_max`, `channel_max`, `connection_timeout`, `auth_mechanism`),
    /// `cacertfile` names a PEM file of authorities to trust beside the machine's own. It is read at each connect, so
    /// that a file that is replaced counts from the next one on; here it is only seen that it can be.
    ///
    /// # Errors
    /// What is wrong, in words that hold nothing of the URL's secrets.
    pub(super) fn parse(url: &AmqpUrl) -> Result<Self, RabbitMqFault> {
        url.check().map_err(FaultKind::Url)?;
        let mut uri: AMQPUri = url.parse().map_err(|_| FaultKind::UnreadableUrl)?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        let authorities = parameter(url, "cacertfile");
        if let Some(path) = &authorities {
            read_authorities(path).map_err(FaultKind::Authorities)?;
        }
        Ok(Self { uri, is_no_http: AtomicBool::new(false), authorities, shown: url.public() })
    }

    /// What it takes to speak TLS; nothing if it is not spoken.
    ///
    /// # Errors
    /// The file of authorities cannot be read now. It was there before, and may be again.
    pub(super) async fn tls(&self) -> Result<Option<OwnedTLSConfig>, RabbitMqFault> {
        if self.uri.scheme != AMQPScheme::AMQPS {
            return Ok(None);
        }
        let mut tls = OwnedTLSConfig::default();
        if let Some(path) = self.authorities.clone() {
            // A disk may be slow, and this is the broker thread.
            let read = tokio::task::spawn_blocking(move || read_authorities(&path)).await;
            let read = read.map_err(AuthoritiesError::Task).flatten();
            tls.cert_chain = Some(read.map_err(FaultKind::AuthoritiesAway)?);
        }
        Ok(Some(tls))
    }
}

/// All nodes there are, and which one is to be tried next: round the list, from the one that worked last.
#[derive(Debug)]
pub(super) struct Addresses {
    all: Vec<Arc<Address>>,
    at: usize,
    /// Attempts since one worked.
    tried: usize,
}

impl Addresses {
    /// Parses all URLs.
    ///
    /// # Errors
    /// What is wrong with the first one of which something is.
    pub(super) fn parse(urls: &AmqpUrls) -> Result<Self, RabbitMqFault> {
        let all: Vec<_> =
            urls.iter().map(|url| Address::parse(url).map(Arc::new)).collect::<Result<_, _>>()?;
        if all.is_empty() {
            return Err(FaultKind::NoUrl.into());
        }
        Ok(Self { all, at: 0, tried: 0 })
    }

    /// How many there are, at least one.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// The number of the one to be tried.
    pub(super) fn number(&self) -> usize {
        self.at
    }

    /// The one to be tried, or that works.
    pub(super) fn current(&self) -> &Arc<Address> {
        &self.all[self.at]
    }

    /// It works.
    pub(super) fn worked(&mut self) {
        self.tried = 0;
    }

    /// It does not, and the next one has its turn. Returns whether all have had theirs.
    pub(super) fn failed(&mut self) -> bool {
        self.at = (self.at + 1) % self.all.len();
        self.tried += 1;
        self.tried.is_multiple_of(self.all.len())
    }
}

fn parameter(url: &AmqpUrl, name: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn read_authorities(path: &str) -> Result<String, AuthoritiesError> {
    let unreadable = |error| AuthoritiesError::Unreadable { path: path.to_owned(), error };
    let pem = std::fs::read_to_string(path).map_err(unreadable)?;
    if !pem.contains("-----BEGIN CERTIFICATE-----") {
        return Err(AuthoritiesError::NoCertificate { path: path.to_owned() });
    }
    Ok(pem)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (url, word) in [
            ("rabbit:hunter2@x", "amqp://"),
            ("amqp://a:hunter2@rabbit?heartbeat=often", "parameter"),
            ("amqp://a:hunter2%ff@rabbit", "password"),
            ("amqps://a:hunter2@rabbit?cacertfile=/nowhere/ca.pem", "/nowhere/ca.pem"),
            ("amqps://a:hunter2@rabbit?cacertfile=/dev/null", "no certificate"),
        ] {
            let fault = Address::parse(&url.into()).unwrap_err();
            let told = fault.to_string();
            assert!(fault.is_final() && told.contains("amqp.url"), "{told}");
            assert!(told.contains(word) && !told.contains("hunter2"), "{told}");
        }
    }

    #[test]
    fn nodes_are_tried_round_the_list_from_the_one_that_worked() {
        let mut addresses = Addresses::parse(&"amqp://a,amqp://b,amqp://c".into()).unwrap();
        assert_eq!((addresses.len(), addresses.current().to_string()), (3, "amqp://a:5672/%2f".to_owned()));
        assert!(!addresses.failed());
        addresses.worked();
        for (number, round_is_over) in [(1, false), (2, false), (0, true), (1, false), (2, false), (0, true)]
        {
            assert_eq!((addresses.number(), addresses.failed()), (number, round_is_over));
        }
        assert!(Addresses::parse(&"".into()).is_err());
    }

    #[test]
    fn an_address_shows_no_secret() {
        let address = Address::parse(&"amqps://a:hunter2@rabbit/live?heartbeat=3".into()).unwrap();
        assert_eq!(address.to_string(), "amqps://rabbit:5671/live");
        assert_eq!(format!("{address:?}"), "Address(amqps://rabbit:5671/live)");
        assert_eq!(address.uri.query.heartbeat, Some(3));
        assert_eq!(address.uri.scheme, AMQPScheme::AMQPS);
    }
}
