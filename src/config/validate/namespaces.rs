//! Checks namespaces, and what of a topic's name says who may do what.

use super::{Findings, line_overhead};
use crate::config::unusable::UnusableKind;
use crate::config::{Config, Limits, Namespace, Server, SlowPolicy, USER_SEPARATOR};
use crate::domain::topic_pattern::TopicPattern;

/// Namespaces besides the default one, at most: a namespace number has 16 bits.
pub const NAMESPACES_MAX: usize = 65_535;

pub(super) fn namespaces(findings: &mut Findings, config: &Config) {
    let named = config.namespaces.keys().filter(|name| *name != "default").count();
    let most = (0, NAMESPACES_MAX);
    findings.within("the number of namespaces", named, most, "their numbers have 16 bits");
    markers(findings, &config.server);
    let boundary = config.server.namespace_boundary;
    let prefix = &config.server.private_prefix;
    for (name, options) in &config.namespaces {
        findings
            .require(!name.is_empty() && !name.contains(|c: char| c == boundary || c.is_control()), || {
                UnusableKind::NamespaceName { name: name.clone(), boundary }
            });
        findings.require(prefix.is_empty() || !name.starts_with(prefix), || UnusableKind::PrivateNamespace {
            name: name.clone(),
            prefix: prefix.clone(),
        });
        namespace(findings, name, options, &config.limits);
    }
}

/// Checks what tells private topics and topics for certain users from others.
fn markers(findings: &mut Findings, server: &Server) {
    let boundary = server.namespace_boundary;
    for (key, marker) in
        [("server.private_prefix", &server.private_prefix), ("server.user_boundary", &server.user_boundary)]
    {
        let is_apart = !marker.contains(|c: char| c == boundary || c == USER_SEPARATOR || c.is_control());
        findings.require(is_apart, || UnusableKind::Marker { key, boundary });
    }
}

fn namespace(findings: &mut Findings, name: &str, options: &Namespace, limits: &Limits) {
    let key = |option: &str| format!("namespaces.{name}.{option}");
    permissions(findings, name, options);
    let merges = !options.max_delay.is_zero();
    let limited = options.max_messages > 0 || options.max_bytes > 0;
    findings.require(merges || !limited, || UnusableKind::NothingWaits { name: name.to_owned() });
    findings.time_or_zero(&key("max_delay"), options.max_delay);
    findings.time_or_zero(&key("history_ttl"), options.history_ttl);
    findings.require(options.slow != SlowPolicy::Skip || !options.has_history(), || {
        UnusableKind::SkipsHistory { name: name.to_owned() }
    });
    let frame = ("limits.frame_bytes", limits.frame_bytes);
    findings.not_above((&key("max_bytes"), options.max_bytes), frame, "what waits leaves in one frame");
    let least = (&*key("deflate_min_bytes"), options.deflate_min_bytes);
    findings.not_above(least, frame, "a batch fits into a frame, so none would be compressed");
    if options.log_bytes > 0 {
        let log = (&*key("log_bytes"), options.log_bytes);
        findings.not_above(frame, log, "a log must hold a whole frame");
        let logs = ("limits.logs_bytes", limits.logs_bytes);
        findings.not_above(log, logs, "one log must fit into all of them");
    }
    if options.publication_bytes > 0 {
        let line = options.publication_bytes.saturating_add(line_overhead(limits));
        let key = format!("{} with its topic and braces", key("publication_bytes"));
        findings.not_above((&key, line), frame, "the largest publication must fit into a frame");
    }
}

fn permissions(findings: &mut Findings, name: &str, options: &Namespace) {
    let subscribe = options.client_subscribe;
    findings.require(!subscribe.depends_on_subscription(), || UnusableKind::SubscriberSubscribes {
        name: name.to_owned(),
    });
    if let Err(error) = TopicPattern::parse(&options.topic_pattern) {
        findings.add(UnusableKind::Pattern { name: name.to_owned(), error });
    }
}
