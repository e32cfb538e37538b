//! Checks `[tokens]`, `[jwks]`, `[subscription_tokens]` and the limits of what tokens say. The keys themselves are
//! checked when they are read.

use std::ops::RangeInclusive;

use super::Findings;
use crate::config::unusable::UnusableKind;
use crate::config::{Config, Interval, Jwks, Secret, Secrets, Server};

/// A name in RFC 7519 has no limit; a longer one than this is a mistake, and every user would pay for it.
const USER_MAX: usize = 4096;
/// It goes along with each publication of the client: that of its connection, that of its subscription and its user stand in
/// one header of AMQP.
const INFO_BYTES_MAX: usize = 16 << 10;
/// More would take gigabytes.
const TOKENS_MAX: usize = 10_000_000;
/// Issuers change their keys within days. A set is also fetched when a token names a key that it lacks.
const REFRESH: RangeInclusive<Interval> = Interval::from_secs(10)..=Interval::from_secs(24 * 60 * 60);
/// Claims that mean something else than the user.
const OTHER_CLAIMS: [&str; 19] = [
    "",
    "iss",
    "aud",
    "exp",
    "nbf",
    "iat",
    "info",
    "b64info",
    "meta",
    "channels",
    "subs",
    "expire_at",
    "caps",
    "channel",
    "client",
    "data",
    "b64data",
    "override",
    "jti",
];

/// Parameters of the query that mean something else than a token.
const OTHER_PARAMETERS: [&str; 4] = ["format", "cf_protocol", "cf_ws_frame_ping_pong", "cf_connect"];
/// Origins that any page can have.
const OPEN_ORIGINS: [&str; 3] = ["*", "null", "file://"];

pub(super) fn tokens(findings: &mut Findings, config: &Config) {
    let limits = &config.limits;
    let user = (1, USER_MAX);
    findings.within("limits.user_max", limits.user_max, user, "users have names, and clients keep them");
    let info = (1, INFO_BYTES_MAX);
    findings.within("limits.info_bytes", limits.info_bytes, info, "each client of a user keeps it");
    findings.within("limits.tokens", limits.tokens, (0, TOKENS_MAX), "each is remembered");
    findings.time_or_zero("tokens.leeway", config.tokens.leeway);
    let claim = &config.tokens.user_id_claim;
    findings.require(!OTHER_CLAIMS.contains(&&**claim), || UnusableKind::UserClaim(claim.clone()));
    jwks(findings, &config.jwks);
    secrets(findings, "tokens.hmac_keys", &config.tokens.hmac_keys);
    secrets(findings, "subscription_tokens.hmac_keys", &config.subscription_tokens.hmac_keys);
}

/// Checks where a request may have a token.
pub(super) fn credentials(findings: &mut Findings, server: &Server) {
    let (cookie, query) = (&server.token_cookie, &server.token_query);
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    findings.require(cookie.bytes().all(is_token), || UnusableKind::CookieName(cookie.clone()));
    let origins = &server.allowed_origins;
    let is_open = origins.is_empty() || origins.iter().any(|origin| OPEN_ORIGINS.contains(&&**origin));
    findings.require(cookie.is_empty() || !is_open, || UnusableKind::CookieForEveryPage);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    findings.require(query.bytes().all(is_plain) && !OTHER_PARAMETERS.contains(&&**query), || {
        UnusableKind::QueryName(query.clone())
    });
}

/// Whether the set can be fetched is seen when it is.
fn jwks(findings: &mut Findings, jwks: &Jwks) {
    findings.require(jwks.file.is_empty() || jwks.url.is_empty(), || UnusableKind::TwoKeySets);
    findings.require(jwks.ca_file.is_empty() || !jwks.url.is_empty(), || UnusableKind::AuthoritiesForNothing);
    findings.require(REFRESH.contains(&jwks.refresh), || UnusableKind::JwksRefresh(jwks.refresh));
    if !jwks.url.is_empty()
        && let Err(error) = jwks.url.parse_genuine()
    {
        findings.add(UnusableKind::JwksUrl(error));
    }
}

/// Anybody can sign with an empty secret, and with a public key that is taken for a secret.
fn secrets(findings: &mut Findings, key: &'static str, secrets: &Secrets) {
    findings.require(secrets.iter().all(|secret| !secret.is_empty()), || UnusableKind::EmptySecret(key));
    let is_pem = |secret: &Secret| secret.trim_start().starts_with("-----BEGIN");
    findings.require(!secrets.iter().any(is_pem), || UnusableKind::KeyAsSecret(key));
}
