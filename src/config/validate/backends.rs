//! Checks `[backends.NAME]`, and that whoever is to be asked exists.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{AMQP_NAME_BYTES_MAX, Findings, LINE_BYTES};
use crate::config::keys::{most_similar, quoted};
use crate::config::unusable::UnusableKind;
use crate::config::{AMQP_BACKEND, Amqp, Backend, Config, Secret, StatusRule, is_own_header};
use crate::domain::reasons::CLOSE_TEXT_BYTES;

/// Each has figures of its own, and connections.
const BACKENDS_MAX: usize = 100;
/// A backend's name is a label in metrics.
const NAME_BYTES_MAX: usize = 64;
/// Clients wait so long; nobody waits longer.
const TIMEOUT_MAX: Duration = Duration::from_secs(10 * 60);
/// A connection each, by HTTP/1.1.
const CONCURRENCY_MAX: usize = 65_535;
/// An answer with an error and its text must fit in.
const ANSWER_BYTES_MIN: usize = 1 << 10;
/// What the routing key of a client's request begins with.
const KEY_PREFIX: &str = "rpc.";

pub(super) fn backends(findings: &mut Findings, config: &Config) {
    let most = (0, BACKENDS_MAX);
    findings.within("the number of backends", config.backends.len(), most, "each has figures of its own");
    for (name, backend) in &config.backends {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let is_name = (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_plain);
        findings.require(is_name, || UnusableKind::BackendName { name: name.clone(), most: NAME_BYTES_MAX });
        bounds(findings, name, backend, config);
        if name == AMQP_BACKEND {
            by_amqp(findings, backend);
        } else {
            by_http(findings, name, backend);
        }
    }
    named(findings, config);
    methods(findings, config);
}

fn bounds(findings: &mut Findings, name: &str, backend: &Backend, config: &Config) {
    let key = |option: &str| format!("backends.{name}.{option}");
    for (option, time) in [("timeout", backend.timeout), ("queue_timeout", backend.queue_timeout)] {
        findings.require(!time.is_zero() && time.0 <= TIMEOUT_MAX, || UnusableKind::CallTime {
            key: key(option),
            time,
        });
    }
    let concurrency = (1, CONCURRENCY_MAX);
    let why = "each call that is sent occupies a connection";
    findings.within(&key("concurrency"), backend.concurrency, concurrency, why);
    let answer = (ANSWER_BYTES_MIN, usize::MAX);
    findings.within(&key("answer_bytes"), backend.answer_bytes, answer, "an error and its text must fit in");
    let line =
        (format!("{} with braces", key("answer_bytes")), backend.answer_bytes.saturating_add(LINE_BYTES));
    let frame = ("limits.frame_bytes", config.limits.frame_bytes);
    findings.not_above((&line.0, line.1), frame, "clients get what it answers in one frame");
}

/// What is for requests by HTTP alone would have no effect.
fn by_amqp(findings: &mut Findings, backend: &Backend) {
    let defaults = Backend::default();
    for (key, is_set) in [
        ("url", backend.url != defaults.url),
        ("ca_file", backend.ca_file != defaults.ca_file),
        ("headers", backend.headers != defaults.headers),
        ("client_headers", backend.client_headers != defaults.client_headers),
        ("static_headers", backend.static_headers != defaults.static_headers),
        ("statuses", backend.statuses != defaults.statuses),
    ] {
        findings.require(!is_set, || UnusableKind::OnlyByHttp(key));
    }
}

fn by_http(findings: &mut Findings, name: &str, backend: &Backend) {
    match backend.url.parse() {
        Ok(url) => {
            findings.require(backend.ca_file.is_empty() || url.scheme() == "https", || {
                UnusableKind::BackendAuthorities(name.to_owned())
            });
        }
        Err(_) if backend.url.is_empty() => findings.add(UnusableKind::NoBackendUrl(name.to_owned())),
        Err(error) => findings.add(UnusableKind::BackendUrl { name: name.to_owned(), error }),
    }
    for (option, headers) in [("headers", &backend.headers), ("client_headers", &backend.client_headers)] {
        let key = format!("backends.{name}.{option}");
        header_names(findings, headers, |_| key.clone());
    }
    static_headers(findings, name, &backend.static_headers);
    statuses(findings, name, &backend.statuses);
}

/// `key` names the place of a header.
fn header_names<'a>(
    findings: &mut Findings,
    names: impl IntoIterator<Item = &'a String>,
    key: impl Fn(&str) -> String,
) {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let mut seen = BTreeSet::new();
    for name in names {
        let (key, header) = (key(name), name.clone());
        if name.is_empty() || !name.bytes().all(is_token) {
            findings.add(UnusableKind::HeaderName { key, header });
        } else if is_own_header(name) {
            findings.add(UnusableKind::OwnHeader { key, header });
        } else if !seen.insert(name.to_ascii_lowercase()) {
            findings.add(UnusableKind::HeaderTwice { key, header });
        }
    }
}

fn static_headers(findings: &mut Findings, name: &str, headers: &BTreeMap<String, Secret>) {
    let key = |header: &str| format!("backends.{name}.static_headers.{}", quoted(header));
    header_names(findings, headers.keys(), key);
    for (header, value) in headers {
        // A line break would begin another header.
        let fits = value.bytes().all(|byte| byte == b'\t' || !byte.is_ascii_control());
        findings.require(fits, || UnusableKind::HeaderValue(key(header)));
    }
}

fn statuses(findings: &mut Findings, name: &str, rules: &[StatusRule]) {
    let key = format!("backends.{name}.statuses");
    let mut seen = BTreeSet::new();
    for StatusRule { status, error, disconnect } in rules {
        let (key, status) = (key.clone(), *status);
        findings.within(
            &format!("a status of {key}"),
            status.into(),
            (400, 599),
            "200 is an answer, and with all others a call has failed",
        );
        findings.require(seen.insert(status), || UnusableKind::StatusTwice { key: key.clone(), status });
        findings.require(error.is_some() != disconnect.is_some(), || UnusableKind::StatusMeaning {
            key: key.clone(),
            status,
        });
        if let Some(error) = error {
            let code = usize::try_from(error.code).unwrap_or(usize::MAX);
            let code_key = format!("an error's code of {key}");
            findings.within(&code_key, code, (400, 1999), "those are for applications");
        }
        if let Some(disconnect) = disconnect {
            let code_key = format!("a disconnect's code of {key}");
            findings.within(&code_key, disconnect.code.into(), (4000, 4999), "those are for applications");
            let most = (0, CLOSE_TEXT_BYTES);
            let bytes_key = format!("the bytes of a reason of {key}");
            findings.within(&bytes_key, disconnect.reason.len(), most, "a close frame has no room for more");
        }
    }
}

/// Checks that each backend that a key names exists, and can be reached.
fn named(findings: &mut Findings, config: &Config) {
    for (key, name) in config.named_backends() {
        if config.backend(name).is_none() {
            let known = config.backends.keys().map(String::as_str).chain([AMQP_BACKEND]);
            let nearest = most_similar(known, name).map(str::to_owned);
            findings.add(UnusableKind::UnknownBackend { key, name: name.to_owned(), nearest });
        } else if name == AMQP_BACKEND && config.amqp.url.is_empty() {
            findings.add(UnusableKind::BackendWithoutRabbit { key });
        }
    }
    if config.uses_amqp_backend() {
        exchange(findings, &config.amqp);
    }
}

fn exchange(findings: &mut Findings, amqp: &Amqp) {
    let name = amqp.calls_exchange();
    findings.require(name.len() <= AMQP_NAME_BYTES_MAX || amqp.exchange.len() > AMQP_NAME_BYTES_MAX, || {
        UnusableKind::LongName { key: "amqp.exchange", name, most: AMQP_NAME_BYTES_MAX }
    });
}

fn methods(findings: &mut Findings, config: &Config) {
    for pattern in config.rpc.methods.keys() {
        let most = AMQP_NAME_BYTES_MAX - KEY_PREFIX.len();
        let stars = pattern.matches('*').count();
        let is_pattern = stars == 0 || (stars == 1 && pattern.ends_with('*'));
        findings.require(is_pattern && pattern.len() <= most, || UnusableKind::MethodPattern {
            key: format!("rpc.methods.{}", quoted(pattern)),
            most,
        });
    }
}
