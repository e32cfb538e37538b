//! Origins of pages (RFC 6454, section 6.2): parsed, compared part by part, and the patterns that operators
//! list in `server.allowed_origins`.
//!
//! Nothing is compared as text. The default port of a scheme is the same whether it is written or not, and
//! `*.example.org` stands for whole labels before `.example.org`, so `evilexample.org` does not match.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

/// The longest name that DNS knows.
const NAME_BYTES_MAX: usize = 253;

/// A host and perhaps a port, as in a `Host` header (RFC 9110, section 7.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    host: Host,
    port: Option<u16>,
}

/// A host: a name in lower case, or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Name(String),
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

/// The value of an `Origin` header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `null`: a sandboxed frame, a page from disk, or a redirect.
    Null,
    /// `file://`: a page from disk, as some programs with a browser inside say it.
    File,
    /// A page of a host.
    Page {
        /// In lower case.
        scheme: String,
        /// The host, with its port unless the scheme implies it.
        at: HostPort,
    },
}

/// Which origins are let in: one entry of `server.allowed_origins`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginPattern(Pattern);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    /// `*`
    Any,
    /// An origin without wildcards.
    Exactly(Origin),
    /// With a wildcard in the host, the port, or both.
    Pages { scheme: String, host: HostPattern, port: PortPattern },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum HostPattern {
    Exactly(Host),
    /// One label or more in front of this name.
    Below(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PortPattern {
    Any,
    /// `None`: the one that the scheme implies.
    Exactly(Option<u16>),
}

/// Why an entry can match no origin that a browser sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PatternError {
    /// There is no `://`.
    #[error("a scheme is missing: write it as in `https://example.org`")]
    NoScheme,
    /// The scheme has other characters than letters, digits, `+`, `-` and `.`.
    #[error("the scheme is none: write `https`, `http` or that of an app, without `*`")]
    BadScheme,
    /// A page's scheme is never this one.
    #[error("no page has this scheme: an origin is where the page came from, so write `https` or `http`")]
    NotAPages,
    /// Something follows the host and port.
    #[error("an origin ends with its host or port: leave out what follows, `/` included")]
    Path,
    /// A name and password in front of the host.
    #[error("an origin has no user name: leave out what stands before `@`")]
    UserInfo,
    /// `file://` with more behind it.
    #[error("pages from disk all have the origin `file://` or `null`: leave out the rest")]
    FilePath,
    /// The host is no name and no address.
    #[error("the host is none: a name, an IPv4 address, or an IPv6 address in brackets")]
    BadHost,
    /// A name beyond ASCII.
    #[error("browsers send names in ASCII: write the name as they do, with `xn--`")]
    NotAscii,
    /// A `*` that stands for something else than labels or a port.
    #[error(
        "`*` stands for whole labels at the beginning of the host (`https://*.example.org`), for a port (`http://localhost:*`), or alone for every page"
    )]
    BadWildcard,
    /// The port is no number from 1 to 65535.
    #[error("the port is none: a number from 1 to 65535, or `*`")]
    BadPort,
}

impl HostPort {
    /// The host and port in the value of a `Host` header. Nothing but these two is let pass: no user name, no
    /// path.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = split_port(text)?;
        let port = match port {
            // A colon without a port is allowed (RFC 3986, section 3.2.3).
            None | Some("") => None,
            Some(digits) => Some(parse_port(digits)?),
        };
        Some(Self { host: Host::parse(host)?, port })
    }

    /// The same host at another port.
    #[must_use]
    pub fn at_port(&self, port: u16) -> Self {
        Self { host: self.host.clone(), port: Some(port) }
    }

    /// Whether the host is `localhost` or an address of loopback.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Name(name) => name == "localhost",
            Host::V4(address) => is_loopback((*address).into()),
            Host::V6(address) => is_loopback((*address).into()),
        }
    }
}

/// Whether only this machine can have the address: one of 127.0.0.0/8, or `::1`. An IPv4 address written as an IPv6
/// one (`::ffff:127.0.0.1`) counts as what it stands for.
#[must_use]
pub fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

impl Host {
    fn parse(text: &str) -> Option<Self> {
        if let Some(address) = text.strip_prefix('[') {
            return address.strip_suffix(']')?.parse().ok().map(Self::V6);
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_label = |label: &str| {
            !label.is_empty()
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        let last = name.rsplit('.').next().unwrap_or_default();
        // What ends with a number is an IPv4 address to browsers, or nothing (URL standard, section 3.5).
        if !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().ok().map(Self::V4);
        }
        (text.len() <= NAME_BYTES_MAX && name.split('.').all(is_label))
            .then(|| Self::Name(text.to_ascii_lowercase()))
    }
}

impl Origin {
    /// The origin in the value of an `Origin` header.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "null" {
            return Some(Self::Null);
        }
        let (scheme, rest) = text.split_once("://")?;
        if !is_scheme(scheme) {
            return None;
        }
        let scheme = scheme.to_ascii_lowercase();
        if scheme == "file" {
            return rest.is_empty().then_some(Self::File);
        }
        let HostPort { host, port } = HostPort::parse(rest)?;
        let port = port.filter(|&port| implied_port(&scheme) != Some(port));
        Some(Self::Page { scheme, at: HostPort { host, port } })
    }

    /// Whether the page came from `host`, by whatever scheme: a proxy may take TLS off. A `Host` without a port
    /// stands for the one that the page's scheme implies.
    #[must_use]
    pub fn is_of(&self, host: &HostPort) -> bool {
        let Self::Page { scheme, at } = self else { return false };
        at.host == host.host && at.port == host.port.filter(|&port| implied_port(scheme) != Some(port))
    }
}

impl OriginPattern {
    /// The pattern in an entry of `server.allowed_origins`: `*`, `null`, `file://`, or an origin whose host may
    /// begin with `*.` and whose port may be `*`.
    ///
    /// # Errors
    /// Why it could match nothing.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        match text {
            "*" => return Ok(Self(Pattern::Any)),
            "null" => return Ok(Self(Pattern::Exactly(Origin::Null))),
            _ => {}
        }
        let (scheme, rest) = text.split_once("://").ok_or(PatternError::NoScheme)?;
        if !is_scheme(scheme) {
            return Err(PatternError::BadScheme);
        }
        let scheme = scheme.to_ascii_lowercase();
        match scheme.as_str() {
            "file" if rest.is_empty() => return Ok(Self(Pattern::Exactly(Origin::File))),
            "file" => return Err(PatternError::FilePath),
            "ws" | "wss" | "about" | "blob" | "data" | "javascript" => return Err(PatternError::NotAPages),
            _ => {}
        }
        check_characters(rest)?;
        let (host, port) = split_port(rest).ok_or(PatternError::BadHost)?;
        let port = match port {
            None => PortPattern::Exactly(None),
            Some("*") => PortPattern::Any,
            Some(digits) => {
                let port = parse_port(digits).filter(|&port| port > 0).ok_or(PatternError::BadPort)?;
                PortPattern::Exactly(Some(port).filter(|&port| implied_port(&scheme) != Some(port)))
            }
        };
        let host = HostPattern::parse(host)?;
        Ok(Self(match (host, port) {
            (HostPattern::Exactly(host), PortPattern::Exactly(port)) => {
                Pattern::Exactly(Origin::Page { scheme, at: HostPort { host, port } })
            }
            (host, port) => Pattern::Pages { scheme, host, port },
        }))
    }

    /// Whether it is `*`, which lets in whatever an `Origin` header says.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0 == Pattern::Any
    }

    /// Whether `origin` is let in.
    #[must_use]
    pub fn matches(&self, origin: &Origin) -> bool {
        match (&self.0, origin) {
            (Pattern::Any, _) => true,
            (Pattern::Exactly(allowed), origin) => allowed == origin,
            (Pattern::Pages { scheme, host, port }, Origin::Page { scheme: of, at }) => {
                scheme == of && host.matches(&at.host) && port.matches(at.port)
            }
            (Pattern::Pages { .. }, Origin::Null | Origin::File) => false,
        }
    }
}

impl HostPattern {
    fn parse(text: &str) -> Result<Self, PatternError> {
        match text.strip_prefix("*.") {
            Some(rest) if rest.contains('*') => Err(PatternError::BadWildcard),
            Some(rest) => match Host::parse(rest) {
                Some(Host::Name(name)) => Ok(Self::Below(name)),
                // An address has no labels.
                Some(_) => Err(PatternError::BadWildcard),
                None => Err(PatternError::BadHost),
            },
            None if text.contains('*') => Err(PatternError::BadWildcard),
            None => Host::parse(text).map(Self::Exactly).ok_or(PatternError::BadHost),
        }
    }

    fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Exactly(allowed), host) => allowed == host,
            (Self::Below(parent), Host::Name(name)) => {
                name.strip_suffix(parent.as_str()).is_some_and(|labels| labels.ends_with('.'))
            }
            (Self::Below(_), _) => false,
        }
    }
}

impl PortPattern {
    fn matches(self, port: Option<u16>) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(allowed) => allowed == port,
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => f.write_str(name)?,
            Host::V4(address) => write!(f, "{address}")?,
            Host::V6(address) => write!(f, "[{address}]")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Says what is wrong with the characters of a host and port, where that has a better name than "no host".
fn check_characters(rest: &str) -> Result<(), PatternError> {
    if rest.contains(['/', '?', '#', '\\']) {
        Err(PatternError::Path)
    } else if rest.contains('@') {
        Err(PatternError::UserInfo)
    } else if !rest.is_ascii() {
        Err(PatternError::NotAscii)
    } else {
        Ok(())
    }
}

/// RFC 3986, section 3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

/// The port that a scheme stands for where none is written.
fn implied_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// What stands before and behind the colon of a port. The colons of an IPv6 address stand in brackets.
fn split_port(text: &str) -> Option<(&str, Option<&str>)> {
    let host_end = match text.starts_with('[') {
        true => text.find(']')? + 1,
        false => text.find(':').unwrap_or(text.len()),
    };
    let (host, port) = text.split_at(host_end);
    match port {
        "" => Some((host, None)),
        _ => port.strip_prefix(':').map(|port| (host, Some(port))),
    }
}

fn parse_port(digits: &str) -> Option<u16> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_origins_part_by_part() {
        for (pattern, origin, is_match) in [
            ("*", "https://a", true),
            ("*", "null", true),
            ("null", "null", true),
            ("null", "file://", false),
            ("file://", "file://", true),
            ("FILE://", "file://", true),
            ("file://", "null", false),
            ("file://", "https://file", false),
            ("https://shop.example", "https://shop.example", true),
            ("https://shop.example", "HTTPS://SHOP.example", true),
            ("https://shop.example", "https://shop.example:443", true),
            ("https://shop.example:443", "https://shop.example", true),
            ("https://shop.example:0443", "https://shop.example", true),
            ("http://shop.example:80", "http://shop.example", true),
            ("https://shop.example:80", "https://shop.example", false),
            ("https://shop.example", "http://shop.example", false),
            ("https://shop.example", "https://shop.example:8443", false),
            ("https://shop.example", "https://www.shop.example", false),
            ("https://shop.example", "https://shop.example.", false),
            ("https://*.shop.example", "https://www.shop.example", true),
            ("https://*.shop.example", "https://a.b.shop.example", true),
            ("https://*.SHOP.example", "https://www.shop.EXAMPLE", true),
            ("https://*.shop.example", "https://shop.example", false),
            ("https://*.shop.example", "https://evilshop.example", false),
            ("https://*.shop.example", "https://www.shop.example.evil", false),
            ("https://*.shop.example", "https://www.shop.example:8443", false),
            ("https://*.shop.example:*", "https://www.shop.example:8443", true),
            ("https://*.shop.example:8443", "https://www.shop.example:8443", true),
            ("https://*.shop.example", "http://www.shop.example", false),
            ("https://*.shop.example", "null", false),
            ("http://localhost:*", "http://localhost", true),
            ("http://localhost:*", "http://localhost:5173", true),
            ("http://localhost:*", "https://localhost:5173", false),
            ("http://localhost:*", "http://localhost.evil:5173", false),
            ("http://127.0.0.1:*", "http://127.0.0.1:3000", true),
            ("http://[::1]:*", "http://[::1]:3000", true),
            ("http://[0:0:0::1]", "http://[::1]", true),
            ("capacitor://localhost", "capacitor://localhost", true),
            ("chrome-extension://abcdefghij", "chrome-extension://abcdefghij", true),
            ("app://localhost:443", "app://localhost", false),
        ] {
            let parsed = OriginPattern::parse(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
            let origin_parsed = Origin::parse(origin).unwrap_or_else(|| panic!("{origin}"));
            assert_eq!(parsed.matches(&origin_parsed), is_match, "{pattern} {origin}");
        }
    }

    #[test]
    fn an_entry_that_can_match_nothing_is_refused_with_the_reason() {
        for (entry, error) in [
            ("", PatternError::NoScheme),
            ("example.org", PatternError::NoScheme),
            ("*.example.org", PatternError::NoScheme),
            ("localhost:*", PatternError::NoScheme),
            ("://example.org", PatternError::BadScheme),
            ("*://example.org", PatternError::BadScheme),
            ("ht tp://example.org", PatternError::BadScheme),
            ("wss://example.org", PatternError::NotAPages),
            ("data://example.org", PatternError::NotAPages),
            ("https://example.org/", PatternError::Path),
            ("https://example.org/app", PatternError::Path),
            ("https://example.org?a", PatternError::Path),
            ("https://me@example.org", PatternError::UserInfo),
            ("file:///home/me", PatternError::FilePath),
            ("https://", PatternError::BadHost),
            ("https://a b", PatternError::BadHost),
            ("https://a..b", PatternError::BadHost),
            ("https://.a", PatternError::BadHost),
            ("https://127.1", PatternError::BadHost),
            ("https://::1", PatternError::BadPort),
            ("https://[::1", PatternError::BadHost),
            ("https://[::1]x", PatternError::BadHost),
            ("https://münchen.example", PatternError::NotAscii),
            ("https://*", PatternError::BadWildcard),
            ("https://*:*", PatternError::BadWildcard),
            ("https://*shop.example", PatternError::BadWildcard),
            ("https://www.*.example", PatternError::BadWildcard),
            ("https://*.*.example", PatternError::BadWildcard),
            ("https://*.127.0.0.1", PatternError::BadWildcard),
            ("https://*.", PatternError::BadHost),
            ("https://a:", PatternError::BadPort),
            ("https://a:0", PatternError::BadPort),
            ("https://a:65536", PatternError::BadPort),
            ("https://a:+1", PatternError::BadPort),
            ("https://a:8*", PatternError::BadPort),
            ("https://a:1:2", PatternError::BadPort),
        ] {
            assert_eq!(OriginPattern::parse(entry), Err(error), "{entry}");
        }
    }

    #[test]
    fn a_page_is_of_the_host_that_it_came_from() {
        for (origin, host, is_same) in [
            ("https://shop.example", "shop.example", true),
            ("https://shop.example", "shop.example:443", true),
            ("https://shop.example:443", "shop.example", true),
            ("http://shop.example", "SHOP.example:80", true),
            ("http://shop.example", "shop.example:", true),
            ("https://shop.example:8443", "shop.example:8443", true),
            ("https://shop.example:8443", "shop.example", false),
            ("http://shop.example", "shop.example:443", false),
            ("https://shop.example", "shop.example:8443", false),
            ("http://[::1]:8000", "[0::1]:8000", true),
            ("http://127.0.0.1:8000", "127.0.0.1:8000", true),
            ("null", "null", false),
            ("file://", "file", false),
        ] {
            let is_of = Origin::parse(origin).unwrap().is_of(&HostPort::parse(host).unwrap());
            assert_eq!(is_of, is_same, "{origin} {host}");
        }
    }

    #[test]
    fn a_host_is_nothing_but_a_host() {
        for host in ["evil@localhost", "localhost/", "a b", "a:b", "a:70000", "[::1", "[::1]]", "a,b", "é"] {
            assert_eq!(HostPort::parse(host), None, "{host}");
        }
        for (host, is_loopback) in [
            ("localhost", true),
            ("LOCALHOST:8000", true),
            ("127.9.9.9:1", true),
            ("[::1]", true),
            ("[::ffff:127.0.0.1]", true),
            ("[::ffff:10.0.0.1]", false),
            ("127.0.0.1.evil.example", false),
            ("localhost.evil.example", false),
            ("my_host-1.example", false),
            ("128.0.0.1", false),
        ] {
            assert_eq!(HostPort::parse(host).unwrap().is_loopback(), is_loopback, "{host}");
        }
    }

    #[test]
    fn what_is_no_origin_is_none() {
        for text in
            ["", "example.org", "http://", "http://a/b", "http://u@a", "file:///a", "http://*.a", "NULL"]
        {
            assert_eq!(Origin::parse(text), None, "{text}");
        }
    }
}
