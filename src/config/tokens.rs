//! `[tokens]`, `[jwks]` and `[subscription_tokens]`: how the tokens of clients are verified (JSON Web Tokens, RFC 7519).

use serde::{Deserialize, Serialize};

use super::{Config, HttpUrl, Interval, Secrets};
use crate::transport::origin::is_loopback;

/// `[tokens]`: tokens of connections, and of subscriptions unless these have keys of their own.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tokens {
    /// Secrets for HS256, HS384 and HS512. A token is accepted if one of them signed it, so an old and a new secret can
    /// be valid at once. `fanfare token` signs with the first one. Default none; at most 100 keys of all kinds.
    pub hmac_keys: Secrets,
    /// Files with public keys or certificates in PEM for RS256, RS384, RS512, ES256, ES384 and EdDSA. Default none; at
    /// most 100 keys of all kinds.
    pub public_keys: Vec<String>,
    /// What the claim `iss` must be. Default empty: it is not checked.
    pub issuer: String,
    /// What the claim `aud` must be, or contain if it is a list. Default empty: it is not checked.
    pub audience: String,
    /// The claim that names the user. Default `sub`.
    pub user_id_claim: String,
    /// Whether clients without a token may connect. Default `auto`.
    pub anonymous: Anonymous,
    /// How far the clocks of the issuer and of this host may differ: a token is valid for so long before `nbf` and after
    /// `exp`. Default 0.
    pub leeway: Interval,
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            hmac_keys: Secrets::default(),
            public_keys: Vec::new(),
            issuer: String::new(),
            audience: String::new(),
            user_id_claim: "sub".to_owned(),
            anonymous: Anonymous::default(),
            leeway: Interval::default(),
        }
    }
}

/// Bytes that a secret should have: as many as the hash of HS256 (RFC 7518, section 3.2).
const SECRET_BYTES: usize = 32;

/// Whether clients without a token may connect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Anonymous {
    /// If nobody says who clients are, neither tokens nor the connect hook, and only programs of this host can connect; or
    /// with `server.insecure`.
    #[default]
    Auto,
    /// Yes. The connect hook is asked about them first, if there is one.
    Allow,
    /// No: they are closed with 3501.
    Refuse,
}

impl Config {
    /// Whether there are keys that verify the tokens of connections.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        let Jwks { file, url, .. } = &self.jwks;
        let has_jwks = !file.is_empty() || !url.is_empty();
        has_jwks || !self.tokens.hmac_keys.is_empty() || !self.tokens.public_keys.is_empty()
    }

    /// Whether somebody says who clients are: tokens, or the connect hook.
    #[must_use]
    pub fn identifies_clients(&self) -> bool {
        self.has_keys() || !self.hooks.connect.is_empty()
    }

    /// Whether nobody can connect before the key set of `jwks.url` has been fetched.
    #[must_use]
    pub fn depends_on_key_set(&self) -> bool {
        let has_others = !self.tokens.hmac_keys.is_empty()
            || !self.tokens.public_keys.is_empty()
            || !self.hooks.connect.is_empty();
        !self.jwks.url.is_empty() && !has_others && !self.allows_anonymous()
    }

    /// Whether there are keys that verify the tokens of subscriptions.
    #[must_use]
    pub fn has_subscription_keys(&self) -> bool {
        let own = &self.subscription_tokens;
        !own.hmac_keys.is_empty() || !own.public_keys.is_empty() || self.has_keys()
    }

    /// The keys of the configuration that have secrets so short that they can be guessed from a token.
    pub(super) fn short_secrets(&self) -> impl Iterator<Item = &'static str> {
        let keys = [
            ("tokens.hmac_keys", &self.tokens.hmac_keys),
            ("subscription_tokens.hmac_keys", &self.subscription_tokens.hmac_keys),
        ];
        let is_short = |secrets: &Secrets| secrets.iter().any(|secret| secret.len() < SECRET_BYTES);
        keys.into_iter().filter(move |(_, secrets)| is_short(secrets)).map(|(key, _)| key)
    }

    /// Whether clients may connect without a token, and without the connect hook having said who they are.
    #[must_use]
    pub fn allows_anonymous(&self) -> bool {
        let is_local = || self.server.listen.iter().all(|address| is_loopback(address.ip()));
        match self.tokens.anonymous {
            Anonymous::Auto => self.server.insecure || (!self.identifies_clients() && is_local()),
            Anonymous::Allow => true,
            Anonymous::Refuse => false,
        }
    }

    /// Whether clients without a token may connect only because there is neither a key nor a connect hook.
    #[must_use]
    pub fn opens_without_keys(&self) -> bool {
        self.tokens.anonymous == Anonymous::Auto && !self.server.insecure && self.allows_anonymous()
    }

    /// What an operator should know if clients without a token may connect.
    #[must_use]
    pub fn anonymous_note(&self) -> Option<&'static str> {
        if !self.allows_anonymous() {
            None
        } else if self.server.insecure {
            Some("clients need no token (server.insecure)")
        } else if self.tokens.anonymous == Anonymous::Allow {
            Some("clients need no token (tokens.anonymous)")
        } else {
            Some(
                "clients need no token, because there is no key for connections and only programs of this host can connect: a proxy on \
                 this host would open this to everybody who reaches the proxy (tokens.hmac_keys, tokens.anonymous)",
            )
        }
    }
}

/// `[jwks]`: a JSON Web Key Set (RFC 7517) for tokens of connections, and of subscriptions unless these have keys of
/// their own.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Jwks {
    /// A file with the set. Default empty: none.
    pub file: String,
    /// The URL of the set, which is fetched at the start, regularly, and when a token names a key that is not in it. Default
    /// empty: none.
    pub url: HttpUrl,
    /// A file in PEM with the authorities that may vouch for the URL's host. Default empty: those that this host trusts.
    pub ca_file: String,
    /// How often the set is fetched. Default 1 h.
    pub refresh: Interval,
}

impl Default for Jwks {
    fn default() -> Self {
        Self {
            file: String::new(),
            url: HttpUrl::default(),
            ca_file: String::new(),
            refresh: Interval::from_secs(3600),
        }
    }
}

/// `[subscription_tokens]`: if a key is given here, tokens of subscriptions are verified by these keys alone.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct SubscriptionTokens {
    /// As `tokens.hmac_keys`.
    pub hmac_keys: Secrets,
    /// As `tokens.public_keys`.
    pub public_keys: Vec<String>,
}
