//! Where RabbitMQ is, and what it takes to speak TLS there.

use std::fmt;

use lapin::tcp::OwnedTLSConfig;
use lapin::uri::{AMQPScheme, AMQPUri};
use url::Url;

use crate::config::AmqpUrl;

use super::fault::Fault;

/// Seconds between heartbeats if the URL does not say: a RabbitMQ that went without a word is noticed after
/// twice that.
const HEARTBEAT: u16 = 10;

/// A parsed `amqp://` or `amqps://` URL. Displayed without user, password and parameters.
pub(super) struct Address {
    pub(super) uri: AMQPUri,
    pub(super) tls: OwnedTLSConfig,
    shown: String,
}

impl Address {
    /// Parses a URL. Besides what lapin knows (`heartbeat`, `frame_max`, `channel_max`, `auth_mechanism`),
    /// `cacertfile` names a PEM file of authorities to trust beside the machine's own.
    ///
    /// # Errors
    /// What is wrong, in words that hold nothing of the URL's secrets.
    pub(super) fn parse(url: &AmqpUrl) -> Result<Self, Fault> {
        url.check().map_err(|problem| Fault::lasting(format!("amqp.url {problem}")))?;
        // lapin's own words may quote the whole URL.
        let unusable = |_| {
            Fault::lasting(
                "amqp.url has a user name, password, virtual host or parameter that cannot be read: \
                 characters with a meaning in URLs are written %XX, and numbers in parameters are whole"
                    .to_owned(),
            )
        };
        let mut uri: AMQPUri = url.parse().map_err(unusable)?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        let mut tls = OwnedTLSConfig::default();
        if let Some(path) = parameter(url, "cacertfile") {
            tls.cert_chain = Some(authorities(&path)?);
        }
        Ok(Self { uri, tls, shown: url.public() })
    }

    /// Whether TLS is spoken.
    pub(super) fn is_encrypted(&self) -> bool {
        self.uri.scheme == AMQPScheme::AMQPS
    }
}

fn parameter(url: &AmqpUrl, name: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn authorities(path: &str) -> Result<String, Fault> {
    let fault = |error: &dyn fmt::Display| {
        Fault::lasting(format!("amqp.url names the file {path} in `cacertfile`: {error}"))
    };
    let pem = std::fs::read_to_string(path).map_err(|error| fault(&error))?;
    if !pem.contains("-----BEGIN CERTIFICATE-----") {
        return Err(fault(&"it holds no certificate in PEM"));
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
            assert!(fault.is_final && fault.text.contains("amqp.url"), "{}", fault.text);
            assert!(fault.text.contains(word) && !fault.text.contains("hunter2"), "{}", fault.text);
        }
    }

    #[test]
    fn an_address_shows_no_secret() {
        let address = Address::parse(&"amqps://a:hunter2@rabbit/live?heartbeat=3".into()).unwrap();
        assert_eq!(address.to_string(), "amqps://rabbit:5671/live");
        assert_eq!(format!("{address:?}"), "Address(amqps://rabbit:5671/live)");
        assert_eq!(address.uri.query.heartbeat, Some(3));
        assert!(address.is_encrypted());
    }
}
