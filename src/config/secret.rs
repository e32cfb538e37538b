//! Secrets. Their types have no `Display`, and their `Debug` and their serialization show a mask, so that
//! printing a secret takes a deliberate `&*secret`.

use std::fmt;
use std::ops::Deref;

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;
use url::Url;

use super::keys::most_similar;
use crate::base::printable::escaped;

/// The mask.
const MASK: &str = "***";

/// A secret text, such as an API key.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct Secret(String);

/// The URL of a RabbitMQ server, which may hold a password. Empty: none.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct AmqpUrl(String);

/// The parameters of a URL: those that the AMQP client reads, and `cacertfile`.
const PARAMETERS: [&str; 6] =
    ["auth_mechanism", "cacertfile", "channel_max", "connection_timeout", "frame_max", "heartbeat"];

/// The form of a URL of RabbitMQ.
const FORM: &str = "it has the form `amqp://user:password@host:5672/vhost`";

/// What is wrong with the URL of a RabbitMQ server, and what would be valid. Holds nothing of the URL's secrets.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AmqpUrlError {
    /// Characters with a meaning in URLs are not escaped, and can only be part of a user name, a password or the name of
    /// a virtual host.
    #[error(
        "has {}{}: in a user name, a password or a virtual host that is written {}, as these characters have a meaning in \
         URLs",
        list(.signs, |sign| format!("`{sign}`")),
        place(.is_before_host),
        list(.signs, |sign| format!("`%{:02X}`", u32::from(sign)))
    )]
    Unescaped {
        /// The characters.
        signs: Vec<char>,
        /// They are in the user name or the password.
        is_before_host: bool,
    },
    /// It is no URL at all.
    #[error("is no URL ({0}): {form}", form = FORM)]
    NoUrl(url::ParseError),
    /// It is the address of RabbitMQ's management page.
    #[error(
        "begins with `{scheme}://`, as the address of RabbitMQ's management page does (port 15672); messages come by AMQP: \
         {form}",
        form = FORM
    )]
    Http {
        /// Its scheme.
        scheme: String,
    },
    /// It has another scheme than RabbitMQ's.
    #[error("begins neither with `amqp://` nor with `amqps://`: {form}", form = FORM)]
    Scheme,
    /// It names no host.
    #[error("names no host: {form}", form = FORM)]
    NoHost,
    /// The host is an IPv6 address, which the AMQP client passes over.
    #[error("has an IPv6 address for a host: give the server a host name")]
    Ipv6,
    /// The name of the virtual host is empty.
    #[error(
        "ends with `/`, which names a virtual host without a name: leave the slash out, or write `%2f` after it, for the \
         virtual host `/`"
    )]
    EmptyVhost,
    /// The name of the virtual host has a slash.
    #[error("has a `/` in the name of the virtual host: write `%2f` there")]
    SlashInVhost,
    /// There is no such parameter. The AMQP client would pass over it.
    #[error("has the parameter `{}`, which does not exist; {}", escaped(.name), existing(*nearest))]
    UnknownParameter {
        /// Its name.
        name: String,
        /// The parameter that was probably meant.
        nearest: Option<&'static str>,
    },
}

fn existing(nearest: Option<&str>) -> String {
    match nearest {
        Some(nearest) => format!("the nearest is `{nearest}`"),
        None => format!("there are {}", PARAMETERS.join(", ")),
    }
}

fn place(is_before_host: &bool) -> &'static str {
    if *is_before_host { " before its last `@`" } else { "" }
}

fn list(signs: &[char], show: fn(char) -> String) -> String {
    signs.iter().map(|&sign| show(sign)).collect::<Vec<_>>().join(" ")
}

impl AmqpUrl {
    /// The part of the URL that can be shown: scheme, host, port and virtual host. User, password and
    /// parameters are left out. Nothing is shown of a text that is not such a URL, because the password could
    /// be anywhere in it.
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

    /// Checks whether a connection can be tried with it. The error contains nothing of the URL.
    ///
    /// # Errors
    /// What is wrong and what would be valid.
    pub fn check(&self) -> Result<(), AmqpUrlError> {
        self.parse().map(drop)
    }

    /// RabbitMQ's URI specification, as far as the AMQP client implements it.
    fn parse(&self) -> Result<Url, AmqpUrlError> {
        if let Some(problem) = unescaped(&self.0) {
            return Err(problem);
        }
        let url = Url::parse(&self.0).map_err(AmqpUrlError::NoUrl)?;
        if matches!(url.scheme(), "http" | "https") {
            return Err(AmqpUrlError::Http { scheme: url.scheme().to_owned() });
        }
        if !matches!(url.scheme(), "amqp" | "amqps") {
            return Err(AmqpUrlError::Scheme);
        }
        match url.host() {
            None | Some(url::Host::Domain("")) => return Err(AmqpUrlError::NoHost),
            // The AMQP client's parser passes over them and would connect to localhost instead.
            Some(url::Host::Ipv6(_)) => return Err(AmqpUrlError::Ipv6),
            Some(_) => {}
        }
        match url.path() {
            "/" => Err(AmqpUrlError::EmptyVhost),
            path if path.matches('/').count() > 1 => Err(AmqpUrlError::SlashInVhost),
            _ => unknown_parameter(&url).map_or(Ok(url), Err),
        }
    }
}

/// Finds characters with a meaning in URLs that are not escaped and can only be part of a user name, a
/// password or the name of a virtual host. The text after them would be parsed as another part, and shown.
fn unescaped(url: &str) -> Option<AmqpUrlError> {
    let (_, rest) = url.split_once("://")?;
    // What separates user and password from the host is the last one.
    let (user, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
    let signs: Vec<char> = "/?#@[] ".chars().filter(|&sign| user.contains(sign)).collect();
    if !signs.is_empty() {
        return Some(AmqpUrlError::Unescaped { signs, is_before_host: true });
    }
    rest.contains('#').then(|| AmqpUrlError::Unescaped { signs: vec!['#'], is_before_host: false })
}

fn unknown_parameter(url: &Url) -> Option<AmqpUrlError> {
    let mut names = url.query_pairs().map(|(name, _)| name.into_owned());
    let name = names.find(|name| !PARAMETERS.contains(&&**name))?;
    let nearest = most_similar(PARAMETERS, &name);
    Some(AmqpUrlError::UnknownParameter { name, nearest })
}

/// The URLs of the nodes of a RabbitMQ, any one of which will do. Empty: the embedded backplane.
///
/// Written as one text with commas (`%2C` is a comma in a password), or as a list of texts.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AmqpUrls(Vec<AmqpUrl>);

/// Which of several URLs is wrong, and why.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}{error}{}", self.which(), self.hint())]
pub struct AmqpUrlsError {
    /// Its number, from 1.
    number: usize,
    /// How many there are.
    count: usize,
    error: AmqpUrlError,
    /// It may be the rest of a password with a comma.
    may_be_rest: bool,
}

impl AmqpUrlsError {
    fn which(&self) -> String {
        let Self { number, count, .. } = self;
        if *count > 1 { format!("(number {number} of {count}) ") } else { String::new() }
    }

    fn hint(&self) -> &'static str {
        if self.may_be_rest { "; commas separate URLs, and `%2C` stands for one in a password" } else { "" }
    }
}

impl AmqpUrls {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each of them, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = &AmqpUrl> {
        self.0.iter()
    }

    /// What can be shown of them: see [`AmqpUrl::public`].
    #[must_use]
    pub fn public(&self) -> String {
        self.shown().join(", ")
    }

    /// Each as it can be shown. If one is wrong, none is shown: a password with a comma was split there.
    fn shown(&self) -> Vec<String> {
        let is_right = self.0.iter().all(|url| url.check().is_ok());
        let shown = |url: &AmqpUrl| if is_right { url.public() } else { MASK.to_owned() };
        self.0.iter().map(shown).collect()
    }

    /// Checks whether a connection can be tried with each. The error contains nothing of the URLs.
    ///
    /// # Errors
    /// What is wrong with the first one that is not valid, and what would be.
    pub fn check(&self) -> Result<(), AmqpUrlsError> {
        let count = self.0.len();
        (1..).zip(&self.0).try_for_each(|(number, url)| {
            let may_be_rest = number > 1 && !url.0.contains("://");
            url.check().map_err(|error| AmqpUrlsError { number, count, error, may_be_rest })
        })
    }

    fn extend(&mut self, text: &str) {
        let urls = text.split(',').map(str::trim).filter(|url| !url.is_empty());
        self.0.extend(urls.map(AmqpUrl::from));
    }
}

impl From<&str> for AmqpUrls {
    fn from(text: &str) -> Self {
        let mut urls = Self::default();
        urls.extend(text);
        urls
    }
}

impl From<String> for AmqpUrls {
    fn from(text: String) -> Self {
        Self::from(&*text)
    }
}

impl fmt::Debug for AmqpUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shown().fmt(f)
    }
}

impl Serialize for AmqpUrls {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.shown()[..] {
            [] => serializer.serialize_str(""),
            [url] => serializer.serialize_str(url),
            urls => serializer.collect_seq(urls),
        }
    }
}

impl<'de> Deserialize<'de> for AmqpUrls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;

        impl<'de> Visitor<'de> for Texts {
            type Value = AmqpUrls;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL in quotes, or a list of URLs")
            }

            fn visit_str<E>(self, text: &str) -> Result<AmqpUrls, E> {
                Ok(text.into())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<AmqpUrls, A::Error> {
                let mut urls = AmqpUrls::default();
                while let Some(text) = texts.next_element::<String>()? {
                    urls.extend(&text);
                }
                Ok(urls)
            }
        }

        deserializer.deserialize_any(Texts)
    }
}

/// What the types of secrets share: construction from text, parsing from text, the mask.
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
    fn several_urls_are_one_text_or_a_list_and_are_shown_without_secrets() {
        let text = AmqpUrls::from("amqp://a:hunter2@x:1, amqps://b:hunter2@y/live");
        let list = toml::Value::Array(vec!["amqp://a:hunter2@x:1".into(), "amqps://b:hunter2@y/live".into()]);
        let list: AmqpUrls = list.try_into().unwrap();
        assert_eq!(text, list);
        assert_eq!(list.public(), "amqp://x:1/%2f, amqps://y:5671/live");
        assert_eq!(format!("{list:?}"), r#"["amqp://x:1/%2f", "amqps://y:5671/live"]"#);
        assert_eq!(toml::Value::try_from(&list).unwrap().as_array().map(Vec::len), Some(2));
        assert_eq!(toml::Value::try_from(AmqpUrls::from("hunter2")).unwrap().as_str(), Some("***"));
        assert_eq!(toml::Value::try_from(AmqpUrls::default()).unwrap().as_str(), Some(""));
        assert!(AmqpUrls::from(" ").is_empty());
        assert_eq!(list.check(), Ok(()));
        let problem =
            AmqpUrls::from("amqp://a:hunter2@x,amqp://b:hun,ter2@y").check().unwrap_err().to_string();
        assert!(problem.starts_with("(number 2 of 3) ") && !problem.contains("hun"), "{problem}");
        let cut = AmqpUrls::from("amqp://a:1234,ter2@x");
        assert!(cut.check().unwrap_err().to_string().contains("`%2C`"), "{:?}", cut.check());
        assert_eq!(
            (cut.public(), format!("{cut:?}")),
            ("***, ***".to_owned(), r#"["***", "***"]"#.to_owned())
        );
    }

    #[test]
    fn what_is_wrong_with_an_amqp_url_is_said_without_showing_it() {
        for (url, problem) in [
            ("localhost", "is no URL"),
            ("amqp://user:hunter2@rabbit:port/", "is no URL"),
            ("http://rabbit/", "management page"),
            ("ws://rabbit/", "neither"),
            ("shop:hunter2@rabbit", "neither"),
            ("amqp:hunter2", "no host"),
            ("amqp://[::1]:5672", "IPv6"),
            ("amqp://rabbit/", "leave the slash out"),
            ("amqp://rabbit/a/b", "%2f"),
            (
                "amqp://shop:hunter2/@rabbit",
                "has `/` before its last `@`: in a user name, a password or a virtual host",
            ),
            ("amqp://shop:1/hunter2@rabbit", "`%2F`"),
            ("amqp://shop:p@hunter2/w#rd@rabbit:5672/%2f", "has `/` `#` `@` before its last `@`"),
            ("amqp://shop:hunter2?@rabbit", "`%3F`"),
            ("amqp://shop:hunter2#@rabbit", "`%23`"),
            ("amqp://shop:@hunter2@rabbit", "`%40`"),
            ("amqp://shop:hunter2@rabbit/live#2", "has `#`: in a user name"),
            (
                "amqp://shop:hunter2@rabbit?heartbeat=1&heartbeet=hunter2",
                "has the parameter `heartbeet`, which does not exist; the nearest is `heartbeat`",
            ),
            ("amqps://shop:hunter2@rabbit?cacertfil=/nope", "the nearest is `cacertfile`"),
            (
                "amqp://rabbit?reconnect=no",
                "`reconnect`, which does not exist; there are auth_mechanism, cacertfile",
            ),
        ] {
            let error = AmqpUrl::from(url).check().unwrap_err().to_string();
            assert!(error.contains(problem), "{url}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        for url in ["amqp://rabbit", "amqp://a:b@127.0.0.1:5673/%2f", "amqps://rabbit/live?heartbeat=10"] {
            assert_eq!(AmqpUrl::from(url).check(), Ok(()), "{url}");
        }
        for name in PARAMETERS {
            assert_eq!(AmqpUrl::from(format!("amqp://rabbit?{name}=1")).check(), Ok(()), "{name}");
        }
    }
}
