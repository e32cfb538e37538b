//! `[backends.NAME]`, `[hooks]` and `[rpc]`: the application's backends, and what they are asked.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::keys::quoted;
use super::{Config, HttpUrl, Interval, Secret};

/// The name of the backend that is reached through RabbitMQ. All others are reached by HTTP.
pub const AMQP_BACKEND: &str = "amqp";

/// Headers that the HTTP client sets itself, and those that are about one connection (RFC 9110, section 7.6.1).
const OWN_HEADERS: [&str; 13] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What the headers of a WebSocket's handshake begin with (RFC 6455, section 11.3).
const HANDSHAKE_PREFIX: &str = "sec-websocket-";

/// Whether a header, by its name, is one that the HTTP client sets itself, or is about one connection, or about the handshake
/// of a WebSocket. No backend is sent those of a client: with the length of another message, the rest of a call would be a
/// second one.
#[must_use]
pub fn is_own_header(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    OWN_HEADERS.contains(&&*name) || name.starts_with(HANDSHAKE_PREFIX)
}

/// `[backends.NAME]`: a program that answers calls.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Backend {
    /// Where it is asked: each call is a `POST` to this URL. Empty for the backend `amqp`, and for no other.
    pub url: HttpUrl,
    /// How long an answer may take, from when the call is sent. Default 1 s.
    pub timeout: Interval,
    /// Calls that it is sent at the same time. Default 1,024; further ones wait. By HTTP each has a connection, and so many
    /// descriptors are not for clients.
    pub concurrency: usize,
    /// Calls that wait until it has answered others. Default 16,384; clients of further ones get error 111. A call takes a
    /// few hundred bytes and its data; all of them together are bounded by `limits.calls_bytes`.
    pub queue: usize,
    /// How long a call may wait, and a publish since it was read. Default 4 s, as SDKs wait for 5 s; then its client gets
    /// error 111.
    pub queue_timeout: Interval,
    /// Bytes of an answer. Default 256 KiB; a larger one is none.
    pub answer_bytes: usize,
    /// Calls in a row that fail until it is left alone for a while. Default 10; 0: it is always asked.
    pub failures: u32,
    /// With `https://`: a file of certificates in PEM whose owners are trusted. Default empty: those that this host trusts.
    pub ca_file: String,
    /// Headers of clients' HTTP requests that it is sent, such as `Cookie`. Default none. For each client that connects
    /// while there are any, they are kept: up to `limits.head_bytes`.
    pub headers: Vec<String>,
    /// Headers that it is sent of those that a client may say with its connect command: any script of a page can choose
    /// them. Default none.
    pub client_headers: Vec<String>,
    /// Headers that it is sent with each call. Default none.
    pub static_headers: BTreeMap<String, Secret>,
    /// Whether it is told what tokens and the connect hook say for backends alone (`meta`). Default false.
    pub meta: bool,
    /// What other statuses than 200 mean. Default none: all of them are failures.
    pub statuses: Vec<StatusRule>,
}

impl Default for Backend {
    fn default() -> Self {
        Self {
            url: HttpUrl::default(),
            timeout: Interval::from_secs(1),
            concurrency: 1024,
            queue: 16_384,
            queue_timeout: Interval::from_secs(4),
            answer_bytes: 256 << 10,
            failures: 10,
            ca_file: String::new(),
            headers: Vec::new(),
            client_headers: Vec::new(),
            static_headers: BTreeMap::new(),
            meta: false,
            statuses: Vec::new(),
        }
    }
}

/// What a status of an HTTP answer means: an error for the client, or its end.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "tables such as `{ status = 404, error = { code = 404 } }`")]
pub struct StatusRule {
    /// The status, from 400 to 599.
    pub status: u16,
    /// The client's command fails with this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<StatusError>,
    /// The client is closed with this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disconnect: Option<StatusDisconnect>,
}

/// An error for a client.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct StatusError {
    /// From 400 to 1999.
    pub code: u32,
    /// Its text.
    #[serde(default)]
    pub message: String,
    /// Whether the client should try again.
    #[serde(default)]
    pub temporary: bool,
}

/// How a client is closed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct StatusDisconnect {
    /// From 4000 to 4999: up to 4499 the client comes back by itself.
    pub code: u16,
    /// Its text.
    #[serde(default)]
    pub reason: String,
}

/// `[hooks]`: who is asked about connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hooks {
    /// The backend that says who a client without a token is. Default empty: such clients are anonymous, if
    /// `tokens.anonymous` lets them in.
    pub connect: String,
    /// The backend that says, when a connection expires, for how long it may stay. Default empty: the client must send
    /// another token.
    pub refresh: String,
}

/// `[rpc]`: who answers clients' requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rpc {
    /// The backend of each method: `"order.*" = "shop"`. A `*` stands for any characters, and may be the last one of a
    /// pattern only. The method's own name counts, or else the longest pattern that fits. Default none: clients get error 108.
    pub methods: BTreeMap<String, String>,
    /// The backend that takes clients' messages (`send`), which have no answer. Default empty: clients that send one are
    /// closed (3508).
    pub send: String,
}

impl Rpc {
    /// The backend of a method.
    #[must_use]
    pub fn backend(&self, method: &str) -> Option<&str> {
        let fits = |pattern: &str| match pattern.strip_suffix('*') {
            Some(start) => method.starts_with(start),
            None => method == pattern,
        };
        let fitting = self.methods.iter().filter(|(pattern, _)| fits(pattern));
        // A method's own name is more than any pattern.
        let closest = fitting.max_by_key(|(pattern, _)| (!pattern.ends_with('*'), pattern.len()));
        closest.map(|(_, backend)| &**backend)
    }
}

impl Config {
    /// The backend of that name. `amqp` has its defaults if it is not configured.
    #[must_use]
    pub fn backend(&self, name: &str) -> Option<&Backend> {
        static AMQP: LazyLock<Backend> = LazyLock::new(Backend::default);
        self.backends.get(name).or_else(|| (name == AMQP_BACKEND).then(|| &*AMQP))
    }

    /// Whether any call goes to the backend that is reached through RabbitMQ.
    #[must_use]
    pub fn uses_amqp_backend(&self) -> bool {
        self.named_backends().iter().any(|(_, name)| *name == AMQP_BACKEND)
    }

    /// Each key that names a backend, with that name.
    pub(super) fn named_backends(&self) -> Vec<(String, &str)> {
        let hooks = [("hooks.connect", &self.hooks.connect), ("hooks.refresh", &self.hooks.refresh)];
        let fixed = hooks.into_iter().chain([("rpc.send", &self.rpc.send)]);
        let mut named: Vec<(String, &str)> = fixed.map(|(key, name)| (key.to_owned(), &**name)).collect();
        for (namespace, options) in &self.namespaces {
            let hooks = [
                ("subscribe_hook", &options.subscribe_hook),
                ("sub_refresh_hook", &options.sub_refresh_hook),
                ("publish_hook", &options.publish_hook),
            ];
            named.extend(hooks.map(|(key, name)| (format!("namespaces.{namespace}.{key}"), &**name)));
        }
        named.retain(|(_, name)| !name.is_empty());
        let methods = self.rpc.methods.iter();
        named.extend(methods.map(|(method, name)| (format!("rpc.methods.{}", quoted(method)), &**name)));
        named
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_pattern_that_fits_a_method_names_its_backend() {
        let methods = [("*", "any"), ("order.*", "orders"), ("order.get", "reader"), ("", "nameless")];
        let methods = methods.map(|(pattern, backend)| (pattern.to_owned(), backend.to_owned()));
        let rpc = Rpc { methods: methods.into(), send: String::new() };
        for (method, backend) in [
            ("order.get", "reader"),
            ("order.get.all", "orders"),
            ("order.", "orders"),
            ("order", "any"),
            ("", "nameless"),
        ] {
            assert_eq!(rpc.backend(method), Some(backend), "{method:?}");
        }
        assert_eq!(Rpc::default().backend("order"), None);
    }
}
