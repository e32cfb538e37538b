//! Decides which requests are allowed.
//!
//! With an API key, `/api` needs the key. `/health`, `/metrics` and the page are open (the page asks for the
//! key before it publishes). With `control.guard_metrics`, `/metrics` and the page's data need the key as
//! well. A foreign web page cannot use the key: it does not know it, and to send the header it would need a
//! CORS permission, which is never given.
//!
//! `/health` answers everyone. Probes of proxies and orchestrators send any `Host`, or none. It reports only
//! whether the engine works, and changes nothing.
//!
//! Without a key, everything else is open to this machine only. But a browser on this machine runs pages from
//! anywhere, so three things are checked: the peer's address; the `Host`, which must be a loopback name,
//! because a foreign name can be made to point to 127.0.0.1 (DNS rebinding); and the `Origin`, which must be
//! the page served here, because any web page could otherwise publish with a plain form.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use subtle::ConstantTimeEq as _;

use super::envelope::refuse;
use super::places::Peer;
use super::state::AppState;
use crate::config::Control;
use crate::transport::origin::{HostPort, Origin, is_loopback};

/// Centrifugo's code for a missing or wrong key.
const UNAUTHORIZED: u16 = 101;
/// The protocol's code for a request that is not allowed.
const PERMISSION_DENIED: u16 = 103;

/// Passes a request on, or answers it with a refusal.
pub(super) async fn admit(State(state): State<Arc<AppState>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>();
    let address = peer.map(|peer| peer.address.ip());
    let config = state.config();
    match verdict(&config.control, address, request.uri(), request.headers()) {
        Ok(()) => {
            if let Some(Peer { connection, .. }) = peer
                && !connection.is_trusted()
                && is_trusted(&config.control, request.uri(), request.headers())
            {
                connection.trust();
            }
            next.run(request).await
        }
        Err(Refusal::Unauthorized) => {
            let text = "unauthorized: show the API key (control.api_key) as `X-API-Key: KEY` or as \
                        `Authorization: apikey KEY`";
            refuse(StatusCode::UNAUTHORIZED, UNAUTHORIZED, text)
        }
        Err(Refusal::Foreign(text)) => refuse(StatusCode::FORBIDDEN, PERMISSION_DENIED, text),
    }
}

/// Whether [`admit`] passes a request for the API on. Such a connection has shown what more than everyone may do
/// needs.
pub(super) fn admits(control: &Control, peer: IpAddr, uri: &Uri, headers: &HeaderMap) -> bool {
    verdict(control, Some(peer), uri, headers).is_ok() && is_trusted(control, uri, headers)
}

/// Paths that only report whether the engine works.
const PROBED: [&str; 3] = ["/health", "/health/ready", "/health/live"];

/// Whether a path is one of them, or one of them with a slash at its end; the answer then explains the slash.
fn is_probed(path: &str) -> bool {
    PROBED.contains(&path.trim_end_matches('/'))
}

/// Whether an allowed request needed more than everyone may do.
fn is_trusted(control: &Control, uri: &Uri, headers: &HeaderMap) -> bool {
    let key = &*control.api_key;
    let shows_key = || shows(key, headers) || control.api_key_in_url && is_in_url(key, uri);
    !is_probed(uri.path()) && (key.is_empty() || shows_key())
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// The key is missing or wrong.
    Unauthorized,
    /// There is no key, and the request did not come from this machine's own programs; the text says how that
    /// was seen.
    Foreign(&'static str),
}

const FOREIGN_PEER: &str = "permission denied: without control.api_key this port answers this machine only";
const FOREIGN_HOST: &str = "permission denied: without control.api_key the Host of a request must be \
                            localhost, 127.x.x.x or [::1]";
const FOREIGN_ORIGIN: &str = "permission denied: without control.api_key only the page served on this very \
                              address may send requests from a browser; the Origin is another one";

fn verdict(control: &Control, peer: Option<IpAddr>, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    if is_probed(uri.path()) {
        return Ok(());
    }
    let key = &*control.api_key;
    if !key.is_empty() {
        let path = uri.path();
        let is_guarded =
            path.starts_with("/api") || control.guard_metrics && ["/metrics", "/page.json"].contains(&path);
        let in_url = control.api_key_in_url && is_in_url(key, uri);
        return if is_guarded && !in_url && !shows(key, headers) {
            Err(Refusal::Unauthorized)
        } else {
            Ok(())
        };
    }
    if !peer.is_some_and(is_loopback) {
        return Err(Refusal::Foreign(FOREIGN_PEER));
    }
    let Some(host) = loopback_host(uri, headers) else { return Err(Refusal::Foreign(FOREIGN_HOST)) };
    let is_own = |origin: &HeaderValue| {
        let origin = origin.to_str().ok().and_then(Origin::parse);
        origin.is_some_and(|origin| is_of_the_web(&origin) && origin.is_of(&host))
    };
    if headers.get_all(header::ORIGIN).iter().all(is_own) {
        Ok(())
    } else {
        Err(Refusal::Foreign(FOREIGN_ORIGIN))
    }
}

/// Whether a browser shows pages of this origin by HTTP. Apps have schemes of their own.
fn is_of_the_web(origin: &Origin) -> bool {
    matches!(origin, Origin::Page { scheme, .. } if ["http", "https"].contains(&scheme.as_str()))
}

/// Whether one of the two headers contains the key. The comparison's time does not depend on how many bytes
/// match; it may depend on the length.
fn shows(key: &str, headers: &HeaderMap) -> bool {
    let plain = headers.get("x-api-key").map(|value| value.as_bytes());
    let scheme = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, shown) = value.as_bytes().split_at_checked(b"apikey ".len())?;
        scheme.eq_ignore_ascii_case(b"apikey ").then_some(shown)
    });
    [plain, scheme].into_iter().flatten().any(|shown| bool::from(shown.trim_ascii().ct_eq(key.as_bytes())))
}

/// Whether the URL contains the key, as `?api_key=KEY`.
fn is_in_url(key: &str, uri: &Uri) -> bool {
    let pairs = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    pairs
        .into_iter()
        .any(|(name, value)| name == "api_key" && bool::from(value.as_bytes().ct_eq(key.as_bytes())))
}

/// The host of the request, if it is a loopback name. HTTP/2 and absolute-form requests have it in the URI.
/// If several are named, all must be loopback, because a proxy may have used any of them.
fn loopback_host(uri: &Uri, headers: &HeaderMap) -> Option<HostPort> {
    let in_uri = uri.authority().map(|authority| HostPort::parse(authority.as_str()));
    let in_headers = headers.get_all(header::HOST).iter();
    let mut named =
        in_uri.into_iter().chain(in_headers.map(|host| host.to_str().ok().and_then(HostPort::parse)));
    let first = named.next()??;
    let all_are_loopback =
        first.is_loopback() && named.all(|host| host.is_some_and(|host| host.is_loopback()));
    all_are_loopback.then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn with_key() -> Control {
        Control { api_key: "right".to_owned().into(), ..Control::default() }
    }

    fn without_key(host: &str, origin: Option<&str>) -> Result<(), Refusal> {
        let mut lines = vec![("host", host)];
        lines.extend(origin.map(|origin| ("origin", origin)));
        let uri = Uri::from_static("/api/publish");
        verdict(&Control::default(), Some(IpAddr::from([127, 0, 0, 1])), &uri, &headers(&lines))
    }

    #[test]
    fn without_a_key_the_host_must_be_loopback() {
        let own = ["localhost", "LOCALHOST:9000", "127.0.0.1:9000", "127.9.9.9", "[::1]", "[::1]:80"];
        for host in own {
            assert_eq!(without_key(host, None), Ok(()), "{host}");
        }
        let foreign = [
            "example.org",
            "localhost.example.org",
            "127.0.0.1.example.org:9000",
            "128.0.0.1",
            "0.0.0.0",
            "[::2]",
            "[::1",
            "localhost@example.org",
            "",
        ];
        for host in foreign {
            assert_eq!(without_key(host, None), Err(Refusal::Foreign(FOREIGN_HOST)), "{host}");
        }
    }

    #[test]
    fn without_a_key_the_origin_must_be_the_page_itself() {
        for origin in ["http://127.0.0.1:9000", "https://127.0.0.1:9000"] {
            assert_eq!(without_key("127.0.0.1:9000", Some(origin)), Ok(()), "{origin}");
        }
        for origin in [
            "null",
            "",
            "http://localhost:9000",
            "http://127.0.0.1:3000",
            "http://127.0.0.1",
            "http://127.0.0.1:9000.example.org",
            "http://example.org",
            "127.0.0.1:9000",
            "app://127.0.0.1:9000",
        ] {
            let refused = Err(Refusal::Foreign(FOREIGN_ORIGIN));
            assert_eq!(without_key("127.0.0.1:9000", Some(origin)), refused, "{origin}");
        }
    }

    #[test]
    fn without_a_key_the_peer_must_be_this_machine() {
        let ask = |peer: Option<&str>| {
            let peer = peer.map(|peer| peer.parse().unwrap());
            verdict(&Control::default(), peer, &Uri::from_static("/"), &headers(&[("host", "localhost")]))
        };
        for peer in ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(ask(Some(peer)), Ok(()), "{peer}");
        }
        for peer in [None, Some("10.0.0.1"), Some("::ffff:10.0.0.1")] {
            assert_eq!(ask(peer), Err(Refusal::Foreign(FOREIGN_PEER)), "{peer:?}");
        }
    }

    #[test]
    fn probes_are_answered_as_they_come() {
        let ask = |path: &'static str, hosts: &[(&'static str, &str)]| {
            verdict(
                &Control::default(),
                Some(IpAddr::from([10, 0, 0, 1])),
                &Uri::from_static(path),
                &headers(hosts),
            )
        };
        for path in PROBED.into_iter().chain(["/health/"]) {
            for hosts in [&[][..], &[("host", "10.0.0.7:9000")], &[("host", "")], &[("origin", "null")]] {
                assert_eq!(ask(path, hosts), Ok(()), "{path} {hosts:?}");
            }
        }
        for path in ["/", "/metrics", "/api/info", "/healthy", "/health/../api/info", "/page.json"] {
            assert!(ask(path, &[("host", "10.0.0.7:9000")]).is_err(), "{path}");
        }
    }

    #[test]
    fn every_host_that_is_named_must_be_loopback() {
        let ask = |uri: &'static str, hosts: &[(&'static str, &str)]| {
            verdict(
                &Control::default(),
                Some(IpAddr::from([127, 0, 0, 1])),
                &Uri::from_static(uri),
                &headers(hosts),
            )
        };
        let refused = Err(Refusal::Foreign(FOREIGN_HOST));
        assert_eq!(ask("http://localhost/", &[]), Ok(()));
        assert_eq!(ask("/", &[]), refused);
        assert_eq!(ask("http://example.org/", &[("host", "localhost")]), refused);
        assert_eq!(ask("http://localhost/", &[("host", "example.org")]), refused);
        assert_eq!(ask("/", &[("host", "localhost"), ("host", "example.org")]), refused);
    }

    #[test]
    fn with_a_key_the_api_is_for_those_who_show_it() {
        let ask = |path: &'static str, lines: &[(&'static str, &str)]| {
            verdict(&with_key(), None, &Uri::from_static(path), &headers(lines))
        };
        for line in
            [("x-api-key", "right"), ("authorization", "apikey right"), ("authorization", "ApiKey right")]
        {
            assert_eq!(ask("/api/info", &[line]), Ok(()), "{line:?}");
        }
        for line in [
            ("x-api-key", "wrong"),
            ("x-api-key", "righ"),
            ("x-api-key", "rightt"),
            ("x-api-key", ""),
            ("authorization", "Bearer right"),
            ("authorization", "right"),
            ("authorization", "apikey"),
            ("host", "localhost"),
        ] {
            assert_eq!(ask("/api/info", &[line]), Err(Refusal::Unauthorized), "{line:?}");
        }
        for path in ["/", "/health", "/metrics"] {
            assert_eq!(ask(path, &[("host", "example.org"), ("origin", "null")]), Ok(()), "{path}");
        }
    }

    #[test]
    fn metrics_are_for_those_who_show_the_key_if_that_is_wanted() {
        let control = Control { guard_metrics: true, ..with_key() };
        let ask = |path, lines: &[_]| verdict(&control, None, &Uri::from_static(path), &headers(lines));
        for path in ["/metrics", "/page.json", "/api/info"] {
            assert_eq!(ask(path, &[]), Err(Refusal::Unauthorized), "{path}");
            assert_eq!(ask(path, &[("authorization", "apikey right")]), Ok(()), "{path}");
        }
        for path in ["/", "/page/page.js", "/health", "/health/ready"] {
            assert_eq!(ask(path, &[]), Ok(()), "{path}");
        }
    }

    #[test]
    fn the_key_stands_in_the_url_only_if_that_is_wanted() {
        let allowed = Control { api_key_in_url: true, ..with_key() };
        for (query, allows, outcome) in [
            ("/api/info?api_key=right", false, Err(Refusal::Unauthorized)),
            ("/api/info?api_key=right", true, Ok(())),
            ("/api/info?a=b&api_key=righ%74", true, Ok(())),
            ("/api/info?api_key=wrong", true, Err(Refusal::Unauthorized)),
            ("/api/info?key=right", true, Err(Refusal::Unauthorized)),
        ] {
            let control = if allows { &allowed } else { &with_key() };
            assert_eq!(verdict(control, None, &Uri::from_static(query), &headers(&[])), outcome, "{query}");
        }
    }
}
