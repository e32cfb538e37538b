//! Values that nobody may read over an operator's shoulder. Their types have no `Display`, and their
//! `Debug` and their serialization show a mask: printing a secret takes a deliberate `&*secret`.

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize, Serializer};
use url::Url;

/// What stands where a secret would.
const MASK: &str = "***";

/// A secret text, such as an API key.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct Secret(String);

/// The URL of a RabbitMQ server, which may hold a password. Empty: none.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct AmqpUrl(String);

impl AmqpUrl {
    /// What can be shown of the URL: scheme, host, port and virtual host. User, password and parameters are
    /// left out. Of a text that is no such URL nothing can be shown, since nobody knows where in it the
    /// password stands.
    #[must_use]
    pub fn public(&self) -> String {
        let Ok(url) = self.parse() else {
            return if self.0.is_empty() { String::new() } else { MASK.to_owned() };
        };
        let default_port = if url.scheme() == "amqps" { 5671 } else { 5672 };
        let port = url.port().unwrap_or(default_port);
        let vhost = match url.path() {
            "" => "/%2f",
            path => path,
        };
        format!("{}://{}:{port}{vhost}", url.scheme(), url.host_str().unwrap_or_default())
    }

    /// Whether a connection can be tried with it; if not, why not, in words that hold nothing of the URL.
    ///
    /// # Errors
    /// The sentence that says what is wrong and how it would be right.
    pub fn check(&self) -> Result<(), String> {
        self.parse().map(drop)
    }

    /// RabbitMQ's URI specification, as far as the AMQP client follows it.
    fn parse(&self) -> Result<Url, String> {
        const FORM: &str = "it has the form `amqp://user:password@host:5672/vhost`";
        let url = Url::parse(&self.0).map_err(|error| format!("is no URL ({error}): {FORM}"))?;
        if !matches!(url.scheme(), "amqp" | "amqps") {
            return Err(format!("begins neither with `amqp://` nor with `amqps://`: {FORM}"));
        }
        match url.host() {
            None | Some(url::Host::Domain("")) => return Err(format!("names no host: {FORM}")),
            // The AMQP client's parser passes over them and would connect to localhost instead.
            Some(url::Host::Ipv6(_)) => {
                return Err("has an IPv6 address for a host: give the server a host name".to_owned());
            }
            Some(_) => {}
        }
        match url.path() {
            "/" => Err("ends with `/`, which names a virtual host without a name: leave the slash out, \
                        or write `%2f` after it, for the virtual host `/`"
                .to_owned()),
            path if path.matches('/').count() > 1 => {
                Err("has a `/` in the name of the virtual host: write `%2f` there".to_owned())
            }
            _ => Ok(url),
        }
    }
}

/// What both types share: made from text, read as text, shown as a mask.
macro_rules! hidden_text {
    ($name:ident, $shown:expr) => {
        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let shown: fn(&Self) -> String = $shown;
                write!(f, "{:?}", shown(self))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let shown: fn(&Self) -> String = $shown;
                serializer.serialize_str(&shown(self))
            }
        }
    };
}

hidden_text!(Secret, |secret| if secret.is_empty() { String::new() } else { MASK.to_owned() });
hidden_text!(AmqpUrl, Self::public);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_only_whether_there_is_one() {
        let secret = Secret::from("open sesame");
        assert_eq!(format!("{secret:?}"), "\"***\"");
        assert_eq!(toml::Value::try_from(&secret).unwrap().as_str(), Some("***"));
        assert_eq!(&*secret, "open sesame");
        assert_eq!(format!("{:?}", Secret::default()), "\"\"");
    }

    #[test]
    fn an_amqp_url_is_shown_without_user_password_and_parameters() {
        for (url, shown) in [
            ("", ""),
            ("amqp://localhost", "amqp://localhost:5672/%2f"),
            ("amqp://shop:hunter2@rabbit:5673/live?heartbeat=10", "amqp://rabbit:5673/live"),
            ("amqps://shop:hunter2@10.0.0.1", "amqps://10.0.0.1:5671/%2f"),
            ("amqp:/shop:hunter2@rabbit", "***"),
            ("shop:hunter2@rabbit", "***"),
            ("hunter2", "***"),
        ] {
            let url = AmqpUrl::from(url);
            assert_eq!(url.public(), shown);
            assert_eq!(toml::Value::try_from(&url).unwrap().as_str(), Some(shown));
            assert!(!format!("{url:?}").contains("hunter2"));
        }
    }

    #[test]
    fn what_is_wrong_with_an_amqp_url_is_said_without_showing_it() {
        for (url, problem) in [
            ("localhost", "is no URL"),
            ("amqp://user:hunter2@rabbit:port/", "is no URL"),
            ("http://rabbit/", "neither"),
            ("shop:hunter2@rabbit", "neither"),
            ("amqp:hunter2", "no host"),
            ("amqp://[::1]:5672", "IPv6"),
            ("amqp://rabbit/", "leave the slash out"),
            ("amqp://rabbit/a/b", "%2f"),
        ] {
            let error = AmqpUrl::from(url).check().unwrap_err();
            assert!(error.contains(problem), "{url}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        for url in ["amqp://rabbit", "amqp://a:b@127.0.0.1:5673/%2f", "amqps://rabbit/live?heartbeat=10"] {
            assert_eq!(AmqpUrl::from(url).check(), Ok(()), "{url}");
        }
    }
}
