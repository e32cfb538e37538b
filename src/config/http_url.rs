//! URLs that the engine asks by HTTP.

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;
use url::{Host, Url};

/// What is shown of a text that is no such URL: a password could be anywhere in it.
const MASK: &str = "***";

/// A URL that the engine asks by HTTP: `https://...` or `http://...`, without a user and a password. Empty: none.
///
/// With `http://` anybody between the two programs can read along, and could answer. Where an answer must be genuine, it is
/// for programs of this host alone ([`parse_genuine`](Self::parse_genuine)).
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct HttpUrl(String);

/// What is wrong with a URL, and what would be valid. Holds nothing of the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HttpUrlError {
    /// It is no URL at all.
    #[error("is no URL ({0}): it has the form `https://host/path`")]
    NoUrl(url::ParseError),
    /// It has another scheme.
    #[error("begins neither with `https://` nor with `http://`")]
    Scheme,
    /// It would be asked without TLS, over a network.
    #[error(
        "begins with `http://`: anybody on the way could answer. Say `https://`, or name a program of this host \
         (`localhost`, 127.0.0.1)"
    )]
    Plain,
    /// It holds a user or a password.
    #[error("has a user or a password (before `@`), which is not supported: leave it out")]
    Credentials,
}

impl HttpUrl {
    /// The URL in its parts.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(&self) -> Result<Url, HttpUrlError> {
        let url = Url::parse(&self.0).map_err(HttpUrlError::NoUrl)?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(HttpUrlError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(HttpUrlError::Credentials);
        }
        Ok(url)
    }

    /// The URL in its parts, if nobody on the way could answer in the place of the program that it names: it begins with
    /// `https://`, or names this host, by `localhost` or an address of loopback.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse_genuine(&self) -> Result<Url, HttpUrlError> {
        let url = self.parse()?;
        if is_plain(&url) { Err(HttpUrlError::Plain) } else { Ok(url) }
    }

    /// Whether others can read what is sent there: it is sent without TLS, over a network.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.parse().is_ok_and(|url| is_plain(&url))
    }

    /// The part of the URL that can be shown: scheme, host, port and path. Its query is left out, because it may hold a key.
    /// Nothing is shown of a text that is no such URL.
    #[must_use]
    pub fn public(&self) -> String {
        match self.parse() {
            Ok(url) => format!("{}{}", url.origin().ascii_serialization(), url.path()),
            Err(_) if self.is_empty() => String::new(),
            Err(_) => MASK.to_owned(),
        }
    }
}

/// Whether it is asked without TLS, over a network.
fn is_plain(url: &Url) -> bool {
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() == "http" && !is_loopback
}

impl From<String> for HttpUrl {
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl From<&str> for HttpUrl {
    fn from(url: &str) -> Self {
        Self(url.to_owned())
    }
}

impl Deref for HttpUrl {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.public())
    }
}

impl Serialize for HttpUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.public())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_of_http_and_shown_without_its_query() {
        for (url, shown, is_plain) in [
            ("https://issuer.example/jwks.json?key=hunter2#a", "https://issuer.example/jwks.json", false),
            ("https://issuer.example:444", "https://issuer.example:444/", false),
            ("HTTPS://Issuer.example:443/a/../b", "https://issuer.example/b", false),
            ("https://[2001:db8::1]/", "https://[2001:db8::1]/", false),
            ("http://localhost:8080/keys", "http://localhost:8080/keys", false),
            ("http://127.9.9.9/", "http://127.9.9.9/", false),
            ("http://[::1]:1/", "http://[::1]:1/", false),
            ("http://issuer.example/?key=hunter2", "http://issuer.example/", true),
            ("http://localhost.example/", "http://localhost.example/", true),
            ("http://10.0.0.1/", "http://10.0.0.1/", true),
            ("", "", false),
        ] {
            let url = HttpUrl::from(url);
            assert_eq!((url.public().as_str(), format!("{url:?}").as_str()), (shown, shown));
            assert_eq!(serde_json::to_string(&url).unwrap(), format!("{shown:?}"));
            assert_eq!(url.is_plain(), is_plain, "{shown}");
            let genuine = url.parse_genuine().map(drop);
            assert_eq!(genuine == Err(HttpUrlError::Plain), is_plain, "{shown}: {genuine:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said_without_showing_it() {
        for (url, error) in [
            ("https://hunter2@issuer.example/", HttpUrlError::Credentials),
            ("https://:hunter2@issuer.example/", HttpUrlError::Credentials),
            ("http://hunter2@issuer.example/", HttpUrlError::Credentials),
            ("ftp://issuer.example/hunter2", HttpUrlError::Scheme),
            ("file:///hunter2", HttpUrlError::Scheme),
            ("issuer.example/hunter2", HttpUrlError::NoUrl(url::ParseError::RelativeUrlWithoutBase)),
            ("https://", HttpUrlError::NoUrl(url::ParseError::EmptyHost)),
        ] {
            let url = HttpUrl::from(url);
            assert_eq!(url.parse().map(String::from), Err(error), "{}", &*url);
            assert_eq!(url.parse_genuine().map(String::from), Err(error), "{}", &*url);
            assert_eq!((url.public().as_str(), error.to_string().contains("hunter2")), (MASK, false));
        }
    }
}
