//! The live page: files inside the binary, one document with the settings that they need, and an example of a
//! subscriber. Nothing is built to serve them, and nothing is loaded from elsewhere: a policy tells the browser so.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use serde::Serialize;

use super::envelope::{json, refuse};
use super::state::AppState;
use crate::control::demo;
use crate::transport::origin::is_loopback;

/// Scripts and styles come only from here, never from within the document. WebSockets may connect anywhere:
/// the clients' addresses are other origins, and one of them is an IPv6 address, which the policy's grammar
/// cannot express.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src data:; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The example is one file, with its script. It uses nothing of its address or from elsewhere that could
/// become another script.
const EXAMPLE_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; connect-src ws: wss:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The example as the manual shows it (`manual/bare_client.rs`).
const EXAMPLE: &str = include_str!("page/order.html");

/// The WebSocket endpoint in it, which is replaced by that of the engine that serves it.
const EXAMPLE_ENDPOINT: &str = "\"ws://127.0.0.1:8000/connection/websocket\"";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// What the page needs before it can begin.
#[derive(Debug, Serialize)]
struct Settings<'a> {
    version: &'static str,
    node: String,
    mode: &'static str,
    /// WebSocket URLs of the client listeners.
    clients: &'a [String],
    /// Whether publishing needs the API key.
    key_required: bool,
    /// Topics on which the demo publishes; none without `--demo`.
    demo: &'static [&'static str],
}

/// `/`
pub(super) async fn document() -> Response {
    text(HTML, include_str!("page/index.html"))
}

/// `/order.html`: the example. Its origin is the control port, which is always allowed.
pub(super) async fn example(State(state): State<Arc<AppState>>) -> Response {
    let page = EXAMPLE.replace(EXAMPLE_ENDPOINT, &endpoint(&state.clients, &state.config().server.path));
    let mut response = text(HTML, page);
    let policy = HeaderValue::from_static(EXAMPLE_POLICY);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

/// The engine's own endpoint as an expression of JavaScript: the first address for clients. An address of
/// loopback, or of every interface, is reached by the name by which the page was opened.
fn endpoint(clients: &[String], path: &str) -> String {
    let first = clients.first().and_then(|url| url.strip_prefix("ws://")?.strip_suffix(path));
    let address = first.and_then(|address| address.parse::<SocketAddr>().ok());
    // A character of the path that means something in a string of JavaScript or in HTML is written as its number.
    let quote = |byte: u8| match byte {
        b'/' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    };
    let path: String = path.bytes().map(quote).collect();
    match address {
        Some(address) if is_loopback(address.ip()) || address.ip().is_unspecified() => {
            format!("`ws://${{location.hostname}}:{}{path}`", address.port())
        }
        Some(address) => format!("\"ws://{address}{path}\""),
        None => EXAMPLE_ENDPOINT.to_owned(),
    }
}

/// `/page/ASSET`
pub(super) async fn asset(Path(name): Path<String>) -> Response {
    match name.as_str() {
        "page.css" => text(CSS, include_str!("page/page.css")),
        "page.js" => text(JAVASCRIPT, include_str!("page/page.js")),
        "charts.js" => text(JAVASCRIPT, include_str!("page/charts.js")),
        "metrics.js" => text(JAVASCRIPT, include_str!("page/metrics.js")),
        "client.js" => text(JAVASCRIPT, include_str!("page/client.js")),
        "desk.js" => text(JAVASCRIPT, include_str!("page/desk.js")),
        "key.js" => text(JAVASCRIPT, include_str!("page/key.js")),
        _ => not_found().await,
    }
}

/// `/page.json`
pub(super) async fn settings(State(state): State<Arc<AppState>>) -> Response {
    let settings = Settings {
        version: env!("CARGO_PKG_VERSION"),
        node: state.node.to_string(),
        mode: state.mode().label(),
        clients: &state.clients,
        key_required: !state.config().control.api_key.is_empty(),
        demo: if state.demo { demo::TOPICS } else { &[] },
    };
    json(StatusCode::OK, &settings)
}

/// Every other path.
pub(super) async fn not_found() -> Response {
    let text =
        "not found: there are /, /order.html, /api/METHOD, /metrics, /health, /health/live and /health/ready";
    refuse(StatusCode::NOT_FOUND, 104, text)
}

/// Adds the security headers to every answer.
pub(super) async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    add_headers(response.headers_mut());
    response
}

/// The headers that every answer has.
pub(super) fn add_headers(headers: &mut HeaderMap) {
    let policy = HeaderValue::from_static(CONTENT_SECURITY_POLICY);
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(policy);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}

/// A file of this binary: a browser may keep it, but must revalidate it before it uses it again.
fn text(content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_what_the_manual_shows() {
        let chapter = include_str!("../manual/bare_client.rs").lines();
        let text: String = chapter
            .filter_map(|line| line.strip_prefix("//!"))
            .map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line)))
            .collect();
        let shown = format!("```html\n{EXAMPLE}```\n");
        assert!(text.contains(&shown), "manual/bare_client.rs and page/order.html differ");
        assert!(EXAMPLE.contains(EXAMPLE_ENDPOINT), "what is replaced when it is served");
    }

    #[test]
    fn the_example_connects_to_the_engine_that_serves_it() {
        for (url, expected) in [
            ("ws://127.0.0.1:8123/ws", "`ws://${location.hostname}:8123/ws`"),
            ("ws://0.0.0.0:80/ws", "`ws://${location.hostname}:80/ws`"),
            ("ws://[::]:8000/ws", "`ws://${location.hostname}:8000/ws`"),
            ("ws://[fd00::1]:8000/ws", "\"ws://[fd00::1]:8000/ws\""),
            ("ws://10.0.0.1:8000/ws", "\"ws://10.0.0.1:8000/ws\""),
        ] {
            assert_eq!(endpoint(&[url.to_owned()], "/ws"), expected, "{url}");
        }
        let odd = endpoint(&["ws://127.0.0.1:1/</script>`".to_owned()], "/</script>`");
        assert_eq!(odd, r"`ws://${location.hostname}:1/\x3c/script\x3e\x60`");
    }
}
