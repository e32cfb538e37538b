//! The patterns of origins that operators list in `server.allowed_origins`.
//!
//! `*.example.org` stands for whole labels before `.example.org`, so `evilexample.org` does not match.

use thiserror::Error;

use super::{Host, HostPort, Origin, implied_port, is_scheme, parse_port, split_port};

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
}
