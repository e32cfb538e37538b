//! The token that an HTTP request carries: in its header `Authorization`, its query, or a cookie.

use std::fmt;

use url::form_urlencoded;

use super::request::RequestHead;

/// The scheme of `Authorization` that has tokens.
const SCHEME: &str = "Bearer";

/// A token as it came. Debug output, which may end up in a log, does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential(Box<str>);

/// Where a request may have its token besides the header `Authorization`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialPlaces {
    /// The name of a cookie. Empty: cookies are not looked at.
    pub cookie: String,
    /// The name of a parameter of the query. Empty: the query is not looked at.
    pub query: String,
}

impl Credential {
    /// The token's text.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.0
    }

    /// The first that a request has: what it says explicitly comes before the cookie, which a browser adds by itself.
    pub(super) fn of(request: &RequestHead<'_, '_>, places: &CredentialPlaces) -> Option<Self> {
        let explicit = authorization(request).map(Into::into).or_else(|| in_query(request, &places.query));
        explicit.or_else(|| in_cookie(request, &places.cookie).map(Into::into)).map(Self)
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({} bytes)", self.0.len())
    }
}

/// The token in the value of a header `Authorization` of the scheme `Bearer` (RFC 6750, section 2.1). Other schemes are for
/// others: a proxy's, for example.
#[must_use]
pub fn bearer(value: &str) -> Option<&str> {
    let value = value.trim();
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    scheme.eq_ignore_ascii_case(SCHEME).then(|| token.trim_start())
}

/// The token of the only header of that scheme. Of several, two programs might take different ones for the right one: then
/// the token is empty, which no valid one is, and so it is if it is not text.
fn authorization<'b>(request: &RequestHead<'_, 'b>) -> Option<&'b str> {
    let of_value = |value: &'b [u8]| match str::from_utf8(value) {
        Ok(text) => bearer(text),
        Err(_) => value.get(..SCHEME.len())?.eq_ignore_ascii_case(SCHEME.as_bytes()).then_some(""),
    };
    let mut tokens = request.all("authorization").filter_map(of_value);
    let first = tokens.next()?;
    if tokens.next().is_some() { Some("") } else { Some(first) }
}

fn in_query(request: &RequestHead<'_, '_>, name: &str) -> Option<Box<str>> {
    let query = if name.is_empty() { "" } else { request.query() };
    let mut parameters = form_urlencoded::parse(query.as_bytes());
    let (_, token) = parameters.find(|(key, value)| key == name && !value.is_empty())?;
    Some(token.into())
}

/// Of several cookies of one name, browsers send that of the longest path first (RFC 6265, section 5.4). An empty one is
/// what is left when a user has logged out.
fn in_cookie<'b>(request: &RequestHead<'_, 'b>, name: &str) -> Option<&'b str> {
    if name.is_empty() {
        return None;
    }
    let mut pairs = request.texts("cookie").flat_map(|cookies| cookies.split(';'));
    let value = pairs.find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key.trim() == name).then(|| value.trim())
    })?;
    let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    Some(inner.unwrap_or(value)).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;

    use super::*;
    use crate::transport::request::HEADERS_MAX;

    /// The token of a request with this target and these header lines.
    fn of(target: &str, lines: &str) -> Option<String> {
        let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let mut room = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let request = RequestHead::parse(head.as_bytes(), &mut room).expect("it is one");
        let places = CredentialPlaces { cookie: "session".to_owned(), query: "token".to_owned() };
        Credential::of(&request, &places).map(|found| found.token().to_owned())
    }

    #[test]
    fn a_token_is_found_where_it_may_be() {
        for (target, lines, expected) in [
            ("/", "", None),
            ("/", "Authorization: Bearer a.b.c\r\n", Some("a.b.c")),
            ("/", "AUTHORIZATION: bEARER   a.b.c \r\n", Some("a.b.c")),
            ("/", "Authorization: Bearer\r\n", Some("")),
            ("/", "Authorization: Basic YTpi\r\n", None),
            ("/", "Authorization: Bearerer a\r\n", None),
            ("/", "Authorization: Bearer a\r\nAuthorization: Bearer b\r\n", Some("")),
            ("/", "Authorization: Basic YTpi\r\nAuthorization: Bearer b\r\n", Some("b")),
            ("/", "Authorization: Basic \u{e9}\r\nAuthorization: Basic b\r\n", None),
            ("/?token=a.b-c_d", "", Some("a.b-c_d")),
            ("/?x=1&token=a%2Eb&token=c", "", Some("a.b")),
            ("/?token=&x=1", "", None),
            ("/?tokens=a&Token=b", "", None),
            ("/", "Cookie: session=a.b.c\r\n", Some("a.b.c")),
            ("/", "Cookie: x=1; session=\"a.b.c\"; y=2\r\n", Some("a.b.c")),
            ("/", "Cookie: x=1\r\nCookie: session=a; session=b\r\n", Some("a")),
            ("/", "Cookie: session=; x=1\r\n", None),
            ("/", "Cookie: mysession=a; Session=b; session\r\n", None),
            ("/?token=q", "Authorization: Bearer h\r\nCookie: session=c\r\n", Some("h")),
            ("/?token=q", "Authorization: Basic h\r\nCookie: session=c\r\n", Some("q")),
        ] {
            assert_eq!(of(target, lines).as_deref(), expected, "{target} {lines}");
        }
    }

    #[test]
    fn without_a_name_neither_query_nor_cookies_are_looked_at() {
        let head = b"GET /?=a HTTP/1.1\r\nHost: a\r\nCookie: =b\r\n\r\n";
        let mut room = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let request = RequestHead::parse(head, &mut room).unwrap();
        assert_eq!(Credential::of(&request, &CredentialPlaces::default()), None);
    }

    #[test]
    fn a_credential_does_not_show_itself() {
        assert_eq!(format!("{:?}", Credential("a.b.c".into())), "Credential(5 bytes)");
    }
}
