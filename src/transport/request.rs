//! The head of an HTTP request (RFC 9112, section 3), borrowed from the bytes that it came in.

use std::mem::MaybeUninit;

use httparse::{Header, Status};
use memchr::memchr_iter;
use thiserror::Error;
use tungstenite::http::Uri;

/// Header lines that a request may have.
pub(super) const HEADERS_MAX: usize = 124;

/// Room for the header lines of a request. It is not initialized: the parser writes the lines that it finds.
pub(super) type HeaderLines<'a> = [MaybeUninit<Header<'a>>; HEADERS_MAX];

/// A request by GET, in HTTP/1.1.
#[derive(Debug)]
pub(super) struct RequestHead<'h, 'b> {
    target: Uri,
    headers: &'h [Header<'b>],
}

/// Why bytes are no [`RequestHead`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum HeadError {
    /// Another method than GET.
    #[error("another method than GET")]
    Method,
    /// Another version than 1.1.
    #[error("another version of HTTP than 1.1")]
    Version,
    /// More than [`HEADERS_MAX`] header lines.
    #[error("more than {HEADERS_MAX} header lines")]
    ManyHeaders,
    /// The request's line or a header's is malformed, or the head is not whole.
    #[error("no request of HTTP")]
    Malformed,
}

impl<'h, 'b> RequestHead<'h, 'b> {
    /// Reads a whole head, its blank line included.
    pub(super) fn parse(head: &'b [u8], room: &'h mut HeaderLines<'b>) -> Result<Self, HeadError> {
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(head, room) {
            Ok(Status::Complete(_)) => {}
            Err(httparse::Error::TooManyHeaders) => return Err(HeadError::ManyHeaders),
            Ok(Status::Partial) | Err(_) => return Err(HeadError::Malformed),
        }
        if request.method != Some("GET") {
            return Err(HeadError::Method);
        }
        if request.version != Some(1) {
            return Err(HeadError::Version);
        }
        let target = request.path.and_then(|target| target.parse().ok()).ok_or(HeadError::Malformed)?;
        Ok(Self { target, headers: request.headers })
    }

    /// The path of the target, without its query.
    pub(super) fn path(&self) -> &str {
        self.target.path()
    }

    /// The query of the target; empty if there is none.
    pub(super) fn query(&self) -> &str {
        self.target.query().unwrap_or_default()
    }

    /// Whether the query has `key=value`.
    pub(super) fn asks_for(&self, key: &str, value: &str) -> bool {
        self.query().split('&').any(|pair| pair.split_once('=') == Some((key, value)))
    }

    /// Whether there is a header of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    /// The values of all headers of this name, in the order they came in.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        // Most names differ in length, which is told at once.
        let is_named = move |header: &&Header<'_>| {
            header.name.len() == name.len() && header.name.eq_ignore_ascii_case(name)
        };
        self.headers.iter().filter(is_named).map(|header| header.value)
    }

    /// Those of [`Self::all`] that are text: no octets beyond ASCII, which mean nothing today (RFC 9110, section 5.5).
    pub(super) fn texts(&self, name: &str) -> impl Iterator<Item = &'b str> {
        self.all(name).filter_map(text)
    }

    /// The value of a header that must not be repeated.
    pub(super) fn single(&self, name: &str) -> Option<&'b str> {
        let mut values = self.all(name);
        let value = values.next()?;
        if values.next().is_some() { None } else { text(value) }
    }

    /// The elements of a header that holds a list and may be repeated. Some may be empty (RFC 9110, section
    /// 5.6.1), which is no token that anybody looks for.
    pub(super) fn tokens(&self, name: &str) -> impl Iterator<Item = &'b str> {
        self.texts(name).flat_map(|list| list.split(',')).map(str::trim)
    }
}

/// A header's value, if it has only characters of ASCII.
fn text(value: &[u8]) -> Option<&str> {
    if value.is_ascii() { str::from_utf8(value).ok() } else { None }
}

/// Where the head ends, which is after its first blank line. A line may end without carriage return
/// (RFC 9112, section 2.2).
pub(super) fn end_of_head(head: &[u8]) -> Option<usize> {
    memchr_iter(b'\n', head).find_map(|at| match &head[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `look` sees of a head.
    #[track_caller]
    fn look<'b, T>(head: &'b str, look: impl FnOnce(&RequestHead<'_, 'b>) -> T) -> T {
        let mut room = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        look(&RequestHead::parse(head.as_bytes(), &mut room).expect("it is one"))
    }

    fn error(head: &[u8]) -> HeadError {
        let mut room = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        RequestHead::parse(head, &mut room).expect_err("it is none")
    }

    const HEAD: &str = "GET /a/b?x=1&y=2&x=%203 HTTP/1.1\r\n\
        Host:  a \r\n\
        Accept: one, two,,\r\n\
        X-Twice: 1\r\n\
        x-twice: 2\r\n\
        X-Beyond: \u{e9}\r\n\
        ACCEPT:three\r\n\r\n";

    #[test]
    fn a_target_has_a_path_and_a_query() {
        assert_eq!(look(HEAD, |head| head.path().to_owned()), "/a/b");
        for (key, value, is_there) in
            [("x", "1", true), ("y", "2", true), ("x", "%203", true), ("x", "2", false), ("", "", false)]
        {
            assert_eq!(look(HEAD, |head| head.asks_for(key, value)), is_there, "{key}={value}");
        }
        let absolute = HEAD.replace("/a/b", "http://c/d");
        assert_eq!(look(&absolute, |head| head.path().to_owned()), "/d");
    }

    #[test]
    fn headers_are_found_by_names_of_any_case() {
        assert_eq!(look(HEAD, |head| head.single("host")), Some("a"));
        assert_eq!(look(HEAD, |head| head.single("x-twice")), None, "it is repeated");
        assert_eq!(look(HEAD, |head| head.single("x-beyond")), None, "it is no ASCII");
        assert_eq!(look(HEAD, |head| head.single("x-none")), None);
        assert!(look(HEAD, |head| head.has("x-beyond")) && !look(HEAD, |head| head.has("x-none")));
        assert_eq!(look(HEAD, |head| head.all("x-twice").collect::<Vec<_>>()), [b"1", b"2"]);
        assert_eq!(look(HEAD, |head| head.texts("x-beyond").count()), 0);
        let tokens = look(HEAD, |head| head.tokens("accept").collect::<Vec<_>>());
        assert_eq!(tokens, ["one", "two", "", "", "three"]);
    }

    #[test]
    fn what_is_no_head_says_why() {
        let with = |from: &str, to: &str| HEAD.replace(from, to).into_bytes();
        let lines = |count| with("Host:  a \r\n", &"a: b\r\n".repeat(count));
        assert_eq!(error(&with("GET", "POST")), HeadError::Method);
        assert_eq!(error(&with("1.1", "1.0")), HeadError::Version);
        assert_eq!(error(&with("1.1", "9.9")), HeadError::Malformed);
        assert_eq!(error(&with("Host:", "Host")), HeadError::Malformed);
        assert_eq!(error(&with("/a/b", "/\"<>")), HeadError::Malformed);
        assert_eq!(error(&HEAD.as_bytes()[..HEAD.len() - 1]), HeadError::Malformed);
        assert_eq!(error(&lines(HEADERS_MAX)), HeadError::ManyHeaders);
        look(str::from_utf8(&lines(HEADERS_MAX - 5)).expect("ASCII"), |head| assert!(head.has("a")));
    }

    #[test]
    fn a_head_ends_after_its_first_blank_line() {
        for (head, end) in [
            ("a\r\n\r\nb", Some(5)),
            ("a\n\nb", Some(3)),
            ("a\n\r\nb", Some(4)),
            ("a\r\n\r", None),
            ("", None),
        ] {
            assert_eq!(end_of_head(head.as_bytes()), end, "{head:?}");
        }
    }
}
