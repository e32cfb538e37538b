//! Negotiates permessage-deflate, as far as the engine and the client can (RFC 7692, section 7.1), from what
//! the client offers (RFC 6455, section 9.1).
//!
//! Neither side keeps a context between messages: the engine's compressed messages are shared by all clients,
//! and a context for each client's messages would cost 40 KiB. A server may ask for both without an offer.

use std::fmt::Write as _;

/// The name of the extension, and of its parameters.
const NAME: &str = "permessage-deflate";
const SERVER_NO_CONTEXT: &str = "server_no_context_takeover";
const CLIENT_NO_CONTEXT: &str = "client_no_context_takeover";
const SERVER_WINDOW: &str = "server_max_window_bits";
const CLIENT_WINDOW: &str = "client_max_window_bits";

/// The base-2 logarithm of the window of what we send: deflate's largest.
const WINDOW_BITS: u8 = 15;

/// What of permessage-deflate a connection has agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deflate {
    /// Nothing: no frame is compressed.
    #[default]
    Off,
    /// The client may compress. The engine does not, because the client asked for a smaller window than its segments have,
    /// which are shared by all clients; a server need not compress (RFC 7692, section 6).
    FromClient,
    /// Both may.
    Both,
}

impl Deflate {
    /// Whether the client's messages may be compressed.
    #[must_use]
    pub fn inflates(self) -> bool {
        self != Self::Off
    }

    /// Whether ours may be.
    #[must_use]
    pub fn deflates(self) -> bool {
        self == Self::Both
    }
}

/// What was agreed on, and what to answer in `Sec-WebSocket-Extensions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::transport) struct Agreement {
    pub(in crate::transport) deflate: Deflate,
    pub(in crate::transport) answer: String,
}

/// Takes the first offer that can be taken out of the values of the client's `Sec-WebSocket-Extensions`
/// headers; clients put what they like best first. An offer with a parameter that is unknown, repeated or
/// wrong is none (RFC 7692, section 7.1).
pub(in crate::transport) fn agree<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Agreement> {
    headers.flat_map(|header| unquoted(header, ',')).find_map(|offer| accept(offer.trim()))
}

fn accept(offer: &str) -> Option<Agreement> {
    let mut parts = unquoted(offer, ';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case(NAME) {
        return None;
    }
    let mut window = None;
    let mut seen = Vec::new();
    for parameter in parts {
        let (name, value) = match parameter.split_once('=') {
            Some((name, value)) => (name.trim_end(), Some(value.trim_start())),
            None => (parameter, None),
        };
        match (name, value.map(unquote)) {
            (SERVER_NO_CONTEXT | CLIENT_NO_CONTEXT | CLIENT_WINDOW, None) => {}
            // It limits what the client sends, and a large window inflates what a small one made.
            (CLIENT_WINDOW, Some(bits)) => drop(window_bits(bits?)?),
            (SERVER_WINDOW, Some(bits)) => window = Some(window_bits(bits?)?),
            _ => return None,
        }
        if seen.contains(&name) {
            return None;
        }
        seen.push(name);
    }
    Some(Agreement::with_window(window))
}

impl Agreement {
    /// What the client asks for is said back to it, or the offer would not be accepted.
    fn with_window(window: Option<u8>) -> Self {
        let mut answer = format!("{NAME}; {SERVER_NO_CONTEXT}; {CLIENT_NO_CONTEXT}");
        if let Some(bits) = window {
            write!(answer, "; {SERVER_WINDOW}={bits}").expect("a string takes what is written");
        }
        let is_ours = window.is_none_or(|bits| bits == WINDOW_BITS);
        Self { deflate: if is_ours { Deflate::Both } else { Deflate::FromClient }, answer }
    }
}

/// A number from 8 to 15 without leading zeros (RFC 7692, sections 7.1.2.1 and 7.1.2.2).
fn window_bits(text: &str) -> Option<u8> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|bits| plain && (8..=WINDOW_BITS).contains(bits))
}

/// A value, out of its quotes if it is in some. None of the values that mean something has escapes in it.
fn unquote(value: &str) -> Option<&str> {
    match value.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"'),
        None => Some(value),
    }
}

/// The parts of `text` between separators that are in no quotes (RFC 9110, section 5.6.4).
fn unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |character| {
        let is_plain = !std::mem::take(&mut escaped);
        match character {
            '"' if is_plain => quoted = !quoted,
            '\\' if is_plain && quoted => escaped = true,
            _ => {}
        }
        character == separator && !quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreed(headers: &[&str]) -> Option<(Deflate, String)> {
        let found = agree(headers.iter().copied())?;
        let extra = found
            .answer
            .strip_prefix("permessage-deflate; server_no_context_takeover; client_no_context_takeover");
        Some((found.deflate, extra.expect("what every answer begins with").to_owned()))
    }

    #[test]
    fn offers_that_are_taken() {
        let both = |extra: &str| Some((Deflate::Both, extra.to_owned()));
        let inbound = |extra: &str| Some((Deflate::FromClient, extra.to_owned()));
        for (headers, expected) in [
            (&["permessage-deflate"][..], both("")),
            // Browsers, and Python's `websockets`.
            (&["permessage-deflate; client_max_window_bits"], both("")),
            (&["permessage-deflate; server_max_window_bits=15"], both("; server_max_window_bits=15")),
            (&["permessage-deflate; server_max_window_bits=9"], inbound("; server_max_window_bits=9")),
            (&["permessage-deflate;server_max_window_bits = \"8\" "], inbound("; server_max_window_bits=8")),
            (
                &[
                    "Permessage-Deflate ; client_no_context_takeover;client_max_window_bits=10;server_no_context_takeover",
                ],
                both(""),
            ),
            (&["x-webkit-deflate-frame, permessage-deflate"], both("")),
            (&["permessage-bzip2", "permessage-deflate"], both("")),
            (&["a; b=\"c, permessage-deflate; x\\\", y\", permessage-deflate"], both("")),
            // The first that can be taken, though a better one follows.
            (
                &[
                    "permessage-deflate; nonsense, permessage-deflate; server_max_window_bits=9, permessage-deflate",
                ],
                inbound("; server_max_window_bits=9"),
            ),
            (&[",, permessage-deflate,"], both("")),
        ] {
            assert_eq!(agreed(headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn offers_that_are_none() {
        for offer in [
            "",
            "permessage-deflate2",
            "deflate",
            "permessage-deflate;",
            "permessage-deflate; ",
            "permessage-deflate; unknown",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; client_max_window_bits; client_max_window_bits=9",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=09",
            "permessage-deflate; server_max_window_bits=+9",
            "permessage-deflate; server_max_window_bits=9; server_max_window_bits=9",
            "permessage-deflate; server_max_window_bits=\"9",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; client_max_window_bits=1000",
            "permessage-deflate; SERVER_MAX_WINDOW_BITS=9",
            "\"permessage-deflate\"",
            "x; y=\"a, permessage-deflate",
        ] {
            assert_eq!(agreed(&[offer]), None, "{offer}");
        }
    }
}
