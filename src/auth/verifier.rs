//! From the text of a token to what it says.

use std::sync::Arc;

use super::claims::{ConnectionClaims, SubscriptionClaims};
use super::error::TokenError;
use super::fields::Rules;
use super::keys::{self, KeySet};
use super::token::Token;
use crate::config::Config;

/// The keys that verify tokens.
#[derive(Debug, Default)]
pub struct Keys {
    /// Those of `[tokens]`: for connections, and for subscriptions unless these have keys of their own.
    pub connection: KeySet,
    /// Those of `[subscription_tokens]`.
    pub subscription: KeySet,
    /// Those of `[jwks]`, for the same tokens as `connection`. `None`: no key set is configured.
    pub jwks: Option<KeySet>,
}

/// Verifies tokens: their signature, their form, their issuer and their audience. Time is not among them, so that a result
/// can be kept.
///
/// The time that a refusal takes tells nothing about the right signature: HMACs are compared in constant time, and
/// verifying by a public key uses nothing secret.
///
/// A clone shares the keys. Threads have clones of one, and get another one when keys change.
#[derive(Clone, Debug)]
pub struct Verifier {
    rules: Arc<Rules>,
    connection: Arc<KeySet>,
    subscription: Arc<KeySet>,
    jwks: Option<Arc<KeySet>>,
}

impl Verifier {
    /// With these keys, and what the configuration says about claims.
    #[must_use]
    pub fn new(config: &Config, keys: Keys) -> Self {
        Self {
            rules: Arc::new(Rules::new(config)),
            connection: Arc::new(keys.connection),
            subscription: Arc::new(keys.subscription),
            jwks: keys.jwks.map(Arc::new),
        }
    }

    /// The same with another key set in the place of `[jwks]`.
    #[must_use]
    pub fn with_jwks(&self, keys: KeySet) -> Self {
        Self { jwks: Some(Arc::new(keys)), ..self.clone() }
    }

    /// Whether both have the same keys and the same rules, so that what one has found holds for the other. Keys that were
    /// read anew are other ones.
    #[must_use]
    pub fn has_same_keys(&self, other: &Self) -> bool {
        let have_same_jwks = match (&self.jwks, &other.jwks) {
            (Some(own), Some(others)) => Arc::ptr_eq(own, others),
            (own, others) => own.is_none() && others.is_none(),
        };
        have_same_jwks
            && Arc::ptr_eq(&self.rules, &other.rules)
            && Arc::ptr_eq(&self.connection, &other.connection)
            && Arc::ptr_eq(&self.subscription, &other.subscription)
    }

    /// Whether any key can verify tokens of connections.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        !self.connection.is_empty() || self.jwks.is_some()
    }

    /// What the token of a connection says.
    ///
    /// # Errors
    /// Why it is not accepted. Whether it is valid now is not asked: see [`ConnectionClaims::check_time`].
    pub fn connection(&self, token: &str) -> Result<ConnectionClaims, TokenError> {
        let token = Token::parse(token)?;
        self.verify_by_connection_keys(&token)?;
        ConnectionClaims::parse(&token.claims()?, &self.rules)
    }

    /// What the token of a subscription says. The caller compares its user, its topic and its client.
    ///
    /// # Errors
    /// Why it is not accepted. Whether it is valid now is not asked: see [`SubscriptionClaims::check_time`].
    pub fn subscription(&self, token: &str) -> Result<SubscriptionClaims, TokenError> {
        let token = Token::parse(token)?;
        if self.subscription.is_empty() {
            self.verify_by_connection_keys(&token)?;
        } else {
            keys::verify(&[&self.subscription], &token, false)?;
        }
        SubscriptionClaims::parse(&token.claims()?, &self.rules)
    }

    fn verify_by_connection_keys(&self, token: &Token<'_>) -> Result<(), TokenError> {
        match &self.jwks {
            Some(jwks) => keys::verify(&[&self.connection, jwks], token, true),
            None => keys::verify(&[&self.connection], token, false),
        }
    }
}
