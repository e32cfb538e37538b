//! Origins of pages (RFC 6454, section 6.2), and the hosts of requests: parsed, and compared part by part.
//!
//! Nothing is compared as text. The default port of a scheme is the same whether it is written or not.

mod pattern;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use pattern::{OriginPattern, PatternError};

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
