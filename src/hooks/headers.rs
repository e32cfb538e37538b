//! The headers of a call by HTTP.

use crate::config::Backend;
use crate::domain::call::{Caller, Header};

/// The headers that a backend is sent with a call, besides those that the HTTP client sets itself: of the client's those
/// that `headers` and `client_headers` name, and `static_headers`. A header of the client's HTTP request takes the place of
/// one that it has sent with its connect command, and this one the place of a static one. A header may be there several
/// times if it came so.
#[must_use]
pub fn http_headers(caller: &Caller, backend: &Backend) -> Vec<(Box<str>, Box<[u8]>)> {
    let all = caller.headers.as_deref().unwrap_or_default();
    let is_named = |names: &[String], header: &Header| names.iter().any(|name| same(name, &header.name));
    let mut sent: Vec<(Box<str>, Box<[u8]>)> = Vec::new();
    for (is_emulated, names) in [(false, &backend.headers), (true, &backend.client_headers)] {
        let known = sent.len();
        for header in all.iter().filter(|header| header.is_emulated == is_emulated) {
            let is_known = sent[..known].iter().any(|(name, _)| same(name, &header.name));
            if is_named(names, header) && !is_known {
                sent.push((header.name.clone(), header.value.clone()));
            }
        }
    }
    let known = sent.len();
    for (name, value) in &backend.static_headers {
        if !sent[..known].iter().any(|(known, _)| same(known, name)) {
            sent.push((name.as_str().into(), value.as_bytes().into()));
        }
    }
    sent
}

/// Whether two names are of one header (RFC 9110, section 5.1).
fn same(name: &str, other: &str) -> bool {
    name.eq_ignore_ascii_case(other)
}
