//! Addresses to listen on or to connect to, by number or by name.

use std::net::{SocketAddr, ToSocketAddrs};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use thiserror::Error;

/// What a text would have to be to name an address. Completes a sentence that ends with "expected".
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AddressError {
    /// It is neither an address nor a name with a port.
    #[error("an address with its port, such as `127.0.0.1:8000`, `[::1]:8000` or `localhost:8000`")]
    NoPort,
    /// The system cannot resolve the name.
    #[error("a name that this host can resolve, or an address with its port ({reason})")]
    Unresolved {
        /// The system's error.
        reason: String,
    },
    /// The name has no address.
    #[error("a name that has an address")]
    NoAddress,
}

/// Every address that `text` names, each once: `127.0.0.1:8000` is one, `localhost:8000` may be two. A name
/// is resolved by the system, which can take as long as a name server does.
///
/// # Errors
/// What would be valid. It completes a sentence that ends with "expected".
pub fn addresses(text: &str) -> Result<Vec<SocketAddr>, AddressError> {
    let text = text.trim();
    if let Ok(address) = text.parse() {
        return Ok(vec![address]);
    }
    // Colons and brackets are of an address of IPv6, which this is not, or it would have been understood.
    let is_name = |name: &str| !name.is_empty() && !name.contains([':', '[', ']']);
    let has_name_and_port =
        text.rsplit_once(':').is_some_and(|(name, port)| is_name(name) && port.parse::<u16>().is_ok());
    if !has_name_and_port {
        return Err(AddressError::NoPort);
    }
    let unresolved = |error: std::io::Error| AddressError::Unresolved { reason: error.to_string() };
    let resolved = text.to_socket_addrs().map_err(unresolved)?;
    let mut found = Vec::new();
    for address in resolved {
        if !found.contains(&address) {
            found.push(address);
        }
    }
    if found.is_empty() { Err(AddressError::NoAddress) } else { Ok(found) }
}

/// One of the addresses that `text` names: the first IPv4 address, otherwise the first of all.
///
/// # Errors
/// Those of [`addresses`].
pub fn address(text: &str) -> Result<SocketAddr, AddressError> {
    let mut found = addresses(text)?;
    let at = found.iter().position(SocketAddr::is_ipv4).unwrap_or_default();
    Ok(found.swap_remove(at))
}

pub(super) fn deserialize_all<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<SocketAddr>, D::Error> {
    let mut found = Vec::new();
    for text in Vec::<String>::deserialize(deserializer)? {
        found.extend(addresses(&text).map_err(D::Error::custom)?);
    }
    Ok(found)
}

pub(super) fn deserialize_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    address(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_number_or_a_name() {
        for text in ["127.0.0.1:8000", " [::1]:0 ", "0.0.0.0:65535"] {
            assert_eq!(addresses(text), Ok(vec![text.trim().parse().unwrap()]), "{text}");
        }
        let local = addresses("localhost:8000").unwrap();
        assert!(
            local.iter().all(|address| address.ip().is_loopback() && address.port() == 8000),
            "{local:?}"
        );
        assert_eq!(address("localhost:8000"), Ok("127.0.0.1:8000".parse().unwrap()));
        for (text, expected) in [
            ("8000", "an address with its port"),
            (":8000", "an address with its port"),
            ("localhost", "an address with its port"),
            ("[::1", "an address with its port"),
            ("::1:8000:1", "an address with its port"),
            ("localhost:http", "an address with its port"),
            ("127.0.0.1:80000", "an address with its port"),
            ("", "an address with its port"),
            ("nowhere.invalid:8000", "a name that this host can resolve"),
        ] {
            let error = addresses(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
