//! From the text of a token to what it says.

use std::sync::Arc;
use std::time::Duration;

use super::algorithm::Algorithm;
use super::claims::{ConnectionClaims, SubscriptionClaims};
use super::error::TokenError;
use super::fields::Rules;
use super::keys::{self, KeySet};
use super::token::Token;
use crate::base::clock::UnixTime;
use crate::config::Config;

/// For so long, a key set that was fetched has every key there is. So it is not fetched again within this time, whatever
/// keys tokens name.
pub const JWKS_CURRENT: Duration = Duration::from_secs(5);

/// The keys that verify tokens.
#[derive(Debug, Default)]
pub struct Keys {
    /// Those of `[tokens]`: for connections, and for subscriptions unless these have keys of their own.
    pub connection: KeySet,
    /// Those of `[subscription_tokens]`.
    pub subscription: KeySet,
    /// Those of `[jwks]`, for the same tokens as `connection`.
    pub jwks: JwksKeys,
}

/// The key set of `[jwks]`.
#[derive(Clone, Debug, Default)]
pub enum JwksKeys {
    /// None is configured.
    #[default]
    None,
    /// The set of a file. It has every key there is.
    Fixed(Arc<KeySet>),
    /// The set of a URL, which has not been fetched yet.
    Awaited,
    /// The set of a URL.
    Fetched {
        /// Its keys. Another set has other ones, and the same set the same.
        keys: Arc<KeySet>,
        /// When it was fetched the last time.
        at: UnixTime,
    },
}

impl JwksKeys {
    /// The keys that are there.
    #[must_use]
    pub fn keys(&self) -> Option<&Arc<KeySet>> {
        match self {
            Self::None | Self::Awaited => None,
            Self::Fixed(keys) | Self::Fetched { keys, .. } => Some(keys),
        }
    }
}

/// Verifies tokens: their signature, their form, their issuer and their audience. Time is not among them, so that a result
/// can be kept.
///
/// The time that a refusal takes tells nothing about the right signature: HMACs are compared in constant time, and
/// verifying by a public key uses nothing secret.
///
/// A clone shares the keys. Threads have clones of one, and get another one when keys change.
#[derive(Clone, Debug)]
pub struct Verifier(Arc<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    rules: Arc<Rules>,
    connection: Arc<KeySet>,
    subscription: Arc<KeySet>,
    jwks: JwksKeys,
}

impl Verifier {
    /// With these keys, and what the configuration says about claims.
    #[must_use]
    pub fn new(config: &Config, keys: Keys) -> Self {
        Self(Arc::new(Parts {
            rules: Arc::new(Rules::new(config)),
            connection: Arc::new(keys.connection),
            subscription: Arc::new(keys.subscription),
            jwks: keys.jwks,
        }))
    }

    /// The key set of `[jwks]`.
    #[must_use]
    pub fn jwks(&self) -> &JwksKeys {
        &self.0.jwks
    }

    /// The same with another key set in the place of `[jwks]`.
    #[must_use]
    pub fn with_jwks(&self, jwks: JwksKeys) -> Self {
        Self(Arc::new(Parts { jwks, ..Parts::clone(&self.0) }))
    }

    /// Whether both have the same keys and the same rules, so that what one has found holds for the other. Keys that were
    /// read anew are other ones.
    #[must_use]
    pub fn has_same_keys(&self, other: &Self) -> bool {
        let (own, others) = (&self.0, &other.0);
        let have_same_jwks = match (&own.jwks, &others.jwks) {
            (JwksKeys::None, JwksKeys::None) | (JwksKeys::Awaited, JwksKeys::Awaited) => true,
            (own, others) => {
                own.keys().zip(others.keys()).is_some_and(|(own, others)| Arc::ptr_eq(own, others))
            }
        };
        have_same_jwks
            && Arc::ptr_eq(&own.rules, &others.rules)
            && Arc::ptr_eq(&own.connection, &others.connection)
            && Arc::ptr_eq(&own.subscription, &others.subscription)
    }

    /// Whether it reads claims as a configuration says.
    #[must_use]
    pub fn has_rules_of(&self, config: &Config) -> bool {
        *self.0.rules == Rules::new(config)
    }

    /// Whether a token that was refused with this error may be accepted once the key set is fetched, or fetched again. Within
    /// [`JWKS_CURRENT`] of a fetch, a key that is not in the set does not exist.
    #[must_use]
    pub fn awaits_key(&self, error: &TokenError, now: UnixTime) -> bool {
        match (&self.0.jwks, error) {
            (JwksKeys::Awaited, TokenError::KeySetAwaited) => true,
            // A time that is still to come says that the clock was set, and nothing about the set.
            (JwksKeys::Fetched { at, .. }, TokenError::UnknownKey(_)) => {
                now < *at || Duration::from_micros(now.micros_since(*at)) >= JWKS_CURRENT
            }
            _ => false,
        }
    }

    /// What the token of a connection says.
    ///
    /// # Errors
    /// Why it is not accepted. Whether it is valid now is not asked: see [`ConnectionClaims::check_time`].
    pub fn connection(&self, token: &str) -> Result<ConnectionClaims, TokenError> {
        self.connection_counting(token, &mut 0)
    }

    /// The same. Adds to `checks` how many signatures were checked: one for each key that may have signed the token, until
    /// one of them has.
    ///
    /// # Errors
    /// As [`connection`](Self::connection).
    pub fn connection_counting(
        &self,
        token: &str,
        checks: &mut usize,
    ) -> Result<ConnectionClaims, TokenError> {
        let token = Token::parse(token)?;
        self.verify_by_connection_keys(&token, checks)?;
        ConnectionClaims::parse(&token.claims()?, &self.0.rules)
    }

    /// What the token of a subscription says. The caller compares its user, its topic and its client.
    ///
    /// # Errors
    /// Why it is not accepted. Whether it is valid now is not asked: see [`SubscriptionClaims::check_time`].
    pub fn subscription(&self, token: &str) -> Result<SubscriptionClaims, TokenError> {
        self.subscription_counting(token, &mut 0)
    }

    /// The same. Adds to `checks` how many signatures were checked.
    ///
    /// # Errors
    /// As [`subscription`](Self::subscription).
    pub fn subscription_counting(
        &self,
        token: &str,
        checks: &mut usize,
    ) -> Result<SubscriptionClaims, TokenError> {
        let token = Token::parse(token)?;
        if self.0.subscription.is_empty() {
            self.verify_by_connection_keys(&token, checks)?;
        } else {
            keys::verify(&[&self.0.subscription], &token, false, checks)?;
        }
        SubscriptionClaims::parse(&token.claims()?, &self.0.rules)
    }

    fn verify_by_connection_keys(&self, token: &Token<'_>, checks: &mut usize) -> Result<(), TokenError> {
        let Parts { connection, jwks, .. } = &*self.0;
        match jwks {
            JwksKeys::None => keys::verify(&[connection], token, false, checks),
            JwksKeys::Fixed(keys) | JwksKeys::Fetched { keys, .. } => {
                keys::verify(&[connection, keys], token, true, checks)
            }
            // A key set has public keys alone, so it could not bring a secret.
            JwksKeys::Awaited => {
                let verified = keys::verify(&[connection], token, false, checks);
                verified.map_err(|error| match token.header.algorithm {
                    Algorithm::Hmac(_) => error,
                    _ => TokenError::KeySetAwaited,
                })
            }
        }
    }
}
